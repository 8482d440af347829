//! Where a statement goes: (tree, values, topology) → plan. Pure: no I/O, no clock, no session.
//!
//! In: a [`crate::statement::tree::Statement`], the snapshot, one execution's literals and parameters. Out: a
//! [`plan::Plan`], or a [`error::RouteError`] that says why not. Nothing here ever guesses a shard: what is not understood
//! widens the route, and what cannot be answered exactly is refused.
//!
//! Reading order: `choose` (one function per kind of statement), `bind` (what names mean), `implied` (what
//! runs without a name), `pins` (which keys rows can
//! have), `recipe` (the cached result and the hot step), `key` (bytes and buckets), `schema` (DDL), `temporary` (tables of one session), `clock` (what it would fix of a shard's time), `merge` (several
//! shards' rows become one answer), `changed` (what a transaction has changed of the schema), `reserved` (Keyway's own
//! schema), `explain` (for people).

mod bind;
pub mod builtin;
pub(crate) mod changed;
pub mod choose;
pub(crate) mod clock;
pub mod error;
pub mod explain;
pub(crate) mod implied;
pub mod keep;
pub mod key;
pub mod merge;
pub(crate) mod pins;
pub mod plan;
pub mod recipe;
pub(crate) mod reserved;
pub(crate) mod schema;
pub(crate) mod temporary;

#[cfg(test)]
mod tests;
