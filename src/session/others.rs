//! What other Keyways know, and Redis for them all: of what is written here, and of what is kept.
//!
//! A write is marked there before it is sent, and an answer holds only while nobody else has changed what it is made of.
//! Without `cache.redis` there are no others.

use crate::backend::server::Server;
use crate::cache::remote::sealed::{Opened, Sealing, open, seal};
use crate::cache::remote::{Name, NotTold, Remote, Tokens, Why};
use crate::cache::results::cells::{Cell, Held};
use crate::cache::results::key::{Asker, Key};
use crate::cache::results::reply::Kept;
use crate::cache::results::store::{Asking, Entry, Results};
use crate::config::OnLoss;
use crate::route::keep::{NotKept, Spoils};
use crate::session::Session;
use crate::session::error::SessionError;
use crate::session::kept::cells_of_spoils;
use crate::session::transaction::Participant;
use crate::topology::ShardId;
use crate::wire::error::{ErrorFields, SqlState};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// What an answer is found by that Keyways share.
#[derive(Debug)]
pub(super) struct Shared {
    name: Name,
    /// The question, with whoever asks it in full.
    question: Vec<u8>,
}

/// What other Keyways and Redis know of a question.
pub(super) struct Others {
    pub(super) tokens: Tokens,
    pub(super) shared: Option<Shared>,
    pub(super) found: Option<Opened>,
}

/// How soon Redis is asked again that was away.
const AGAIN: Duration = Duration::from_millis(50);

impl Session {
    /// Redis, where it is asked before each answer and told before each write.
    #[inline]
    fn strict(&self) -> Option<&Arc<Remote>> {
        let remote = self.worker.remote.as_ref();
        remote.filter(|remote| remote.is_strict())
    }

    /// No answer is given without asking Redis, and nothing changed without telling it.
    #[inline]
    pub(super) fn is_strict(&self) -> bool {
        self.strict().is_some()
    }

    /// A statement that changes this must wait until the other Keyways know.
    #[inline]
    pub(super) fn tells_first(&self, spoils: Option<&Spoils>) -> bool {
        spoils.is_some_and(|spoils| *spoils != Spoils::Nothing) && self.is_strict()
    }

    /// Marks for a change, where other Keyways see them, before it is sent: nothing when versions are not shared, or nobody
    /// waits for that.
    ///
    /// # Errors
    /// When Redis has not got them, and must.
    pub(super) async fn tell_others(
        &self,
        spoils: &Spoils,
        shards: &[ShardId],
    ) -> Result<Option<Box<dyn Held>>, SessionError> {
        let Some(remote) = self.strict() else {
            return Ok(None);
        };
        let spoils = self.by_this_snapshot(spoils);
        let cells = cells_of_spoils(spoils, shards.iter().copied(), &self.topology);
        let cells = match (shards, &self.block) {
            // What its transaction has marked already is marked.
            ([shard], Some(block)) => {
                let mut known = block.participants.iter().filter(|p| p.shard == *shard);
                match known.next().and_then(|p| p.lease.as_deref()) {
                    Some(server) => server.not_marked(&cells),
                    None => cells,
                }
            }
            _ => cells,
        };
        if cells.is_empty() {
            return Ok(None);
        }
        match remote.mark(self.topology.digest, &cells).await {
            Ok(marks) => Ok(Some(Box::new(marks))),
            Err(NotTold) if self.worker.shared.config.load().cache.on_loss == OnLoss::Degrade => {
                Ok(Some(Box::new(
                    remote.mark_soon(self.topology.digest, &cells),
                )))
            }
            Err(NotTold) => Err(cannot_tell(
                "the statement would change what other Keyways keep answers about, and they cannot be told",
            )),
        }
    }

    /// Other Keyways are told of a change that nobody waits for them to know.
    pub(super) fn tell_soon(&self, cells: &[Cell]) -> Option<Box<dyn Held>> {
        let remote = self.worker.remote.as_deref()?;
        Some(Box::new(remote.mark_soon(self.topology.digest, cells)))
    }

    /// Is an answer that holds here one that holds on every Keyway?
    pub(super) async fn holds_for_others(&self, entry: &Entry) -> bool {
        let Some(remote) = self.strict() else {
            return true;
        };
        match entry.tokens() {
            Some(tokens) => remote.holds(self.topology.digest, tokens).await,
            None => false,
        }
    }

    /// The versions that Redis has for a question, and the answer that another Keyway has kept. Nothing when versions are not
    /// shared.
    pub(super) async fn ask_others(
        &self,
        key: &Key,
        asker: &Asker,
        cells: &[Cell],
    ) -> Result<Option<Others>, NotKept> {
        let Some(remote) = &self.worker.remote else {
            return Ok(None);
        };
        let shared = remote.shares_answers().then(|| Shared {
            name: key.name(asker, remote.secret()),
            question: key.whole(asker),
        });
        let name = shared.as_ref().map(|shared| &shared.name);
        let looked = remote.look(self.topology.digest, cells, name).await;
        let tokens = looked.tokens.map_err(|why| match why {
            Why::Marked => NotKept::WriteOnItsWay,
            Why::Unsettled | Why::OtherTopology | Why::Away | Why::TooMany => NotKept::NoVersions,
        })?;
        let found = looked
            .entry
            .zip(shared.as_ref())
            .and_then(|(bytes, shared)| {
                // What is no answer, or no answer to this, is replaced by the one to come.
                let opened = open(&bytes, remote.secret(), &shared.question).ok()?;
                (opened.tokens == tokens).then_some(opened)
            });
        Ok(Some(Others {
            tokens,
            shared,
            found,
        }))
    }

    /// May a transaction commit whose participants these are?
    ///
    /// # Errors
    /// Other Keyways may have forgotten what it changes.
    pub(super) fn others_still_know(
        &self,
        participants: &[Participant],
    ) -> Result<(), SessionError> {
        if !self.is_strict() || self.worker.shared.config.load().cache.on_loss == OnLoss::Degrade {
            return Ok(());
        }
        let mut servers = participants.iter().filter_map(|p| p.lease.as_deref());
        if servers.all(Server::is_sure) {
            return Ok(());
        }
        Err(cannot_tell(
            "the transaction was rolled back: other Keyways cannot be told of what it changes",
        ))
    }

    /// A write is done whose marks in Redis had expired before, as Redis was away for a lease: other Keyways may have kept
    /// what was there before. The client is not told that it is done before they know.
    ///
    /// # Errors
    /// Redis stays away. The client is not told what came of its statement.
    pub(super) async fn make_sure(&mut self) -> Result<(), SessionError> {
        let Some(remote) = self.strict().map(Arc::clone) else {
            return Ok(());
        };
        let config = self.worker.shared.config.load_full();
        let lease = config.cache.redis.as_ref().map(|redis| redis.lease);
        if config.cache.on_loss == OnLoss::Degrade {
            return Ok(());
        }
        let until = Instant::now() + lease.unwrap_or_default() * 2;
        loop {
            // As long as everything is marked, and ever after, nothing that was kept before is given.
            if remote
                .mark(self.topology.digest, &[Cell::EVERYTHING])
                .await
                .is_ok()
            {
                return Ok(());
            }
            if Instant::now() > until {
                break;
            }
            tokio::time::sleep(AGAIN).await;
        }
        self.client.outbox.clear();
        let fields = ErrorFields::fatal(
            SqlState::TRANSACTION_RESOLUTION_UNKNOWN,
            "other Keyways cannot be told of a write that is done",
        );
        Err(SessionError::Fatal(Box::new(fields.detail(
            "Redis has been away for longer than a lease, and cache.consistency is \"strict\".",
        ))))
    }
}

/// Keeps what another Keyway has kept, if that may be given as long as this is asked for.
pub(super) fn found_elsewhere(
    results: &Results,
    asking: &Asking,
    found: &Opened,
) -> Option<Arc<Entry>> {
    // Its maker's clock may be ahead of ours.
    let age = Duration::from_millis(unix_ms().saturating_sub(found.made_ms));
    let ttl = asking.ttl.min(Duration::from_millis(found.ttl_ms));
    let made = asking.made.checked_sub(age).filter(|_| age < ttl)?;
    let described = usize::try_from(found.described).ok()?;
    let reply = Kept::from_parts(&found.reply, described)?;
    if !reply.answers(asking.asked) {
        return None;
    }
    let again = Asking {
        key: asking.key.clone(),
        seen: asking.seen.clone(),
        tokens: asking.tokens.clone(),
        wanted: asking.wanted.clone(),
        made,
        ttl,
        ..*asking
    };
    results.keep(again, reply).ok()
}

#[cold]
fn cannot_tell(message: &str) -> SessionError {
    let fields = ErrorFields::error(SqlState::CANNOT_CONNECT_NOW, message)
        .detail("Redis has not acknowledged it in time, and cache.consistency is \"strict\".")
        .hint("Try again. With cache.on_loss = \"degrade\" it would be done, and other Keyways might give old answers.");
    SessionError::Statement(Some(Box::new(fields)))
}

impl Shared {
    /// An answer as other Keyways will find it.
    pub(super) fn seal(
        &self,
        remote: &Remote,
        asking: &Asking,
        tokens: &Tokens,
        reply: &Kept,
    ) -> Vec<u8> {
        let (bytes, described) = reply.parts();
        let sealing = Sealing {
            question: &self.question,
            tokens,
            reply: bytes,
            described: u32::try_from(described).unwrap_or(u32::MAX),
            made_ms: unix_ms().saturating_sub(millis(asking.made.elapsed())),
            ttl_ms: millis(asking.ttl),
        };
        seal(&sealing, remote.secret())
    }

    /// Puts it where they look for it. Nobody waits for that.
    pub(super) fn put(&self, remote: &Remote, sealed: Vec<u8>, ttl: Duration) {
        remote.put(&self.name, sealed, ttl);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds since 1970.
fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, millis)
}
