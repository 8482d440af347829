//! A look at a table on a shard: what it has, and the steps that are left.

use crate::catalog::servers::chain;
use crate::catalog::{Catalog, servers::Direct};
use crate::config::partitions::{Partitioned, Then};
use crate::config::values::TableName;
use crate::partition::bounds::Bound;
use crate::partition::calendar::DAY;
use crate::partition::line::{Axis, Edge};
use crate::partition::parent::{Child, Parent, read};
use crate::partition::plan::{Creation, Moment, cutoff, horizon, plan, position_of};
use crate::partition::retired;
use crate::partition::sql::{Detach, SESSION, Table, qualified, way};
use crate::partition::steps::{Block, End, Step};
use std::collections::HashSet;
use time::OffsetDateTime;
use tokio_postgres::{Client, Error};

/// The oldest PostgreSQL that detaches CONCURRENTLY.
const VERSION_MIN: i32 = 140_000;

/// A table of a shard, and what is left to do for it.
#[derive(Debug)]
pub struct Look {
    /// What it has.
    pub parent: Parent,
    /// The line of its range column.
    pub axis: Option<Axis>,
    /// How far its partitions reach; `None` for one by hash.
    pub reach: Option<Reach>,
    /// What is left, in order.
    pub steps: Vec<Step>,
    /// What cannot be done.
    pub problems: Vec<String>,
    /// Notes about partitions that need none any more, by oid.
    pub(super) stale: Vec<u32>,
}

impl Look {
    /// The SQL of all steps.
    #[must_use]
    pub fn blocks(&self, declared: &Partitioned) -> Vec<Block> {
        let table = self.table(declared);
        let blocks = self
            .steps
            .iter()
            .flat_map(|step| step.blocks(&table, &self.parent.name));
        blocks.collect()
    }

    /// What the SQL of the steps is made from.
    #[must_use]
    pub fn table<'t>(&'t self, declared: &'t Partitioned) -> Table<'t> {
        Table {
            declared,
            axis: self.axis,
            traits: &self.parent.traits,
        }
    }
}

/// How far a table's partitions reach ahead of where rows are written now, without a gap. The default partition does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// The line.
    pub axis: Axis,
    /// Where rows are written now: the time, or the greatest value.
    pub position: i128,
    /// Up to here; `None` when rows cannot be written even now.
    pub until: Option<Edge>,
}

impl Reach {
    /// Whole days ahead; `None` when it is no line of times, or has no end.
    #[must_use]
    pub fn days(&self) -> Option<i128> {
        self.ahead()
            .filter(|_| self.axis.is_time())
            .map(|ahead| ahead / DAY)
    }

    /// Microseconds, or values, ahead; `None` when there is no end.
    #[must_use]
    pub fn ahead(&self) -> Option<i128> {
        match self.until {
            None => Some(0),
            Some(until) => Some(until.finite()? - self.position),
        }
    }
}

/// For people.
impl std::fmt::Display for Reach {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.until, self.ahead()) {
            (None, _) => write!(out, "none"),
            (Some(_), None) => write!(out, "no end"),
            (Some(_), Some(ahead)) if self.axis.is_time() => {
                write!(out, "{} days", ahead / DAY)
            }
            (Some(_), Some(ahead)) => write!(out, "{ahead} values"),
        }
    }
}

/// A connection to a shard that reads bounds back in UTC, whatever the database and the role say.
///
/// # Errors
/// What to tell people, when the shard does not answer.
pub async fn open(catalog: &Catalog, shard: &str) -> Result<Direct, String> {
    let connection = catalog
        .direct(shard)
        .await
        .map_err(|error| error.to_string())?;
    let set = connection.client.batch_execute(SESSION).await;
    set.map_err(|error| chain(&error))?;
    let version = "SELECT current_setting('server_version_num')::int";
    let version = connection.client.query_one(version, &[]).await;
    let version: i32 = version
        .and_then(|row| row.try_get(0))
        .map_err(|error| chain(&error))?;
    if version < VERSION_MIN {
        return Err(format!(
            "PostgreSQL {} cannot detach partitions CONCURRENTLY; partitions are kept on {} and later",
            version / 10_000,
            VERSION_MIN / 10_000
        ));
    }
    Ok(connection)
}

/// Microseconds since 1970-01-01 UTC.
#[must_use]
pub fn micros(at: OffsetDateTime) -> i128 {
    at.unix_timestamp_nanos().div_euclid(1_000)
}

/// Looks at a declared table. The connection is from [`open`].
///
/// # Errors
/// What to tell people, when the table does not fit its declaration or the server fails.
pub async fn look(
    client: &Client,
    name: &TableName,
    declared: &Partitioned,
    now: OffsetDateTime,
) -> Result<Look, String> {
    let failed = |error: Error| chain(&error);
    let parent = read(client, name).await.map_err(failed)?;
    let parent = parent.map_err(|misfit| misfit.to_string())?;
    let axis = parent
        .key
        .fits(declared)
        .map_err(|misfit| misfit.to_string())?;
    let greatest = greatest(client, declared, axis, &parent)
        .await
        .map_err(failed)?;
    let moment = Moment {
        now: micros(now),
        greatest,
    };
    let plan = plan(declared, axis, &parent, &moment);
    let mut problems = plan.problems;
    let create = untaken(client, plan.create, &mut problems)
        .await
        .map_err(failed)?;
    // The default partition last: beside it nothing is detached CONCURRENTLY.
    let (default, create): (Vec<Creation>, Vec<Creation>) = create
        .into_iter()
        .partition(|creation| creation.bound == Bound::Default);
    let mut steps: Vec<Step> = create.into_iter().map(Step::Create).collect();
    let intents = retired::read(client, name, declared.then)
        .await
        .map_err(failed)?;
    let mut stale = Vec::new();
    let cutoff = cutoff(declared, axis, &moment, &parent.children);
    for intent in intents {
        // It may be kept for longer now than when it was detached.
        let is_old = intent
            .end
            .upper
            .is_none_or(|upper| cutoff.is_some_and(|cutoff| upper <= cutoff));
        let is_to_leave = plan.retire.iter().any(|child| child.oid == intent.end.oid);
        match (intent.is_there, intent.is_attached) {
            // Somebody dropped, renamed or moved it.
            (false, _) => stale.push(intent.end.oid),
            (true, false) if intent.end.then == Then::Detach || !is_old => {
                stale.push(intent.end.oid)
            }
            (true, false) => steps.push(Step::Finish(intent.end)),
            (true, true) if is_to_leave => {}
            (true, true) => stale.push(intent.end.oid),
        }
    }
    steps.extend(plan.finalize.into_iter().map(Step::Finalize));
    let how = way(&parent.children);
    for child in plan.retire {
        let tables = retired::tree(client, child.oid).await.map_err(failed)?;
        if declared.then == Then::Archive {
            let moved = tables.iter().map(|table| TableName {
                schema: declared.archive.clone(),
                name: table.name.clone(),
            });
            let taken = taken(client, moved.collect()).await.map_err(failed)?;
            if let Some(name) = taken.iter().min() {
                problems.push(format!(
                    "partition {} is too old and cannot be archived: something else is called {name}; rename it or drop it",
                    child.name
                ));
                continue;
            }
        }
        steps.push(Step::retire(child, how, tables, declared));
    }
    steps.extend(default.into_iter().map(Step::Create));
    let position = position_of(declared, axis, &moment, &parent.children);
    let reach = axis.zip(position).map(|(axis, position)| Reach {
        axis,
        position,
        until: horizon(position, &parent.children),
    });
    Ok(Look {
        parent,
        axis,
        reach,
        steps,
        problems,
        stale,
    })
}

impl Step {
    fn retire(child: Child, how: Detach, tables: Vec<TableName>, declared: &Partitioned) -> Self {
        let upper = match child.bound {
            Bound::Range(_, upper) => upper.finite(),
            Bound::Hash { .. } | Bound::Default | Bound::Other(_) => None,
        };
        let end = End {
            oid: child.oid,
            name: child.name.clone(),
            is_foreign: child.is_foreign,
            upper,
            tables,
            then: declared.then,
            archive: declared.archive.clone(),
        };
        let how = if child.is_detaching {
            Detach::Finalize
        } else {
            how
        };
        Self::Retire { child, how, end }
    }
}

/// The range column's greatest value, when it is an integer: from the topmost partition that has rows.
async fn greatest(
    client: &Client,
    declared: &Partitioned,
    axis: Option<Axis>,
    parent: &Parent,
) -> Result<Option<i128>, Error> {
    let (Some(range), Some(axis)) = (&declared.range, axis) else {
        return Ok(None);
    };
    if axis.is_time() {
        return Ok(None);
    }
    let able = parent.children.iter().filter(|child| !child.is_detaching);
    let mut able: Vec<(Edge, &Child)> = able
        .filter_map(|child| match child.bound {
            Bound::Range(lower, _) => Some((lower, child)),
            Bound::Hash { .. } | Bound::Default | Bound::Other(_) => None,
        })
        .collect();
    able.sort_by_key(|(lower, _)| std::cmp::Reverse(*lower));
    for (_, child) in able {
        let column = crate::catalog::quote(&range.column);
        let sql = format!(
            "SELECT pg_catalog.max({column})::int8 FROM {}",
            qualified(&child.name)
        );
        let greatest: Option<i64> = client.query_one(&sql, &[]).await?.try_get(0)?;
        if let Some(greatest) = greatest {
            return Ok(Some(greatest.into()));
        }
    }
    Ok(None)
}

/// Which of these names something has.
async fn taken(client: &Client, names: Vec<TableName>) -> Result<HashSet<TableName>, Error> {
    let (schemas, relations): (Vec<String>, Vec<String>) = names
        .into_iter()
        .map(|name| (name.schema, name.name))
        .unzip();
    let sql = "SELECT n.nspname::text, c.relname::text
               FROM ROWS FROM (pg_catalog.unnest($1::name[]), pg_catalog.unnest($2::name[])) AS wanted(schema, name)
               JOIN pg_catalog.pg_namespace n ON n.nspname = wanted.schema
               JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name";
    let mut taken = HashSet::new();
    for row in client.query(sql, &[&schemas, &relations]).await? {
        taken.insert(TableName {
            schema: row.try_get(0)?,
            name: row.try_get(1)?,
        });
    }
    Ok(taken)
}

/// Leaves out what would have a name that something has already.
async fn untaken(
    client: &Client,
    create: Vec<Creation>,
    problems: &mut Vec<String>,
) -> Result<Vec<Creation>, Error> {
    let names = |creation: &Creation| -> Vec<TableName> {
        let own = std::iter::once(&creation.name).chain(&creation.inner);
        own.cloned().collect()
    };
    let all: Vec<TableName> = create.iter().flat_map(names).collect();
    if all.is_empty() {
        return Ok(create);
    }
    let taken = taken(client, all).await?;
    let mut free = Vec::new();
    for creation in create {
        match names(&creation).iter().find(|name| taken.contains(*name)) {
            None => free.push(creation),
            Some(name) => problems.push(format!(
                "partition {} is missing and cannot be made: something else is called {name}, perhaps a partition that was \
                 detached; attach it, rename it or drop it",
                creation.name
            )),
        }
    }
    Ok(free)
}
