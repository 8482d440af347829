//! Answers of statements, kept to be given again. In: a key and what was answered to it. Out: the same bytes, as long as
//! they are what a shard would say.
//!
//! Reading order: `cells` (when an answer is void), `key` (what an answer belongs to), `reply` (what is kept of one),
//! `flight` (one asks for all), `doubt` (writes that were never seen to end), `worth` (which are kept), `store` (all of them together).

pub mod cells;
pub mod doubt;
pub mod flight;
#[cfg(test)]
mod interleavings;
pub mod key;
pub mod reply;
pub mod store;
mod worth;
