use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::cluster::{Auth, Cluster, ClusterError, ClusterOptions};

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

/// Asks until it is so; false after ten seconds.
fn soon(mut so: impl FnMut() -> bool) -> bool {
    (0..1_000).any(|_| {
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
    Command::new("chmod")
        .arg("755")
        .arg(root.path())
        .status()
        .unwrap();
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

/// Run by the next test in a process of its own, which it then kills.
#[test]
fn holds_a_cluster_until_killed_when_asked_to() {
    let Some(told) = std::env::var_os("KEYWAY_TEST_HOLD_CLUSTER") else {
        return;
    };
    let cluster = Cluster::start(&ClusterOptions::default()).unwrap();
    let line = format!(
        "{} {}",
        cluster.pid().unwrap(),
        cluster.socket_dir().display()
    );
    fs::write(PathBuf::from(&told).with_extension("new"), line).unwrap();
    fs::rename(PathBuf::from(&told).with_extension("new"), told).unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn a_cluster_dies_with_its_process() {
    let root = tempfile::tempdir().unwrap();
    let told = root.path().join("told");
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "demo::tests::holds_a_cluster_until_killed_when_asked_to",
        ])
        .env("KEYWAY_TEST_HOLD_CLUSTER", &told)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while !told.exists() {
        assert!(
            holder.try_wait().unwrap().is_none(),
            "the holder ended early"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    let told = fs::read_to_string(&told).unwrap();
    let (pid, home) = told.split_once(' ').unwrap();
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(soon(|| !Path::new(home).exists()), "{home} is still there");
    assert!(soon(|| !runs(pid.parse().unwrap())), "{pid} still runs");
}
