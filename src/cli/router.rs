//! The whole router in one value: workers, listener, control plane. `keyway serve` and `keyway demo` run one.

use crate::admin::{self, Admin, Readiness};
use crate::backend::budget::Budgets;
use crate::backend::connect::{ConnectOptions, notice_a_dead_peer};
use crate::backend::pool::{PoolOptions, Pools};
use crate::backend::tls::ServerConnectors;
use crate::cache::remote::{self, Options as RemoteOptions, Remote};
use crate::cache::results::cells::Cell;
use crate::cache::results::store::{Options, Results};
use crate::catalog::servers::server_roots;
use crate::catalog::{Catalog, Event};
use crate::cli::Failure;
use crate::cli::keeper::{about, chance, look_after};
use crate::cli::refresh::{note_at_end, refresh, warm_up};
use crate::config::{Certificate, ClientTls, Config, Consistency, RedisConfig};
use crate::follow::Follow;
use crate::metrics::{
    CacheStanding, CacheWatch, FollowWatch, Metrics, PartitionRun, SharedStanding, SharedWatch,
};
use crate::route::keep::NotKept;
use crate::session::control::{Control, Request, SchemaChange};
use crate::session::listener::{ClientCount, MAIL_MAX, Mail, run as run_worker};
use crate::session::login::{Directory, TlsAcceptorEntry};
use crate::session::worker::Shared;
use crate::topology::Topology;
use crate::wire::auth::tls_server_end_point;
use crate::wire::backend as reply;
use crate::wire::error::{ErrorFields, SqlState};
use arc_swap::ArcSwap;
use bytes::BytesMut;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Asks that may wait for a worker.
const ASKS_MAX: usize = 64;

/// The longest time from the start to the first look at partitions.
const AT_FIRST: Duration = Duration::from_secs(10);

/// The least time from a look at partitions that failed to the next.
const AGAIN_MIN: Duration = Duration::from_secs(10);

/// The least time between two looks at partitions.
const SETTLED: Duration = Duration::from_secs(2);

/// How long after a look at partitions that failed the next one comes.
const AGAIN: Duration = Duration::from_secs(300);

/// How often it is asked whether a write in doubt is over.
const DOUBT: Duration = Duration::from_millis(200);

/// How long a start waits for Redis.
const REDIS_PATIENCE: Duration = Duration::from_secs(2);

/// How often a stop looks whether the clients have left.
const LEAVING: Duration = Duration::from_millis(20);

/// A running router. Dropping it stops accepting and lets the workers end with their clients.
#[derive(Debug)]
pub struct Router {
    shared: Arc<Shared>,
    /// What it was started with, and has as far as a reload changes nothing.
    started: Arc<Config>,
    catalog: Arc<Catalog>,
    admin: Arc<Admin>,
    clients: Arc<AtomicUsize>,
    /// Configuration or schemas have changed: partitions may be missing.
    news: Arc<Notify>,
    stop: watch::Sender<bool>,
    /// Where PostgreSQL clients connect.
    pub address: SocketAddr,
    /// Where health and metrics are, if anywhere.
    pub http: Option<SocketAddr>,
}

impl Router {
    /// Opens the catalog, starts the workers, and accepts clients.
    ///
    /// # Errors
    /// What stands in the way, before any client was accepted.
    pub async fn start(config: Config) -> Result<Self, Failure> {
        let directory = directory(&config, None)?;
        let roots = server_roots(&config)?;
        let tls = ServerConnectors::new(roots)
            .map_err(|error| Failure::Other(format!("TLS: {error}")))?;
        let (catalog, topology) = Catalog::open(&config).await?;
        let catalog = Arc::new(catalog);
        let listener = bind("listen", config.listen).await?;
        let address = listener.local_addr()?;
        let metrics = Metrics::new();
        let admin = Admin::new(Arc::clone(&metrics));
        let (stop, stopped) = watch::channel(false);
        let http = match config.http {
            Some(http) => {
                let listener = bind("http", http).await?;
                let address = listener.local_addr()?;
                let admin = Arc::clone(&admin);
                let mut stopped = stopped.clone();
                tokio::spawn(async move {
                    let gone = async move {
                        let _ = stopped.wait_for(|stop| *stop).await;
                    };
                    if let Err(error) = admin::serve(listener, admin, gone).await {
                        tracing::error!(%error, "the http port stopped");
                    }
                });
                Some(address)
            }
            None => None,
        };

        let workers = config.workers.unwrap_or_else(cores);
        let (mailboxes, mail): (Vec<_>, Vec<_>) =
            (0..workers).map(|_| mpsc::channel(MAIL_MAX)).unzip();
        let (ask, asks): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::channel(ASKS_MAX)).unzip();
        let (control, requests) = Control::new();
        metrics.set_shards_unread(catalog.unread().len());
        let options = pool_options(&config);
        let results = results(&config)?;
        if let Some(results) = &results {
            metrics.watch_cache(watch_cache(results));
        }
        let remote = results
            .as_ref()
            .zip(config.cache.redis.as_ref())
            .map(|(results, redis)| start_remote(redis, results))
            .transpose()?;
        if let Some(remote) = &remote {
            remote.snapshot(topology.digest);
            metrics.watch_shared(watch_shared(remote));
            if !remote.is_there(REDIS_PATIENCE).await {
                tracing::warn!(
                    "Redis has not answered yet: nothing is kept, and with cache.consistency = \"strict\" nothing written, until it does"
                );
            }
        }
        // Before the first statement: nothing is kept until changes are heard.
        let follow = results.as_ref().filter(|_| config.cache.follow);
        let follow = follow.map(|results| {
            let (connect, cells) = (options.connect.clone(), Arc::clone(&results.cells));
            let remote = remote.clone();
            Arc::new(Follow::start(
                &topology,
                connect,
                tls.clone(),
                cells,
                remote,
            ))
        });
        if let Some(follow) = &follow {
            let follow = Arc::clone(follow);
            metrics.watch_follow(FollowWatch(Box::new(move || follow.numbers())));
        }
        let shared = Arc::new(Shared {
            remote,
            topology: ArcSwap::from_pointee(topology),
            publishing: Mutex::default(),
            config: ArcSwap::from_pointee(config),
            metrics,
            control,
            directory: ArcSwap::from_pointee(directory),
            mailboxes,
            results,
            follow,
        });
        told_of(&shared, &shared.topology.load());
        let budgets = Budgets::new(ask);
        for (index, (mail, asks)) in mail.into_iter().zip(asks).enumerate() {
            let (shared, budgets) = (Arc::clone(&shared), Arc::clone(&budgets));
            let (options, tls) = (options.clone(), tls.clone());
            std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || {
                    let pools = |index, metrics| Pools::new(index, budgets, options, tls, metrics);
                    let ended = run_worker(index, shared, pools, mail, asks);
                    // Its share of the clients would be turned away for good: better none are, by another process.
                    tracing::error!(?ended, index, "a worker ended; the router stops");
                    std::process::exit(1);
                })?;
        }
        let clients = Arc::new(AtomicUsize::new(0));
        tokio::spawn(accept(
            listener,
            Arc::clone(&shared),
            Arc::clone(&clients),
            stopped.clone(),
        ));
        if let Some(results) = &shared.results {
            tokio::spawn(refresh(
                Arc::clone(&shared),
                Arc::clone(results),
                stopped.clone(),
            ));
            tokio::spawn(warm_up(
                Arc::clone(&shared),
                Arc::clone(results),
                Arc::clone(&catalog),
                stopped.clone(),
            ));
            tokio::spawn(settle_doubts(
                Arc::clone(results),
                Arc::clone(&catalog),
                stopped.clone(),
            ));
        }
        let news = Arc::new(Notify::new());
        tokio::spawn(keep_partitions(
            Arc::clone(&shared),
            Arc::clone(&catalog),
            Arc::clone(&news),
            stopped.clone(),
        ));
        tokio::spawn(control_plane(
            Arc::clone(&shared),
            Arc::clone(&catalog),
            requests,
            Arc::clone(&news),
            stopped,
        ));
        admin.set(Readiness::Ready);
        Ok(Self {
            started: shared.config.load_full(),
            shared,
            catalog,
            admin,
            clients,
            news,
            stop,
            address,
            http,
        })
    }

    /// Applies a new configuration as far as it can change while clients are connected.
    ///
    /// # Errors
    /// When it contradicts the catalog or cannot work; nothing has changed then.
    pub async fn reload(&self, config: Config) -> Result<Vec<String>, Failure> {
        let before = self.shared.directory.load_full();
        let directory = directory(&config, Some(&before))?;
        let current = self.shared.topology.load_full();
        let topology = self.catalog.reload(&config, &current).await?;
        let fixed = self
            .started
            .needs_restart(&config)
            .into_iter()
            .map(str::to_owned)
            .collect();
        self.shared.directory.store(Arc::new(directory));
        self.shared.config.store(Arc::new(config));
        publish(&self.shared, topology);
        self.news.notify_one();
        Ok(fixed)
    }

    /// Accepts no more clients, lets those connected finish, and returns when they have left or `limits.drain_timeout`
    /// is over. Returns how many were still there.
    pub async fn drain(&self) -> usize {
        self.admin.set(Readiness::Draining);
        let _ = self.stop.send(true);
        for mailbox in &self.shared.mailboxes {
            // A worker that reads no mail ends with the process.
            let _ = mailbox.send(Mail::Drain).await;
        }
        let patience = self.shared.config.load().limits.drain_timeout;
        let left = async {
            let mut every = tokio::time::interval(LEAVING);
            while self.clients.load(Ordering::Acquire) > 0 {
                every.tick().await;
            }
        };
        let _ = tokio::time::timeout(patience, left).await;
        note_at_end(&self.shared, &self.catalog).await;
        self.clients.load(Ordering::Acquire)
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        for mailbox in &self.shared.mailboxes {
            let _ = mailbox.try_send(Mail::Drain);
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

async fn bind(key: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .await
        .map_err(|error| Failure::Other(format!("{key} = {address}: {error}")))
}

fn pool_options(config: &Config) -> PoolOptions {
    let bounded = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
    let pool = &config.pool;
    let redis = config.cache.redis.as_ref().filter(|_| config.cache.enabled);
    PoolOptions {
        size: bounded(pool.size),
        minimum: bounded(pool.minimum),
        lifetime: pool.lifetime,
        idle_timeout: pool.idle_timeout,
        checkout_timeout: pool.checkout_timeout,
        connect: ConnectOptions {
            connect_timeout: pool.connect_timeout,
            tcp_keepalive: pool.tcp_keepalive.unwrap_or_default(),
            tcp_user_timeout: pool.tcp_user_timeout.unwrap_or_default(),
            // A statement must not go on, and be committed, when others have forgotten that it is on its way.
            presence_check: redis.map_or(Duration::ZERO, |redis| redis.lease / 4),
            prepared_max: pool.prepared_max,
        },
    }
}

/// Where answers are kept, if they are.
fn results(config: &Config) -> Result<Option<Arc<Results>>, Failure> {
    if !config.cache.enabled {
        return Ok(None);
    }
    let seed =
        getrandom::u64().map_err(|error| Failure::Other(format!("no random numbers: {error}")))?;
    let options = Options {
        size: config.cache.size,
        entry_max: config.cache.entry_max,
    };
    Ok(Some(Results::new(options, seed)))
}

/// Where versions are shared with other Keyways.
fn start_remote(redis: &RedisConfig, results: &Results) -> Result<Arc<Remote>, Failure> {
    let urls = redis.urls.iter().map(|url| url.reveal().to_owned());
    let secret = redis.secret.reveal().as_bytes().to_vec();
    let options = RemoteOptions {
        consistency: match redis.consistency {
            Consistency::Strict => remote::Consistency::Strict,
            Consistency::Bounded => remote::Consistency::Bounded,
        },
        answers: redis.answers,
        timeout: redis.timeout,
        lease: redis.lease,
        ..RemoteOptions::new(urls.collect(), redis.deployment.clone(), secret)
    };
    Remote::start(options, Arc::clone(&results.cells))
        .map_err(|error| Failure::Other(format!("cache.redis: {error}")))
}

/// For metrics.
fn watch_shared(remote: &Arc<Remote>) -> SharedWatch {
    let remote = Arc::clone(remote);
    SharedWatch(Box::new(move || {
        let numbers = remote.numbers();
        SharedStanding {
            is_away: numbers.is_away,
            is_out_of_step: numbers.is_out_of_step,
            operations: numbers.operations,
            errors: numbers.errors,
            timeouts: numbers.timeouts,
            connections: numbers.connections,
            gets: numbers.gets,
            found: numbers.found,
            puts: numbers.puts,
            puts_dropped: numbers.puts_dropped,
            heard: numbers.heard,
            marks: numbers.marks as u64,
            lag_us: numbers.lag_us,
        }
    }))
}

/// For metrics.
fn watch_cache(results: &Arc<Results>) -> CacheWatch {
    let results = Arc::clone(results);
    let bounded = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    CacheWatch {
        reasons: NotKept::ALL.iter().map(|why| why.label()).collect(),
        standing: Box::new(move || {
            let standing = results.standing();
            CacheStanding {
                entries: bounded(standing.entries as u64),
                bytes: bounded(standing.bytes),
                evictions: standing.evictions,
                flushes: standing.flushes,
                in_doubt: bounded(standing.in_doubt as u64),
            }
        }),
    }
}

/// Writes whose connection was lost are over when their server process is gone.
async fn settle_doubts(
    results: Arc<Results>,
    catalog: Arc<Catalog>,
    mut stopped: watch::Receiver<bool>,
) {
    let settling = async {
        loop {
            results.doubts.some().await;
            // A shard that does not answer is asked once: the others' writes must not wait for it.
            let mut silent = HashSet::new();
            for doubtful in results.doubts.take() {
                if silent.contains(&doubtful.shard) {
                    results.doubts.keep(doubtful);
                    continue;
                }
                let over = catalog
                    .is_backend_gone(&doubtful.shard, doubtful.pid, doubtful.age())
                    .await;
                match over {
                    Ok(true) => {}
                    Ok(false) => results.doubts.keep(doubtful),
                    Err(error) => {
                        tracing::debug!(%error, shard = doubtful.shard, "a write is in doubt");
                        silent.insert(doubtful.shard.clone());
                        results.doubts.keep(doubtful);
                    }
                }
            }
            tokio::time::sleep(DOUBT).await;
        }
    };
    tokio::select! {
        () = settling => {}
        () = told(&mut stopped) => {}
    }
}

fn directory(config: &Config, before: Option<&Directory>) -> Result<Directory, Failure> {
    let (tls, required) = match &config.tls {
        ClientTls::Off => (None, false),
        ClientTls::Allow(certificate) => (Some(acceptor(certificate)?), false),
        ClientTls::Require(certificate) => (Some(acceptor(certificate)?), true),
    };
    Ok(Directory::new(config, tls, required, before)?)
}

fn acceptor(certificate: &Certificate) -> Result<TlsAcceptorEntry, Failure> {
    let unreadable = |path: &std::path::Path, error: &dyn std::fmt::Display| {
        Failure::Other(format!("tls: {}: {error}", path.display()))
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&certificate.cert)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(&certificate.cert, &error))?;
    let key = PrivateKeyDer::from_pem_file(&certificate.key)
        .map_err(|error| unreadable(&certificate.key, &error))?;
    let end_point = chain.first().and_then(|first| tls_server_end_point(first));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| unreadable(&certificate.cert, &error))?;
    Ok(TlsAcceptorEntry {
        acceptor: TlsAcceptor::from(Arc::new(config)),
        end_point,
    })
}

/// Hands each client to a worker, in turn.
async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    clients: Arc<AtomicUsize>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut turn = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = told(&mut stopped) => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                // Out of file descriptors: some must close first.
                tokio::time::sleep(LEAVING).await;
                continue;
            }
        };
        let max = shared.config.load().limits.clients_max;
        let Some(count) = ClientCount::enter(&clients, max) else {
            tokio::spawn(turn_away(stream));
            continue;
        };
        turn = (turn + 1) % shared.mailboxes.len();
        let handed = {
            let pool = &shared.config.load().pool;
            let keepalive = pool.tcp_keepalive.unwrap_or_default();
            // No user timeout: it would also end a client that takes its time to read.
            notice_a_dead_peer(&stream, keepalive, Duration::ZERO).and_then(|()| stream.into_std())
        };
        match handed {
            Ok(stream) => {
                let _ = shared.mailboxes[turn]
                    .send(Mail::Client(stream, count))
                    .await;
            }
            Err(error) => tracing::warn!(%error, "a client left before it was served"),
        }
    }
}

async fn turn_away(mut stream: tokio::net::TcpStream) {
    let mut out = BytesMut::new();
    let fields = ErrorFields::fatal(
        SqlState::TOO_MANY_CONNECTIONS,
        "sorry, too many clients already",
    )
    .hint("Raise limits.clients_max.");
    reply::error_response(&mut out, &fields);
    // A client that does not read is not waited for.
    let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(&out)).await;
}

/// Returns when the router is to stop.
pub(super) async fn told(stopped: &mut watch::Receiver<bool>) {
    // An error means that the router is gone, which is the same.
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// Metrics and log know what is routed by.
fn told_of(shared: &Shared, topology: &Topology) {
    shared.metrics.set_epoch(topology.epoch);
    shared.metrics.set_shards_behind(topology.behind.len());
    for (id, what) in &topology.behind {
        let shard = topology.shards.get(usize::from(id.0));
        let shard = shard.map(|shard| shard.name.as_str()).unwrap_or_default();
        tracing::warn!(shard, "nothing is sent to it. {what}");
    }
}

/// What somebody has wished since the snapshot before to be dropped.
fn drop_flushed(
    results: &Results,
    remote: Option<&Remote>,
    before: &Topology,
    topology: &Topology,
) {
    let news = topology
        .flushed
        .iter()
        .filter(|(table, number)| before.flushed.get(table) != Some(number));
    for (table, _) in news {
        // Redis first: what it still has is not to be found, and kept, by whoever misses what is dropped here.
        let Some(table) = table else {
            if let Some(remote) = remote {
                remote.change([Cell::EVERYTHING]);
            }
            results.flush();
            continue;
        };
        // Another database may know it by another family.
        let families = topology.databases.values().filter_map(|database| {
            let table = database.tables.get(table)?;
            Some(table.reach.family)
        });
        let shards = || topology.shards.iter().map(|shard| shard.stable_id);
        let cells: Vec<Cell> = families
            .flat_map(|family| {
                shards().flat_map(move |shard| {
                    [
                        Cell::of_table(shard, family),
                        Cell::of_unpinned(shard, family),
                    ]
                })
            })
            .collect();
        if let Some(remote) = remote {
            remote.change(cells.iter().copied());
        }
        results.flush_cells(cells);
    }
}

/// A reload and the control plane may publish at once: the catalog numbers snapshots in the order in which it made
/// them, and an earlier one never replaces a later one.
fn publish(shared: &Shared, topology: Topology) {
    let topology = Arc::new(topology);
    let _one_at_a_time = shared
        .publishing
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let before = shared.topology.load_full();
    if let Some(results) = &shared.results {
        // Before anybody plans by the new one.
        if before.digest != topology.digest && before.epoch < topology.epoch {
            results.next_snapshot(before.digest, topology.digest);
            if let Some(remote) = &shared.remote {
                remote.snapshot(topology.digest);
            }
        }
        drop_flushed(results, shared.remote.as_deref(), &before, &topology);
    }
    if let Some(follow) = &shared.follow
        && before.epoch < topology.epoch
    {
        follow.reload(&topology);
    }
    if before.digest != topology.digest {
        tracing::info!(
            epoch = topology.epoch,
            "shards or schemas have changed: plans and kept answers are made again"
        );
    }
    shared.topology.rcu(|current| {
        Arc::clone(if current.epoch < topology.epoch {
            &topology
        } else {
            current
        })
    });
    told_of(shared, &shared.topology.load());
    for mailbox in &shared.mailboxes {
        // A full mailbox: the worker looks at the snapshot at its next statement anyway.
        let _ = mailbox.try_send(Mail::Look);
    }
}

/// Answers the sessions' requests and follows the catalog.
async fn control_plane(
    shared: Arc<Shared>,
    catalog: Arc<Catalog>,
    mut requests: mpsc::Receiver<Request>,
    news: Arc<Notify>,
    mut stopped: watch::Receiver<bool>,
) {
    let held = Arc::clone(&shared);
    let mut events = catalog.watch(16, move || held.topology.load().catalog_epoch);
    loop {
        tokio::select! {
            request = requests.recv() => match request {
                Some(request) => {
                    answer(&shared, &catalog, request).await;
                    news.notify_one();
                }
                None => return,
            },
            Some(event) = events.recv() => {
                // What this Keyway has changed itself, it has read already.
                if is_held(&shared, event) {
                    continue;
                }
                if let Err(error) = read_again(&shared, &catalog).await {
                    tracing::warn!(%error, "the catalog could not be read again");
                }
                news.notify_one();
            }
            () = told(&mut stopped) => return,
        }
    }
}

/// Is it in the snapshot by now?
fn is_held(shared: &Shared, event: Event) -> bool {
    match event {
        Event::Epoch(epoch) => shared.topology.load().catalog_epoch >= epoch,
        Event::ShardBack | Event::SchemaChanged => false,
    }
}

/// Looks after declared partitions: soon after the start, then every `partitions.every`, and when configuration or schemas
/// have changed. What failed is tried again after [`AGAIN`], or at news, since the table may be there by now; but not before
/// [`AGAIN_MIN`], since a try may change schemas itself.
async fn keep_partitions(
    shared: Arc<Shared>,
    catalog: Arc<Catalog>,
    news: Arc<Notify>,
    mut stopped: watch::Receiver<bool>,
) {
    let keeping = async {
        let every = || shared.config.load().partitions_every;
        let first = every().map_or(AT_FIRST, |every| every.min(AT_FIRST));
        tokio::time::sleep(first.mul_f64(chance())).await;
        loop {
            let Some(every) = every() else {
                news.notified().await;
                continue;
            };
            let config = shared.config.load_full();
            match look_after(&catalog, &config, &shared.metrics).await {
                PartitionRun::Failed => {
                    tokio::time::sleep(about(every.min(AGAIN_MIN))).await;
                    let _ = tokio::time::timeout(about(every.min(AGAIN)), news.notified()).await;
                }
                PartitionRun::Done | PartitionRun::Held => {
                    // Many changes at once are one.
                    tokio::time::sleep(SETTLED.min(every)).await;
                    // What has been heard of meanwhile may be this look's own doing: one more finds nothing to do.
                    let _ = tokio::time::timeout(about(every), news.notified()).await;
                }
            }
        }
    };
    tokio::select! {
        () = keeping => {}
        () = told(&mut stopped) => {}
    }
}

async fn read_again(shared: &Shared, catalog: &Catalog) -> Result<(), String> {
    let current = shared.topology.load_full();
    let topology = catalog
        .read_again(&current)
        .await
        .map_err(|error| error.to_string())?;
    shared.metrics.set_shards_unread(catalog.unread().len());
    publish(shared, topology);
    Ok(())
}

async fn answer(shared: &Shared, catalog: &Catalog, request: Request) {
    match request {
        Request::SchemaChanged { change, done } => {
            if change == SchemaChange::Possible && !catalog.schema_differs().await {
                let _ = done.send(Ok(()));
                return;
            }
            let current = shared.topology.load_full();
            let result = match catalog.refresh_schema(&current).await {
                Ok(topology) => {
                    publish(shared, topology);
                    Ok(())
                }
                Err(error) => Err(error.to_string()),
            };
            // A session that left does not need the answer.
            let _ = done.send(result);
        }
        Request::Flush { table, done } => {
            let result = catalog.flush(table.as_ref()).await;
            let mut result = result.map_err(|error| error.to_string());
            if result.is_ok() {
                result = read_again(shared, catalog).await;
            }
            let _ = done.send(result);
        }
        Request::Refuse {
            database,
            tables,
            reason,
            done,
        } => {
            let mut result = Ok(());
            for table in &tables {
                if let Err(error) = catalog.refuse_table(&database, table, &reason).await {
                    result = Err(error.to_string());
                }
            }
            if result.is_ok() {
                result = read_again(shared, catalog).await;
            }
            let _ = done.send(result);
        }
    }
}
