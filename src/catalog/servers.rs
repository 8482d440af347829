//! The control plane's connections: one small deadpool per server, as the DSN's user.

use crate::backend::tls::ServerConnectors;
use crate::catalog::CatalogError;
use crate::config::Config;
use crate::topology::{Dsn, ServerTls};
use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::config::SslMode;
use tokio_postgres::{AsyncMessage, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

/// Control connections per server.
const CONNECTIONS_MAX: usize = 2;

/// Fixed for every control connection: names print with their schemas, definitions alike whatever a database's own
/// defaults are, and no statement hangs for ever.
const OPTIONS: &str = "-c search_path= -c statement_timeout=60000 -c lock_timeout=30000 \
                       -c idle_in_transaction_session_timeout=60000 -c default_transaction_isolation=read\\ committed \
                       -c standard_conforming_strings=on -c extra_float_digits=1 -c DateStyle=ISO \
                       -c IntervalStyle=postgres -c TimeZone=UTC -c bytea_output=hex -c quote_all_identifiers=off";

/// Certificate authorities for servers whose sslmode verifies: the configured file's, else the system's. Empty when no
/// server asks for it.
///
/// # Errors
/// When a file cannot be read or holds no certificate.
pub fn server_roots(config: &Config) -> Result<RootCertStore, CatalogError> {
    let mut roots = RootCertStore::empty();
    let verifying = config
        .shards
        .values()
        .flat_map(|shard| std::iter::once(&shard.primary).chain(&shard.replicas))
        .any(|dsn| matches!(dsn.tls, ServerTls::VerifyCa | ServerTls::VerifyFull));
    if !verifying {
        return Ok(roots);
    }
    match &config.server_ca {
        Some(path) => add_file(&mut roots, path)?,
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        let what = "no certificate authority found to verify servers with".to_owned();
        return Err(CatalogError::Tls { what });
    }
    Ok(roots)
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), CatalogError> {
    let problem = |error: &dyn std::fmt::Display| CatalogError::Tls {
        what: format!("server_ca {}: {error}", path.display()),
    };
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| problem(&error))? {
        let certificate = certificate.map_err(|error| problem(&error))?;
        roots.add(certificate).map_err(|error| problem(&error))?;
    }
    Ok(())
}

/// One shard's primary.
struct Primary {
    dsn: Dsn,
    pool: Pool,
}

/// The primaries of all shards.
pub(super) struct Servers {
    primaries: BTreeMap<String, Primary>,
    connectors: ServerConnectors,
    connect_timeout: Duration,
}

impl Servers {
    /// Opens nothing yet.
    pub(super) fn new(config: &Config) -> Result<Self, CatalogError> {
        let tls_problem = |error: &dyn std::fmt::Display| CatalogError::Tls {
            what: error.to_string(),
        };
        let connectors =
            ServerConnectors::new(server_roots(config)?).map_err(|error| tls_problem(&error))?;
        let connect_timeout = config.pool.connect_timeout;
        let mut primaries = BTreeMap::new();
        for (name, shard) in &config.shards {
            let dsn = shard.primary.clone();
            let settings = settings(&dsn, connect_timeout);
            let how = ManagerConfig {
                recycling_method: RecyclingMethod::Fast,
            };
            let manager = match make_tls(&connectors, &dsn) {
                Some(tls) => Manager::from_config(settings, tls, how),
                None => Manager::from_config(settings, NoTls, how),
            };
            let pool = Pool::builder(manager)
                .max_size(CONNECTIONS_MAX)
                .runtime(Runtime::Tokio1)
                .create_timeout(Some(connect_timeout))
                .wait_timeout(Some(Duration::from_secs(60)))
                .build()
                .map_err(|error| tls_problem(&error))?;
            primaries.insert(name.clone(), Primary { dsn, pool });
        }
        Ok(Self {
            primaries,
            connectors,
            connect_timeout,
        })
    }

    /// The shards' names, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.primaries.keys().map(String::as_str)
    }

    /// Is there a shard of this name?
    pub(super) fn has(&self, shard: &str) -> bool {
        self.primaries.contains_key(shard)
    }

    fn primary(&self, shard: &str) -> Result<&Primary, CatalogError> {
        self.primaries
            .get(shard)
            .ok_or_else(|| CatalogError::NoShard {
                shard: shard.to_owned(),
            })
    }

    /// Where `shard`'s primary is, for messages.
    pub(super) fn address(&self, shard: &str) -> String {
        self.primaries
            .get(shard)
            .map(|primary| primary.dsn.to_string())
            .unwrap_or_default()
    }

    /// A connection from the shard's pool.
    pub(super) async fn get(&self, shard: &str) -> Result<Object, CatalogError> {
        let primary = self.primary(shard)?;
        primary
            .pool
            .get()
            .await
            .map_err(|source| CatalogError::Unreachable {
                shard: shard.to_owned(),
                server: primary.dsn.to_string(),
                why: why(&source),
            })
    }

    /// A connection of its own for listening; its notifications are read from the returned [`Listener`].
    pub(super) async fn listen(&self, shard: &str) -> Result<Listener, CatalogError> {
        let primary = self.primary(shard)?;
        self.connect(shard, &primary.dsn).await
    }

    /// A connection of its own that runs migrations: the database's and the role's own settings hold, and a statement
    /// may take as long as it takes.
    pub(super) async fn direct(&self, shard: &str) -> Result<Direct, CatalogError> {
        let primary = self.primary(shard)?;
        let settings = plain_settings(&primary.dsn, self.connect_timeout);
        let Listener { client, connection } = self.open(shard, &primary.dsn, settings).await?;
        let driving = match connection {
            Connection::Plain(connection) => tokio::spawn(drive(shard.to_owned(), *connection)),
            Connection::Tls(connection) => tokio::spawn(drive(shard.to_owned(), *connection)),
        };
        Ok(Direct { client, driving })
    }

    /// Asks any server, such as a replica, whether it follows another.
    pub(super) async fn is_in_recovery(
        &self,
        shard: &str,
        dsn: &Dsn,
    ) -> Result<bool, CatalogError> {
        let Listener {
            client,
            mut connection,
        } = self.connect(shard, dsn).await?;
        let driving = std::future::poll_fn(|context| {
            while let std::task::Poll::Ready(message) = connection.poll_message(context) {
                if !matches!(message, Some(Ok(_))) {
                    return std::task::Poll::Ready(());
                }
            }
            std::task::Poll::Pending
        });
        let asking = client.query_one("SELECT pg_catalog.pg_is_in_recovery()", &[]);
        let answer = tokio::select! {
            biased;
            answer = asking => answer.and_then(|row| row.try_get(0)).map_err(|error| chain(&error)),
            () = driving => Err("the server closed the connection".to_owned()),
            () = tokio::time::sleep(self.connect_timeout) => Err("timed out".to_owned()),
        };
        answer.map_err(|why| CatalogError::Unreachable {
            shard: shard.to_owned(),
            server: dsn.to_string(),
            why,
        })
    }

    async fn connect(&self, shard: &str, dsn: &Dsn) -> Result<Listener, CatalogError> {
        self.open(shard, dsn, settings(dsn, self.connect_timeout))
            .await
    }

    async fn open(
        &self,
        shard: &str,
        dsn: &Dsn,
        settings: tokio_postgres::Config,
    ) -> Result<Listener, CatalogError> {
        let unreachable = |why: String| CatalogError::Unreachable {
            shard: shard.to_owned(),
            server: dsn.to_string(),
            why,
        };
        let connecting = async {
            match make_tls(&self.connectors, dsn) {
                Some(tls) => {
                    let (client, connection) = settings.connect(tls).await?;
                    Ok::<_, tokio_postgres::Error>((client, Connection::Tls(Box::new(connection))))
                }
                None => {
                    let (client, connection) = settings.connect(NoTls).await?;
                    Ok((client, Connection::Plain(Box::new(connection))))
                }
            }
        };
        let (client, connection) = tokio::time::timeout(self.connect_timeout, connecting)
            .await
            .map_err(|_| unreachable("timed out".into()))?
            .map_err(|error| unreachable(chain(&error)))?;
        Ok(Listener { client, connection })
    }
}

fn make_tls(connectors: &ServerConnectors, dsn: &Dsn) -> Option<MakeRustlsConnect> {
    let connector = connectors.connector(dsn.tls)?;
    Some(MakeRustlsConnect::new(connector.config().as_ref().clone()))
}

/// A connection of its own, driven by a task of its own. Dropping it closes it.
#[derive(Debug)]
pub struct Direct {
    /// To send with.
    pub client: tokio_postgres::Client,
    driving: tokio::task::JoinHandle<()>,
}

impl Drop for Direct {
    fn drop(&mut self) {
        self.driving.abort();
    }
}

/// Drives a connection to its end; notices go to the log.
async fn drive<S, T>(shard: String, mut connection: tokio_postgres::Connection<S, T>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = std::future::poll_fn(|context| connection.poll_message(context)).await
    {
        match message {
            Ok(AsyncMessage::Notice(notice)) => {
                tracing::info!(%shard, severity = notice.severity(), "{}", notice.message());
            }
            Ok(_) => {}
            // The statement at hand fails with it.
            Err(error) => {
                tracing::debug!(%shard, %error, "the connection is lost");
                return;
            }
        }
    }
}

/// A connection that is polled by its owner.
pub(super) struct Listener {
    /// To send with.
    pub(super) client: tokio_postgres::Client,
    /// To poll.
    pub(super) connection: Connection,
}

type PlainConnection =
    tokio_postgres::Connection<tokio_postgres::Socket, tokio_postgres::tls::NoTlsStream>;
type TlsConnection = tokio_postgres::Connection<
    tokio_postgres::Socket,
    <MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<tokio_postgres::Socket>>::Stream,
>;

/// With or without TLS.
pub(super) enum Connection {
    /// Without.
    Plain(Box<PlainConnection>),
    /// With.
    Tls(Box<TlsConnection>),
}

impl Connection {
    /// The next asynchronous message.
    pub(super) fn poll_message(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<tokio_postgres::AsyncMessage, tokio_postgres::Error>>> {
        match self {
            Self::Plain(connection) => connection.poll_message(context),
            Self::Tls(connection) => connection.poll_message(context),
        }
    }
}

fn settings(dsn: &Dsn, connect_timeout: Duration) -> tokio_postgres::Config {
    let mut settings = plain_settings(dsn, connect_timeout);
    settings.options(OPTIONS);
    settings
}

/// Without options: what the database and the role say holds.
fn plain_settings(dsn: &Dsn, connect_timeout: Duration) -> tokio_postgres::Config {
    let mut settings = tokio_postgres::Config::new();
    settings
        .user(&dsn.user)
        .dbname(&dsn.database)
        .port(dsn.port)
        .application_name("keyway control")
        .connect_timeout(connect_timeout)
        .tcp_user_timeout(Duration::from_secs(30))
        .keepalives_idle(Duration::from_secs(30))
        .ssl_mode(match dsn.tls {
            ServerTls::Disable => SslMode::Disable,
            ServerTls::Prefer => SslMode::Prefer,
            ServerTls::Require | ServerTls::VerifyCa | ServerTls::VerifyFull => SslMode::Require,
        });
    if dsn.host.starts_with('/') {
        settings.host_path(&dsn.host);
    } else {
        settings.host(&dsn.host);
    }
    if let Some(password) = &dsn.password {
        settings.password(password.reveal());
    }
    settings
}

fn why(error: &PoolError) -> String {
    match error {
        PoolError::Backend(error) => chain(error),
        PoolError::Timeout(_) => "timed out".into(),
        PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
            error.to_string()
        }
    }
}

/// An error and its causes as one sentence; tokio-postgres keeps the interesting part in the source.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
