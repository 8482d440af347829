//! The history that each shard keeps of its own migrations, in schema `keyway`.

use crate::migrate::files::{Key, Migration, Script};
use crate::migrate::plan::{Entry, State, Step};
use crate::migrate::version::Version;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, GenericClient};

/// What a runner needs on each shard.
const TABLES: &str = "
    SET LOCAL client_min_messages = warning;
    CREATE TABLE IF NOT EXISTS keyway.migrations (
        keyspace   text NOT NULL,
        key        text NOT NULL,
        name       text NOT NULL,
        checksum   text NOT NULL,
        kind       text NOT NULL CHECK (kind IN ('version', 'repeatable', 'baseline')),
        direction  text NOT NULL CHECK (direction IN ('up', 'down')),
        statements integer NOT NULL,
        begun      integer NOT NULL CHECK (begun BETWEEN 0 AND statements),
        done       integer NOT NULL CHECK (done BETWEEN 0 AND begun),
        token      bigint NOT NULL,
        role       text NOT NULL DEFAULT session_user,
        tool       text NOT NULL,
        started    timestamptz NOT NULL DEFAULT clock_timestamp(),
        finished   timestamptz,
        PRIMARY KEY (keyspace, kind, key)
    );
    COMMENT ON TABLE keyway.migrations IS 'Which migrations ran on this shard. `keyway migrate` keeps it.';";

/// Who ran a migration.
const TOOL: &str = concat!("keyway ", env!("CARGO_PKG_VERSION"));

/// Makes the tables, where they are missing.
pub(super) async fn prepare(client: &Client) -> Result<(), Error> {
    client
        .batch_execute(&format!("BEGIN; {TABLES} COMMIT"))
        .await
}

/// The history of a keyspace on a shard; empty where no runner has been.
pub(super) async fn read(client: &Client, keyspace: &str) -> Result<Vec<Entry>, Error> {
    let there: bool = client
        .query_one(
            "SELECT pg_catalog.to_regclass('keyway.migrations') IS NOT NULL",
            &[],
        )
        .await?
        .try_get(0)?;
    if !there {
        return Ok(Vec::new());
    }
    let sql =
        "SELECT key, name, checksum, kind, begun, done, finished IS NOT NULL, direction = 'down'
               FROM keyway.migrations WHERE keyspace = $1";
    let mut rows = Vec::new();
    for row in client.query(sql, &[&keyspace]).await? {
        let (key, kind): (String, String) = (row.try_get(0)?, row.try_get(3)?);
        let key = match (kind.as_str(), Version::parse(&key)) {
            ("repeatable", _) | (_, None) => Key::Repeatable(key),
            (_, Some(version)) => Key::Version(version),
        };
        let count = |at: usize| -> Result<usize, Error> {
            let count: i32 = row.try_get(at)?;
            Ok(usize::try_from(count).unwrap_or_default())
        };
        let (begun, done) = (count(4)?, count(5)?);
        let (finished, back): (bool, bool) = (row.try_get(6)?, row.try_get(7)?);
        let state = match (kind.as_str(), finished) {
            ("baseline", _) => State::Baseline,
            (_, true) => State::Done,
            (_, false) if back => State::Undoing { begun, done },
            (_, false) => State::Running { begun, done },
        };
        rows.push(Entry {
            key,
            name: row.try_get(1)?,
            checksum: row.try_get(2)?,
            state,
        });
    }
    Ok(rows)
}

/// Where a migration's row is: its kind and its key.
fn place(key: &Key) -> (&'static str, String) {
    match key {
        Key::Version(version) => ("version", version.to_string()),
        Key::Repeatable(name) => ("repeatable", name.clone()),
    }
}

fn count(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Writes how far a step has come. All of it: it is done, and what was undone is forgotten.
pub(super) async fn record(
    client: &impl GenericClient,
    keyspace: &str,
    step: &Step<'_>,
    (begun, done): (usize, usize),
    token: i64,
) -> Result<(), Error> {
    let (kind, key) = place(&step.migration.key);
    let all = step.script.statements.len();
    if step.back && done == all {
        return forget(client, keyspace, &step.migration.key).await;
    }
    let direction = if step.back { "down" } else { "up" };
    let sql = "INSERT INTO keyway.migrations AS m
                 (keyspace, kind, key, name, checksum, direction, statements, begun, done, token, tool, finished)
               VALUES ($1, $2, $3, $4, $5, $11, $6, $7, $8, $9, $10, CASE WHEN $8::integer = $6::integer THEN clock_timestamp() END)
               ON CONFLICT (keyspace, kind, key) DO UPDATE SET name = excluded.name, checksum = excluded.checksum,
                 direction = excluded.direction, statements = excluded.statements, begun = excluded.begun, done = excluded.done,
                 token = excluded.token, tool = excluded.tool, role = excluded.role, finished = excluded.finished,
                 started = CASE WHEN excluded.begun <= 1 THEN excluded.started ELSE m.started END";
    client
        .execute(
            sql,
            &[
                &keyspace,
                &kind,
                &key,
                &step.migration.name,
                &step.script.checksum,
                &count(all),
                &count(begun),
                &count(done),
                &token,
                &TOOL,
                &direction,
            ],
        )
        .await?;
    Ok(())
}

/// Forgets that a migration ran.
pub(super) async fn forget(
    client: &impl GenericClient,
    keyspace: &str,
    key: &Key,
) -> Result<(), Error> {
    let (kind, key) = place(key);
    let sql = "DELETE FROM keyway.migrations WHERE keyspace = $1 AND kind = $2 AND key = $3";
    client.execute(sql, &[&keyspace, &kind, &key]).await?;
    Ok(())
}

/// Writes that the shard had a version before its history began.
pub(super) async fn begin_at(
    client: &impl GenericClient,
    keyspace: &str,
    (version, name, checksum): (&Version, &str, &str),
    token: i64,
) -> Result<(), Error> {
    let sql = "INSERT INTO keyway.migrations
                 (keyspace, kind, key, name, checksum, direction, statements, begun, done, token, tool, finished)
               VALUES ($1, 'baseline', $2, $3, $4, 'up', 0, 0, 0, $5, $6, clock_timestamp())";
    let key = version.to_string();
    client
        .execute(sql, &[&keyspace, &key, &name, &checksum, &token, &TOOL])
        .await?;
    Ok(())
}

/// Writes a file's present text and name to the row of one that ran, or ran half. True when it thereby has run whole.
pub(super) async fn rewrite(
    client: &impl GenericClient,
    keyspace: &str,
    migration: &Migration,
    script: &Script,
    token: i64,
) -> Result<bool, Error> {
    let (kind, key) = place(&migration.key);
    let all = count(script.statements.len());
    // What is finished stays so, whatever the new text has.
    let sql = "UPDATE keyway.migrations SET name = $4, checksum = $5, token = $7, tool = $8, statements = $6,
                 begun = CASE WHEN finished IS NULL THEN least(begun, $6) ELSE $6 END,
                 done = CASE WHEN finished IS NULL THEN least(done, $6) ELSE $6 END,
                 finished = CASE WHEN finished IS NULL AND done >= $6 THEN clock_timestamp() ELSE finished END
               WHERE keyspace = $1 AND kind = $2 AND key = $3 RETURNING finished IS NOT NULL";
    let values: [&(dyn ToSql + Sync); 8] = [
        &keyspace,
        &kind,
        &key,
        &migration.name,
        &script.checksum,
        &all,
        &token,
        &TOOL,
    ];
    let row = client.query_opt(sql, &values).await?;
    row.map_or(Ok(false), |row| row.try_get(0))
}
