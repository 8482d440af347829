//! Routes in words: `check("SELECT …", &[], "single s1")`.
//!
//! The fixture has three horizontal shards with users (id), posts, orders, follows and timelines (user_id), a table
//! with a key of two columns, a text and a uuid key, a reference table, and two vertical keyspaces on shards of their own.

mod choices;
mod made;
mod oracle;
mod reserved;
mod rivals;
mod schema;
mod selected;
mod soundness;
mod stress;
mod temporary;
mod unique;

use crate::route::choose::context::Context;
use crate::route::choose::hint::{RouteHint, hinted};
use crate::route::choose::{recipe, unparsed};
use crate::route::error::RouteError;
use crate::route::explain::kind_name;
use crate::route::key::{Param, Params, Values};
use crate::route::plan::{Plan, ShardSet};
use crate::route::recipe::Recipe;
use crate::statement::parse::parse;
use crate::statement::scan::{ScanSettings, Scanned, scan, shape};
use crate::topology::reach::{Family, Reach, TableReach};
use crate::topology::{
    BUCKETS, Column, Database, Dsn, Function, FunctionDeclaration, KeyColumn, KeyFamily, KeyHash,
    Keyspace, KeyspaceId, KeyspaceKind, Placement, ServerTls, Shard, ShardId, SharedConstraint,
    Table, TableName, Topology,
};
use crate::wire::error::ClientError;
use std::collections::HashMap;
use std::sync::Arc;

/// A parameter of a test: text format with no declared type, or a type and binary bytes.
#[derive(Debug, Clone)]
enum Given {
    Text(&'static str),
    Typed(u32, &'static str),
    Binary(u32, Vec<u8>),
    Null,
}

impl Params for Vec<Given> {
    fn get(&self, number: u16) -> Option<Param<'_>> {
        Some(match self.as_slice().get(usize::from(number) - 1)? {
            Given::Text(text) => Param {
                oid: 0,
                binary: false,
                bytes: Some(text.as_bytes()),
            },
            Given::Typed(oid, text) => Param {
                oid: *oid,
                binary: false,
                bytes: Some(text.as_bytes()),
            },
            Given::Binary(oid, bytes) => Param {
                oid: *oid,
                binary: true,
                bytes: Some(bytes),
            },
            Given::Null => Param {
                oid: 0,
                binary: false,
                bytes: None,
            },
        })
    }
}

fn dsn(port: u16) -> Dsn {
    Dsn {
        host: "h".into(),
        port,
        database: "app".into(),
        user: "u".into(),
        password: None,
        tls: ServerTls::Disable,
    }
}

/// A column by its type's name.
fn column(name: &str, type_name: &str) -> Column {
    let oid = match type_name.split('(').next().unwrap() {
        "bigint" => 20,
        "integer" => 23,
        "smallint" => 21,
        "text" => 25,
        "character varying" => 1043,
        "uuid" => 2950,
        "boolean" => 16,
        "date" => 1082,
        "timestamp with time zone" => 1184,
        "timestamp" => 1114,
        "numeric" => 1700,
        "double precision" => 701,
        "jsonb" => 3802,
        other => panic!("{other} is not in the fixture"),
    };
    Column {
        name: name.into(),
        type_oid: oid,
        base_oid: oid,
        type_name: type_name.into(),
        stored_as: type_name.into(),
        not_null: false,
        default: None,
        generated: None,
        unique_by_construction: false,
        collation_is_c: true,
        deterministic: true,
    }
}

fn table(name: &str, keyspace: u16, placement: Placement, columns: &[(&str, &str)]) -> Table {
    let name = TableName {
        schema: "public".into(),
        name: name.into(),
    };
    let alone = || Reach::Families(Vec::new());
    Table {
        reach: TableReach {
            family: Family::named(&name),
            never: None,
            read: alone(),
            insert: alone(),
            update: alone(),
            delete: alone(),
        },
        name,
        keyspace: KeyspaceId(keyspace),
        placement,
        columns: columns
            .iter()
            .map(|(name, data_type)| column(name, data_type))
            .collect(),
        kind: 'r',
        trust: Vec::new(),
        hazards: Vec::new(),
        view: None,
        policy_hazards: Vec::new(),
        shared: Vec::new(),
    }
}

fn shared(name: &str, shown: &str, columns: &[&str], generated: Option<&str>) -> SharedConstraint {
    SharedConstraint {
        name: name.into(),
        shown: shown.into(),
        columns: columns.iter().map(|column| (*column).into()).collect(),
        expressions: false,
        generated: generated.map(Into::into),
    }
}

fn by(keys: &[(&str, KeyFamily)]) -> Placement {
    let key = keys
        .iter()
        .map(|(name, family)| KeyColumn {
            name: (*name).into(),
            family: Some(*family),
        })
        .collect();
    Placement::Sharded { key }
}

fn function(
    name: &str,
    volatility: char,
    kind: char,
    declared: Option<FunctionDeclaration>,
) -> Function {
    Function {
        name: TableName {
            schema: "public".into(),
            name: name.into(),
        },
        volatility,
        kind,
        declared,
    }
}

/// The fixture.
fn topology() -> Arc<Topology> {
    use KeyFamily::{Int, Text, Uuid};
    let shards = ["s0", "s1", "s2", "activity", "settings"]
        .iter()
        .zip(0u16..)
        .map(|(name, id)| {
            Arc::new(Shard {
                name: (*name).into(),
                stable_id: id,
                primary: dsn(5400 + id),
                replicas: Vec::new(),
            })
        });
    // Bucket b lives on shard b mod 3.
    let map: Vec<ShardId> = (0..BUCKETS)
        .map(|bucket| ShardId(u16::try_from(bucket % 3).unwrap()))
        .collect();
    let keyspaces = vec![
        Arc::new(Keyspace {
            name: "main".into(),
            shards: vec![ShardId(0), ShardId(1), ShardId(2)],
            kind: KeyspaceKind::Sharded {
                hash: KeyHash::Xxh3,
                map: map.into(),
            },
        }),
        Arc::new(Keyspace {
            name: "activity".into(),
            shards: vec![ShardId(3)],
            kind: KeyspaceKind::Unsharded,
        }),
        Arc::new(Keyspace {
            name: "settings".into(),
            shards: vec![ShardId(4)],
            kind: KeyspaceKind::Unsharded,
        }),
    ];
    let user_id = || by(&[("user_id", Int)]);
    let mut users = table(
        "users",
        0,
        by(&[("id", Int)]),
        &[
            ("id", "bigint"),
            ("name", "text"),
            ("email", "text"),
            ("country", "text"),
            ("age", "integer"),
            ("flag", "boolean"),
        ],
    );
    users.columns[0].not_null = true;
    let mut posts = table(
        "posts",
        0,
        user_id(),
        &[
            ("id", "bigint"),
            ("user_id", "bigint"),
            ("body", "text"),
            ("score", "numeric"),
            ("rank", "double precision"),
        ],
    );
    posts.columns[0].unique_by_construction = true;
    // What DEFAULT makes unique over all shards, and what nothing does.
    let mut tickets = table(
        "tickets",
        0,
        user_id(),
        &[
            ("id", "bigint"),
            ("user_id", "bigint"),
            ("uid", "uuid"),
            ("note", "text"),
        ],
    );
    tickets.columns[0].generated = Some('d');
    tickets.columns[0].unique_by_construction = true;
    tickets.columns[2].default = Some("gen_random_uuid()".into());
    tickets.columns[2].unique_by_construction = true;
    tickets.shared = vec![
        shared("tickets_pkey", "PRIMARY KEY (id)", &["id"], Some("id")),
        shared("tickets_uid_key", "UNIQUE (uid)", &["uid"], Some("uid")),
    ];
    let mut accounts = table(
        "accounts",
        0,
        user_id(),
        &[("user_id", "bigint"), ("email", "text"), ("x", "integer")],
    );
    accounts.shared = vec![shared(
        "accounts_email_key",
        "UNIQUE (email)",
        &["email"],
        None,
    )];
    let mut guarded = table(
        "guarded",
        0,
        user_id(),
        &[("user_id", "bigint"), ("x", "text")],
    );
    guarded.hazards = vec!["trigger t assigns user_id".into()];
    let mut veiled = table(
        "veiled",
        0,
        user_id(),
        &[("user_id", "bigint"), ("x", "text")],
    );
    veiled.policy_hazards = vec!["policy p reads posts".into()];
    let mut defaults = table(
        "defaults",
        0,
        by(&[("k", Text)]),
        &[("k", "text"), ("x", "integer")],
    );
    defaults.columns[0].default = Some("'none'::text".into());
    let mut uuids = table(
        "uuids",
        0,
        by(&[("id", Uuid)]),
        &[("id", "uuid"), ("x", "integer")],
    );
    uuids.columns[0].default = Some("gen_random_uuid()".into());
    let mut view = table(
        "active_users",
        0,
        by(&[("id", Int)]),
        &[("id", "bigint"), ("name", "text")],
    );
    view.kind = 'v';
    view.view = Some(" SELECT users.id, users.name FROM users WHERE users.flag;".into());
    let mut counts = table(
        "post_counts",
        0,
        user_id(),
        &[("user_id", "bigint"), ("n", "bigint")],
    );
    counts.kind = 'v';
    counts.view =
        Some("SELECT posts.user_id, count(*) AS n FROM posts GROUP BY posts.user_id".into());
    let mut tags = table(
        "tags",
        0,
        Placement::Reference,
        &[("tag", "text"), ("x", "integer")],
    );
    tags.columns[0].collation_is_c = false;
    tags.columns[0].deterministic = false;
    // A domain over varchar(3).
    let mut labelled = table(
        "labelled",
        0,
        by(&[("code", Text)]),
        &[("code", "character varying(3)"), ("x", "integer")],
    );
    labelled.columns[0].type_oid = 20_001;
    labelled.columns[0].type_name = "label".into();
    let tables = vec![
        tags,
        users,
        posts,
        tickets,
        accounts,
        guarded,
        veiled,
        defaults,
        uuids,
        view,
        counts,
        table(
            "orders",
            0,
            user_id(),
            &[
                ("id", "bigint"),
                ("user_id", "bigint"),
                ("total", "numeric"),
                ("placed", "timestamp with time zone"),
            ],
        ),
        table(
            "follows",
            0,
            by(&[("follower_id", Int)]),
            &[("follower_id", "bigint"), ("followee_id", "bigint")],
        ),
        table(
            "members",
            0,
            by(&[("tenant", Int), ("code", Text)]),
            &[("tenant", "integer"), ("code", "text"), ("x", "integer")],
        ),
        table(
            "badges",
            0,
            by(&[("code", Text)]),
            &[("code", "character varying(5)"), ("x", "integer")],
        ),
        table(
            "words",
            0,
            by(&[("w", Text)]),
            &[("w", "text"), ("x", "integer")],
        ),
        table(
            "labels",
            0,
            by(&[("code", Text)]),
            &[("code", "character varying(5)"), ("x", "integer")],
        ),
        labelled,
        table(
            "seconds",
            0,
            by(&[("at", KeyFamily::Timestamp)]),
            &[("at", "timestamp(0)"), ("x", "integer")],
        ),
        table(
            "stamps",
            0,
            by(&[("at", KeyFamily::Timestamp)]),
            &[("at", "timestamp"), ("x", "integer")],
        ),
        table(
            "events",
            0,
            by(&[("day", KeyFamily::Date)]),
            &[("day", "date"), ("x", "integer")],
        ),
        // The nearest rival's live table (sharding.md §2): t(id, k, g, x, s) sharded by k.
        table(
            "t",
            0,
            by(&[("k", Int)]),
            &[
                ("id", "bigint"),
                ("k", "bigint"),
                ("g", "integer"),
                ("x", "integer"),
                ("s", "text"),
            ],
        ),
        table(
            "countries",
            0,
            Placement::Reference,
            &[("code", "text"), ("name", "text"), ("id", "bigint")],
        ),
        table(
            "r",
            0,
            Placement::Reference,
            &[("k", "bigint"), ("x", "integer")],
        ),
        table(
            "user_activities",
            1,
            Placement::Unsharded,
            &[("id", "bigint"), ("user_id", "bigint")],
        ),
        table(
            "visits",
            1,
            Placement::Unsharded,
            &[("id", "bigint"), ("user_id", "bigint")],
        ),
        table(
            "settings",
            2,
            Placement::Unsharded,
            &[("user_id", "bigint"), ("value", "jsonb")],
        ),
        Table {
            name: TableName {
                schema: "audit".into(),
                name: "users".into(),
            },
            ..table("users", 1, Placement::Unsharded, &[("id", "bigint")])
        },
    ];
    let touches = FunctionDeclaration::Touches {
        reads: vec![TableName {
            schema: "public".into(),
            name: "countries".into(),
        }],
        writes: Vec::new(),
    };
    let functions = [
        function("twice", 'i', 'f', None),
        function("peek", 's', 'f', None),
        function("poke", 'v', 'f', None),
        function("stamp", 'v', 'f', Some(FunctionDeclaration::PerShard)),
        function("country_name", 's', 'f', Some(touches)),
        function("first_of", 'i', 'a', None),
    ];
    let mut by_name: HashMap<TableName, Vec<Arc<Function>>> = HashMap::new();
    for function in functions {
        by_name
            .entry(function.name.clone())
            .or_default()
            .push(Arc::new(function));
    }
    let database = Database {
        name: "app".into(),
        keyspaces: vec![KeyspaceId(0), KeyspaceId(1), KeyspaceId(2)],
        default: Some(KeyspaceId(0)),
        home: Some(ShardId(0)),
        tables: tables
            .into_iter()
            .map(|table| (table.name.clone(), Arc::new(table)))
            .collect(),
        attached: Default::default(),
        implied: Default::default(),
        functions: by_name,
        schema_known: true,
        event_triggers: false,
        oid_maps: Default::default(),
        collation_is_c: true,
        refused: HashMap::from([(
            TableName {
                schema: "public".into(),
                name: "torn".into(),
            },
            "a schema change committed on s0 only".to_owned(),
        )]),
    };
    Arc::new(Topology {
        families: Vec::new(),
        digest: 0,
        flushed: Default::default(),
        behind: HashMap::new(),
        epoch: 7,
        catalog_epoch: Default::default(),
        shards: shards.collect(),
        keyspaces,
        databases: HashMap::from([("app".to_owned(), Arc::new(database))]),
    })
}

/// One statement's way to a plan.
struct Case {
    topology: Arc<Topology>,
    search_path: Vec<String>,
}

impl Case {
    fn new() -> Self {
        Self {
            topology: topology(),
            search_path: vec!["public".into()],
        }
    }

    fn scanned(sql: &str) -> Scanned {
        let mut statements = scan(
            sql,
            ScanSettings {
                standard_conforming_strings: true,
            },
        )
        .unwrap();
        assert_eq!(statements.len(), 1, "{sql}");
        statements.remove(0)
    }

    fn recipe(&self, sql: &str, hint: Option<RouteHint<'_>>) -> Result<Recipe, RouteError> {
        let scanned = Self::scanned(sql);
        let shape = shape(sql, &scanned);
        let context = Context {
            topology: &self.topology,
            database: &self.topology.databases["app"],
            search_path: &self.search_path,
            verb: scanned.verb,
            shape: &shape,
        };
        match (parse(&shape, scanned.verb), hint) {
            (Ok(tree), None) => recipe(&tree, &context),
            (Ok(tree), Some(hint)) => hinted(Some(&tree), &context, hint),
            (Err(_), Some(hint)) => hinted(None, &context, hint),
            (Err(error), None) => unparsed(&error.reason, &context),
        }
    }

    fn plan(
        &self,
        sql: &str,
        params: &[Given],
        hint: Option<RouteHint<'_>>,
    ) -> Result<Plan, RouteError> {
        let recipe = self.recipe(sql, hint)?;
        let params = params.to_vec();
        let values = Values {
            text: sql,
            statement: &Self::scanned(sql),
            params: &params,
        };
        recipe.plan(&values, &self.topology)
    }

    fn names(&self, shards: &ShardSet) -> String {
        let names: Vec<&str> = shards
            .iter()
            .map(|shard| self.topology.shards[usize::from(shard.0)].name.as_str())
            .collect();
        names.join(",")
    }

    /// `single s1`, `scatter s0,s1,s2`, `refuse 0A000: …`
    fn words(&self, sql: &str, params: &[Given], hint: Option<RouteHint<'_>>) -> String {
        match self.plan(sql, params, hint) {
            Ok(plan) => format!("{} {}", kind_name(plan.kind), self.names(&plan.shards)),
            Err(error) => {
                let detail = error.detail().unwrap_or_default();
                format!("refuse {}: {error} ({detail})", error.sqlstate().code())
            }
        }
    }
}

/// Checks a statement's route. A refusal may be given by its beginning; `{k}` stands for the shard of integer key k and
/// `{'x'}` for that of text key x.
#[track_caller]
fn check(sql: &str, params: &[Given], expected: &str) {
    let case = Case::new();
    let expected = fill(expected);
    let found = case.words(sql, params, None);
    let same = if expected.starts_with("refuse") {
        found.starts_with(&expected)
    } else {
        found == expected
    };
    assert!(same, "{sql}\n  expected {expected}\n  found    {found}");
}

/// Checks many statements without parameters.
#[track_caller]
fn check_all(cases: &[(&str, &str)]) {
    let mut wrong = Vec::new();
    let case = Case::new();
    for (sql, expected) in cases {
        let expected = fill(expected);
        let found = case.words(sql, &[], None);
        let same = if expected.starts_with("refuse") {
            found.starts_with(&expected)
        } else {
            found == expected
        };
        if !same {
            wrong.push(format!("{sql}\n  expected {expected}\n  found    {found}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// The shard of an integer key.
fn shard_of(key: i64) -> usize {
    shard_of_bytes(KeyFamily::Int, &key.to_le_bytes())
}

fn shard_of_bytes(family: KeyFamily, bytes: &[u8]) -> usize {
    usize::from(crate::route::key::bucket(KeyHash::Xxh3, &[(family, Some(bytes))]).0) % 3
}

/// Replaces `{5}` and `{'x'}` by shard names; a list like `{1}{2}` becomes a sorted set.
fn fill(expected: &str) -> String {
    let Some(open) = expected.find('{') else {
        return expected.to_owned();
    };
    let (head, rest) = expected.split_at(open);
    let mut shards: Vec<usize> = rest
        .split(['{', '}'])
        .filter(|part| !part.is_empty())
        .map(|part| match part.strip_prefix('\'') {
            Some(text) => shard_of_bytes(KeyFamily::Text, text.trim_end_matches('\'').as_bytes()),
            None => shard_of(part.parse().unwrap()),
        })
        .collect();
    shards.sort_unstable();
    shards.dedup();
    let head = if shards.len() == 1 {
        head.replace("scatter", "single")
    } else {
        head.to_owned()
    };
    let names: Vec<String> = shards.iter().map(|shard| format!("s{shard}")).collect();
    format!("{head}{}", names.join(","))
}
