//! `keyway partition`: what is missing of the tables' partitions, makes it, and shows how far they reach.

use crate::catalog::Catalog;
use crate::catalog::lease::{Job, Lease, holder};
use crate::cli::migrate::{OnError, aligned, println, wait};
use crate::cli::partition_convert::{ConvertArguments, convert};
use crate::cli::{ConfigFile, Failure, complain, read_config};
use crate::config::partition_files::declarations;
use crate::config::partitions::{Declared, Partitioned, date};
use crate::config::values::TableName;
use crate::config::{Config, Variables};
use crate::partition::bounds::Bound;
use crate::partition::look::{Look, look, open};
use crate::partition::rollout::{Keyspace, Manner, News, Right, keep};
use crate::partition::size::{Rows, Size, size};
use crate::partition::steps::{Block, Step};
use clap::{Args, Subcommand};
use futures_util::future::join_all;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use time::{Date, Month, OffsetDateTime, Time};

/// `keyway partition`.
#[derive(Debug, Clone, Args)]
pub(super) struct PartitionArguments {
    /// Where the keyspaces' directories with their partitions.toml are; default: the configuration's
    #[arg(long, value_name = "DIR", global = true)]
    directory: Option<PathBuf>,
    /// Only this keyspace
    #[arg(long, value_name = "KEYSPACE", global = true)]
    keyspace: Option<String>,
    /// Where the configuration is.
    #[command(flatten)]
    config: ConfigFile,
    #[command(subcommand)]
    command: PartitionCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum PartitionCommand {
    /// The SQL that `apply` would run on each shard
    Plan(PlanArguments),
    /// Make what is missing, and detach, archive or drop what is too old
    Apply(ApplyArguments),
    /// How far each table's partitions reach on each shard; status 1 when something is missing
    Status(StatusArguments),
    /// Make an ordinary table with rows a partitioned one, while it is used
    Convert(ConvertArguments),
}

/// `keyway partition plan`.
#[derive(Debug, Clone, Args)]
struct PlanArguments {
    /// What it would be on this day (UTC) instead of now
    #[arg(long, value_name = "DATE", value_parser = day)]
    at: Option<OffsetDateTime>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// `keyway partition apply`.
#[derive(Debug, Clone, Args)]
struct ApplyArguments {
    /// When a shard fails
    #[arg(long, value_enum, default_value_t = OnError::Continue)]
    on_error: OnError,
    /// Wait so long for another runner to end
    #[arg(long, value_name = "TIME", value_parser = wait, default_value = "0s")]
    wait: Duration,
    /// How long detaching a partition waits for transactions that began before; then the next run ends it
    #[arg(long, value_name = "TIME", value_parser = wait, default_value = "1m")]
    detach_timeout: Duration,
}

/// `keyway partition status`.
#[derive(Debug, Clone, Args)]
struct StatusArguments {
    /// Count the rows, which reads all of them, instead of the estimate of the last ANALYZE
    #[arg(long)]
    exact: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn day(text: &str) -> Result<OffsetDateTime, String> {
    let wrong = || "a day is such as 2026-01-31".to_owned();
    let (year, month, day) = date(text).ok_or_else(wrong)?;
    let month = Month::try_from(month).map_err(|_| wrong())?;
    let date = Date::from_calendar_date(year, month, day).map_err(|_| wrong())?;
    Ok(date.with_time(Time::MIDNIGHT).assume_utc())
}

pub(super) fn partition(
    arguments: &PartitionArguments,
    variables: &Variables,
) -> Result<(), Failure> {
    let config = read_config(&arguments.config, variables)?;
    let declared = declared(arguments, &config)?;
    crate::cli::start_logging(&config.log)?;
    let keyspaces: Vec<Keyspace<'_>> = declared
        .iter()
        .filter_map(|(name, declared)| {
            Some(Keyspace {
                name,
                shards: &config.keyspaces.get(name)?.shards,
                declared,
            })
        })
        .collect();
    if keyspaces.is_empty() {
        println(
            "no table is declared to have partitions; say so in migrations/<keyspace>/partitions.toml",
        );
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (catalog, _) = Catalog::open(&config).await?;
        match &arguments.command {
            PartitionCommand::Plan(plan) => show_plan(&catalog, &keyspaces, plan).await,
            PartitionCommand::Apply(apply) => run(&catalog, &keyspaces, apply).await,
            PartitionCommand::Status(how) => status(&catalog, &keyspaces, how).await,
            PartitionCommand::Convert(how) => convert(&catalog, &keyspaces, how).await,
        }
    })
}

/// The declarations of the keyspaces that have any.
fn declared(
    arguments: &PartitionArguments,
    config: &Config,
) -> Result<BTreeMap<String, Declared>, Failure> {
    if let Some(directory) = arguments.directory.as_deref().filter(|path| !path.is_dir()) {
        return Err(Failure::Other(format!(
            "{} is not a directory",
            directory.display()
        )));
    }
    let only = arguments.keyspace.as_deref();
    if let Some(only) = only.filter(|only| !config.keyspaces.contains_key(*only)) {
        return Err(Failure::Other(format!(
            "the configuration has no keyspace {only:?}"
        )));
    }
    let directory = arguments.directory.as_ref();
    let mut declared = declarations(config, directory.unwrap_or(&config.migrations))?;
    declared.retain(|name, declared| !declared.is_empty() && only.is_none_or(|only| only == name));
    Ok(declared)
}

/// What is asked about a table's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measure {
    Nothing,
    Estimate,
    Count,
}

/// A table of a keyspace on a shard.
struct Seen<'k> {
    keyspace: &'k str,
    shard: &'k str,
    table: &'k TableName,
    declared: &'k Partitioned,
    found: Result<(Look, Option<Size>), String>,
}

impl Seen<'_> {
    fn place(&self) -> String {
        format!("{} {}: {}", self.keyspace, self.shard, self.table)
    }
}

/// Looks at all tables of all shards, all shards at once.
async fn see<'k>(
    catalog: &Catalog,
    keyspaces: &'k [Keyspace<'k>],
    now: OffsetDateTime,
    measure: Measure,
) -> Vec<Seen<'k>> {
    let mut looks = Vec::new();
    for keyspace in keyspaces {
        for shard in keyspace.shards {
            looks.push(see_shard(catalog, keyspace, shard, now, measure));
        }
    }
    let all: Vec<Vec<Seen<'_>>> = join_all(looks).await;
    all.into_iter().flatten().collect()
}

async fn see_shard<'k>(
    catalog: &Catalog,
    keyspace: &'k Keyspace<'k>,
    shard: &'k str,
    now: OffsetDateTime,
    measure: Measure,
) -> Vec<Seen<'k>> {
    let connection = open(catalog, shard).await;
    let mut seen = Vec::new();
    for (table, declared) in keyspace.declared {
        let found = async {
            let client = &connection.as_ref().map_err(Clone::clone)?.client;
            let found = look(client, table, declared, now).await?;
            if measure == Measure::Nothing {
                return Ok((found, None));
            }
            let size = size(client, &found.parent, measure == Measure::Count).await;
            let size = size.map_err(|error| crate::catalog::servers::chain(&error))?;
            Ok((found, Some(size)))
        };
        seen.push(Seen {
            keyspace: keyspace.name,
            shard,
            table,
            declared,
            found: found.await,
        });
    }
    seen
}

async fn show_plan(
    catalog: &Catalog,
    keyspaces: &[Keyspace<'_>],
    plan: &PlanArguments,
) -> Result<(), Failure> {
    let now = plan.at.unwrap_or_else(OffsetDateTime::now_utc);
    let seen = see(catalog, keyspaces, now, Measure::Nothing).await;
    let mut is_wrong = false;
    let mut is_empty = true;
    let mut listed = Vec::new();
    for one in &seen {
        let found = match &one.found {
            Ok((found, _)) => found,
            Err(why) => {
                is_wrong = true;
                complain(&format!("{}: {why}", one.place()));
                continue;
            }
        };
        for problem in &found.problems {
            is_wrong = true;
            complain(&format!("{}: {problem}", one.place()));
        }
        let blocks = found.blocks(one.declared);
        is_empty &= blocks.is_empty();
        if plan.json {
            listed.push(json!({
                "keyspace": one.keyspace,
                "shard": one.shard,
                "table": one.table.to_string(),
                "blocks": blocks.iter().map(block).collect::<Vec<_>>(),
                "problems": found.problems,
            }));
        } else if !blocks.is_empty() {
            println(&format!(
                "-- {} shard {}: {}",
                one.keyspace, one.shard, one.table
            ));
            blocks.iter().for_each(|block| println(&block.to_string()));
        }
    }
    if plan.json {
        println(&serde_json::Value::from(listed).to_string());
    } else if is_empty && !is_wrong {
        println("-- nothing to run: all tables have the partitions they are declared to have");
    }
    if is_wrong {
        Err(Failure::Status(1))
    } else {
        Ok(())
    }
}

fn block(block: &Block) -> serde_json::Value {
    match block {
        Block::Transaction(statements) => json!({ "transaction": true, "statements": statements }),
        Block::Alone(statement) => json!({ "transaction": false, "statements": [statement] }),
    }
}

async fn run(
    catalog: &Catalog,
    keyspaces: &[Keyspace<'_>],
    apply: &ApplyArguments,
) -> Result<(), Failure> {
    let connection = catalog.direct(&catalog.holder_name()).await?;
    let lease = Lease::take(connection, Job::Partitions, &holder(), apply.wait).await;
    let lease = lease
        .map_err(|error| Failure::Other(format!("take the lease on partitions: {error}")))?
        .map_err(|held| Failure::Other(held.to_string()))?;
    let manner = Manner {
        now: OffsetDateTime::now_utc(),
        goes_on: apply.on_error == OnError::Continue,
        patience: apply.detach_timeout,
    };
    let right = Right {
        token: lease.token,
        lost: &lease.lost,
    };
    let mut is_good = true;
    let mut done = 0;
    for keyspace in keyspaces {
        let name = keyspace.name;
        let tell = |news: News<'_>| match news {
            News::Done { shard, step, took } => println(&format!(
                "{name} {shard}: {} ({} ms)",
                step.words(),
                took.as_millis()
            )),
            News::Failed { shard, table, why } => {
                let table = table.map_or_else(String::new, |table| format!(" {table}:"));
                complain(&format!("{name} {shard}:{table} {why}"));
            }
        };
        for outcome in keep(catalog, *keyspace, &manner, right, &tell).await {
            is_good &= outcome.is_good();
            done += outcome.tables.iter().map(|table| table.done).sum::<usize>();
        }
        if !is_good && !manner.goes_on {
            break;
        }
    }
    lease.release().await;
    if !is_good {
        return Err(Failure::Status(1));
    }
    if done == 0 {
        println("nothing to do: all tables have the partitions they are declared to have");
    }
    Ok(())
}

/// What a table lacks.
struct Lacks {
    missing: usize,
    old: usize,
    detaching: usize,
}

impl Lacks {
    fn of(found: &Look) -> Self {
        let count = |is: fn(&Step) -> bool| found.steps.iter().filter(|step| is(step)).count();
        Self {
            missing: count(|step| matches!(step, Step::Create(_))) + found.problems.len(),
            old: count(|step| matches!(step, Step::Retire { .. } | Step::Finish(_))),
            detaching: found
                .parent
                .children
                .iter()
                .filter(|child| child.is_detaching)
                .count(),
        }
    }

    fn words(&self) -> String {
        let parts = [
            (self.missing, "missing"),
            (self.old, "too old"),
            (self.detaching, "half detached"),
        ];
        let parts = parts.iter().filter(|(count, _)| *count > 0);
        let parts: Vec<String> = parts
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if parts.is_empty() {
            "good".to_owned()
        } else {
            parts.join(", ")
        }
    }
}

async fn status(
    catalog: &Catalog,
    keyspaces: &[Keyspace<'_>],
    how: &StatusArguments,
) -> Result<(), Failure> {
    let now = OffsetDateTime::now_utc();
    let measure = if how.exact {
        Measure::Count
    } else {
        Measure::Estimate
    };
    let seen = see(catalog, keyspaces, now, measure).await;
    let mut is_good = true;
    let mut listed = Vec::new();
    let heads = [
        "keyspace",
        "shard",
        "table",
        "partitions",
        "rows",
        "bytes",
        "ahead",
        "state",
    ];
    let mut table = vec![heads.map(str::to_owned).to_vec()];
    for one in &seen {
        let name = one.table.to_string();
        let (found, size) = match &one.found {
            Ok((found, Some(size))) => (found, size),
            Ok((_, None)) => continue,
            Err(why) => {
                is_good = false;
                complain(&format!("{}: {why}", one.place()));
                let mut row = vec![one.keyspace.to_owned(), one.shard.to_owned(), name.clone()];
                row.extend(["-", "-", "-", "-", "unknown"].map(str::to_owned));
                table.push(row);
                listed.push(json!({
                    "keyspace": one.keyspace, "shard": one.shard, "table": name, "error": why,
                }));
                continue;
            }
        };
        let lacks = Lacks::of(found);
        is_good &= lacks.missing == 0 && lacks.detaching == 0;
        for problem in &found.problems {
            complain(&format!("{}: {problem}", one.place()));
        }
        if size.has_default_rows {
            complain(&format!(
                "{}: rows are in the default partition; a partition for their range cannot be made until they are moved",
                one.place()
            ));
        }
        let reach = found.reach.map(|reach| reach.to_string());
        table.push(vec![
            one.keyspace.to_owned(),
            one.shard.to_owned(),
            name.clone(),
            found.parent.children.len().to_string(),
            size.rows.to_string(),
            size.bytes.to_string(),
            reach.unwrap_or_else(|| "-".to_owned()),
            lacks.words(),
        ]);
        listed.push(in_json(one, found, size, &lacks));
    }
    if how.json {
        println(&serde_json::Value::from(listed).to_string());
    } else {
        aligned(&table).iter().for_each(|line| println(line));
    }
    if is_good {
        Ok(())
    } else {
        Err(Failure::Status(1))
    }
}

fn in_json(one: &Seen<'_>, found: &Look, size: &Size, lacks: &Lacks) -> serde_json::Value {
    let (rows, accuracy) = match size.rows {
        Rows::Counted(rows) => (rows, "counted"),
        Rows::Estimated(rows) => (rows, "estimated"),
        Rows::AtLeast(rows) => (rows, "at least"),
    };
    let children = &found.parent.children;
    let ahead = found.reach.and_then(|reach| reach.ahead());
    json!({
        "keyspace": one.keyspace,
        "shard": one.shard,
        "table": one.table.to_string(),
        "partitions": children.len(),
        "rows": rows,
        "rows_are": accuracy,
        "bytes": size.bytes,
        "days_ahead": found.reach.and_then(|reach| reach.days()).and_then(|days| i64::try_from(days).ok()),
        "values_ahead": found.reach.filter(|reach| !reach.axis.is_time()).and(ahead).and_then(|ahead| i64::try_from(ahead).ok()),
        "missing": lacks.missing,
        "too_old": lacks.old,
        "half_detached": lacks.detaching,
        "has_default": children.iter().any(|child| child.bound == Bound::Default),
        "default_has_rows": size.has_default_rows,
        "problems": found.problems,
    })
}
