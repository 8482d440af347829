//! `keyway partition convert`: makes an ordinary table with rows a partitioned one, while it is used.

use crate::catalog::Catalog;
use crate::catalog::lease::{Job, Lease, holder};
use crate::cli::migrate::{println, wait};
use crate::cli::{Failure, complain};
use crate::config::values::TableName;
use crate::partition::convert::rollout::{News, Runner, Task, rehearse, roll_out};
use crate::partition::convert::run::{Outcome, Step};
use crate::partition::convert::standing::Order;
use crate::partition::rollout::Keyspace;
use clap::Args;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// How often it is said how far a shard is.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// `keyway partition convert`.
#[derive(Debug, Clone, Args)]
pub(super) struct ConvertArguments {
    /// The table: NAME or SCHEMA.NAME
    #[arg(value_name = "TABLE", value_parser = table)]
    table: TableName,
    /// Print the SQL, and run nothing
    #[arg(long)]
    dry_run: bool,
    /// Append the partition column to unique keys that lack it: rows of two partitions may then be equal in the other columns
    #[arg(long)]
    extend_unique: bool,
    /// Take away the copy of a conversion that was begun and not swapped
    #[arg(long, conflicts_with_all = ["dry_run", "extend_unique"])]
    abort: bool,
    /// Shards at once
    #[arg(long, value_name = "N", default_value_t = 1)]
    parallel: usize,
    /// Wait so long for another runner to end
    #[arg(long, value_name = "TIME", value_parser = wait, default_value = "0s")]
    wait: Duration,
}

fn table(text: &str) -> Result<TableName, String> {
    TableName::parse(text).ok_or_else(|| {
        "a table is NAME or SCHEMA.NAME, in double quotes where SQL needs them".to_owned()
    })
}

/// Converts the table on the shards of the keyspace that declares it.
pub(super) async fn convert(
    catalog: &Catalog,
    keyspaces: &[Keyspace<'_>],
    arguments: &ConvertArguments,
) -> Result<(), Failure> {
    let table = &arguments.table;
    let mut declaring = keyspaces
        .iter()
        .filter_map(|keyspace| Some((keyspace, keyspace.declared.get(table)?)));
    let Some((keyspace, declared)) = declaring.next() else {
        return Err(Failure::Other(format!(
            "{table} is not declared to have partitions: say how in migrations/<keyspace>/partitions.toml first"
        )));
    };
    if let Some((other, _)) = declaring.next() {
        return Err(Failure::Other(format!(
            "{table} is declared in {} and {}: name one with --keyspace",
            keyspace.name, other.name
        )));
    }
    let order = Order {
        keyspace: keyspace.name.to_owned(),
        table: table.clone(),
        declared: declared.clone(),
        extend: arguments.extend_unique,
    };
    if arguments.dry_run {
        return show(catalog, keyspace, &order).await;
    }
    let connection = catalog.direct(&catalog.holder_name()).await?;
    let lease = Lease::take(connection, Job::Conversions, &holder(), arguments.wait).await;
    let lease = lease
        .map_err(|error| Failure::Other(format!("take the lease on conversions: {error}")))?
        .map_err(|held| Failure::Other(held.to_string()))?;
    let runner = Runner {
        job: Job::Conversions,
        token: lease.token,
        lost: &lease.lost,
    };
    let task = if arguments.abort {
        Task::Abort
    } else {
        Task::Convert {
            parallel: arguments.parallel,
        }
    };
    let voice = Voice::new(keyspace.name, &order);
    let tell = |shard: &str, news: News| voice.say(shard, news);
    let is_good = roll_out(catalog, keyspace.shards, &order, task, &runner, &tell).await;
    lease.release().await;
    if is_good {
        Ok(())
    } else {
        Err(Failure::Status(1))
    }
}

async fn show(catalog: &Catalog, keyspace: &Keyspace<'_>, order: &Order) -> Result<(), Failure> {
    let mut is_wrong = false;
    for (shard, lines) in rehearse(catalog, keyspace.shards, order).await {
        match lines {
            Ok(lines) => {
                println(&format!(
                    "-- {} shard {shard}: {}",
                    keyspace.name, order.table
                ));
                if lines.is_empty() {
                    println("-- nothing to run: it is partitioned already");
                }
                lines.iter().for_each(|line| println(line));
            }
            Err(why) => {
                is_wrong = true;
                complain(&format!("{} {shard}: {why}", keyspace.name));
            }
        }
    }
    if is_wrong {
        Err(Failure::Status(1))
    } else {
        Ok(())
    }
}

/// Says what happens; of what happens often, once in a while.
struct Voice<'v> {
    keyspace: &'v str,
    order: &'v Order,
    said: Mutex<HashMap<String, Instant>>,
}

impl<'v> Voice<'v> {
    fn new(keyspace: &'v str, order: &'v Order) -> Self {
        Self {
            keyspace,
            order,
            said: Mutex::default(),
        }
    }

    fn say(&self, shard: &str, news: News) {
        let place = format!("{} {shard}", self.keyspace);
        let table = &self.order.table;
        let line = match news {
            News::Failed(why) => return complain(&format!("{place}: {why}")),
            News::Step(Step::Copied(rows, of)) => match self.is_time(shard) {
                true => format!("copied {}", progress(rows, of)),
                false => return,
            },
            News::Step(Step::Compared(rows, of)) => match self.is_time(shard) {
                true => format!("compared {}", progress(rows, of)),
                false => return,
            },
            News::Step(Step::Made(0)) => return,
            News::Step(Step::Made(count)) => format!("{count} partitions made"),
            News::Step(Step::Says(what)) => what,
            News::Done(Outcome::Already, _) => "it is partitioned already".to_owned(),
            News::Done(
                Outcome::Done {
                    rows,
                    longest_batch,
                    stall,
                },
                took,
            ) => format!(
                "{rows} rows in {:.1} s; the longest batch held its rows {} ms, the swap waited {} ms for its lock and held it {} ms\n\
                 {place}: {table}: the old table is {}; drop it when nobody misses anything",
                took.as_secs_f64(),
                longest_batch.as_millis(),
                stall.waited.as_millis(),
                stall.held.as_millis(),
                self.order.kept()
            ),
            News::Aborted(true) => "what was made of the copy is taken away".to_owned(),
            News::Aborted(false) => "no conversion was begun".to_owned(),
        };
        println(&format!("{place}: {table}: {line}"));
    }

    fn is_time(&self, shard: &str) -> bool {
        // Poisoned only by a panic between two lines of this function.
        let Ok(mut said) = self.said.lock() else {
            return false;
        };
        let is_time = said
            .get(shard)
            .is_none_or(|last| last.elapsed() >= TELL_EVERY);
        if is_time {
            said.insert(shard.to_owned(), Instant::now());
        }
        is_time
    }
}

/// `120000 of about 1000000 rows (12 %)`
fn progress(rows: i64, of: i64) -> String {
    if of > 0 {
        let percent = (rows.saturating_mul(100) / of).min(100);
        format!("{rows} of about {of} rows ({percent} %)")
    } else {
        format!("{rows} rows")
    }
}
