use super::build::{
    Assignments, BuildError, Schemas, build, constraint_beyond_one_shard, even_map, offline,
    sequence_range,
};
use super::reach::{Family, Never, Reach};
use super::schema::{
    ColumnFacts, Constraint, ConstraintKind, Relation, Routine, Rule, Schema, SequenceFacts,
    Trigger, TriggerEvent,
};
use super::*;
use crate::config::{Config, Variables, parse};

const TEXT: &str = r#"
[users.app]
password = "x"
[shards.s0]
primary = "postgres://k@a/app"
[shards.s1]
primary = "postgres://k@b/app"
[shards.v]
primary = "postgres://k@c/app"
[databases.app]
keyspaces = ["main", "whole"]
default = "whole"
[keyspaces.main]
shards = ["s0", "s1"]
[keyspaces.main.tables]
users = { key = "id", type = "bigint" }
countries = { reference = true }
[keyspaces.whole]
shards = ["v"]
[keyspaces.whole.tables]
settings = {}
[functions.declared]
per_shard = true
"#;

fn config() -> Config {
    parse(TEXT, &Variables::new()).unwrap()
}

fn name(text: &str) -> TableName {
    TableName::parse(text).unwrap()
}

fn column(name: &str, oid: u32, type_name: &str) -> ColumnFacts {
    ColumnFacts {
        name: name.into(),
        type_oid: oid,
        base_oid: oid,
        type_name: type_name.into(),
        stored_as: type_name.into(),
        not_null: true,
        default: None,
        generated: None,
        collation_is_c: true,
        deterministic: true,
        sequence: None,
    }
}

fn relation(table: &str, columns: Vec<ColumnFacts>) -> Relation {
    Relation {
        name: name(table),
        kind: 'r',
        persistence: 'p',
        columns,
        constraints: Vec::new(),
        triggers: Vec::new(),
        rules: Vec::new(),
        view: None,
        row_security: false,
        policies: Vec::new(),
        parents: Vec::new(),
        calls: Vec::new(),
    }
}

fn schema(relations: Vec<Relation>) -> Schema {
    Schema {
        relations,
        ..Schema::default()
    }
}

fn constraint(kind: ConstraintKind, columns: &[&str]) -> Constraint {
    Constraint {
        name: "c".into(),
        kind,
        columns: columns.iter().map(|c| (*c).to_owned()).collect(),
        expressions: false,
        definition: String::new(),
    }
}

/// The database built from these schemas, by stable id (s0 = 0, s1 = 1, v = 2).
fn built(schemas: Vec<(u16, Schema)>) -> Arc<Database> {
    let config = config();
    let topology = build(
        &config,
        &Assignments::new(&config),
        &schemas.into_iter().collect(),
    )
    .unwrap();
    Arc::clone(&topology.databases["app"])
}

#[test]
fn offline_plans_by_even_runs_and_written_types() {
    let topology = offline(&config()).unwrap();
    let main = &topology.keyspaces[0];
    let KeyspaceKind::Sharded {
        hash: KeyHash::Xxh3,
        map,
    } = &main.kind
    else {
        panic!("not sharded")
    };
    assert_eq!(map.len(), BUCKETS);
    assert_eq!(
        (map[0], map[8191], map[8192], map[16383]),
        (ShardId(0), ShardId(0), ShardId(1), ShardId(1))
    );
    let app = &topology.databases["app"];
    assert!(!app.schema_known);
    assert_eq!(
        app.home,
        Some(ShardId(2)),
        "the default keyspace's first shard"
    );
    let Placement::Sharded { key } = &app.tables[&name("users")].placement else {
        panic!("not sharded")
    };
    assert_eq!(
        key,
        &[KeyColumn {
            name: "id".into(),
            family: Some(KeyFamily::Int)
        }]
    );
    assert_eq!(
        app.tables[&name("countries")].placement,
        Placement::Reference
    );
    assert_eq!(
        app.tables[&name("settings")].placement,
        Placement::Unsharded
    );
    assert_eq!(
        app.functions[&name("declared")][0].declared,
        Some(FunctionDeclaration::PerShard)
    );
}

#[test]
fn a_postgres_hash_spreads_its_remainders() {
    let map = even_map(KeyHash::Postgres { modulus: 4 }, &[7, 9]);
    assert_eq!(&map[..5], [7, 7, 9, 9, 9]);
    assert_eq!(map.len(), BUCKETS);
    assert_eq!(
        even_map(KeyHash::Xxh3, &[1, 2, 3])
            .iter()
            .filter(|id| **id == 2)
            .count(),
        5461
    );
}

#[test]
fn sequence_ranges_are_disjoint_and_exact_in_javascript() {
    for oid in [20, 23] {
        let mut above = 0;
        for id in 0..512 {
            let (low, high) = sequence_range(id, oid).unwrap();
            assert!(low == above + 1 && high > low, "{oid} {id}");
            above = high;
        }
        assert_eq!(
            above,
            if oid == 23 {
                i64::from(i32::MAX)
            } else {
                1 << 53
            }
        );
    }
    assert_eq!(sequence_range(1, 20), Some(((1 << 44) + 1, 2 << 44)));
    assert_eq!(sequence_range(1, 21), None);
}

#[test]
fn a_shard_without_buckets_takes_no_part() {
    let config = config();
    let mut assignments = Assignments::new(&config);
    assignments.maps.insert("main".into(), vec![1; BUCKETS]);
    let topology = build(&config, &assignments, &Schemas::new()).unwrap();
    assert_eq!(topology.keyspaces[0].shards, [ShardId(1)]);
    assert_eq!(topology.shards.len(), 3);

    assignments.maps.insert("main".into(), vec![2; BUCKETS]);
    let elsewhere = BuildError::Elsewhere {
        keyspace: "main".into(),
        bucket: 0,
        shard: 2,
    };
    assert_eq!(
        build(&config, &assignments, &Schemas::new()).err(),
        Some(elsewhere)
    );
}

#[test]
fn type_oids_are_those_of_the_home_shard() {
    let types = |list: &[(&str, u32)]| {
        list.iter()
            .map(|(n, o)| ((*n).to_owned(), *o))
            .collect::<Vec<_>>()
    };
    let mut home = schema(vec![]);
    home.types = types(&[
        ("public.mood", 16_400),
        ("public.mood[]", 16_399),
        ("public.kind", 16_500),
    ]);
    let mut s0 = schema(vec![relation(
        "users",
        vec![column("id", 20, "bigint"), column("mood", 16_500, "mood")],
    )]);
    s0.types = types(&[
        ("public.mood", 16_500),
        ("public.mood[]", 16_499),
        ("public.own", 16_400),
    ]);
    let app = built(vec![(0, s0), (2, home)]);
    assert_eq!(app.oid_map(ShardId(2)), None, "the home shard itself");
    let map = app.oid_map(ShardId(0)).unwrap();
    assert_eq!(
        (map.client(16_500), map.server(16_400)),
        (16_400, Some(16_500))
    );
    assert_eq!(
        (map.client(16_499), map.server(16_399)),
        (16_399, Some(16_499))
    );
    assert_eq!(
        map.client(16_400),
        705,
        "another type has this number at home"
    );
    assert_eq!(
        map.server(16_500),
        None,
        "the home shard's kind is not here"
    );
    assert_eq!((map.client(23), map.server(23)), (23, Some(23)));
    let unread = app.oid_map(ShardId(1)).unwrap();
    assert_eq!((unread.client(16_400), unread.server(16_400)), (705, None));
    assert_eq!(app.tables[&name("users")].columns[1].type_oid, 16_400);
}

#[test]
fn values_unique_by_construction_are_seen() {
    let own = |id: u16| {
        let (min, max) = sequence_range(id, 20).unwrap();
        let mut serial = column("id", 20, "bigint");
        serial.sequence = Some(SequenceFacts {
            name: name("s"),
            min,
            max,
            increment: 1,
            cycle: false,
        });
        serial
    };
    let mut uuid = column("token", 2950, "uuid");
    uuid.default = Some("gen_random_uuid()".into());
    let mut spoilt = own(1);
    if let Some(sequence) = &mut spoilt.sequence {
        sequence.min = 1;
    }
    let unique = |second: ColumnFacts| {
        let first = schema(vec![relation("users", vec![own(0), uuid.clone()])]);
        let app = built(vec![
            (0, first),
            (
                1,
                schema(vec![relation("users", vec![second, uuid.clone()])]),
            ),
        ]);
        app.tables[&name("users")]
            .columns
            .iter()
            .map(|c| c.unique_by_construction)
            .collect::<Vec<_>>()
    };
    assert_eq!(unique(own(1)), [true, true]);
    assert_eq!(
        unique(spoilt),
        [false, true],
        "one shard's sequence starts at 1"
    );
}

#[test]
fn hazards_are_named() {
    let trigger = |function: &str| Trigger {
        name: "t".into(),
        function: name(function),
        timing: "BEFORE",
        events: vec![TriggerEvent::Insert],
        calls: Vec::new(),
        definition: String::new(),
    };
    let hazards = |change: &dyn Fn(&mut Relation)| {
        let mut users = relation("users", vec![column("id", 20, "bigint")]);
        change(&mut users);
        built(vec![(
            0,
            schema(vec![
                users,
                relation("countries", vec![column("code", 25, "text")]),
            ]),
        )])
    };
    let of =
        |change: &dyn Fn(&mut Relation)| hazards(change).tables[&name("users")].hazards.clone();
    let rule = || Rule {
        name: "r".into(),
        event: '3',
    };
    assert!(of(&|_| ()).is_empty());
    assert!(of(&|users| users.triggers.push(trigger("declared"))).is_empty());
    assert!(of(&|users| users.triggers.push(trigger("other")))[0].contains("function other"));
    assert!(of(&|users| users.rules.push(rule()))[0].contains("rule"));
    assert!(of(&|users| users.columns[0] = column("id", 1700, "numeric"))[0].contains("numeric"));
    assert!(of(&|users| users.columns[0].deterministic = false)[0].contains("equality"));
    let cascade = ConstraintKind::Foreign {
        table: name("countries"),
        columns: vec!["code".into()],
        on_update: 'c',
        on_delete: 'a',
    };
    let database = hazards(&|users| users.constraints.push(constraint(cascade.clone(), &["id"])));
    assert!(database.tables[&name("users")].hazards[0].contains("ON UPDATE"));
    assert!(
        database.tables[&name("countries")].hazards[0].contains("of users"),
        "the other side too"
    );
}

/// Listed or found, in a keyspace of one shard or of two.
#[test]
fn every_table_says_what_it_reaches() {
    let referring = |table: &str, to: &str| {
        let mut relation = relation(table, Vec::new());
        let kind = ConstraintKind::Foreign {
            table: name(to),
            columns: vec!["id".into()],
            on_update: 'a',
            on_delete: 'c',
        };
        relation.constraints = vec![constraint(kind, &["other"])];
        relation
    };
    let main = || {
        let mut partition = relation("a_1", Vec::new());
        partition.parents = vec![name("users")];
        let users = relation("users", vec![column("id", 20, "bigint")]);
        schema(vec![users, partition, referring("countries", "a_1")])
    };
    let whole = schema(vec![
        relation("found", Vec::new()),
        referring("settings", "found"),
    ]);
    let app = built(vec![(0, main()), (1, main()), (2, whole)]);
    let families = |names: &[&str]| {
        Reach::Families(
            names
                .iter()
                .map(|text| Family::named(&name(text)))
                .collect(),
        )
    };
    for (table, family, reached) in [
        ("users", "a_1", &["countries"] as &[&str]),
        ("a_1", "a_1", &["countries"]),
        ("countries", "countries", &[]),
        ("found", "found", &["settings"]),
        ("settings", "settings", &[]),
    ] {
        let reach = &app.tables[&name(table)].reach;
        assert_eq!(reach.family, Family::named(&name(family)), "{table}");
        assert_eq!(
            (reach.never, &reach.delete),
            (None, &families(reached)),
            "{table}"
        );
        assert_eq!(reach.insert, families(&[]), "{table}");
    }
    // s1 was not asked: what it has is not known, and of its neighbour nothing is doubted.
    let app = built(vec![
        (0, main()),
        (2, schema(vec![relation("found", Vec::new())])),
    ]);
    for (table, never) in [
        ("users", Some(Never::Unseen)),
        ("settings", Some(Never::Unseen)),
        ("found", None),
    ] {
        assert_eq!(app.tables[&name(table)].reach.never, never, "{table}");
    }
    let nothing_asked = built(Vec::new());
    let reach = &nothing_asked.tables[&name("users")].reach;
    assert_eq!(*reach, TableReach::unseen(&name("users")));
}

/// What no shard can check alone, of a table and of its partitions, but for what is trusted.
#[test]
fn shared_constraints_are_known_with_the_default_that_holds_them() {
    let token = || ColumnFacts {
        default: Some("gen_random_uuid()".into()),
        ..column("token", 2950, "uuid")
    };
    let columns = || {
        vec![
            column("id", 20, "bigint"),
            token(),
            column("email", 25, "text"),
        ]
    };
    let of = |kind: ConstraintKind, columns: &[&str], shown: &str| Constraint {
        name: columns.join("_"),
        definition: shown.into(),
        ..constraint(kind, columns)
    };
    let mut users = relation("users", columns());
    users.constraints = vec![
        of(ConstraintKind::Primary, &["id"], "PRIMARY KEY (id)"),
        of(
            ConstraintKind::Unique,
            &["id", "email"],
            "UNIQUE (id, email)",
        ),
        of(
            ConstraintKind::Unique,
            &["email", "token"],
            "UNIQUE (email, token)",
        ),
        of(ConstraintKind::Check, &["email"], "CHECK (true)"),
    ];
    let mut partition = relation("users_1", columns());
    partition.parents = vec![name("users")];
    partition.constraints = vec![of(ConstraintKind::UniqueIndex, &["email"], "CREATE …")];
    partition.triggers = vec![Trigger {
        name: "t".into(),
        function: name("other"),
        timing: "BEFORE",
        events: vec![TriggerEvent::Insert],
        calls: Vec::new(),
        definition: String::new(),
    }];
    let app = built(vec![(0, schema(vec![users.clone(), partition.clone()]))]);
    let table = &app.tables[&name("users")];
    let shared: Vec<_> = table
        .shared
        .iter()
        .map(|c| (c.name.as_str(), c.shown.as_str(), c.generated.as_deref()))
        .collect();
    assert_eq!(
        shared,
        [
            ("email_token", "UNIQUE (email, token)", Some("token")),
            ("email", "UNIQUE INDEX email", None),
        ]
    );
    assert!(
        table.hazards[0].contains("function other"),
        "a partition's trigger runs for rows written by way of its parent"
    );
    let trusting = TEXT.replace(
        "type = \"bigint\" }",
        "type = \"bigint\", trust = [\"email\", \"email_token\"] }",
    );
    let config = parse(&trusting, &Variables::new()).unwrap();
    let schemas = [(0, schema(vec![users, partition]))].into_iter().collect();
    let topology = build(&config, &Assignments::new(&config), &schemas).unwrap();
    assert_eq!(topology.databases["app"].tables[&name("users")].shared, []);
}

/// PostgreSQL would give such a column a value that came from elsewhere.
#[test]
fn foreign_keys_that_change_shared_columns_are_hazards() {
    let cascade = |on_update: char| ConstraintKind::Foreign {
        table: name("countries"),
        columns: vec!["code".into()],
        on_update,
        on_delete: 'a',
    };
    let hazards = |on_update: char, columns: &[&str]| {
        let mut users = relation(
            "users",
            vec![column("id", 20, "bigint"), column("country", 25, "text")],
        );
        users.constraints = vec![
            constraint(ConstraintKind::Unique, columns),
            constraint(cascade(on_update), &["country"]),
        ];
        let countries = relation("countries", vec![column("code", 25, "text")]);
        let app = built(vec![(0, schema(vec![users, countries]))]);
        ["users", "countries"].map(|table| app.tables[&name(table)].hazards.join(";"))
    };
    for hazard in hazards('c', &["country"]) {
        assert!(hazard.contains("among its own rows only"), "{hazard}");
    }
    assert_eq!(hazards('a', &["country"]), ["", ""]);
    assert_eq!(hazards('c', &["country", "id"]), ["", ""]);
}

#[test]
fn tables_found_on_shards_join_by_their_keyspaces_rules() {
    let mut partition = relation("users_1", vec![column("id", 20, "bigint")]);
    partition.parents = vec![name("users")];
    let mut view = relation("v", vec![]);
    (view.kind, view.view) = ('v', Some("SELECT 1".into()));
    let main = schema(vec![
        relation("users", vec![column("id", 20, "bigint")]),
        partition,
        view,
        relation("stray", vec![]),
    ]);
    let whole = schema(vec![
        relation("settings", vec![]),
        relation("unlisted", vec![]),
    ]);
    let app = built(vec![(0, main), (2, whole)]);
    let placement = |table: &str| {
        app.tables
            .get(&name(table))
            .map(|table| table.placement.clone())
    };
    let by_id = Placement::Sharded {
        key: vec![KeyColumn {
            name: "id".into(),
            family: Some(KeyFamily::Int),
        }],
    };
    assert_eq!(placement("users_1"), Some(by_id));
    assert_eq!(placement("v"), Some(Placement::Sharded { key: Vec::new() }));
    assert_eq!(placement("stray"), None);
    assert_eq!(placement("unlisted"), Some(Placement::Unsharded));
    assert!(app.schema_known);
}

#[test]
fn functions_keep_every_volatility_seen() {
    let routine = |volatility| Routine {
        name: name("f"),
        arguments: String::new(),
        volatility,
        kind: 'f',
        definition_md5: None,
    };
    let mut main = schema(vec![]);
    main.routines = vec![routine('i')];
    let mut whole = schema(vec![]);
    whole.routines = vec![routine('v'), routine('v')];
    let app = built(vec![(0, main), (2, whole)]);
    let seen: Vec<char> = app.functions[&name("f")]
        .iter()
        .map(|f| f.volatility)
        .collect();
    assert_eq!(seen, ['i', 'v']);
}

#[test]
fn constraints_beyond_one_shard() {
    let int = |name: &str| KeyColumn {
        name: name.into(),
        family: Some(KeyFamily::Int),
    };
    let placement = Placement::Sharded {
        key: vec![int("user_id")],
    };
    let place = |table: &TableName| match table.name.as_str() {
        "countries" => Some(Placement::Reference),
        "users" => Some(Placement::Sharded {
            key: vec![int("id")],
        }),
        "texts" => Some(Placement::Sharded {
            key: vec![KeyColumn {
                name: "id".into(),
                family: Some(KeyFamily::Text),
            }],
        }),
        _ => None,
    };
    let foreign = |table: &str, column: &str| ConstraintKind::Foreign {
        table: name(table),
        columns: vec![column.into()],
        on_update: 'a',
        on_delete: 'a',
    };
    let check = |kind: ConstraintKind, columns: &[&str], trust: &[&str], fine: bool| {
        let trust: Vec<String> = trust.iter().map(|t| (*t).to_owned()).collect();
        let found = constraint_beyond_one_shard(
            &placement,
            &constraint(kind.clone(), columns),
            &trust,
            |c| c == "serial",
            place,
        );
        assert_eq!(found.is_none(), fine, "{kind:?} {columns:?}: {found:?}");
    };
    check(ConstraintKind::Primary, &["id"], &[], false);
    check(ConstraintKind::Primary, &["serial"], &[], true);
    check(ConstraintKind::Primary, &["id", "user_id"], &[], true);
    check(ConstraintKind::Unique, &["email"], &["email"], true);
    check(ConstraintKind::Unique, &["email"], &["c"], true);
    check(ConstraintKind::UniqueIndex, &["email"], &["other"], false);
    check(ConstraintKind::Check, &["email"], &[], true);
    check(foreign("countries", "code"), &["country"], &[], true);
    check(foreign("users", "id"), &["user_id"], &[], true);
    check(foreign("users", "id"), &["author_id"], &[], false);
    check(foreign("texts", "id"), &["user_id"], &[], false);
    check(foreign("elsewhere", "id"), &["user_id"], &[], false);
    let exclusion = |definition: &str| {
        let mut constraint = constraint(ConstraintKind::Exclusion, &["user_id", "during"]);
        constraint.definition = definition.into();
        constraint_beyond_one_shard(&placement, &constraint, &[], |_| false, place).is_none()
    };
    assert!(exclusion(
        "EXCLUDE USING gist (user_id WITH =, during WITH &&)"
    ));
    assert!(!exclusion(
        "EXCLUDE USING gist (user_id WITH <>, during WITH &&)"
    ));
}

/// What is required of a shard, and what its own history says.
#[test]
fn a_shard_without_what_is_required_is_behind() {
    let config = config();
    let had = |versions: &[(&str, &str)]| -> Vec<(String, String)> {
        let own = versions
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        own.collect()
    };
    let of = |required: &[(&str, &str, Option<&[&str]>)], known: &[(u16, &[(&str, &str)])]| {
        let mut assignments = Assignments::new(&config);
        assignments.required = required
            .iter()
            .map(|(keyspace, version, shards)| super::behind::Required {
                keyspace: (*keyspace).to_owned(),
                version: (*version).to_owned(),
                shards: shards.map(|names| names.iter().map(|&name| name.to_owned()).collect()),
            })
            .collect();
        assignments.histories = known
            .iter()
            .map(|(id, versions)| (*id, had(versions)))
            .collect();
        let topology = build(&config, &assignments, &Schemas::new()).unwrap();
        let mut found: Vec<(String, String)> = topology
            .behind
            .iter()
            .map(|(id, what)| {
                (
                    topology.shards[usize::from(id.0)].name.clone(),
                    what.clone(),
                )
            })
            .collect();
        found.sort();
        let words = |(shard, what): &(String, String)| {
            let about = if what.contains("not known") {
                "?"
            } else {
                what.split(' ').nth(3).unwrap()
            };
            format!("{shard} {about}")
        };
        found.iter().map(words).collect::<Vec<_>>().join(", ")
    };
    let (one, two) = (("main", "1"), ("main", "2"));
    assert_eq!(of(&[], &[]), "", "nothing is required");
    let all = [("main", "1", None)];
    assert_eq!(of(&all, &[(0, &[one]), (1, &[two, one]), (2, &[])]), "");
    assert_eq!(of(&all, &[(0, &[one]), (1, &[two]), (2, &[])]), "s1 1");
    // Another keyspace's version of that name is another version.
    assert_eq!(of(&all, &[(0, &[one]), (1, &[("whole", "1")])]), "s1 1");
    // Whose history nobody has ever read may lack anything; who owes nothing is not asked.
    assert_eq!(of(&all, &[(0, &[one])]), "s1 ?");
    let some: &[&str] = &["s1"];
    let only = [("main", "1", None), ("main", "2", Some(some))];
    assert_eq!(of(&only, &[(0, &[one]), (1, &[one])]), "s1 2");
    assert_eq!(of(&only, &[(0, &[one]), (1, &[one, two])]), "");
    assert_eq!(of(&[("gone", "1", None)], &[]), "", "a keyspace that was");
}
