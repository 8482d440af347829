//! The oracle: the same SQL runs on one plain PostgreSQL that holds all the rows and through the router on several
//! shards. What the two send back is compared message by message, value by value, in the simple protocol and in the
//! extended protocol with text and with binary formats. A statement is answered alike, or refused with 0A000.
//!
//! The format of a case is described in `tests/oracle/README.md`.

mod random;
mod twice;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::harness::{Env, Setup, apply_types, create_database, direct_target, file, statements};
use crate::raw::{self, Client, Message, Target, Value};

/// Tables of the oracle's schema in the sharded keyspace.
const TABLES: &str = r#"
users = { key = "id" }
posts = { key = "user_id" }
follows = { key = "user_id" }
timelines = { key = "user_id" }
orders = { key = "user_id" }
order_items = { key = "user_id" }
t = { key = "k" }
kinds = { key = "k" }
words = { key = "w" }
codes = { key = "code" }
chars = { key = "c" }
tokens = { key = "token" }
days = { key = "day" }
stamps = { key = "at" }
moments = { key = "at" }
blobs = { key = "b" }
flags = { key = "ok" }
smalls = { key = "k" }
pairs = { key = ["a", "b"] }
maybes = { key = "k" }
defaults = { key = "k" }
events = { key = "user_id" }
ledger = { key = "k" }
'"Odd Table"' = { key = '"Key Col"' }
"other.t" = { key = "k" }
tickets = { key = "user_id" }
notes = { key = "user_id" }
ddl_a = { key = "k" }
countries = { reference = true }
currencies = { reference = true }
"#;

/// A way to run a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Simple,
    Extended,
    Binary,
}

impl Mode {
    const ALL: [Self; 3] = [Self::Simple, Self::Extended, Self::Binary];

    fn name(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Extended => "extended",
            Self::Binary => "binary",
        }
    }
}

/// What a case demands of the router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expectation {
    /// The oracle's answer; it may not be listed as refused.
    Equal,
    /// A refusal, for good.
    Refused,
    /// The oracle's answer, unless `refused.txt` lists it, and then a refusal.
    Listed,
}

/// A parameter: its type's OID and its value in text and, where the tests can encode it, in binary.
#[derive(Debug, Clone)]
struct Parameter {
    oid: u32,
    text: Option<String>,
    binary: Option<Vec<u8>>,
}

/// One message's worth of SQL, with the rows for COPY FROM STDIN.
#[derive(Debug, Clone)]
struct Step {
    sql: String,
    input: Option<String>,
}

#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a line of the case file, and none excludes another"
)]
#[derive(Debug, Clone)]
struct Case {
    name: String,
    expectation: Expectation,
    modes: Vec<Mode>,
    parameters: Vec<Parameter>,
    unordered: bool,
    autocommit: bool,
    status_only: bool,
    copy_fails: bool,
    /// The extended protocol's statement is not described by itself, as drivers leave it out that know its columns.
    undescribed: bool,
    error: Option<String>,
    cleanup: Vec<String>,
    steps: Vec<Step>,
}

impl Case {
    /// Between BEGIN and ROLLBACK, because it writes and does not say how it cleans up.
    fn is_wrapped(&self) -> bool {
        let first = self.steps[0].sql.to_lowercase();
        let own = [
            "begin",
            "start",
            "commit",
            "rollback",
            "savepoint",
            "declare",
            "discard",
            "end",
            "set ",
            "prepare",
            "listen",
            "create temp",
        ];
        if self.autocommit || own.iter().any(|verb| first.starts_with(verb)) || first.contains(';')
        {
            return false;
        }
        let writes = [
            "insert ",
            "update ",
            "delete ",
            "merge ",
            "truncate ",
            "alter ",
            "create ",
            "drop ",
            "lock ",
            "touch(",
            "nextval",
            "copy ",
            "comment on",
        ];
        self.steps.iter().any(|step| {
            let sql = step.sql.to_lowercase();
            writes.iter().any(|verb| sql.contains(verb))
        })
    }

    /// May leave something in the session, so that it gets one of its own.
    fn needs_own_session(&self) -> bool {
        self.steps.len() > 1 || {
            let sql = self.steps[0].sql.to_lowercase();
            [
                "set ",
                "set_config",
                "setseed",
                "currval",
                "nextval",
                "prepare",
                "listen",
                "declare",
                "discard",
                "begin",
                "advisory",
                "temp ",
            ]
            .iter()
            .any(|word| sql.contains(word))
        }
    }
}

/// One side's answer to one step.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    lines: Vec<String>,
    error: Option<Message>,
}

impl Answer {
    fn sqlstate(&self) -> Option<String> {
        self.error.as_ref().map(Message::sqlstate)
    }
}

/// A server to ask, and its user-defined types.
struct Side {
    target: Target,
    types: HashMap<u32, (String, bool)>,
}

impl Side {
    fn new(target: Target, types_from: &Target) -> Self {
        let mut client = Client::connect(types_from);
        let types = client
            .rows("select oid, format_type(oid, null), typcategory from pg_type where oid >= 16384")
            .into_iter()
            .map(|row| {
                (
                    row[0].parse().expect("an OID"),
                    (row[1].clone(), row[2] == "A"),
                )
            })
            .collect();
        Self { target, types }
    }

    fn type_name(&self, oid: u32) -> String {
        self.types
            .get(&oid)
            .map_or_else(|| oid.to_string(), |(name, _)| name.clone())
    }
}

/// One test at a time: cases change tables and lock rows.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Two plain databases with the same rows, inserted in opposite orders.
struct Plain {
    oracle: Side,
    witness: Side,
}

fn plain() -> &'static Plain {
    static PLAIN: OnceLock<Plain> = OnceLock::new();
    PLAIN.get_or_init(|| {
        let (oracle, witness) = plain_databases();
        Plain { oracle, witness }
    })
}

/// The router with the same rows on its shards.
struct House {
    env: Env,
    keyway: Side,
    data_failures: Vec<String>,
}

fn house() -> &'static House {
    static HOUSE: OnceLock<House> = OnceLock::new();
    HOUSE.get_or_init(|| build_house("oracle", ""))
}

/// `more`: of its configuration.
fn build_house(name: &str, more: &str) -> House {
    let env = Setup {
        name,
        more,
        tables: TABLES,
        types: &file("oracle/types.sql"),
        schema: &file("oracle/schema.sql"),
        ..Setup::default()
    }
    .start();
    let mut data_failures = Vec::new();
    let mut client = env.client();
    let mut is_reference = false;
    for (sql, comments) in statements(&file("oracle/data.sql")) {
        for comment in &comments {
            match comment.as_str() {
                "-- reference" => is_reference = true,
                "-- rows" => is_reference = false,
                _ => {}
            }
        }
        // Reference rows go shard by shard, by hint, until the router writes to several shards at once.
        let texts = if is_reference {
            ["s0", "s1", "s2"]
                .map(|shard| format!("/* keyway: shard={shard} */ {sql}"))
                .to_vec()
        } else {
            vec![sql]
        };
        for text in texts {
            if let Some(error) = client.simple(&text).iter().find(|m| m.tag == b'E') {
                data_failures.push(format!("{text}\n    {error:?}"));
            }
        }
    }
    let keyway = Side::new(env.target.clone(), &direct_target(&format!("{name}_s0")));
    House {
        env,
        keyway,
        data_failures,
    }
}

fn plain_databases() -> (Side, Side) {
    let [oracle, witness] = ["oracle_plain", "oracle_witness"].map(|name| {
        create_database(name);
        apply_types(
            name,
            &file("oracle/types.sql"),
            if name == "oracle_plain" { 7 } else { 8 },
        );
        let mut client = Client::connect(&direct_target(name));
        client.run(&file("oracle/schema.sql"));
        let mut rows: Vec<String> = statements(&file("oracle/data.sql"))
            .into_iter()
            .map(|(sql, _)| sql)
            .collect();
        if name == "oracle_witness" {
            // Only the physical order changes: foreign keys are checked at the end.
            rows.reverse();
            client.run("set session_replication_role = replica");
        }
        client.run(&rows.join(";\n"));
        client.run("vacuum analyze");
        Side::new(direct_target(name), &direct_target(name))
    });
    (oracle, witness)
}

fn read_cases(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut default = Expectation::Listed;
    let mut lines = text.lines().peekable();
    let mut sql = String::new();
    while let Some(line) = lines.next() {
        let directive = line
            .strip_prefix("-- ")
            .and_then(|rest| rest.split_once(": ").or(Some((rest, ""))));
        match (sql.is_empty(), directive) {
            (true, Some(("all", value))) => default = expectation(value),
            (true, Some(("name", value))) => cases.push(Case {
                name: value.trim().to_owned(),
                expectation: default,
                modes: Mode::ALL.to_vec(),
                parameters: Vec::new(),
                unordered: false,
                autocommit: false,
                status_only: false,
                copy_fails: false,
                undescribed: false,
                error: None,
                cleanup: Vec::new(),
                steps: Vec::new(),
            }),
            (true, Some((name, value))) => {
                let Some(case) = cases.last_mut() else {
                    continue;
                };
                match name {
                    "expect" => case.expectation = expectation(value),
                    "unordered" => case.unordered = true,
                    "autocommit" => case.autocommit = true,
                    "compare" => case.status_only = value == "status",
                    "copy" => case.copy_fails = value == "fail",
                    "error" => case.error = Some(value.trim().to_owned()),
                    "cleanup" => case.cleanup.push(value.to_owned()),
                    "params" => case.parameters = parameters(value),
                    "modes" => {
                        case.modes = Mode::ALL
                            .into_iter()
                            .filter(|m| value.contains(m.name()))
                            .collect()
                    }
                    _ => panic!("case {}: what is {line:?}?", case.name),
                }
            }
            _ if sql.is_empty() && line.trim().is_empty() => {}
            _ => {
                if !sql.is_empty() {
                    sql.push('\n');
                }
                sql.push_str(line);
                if !line.trim_end().ends_with(';') {
                    continue;
                }
                let text = sql
                    .trim_end()
                    .strip_suffix(';')
                    .expect("it ends so")
                    .to_owned();
                sql.clear();
                let lower = text.to_lowercase();
                let input =
                    (lower.starts_with("copy ") && lower.contains("from stdin")).then(|| {
                        let rows: Vec<&str> =
                            lines.by_ref().take_while(|row| *row != "\\.").collect();
                        rows.iter().map(|row| format!("{row}\n")).collect()
                    });
                let case = cases.last_mut().expect("a case before its SQL");
                case.steps.push(Step { sql: text, input });
            }
        }
    }
    for case in &cases {
        assert!(
            !case.steps.is_empty(),
            "case {} has no statement",
            case.name
        );
    }
    cases
}

fn expectation(text: &str) -> Expectation {
    match text.trim() {
        "equal" => Expectation::Equal,
        "refused" => Expectation::Refused,
        "listed" => Expectation::Listed,
        other => panic!("expect: {other}?"),
    }
}

/// `[{"int8": 7}, "untyped", null]`; `bytes:TYPE` gives the value's bytes as they are.
fn parameters(text: &str) -> Vec<Parameter> {
    use serde_json::Value as Json;
    let Ok(Json::Array(list)) = serde_json::from_str(text) else {
        panic!("not a list of parameters: {text}")
    };
    let plain = |value: &Json| match value {
        Json::Null => None,
        Json::String(text) => Some(text.clone()),
        Json::Bool(true) => Some("t".to_owned()),
        Json::Bool(false) => Some("f".to_owned()),
        other => Some(other.to_string()),
    };
    list.iter()
        .map(|value| match value {
            Json::Object(typed) => {
                let (name, value) = typed.iter().next().expect("a type");
                encode(name, value, plain(value))
            }
            untyped => Parameter {
                oid: 0,
                text: plain(untyped),
                binary: None,
            },
        })
        .collect()
}

fn encode(name: &str, value: &serde_json::Value, plain: Option<String>) -> Parameter {
    let hex = |text: &str| -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| {
                u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16)
                    .expect("hexadecimal")
            })
            .collect()
    };
    if let Some(name) = name.strip_prefix("bytes:") {
        let bytes = hex(plain.as_deref().expect("bytes"));
        return Parameter {
            oid: oid(name),
            text: None,
            binary: Some(bytes),
        };
    }
    if let Some(element) = name.strip_suffix("[]") {
        let items: Vec<Parameter> = value
            .as_array()
            .expect("a list")
            .iter()
            .map(|item| match item {
                serde_json::Value::String(text) => encode(element, item, Some(text.clone())),
                serde_json::Value::Null => encode(element, item, None),
                number => encode(element, number, Some(number.to_string())),
            })
            .collect();
        let quote = |text: &Option<String>| {
            text.as_ref()
                .map_or("NULL".to_owned(), |t| format!("\"{t}\""))
        };
        let text = items
            .iter()
            .map(|item| quote(&item.text))
            .collect::<Vec<_>>()
            .join(",");
        let has_null = items.iter().any(|item| item.text.is_none());
        let mut bytes = Vec::new();
        let dimensions: i32 = i32::from(!items.is_empty());
        bytes.extend_from_slice(&dimensions.to_be_bytes());
        bytes.extend_from_slice(&i32::from(has_null).to_be_bytes());
        bytes.extend_from_slice(&oid(element).to_be_bytes());
        if dimensions == 1 {
            bytes.extend_from_slice(&(items.len() as i32).to_be_bytes());
            bytes.extend_from_slice(&1_i32.to_be_bytes());
        }
        for item in &items {
            match &item.binary {
                None => bytes.extend_from_slice(&(-1_i32).to_be_bytes()),
                Some(value) => {
                    bytes.extend_from_slice(&(value.len() as i32).to_be_bytes());
                    bytes.extend_from_slice(value);
                }
            }
        }
        return Parameter {
            oid: oid(name),
            text: Some(format!("{{{text}}}")),
            binary: Some(bytes),
        };
    }
    let Some(text) = plain else {
        return Parameter {
            oid: oid(name),
            text: None,
            binary: None,
        };
    };
    let number = || text.parse::<i64>().expect("an integer");
    // Days and microseconds since 2000-01-01; these few lines trust `chrono`-like arithmetic to nobody.
    let binary = match name {
        "bool" => Some(vec![u8::from(text == "t")]),
        "int2" => Some((number() as i16).to_be_bytes().to_vec()),
        "int4" => Some((number() as i32).to_be_bytes().to_vec()),
        "int8" => Some(number().to_be_bytes().to_vec()),
        "float4" => Some(
            text.parse::<f32>()
                .expect("a number")
                .to_be_bytes()
                .to_vec(),
        ),
        "float8" => Some(
            text.parse::<f64>()
                .expect("a number")
                .to_be_bytes()
                .to_vec(),
        ),
        "text" | "varchar" | "bpchar" => Some(text.clone().into_bytes()),
        "uuid" => Some(hex(&text)),
        "bytea" => Some(hex(&text)),
        "date" => Some(days_since_2000(&text).to_be_bytes().to_vec()),
        "timestamp" | "timestamptz" => Some(microseconds_since_2000(&text).to_be_bytes().to_vec()),
        _ => None,
    };
    let text = if name == "bytea" {
        format!("\\x{text}")
    } else {
        text
    };
    Parameter {
        oid: oid(name),
        text: Some(text),
        binary,
    }
}

/// `YYYY-MM-DD`, by the proleptic Gregorian calendar.
fn days_since_2000(date: &str) -> i32 {
    let part = |range: std::ops::Range<usize>| date[range].parse::<i32>().expect("a date's number");
    let (year, month, day) = (part(0..4), part(5..7), part(8..10));
    let shifted = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days =
        |(y, m): (i32, i32), d: i32| 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + d;
    days(shifted, day) - days((1999, 10), 1)
}

/// `YYYY-MM-DD HH:MM:SS[.f][+HH]`.
fn microseconds_since_2000(text: &str) -> i64 {
    let (time, zone) = match text[11..].find(['+', '-']) {
        Some(at) => (
            &text[11..11 + at],
            text[11 + at..].parse::<i64>().expect("a zone"),
        ),
        None => (&text[11..], 0),
    };
    let mut parts = time
        .split(':')
        .map(|part| part.parse::<f64>().expect("a time's number"));
    let mut next = || parts.next().expect("three parts");
    let seconds = next().mul_add(3600.0, next() * 60.0) + next();
    let micros = (seconds * 1e6).round() as i64;
    i64::from(days_since_2000(text)) * 86_400_000_000 + micros - zone * 3_600_000_000
}

fn oid(name: &str) -> u32 {
    match name {
        "bool" => 16,
        "bytea" => 17,
        "int8" => 20,
        "int2" => 21,
        "int4" => 23,
        "text" => 25,
        "float4" => 700,
        "float8" => 701,
        "bpchar" => 1042,
        "varchar" => 1043,
        "date" => 1082,
        "timestamp" => 1114,
        "timestamptz" => 1184,
        "numeric" => 1700,
        "uuid" => 2950,
        "int4[]" => 1007,
        "int8[]" => 1016,
        "text[]" => 1009,
        "uuid[]" => 2951,
        other => panic!("the OID of {other}?"),
    }
}

/// Sends one step and reads its whole answer.
fn run_step(
    client: &mut Client,
    case: &Case,
    step: &Step,
    mode: Mode,
) -> std::io::Result<Vec<Message>> {
    let input = |out: &mut Vec<u8>| {
        if let Some(rows) = &step.input {
            for row in rows.split_inclusive('\n') {
                out.extend(raw::message(b'd', row.as_bytes()));
            }
            if case.copy_fails {
                out.extend(raw::message(b'f', b"enough\0"));
            } else {
                out.extend(raw::message(b'c', &[]));
            }
        }
    };
    let mut bytes = Vec::new();
    if mode == Mode::Simple {
        // The rows follow at once: a server that does not want them must skip them.
        bytes.extend(raw::query(&step.sql));
        input(&mut bytes);
    } else {
        let uses_parameters = step.sql.contains('$') && !case.parameters.is_empty();
        let parameters: &[Parameter] = if uses_parameters {
            &case.parameters
        } else {
            &[]
        };
        let count = (1..=parameters.len())
            .rev()
            .find(|n| step.sql.contains(&format!("${n}")))
            .unwrap_or(0);
        let parameters = &parameters[..count];
        let oids: Vec<u32> = parameters.iter().map(|p| p.oid).collect();
        let values: Vec<Value> = parameters
            .iter()
            .map(
                |parameter| match (&parameter.binary, &parameter.text, mode) {
                    (Some(binary), _, Mode::Binary) => Value {
                        format: 1,
                        bytes: Some(binary.clone()),
                    },
                    (_, text, _) => Value {
                        format: 0,
                        bytes: text.as_ref().map(|t| t.clone().into_bytes()),
                    },
                },
            )
            .collect();
        bytes.extend(raw::parse("", &step.sql, &oids));
        if !case.undescribed {
            bytes.extend(raw::describe(b'S', ""));
        }
        bytes.extend(raw::bind("", "", &values, i16::from(mode == Mode::Binary)));
        bytes.extend(raw::describe(b'P', ""));
        bytes.extend(raw::execute("", 0));
        input(&mut bytes);
        bytes.extend(raw::sync());
    }
    client.send(&bytes)?;
    client.until_ready()
}

/// An answer as lines that two sides can be compared by.
fn transcript(side: &Side, case: &Case, messages: &[Message], status: u8) -> Answer {
    let mut lines: Vec<String> = Vec::new();
    let mut columns: Vec<raw::Column> = Vec::new();
    let mut copied: Vec<u8> = Vec::new();
    let mut rows: Vec<String> = Vec::new();
    let mut error = None;
    for message in messages {
        if !matches!(message.tag, b'D' | b'd') {
            if case.unordered {
                rows.sort();
            }
            lines.append(&mut rows);
        }
        match message.tag {
            b'T' => {
                columns = message.columns();
                let shown = columns.iter().map(|c| {
                    format!(
                        "{}:{}:{}:{}:{}",
                        c.name,
                        side.type_name(c.type_oid),
                        c.type_size,
                        c.typmod,
                        c.format
                    )
                });
                lines.push(format!(
                    "RowDescription {}",
                    shown.collect::<Vec<_>>().join(" ")
                ));
            }
            b't' => {
                let shown = message
                    .parameter_oids()
                    .into_iter()
                    .map(|oid| side.type_name(oid));
                lines.push(format!(
                    "ParameterDescription {}",
                    shown.collect::<Vec<_>>().join(" ")
                ));
            }
            b'D' => rows.push(row_line(side, &columns, message)),
            b'd' if case.unordered => rows.extend(copy_lines(&message.body)),
            b'd' => copied.extend_from_slice(&message.body),
            b'c' => {
                lines.push(format!("CopyData {}", copied.escape_ascii()));
                copied.clear();
                lines.push("CopyDone".to_owned());
            }
            b'C' => lines.push(format!("CommandComplete {}", message.text())),
            b'E' => {
                // How many rows came before an error is not promised, and neither is their description.
                while lines.last().is_some_and(|line| {
                    line.starts_with("DataRow")
                        || line.starts_with("RowDescription")
                        || line.starts_with("CopyData")
                }) {
                    lines.pop();
                }
                copied.clear();
                lines.push(format!(
                    "ErrorResponse {} {}",
                    message.field(b'S').unwrap_or_default(),
                    message.sqlstate()
                ));
                error = Some(message.clone());
            }
            b'N' => {
                let (severity, sqlstate) =
                    (message.field(b'S').unwrap_or_default(), message.sqlstate());
                if sqlstate != "01000" {
                    lines.push(format!("NoticeResponse {severity} {sqlstate}"));
                }
            }
            tag => lines.push(format!(
                "{} {}",
                char::from(tag),
                message.body.escape_ascii()
            )),
        }
    }
    lines.append(&mut rows);
    lines.push(format!("ReadyForQuery {}", char::from(status)));
    if case.status_only {
        lines = vec![error.as_ref().map_or("worked".to_owned(), |e: &Message| {
            format!("failed {}", e.sqlstate())
        })];
    }
    Answer { lines, error }
}

fn row_line(side: &Side, columns: &[raw::Column], message: &Message) -> String {
    let values = message.row().into_iter().enumerate().map(|(index, value)| {
        let Some(value) = value else {
            return "∅".to_owned();
        };
        let column = columns.get(index);
        let is_user_array = column.is_some_and(|c| {
            c.format == 1 && side.types.get(&c.type_oid).is_some_and(|(_, array)| *array)
        });
        if is_user_array && value.len() >= 12 {
            let element = u32::from_be_bytes(value[8..12].try_into().expect("four bytes"));
            return format!(
                "[{}|{}|{}]",
                value[..8].escape_ascii(),
                side.type_name(element),
                value[12..].escape_ascii()
            );
        }
        value.escape_ascii().to_string()
    });
    format!("DataRow {}", values.collect::<Vec<_>>().join(" | "))
}

/// CopyData for comparison without order: rows of text, or the parts of a binary message.
fn copy_lines(body: &[u8]) -> Vec<String> {
    const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
    match body.strip_prefix(SIGNATURE) {
        Some(rest) => vec![
            "CopyData header".to_owned(),
            format!("CopyData {}", rest.escape_ascii()),
        ],
        None => vec![format!("CopyData {}", body.escape_ascii())],
    }
}

/// What became of a case.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Equal,
    Refused,
    Different(String),
}

/// Two sessions, one on each side, kept between cases that leave nothing behind.
#[derive(Default)]
struct Sessions {
    one: Option<Client>,
    other: Option<Client>,
}

/// Runs a case on both sides. `one` is the one that may refuse.
fn compare(sessions: &mut Sessions, one: &Side, other: &Side, case: &Case, mode: Mode) -> Verdict {
    let own = case.needs_own_session();
    if own {
        *sessions = Sessions::default();
    }
    let first = sessions
        .one
        .get_or_insert_with(|| Client::connect(&one.target));
    let second = sessions
        .other
        .get_or_insert_with(|| Client::connect(&other.target));
    let verdict = compare_steps((first, one), (second, other), case, mode);
    let mut broken = own || matches!(verdict, Verdict::Different(_));
    for client in [first, second] {
        if !broken && client.status != b'I' {
            broken |= client
                .send(&raw::query("rollback"))
                .and_then(|()| client.until_ready())
                .is_err();
        }
        for sql in &case.cleanup {
            if client.status != b'I' {
                let _ = client
                    .send(&raw::query("rollback"))
                    .and_then(|()| client.until_ready());
            }
            let _ = client
                .send(&raw::query(sql))
                .and_then(|()| client.until_ready());
        }
    }
    if broken {
        for client in [sessions.one.take(), sessions.other.take()]
            .into_iter()
            .flatten()
        {
            client.bye();
        }
    }
    verdict
}

fn compare_steps(
    one: (&mut Client, &Side),
    other: (&mut Client, &Side),
    case: &Case,
    mode: Mode,
) -> Verdict {
    let (first, first_side) = one;
    let (second, second_side) = other;
    if case.is_wrapped() {
        for client in [&mut *first, &mut *second] {
            if let Err(error) = client
                .send(&raw::query("begin"))
                .and_then(|()| client.until_ready())
            {
                return Verdict::Different(format!("begin: {error}"));
            }
        }
    }
    let mut saw_error = false;
    for step in &case.steps {
        let answer = match run_step(first, case, step, mode) {
            Ok(messages) => transcript(first_side, case, &messages, first.status),
            Err(error) => {
                return Verdict::Different(format!(
                    "{}\n    the connection ends: {error}",
                    step.sql
                ));
            }
        };
        let error = answer.error.as_ref();
        let refused = error.is_some_and(|e| e.sqlstate() == "0A000")
            && case.error.as_deref() != Some("0A000");
        if refused {
            let error = error.expect("a refusal is an error");
            if error.field(b'D').is_none() || error.field(b'H').is_none() {
                return Verdict::Different(format!(
                    "{}\n    a refusal without DETAIL or HINT: {error:?}",
                    step.sql
                ));
            }
            return Verdict::Refused;
        }
        let expected = match run_step(second, case, step, mode) {
            Ok(messages) => transcript(second_side, case, &messages, second.status),
            Err(error) => panic!("the oracle's connection ends at {}: {error}", step.sql),
        };
        saw_error |= case.error.is_some() && expected.sqlstate() == case.error;
        if let Some(sqlstate) = expected.sqlstate() {
            let follows_from_it = saw_error && sqlstate == "25P02";
            if Some(&sqlstate) != case.error.as_ref() && !follows_from_it {
                return Verdict::Different(format!(
                    "{}\n    the oracle itself says {:?}",
                    step.sql, expected.error
                ));
            }
        }
        if answer.lines != expected.lines {
            return Verdict::Different(difference(&step.sql, &answer, &expected));
        }
    }
    match &case.error {
        Some(error) if !saw_error => {
            Verdict::Different(format!("the oracle gives no error {error}"))
        }
        _ => Verdict::Equal,
    }
}

fn difference(sql: &str, answer: &Answer, expected: &Answer) -> String {
    let at = answer
        .lines
        .iter()
        .zip(&expected.lines)
        .take_while(|(a, b)| a == b)
        .count();
    let shown = |lines: &[String]| {
        let line = lines.get(at).map_or("(nothing)", String::as_str);
        line.chars().take(400).collect::<String>()
    };
    let mut text = format!(
        "{sql}\n    line {at} of {}: keyway    {}\n    line {at} of {}: expected  {}",
        answer.lines.len(),
        shown(&answer.lines),
        expected.lines.len(),
        shown(&expected.lines)
    );
    if let Some(error) = &answer.error {
        text.push_str(&format!("\n    keyway's error: {error:?}"));
    }
    text
}

/// Names of cases, alone or with `@mode`, that are refused today.
fn refused_list() -> BTreeSet<String> {
    file("oracle/refused.txt")
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}

/// Runs a file's cases through the router and on the oracle.
fn check_file(name: &str) {
    let cases = read_cases(&file(&format!("oracle/cases/{name}.sql")));
    let refused = refused_list();
    let turn = turn();
    let (house, plain) = (house(), plain());
    let mut sessions = Sessions::default();
    let mut failures = Vec::new();
    for case in &cases {
        for &mode in &case.modes {
            if mode == Mode::Simple && !case.parameters.is_empty() {
                continue;
            }
            let verdict = compare(&mut sessions, &house.keyway, &plain.oracle, case, mode);
            let tag = format!("{}@{}", case.name, mode.name());
            let is_listed = refused.contains(&case.name) || refused.contains(&tag);
            let complaint = match (verdict, case.expectation) {
                (Verdict::Different(text), _) => Some(text),
                (Verdict::Equal, Expectation::Refused) => {
                    Some("must be refused, and is answered".to_owned())
                }
                (Verdict::Refused, Expectation::Equal) => {
                    Some("must be answered, and is refused".to_owned())
                }
                (Verdict::Refused, Expectation::Listed) if !is_listed => {
                    Some("is refused, and refused.txt does not list it".to_owned())
                }
                (Verdict::Equal, _) if is_listed => {
                    Some("is answered now: take it off refused.txt".to_owned())
                }
                _ => None,
            };
            if let Some(complaint) = complaint {
                failures.push(format!("{tag}: {complaint}"));
            }
        }
    }
    let logged = house.env.router.log();
    if logged.contains("panicked") {
        failures.push("the router's log speaks of a panic".to_owned());
    }
    drop(turn);
    assert!(
        failures.is_empty(),
        "{} of {} cases' runs differ:\n{}",
        failures.len(),
        cases.len() * 3,
        failures.join("\n")
    );
}

macro_rules! oracle_files {
    ($($file:ident),* $(,)?) => {
        /// Every file of cases; a file without its test fails [`every_file_has_its_test`].
        const FILES: &[&str] = &[$(stringify!($file)),*];
        $(#[test] fn $file() { check_file(stringify!($file)); })*
    };
}

oracle_files!(
    aggregates,
    copy,
    ddl,
    dml,
    errors,
    functions,
    joins,
    openings,
    ordering,
    partitions,
    queries,
    routing,
    session,
    transactions,
    traps,
    types,
    vertical,
);

#[test]
fn every_file_has_its_test() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/cases");
    let mut found: Vec<String> = std::fs::read_dir(directory)
        .expect("the cases' directory")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .trim_end_matches(".sql")
                .to_owned()
        })
        .collect();
    found.sort();
    assert_eq!(found, FILES);
}

/// The list of refusals names cases that exist, that may be refused, and each once.
#[test]
fn the_list_of_refusals_is_honest() {
    let all: Vec<Case> = FILES
        .iter()
        .flat_map(|name| read_cases(&file(&format!("oracle/cases/{name}.sql"))))
        .collect();
    let mut names = BTreeSet::new();
    for case in &all {
        assert!(names.insert(&case.name), "case {} exists twice", case.name);
    }
    assert!(all.len() >= 450, "{} cases", all.len());
    for listed in refused_list() {
        let name = listed.split('@').next().unwrap_or_default();
        let case = all.iter().find(|case| case.name == name);
        let case = case.unwrap_or_else(|| panic!("refused.txt names {listed}, which is no case"));
        assert!(
            case.expectation == Expectation::Listed,
            "refused.txt names {listed}, whose answer is not left to it"
        );
    }
}

#[test]
fn schema_applies_through_the_router() {
    let turn = turn();
    let house = house();
    drop(turn);
    let failures = house.env.schema_failures.join("\n");
    assert!(failures.is_empty(), "refused or failed:\n{failures}");
}

#[test]
fn rows_load_through_the_router() {
    // Kept while rows are counted: cases insert and delete some.
    let _turn = turn();
    let house = house();
    let failures = house.data_failures.join("\n");
    assert!(failures.is_empty(), "refused or failed:\n{failures}");
    // Every row is on exactly one shard, and a key's rows are all on one.
    for table in ["users", "t", "kinds", "words", "pairs", "maybes"] {
        let counts = ["s0", "s1", "s2"].map(|shard| {
            house
                .env
                .direct(shard)
                .one(&format!("select count(*) from {table}"))
                .parse::<i64>()
                .expect("a count")
        });
        let mut oracle = Client::connect(&plain().oracle.target);
        let whole: i64 = oracle
            .one(&format!("select count(*) from {table}"))
            .parse()
            .expect("a count");
        assert_eq!(counts.iter().sum::<i64>(), whole, "{table}: {counts:?}");
        assert!(
            counts.iter().filter(|n| **n > 0).count() > 1,
            "{table} is spread: {counts:?}"
        );
    }
}

/// The cases themselves: two plain PostgreSQL servers, whose rows were inserted in opposite orders, give the same
/// answers, and an error exactly where a case says so.
#[test]
fn cases_are_sound() {
    let turn = turn();
    let plain = plain();
    let mut sessions = Sessions::default();
    let mut failures = Vec::new();
    for name in FILES {
        for case in read_cases(&file(&format!("oracle/cases/{name}.sql"))) {
            for &mode in &case.modes {
                if mode == Mode::Simple && !case.parameters.is_empty() {
                    continue;
                }
                if let Verdict::Different(text) =
                    compare(&mut sessions, &plain.witness, &plain.oracle, &case, mode)
                {
                    failures.push(format!("{name}/{}@{}: {text}", case.name, mode.name()));
                }
            }
        }
    }
    drop(turn);
    assert!(
        failures.is_empty(),
        "{} cases are not sound:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn dates_are_counted_as_postgresql_counts_them() {
    assert_eq!(days_since_2000("2000-01-01"), 0);
    assert_eq!(days_since_2000("2000-03-01"), 60);
    assert_eq!(days_since_2000("1999-12-31"), -1);
    assert_eq!(days_since_2000("2024-01-30"), 8795);
    assert_eq!(
        microseconds_since_2000("2000-01-01 00:00:01.5+01"),
        1_500_000 - 3_600_000_000
    );
}
