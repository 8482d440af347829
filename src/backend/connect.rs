//! Opening a server connection: address, TLS, login. PostgreSQL manual §55.2.1.

use crate::backend::budget::Permit;
use crate::backend::server::{CancelKey, Server};
use crate::backend::stream::Stream;
use crate::backend::tls::ServerConnectors;
use crate::topology::{Secret, ServerTls};
use crate::wire::auth::tls_server_end_point;
use bytes::{Buf, Bytes, BytesMut};
use fallible_iterator::FallibleIterator;
use hashbrown::HashMap;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::backend::{ErrorResponseBody, Message};
use postgres_protocol::message::frontend;
use socket2::{SockRef, TcpKeepalive};
use std::fmt;
use std::io;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};

use tokio_rustls::rustls::pki_types::ServerName;

/// A login answer longer than this is not from a PostgreSQL server.
const LOGIN_BYTES_MAX: usize = 1 << 20;

/// Where to connect, and what for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServerAddress {
    /// The shard's name, for errors.
    pub shard: String,
    /// Host, or a directory of a unix socket.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database.
    pub database: String,
    /// TLS.
    pub tls: ServerTls,
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "shard {} ({}:{}/{})",
            self.shard, self.host, self.port, self.database
        )
    }
}

/// Who logs in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Role {
    /// The role's name.
    pub user: String,
    /// Its password.
    pub password: Option<Secret>,
}

/// Rounds of SCRAM hashing that a server may ask for; PostgreSQL's default is 4,096.
const SCRAM_ROUNDS_MAX: u32 = 1_000_000;

/// Socket options and limits of new connections.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// How long connecting and logging in may take.
    pub connect_timeout: Duration,
    /// TCP keepalive idle time; zero switches it off.
    pub tcp_keepalive: Duration,
    /// How long sent data may stay unacknowledged; zero leaves the system's default.
    pub tcp_user_timeout: Duration,
    /// How often a server that runs a statement looks whether this end is still there, and gives up when it is not
    /// (`client_connection_check_interval`; PostgreSQL 14). Zero leaves the server's own setting.
    pub presence_check: Duration,
    /// Prepared statements a server keeps.
    pub prepared_max: usize,
}

/// A server connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No TCP or socket connection, or it broke during login.
    #[error("connect to {server}")]
    Unreachable {
        /// Which.
        server: String,
        /// Why.
        source: io::Error,
    },
    /// It took longer than `pool.connect_timeout`.
    #[error("connect to {server}: no answer within {waited:?}")]
    TimedOut {
        /// Which.
        server: String,
        /// How long was waited.
        waited: Duration,
    },
    /// TLS was demanded and could not be had.
    #[error("connect to {server}: {reason}")]
    Tls {
        /// Which.
        server: String,
        /// Why.
        reason: String,
    },
    /// The server said no.
    #[error("connect to {server}: the server answered {code}: {message}")]
    Rejected {
        /// Which.
        server: String,
        /// SQLSTATE.
        code: String,
        /// Its message, for the log (it may name roles).
        message: String,
    },
    /// Whoever wanted it has got another meanwhile.
    #[error("nobody waits for a connection")]
    NotNeeded,
    /// Something that is not PostgreSQL answered, or a login method that is not supported.
    #[error("connect to {server}: {reason}")]
    Protocol {
        /// Which.
        server: String,
        /// What.
        reason: String,
    },
}

impl ConnectError {
    /// The server has as many connections as it takes (SQLSTATE 53300).
    #[must_use]
    pub fn is_too_many(&self) -> bool {
        matches!(self, Self::Rejected { code, .. } if code == "53300")
    }
}

/// Connects and logs in.
///
/// Cancel safe: a half opened connection is closed.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect(
    address: &ServerAddress,
    role: &Role,
    options: &ConnectOptions,
    tls: &ServerConnectors,
    budget: Permit,
) -> Result<Server, ConnectError> {
    let work = async {
        let stream = open(address, options, tls).await?;
        login(stream, address, role, options, budget).await
    };
    match tokio::time::timeout(options.connect_timeout, work).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError::TimedOut {
            server: address.to_string(),
            waited: options.connect_timeout,
        }),
    }
}

/// Connects and logs in outside the pools, with these parameters besides: what the connection does is its caller's business.
/// The server waits for a query.
///
/// Cancel safe: a half opened connection is closed.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect_apart(
    address: &ServerAddress,
    role: &Role,
    options: &ConnectOptions,
    tls: &ServerConnectors,
    parameters: &[(&str, &str)],
) -> Result<Stream, ConnectError> {
    let work = async {
        let stream = open(address, options, tls).await?;
        let logged_in = log_in(stream, address, role, parameters).await?;
        Ok(logged_in.stream)
    };
    match tokio::time::timeout(options.connect_timeout, work).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError::TimedOut {
            server: address.to_string(),
            waited: options.connect_timeout,
        }),
    }
}

/// Asks the server at `address` to cancel what `key` is doing, and waits until it has taken note.
///
/// # Errors
/// See [`ConnectError`].
pub async fn cancel(
    address: &ServerAddress,
    key: &CancelKey,
    options: &ConnectOptions,
    tls: &ServerConnectors,
) -> Result<(), ConnectError> {
    let unreachable = |source| ConnectError::Unreachable {
        server: address.to_string(),
        source,
    };
    let work = async {
        let mut stream = open(address, options, tls).await?;
        let mut request = BytesMut::new();
        let length = 12 + key.secret.len();
        request.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        request.extend_from_slice(&80_877_102_u32.to_be_bytes());
        request.extend_from_slice(&key.pid.to_be_bytes());
        request.extend_from_slice(&key.secret);
        stream.write_from(&mut request).await.map_err(unreachable)?;
        // The server closes the connection once the signal is sent (§55.2.8).
        let mut nothing = BytesMut::new();
        while stream.read_into(&mut nothing).await.unwrap_or(0) > 0 {
            nothing.clear();
        }
        Ok(())
    };
    match tokio::time::timeout(options.connect_timeout, work).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError::TimedOut {
            server: address.to_string(),
            waited: options.connect_timeout,
        }),
    }
}

async fn open(
    address: &ServerAddress,
    options: &ConnectOptions,
    tls: &ServerConnectors,
) -> Result<Stream, ConnectError> {
    let unreachable = |source| ConnectError::Unreachable {
        server: address.to_string(),
        source,
    };
    if address.host.starts_with('/') {
        let path = format!("{}/.s.PGSQL.{}", address.host, address.port);
        return Ok(Stream::Unix(
            UnixStream::connect(path).await.map_err(unreachable)?,
        ));
    }
    let mut tcp = TcpStream::connect((address.host.as_str(), address.port))
        .await
        .map_err(unreachable)?;
    set_options(&tcp, options).map_err(unreachable)?;
    if address.tls == ServerTls::Disable {
        return Ok(Stream::Tcp(tcp));
    }
    let refused = |reason: String| ConnectError::Tls {
        server: address.to_string(),
        reason,
    };
    let Some(connector) = tls.connector(address.tls) else {
        return Err(refused(
            "certificates are to be verified, but no trusted root is known".to_owned(),
        ));
    };
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    tcp.write_all(&request).await.map_err(unreachable)?;
    match tcp.read_u8().await.map_err(unreachable)? {
        b'S' => {
            let name = ServerName::try_from(address.host.clone())
                .map_err(|_| refused("the host name cannot stand in a certificate".to_owned()))?;
            let stream = connector
                .connect(name, tcp)
                .await
                .map_err(|e| refused(format!("TLS: {e}")))?;
            Ok(Stream::TlsServer(Box::new(stream)))
        }
        b'N' if address.tls == ServerTls::Prefer => Ok(Stream::Tcp(tcp)),
        b'N' => Err(refused(
            "the server does not offer TLS, which is required".to_owned(),
        )),
        _ => Err(ConnectError::Protocol {
            server: address.to_string(),
            reason: "the answer to SSLRequest is not PostgreSQL's".to_owned(),
        }),
    }
}

fn set_options(tcp: &TcpStream, options: &ConnectOptions) -> io::Result<()> {
    notice_a_dead_peer(tcp, options.tcp_keepalive, options.tcp_user_timeout)
}

/// Sends without delay, and lets the system find out that the other side is gone: zero leaves its default.
///
/// # Errors
/// The socket takes no options.
pub fn notice_a_dead_peer(
    tcp: &TcpStream,
    keepalive: Duration,
    user_timeout: Duration,
) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let socket = SockRef::from(tcp);
    if !keepalive.is_zero() {
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(keepalive))?;
    }
    #[cfg(target_os = "linux")]
    if !user_timeout.is_zero() {
        socket.set_tcp_user_timeout(Some(user_timeout))?;
    }
    Ok(())
}

/// The login conversation's state.
struct Login<'a> {
    stream: Stream,
    inbox: BytesMut,
    address: &'a ServerAddress,
}

impl Login<'_> {
    fn unreachable(&self, source: io::Error) -> ConnectError {
        ConnectError::Unreachable {
            server: self.address.to_string(),
            source,
        }
    }

    fn protocol(&self, reason: impl Into<String>) -> ConnectError {
        ConnectError::Protocol {
            server: self.address.to_string(),
            reason: reason.into(),
        }
    }

    async fn send(&mut self, message: &mut BytesMut) -> Result<(), ConnectError> {
        self.stream
            .write_from(message)
            .await
            .map_err(|e| self.unreachable(e))
    }

    async fn message(&mut self) -> Result<Message, ConnectError> {
        loop {
            match Message::parse(&mut self.inbox) {
                Ok(Some(Message::ErrorResponse(body))) => return Err(self.rejected(&body)),
                Ok(Some(message)) => return Ok(message),
                Ok(None) => {}
                Err(error) => return Err(self.protocol(error.to_string())),
            }
            if self.inbox.len() > LOGIN_BYTES_MAX {
                return Err(self.protocol("an endless answer to the login"));
            }
            match self.stream.read_into(&mut self.inbox).await {
                Ok(0) => return Err(self.unreachable(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(error) => return Err(self.unreachable(error)),
            }
        }
    }

    fn rejected(&self, body: &ErrorResponseBody) -> ConnectError {
        let mut code = String::new();
        let mut message = String::new();
        let mut fields = body.fields();
        while let Ok(Some(field)) = fields.next() {
            let text = || String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'C' => code = text(),
                b'M' => message = text(),
                _ => {}
            }
        }
        ConnectError::Rejected {
            server: self.address.to_string(),
            code,
            message,
        }
    }
}

/// A connection whose server waits for its first query.
struct LoggedIn {
    stream: Stream,
    cancel_key: CancelKey,
    /// What the server says of its settings.
    settings: HashMap<String, String>,
}

async fn login(
    stream: Stream,
    address: &ServerAddress,
    role: &Role,
    options: &ConnectOptions,
    budget: Permit,
) -> Result<Server, ConnectError> {
    let every = options.presence_check.as_millis().to_string();
    let presence = [("client_connection_check_interval", every.as_str())];
    let presence: &[(&str, &str)] = if options.presence_check.is_zero() {
        &[]
    } else {
        &presence
    };
    let LoggedIn {
        stream,
        cancel_key,
        settings,
    } = log_in(stream, address, role, presence).await?;
    Ok(Server::new(
        stream,
        cancel_key,
        settings,
        options.prepared_max,
        budget,
    ))
}

async fn log_in(
    stream: Stream,
    address: &ServerAddress,
    role: &Role,
    parameters: &[(&str, &str)],
) -> Result<LoggedIn, ConnectError> {
    let mut login = Login {
        stream,
        inbox: BytesMut::new(),
        address,
    };
    let mut out = BytesMut::new();
    let always = [
        ("user", role.user.as_str()),
        ("database", address.database.as_str()),
        ("client_encoding", "UTF8"),
    ];
    let parameters = always.into_iter().chain(parameters.iter().copied());
    frontend::startup_message(parameters, &mut out).map_err(|e| login.protocol(e.to_string()))?;
    login.send(&mut out).await?;
    authenticate(&mut login, role).await?;

    let mut settings = HashMap::new();
    let mut cancel_key = CancelKey {
        pid: 0,
        secret: Bytes::new(),
    };
    loop {
        match login.message().await? {
            Message::ParameterStatus(body) => {
                let name = body.name().map_err(|e| login.protocol(e.to_string()))?;
                let value = body.value().map_err(|e| login.protocol(e.to_string()))?;
                settings.insert(name.to_owned(), value.to_owned());
            }
            Message::BackendKeyData(body) => {
                cancel_key = CancelKey {
                    pid: u32::from_ne_bytes(body.process_id().to_ne_bytes()),
                    secret: Bytes::copy_from_slice(&body.secret_key().to_be_bytes()),
                };
            }
            Message::NoticeResponse(_) => {}
            Message::ReadyForQuery(_) => break,
            _ => return Err(login.protocol("an unexpected message during login")),
        }
    }
    if login.inbox.has_remaining() {
        return Err(login.protocol("bytes after the login"));
    }
    Ok(LoggedIn {
        stream: login.stream,
        cancel_key,
        settings,
    })
}

async fn authenticate(login: &mut Login<'_>, role: &Role) -> Result<(), ConnectError> {
    let mut out = BytesMut::new();
    loop {
        match login.message().await? {
            Message::AuthenticationOk => return Ok(()),
            Message::AuthenticationCleartextPassword => {
                // A password in the clear only where nobody can listen.
                if matches!(login.stream, Stream::Tcp(_)) {
                    return Err(
                        login.protocol("the server asks for a password in the clear without TLS")
                    );
                }
                let password = password(login, role)?;
                frontend::password_message(password.as_bytes(), &mut out)
                    .map_err(|e| login.protocol(e.to_string()))?;
                login.send(&mut out).await?;
            }
            Message::AuthenticationMd5Password(body) => {
                let hash = md5_hash(
                    role.user.as_bytes(),
                    password(login, role)?.as_bytes(),
                    body.salt(),
                );
                frontend::password_message(hash.as_bytes(), &mut out)
                    .map_err(|e| login.protocol(e.to_string()))?;
                login.send(&mut out).await?;
            }
            Message::AuthenticationSasl(body) => {
                let offers = |mechanism: &str| {
                    let mut offered = body.mechanisms();
                    offered.any(|m| Ok(m == mechanism)).unwrap_or(false)
                };
                let plus = offers(SCRAM_SHA_256_PLUS);
                if !plus && !offers(SCRAM_SHA_256) {
                    return Err(login.protocol("the server offers no SCRAM-SHA-256"));
                }
                let password = password(login, role)?.as_bytes().to_vec();
                scram(login, password, plus).await?;
            }
            _ => {
                return Err(
                    login.protocol("the server asks for a login method that is not supported")
                );
            }
        }
    }
}

fn password<'a>(login: &Login<'_>, role: &'a Role) -> Result<&'a str, ConnectError> {
    match &role.password {
        Some(secret) => Ok(secret.reveal()),
        None => Err(login.protocol("the server asks for a password and none is configured")),
    }
}

/// Binds the login to the TLS connection it goes through, so that nobody in between can pass it on (RFC 5929, §4).
fn channel_binding(stream: &Stream, plus: bool) -> (ChannelBinding, &'static str) {
    let Stream::TlsServer(tls) = stream else {
        return (ChannelBinding::unsupported(), SCRAM_SHA_256);
    };
    let certificate = tls.get_ref().1.peer_certificates().and_then(<[_]>::first);
    match certificate.and_then(|certificate| tls_server_end_point(certificate)) {
        Some(digest) if plus => (
            ChannelBinding::tls_server_end_point(digest),
            SCRAM_SHA_256_PLUS,
        ),
        Some(_) => (ChannelBinding::unrequested(), SCRAM_SHA_256),
        None => (ChannelBinding::unsupported(), SCRAM_SHA_256),
    }
}

/// The rounds that a server asks for (`i=` of its first message, RFC 5802 §5.1).
fn rounds(challenge: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(challenge).ok()?;
    text.split(',')
        .find_map(|part| part.strip_prefix("i="))?
        .parse()
        .ok()
}

async fn scram(login: &mut Login<'_>, password: Vec<u8>, plus: bool) -> Result<(), ConnectError> {
    let (binding, mechanism) = channel_binding(&login.stream, plus);
    let mut scram = ScramSha256::new(&password, binding);
    let mut out = BytesMut::new();
    frontend::sasl_initial_response(mechanism, scram.message(), &mut out)
        .map_err(|e| login.protocol(e.to_string()))?;
    login.send(&mut out).await?;
    let Message::AuthenticationSaslContinue(body) = login.message().await? else {
        return Err(login.protocol("an unexpected message during SCRAM"));
    };
    let challenge = body.data().to_vec();
    if rounds(&challenge).is_none_or(|rounds| rounds > SCRAM_ROUNDS_MAX) {
        return Err(login.protocol("the server asks for too many rounds of SCRAM"));
    }
    // Milliseconds of hashing, which the sessions of this worker need not wait for.
    let hashed = tokio::task::spawn_blocking(move || {
        let updated = scram.update(&challenge);
        (scram, updated)
    });
    let (mut scram, updated) = hashed
        .await
        .map_err(|e| login.protocol(format!("SCRAM: {e}")))?;
    updated.map_err(|e| login.protocol(format!("SCRAM: {e}")))?;
    frontend::sasl_response(scram.message(), &mut out)
        .map_err(|e| login.protocol(e.to_string()))?;
    login.send(&mut out).await?;
    let Message::AuthenticationSaslFinal(body) = login.message().await? else {
        return Err(login.protocol("an unexpected message during SCRAM"));
    };
    // Also proves that the server knows the password.
    scram
        .finish(body.data())
        .map_err(|e| login.protocol(format!("SCRAM: {e}")))
}
