//! Histories that people correct: `repair` writes down what the files say now, `baseline` what a shard had before Keyway came.

use crate::catalog::Catalog;
use crate::catalog::lease::{Job, Lease, fence};
use crate::catalog::servers::chain;
use crate::migrate::files::{Key, Migration, Script};
use crate::migrate::history;
use crate::migrate::plan::{Entry, State};
use crate::migrate::required;
use crate::migrate::rollout::{Keyspace, News, Open, RolloutError, open_all};
use crate::migrate::version::Version;
use std::fmt;
use tokio_postgres::Transaction;

/// One correction of a shard's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mend<'m> {
    /// What ran has no file any more.
    Forget {
        /// Which.
        key: Key,
        /// Its name when it ran.
        name: String,
    },
    /// A file has another text or name than when it ran.
    Rewrite {
        /// The migration.
        migration: &'m Migration,
        /// The way there or, half undone, the way back.
        script: &'m Script,
        /// It ran half: the next run goes on behind so many statements of the new text.
        done: Option<usize>,
    },
}

impl fmt::Display for Mend<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forget { key, name } => {
                write!(out, "{key} {name} has no file: forgotten")
            }
            Self::Rewrite { script, done, .. } => {
                write!(out, "{}: its present text counts as what ran", script.file)?;
                match done {
                    Some(done) => write!(out, "; it goes on behind statement {done}"),
                    None => Ok(()),
                }
            }
        }
    }
}

/// What is to be corrected in one shard's history.
#[must_use]
pub fn mends<'m>(migrations: &'m [Migration], history: &[Entry]) -> Vec<Mend<'m>> {
    let mut mends = Vec::new();
    for entry in history {
        let migration = migrations.iter().find(|own| own.key == entry.key);
        let (script, done) = match (migration, entry.state) {
            (_, State::Baseline) => continue,
            (None, _) => {
                mends.push(Mend::Forget {
                    key: entry.key.clone(),
                    name: entry.name.clone(),
                });
                continue;
            }
            // A changed one that is repeatable runs again.
            (Some(own), State::Done) if matches!(own.key, Key::Repeatable(_)) => continue,
            (Some(own), State::Done) => (Some(&own.up), None),
            (Some(own), State::Running { done, .. }) => (Some(&own.up), Some(done)),
            (Some(own), State::Undoing { done, .. }) => (own.down.as_ref(), Some(done)),
        };
        if let (Some(migration), Some(script)) = (migration, script)
            && (script.checksum != entry.checksum || migration.name != entry.name)
        {
            mends.push(Mend::Rewrite {
                migration,
                script,
                done,
            });
        }
    }
    mends
}

/// Corrects the histories of all shards of a keyspace, or only says what it would do.
///
/// # Errors
/// When a shard does not answer: nothing has changed then but on the shards told of.
pub async fn repair(
    catalog: &Catalog,
    keyspace: &Keyspace<'_>,
    lease: &Lease,
    dry_run: bool,
    tell: &(dyn Fn(&str, &Mend<'_>) + Sync),
) -> Result<(), MendError> {
    let mut open = opened(catalog, keyspace).await?;
    let all: Vec<Vec<Mend<'_>>> = open
        .iter()
        .map(|open| mends(keyspace.migrations, &open.history))
        .collect();
    if dry_run {
        for (open, mends) in open.iter().zip(&all) {
            mends.iter().for_each(|mend| tell(&open.shard.0, mend));
        }
        return Ok(());
    }
    let forgotten = all.iter().flatten().filter_map(|mend| match mend {
        Mend::Forget { key, .. } => Some(key),
        Mend::Rewrite { .. } => None,
    });
    required::lower(catalog, keyspace, forgotten)
        .await
        .map_err(RolloutError::from)?;
    for (open, mends) in open.iter_mut().zip(&all) {
        let failed = at(&open.shard.0);
        let writing = begin(open, lease).await?;
        for mend in mends {
            let name = keyspace.name;
            match mend {
                Mend::Forget { key, .. } => history::forget(&writing, name, key).await,
                Mend::Rewrite {
                    migration, script, ..
                } => history::rewrite(&writing, name, migration, script, lease.token)
                    .await
                    .map(|_| ()),
            }
            .map_err(&failed)?;
        }
        writing.commit().await.map_err(&failed)?;
        mends.iter().for_each(|mend| tell(&open.shard.0, mend));
    }
    required::raise(catalog, keyspace, lease.token)
        .await
        .map_err(RolloutError::from)?;
    Ok(())
}

/// Begins the histories of all shards of a keyspace: they have `version` and every file before it. Returns the shards whose history
/// began so already.
///
/// # Errors
/// When a shard does not answer, or has another history: nothing has changed.
pub async fn baseline(
    catalog: &Catalog,
    keyspace: &Keyspace<'_>,
    lease: &Lease,
    version: &Version,
) -> Result<Vec<String>, MendError> {
    let mut open = opened(catalog, keyspace).await?;
    let mut known = Vec::new();
    for Open { shard, history, .. } in &open {
        let last = history.iter().map(|entry| &entry.key).max();
        let is_baseline = history.iter().all(|entry| entry.state == State::Baseline);
        match last {
            None => {}
            Some(Key::Version(last)) if is_baseline && last == version => {
                known.push(shard.0.clone())
            }
            Some(_) => {
                return Err(MendError::HasHistory {
                    shard: shard.0.clone(),
                    entries: history.len(),
                });
            }
        }
    }
    let covered = keyspace
        .migrations
        .iter()
        .filter_map(|migration| match &migration.key {
            Key::Version(own) if own <= version => {
                Some((own, migration.name.as_str(), migration.up.checksum.as_str()))
            }
            _ => None,
        });
    let mut covered: Vec<(&Version, &str, &str)> = covered.collect();
    if covered.last().is_none_or(|(last, ..)| *last != version) {
        covered.push((version, "baseline", ""));
    }
    for open in open
        .iter_mut()
        .filter(|open| !known.contains(&open.shard.0))
    {
        let failed = at(&open.shard.0);
        let writing = begin(open, lease).await?;
        for row in &covered {
            history::begin_at(&writing, keyspace.name, *row, lease.token)
                .await
                .map_err(&failed)?;
        }
        writing.commit().await.map_err(&failed)?;
    }
    required::raise(catalog, keyspace, lease.token)
        .await
        .map_err(RolloutError::from)?;
    Ok(known)
}

/// Why a history was not corrected.
#[derive(Debug, thiserror::Error)]
pub enum MendError {
    /// A shard or the catalog does not answer.
    #[error(transparent)]
    Rollout(#[from] RolloutError),
    /// A shard cannot be locked or read.
    #[error("{shard}: {why}")]
    Shard {
        /// The shard.
        shard: String,
        /// Why.
        why: String,
    },
    /// Another runner has taken over.
    #[error("another runner has taken over; this one stops")]
    Fenced,
    /// A history that is to begin has begun.
    #[error("{shard} has a history of {entries} migrations; a baseline is for shards without any")]
    HasHistory {
        /// The shard.
        shard: String,
        /// Its rows.
        entries: usize,
    },
}

/// A transaction of the newest runner.
async fn begin<'o>(open: &'o mut Open<'_>, lease: &Lease) -> Result<Transaction<'o>, MendError> {
    let failed = at(&open.shard.0);
    let writing = open
        .connection
        .client
        .transaction()
        .await
        .map_err(&failed)?;
    match fence(&writing, Job::Migrations, lease.token).await {
        Ok(true) => Ok(writing),
        Ok(false) => Err(MendError::Fenced),
        Err(error) => Err(failed(error)),
    }
}

fn at(shard: &str) -> impl Fn(tokio_postgres::Error) -> MendError {
    let shard = shard.to_owned();
    move |error| MendError::Shard {
        shard: shard.clone(),
        why: chain(&error),
    }
}

async fn opened<'k>(
    catalog: &Catalog,
    keyspace: &'k Keyspace<'_>,
) -> Result<Vec<Open<'k>>, MendError> {
    let reasons = std::sync::Mutex::new(Vec::new());
    let note = |news: News<'_>| {
        if let News::Failed { shard, why } = news
            && let Ok(mut reasons) = reasons.lock()
        {
            reasons.push((shard.to_owned(), why));
        }
    };
    let (open, _) = open_all(catalog, keyspace, false, &note)
        .await
        .map_err(RolloutError::from)?;
    let reasons = reasons.into_inner().unwrap_or_default();
    match reasons.into_iter().next() {
        Some((shard, why)) => Err(MendError::Shard { shard, why }),
        None => Ok(open),
    }
}
