//! Bytes: what is given again is what was told first, for every type, protocol and format. And R27: two values of one MD5.

use md5::{Digest, Md5};

use crate::cache::numbers;
use crate::harness::{Env, SHARDS, Setup, direct_target};
use crate::raw::{Client, Message, Value, bind, describe, execute, parse, rows_of, sync};
use crate::traps::{among_others, env, own_row};

/// Two values of every type that a column can have and that takes one.
const VALUES: &[(&str, [&str; 2])] = &[
    ("aclitem", ["postgres=r/postgres", "=U/postgres"]),
    ("bit", ["1", "0"]),
    ("bool", ["t", "f"]),
    ("box", ["(1,2),(0,0)", "(1e10,2),(-3,0.1)"]),
    ("bpchar", ["a ", "ä€𝄞"]),
    ("bytea", ["\\x00ff4127", "\\x"]),
    ("char", ["x", ""]),
    ("cid", ["7", "4294967295"]),
    ("cidr", ["10.0.0.0/8", "2001:db8::/32"]),
    ("circle", ["<(1,2),3>", "<(0,0),0>"]),
    ("date", ["2024-02-29", "infinity"]),
    (
        "datemultirange",
        ["{[2024-01-01,2024-02-01),[2025-01-01,2025-02-01)}", "{}"],
    ),
    ("daterange", ["[2024-01-01,2024-02-01)", "(,)"]),
    ("float4", ["0.1", "NaN"]),
    ("float8", ["0.30000000000000004", "-Infinity"]),
    ("inet", ["10.0.0.1/8", "::1"]),
    ("int2", ["-32768", "32767"]),
    ("int2vector", ["1 2 3", ""]),
    ("int4", ["-2147483648", "0"]),
    ("int4multirange", ["{[1,2),[5,9)}", "{}"]),
    ("int4range", ["[1,10)", "empty"]),
    ("int8", ["-9223372036854775808", "1"]),
    ("int8multirange", ["{[1,2),[5,9)}", "{}"]),
    ("int8range", ["[1,10)", "(,5)"]),
    (
        "interval",
        ["1 year 2 mons 3 days 04:05:06.7", "-00:00:00.000001"],
    ),
    ("json", ["{\"a\" : [1, null,  \"x\"]}", "null"]),
    ("jsonb", ["{\"a\": [1, null, \"x\"]}", "\"ä\""]),
    ("jsonpath", ["$.a[*] ? (@ > 1)", "strict $"]),
    ("line", ["{1,2,3}", "{0,1,0}"]),
    ("lseg", ["[(0,0),(1,1)]", "[(1,2),(3,4)]"]),
    ("macaddr", ["08:00:2b:01:02:03", "00:00:00:00:00:00"]),
    (
        "macaddr8",
        ["08:00:2b:01:02:03:04:05", "ff:ff:ff:ff:ff:ff:ff:ff"],
    ),
    ("money", ["12.34", "-0.01"]),
    ("name", ["a_name", ""]),
    ("numeric", ["-12345678901234567890.000100", "NaN"]),
    ("nummultirange", ["{[1.5,2.5)}", "{}"]),
    ("numrange", ["[1.5,2.5)", "empty"]),
    ("oid", ["4294967295", "0"]),
    ("oidvector", ["1 2 3", ""]),
    ("path", ["[(0,0),(1,1)]", "((0,0),(1,1),(2,0))"]),
    ("pg_lsn", ["16/B374D848", "0/0"]),
    ("pg_snapshot", ["10:20:10,14,15", "1:1:"]),
    ("point", ["(1.5,-2)", "(1e300,NaN)"]),
    ("polygon", ["((0,0),(1,1),(2,0))", "((1,1))"]),
    ("refcursor", ["c", ""]),
    ("regclass", ["pg_class", "0"]),
    ("regcollation", ["\"C\"", "0"]),
    ("regconfig", ["english", "simple"]),
    ("regdictionary", ["simple", "english_stem"]),
    ("regnamespace", ["pg_catalog", "public"]),
    ("regoper", ["0", "0"]),
    ("regoperator", ["+(integer,integer)", "0"]),
    ("regproc", ["now", "0"]),
    ("regprocedure", ["now()", "0"]),
    ("regrole", ["postgres", "0"]),
    ("regtype", ["integer", "text"]),
    ("text", ["first", "ä€𝄞 'quoted' \\ \"x\" ∅"]),
    ("tid", ["(1,2)", "(0,1)"]),
    ("time", ["12:34:56.789", "24:00:00"]),
    ("timestamp", ["2024-02-29 12:34:56.789", "-infinity"]),
    ("timestamptz", ["2024-02-29 12:34:56.789+02", "infinity"]),
    (
        "tsmultirange",
        ["{[\"2024-01-01 00:00\",\"2024-02-01 00:00\")}", "{}"],
    ),
    ("tsquery", ["'fat' & ( 'rat' | !'cat' )", ""]),
    ("tsrange", ["[2024-01-01,2024-02-01)", "(,)"]),
    (
        "tstzmultirange",
        ["{[\"2024-01-01 00:00+00\",\"2024-02-01 00:00+00\")}", "{}"],
    ),
    ("tstzrange", ["[2024-01-01 00:00+00,infinity)", "empty"]),
    ("tsvector", ["'fat':2A,3 'rat':4", ""]),
    ("txid_snapshot", ["10:20:10,14,15", "1:1:"]),
    (
        "uuid",
        [
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "00000000-0000-0000-0000-000000000000",
        ],
    ),
    ("varbit", ["10101", ""]),
    ("varchar", ["first ", ""]),
    ("xid", ["7", "4294967295"]),
    ("xid8", ["7", "18446744073709551615"]),
    ("xml", ["<a b=\"c\">d</a>", "x"]),
    // Types of the database's own, which have another OID on every shard.
    ("mood", ["happy", "sad"]),
    ("pair", ["(1,\"a b\")", "(,)"]),
    ("small", ["5", "0"]),
    ("span", ["[1.5,2.5)", "empty"]),
];

/// Of those, types of the database's own.
const OWN: [&str; 4] = ["mood", "pair", "small", "span"];

/// Types that take no value, or whose columns are not kept.
const NO_VALUE: [&str; 8] = [
    "gtsvector",
    "pg_brin_bloom_summary",
    "pg_brin_minmax_multi_summary",
    "pg_dependencies",
    "pg_mcv_list",
    "pg_ndistinct",
    "pg_node_tree",
    "timetz",
];

const OWN_TYPES: &str = "
create type mood as enum ('sad', 'happy');
create type pair as (a int, b text);
create domain small as int check (value < 10);
create type span as range (subtype = float8);
";

fn types_env() -> Env {
    let columns: Vec<String> = VALUES
        .iter()
        .map(|(name, _)| format!("\"v_{name}\" {0}, \"a_{name}\" {0}[]", quoted(name)))
        .collect();
    let env = Setup {
        name: "fidelity",
        tables: "typed = { reference = true }\nzoned = { key = \"id\" }\n",
        types: OWN_TYPES,
        schema: &format!(
            "create table typed (id int primary key, {});\ncreate table zoned (id int primary key, v timetz);",
            columns.join(", ")
        ),
        more: "[cache]\nenabled = true\n",
        ..Setup::default()
    }
    .start();
    assert_eq!(env.schema_failures, Vec::<String>::new());
    for shard in &SHARDS[..3] {
        let mut direct = env.direct(shard);
        // Values; NULL; empty arrays; arrays with NULL among them; arrays of arrays.
        direct.run("insert into typed (id) values (1), (2), (3), (4), (5)");
        for (name, [one, two]) in VALUES {
            let typed = |text: &str| format!("'{}'::{}", text.replace('\'', "''"), quoted(name));
            let (one, two, array) = (typed(one), typed(two), quoted(name));
            for (id, value, array) in [
                (1, one.clone(), format!("array[{one}, {two}]")),
                (3, two.clone(), format!("array[]::{array}[]")),
                (4, one.clone(), format!("array[{one}, null, {two}, null]")),
                (
                    5,
                    two.clone(),
                    format!("array[[{one}, null], [{two}, {two}]]"),
                ),
            ] {
                direct.run(&format!("update typed set \"v_{name}\" = {value}, \"a_{name}\" = {array} where id = {id}"));
            }
        }
    }
    env
}

/// A type's name as SQL has it.
fn quoted(name: &str) -> String {
    match name {
        "bit" => "bit(1)".to_owned(),
        name => format!("\"{name}\""),
    }
}

/// How a question is asked: `None` is a Query, else the results' format and whether it describes.
type Shape = Option<(i16, bool)>;

fn ask(client: &mut Client, sql: &str, shape: Shape) -> Vec<Message> {
    let Some((format, described)) = shape else {
        return client.simple(&sql.replace("$1", "0"));
    };
    let mut messages = parse("", sql, &[23]);
    messages.extend(bind("", "", &[Value::text("0")], format));
    if described {
        messages.extend(describe(b'P', ""));
    }
    messages.extend(execute("", 0));
    messages.extend(sync());
    client.exchange(&messages)
}

/// What differs between two servers is left out.
fn without_oids(messages: &[Message]) -> Vec<String> {
    messages
        .iter()
        .map(|message| match message.tag {
            b'T' => {
                let columns = message.columns();
                let shown = columns
                    .iter()
                    .map(|c| (c.name.clone(), c.type_size, c.format));
                format!("T {:?}", shown.collect::<Vec<_>>())
            }
            b'E' => format!("E {}", message.sqlstate()),
            _ => format!("{message:?}"),
        })
        .collect()
}

#[test]
fn every_type_is_given_again_byte_for_byte() {
    let mut catalog = Client::connect(&direct_target("postgres"));
    let types = catalog.rows(
        "select typname from pg_type where typnamespace = 'pg_catalog'::regnamespace and typtype in ('b', 'r', 'm') and typname !~ '^_' and typinput <> 0 and typoutput <> 0",
    );
    assert!(types.len() > 70, "{types:?}");
    for row in &types {
        let has_values = VALUES.iter().any(|(name, _)| *name == row[0]);
        assert!(
            has_values || NO_VALUE.contains(&row[0].as_str()),
            "{} has no value here",
            row[0]
        );
    }
    let env = types_env();
    let (mut one, mut two) = (env.client(), env.client());
    let mut direct = env.direct("s0");
    let hits = || numbers(&env, "keyway_cache_hits_total")["{layer=\"memory\"}"];
    let shapes: [Shape; 5] = [
        None,
        // Without a description first: what has none cannot answer those who want one.
        Some((0, false)),
        Some((0, true)),
        Some((1, false)),
        Some((1, true)),
    ];
    let (mut wrong, mut not_kept) = (Vec::new(), Vec::new());
    for (name, _) in VALUES {
        let sql =
            format!("select id, \"v_{name}\", \"a_{name}\" from typed where id > $1 order by id");
        for shape in shapes {
            let expected = without_oids(&ask(&mut direct, &sql, shape));
            let miss = ask(&mut one, &sql, shape);
            let before = hits();
            let hit = ask(&mut two, &sql, shape);
            let is_error = miss.iter().any(|m| m.tag == b'E');
            // Which shard is asked decides whether the binary form of an own type is one that can be told.
            let refused = |said: &[Message]| {
                said.iter()
                    .any(|m| m.tag == b'E' && m.sqlstate() == "0A000")
            };
            if refused(&miss) || refused(&hit) {
                assert!(OWN.contains(name), "{name} {shape:?}: {miss:?}");
                continue;
            }
            // A type without a binary form fails alike every time.
            if hits() != before + u64::from(!is_error) {
                not_kept.push(format!("{name} {shape:?}"));
            }
            let alike = hit == miss || (is_error && without_oids(&hit) == without_oids(&miss));
            if !alike || (two.status, one.status) != (b'I', b'I') {
                wrong.push(format!("{name} {shape:?}: {hit:?}, first {miss:?}"));
            }
            let miss = without_oids(&miss);
            // An own composite's or enum's OID is in the binary form of its arrays.
            let has_oids = OWN.contains(name) && shape.is_some_and(|(format, _)| format == 1);
            if miss != expected && !has_oids {
                wrong.push(format!(
                    "{name} {shape:?}: {miss:?}, PostgreSQL says {expected:?}"
                ));
            }
            if !is_error {
                assert!(miss.len() >= 6, "{name}: {miss:?}");
            }
        }
        // The described answer answers those who want no description.
        for format in [0, 1] {
            let described = ask(&mut one, &sql, Some((format, true)));
            let blind = ask(&mut two, &sql, Some((format, false)));
            if described.iter().any(|m| m.tag == b'T') && described.len() == blind.len() + 1 {
                let rest: Vec<Message> = described.into_iter().filter(|m| m.tag != b'T').collect();
                if rest != blind {
                    wrong.push(format!("{name} {format}: blind"));
                }
            } else if described.iter().all(|m| m.tag != b'E') {
                wrong.push(format!("{name} {format}: {described:?}, blind {blind:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(not_kept, Vec::<String>::new());
    // A time of day with a zone takes the zone's offset of today: never kept.
    one.run("insert into zoned values (1, '12:00+00')");
    for _ in 0..3 {
        let before = hits();
        assert_eq!(one.one("select v from zoned where id = 1"), "12:00:00+00");
        assert_eq!(hits(), before);
    }
}

/// The pair of Wang, Feng, Lai and Yu (2004): the first block's bytes; the second differs from it by six bits.
const FIRST: &str = "d131dd02c5e6eec4693d9a0698aff95c2fcab58712467eab4004583eb8fb7f89\
    55ad340609f4b30283e488832571415a085125e8f7cdc99fd91dbdf280373c5b\
    d8823e3156348f5bae6dacd436c919c6dd53e2b487da03fd02396306d248cda0\
    e99f33420f577ee8ce54b67080a80d1ec69821bcb6a8839396f9652b6ff72a70";
const FLIPPED: [usize; 6] = [19, 45, 59, 83, 109, 123];

#[test]
fn r27_two_values_of_one_md5_have_two_answers() {
    let (env, _turn) = (env(), among_others());
    let one: Vec<u8> = (0..FIRST.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&FIRST[at..at + 2], 16).expect("hexadecimal"))
        .collect();
    let mut two = one.clone();
    for at in FLIPPED {
        two[at] ^= 0x80;
    }
    assert_ne!(one, two);
    assert_eq!(Md5::digest(&one), Md5::digest(&two), "they collide");
    let id = own_row(env, "things");
    let sql = "select encode($2::bytea, 'hex'), v from things where id = $1";
    let mut client = env.client();
    for _ in 0..3 {
        for value in [&one, &two] {
            let values = [
                Value::text(&id.to_string()),
                Value {
                    format: 1,
                    bytes: Some(value.clone()),
                },
            ];
            let mut messages = parse("", sql, &[23, 17]);
            messages.extend(bind("", "", &values, 0));
            messages.extend(execute("", 0));
            messages.extend(sync());
            let row = rows_of(&client.exchange(&messages)).concat();
            let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(row, [hex, "first".to_owned()]);
        }
    }
}
