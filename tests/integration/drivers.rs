//! Ordinary drivers, as applications use them: tokio-postgres here, and psycopg 3, asyncpg and node-postgres in the
//! scripts of `tests/drivers`, which `scripts/setup.sh` installs.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, TryStreamExt as _, future::join_all, pin_mut};
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls};

use crate::harness::{Env, PASSWORD, Setup, file};

/// The scripts' tables, also in the configuration.
const TABLES: &str = "accounts = { key = \"id\" }\nentries = { key = \"account_id\" }\nregions = { reference = true }\n";

/// Tables that live whole on one shard, one for each application: they run at the same time, and each empties its own.
const ACTIVITY: &str = "[keyspaces.activity.tables.activity_rust]\n[keyspaces.activity.tables.activity_psycopg]\n\
    [keyspaces.activity.tables.activity_asyncpg]\n[keyspaces.activity.tables.activity_node]\n";

fn env() -> &'static Env {
    static ENV: OnceLock<Env> = OnceLock::new();
    ENV.get_or_init(|| {
        let env = Setup {
            name: "drivers",
            tables: TABLES,
            more: ACTIVITY,
            schema: &file("drivers/schema.sql"),
            ..Setup::default()
        }
        .start();
        assert_eq!(env.schema_failures, Vec::<String>::new());
        env
    })
}

fn url() -> String {
    let password = PASSWORD.replace(' ', "%20");
    format!(
        "postgres://app:{password}@127.0.0.1:{}/app",
        env().router.port
    )
}

fn script(program: &[&str], name: &str) {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/drivers");
    let program_path = if program[0].contains('/') {
        directory.join(program[0])
    } else {
        PathBuf::from(program[0])
    };
    let is_there = Command::new(&program_path)
        .args(&program[1..])
        .current_dir(&directory)
        .output()
        .is_ok_and(|output| output.status.success());
    assert!(
        is_there,
        "{} and its driver are not installed: run scripts/setup.sh",
        program[0]
    );
    let mut command = Command::new(&program_path);
    // What drivers take from the environment is not what the test says.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    let output = command
        .arg(name)
        .current_dir(&directory)
        .env("KEYWAY_URL", url())
        .output()
        .expect("run the script");
    assert!(
        output.status.success(),
        "{name}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn psycopg_3() {
    script(
        &[".venv/bin/python", "-c", "import psycopg"],
        "psycopg_app.py",
    );
}

#[test]
fn asyncpg() {
    script(
        &[".venv/bin/python", "-c", "import asyncpg"],
        "asyncpg_app.py",
    );
}

#[test]
fn node_postgres() {
    script(&["node", "-e", "require('pg')"], "node_app.js");
}

fn run(test: impl AsyncFnOnce(Client)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let client = connect().await;
        test(client).await;
    });
}

async fn connect() -> Client {
    let (client, connection) = tokio_postgres::connect(&url(), NoTls)
        .await
        .expect("connect");
    tokio::spawn(connection);
    client
}

#[test]
fn tokio_postgres_prepares_and_pipelines() {
    run(async |client| {
        for id in 100_i64..120 {
            let done = client
                .execute(
                    "insert into accounts (id, name, balance) values ($1, $2, $3)",
                    &[&id, &format!("t{id}"), &(id as i32)],
                )
                .await;
            assert_eq!(done.expect("an insert"), 1);
        }
        let statement = client
            .prepare("select id, name, balance from accounts where id = $1")
            .await
            .expect("prepare");
        assert_eq!(statement.params(), [Type::INT8]);
        assert_eq!(
            statement
                .columns()
                .iter()
                .map(|c| c.type_().clone())
                .collect::<Vec<_>>(),
            [Type::INT8, Type::TEXT, Type::INT4]
        );
        let ids: Vec<i64> = (100..120).collect();
        let rows = join_all(ids.iter().map(|id| {
            let (client, statement) = (&client, &statement);
            async move { client.query_one(statement, &[id]).await }
        }))
        .await;
        for (id, row) in ids.iter().zip(rows) {
            let row = row.expect("a row");
            assert_eq!(
                (
                    row.get::<_, i64>(0),
                    row.get::<_, String>(1),
                    row.get::<_, i32>(2)
                ),
                (*id, format!("t{id}"), *id as i32)
            );
        }
        let rows = client
            .query(
                "select id from accounts where id >= $1 and id < $2 order by id desc limit $3",
                &[&100_i64, &120_i64, &3_i64],
            )
            .await;
        let got: Vec<i64> = rows.expect("rows").iter().map(|row| row.get(0)).collect();
        assert_eq!(got, [119, 118, 117]);
        let wanted = vec![103_i64, 104, 999];
        let rows = client
            .query(
                "select id from accounts where id = any($1) order by id",
                &[&wanted],
            )
            .await
            .expect("rows");
        assert_eq!(rows.len(), 2);
        for id in 100_i64..120 {
            client
                .execute("delete from accounts where id = $1", &[&id])
                .await
                .expect("a delete");
        }
    });
}

#[test]
fn tokio_postgres_transactions_and_portals() {
    run(async |mut client| {
        for line in 1_i32..=9 {
            client
                .execute(
                    "insert into entries (account_id, line, note) values (200, $1, 'x')",
                    &[&line],
                )
                .await
                .expect("an insert");
        }
        let mut transaction = client.transaction().await.expect("begin");
        let portal = transaction
            .bind(
                "select line from entries where account_id = 200 order by line",
                &[],
            )
            .await
            .expect("bind");
        for expected in [4, 4, 1] {
            assert_eq!(
                transaction
                    .query_portal(&portal, 4)
                    .await
                    .expect("rows")
                    .len(),
                expected
            );
        }
        let savepoint = transaction.transaction().await.expect("savepoint");
        let error = savepoint
            .execute(
                "insert into entries (account_id, line) values (200, 1)",
                &[],
            )
            .await
            .expect_err("a duplicate");
        assert_eq!(error.code(), Some(&SqlState::UNIQUE_VIOLATION));
        savepoint.rollback().await.expect("rollback to");
        transaction
            .execute(
                "delete from entries where account_id = 200 and line = 9",
                &[],
            )
            .await
            .expect("a delete");
        transaction.rollback().await.expect("rollback");
        let count: i64 = client
            .query_one("select count(*) from entries where account_id = 200", &[])
            .await
            .expect("a count")
            .get(0);
        assert_eq!(count, 9);
        client
            .execute("delete from entries where account_id = 200", &[])
            .await
            .expect("a delete");
    });
}

#[test]
fn tokio_postgres_copies() {
    run(async |client| {
        let sink = client
            .copy_in("copy activity_rust (id, what) from stdin")
            .await
            .expect("COPY IN");
        pin_mut!(sink);
        for id in 0..1_000 {
            sink.send(Bytes::from(format!("{id}\tline {id}\n")))
                .await
                .expect("a row");
        }
        assert_eq!(sink.finish().await.expect("the end"), 1_000);
        let sink = client
            .copy_in("copy activity_rust (id, what) from stdin binary")
            .await
            .expect("COPY IN");
        let writer = BinaryCopyInWriter::new(sink, &[Type::INT4, Type::TEXT]);
        pin_mut!(writer);
        writer
            .as_mut()
            .write(&[&5_000_i32, &"binary"])
            .await
            .expect("a row");
        assert_eq!(writer.finish().await.expect("the end"), 1);
        let stream = client
            .copy_out("copy (select id, what from activity_rust order by id) to stdout")
            .await
            .expect("COPY OUT");
        let bytes: Vec<Bytes> = stream.try_collect().await.expect("all rows");
        let text = String::from_utf8(bytes.concat()).expect("UTF-8");
        assert_eq!(text.lines().count(), 1_001);
        assert!(text.ends_with("5000\tbinary\n"));
        client
            .execute("delete from activity_rust", &[])
            .await
            .expect("a delete");
    });
}

#[test]
fn tokio_postgres_cancels_and_streams() {
    run(async |client| {
        client
            .execute("insert into accounts (id, name) values (300, 'slow')", &[])
            .await
            .expect("an insert");
        let token = client.cancel_token();
        let query = client.query("select pg_sleep(300) from accounts where id = 300", &[]);
        pin_mut!(query);
        let error = loop {
            tokio::select! {
                done = &mut query => break done.expect_err("it is cancelled"),
                () = tokio::time::sleep(crate::harness::POLL) => token.cancel_query(NoTls).await.expect("a CancelRequest"),
            }
        };
        assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED));
        // The driver does not wait until its CancelRequest has been read: the last may be for what comes next.
        let client = connect().await;
        let rows = client
            .query_raw(
                "select g from accounts, generate_series(1, 20000) g where id = $1 order by g",
                &[300_i64],
            )
            .await
            .expect("a stream");
        pin_mut!(rows);
        let mut next = 1_i32;
        while let Some(row) = rows.next().await {
            assert_eq!(row.expect("a row").get::<_, i32>(0), next);
            next += 1;
        }
        assert_eq!(next, 20_001);
        client
            .execute("delete from accounts where id = 300", &[])
            .await
            .expect("a delete");
    });
}
