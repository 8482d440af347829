//! `keyway demo`: throwaway shards and a router in front of them.

use crate::cli::{DemoArguments, Failure};
use crate::config::Variables;

/// Not joined to its rooms yet, and says so.
pub(super) fn demo(_arguments: &DemoArguments, _variables: &Variables) -> Result<(), Failure> {
    Err(Failure::Other("`keyway demo` is not in this build".into()))
}
