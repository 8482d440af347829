//! What the system catalogs of real servers say for the result cache.

use super::{Shards, name, open};
use crate::topology::reach::{Family, Never, Reach};
use crate::topology::{Database, Table, TableName, Topology};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use tokio_postgres::{Client, NoTls};

const FUNCTIONS: &str = r#"
[functions.to_log]
writes = ["log"]
[functions.local]
per_shard = true
"#;

fn app(topology: &Topology) -> &Database {
    &topology.databases["app"]
}

/// The names of the tables that families are called by; `*` for anything.
fn names(database: &Database, reach: &Reach) -> BTreeSet<String> {
    let Reach::Families(families) = reach else {
        return BTreeSet::from(["*".to_owned()]);
    };
    let name = |family: &Family| {
        let mut known = database.tables.keys();
        let called = known.find(|known| Family::named(known) == *family);
        called
            .expect("a family is called by a table's name")
            .to_string()
    };
    families.iter().map(name).collect()
}

/// `insert/update/delete`.
fn shown(database: &Database, table: &str) -> String {
    let reach = &database.tables[&name(table)].reach;
    let reach = [&reach.insert, &reach.update, &reach.delete];
    reach
        .map(|reach| {
            let names: Vec<String> = names(database, reach).into_iter().collect();
            names.join(" ")
        })
        .join("/")
}

#[tokio::test]
async fn families_and_what_is_never_kept_are_read() {
    let shards = Shards::new("reach_never", 3);
    shards.run(
        2,
        "CREATE SCHEMA archive;
         CREATE TABLE orders (id int, at date) PARTITION BY RANGE (at);
         CREATE TABLE archive.orders_old PARTITION OF orders FOR VALUES FROM (MINVALUE) TO ('2020-01-01')
             PARTITION BY RANGE (at);
         CREATE TABLE orders_2019 PARTITION OF archive.orders_old FOR VALUES FROM ('2019-01-01') TO ('2020-01-01');
         CREATE TABLE orders_2020 PARTITION OF orders FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
         CREATE TABLE pets (name text); CREATE TABLE animals (name text);
         CREATE TABLE dogs () INHERITS (pets, animals);
         CREATE TABLE plain (id int);
         CREATE VIEW plain_view AS SELECT id FROM plain;
         CREATE MATERIALIZED VIEW plain_kept AS SELECT id FROM plain;
         CREATE UNLOGGED TABLE fleeting (id int);
         CREATE TABLE parted (id int) PARTITION BY LIST (id);
         CREATE UNLOGGED TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
         CREATE TABLE parted_2 PARTITION OF parted FOR VALUES IN (2);
         CREATE FOREIGN DATA WRAPPER dummy; CREATE SERVER away FOREIGN DATA WRAPPER dummy;
         CREATE FOREIGN TABLE foreign_one (id int) SERVER away;
         CREATE TABLE mixed (id int) PARTITION BY LIST (id);
         CREATE FOREIGN TABLE mixed_1 PARTITION OF mixed FOR VALUES IN (1) SERVER away;
         CREATE TABLE secured (id int); ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
         CREATE TABLE heir () INHERITS (secured);
         CREATE TABLE ruled (id int); CREATE RULE r AS ON INSERT TO ruled DO ALSO NOTHING;
         CREATE TABLE plain_keyway_new (id int)",
    );
    let (_catalog, topology) = open(&shards.text()).await;
    let app = app(&topology);
    for (table, family) in [
        ("orders", "archive.orders_old"),
        ("archive.orders_old", "archive.orders_old"),
        ("orders_2019", "archive.orders_old"),
        ("orders_2020", "archive.orders_old"),
        ("pets", "animals"),
        ("animals", "animals"),
        ("dogs", "animals"),
        ("plain", "plain"),
    ] {
        let found = app.tables[&name(table)].reach.family;
        assert_eq!(found, Family::named(&name(family)), "{table}");
    }
    let of_never = |never: Option<Never>| -> BTreeSet<String> {
        let tables = app
            .tables
            .values()
            .filter(|table| table.reach.never == never);
        tables.map(|table| table.name.to_string()).collect()
    };
    let expected = |names: &[&str]| -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    };
    for (never, tables) in [
        // Of `main`, which has none of them yet.
        (Some(Never::Unseen), expected(&["users", "countries"])),
        (Some(Never::RowSecurity), expected(&["secured", "heir"])),
        (
            Some(Never::Unlogged),
            expected(&["fleeting", "parted", "parted_1", "parted_2"]),
        ),
        (
            Some(Never::Foreign),
            expected(&["foreign_one", "mixed", "mixed_1"]),
        ),
        (Some(Never::Kind), expected(&["plain_keyway_new"])),
    ] {
        assert_eq!(of_never(never), tables, "{never:?}");
    }
    assert!(of_never(None).is_superset(&expected(&["plain", "plain_view", "plain_kept", "ruled"])));
    for table in ["foreign_one", "mixed", "plain_view", "plain_kept", "ruled"] {
        assert_eq!(shown(app, table), "*/*/*", "{table}");
    }
    for table in ["orders", "dogs", "plain", "parted", "secured"] {
        assert_eq!(shown(app, table), "//", "{table}");
    }
}

#[tokio::test]
async fn keys_triggers_rules_and_calls_are_read() {
    let shards = Shards::new("reach_writes", 3);
    let mut keys = String::new();
    for (update, update_action) in ["a NO ACTION", "c CASCADE", "n SET NULL", "d SET DEFAULT"]
        .iter()
        .map(|action| action.split_at(2))
    {
        for (delete, delete_action) in [
            "a NO ACTION",
            "r RESTRICT",
            "c CASCADE",
            "n SET NULL",
            "d SET DEFAULT",
        ]
        .iter()
        .map(|action| action.split_at(2))
        {
            let pair = format!("{}{}", update.trim(), delete.trim());
            write!(
                keys,
                "CREATE TABLE base_{pair} (id int PRIMARY KEY);
                 CREATE TABLE child_{pair} (base int REFERENCES base_{pair}
                     ON UPDATE {update_action} ON DELETE {delete_action});"
            )
            .unwrap();
        }
    }
    shards.run(2, &keys);
    shards.run(
        2,
        "CREATE TABLE log (what text);
         CREATE FUNCTION to_log() RETURNS trigger LANGUAGE plpgsql
             AS 'BEGIN INSERT INTO log VALUES (TG_OP); RETURN coalesce(NEW, OLD); END';
         CREATE FUNCTION local() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE FUNCTION unknown() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';

         CREATE TABLE whole (id int PRIMARY KEY);
         CREATE TABLE parts (id int, whole int REFERENCES whole ON DELETE CASCADE) PARTITION BY LIST (id);
         CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
         CREATE TABLE crumbs (id int PRIMARY KEY, size int) PARTITION BY LIST (id);
         CREATE TABLE crumbs_1 PARTITION OF crumbs FOR VALUES IN (1);
         CREATE TABLE ants (crumb int REFERENCES crumbs_1 ON DELETE CASCADE);

         CREATE TABLE at_insert (id int);
         CREATE TRIGGER t BEFORE INSERT ON at_insert FOR EACH ROW EXECUTE FUNCTION to_log();
         CREATE TABLE at_update (id int, other int);
         CREATE TRIGGER t AFTER UPDATE OF other ON at_update FOR EACH ROW EXECUTE FUNCTION to_log();
         CREATE TABLE at_delete (id int);
         CREATE TRIGGER t AFTER DELETE ON at_delete FOR EACH STATEMENT EXECUTE FUNCTION to_log();
         CREATE TABLE at_truncate (id int);
         CREATE TRIGGER t AFTER TRUNCATE ON at_truncate FOR EACH STATEMENT EXECUTE FUNCTION to_log();
         CREATE TABLE at_two (id int);
         CREATE TRIGGER t AFTER INSERT OR DELETE ON at_two FOR EACH ROW EXECUTE FUNCTION to_log();
         CREATE TABLE at_moves (id int) PARTITION BY LIST (id);
         CREATE TABLE at_moves_1 PARTITION OF at_moves FOR VALUES IN (1);
         CREATE TRIGGER t AFTER DELETE ON at_moves_1 FOR EACH ROW EXECUTE FUNCTION to_log();
         CREATE TABLE off (id int);
         CREATE TRIGGER t AFTER DELETE ON off FOR EACH ROW EXECUTE FUNCTION to_log();
         ALTER TABLE off DISABLE TRIGGER t;
         CREATE TABLE staying (id int);
         CREATE TRIGGER t AFTER INSERT ON staying FOR EACH ROW EXECUTE FUNCTION local();
         CREATE TABLE strange (id int);
         CREATE TRIGGER t AFTER INSERT ON strange FOR EACH ROW EXECUTE FUNCTION unknown();
         CREATE TABLE hidden (id int);
         CREATE TRIGGER t AFTER INSERT ON hidden FOR EACH ROW EXECUTE FUNCTION unknown();
         UPDATE pg_catalog.pg_trigger SET tgisinternal = true WHERE tgrelid = 'hidden'::regclass;
         CREATE TABLE harmless (id int, a text, v tsvector);
         CREATE TRIGGER t BEFORE INSERT OR UPDATE ON harmless FOR EACH ROW
             EXECUTE FUNCTION tsvector_update_trigger(v, 'pg_catalog.simple', a);
         CREATE FUNCTION odd(int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN true; END';
         CREATE TABLE whens (id int);
         CREATE TRIGGER t AFTER DELETE ON whens FOR EACH ROW WHEN (odd(OLD.id)) EXECUTE FUNCTION to_log();

         CREATE TABLE ruled (id int); CREATE RULE r AS ON DELETE TO ruled DO ALSO INSERT INTO log VALUES ('x');
         CREATE DOMAIN odd_number AS int CHECK (odd(VALUE));
         CREATE TABLE domains (id odd_number);
         CREATE TABLE checks (id int CHECK (odd(id)));
         CREATE TABLE policed (id int); CREATE POLICY p ON policed USING (odd(id));
         ALTER TABLE policed ENABLE ROW LEVEL SECURITY;
         CREATE TABLE unpoliced (id int); CREATE POLICY p ON unpoliced USING (odd(id));
         CREATE VIEW through AS SELECT * FROM log;
         CREATE VIEW instead AS SELECT * FROM log;
         CREATE TRIGGER t INSTEAD OF INSERT ON instead FOR EACH ROW EXECUTE FUNCTION to_log()",
    );
    let (_catalog, topology) = open(&format!("{}{FUNCTIONS}", shards.text())).await;
    let app = app(&topology);
    for update in ["a", "c", "n", "d"] {
        for delete in ["a", "r", "c", "n", "d"] {
            let child = format!("child_{update}{delete}");
            let when = |acts: bool| if acts { child.as_str() } else { "" };
            let expected = format!("/{}/{}", when(update != "a"), when(!"ar".contains(delete)));
            assert_eq!(shown(app, &format!("base_{update}{delete}")), expected);
            assert_eq!(shown(app, &child), "//");
        }
    }
    for (table, expected) in [
        ("whole", "//parts"),
        ("parts", "//"),
        ("crumbs", "/ants/ants"),
        ("crumbs_1", "/ants/ants"),
        ("at_insert", "log//"),
        ("at_update", "/log/"),
        ("at_delete", "//log"),
        ("at_truncate", "//"),
        ("at_two", "log//log"),
        ("at_moves", "/log/log"),
        ("off", "//"),
        ("staying", "*//"),
        ("strange", "*//"),
        ("hidden", "*//"),
        ("harmless", "//"),
        ("whens", "//*"),
        ("ruled", "*/*/*"),
        ("domains", "*/*/"),
        ("checks", "*/*/"),
        ("policed", "*/*/*"),
        ("unpoliced", "//"),
        ("through", "*/*/*"),
        ("instead", "log/*/*"),
        ("log", "//"),
    ] {
        assert_eq!(shown(app, table), expected, "{table}");
    }
    assert_eq!(app.tables[&name("policed")].reach.read, Reach::Anything);
}

#[tokio::test]
async fn what_one_shard_of_a_keyspace_has_counts_for_all() {
    let shards = Shards::new("reach_shards", 3);
    for index in 0..2 {
        shards.run(
            index,
            "CREATE TABLE users (id bigint PRIMARY KEY); CREATE TABLE countries (code text)",
        );
    }
    let of = async || {
        let (_catalog, topology) = open(&shards.text()).await;
        let tables = &app(&topology).tables;
        let of = |table: &str| tables[&name(table)].reach.clone();
        (of("users"), of("countries"))
    };
    let (users, countries) = of().await;
    assert_eq!((users.never, countries.never), (None, None));
    let alone = Reach::Families(Vec::new());
    assert_eq!((&users.insert, &users.delete), (&alone, &alone));

    shards.run(
        1,
        "CREATE TABLE aged () INHERITS (users); CREATE TABLE notes (id bigint REFERENCES users ON DELETE CASCADE)",
    );
    let (users, _) = of().await;
    assert_eq!(users.family, Family::named(&name("aged")));
    let notes = Reach::Families(vec![Family::named(&name("notes"))]);
    assert_eq!((users.insert, users.delete), (alone, notes));

    shards.run(
        1,
        "ALTER TABLE aged ENABLE ROW LEVEL SECURITY; DROP TABLE countries",
    );
    let (users, countries) = of().await;
    assert_eq!(users.never, Some(Never::RowSecurity));
    assert_eq!(countries.never, Some(Never::Unseen));
    assert_eq!(countries.insert, Reach::Anything);
}

/// A little generator of numbers, so that a seed says everything.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        // Knuth's MMIX; the high bits are good.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    fn one<'o>(&mut self, of: &[&'o str]) -> &'o str {
        of[self.below(of.len())]
    }
}

const TABLES: usize = 6;
const ROWS: usize = 4;

/// Tables that refer to each other, some in partitions, with triggers.
fn random_tables(dice: &mut Dice) -> String {
    let mut sql = "DROP SCHEMA IF EXISTS r CASCADE; CREATE SCHEMA r;".to_owned();
    for table in 0..TABLES {
        let (parted, partitions) = if dice.below(3) == 0 {
            let partition = |n: usize| {
                format!(
                    "CREATE TABLE r.t{table}_{n} PARTITION OF r.t{table} FOR VALUES WITH (MODULUS 2, REMAINDER {n});"
                )
            };
            (" PARTITION BY HASH (id)", partition(0) + &partition(1))
        } else {
            ("", String::new())
        };
        write!(
            sql,
            "CREATE TABLE r.t{table} (id int PRIMARY KEY, one int DEFAULT 0, two int DEFAULT 0, note int NOT NULL DEFAULT 0){parted};
             {partitions}
             INSERT INTO r.t{table} SELECT n, n % 2, (n + 1) % 3 FROM generate_series(0, {ROWS} - 1) n;
             CREATE FUNCTION r.to_t{table}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF pg_catalog.pg_trigger_depth() < 3 THEN
                     UPDATE r.t{table} SET note = note + 1;
                     DELETE FROM r.t{table} WHERE id = {};
                 END IF;
                 RETURN coalesce(NEW, OLD); END $$;",
            dice.below(ROWS)
        )
        .unwrap();
    }
    let actions = [
        "NO ACTION",
        "RESTRICT",
        "CASCADE",
        "SET NULL",
        "SET DEFAULT",
        "CASCADE",
    ];
    for table in 0..TABLES {
        for column in ["one", "two"] {
            if dice.below(3) > 0 {
                write!(
                    sql,
                    "ALTER TABLE r.t{table} ADD FOREIGN KEY ({column}) REFERENCES r.t{} ON UPDATE {} ON DELETE {};",
                    dice.below(TABLES),
                    dice.one(&actions),
                    dice.one(&actions)
                )
                .unwrap();
            }
        }
        if dice.below(2) == 0 {
            write!(
                sql,
                "CREATE TRIGGER t AFTER {} ON r.t{table} FOR EACH {} EXECUTE FUNCTION r.to_t{}();",
                dice.one(&[
                    "INSERT",
                    "UPDATE",
                    "DELETE",
                    "INSERT OR UPDATE",
                    "UPDATE OR DELETE"
                ]),
                dice.one(&["ROW", "STATEMENT"]),
                dice.below(TABLES)
            )
            .unwrap();
        }
    }
    sql
}

/// All rows, by table.
async fn rows(client: &Client) -> BTreeMap<TableName, BTreeSet<String>> {
    let of = |table: usize| format!("SELECT {table}, t::text FROM r.t{table} t");
    let all: Vec<String> = (0..TABLES).map(of).collect();
    let mut rows = BTreeMap::new();
    for table in 0..TABLES {
        rows.insert(name(&format!("r.t{table}")), BTreeSet::new());
    }
    for row in client.query(&all.join(" UNION ALL "), &[]).await.unwrap() {
        let table: i32 = row.get(0);
        let table = rows.entry(name(&format!("r.t{table}"))).or_default();
        table.insert(row.get(1));
    }
    rows
}

/// The tables that are not what they were, with the most rows that went or came.
fn differing(
    before: &BTreeMap<TableName, BTreeSet<String>>,
    after: &BTreeMap<TableName, BTreeSet<String>>,
) -> Vec<(TableName, usize)> {
    before
        .iter()
        .map(|(table, rows)| {
            let now = &after[table];
            let changed = rows
                .difference(now)
                .count()
                .max(now.difference(rows).count());
            (table.clone(), changed)
        })
        .filter(|(_, changed)| *changed > 0)
        .collect()
}

/// Whatever a statement about one row changes, on any tables that chance makes, is said before: other tables, and other rows of its own.
#[tokio::test]
async fn nothing_changes_that_was_not_said() {
    let shards = Shards::new("reach_random", 3);
    let mut text = shards.text();
    for table in 0..TABLES {
        write!(
            text,
            "[functions.\"r.to_t{table}\"]\nwrites = [\"r.t{table}\"]\n"
        )
        .unwrap();
    }
    let (catalog, mut topology) = open(&text).await;
    let (client, connection) = tokio_postgres::connect(&shards.dsn(2), NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let (mut tried, mut run, mut beyond, mut said) = (0, 0, 0, 0);
    for seed in 1..=24_u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let sql = random_tables(&mut dice);
        shards.run(2, &sql);
        topology = catalog.refresh_schema(&topology).await.unwrap();
        let app = app(&topology);
        let before = rows(&client).await;
        for table in 0..TABLES {
            let own: &Table = &app.tables[&name(&format!("r.t{table}"))];
            let row = dice.below(ROWS);
            for (statement, reach) in [
                (
                    format!("INSERT INTO r.t{table} (id) VALUES (50)"),
                    &own.reach.insert,
                ),
                (
                    format!("UPDATE r.t{table} SET id = 60 WHERE id = {row}"),
                    &own.reach.update,
                ),
                (
                    format!("UPDATE r.t{table} SET note = 9 WHERE id = {row}"),
                    &own.reach.update,
                ),
                (
                    format!("DELETE FROM r.t{table} WHERE id = {row}"),
                    &own.reach.delete,
                ),
            ] {
                client.batch_execute("BEGIN").await.unwrap();
                let done = client.batch_execute(&statement).await;
                let changed = match done {
                    Ok(()) => differing(&before, &rows(&client).await),
                    // Another table's row needs it.
                    Err(_) => Vec::new(),
                };
                client.batch_execute("ROLLBACK").await.unwrap();
                tried += 1;
                run += usize::from(!changed.is_empty());
                let reached = names(app, reach);
                said += reached.len();
                for (changed, count) in changed {
                    let itself = changed == own.name && count == 1;
                    beyond += usize::from(!itself);
                    let family = app.tables[&changed].reach.family;
                    let is_said = match reach {
                        Reach::Families(families) => families.contains(&family),
                        Reach::Anything => {
                            panic!("seed {seed}: {statement} reaches anything\n{sql}")
                        }
                    };
                    assert!(
                        itself || is_said,
                        "seed {seed}: {statement} changes {count} rows of {changed}, and {reached:?} was said\n{sql}"
                    );
                }
            }
        }
    }
    // Most statements do something, and often elsewhere; and what is said is not simply everything.
    assert!(run > 300 && beyond > 100, "{run} ran, {beyond} beyond");
    assert!(said < tried * TABLES / 2, "{said} said of {tried}");
}
