//! PostgreSQL's protocol 3 (manual, chapter 55) as values: framing, startup, messages, errors, password exchanges.
//!
//! In: byte slices that somebody else read from a socket. Out: borrowed views of them, typed errors, and bytes
//! appended to a buffer. This room never does I/O, never waits, and knows nothing of sharding. Whatever the bytes are,
//! it never panics, and it never allocates more than a small multiple of the message it was given.
//!
//! Reading order: `frame` cuts a stream into messages; `startup` reads what comes before them; `frontend` and `backend`
//! are the messages by direction; `error` is what goes wrong and how a client is told; `auth` checks passwords;
//! `value` compares what is in the rows; `replication` is what a server tells of its changes.

pub mod auth;
pub mod backend;
pub mod error;
pub mod frame;
pub mod frontend;
mod read;
pub mod replication;
pub mod startup;
pub mod types;
pub mod value;
mod write;

#[cfg(test)]
mod tests;
