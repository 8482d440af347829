//! What need not be done twice. In: keys. Out: what was made for them, bounded, and forgotten with its epoch.

pub mod plans;
pub mod remote;
pub mod results;
pub mod shapes;
