//! A Redis of a test's own.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::Instant;

/// Ends with it.
pub(super) struct Server {
    dir: TempDir,
    /// A port instead of a socket.
    port: Option<u16>,
    is_cluster: bool,
    child: Option<Child>,
}

impl Server {
    pub(super) fn start() -> Self {
        let mut server = Self {
            dir: tempfile::tempdir().expect("a directory"),
            port: None,
            is_cluster: false,
            child: None,
        };
        server.run();
        server
    }

    /// On a port, where others find it.
    pub(super) fn on_port() -> Self {
        Self::run_on_port(false)
    }

    fn run_on_port(is_cluster: bool) -> Self {
        let mut server = Self {
            dir: tempfile::tempdir().expect("a directory"),
            port: Some(free_port()),
            is_cluster,
            child: None,
        };
        server.run();
        server
    }

    /// A cluster of one.
    pub(super) fn cluster() -> Self {
        let server = Self::run_on_port(true);
        server.say(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
        let end = Instant::now() + Duration::from_secs(30);
        while !server
            .ask(&["CLUSTER", "INFO"])
            .contains("cluster_state:ok")
        {
            assert!(Instant::now() < end, "no cluster");
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }

    pub(super) fn url(&self) -> String {
        match self.port {
            Some(port) => format!("redis://127.0.0.1:{port}"),
            None => format!("unix://{}", self.dir.path().join("socket").display()),
        }
    }

    /// Runs it, and waits until it answers.
    pub(super) fn run(&mut self) {
        let mut command = Command::new("redis-server");
        command.current_dir(self.dir.path());
        command.args(["--save", "", "--appendonly", "no"]);
        match self.port {
            Some(port) => command.args(["--bind", "127.0.0.1", "--port", &port.to_string()]),
            None => command.args(["--port", "0", "--unixsocket", "socket"]),
        };
        if self.is_cluster {
            let bus = free_port().to_string();
            command.args(["--cluster-enabled", "yes", "--cluster-port", &bus]);
        }
        let child = command.stdout(Stdio::null()).spawn();
        self.child = Some(child.expect("redis-server is installed"));
        let end = Instant::now() + Duration::from_secs(30);
        while self.try_say(&["PING"]).is_err() {
            assert!(Instant::now() < end, "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn try_say(&self, words: &[&str]) -> redis::RedisResult<redis::Value> {
        let client = redis::Client::open(self.url())?;
        let mut connection = client.get_connection_with_timeout(Duration::from_secs(5))?;
        let (first, rest) = words.split_first().expect("a word");
        redis::cmd(first).arg(rest).query(&mut connection)
    }

    pub(super) fn say(&self, words: &[&str]) {
        self.try_say(words).expect("an answer");
    }

    fn ask(&self, words: &[&str]) -> String {
        redis::from_redis_value(self.try_say(words).expect("an answer")).expect("a text")
    }

    /// All marks have expired.
    pub(super) fn age_marks(&self) {
        const AGE: &str = r"
            for _, key in ipairs(redis.call('KEYS', '*:versions')) do
              local all = redis.call('HGETALL', key)
              for at = 1, #all, 2 do
                if string.sub(all[at + 1], 1, 1) == '!' then
                  redis.call('HSET', key, all[at], (string.gsub(all[at + 1], '=%d+', '=1')))
                end
              end
            end
            for _, key in ipairs(redis.call('KEYS', '*:marks')) do
              local all = redis.call('HGETALL', key)
              for at = 1, #all, 2 do
                if all[at] ~= 'life' then
                  redis.call('HSET', key, all[at], (string.gsub(all[at + 1], '^%d+', '1')))
                end
              end
            end
            return 1";
        self.say(&["EVAL", AGE, "0"]);
    }

    /// It is this one's replica from now on, and has all that it has.
    pub(super) fn follow(&self, primary: &Self) {
        let port = primary.port.expect("on a port").to_string();
        self.say(&["REPLICAOF", "127.0.0.1", &port]);
        let end = Instant::now() + Duration::from_secs(30);
        while !self
            .ask(&["INFO", "replication"])
            .contains("master_link_status:up")
        {
            assert!(Instant::now() < end, "no replica");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// All it has of versions.
    pub(super) fn versions(&self) -> BTreeMap<String, String> {
        let all = self.try_say(&["HGETALL", "{keyway:test}:versions"]);
        redis::from_redis_value(all.expect("an answer")).expect("fields")
    }

    /// Everything is gone.
    pub(super) fn empty(&mut self) {
        self.say(&["FLUSHALL"]);
    }

    /// Without a word.
    pub(super) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it runs");
            child.wait().expect("it ends");
        }
    }

    pub(super) fn restart(&mut self) {
        self.stop();
        self.run();
    }

    /// What it had is there again.
    pub(super) fn restart_from_disk(&mut self) {
        self.say(&["SAVE"]);
        self.restart();
    }

    /// All connections end.
    pub(super) fn cut(&self) {
        self.say(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        self.cut_channels();
    }

    pub(super) fn cut_channels(&self) {
        self.say(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        let done = Command::new("kill").args([signal, &pid]).status();
        assert!(done.expect("kill is there").success());
    }

    pub(super) fn hang(&self) {
        self.signal("-STOP");
    }

    pub(super) fn go_on(&self) {
        self.signal("-CONT");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    free.local_addr().expect("an address").port()
}
