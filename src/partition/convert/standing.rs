//! Where a table stands on a shard, and everything that stands in the way. Changes nothing.

use crate::config::partitions::Partitioned;
use crate::config::values::TableName;
use crate::partition::convert::cover;
use crate::partition::convert::design::{Design, kept_name};
use crate::partition::convert::facts::{Facts, find};
use crate::partition::convert::state::{self, Phase, State};
use crate::partition::convert::{ConvertError, server};
use crate::partition::line::Axis;
use crate::partition::sql::qualified;
use tokio_postgres::{Client, Error};

/// What is to be converted.
#[derive(Debug, Clone)]
pub struct Order {
    /// The table's keyspace.
    pub keyspace: String,
    /// The table.
    pub table: TableName,
    /// How it is to be divided.
    pub declared: Partitioned,
    /// Keys that lack partition columns get them.
    pub extend: bool,
}

impl Order {
    /// What the old table is called in the end.
    #[must_use]
    pub fn kept(&self) -> TableName {
        kept_name(&self.table)
    }

    /// As the shard remembers it: what must not change while it is carried out.
    pub(super) fn shown(&self) -> String {
        let Partitioned {
            range,
            hash,
            default,
            ..
        } = &self.declared;
        let every = range.as_ref().map(|range| (&range.column, range.every));
        format!(
            "range {every:?} hash {hash:?} default {default} extend {}",
            self.extend
        )
    }

    pub(super) fn design<'d>(&'d self, facts: &'d Facts) -> Design<'d> {
        Design {
            facts,
            declared: &self.declared,
            extend: self.extend,
        }
    }

    pub(super) fn refused(&self, reasons: Vec<String>) -> ConvertError {
        ConvertError::Refused {
            table: self.table.to_string(),
            reasons,
        }
    }

    pub(super) fn changed(&self, what: impl Into<String>) -> ConvertError {
        ConvertError::Changed {
            table: self.table.to_string(),
            what: what.into(),
        }
    }
}

/// Where a table stands.
#[derive(Debug)]
pub(super) enum Standing {
    Already,
    /// Only what belongs behind the swap is missing.
    Swapped,
    /// It is an ordinary table.
    Ordinary(Box<Facts>, Option<State>),
}

/// Looks for everything that stands in the way. Changes nothing.
///
/// # Errors
/// Every reason.
pub async fn analyse(client: &Client, order: &Order) -> Result<(), ConvertError> {
    standing(client, order).await.map(|_| ())
}

/// As the shard's catalogs and its own memory of the conversion have it.
///
/// # Errors
/// Every reason why it cannot be converted.
pub(super) async fn standing(client: &Client, order: &Order) -> Result<Standing, ConvertError> {
    let doing = "look at the table";
    let table = &order.table;
    let found = find(client, &table.schema, &table.name)
        .await
        .map_err(server(doing))?;
    let known = state::read(client, table).await.map_err(server(doing))?;
    let refused = |reason: &str| Err(order.refused(vec![reason.to_owned()]));
    let Some(found) = found else {
        return refused("there is no such table");
    };
    let is_done = |state: &State| matches!(state.phase, Phase::Swapped | Phase::Done);
    match (found.kind, known) {
        ('p', Some(state)) if state.phase == Phase::Swapped && state.new == found.oid => {
            Ok(Standing::Swapped)
        }
        ('p', _) => Ok(Standing::Already),
        ('r', Some(state)) if !is_done(&state) => {
            if state.old != found.oid {
                return Err(order.changed("it is another table than the one that was begun with"));
            }
            if state.declared != order.shown() {
                return Err(order.changed(format!(
                    "it was begun with {}, and this is {}",
                    state.declared,
                    order.shown()
                )));
            }
            let facts = Facts::read(client, found.oid)
                .await
                .map_err(server(doing))?;
            same_shape(order, &facts, &state)?;
            let reasons = reasons(client, order, &facts, Some(&state)).await;
            let reasons = reasons.map_err(server(doing))?;
            if reasons.is_empty() {
                Ok(Standing::Ordinary(Box::new(facts), Some(state)))
            } else {
                Err(order.refused(reasons))
            }
        }
        ('r', _) => {
            let facts = Facts::read(client, found.oid)
                .await
                .map_err(server(doing))?;
            let reasons = reasons(client, order, &facts, None).await;
            let reasons = reasons.map_err(server(doing))?;
            if reasons.is_empty() {
                Ok(Standing::Ordinary(Box::new(facts), None))
            } else {
                Err(order.refused(reasons))
            }
        }
        ('v', _) => refused("it is a view"),
        ('m', _) => refused("it is a materialized view"),
        ('f', _) => refused("it is a foreign table"),
        _ => refused("it is not a table"),
    }
}

/// Everything that stands in the way.
async fn reasons(
    client: &Client,
    order: &Order,
    facts: &Facts,
    state: Option<&State>,
) -> Result<Vec<String>, Error> {
    let design = order.design(facts);
    let mut reasons = facts.obstacles.clone();
    reasons.extend(design.reasons());
    let (now, then) = design.names();
    let names = if state.is_none() {
        [now, then].concat()
    } else {
        then
    };
    for name in names {
        if find(client, &order.table.schema, &name).await?.is_some() {
            reasons.push(format!(
                "the name {name:?} is taken, which it needs: rename that one, or drop it first"
            ));
        }
    }
    // Rows are looked at only when the table may be partitioned at all.
    if reasons.is_empty() {
        match cover::axis(client, &design).await? {
            Err(reason) => reasons.push(reason),
            Ok(axis) if state.is_none() => {
                if let Err(own) = cover::statements(client, &design, axis, &[]).await? {
                    reasons.extend(own);
                }
            }
            Ok(_) => {}
        }
    }
    Ok(reasons)
}

fn same_shape(order: &Order, facts: &Facts, state: &State) -> Result<(), ConvertError> {
    let now = facts.shape();
    if now == state.shape {
        return Ok(());
    }
    let only = |these: &str, those: &str, word: &str| -> Vec<String> {
        let there: Vec<&str> = those.lines().collect();
        these
            .lines()
            .filter(|line| !there.contains(line))
            .map(|line| format!("{word}: {line}"))
            .collect()
    };
    let mut what = only(&state.shape, &now, "was");
    what.extend(only(&now, &state.shape, "is"));
    Err(order.changed(what.join("; ")))
}

/// The statements that converting would run, for people: what is copied depends on the rows.
///
/// # Errors
/// Every reason why it would not.
pub async fn rehearse(client: &Client, order: &Order) -> Result<Vec<String>, ConvertError> {
    let Standing::Ordinary(facts, state) = standing(client, order).await? else {
        return Ok(Vec::new());
    };
    let design = order.design(&facts);
    let doing = "look for the rows' extent";
    let axis = axis(client, &design).await?;
    let covering = cover::statements(client, &design, axis, &[])
        .await
        .map_err(server(doing))?
        .map_err(|reasons| order.refused(reasons))?;
    let mut lines = Vec::new();
    if let Some(state) = &state {
        lines.push(format!("-- it is begun already, and {:?}", state.phase));
    }
    let mut part = |title: &str, statements: Vec<String>| {
        lines.push(format!("-- {title}"));
        lines.extend(statements.into_iter().map(|statement| statement + ";"));
    };
    part("the new parent, in one transaction", design.create());
    for statements in covering {
        part("a partition, in one transaction", statements);
    }
    part("what partitions have from the table", design.furnish());
    part("keep it in step, in one transaction", design.keep_in_step());
    let copying =
        "copy the rows in batches, compare both, wait for transactions older than the copy";
    part(copying, Vec::new());
    part("swap, in one transaction", {
        let lock = format!(
            "LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE",
            qualified(&order.table)
        );
        let mut all = vec![lock];
        all.extend(design.swap());
        all
    });
    part("afterwards", design.afterwards());
    Ok(lines)
}

/// The line of the declared ranges.
pub(super) async fn axis(
    client: &Client,
    design: &Design<'_>,
) -> Result<Option<Axis>, ConvertError> {
    cover::axis(client, design)
        .await
        .map_err(server("look at the table"))?
        .map_err(|reason| ConvertError::Refused {
            table: design.table().to_string(),
            reasons: vec![reason],
        })
}
