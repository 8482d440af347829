//! Runs one step on one shard.

use crate::catalog::lease::{Job, fence};
use crate::catalog::servers::chain;
use crate::catalog::words::{holders, in_words, is_lock_wait};
use crate::config::values::TableName;
use crate::partition::retired;
use crate::partition::sql::{Detach, Table, qualified};
use crate::partition::steps::{Block, End, LOCK_TIMEOUT, Step};
use std::time::Duration;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, GenericClient};

/// Tries of a transaction that gets no lock: about three minutes.
const LOCK_TRIES: u32 = 20;

/// The longest pause between two of them.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// PostgreSQL refused a statement.
    #[error("{statement}: {what}")]
    Statement {
        /// The statement.
        statement: String,
        /// PostgreSQL's error with its SQLSTATE.
        what: String,
    },
    /// Rows of its range are in the default partition.
    #[error(
        "partition {partition} cannot be attached, for rows of its range are in the default partition: {what}; move them out of it, \
         then apply again"
    )]
    InDefault {
        /// The partition.
        partition: TableName,
        /// PostgreSQL's error with its SQLSTATE.
        what: String,
    },
    /// Nobody let go of a lock.
    #[error("partition {partition}: no lock in {tries} tries of {LOCK_TIMEOUT}; {holders}")]
    Locked {
        /// The partition.
        partition: TableName,
        /// Tries.
        tries: u32,
        /// Who has been in a transaction for long.
        holders: String,
    },
    /// Old transactions have not ended.
    #[error(
        "partition {partition} is being detached and waits for transactions that began before ({} s so far); {holders}; the next \
         apply ends it", patience.as_secs()
    )]
    Waits {
        /// The partition.
        partition: TableName,
        /// How long it has waited.
        patience: Duration,
        /// Who has been in a transaction for long.
        holders: String,
    },
    /// The table of that name is not the one that was detached.
    #[error(
        "{0} is not the table that was detached, or is a partition again; nothing is done with it"
    )]
    NotProven(TableName),
    /// Another runner has taken over.
    #[error("another runner has taken over; this one stops")]
    Fenced,
    /// The server is gone.
    #[error("{doing}: {why}")]
    Server {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        why: String,
    },
}

fn server(doing: &'static str) -> impl Fn(Error) -> StepError {
    move |error| StepError::Server {
        doing,
        why: chain(&error),
    }
}

/// One table's side of a run.
#[derive(Debug)]
pub(super) struct Place<'r> {
    /// What the statements are made from.
    pub(super) table: Table<'r>,
    /// The table's name.
    pub(super) parent: &'r TableName,
    /// Its oid.
    pub(super) oid: u32,
    /// The runner's number.
    pub(super) token: i64,
    /// How long a DETACH waits for old transactions.
    pub(super) patience: Duration,
}

impl Place<'_> {
    /// Runs a step.
    ///
    /// # Errors
    /// When a statement fails, gets no lock, or waits for too long.
    pub(super) async fn run(&self, client: &mut Client, step: &Step) -> Result<(), StepError> {
        let blocks = step.blocks(&self.table, self.parent);
        let end = match step {
            Step::Retire { end, how, .. } => {
                if *how != Detach::AtOnce {
                    self.intend(client, end).await?;
                }
                (*how != Detach::AtOnce).then_some(end)
            }
            Step::Finish(end) => Some(end),
            Step::Create(_) | Step::Finalize(_) => None,
        };
        for block in &blocks {
            match block {
                Block::Transaction(statements) => {
                    self.transaction(client, step, statements, end).await?;
                }
                Block::Alone(statement) => self.alone(client, step, statement).await?,
            }
        }
        Ok(())
    }

    /// Forgets notes that nothing is left to do for.
    pub(super) async fn forget(&self, client: &mut Client, oids: &[u32]) -> Result<(), StepError> {
        let writing = client.transaction().await.map_err(server("begin"))?;
        self.fenced(&writing).await?;
        for oid in oids {
            retired::forget(&writing, *oid)
                .await
                .map_err(server("write keyway.retired"))?;
        }
        writing.commit().await.map_err(server("commit"))
    }

    async fn intend(&self, client: &mut Client, end: &End) -> Result<(), StepError> {
        let writing = client.transaction().await.map_err(server("begin"))?;
        self.fenced(&writing).await?;
        retired::write(&writing, self.parent, end, self.token)
            .await
            .map_err(server("write keyway.retired"))?;
        writing.commit().await.map_err(server("commit"))
    }

    async fn fenced(&self, client: &impl GenericClient) -> Result<(), StepError> {
        let is_newest = fence(client, Job::Partitions, self.token)
            .await
            .map_err(server("ask the fence"))?;
        if is_newest {
            Ok(())
        } else {
            Err(StepError::Fenced)
        }
    }

    /// All or nothing, again when a lock is not to be had.
    async fn transaction(
        &self,
        client: &mut Client,
        step: &Step,
        statements: &[String],
        end: Option<&End>,
    ) -> Result<(), StepError> {
        let mut pause = Duration::from_millis(250);
        for tries in 1.. {
            let writing = client.transaction().await.map_err(server("begin"))?;
            let limit = format!("SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'");
            writing
                .batch_execute(&limit)
                .await
                .map_err(server("set lock_timeout"))?;
            self.fenced(&writing).await?;
            let (statement, error) = match run_all(&writing, statements, end).await {
                Ok(true) => return writing.commit().await.map_err(server("commit")),
                Ok(false) => return Err(StepError::NotProven(step.partition().clone())),
                Err(failed) => failed,
            };
            writing.rollback().await.map_err(server("roll back"))?;
            if !is_lock_wait(&error) || tries == LOCK_TRIES {
                return Err(self.told(client, step, statement, &error, tries).await);
            }
            tracing::info!(partition = %step.partition(), tries, "no lock yet");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        Ok(())
    }

    /// Waits for old transactions, for as long as there is patience.
    async fn alone(&self, client: &Client, step: &Step, statement: &str) -> Result<(), StepError> {
        self.fenced(client).await?;
        let set = |limit: u128| async move {
            let limit = format!("SET statement_timeout = '{limit}ms'");
            client
                .batch_execute(&limit)
                .await
                .map_err(server("set statement_timeout"))
        };
        set(self.patience.as_millis()).await?;
        let ran = client.batch_execute(statement).await;
        if client.is_closed() {
            return ran.map_err(server("detach a partition"));
        }
        set(0).await?;
        match ran {
            Ok(()) => Ok(()),
            Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => {
                Err(StepError::Waits {
                    partition: step.partition().clone(),
                    patience: self.patience,
                    holders: holders(client, &[self.oid]).await,
                })
            }
            Err(error) => Err(self.told(client, step, statement, &error, 1).await),
        }
    }

    async fn told(
        &self,
        client: &Client,
        step: &Step,
        statement: &str,
        error: &Error,
        tries: u32,
    ) -> StepError {
        let partition = step.partition().clone();
        match error.code() {
            Some(&SqlState::LOCK_NOT_AVAILABLE) => StepError::Locked {
                partition,
                tries,
                holders: holders(client, &[self.oid]).await,
            },
            Some(&SqlState::CHECK_VIOLATION) if matches!(step, Step::Create(_)) => {
                StepError::InDefault {
                    partition,
                    what: in_words(error),
                }
            }
            _ => StepError::Statement {
                statement: statement.to_owned(),
                what: in_words(error),
            },
        }
    }
}

/// Runs statements, those of an end only when it is proven that the table is the one that was detached. False when it is not.
async fn run_all<'s>(
    client: &impl GenericClient,
    statements: &'s [String],
    end: Option<&End>,
) -> Result<bool, (&'s str, Error)> {
    const NOTES: &str = "read and write keyway.retired";
    if let Some(end) = end {
        if !end.is_foreign {
            // It stays what it is until the end of the transaction.
            let lock = format!(
                "LOCK TABLE {} IN ACCESS EXCLUSIVE MODE",
                qualified(&end.name)
            );
            let locked = client.batch_execute(&lock).await;
            locked.map_err(|error| ("LOCK TABLE", error))?;
        }
        let is_proven = retired::is_proven(client, end).await;
        if !is_proven.map_err(|error| (NOTES, error))? {
            return Ok(false);
        }
    }
    for statement in statements {
        client
            .batch_execute(statement)
            .await
            .map_err(|error| (statement.as_str(), error))?;
    }
    if let Some(end) = end {
        let forgotten = retired::forget(client, end.oid).await;
        forgotten.map_err(|error| (NOTES, error))?;
    }
    Ok(true)
}
