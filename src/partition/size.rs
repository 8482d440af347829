//! How much a partitioned table holds on a shard.

use crate::partition::bounds::Bound;
use crate::partition::parent::Parent;
use crate::partition::sql::qualified;
use tokio_postgres::{Client, Error};

/// What a table holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Its rows.
    pub rows: Rows,
    /// Bytes of all partitions with their indexes and TOAST.
    pub bytes: i64,
    /// Are there rows in the default partition?
    pub has_default_rows: bool,
}

/// How many rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// Counted.
    Counted(i64),
    /// As the last ANALYZE or VACUUM left it.
    Estimated(i64),
    /// Some partitions with rows were never looked through.
    AtLeast(i64),
}

impl std::fmt::Display for Rows {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Counted(rows) => write!(out, "{rows}"),
            Self::Estimated(rows) => write!(out, "~{rows}"),
            Self::AtLeast(rows) => write!(out, ">{rows}"),
        }
    }
}

/// Measures a table; `counts` reads all its rows.
///
/// # Errors
/// When the server fails.
pub async fn size(client: &Client, parent: &Parent, counts: bool) -> Result<Size, Error> {
    let sql = "WITH RECURSIVE tree(oid) AS (
                 SELECT $1::oid
                 UNION ALL SELECT i.inhrelid FROM tree t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.oid)
               SELECT coalesce(sum(pg_catalog.pg_total_relation_size(c.oid)), 0)::int8,
                 coalesce(sum(greatest(c.reltuples, 0)) FILTER (WHERE c.relkind <> 'p'), 0)::int8,
                 coalesce(bool_or(c.reltuples < 0 AND (c.relkind = 'f' OR pg_catalog.pg_relation_size(c.oid) > 0))
                   FILTER (WHERE c.relkind <> 'p'), false)
               FROM tree t JOIN pg_catalog.pg_class c ON c.oid = t.oid";
    let row = client.query_one(sql, &[&parent.oid]).await?;
    let estimate: i64 = row.try_get(1)?;
    let is_unknown: bool = row.try_get(2)?;
    let rows = if counts {
        let sql = format!(
            "SELECT pg_catalog.count(*) FROM {}",
            qualified(&parent.name)
        );
        Rows::Counted(client.query_one(&sql, &[]).await?.try_get(0)?)
    } else if is_unknown {
        Rows::AtLeast(estimate)
    } else {
        Rows::Estimated(estimate)
    };
    let mut has_default_rows = false;
    for child in &parent.children {
        if child.bound == Bound::Default {
            let sql = format!("SELECT EXISTS (SELECT FROM {})", qualified(&child.name));
            has_default_rows = client.query_one(&sql, &[]).await?.try_get(0)?;
        }
    }
    Ok(Size {
        rows,
        bytes: row.try_get(0)?,
        has_default_rows,
    })
}
