//! currval() and lastval(): what a session has taken of sequences is its server's to know, and servers are shared.
//!
//! A server that has forgotten all of it (DISCARD SEQUENCES) inside a transaction knows from then on what this
//! transaction took, and nothing else. The client may tell it to. A message of several statements that asks for such a
//! value has its servers forget before it begins; should they then know of no value, it may be one that the session took
//! before, and the statement is refused.

use crate::execute::relay::Instead;
use crate::route::plan::{Plan, PlanKind};
use crate::session::Session;
use crate::session::error::SessionError;
use crate::session::transaction::{Sequences, Wrote};
use crate::statement::scan::Scanned;
use crate::wire::error::{ErrorFields, SqlState};

/// What makes a server forget.
pub(super) const FORGET: &str = "DISCARD SEQUENCES";

impl Session {
    /// A message of several statements, which asks for values of sequences, begins.
    pub(super) async fn forget_sequences(&mut self) -> Result<(), SessionError> {
        let Some(block) = &self.block else {
            return Ok(());
        };
        if block.failed || block.sequences != Sequences::Shared {
            return Ok(());
        }
        self.on_participants(FORGET).await?;
        self.log(FORGET)?;
        if let Some(block) = &mut self.block {
            block.sequences = Sequences::Forgotten;
        }
        Ok(())
    }

    /// Sends a statement that asks for a sequence's value where the transaction has taken one.
    pub(super) fn place_sequence_value(
        &mut self,
        scanned: &Scanned,
        plan: &mut Plan,
    ) -> Result<(), SessionError> {
        let hinted = self.is_hinted(scanned)?;
        let block = self
            .block
            .as_ref()
            .filter(|block| block.sequences != Sequences::Shared);
        let Some(block) = block else {
            return Err(not_its_own());
        };
        let writes = block.participants.iter().any(|p| p.wrote > Wrote::Nothing);
        match block.only_writer() {
            Some(shard) if plan.shards.contains(shard) || (plan.tables.is_empty() && !hinted) => {
                plan.kind = PlanKind::Single;
                plan.shards = [shard].into_iter().collect();
            }
            // Nothing has been taken yet.
            None if !writes && Self::is_for_one(plan) => {}
            _ => return Err(elsewhere()),
        }
        plan.pin = None;
        self.asks_sequence = true;
        Ok(())
    }

    /// What the client is told instead of what a server says that has forgotten, or that does not have the sequence.
    pub(super) fn instead_of_forgotten(&mut self) -> Option<Instead> {
        let asks = std::mem::take(&mut self.asks_sequence);
        let block = self.block.as_ref().filter(|_| asks)?;
        let (which, fields): (fn(&ErrorFields) -> bool, _) = match block.sequences {
            // What it does not have, nobody has.
            Sequences::Discarded if self.topology.shards.len() == 1 => return None,
            Sequences::Forgotten => (is_unknown_or_undefined, not_its_own()),
            _ => (is_unknown, elsewhere()),
        };
        match fields {
            SessionError::Statement(Some(fields)) => Some(Instead { which, fields }),
            _ => None,
        }
    }
}

/// Does a text ask for a sequence's value? It may find too much.
pub(super) fn asks_for_value(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.contains("currval") || text.contains("lastval")
}

/// There is no such sequence on this shard.
fn is_unknown(fields: &ErrorFields) -> bool {
    fields.is(SqlState::UNDEFINED_TABLE)
}

fn is_unknown_or_undefined(fields: &ErrorFields) -> bool {
    is_unknown(fields) || fields.is(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE)
}

fn not_its_own() -> SessionError {
    SessionError::unsupported(
        "currval() and lastval() are not supported here with transaction pooling",
        "Their values belong to a server's session, which other clients use too.",
        "Use INSERT … RETURNING; or send DISCARD SEQUENCES in front, in the same transaction; or set pool.mode = \"session\".",
    )
}

fn elsewhere() -> SessionError {
    SessionError::unsupported(
        "currval() and lastval() are not supported away from what took the value",
        "The transaction has taken values of sequences on another shard than this statement needs.",
        "Use INSERT … RETURNING.",
    )
}
