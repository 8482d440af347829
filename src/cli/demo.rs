//! `keyway demo`: throwaway shards and a router in front of them.

use crate::cli::router::Router;
use crate::cli::serve::{bring_up, control_runtime};
use crate::cli::{DemoArguments, Failure, start_logging};
use crate::config::{Variables, load};
use crate::demo::{DemoOptions, run};
use std::path::Path;

/// Runs the demo.
pub(super) fn demo(arguments: &DemoArguments, variables: &Variables) -> Result<(), Failure> {
    let options = DemoOptions {
        shards: arguments.shards,
        port: arguments.port,
        keep: arguments.keep.clone(),
        exec: arguments.exec.clone(),
    };
    let start = async |file: &Path| {
        let config = load(Some(file), variables)?;
        start_logging(&config.log)?;
        bring_up(&config).await?;
        Ok(Router::start(config).await?)
    };
    match control_runtime()?.block_on(run(&options, start)) {
        Ok(0) => Ok(()),
        Ok(status) => Err(Failure::Status(status)),
        Err(error) => Err(Failure::Other(super::with_sources(&error))),
    }
}
