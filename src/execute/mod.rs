//! Being built.
pub mod merge;
