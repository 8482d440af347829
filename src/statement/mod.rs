//! What the text says. In: the client's SQL. Out: its statements, each with a verb, a fingerprint, its literals and,
//! for a shape not seen before, a [`tree::Statement`].
//!
//! This room never knows a table's home, a parameter's value or a session's state, and does no I/O.
//! Reading order: `lex` (PostgreSQL's tokens), `scan` (one pass over the text), `command` (session statements), `parse`
//! (shape text → tree), `tree`; `insert` (room in an INSERT for a column it leaves out).

pub mod command;
pub mod insert;
pub(crate) mod lex;
pub mod parse;
pub mod scan;
pub mod tree;
