use super::values::{KeyFamily, KeyHash, ServerTls, TableName};
use super::{AuthMethod, Config, Password, PoolMode, Problems, TablePlacement, Variables, parse};
use std::time::Duration;

const GOOD: &str = r#"
[users.app]
password = "secret"
[shards.s0]
primary = "postgres://app:pw@10.0.0.10/app"
[shards.s1]
primary = "postgres://app:pw@10.0.0.20:5433/app?sslmode=disable"
[databases.app]
keyspaces = ["main"]
[keyspaces.main]
shards = ["s0", "s1"]
[keyspaces.main.tables]
users = { key = "id" }
countries = { reference = true }
"#;

fn env(pairs: &[(&str, &str)]) -> Variables {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn good(text: &str, pairs: &[(&str, &str)]) -> Config {
    parse(text, &env(pairs)).unwrap_or_else(|problems| panic!("{problems}"))
}

/// What is wrong with [`GOOD`] after replacing `from` by `to`.
fn problems(from: &str, to: &str) -> String {
    assert!(
        GOOD.contains(from),
        "the good configuration has no {from:?}"
    );
    wrong(&GOOD.replace(from, to)).to_string()
}

fn wrong(text: &str) -> Problems {
    match parse(text, &env(&[])) {
        Err(problems) => problems,
        Ok(_) => panic!("accepted: {text}"),
    }
}

/// Exactly one problem, at `key`, that says `what`.
fn check(from: &str, to: &str, key: &str, what: &str) {
    let found = problems(from, to);
    assert_eq!(
        found.lines().count(),
        1,
        "one problem expected, found:\n{found}"
    );
    assert!(
        found.starts_with(&format!("{key}: ")),
        "expected at {key}, found: {found}"
    );
    assert!(found.contains(what), "expected {what:?} in: {found}");
}

#[test]
fn defaults_file_and_environment_are_layers() {
    let config = good(GOOD, &[]);
    assert_eq!(config.listen.to_string(), "127.0.0.1:6432");
    assert_eq!(config.pool.size, 20);
    assert_eq!(config.pool.lifetime, Some(Duration::from_secs(3600)));
    assert_eq!(config.pool.mode, PoolMode::Transaction);
    assert_eq!(config.limits.message_max, 256 << 20);
    assert_eq!(config.auth, AuthMethod::Scram);
    assert_eq!(config.workers, None);
    assert_eq!(config.keyspaces["main"].hash, Some(KeyHash::Xxh3));
    assert_eq!(config.databases["app"].default.as_deref(), Some("main"));
    assert_eq!(config.shards["s0"].primary.port, 5432);
    assert_eq!(config.shards["s0"].primary.tls, ServerTls::Prefer);
    assert_eq!(config.shards["s1"].primary.tls, ServerTls::Disable);

    let config = good(
        &format!("listen = \"localhost:1\"\n{GOOD}\n[pool]\nsize = 7\nlifetime = \"off\""),
        &[
            ("KEYWAY__POOL__SIZE", "9"),
            ("KEYWAY__HTTP", "off"),
            ("KEYWAY__USERS__APP__PASSWORD", "0123"),
            ("KEYWAY__KEYSPACES__MAIN__SHARDS", "s1, s0"),
            ("KEYWAY_URL", "is not a key"),
        ],
    );
    assert_eq!(config.listen.to_string(), "127.0.0.1:1");
    assert_eq!(config.pool.size, 9);
    assert_eq!(config.pool.lifetime, None);
    assert_eq!(config.http, None);
    assert_eq!(
        config.users["app"].password,
        Password::Plain(super::values::Secret::new("0123"))
    );
    assert_eq!(config.keyspaces["main"].shards, ["s1", "s0"]);
}

#[test]
fn all_problems_are_reported_together_with_their_paths() {
    let found = problems(
        "[users.app]\npassword = \"secret\"",
        "surprise = 1\n[pool]\nsize = 0\nmode = \"statement\"\nmaximum = 3\nidle_timeout = \"soon\"\n[users.app]\npasswort = \"secret\"",
    );
    for expected in [
        "pool.size: a whole number from 1 to 10000 is wanted here, not \"0\"",
        "pool.mode: one of transaction, session is wanted here, not \"statement\"",
        "pool.maximum: unknown key; known here: checkout_timeout, connect_timeout",
        "pool.idle_timeout: a time such as",
        "users.app.passwort: unknown key; known here: databases, password",
        "users.app.password: a password is wanted here",
        "surprise: unknown key",
    ] {
        assert!(
            found.contains(expected),
            "{expected:?} is missing in:\n{found}"
        );
    }
    assert_eq!(found.lines().count(), 7, "{found}");
}

#[test]
fn names_must_resolve() {
    check(
        "shards = [\"s0\", \"s1\"]",
        "shards = [\"s0\", \"s9\"]",
        "keyspaces.main.shards",
        "known: s0, s1",
    );
    check(
        "shards = [\"s0\", \"s1\"]",
        "shards = [\"s0\", \"s0\"]",
        "keyspaces.main.shards",
        "twice",
    );
    check(
        "keyspaces = [\"main\"]",
        "keyspaces = [\"mian\"]",
        "databases.app.keyspaces",
        "known: main",
    );
    check(
        "keyspaces = [\"main\"]",
        "keyspaces = [\"main\"]\ndefault = \"x\"",
        "databases.app.default",
        "main",
    );
    check(
        "password = \"secret\"",
        "password = \"secret\"\ndatabases = [\"x\"]",
        "users.app.databases",
        "known: app",
    );
    check(
        "[users.app]",
        "catalog = \"s7\"\n[users.app]",
        "catalog",
        "known: s0, s1",
    );
}

#[test]
fn keyspaces_are_sharded_or_whole() {
    check(
        "{ key = \"id\" }",
        "{}",
        "keyspaces.main.tables",
        "users needs key",
    );
    check(
        "reference = true",
        "reference = true, key = \"code\"",
        "keyspaces.main.tables.countries.reference",
        "no key",
    );
    check(
        "{ key = \"id\" }",
        "{ key = \"id\", type = \"numeric\" }",
        "keyspaces.main.tables.users.type",
        "bigint",
    );
    check(
        "{ key = \"id\" }",
        "{ key = [] }",
        "keyspaces.main.tables.users.key",
        "one to eight",
    );
    check(
        "[keyspaces.main.tables]",
        "hash = \"postgres\"\n[keyspaces.main.tables]",
        "keyspaces.main.modulus",
        "missing",
    );
    check(
        "[keyspaces.main.tables]",
        "hash = \"postgres\"\nmodulus = 1\n[keyspaces.main.tables]",
        "keyspaces.main.modulus",
        "less than the number of shards",
    );
    check(
        "[keyspaces.main.tables]",
        "modulus = 4\n[keyspaces.main.tables]",
        "keyspaces.main.modulus",
        "postgres",
    );
    let one = GOOD.replace("[\"s0\", \"s1\"]", "[\"s0\"]");
    assert!(
        good(&one, &[]).keyspaces["main"].hash.is_some(),
        "a key makes it sharded, on one shard too"
    );
    let whole = one
        .replace("users = { key = \"id\" }", "users = {}")
        .replace("countries = { reference = true }", "");
    assert_eq!(good(&whole, &[]).keyspaces["main"].hash, None);
    let said = whole
        .replace(
            "[keyspaces.main.tables]",
            "sharded = true\n[keyspaces.main.tables]",
        )
        .replace("users = {}", "");
    assert!(good(&said, &[]).keyspaces["main"].hash.is_some());
}

#[test]
fn a_table_has_one_keyspace_and_a_server_one_shard() {
    let other =
        "\n[keyspaces.other]\nshards = [\"s1\"]\n[keyspaces.other.tables]\nusers = {}\n[users.app]";
    let text = GOOD
        .replace("\n[users.app]", other)
        .replace("[\"main\"]", "[\"main\", \"other\"]");
    assert!(
        wrong(&text).to_string().contains("is also in keyspace"),
        "{}",
        wrong(&text)
    );
    check(
        "10.0.0.20:5433/app",
        "10.0.0.10:5432/app",
        "shards.s1.primary",
        "is also shards.s0.primary",
    );
    let shared = "\n[databases.b]\nkeyspaces = [\"other\"]\n[keyspaces.other]\nshards = [\"s1\"]\n[keyspaces.other.tables]\nthings = { key = \"id\" }\n[users.app]";
    check(
        "\n[users.app]",
        shared,
        "keyspaces.other.shards",
        "other databases",
    );
}

#[test]
fn dsns_are_understood_or_refused_without_repeating_them() {
    let dsn = "postgres://app:pw@10.0.0.10/app";
    check(
        dsn,
        "mysql://keyway:pw@h/d",
        "shards.s0.primary",
        "postgres://user",
    );
    check(
        dsn,
        "postgres://app:pw@h/d?sslmode=maybe",
        "shards.s0.primary",
        "verify-full",
    );
    check(
        dsn,
        "postgres://app:pw@h/d?sslrootcert=x",
        "shards.s0.primary",
        "server_ca",
    );
    check(
        dsn,
        "postgres://app:pw@h:0/d",
        "shards.s0.primary",
        "1 to 65535",
    );
    check(
        dsn,
        "postgres://10.0.0.10/app",
        "shards.s0.primary",
        "names no user",
    );
    check(
        dsn,
        "postgres://app:topsecret@a,b/app",
        "shards.s0.primary",
        "replicas",
    );
    assert!(!problems(dsn, "postgres://app:topsecret@a,b/app").contains("topsecret"));
    let config = good(
        &GOOD.replace(
            dsn,
            "postgresql://k%40:p%2Fw@[::1]:6000/my%20db?sslmode=verify-ca",
        ),
        &[],
    );
    let primary = &config.shards["s0"].primary;
    assert_eq!(
        (primary.user.as_str(), primary.host.as_str(), primary.port),
        ("k@", "::1", 6000)
    );
    assert_eq!(primary.password.as_ref().map(|p| p.reveal()), Some("p/w"));
    assert_eq!(
        (primary.database.as_str(), primary.tls),
        ("my db", ServerTls::VerifyCa)
    );
    let config = good(
        &GOOD.replace(dsn, "postgres://app@/app?host=/run/postgresql"),
        &[],
    );
    assert_eq!(config.shards["s0"].primary.host, "/run/postgresql");
    assert_eq!(
        format!("{:?}", config.shards["s1"].primary),
        "10.0.0.20:5433/app"
    );
    let config = good(&GOOD.replace(dsn, "env:S0"), &[("S0", dsn)]);
    assert_eq!(config.shards["s0"].primary.host, "10.0.0.10");
    let tls = GOOD.replace(
        &format!("primary = \"{dsn}\""),
        &format!("primary = \"{dsn}\"\ntls = \"require\""),
    );
    assert_eq!(good(&tls, &[]).shards["s0"].primary.tls, ServerTls::Require);
}

#[test]
fn passwords_come_from_many_places() {
    let from = |password: &str, pairs: &[(&str, &str)]| {
        good(&GOOD.replace("\"secret\"", &format!("{password:?}")), pairs).users["app"]
            .password
            .clone()
    };
    let plain = |text: &str| Password::Plain(super::values::Secret::new(text));
    assert_eq!(from("env:P", &[("P", "x y")]), plain("x y"));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "from file\n").unwrap();
    assert_eq!(
        from(&format!("file:{}", file.path().display()), &[]),
        plain("from file")
    );
    let verifier = format!(
        "SCRAM-SHA-256$4096:c2FsdA==${k}:{k}",
        k = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    );
    let Password::Scram(read) = from(&verifier, &[]) else {
        panic!("not read as a verifier")
    };
    assert_eq!(
        (read.iterations, read.salt.as_slice(), read.server_key),
        (4096, b"salt".as_slice(), [0; 32])
    );
    check(
        "\"secret\"",
        "\"env:NOT_THERE\"",
        "users.app.password",
        "no variable NOT_THERE",
    );
    let key = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
    for parts in [
        "x".to_owned(),
        format!("0:c2FsdA==${key}:{key}"),
        format!("-1:c2FsdA==${key}:{key}"),
        format!("many:c2FsdA==${key}:{key}"),
        format!("4096:?${key}:{key}"),
        format!("4096:${key}:{key}"),
        format!("4096:c2FsdA==${key}"),
        format!("4096:c2FsdA==${key}:c2FsdA=="),
    ] {
        let verifier = format!("\"SCRAM-SHA-256${parts}\"");
        check("\"secret\"", &verifier, "users.app.password", "StoredKey");
    }
    // Passwords, however much they look like something else.
    for password in [
        "scram-sha-256$x",
        "md5secret",
        "md5900150983CD24FB0D6963F7D28E17F72",
    ] {
        assert_eq!(from(password, &[]), plain(password));
    }
    check(
        "\"secret\"",
        "\"md5900150983cd24fb0d6963f7d28e17f72\"",
        "users.app.password",
        "md5 hash cannot",
    );
    check(
        "\"secret\"",
        "\"secret\"\nserver_password = \"x\"",
        "users.app.server_password",
        "no server_user",
    );
}

#[test]
fn the_result_cache_has_bounds() {
    for (written, key, what) in [
        ("ttl = \"25h\"", "cache.ttl", "a day at most"),
        ("entry_max = \"64MiB\"", "cache.entry_max", "a sixteenth"),
        ("size = \"1MiB\"", "cache.entry_max", "a sixteenth"),
        ("follow = true", "cache.follow", "needs cache.enabled"),
        (
            "consistency = \"strict\"",
            "cache.consistency",
            "there is one Keyway",
        ),
    ] {
        let section = format!("[cache]\n{written}\n[users.app]");
        check("[users.app]", &section, key, what);
    }
    let redis = "urls = [\"redis://here\"]\nsecret = \"0123456789abcdef\"";
    for (written, key, what) in [
        ("urls = [\"redis://here\"]", "secret", "16 characters"),
        (
            &*format!("{redis}\ndeployment = \"a b\""),
            "deployment",
            "without braces",
        ),
        (
            &*format!("{redis}\ntimeout = \"2s\""),
            "timeout",
            "a second at most",
        ),
        (&*format!("{redis}\nlease = \"100ms\""), "lease", "from 1s"),
    ] {
        let section = format!("[cache.redis]\n{written}\n[users.app]");
        check("[users.app]", &section, &format!("cache.redis.{key}"), what);
    }
    for (written, key, what) in [
        (
            "schedule = \"61 * * * *\"",
            "schedule",
            "no cron expression",
        ),
        ("user = \"nobody\"", "user", "no user"),
        ("database = \"nothing\"", "database", "no database"),
        ("settings = { a = [1] }", "settings.a", "text is wanted"),
    ] {
        let mut lines = vec!["sql = \"select 1\""];
        let others = [
            ("database", "database = \"app\""),
            ("user", "user = \"app\""),
        ];
        lines.extend(
            others
                .iter()
                .filter(|(name, _)| *name != key)
                .map(|(_, line)| *line),
        );
        lines.push(written);
        let section = format!("[cache.warmup.first]\n{}\n[users.app]", lines.join("\n"));
        check(
            "[users.app]",
            &section,
            &format!("cache.warmup.first.{key}"),
            what,
        );
    }
    check(
        "[users.app]",
        "[cache.warmup.first]\ndatabase = \"app\"\nuser = \"app\"\n[users.app]",
        "cache.warmup.first.sql",
        "is missing",
    );
    check(
        "[users.app]",
        "[cache.tables.\"a.b.c\"]\n[users.app]",
        "cache.tables.\"a.b.c\"",
        "no table's name",
    );
}

#[test]
fn what_is_not_in_this_version_is_refused() {
    check(
        "[users.app]",
        "[tls]\nmode = \"verify-ca\"\n[users.app]",
        "tls.mode",
        "not verified in this version",
    );
    check(
        "[users.app]",
        "listen = \"0.0.0.0:6432\"\n[auth]\nmethod = \"trust\"\n[users.app]",
        "auth.method",
        "loopback",
    );
    let found = problems("[users.app]", "[tls]\nmode = \"require\"\n[users.app]");
    assert!(
        found.contains("tls.cert: a PEM file") && found.contains("tls.key: a PEM file"),
        "{found}"
    );
}

#[test]
fn a_syntax_error_names_the_line_and_not_its_text() {
    let found = wrong("[users.app]\npassword = \"topsecret\n").to_string();
    assert!(found.contains("line 2"), "{found}");
    assert!(!found.contains("topsecret"), "{found}");
}

#[test]
fn names_fold_as_in_postgresql() {
    let name = |schema: &str, name: &str| {
        Some(TableName {
            schema: schema.into(),
            name: name.into(),
        })
    };
    assert_eq!(TableName::parse("Users"), name("public", "users"));
    assert_eq!(TableName::parse("App.\"Users\""), name("app", "Users"));
    assert_eq!(TableName::parse("\"a.b\"\"c\""), name("public", "a.b\"c"));
    for bad in ["", "a.b.c", "a b", "\"a", "1a", "a.", "\"\""] {
        assert_eq!(TableName::parse(bad), None, "{bad:?}");
    }
    assert_eq!(
        KeyFamily::of_type_name("character varying(20)"),
        Some(KeyFamily::Text)
    );
    assert_eq!(
        KeyFamily::of_type_name("timestamp(3) with time zone"),
        Some(KeyFamily::TimestampTz)
    );
    assert_eq!(KeyFamily::of_type_name("citext"), None);
}

#[test]
fn the_shipped_examples_can_work() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let pem = tempfile::NamedTempFile::new().unwrap();
    let mut seen = 0;
    for folder in [directory.clone(), directory.join("examples")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let variables = [
                ("APP_PASSWORD", "x"),
                ("ACTIVITY_URL", "postgres://app@10.0.0.40/activity"),
            ];
            let mut variables = env(&variables);
            // The one thing an example cannot ship is certificates.
            if text.contains("/etc/keyway/tls") {
                for key in ["KEYWAY__SERVER_CA", "KEYWAY__TLS__CERT", "KEYWAY__TLS__KEY"] {
                    variables.insert(key.into(), pem.path().display().to_string());
                }
            }
            let config = super::load(Some(&path), &variables)
                .unwrap_or_else(|problems| panic!("{}:\n{problems}", path.display()));
            crate::topology::build::offline(&config).unwrap();
            seen += 1;
        }
    }
    assert!(seen >= 6);
}

#[test]
fn keys_may_have_several_columns() {
    let text = GOOD.replace("{ key = \"id\" }", "{ key = [\"Tenant\", \"\\\"Id\\\"\"], type = [\"uuid\", \"int8\"], trust = [\"email\", \"a, B\"] }");
    let config = good(&text, &[]);
    let table = &config.keyspaces["main"].tables[&TableName {
        schema: "public".into(),
        name: "users".into(),
    }];
    let TablePlacement::Key { columns, types } = &table.placement else {
        panic!("not sharded")
    };
    assert_eq!(columns, &["tenant", "Id"]);
    assert_eq!(
        types.as_deref(),
        Some([KeyFamily::Uuid, KeyFamily::Int].as_slice())
    );
    assert_eq!(table.trust, ["email", "a,b"]);
}

#[test]
fn names_keep_their_case() {
    let text = GOOD
        .replace("[users.app]", "[users.App]")
        .replace("users = {", "\"\\\"Users\\\"\" = {");
    let config = good(&text, &[]);
    assert!(config.users.contains_key("App"));
    let table = TableName {
        schema: "public".into(),
        name: "Users".into(),
    };
    assert!(
        config.keyspaces["main"].tables.contains_key(&table),
        "{:?}",
        config.keyspaces["main"].tables
    );
}

#[test]
fn what_a_reload_cannot_change_is_named() {
    let config = good(GOOD, &[]);
    let changed = good(
        GOOD,
        &[
            ("KEYWAY__LISTEN", "127.0.0.1:1"),
            ("KEYWAY__POOL__SIZE", "3"),
            ("KEYWAY__LOG__LEVEL", "debug"),
        ],
    );
    assert_eq!(config.needs_restart(&changed), ["listen", "pool", "log"]);
    assert!(config.needs_restart(&config).is_empty());
    let by_session = good(GOOD, &[("KEYWAY__POOL__MODE", "session")]);
    assert!(config.needs_restart(&by_session).is_empty());
}

#[test]
fn the_shipped_reference_is_the_defaults() {
    let shipped = include_str!("../../config/keyway.toml");
    let (_, reference) = shipped.split_once("with its default ----\n#\n").unwrap();
    let lines: Vec<&str> = reference
        .lines()
        .map(|line| {
            line.strip_prefix("# ")
                .unwrap_or_else(|| line.trim_start_matches('#'))
        })
        .collect();
    let (_, defaults) = include_str!("defaults.toml").split_once("\n\n").unwrap();
    assert_eq!(
        lines.join("\n").trim(),
        defaults.trim(),
        "config/keyway.toml's end is not src/config/defaults.toml"
    );
}

proptest::proptest! {
    #[test]
    fn no_input_panics(text in "\\PC{0,200}", key in "[A-Z_\\[\\].0-9]{0,30}", value in "\\PC{0,60}") {
        let variables = env(&[(&format!("KEYWAY__{key}"), &value)]);
        let _ = parse(&text, &variables);
        let _ = parse(&GOOD.replace("secret", &value.replace(['"', '\\'], "")), &env(&[]));
        let _ = super::dsn::parse(&value, None);
        let _ = super::dsn::parse(&format!("postgres://{value}"), None);
        let _ = super::section::parse_size(&value);
        let _ = super::section::parse_time(&value);
        let _ = TableName::parse(&value);
        let _ = KeyFamily::of_type_name(&value);
    }

    #[test]
    fn any_value_of_any_key_is_a_problem_or_fine(
        key in proptest::sample::select(vec!["pool.size", "pool.lifetime", "limits.message_max", "listen", "users", "shards.s0", "keyspaces.main.tables.users.key", "functions.f.reads", "tls.mode"]),
        value in proptest::sample::select(vec!["1", "-1", "1.5", "true", "[]", "[1, [2]]", "{}", "\"\"", "\"x\"", "99999999999999999999999", "1979-05-27", "{ a = { b = 1 } }"]),
    ) {
        let _ = parse(&format!("{key} = {value}\n{GOOD}"), &env(&[]));
        let _ = parse(&format!("{key} = {value}"), &env(&[]));
    }
}

#[test]
fn no_statement_runs_as_a_role_of_the_catalogs_name() {
    let dsn = "postgres://app:pw@10.0.0.10/app";
    check(
        dsn,
        "postgres://keyway:pw@10.0.0.10/app",
        "shards.s0.primary",
        "let statements run as another role",
    );
    check(
        "password = \"secret\"",
        "password = \"secret\"\nserver_user = \"keyway\"",
        "users.app.server_user",
        "let statements run as another role",
    );
    let apart = GOOD
        .replace(dsn, "postgres://keyway:pw@10.0.0.10/app")
        .replace(
            "password = \"secret\"",
            "password = \"secret\"\nserver_user = \"app\"",
        );
    good(&apart, &[]);
}

/// One problem with a declaration of `[events]`.
fn wrong_partitions(written: &str, key: &str, what: &str) {
    let text = format!("[events]\n{written}\n");
    let found = super::partition_files::parse(&text)
        .expect_err(written)
        .to_string();
    assert_eq!(
        found.lines().count(),
        1,
        "{written}: one problem expected, found:\n{found}"
    );
    assert!(
        found.starts_with(&format!("events.{key}: ")),
        "{written}: {found}"
    );
    assert!(found.contains(what), "{written}: {found}");
}

#[test]
fn partitions_are_declared_in_two_places() {
    use super::partitions::{Hash, Partitioned, Range, Span, Then, Unit};
    let text = "range = { column = \"At\", every = \"month\", start = \"2026-01-31\" }\nhash = { column = \"user_id\", modulus = 4 }\n\
                retain = \"24 months\"\nthen = \"archive\"\n";
    let expected = Partitioned {
        range: Some(Range {
            column: "at".into(),
            every: Span::Time(1, Unit::Month),
            start: Some("2026-01-31".into()),
        }),
        hash: Some(Hash {
            columns: vec!["user_id".into()],
            modulus: 4,
        }),
        ahead: 3,
        retain: Some(Span::Time(24, Unit::Month)),
        then: Then::Archive,
        archive: "archive".into(),
        default: false,
    };
    let name = TableName::parse("app.\"Events\"").unwrap();
    let file = super::partition_files::parse(&format!("['app.\"Events\"']\n{text}")).unwrap();
    assert_eq!(file.get(&name), Some(&expected));
    let config = good(
        &format!("{GOOD}[keyspaces.main.partitions.'app.\"Events\"']\n{text}"),
        &[],
    );
    assert_eq!(config.keyspaces["main"].partitions, file);
    let unquoted = text.replace("\"2026-01-31\"", "2026-01-31");
    let unquoted = super::partition_files::parse(&format!("['app.\"Events\"']\n{unquoted}"));
    assert_eq!(unquoted.unwrap(), file);
    let numbers = "[n]\nrange = { column = \"id\", every = 1000, start = -5 }\nretain = 5000\n[h]\nhash = { columns = [\"a\", '\"B\"'], modulus = 1 }";
    let numbers = super::partition_files::parse(numbers).unwrap();
    let of = |name| &numbers[&TableName::parse(name).unwrap()];
    assert_eq!(of("n").retain, Some(Span::Step(5000)));
    assert_eq!(of("h").hash.as_ref().unwrap().columns, ["a", "B"]);
}

#[test]
fn nonsense_about_partitions_is_refused() {
    const MONTH: &str = "range = { column = \"at\", every = \"month\" }\n";
    const STEP: &str = "range = { column = \"id\", every = 100 }\n";
    const HASH: &str = "hash = { column = \"id\", modulus = 4 }\n";
    for (written, key, what) in [
        (String::new(), "range", "is missing, and so is hash"),
        (
            "range = { every = \"month\" }".into(),
            "range.column",
            "is missing",
        ),
        (
            "range = { column = \"at\" }".into(),
            "range.every",
            "is missing",
        ),
        (
            "range = { column = \"a b\", every = \"day\" }".into(),
            "range.column",
            "not a column's name",
        ),
        (
            "range = { column = \"at\", every = \"months\" }".into(),
            "range.every",
            "hour, day, week",
        ),
        (
            "range = { column = \"at\", every = 0 }".into(),
            "range.every",
            "hour, day, week",
        ),
        (
            "range = { column = \"at\", every = \"day\", start = \"2023-02-29\" }".into(),
            "range.start",
            "a date such as",
        ),
        (
            "range = { column = \"at\", every = \"day\", start = \"2023-2-1\" }".into(),
            "range.start",
            "a date such as",
        ),
        (
            "range = { column = \"at\", every = 5, start = \"2023-02-01\" }".into(),
            "range.start",
            "a whole number",
        ),
        (
            "range = { column = \"at\", every = \"day\", by = 2 }".into(),
            "range.by",
            "unknown key",
        ),
        (format!("{MONTH}ahead = 0"), "ahead", "from 1 to 1000"),
        (format!("{MONTH}ahead = 1001"), "ahead", "from 1 to 1000"),
        (
            format!("{MONTH}retain = \"0 months\""),
            "retain",
            "24 months",
        ),
        (format!("{MONTH}retain = \"10\""), "retain", "24 months"),
        (
            format!("{MONTH}retain = \"1001 years\""),
            "retain",
            "at most 1000 years",
        ),
        (
            format!("{MONTH}retain = \"2 fortnights\""),
            "retain",
            "24 months",
        ),
        (
            format!("{STEP}retain = \"2 months\""),
            "retain",
            "a number of values",
        ),
        (format!("{STEP}retain = 0"), "retain", "a number of values"),
        (
            format!("{MONTH}then = \"drop\""),
            "then",
            "retain, which is missing",
        ),
        (
            format!("{MONTH}retain = \"1 day\"\nthen = \"delete\""),
            "then",
            "detach, archive, drop",
        ),
        (
            format!("{MONTH}retain = \"1 day\"\nthen = \"drop\"\narchive = \"a\""),
            "archive",
            "belongs to then",
        ),
        (
            format!("{MONTH}retain = \"1 day\"\nthen = \"archive\"\narchive = \"pg_x\""),
            "archive",
            "not the name of a schema",
        ),
        (
            format!("{MONTH}retian = \"1 day\""),
            "retian",
            "unknown key",
        ),
        (
            format!("{HASH}retain = \"1 day\""),
            "retain",
            "belongs to a table with range",
        ),
        (
            format!("{HASH}ahead = 2"),
            "ahead",
            "belongs to a table with range",
        ),
        (
            format!("{HASH}default = true"),
            "default",
            "belongs to a table with range",
        ),
        (
            "hash = { column = \"id\" }".into(),
            "hash.modulus",
            "is missing",
        ),
        (
            "hash = { column = \"id\", modulus = 1025 }".into(),
            "hash.modulus",
            "from 1 to 1024",
        ),
        ("hash = { modulus = 4 }".into(), "hash.column", "is missing"),
        (
            "hash = { columns = [\"a\", \"A\"], modulus = 4 }".into(),
            "hash.columns",
            "names \"a\" twice",
        ),
        (
            "hash = { columns = [], modulus = 4 }".into(),
            "hash.columns",
            "one to 32",
        ),
        (
            "hash = { column = \"a\", columns = [\"a\"], modulus = 4 }".into(),
            "hash.columns",
            "beside column",
        ),
    ] {
        wrong_partitions(&written, key, what);
    }
    let twice = format!("[events]\n{MONTH}[EVENTS]\n{MONTH}");
    let twice = super::partition_files::parse(&twice)
        .unwrap_err()
        .to_string();
    assert!(
        twice.contains("declared twice, in two spellings"),
        "{twice}"
    );
    let name = format!("[\"a.b.c\"]\n{MONTH}");
    let name = super::partition_files::parse(&name)
        .unwrap_err()
        .to_string();
    assert!(
        name.starts_with("\"a.b.c\": is not a table's name"),
        "{name}"
    );
}
