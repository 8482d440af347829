//! The history that each shard keeps of its own migrations, in schema `keyway`.

use crate::migrate::files::{Key, Migration};
use crate::migrate::plan::{Entry, State};
use crate::migrate::version::Version;
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
    let sql = "SELECT key, name, checksum, kind, begun, done, finished IS NOT NULL
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
        let finished: bool = row.try_get(6)?;
        let state = match (kind.as_str(), finished) {
            ("baseline", _) => State::Baseline,
            (_, true) => State::Done,
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

/// Writes how far a migration has come. All of it: it is done.
pub(super) async fn record(
    client: &impl GenericClient,
    keyspace: &str,
    migration: &Migration,
    (begun, done): (usize, usize),
    token: i64,
) -> Result<(), Error> {
    let (kind, key) = match &migration.key {
        Key::Version(version) => ("version", version.to_string()),
        Key::Repeatable(name) => ("repeatable", name.clone()),
    };
    let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let all = migration.up.statements.len();
    let sql = "INSERT INTO keyway.migrations AS m
                 (keyspace, kind, key, name, checksum, statements, begun, done, token, tool, finished)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, CASE WHEN $8::integer = $6::integer THEN clock_timestamp() END)
               ON CONFLICT (keyspace, kind, key) DO UPDATE SET name = excluded.name, checksum = excluded.checksum,
                 statements = excluded.statements, begun = excluded.begun, done = excluded.done, token = excluded.token,
                 tool = excluded.tool, role = excluded.role, finished = excluded.finished,
                 started = CASE WHEN excluded.begun <= 1 THEN excluded.started ELSE m.started END";
    client
        .execute(
            sql,
            &[
                &keyspace,
                &kind,
                &key,
                &migration.name,
                &migration.up.checksum,
                &count(all),
                &count(begun),
                &count(done),
                &token,
                &TOOL,
            ],
        )
        .await?;
    Ok(())
}
