//! Throwaway PostgreSQL clusters, for the demo, the tests and the control plane's own tests.
//!
//! In: [`ClusterOptions`]. Out: a [`Cluster`] that accepts connections. Its directory and its processes go when the
//! value is dropped, and also when this process ends in any other way: each cluster has a watchdog, a shell that
//! reads a pipe whose other end only this process holds. Never waits for a fixed time: readiness is asked of the
//! server's socket.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::Instant;

use crate::demo::binaries;
use crate::topology::Secret;

/// The role that `initdb` creates.
pub const SUPERUSER: &str = "postgres";
/// How long a server may take to accept connections, or to leave.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a server that starts or stops is asked.
const POLL: Duration = Duration::from_millis(10);
/// Ports are taken from here, below the range that Linux uses for outgoing connections, so that a stopped server
/// finds its port free when it starts again.
const PORTS: std::ops::Range<u16> = 15_000..32_000;
/// Ports tried before giving up.
const PORT_ATTEMPTS: u16 = 20;
/// Of a server's log, what an error quotes.
const LOG_TAIL_BYTES: u64 = 4_096;
/// A unix socket's address holds so many bytes on the systems we know (macOS 104, Linux 108, one for the NUL).
const SOCKET_PATH_MAX: usize = 103;

/// Fast and careless: these servers hold nothing that must survive the machine.
const SETTINGS: &[(&str, &str)] = &[
    ("fsync", "off"),
    ("synchronous_commit", "off"),
    ("full_page_writes", "off"),
    ("max_wal_size", "256MB"),
    ("max_prepared_transactions", "64"),
    ("listen_addresses", "127.0.0.1"),
    ("log_line_prefix", "%m [%p] "),
];

/// Runs a program under its own process group's leader, its id in `running` before it starts.
const LAUNCHER: &str = r#"echo $$ >"$0/running" && exec "$@""#;

/// Waits until its input ends, then stops what `running` names and removes the directory when told to.
const WATCHDOG: &str = r#"
trap '' HUP INT QUIT TERM
cat >/dev/null
pid=$(cat "$0/running" 2>/dev/null)
tries=0
if [ -n "$pid" ]; then
    kill -QUIT "$pid"
    while kill -0 "$pid" && [ -e "$0/data/postmaster.pid" ] && [ $tries -lt 100 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
fi
if [ "$1" = remove ]; then
    until rm -rf "$0" || [ $tries -ge 100 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
else
    rm -f "$0/running"
fi
"#;

/// How a cluster is made. [`ClusterOptions::default`] is trust authentication, 100 connections, C locale.
#[derive(Debug, Clone, Copy)]
pub struct ClusterOptions<'a> {
    /// Settings for postgresql.conf; they win over those of throwaway servers.
    pub settings: &'a [(&'a str, &'a str)],
    /// The server's `max_connections`.
    pub max_connections: u16,
    /// How clients prove who they are.
    pub auth: Auth<'a>,
    /// `initdb --locale`; the encoding is UTF8.
    pub locale: &'a str,
    /// More arguments for `initdb`.
    pub initdb: &'a [&'a str],
    /// Files to put into the data directory, readable by the server alone (certificates, keys).
    pub files: &'a [(&'a str, &'a [u8])],
    /// Keep the cluster here, and use what is there already, instead of a temporary directory.
    pub keep: Option<&'a Path>,
}

impl Default for ClusterOptions<'_> {
    fn default() -> Self {
        Self {
            settings: &[],
            max_connections: 100,
            auth: Auth::Trust,
            locale: "C",
            initdb: &[],
            files: &[],
            keep: None,
        }
    }
}

/// How clients of a cluster prove who they are.
#[derive(Debug, Clone, Copy)]
pub enum Auth<'a> {
    /// They need not.
    Trust,
    /// SCRAM-SHA-256, with the superuser's password.
    Scram {
        /// The superuser's password.
        password: &'a str,
    },
    /// MD5, with the superuser's password.
    Md5 {
        /// The superuser's password.
        password: &'a str,
    },
}

impl<'a> Auth<'a> {
    fn method(self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Scram { .. } => "scram-sha-256",
            Self::Md5 { .. } => "md5",
        }
    }

    fn password(self) -> Option<&'a str> {
        match self {
            Self::Trust => None,
            Self::Scram { password } | Self::Md5 { password } => Some(password),
        }
    }
}

/// Why a cluster does not run.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No server programs on this machine.
    #[error(
        "PostgreSQL's server is not installed on this machine: run `scripts/setup.sh` (or `sudo apt-get install \
         postgresql`, on macOS `brew install postgresql@17`), or set KEYWAY_PG_BIN to the directory of initdb and postgres"
    )]
    NoPostgres,
    /// `KEYWAY_PG_BIN` names a directory without them.
    #[error("KEYWAY_PG_BIN is {}, where initdb and postgres are not both found", directory.display())]
    NoPostgresIn {
        /// The directory.
        directory: PathBuf,
    },
    /// Run by root on a machine without a user to run PostgreSQL as.
    #[error(
        "PostgreSQL refuses to run as root, and this machine has neither a user `postgres` nor `nobody`"
    )]
    NoAccount,
    /// A setting that cannot be written to postgresql.conf.
    #[error("setting {name:?} is not a name that PostgreSQL knows")]
    SettingName {
        /// As it was given.
        name: String,
    },
    /// A kept directory below one that PostgreSQL's account may not enter.
    #[error("PostgreSQL cannot run as root, and its own user may not enter {}: choose a directory it can reach", directory.display())]
    Unreachable {
        /// The directory.
        directory: PathBuf,
    },
    /// A kept directory that another process uses now.
    #[error("directory {} is in use by another process", directory.display())]
    InUse {
        /// The directory.
        directory: PathBuf,
    },
    /// The directory is too deep for a unix socket.
    #[error("directory {} is too long for a unix socket", directory.display())]
    DirectoryTooLong {
        /// The directory.
        directory: PathBuf,
    },
    /// A file or process could not be handled.
    #[error("{doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A program ended with an error.
    #[error("{program} stops: {log}")]
    Program {
        /// Which.
        program: &'static str,
        /// The end of what it said.
        log: String,
    },
    /// The server did not accept connections in time.
    #[error("PostgreSQL accepts no connection after {} s: {log}", PATIENCE.as_secs())]
    Silent {
        /// The end of its log.
        log: String,
    },
    /// Every port that was tried is in use.
    #[error("none of {PORT_ATTEMPTS} ports tried is free")]
    NoPort,
    /// A statement failed.
    #[error("run a statement in database {database}")]
    Statement {
        /// Where.
        database: String,
        /// The client's error.
        source: tokio_postgres::Error,
    },
}

/// A running (or stopped) PostgreSQL cluster. Dropping it stops the server at once and removes its directory.
#[derive(Debug)]
pub struct Cluster {
    home: Home,
    port: u16,
    password: Option<Secret>,
    server: Option<Child>,
}

impl Cluster {
    /// Makes a cluster and waits until it accepts connections. Blocks; a second or two.
    pub fn start(options: &ClusterOptions<'_>) -> Result<Self, ClusterError> {
        let mut home = Home::create(options.keep)?;
        home.initialize(options)?;
        Self::start_in(home, options)
    }

    /// Makes `count` clusters alike, side by side: `initdb` runs once and the others are copies. With
    /// [`ClusterOptions::keep`] they live in its sub-directories `0`, `1`, ….
    pub fn start_many(
        count: usize,
        options: &ClusterOptions<'_>,
    ) -> Result<Vec<Self>, ClusterError> {
        let mut homes: Vec<Home> = Vec::with_capacity(count);
        for index in 0..count {
            let keep = options.keep.map(|keep| keep.join(index.to_string()));
            let mut home = Home::create(keep.as_deref())?;
            match homes.first() {
                Some(first) if !home.is_initialized() => home.copy(first)?,
                _ => home.initialize(options)?,
            }
            homes.push(home);
        }
        thread::scope(|scope| {
            let starting: Vec<_> = homes
                .into_iter()
                .map(|home| scope.spawn(|| Self::start_in(home, options)))
                .collect();
            starting
                .into_iter()
                .map(|one| one.join().expect("starting a cluster does not panic"))
                .collect()
        })
    }

    fn start_in(home: Home, options: &ClusterOptions<'_>) -> Result<Self, ClusterError> {
        let password = options.auth.password().map(Secret::new);
        let mut cluster = Self {
            home,
            port: 0,
            password,
            server: None,
        };
        for port in ports_to_try() {
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err() {
                continue;
            }
            cluster.port = port;
            cluster.home.configure(options, port)?;
            match cluster.start_again() {
                // Somebody took the port between our look and the server's.
                Err(ClusterError::Program { log, .. })
                    if log.contains("could not create any TCP/IP sockets") => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok(cluster),
            }
        }
        Err(ClusterError::NoPort)
    }

    /// The TCP port, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory of its unix socket.
    #[must_use]
    pub fn socket_dir(&self) -> &Path {
        &self.home.directory
    }

    /// The data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.home.data()
    }

    /// The directory of the server's programs (`psql`, `pgbench` and others may be there too).
    #[must_use]
    pub fn bin_dir(&self) -> &Path {
        &self.home.programs
    }

    /// The superuser's connection string over TCP.
    #[must_use]
    pub fn dsn(&self, database: &str) -> String {
        self.dsn_of(SUPERUSER, database)
    }

    /// A role's connection string over TCP; the role has the superuser's password.
    #[must_use]
    pub fn dsn_of(&self, role: &str, database: &str) -> String {
        self.dsn_at(role, "127.0.0.1", database)
    }

    /// The superuser's connection string over the unix socket.
    #[must_use]
    pub fn socket_dsn(&self, database: &str) -> String {
        let directory = self.home.directory.to_string_lossy();
        self.dsn_at(
            SUPERUSER,
            &utf8_percent_encode(&directory, NON_ALPHANUMERIC).to_string(),
            database,
        )
    }

    fn dsn_at(&self, role: &str, host: &str, database: &str) -> String {
        let password = self.password.as_ref().map_or_else(String::new, |password| {
            format!(
                ":{}",
                utf8_percent_encode(password.reveal(), NON_ALPHANUMERIC)
            )
        });
        let database = utf8_percent_encode(database, NON_ALPHANUMERIC);
        format!(
            "postgres://{role}{password}@{host}:{}/{database}",
            self.port
        )
    }

    /// The superuser's password, when one is asked for.
    #[must_use]
    pub fn password(&self) -> Option<&str> {
        self.password.as_ref().map(Secret::reveal)
    }

    /// The postmaster's process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Child::id)
    }

    /// Everything the server has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(self.home.log()).map_or_else(
            |_| String::new(),
            |log| String::from_utf8_lossy(&log).into_owned(),
        )
    }

    /// Creates a database. Blocks.
    pub fn create_database(&self, name: &str) -> Result<(), ClusterError> {
        self.execute(
            "postgres",
            &format!("CREATE DATABASE {}", quote_identifier(name)),
        )
    }

    /// Runs statements as the superuser, without asking for rows. Blocks; may be called from async code.
    pub fn execute(&self, database: &str, sql: &str) -> Result<(), ClusterError> {
        self.query(database, sql).map(drop)
    }

    /// Runs statements as the superuser and returns the rows of all of them as text. Blocks; may be called from
    /// async code.
    pub fn query(
        &self,
        database: &str,
        sql: &str,
    ) -> Result<Vec<Vec<Option<String>>>, ClusterError> {
        let mut config = tokio_postgres::Config::new();
        config
            .host_path(&self.home.directory)
            .port(self.port)
            .user(SUPERUSER)
            .dbname(database);
        if let Some(password) = &self.password {
            config.password(password.reveal());
        }
        // A thread of its own: a runtime cannot be started on one that already runs a runtime.
        let asking = thread::scope(|scope| scope.spawn(|| rows_as_text(&config, sql)).join());
        asking
            .expect("asking a server does not panic")
            .map_err(|source| ClusterError::Statement {
                database: database.to_owned(),
                source,
            })
    }

    /// Stops the server as `pg_ctl stop -m fast` does: open transactions are rolled back, data is written out.
    pub fn stop(&mut self) -> Result<(), ClusterError> {
        self.end("INT")
    }

    /// Kills the postmaster and every process of the server with SIGKILL, as a machine that dies would.
    pub fn kill9(&mut self) -> Result<(), ClusterError> {
        let Some(pid) = self.pid() else { return Ok(()) };
        let backends = children_of(pid);
        signal(pid, "KILL");
        for backend in backends {
            signal(backend, "KILL");
        }
        self.end("KILL")
    }

    /// Sends a signal (`STOP`, `CONT`, `HUP` …) to the postmaster.
    pub fn signal(&self, name: &str) {
        if let Some(pid) = self.pid() {
            signal(pid, name);
        }
    }

    /// Starts a stopped or killed server on the port it had, and waits until it accepts connections.
    pub fn start_again(&mut self) -> Result<(), ClusterError> {
        if self.server.is_some() {
            return Ok(());
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log_start = fs::metadata(self.home.log()).map_or(0, |log| log.len());
            match self.launch(log_start, deadline) {
                // After kill9 the last backends may still hold the shared memory for a moment.
                Err(ClusterError::Program { log, .. })
                    if log.contains("shared memory block") && Instant::now() < deadline =>
                {
                    thread::sleep(POLL);
                }
                result => return result,
            }
        }
    }

    fn launch(&mut self, log_start: u64, deadline: Instant) -> Result<(), ClusterError> {
        let data = self.home.data();
        let mut server = self
            .home
            .launch("postgres", |command| command.arg("-D").arg(&data))?;
        loop {
            let exited = server
                .try_wait()
                .map_err(|source| io_error("wait for postgres in", &data, source))?;
            if exited.is_some() {
                self.home.nothing_runs();
                return Err(ClusterError::Program {
                    program: "postgres",
                    log: self.home.log_tail(log_start),
                });
            }
            if accepts_connections(&self.home.socket(self.port)) {
                self.server = Some(server);
                return Ok(());
            }
            if Instant::now() > deadline {
                self.server = Some(server);
                let _ = self.end("QUIT");
                return Err(ClusterError::Silent {
                    log: self.home.log_tail(log_start),
                });
            }
            thread::sleep(POLL);
        }
    }

    /// Sends the signal and waits for the postmaster to leave; SIGKILL when it does not.
    fn end(&mut self, name: &str) -> Result<(), ClusterError> {
        let Some(mut server) = self.server.take() else {
            return Ok(());
        };
        signal(server.id(), name);
        let deadline = Instant::now() + PATIENCE;
        let wait = |source| io_error("wait for postgres in", &self.home.directory, source);
        while server.try_wait().map_err(wait)?.is_none() {
            if Instant::now() > deadline {
                server.kill().map_err(wait)?;
                server.wait().map_err(wait)?;
                break;
            }
            thread::sleep(POLL);
        }
        self.home.nothing_runs();
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A kept cluster is closed properly; a throwaway one only has to be gone. What fails here, the watchdog does.
        let _ = self.end(if self.home.kept { "INT" } else { "QUIT" });
    }
}

/// A cluster's directory: `data`, the unix socket, `log`, `running`, and the watchdog that outlives us.
#[derive(Debug)]
struct Home {
    directory: PathBuf,
    kept: bool,
    programs: PathBuf,
    account: Option<Account>,
    watchdog: Child,
    /// Held for as long as we live, so that two processes do not run one kept cluster.
    lock: File,
}

impl Home {
    fn create(keep: Option<&Path>) -> Result<Self, ClusterError> {
        let programs = binaries::find()?;
        let directory = match keep {
            Some(keep) => kept_directory(keep)?,
            None => temporary_directory()?,
        };
        let lock = lock(&directory)?;
        // From here on whatever fails leaves nothing behind: the watchdog's input ends when it is dropped.
        let watchdog = Command::new("/bin/sh")
            .args(["-c", WATCHDOG])
            .arg(&directory)
            .arg(if keep.is_some() { "keep" } else { "remove" })
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|source| io_error("watch over", &directory, source))?;
        let owner = fs::metadata(&directory)
            .map_err(|source| io_error("read", &directory, source))?
            .uid();
        let account = Account::to_run_as(owner, keep.is_some())?;
        if let Some(account) = account {
            if !directory.parent().is_none_or(everybody_may_enter) {
                return Err(ClusterError::Unreachable { directory });
            }
            account.give(&directory)?;
        }
        let home = Self {
            directory,
            kept: keep.is_some(),
            programs,
            account,
            watchdog,
            lock,
        };
        if home.socket(u16::MAX).as_os_str().len() > SOCKET_PATH_MAX {
            return Err(ClusterError::DirectoryTooLong {
                directory: home.directory.clone(),
            });
        }
        Ok(home)
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    fn socket(&self, port: u16) -> PathBuf {
        self.directory.join(format!(".s.PGSQL.{port}"))
    }

    fn is_initialized(&self) -> bool {
        self.data().join("PG_VERSION").is_file()
    }

    /// Runs `initdb`, unless a kept directory already holds a cluster.
    fn initialize(&mut self, options: &ClusterOptions<'_>) -> Result<(), ClusterError> {
        if self.is_initialized() {
            return Ok(());
        }
        let password_file = self.directory.join("password");
        if let Some(password) = options.auth.password() {
            self.write(&password_file, password.as_bytes())?;
        }
        let data = self.data();
        let log_start = fs::metadata(self.log()).map_or(0, |log| log.len());
        let mut initdb = self.launch("initdb", |command| {
            command
                .arg("-D")
                .arg(&data)
                .args(["-U", SUPERUSER, "-A", options.auth.method()]);
            command
                .args(["-E", "UTF8", "--no-sync"])
                .arg(format!("--locale={}", options.locale))
                .args(options.initdb);
            match options.auth.password() {
                Some(_) => command.arg("--pwfile").arg(&password_file),
                None => command,
            }
        })?;
        let status = initdb
            .wait()
            .map_err(|source| io_error("wait for initdb in", &data, source))?;
        self.nothing_runs();
        if !status.success() {
            return Err(ClusterError::Program {
                program: "initdb",
                log: self.log_tail(log_start),
            });
        }
        if options.auth.password().is_some() {
            fs::remove_file(&password_file)
                .map_err(|source| io_error("remove", &password_file, source))?;
        }
        self.append(&data.join("postgresql.conf"), "\ninclude 'keyway.conf'\n")
    }

    /// Takes over another cluster's fresh data directory.
    fn copy(&mut self, from: &Self) -> Result<(), ClusterError> {
        let (from, to) = (from.data(), self.data());
        let mut copying = self
            .command("/bin/cp")?
            .arg("-R")
            .arg(&from)
            .arg(&to)
            .spawn();
        let status = copying
            .as_mut()
            .map_err(|source| io_error("copy", &from, io::Error::from(source.kind())))?
            .wait();
        if !status
            .map_err(|source| io_error("copy", &from, source))?
            .success()
        {
            return Err(ClusterError::Program {
                program: "cp",
                log: self.log_tail(0),
            });
        }
        fs::set_permissions(&to, fs::Permissions::from_mode(0o700))
            .map_err(|source| io_error("close", &to, source))
    }

    /// Writes the settings (into a file of our own, so that ALTER SYSTEM still works) and the extra files.
    fn configure(&self, options: &ClusterOptions<'_>, port: u16) -> Result<(), ClusterError> {
        let (port, max_connections) = (port.to_string(), options.max_connections.to_string());
        let directory = self.directory.to_string_lossy();
        let ours = [
            ("port", port.as_str()),
            ("max_connections", max_connections.as_str()),
            ("unix_socket_directories", &directory),
        ];
        let mut text = String::new();
        for (name, value) in SETTINGS.iter().chain(&ours).chain(options.settings) {
            if !name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.')
            {
                return Err(ClusterError::SettingName {
                    name: (*name).to_owned(),
                });
            }
            let value = value
                .replace('\\', "\\\\")
                .replace('\'', "''")
                .replace('\n', "\\n");
            text.push_str(&format!("{name} = '{value}'\n"));
        }
        self.write(&self.data().join("keyway.conf"), text.as_bytes())?;
        options
            .files
            .iter()
            .try_for_each(|(name, bytes)| self.write(&self.data().join(name), bytes))
    }

    /// Starts one of PostgreSQL's programs; `running` names it before it begins.
    fn launch(
        &self,
        program: &'static str,
        arguments: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Result<Child, ClusterError> {
        let path = self.programs.join(program);
        let mut command = self.command("/bin/sh")?;
        command
            .args(["-c", LAUNCHER])
            .arg(&self.directory)
            .arg(&path);
        arguments(&mut command)
            .spawn()
            .map_err(|source| io_error("start", &path, source))
    }

    /// A command that runs as the account, writes to the log, and is not reached by the terminal's Ctrl-C.
    fn command(&self, program: &str) -> Result<Command, ClusterError> {
        let log = self.open_log()?;
        let log_too = log
            .try_clone()
            .map_err(|source| io_error("open", &self.log(), source))?;
        let mut command = Command::new(program);
        command.current_dir(&self.directory).process_group(0);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LC_ALL", "C");
        command.stdin(Stdio::null()).stdout(log).stderr(log_too);
        if let Some(account) = self.account {
            command.uid(account.uid).gid(account.gid);
        }
        Ok(command)
    }

    fn open_log(&self) -> Result<File, ClusterError> {
        let path = self.log();
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path);
        file.map_err(|source| io_error("open", &path, source))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), ClusterError> {
        let opened = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(path);
        opened
            .and_then(|mut file| file.write_all(bytes))
            .map_err(|source| io_error("write", path, source))?;
        self.account.map_or(Ok(()), |account| account.give(path))
    }

    fn append(&self, path: &Path, text: &str) -> Result<(), ClusterError> {
        let opened = OpenOptions::new().append(true).open(path);
        opened
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|source| io_error("write", path, source))
    }

    /// The watchdog must not signal a process id that the system may give to another.
    fn nothing_runs(&self) {
        let _ = fs::remove_file(self.directory.join("running"));
    }

    fn log_tail(&self, start: u64) -> String {
        let read = || -> io::Result<String> {
            let mut file = File::open(self.log())?;
            let end = file.metadata()?.len();
            file.seek(SeekFrom::Start(
                start.max(end.saturating_sub(LOG_TAIL_BYTES)),
            ))?;
            let mut bytes = Vec::new();
            file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
        };
        read().unwrap_or_default()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Its input ends with the handle; then it removes the directory, and we wait so that it is gone.
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
        // Closing the file is not enough: a process that another thread is about to start has it too, until it runs its
        // program.
        let _ = self.lock.unlock();
    }
}

/// Who PostgreSQL runs as when root starts it.
#[derive(Debug, Clone, Copy)]
struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    /// `None`: as ourselves. `owner` owns the directory: us, or for a kept one whoever ran it before.
    fn to_run_as(owner: u32, kept: bool) -> Result<Option<Self>, ClusterError> {
        let we_are_root = owner == 0 || (kept && running_as_root());
        if !we_are_root {
            return Ok(None);
        }
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let account = ["postgres", "nobody"]
            .iter()
            .find_map(|name| Self::of(&users, name));
        account.map(Some).ok_or(ClusterError::NoAccount)
    }

    /// `name`'s line of a passwd file: name:password:uid:gid:….
    fn of(users: &str, name: &str) -> Option<Self> {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            if fields.next()? != name {
                return None;
            }
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            Some(Self { uid, gid })
        })
    }

    fn give(self, path: &Path) -> Result<(), ClusterError> {
        chown(path, Some(self.uid), Some(self.gid))
            .map_err(|source| io_error("give away", path, source))
    }
}

/// Files that we create belong to us: the only way to learn our user id without `unsafe` on every system.
fn running_as_root() -> bool {
    temporary_directory().is_ok_and(|directory| {
        let root = fs::metadata(&directory).is_ok_and(|made| made.uid() == 0);
        let _ = fs::remove_dir(&directory);
        root
    })
}

/// A new directory that only its owner can enter.
fn temporary_directory() -> Result<PathBuf, ClusterError> {
    let wanted = std::env::temp_dir();
    // PostgreSQL's account must be able to reach it, and /tmp is what everybody can reach.
    let parent = if everybody_may_enter(&wanted) {
        wanted
    } else {
        PathBuf::from("/tmp")
    };
    loop {
        let directory = parent.join(format!("keyway-{:08x}", random()));
        match fs::DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(io_error("create", &directory, source)),
            Ok(()) => return Ok(directory),
        }
    }
}

/// The lock also makes a `running` that a crash of the machine left behind ours to remove.
fn lock(directory: &Path) -> Result<File, ClusterError> {
    let path = directory.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .open(&path);
    let file = file.map_err(|source| io_error("open", &path, source))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            return Err(ClusterError::InUse {
                directory: directory.to_path_buf(),
            });
        }
        Err(fs::TryLockError::Error(source)) => return Err(io_error("lock", &path, source)),
    }
    let _ = fs::remove_file(directory.join("running"));
    Ok(file)
}

fn everybody_may_enter(directory: &Path) -> bool {
    directory
        .ancestors()
        .all(|part| fs::metadata(part).is_ok_and(|part| part.mode() & 0o001 != 0))
}

fn kept_directory(keep: &Path) -> Result<PathBuf, ClusterError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(keep)
        .and_then(|()| fs::canonicalize(keep))
        .map_err(|source| io_error("create", keep, source))
}

/// Candidates in a row from a random start, so that several of us seldom try the same.
fn ports_to_try() -> impl Iterator<Item = u16> {
    let count = u32::from(PORTS.end - PORTS.start);
    let start = random() % count;
    (0..u32::from(PORT_ATTEMPTS))
        .filter_map(move |step| u16::try_from((start + step) % count).ok())
        .map(|offset| PORTS.start + offset)
}

fn random() -> u32 {
    getrandom::u32().unwrap_or_else(|_| std::process::id())
}

/// Sends a start-up message and looks at the first answer: an authentication request means that the server takes
/// clients, an error 57P03 that it is still starting or already stopping.
fn accepts_connections(socket: &Path) -> bool {
    let ask = || -> io::Result<bool> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let parameters = format!("user\0{SUPERUSER}\0database\0{SUPERUSER}\0\0");
        let length = u32::try_from(parameters.len() + 8).map_err(io::Error::other)?;
        let mut message = length.to_be_bytes().to_vec();
        message.extend_from_slice(&196_608_u32.to_be_bytes());
        message.extend_from_slice(parameters.as_bytes());
        stream.write_all(&message)?;
        let mut answer = [0; 256];
        let read = stream.read(&mut answer)?;
        let starting = answer[..read].windows(6).any(|part| part == b"C57P03");
        let _ = stream.write_all(b"X\0\0\0\x04");
        Ok(read > 0 && !starting)
    };
    ask().unwrap_or(false)
}

fn rows_as_text(
    config: &tokio_postgres::Config,
    sql: &str,
) -> Result<Vec<Vec<Option<String>>>, tokio_postgres::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs only a thread");
    runtime.block_on(async {
        let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
        let driver = tokio::spawn(connection);
        let messages = client.simple_query(sql).await?;
        drop(client);
        let _ = driver.await;
        let rows = messages.iter().filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        Ok(rows
            .map(|row| {
                (0..row.len())
                    .map(|column| row.get(column).map(str::to_owned))
                    .collect()
            })
            .collect())
    })
}

/// Signals go through the shell: `unsafe` is forbidden here, and the shell is on every system that runs PostgreSQL.
fn signal(pid: u32, name: &str) {
    let _ = Command::new("/bin/sh")
        .args(["-c", r#"kill -s "$0" "$1""#, name, &pid.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

fn children_of(pid: u32) -> Vec<u32> {
    let listed = Command::new("pgrep")
        .args(["-P", &pid.to_string()])
        .stdin(Stdio::null())
        .output();
    listed.map_or_else(
        |_| Vec::new(),
        |output| {
            String::from_utf8_lossy(&output.stdout)
                .lines()
                .filter_map(|line| line.trim().parse().ok())
                .collect()
        },
    )
}

fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn io_error(doing: &'static str, path: &Path, source: io::Error) -> ClusterError {
    ClusterError::Io {
        doing,
        path: path.to_path_buf(),
        source,
    }
}
