//! Partitions for the rows that are there, and as many ahead as are declared.

use crate::catalog::lease::Job;
use crate::catalog::quote;
use crate::config::partitions::{Partitioned, Range};
use crate::config::values::TableName;
use crate::partition::bounds::Bound;
use crate::partition::convert::attempt;
use crate::partition::convert::design::{Design, new_name};
use crate::partition::convert::{ConvertError, server};
use crate::partition::line::{Axis, floor, next};
use crate::partition::names::{DEFAULT, partition_name, range_suffix};
use crate::partition::parent::{self, Child, Key, Parent, Strategy, Traits};
use crate::partition::plan::{self, Creation, Moment};
use crate::partition::sql::{Table, qualified};
use tokio_postgres::{Client, Error, GenericClient};

/// The range column's type under all domains.
const TYPE: &str = "
    WITH RECURSIVE under(oid, base) AS (
      SELECT t.oid, t.typbasetype FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
      WHERE a.attrelid = $1 AND a.attname = $2::text AND NOT a.attisdropped
      UNION ALL SELECT t.oid, t.typbasetype FROM under u JOIN pg_catalog.pg_type t ON t.oid = u.base)
    SELECT CASE WHEN t.typnamespace = 'pg_catalog'::pg_catalog.regnamespace THEN t.typname::text
                ELSE pg_catalog.format_type(t.oid, NULL) END
    FROM under u JOIN pg_catalog.pg_type t ON t.oid = u.oid WHERE u.base = 0";

/// The line of the declared ranges; `None` when there are none. Inside: why there cannot be any.
pub(super) async fn axis(
    client: &impl GenericClient,
    design: &Design<'_>,
) -> Result<Result<Option<Axis>, String>, Error> {
    let Some(range) = &design.declared.range else {
        return Ok(Ok(None));
    };
    let row = client
        .query_opt(TYPE, &[&design.facts.oid, &range.column])
        .await?;
    // That there is no such column is said elsewhere.
    let Some(row) = row else {
        return Ok(Ok(None));
    };
    let type_name: String = row.try_get(0)?;
    let axis = parent::axis(&range.column, &type_name, design.declared);
    Ok(axis.map(Some).map_err(|misfit| misfit.to_string()))
}

/// The least and the greatest point of the old table's rows, and whether some are at infinity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Extent {
    least: Option<i128>,
    greatest: Option<i128>,
    is_infinite: bool,
}

async fn extent(
    client: &Client,
    design: &Design<'_>,
    axis: Axis,
    range: &Range,
) -> Result<Extent, Error> {
    let column = quote(&range.column);
    let finite = if axis.is_time() {
        format!("pg_catalog.isfinite({column})")
    } else {
        "true".to_owned()
    };
    let old = qualified(&design.table());
    let sql = format!(
        "SELECT min({column})::pg_catalog.text, max({column})::pg_catalog.text, \
         EXISTS (SELECT FROM ONLY {old} WHERE NOT {finite}) FROM ONLY {old} WHERE {finite}"
    );
    let row = client.query_one(&sql, &[]).await?;
    let point = |at| -> Result<Option<i128>, Error> {
        let text: Option<String> = row.try_get(at)?;
        Ok(text.and_then(|text| axis.read(&text)))
    };
    Ok(Extent {
        least: point(0)?,
        greatest: point(1)?,
        is_infinite: row.try_get(2)?,
    })
}

async fn now(client: &Client) -> Result<i128, Error> {
    let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8";
    let now: i64 = client.query_one(sql, &[]).await?.try_get(0)?;
    Ok(now.into())
}

/// What the new parent's partitions have from it.
fn traits(design: &Design<'_>) -> Traits {
    Traits {
        owner: Some(design.facts.owner.clone()),
        tablespace: design.facts.tablespace.clone(),
        method: None,
    }
}

/// The partitions that the new parent lacks when it has these, by the names that they have when it has the table's.
fn lacking(
    design: &Design<'_>,
    axis: Option<Axis>,
    children: &[Child],
    (extent, now): (Extent, i128),
) -> Result<Vec<Creation>, Vec<String>> {
    let declared = design.declared;
    let table = design.table();
    let (Some(range), Some(axis)) = (&declared.range, axis) else {
        return hashes(declared, &table, children);
    };
    let moment = Moment {
        now,
        greatest: extent.greatest,
    };
    // What is too old already is for the first `apply` to retire, not for this to lose.
    let declared = &Partitioned {
        retain: None,
        ..declared.clone()
    };
    let mut wanted = plan::wanted(declared, range, axis, &moment, children);
    if let Some(least) = extent.least {
        wanted.from = wanted.from.min(floor(least, range.every));
    }
    if let Some(greatest) = extent.greatest {
        let end = next(floor(greatest, range.every), range.every);
        wanted.until = wanted.until.max(end);
    }
    if let Some(end) = axis.end() {
        wanted.until = wanted.until.min(end);
    }
    let mut reasons = Vec::new();
    if extent.is_infinite && !declared.default {
        reasons.push(format!(
            "rows have {:?} at infinity, which no range has: declare default = true, or change them first",
            range.column
        ));
    }
    let taken = children.iter().filter_map(|child| match child.bound {
        Bound::Range(lower, upper) => Some((lower, upper)),
        Bound::Hash { .. } | Bound::Default | Bound::Other(_) => None,
    });
    let Some(pieces) = plan::missing(range.every, &wanted, taken) else {
        reasons.push(format!(
            "its rows are between {} and {}, which is more than {} partitions: widen `every`, or change the rows that are far away",
            axis.text(wanted.from),
            axis.text(wanted.until),
            plan::CREATIONS_MAX
        ));
        return Err(reasons);
    };
    let mut creations = Vec::new();
    for piece in pieces {
        match range_suffix(piece.lower, range.every, piece.is_whole) {
            Some(end) => creations.push(plan::range_creation(declared, axis, &table, &piece, &end)),
            None => reasons.push(format!(
                "rows are before {}, for which partitions have no names: change them first",
                axis.text(piece.upper)
            )),
        }
    }
    let has_default = children.iter().any(|child| child.bound == Bound::Default);
    if declared.default && !has_default {
        creations.push(Creation {
            name: TableName {
                schema: table.schema.clone(),
                name: partition_name(&table.name, DEFAULT),
            },
            of: table,
            bound: Bound::Default,
            inner: Vec::new(),
        });
    }
    if reasons.is_empty() {
        Ok(creations)
    } else {
        Err(reasons)
    }
}

fn hashes(
    declared: &Partitioned,
    table: &TableName,
    children: &[Child],
) -> Result<Vec<Creation>, Vec<String>> {
    let parent = Parent {
        oid: 0,
        name: table.clone(),
        key: Key {
            strategy: Strategy::Hash,
            columns: Vec::new(),
        },
        traits: Traits::default(),
        children: children.to_vec(),
    };
    let moment = Moment {
        now: 0,
        greatest: None,
    };
    let plan = plan::plan(declared, None, &parent, &moment);
    if plan.problems.is_empty() {
        Ok(plan.create)
    } else {
        Err(plan.problems)
    }
}

/// The transactions that make the partitions which a new parent without any needs. Inside: why it cannot have them.
pub(super) async fn statements(
    client: &Client,
    design: &Design<'_>,
    axis: Option<Axis>,
    children: &[Child],
) -> Result<Result<Vec<Vec<String>>, Vec<String>>, Error> {
    let extent = match (&design.declared.range, axis) {
        (Some(range), Some(axis)) => extent(client, design, axis, range).await?,
        _ => Extent::default(),
    };
    let creations = match lacking(design, axis, children, (extent, now(client).await?)) {
        Ok(creations) => creations,
        Err(reasons) => return Ok(Err(reasons)),
    };
    let traits = traits(design);
    let new = new_name(&design.table());
    let table = Table {
        declared: design.declared,
        axis,
        traits: &traits,
    };
    let each = creations.into_iter().map(|creation| {
        let creation = Creation {
            of: new.clone(),
            ..creation
        };
        table.create(&creation)
    });
    Ok(Ok(each.collect()))
}

/// Makes the partitions that the new parent lacks. How many. The default partition is the last that is made; from then on it has what
/// no other takes, and a partition for that could not be attached.
pub(super) async fn cover(
    client: &mut Client,
    design: &Design<'_>,
    axis: Option<Axis>,
    (job, token): (Job, i64),
) -> Result<usize, ConvertError> {
    let doing = "read the new parent";
    let parent = parent::read(client, &new_name(&design.table()))
        .await
        .map_err(server(doing))?
        .map_err(|misfit| ConvertError::Server {
            doing,
            why: misfit.to_string(),
        })?;
    let mut children = parent.children.iter();
    if children.any(|child| child.bound == Bound::Default) {
        return Ok(0);
    }
    let transactions = statements(client, design, axis, &parent.children)
        .await
        .map_err(server("look for the rows' extent"))?
        .map_err(|reasons| ConvertError::Refused {
            table: design.table().to_string(),
            reasons,
        })?;
    let made = transactions.len();
    for statements in transactions {
        attempt::all(client, job, token, "make a partition", &statements).await?;
    }
    if made > 0 {
        attempt::all(client, job, token, "furnish partitions", &design.furnish()).await?;
    }
    Ok(made)
}
