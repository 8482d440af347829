//! `keyway migrate`: writes migrations, looks through them, runs them, and shows which shard has which.

mod mending;
mod progress;

use crate::catalog::Catalog;
use crate::catalog::lease::{Job, Lease, holder};
use crate::cli::{ConfigFile, Failure, read_config};
use crate::config::{Config, TablePlacement, Variables, parse_time};
use crate::migrate::files::{self, Key, Migration};
use crate::migrate::plan::{Entry, State, Step, Wanted};
use crate::migrate::rollout::{Keyspace, Manner, News, Way, histories, roll_out, steps_of};
use crate::migrate::version::Version;
use crate::topology::Topology;
use clap::{Args, Subcommand, ValueEnum};
use progress::{Audience, Progress};
use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use time::OffsetDateTime;
use time::macros::format_description;

/// How long a router that starts waits for another runner.
pub(super) const AT_START: Duration = Duration::from_secs(3600);

/// Shards at once, when nothing else is said.
const PARALLEL: usize = 4;

/// `keyway migrate`.
#[derive(Debug, Clone, Args)]
pub(super) struct MigrateArguments {
    /// Where the migrations are: a directory for each keyspace; default: the configuration's
    #[arg(long, value_name = "DIR", global = true)]
    directory: Option<PathBuf>,
    /// Only this keyspace
    #[arg(long, value_name = "KEYSPACE", global = true)]
    keyspace: Option<String>,
    /// Where the configuration is.
    #[command(flatten)]
    config: ConfigFile,
    #[command(subcommand)]
    command: MigrateCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum MigrateCommand {
    /// Write an empty migration and its way back
    New {
        /// What it does: add_users
        name: String,
    },
    /// Read all files and report everything that is wrong with them (asks no server)
    Validate,
    /// What `up` would run on which shard
    Plan(Selection),
    /// Run what is missing on every shard
    Up(UpArguments),
    /// Undo the last versions on every shard that has them
    Down(DownArguments),
    /// Record what the files say now as what ran, and forget what has no file
    Repair {
        /// Print what would be recorded, and record nothing
        #[arg(long)]
        dry_run: bool,
        /// Wait so long for another runner to end
        #[arg(long, value_name = "TIME", value_parser = wait, default_value = "0s")]
        wait: Duration,
    },
    /// Record that shards without a history have this version and all before it
    Baseline {
        /// The version
        #[arg(value_parser = version)]
        version: Version,
        /// Wait so long for another runner to end
        #[arg(long, value_name = "TIME", value_parser = wait, default_value = "0s")]
        wait: Duration,
    },
    /// Which shard has which version; status 1 when they differ or some are missing
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Which migrations.
#[derive(Debug, Clone, Args)]
struct Selection {
    /// Nothing behind this version
    #[arg(long, value_name = "VERSION", value_parser = version)]
    to: Option<Version>,
    /// Versions before one that has run may run late
    #[arg(long)]
    out_of_order: bool,
}

/// `keyway migrate up`.
#[derive(Debug, Clone, Args)]
struct UpArguments {
    #[command(flatten)]
    selection: Selection,
    /// Print what would run, and run nothing
    #[arg(long)]
    dry_run: bool,
    /// Shards at once
    #[arg(long, value_name = "N", default_value_t = PARALLEL)]
    parallel: usize,
    /// This shard first, alone
    #[arg(long, value_name = "SHARD")]
    canary: Option<String>,
    /// When a shard fails
    #[arg(long, value_enum, default_value_t = OnError::Stop)]
    on_error: OnError,
    /// Wait so long for another runner to end
    #[arg(long, value_name = "TIME", value_parser = wait, default_value = "0s")]
    wait: Duration,
}

/// `keyway migrate down`.
#[derive(Debug, Clone, Args)]
struct DownArguments {
    /// So many versions, the last first
    #[arg(long, value_name = "N", default_value_t = 1)]
    steps: usize,
    /// Print what would run, and run nothing
    #[arg(long)]
    dry_run: bool,
    /// Shards at once
    #[arg(long, value_name = "N", default_value_t = PARALLEL)]
    parallel: usize,
    /// This shard first, alone
    #[arg(long, value_name = "SHARD")]
    canary: Option<String>,
    /// Wait so long for another runner to end
    #[arg(long, value_name = "TIME", value_parser = wait, default_value = "0s")]
    wait: Duration,
}

/// What a failure on one shard means for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OnError {
    /// No other migration is begun.
    Stop,
    /// The other shards go on.
    Continue,
}

fn version(text: &str) -> Result<Version, String> {
    Version::parse(text)
        .ok_or_else(|| "a version is a number such as 20260101120000 or 1.2".to_owned())
}

pub(super) fn wait(text: &str) -> Result<Duration, String> {
    parse_time(text).ok_or_else(|| "a time is such as 30s or 10m".to_owned())
}

pub(super) fn migrate(arguments: &MigrateArguments, variables: &Variables) -> Result<(), Failure> {
    let only = arguments.keyspace.as_deref();
    match &arguments.command {
        MigrateCommand::New { name } => {
            let root = root(arguments, variables)?;
            return new(&root, name, only, OffsetDateTime::now_utc());
        }
        MigrateCommand::Validate => return validate(&root(arguments, variables)?),
        _ => {}
    }
    let config = read_config(&arguments.config, variables)?;
    let root = arguments.directory.as_ref().unwrap_or(&config.migrations);
    let files = read_files(root, &config, only)?;
    crate::cli::start_logging(&config.log)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (catalog, topology) = Catalog::open(&config).await?;
        let keyspaces = concerned(keyspaces_of(&config, &topology, &files)?, &catalog);
        match &arguments.command {
            MigrateCommand::New { .. } | MigrateCommand::Validate => Ok(()),
            MigrateCommand::Up(UpArguments {
                selection,
                dry_run: true,
                ..
            })
            | MigrateCommand::Plan(selection) => {
                show_plan(&catalog, &keyspaces, &Way::Up(wanted(selection))).await
            }
            MigrateCommand::Up(up) => {
                let manner = Manner {
                    way: Way::Up(wanted(&up.selection)),
                    parallel: up.parallel,
                    canary: up.canary.clone(),
                    goes_on: up.on_error == OnError::Continue,
                };
                run(&catalog, &keyspaces, &manner, (up.wait, Audience::Terminal)).await
            }
            MigrateCommand::Down(down) => {
                let keyspaces = [the_only(keyspaces)?];
                let way = Way::Down(down.steps);
                if down.dry_run {
                    return show_plan(&catalog, &keyspaces, &way).await;
                }
                let manner = Manner {
                    way,
                    parallel: down.parallel,
                    canary: down.canary.clone(),
                    goes_on: false,
                };
                run(
                    &catalog,
                    &keyspaces,
                    &manner,
                    (down.wait, Audience::Terminal),
                )
                .await
            }
            MigrateCommand::Repair { dry_run, wait } => {
                mending::repair(&catalog, &keyspaces, *dry_run, *wait).await
            }
            MigrateCommand::Baseline { version, wait } => {
                mending::baseline(&catalog, &the_only(keyspaces)?, version, *wait).await
            }
            MigrateCommand::Status { json } => status(&catalog, &keyspaces, *json).await,
        }
    })
}

/// Where the migrations are, for commands that need no configuration: they work without one.
fn root(arguments: &MigrateArguments, variables: &Variables) -> Result<PathBuf, Failure> {
    Ok(match &arguments.directory {
        Some(directory) => directory.clone(),
        None if arguments.config.is_there(variables) => {
            read_config(&arguments.config, variables)?.migrations
        }
        None => PathBuf::from("migrations"),
    })
}

/// Runs what is missing before the router starts.
///
/// # Errors
/// When something is missing still.
pub(super) async fn at_start(config: &Config) -> Result<(), Failure> {
    let files = read_files(&config.migrations, config, None)?;
    let (catalog, topology) = Catalog::open(config).await?;
    let keyspaces = concerned(keyspaces_of(config, &topology, &files)?, &catalog);
    let manner = Manner {
        way: Way::Up(Wanted::default()),
        parallel: PARALLEL,
        canary: None,
        goes_on: false,
    };
    match run(&catalog, &keyspaces, &manner, (AT_START, Audience::Log)).await {
        // What is wrong has been said.
        Err(Failure::Status(_)) => Err(Failure::Other(
            "not started: migrations are missing; `keyway migrate status` shows which".to_owned(),
        )),
        ended => ended,
    }
}

/// One that never had a migration is no matter of theirs; one whose files are gone is.
fn concerned<'f>(mut keyspaces: Vec<Keyspace<'f>>, catalog: &Catalog) -> Vec<Keyspace<'f>> {
    let required = catalog.required();
    keyspaces.retain(|own| {
        !own.migrations.is_empty() || required.iter().any(|one| one.keyspace == own.name)
    });
    keyspaces
}

/// What must be said of one keyspace at a time.
fn the_only(mut keyspaces: Vec<Keyspace<'_>>) -> Result<Keyspace<'_>, Failure> {
    match (keyspaces.pop(), keyspaces.as_slice()) {
        (Some(only), []) => Ok(only),
        (last, _) => {
            let names = keyspaces.iter().chain(&last).map(|own| own.name);
            let names: Vec<&str> = names.collect();
            Err(Failure::Other(format!(
                "name the keyspace with --keyspace; those with migrations: {}",
                if names.is_empty() {
                    "none".to_owned()
                } else {
                    names.join(", ")
                }
            )))
        }
    }
}

/// The migrations of the configuration's keyspaces. A keyspace without a directory has none.
fn read_files(
    root: &Path,
    config: &Config,
    only: Option<&str>,
) -> Result<Vec<(String, Vec<Migration>)>, Failure> {
    if let Some(only) = only.filter(|only| !config.keyspaces.contains_key(*only)) {
        return Err(Failure::Other(format!(
            "the configuration has no keyspace {only:?}"
        )));
    }
    let mut all = Vec::new();
    let mut wrong = Vec::new();
    let directories = keyspaces(root)?;
    let without = config.keyspaces.keys().filter(|name| {
        only.is_none_or(|only| only == *name) && !directories.iter().any(|(own, _)| own == *name)
    });
    all.extend(without.map(|name| (name.clone(), Vec::new())));
    for (keyspace, directory) in directories {
        if !config.keyspaces.contains_key(&keyspace) {
            wrong.push(format!(
                "{}: the configuration has no keyspace {keyspace:?}",
                directory.display()
            ));
        } else if only.is_none_or(|only| only == keyspace) {
            match files::read(&directory) {
                Ok(migrations) => all.push((keyspace, migrations)),
                Err(problems) => {
                    wrong.extend(
                        problems
                            .iter()
                            .map(|problem| format!("{keyspace}/{problem}")),
                    );
                }
            }
        }
    }
    if wrong.is_empty() {
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(all)
    } else {
        Err(Failure::Other(wrong.join("\n")))
    }
}

fn keyspaces_of<'f>(
    config: &Config,
    topology: &Topology,
    files: &'f [(String, Vec<Migration>)],
) -> Result<Vec<Keyspace<'f>>, Failure> {
    let id = |name: &String| {
        let shard = topology.shards.iter().find(|shard| shard.name == *name);
        let shard = shard.ok_or_else(|| {
            Failure::Other(format!(
                "shard {name} has not joined the catalog: it must answer once before it can be left out"
            ))
        })?;
        Ok((name.clone(), shard.stable_id))
    };
    let mut keyspaces = Vec::new();
    for (name, migrations) in files {
        let Some(own) = config.keyspaces.get(name) else {
            continue;
        };
        let is_sharded = own.hash.is_some();
        let tables = own.tables.iter().filter(|(_, table)| {
            is_sharded && matches!(table.placement, TablePlacement::Key { .. })
        });
        keyspaces.push(Keyspace {
            name,
            shards: own.shards.iter().map(id).collect::<Result<_, Failure>>()?,
            sharded: tables.map(|(name, _)| name.clone()).collect(),
            migrations,
        });
    }
    Ok(keyspaces)
}

async fn run(
    catalog: &Catalog,
    keyspaces: &[Keyspace<'_>],
    manner: &Manner,
    (wait, audience): (Duration, Audience),
) -> Result<(), Failure> {
    let has = |canary: &str, keyspace: &Keyspace<'_>| {
        keyspace.shards.iter().any(|(shard, _)| shard == canary)
    };
    if let Some(canary) = manner
        .canary
        .as_deref()
        .filter(|canary| !keyspaces.iter().any(|own| has(canary, own)))
    {
        return Err(Failure::Other(format!(
            "no keyspace has a shard {canary:?} to begin with"
        )));
    }
    let lease = take_lease(catalog, wait).await?;
    let mut failed = 0;
    let mut refused = None;
    for keyspace in keyspaces {
        let name = keyspace.name;
        let progress = Progress::new(name, audience);
        let tell = |news: News<'_>| progress.tell(&news);
        let canary = manner
            .canary
            .as_ref()
            .filter(|canary| keyspace.shards.iter().any(|(shard, _)| shard == *canary));
        let manner = Manner {
            canary: canary.cloned(),
            ..manner.clone()
        };
        match roll_out(catalog, keyspace, &manner, &lease, &tell).await {
            Ok(shards) => failed += shards.len(),
            Err(error) => {
                refused = Some(format!("{name}: {error}"));
            }
        }
        if (failed > 0 || refused.is_some()) && !manner.goes_on {
            break;
        }
    }
    lease.release().await;
    match refused {
        Some(refused) => Err(Failure::Other(refused)),
        None if failed > 0 => Err(Failure::Status(1)),
        None => Ok(()),
    }
}

/// The right to run migrations.
async fn take_lease(catalog: &Catalog, wait: Duration) -> Result<Lease, Failure> {
    let connection = catalog.direct(&catalog.holder_name()).await?;
    let lease = Lease::take(connection, Job::Migrations, &holder(), wait).await;
    lease
        .map_err(|error| Failure::Other(format!("take the lease on migrations: {error}")))?
        .map_err(|held| Failure::Other(held.to_string()))
}

pub(super) fn println(line: &str) {
    // Nobody reads it when standard output is closed; what was run is in the history.
    let _ = writeln!(io::stdout().lock(), "{line}");
}

fn wanted(selection: &Selection) -> Wanted {
    Wanted {
        to: selection.to.clone(),
        out_of_order: selection.out_of_order,
    }
}

async fn show_plan(
    catalog: &Catalog,
    keyspaces: &[Keyspace<'_>],
    way: &Way,
) -> Result<(), Failure> {
    let (mut left, mut wrong) = (0, false);
    for keyspace in keyspaces {
        let mut read = Vec::new();
        for (shard, entries) in histories(catalog, keyspace).await {
            match entries {
                Ok(entries) => read.push((shard, entries)),
                Err(why) => {
                    wrong = true;
                    crate::cli::complain(&format!("{} {shard}: {why}", keyspace.name));
                }
            }
        }
        let (steps, obstacles) = steps_of(keyspace.migrations, &read, way);
        for ((shard, _), steps) in read.iter().zip(&steps) {
            left += steps.len();
            steps.iter().for_each(|step| {
                println(&format!("{} {shard}: {}", keyspace.name, in_words(step)))
            });
        }
        for (shard, obstacle) in obstacles {
            wrong = true;
            crate::cli::complain(&format!("{} {shard}: {obstacle}", keyspace.name));
        }
    }
    if wrong {
        return Err(Failure::Status(1));
    }
    if left == 0 {
        println(match way {
            Way::Up(_) => "nothing to run: all shards have all migrations",
            Way::Down(_) => "nothing to undo: no shard has a version",
        });
    }
    Ok(())
}

fn in_words(step: &Step<'_>) -> String {
    let migration = step.migration;
    let statements = step.script.statements.len();
    let mut words = format!(
        "{}{} {} ({statements} statements",
        if step.back { "undo " } else { "" },
        migration.key,
        migration.name
    );
    if !step.script.transaction {
        words.push_str(", outside a transaction");
    }
    if step.from > 0 {
        words.push_str(&format!(", from number {}", step.from + 1));
    }
    if step.again {
        words.push_str(", changed since it ran");
    }
    words + ")"
}

/// A migration on a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    Done,
    Baseline,
    Missing,
    Half,
    Undoing,
    Changed,
    NotHere,
    Down,
}

impl Cell {
    fn of(migration: &Migration, shard: &str, history: Option<&[Entry]>) -> Self {
        let Some(history) = history else {
            return Self::Down;
        };
        let up = &migration.up;
        if up
            .shards
            .as_ref()
            .is_some_and(|shards| !shards.iter().any(|name| name == shard))
        {
            return Self::NotHere;
        }
        let Some(entry) = history.iter().find(|entry| entry.key == migration.key) else {
            return Self::Missing;
        };
        match entry.state {
            State::Baseline => Self::Baseline,
            State::Undoing { .. } => Self::Undoing,
            _ if entry.checksum != up.checksum => Self::Changed,
            State::Done => Self::Done,
            State::Running { .. } => Self::Half,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Baseline => "baseline",
            Self::Missing => "missing",
            Self::Half => "half",
            Self::Undoing => "undoing",
            Self::Changed => "changed",
            Self::NotHere => "-",
            Self::Down => "down",
        }
    }

    fn is_good(self) -> bool {
        matches!(self, Self::Done | Self::Baseline | Self::NotHere)
    }
}

async fn status(catalog: &Catalog, keyspaces: &[Keyspace<'_>], json: bool) -> Result<(), Failure> {
    let mut good = true;
    let mut listed = Vec::new();
    for keyspace in keyspaces {
        let histories = histories(catalog, keyspace).await;
        for (shard, history) in &histories {
            if let Err(why) = history {
                good = false;
                crate::cli::complain(&format!("{} {shard}: {why}", keyspace.name));
            }
        }
        let mut table = vec![vec![keyspace.name.to_owned(), String::new()]];
        table[0].extend(histories.iter().map(|(shard, _)| shard.clone()));
        for migration in keyspace.migrations {
            let cells: Vec<Cell> = histories
                .iter()
                .map(|(shard, history)| Cell::of(migration, shard, history.as_deref().ok()))
                .collect();
            good &= cells.iter().all(|cell| cell.is_good());
            let mut row = vec![migration.key.to_string(), migration.name.clone()];
            row.extend(cells.iter().map(|cell| cell.word().to_owned()));
            table.push(row);
            let shards: serde_json::Map<String, serde_json::Value> = histories
                .iter()
                .zip(&cells)
                .map(|((shard, _), cell)| (shard.clone(), cell.word().into()))
                .collect();
            listed.push(serde_json::json!({
                "keyspace": keyspace.name,
                "version": migration.key.to_string(),
                "name": migration.name,
                "shards": shards,
            }));
        }
        for (key, name) in gone(keyspace, &histories) {
            good = false;
            let has = |history: &Result<Vec<Entry>, String>| {
                history
                    .as_ref()
                    .is_ok_and(|own| own.iter().any(|entry| entry.key == key))
            };
            let mut row = vec![key.to_string(), format!("{name} (no file)")];
            row.extend(
                histories
                    .iter()
                    .map(|(_, own)| if has(own) { "done" } else { "-" }.to_owned()),
            );
            table.push(row);
        }
        if !json {
            aligned(&table).iter().for_each(|line| println(line));
        }
    }
    if json {
        println(&serde_json::Value::from(listed).to_string());
    }
    if good {
        Ok(())
    } else {
        Err(Failure::Status(1))
    }
}

/// What has run somewhere and has no file.
fn gone(
    keyspace: &Keyspace<'_>,
    histories: &[(String, Result<Vec<Entry>, String>)],
) -> BTreeSet<(Key, String)> {
    let entries = histories
        .iter()
        .filter_map(|(_, history)| history.as_ref().ok())
        .flatten();
    entries
        .filter(|entry| entry.state != State::Baseline)
        .filter(|entry| !keyspace.migrations.iter().any(|own| own.key == entry.key))
        .map(|entry| (entry.key.clone(), entry.name.clone()))
        .collect()
}

/// Columns of equal width.
pub(super) fn aligned(table: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| {
        let cells = table.iter().filter_map(|row| row.get(column));
        cells
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let line = |row: &Vec<String>| {
        let cells = row
            .iter()
            .enumerate()
            .map(|(column, cell)| format!("{cell:<0$}", width(column)));
        let cells: Vec<String> = cells.collect();
        cells.join("  ").trim_end().to_owned()
    };
    table.iter().map(line).collect()
}

/// The keyspaces that have a directory, in order.
fn keyspaces(root: &Path) -> Result<Vec<(String, PathBuf)>, Failure> {
    let failed = |error: io::Error| {
        Failure::Other(format!(
            "{}: {error}; name the directory of the keyspaces' migrations with --directory",
            root.display()
        ))
    };
    let mut keyspaces = Vec::new();
    for entry in fs::read_dir(root).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        if let Some(name) = name.filter(|name| path.is_dir() && !name.starts_with('.')) {
            keyspaces.push((name, path));
        }
    }
    keyspaces.sort();
    Ok(keyspaces)
}

fn new(
    root: &Path,
    name: &str,
    keyspace: Option<&str>,
    now: OffsetDateTime,
) -> Result<(), Failure> {
    let slug = slug(name);
    if slug.is_empty() {
        return Err(Failure::Other(format!(
            "{name:?} has no letter or digit to name a file by"
        )));
    }
    let directory = match keyspace {
        Some(keyspace) if keyspace.contains(['/', '\\']) || keyspace.starts_with('.') => {
            return Err(Failure::Other(format!(
                "{keyspace:?} is not a keyspace's name"
            )));
        }
        Some(keyspace) => root.join(keyspace),
        None => match keyspaces(root)?.as_slice() {
            [(_, only)] => only.clone(),
            all => {
                let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
                return Err(Failure::Other(format!(
                    "name the keyspace with --keyspace; {} has {}",
                    root.display(),
                    if names.is_empty() {
                        "none yet".to_owned()
                    } else {
                        names.join(", ")
                    }
                )));
            }
        },
    };
    fs::create_dir_all(&directory)?;
    let format = format_description!("[year][month][day][hour][minute][second]");
    let mut at = now;
    loop {
        let stamp = at
            .format(format)
            .map_err(|error| Failure::Other(error.to_string()))?;
        if is_taken(&directory, &stamp)? {
            at += time::Duration::SECOND;
            continue;
        }
        let up = directory.join(format!("V{stamp}__{slug}.sql"));
        let down = directory.join(format!("V{stamp}__{slug}.down.sql"));
        write_new(&up, &format!("-- {name}\n\n"))?;
        write_new(&down, &format!("-- The way back of: {name}\n\n"))?;
        let mut out = io::stdout().lock();
        writeln!(out, "{}\n{}", up.display(), down.display())?;
        return Ok(());
    }
}

/// Does a file have that version already?
fn is_taken(directory: &Path, stamp: &str) -> Result<bool, Failure> {
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let rest = name.trim_start_matches(['V', 'v', 'U', 'u']);
        if rest.starts_with(stamp) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::Other(format!("{}: {error}", path.display()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

/// Small letters and digits, with one underscore for anything between them.
fn slug(name: &str) -> String {
    let words = name
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty());
    let words: Vec<String> = words.map(str::to_lowercase).collect();
    words.join("_")
}

fn validate(root: &Path) -> Result<(), Failure> {
    let keyspaces = keyspaces(root)?;
    let mut out = io::stdout().lock();
    let mut wrong = 0;
    for stray in strays(root)? {
        wrong += 1;
        writeln!(
            out,
            "{stray}: belongs to no keyspace: move it into a directory of its keyspace's name"
        )?;
    }
    for (keyspace, directory) in &keyspaces {
        match files::read(directory) {
            Ok(migrations) => writeln!(out, "{keyspace}: {}", summary(&migrations))?,
            Err(problems) => {
                wrong += problems.len();
                for problem in &problems {
                    writeln!(out, "{keyspace}/{problem}")?;
                }
            }
        }
    }
    if keyspaces.is_empty() && wrong == 0 {
        writeln!(out, "{} has no keyspace's directory", root.display())?;
    }
    if wrong == 0 {
        Ok(())
    } else {
        Err(Failure::Status(1))
    }
}

/// SQL files beside the keyspaces' directories.
fn strays(root: &Path) -> Result<Vec<String>, Failure> {
    let mut strays = Vec::new();
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        if path.is_file()
            && path
                .extension()
                .is_some_and(|end| end.eq_ignore_ascii_case("sql"))
        {
            strays.push(path.display().to_string());
        }
    }
    strays.sort();
    Ok(strays)
}

fn summary(migrations: &[Migration]) -> String {
    let statements: usize = migrations.iter().map(|m| m.up.statements.len()).sum();
    let last = migrations.last().map_or_else(String::new, |last| {
        format!(", the last {} ({})", last.key, last.name)
    });
    format!(
        "{} migrations, {statements} statements{last}",
        migrations.len()
    )
}
