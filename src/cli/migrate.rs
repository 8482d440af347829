//! `keyway migrate`: writes migrations, looks through them, runs them, and shows which shard has which.

use crate::catalog::Catalog;
use crate::catalog::lease::{Job, Lease, holder};
use crate::cli::{ConfigFile, Failure, read_config};
use crate::config::{Config, TablePlacement, Variables, parse_time};
use crate::migrate::files::{self, Key, Migration};
use crate::migrate::plan::{Entry, State, Step, Wanted, steps};
use crate::migrate::rollout::{Keyspace, Manner, News, histories, roll_out};
use crate::migrate::version::Version;
use crate::topology::Topology;
use clap::{Args, Subcommand, ValueEnum};
use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use time::OffsetDateTime;
use time::macros::format_description;

/// `keyway migrate`.
#[derive(Debug, Clone, Args)]
pub(super) struct MigrateArguments {
    /// Where the migrations are: a directory for each keyspace
    #[arg(long, value_name = "DIR", default_value = "migrations", global = true)]
    directory: PathBuf,
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
    #[arg(long, value_name = "N", default_value_t = 4)]
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
            return new(&arguments.directory, name, only, OffsetDateTime::now_utc());
        }
        MigrateCommand::Validate => return validate(&arguments.directory),
        MigrateCommand::Plan(_) | MigrateCommand::Up(_) | MigrateCommand::Status { .. } => {}
    }
    let config = read_config(&arguments.config, variables)?;
    let files = read_files(&arguments.directory, &config, only)?;
    crate::cli::start_logging(&config.log)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (catalog, topology) = Catalog::open(&config).await?;
        let keyspaces = keyspaces_of(&config, &topology, &files)?;
        match &arguments.command {
            MigrateCommand::Up(up) if !up.dry_run => run(&catalog, &keyspaces, up).await,
            MigrateCommand::Up(UpArguments { selection, .. }) | MigrateCommand::Plan(selection) => {
                show_plan(&catalog, &keyspaces, selection).await
            }
            _ => {
                status(
                    &catalog,
                    &keyspaces,
                    matches!(arguments.command, MigrateCommand::Status { json: true }),
                )
                .await
            }
        }
    })
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
    for (keyspace, directory) in keyspaces(root)? {
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
    up: &UpArguments,
) -> Result<(), Failure> {
    let has = |canary: &str, keyspace: &Keyspace<'_>| {
        keyspace.shards.iter().any(|(shard, _)| shard == canary)
    };
    if let Some(canary) = up
        .canary
        .as_deref()
        .filter(|canary| !keyspaces.iter().any(|own| has(canary, own)))
    {
        return Err(Failure::Other(format!(
            "no keyspace has a shard {canary:?} to begin with"
        )));
    }
    let connection = catalog.direct(&catalog.holder_name()).await?;
    let lease = Lease::take(connection, Job::Migrations, &holder(), up.wait).await;
    let lease = lease
        .map_err(|error| Failure::Other(format!("take the lease on migrations: {error}")))?
        .map_err(|held| Failure::Other(held.to_string()))?;
    let manner = Manner {
        wanted: wanted(&up.selection),
        parallel: up.parallel,
        canary: up.canary.clone(),
        goes_on: up.on_error == OnError::Continue,
    };
    let mut failed = 0;
    let mut refused = None;
    for keyspace in keyspaces {
        let name = keyspace.name;
        let tell = |news: News<'_>| match news {
            News::Done {
                shard,
                migration,
                took,
            } => println(&format!(
                "{name} {shard}: {} {} ({} ms)",
                migration.key,
                migration.name,
                took.as_millis()
            )),
            News::Failed { shard, why } => crate::cli::complain(&format!("{name} {shard}: {why}")),
        };
        let canary = manner
            .canary
            .as_ref()
            .filter(|canary| keyspace.shards.iter().any(|(shard, _)| shard == *canary));
        let manner = Manner {
            canary: canary.cloned(),
            ..manner.clone()
        };
        match roll_out(catalog, keyspace, &manner, lease.token, &lease.lost, &tell).await {
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
    selection: &Selection,
) -> Result<(), Failure> {
    let wanted = wanted(selection);
    let (mut left, mut wrong) = (0, false);
    for keyspace in keyspaces {
        for (shard, entries) in histories(catalog, keyspace).await {
            let place = format!("{} {shard}", keyspace.name);
            let steps = match entries {
                Ok(entries) => steps(keyspace.migrations, &entries, &shard, &wanted),
                Err(why) => {
                    wrong = true;
                    crate::cli::complain(&format!("{place}: {why}"));
                    continue;
                }
            };
            match steps {
                Ok(steps) => {
                    left += steps.len();
                    steps
                        .iter()
                        .for_each(|step| println(&format!("{place}: {}", in_words(step))));
                }
                Err(obstacles) => {
                    wrong = true;
                    for obstacle in obstacles {
                        crate::cli::complain(&format!("{place}: {obstacle}"));
                    }
                }
            }
        }
    }
    if wrong {
        return Err(Failure::Status(1));
    }
    if left == 0 {
        println("nothing to run: all shards have all migrations");
    }
    Ok(())
}

fn in_words(step: &Step<'_>) -> String {
    let migration = step.migration;
    let statements = migration.up.statements.len();
    let mut words = format!(
        "{} {} ({statements} statements",
        migration.key, migration.name
    );
    if !migration.up.transaction {
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
        let baseline = history
            .iter()
            .filter(|entry| entry.state == State::Baseline);
        let baseline = baseline.map(|entry| &entry.key).max();
        match history.iter().find(|entry| entry.key == migration.key) {
            Some(entry) if entry.state == State::Baseline => Self::Baseline,
            Some(entry) if entry.checksum != up.checksum => Self::Changed,
            Some(entry) if entry.state == State::Done => Self::Done,
            Some(_) => Self::Half,
            None => match baseline {
                Some(baseline)
                    if matches!(migration.key, Key::Version(_)) && migration.key <= *baseline =>
                {
                    Self::Baseline
                }
                _ => Self::Missing,
            },
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Baseline => "baseline",
            Self::Missing => "missing",
            Self::Half => "half",
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
