//! `keyway serve`: runs the router until it is told to stop.

use crate::cli::{Failure, ServeArguments, read_config};
use crate::config::Variables;

/// Not joined to its rooms yet, and says so.
pub(super) fn serve(arguments: &ServeArguments, variables: &Variables) -> Result<(), Failure> {
    let _config = read_config(&arguments.config, variables)?;
    Err(Failure::Other("`keyway serve` is not in this build".into()))
}
