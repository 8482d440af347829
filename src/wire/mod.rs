//! Being built.
pub mod value;
