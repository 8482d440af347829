//! Several servers' rows become one reply: as they stream, or chunk by chunk for a portal that is read in pieces.
//!
//! The servers are read only as far as the merge needs rows, so a slow client holds them back through their sockets.

use crate::backend::pool::Lease;
use crate::backend::server::{Doubt, Server, ServerState};
use crate::execute::client::Client;
use crate::execute::merge::{MergeError, Merger, Step};
use crate::execute::oids;
use crate::execute::relay::RelayError;
use crate::topology::{OidMap, ShardId};
use crate::wire::backend::{self, tag};
use crate::wire::error::ErrorFields;
use crate::wire::frame::next_frame;
use crate::wire::frontend;
use bytes::{Bytes, BytesMut};
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;

/// The longest message a server may send.
const MESSAGE_MAX: usize = 1 << 30;

/// Bytes gathered for the client before they are written.
const FLUSH_AT: usize = 32 * 1024;

/// Rows fetched at once from a shard for a portal that is read in pieces.
const CHUNK_ROWS: u32 = 256;

/// Bytes read ahead from a client while servers work for it.
const READ_AHEAD: usize = 64 * 1024;

/// One shard's server in a scatter.
#[derive(Debug)]
pub struct Source {
    /// The shard.
    pub shard: ShardId,
    /// Its name, for errors.
    pub name: String,
    /// Its server.
    pub lease: Lease,
    /// How it numbers user types, when not as clients see them.
    pub oids: Option<Arc<OidMap>>,
    /// What has been read of its replies.
    pub progress: Progress,
}

/// How far a source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    described: bool,
    ended: bool,
    ready: bool,
}

/// A scatter did not come to a good end.
#[derive(Debug)]
pub enum ScatterError {
    /// A shard said no; what it said.
    Shard(Box<ErrorFields>),
    /// The rows cannot be merged.
    Merge(MergeError),
    /// A connection failed.
    Relay(RelayError),
}

impl From<MergeError> for ScatterError {
    fn from(error: MergeError) -> Self {
        Self::Merge(error)
    }
}

impl From<RelayError> for ScatterError {
    fn from(error: RelayError) -> Self {
        Self::Relay(error)
    }
}

/// A portal over several shards that is read in pieces: each shard has a portal of the same name.
#[derive(Debug)]
pub struct Gathering {
    /// Puts the rows together.
    pub merger: Merger,
    /// The shards, in the merger's order of inputs.
    pub shards: Vec<ShardId>,
    /// The portal's name on the servers.
    pub portal: String,
    /// Savepoints that were set when it was opened there.
    pub level: usize,
    /// Which shards have no more rows.
    pub ended: Vec<bool>,
    /// The columns as the client is told of them.
    pub fields: Vec<backend::Field>,
}

/// What becomes of fetched rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// They go to the client.
    Send,
    /// They are passed over (MOVE).
    Drop,
}

/// What the client is told of the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Describe {
    /// A RowDescription goes before the rows.
    Yes,
    /// The client did not ask.
    No,
    /// It did not, and waits to hear that its parameters are accepted.
    BindComplete,
}

/// Streams the merged rows of `sources`, whose requests have been sent, into the client's outbox, until every source is
/// in sync again. Returns the number of rows.
///
/// Cancel safe: sources that owe replies are `Busy` and are closed with their leases.
///
/// # Errors
/// See [`ScatterError`]; sources then may still owe replies: [`settle`] reads them.
pub async fn stream(
    sources: &mut [Source],
    merger: &mut Merger,
    describe: Describe,
    client: &mut Client,
) -> Result<u64, ScatterError> {
    while let Some(index) = sources
        .iter()
        .position(|s| !s.progress.described && !s.progress.ended)
    {
        pull(&mut sources[index], index, merger, client).await?;
    }
    let fields = client_fields(merger, sources)?;
    match describe {
        Describe::Yes => backend::row_description(&mut client.outbox, fields.iter()),
        Describe::BindComplete => backend::bind_complete(&mut client.outbox),
        Describe::No => {}
    }
    loop {
        match merger.next(&mut client.outbox)? {
            Step::Row if client.outbox.len() < FLUSH_AT => {}
            Step::Row => client.flush().await.map_err(|_| RelayError::ClientGone)?,
            Step::Need(index) => {
                if client.outbox.len() >= FLUSH_AT {
                    client.flush().await.map_err(|_| RelayError::ClientGone)?;
                }
                pull(&mut sources[index], index, merger, client).await?;
            }
            Step::NeedAny => pull_any(sources, merger, client).await?,
            Step::Done => break,
        }
    }
    settle_those(sources, is_beyond).await?;
    Ok(merger.rows())
}

/// The columns as the client is told of them.
///
/// # Errors
/// When values cannot be shown to the client as they are.
pub fn client_fields(
    merger: &Merger,
    sources: &[Source],
) -> Result<Vec<backend::Field>, ScatterError> {
    let mut fields = merger.client_description()?;
    let differ = sources.iter().any(|s| s.oids.is_some());
    let first = sources.first().and_then(|s| s.oids.as_deref());
    oids::merged(first, differ, &mut fields).map_err(|_| RelayError::OidsInside)?;
    Ok(fields)
}

/// Reads what the sources still owe and drops it. The first error among it is returned.
///
/// Cancel safe: as [`stream`].
///
/// # Errors
/// See [`ScatterError`].
pub async fn settle(sources: &mut [Source]) -> Result<(), ScatterError> {
    settle_those(sources, |_, _| false).await
}

/// Is it an error in a row behind the last that the merge needed? PostgreSQL, which stops there, would not have come to
/// it. In a transaction it has failed the transaction.
fn is_beyond(source: &Source, error: &ErrorFields) -> bool {
    const DATA_EXCEPTION: &str = "22";
    !source.progress.ended
        && error.code.starts_with(DATA_EXCEPTION)
        && source.lease.state() == ServerState::Idle
}

/// As [`settle`], without the errors that are to be passed over.
async fn settle_those(
    sources: &mut [Source],
    passes_over: impl Fn(&Source, &ErrorFields) -> bool,
) -> Result<(), ScatterError> {
    let mut failed = None;
    for source in sources {
        if source.progress.ready {
            continue;
        }
        // What has not been sent yet would never be answered.
        source
            .lease
            .flush()
            .await
            .map_err(|error| lost(&source.name, error))?;
        let error = crate::execute::relay::drain(&mut source.lease, &source.name).await?;
        let error = error.filter(|error| !passes_over(source, error));
        failed = failed.or(error);
        source.progress.ready = true;
    }
    failed.map_or(Ok(()), |error| Err(ScatterError::Shard(error)))
}

/// Feeds the merger from one source: what is buffered, else what arrives next.
async fn pull(
    source: &mut Source,
    index: usize,
    merger: &mut Merger,
    client: &mut Client,
) -> Result<(), ScatterError> {
    loop {
        if feed(source, index, merger, &mut client.outbox)? {
            return Ok(());
        }
        wait(&mut [(index, source)], client).await?;
    }
}

/// Feeds the merger from whichever source has something.
async fn pull_any(
    sources: &mut [Source],
    merger: &mut Merger,
    client: &mut Client,
) -> Result<(), ScatterError> {
    loop {
        let mut fed = false;
        for (index, source) in sources
            .iter_mut()
            .enumerate()
            .filter(|(_, s)| !s.progress.ended)
        {
            fed |= feed(source, index, merger, &mut client.outbox)?;
        }
        if fed {
            return Ok(());
        }
        client.flush().await.map_err(|_| RelayError::ClientGone)?;
        let mut open: Vec<_> = sources
            .iter_mut()
            .enumerate()
            .filter(|(_, s)| !s.progress.ended)
            .collect();
        if open.is_empty() {
            return Ok(());
        }
        wait(&mut open, client).await?;
    }
}

/// Takes one row, description or end from what a source has buffered. False when there is nothing whole.
fn feed(
    source: &mut Source,
    index: usize,
    merger: &mut Merger,
    out: &mut BytesMut,
) -> Result<bool, ScatterError> {
    loop {
        let Some((kind, body)) = next_message(&mut source.lease, &source.name)? else {
            return Ok(false);
        };
        match kind {
            tag::DATA_ROW => {
                merger.push(index, body)?;
                return Ok(true);
            }
            tag::ROW_DESCRIPTION => {
                merger.describe(index, &body)?;
                source.progress.described = true;
                return Ok(true);
            }
            tag::COMMAND_COMPLETE => {
                merger.end(index);
                source.progress.ended = true;
                return Ok(true);
            }
            tag::PORTAL_SUSPENDED => return Ok(true),
            tag::READY_FOR_QUERY => {
                source.lease.ready(body.first().copied().unwrap_or(0));
                // One for the BEGIN that went before may come first.
                source.progress.ready = true;
                return Ok(true);
            }
            tag::ERROR_RESPONSE => {
                let fields = backend::read_error(&body).unwrap_or_default();
                return Err(ScatterError::Shard(Box::new(fields)));
            }
            tag::NOTICE_RESPONSE | tag::NOTIFICATION_RESPONSE => append_message(out, kind, &body),
            tag::PARAMETER_STATUS => {
                if let Ok((name, value)) = backend::read_parameter_status(&body) {
                    let known = &mut source.lease.parameters;
                    known.insert(name.to_owned(), value.to_owned());
                }
            }
            tag::PARSE_COMPLETE
            | tag::BIND_COMPLETE
            | tag::CLOSE_COMPLETE
            | tag::PARAMETER_DESCRIPTION
            | tag::NO_DATA
            | tag::EMPTY_QUERY_RESPONSE => {}
            other => {
                source.lease.doubt(Doubt::Protocol);
                return Err(ScatterError::Relay(RelayError::OutOfStep {
                    shard: source.name.clone(),
                    tag: char::from(other),
                }));
            }
        }
    }
}

fn next_message(server: &mut Server, shard: &str) -> Result<Option<(u8, Bytes)>, RelayError> {
    match next_frame(&server.inbox, MESSAGE_MAX) {
        Ok(Some(frame)) => {
            let message = server.inbox.split_to(frame.len).freeze();
            Ok(Some((frame.tag, message.slice(5..))))
        }
        Ok(None) => Ok(None),
        Err(_) => {
            server.doubt(Doubt::Protocol);
            Err(RelayError::OutOfStep {
                shard: shard.to_owned(),
                tag: '?',
            })
        }
    }
}

/// Waits until one of the sources has more bytes, noticing when the client goes away.
async fn wait(sources: &mut [(usize, &mut Source)], client: &mut Client) -> Result<(), RelayError> {
    poll_fn(|context| {
        let mut arrived = false;
        for (_, source) in sources.iter_mut() {
            match source.lease.poll_fill(context) {
                Poll::Ready(Ok(())) => arrived = true,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(lost(&source.name, error))),
                Poll::Pending => {}
            }
        }
        if arrived {
            return Poll::Ready(Ok(()));
        }
        while client.inbox.len() < READ_AHEAD {
            match client.poll_fill(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(RelayError::ClientGone)),
                Poll::Pending => break,
            }
        }
        Poll::Pending
    })
    .await
}

fn lost(shard: &str, source: io::Error) -> RelayError {
    RelayError::ServerLost {
        shard: shard.to_owned(),
        source,
        told: false,
    }
}

/// Appends the next rows of a portal read in pieces, at most `rows_max` (0 is no limit). Returns how many, and whether
/// there may be more. Between calls the servers are in sync.
///
/// Cancel safe: as [`stream`].
///
/// # Errors
/// See [`ScatterError`].
pub async fn fetch(
    gathering: &mut Gathering,
    sources: &mut [Source],
    rows_max: u64,
    whose: Rows,
    client: &mut Client,
) -> Result<(u64, bool), ScatterError> {
    let mut rows = 0;
    while rows_max == 0 || rows < rows_max {
        let before = client.outbox.len();
        match gathering.merger.next(&mut client.outbox)? {
            Step::Row => {
                rows += 1;
                if whose == Rows::Drop {
                    client.outbox.truncate(before);
                }
                if client.outbox.len() >= FLUSH_AT {
                    client.flush().await.map_err(|_| RelayError::ClientGone)?;
                }
            }
            Step::Done => return Ok((rows, false)),
            Step::Need(_) | Step::NeedAny => refill(gathering, sources, client).await?,
        }
    }
    Ok((rows, true))
}

/// Sends what waits for a source and takes in its columns, until it is in sync. Appends its notices to `out`.
///
/// Cancel safe: as [`stream`].
///
/// # Errors
/// See [`ScatterError`].
pub async fn open(
    source: &mut Source,
    index: usize,
    merger: &mut Merger,
    out: &mut BytesMut,
) -> Result<(), ScatterError> {
    source
        .lease
        .flush()
        .await
        .map_err(|error| lost(&source.name, error))?;
    while matches!(source.lease.state(), ServerState::Busy { .. }) {
        if !feed(source, index, merger, out)? {
            source
                .lease
                .fill()
                .await
                .map_err(|error| lost(&source.name, error))?;
        }
    }
    Ok(())
}

/// The next chunk of every shard that has run out of rows.
async fn refill(
    gathering: &mut Gathering,
    sources: &mut [Source],
    client: &mut Client,
) -> Result<(), ScatterError> {
    let wanting: Vec<usize> = (0..sources.len())
        .filter(|i| !gathering.ended[*i] && gathering.merger.wants(*i))
        .collect();
    for index in &wanting {
        let source = &mut sources[*index];
        frontend::execute(&mut source.lease.outbox, &gathering.portal, CHUNK_ROWS)
            .map_err(|_| MergeError::Malformed("portal name"))?;
        frontend::sync(&mut source.lease.outbox);
        source.lease.expect_syncs(1);
        source.progress = Progress {
            described: true,
            ..Progress::default()
        };
        source
            .lease
            .flush()
            .await
            .map_err(|error| lost(&source.name, error))?;
    }
    for index in wanting {
        let source = &mut sources[index];
        while matches!(source.lease.state(), ServerState::Busy { .. }) {
            if !feed(source, index, &mut gathering.merger, &mut client.outbox)? {
                wait(&mut [(index, source)], client).await?;
            }
        }
        gathering.ended[index] |= source.progress.ended;
    }
    Ok(())
}

/// Appends a message with this body.
pub fn append_message(out: &mut BytesMut, kind: u8, body: &[u8]) {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    out.extend_from_slice(&[kind]);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(body);
}
