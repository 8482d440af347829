//! From a fresh connection to a session: TLS, cancel requests, who it is, what it is told (manual §55.2.1).

use crate::backend::connect::Role;
use crate::backend::settings::{SettingValue, Settings};
use crate::backend::stream::Stream;
use crate::config::{AuthMethod, Config, Password};
use crate::execute::client::Client;
use crate::metrics::{Outcome, QueryPlan};
use crate::route::plan::ShardSet;
use crate::session::cancel::CancelSlot;
use crate::session::commands::check_setting;
use crate::session::error::SessionError;
use crate::session::failures::Attempt;
use crate::session::listener::Mail;
use crate::session::prepared::Names;
use crate::session::temporaries::Temporaries;
use crate::session::worker::{GREETINGS_MAX, Greeting, Worker};
use crate::session::{Session, SessionHint};
use crate::topology::{Database, ShardId, Topology};
use crate::wire::auth::{
    ITERATIONS, Looks, NONCE_LEN, SALT_LEN, ScramError, ScramServer, Verifier, md5_matches,
    md5_stored, mechanisms, salt_of,
};
use crate::wire::backend::{self as reply, TransactionStatus};
use crate::wire::error::{ClientError, ErrorFields, SqlState};
use crate::wire::frame::next_frame;
use crate::wire::frontend::{SaslInitialResponse, tag};
use crate::wire::startup::{
    Startup, key_len, negotiate, negotiate_protocol_version, parameter, parse_options,
};
use bytes::BytesMut;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

/// A password message longer than this is refused before it is read whole.
const PASSWORD_MAX: usize = 16 * 1024;

/// Who may connect, with what each login needs made ready: logins of known and unknown users take the same time.
pub struct Directory {
    users: HashMap<String, Entry>,
    method: AuthMethod,
    /// The process's: salts come from it, those of nobody too.
    secret: [u8; 32],
    /// What the users' verifiers look like.
    looks: Vec<Looks>,
    /// TLS towards clients.
    pub tls: Option<TlsAcceptorEntry>,
    /// A client without TLS is refused.
    pub tls_required: bool,
}

/// An acceptor, which cannot be printed.
pub struct TlsAcceptorEntry {
    /// Accepts handshakes.
    pub acceptor: TlsAcceptor,
    /// `tls-server-end-point` of the certificate.
    pub end_point: Option<Vec<u8>>,
}

impl std::fmt::Debug for TlsAcceptorEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsAcceptorEntry")
    }
}

/// Verifiers and the secret of salts are nobody's to print.
impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directory")
            .field("users", &self.users.len())
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

struct Entry {
    verifier: Option<Verifier>,
    md5: Option<String>,
    role: Option<Role>,
    databases: Option<Vec<String>>,
}

impl Directory {
    /// Makes ready what logins need. Salts stay what they were `before`: who sees them change learns whose did.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new(
        config: &Config,
        tls: Option<TlsAcceptorEntry>,
        tls_required: bool,
        before: Option<&Self>,
    ) -> std::io::Result<Self> {
        let mut secret = [0; 32];
        match before {
            Some(before) => secret = before.secret,
            None => random(&mut secret)?,
        }
        let (mut users, mut looks) = (HashMap::new(), Vec::new());
        for (name, user) in &config.users {
            let (verifier, md5) = match &user.password {
                Password::None => (None, None),
                Password::Plain(password) => {
                    let password = password.reveal().as_bytes();
                    let salt = salt_of(&secret, name, SALT_LEN);
                    let verifier = Verifier::from_password(password, &salt, ITERATIONS);
                    (Some(verifier), Some(md5_stored(name, password)))
                }
                Password::Scram(scram) => {
                    let salt = scram.salt.clone();
                    let (stored, server) = (scram.stored_key, scram.server_key);
                    let verifier = Verifier::new(scram.iterations, salt, stored, server);
                    (Some(verifier), None)
                }
                Password::Md5(stored) => (None, Some(stored.reveal().to_owned())),
            };
            looks.extend(verifier.as_ref().map(Verifier::looks));
            let role = user.server_user.as_ref().map(|server_user| Role {
                user: server_user.clone(),
                password: user.server_password.clone(),
            });
            users.insert(
                name.clone(),
                Entry {
                    verifier,
                    md5,
                    role,
                    databases: user.databases.clone(),
                },
            );
        }
        Ok(Self {
            users,
            method: config.auth,
            secret,
            looks,
            tls,
            tls_required,
        })
    }
}

fn random(bytes: &mut [u8]) -> std::io::Result<()> {
    getrandom::fill(bytes).map_err(|error| std::io::Error::other(error.to_string()))
}

/// Why there is no session.
enum NoSession {
    /// Told and hung up on. The log has a reason of its own where the client is told less, or a server spoke, whose words
    /// may repeat a value.
    Refused(Box<ErrorFields>, Option<&'static str>),
    /// Nothing to say: a cancel request, a client that left, something that does not speak the protocol.
    Silent,
}

impl From<SessionError> for NoSession {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Statement(Some(mut fields))
            | SessionError::Unparsed(mut fields, _)
            | SessionError::Fatal(mut fields) => {
                fields.severity = "FATAL".into();
                Self::Refused(fields, None)
            }
            SessionError::Statement(None) | SessionError::ClientGone => Self::Silent,
        }
    }
}

impl NoSession {
    /// With a reason for the log.
    fn because(self, reason: &'static str) -> Self {
        match self {
            Self::Refused(fields, _) => Self::Refused(fields, Some(reason)),
            Self::Silent => Self::Silent,
        }
    }
}

fn refused(state: SqlState, message: impl Into<String>) -> NoSession {
    NoSession::Refused(Box::new(ErrorFields::fatal(state, message)), None)
}

fn broken(error: &dyn ClientError) -> NoSession {
    NoSession::Refused(Box::new(error.fatal_fields()), None)
}

/// What the startup packet said.
struct Hello {
    minor: u16,
    parameters: Vec<(String, String)>,
    encrypted: bool,
}

/// Makes a session of a connection, or says why there is none.
pub(super) async fn enter(
    stream: std::net::TcpStream,
    worker: &Rc<Worker>,
) -> Option<Box<Session>> {
    // None when it is gone already.
    let from = stream.peer_addr().ok();
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => Stream::Tcp(stream),
        Err(error) => {
            tracing::warn!(%error, "a client's connection could not be taken over");
            return None;
        }
    };
    let limits = worker.shared.config.load().limits.clone();
    let timeout = limits.client_login_timeout;
    let mut client = Client::new(stream, limits.message_max);
    let mut attempt = Attempt::default();
    let login = login(&mut client, worker, &mut attempt);
    let (refusal, reason) = match tokio::time::timeout(timeout, login).await {
        Ok(Ok((ready, pid))) => return Some(Box::new(ready.around(pid, client))),
        Ok(Err(NoSession::Refused(fields, reason))) => (fields, reason),
        Ok(Err(NoSession::Silent)) => return None,
        // Too slow: closed without a word, as PostgreSQL does after authentication_timeout.
        Err(_) => {
            if attempt.user.is_some() {
                worker.metrics.logins_failed.raise();
                let reason = "not done within limits.client_login_timeout";
                worker.login_failures.tell(&attempt, from, None, reason);
            }
            return None;
        }
    };
    worker.metrics.logins_failed.raise();
    let (sqlstate, reason) = (Some(&*refusal.code), reason.unwrap_or(&refusal.message));
    worker.login_failures.tell(&attempt, from, sqlstate, reason);
    reply::error_response(&mut client.outbox, &refusal);
    // Whoever does not read its refusal is not waited for.
    let _ = tokio::time::timeout(timeout, client.flush()).await;
    None
}

/// A session that waits for its client's connection.
struct Ready {
    worker: Rc<Worker>,
    topology: Arc<Topology>,
    database: Arc<Database>,
    role: Option<Role>,
    startup: Arc<Settings>,
    greeting: Rc<Greeting>,
    cancel: Rc<CancelSlot>,
}

impl Ready {
    fn around(self, pid: u32, client: Client) -> Session {
        let config = self.worker.shared.config.load();
        let mut hasher = std::collections::hash_map::DefaultHasher::new();
        std::hash::Hash::hash(&(&self.database.name, &self.greeting.user), &mut hasher);
        Session {
            client,
            pools: self.worker.role_pools(self.role.as_ref()),
            database_key: std::hash::Hasher::finish(&hasher),
            worker_keeps: self.worker.session_pooling(),
            message_max: config.limits.message_max,
            worker: Rc::clone(&self.worker),
            topology: self.topology,
            database: self.database,
            settings: Arc::clone(&self.startup),
            startup: self.startup,
            greeting: self.greeting,
            hint: SessionHint::default(),
            block: None,
            names: Names::default(),
            kept: Vec::new(),
            ahead: Vec::new(),
            reserve: std::rc::Weak::new(),
            pinned: ShardSet::new(),
            temporaries: Temporaries::default(),
            settled: ShardSet::new(),
            pinned_lost: false,
            skipping: false,
            sync_void: false,
            pending_sets: Vec::new(),
            own_at: 0,
            position: Default::default(),
            asks_sequence: false,
            batch: None,
            last_tag: Default::default(),
            is_unseen: false,
            cancel: self.cancel,
            pid,
            running: None,
            plan: QueryPlan::Local,
            outcome: Outcome::Done,
            who: None,
            asking: None,
            again: None,
            is_stale: false,
            is_shared: false,
            outlived: false,
            is_unreachable: false,
            changed: None,
        }
    }
}

/// A session that nobody has logged in to: one of `database`, in these settings, whose statements run as `user`, the
/// role's name on the servers, or as each shard's own login. `None` when there is no such database or role any more, or no
/// server accepts it.
pub(super) async fn without_client(
    worker: &Rc<Worker>,
    database: &str,
    user: Option<&str>,
    settings: Settings,
) -> Option<Box<Session>> {
    let directory = worker.shared.directory.load_full();
    let role = match user {
        None => None,
        Some(user) => {
            let mut roles = directory.users.values().filter_map(|e| e.role.as_ref());
            Some(roles.find(|role| role.user == user)?.clone())
        }
    };
    let topology = worker.shared.topology.load_full();
    let database = Arc::clone(topology.databases.get(database)?);
    let mut secret = [0; 32];
    random(&mut secret).ok()?;
    let mut ready = Ready {
        worker: Rc::clone(worker),
        topology,
        database,
        role,
        startup: Arc::new(settings),
        greeting: Rc::default(),
        cancel: Rc::new(CancelSlot::new(secret, secret.len())),
    };
    ready.greeting = greeting(&mut ready).await.ok()?;
    let pid = worker.enter(&ready.cancel);
    let message_max = worker.shared.config.load().limits.message_max;
    let client = Client::new(Stream::Nobody, message_max);
    Some(Box::new(ready.around(pid, client)))
}

async fn login(
    client: &mut Client,
    worker: &Rc<Worker>,
    attempt: &mut Attempt,
) -> Result<(Ready, u32), NoSession> {
    let directory = worker.shared.directory.load_full();
    let hello = hello(client, worker, &directory).await?;
    let user = parameter(&hello.parameters, "user")
        .unwrap_or_default()
        .to_owned();
    let wanted = parameter(&hello.parameters, "database")
        .filter(|name| !name.is_empty())
        .unwrap_or(&user);
    *attempt = Attempt::new(&user, wanted);
    if directory.tls_required && !hello.encrypted {
        return Err(refused(
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            "connections without TLS are not accepted",
        ));
    }
    let negotiated = negotiate(hello.minor, &hello.parameters);
    if negotiated.told {
        negotiate_protocol_version(&mut client.outbox, &negotiated);
    }
    authenticate(client, &directory, &user, hello.encrypted).await?;

    let topology = worker.shared.topology.load_full();
    let entry = directory.users.get(&user);
    let allowed = entry.is_none_or(|e| {
        e.databases
            .as_ref()
            .is_none_or(|all| all.iter().any(|d| d == wanted))
    });
    let known = topology.databases.get(wanted);
    let Some(database) = known.filter(|_| allowed) else {
        let message = format!("database \"{wanted}\" does not exist");
        return Err(
            refused(SqlState::INVALID_CATALOG_NAME, message).because(if known.is_some() {
                "the database is not among the user's"
            } else {
                "there is no such database"
            }),
        );
    };
    let startup = Arc::new(startup_settings(&hello.parameters)?);
    let role = entry.and_then(|e| e.role.clone());

    let mut secret = [0; 32];
    random(&mut secret)
        .map_err(|_| refused(SqlState::INTERNAL_ERROR, "no random bytes to be had"))?;
    let length = key_len(negotiated.minor);
    let cancel = Rc::new(CancelSlot::new(secret, length));
    let mut ready = Ready {
        worker: Rc::clone(worker),
        topology: Arc::clone(&topology),
        database: Arc::clone(database),
        role,
        startup,
        greeting: Rc::default(),
        cancel: Rc::clone(&cancel),
    };
    ready.greeting = greeting(&mut ready).await?;

    let pid = worker.enter(&cancel);
    reply::authentication_ok(&mut client.outbox);
    for (name, value) in &ready.greeting.parameters {
        reply::parameter_status(&mut client.outbox, name, value);
    }
    reply::backend_key_data(&mut client.outbox, pid, &secret[..length]);
    reply::ready_for_query(&mut client.outbox, TransactionStatus::Idle);
    Ok((ready, pid))
}

/// Reads packets until the client says who it is.
async fn hello(
    client: &mut Client,
    worker: &Rc<Worker>,
    directory: &Directory,
) -> Result<Hello, NoSession> {
    let mut encrypted = false;
    loop {
        let parsed = match Startup::parse(&client.inbox) {
            Ok(parsed) => parsed,
            Err(error) if error.is_told() => return Err(broken(&error)),
            Err(_) => return Err(NoSession::Silent),
        };
        let Some((startup, length)) = parsed else {
            client.fill().await.map_err(|_| NoSession::Silent)?;
            continue;
        };
        let _ = client.inbox.split_to(length);
        match startup {
            Startup::Ssl => {
                // Bytes behind the request would be taken for decrypted ones (CVE-2021-23214).
                if !client.inbox.is_empty() {
                    return Err(refused(
                        SqlState::PROTOCOL_VIOLATION,
                        "received unencrypted data after SSL request",
                    ));
                }
                match &directory.tls {
                    Some(tls) if !encrypted => {
                        client.outbox.extend_from_slice(b"S");
                        client.flush().await.map_err(|_| NoSession::Silent)?;
                        client
                            .start_tls(&tls.acceptor)
                            .await
                            .map_err(|_| NoSession::Silent)?;
                        encrypted = true;
                    }
                    _ => decline(client).await?,
                }
            }
            Startup::Gss => decline(client).await?,
            Startup::Cancel { pid, key } => {
                worker.metrics.cancels.raise();
                let (delivery, delivered) = oneshot::channel();
                worker.shared.post(pid, Mail::Cancel { pid, key, delivery });
                // An error is all that it says. Each server is waited for as long as a connection to it may take, and
                // this client no longer than any that logs in.
                let _ = delivered.await;
                return Err(NoSession::Silent);
            }
            Startup::Start { minor, parameters } => {
                return Ok(Hello {
                    minor,
                    parameters,
                    encrypted,
                });
            }
        }
    }
}

async fn decline(client: &mut Client) -> Result<(), NoSession> {
    client.outbox.extend_from_slice(b"N");
    client.flush().await.map_err(|_| NoSession::Silent)
}

async fn authenticate(
    client: &mut Client,
    directory: &Directory,
    user: &str,
    encrypted: bool,
) -> Result<(), NoSession> {
    let entry = directory.users.get(user);
    match directory.method {
        AuthMethod::Trust if entry.is_some() => Ok(()),
        AuthMethod::Trust => Err(refused(
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            format!("user \"{user}\" is not in the configuration"),
        )),
        AuthMethod::Md5 => match entry.and_then(|e| e.md5.as_ref().map(|m| (m, e))) {
            // A user whose verifier is SCRAM's cannot be asked for md5.
            None if entry.is_some_and(|e| e.verifier.is_some()) => {
                scram(client, directory, user, encrypted).await
            }
            known => md5(client, known.map(|(stored, _)| stored.as_str()), user).await,
        },
        AuthMethod::Scram => scram(client, directory, user, encrypted).await,
    }
}

/// The client is told the same whatever is wrong.
fn wrong_password(user: &str, reason: &'static str) -> NoSession {
    let message = format!("password authentication failed for user \"{user}\"");
    refused(SqlState::INVALID_PASSWORD, message).because(reason)
}

/// Why a password is not accepted from somebody who is known, or not.
fn why_not(is_known: bool) -> &'static str {
    if is_known {
        "the password is wrong"
    } else {
        "there is no such user, or no password that can be checked"
    }
}

async fn md5(client: &mut Client, stored: Option<&str>, user: &str) -> Result<(), NoSession> {
    let mut salt = [0; 4];
    random(&mut salt).map_err(|_| NoSession::Silent)?;
    reply::authentication_md5_password(&mut client.outbox, salt);
    let message = password_message(client).await?;
    let response = message.strip_suffix(&[0]).unwrap_or(&message);
    // An unknown user is asked like a known one.
    let against = stored.map_or_else(|| md5_stored(user, &salt), str::to_owned);
    if md5_matches(&against, salt, response) && stored.is_some() {
        Ok(())
    } else {
        Err(wrong_password(user, why_not(stored.is_some())))
    }
}

async fn scram(
    client: &mut Client,
    directory: &Directory,
    user: &str,
    encrypted: bool,
) -> Result<(), NoSession> {
    let known = directory.users.get(user).and_then(|e| e.verifier.clone());
    let real = known.is_some();
    let verifier =
        known.unwrap_or_else(|| Verifier::mock(&directory.secret, user, &directory.looks));
    let end_point = directory
        .tls
        .as_ref()
        .filter(|_| encrypted)
        .and_then(|tls| tls.end_point.clone());
    let mut nonce = [0; NONCE_LEN];
    random(&mut nonce).map_err(|_| NoSession::Silent)?;
    let failed = |error: ScramError| match error {
        ScramError::WrongPassword => wrong_password(user, why_not(real)),
        other => broken(&other),
    };
    reply::authentication_sasl(&mut client.outbox, mechanisms(end_point.as_deref()));
    let message = password_message(client).await?;
    let initial = SaslInitialResponse::decode(&message).map_err(|error| broken(&error))?;
    let mechanism = initial.mechanism.to_owned();
    let first = match initial.response {
        Some(response) => response.to_vec(),
        None => {
            reply::authentication_sasl_continue(&mut client.outbox, b"");
            password_message(client).await?.to_vec()
        }
    };
    let challenge = ScramServer::new(verifier, nonce, end_point.as_deref())
        .first(&mechanism, &first)
        .map_err(failed)?;
    reply::authentication_sasl_continue(&mut client.outbox, challenge.message());
    let message = password_message(client).await?;
    let outcome = challenge.finish(&message).map_err(failed)?;
    if !real {
        return Err(wrong_password(user, why_not(real)));
    }
    reply::authentication_sasl_final(&mut client.outbox, &outcome);
    Ok(())
}

/// The body of the next password message.
async fn password_message(client: &mut Client) -> Result<BytesMut, NoSession> {
    client.flush().await.map_err(|_| NoSession::Silent)?;
    loop {
        let frame = next_frame(&client.inbox, PASSWORD_MAX).map_err(|error| broken(&error))?;
        if let Some(frame) = frame {
            if frame.tag != tag::PASSWORD {
                return Err(refused(
                    SqlState::PROTOCOL_VIOLATION,
                    format!("expected password response, got message type {}", frame.tag),
                ));
            }
            let mut message = client.inbox.split_to(frame.len);
            let _ = message.split_to(5);
            return Ok(message);
        }
        client.fill().await.map_err(|_| NoSession::Silent)?;
    }
}

/// Startup parameters that are settings.
fn startup_settings(parameters: &[(String, String)]) -> Result<Settings, NoSession> {
    let mut entries = BTreeMap::new();
    for (name, value) in parameters {
        match name.as_str() {
            "user" | "database" => {}
            "replication" => {
                if !matches!(
                    value.to_ascii_lowercase().as_str(),
                    "" | "off" | "false" | "no" | "0"
                ) {
                    return Err(refused(
                        SqlState::FEATURE_NOT_SUPPORTED,
                        "replication connections are not supported",
                    ));
                }
            }
            "options" => {
                let options = parse_options(value)
                    .map_err(|error| broken(&error).because("options that cannot be read"))?;
                for (name, value) in options {
                    entries.insert(name.to_lowercase(), SettingValue::Text(value));
                }
            }
            name if name.starts_with("_pq_.") => {}
            name => {
                entries.insert(name.to_lowercase(), SettingValue::Text(value.clone()));
            }
        }
    }
    for (name, value) in &entries {
        check_setting(name, Some(value))?;
    }
    // Every server connection speaks UTF8 already.
    entries.remove("client_encoding");
    Ok(Settings::new(entries))
}

/// What a server tells a session with these settings: asked once, of any shard that answers.
async fn greeting(ready: &mut Ready) -> Result<Rc<Greeting>, NoSession> {
    let worker = Rc::clone(&ready.worker);
    let key = (
        ready.database.name.clone(),
        ready.role.clone(),
        Arc::clone(&ready.startup),
    );
    if let Some(greeting) = worker.greetings.borrow().get(&key) {
        ready.startup = Arc::clone(&greeting.startup);
        return Ok(Rc::clone(greeting));
    }
    let pools = worker.role_pools(ready.role.as_ref());
    let home = ready.database.home;
    let others = ready
        .database
        .keyspaces
        .iter()
        .filter_map(|k| ready.topology.keyspaces.get(usize::from(k.0)));
    let mut shards: Vec<ShardId> = home.into_iter().collect();
    shards.extend(
        others
            .flat_map(|k| k.shards.iter().copied())
            .filter(|s| Some(*s) != home),
    );
    let mut last = None;
    for shard in shards {
        let Some((pool, _)) = worker.pool(&ready.topology, &pools, shard) else {
            continue;
        };
        match super::servers::greet(&pool, &ready.startup).await {
            Ok(greeting) => {
                let greeting = Rc::new(greeting);
                ready.startup = Arc::clone(&greeting.startup);
                let mut known = worker.greetings.borrow_mut();
                if known.len() >= GREETINGS_MAX {
                    known.clear();
                }
                known.insert(key, Rc::clone(&greeting));
                return Ok(greeting);
            }
            // The settings are wrong on every shard alike.
            Err(error @ SessionError::Statement(Some(_))) if last.is_some() => {
                last = Some(error);
                break;
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(
        || refused(SqlState::INTERNAL_ERROR, "the database has no shard"),
        |error| NoSession::from(error).because("no server accepts the session"),
    ))
}
