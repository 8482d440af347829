//! Log lines to standard error, for people or for machines.

use crate::cli::Failure;
use crate::config::{LogConfig, LogFormat};
use std::io::{self, IsTerminal};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// Starts logging, once for the process.
///
/// # Errors
/// When it was started before.
pub fn start(config: &LogConfig) -> Result<(), Failure> {
    let filter: Targets = config
        .level
        .parse()
        .map_err(|error| Failure::Other(format!("log.level {:?}: {error}", config.level)))?;
    let lines = match config.format {
        LogFormat::Human => fmt::layer()
            .with_writer(io::stderr)
            .with_ansi(io::stderr().is_terminal())
            .boxed(),
        LogFormat::Json => fmt::layer()
            .with_writer(io::stderr)
            .json()
            .flatten_event(true)
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .try_init()
        .map_err(|error| Failure::Other(format!("start logging: {error}")))
}
