//! The moment in which the new parent takes the old table's place.

use crate::catalog::lease::Job;
use crate::catalog::words::holders;
use crate::partition::convert::attempt::{Patience, begin};
use crate::partition::convert::design::{Design, new_name};
use crate::partition::convert::facts;
use crate::partition::convert::state::{self, Phase, State};
use crate::partition::convert::{ConvertError, server};
use crate::partition::sql::qualified;
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::{Client, Error, Transaction};

/// How often it is asked whether others are through.
const POLL: Duration = Duration::from_millis(100);

/// Is it meant?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Everything is done and rolled back: what PostgreSQL refuses, it refuses before the copy.
    Rehearsal,
    /// It is.
    Real,
}

/// What it cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stall {
    /// The longest wait for the lock, while writers and readers waited behind it.
    pub waited: Duration,
    /// How long the lock was held.
    pub held: Duration,
}

/// How a try ended.
enum Tried {
    Done,
    /// The table is not as the design has it.
    Changed,
    /// The triggers are not those that were made.
    Untriggered,
}

/// Swaps. `None` when the table has changed since `version`: its facts have to be read again.
///
/// # Errors
/// When PostgreSQL refuses it, or nobody lets go of a lock.
pub(super) async fn swap(
    client: &mut Client,
    design: &Design<'_>,
    (version, state): (&str, &State),
    (job, token): (Job, i64),
    manner: Manner,
) -> Result<Option<Stall>, ConvertError> {
    let doing = match manner {
        Manner::Rehearsal => "rehearse the swap",
        Manner::Real => "swap",
    };
    let mut patience = Patience::new();
    let mut stall = Stall::default();
    loop {
        quiet(client, design).await.map_err(server(doing))?;
        let writing = begin(client, job, token).await?;
        let started = Instant::now();
        let lock = format!(
            "LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE",
            qualified(&design.table())
        );
        let locked = writing.batch_execute(&lock).await;
        stall.waited = stall.waited.max(started.elapsed());
        let held = Instant::now();
        let tried = match locked {
            Ok(()) => under_lock(writing, design, (version, state), token, manner).await,
            Err(error) => {
                drop(writing);
                Err(error)
            }
        };
        stall.held = stall.held.max(held.elapsed());
        match tried {
            Ok(Tried::Done) => return Ok(Some(stall)),
            Ok(Tried::Changed) => return Ok(None),
            Ok(Tried::Untriggered) => {
                return Err(ConvertError::Changed {
                    table: design.table().to_string(),
                    what:
                        "somebody changed Keyway's triggers on it, or switched them off for a while"
                            .to_owned(),
                });
            }
            Err(error) => patience.again(client, doing, &error).await?,
        }
    }
}

async fn under_lock(
    writing: Transaction<'_>,
    design: &Design<'_>,
    (version, state): (&str, &State),
    token: i64,
    manner: Manner,
) -> Result<Tried, Error> {
    if facts::version(&writing, design.facts.oid).await? != version {
        return Ok(Tried::Changed);
    }
    let triggers = state::triggers(&writing, design.facts.oid).await?;
    if Some(&triggers) != state.triggers.as_ref() {
        return Ok(Tried::Untriggered);
    }
    writing.batch_execute(&design.swap().join(";\n")).await?;
    match manner {
        Manner::Rehearsal => writing.rollback().await?,
        Manner::Real => {
            let after = if design.afterwards().is_empty() {
                Phase::Done
            } else {
                Phase::Swapped
            };
            state::enter(&writing, &design.table(), after, token).await?;
            writing.commit().await?;
        }
    }
    Ok(Tried::Done)
}

/// Waits until nobody vacuums or changes the new parent's partitions: the swap locks them while it keeps everybody from the table.
async fn quiet(client: &Client, design: &Design<'_>) -> Result<(), Error> {
    let sql = "SELECT NOT EXISTS (
                 SELECT FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_partition_tree($1::text::regclass) p ON p.relid = l.relation
                 WHERE l.pid <> pg_catalog.pg_backend_pid() AND l.granted
                   AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
                   AND l.mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock'))";
    let new = qualified(&new_name(&design.table()));
    let mut every = tokio::time::interval(POLL);
    loop {
        every.tick().await;
        if client.query_one(sql, &[&new]).await?.try_get(0)? {
            return Ok(());
        }
    }
}

/// Waits until every transaction is over whose snapshot is older than this moment: it would look for rows in the new parent that were
/// copied after it began, and not see them (as manual, 13.6, says of ALTER TABLE). Vacuums, which no role runs, look for none. Asked only
/// of what every role may see. `tell` hears who is waited for.
pub(super) async fn settle(client: &Client, tell: &(dyn Fn(String) + Sync)) -> Result<(), Error> {
    let sql = "SELECT pid || ' ' || backend_xmin || ' ' || coalesce(xact_start::text, '') FROM pg_catalog.pg_stat_activity
               WHERE backend_xmin IS NOT NULL AND pid <> pg_catalog.pg_backend_pid() AND datname = pg_catalog.current_database()
                 AND usesysid IS NOT NULL";
    let snapshots = || async {
        let rows = client.query(sql, &[]).await?;
        rows.iter()
            .map(|row| row.try_get(0))
            .collect::<Result<Vec<String>, Error>>()
    };
    let mut old = snapshots().await?;
    let started = Instant::now();
    let mut is_told = false;
    let mut every = tokio::time::interval(POLL);
    while !old.is_empty() {
        every.tick().await;
        let now = snapshots().await?;
        old.retain(|one| now.contains(one));
        if !is_told && !old.is_empty() && started.elapsed() > Duration::from_secs(2) {
            is_told = true;
            let holders = holders(client, &[]).await;
            tell(format!(
                "waits for transactions that began before the copy ended; {holders}"
            ));
        }
    }
    Ok(())
}
