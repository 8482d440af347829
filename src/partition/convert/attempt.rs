//! A transaction that waits for locks only shortly, lets everybody pass, and tries again.

use crate::catalog::lease::{Job, fence};
use crate::catalog::words::{holders, in_words, is_lock_wait};
use crate::partition::convert::{ConvertError, server};
use std::time::Duration;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, Transaction};

/// How long a statement waits for a lock. Below PostgreSQL's deadlock_timeout (1 s), so that it is this side that gives up.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_millis(200);

/// Tries of a transaction that gets no lock: about five minutes.
const LOCK_TRIES: u32 = 60;

/// The pauses between them grow up to this.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Pauses between tries.
#[derive(Debug)]
pub(super) struct Patience {
    tries: u32,
    pause: Duration,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self {
            tries: 0,
            pause: Duration::from_millis(50),
        }
    }

    /// Waits before the next try of what failed by `error`.
    ///
    /// # Errors
    /// When it would fail again, or there were tries enough.
    pub(super) async fn again(
        &mut self,
        client: &Client,
        doing: &'static str,
        error: &Error,
    ) -> Result<(), ConvertError> {
        self.tries += 1;
        if !passes(error) {
            return Err(ConvertError::Server {
                doing,
                why: in_words(error),
            });
        }
        if self.tries == LOCK_TRIES {
            return Err(ConvertError::Locked {
                doing,
                tries: self.tries,
                holders: holders(client, &[]).await,
            });
        }
        tracing::info!(doing, tries = self.tries, "no lock yet");
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(())
    }
}

/// Will it be better later?
fn passes(error: &Error) -> bool {
    is_lock_wait(error) || error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE)
}

/// A transaction of the runner with this number. It waits for locks [`LOCK_TIMEOUT`] long.
///
/// # Errors
/// When the server fails, or another runner has taken over.
pub(super) async fn begin(
    client: &mut Client,
    job: Job,
    token: i64,
) -> Result<Transaction<'_>, ConvertError> {
    let writing = client.transaction().await.map_err(server("begin"))?;
    // Before the limit: only a transaction of another runner that is about to end has this row.
    if !fence(&writing, job, token)
        .await
        .map_err(server("ask the fence"))?
    {
        return Err(ConvertError::Fenced);
    }
    let limit = format!("SET LOCAL lock_timeout = '{}ms'", LOCK_TIMEOUT.as_millis());
    writing
        .batch_execute(&limit)
        .await
        .map_err(server("set lock_timeout"))?;
    Ok(writing)
}

/// Runs statements in one transaction, again and again until they get their locks.
///
/// # Errors
/// When a statement fails, or gets no lock.
pub(super) async fn all(
    client: &mut Client,
    job: Job,
    token: i64,
    doing: &'static str,
    statements: &[String],
) -> Result<(), ConvertError> {
    let mut patience = Patience::new();
    loop {
        let writing = begin(client, job, token).await?;
        let run = async {
            writing.batch_execute(&statements.join(";\n")).await?;
            writing.commit().await
        };
        match run.await {
            Ok(()) => return Ok(()),
            Err(error) => patience.again(client, doing, &error).await?,
        }
    }
}
