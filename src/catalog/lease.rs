//! One runner at a time: a lease on the catalog's shard, with a number that only grows. A runner that lost its lease
//! without knowing is kept out of each shard by that number ([`fence`]), and one that died with a statement still running on a
//! shard is waited for ([`shard_lock`]).

use crate::catalog::servers::{Direct, chain};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, GenericClient};

/// What one runner at a time does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// Runs migrations.
    Migrations,
    /// Makes and detaches partitions.
    Partitions,
    /// Makes an ordinary table a partitioned one. It may take hours, in which other tables need their partitions.
    Conversions,
}

impl Job {
    /// Its name in `keyway.leases` and `keyway.fences`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Migrations => "migrate",
            Self::Partitions => "partition",
            Self::Conversions => "convert",
        }
    }

    /// What it is doing, for those who wait.
    fn doing(self) -> &'static str {
        match self {
            Self::Migrations => "running migrations",
            Self::Partitions => "changing partitions",
            Self::Conversions => "converting a table",
        }
    }

    /// The second half of its advisory lock's key ("migr", "part", "conv").
    fn lock(self) -> i32 {
        match self {
            Self::Migrations => 0x6d69_6772,
            Self::Partitions => 0x7061_7274,
            Self::Conversions => 0x636f_6e76,
        }
    }
}

/// The first half of the advisory locks' keys ("keyw").
const LOCKS: i32 = 0x6b65_7977;

/// How often a shard's lock is asked for, each half a second: how long a statement of another runner may go on.
const SHARD_LOCK_TRIES: u32 = 120;

/// How long a lease holds that nobody renews.
const TERM: Duration = Duration::from_secs(15);

const TABLE: &str = "
    SET LOCAL client_min_messages = warning;
    SELECT pg_catalog.pg_advisory_xact_lock(1801812343, 1818583411);
    CREATE TABLE IF NOT EXISTS keyway.leases (
        name   text PRIMARY KEY,
        owner  uuid NOT NULL,
        holder text NOT NULL,
        token  bigint NOT NULL,
        until  timestamptz NOT NULL
    );";

/// Somebody else has it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{holder} is {} (its lease holds until {until}); wait for it with --wait 10m", job.doing()
)]
pub struct Held {
    /// What it is doing.
    pub job: Job,
    /// Who: user and host.
    pub holder: String,
    /// Until when, if it dies.
    pub until: String,
}

/// The right to do a job, renewed as long as it lives.
#[derive(Debug)]
pub struct Lease {
    /// The job.
    pub job: Job,
    /// Greater than every runner's before.
    pub token: i64,
    /// True once it is lost.
    pub lost: watch::Receiver<bool>,
    stop: watch::Sender<bool>,
    renewing: tokio::task::JoinHandle<()>,
}

impl Lease {
    /// Takes the lease, waiting for it as long as `wait`.
    ///
    /// # Errors
    /// When the server fails; inside, when somebody holds it.
    pub async fn take(
        connection: Direct,
        job: Job,
        holder: &str,
        wait: Duration,
    ) -> Result<Result<Self, Held>, Error> {
        let owner = uuid::Uuid::new_v4().to_string();
        let client = &connection.client;
        client
            .batch_execute(&format!("BEGIN; {TABLE} COMMIT"))
            .await?;
        let deadline = Instant::now() + wait;
        let mut every = tokio::time::interval(Duration::from_millis(250));
        let term = format!("{} milliseconds", TERM.as_millis());
        let take = "INSERT INTO keyway.leases AS l (name, owner, holder, token, until)
                    VALUES ($4, $1::text::uuid, $2, 1, clock_timestamp() + $3::text::interval)
                    ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, holder = excluded.holder,
                      token = l.token + 1, until = excluded.until
                    WHERE l.until < clock_timestamp() RETURNING token";
        let token: i64 = loop {
            every.tick().await;
            if let Some(row) = client
                .query_opt(take, &[&owner, &holder, &term, &job.name()])
                .await?
            {
                break row.try_get(0)?;
            }
            if Instant::now() >= deadline {
                let sql =
                    "SELECT holder, pg_catalog.date_trunc('second', until)::text FROM keyway.leases
                           WHERE name = $1";
                let row = client.query_one(sql, &[&job.name()]).await?;
                return Ok(Err(Held {
                    job,
                    holder: row.try_get(0)?,
                    until: row.try_get(1)?,
                }));
            }
        };
        let (lose, lost) = watch::channel(false);
        let (stop, stopped) = watch::channel(false);
        let renewing = tokio::spawn(renew(connection, job, (owner, token), lose, stopped));
        Ok(Ok(Self {
            job,
            token,
            lost,
            stop,
            renewing,
        }))
    }

    /// Gives it back, so that the next runner need not wait for its end.
    pub async fn release(self) {
        // Nobody hears it when the lease is lost already.
        let _ = self.stop.send(true);
        let _ = self.renewing.await;
    }
}

/// Renews the lease three times a term, until it is asked to give it back, or it is lost.
async fn renew(
    connection: Direct,
    job: Job,
    (owner, token): (String, i64),
    lose: watch::Sender<bool>,
    mut stopped: watch::Receiver<bool>,
) {
    let client = &connection.client;
    let term = format!("{} milliseconds", TERM.as_millis());
    let renew = "UPDATE keyway.leases SET until = clock_timestamp() + $3::text::interval
                 WHERE name = $4 AND owner = $1::text::uuid AND token = $2 AND until > clock_timestamp()";
    let release = "UPDATE keyway.leases SET until = '-infinity'
                   WHERE name = $3 AND owner = $1::text::uuid AND token = $2";
    loop {
        tokio::select! {
            _ = stopped.changed() => {
                if let Err(error) = client.execute(release, &[&owner, &token, &job.name()]).await {
                    tracing::warn!(%error, "the lease is not given back; it ends by itself");
                }
                return;
            }
            () = tokio::time::sleep(TERM / 3) => {}
        }
        let name = job.name();
        let values: [&(dyn ToSql + Sync); 4] = [&owner, &token, &term, &name];
        let renewed = tokio::time::timeout(TERM / 3, client.execute(renew, &values)).await;
        if !matches!(renewed, Ok(Ok(1))) {
            tracing::error!(job = job.name(), "the lease is lost; this runner stops");
            let _ = lose.send(true);
            return;
        }
    }
}

/// What a runner needs on each shard it works on.
const FENCES: &str = "
    SET LOCAL client_min_messages = warning;
    CREATE TABLE IF NOT EXISTS keyway.fences (
        name  text PRIMARY KEY,
        token bigint NOT NULL
    );";

/// Makes the table that [`fence`] asks, where it is missing.
///
/// # Errors
/// When the server fails.
pub async fn prepare(client: &Client) -> Result<(), Error> {
    client
        .batch_execute(&format!("BEGIN; {FENCES} COMMIT"))
        .await
}

/// Lets nobody in whose token is older than the newest seen on this shard. False when the caller's is. In the transaction of
/// what it protects.
///
/// # Errors
/// When the server fails.
pub async fn fence(client: &impl GenericClient, job: Job, token: i64) -> Result<bool, Error> {
    let sql = "INSERT INTO keyway.fences AS f (name, token) VALUES ($2, $1)
               ON CONFLICT (name) DO UPDATE SET token = excluded.token WHERE f.token <= excluded.token
               RETURNING token";
    Ok(client
        .query_opt(sql, &[&token, &job.name()])
        .await?
        .is_some())
}

/// Takes the job's lock of a shard for the session that works, outside any transaction. Asks again and again: a session that
/// waited for it would have a snapshot, which CREATE INDEX CONCURRENTLY waits for. As long as a statement of a runner that died
/// still runs on the shard, the next runner does not get it.
///
/// # Errors
/// What to tell people, when it is not to be had.
pub async fn shard_lock(connection: &Direct, job: Job) -> Result<(), String> {
    let mut every = tokio::time::interval(Duration::from_millis(500));
    for _ in 0..SHARD_LOCK_TRIES {
        every.tick().await;
        let sql = "SELECT pg_catalog.pg_try_advisory_lock($1, $2)";
        let row = connection
            .client
            .query_one(sql, &[&LOCKS, &job.lock()])
            .await;
        let taken = row.and_then(|row| row.try_get(0));
        if taken.map_err(|error| chain(&error))? {
            return Ok(());
        }
    }
    Err("a statement of another runner is still running on it".to_owned())
}

/// Who runs a job, for those who wait: user, host and process.
#[must_use]
pub fn holder() -> String {
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| "?".to_owned());
    format!(
        "{}@{} (pid {})",
        variable("USER"),
        variable("HOSTNAME"),
        std::process::id()
    )
}
