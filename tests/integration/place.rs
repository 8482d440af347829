//! A directory with a configuration, the shards it names, and Keyway's commands run in it.

use std::fs;
use std::process::{Child, Command, Output, Stdio};

use crate::harness::{PASSWORD, Router, direct_target, eventually};
use crate::raw::{Client, Target};

/// The shards' databases are called NAME_SHARD.
pub(crate) struct Place {
    pub(crate) name: &'static str,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) config: String,
    command: &'static [&'static str],
}

impl Place {
    /// For a command, `["partition", "convert"]`, of shards at `dsn` by the names of their databases; `rest` is the configuration behind
    /// users and shards.
    pub(crate) fn new(
        name: &'static str,
        command: &'static [&'static str],
        shards: &[&str],
        dsn: impl Fn(&str) -> String,
        rest: &str,
    ) -> Self {
        let shards: String = shards
            .iter()
            .map(|shard| {
                let dsn = dsn(&format!("{name}_{shard}"));
                format!("[shards.{shard}]\nprimary = \"{dsn}\"\n")
            })
            .collect();
        let place = Self {
            name,
            directory: tempfile::tempdir().unwrap(),
            config: format!("[users.app]\npassword = \"{PASSWORD}\"\n{shards}{rest}"),
            command,
        };
        place.configure(&place.config);
        place
    }

    /// Writes the configuration that the commands read.
    pub(crate) fn configure(&self, text: &str) {
        fs::write(self.directory.path().join("keyway.toml"), text).unwrap();
    }

    /// Writes a file below `migrations`.
    pub(crate) fn file(&self, name: &str, text: &str) {
        let path = self.directory.path().join("migrations").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.directory.path().join("migrations").join(name)).unwrap();
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyway"));
        // What configures a router of the machine is not about this one.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("KEYWAY") {
                command.env_remove(name);
            }
        }
        command
            .current_dir(self.directory.path())
            .args(self.command)
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        Ran::of(&self.command(words).output().unwrap())
    }

    /// Runs what must end well; what it says.
    #[track_caller]
    pub(crate) fn good(&self, words: &[&str]) -> String {
        let ran = self.run(words);
        assert_eq!(ran.status, Some(0), "{words:?}\n{}\n{}", ran.out, ran.err);
        ran.out
    }

    pub(crate) fn spawn(&self, words: &[&str]) -> Child {
        self.command(words).spawn().unwrap()
    }

    /// A client of the shard itself.
    pub(crate) fn on(&self, shard: &str) -> Client {
        Client::connect(&direct_target(&format!("{}_{shard}", self.name)))
    }

    /// Waits until a session on the shard is such.
    pub(crate) fn wait_running(&self, shard: &str, such: &str) {
        let mut watcher = Client::connect(&direct_target("postgres"));
        let sql = format!(
            "select count(*) from pg_stat_activity where datname = '{}_{shard}' and {such}",
            self.name
        );
        eventually(such, || (watcher.one(&sql) != "0").then_some(()));
    }

    /// Waits until a statement with this in its text waits for a lock on the shard.
    pub(crate) fn wait_stuck(&self, shard: &str, text: &str) {
        let such = format!("wait_event_type = 'Lock' and query ilike '%{text}%'");
        self.wait_running(shard, &such);
    }

    /// Waits until no runner is connected to any shard.
    pub(crate) fn wait_gone(&self) {
        let mut watcher = Client::connect(&direct_target("postgres"));
        let sql = format!(
            "select count(*) from pg_stat_activity where datname like '{}\\_%' and application_name = 'keyway control'",
            self.name
        );
        eventually("the runner is gone", || {
            (watcher.one(&sql) == "0").then_some(())
        });
    }
}

/// A client of a router's database `app`.
pub(crate) fn connect(router: &Router) -> Client {
    Client::connect(&Target {
        port: router.port,
        user: "app".to_owned(),
        database: "app".to_owned(),
        password: PASSWORD.to_owned(),
    })
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            status: output.status.code(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    /// With status 1, and these words on standard error.
    #[track_caller]
    pub(crate) fn refused(&self, words: &str) {
        self.ended(1, words);
    }

    #[track_caller]
    pub(crate) fn ended(&self, status: i32, words: &str) {
        assert_eq!(self.status, Some(status), "{self:?}");
        assert!(
            self.err.contains(words),
            "{words}\n{}\n{}",
            self.out,
            self.err
        );
    }
}
