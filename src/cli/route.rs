//! `keyway route`: shows where a statement would go.

use crate::cli::{Failure, RouteArguments, read_config};
use crate::config::Variables;

/// Not joined to its rooms yet, and says so.
pub(super) fn route(arguments: &RouteArguments, variables: &Variables) -> Result<(), Failure> {
    let _config = read_config(&arguments.config, variables)?;
    Err(Failure::Other("`keyway route` is not in this build".into()))
}
