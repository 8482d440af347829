//! Real servers for the tests: one PostgreSQL cluster for the whole run, databases on it as shards, and the router as
//! its own process on a generated configuration.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use keyway::demo::cluster::{Cluster, ClusterOptions};
use tokio::time::Instant;

use crate::raw::{Client, PATIENCE, Target};

/// How often something that is awaited is looked at.
pub(crate) const POLL: Duration = Duration::from_millis(10);
/// A router's ports are taken from here, below the clusters' and the range that systems use for outgoing connections:
/// it binds them seconds after they were found free.
const PORTS: std::ops::Range<u16> = 10_000..15_000;
/// The clients' password towards Keyway.
pub(crate) const PASSWORD: &str = "app secret";

/// The run's PostgreSQL cluster. Its watchdog removes it when this process ends.
pub(crate) fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| new_cluster(600))
}

/// A cluster of a test's own, to be stopped and killed.
pub(crate) fn new_cluster(max_connections: u16) -> Cluster {
    let options = ClusterOptions {
        max_connections,
        settings: &[("timezone", "UTC"), ("log_min_messages", "error")],
        ..ClusterOptions::default()
    };
    Cluster::start(&options).unwrap_or_else(|error| panic!("start PostgreSQL: {error}"))
}

/// Waits until `probe` gives a value, and says what was awaited when it does not.
pub(crate) fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not after {PATIENCE:?}");
        thread::sleep(POLL);
    }
}

/// A port that nobody listens on now. Handed out once per run.
pub(crate) fn free_port() -> u16 {
    static NEXT: Mutex<Option<u16>> = Mutex::new(None);
    let mut next = NEXT.lock().expect("no test panics while it picks a port");
    for _ in PORTS {
        // Another run on this machine begins elsewhere.
        let anywhere = || getrandom::u32().unwrap_or(0) % PORTS.len() as u32;
        let port = next.unwrap_or_else(|| PORTS.start + anywhere() as u16);
        *next = Some(if port + 1 < PORTS.end {
            port + 1
        } else {
            PORTS.start
        });
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no port of {PORTS:?} is free");
}

/// A GET request's status and body.
pub(crate) fn http_get(port: u16, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.to_owned()))
}

/// With `KEYWAY_TEST_CACHE=1` every router of the tests keeps answers, unless its configuration speaks of that itself: what
/// they say must not depend on it.
fn cache_of_all(config: &str) -> &'static str {
    if caches_everywhere() && !config.contains("[cache]") {
        "\n[cache]\nenabled = true\n"
    } else {
        ""
    }
}

fn caches_everywhere() -> bool {
    std::env::var_os("KEYWAY_TEST_CACHE").is_some()
}

/// A test has written to a shard behind the router's back. Its answers are dropped, if it keeps any only because all do.
pub(crate) fn written_behind(target: &Target) {
    if caches_everywhere() {
        let mut client = Client::connect(target);
        client.run("select keyway.cache_flush()");
        client.bye();
    }
}

/// The router as a process. Killed when dropped, and by its watchdog when this process ends without dropping it; its
/// directory goes with it.
pub(crate) struct Router {
    child: Child,
    watchdog: Child,
    directory: tempfile::TempDir,
    pub(crate) port: u16,
    pub(crate) http: u16,
}

impl Router {
    /// Starts `keyway serve` on `config`, which must not name ports, and waits for `/readyz`.
    pub(crate) fn start(config: &str) -> Self {
        let router = Self::launch(config, &[]);
        router.wait_ready();
        router
    }

    /// Starts `keyway serve` and does not wait.
    pub(crate) fn launch(config: &str, environment: &[(&str, &str)]) -> Self {
        Self::launch_with(config, environment, &[])
    }

    /// As [`Router::launch`], with options of `keyway serve`.
    pub(crate) fn launch_with(
        config: &str,
        environment: &[(&str, &str)],
        options: &[&str],
    ) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (port, http) = (free_port(), free_port());
        let file = directory.path().join("keyway.toml");
        let text = format!(
            "listen = \"127.0.0.1:{port}\"\nhttp = \"127.0.0.1:{http}\"\n{config}{}",
            cache_of_all(config)
        );
        fs::write(&file, text).expect("write the configuration");
        let log = |name: &str| fs::File::create(directory.path().join(name)).expect("create a log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyway"));
        // What configures a router of the machine is not about this one.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("KEYWAY__") {
                command.env_remove(name);
            }
        }
        let child = command
            .arg("serve")
            .arg("-c")
            .arg(&file)
            .args(options)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log("stdout"))
            .stderr(log("stderr"))
            .spawn()
            .expect("start keyway");
        let watchdog = watch(&child, directory.path());
        Self {
            child,
            watchdog,
            directory,
            port,
            http,
        }
    }

    /// Writes another configuration where the router reads its own, on the same ports.
    pub(crate) fn replace_config(&self, config: &str) {
        let text = format!(
            "listen = \"127.0.0.1:{}\"\nhttp = \"127.0.0.1:{}\"\n{config}{}",
            self.port,
            self.http,
            cache_of_all(config)
        );
        fs::write(self.directory.path().join("keyway.toml"), text)
            .expect("write the configuration");
    }

    /// Where its configuration is.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.directory.path().join("keyway.toml")
    }

    /// Is the process there? Unlike [`Router::is_alive`] it does not take its exit code.
    pub(crate) fn is_running(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        let state = status
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.chars().next());
        !matches!(state, None | Some('Z' | 'X'))
    }

    /// Waits for `/readyz`.
    pub(crate) fn wait_ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok((200, _)) = http_get(self.http, "/readyz") {
                return;
            }
            let gone = cfg!(target_os = "linux") && !self.is_running();
            assert!(
                !gone && Instant::now() < deadline,
                "keyway serve does not become ready; it says:\n{}",
                self.log()
            );
            thread::sleep(POLL);
        }
    }

    /// Everything it has logged.
    pub(crate) fn log(&self) -> String {
        ["stdout", "stderr"]
            .iter()
            .map(|name| fs::read_to_string(self.directory.path().join(name)).unwrap_or_default())
            .collect()
    }

    /// The process's id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the router lives");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .expect("a resident size");
        line.split_whitespace()
            .nth(1)
            .and_then(|n| n.parse().ok())
            .expect("a number")
    }

    /// Is the process alive?
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        send_signal(&self.child, name);
    }

    /// Ends the process without a word and starts it again, on the same ports. Does not wait until it is ready.
    pub(crate) fn kill_and_restart(&mut self) {
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = |name: &str| {
            let mut open = fs::OpenOptions::new();
            let file = open.append(true).open(self.directory.path().join(name));
            file.expect("open a log")
        };
        self.child = Command::new(env!("CARGO_BIN_EXE_keyway"))
            .arg("serve")
            .arg("-c")
            .arg(self.config_file())
            .stdin(Stdio::null())
            .stdout(log("stdout"))
            .stderr(log("stderr"))
            .spawn()
            .expect("start keyway");
        self.watchdog = watch(&self.child, self.directory.path());
    }

    /// Waits for the process's end and returns its exit code.
    pub(crate) fn wait_exit(&mut self) -> Option<i32> {
        eventually("keyway leaves", || {
            self.child.try_wait().expect("ask for the child")
        })
        .code()
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        // The watchdog goes first: it must not aim at a process id that somebody else has by then.
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(30).collect();
            eprintln!("the router's last words:");
            for line in tail.iter().rev() {
                eprintln!("    {line}");
            }
        }
    }
}

/// Kills a child and removes its directory when this process ends without doing so.
fn watch(child: &Child, directory: &Path) -> Child {
    Command::new("/bin/sh")
        .args([
            "-c",
            r#"cat >/dev/null; kill -9 "$0"; rm -rf "$1""#,
            &child.id().to_string(),
        ])
        .arg(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start a watchdog")
}

/// A Redis of a test's own, on a socket in its directory, without persistence. Killed when dropped, and by its watchdog.
pub(crate) struct Redis {
    child: Child,
    watchdog: Child,
    directory: tempfile::TempDir,
}

impl Redis {
    /// Starts one and waits until it answers.
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let child = Self::launch(directory.path());
        let watchdog = watch(&child, directory.path());
        let redis = Self {
            child,
            watchdog,
            directory,
        };
        redis.wait_ready();
        redis
    }

    fn launch(directory: &Path) -> Child {
        Command::new("redis-server")
            .current_dir(directory)
            .args(["--save", "", "--appendonly", "no"])
            .args(["--port", "0", "--unixsocket", "socket"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed")
    }

    fn wait_ready(&self) {
        eventually("redis-server answers", || {
            self.try_ask::<String>(&["PING"]).ok()
        });
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.directory.path().join("socket").display())
    }

    fn try_ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let client = redis::Client::open(self.url())?;
        let mut connection = client.get_connection_with_timeout(PATIENCE)?;
        let (first, rest) = words.split_first().expect("a word");
        redis::cmd(first).arg(rest).query(&mut connection)
    }

    /// A command's answer.
    pub(crate) fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_ask(words)
            .unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// A key's bytes.
    pub(crate) fn get(&self, key: &str) -> Vec<u8> {
        self.ask(&["GET", key])
    }

    /// Writes a key.
    pub(crate) fn set(&self, key: &str, bytes: &[u8]) {
        let client = redis::Client::open(self.url()).expect("an address");
        let mut connection = client
            .get_connection_with_timeout(PATIENCE)
            .expect("a connection");
        let set: redis::RedisResult<()> =
            redis::cmd("SET").arg(key).arg(bytes).query(&mut connection);
        set.expect("written");
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        send_signal(&self.child, name);
    }

    /// Ends it without a word. All that it knew is gone.
    pub(crate) fn kill(&mut self) {
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again where it was, with nothing in it.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.child = Self::launch(self.directory.path());
        self.watchdog = watch(&self.child, self.directory.path());
        self.wait_ready();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn send_signal(child: &Child, name: &str) {
    let done = Command::new("/bin/sh")
        .args(["-c", r#"kill -s "$0" "$1""#, name, &child.id().to_string()])
        .status();
    assert!(done.is_ok_and(|status| status.success()), "send {name}");
}

/// What a router of the tests is made of.
pub(crate) struct Setup<'a> {
    /// Prefix of its databases.
    pub(crate) name: &'a str,
    /// `pool.size`.
    pub(crate) pool_size: u32,
    /// Lines of `[keyspaces.main.tables]`.
    pub(crate) tables: &'a str,
    /// More configuration: tables of TOML.
    pub(crate) more: &'a str,
    /// Keys in front of all tables of the configuration.
    pub(crate) top: &'a str,
    /// More lines of `[pool]`.
    pub(crate) pool: &'a str,
    /// Shards that live elsewhere, by name, with their connection strings.
    pub(crate) elsewhere: &'a [(&'a str, String)],
    /// Run on every database before the router starts, in another order on each.
    pub(crate) types: &'a str,
    /// Run through the router when it is ready.
    pub(crate) schema: &'a str,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            name: "plain",
            pool_size: 10,
            tables: "",
            more: "",
            top: "",
            pool: "",
            elsewhere: &[],
            types: "",
            schema: "",
        }
    }
}

/// The shards of every test router: three horizontal, two vertical.
pub(crate) const SHARDS: [&str; 5] = ["s0", "s1", "s2", "activity", "settings"];

/// A running router with its shards.
pub(crate) struct Env {
    pub(crate) router: Router,
    name: String,
    /// Where clients connect.
    pub(crate) target: Target,
    /// What the schema's statements answered through the router when it was not success.
    pub(crate) schema_failures: Vec<String>,
    config: String,
}

impl Setup<'_> {
    /// Creates the databases, starts the router and applies the schema through it. A statement that fails is applied
    /// to the shards directly, so that one failure does not hide all others; it is noted in
    /// [`Env::schema_failures`], which a test looks at.
    pub(crate) fn start(&self) -> Env {
        let mut shards = String::new();
        for (index, shard) in SHARDS.iter().enumerate() {
            let dsn = match self.elsewhere.iter().find(|(name, _)| name == shard) {
                Some((_, dsn)) => dsn.clone(),
                None => {
                    let database = format!("{}_{shard}", self.name);
                    create_database(&database);
                    apply_types(&database, self.types, index);
                    cluster().dsn(&database)
                }
            };
            writeln!(shards, "[shards.{shard}]\nprimary = \"{dsn}\"").expect("write to a string");
        }
        let Self {
            tables,
            more,
            top,
            pool,
            pool_size,
            ..
        } = self;
        let config = format!(
            "{top}\n[users.app]\npassword = \"{PASSWORD}\"\n\
             {shards}\
             [databases.app]\nkeyspaces = [\"main\", \"activity\", \"settings\"]\ndefault = \"main\"\n\
             [keyspaces.main]\nshards = [\"s0\", \"s1\", \"s2\"]\n[keyspaces.main.tables]\n{tables}\n\
             [keyspaces.activity]\nshards = [\"activity\"]\n[keyspaces.activity.tables]\nuser_activities = {{}}\nactivity_kinds = {{}}\n\
             [keyspaces.settings]\nshards = [\"settings\"]\n[keyspaces.settings.tables]\nuser_settings = {{}}\n\
             [pool]\nsize = {pool_size}\n{pool}\n{more}\n"
        );
        let router = Router::start(&config);
        let target = Target {
            port: router.port,
            user: "app".to_owned(),
            database: "app".to_owned(),
            password: PASSWORD.to_owned(),
        };
        let mut env = Env {
            router,
            name: self.name.to_owned(),
            target,
            schema_failures: Vec::new(),
            config,
        };
        env.apply_schema(self.schema);
        env
    }
}

impl Env {
    /// Another router on the same shards.
    pub(crate) fn another_router(&self) -> Router {
        Router::start(&self.config)
    }

    /// A new session through the router.
    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.target)
    }

    /// A new session through the router with startup parameters.
    pub(crate) fn client_with(&self, parameters: &[(&str, &str)]) -> Client {
        match Client::try_connect(&self.target, parameters) {
            Ok(client) => client,
            Err(refusal) => panic!("connect with {parameters:?}: {refusal:?}"),
        }
    }

    /// A session on a shard of the run's cluster itself, behind the router's back.
    pub(crate) fn direct(&self, shard: &str) -> Client {
        Client::connect(&direct_target(&format!("{}_{shard}", self.name)))
    }

    /// The configuration without its ports.
    pub(crate) fn config(&self) -> &str {
        &self.config
    }

    /// The pools' connections on `shard`, as `state` and the last query; the control plane's are not among them.
    pub(crate) fn servers(&self, shard: &str) -> Vec<Vec<String>> {
        let database = format!("{}_{shard}", self.name);
        Client::connect(&direct_target("postgres")).rows(&format!(
            "select coalesce(state, ''), query from pg_stat_activity \
             where datname = '{database}' and backend_type = 'client backend' and application_name <> 'keyway control'"
        ))
    }

    /// Waits until a query with this in its text runs on one of these shards.
    pub(crate) fn wait_running(&self, shards: &[&str], text: &str) {
        eventually("the query runs", || {
            let running = |row: &Vec<String>| row[0] == "active" && row[1].contains(text);
            let mut shards = shards.iter();
            shards
                .any(|shard| self.servers(shard).iter().any(running))
                .then_some(())
        });
    }

    /// Waits until no server connection of the router is inside a query or a transaction.
    pub(crate) fn wait_idle(&self) {
        let mut watcher = Client::connect(&direct_target("postgres"));
        let shards = SHARDS.map(|shard| format!("'{}_{shard}'", self.name));
        let busy = format!(
            "select count(*) from pg_stat_activity where datname in ({}) and backend_type = 'client backend' and state <> 'idle'",
            shards.join(", ")
        );
        let mut all_idle = || (watcher.one(&busy) == "0").then_some(());
        eventually("every server connection is idle again", &mut all_idle);
    }

    fn apply_schema(&mut self, schema: &str) {
        if schema.is_empty() {
            return;
        }
        let mut client = self.client();
        let mut keyspace = "main".to_owned();
        let mut restart = false;
        for (sql, comments) in statements(schema) {
            if let Some(named) = comments
                .iter()
                .find_map(|line| line.strip_prefix("-- keyspace: "))
            {
                keyspace = named.trim().to_owned();
            }
            // A strict Keyway refuses what it cannot tell Redis of: it may not have found it yet.
            let error = eventually("the statement is not refused for Redis", || {
                let error = match client
                    .send(&crate::raw::query(&sql))
                    .and_then(|()| client.until_ready())
                {
                    Ok(messages) => messages.into_iter().find(|m| m.tag == b'E'),
                    Err(error) => {
                        client = self.client();
                        return Some(Some(error.to_string()));
                    }
                };
                let is_early = error.as_ref().is_some_and(|e| e.sqlstate() == "57P03");
                (!is_early).then(|| error.map(|e| format!("{e:?}")))
            });
            let Some(error) = error else { continue };
            self.schema_failures.push(format!("{sql}\n    {error}"));
            restart = true;
            let shards: &[&str] = match keyspace.as_str() {
                "activity" => &["activity"],
                "settings" => &["settings"],
                _ => &["s0", "s1", "s2"],
            };
            for shard in shards {
                self.direct(shard).simple(&sql);
            }
        }
        if restart {
            client.bye();
            self.router = Router::start(&self.config);
            self.target.port = self.router.port;
        }
    }
}

/// A database of the run's cluster, without the router.
pub(crate) fn direct_target(database: &str) -> Target {
    Target {
        port: cluster().port(),
        user: "postgres".to_owned(),
        database: database.to_owned(),
        password: String::new(),
    }
}

/// Creates an empty database, in place of one that a failed attempt left.
pub(crate) fn create_database(name: &str) {
    for sql in [
        format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)"),
        format!("CREATE DATABASE \"{name}\" TEMPLATE template0"),
    ] {
        if let Err(error) = cluster().execute("postgres", &sql) {
            panic!("{sql}: {error}");
        }
    }
}

/// Runs the statements of `types` rotated by `turn`, behind so many throwaway types, so that no two databases give the
/// same OIDs.
pub(crate) fn apply_types(database: &str, types: &str, turn: usize) {
    let mut statements: Vec<String> = statements(types).into_iter().map(|(sql, _)| sql).collect();
    if statements.is_empty() {
        return;
    }
    let length = statements.len();
    statements.rotate_left(turn % length);
    let mut client = Client::connect(&direct_target(database));
    for step in 0..turn * 3 {
        client.run(&format!(
            "create type padding_{step} as (a int); drop type padding_{step}"
        ));
    }
    for sql in statements {
        client.run(&sql);
    }
}

/// Splits a file into statements, each with the comment lines before it. A statement ends at a line that ends with
/// `;`; the data of a COPY FROM STDIN is not split off here.
pub(crate) fn statements(text: &str) -> Vec<(String, Vec<String>)> {
    let (mut found, mut comments, mut sql) = (Vec::new(), Vec::new(), String::new());
    for line in text.lines() {
        if sql.is_empty() && line.starts_with("--") {
            comments.push(line.to_owned());
        } else if !(sql.is_empty() && line.trim().is_empty()) {
            if !sql.is_empty() {
                sql.push('\n');
            }
            sql.push_str(line);
            if let Some(whole) = line
                .trim_end()
                .ends_with(';')
                .then(|| sql.trim_end().trim_end_matches(';').to_owned())
            {
                found.push((whole, std::mem::take(&mut comments)));
                sql.clear();
            }
        }
    }
    assert!(sql.is_empty(), "a statement does not end: {sql}");
    found
}

/// A file below `tests/`.
pub(crate) fn file(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}
