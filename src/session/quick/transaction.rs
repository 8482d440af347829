//! BEGIN and COMMIT on the fast path: the one is answered by Keyway, the other by the only server that takes part.

use crate::metrics::{Outcome, QueryPlan};
use crate::route::plan::Access;
use crate::session::Session;
use crate::session::error::SessionError;
use crate::session::extended::Cut;
use crate::session::prepared::{Body, Prepared};
use crate::session::quick::messages::{Request, Sent};
use crate::session::quick::{Arrived, Running};
use crate::session::servers::{append_begin, wrote};
use crate::session::simple::Ready;
use crate::session::transaction::{BlockKind, Participant, Wrote};
use crate::statement::command::{Command, TransactionModes};
use crate::topology::ShardId;
use crate::wire::backend as reply;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use tokio::time::Instant;

use crate::backend::pool::Lease;

/// COMMIT, as a Query.
const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";

/// Statements that begin or end a transaction block, in their plain forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockWord {
    Begin,
    StartTransaction,
    Commit,
}

/// Such a statement as a client asked for it.
pub(super) struct BlockRequest {
    pub(super) word: BlockWord,
    pub(super) request: Request,
    /// What the request makes the unnamed statement: `None` leaves it, or takes it away (Query).
    pub(super) unnamed: Option<Rc<Prepared>>,
    pub(super) started: Instant,
}

impl BlockWord {
    /// The statement that is all of this text.
    pub(super) fn of(text: &str) -> Option<Self> {
        // Most texts are longer than any of these.
        if text.len() > 24 {
            return None;
        }
        let text = text.trim_matches([' ', '\t', '\n', '\r', ';']);
        let is = |word: &str| text.eq_ignore_ascii_case(word);
        match text.as_bytes().first()? | 0x20 {
            b'b' if is("begin") => Some(Self::Begin),
            b's' if is("start transaction") => Some(Self::StartTransaction),
            b'c' if is("commit") => Some(Self::Commit),
            b'e' if is("end") => Some(Self::Commit),
            _ => None,
        }
    }

    /// The statement that a client prepared, if it is one.
    pub(super) fn of_prepared(prepared: &Prepared) -> Option<Self> {
        match &prepared.body {
            Body::Command(Command::Begin(modes)) if *modes == TransactionModes::default() => {
                Self::of(&prepared.text)
            }
            Body::Command(Command::Commit { chain: false }) => Some(Self::Commit),
            _ => None,
        }
    }

    /// As an unnamed prepared statement.
    pub(super) fn prepared(self, text: &str) -> Rc<Prepared> {
        let command = match self {
            Self::Begin | Self::StartTransaction => Command::Begin(TransactionModes::default()),
            Self::Commit => Command::Commit { chain: false },
        };
        Rc::new(Prepared {
            text: Rc::from(text),
            types: Default::default(),
            body: Body::Command(command),
            named: false,
            sql_types: None,
            canonical: RefCell::default(),
            recipe: RefCell::default(),
            told: Default::default(),
            rewritten: false,
        })
    }

    fn tag(self) -> &'static str {
        match self {
            Self::Begin => "BEGIN",
            Self::StartTransaction => "START TRANSACTION",
            Self::Commit => "COMMIT",
        }
    }
}

impl Session {
    /// Answers such a statement, or sends it to the transaction's server.
    pub(super) fn block_at_once(&mut self, asked: BlockRequest) -> Arrived {
        let is_strict = self.is_strict();
        let server = match (asked.word, &mut self.block) {
            (BlockWord::Begin | BlockWord::StartTransaction, None) => None,
            (BlockWord::Commit, Some(block)) if block.changed_schema.is_none() => {
                match block.participants.as_mut_slice() {
                    [] => None,
                    // Other Keyways must know of it still.
                    [only] if is_strict && only.lease.as_ref().is_some_and(|s| s.is_writing()) => {
                        return Arrived::Ordinary;
                    }
                    [only] if only.wrote != Wrote::Schema && only.is_ready() => {
                        only.lease.take().map(|lease| (only.shard, lease))
                    }
                    _ => return Arrived::Ordinary,
                }
            }
            // They have a warning for an answer.
            _ => return Arrived::Ordinary,
        };
        (self.plan, self.outcome) = (QueryPlan::Local, Outcome::Done);
        self.sync_void = false;
        self.batch = None;
        if asked.request == Request::Query || asked.unnamed.is_some() {
            self.names.unnamed = asked.unnamed;
        }
        asked.request.open_reply(&mut self.client.outbox);
        let Some((shard, mut lease)) = server else {
            match asked.word {
                BlockWord::Commit => drop(self.leave_block()),
                BlockWord::Begin | BlockWord::StartTransaction => {
                    self.open_block(BlockKind::Client)
                }
            }
            self.names.unnamed_portal = None;
            reply::command_complete(&mut self.client.outbox, asked.word.tag());
            self.say_ready();
            return Arrived::Answered(asked.started);
        };
        lease.unnamed = None;
        lease.request_now(COMMIT);
        Arrived::Running(Running {
            shard,
            lease,
            request: asked.request,
            sent: Sent::Commit,
            started: asked.started,
        })
    }

    /// The transaction's only server has committed.
    pub(super) fn committed(&mut self, shard: ShardId, mut lease: Lease) {
        self.leave_block();
        lease.set_settings(&self.settings);
        self.let_go(shard, lease);
        reply::command_complete(&mut self.client.outbox, BlockWord::Commit.tag());
        self.say_ready();
    }

    /// The transaction's only server has something else to say to COMMIT.
    pub(super) async fn commit_goes_on(&mut self, running: Running) -> Result<(), SessionError> {
        let result = self.end_only(running.shard, running.lease).await;
        match running.request {
            Request::Query => self.simple_ended(result.map(|()| Ready::Due)).await,
            Request::Batch { .. } => self.batch_ended(result.map(|()| false), Cut::Sync).await,
        }
    }

    /// The transaction has no participant, and nothing that the first one must hear but BEGIN.
    pub(super) fn is_only_begun(&self) -> bool {
        self.block.as_ref().is_some_and(|block| {
            block.participants.is_empty()
                && block.log.is_empty()
                && Arc::ptr_eq(&block.before, &block.effective)
        })
    }

    /// A server at hand joins the transaction, as its first participant.
    pub(super) fn join_at_once(&mut self, shard: ShardId, access: Access) -> Option<Lease> {
        if !self.is_only_begun() {
            return None;
        }
        let block = self.block.as_ref()?;
        let (pool, address) = self.worker.pool(&self.topology, &self.pools, shard)?;
        let mut lease = pool.check_out_at_once(&block.before)?;
        if !lease.inbox.is_empty() {
            return None;
        }
        self.cancel.add_server(address, &lease);
        self.join_first(shard, access, &mut lease);
        Some(lease)
    }

    /// A server becomes the transaction's first participant: its BEGIN waits to be sent.
    pub(super) fn join_first(&mut self, shard: ShardId, access: Access, lease: &mut Lease) {
        if let Some(block) = &mut self.block {
            append_begin(lease, &block.begin);
            block.participants.push(Participant {
                shard,
                lease: None,
                wrote: wrote(access),
            });
        }
    }

    /// A statement that would have joined the transaction goes the ordinary way after all.
    pub(super) fn join_not(&mut self, shard: ShardId, mut lease: Lease) {
        lease.outbox.clear();
        if let Some(block) = &mut self.block {
            block.participants.pop();
        }
        self.let_go(shard, lease);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_plain_forms_are_known() {
        let of = BlockWord::of;
        assert_eq!(of("BEGIN"), Some(BlockWord::Begin));
        assert_eq!(of(" begin ;\n"), Some(BlockWord::Begin));
        assert_eq!(of("Start Transaction;"), Some(BlockWord::StartTransaction));
        assert_eq!(of("commit"), Some(BlockWord::Commit));
        assert_eq!(of("END;"), Some(BlockWord::Commit));
        for other in [
            "",
            ";",
            "BEGIN WORK",
            "BEGIN; BEGIN",
            "BEGIN READ ONLY",
            "COMMIT AND CHAIN",
            "ROLLBACK",
            "ENDS",
            "/**/BEGIN",
            "BEGIN --",
            "\u{b}BEGIN",
            "start  transaction",
        ] {
            assert_eq!(of(other), None, "{other:?}");
        }
    }
}
