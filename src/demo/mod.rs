//! Throwaway shards on this machine, for trying Keyway out and for its tests.
//!
//! In: [`DemoOptions`] and a way to start the router. Out: an exit status, after everything it made is gone again.
//! The demo knows nothing of the router's inside: it writes a configuration file with migrations and partitions beside it, and
//! rows go through the router's port like any application's.

pub mod binaries;
pub mod cluster;
mod layout;
mod sample;
mod schema;
mod stop;

#[cfg(test)]
mod tests;

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use tokio::time::Instant;
use tokio_postgres::{Client, NoTls};

use crate::demo::cluster::{Cluster, ClusterError};
use crate::demo::layout::Layout;
use crate::demo::stop::Stop;

/// Where the router listens when nobody says otherwise and the port is free.
const DEFAULT_PORT: u16 = 6432;
/// Horizontal shards when nobody says otherwise.
const DEFAULT_SHARDS: u16 = 3;
/// The directory of the migrations, beside the configuration.
const MIGRATIONS: &str = "migrations";
/// Shards that a demo may have.
pub const SHARDS_MAX: u16 = 64;

/// What `keyway demo` was asked for.
#[derive(Debug, Clone, Default)]
pub struct DemoOptions {
    /// Horizontal shards, 1 to [`SHARDS_MAX`]; three by default, or as many as the kept directory has.
    pub shards: Option<u16>,
    /// The router's port; by default 6432, or a free one when that is in use.
    pub port: Option<u16>,
    /// Keep the servers' data here, and use what is there.
    pub keep: Option<PathBuf>,
    /// Run this instead of waiting, and leave with its status.
    pub exec: Option<String>,
}

/// Why the demo does not run.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A number of shards it cannot have.
    #[error("--shards is {shards}; it can be 1 to {SHARDS_MAX}")]
    Shards {
        /// As asked for.
        shards: u16,
    },
    /// The kept directory was made for another number of shards.
    #[error("{} holds a demo of {kept} shards, not {asked}: leave --shards out or keep the demo elsewhere", directory.display())]
    KeptShards {
        /// The directory.
        directory: PathBuf,
        /// As kept.
        kept: u16,
        /// As asked for.
        asked: u16,
    },
    /// The kept directory has servers, but was left before its rows were complete.
    #[error("{} holds a demo that was not loaded to the end: remove it or keep the demo elsewhere", directory.display())]
    KeptHalf {
        /// The directory.
        directory: PathBuf,
    },
    /// The port is taken.
    #[error("listen on port {port} (choose another with --port)")]
    Port {
        /// As asked for.
        port: u16,
        /// Why not.
        source: io::Error,
    },
    /// A cluster does not start.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The router does not start.
    #[error("start the router")]
    Router(#[source] Box<dyn Error + Send + Sync>),
    /// A file, process or signal could not be handled.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The router cannot be reached.
    #[error("connect to the router")]
    Connect(#[source] tokio_postgres::Error),
    /// Rows cannot be loaded.
    #[error("load {table}")]
    Load {
        /// Into which table.
        table: &'static str,
        /// The client's error.
        source: tokio_postgres::Error,
    },
}

/// Runs the demo. `start_router` gets the path of a configuration file, brings the schema up to date, and returns once the
/// router accepts connections; what it returns stops the router when dropped. Returns the status to exit with.
///
/// Cancel safe: dropping the future stops the servers and removes what was made.
pub async fn run<R>(
    options: &DemoOptions,
    start_router: impl AsyncFnOnce(&Path) -> Result<R, Box<dyn Error + Send + Sync>>,
) -> Result<u8, DemoError> {
    // From the first moment on a signal means: clean up, then leave.
    let mut stop = Stop::listen()?;
    let demo = tokio::select! {
        demo = Demo::start(options, start_router) => demo?,
        signal = stop.asked() => return Ok(signal.status()),
    };
    match &options.exec {
        Some(command) => stop.run(command, &demo.url()).await,
        None => {
            demo.introduce(options.keep.is_some());
            stop.asked().await;
            say("stopping");
            Ok(0)
        }
    }
}

/// A running demo. The router goes first, then the servers.
struct Demo<R> {
    _router: R,
    servers: Vec<Cluster>,
    layout: Layout,
    port: u16,
    http: u16,
    config: PathBuf,
}

impl<R> Demo<R> {
    async fn start(
        options: &DemoOptions,
        start_router: impl AsyncFnOnce(&Path) -> Result<R, Box<dyn Error + Send + Sync>>,
    ) -> Result<Self, DemoError> {
        let began = Instant::now();
        let kept = options.keep.as_deref().map_or(Ok(None), kept_shards)?;
        let layout = Layout::of(agreed_shards(options, kept)?);
        let (port, http) = (router_port(options.port)?, free_port()?);

        say(&format!(
            "starting PostgreSQL servers: {}",
            layout.servers()
        ));
        let servers = layout.start_servers(options.keep.clone()).await?;
        let config = options
            .keep
            .as_deref()
            .unwrap_or(servers[0].socket_dir())
            .join("keyway.toml");
        layout.write_configuration(&servers, port, http, &config)?;
        schema::write(&config.with_file_name(MIGRATIONS))?;
        say("running the migrations and making the partitions");
        let router = start_router(&config).await.map_err(DemoError::Router)?;

        if kept.is_none() {
            load(&layout, port).await?;
            if let Some(directory) = &options.keep {
                keep_shards(directory, layout.shards())?;
            }
        }
        say(&format!(
            "ready after {:.1} s",
            began.elapsed().as_secs_f32()
        ));
        Ok(Self {
            _router: router,
            servers,
            layout,
            port,
            http,
            config,
        })
    }

    fn url(&self) -> String {
        layout::url(self.port)
    }

    /// Tells how to connect and what to try.
    fn introduce(&self, kept: bool) {
        let mut text = format!(
            "\nKeyway is ready: {} PostgreSQL servers, one database.\n\n    psql {}\n\n{}\n  http://127.0.0.1:{}/metrics\n  {}\n\nTry:\n",
            self.servers.len(),
            self.url(),
            self.layout,
            self.http,
            self.config.display(),
        );
        for (what, statement) in schema::TO_TRY {
            text.push_str(&format!("\n  -- {what}\n  {statement}\n"));
        }
        text.push_str(if kept {
            "\nCtrl-C stops it.\n"
        } else {
            "\nCtrl-C stops it and removes everything.\n"
        });
        // Nobody may be reading; the demo runs all the same.
        let _ = io::stdout().write_all(text.as_bytes());
    }
}

/// Rows go through the router, as an application's would.
async fn load(layout: &Layout, port: u16) -> Result<(), DemoError> {
    let client = connect(port).await?;
    say("loading rows through Keyway");
    let rows = sample::load(&client, &layout.horizontal()).await?;
    say(&format!("{rows} rows loaded"));
    Ok(())
}

async fn connect(port: u16) -> Result<Client, DemoError> {
    let (client, connection) = tokio_postgres::connect(&layout::url(port), NoTls)
        .await
        .map_err(DemoError::Connect)?;
    // It ends with the client; what goes wrong, the client's calls report.
    tokio::spawn(connection);
    Ok(client)
}

fn agreed_shards(options: &DemoOptions, kept: Option<u16>) -> Result<u16, DemoError> {
    match (options.shards, kept, &options.keep) {
        (Some(shards), _, _) if !(1..=SHARDS_MAX).contains(&shards) => {
            Err(DemoError::Shards { shards })
        }
        (Some(asked), Some(kept), Some(directory)) if asked != kept => Err(DemoError::KeptShards {
            directory: directory.clone(),
            kept,
            asked,
        }),
        (asked, kept, _) => Ok(asked.or(kept).unwrap_or(DEFAULT_SHARDS)),
    }
}

/// The number of shards of a demo that was loaded to the end in `directory`.
fn kept_shards(directory: &Path) -> Result<Option<u16>, DemoError> {
    match fs::read_to_string(directory.join("shards")) {
        Ok(shards) => match shards.trim().parse() {
            Ok(shards) if (1..=SHARDS_MAX).contains(&shards) => Ok(Some(shards)),
            _ => Err(DemoError::KeptHalf {
                directory: directory.to_path_buf(),
            }),
        },
        Err(_) if directory.join("0").exists() => Err(DemoError::KeptHalf {
            directory: directory.to_path_buf(),
        }),
        Err(_) => Ok(None),
    }
}

fn keep_shards(directory: &Path, shards: u16) -> Result<(), DemoError> {
    fs::write(directory.join("shards"), shards.to_string()).map_err(|source| DemoError::Io {
        doing: "note the number of shards",
        source,
    })
}

fn router_port(asked: Option<u16>) -> Result<u16, DemoError> {
    let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(drop);
    match asked {
        Some(port) if port != 0 => free(port)
            .map(|()| port)
            .map_err(|source| DemoError::Port { port, source }),
        None if free(DEFAULT_PORT).is_ok() => Ok(DEFAULT_PORT),
        _ => free_port(),
    }
}

fn free_port() -> Result<u16, DemoError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|source| DemoError::Port { port: 0, source })
}

/// A step of the demo, for whoever watches.
fn say(what: &str) {
    let _ = writeln!(io::stderr(), "demo: {what}");
}
