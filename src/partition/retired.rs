//! What a shard is still to do with partitions that are detached: written down before the DETACH, so that the next run ends what
//! a run that was cut off began, and nothing is dropped that was not a partition.

use crate::config::partitions::Then;
use crate::config::values::TableName;
use crate::partition::plan::milder;
use crate::partition::steps::End;
use tokio_postgres::{Client, Error, GenericClient};

/// What a runner needs on each shard.
const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS keyway.retired (
        partition     oid PRIMARY KEY,
        schema        text NOT NULL,
        name          text NOT NULL,
        parent_schema text NOT NULL,
        parent_name   text NOT NULL,
        outcome       text NOT NULL CHECK (outcome IN ('archive', 'drop')),
        archive       text NOT NULL,
        upper         text,
        token         bigint NOT NULL,
        since         timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
    );
    ALTER TABLE keyway.retired ADD COLUMN IF NOT EXISTS upper text;
    COMMENT ON TABLE keyway.retired IS 'Partitions that Keyway detaches, and what it does with them then.';";

/// Makes the table, where it is missing.
pub(super) async fn prepare(client: &Client) -> Result<(), Error> {
    client
        .batch_execute(&format!("BEGIN; {TABLE} COMMIT"))
        .await
}

/// What was written down about a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Intent {
    /// What is to be done; the milder of what was declared then and now.
    pub(super) end: End,
    /// Is the table still there, under its name?
    pub(super) is_there: bool,
    /// Is it still a partition?
    pub(super) is_attached: bool,
}

/// What was written down about partitions of a table; nothing where no runner has been.
pub(super) async fn read(
    client: &Client,
    parent: &TableName,
    declared: Then,
) -> Result<Vec<Intent>, Error> {
    let there: bool = client
        .query_one(
            "SELECT pg_catalog.to_regclass('keyway.retired') IS NOT NULL",
            &[],
        )
        .await?
        .try_get(0)?;
    if !there {
        return Ok(Vec::new());
    }
    let sql = "SELECT r.partition, r.schema, r.name, r.outcome, r.archive,
                 coalesce(n.nspname = r.schema AND c.relname = r.name, false),
                 coalesce(c.relispartition, false), coalesce(c.relkind = 'f', false),
                 pg_catalog.to_jsonb(r) ->> 'upper'
               FROM keyway.retired r
               LEFT JOIN pg_catalog.pg_class c ON c.oid = r.partition
               LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
               WHERE r.parent_schema = $1 AND r.parent_name = $2 ORDER BY r.since, r.partition";
    let mut intents = Vec::new();
    for row in client.query(sql, &[&parent.schema, &parent.name]).await? {
        let outcome: String = row.try_get(3)?;
        let intended = if outcome == "drop" {
            Then::Drop
        } else {
            Then::Archive
        };
        let oid = row.try_get(0)?;
        let is_there: bool = row.try_get(5)?;
        // A table that an older Keyway made lacks the column until the next run.
        let upper: Option<String> = row.try_get(8)?;
        let name = TableName {
            schema: row.try_get(1)?,
            name: row.try_get(2)?,
        };
        let tables = if is_there {
            tree(client, oid).await?
        } else {
            Vec::new()
        };
        intents.push(Intent {
            end: End {
                oid,
                name,
                is_foreign: row.try_get(7)?,
                upper: upper.and_then(|upper| upper.parse().ok()),
                tables,
                then: milder(intended, declared),
                archive: row.try_get(4)?,
            },
            is_there,
            is_attached: row.try_get(6)?,
        });
    }
    Ok(intents)
}

/// A table and its own partitions.
pub(super) async fn tree(client: &Client, oid: u32) -> Result<Vec<TableName>, Error> {
    // Not pg_partition_tree, which leaves out what is being detached.
    let sql = "WITH RECURSIVE tree(oid, depth) AS (
                 SELECT $1::oid, 0
                 UNION ALL SELECT i.inhrelid, t.depth + 1 FROM tree t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.oid)
               SELECT n.nspname::text, c.relname::text
               FROM tree t JOIN pg_catalog.pg_class c ON c.oid = t.oid
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace ORDER BY t.depth, c.relname";
    let mut tables = Vec::new();
    for row in client.query(sql, &[&oid]).await? {
        tables.push(TableName {
            schema: row.try_get(0)?,
            name: row.try_get(1)?,
        });
    }
    Ok(tables)
}

/// Writes down what is to be done when it is detached. Nothing for a table that stays.
pub(super) async fn write(
    client: &impl GenericClient,
    parent: &TableName,
    end: &End,
    token: i64,
) -> Result<(), Error> {
    let outcome = match end.then {
        Then::Detach => return Ok(()),
        Then::Archive => "archive",
        Then::Drop => "drop",
    };
    let sql = "INSERT INTO keyway.retired AS r (partition, schema, name, parent_schema, parent_name, outcome, archive, token, upper)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
               ON CONFLICT (partition) DO UPDATE SET schema = excluded.schema, name = excluded.name,
                 parent_schema = excluded.parent_schema, parent_name = excluded.parent_name, outcome = excluded.outcome,
                 archive = excluded.archive, upper = excluded.upper, token = excluded.token, since = excluded.since";
    let name = &end.name;
    let upper = end.upper.map(|upper| upper.to_string());
    client
        .execute(
            sql,
            &[
                &end.oid,
                &name.schema,
                &name.name,
                &parent.schema,
                &parent.name,
                &outcome,
                &end.archive,
                &token,
                &upper,
            ],
        )
        .await?;
    Ok(())
}

/// It is done, or nothing is left to do.
pub(super) async fn forget(client: &impl GenericClient, oid: u32) -> Result<(), Error> {
    let sql = "DELETE FROM keyway.retired WHERE partition = $1";
    client.execute(sql, &[&oid]).await?;
    Ok(())
}

/// Is the table with this name the one that was detached, and no partition now?
pub(super) async fn is_proven(client: &impl GenericClient, end: &End) -> Result<bool, Error> {
    let sql = "SELECT NOT c.relispartition FROM pg_catalog.pg_class c
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
               WHERE c.oid = $1 AND n.nspname = $2 AND c.relname = $3";
    let name = &end.name;
    let row = client
        .query_opt(sql, &[&end.oid, &name.schema, &name.name])
        .await?;
    row.map_or(Ok(false), |row| row.try_get(0))
}
