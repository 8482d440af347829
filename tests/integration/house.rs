//! Keeps the house as it is described: the arrows between rooms, the examples in `config/`, the SQL in the README.

use std::fs;
use std::path::{Path, PathBuf};

use keyway::route::key::{self, ConstantType, KeyValue};
use keyway::topology::{KeyFamily, KeyHash};

/// Each room and the rooms its code may name. An arrow missing here is a promise.
const ROOMS: &[(&str, &[&str])] = &[
    ("wire", &["config", "metrics"]),
    ("statement", &["config", "metrics"]),
    ("config", &[]),
    ("metrics", &[]),
    ("topology", &["config"]),
    (
        "route",
        &["statement", "topology", "wire", "config", "metrics"],
    ),
    (
        "backend",
        &["cache", "topology", "wire", "config", "metrics"],
    ),
    (
        "cache",
        &[
            "statement",
            "route",
            "wire",
            "topology",
            "config",
            "metrics",
        ],
    ),
    (
        "execute",
        &[
            "route", "backend", "wire", "topology", "catalog", "config", "metrics",
        ],
    ),
    (
        "health",
        &["topology", "backend", "wire", "config", "metrics"],
    ),
    (
        "catalog",
        &["topology", "backend", "wire", "config", "metrics"],
    ),
    (
        "migrate",
        &[
            "topology",
            "catalog",
            "backend",
            "wire",
            "statement",
            "config",
            "metrics",
        ],
    ),
    (
        "partition",
        &[
            "topology",
            "catalog",
            "backend",
            "wire",
            "statement",
            "config",
            "metrics",
        ],
    ),
    (
        "rebalance",
        &[
            "topology", "catalog", "backend", "wire", "migrate", "config", "metrics",
        ],
    ),
    (
        "admin",
        &["topology", "backend", "cache", "wire", "config", "metrics"],
    ),
    (
        "session",
        &[
            "wire",
            "statement",
            "route",
            "cache",
            "backend",
            "execute",
            "topology",
            "catalog",
            "admin",
            "follow",
            "config",
            "metrics",
        ],
    ),
    (
        "follow",
        &["topology", "backend", "cache", "wire", "config", "metrics"],
    ),
];

/// Rooms that may name everything.
const ROOFS: &[&str] = &["demo", "cli"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn rooms_name_only_the_rooms_below_them() {
    let mut strays = Vec::new();
    for (room, may_name) in ROOMS {
        for_each_rust_file(&root().join("src").join(room), &mut |path, text| {
            // A room's tests may use a cluster of the demo's.
            if path.to_string_lossy().contains("tests") {
                return;
            }
            for named in rooms_named_in(text) {
                if named != *room && !may_name.contains(&named) {
                    strays.push(format!("{} names crate::{named}", path.display()));
                }
            }
        });
    }
    assert!(strays.is_empty(), "{}", strays.join("\n"));
}

/// What sqlparser reads or rejects is one module's business: the rest of the house has a tree of its own.
#[test]
fn one_module_names_sqlparser() {
    let module = root().join("src/statement/parse");
    let mut strays = Vec::new();
    for_each_rust_file(&root().join("src"), &mut |path, text| {
        let named = text.contains("sqlparser::") || text.contains("use sqlparser");
        if named && !path.starts_with(&module) {
            strays.push(path.display().to_string());
        }
    });
    assert!(strays.is_empty(), "sqlparser is named in {strays:?}");
}

#[test]
fn every_room_is_listed() {
    for entry in fs::read_dir(root().join("src")).expect("src") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        if path.is_dir() {
            let known =
                ROOMS.iter().any(|(room, _)| *room == name) || ROOFS.contains(&name.as_str());
            assert!(
                known,
                "src/{name} is a room that nobody has placed: add it to ROOMS with the arrows it may draw"
            );
        }
    }
}

fn for_each_rust_file(directory: &Path, look: &mut dyn FnMut(&Path, &str)) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            for_each_rust_file(&path, look);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            look(&path, &fs::read_to_string(&path).expect("a source file"));
        }
    }
}

/// What follows each `crate::`. A room is always named in full, so `use crate::{a, b}` yields "", which no room may
/// name.
fn rooms_named_in(text: &str) -> impl Iterator<Item = &str> {
    text.split("crate::").skip(1).map(|rest| {
        let end = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        &rest[..end]
    })
}

#[test]
fn every_configuration_in_config_loads() {
    let mut count = 0;
    for folder in [root().join("config"), root().join("config/examples")] {
        for entry in fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("read {}: {error}", folder.display()))
        {
            let path = entry.expect("an entry").path();
            if path
                .extension()
                .is_some_and(|extension| extension == "toml")
            {
                count += 1;
                let text = fs::read_to_string(&path).expect("an example");
                let table: Result<serde_json::Value, String> = parse_toml(&text);
                assert!(table.is_ok(), "{}: {table:?}", path.display());
            }
        }
    }
    assert!(count >= 3, "{count} examples");
}

/// By the same parser as the router, without its rules (those have tests beside them).
fn parse_toml(text: &str) -> Result<serde_json::Value, String> {
    config::Config::builder()
        .add_source(config::File::from_str(text, config::FileFormat::Toml))
        .build()
        .and_then(config::Config::try_deserialize)
        .map_err(|error| error.to_string())
}

/// The README's SQL blocks are statements that a client could send as they are.
#[test]
fn the_readme_shows_sql_that_is_whole() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap_or_default();
    for block in readme.split("```sql\n").skip(1) {
        let sql = block.split("```").next().unwrap_or_default();
        assert!(
            sql.trim_end().ends_with(';') || sql.trim().is_empty(),
            "an SQL block that does not end: {sql}"
        );
    }
}

/// docs/keys.md promises that anyone can compute a shard: its table is what the code computes.
/// Make must not take `$KEYWAY_URL` for a variable of its own.
#[test]
fn the_readmes_demo_is_given_its_command_as_it_is_written() {
    let readme = fs::read_to_string(root().join("README.md")).expect("a README");
    let line = readme
        .split('`')
        .find(|code| code.starts_with("make demo") && code.contains("KEYWAY_URL"))
        .expect("an example that runs a command");
    let said = std::process::Command::new("bash")
        .current_dir(root())
        .args(["-c", &line.replacen("make", "make -n", 1)])
        .output()
        .expect("make");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("--exec 'psql $KEYWAY_URL'"), "{line}: {said}");
}

#[test]
fn test_vectors_in_the_documents_are_right() {
    let page = fs::read_to_string(root().join("docs/keys.md")).expect("docs/keys.md");
    let rows = page
        .lines()
        .skip_while(|line| !line.starts_with("| type | value |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let mut seen = 0;
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [types, value, bytes, bucket] = cells[..] else {
            panic!("four cells: {row}");
        };
        let expected: u16 = bucket.parse().expect("a bucket");
        let (value, bytes) = (value.trim_matches('`'), unhex(bytes.trim_matches('`')));
        let found = match types.split([',', '(']).next() {
            Some("bigint") => {
                let (number, text) = value[1..value.len() - 1]
                    .split_once(", ")
                    .expect("two parts");
                let number = number.parse::<i64>().expect("a number").to_le_bytes();
                let text = (text != "NULL").then(|| text.trim_matches('\''));
                let mut whole = 8u32.to_le_bytes().to_vec();
                whole.extend(number);
                match text {
                    Some(text) => {
                        whole.extend(u32::try_from(text.len()).expect("short").to_le_bytes());
                        whole.extend(text.as_bytes());
                    }
                    None => whole.extend(u32::MAX.to_le_bytes()),
                }
                assert_eq!(whole, bytes, "{row}");
                let parts = [
                    (KeyFamily::Int, Some(&number[..])),
                    (KeyFamily::Text, text.map(str::as_bytes)),
                ];
                key::bucket(KeyHash::Xxh3, &parts)
            }
            first => {
                let family = match first {
                    Some("int2") => KeyFamily::Int,
                    Some("text") => KeyFamily::Text,
                    Some("char") => KeyFamily::Bpchar,
                    Some("uuid") => KeyFamily::Uuid,
                    Some("bool") => KeyFamily::Bool,
                    Some("date") => KeyFamily::Date,
                    Some("timestamp") => KeyFamily::Timestamp,
                    Some("timestamptz") => KeyFamily::TimestampTz,
                    Some("bytea") => KeyFamily::Bytea,
                    other => panic!("type {other:?}"),
                };
                let text = value.trim_matches('\'');
                let read = key::from_string(
                    text.as_bytes(),
                    family,
                    ConstantType::Context,
                    key::Use::Compare,
                );
                // A time zone's offset is PostgreSQL's to read; the bytes are all there is to it here.
                if let KeyValue::Bytes(read) = read {
                    assert_eq!(read.as_slice(), bytes, "{row}");
                } else {
                    assert_eq!(family, KeyFamily::TimestampTz, "{row}: {read:?}");
                }
                key::bucket(KeyHash::Xxh3, &[(family, Some(&bytes))])
            }
        };
        assert_eq!(found.0, expected, "{row}");
        seen += 1;
    }
    assert!(seen > 20, "only {seen} test vectors");
}

fn unhex(text: &str) -> Vec<u8> {
    if text == "(none)" {
        return Vec::new();
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex"))
        .collect()
}
