//! From what was written to a [`Config`]: one function per section, then the rules that need several.

use crate::config::dsn;
use crate::config::partitions;
use crate::config::section::{Notes, Section};
use crate::config::values::{
    BUCKETS, Dsn, FunctionDeclaration, KeyFamily, KeyHash, Secret, TableName, parse_identifier,
};
use crate::config::{
    AuthMethod, CACHE_TTL_MAX, CacheConfig, Certificate, ClientTls, Config, Consistency,
    DatabaseConfig, KeyspaceConfig, Limits, LogConfig, LogFormat, OnLoss, OnWrite, Password,
    PoolConfig, PoolMode, RedisConfig, ScramVerifier, ShardConfig, TableCache, TableConfig,
    TablePlacement, User, Variables, Warmup,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

/// The most shards: sequence ranges are cut by a shard's id.
const SHARDS_MAX: usize = 512;

/// Reads every section. Any note means that the result cannot be used.
pub(super) fn check(written: &Value, env: &Variables, notes: &Notes) -> Config {
    let mut root = Section::new(String::new(), written, notes);
    let listen = root.address("listen");
    let http = root.address_or_off("http");
    let workers = root.count("workers", 0, 1024);
    let server_ca = root.file("server_ca");
    let migrations = root.text("migrations").unwrap_or_default().into();
    let catalog = root.text("catalog");
    let auth = auth(root.section("auth"));
    let tls = tls(root.section("tls"));
    let users = root
        .sections("users")
        .into_iter()
        .map(|(name, section)| (name, user(section, env, auth)))
        .collect();
    let shards: BTreeMap<String, ShardConfig> = root
        .sections("shards")
        .into_iter()
        .filter_map(|(name, section)| Some((name, shard(section, env)?)))
        .collect();
    let written_shards: BTreeSet<String> = match written.get("shards") {
        Some(Value::Object(entries)) => entries.keys().cloned().collect(),
        _ => BTreeSet::new(),
    };
    let databases = root
        .sections("databases")
        .into_iter()
        .map(|(name, section)| (name, database(section)))
        .collect();
    let keyspaces = root
        .sections("keyspaces")
        .into_iter()
        .map(|(name, section)| (name, keyspace(section, &written_shards, notes)))
        .collect();
    let functions = root
        .sections("functions")
        .into_iter()
        .filter_map(|(name, section)| function(&name, section, notes))
        .collect();
    let pool = pool(root.section("pool"));
    let partitions_every = partitions(root.section("partitions"));
    let limits = limits(root.section("limits"));
    let log = log(root.section("log"));
    let cache = cache(root.section("cache"));
    root.finish();

    let config = Config {
        // A wrong one has been noted.
        listen: listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 6432))),
        http,
        workers: (workers > 0).then_some(workers),
        server_ca,
        migrations,
        catalog,
        users,
        tls,
        auth: auth.unwrap_or(AuthMethod::Scram),
        shards,
        databases,
        keyspaces,
        functions,
        partitions_every,
        pool,
        limits,
        cache,
        log,
    };
    check_listeners(&config, notes);
    check_names(&config, &written_shards, notes);
    check_roles(&config, notes);
    check_servers(&config, notes);
    check_tables(&config, notes);
    check_shared_shards(&config, notes);
    config
}

fn auth(mut section: Section<'_>) -> Option<AuthMethod> {
    let method = section.choice(
        "method",
        &[
            ("scram-sha-256", AuthMethod::Scram),
            ("md5", AuthMethod::Md5),
            ("trust", AuthMethod::Trust),
        ],
    );
    section.finish();
    method
}

fn tls(mut section: Section<'_>) -> ClientTls {
    #[derive(Clone, Copy)]
    enum Mode {
        Off,
        Allow,
        Require,
        Verify,
    }
    let mode = section.choice(
        "mode",
        &[
            ("off", Mode::Off),
            ("allow", Mode::Allow),
            ("require", Mode::Require),
            ("verify-ca", Mode::Verify),
            ("verify-full", Mode::Verify),
        ],
    );
    let cert = section.file("cert");
    let key = section.file("key");
    let files = || match (cert.clone(), key.clone()) {
        (Some(cert), Some(key)) => Some(Certificate { cert, key }),
        (cert, key) => {
            for (name, file) in [("cert", cert), ("key", key)] {
                if file.is_none() {
                    section.problem(name, "a PEM file is wanted here unless tls.mode is \"off\"");
                }
            }
            None
        }
    };
    let tls = match mode {
        Some(Mode::Allow) => files().map(ClientTls::Allow),
        Some(Mode::Require) => files().map(ClientTls::Require),
        Some(Mode::Verify) => {
            section.problem(
                "mode",
                "clients' certificates are not verified in this version; use off, allow or require",
            );
            None
        }
        Some(Mode::Off) | None => None,
    };
    section.finish();
    tls.unwrap_or(ClientTls::Off)
}

fn user(mut section: Section<'_>, env: &Variables, auth: Option<AuthMethod>) -> User {
    let password = secret(&mut section, "password", env);
    let password = match password {
        None => {
            if auth.is_some_and(|method| method != AuthMethod::Trust) {
                section.problem("password", "a password is wanted here: a text, env:NAME, file:PATH or a SCRAM-SHA-256$… verifier");
            }
            Password::None
        }
        Some(secret) if secret.reveal().starts_with("SCRAM-SHA-256$") => {
            match ScramVerifier::parse(secret.reveal()) {
                Some(_) if auth == Some(AuthMethod::Md5) => {
                    section.problem(
                        "password",
                        "a SCRAM verifier cannot serve auth.method \"md5\"",
                    );
                    Password::None
                }
                Some(verifier) => Password::Scram(verifier),
                None => {
                    section.problem("password", "starts like a SCRAM-SHA-256 verifier but is not SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey");
                    Password::None
                }
            }
        }
        Some(secret) if is_md5(secret.reveal()) => {
            if auth == Some(AuthMethod::Scram) {
                section.problem(
                    "password",
                    "an md5 hash cannot serve auth.method \"scram-sha-256\"",
                );
            }
            Password::Md5(secret)
        }
        Some(secret) => Password::Plain(secret),
    };
    let server_user = section.text("server_user");
    let server_password = secret(&mut section, "server_password", env);
    if server_password.is_some() && server_user.is_none() {
        section.problem("server_password", "has no server_user to belong to");
    }
    let databases = section.list("databases");
    section.finish();
    User {
        password,
        server_user,
        server_password,
        databases,
    }
}

/// `md5` and 32 digits, as PostgreSQL recognises it (get_password_type): in capitals it is a password.
fn is_md5(text: &str) -> bool {
    text.strip_prefix("md5").is_some_and(|hex| {
        hex.len() == 32 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// A text that may point elsewhere: `env:NAME` or `file:PATH`.
fn secret(section: &mut Section<'_>, key: &'static str, env: &Variables) -> Option<Secret> {
    let text = section.text(key)?;
    match resolve(&text, env) {
        Ok(text) => Some(Secret::new(text)),
        Err(what) => {
            section.problem(key, what);
            // Anything but nothing: the complaint has been made.
            Some(Secret::default())
        }
    }
}

fn resolve(text: &str, env: &Variables) -> Result<String, String> {
    let resolved = if let Some(name) = text.strip_prefix("env:") {
        env.get(name)
            .cloned()
            .ok_or_else(|| format!("the environment has no variable {name}"))?
    } else if let Some(path) = text.strip_prefix("file:") {
        let content =
            std::fs::read_to_string(path).map_err(|error| format!("read {path}: {error}"))?;
        content.trim_end_matches(['\r', '\n']).to_owned()
    } else {
        text.to_owned()
    };
    match resolved.as_str() {
        "" => Err("is empty".into()),
        text if text.contains('\0') => Err("holds a zero byte".into()),
        _ => Ok(resolved),
    }
}

fn shard(mut section: Section<'_>, env: &Variables) -> Option<ShardConfig> {
    let tls = section.choice("tls", &dsn::TLS_MODES);
    let primary = section.text("primary");
    let replicas = section.raw_list("replicas").unwrap_or_default();
    let read = |text: &str| resolve(text, env).and_then(|text| dsn::parse(&text, tls));
    let primary = match primary.as_deref().map(read) {
        Some(Ok(dsn)) => Some(dsn),
        Some(Err(what)) => {
            section.problem("primary", what);
            None
        }
        None => {
            section.problem("primary", "is missing: the URL of the shard's primary");
            None
        }
    };
    let mut read_replicas = Vec::new();
    for (index, text) in replicas.iter().enumerate() {
        match read(text) {
            Ok(replica) => {
                if primary
                    .as_ref()
                    .is_some_and(|primary| primary.database != replica.database)
                {
                    section.problem(
                        "replicas",
                        format!("replica {index} names another database than the primary"),
                    );
                }
                read_replicas.push(replica);
            }
            Err(what) => section.problem("replicas", format!("replica {index}: {what}")),
        }
    }
    section.finish();
    Some(ShardConfig {
        primary: primary?,
        replicas: read_replicas,
    })
}

fn database(mut section: Section<'_>) -> DatabaseConfig {
    let keyspaces = section.list("keyspaces").unwrap_or_default();
    if keyspaces.is_empty() {
        section.problem(
            "keyspaces",
            "is missing: the list of the database's keyspaces",
        );
    }
    if let Some(twice) = first_twice(&keyspaces) {
        section.problem("keyspaces", format!("names {twice:?} twice"));
    }
    let default = section.text("default");
    if let Some(default) = &default
        && !keyspaces.contains(default)
    {
        section.problem(
            "default",
            format!(
                "{default:?} is not one of the database's keyspaces: {}",
                keyspaces.join(", ")
            ),
        );
    }
    section.finish();
    let default = default.or_else(|| {
        if let [only] = keyspaces.as_slice() {
            Some(only.clone())
        } else {
            None
        }
    });
    DatabaseConfig { keyspaces, default }
}

fn keyspace(
    mut section: Section<'_>,
    written_shards: &BTreeSet<String>,
    notes: &Notes,
) -> KeyspaceConfig {
    let shards = section.list("shards").unwrap_or_default();
    if shards.is_empty() {
        section.problem("shards", "is missing: the list of the keyspace's shards");
    }
    for name in shards.iter().filter(|name| !written_shards.contains(*name)) {
        let known: Vec<&str> = written_shards.iter().map(String::as_str).collect();
        section.problem(
            "shards",
            format!("there is no [shards.{name}]; known: {}", known.join(", ")),
        );
    }
    if let Some(twice) = first_twice(&shards) {
        section.problem("shards", format!("names {twice:?} twice"));
    }
    let mut tables = BTreeMap::new();
    for (name, table_section) in section.sections("tables") {
        let Some(table_name) = TableName::parse(&name) else {
            table_section.finish_unread(
                "is not a table's name: NAME, SCHEMA.NAME, with double quotes where SQL needs them",
            );
            continue;
        };
        let path = name.clone();
        let table = table(table_section);
        if tables.insert(table_name, table).is_some() {
            section.problem("tables", format!("lists {path:?} twice, in two spellings"));
        }
    }
    let placed = tables
        .values()
        .any(|table: &TableConfig| table.placement != TablePlacement::Whole);
    let said = section.choice("sharded", &[("true", true), ("false", false)]);
    let sharded = said.unwrap_or(placed || shards.len() > 1);
    let hash = hash(&mut section, shards.len(), sharded);
    if sharded {
        for (name, _) in tables
            .iter()
            .filter(|(_, table)| table.placement == TablePlacement::Whole)
        {
            section.problem("tables", format!("{name} needs key = \"column\" or reference = true, since the keyspace is sharded"));
        }
    } else {
        if shards.len() > 1 {
            section.problem("shards", "an unsharded keyspace has exactly one");
        }
        for (name, _) in tables
            .iter()
            .filter(|(_, table)| table.placement != TablePlacement::Whole)
        {
            section.problem(
                "tables",
                format!(
                    "{name} has a key or is a reference table, but the keyspace is not sharded"
                ),
            );
        }
    }
    let partitions = partitions::check(section.sections("partitions"), notes);
    section.finish();
    KeyspaceConfig {
        shards,
        hash,
        tables,
        partitions,
    }
}

fn hash(section: &mut Section<'_>, shards: usize, sharded: bool) -> Option<KeyHash> {
    #[derive(Clone, Copy, PartialEq)]
    enum Named {
        Xxh3,
        Postgres,
    }
    let named = section.choice(
        "hash",
        &[("xxh3", Named::Xxh3), ("postgres", Named::Postgres)],
    );
    let modulus = section
        .number("modulus", 1, BUCKETS as u64)
        .and_then(|n| u16::try_from(n).ok());
    if !sharded {
        for (key, said) in [("hash", named.is_some()), ("modulus", modulus.is_some())] {
            if said {
                section.problem(key, "means nothing in an unsharded keyspace");
            }
        }
        return None;
    }
    match (named.unwrap_or(Named::Xxh3), modulus) {
        (Named::Xxh3, None) => Some(KeyHash::Xxh3),
        (Named::Xxh3, Some(_)) => {
            section.problem("modulus", "belongs to hash = \"postgres\" only");
            Some(KeyHash::Xxh3)
        }
        (Named::Postgres, Some(modulus)) => {
            if usize::from(modulus) < shards {
                section.problem(
                    "modulus",
                    format!("is less than the number of shards, {shards}"),
                );
            }
            Some(KeyHash::Postgres { modulus })
        }
        (Named::Postgres, None) => {
            section.problem(
                "modulus",
                format!("is missing: the modulus of PARTITION BY HASH, 1 to {BUCKETS}"),
            );
            Some(KeyHash::Xxh3)
        }
    }
}

fn table(mut section: Section<'_>) -> TableConfig {
    let key = section.list("key");
    let types = section.list("type");
    let reference = section.yes("reference");
    let mut trust = Vec::new();
    for constraint in section.raw_list("trust").unwrap_or_default() {
        let parts: Option<Vec<String>> = constraint
            .split(',')
            .map(|part| parse_identifier(part.trim()))
            .collect();
        match parts {
            Some(parts) => trust.push(parts.join(",")),
            None => section.problem(
                "trust",
                format!("{constraint:?} is neither a constraint's name nor a list of columns"),
            ),
        }
    }
    let placement = match (key, reference) {
        (Some(_), true) => {
            section.problem("reference", "a reference table has no key");
            TablePlacement::Reference
        }
        (None, true) => TablePlacement::Reference,
        (Some(columns), false) => key_placement(&section, &columns, types.as_deref()),
        (None, false) => TablePlacement::Whole,
    };
    if types.is_some() && !matches!(placement, TablePlacement::Key { .. }) {
        section.problem("type", "belongs to a key");
    }
    section.finish();
    TableConfig { placement, trust }
}

fn key_placement(
    section: &Section<'_>,
    columns: &[String],
    types: Option<&[String]>,
) -> TablePlacement {
    let mut names = Vec::new();
    for column in columns {
        match parse_identifier(column) {
            Some(name) if names.contains(&name) => {
                section.problem("key", format!("names {name:?} twice"))
            }
            Some(name) => names.push(name),
            None => section.problem("key", format!("{column:?} is not a column's name")),
        }
    }
    if columns.is_empty() || columns.len() > 8 {
        section.problem("key", "a key has one to eight columns");
    }
    let types = types.map(|types| {
        if types.len() != columns.len() {
            section.problem("type", format!("names {} types for {} key columns", types.len(), columns.len()));
        }
        let mut families = Vec::new();
        for name in types {
            match KeyFamily::of_type_name(name) {
                Some(family) => families.push(family),
                None => section.problem(
                    "type",
                    format!(
                        "{name:?} cannot be a sharding key's type; allowed: smallint, integer, bigint, text, varchar, char, \
                         uuid, boolean, date, timestamp, timestamptz, bytea"
                    ),
                ),
            }
        }
        families
    });
    TablePlacement::Key {
        columns: names,
        types,
    }
}

fn function(
    name: &str,
    mut section: Section<'_>,
    notes: &Notes,
) -> Option<(TableName, FunctionDeclaration)> {
    let per_shard = section.yes("per_shard");
    let reads = section.list("reads");
    let writes = section.list("writes");
    let tables = |list: Option<Vec<String>>, key: &'static str| -> Vec<TableName> {
        let mut names = Vec::new();
        for text in list.unwrap_or_default() {
            match TableName::parse(&text) {
                Some(table) => names.push(table),
                None => section.problem(key, format!("{text:?} is not a table's name")),
            }
        }
        names
    };
    let declaration = match (per_shard, reads.is_some() || writes.is_some()) {
        (true, false) => FunctionDeclaration::PerShard,
        (false, true) => FunctionDeclaration::Touches {
            reads: tables(reads, "reads"),
            writes: tables(writes, "writes"),
        },
        _ => {
            notes.add(
                format!("functions.{name}"),
                "say either per_shard = true, or reads = [tables] and writes = [tables]",
            );
            FunctionDeclaration::PerShard
        }
    };
    section.finish();
    match TableName::parse(name) {
        Some(function) => Some((function, declaration)),
        None => {
            notes.add(
                format!("functions.{name}"),
                "is not a function's name: NAME or SCHEMA.NAME",
            );
            None
        }
    }
}

fn pool(mut section: Section<'_>) -> PoolConfig {
    let pool = PoolConfig {
        mode: section
            .choice(
                "mode",
                &[
                    ("transaction", PoolMode::Transaction),
                    ("session", PoolMode::Session),
                ],
            )
            .unwrap_or(PoolMode::Transaction),
        size: section.count("size", 1, 10_000),
        minimum: section.count("minimum", 0, 10_000),
        lifetime: section.time_or_never("lifetime"),
        idle_timeout: section.time_or_never("idle_timeout"),
        connect_timeout: section.time("connect_timeout"),
        checkout_timeout: section.time("checkout_timeout"),
        prepared_max: section.count("prepared_max", 1, 100_000),
        tcp_keepalive: section.time_or_never("tcp_keepalive"),
        tcp_user_timeout: section.time_or_never("tcp_user_timeout"),
    };
    if pool.minimum > pool.size {
        section.problem("minimum", format!("is more than pool.size, {}", pool.size));
    }
    section.finish();
    pool
}

fn limits(mut section: Section<'_>) -> Limits {
    let limits = Limits {
        client_login_timeout: section.time("client_login_timeout"),
        clients_max: section.count("clients_max", 1, 1_000_000),
        message_max: section.size("message_max", 1 << 16, (1 << 30) - 1 + (1 << 30)),
        plan_cache_max: section.count("plan_cache_max", 1, 10_000_000),
        prepared_max: section.count("prepared_max", 1, 1_000_000),
        groups_max: section.count("groups_max", 1, 100_000_000),
        merge_memory_max: section.size("merge_memory_max", 1 << 20, 1 << 40),
        drain_timeout: section.time("drain_timeout"),
    };
    section.finish();
    limits
}

fn log(mut section: Section<'_>) -> LogConfig {
    let format = section.choice(
        "format",
        &[("human", LogFormat::Human), ("json", LogFormat::Json)],
    );
    let level = section.text("level").unwrap_or_else(|| "info".into());
    if let Err(error) = level.parse::<tracing_subscriber::filter::Targets>() {
        section.problem(
            "level",
            format!("error, warn, info, debug, trace or a filter is wanted here: {error}"),
        );
    }
    section.finish();
    LogConfig {
        format: format.unwrap_or(LogFormat::Human),
        level,
    }
}

fn partitions(mut section: Section<'_>) -> Option<Duration> {
    let every = section.time_or_never("every");
    if every.is_some_and(|every| every < Duration::from_secs(1)) {
        section.problem("every", "a second at least, or off");
    }
    section.finish();
    every
}

fn cache(mut section: Section<'_>) -> CacheConfig {
    let mut tables = BTreeMap::new();
    for (name, mut table) in section.sections("tables") {
        let own = TableCache {
            enabled: !table.has("enabled") || table.yes("enabled"),
            ttl: table.has("ttl").then(|| table.time("ttl")),
            on_write: table
                .choice(
                    "on_write",
                    &[("drop", OnWrite::Drop), ("refresh", OnWrite::Refresh)],
                )
                .unwrap_or_default(),
            stale_if_error: table.time_or_never("stale_if_error"),
        };
        if own.stale_if_error.is_some_and(|time| time > CACHE_TTL_MAX) {
            table.problem("stale_if_error", "a day at most");
        }
        match TableName::parse(&name) {
            Some(name) => {
                tables.insert(name, own);
            }
            None => {
                table.finish_unread("is no table's name, such as users or app.users");
                continue;
            }
        }
        table.finish();
    }
    let warmup = section.sections("warmup");
    let warmup = warmup
        .into_iter()
        .map(|(name, section)| (name, warm(section)));
    let warmup = warmup.collect();
    let consistency = section.choice(
        "consistency",
        &[
            ("bounded", Consistency::Bounded),
            ("strict", Consistency::Strict),
        ],
    );
    let consistency = consistency.unwrap_or(Consistency::Bounded);
    let on_loss = section.choice(
        "on_loss",
        &[("refuse", OnLoss::Refuse), ("degrade", OnLoss::Degrade)],
    );
    let redis = redis(section.section("redis"), consistency);
    if consistency == Consistency::Strict && redis.is_none() {
        section.problem(
            "consistency",
            "\"strict\" is shared by cache.redis.urls; without them there is one Keyway, which needs no more",
        );
    }
    let config = CacheConfig {
        redis,
        on_loss: on_loss.unwrap_or_default(),
        warmup,
        keep_popular: section.count("keep_popular", 0, 10_000),
        enabled: section.yes("enabled"),
        ttl: section.time("ttl"),
        size: section.size("size", 1 << 20, 1 << 40),
        entry_max: section.size("entry_max", 1 << 10, 1 << 30),
        follow: section.yes("follow"),
        wait: section.time("wait"),
        soft_ttl_percent: section
            .number("soft_ttl_percent", 10, 100)
            .and_then(|percent| u32::try_from(percent).ok())
            .unwrap_or(100),
        tables,
    };
    if config.follow && !config.enabled {
        section.problem("follow", "needs cache.enabled = true");
    }
    if config.ttl > CACHE_TTL_MAX {
        section.problem(
            "ttl",
            "a day at most: writes that do not pass Keyway are not seen before",
        );
    }
    if config.entry_max > config.size / 16 {
        section.problem("entry_max", "a sixteenth of cache.size at most");
    }
    section.finish();
    config
}

fn redis(mut section: Section<'_>, consistency: Consistency) -> Option<RedisConfig> {
    let urls = section.list("urls").unwrap_or_default();
    let config = RedisConfig {
        deployment: section.text("deployment").unwrap_or_default(),
        secret: Secret::new(section.text("secret").unwrap_or_default()),
        consistency,
        answers: section.yes("answers"),
        timeout: section.time("timeout"),
        lease: section.time("lease"),
        urls: urls.into_iter().map(Secret::new).collect(),
    };
    if !config.urls.is_empty() {
        if config.secret.reveal().len() < SECRET_MIN {
            section.problem(
                "secret",
                format!("{SECRET_MIN} characters at least, the same for all Keyways: it proves that an answer is theirs"),
            );
        }
        if config.deployment.is_empty()
            || config
                .deployment
                .contains(|c: char| "{}".contains(c) || c.is_whitespace())
        {
            section.problem(
                "deployment",
                "a name without braces and blanks is wanted here",
            );
        }
        if config.timeout > Duration::from_secs(1) {
            section.problem("timeout", "a second at most: statements wait for it");
        }
        if config.lease < Duration::from_secs(1) || config.lease > Duration::from_secs(600) {
            section.problem("lease", "from 1s to 600s");
        }
    }
    section.finish();
    (!config.urls.is_empty()).then_some(config)
}

/// Characters that the deployment's secret has at least.
const SECRET_MIN: usize = 16;

fn warm(mut section: Section<'_>) -> Warmup {
    let mut wanted = |key| {
        let text = section.text(key);
        if text.is_none() {
            section.problem(key, "is missing");
        }
        text.unwrap_or_default()
    };
    let (sql, database, user) = (wanted("sql"), wanted("database"), wanted("user"));
    let schedule = section.text("schedule");
    if let Some(schedule) = &schedule
        && let Err(error) = croner::Cron::from_str(schedule)
    {
        section.problem("schedule", format!("is no cron expression: {error}"));
    }
    let params = section.list("params");
    let settings = section.texts("settings").into_iter();
    let settings = settings.map(|(name, value)| (name.to_lowercase(), value));
    let settings = settings.collect();
    section.finish();
    Warmup {
        sql,
        params,
        database,
        user,
        settings,
        schedule,
    }
}

/// Trust is for demos: whoever can open the port is whoever they say.
fn check_listeners(config: &Config, notes: &Notes) {
    if config.auth == AuthMethod::Trust && !config.listen.ip().is_loopback() {
        notes.add(
            "auth.method",
            format!(
                "\"trust\" needs a loopback listener, not listen = {:?}",
                config.listen.to_string()
            ),
        );
    }
    if config.http == Some(config.listen) {
        notes.add("http", "is the same address as listen");
    }
}

/// Every name that is used is defined.
fn check_names(config: &Config, written_shards: &BTreeSet<String>, notes: &Notes) {
    if config.users.is_empty() {
        notes.add(
            "users",
            "is missing: nobody could connect; add [users.NAME]",
        );
    }
    for (name, warm) in &config.cache.warmup {
        let path = |key| format!("cache.warmup.{name}.{key}");
        if !warm.database.is_empty() && !config.databases.contains_key(&warm.database) {
            notes.add(
                path("database"),
                format!("there is no database {:?}", warm.database),
            );
        }
        if !warm.user.is_empty() && !config.users.contains_key(&warm.user) {
            notes.add(path("user"), format!("there is no user {:?}", warm.user));
        }
    }
    if written_shards.is_empty() {
        notes.add(
            "shards",
            "is missing: add [shards.NAME] with primary = \"postgres://…\"",
        );
    }
    if written_shards.len() > SHARDS_MAX {
        notes.add(
            "shards",
            format!(
                "there are {}, at most {SHARDS_MAX} are supported",
                written_shards.len()
            ),
        );
    }
    if config.databases.is_empty() {
        notes.add(
            "databases",
            "is missing: add [databases.NAME] with keyspaces = […]",
        );
    }
    for (name, database) in &config.databases {
        for keyspace in database
            .keyspaces
            .iter()
            .filter(|keyspace| !config.keyspaces.contains_key(*keyspace))
        {
            let known: Vec<&str> = config.keyspaces.keys().map(String::as_str).collect();
            notes.add(
                format!("databases.{name}.keyspaces"),
                format!(
                    "there is no [keyspaces.{keyspace}]; known: {}",
                    known.join(", ")
                ),
            );
        }
    }
    for (name, user) in &config.users {
        for database in user
            .databases
            .iter()
            .flatten()
            .filter(|database| !config.databases.contains_key(*database))
        {
            let known: Vec<&str> = config.databases.keys().map(String::as_str).collect();
            notes.add(
                format!("users.{name}.databases"),
                format!(
                    "there is no [databases.{database}]; known: {}",
                    known.join(", ")
                ),
            );
        }
    }
    if let Some(catalog) = config
        .catalog
        .as_ref()
        .filter(|catalog| !written_shards.contains(*catalog))
    {
        let known: Vec<&str> = written_shards.iter().map(String::as_str).collect();
        notes.add(
            "catalog",
            format!(
                "there is no [shards.{catalog}]; known: {}",
                known.join(", ")
            ),
        );
    }
}

/// One PostgreSQL database is one shard.
/// The search_path starts with `"$user"`: a statement that runs as a role of the catalog's schema's name finds the
/// catalog's tables before the application's, and creates its own among them.
fn check_roles(config: &Config, notes: &Notes) {
    const WHY: &str = "the schema of Keyway's catalog has this name, and \"$user\" in the search_path would stand for it; \
                       let statements run as another role";
    let mut as_dsn = false;
    for (name, user) in &config.users {
        match user.server_user.as_deref() {
            None => as_dsn = true,
            Some("keyway") => {
                notes.add(format!("users.{name}.server_user"), WHY);
            }
            Some(_) => {}
        }
    }
    for (name, shard) in &config.shards {
        if as_dsn && shard.primary.user == "keyway" {
            notes.add(format!("shards.{name}.primary"), WHY);
        }
    }
}

fn check_servers(config: &Config, notes: &Notes) {
    let mut seen: HashMap<(&str, u16, &str), String> = HashMap::new();
    for (name, shard) in &config.shards {
        let primary = [(format!("shards.{name}.primary"), &shard.primary)];
        let replicas = shard
            .replicas
            .iter()
            .map(|dsn| (format!("shards.{name}.replicas"), dsn));
        for (key, dsn) in primary.into_iter().chain(replicas) {
            let Dsn {
                host,
                port,
                database,
                ..
            } = dsn;
            if let Some(first) = seen.insert((host, *port, database), key.clone()) {
                notes.add(
                    key,
                    format!(
                        "{dsn} is also {first}; one PostgreSQL database is one server of one shard"
                    ),
                );
            }
        }
    }
}

/// A name means one table in a database.
fn check_tables(config: &Config, notes: &Notes) {
    for (database_name, database) in &config.databases {
        let mut homes: HashMap<&TableName, &str> = HashMap::new();
        for keyspace_name in &database.keyspaces {
            let Some(keyspace) = config.keyspaces.get(keyspace_name) else {
                continue;
            };
            for table in keyspace.tables.keys() {
                let first = homes
                    .insert(table, keyspace_name)
                    .filter(|first| *first != keyspace_name);
                if let Some(first) = first {
                    notes.add(
                        format!("keyspaces.{keyspace_name}.tables.{table}"),
                        format!("is also in keyspace {first:?} of database {database_name:?}; a table has one keyspace"),
                    );
                }
            }
        }
    }
}

/// Two sharded keyspaces share a shard only if a database has them both, since only there their tables' names are
/// told apart.
fn check_shared_shards(config: &Config, notes: &Notes) {
    let databases_of = |keyspace: &str| -> BTreeSet<&str> {
        config
            .databases
            .iter()
            .filter(|(_, database)| database.keyspaces.iter().any(|name| name == keyspace))
            .map(|(name, _)| name.as_str())
            .collect()
    };
    let sharded: Vec<_> = config
        .keyspaces
        .iter()
        .filter(|(_, keyspace)| keyspace.hash.is_some())
        .collect();
    for (index, (name, keyspace)) in sharded.iter().enumerate() {
        for (other_name, other) in &sharded[..index] {
            let shared = keyspace
                .shards
                .iter()
                .find(|shard| other.shards.contains(shard));
            if let Some(shard) = shared
                && databases_of(name) != databases_of(other_name)
            {
                notes.add(
                    format!("keyspaces.{name}.shards"),
                    format!("{shard:?} is also in sharded keyspace {other_name:?}, which belongs to other databases"),
                );
            }
        }
    }
}

fn first_twice(list: &[String]) -> Option<&String> {
    list.iter()
        .enumerate()
        .find(|(index, item)| list[..*index].contains(item))
        .map(|(_, item)| item)
}
