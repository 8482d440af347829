//! A connection of one's own to a shard's primary: queries by the simple protocol, then a stream of changes.

use crate::backend::connect::{ConnectError, connect_apart};
use crate::backend::stream::{Stream, release};
use crate::follow::refusal::PUBLICATION;
use crate::follow::shard::Follower;
use crate::wire::backend::{columns, tag};
use crate::wire::error::{EncodeError, ErrorFields, ProtocolError};
use crate::wire::frame::{FrameError, HEADER, next_frame, next_header};
use crate::wire::frontend::query;
use bytes::{Buf, BytesMut};
use std::io;
use std::time::Duration;

/// The longest message that is taken whole, in bytes. Of longer changes the beginning tells enough.
const WHOLE_MAX: usize = 64 * 1024;

/// So much of a longer one is read, in bytes: two names and what is before them.
const HEAD: usize = 512;

/// Rows that a query of this room has at most.
const ROWS_MAX: usize = 64;

/// How long sending may take.
const SEND_MAX: Duration = Duration::from_secs(10);

/// Why a shard's changes do not arrive.
#[derive(Debug, thiserror::Error)]
pub(super) enum FollowError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It broke.
    #[error("the connection is lost")]
    Lost(#[from] io::Error),
    /// The server said no.
    #[error("the server answered {code}: {message}")]
    Answered {
        /// SQLSTATE.
        code: String,
        /// In its words.
        message: String,
    },
    /// It takes too long.
    #[error("the server has not answered for {0:?}")]
    Silent(Duration),
    /// The server sends what it should not.
    #[error("read what the server sends")]
    Message(#[from] ProtocolError),
    /// The same.
    #[error("read what the server sends")]
    Frame(#[from] FrameError),
    /// A query that cannot be sent.
    #[error("write a query")]
    Write(#[from] EncodeError),
    /// An answer that is none.
    #[error("the server's answer to {0} cannot be understood")]
    Answer(&'static str),
    /// Nothing more would be told.
    #[error("publication {PUBLICATION} was dropped or changed")]
    Unpublished,
    /// More commits than can be waited for.
    #[error("more commits arrive than can be waited for")]
    TooMany,
    /// Somebody must do something about it.
    #[error("{0}")]
    Refused(String),
    /// No random numbers for a name.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
}

impl FollowError {
    /// It is not better a moment later.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

/// One column's text in a row; `None` is NULL.
pub(super) type Row = Vec<Option<String>>;

/// The connection.
pub(super) struct Line {
    stream: Stream,
    inbox: BytesMut,
    outbox: BytesMut,
    /// Bytes of a message that nobody reads, still to come.
    skip: usize,
}

/// What is streamed.
pub(super) enum Piece<'a> {
    /// A CopyData's body or, if it is long, its beginning.
    Data(&'a [u8]),
    /// Nothing whole yet.
    Nothing,
}

impl Line {
    /// Connects as the shard's own login.
    ///
    /// Cancel safe: a half opened connection is closed.
    pub(super) async fn open(
        follower: &Follower,
        parameters: &[(&str, &str)],
    ) -> Result<Self, FollowError> {
        let stream = connect_apart(
            &follower.address,
            &follower.role,
            &follower.how.options,
            &follower.how.tls,
            parameters,
        )
        .await?;
        Ok(Self {
            stream,
            inbox: BytesMut::new(),
            outbox: BytesMut::new(),
            skip: 0,
        })
    }

    /// Waits until something has arrived.
    ///
    /// Cancel safe: what has been read is kept.
    pub(super) async fn arrive(&mut self) -> Result<(), FollowError> {
        release(&mut self.inbox);
        match self.stream.read_into(&mut self.inbox).await? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            _ => Ok(()),
        }
    }

    /// Sends what `write` appends. To be dropped with its connection when it is dropped halfway.
    pub(super) async fn send(
        &mut self,
        write: impl FnOnce(&mut BytesMut),
    ) -> Result<(), FollowError> {
        write(&mut self.outbox);
        tokio::time::timeout(SEND_MAX, self.stream.write_from(&mut self.outbox))
            .await
            .map_err(|_| FollowError::Silent(SEND_MAX))??;
        Ok(())
    }

    /// Runs a query, or several in one text, and returns the rows of all of them.
    ///
    /// Not cancel safe: the rest of the answer would be taken for the next one's.
    pub(super) async fn rows(&mut self, sql: &str) -> Result<Vec<Row>, FollowError> {
        self.ask(sql).await?;
        let mut rows = Vec::new();
        let mut refused = None;
        loop {
            let Some(frame) = next_frame(&self.inbox, WHOLE_MAX)? else {
                self.arrive().await?;
                continue;
            };
            let message = self.inbox.split_to(frame.len);
            let body = &message[HEADER..];
            match frame.tag {
                tag::DATA_ROW if rows.len() < ROWS_MAX => rows.push(row(body)?),
                tag::ERROR_RESPONSE => refused = Some(answered(body)?),
                tag::READY_FOR_QUERY => return refused.map_or(Ok(rows), Err),
                _ => {}
            }
        }
    }

    /// Runs a query that begins a stream.
    ///
    /// Not cancel safe: the connection is of no use then.
    pub(super) async fn begin(&mut self, sql: &str) -> Result<(), FollowError> {
        self.ask(sql).await?;
        loop {
            let Some(frame) = next_frame(&self.inbox, WHOLE_MAX)? else {
                self.arrive().await?;
                continue;
            };
            let message = self.inbox.split_to(frame.len);
            match frame.tag {
                tag::COPY_BOTH_RESPONSE => return Ok(()),
                tag::NOTICE_RESPONSE | tag::PARAMETER_STATUS => {}
                tag::ERROR_RESPONSE => return Err(answered(&message[HEADER..])?),
                _ => return Err(FollowError::Answer("START_REPLICATION")),
            }
        }
    }

    async fn ask(&mut self, sql: &str) -> Result<(), FollowError> {
        let mut encoded = Ok(());
        self.send(|out| encoded = query(out, sql)).await?;
        Ok(encoded?)
    }

    /// Takes the next message of the stream from what has arrived, and gives it to `take`.
    pub(super) fn hear<T>(
        &mut self,
        take: impl FnOnce(Piece<'_>) -> Result<T, FollowError>,
    ) -> Result<T, FollowError> {
        loop {
            let passed = self.skip.min(self.inbox.len());
            self.inbox.advance(passed);
            self.skip -= passed;
            let Some(frame) = next_header(&self.inbox, usize::MAX)? else {
                return take(Piece::Nothing);
            };
            let is_data = frame.tag == tag::COPY_DATA;
            let length = if frame.len <= WHOLE_MAX {
                frame.len
            } else if is_data {
                HEAD
            } else {
                next_header(&self.inbox, WHOLE_MAX)?;
                frame.len
            };
            if self.inbox.len() < length {
                return take(Piece::Nothing);
            }
            let message = self.inbox.split_to(length);
            self.skip = frame.len - length;
            let body = &message[HEADER..];
            match frame.tag {
                tag::COPY_DATA => return take(Piece::Data(body)),
                tag::NOTICE_RESPONSE | tag::PARAMETER_STATUS => {}
                tag::ERROR_RESPONSE => return Err(answered(body)?),
                // It is about to leave.
                tag::COPY_DONE => {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                _ => return Err(FollowError::Answer("START_REPLICATION")),
            }
        }
    }
}

fn row(body: &[u8]) -> Result<Row, FollowError> {
    let mut row = Row::new();
    for column in columns(body) {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        row.push(column?.map(text));
    }
    Ok(row)
}

fn answered(body: &[u8]) -> Result<FollowError, FollowError> {
    let fields = ErrorFields::parse(body)?;
    Ok(FollowError::Answered {
        code: fields.code.into_owned(),
        message: fields.message,
    })
}
