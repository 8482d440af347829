//! The command line: what was typed → a command → an exit status.
//!
//! 0 fine, 1 failed, 2 usage, 64 a configuration that cannot work.

mod check;
mod demo;
mod flush;
mod keeper;
mod logging;
mod migrate;
mod partition;
mod partition_convert;
mod refresh;
mod route;
pub mod router;
mod serve;

#[cfg(test)]
mod tests;

use crate::catalog::CatalogError;
use crate::config::{Config, Problems, Variables, load};
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where a configuration is looked for when `-c` is not given.
const PLACES: [&str; 3] = [
    "keyway.toml",
    "config/keyway.toml",
    "/etc/keyway/keyway.toml",
];

/// What may be typed.
#[derive(Debug, Parser)]
#[command(
    name = "keyway",
    version,
    about = "A sharding router for PostgreSQL: many servers, one database"
)]
struct Typed {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the router
    Serve(ServeArguments),
    /// Load the configuration, reach every server, compare schemas; report every problem at once
    Check(CheckArguments),
    /// Where would this SQL go, and why (asks no server)
    Route(RouteArguments),
    /// The keyspaces' migrations: write one, look through all, run them on every shard
    Migrate(migrate::MigrateArguments),
    /// The tables' partitions: what is missing, make it, how far they reach
    Partition(partition::PartitionArguments),
    /// Make every running Keyway drop its kept answers: all, or those made of a table
    Flush(FlushArguments),
    /// Throwaway PostgreSQL shards, a router in front of them and sample data
    Demo(DemoArguments),
}

/// Where the configuration is.
#[derive(Debug, Clone, Args)]
pub struct ConfigFile {
    /// The configuration; default: $KEYWAY_CONFIG, else keyway.toml here, in config/ or in /etc/keyway/
    #[arg(short = 'c', long = "config", value_name = "FILE", global = true)]
    file: Option<PathBuf>,
}

impl ConfigFile {
    /// The file that is named, or the first found.
    fn find(&self, variables: &Variables) -> Option<PathBuf> {
        let from_variable = || variables.get("KEYWAY_CONFIG").map(PathBuf::from);
        self.file.clone().or_else(from_variable).or_else(|| {
            PLACES
                .iter()
                .map(PathBuf::from)
                .find(|place| place.is_file())
        })
    }

    /// Is a file named, or one found?
    fn is_there(&self, variables: &Variables) -> bool {
        self.find(variables).is_some()
    }
}

/// `keyway serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArguments {
    /// Run the migrations that are missing first, as `keyway migrate up` does
    #[arg(long)]
    pub migrate: bool,
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigFile,
}

/// `keyway check`.
#[derive(Debug, Clone, Args)]
pub struct CheckArguments {
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigFile,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `keyway route`.
#[derive(Debug, Clone, Args)]
pub struct RouteArguments {
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigFile,
    /// The database a client would name; needed when there are several
    #[arg(short = 'd', long)]
    pub database: Option<String>,
    /// A parameter's value as text, once for each of $1, $2, …
    #[arg(short = 'p', long = "parameter", value_name = "VALUE")]
    pub parameters: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// The statement
    pub sql: String,
}

/// `keyway flush`.
#[derive(Debug, Clone, Args)]
pub struct FlushArguments {
    /// Where the configuration is.
    #[command(flatten)]
    pub config: ConfigFile,
    /// Those made of this table only
    pub table: Option<String>,
}

/// `keyway demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArguments {
    /// Horizontal shards
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=32))]
    pub shards: Option<u16>,
    /// The port for clients; default 6432, or a free one when that is in use
    #[arg(long)]
    pub port: Option<u16>,
    /// Keep the servers' data here, and use what is there already
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// Run this command with KEYWAY_URL set, then leave with its exit status
    #[arg(long, value_name = "COMMAND")]
    pub exec: Option<String>,
}

/// Why a command did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration cannot work.
    #[error("{0}")]
    Config(#[from] Problems),
    /// The catalog says no.
    #[error("{}", with_sources(.0))]
    Catalog(#[from] CatalogError),
    /// Anything else, in a sentence.
    #[error("{0}")]
    Other(String),
    /// Writing to the terminal or a socket.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// All has been said; leave with this status.
    #[error("exit status {0}")]
    Status(u8),
}

/// An error and what caused it as one sentence.
pub(crate) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

impl Failure {
    /// The exit status.
    #[must_use]
    pub fn status(&self) -> u8 {
        match self {
            Self::Config(_) => 64,
            Self::Catalog(error) if error.is_configuration() => 64,
            Self::Status(status) => *status,
            Self::Catalog(_) | Self::Other(_) | Self::Io(_) => 1,
        }
    }
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let variables: Variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    run(std::env::args_os(), &variables)
}

/// The program, with its arguments and environment.
pub fn run(arguments: impl IntoIterator<Item = OsString>, variables: &Variables) -> ExitCode {
    let typed = match Typed::try_parse_from(arguments) {
        Ok(typed) => typed,
        Err(error) => {
            // Help goes to standard output with status 0, a mistake to standard error with status 2. If neither can be
            // written to, there is nobody to tell.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let result = match &typed.command {
        Command::Serve(arguments) => serve::serve(arguments, variables),
        Command::Check(arguments) => check::check(arguments, variables),
        Command::Route(arguments) => route::route(arguments, variables),
        Command::Migrate(arguments) => migrate::migrate(arguments, variables),
        Command::Partition(arguments) => partition::partition(arguments, variables),
        Command::Flush(arguments) => flush::flush(arguments, variables),
        Command::Demo(arguments) => demo::demo(arguments, variables),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !matches!(failure, Failure::Status(_)) {
                complain(&failure.to_string());
            }
            ExitCode::from(failure.status())
        }
    }
}

/// Each line of a problem, marked, on standard error.
fn complain(text: &str) {
    let mut out = io::stderr().lock();
    for line in text.lines() {
        // Nobody to tell when standard error is closed.
        let _ = writeln!(out, "keyway: {line}");
    }
}

/// Reads the configuration that is named, or the first found.
///
/// # Errors
/// All its problems.
pub fn read_config(named: &ConfigFile, variables: &Variables) -> Result<Config, Problems> {
    let Some(path) = named.find(variables) else {
        return Err(Problems::one(
            "",
            format!(
                "no configuration: give -c FILE, or have one of {}",
                PLACES.join(", ")
            ),
        ));
    };
    load(Some(Path::new(&path)), variables)
}

pub use logging::start as start_logging;
