//! Runs one migration on one shard.
//!
//! In a transaction: the statements and the history row, all or nothing. Outside: statement by statement, and the history
//! says which was begun and which is done, so that a run that was cut off goes on where it stood.

use crate::catalog::lease::{Job, fence};
use crate::catalog::servers::{Direct, chain};
use crate::catalog::words::{holders, in_words, is_lock_wait};
use crate::migrate::concurrent::{Built, built, is_concurrent};
use crate::migrate::files::{Script, Statement, words};
use crate::migrate::history;
use crate::migrate::plan::Step;
use std::time::Duration;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, GenericClient};

/// Tries of a statement that gets no lock: about two minutes with the shortest timeout.
const LOCK_TRIES: u32 = 20;

/// The longest pause between two of them.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// DISCARD ALL, but for the runner's advisory lock.
const RESET: &str = "SET SESSION AUTHORIZATION DEFAULT; RESET ALL; CLOSE ALL; UNLISTEN *; DISCARD TEMP; DISCARD SEQUENCES";

/// In front of the history row: a file may have SET ROLE.
const OWN_RIGHTS: &str = "SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET search_path";

/// Why a migration did not run.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// PostgreSQL refused a statement.
    #[error("{file}:{line}: {what}")]
    Statement {
        /// The file.
        file: String,
        /// The statement's line.
        line: usize,
        /// PostgreSQL's error with its SQLSTATE.
        what: String,
    },
    /// Nobody let go of a lock.
    #[error(
        "{file}:{line}: no lock in {tries} tries of {}; {holders}",
        show(*timeout)
    )]
    Locked {
        /// The file.
        file: String,
        /// The statement's line.
        line: usize,
        /// Tries.
        tries: u32,
        /// How long each waited.
        timeout: Duration,
        /// Who has been in a transaction for long.
        holders: String,
    },
    /// Another runner has taken over.
    #[error("another runner has taken over; this one stops")]
    Fenced,
    /// The history cannot be read or written, or the server is gone.
    #[error("{doing}: {why}")]
    Server {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        why: String,
    },
}

fn show(time: Duration) -> String {
    if time.subsec_millis() == 0 {
        format!("{} s", time.as_secs())
    } else {
        format!("{} ms", time.as_millis())
    }
}

fn server(doing: &'static str) -> impl Fn(Error) -> StepError {
    move |error| StepError::Server {
        doing,
        why: chain(&error),
    }
}

/// One shard's side of a run.
#[derive(Debug)]
pub struct Place<'r> {
    /// Whose history.
    pub keyspace: &'r str,
    /// The runner's number.
    pub token: i64,
    /// What is run behind the statements of each migration, in its transaction.
    pub behind: Option<&'r str>,
}

impl Place<'_> {
    /// Runs a step. Nothing of it is left when it fails inside a transaction.
    ///
    /// # Errors
    /// When a statement fails, or gets no lock.
    pub async fn run(&self, connection: &mut Direct, step: &Step<'_>) -> Result<(), StepError> {
        if step.script.transaction {
            self.at_once(&mut connection.client, step).await?;
        } else {
            self.one_by_one(&connection.client, step).await?;
        }
        // What it SET is its own.
        let reset = connection.client.batch_execute(RESET).await;
        reset.map_err(server("reset the session"))
    }

    async fn at_once(&self, client: &mut Client, step: &Step<'_>) -> Result<(), StepError> {
        let script = step.script;
        let mut pause = Duration::from_millis(250);
        for tries in 1.. {
            let writing = client.transaction().await.map_err(server("begin"))?;
            let limit = format!(
                "SET LOCAL lock_timeout = '{}ms'",
                script.lock_timeout.as_millis()
            );
            writing
                .batch_execute(&limit)
                .await
                .map_err(server("set lock_timeout"))?;
            if !fence(&writing, Job::Migrations, self.token)
                .await
                .map_err(server("ask the fence"))?
            {
                return Err(StepError::Fenced);
            }
            let failed = match run_all(&writing, &script.statements).await {
                Ok(()) => None,
                Err((statement, error)) if is_lock_wait(&error) && tries < LOCK_TRIES => {
                    tracing::info!(
                        file = script.file,
                        line = statement.line,
                        tries,
                        "no lock yet"
                    );
                    Some(error)
                }
                Err((statement, error)) => {
                    drop(writing);
                    return Err(told(client, script, statement, &error, tries).await);
                }
            };
            if failed.is_some() {
                writing.rollback().await.map_err(server("roll back"))?;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
                continue;
            }
            writing
                .batch_execute(OWN_RIGHTS)
                .await
                .map_err(server("take the runner's own role"))?;
            if let Some(behind) = self.behind {
                writing
                    .batch_execute(behind)
                    .await
                    .map_err(|error| StepError::Statement {
                        file: script.file.clone(),
                        line: script.statements.first().map_or(1, |first| first.line),
                        what: in_words(&error),
                    })?;
            }
            let all = script.statements.len();
            let row = history::record(&writing, self.keyspace, step, (all, all), self.token);
            row.await.map_err(server("write the history"))?;
            // What is deferred fails here.
            return writing
                .commit()
                .await
                .map_err(|error| StepError::Statement {
                    file: script.file.clone(),
                    line: script.statements.last().map_or(1, |last| last.line),
                    what: format!("at COMMIT: {}", in_words(&error)),
                });
        }
        Ok(())
    }

    async fn one_by_one(&self, client: &Client, step: &Step<'_>) -> Result<(), StepError> {
        let script = step.script;
        let all = script.statements.len();
        let record = |begun, done| async move {
            if !fence(client, Job::Migrations, self.token)
                .await
                .map_err(server("ask the fence"))?
            {
                return Err(StepError::Fenced);
            }
            let row = history::record(client, self.keyspace, step, (begun, done), self.token);
            row.await.map_err(server("write the history"))
        };
        // What the statements that are done SET went with the session of the run that was cut off.
        let done = script.statements.iter().take(step.from);
        for statement in done.filter(|statement| is_set(&statement.text)) {
            one(client, script, statement).await?;
        }
        for (at, statement) in script.statements.iter().enumerate().skip(step.from) {
            let was_begun = at == step.from && step.begun > step.from;
            record(at + 1, at).await?;
            let left = match built(&statement.text) {
                Some(index) => left_over(client, &index)
                    .await
                    .map_err(server("look for the index"))?,
                None => LeftOver::Nothing,
            };
            if let LeftOver::Invalid(name) = &left {
                tracing::info!(index = name, "an index that was not finished is dropped");
                let sql = format!("DROP INDEX CONCURRENTLY {name}");
                client
                    .batch_execute(&sql)
                    .await
                    .map_err(server("drop an invalid index"))?;
            }
            if !(was_begun && left == LeftOver::Finished)
                && let Err(error) = one(client, script, statement).await
            {
                // It was refused, not cut off: an index of that name is not its work. Where the server is gone, nobody
                // knows, and the history goes on saying so.
                if let Err(error) = record(at, at).await {
                    tracing::debug!(%error, "the history says that the statement was begun");
                }
                return Err(error);
            }
            if at + 1 < all {
                record(at + 1, at + 1).await?;
            }
        }
        if let Some(behind) = self.behind {
            client
                .batch_execute(behind)
                .await
                .map_err(server("divide the sequences"))?;
        }
        record(all, all).await
    }
}

/// Does it change the session's settings?
fn is_set(text: &str) -> bool {
    let words = words(text);
    matches!(words.first().map(String::as_str), Some("SET" | "RESET"))
}

/// One statement outside a transaction. What is done CONCURRENTLY waits for old transactions as long as they last:
/// it blocks nobody.
async fn one(client: &Client, script: &Script, statement: &Statement) -> Result<(), StepError> {
    let concurrent = is_concurrent(&statement.text);
    let limit = if concurrent {
        0
    } else {
        script.lock_timeout.as_millis()
    };
    let limit = format!("SET lock_timeout = '{limit}ms'");
    client
        .batch_execute(&limit)
        .await
        .map_err(server("set lock_timeout"))?;
    let mut pause = Duration::from_millis(250);
    for tries in 1.. {
        let Err(error) = client.batch_execute(&statement.text).await else {
            break;
        };
        // What one that was done CONCURRENTLY left must be looked at first: the next run does.
        if concurrent || !is_lock_wait(&error) || tries == LOCK_TRIES {
            return Err(told(client, script, statement, &error, tries).await);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
    Ok(())
}

async fn told(
    client: &Client,
    script: &Script,
    statement: &Statement,
    error: &Error,
    tries: u32,
) -> StepError {
    let file = script.file.clone();
    let line = statement.line;
    if error.code() != Some(&SqlState::LOCK_NOT_AVAILABLE) {
        return StepError::Statement {
            file,
            line,
            what: in_words(error),
        };
    }
    StepError::Locked {
        file,
        line,
        tries,
        timeout: script.lock_timeout,
        holders: holders(client, &[]).await,
    }
}

async fn run_all<'s>(
    client: &impl GenericClient,
    statements: &'s [Statement],
) -> Result<(), (&'s Statement, Error)> {
    for statement in statements {
        client
            .batch_execute(&statement.text)
            .await
            .map_err(|error| (statement, error))?;
    }
    Ok(())
}

/// What a statement that was cut off left.
#[derive(Debug, PartialEq, Eq)]
enum LeftOver {
    Nothing,
    /// An index that is not valid, by its quoted name.
    Invalid(String),
    /// The index, valid.
    Finished,
}

async fn left_over(client: &Client, index: &Built) -> Result<LeftOver, Error> {
    let sql = "SELECT i.indisvalid, c.oid::pg_catalog.regclass::text
               FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
               WHERE i.indrelid = pg_catalog.to_regclass($1) AND c.relname = $2::text::name";
    let Some(row) = client.query_opt(sql, &[&index.table, &index.name]).await? else {
        return Ok(LeftOver::Nothing);
    };
    Ok(if row.try_get(0)? {
        LeftOver::Finished
    } else {
        LeftOver::Invalid(row.try_get(1)?)
    })
}
