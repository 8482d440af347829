//! `keyway serve`: runs the router until it is told to stop.
//!
//! SIGHUP reloads, SIGTERM and SIGINT drain, a second one leaves at once.

use crate::cli::router::Router;
use crate::cli::{Failure, ServeArguments, keeper, migrate, read_config, start_logging};
use crate::config::{Config, Variables};
use tokio::signal::unix::{SignalKind, signal};

/// Threads of the control plane.
const CONTROL_THREADS: usize = 1;

/// Runs until told to stop.
pub(super) fn serve(arguments: &ServeArguments, variables: &Variables) -> Result<(), Failure> {
    let config = read_config(&arguments.config, variables)?;
    start_logging(&config.log)?;
    let runtime = control_runtime()?;
    runtime.block_on(async {
        // Before it says that it is ready: a signal that nobody listens for ends the process, SIGHUP too.
        let mut hangup = signal(SignalKind::hangup())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let starting = async {
            if arguments.migrate {
                bring_up(&config).await?;
            }
            Router::start(config).await
        };
        let router = tokio::select! {
            started = Box::pin(starting) => started?,
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        };
        tracing::info!(address = %router.address, "accepting clients");
        loop {
            tokio::select! {
                _ = hangup.recv() => reload(&router, arguments, variables).await,
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            }
        }
        tracing::info!("draining");
        tokio::select! {
            left = router.drain() => {
                if left > 0 {
                    tracing::warn!(clients = left, "left although clients were connected");
                }
            }
            _ = terminate.recv() => tracing::warn!("left at once"),
            _ = interrupt.recv() => tracing::warn!("left at once"),
        }
        Ok(())
    })
}

/// Runs the migrations and makes the partitions that are missing.
///
/// # Errors
/// When some are missing still.
pub(super) async fn bring_up(config: &Config) -> Result<(), Failure> {
    migrate::at_start(config).await?;
    keeper::at_start(config, migrate::AT_START).await
}

/// The runtime for everything but the statements.
pub(super) fn control_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()?)
}

async fn reload(router: &Router, arguments: &ServeArguments, variables: &Variables) {
    let config = match read_config(&arguments.config, variables) {
        Ok(config) => config,
        Err(problems) => {
            tracing::error!("the new configuration is not applied:\n{problems}");
            return;
        }
    };
    match router.reload(config).await {
        Ok(fixed) if fixed.is_empty() => tracing::info!("the new configuration is applied"),
        Ok(fixed) => tracing::warn!(
            keys = fixed.join(", "),
            "applied; these change only with a restart"
        ),
        Err(failure) => tracing::error!(%failure, "the new configuration is not applied"),
    }
}
