//! One runner at a time: a lease on the catalog's shard, with a number that only grows. A runner that lost its lease
//! without knowing is kept out by that number ([`history::fence`](crate::migrate::history)).

use crate::catalog::servers::Direct;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_postgres::Error;

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
    "{holder} is running migrations (its lease holds until {until}); wait for it with --wait 10m"
)]
pub struct Held {
    /// Who: user and host.
    pub holder: String,
    /// Until when, if it dies.
    pub until: String,
}

/// The right to run migrations, renewed as long as it lives.
#[derive(Debug)]
pub struct Lease {
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
                    VALUES ('migrate', $1::text::uuid, $2, 1, clock_timestamp() + $3::text::interval)
                    ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, holder = excluded.holder,
                      token = l.token + 1, until = excluded.until
                    WHERE l.until < clock_timestamp() RETURNING token";
        let token: i64 = loop {
            every.tick().await;
            if let Some(row) = client.query_opt(take, &[&owner, &holder, &term]).await? {
                break row.try_get(0)?;
            }
            if Instant::now() >= deadline {
                let sql =
                    "SELECT holder, pg_catalog.date_trunc('second', until)::text FROM keyway.leases
                           WHERE name = 'migrate'";
                let row = client.query_one(sql, &[]).await?;
                return Ok(Err(Held {
                    holder: row.try_get(0)?,
                    until: row.try_get(1)?,
                }));
            }
        };
        let (lose, lost) = watch::channel(false);
        let (stop, stopped) = watch::channel(false);
        let renewing = tokio::spawn(renew(connection, owner, token, lose, stopped));
        Ok(Ok(Self {
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
    owner: String,
    token: i64,
    lose: watch::Sender<bool>,
    mut stopped: watch::Receiver<bool>,
) {
    let client = &connection.client;
    let term = format!("{} milliseconds", TERM.as_millis());
    let renew = "UPDATE keyway.leases SET until = clock_timestamp() + $3::text::interval
                 WHERE name = 'migrate' AND owner = $1::text::uuid AND token = $2 AND until > clock_timestamp()";
    let release = "UPDATE keyway.leases SET until = '-infinity'
                   WHERE name = 'migrate' AND owner = $1::text::uuid AND token = $2";
    loop {
        tokio::select! {
            _ = stopped.changed() => {
                if let Err(error) = client.execute(release, &[&owner, &token]).await {
                    tracing::warn!(%error, "the lease is not given back; it ends by itself");
                }
                return;
            }
            () = tokio::time::sleep(TERM / 3) => {}
        }
        let renewed =
            tokio::time::timeout(TERM / 3, client.execute(renew, &[&owner, &token, &term])).await;
        if !matches!(renewed, Ok(Ok(1))) {
            tracing::error!("the lease on migrations is lost; this runner stops");
            let _ = lose.send(true);
            return;
        }
    }
}
