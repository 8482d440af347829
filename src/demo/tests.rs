use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::cluster::{Auth, Cluster, ClusterError, ClusterOptions};
use super::{DemoError, DemoOptions, run, schema};

fn value(cluster: &Cluster, sql: &str) -> String {
    cluster.query("postgres", sql).unwrap()[0][0]
        .clone()
        .unwrap()
}

/// A process that has ended but that nobody has waited for (a zombie) does not run.
fn runs(pid: u32) -> bool {
    let listed = Command::new("ps")
        .args(["-o", "stat=", "-p", &pid.to_string()])
        .output()
        .unwrap();
    let state = String::from_utf8(listed.stdout).unwrap();
    !state.trim().is_empty() && !state.starts_with('Z')
}

/// Asks until it is so; false after a minute.
fn soon(mut so: impl FnMut() -> bool) -> bool {
    (0..6_000).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        so()
    })
}

#[test]
fn a_cluster_starts_serves_stops_and_leaves_nothing() {
    let settings = [("work_mem", "5MB"), ("application_name", "it's \\ quoted")];
    let files = [("note.txt", b"hello".as_slice())];
    let options = ClusterOptions {
        settings: &settings,
        max_connections: 17,
        files: &files,
        ..Default::default()
    };
    let mut cluster = Cluster::start(&options).unwrap();
    let (home, pid) = (cluster.socket_dir().to_path_buf(), cluster.pid().unwrap());

    assert_eq!(value(&cluster, "SHOW work_mem"), "5MB");
    assert_eq!(value(&cluster, "SHOW max_connections"), "17");
    assert_eq!(value(&cluster, "SHOW server_encoding"), "UTF8");
    assert_eq!(value(&cluster, "SELECT pg_read_file('note.txt')"), "hello");
    cluster.create_database("odd \"name\"").unwrap();
    cluster
        .execute("odd \"name\"", "CREATE TABLE t AS SELECT 7 AS x")
        .unwrap();

    cluster.stop().unwrap();
    assert_eq!(cluster.pid(), None);
    assert!(!runs(pid));
    cluster.start_again().unwrap();
    assert_eq!(
        cluster
            .query("odd \"name\"", "SELECT x, NULL FROM t")
            .unwrap(),
        [[Some("7".to_owned()), None]]
    );

    cluster.kill9().unwrap();
    cluster.start_again().unwrap();
    let pid = cluster.pid().unwrap();
    assert_eq!(
        cluster
            .query("odd \"name\"", "SELECT x FROM t")
            .unwrap()
            .len(),
        1
    );

    drop(cluster);
    assert!(!home.exists());
    assert!(!runs(pid));
}

#[test]
fn passwords_are_asked_for_over_tcp_and_socket() {
    let options = ClusterOptions {
        auth: Auth::Scram {
            password: "s e:c/r@t'",
        },
        ..Default::default()
    };
    let cluster = Cluster::start(&options).unwrap();
    for dsn in [cluster.dsn("postgres"), cluster.socket_dsn("postgres")] {
        let config: tokio_postgres::Config = dsn.parse().unwrap();
        let mut wrong = config.clone();
        wrong.password("no");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            assert!(config.connect(tokio_postgres::NoTls).await.is_ok());
            let refused = wrong.connect(tokio_postgres::NoTls).await.err().unwrap();
            assert_eq!(refused.code().unwrap().code(), "28P01");
        });
    }
    assert!(!format!("{cluster:?}").contains("s e:c"));
}

#[test]
fn clusters_alike_are_separate_servers() {
    let clusters = Cluster::start_many(2, &ClusterOptions::default()).unwrap();
    clusters[0].create_database("only_here").unwrap();
    let count = "SELECT count(*) FROM pg_database WHERE datname = 'only_here'";
    assert_eq!(
        [value(&clusters[0], count), value(&clusters[1], count)],
        ["1", "0"]
    );
    assert_ne!(clusters[0].port(), clusters[1].port());
}

#[test]
fn a_kept_cluster_is_there_the_next_time() {
    let root = tempfile::tempdir_in("/tmp").unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let directory = root.path().join("kept");
    let options = ClusterOptions {
        keep: Some(&directory),
        ..Default::default()
    };
    let cluster = Cluster::start(&options).unwrap();
    cluster.create_database("stays").unwrap();
    assert!(matches!(
        Cluster::start(&options).unwrap_err(),
        ClusterError::InUse { .. }
    ));
    drop(cluster);
    assert!(directory.join("data/PG_VERSION").exists());
    let cluster = Cluster::start(&options).unwrap();
    assert_eq!(
        value(
            &cluster,
            "SELECT count(*) FROM pg_database WHERE datname = 'stays'"
        ),
        "1"
    );
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let options = ClusterOptions {
        settings: &[("no_such_setting", "1")],
        ..Default::default()
    };
    let error = Cluster::start(&options).unwrap_err();
    assert!(
        matches!(&error, ClusterError::Program { program: "postgres", log } if log.contains("no_such_setting"))
    );
    let options = ClusterOptions {
        settings: &[("a = 'b'\nc", "1")],
        ..Default::default()
    };
    assert!(matches!(
        Cluster::start(&options).unwrap_err(),
        ClusterError::SettingName { .. }
    ));
}

/// Runs one test of this file in a process of its own, which writes a line into the file that it is told.
struct Holder {
    process: Child,
    line: String,
    _root: tempfile::TempDir,
}

impl Holder {
    fn start(test: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let told = root.path().join("told");
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("demo::tests::{test}")])
            .env("KEYWAY_TEST_HOLDER", &told)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while !told.exists() {
            assert!(process.try_wait().unwrap().is_none(), "{test} ended early");
            std::thread::sleep(Duration::from_millis(10));
        }
        let line = fs::read_to_string(&told).unwrap();
        Self {
            process,
            line,
            _root: root,
        }
    }

    /// Where the process shall write, when this is such a process.
    fn told() -> Option<PathBuf> {
        std::env::var_os("KEYWAY_TEST_HOLDER").map(PathBuf::from)
    }

    /// Written whole or not at all.
    fn tell(told: &Path, line: &str) {
        fs::write(told.with_extension("new"), line).unwrap();
        fs::rename(told.with_extension("new"), told).unwrap();
    }
}

/// For the next test.
#[test]
fn holds_a_cluster_until_killed_when_asked_to() {
    let Some(told) = Holder::told() else { return };
    let cluster = Cluster::start(&ClusterOptions::default()).unwrap();
    Holder::tell(
        &told,
        &format!(
            "{} {}",
            cluster.pid().unwrap(),
            cluster.socket_dir().display()
        ),
    );
    loop {
        std::thread::park();
    }
}

#[test]
fn a_cluster_dies_with_its_process() {
    let mut holder = Holder::start("holds_a_cluster_until_killed_when_asked_to");
    let (pid, home) = holder.line.split_once(' ').unwrap();
    holder.process.kill().unwrap();
    holder.process.wait().unwrap();
    assert!(soon(|| !Path::new(home).exists()), "{home} is still there");
    assert!(soon(|| !runs(pid.parse().unwrap())), "{pid} still runs");
}

/// For the next test: its router never starts.
#[tokio::test]
async fn holds_a_demo_until_terminated_when_asked_to() {
    let Some(told) = Holder::told() else { return };
    let options = DemoOptions {
        shards: Some(1),
        port: Some(0),
        ..DemoOptions::default()
    };
    let status = run(&options, async |config| {
        Holder::tell(&told, &config.display().to_string());
        std::future::pending::<()>().await;
        Ok(())
    });
    assert_eq!(status.await.unwrap(), 143);
}

#[test]
fn a_terminated_demo_leaves_nothing() {
    let mut holder = Holder::start("holds_a_demo_until_terminated_when_asked_to");
    let config = PathBuf::from(&holder.line);
    assert!(config.exists());
    Command::new("/bin/sh")
        .args(["-c", &format!("kill {}", holder.process.id())])
        .status()
        .unwrap();
    assert!(holder.process.wait().unwrap().success());
    assert!(!config.parent().unwrap().exists());
}

/// In the router's place: one PostgreSQL with every table, behind the port that the configuration names. The hints
/// are comments to it.
async fn forward(config: &Path, to: u16) -> tokio::task::JoinHandle<()> {
    let text = fs::read_to_string(config).unwrap();
    let listen = text
        .lines()
        .find_map(|line| line.strip_prefix("listen = "))
        .unwrap()
        .trim_matches('"')
        .to_owned();
    let listener = tokio::net::TcpListener::bind(listen).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut server = tokio::net::TcpStream::connect(("127.0.0.1", to))
                .await
                .unwrap();
            tokio::spawn(
                async move { tokio::io::copy_bidirectional(&mut client, &mut server).await },
            );
        }
    })
}

#[tokio::test]
async fn the_demo_loads_its_rows_runs_the_command_and_leaves_nothing() {
    let oracle = Cluster::start(&ClusterOptions::default()).unwrap();
    oracle
        .execute("postgres", "CREATE ROLE demo LOGIN")
        .unwrap();
    oracle
        .execute("postgres", "CREATE DATABASE demo OWNER demo")
        .unwrap();
    for (name, text) in schema::FILES {
        if name.ends_with(".sql") && !name.ends_with(".down.sql") {
            oracle.execute("demo", text).unwrap();
        }
    }
    let rest = "CREATE TABLE users_all PARTITION OF users FOR VALUES WITH (MODULUS 1, REMAINDER 0); \
                CREATE TABLE ever PARTITION OF user_activities DEFAULT; \
                GRANT ALL ON ALL TABLES IN SCHEMA public TO demo; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO demo";
    oracle.execute("demo", rest).unwrap();
    let root = tempfile::tempdir_in("/tmp").unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let keep = root.path().join("kept");
    let mut options = DemoOptions {
        shards: Some(2),
        port: Some(0),
        keep: Some(keep.clone()),
        exec: Some(
            r#"case "$KEYWAY_URL" in postgres://demo:demo@127.0.0.1:*/demo) exit 7;; esac"#
                .to_owned(),
        ),
    };

    for _ in 0..2 {
        let status = run(&options, async |config| {
            Ok(forward(config, oracle.port()).await)
        })
        .await
        .unwrap();
        assert_eq!(status, 7);
        let count = |table: &str| -> u64 {
            let rows = oracle
                .query("demo", &format!("SELECT count(*) FROM {table}"))
                .unwrap();
            rows[0][0].as_ref().unwrap().parse().unwrap()
        };
        assert_eq!(
            [
                count("users"),
                count("user_profiles"),
                count("user_settings")
            ],
            [240, 240, 240]
        );
        assert!(count("countries") > 20 && count("posts") > 500 && count("follows") > 1_000);
        assert!(count("timelines") > 2_000 && count("user_activities") == 1_200);
        let loaded = crate::config::load(
            Some(&keep.join("keyway.toml")),
            &crate::config::Variables::new(),
        )
        .unwrap();
        crate::topology::build::offline(&loaded).unwrap();
        assert_eq!(loaded.migrations, keep.join("migrations"));
        for (name, text) in schema::FILES {
            let kept = fs::read_to_string(loaded.migrations.join(name)).unwrap();
            assert_eq!(kept, *text);
        }
        let config = fs::read_to_string(keep.join("keyway.toml")).unwrap();
        assert!(
            config.contains("shards = [\"s0\", \"s1\"]") && config.contains("[shards.settings]")
        );
    }

    for (what, statement) in schema::TO_TRY {
        let statement = statement.replace("EXPLAIN (ROUTE)", "");
        assert!(
            !oracle.query("demo", &statement).unwrap().is_empty(),
            "{what}"
        );
    }

    options.shards = Some(3);
    let refused = run(&options, async |_| Ok(())).await.unwrap_err();
    assert!(
        matches!(
            refused,
            DemoError::KeptShards {
                kept: 2,
                asked: 3,
                ..
            }
        ),
        "{refused}"
    );
    options.keep = None;
    options.shards = Some(0);
    assert!(matches!(
        run(&options, async |_| Ok(())).await.unwrap_err(),
        DemoError::Shards { shards: 0 }
    ));

    // A router that does not start: the servers go all the same.
    options.shards = Some(1);
    let mut seen = PathBuf::new();
    let failed = run(&options, async |config| {
        config.clone_into(&mut seen);
        assert!(config.exists());
        Err::<(), _>("no".into())
    });
    assert!(matches!(failed.await.unwrap_err(), DemoError::Router(_)));
    assert!(!seen.parent().unwrap().exists());
}
