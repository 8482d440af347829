//! The connection to Redis, and the breaker: whoever asks has an answer or [`Away`] within the patience, and at once
//! while Redis is known to be away.
//!
//! The breaker is open when there is no connection. It opens when one is lost, or when several questions in a row were
//! not answered in time; the keeper then makes another, and its first answer is the probe.

use crate::cache::remote::numbers::Counts;
use crate::cache::remote::scripts::Scripts;
use crate::cache::remote::{Malformed, Options};
use arc_swap::ArcSwapOption;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, FromRedisValue, Pipeline, RedisError, RedisFuture,
    RedisResult, Script, Value,
};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::timeout;

/// How long making a connection may take. Nobody waits for it but the keeper.
const CONNECT: Duration = Duration::from_secs(2);

/// Redis has not answered, whatever became of the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Away {
    /// It was not asked.
    NotAsked,
    /// It was, and may have done it.
    Perhaps,
}

/// A connection; cheap to clone, and good in any runtime.
#[derive(Clone)]
pub(super) enum Connection {
    One(MultiplexedConnection),
    Many(ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(one) => one.req_packed_command(cmd),
            Self::Many(many) => many.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(one) => one.req_packed_commands(pipeline, offset, count),
            Self::Many(many) => many.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(one) => one.get_db(),
            Self::Many(many) => many.get_db(),
        }
    }
}

/// A connection that is in use.
pub(super) struct Live {
    generation: u64,
    pub(super) connection: Connection,
    /// The process it leads to, when it was last asked. `None` in a cluster, whose connections come and go unseen.
    pub(super) process: Option<String>,
}

/// What a script said.
#[derive(Debug)]
pub(super) struct Answer {
    /// Process and birth.
    pub(super) life: String,
    /// One word.
    pub(super) word: String,
    /// What belongs to it.
    pub(super) rest: Vec<String>,
}

/// The way to Redis.
pub(super) struct Line {
    cluster: Option<ClusterClient>,
    /// One server, or those of the cluster. Of the channel, a connection to any of them hears.
    pub(super) nodes: Vec<Client>,
    pub(super) scripts: Scripts,
    live: ArcSwapOption<Live>,
    generation: AtomicU64,
    failures: AtomicU32,
    failures_max: u32,
    patience: Duration,
    lease_ms: u64,
    sender: String,
    versions: String,
    marks: String,
    pub(super) channel: String,
    values: String,
    /// The connection was given up.
    pub(super) lost: Notify,
    pub(super) counts: Counts,
}

impl Line {
    /// Connects to nobody yet.
    ///
    /// # Errors
    /// An address that cannot be read.
    pub(super) fn new(options: &Options, sender: String) -> Result<Self, Malformed> {
        let nodes = options
            .urls
            .iter()
            .enumerate()
            // The error is not passed on: it may quote the address.
            .map(|(at, url)| Client::open(url.as_str()).map_err(|_| Malformed::Address(at + 1)))
            .collect::<Result<Vec<_>, _>>()?;
        let cluster = match options.urls.as_slice() {
            [] => return Err(Malformed::NoAddress),
            [_] => None,
            urls => {
                let cluster = ClusterClient::builder(urls.iter().map(String::as_str))
                    .retries(1)
                    .connection_timeout(CONNECT)
                    .response_timeout(CONNECT)
                    .build();
                Some(cluster.map_err(|_| Malformed::Cluster)?)
            }
        };
        let tag = format!("{{keyway:{}}}", options.deployment);
        Ok(Self {
            cluster,
            nodes,
            scripts: Scripts::new(),
            live: ArcSwapOption::empty(),
            generation: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            failures_max: options.failures_max.max(1),
            patience: options.timeout,
            lease_ms: u64::try_from(options.lease.as_millis()).unwrap_or(u64::MAX),
            sender,
            versions: format!("{tag}:versions"),
            marks: format!("{tag}:marks"),
            channel: format!("{tag}:changes"),
            values: format!("keyway:{}:kept:", options.deployment),
            lost: Notify::new(),
            counts: Counts::default(),
        })
    }

    /// The hash of versions.
    pub(super) fn versions(&self) -> &str {
        &self.versions
    }

    /// Under which key an answer lies. Without a hash tag: a cluster spreads answers over its nodes.
    pub(super) fn value(&self, name: &[u8; 16]) -> String {
        let mut key = self.values.clone();
        key.push_str(&hex(name));
        key
    }

    /// Who we are to the other Keyways.
    pub(super) fn sender(&self) -> &str {
        &self.sender
    }

    /// Is there no connection?
    pub(super) fn is_away(&self) -> bool {
        self.live.load().is_none()
    }

    /// The connection, if there is one.
    pub(super) fn live(&self) -> Option<Arc<Live>> {
        self.live.load_full()
    }

    /// Makes a connection and asks who is there.
    pub(super) async fn connect(&self) -> Result<Answer, String> {
        match timeout(CONNECT, self.try_connect()).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }

    async fn try_connect(&self) -> RedisResult<Answer> {
        let mut connection = match (&self.cluster, self.nodes.first()) {
            (Some(cluster), _) => Connection::Many(cluster.get_async_connection().await?),
            (None, Some(server)) => {
                // Patience is ours.
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(CONNECT))
                    .set_response_timeout(None);
                let one = server.get_multiplexed_async_connection_with_config(&config);
                Connection::One(one.await?)
            }
            (None, None) => return Err(unexpected("there is no address")),
        };
        // Not when somebody waits for one.
        for script in self.scripts.all() {
            script.load_async(&mut connection).await?;
        }
        let answer = self
            .invoke(&mut connection, &self.scripts.state, None, &[])
            .await?;
        self.failures.store(0, Ordering::Relaxed);
        let generation = self.generation.fetch_add(1, Ordering::Relaxed);
        self.publish(generation, connection, &answer.life);
        Ok(answer)
    }

    fn publish(&self, generation: u64, connection: Connection, life: &str) {
        let process = match connection {
            Connection::One(_) => life.split('@').next().map(str::to_owned),
            Connection::Many(_) => None,
        };
        self.live.store(Some(Arc::new(Live {
            generation,
            connection,
            process,
        })));
    }

    /// Asks again which process the connection leads to: a server may have changed its part.
    pub(super) async fn state(&self, digest: Option<u128>) -> Result<Answer, Away> {
        let Some(live) = self.live() else {
            return Err(Away::NotAsked);
        };
        let answer = self.script(&self.scripts.state, digest, &[]).await?;
        let process = answer.life.split('@').next();
        if live.process.is_some() && live.process.as_deref() != process {
            self.publish(live.generation, live.connection.clone(), &answer.life);
        }
        Ok(answer)
    }

    /// Asks by `question`, within the patience.
    pub(super) async fn ask<T, F>(&self, question: impl FnOnce(Arc<Live>) -> F) -> Result<T, Away>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let Some(live) = self.live() else {
            return Err(Away::NotAsked);
        };
        Counts::one(&self.counts.operations);
        match timeout(self.patience, question(Arc::clone(&live))).await {
            Ok(Ok(answer)) => {
                if self.failures.load(Ordering::Relaxed) != 0 {
                    self.failures.store(0, Ordering::Relaxed);
                }
                return Ok(answer);
            }
            Ok(Err(error)) => {
                Counts::one(&self.counts.errors);
                tracing::debug!(%error, "redis");
                self.failed(&live, is_lost(&error));
            }
            Err(_) => {
                Counts::one(&self.counts.timeouts);
                self.failed(&live, false);
            }
        }
        Err(Away::Perhaps)
    }

    fn failed(&self, live: &Live, lost: bool) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if !lost && failures < self.failures_max {
            return;
        }
        let current = self.live.load();
        let ours = current
            .as_ref()
            .filter(|current| current.generation == live.generation);
        if ours.is_some() {
            // Unless somebody has just put another in its place.
            self.live.compare_and_swap(&current, None);
            self.lost.notify_one();
        }
    }

    /// Runs a script.
    pub(super) async fn script(
        &self,
        script: &Script,
        digest: Option<u128>,
        args: &[String],
    ) -> Result<Answer, Away> {
        self.ask(|live| async move {
            self.invoke(&mut live.connection.clone(), script, digest, args)
                .await
        })
        .await
    }

    /// Runs a script on this connection.
    pub(super) async fn invoke(
        &self,
        connection: &mut Connection,
        script: &Script,
        digest: Option<u128>,
        args: &[String],
    ) -> RedisResult<Answer> {
        let mut call = script.prepare_invoke();
        call.key(&self.versions).key(&self.marks);
        call.arg(&self.channel)
            .arg(&self.sender)
            .arg(self.lease_ms)
            .arg(never_used()?)
            .arg(digest.map(digest_text).unwrap_or_default());
        call.arg(args);
        let said: Vec<String> = call.invoke_async(connection).await?;
        let mut said = said.into_iter();
        match (said.next(), said.next()) {
            (Some(life), Some(word)) => Ok(Answer {
                life,
                word,
                rest: said.collect(),
            }),
            _ => Err(unexpected("a script said nothing")),
        }
    }

    /// One command's answer.
    pub(super) async fn command<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Away> {
        self.ask(|live| async move { command.query_async(&mut live.connection.clone()).await })
            .await
    }
}

/// As Redis has it.
pub(super) fn digest_text(digest: u128) -> String {
    format!("{digest:032x}")
}

/// 64 random bits in hex.
///
/// # Errors
/// When the system has no randomness; without it tokens could be the same twice.
pub(super) fn never_used() -> RedisResult<String> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|_| unexpected("the system has no random numbers"))?;
    Ok(hex(&random))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unexpected(what: &'static str) -> RedisError {
    RedisError::from((redis::ErrorKind::UnexpectedReturnType, what))
}

fn is_lost(error: &RedisError) -> bool {
    use redis::{ErrorKind, ServerErrorKind};
    error.is_io_error()
        || error.is_connection_dropped()
        || error.is_unrecoverable_error()
        // A replica, or a server that is not ready: another connection may lead to another.
        || matches!(
            error.kind(),
            ErrorKind::Server(
                ServerErrorKind::ReadOnly | ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown
            )
        )
}
