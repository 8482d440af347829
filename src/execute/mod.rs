//! Runs a plan and streams one reply. In: leased servers with their requests sent, and what is expected of them. Out:
//! bytes in the client's outbox. Never chooses a shard, never opens a connection.
//!
//! Reading order: `client`, `relay` (one server), `merge` and `scatter` (several), `oids`.

pub mod client;
pub mod merge;
pub mod oids;
pub mod relay;
pub mod scatter;
