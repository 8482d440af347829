mod reach;

use super::popular::Popular;
use super::{Catalog, CatalogError, Event};
use crate::config::{Config, Variables, parse};
use crate::demo::cluster::{Cluster, ClusterOptions};
use crate::topology::{KeyspaceKind, Placement, ShardId, TableName, Topology};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// One cluster for all tests of this room; its watchdog ends it with the process. A shard is a database.
static CLUSTER: LazyLock<Cluster> =
    LazyLock::new(|| Cluster::start(&ClusterOptions::default()).unwrap());

/// Databases `{test}_s0`, `{test}_s1`, … as shards of a configuration.
struct Shards {
    test: &'static str,
}

impl Shards {
    fn new(test: &'static str, count: usize) -> Self {
        let shards = Self { test };
        for index in 0..count {
            CLUSTER.create_database(&shards.database(index)).unwrap();
        }
        shards
    }

    fn database(&self, index: usize) -> String {
        format!("{}_s{index}", self.test)
    }

    fn dsn(&self, index: usize) -> String {
        CLUSTER.dsn(&self.database(index))
    }

    fn run(&self, index: usize, sql: &str) {
        CLUSTER.execute(&self.database(index), sql).unwrap();
    }

    fn ask(&self, index: usize, sql: &str) -> Vec<Vec<String>> {
        let rows = CLUSTER.query(&self.database(index), sql).unwrap();
        rows.into_iter()
            .map(|row| row.into_iter().map(Option::unwrap_or_default).collect())
            .collect()
    }

    /// Two sharded shards s0 and s1, and the unsharded v.
    fn text(&self) -> String {
        format!(
            r#"
[users.app]
password = "x"
[shards.s0]
primary = "{}"
[shards.s1]
primary = "{}"
[shards.v]
primary = "{}"
[databases.app]
keyspaces = ["main", "whole"]
default = "whole"
[keyspaces.main]
shards = ["s0", "s1"]
[keyspaces.main.tables]
users = {{ key = "id" }}
countries = {{ reference = true }}
[keyspaces.whole]
shards = ["v"]
"#,
            self.dsn(0),
            self.dsn(1),
            self.dsn(2)
        )
    }
}

fn config(text: &str) -> Config {
    parse(text, &Variables::new()).unwrap_or_else(|problems| panic!("{problems}"))
}

async fn open(text: &str) -> (Catalog, Topology) {
    Catalog::open(&config(text))
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Opening is refused, and the message has all of `expected`.
async fn refused(text: &str, expected: &[&str]) {
    let error = Catalog::open(&config(text)).await.map(drop).unwrap_err();
    let message = error.to_string();
    assert!(error.is_configuration(), "not a contradiction: {message}");
    for part in expected {
        assert!(message.contains(part), "{part:?} is missing in: {message}");
    }
}

/// A port where nobody listens, for as long as the socket is held.
fn silent_port() -> (socket2::Socket, u16) {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let anywhere = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&anywhere.into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    (socket, port)
}

fn name(text: &str) -> TableName {
    TableName::parse(text).unwrap()
}

fn map_of(topology: &Topology, keyspace: usize) -> Vec<ShardId> {
    match &topology.keyspaces[keyspace].kind {
        KeyspaceKind::Sharded { map, .. } => map.to_vec(),
        KeyspaceKind::Unsharded => panic!("not sharded"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_keyways_started_at_once_agree() {
    let shards = Shards::new("ten", 3);
    let config = Arc::new(config(&shards.text()));
    let starting: Vec<_> = (0..10)
        .map(|_| {
            let config = Arc::clone(&config);
            tokio::spawn(async move { Catalog::open(&config).await })
        })
        .collect();
    let mut seen = Vec::new();
    for start in starting {
        let (catalog, topology) = start
            .await
            .unwrap()
            .unwrap_or_else(|error| panic!("{error}"));
        let ids: Vec<u16> = topology
            .shards
            .iter()
            .map(|shard| shard.stable_id)
            .collect();
        seen.push((catalog.cluster(), ids, map_of(&topology, 0)));
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(seen[0].1, [0, 1, 2]);
    assert_eq!(
        shards.ask(
            0,
            "SELECT first, last, shard FROM keyway.buckets ORDER BY 1"
        ),
        [["0", "8191", "0"], ["8192", "16383", "1"]]
    );
    for index in 0..3 {
        let said = shards.ask(
            index,
            "SELECT cluster::text, shard, name, catalog FROM keyway.identity",
        );
        let name = ["s0", "s1", "v"][index];
        assert_eq!(said, [[seen[0].0.as_str(), &index.to_string(), name, "s0"]]);
    }
    assert_eq!(
        shards.ask(0, "SELECT count(*) FROM keyway.shards WHERE joined"),
        [["3"]]
    );
}

#[tokio::test]
async fn a_configuration_that_contradicts_the_catalog_is_refused_with_both_values() {
    let shards = Shards::new("contra", 4);
    let text = shards.text();
    let (catalog, _) = open(&text).await;
    let cluster = catalog.cluster();

    // The order in which shards are listed means nothing.
    open(&text.replace(r#"["s0", "s1"]"#, r#"["s1", "s0"]"#)).await;
    // Nor does the address of a shard that proves who it is.
    open(&text.replace("127.0.0.1", "localhost")).await;

    let (a, b) = (shards.dsn(0), shards.dsn(1));
    let swapped = text
        .replace(&a, "A")
        .replace(&b, &a)
        .replace("\"A\"", &format!("{b:?}"));
    refused(
        &swapped,
        &[
            "shards.s1.primary",
            "says it is shard \"s0\" (id 0)",
            "say shard \"s1\" (id 1)",
        ],
    )
    .await;
    refused(
        &format!("catalog = \"s1\"\n{text}"),
        &["catalog", "\"s1\"", "\"s0\"", &cluster],
    )
    .await;
    refused(
        &text.replace(
            "[keyspaces.main.tables]",
            "hash = \"postgres\"\nmodulus = 8\n[keyspaces.main.tables]",
        ),
        &["keyspaces.main.hash", "postgres with modulus 8", "xxh3"],
    )
    .await;
    refused(
        &text.replace(r#"["s0", "s1"]"#, r#"["s0"]"#),
        &["keyspaces.main.shards", "8192 buckets on shard \"s1\""],
    )
    .await;
    let moved = text.replace("shards = [\"v\"]", "shards = [\"s1\"]");
    refused(
        &moved,
        &["keyspaces.whole.shards", "[\"s1\"]", "\"v\" (id 2)"],
    )
    .await;
    // A blank server in place of one that holds rows.
    refused(
        &text.replace(&b, &shards.dsn(3)),
        &["shards.s1.primary", "has no identity"],
    )
    .await;
    refused(
        &text.replace(&a, &shards.dsn(3)),
        &["shards.s0.primary", "holds no catalog", &cluster],
    )
    .await;
    // Two names for one database.
    let twice = text.replace(&b, &a.replace("127.0.0.1", "localhost"));
    refused(
        &twice,
        &["shards.s1.primary", "same database as shard \"s0\""],
    )
    .await;
    // A shard of another cluster.
    let other = Shards::new("contra_other", 3);
    open(&other.text()).await;
    refused(
        &text.replace(&b, &other.dsn(1)),
        &["shards.s1.primary", "belongs to cluster", &cluster],
    )
    .await;
    // Nothing of all this has changed anything.
    let (again, topology) = open(&text).await;
    assert_eq!(again.cluster(), cluster);
    assert_eq!(topology.shards.len(), 3);
}

#[tokio::test]
async fn a_key_changes_only_while_there_are_no_rows() {
    let shards = Shards::new("rekey", 3);
    let text = shards.text();
    open(&text).await;
    let email = text.replace("{ key = \"id\" }", "{ key = \"email\" }");
    open(&email).await;
    open(&text).await;
    for index in 0..2 {
        shards.run(
            index,
            "CREATE TABLE users (id bigint PRIMARY KEY, email text)",
        );
    }
    open(&email).await;
    open(&text).await;
    shards.run(1, "INSERT INTO users VALUES (1, 'a')");
    refused(
        &email,
        &[
            "keyspaces.main.tables.users",
            "key (\"email\")",
            "key (\"id\")",
        ],
    )
    .await;
    shards.run(1, "TRUNCATE users");
    open(&email).await;
}

#[tokio::test]
async fn a_new_shard_joins_without_buckets_and_a_whole_keyspace_may_grow() {
    let shards = Shards::new("grow", 5);
    let text = shards.text();
    let (catalog, before) = open(&text).await;
    let added = text.replace(
        "[databases.app]",
        &format!(
            "[shards.a9]\nprimary = \"{}\"\n[databases.app]",
            shards.dsn(3)
        ),
    );
    let added = added.replace(r#"["s0", "s1"]"#, r#"["s0", "s1", "a9"]"#);
    let after = catalog.reload(&config(&added), &before).await.unwrap();
    assert!(after.epoch > before.epoch);
    let names: Vec<&str> = after
        .shards
        .iter()
        .map(|shard| shard.name.as_str())
        .collect();
    assert_eq!(
        names,
        ["s0", "s1", "v", "a9"],
        "ids are given in the order of joining"
    );
    assert_eq!(map_of(&after, 0), map_of(&before, 0));
    assert_eq!(after.keyspaces[0].shards, [ShardId(0), ShardId(1)]);
    assert_eq!(
        shards.ask(3, "SELECT shard, name FROM keyway.identity"),
        [["3", "a9"]]
    );

    // A failed reload leaves everything as it was.
    let bad = added.replace(
        "[keyspaces.main.tables]",
        "hash = \"postgres\"\nmodulus = 9\n[keyspaces.main.tables]",
    );
    assert!(matches!(
        catalog.reload(&config(&bad), &after).await,
        Err(CatalogError::Contradicts(_))
    ));
    let read = catalog.read_again(&after).await.unwrap();
    let added_config = config(&added);
    // Two made from one have epochs of their own: plans are kept by epoch.
    let (one, two) = tokio::join!(
        catalog.read_again(&read),
        catalog.reload(&added_config, &read)
    );
    assert_ne!(one.unwrap().epoch, two.unwrap().epoch);

    // The pooler's first step to sharding: its rows are where they were.
    let grown = added.replace(
        "shards = [\"v\"]",
        "shards = [\"a9\", \"v\"]\n[keyspaces.whole.tables]\nthings = { key = \"id\" }",
    );
    let grown = catalog.reload(&config(&grown), &after).await.unwrap();
    assert!(map_of(&grown, 1).iter().all(|shard| *shard == ShardId(2)));
}

#[tokio::test]
async fn shards_that_are_down_stop_only_the_creation() {
    let shards = Shards::new("down", 3);
    let text = shards.text();
    let (_held, port) = silent_port();
    let v_down = text.replace(
        &shards.dsn(2),
        &format!("postgres://postgres@127.0.0.1:{port}/down_s2"),
    );
    let error = Catalog::open(&config(&v_down)).await.map(drop).unwrap_err();
    assert!(
        matches!(&error, CatalogError::CreateWithoutAll { shard, .. } if shard == "v"),
        "{error}"
    );
    assert!(!error.is_configuration());
    assert_eq!(
        shards.ask(0, "SELECT to_regnamespace('keyway') IS NULL"),
        [["t"]],
        "nothing was created"
    );

    open(&text).await;
    let (catalog, topology) = open(&v_down).await;
    assert_eq!(catalog.unread(), ["v"]);
    let app = &topology.databases["app"];
    assert!(app.schema_known && app.tables.contains_key(&name("users")));
    let map = app.oid_map(ShardId(0)).unwrap();
    assert_eq!(
        map.client(16_400),
        705,
        "the home shard is down: its OIDs are not known"
    );

    let catalog_down = text.replace(
        &shards.dsn(0),
        &format!("postgres://postgres@127.0.0.1:{port}/down_s0"),
    );
    let error = Catalog::open(&config(&catalog_down))
        .await
        .map(drop)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("the catalog is on shard s0, which does not answer"),
        "{error}"
    );
}

#[tokio::test]
async fn schemas_become_tables() {
    let shards = Shards::new("schemas", 3);
    // Types in another order on each shard, so that their OIDs differ.
    shards.run(0, "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN email AS text CHECK (VALUE LIKE '%@%');");
    shards.run(1, "CREATE DOMAIN email AS text CHECK (VALUE LIKE '%@%'); CREATE TYPE mood AS ENUM ('sad', 'ok');");
    shards.run(2, "CREATE TABLE filler (); CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE settings (id int);
                   CREATE VIEW v_settings AS SELECT id FROM settings");
    for index in 0..2 {
        let (low, high) =
            crate::topology::build::sequence_range(u16::try_from(index).unwrap(), 20).unwrap();
        shards.run(
            index,
            &format!(
                "CREATE TABLE users (id bigint PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY
                     (MINVALUE {low} MAXVALUE {high}), mood mood NOT NULL DEFAULT 'ok', moods mood[], mail email UNIQUE,
                     token uuid DEFAULT gen_random_uuid(), old serial, doubled int GENERATED ALWAYS AS (old * 2) STORED,
                     ci text COLLATE \"en-x-icu\") PARTITION BY HASH (id);"
            )
            .replace("mail email UNIQUE", "mail email"),
        );
        shards.run(
            index,
            "CREATE TABLE users_0 PARTITION OF users FOR VALUES WITH (MODULUS 1, REMAINDER 0);
            CREATE TABLE countries (code char(2) PRIMARY KEY);
            CREATE TABLE stray (id int);
            CREATE VIEW v_users AS SELECT id, mood FROM users;
            CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
            CREATE TRIGGER t BEFORE INSERT ON countries FOR EACH ROW EXECUTE FUNCTION touch();
            CREATE FUNCTION pure(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1';",
        );
    }
    let (_catalog, topology) = open(&shards.text()).await;
    let app = &topology.databases["app"];
    assert!(app.schema_known && app.collation_is_c);

    let users = &app.tables[&name("users")];
    assert_eq!(users.kind, 'p');
    let Placement::Sharded { key } = &users.placement else {
        panic!("not sharded")
    };
    assert_eq!(key[0].family, Some(crate::topology::KeyFamily::Int));
    let column = |name: &str| {
        users
            .columns
            .iter()
            .find(|column| column.name == name)
            .unwrap()
    };
    assert_eq!(users.columns.len(), 8);
    assert!(column("id").unique_by_construction && column("token").unique_by_construction);
    assert!(!column("old").unique_by_construction);
    assert_eq!(column("id").generated, Some('d'));
    assert_eq!(column("doubled").generated, Some('s'));
    assert_eq!(
        (column("mail").type_name.as_str(), column("mail").base_oid),
        ("public.email", 25)
    );
    assert!(!column("ci").collation_is_c && column("mail").collation_is_c);
    let home: u32 = shards.ask(2, "SELECT 'mood'::regtype::oid")[0][0]
        .parse()
        .unwrap();
    let there: u32 = shards.ask(1, "SELECT 'mood'::regtype::oid")[0][0]
        .parse()
        .unwrap();
    assert_eq!(
        column("mood").type_oid,
        home,
        "clients see the home shard's"
    );
    assert_ne!(home, there);
    let map = app.oid_map(ShardId(1)).unwrap();
    assert_eq!((map.client(there), map.server(home)), (home, Some(there)));

    assert_eq!(app.tables[&name("users_0")].placement, users.placement);
    assert!(
        app.tables[&name("v_users")]
            .view
            .as_ref()
            .unwrap()
            .contains("FROM public.users")
    );
    assert!(!app.tables.contains_key(&name("stray")));
    assert_eq!(
        app.tables[&name("settings")].placement,
        Placement::Unsharded
    );
    assert!(app.tables[&name("countries")].hazards[0].contains("touch"));
    assert_eq!(app.functions[&name("pure")][0].volatility, 'i');
    assert_eq!(app.functions[&name("touch")][0].volatility, 'v');
    assert!(!app.tables.keys().any(|table| table.schema == "keyway"));
}

#[tokio::test]
async fn a_domain_says_what_its_columns_store() {
    let shards = Shards::new("domains", 3);
    let domains =
        "CREATE DOMAIN label AS varchar(3); CREATE DOMAIN short AS label CHECK (VALUE <> '');
                   CREATE DOMAIN moment AS timestamp(0);";
    shards.run(2, domains);
    for index in 0..2 {
        shards.run(index, domains);
        shards.run(
            index,
            "CREATE TABLE users (id bigint, a label, b short, c moment, d varchar(7), e text, f label[])",
        );
    }
    let (_catalog, topology) = open(&shards.text()).await;
    let users = &topology.databases["app"].tables[&name("users")];
    let stored: Vec<&str> = users
        .columns
        .iter()
        .map(|column| column.stored_as.as_str())
        .collect();
    assert_eq!(
        stored,
        [
            "bigint",
            "character varying(3)",
            "character varying(3)",
            "timestamp(0) without time zone",
            "character varying(7)",
            "text",
            "public.label[]"
        ]
    );
}

#[tokio::test]
async fn what_runs_unnamed_is_known() {
    use crate::topology::ImpliedBy::{Cast, Column, Name};
    let shards = Shards::new("unnamed", 3);
    for index in 0..3 {
        shards.run(
            index,
            "CREATE FUNCTION peek(int) RETURNS int LANGUAGE sql STABLE AS 'SELECT $1';
             CREATE FUNCTION peek2(int, int) RETURNS int LANGUAGE sql STABLE AS 'SELECT $1';
             CREATE FUNCTION pure2(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
             CREATE FUNCTION fine(int) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT true';
             CREATE OPERATOR ### (LEFTARG = int, RIGHTARG = int, FUNCTION = peek2);
             CREATE OPERATOR #! (LEFTARG = int, RIGHTARG = int, FUNCTION = pure2);
             CREATE AGGREGATE last_peek(int) (SFUNC = peek2, STYPE = int);
             CREATE AGGREGATE first_of(int) (SFUNC = pure2, STYPE = int);
             CREATE TYPE box2 AS (a int);
             CREATE FUNCTION to_box2(int) RETURNS box2 LANGUAGE sql STABLE AS 'SELECT ROW($1)::box2';
             CREATE CAST (int AS box2) WITH FUNCTION to_box2 AS ASSIGNMENT;
             CREATE DOMAIN known AS int CHECK (fine(VALUE));
             CREATE DOMAIN small AS int CHECK (VALUE < 10);
             CREATE TYPE pair AS (a known, b int);",
        );
    }
    for index in 0..2 {
        shards.run(
            index,
            "CREATE TABLE users (id bigint, a int DEFAULT 1 ### 2, b int DEFAULT 1 #! 2, c timestamptz DEFAULT now(),
                                 d small, e uuid DEFAULT gen_random_uuid(), f int CHECK (fine(f)), g pair[]);
             CREATE TABLE countries (code text DEFAULT upper('x'), b int DEFAULT peek(1));
             CREATE TABLE codes (CHECK (fine(b))) INHERITS (countries)",
        );
    }
    let (_catalog, topology) = open(&shards.text()).await;
    let app = &topology.databases["app"];
    let volatility = |function: &str| app.functions[&name(function)][0].volatility;
    assert_eq!(
        (volatility("last_peek"), volatility("first_of")),
        ('s', 'i')
    );
    let operators: Vec<_> = app.implied.operators.iter().collect();
    assert_eq!(operators, [(&"###".to_owned(), &vec![name("peek2")])]);
    let mut types: Vec<_> = app
        .implied
        .types
        .iter()
        .map(|(of, calls)| (of.as_str(), calls[0].function.name.as_str(), calls[0].by))
        .collect();
    types.sort_unstable_by_key(|(of, ..)| *of);
    assert_eq!(
        types,
        [
            ("_known", "fine", Name),
            ("_pair", "fine", Name),
            ("_users", "fine", Name),
            ("box2", "to_box2", Column),
            ("int4", "to_box2", Column),
            ("integer", "to_box2", Column),
            ("known", "fine", Name),
            ("pair", "fine", Name),
            ("users", "fine", Cast),
        ]
    );
    let hazards = |table: &str| app.tables[&name(table)].hazards.join("; ");
    let users = hazards("users");
    assert!(users.contains("peek2") && users.contains("fine"), "{users}");
    assert_eq!(app.tables[&name("users")].hazards.len(), 2);
    assert!(hazards("countries").contains("runs function peek,"));
    // Its child's CHECK.
    assert!(hazards("countries").contains("runs function fine,"));
}

#[tokio::test]
async fn policies_that_look_beyond_their_shard_are_known() {
    let shards = Shards::new("policies", 3);
    for index in 0..2 {
        shards.run(
            index,
            "CREATE TABLE users (id bigint, owner text, tenant text);
             CREATE TABLE countries (code text);
             CREATE FUNCTION me() RETURNS text LANGUAGE sql STABLE AS 'SELECT current_user::text';
             ALTER TABLE users ENABLE ROW LEVEL SECURITY;
             CREATE POLICY own ON users USING (owner = current_user);
             CREATE POLICY tenant ON users USING (tenant = (SELECT current_setting('app.tenant', true)));
             CREATE POLICY role ON users USING (pg_has_role(current_user, 'pg_monitor', 'member'));
             CREATE POLICY known ON users USING (EXISTS (SELECT FROM countries WHERE code = tenant)
                                                 AND id < 100 AND (users.*) IS NOT NULL)",
        );
    }
    let (catalog, topology) = open(&shards.text()).await;
    let hazards = |topology: &Topology, table: &str| {
        let table = &topology.databases["app"].tables[&name(table)];
        assert!(table.hazards.is_empty(), "{:?}", table.hazards);
        table.policy_hazards.clone()
    };
    assert_eq!(hazards(&topology, "users"), Vec::<String>::new());
    drop(catalog);
    for (policy, hazard) in [
        (
            "id > (SELECT avg(u.id) FROM users u)",
            "reads users, which is not a reference table",
        ),
        ("owner = me()", "runs function me, which is not IMMUTABLE"),
        (
            "EXISTS (SELECT FROM pg_class WHERE relname = owner)",
            "asks for what each server knows by itself",
        ),
        (
            "tenant = current_database()",
            "asks for what each server knows by itself",
        ),
    ] {
        for clause in ["USING", "WITH CHECK"] {
            for index in 0..2 {
                shards.run(
                    index,
                    &format!(
                        "DROP POLICY own ON users; CREATE POLICY own ON users FOR UPDATE {clause} ({policy})"
                    ),
                );
            }
            let (_catalog, topology) = open(&shards.text()).await;
            let found = hazards(&topology, "users");
            assert!(
                found.len() == 1 && found[0].contains(hazard),
                "{policy}: {found:?}"
            );
        }
    }
    // What a reference table's own policies hide is not the same everywhere either.
    for index in 0..2 {
        shards.run(
            index,
            "DROP POLICY own ON users; ALTER TABLE countries ENABLE ROW LEVEL SECURITY;
             CREATE POLICY few ON countries USING (EXISTS (SELECT FROM users))",
        );
    }
    let (_catalog, topology) = open(&shards.text()).await;
    assert!(hazards(&topology, "users")[0].contains("on countries reads users"));
    // Nobody asks a policy of a table without row-level security.
    for index in 0..2 {
        shards.run(
            index,
            "ALTER TABLE users DISABLE ROW LEVEL SECURITY; ALTER TABLE countries DISABLE ROW LEVEL SECURITY",
        );
    }
    let (_catalog, topology) = open(&shards.text()).await;
    assert_eq!(hazards(&topology, "users"), Vec::<String>::new());
}

/// A database may print definitions in another way; they are read as if it did not.
#[tokio::test]
async fn what_a_database_prints_by_its_own_defaults_is_read_alike() {
    let shards = Shards::new("printed", 3);
    for index in 0..2 {
        shards.run(
            index,
            "CREATE TABLE users (id bigint, owner text, token uuid DEFAULT gen_random_uuid(), at timestamptz
                 CHECK (at > '2024-01-01 00:00+00' AND now() - at < '1 day 02:00'::interval));
             ALTER TABLE users ENABLE ROW LEVEL SECURITY;
             CREATE POLICY p ON users USING (EXISTS (SELECT FROM pg_class WHERE relname = owner))",
        );
    }
    let printing = |index: usize, settings: &[&str]| {
        for setting in settings {
            let database = shards.database(index);
            shards.run(index, &format!("ALTER DATABASE {database} SET {setting}"));
        }
    };
    printing(
        0,
        &[
            "quote_all_identifiers = on",
            "timezone = 'Asia/Kolkata'",
            "intervalstyle = iso_8601",
        ],
    );
    let report = check_all(&config(&shards.text())).await.unwrap();
    assert!(!printed(&report).contains("differ"), "{}", printed(&report));
    let (_catalog, topology) = open(&shards.text()).await;
    let users = &topology.databases["app"].tables[&name("users")];
    assert_eq!(users.policy_hazards.len(), 1, "{:?}", users.policy_hazards);
    assert!(users.columns[2].unique_by_construction);
}

#[tokio::test]
async fn a_changed_policy_shows_in_the_fingerprint() {
    let shards = Shards::new("policies_change", 3);
    for index in 0..2 {
        shards.run(
            index,
            "CREATE TABLE users (id bigint); CREATE POLICY p ON users USING (id > 0)",
        );
    }
    let (mut client, connection) = tokio_postgres::connect(&shards.dsn(0), tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let before = super::read::schema(&mut client).await.unwrap();
    shards.run(0, "ALTER POLICY p ON users USING (id > 1)");
    let after = super::read::schema(&mut client).await.unwrap();
    assert_ne!(before.fingerprint, after.fingerprint);
    assert_ne!(before.relations[0].policies, after.relations[0].policies);
}

#[tokio::test]
async fn changes_are_heard_and_refusals_kept() {
    let shards = Shards::new("heard", 3);
    let text = shards.text();
    let (writer, topology) = open(&text).await;
    let (reader, read) = open(&text).await;
    let reader = Arc::new(reader);
    let held = Arc::new(AtomicU64::new(read.catalog_epoch));
    let telling = Arc::clone(&held);
    let mut events = reader.watch(4, move || telling.load(Ordering::Relaxed));

    writer
        .refuse_table("app", &name("users"), "half made")
        .await
        .unwrap();
    // The first look or a notification, whichever is first.
    assert!(matches!(events.recv().await, Some(Event::Epoch(_))));
    let read = reader.read_again(&read).await.unwrap();
    assert_eq!(read.databases["app"].refused[&name("users")], "half made");
    assert!(read.catalog_epoch > topology.catalog_epoch && read.epoch > topology.epoch);

    // The others are waited for until they hold the epoch.
    let waiting = writer.wait_for_others(Duration::from_millis(1));
    assert!(!waiting.await.unwrap());
    held.store(read.catalog_epoch, Ordering::Relaxed);
    writer
        .lift_refusals(&[("app".into(), name("users"))])
        .await
        .unwrap();
    let mut read = read;
    while !read.databases["app"].refused.is_empty() {
        assert!(matches!(events.recv().await, Some(Event::Epoch(_))));
        read = reader.read_again(&read).await.unwrap();
        held.store(read.catalog_epoch, Ordering::Relaxed);
    }
    assert!(
        writer
            .wait_for_others(Duration::from_secs(30))
            .await
            .unwrap()
    );

    // A lease is given back on leaving.
    drop(events);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while shards.ask(0, "SELECT count(*) FROM keyway.keyways") != [["0"]] {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the lease is still there"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

use super::check::{Report, check as check_all};

/// What `keyway check` prints, one line a finding.
fn printed(report: &Report) -> String {
    let line = |f: &super::check::Finding| {
        format!(
            "{:?}: {}: {} [{}]",
            f.severity,
            f.place,
            f.what,
            f.hint.as_deref().unwrap_or_default()
        )
    };
    report
        .findings
        .iter()
        .map(line)
        .collect::<Vec<_>>()
        .join("\n")
}

#[tokio::test]
async fn check_finds_everything_at_once_and_writes_nothing() {
    let shards = Shards::new("check", 3);
    for index in 0..2 {
        shards.run(
            index,
            "CREATE TABLE countries (code char(2) PRIMARY KEY);
             CREATE TABLE users (id bigserial PRIMARY KEY, email text UNIQUE, country char(2) REFERENCES countries,
                 boss bigint REFERENCES users, seen date DEFAULT now());
             CREATE TABLE posts (id serial PRIMARY KEY, user_id bigint REFERENCES users, slug text);
             CREATE UNIQUE INDEX posts_slug ON posts (lower(slug));
             CREATE TABLE floats (k float8);
             CREATE TABLE stray (id int);
             CREATE TYPE mood AS ENUM ('sad', 'ok');
             CREATE FUNCTION f() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1';",
        );
    }
    shards.run(
        1,
        "ALTER TABLE users ALTER seen SET NOT NULL; ALTER TYPE mood ADD VALUE 'happy';
                   CREATE OR REPLACE FUNCTION f() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 2';
                   CREATE TABLE only_here (id int);",
    );
    let text = shards
        .text()
        .replace(
            "countries = { reference = true }",
            "countries = { reference = true }\nposts = { key = \"user_id\", trust = [\"nothing\"] }\nfloats = { key = \"k\" }\nonly_here = { key = \"id\" }\nlater = { key = \"id\" }",
        )
        .replace("password = \"x\"", "password = \"x\"\nserver_user = \"nobody_here\"")
        + "\n[pool]\nsize = 60";
    let report = check_all(&config(&text)).await.unwrap();
    let found = printed(&report);
    for expected in [
        "Note: catalog: there is none yet; `keyway serve` will create it on shard s0",
        "Error: keyspace main, table users: constraint \"users_email_key\", UNIQUE (email): it does not contain the sharding key",
        "Error: keyspace main, table users: constraint \"users_boss_fkey\"",
        "Error: keyspace main, table posts: constraint \"posts_pkey\"",
        "Error: keyspace main, table posts: constraint \"posts_slug\"",
        "Error: keyspace main, table users: shards s0 and s1 differ: the NOT NULL of column \"seen\"",
        "Error: keyspace main, table only_here: exists on shard s1 but not on s0",
        "Error: keyspace main, table floats: the sharding key's column \"k\" has type double precision",
        "Error: keyspace main, function f(): shards s0 and s1 differ in its definition",
        "Error: keyspace main, type public.mood: shards s0 and s1 differ in its labels",
        "Warning: keyspace main, table posts: the sequence of column \"id\" gives the same numbers",
        "on s1: ALTER SEQUENCE posts_id_seq MINVALUE 4194305 MAXVALUE 8388608 START 4194305 RESTART 4194305",
        "Warning: keyspace main, table posts: trust names \"nothing\"",
        "Warning: keyspace main, table stray: exists on the shards but no keyspace lists it",
        "Note: keyspace main, table later: is listed but exists on no shard yet",
        "Error: shard s0: the role \"nobody_here\" of [users] does not exist",
        "pool.size = 60 may open 189 connections for shards s0, s1, v, but the server takes 97",
    ] {
        assert!(
            found.contains(expected),
            "{expected:?} is missing in:\n{found}"
        );
    }
    for unexpected in [
        "posts_user_id_fkey",
        "users_country_fkey",
        "countries_pkey",
        "users_pkey",
    ] {
        assert!(
            !found.contains(unexpected),
            "{unexpected:?} is fine, but:\n{found}"
        );
    }
    assert!(report.has_errors() && !report.contradicts);
    assert_eq!(report.servers_reached, 3);
    assert_eq!(
        shards.ask(0, "SELECT to_regnamespace('keyway') IS NULL"),
        [["t"]],
        "nothing was written"
    );
}

#[tokio::test]
async fn check_is_silent_when_all_is_well_and_lifts_refusals() {
    let shards = Shards::new("well", 3);
    for index in 0..2 {
        let (low, high) =
            crate::topology::build::sequence_range(u16::try_from(index).unwrap(), 20).unwrap();
        shards.run(
            index,
            &format!(
                "CREATE TABLE countries (code char(2) PRIMARY KEY);
                 CREATE TABLE users (id bigint GENERATED ALWAYS AS IDENTITY (MINVALUE {low} MAXVALUE {high}) PRIMARY KEY,
                     name text, token uuid DEFAULT gen_random_uuid() UNIQUE)"
            ),
        );
    }
    let text = shards.text() + "\n[pool]\nsize = 5";
    let (catalog, topology) = open(&text).await;
    let report = check_all(&config(&text)).await.unwrap();
    assert_eq!(printed(&report), "");

    // A change of schema that reached one shard only, and then the other.
    shards.run(0, "ALTER TABLE users ADD age int");
    catalog
        .refuse_table("app", &name("users"), "ALTER TABLE committed on s0 only")
        .await
        .unwrap();
    let refused = check_all(&config(&text)).await.unwrap();
    assert!(
        printed(&refused).contains("is refused: ALTER TABLE committed on s0 only"),
        "{}",
        printed(&refused)
    );
    assert!(printed(&refused).contains("columns (id, name, token, age) and (id, name, token)"));
    assert!(refused.lifted.is_empty());
    shards.run(1, "ALTER TABLE users ADD age int");
    let lifted = check_all(&config(&text)).await.unwrap();
    assert_eq!(
        (printed(&lifted).as_str(), lifted.lifted.as_slice()),
        ("", ["app.users".to_owned()].as_slice())
    );
    let after = catalog.read_again(&topology).await.unwrap();
    assert!(after.databases["app"].refused.is_empty());

    // What contradicts the catalog, and who does not answer, is found too.
    let (a, b) = (shards.dsn(0), shards.dsn(1));
    let swapped = text
        .replace(&a, "A")
        .replace(&b, &a)
        .replace("\"A\"", &format!("{b:?}"));
    let report = check_all(&config(&swapped)).await.unwrap();
    assert!(
        report.contradicts && printed(&report).contains("says it is shard \"s0\""),
        "{}",
        printed(&report)
    );
    let (_held, port) = silent_port();
    let replica =
        format!("primary = \"{a}\"\nreplicas = [\"postgres://k@127.0.0.1:{port}/well_s0\"]");
    let report = check_all(&config(
        &text.replace(&format!("primary = \"{a}\""), &replica),
    ))
    .await
    .unwrap();
    assert!(
        printed(&report).contains("replica 127.0.0.1"),
        "{}",
        printed(&report)
    );
}

#[tokio::test]
async fn servers_are_verified_as_their_sslmode_says() {
    use crate::demo::cluster::Auth;
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = parameters.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(parameters, &authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let cluster = Cluster::start(&ClusterOptions {
        settings: &[("ssl", "on")],
        files: &[
            ("server.crt", certificate.pem().as_bytes()),
            ("server.key", key.serialize_pem().as_bytes()),
        ],
        auth: Auth::Scram { password: "s3cret" },
        ..ClusterOptions::default()
    })
    .unwrap();
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), authority.pem()).unwrap();
    let text = |host: &str, password: &str, mode: &str| {
        let dsn = format!(
            "postgres://postgres:{password}@{host}:{}/postgres?sslmode={mode}",
            cluster.port()
        );
        let ca = ca.path().display();
        format!(
            "server_ca = \"{ca}\"\n[users.app]\npassword = \"x\"\n[shards.s]\nprimary = \"{dsn}\"\n\
             [databases.app]\nkeyspaces = [\"k\"]\n[keyspaces.k]\nshards = [\"s\"]"
        )
    };
    let said = |result: Result<(Catalog, Topology), CatalogError>| match result {
        Ok(_) => String::new(),
        Err(error) => {
            let source = std::error::Error::source(&error)
                .map(ToString::to_string)
                .unwrap_or_default();
            format!("{error}: {source}")
        }
    };
    for mode in ["disable", "prefer", "require", "verify-ca", "verify-full"] {
        let opened = Catalog::open(&config(&text("localhost", "s3cret", mode))).await;
        assert_eq!(said(opened), "", "{mode}");
    }
    // The certificate is for another name.
    let by_address = |mode| text("127.0.0.1", "s3cret", mode);
    assert_eq!(
        said(Catalog::open(&config(&by_address("verify-ca"))).await),
        ""
    );
    let refused = said(Catalog::open(&config(&by_address("verify-full"))).await);
    assert!(refused.contains("certificate"), "{refused}");
    let refused = said(Catalog::open(&config(&text("localhost", "wrong", "require"))).await);
    assert!(
        refused.contains("password authentication failed") && !refused.contains("wrong"),
        "{refused}"
    );
}

#[tokio::test]
async fn the_control_login_needs_no_more_than_create_on_its_databases() {
    let shards = Shards::new("modest", 3);
    shards.run(0, "CREATE ROLE modest LOGIN; CREATE ROLE modest_app; CREATE ROLE modest_other; GRANT modest_app TO modest");
    let text = shards.text().replace("postgres://postgres", "postgres://modest").replace(
        "password = \"x\"",
        "password = \"x\"\nserver_user = \"modest_app\"\n[users.other]\npassword = \"x\"\nserver_user = \"modest_other\"",
    );
    let error = Catalog::open(&config(&text))
        .await
        .map(drop)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("create the schema keyway on shard s0")
            && error.contains("permission denied"),
        "{error}"
    );
    for index in 0..3 {
        shards.run(
            index,
            &format!(
                "GRANT CREATE ON DATABASE {} TO modest",
                shards.database(index)
            ),
        );
        shards.run(index, "CREATE TABLE users (id bigint PRIMARY KEY); CREATE SCHEMA hidden; CREATE TABLE hidden.t (id int)");
    }
    let (_catalog, topology) = open(&text).await;
    let app = &topology.databases["app"];
    assert_eq!(
        app.tables[&name("users")].columns.len(),
        1,
        "tables that it may not read are seen"
    );
    assert!(app.tables.contains_key(&name("hidden.t")));
    let report = check_all(&config(&format!("{text}\n[pool]\nsize = 5")))
        .await
        .unwrap();
    let found = printed(&report);
    assert!(
        found.contains("\"modest\" is not a member of the role \"modest_other\""),
        "{found}"
    );
    assert!(
        found.contains("GRANT \"modest_other\" TO \"modest\"") && !found.contains("modest_app"),
        "{found}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schemas_are_read_while_they_change() {
    let shards = Arc::new(Shards::new("moving", 3));
    let (catalog, mut topology) = open(&shards.text()).await;
    let changing = Arc::clone(&shards);
    let change = std::thread::spawn(move || {
        for round in 0..12 {
            changing.run(2, &format!("CREATE TABLE t{round} (id serial PRIMARY KEY, a text DEFAULT 'x' UNIQUE);
                                      CREATE VIEW v{round} AS SELECT a FROM t{round};
                                      CREATE FUNCTION f{round}(a int) RETURNS int LANGUAGE sql AS 'SELECT 1';
                                      DROP FUNCTION f{round}; DROP TABLE t{round} CASCADE"));
        }
    });
    while !change.is_finished() {
        topology = catalog.refresh_schema(&topology).await.unwrap();
        assert!(catalog.unread().is_empty());
    }
    change.join().unwrap();
    let last = catalog.refresh_schema(&topology).await.unwrap();
    assert!(last.epoch > topology.epoch);
    assert!(
        last.databases["app"]
            .tables
            .keys()
            .all(|table| !table.name.starts_with('t'))
    );
}

#[tokio::test]
async fn a_fingerprint_changes_with_the_schema_and_not_with_the_rows() {
    let shards = Shards::new("finger", 3);
    let (catalog, _) = open(&shards.text()).await;
    let state = catalog.state.load_full();
    let fingerprint = async || {
        let client = state.servers.get("v").await.unwrap();
        super::read::fingerprint(&**client).await.unwrap()
    };
    let mut seen = vec![fingerprint().await];
    for change in [
        "CREATE TABLE t (id serial, a text)",
        "ALTER TABLE t ALTER a SET DEFAULT 'x'",
        "ALTER SEQUENCE t_id_seq MINVALUE -5",
        "CREATE UNIQUE INDEX ON t (a)",
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
        "ALTER TABLE t DISABLE TRIGGER tr",
        "CREATE VIEW v AS SELECT 1 AS one",
        "CREATE TYPE e AS ENUM ('a')",
        "ALTER TYPE e ADD VALUE 'b'",
        "CREATE DOMAIN d AS int",
        "ALTER DOMAIN d ADD CONSTRAINT c CHECK (VALUE > 0)",
        "CREATE FUNCTION g(d, d) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE OPERATOR ### (LEFTARG = d, RIGHTARG = d, FUNCTION = g)",
        "CREATE FUNCTION h(e) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE CAST (e AS int) WITH FUNCTION h",
        "DROP VIEW v",
        "CREATE OR REPLACE TRIGGER tr BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION f()",
        "ALTER TABLE t SET UNLOGGED",
        "ALTER TABLE t SET LOGGED",
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
        "CREATE RULE r AS ON DELETE TO t DO ALSO NOTHING",
        "CREATE OR REPLACE RULE r AS ON UPDATE TO t DO ALSO NOTHING",
        "CREATE TABLE u (); CREATE TABLE w ()",
        "ALTER TABLE u INHERIT w",
        "ALTER TABLE u NO INHERIT w",
        "CREATE TABLE p (id int) PARTITION BY LIST (id)",
        "CREATE TABLE p_1 (id int)",
        "ALTER TABLE p ATTACH PARTITION p_1 FOR VALUES IN (1)",
        "ALTER TABLE p_1 SET UNLOGGED",
        "ALTER TABLE p DETACH PARTITION p_1",
        "ALTER TABLE t ADD PRIMARY KEY (id)",
        "ALTER TABLE p ADD CONSTRAINT k FOREIGN KEY (id) REFERENCES t ON DELETE CASCADE",
        "CREATE TYPE pair AS (a int)",
        "ALTER TYPE pair ADD ATTRIBUTE b d",
        "CREATE SCHEMA one CREATE TABLE t ()",
        "ALTER SCHEMA one RENAME TO other",
        "ALTER TABLE other.t RENAME TO u",
        "CREATE MATERIALIZED VIEW m AS SELECT 1 AS one",
        "GRANT SELECT ON t TO PUBLIC",
        "CREATE FUNCTION ev() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
        "CREATE EVENT TRIGGER ev ON ddl_command_end EXECUTE FUNCTION ev()",
        "ALTER EVENT TRIGGER ev DISABLE",
    ] {
        shards.run(2, change);
        let now = fingerprint().await;
        // What is undone is as it was before.
        assert_ne!(&now, seen.last().unwrap(), "unseen: {change}");
        seen.push(now);
    }
    shards.run(2, "INSERT INTO t (a) VALUES ('q'); ANALYZE t");
    shards.run(2, "VACUUM t");
    shards.run(2, "VACUUM FULL t");
    shards.run(2, "REINDEX TABLE t; CLUSTER t USING t_pkey");
    shards.run(2, "TRUNCATE t CASCADE");
    shards.run(2, "REFRESH MATERIALIZED VIEW m");
    shards.run(2, "CREATE TEMP TABLE x (id serial PRIMARY KEY)");
    assert_eq!(&fingerprint().await, seen.last().unwrap());
}

#[tokio::test]
async fn what_was_popular_counts_half_once_a_minute_whoever_notes() {
    let shards = Shards::new("popular", 3);
    let (catalog, _) = open(&shards.text()).await;
    let asked = |question: &str, hits| Popular {
        asker: b"app".to_vec(),
        question: question.as_bytes().to_vec(),
        extended: false,
        ttl: 1_000,
        hits,
    };
    let holder = catalog.state.load_full().agreed.catalog.clone();
    let halved_at = async |minute: i64| {
        let state = catalog.state.load_full();
        let client = state.servers.get(&holder).await.unwrap();
        let sql = "INSERT INTO keyway.settings AS s (name, value) VALUES ('popular halved', $1)
                   ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        client.execute(sql, &[&minute]).await.unwrap();
    };
    let hits = async || {
        let all = catalog.popular(10).await.unwrap();
        let hits = all
            .into_iter()
            .map(|p| (String::from_utf8(p.question).unwrap(), p.hits));
        hits.collect::<Vec<_>>()
    };
    let of = |known: &[(&str, i64)]| {
        let known = known
            .iter()
            .map(|(question, hits)| ((*question).to_owned(), *hits));
        known.collect::<Vec<_>>()
    };
    // This minute's halving is over.
    halved_at(i64::MAX).await;
    catalog
        .note_popular(&[asked("a", 100), asked("b", 40)], 10)
        .await
        .unwrap();
    catalog.note_popular(&[asked("a", 10)], 10).await.unwrap();
    assert_eq!(hits().await, of(&[("a", 110), ("b", 40)]));
    // The next minute's is due, and is done once.
    halved_at(0).await;
    catalog.note_popular(&[asked("b", 5)], 10).await.unwrap();
    assert_eq!(hits().await, of(&[("a", 55), ("b", 25)]));
    halved_at(i64::MAX).await;
    catalog.note_popular(&[], 1).await.unwrap();
    assert_eq!(hits().await, of(&[("a", 55)]), "the least is forgotten");
}
