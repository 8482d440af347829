//! Where a statement goes: (tree, values, topology) → plan. Pure: no I/O, no clock, no session.

pub mod key;
pub mod merge;
pub mod plan;
