//! How far a conversion has come, as the shard itself remembers it, in schema `keyway`.

use crate::config::values::TableName;
use crate::partition::convert::range::Key;
use tokio_postgres::{Client, Error, GenericClient};

const TABLES: &str = "
    SET LOCAL client_min_messages = warning;
    CREATE TABLE IF NOT EXISTS keyway.conversions (
        schema    text NOT NULL,
        name      text NOT NULL,
        keyspace  text NOT NULL,
        phase     text NOT NULL CHECK (phase IN ('made', 'copying', 'copied', 'swapped', 'done')),
        old_table oid NOT NULL,
        new_table oid NOT NULL,
        shape     text NOT NULL,
        declared  text NOT NULL,
        triggers  text,
        copied_to text[],
        rows      bigint NOT NULL DEFAULT 0,
        token     bigint NOT NULL,
        role      text NOT NULL DEFAULT session_user,
        tool      text NOT NULL,
        started   timestamptz NOT NULL DEFAULT clock_timestamp(),
        finished  timestamptz,
        PRIMARY KEY (schema, name)
    );
    COMMENT ON TABLE keyway.conversions IS 'Tables that were made partitioned on this shard. `keyway partition convert` keeps it.';";

/// Who converts.
const TOOL: &str = concat!("keyway ", env!("CARGO_PKG_VERSION"));

/// What has been done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The new parent is there. Nothing keeps it in step.
    Made,
    /// The triggers are there, rows are copied.
    Copying,
    /// All rows are copied.
    Copied,
    /// The new parent has the old table's name.
    Swapped,
    /// Sequences belong to it.
    Done,
}

impl Phase {
    fn word(self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::Copying => "copying",
            Self::Copied => "copied",
            Self::Swapped => "swapped",
            Self::Done => "done",
        }
    }

    fn read(word: &str) -> Self {
        match word {
            "made" => Self::Made,
            "copying" => Self::Copying,
            "copied" => Self::Copied,
            "swapped" => Self::Swapped,
            _ => Self::Done,
        }
    }
}

/// A conversion on a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub(super) phase: Phase,
    /// The OID of the table that is converted.
    pub(super) old: u32,
    /// The OID of the new parent.
    pub(super) new: u32,
    /// [`crate::partition::convert::facts::Facts::shape`] when the new parent was made.
    pub(super) shape: String,
    /// The declaration by which it was made.
    pub(super) declared: String,
    /// [`triggers`] when they were made.
    pub(super) triggers: Option<String>,
    /// Rows up to this key are copied.
    pub(super) copied_to: Option<Key>,
    /// How many the copy brought.
    pub(super) rows: i64,
}

/// Makes the table, where it is missing.
pub(super) async fn prepare(client: &Client) -> Result<(), Error> {
    client
        .batch_execute(&format!("BEGIN; {TABLES} COMMIT"))
        .await
}

/// The conversion of a table; `None` when there was none.
pub(super) async fn read(
    client: &impl GenericClient,
    table: &TableName,
) -> Result<Option<State>, Error> {
    let there = "SELECT pg_catalog.to_regclass('keyway.conversions') IS NOT NULL";
    if !client.query_one(there, &[]).await?.try_get(0)? {
        return Ok(None);
    }
    let sql = "SELECT phase, old_table, new_table, shape, declared, triggers, copied_to, rows
               FROM keyway.conversions WHERE schema = $1 AND name = $2";
    let Some(row) = client.query_opt(sql, &[&table.schema, &table.name]).await? else {
        return Ok(None);
    };
    Ok(Some(State {
        phase: Phase::read(&row.try_get::<_, String>(0)?),
        old: row.try_get(1)?,
        new: row.try_get(2)?,
        shape: row.try_get(3)?,
        declared: row.try_get(4)?,
        triggers: row.try_get(5)?,
        copied_to: row.try_get(6)?,
        rows: row.try_get(7)?,
    }))
}

/// Writes that the new parent is there, in place of what is known of an earlier conversion.
pub(super) async fn begin(
    client: &impl GenericClient,
    (keyspace, table): (&str, &TableName),
    (old, new): (u32, u32),
    (shape, declared): (&str, &str),
    token: i64,
) -> Result<(), Error> {
    let sql = "INSERT INTO keyway.conversions (schema, name, keyspace, phase, old_table, new_table, shape, declared, token, tool)
               VALUES ($1, $2, $3, 'made', $4, $5, $6, $7, $8, $9)
               ON CONFLICT (schema, name) DO UPDATE SET keyspace = excluded.keyspace, phase = excluded.phase,
                 old_table = excluded.old_table, new_table = excluded.new_table, shape = excluded.shape, declared = excluded.declared,
                 triggers = NULL, copied_to = NULL, rows = 0, token = excluded.token, role = excluded.role, tool = excluded.tool,
                 started = excluded.started, finished = NULL";
    client
        .execute(
            sql,
            &[
                &table.schema,
                &table.name,
                &keyspace,
                &old,
                &new,
                &shape,
                &declared,
                &token,
                &TOOL,
            ],
        )
        .await?;
    Ok(())
}

/// Writes what has been done.
pub(super) async fn enter(
    client: &impl GenericClient,
    table: &TableName,
    phase: Phase,
    token: i64,
) -> Result<(), Error> {
    let sql = "UPDATE keyway.conversions SET phase = $3::text, token = $4,
                 finished = CASE WHEN $3::text = 'done' THEN clock_timestamp() END WHERE schema = $1 AND name = $2";
    client
        .execute(sql, &[&table.schema, &table.name, &phase.word(), &token])
        .await?;
    Ok(())
}

/// Writes that rows are copied up to a key, so many more than before.
pub(super) async fn advance(
    client: &impl GenericClient,
    table: &TableName,
    to: &Key,
    more: i64,
    token: i64,
) -> Result<(), Error> {
    let sql = "UPDATE keyway.conversions SET copied_to = $3, rows = rows + $4, token = $5 WHERE schema = $1 AND name = $2";
    client
        .execute(sql, &[&table.schema, &table.name, to, &more, &token])
        .await?;
    Ok(())
}

/// Writes which triggers keep the new parent in step.
pub(super) async fn with_triggers(
    client: &impl GenericClient,
    table: &TableName,
    triggers: &str,
) -> Result<(), Error> {
    let sql = "UPDATE keyway.conversions SET triggers = $3 WHERE schema = $1 AND name = $2";
    client
        .execute(sql, &[&table.schema, &table.name, &triggers])
        .await?;
    Ok(())
}

/// The row versions of Keyway's triggers on a table: somebody who switched one off and on again left another.
pub(super) async fn triggers(client: &impl GenericClient, old: u32) -> Result<String, Error> {
    let sql = "SELECT coalesce(pg_catalog.string_agg(t.oid || ' ' || t.xmin || ' ' || t.tgenabled::text || ' ' || f.xmin, ', ' ORDER BY t.oid), '')
               FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid
               WHERE t.tgrelid = $1 AND f.pronamespace = 'keyway'::regnamespace";
    client.query_one(sql, &[&old]).await?.try_get(0)
}
