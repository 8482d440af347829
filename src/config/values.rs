//! The configuration's words that later rooms carry on: servers, secrets, names, hashes.

use std::fmt;

/// Buckets in every keyspace's map.
pub const BUCKETS: usize = 16_384;

/// Where a server is and how the control plane logs in.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Dsn {
    /// Host name, address, or a directory (leading `/`) of a unix socket.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database name.
    pub database: String,
    /// The control plane's role.
    pub user: String,
    /// Its password.
    pub password: Option<Secret>,
    /// TLS towards this server.
    pub tls: ServerTls,
}

impl fmt::Debug for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Without user and password.
impl fmt::Display for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = if self.host.contains(':') {
            ("[", "]")
        } else {
            ("", "")
        };
        write!(
            f,
            "{open}{}{close}:{}/{}",
            self.host, self.port, self.database
        )
    }
}

/// TLS towards a server, as libpq's sslmode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ServerTls {
    /// Never.
    Disable,
    /// If the server offers it, unverified.
    #[default]
    Prefer,
    /// Must, unverified.
    Require,
    /// Must, chain verified.
    VerifyCa,
    /// Must, chain and host name verified.
    VerifyFull,
}

/// Text that is never printed.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How a key becomes a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyHash {
    /// xxh3-64 of the canonical bytes, mod 16,384.
    Xxh3,
    /// PostgreSQL's `PARTITION BY HASH` with this modulus; bucket = remainder.
    Postgres {
        /// The modulus, at most [`BUCKETS`].
        modulus: u16,
    },
}

/// A table's name with its schema, folded.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// `public` by default.
    pub schema: String,
    /// The name.
    pub name: String,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.schema == "public" {
            f.write_str(&self.name)
        } else {
            write!(f, "{}.{}", self.schema, self.name)
        }
    }
}

/// Types whose equality is equality of canonical bytes, grouped by those bytes (DESIGN §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyFamily {
    /// int2, int4, int8
    Int,
    /// text, varchar
    Text,
    /// char(n)
    Bpchar,
    /// uuid
    Uuid,
    /// bool
    Bool,
    /// date
    Date,
    /// timestamp
    Timestamp,
    /// timestamptz
    TimestampTz,
    /// bytea
    Bytea,
}

/// What the configuration says a function does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FunctionDeclaration {
    /// Touches nothing but its arguments and the rows on its own shard that the statement is pinned to.
    PerShard,
    /// Reads and writes these tables.
    Touches {
        /// Tables read.
        reads: Vec<TableName>,
        /// Tables written.
        writes: Vec<TableName>,
    },
}

impl TableName {
    /// Reads `users`, `app.users`, `"Users"` or `app."Users"` as PostgreSQL would: unquoted parts are folded to lower
    /// case, the schema is `public` unless named.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = parse_identifiers(text)?;
        let name = parts.pop()?;
        let schema = match parts.len() {
            0 => "public".to_owned(),
            1 => parts.pop()?,
            _ => return None,
        };
        Some(Self { schema, name })
    }
}

/// One identifier, folded unless quoted.
#[must_use]
pub fn parse_identifier(text: &str) -> Option<String> {
    let mut parts = parse_identifiers(text)?;
    let name = parts.pop()?;
    parts.is_empty().then_some(name)
}

/// `a.b."C d"` as its identifiers, folded unless quoted.
fn parse_identifiers(text: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut chars = text.trim().chars().peekable();
    loop {
        let mut part = String::new();
        if chars.peek() == Some(&'"') {
            chars.next();
            loop {
                match chars.next()? {
                    '"' if chars.peek() == Some(&'"') => {
                        chars.next();
                        part.push('"');
                    }
                    '"' => break,
                    '\0' => return None,
                    c => part.push(c),
                }
            }
        } else {
            while let Some(c) = chars.next_if(|c| c.is_alphanumeric() || matches!(c, '_' | '$')) {
                part.push(c.to_ascii_lowercase());
            }
            if part.starts_with(|c: char| c.is_ascii_digit() || c == '$') {
                return None;
            }
        }
        if part.is_empty() || part.len() > 63 {
            return None;
        }
        parts.push(part);
        match chars.next() {
            None => return Some(parts),
            Some('.') => {}
            Some(_) => return None,
        }
    }
}

impl KeyFamily {
    /// The family of a type by its name, any modifier in parentheses left out.
    #[must_use]
    pub fn of_type_name(name: &str) -> Option<Self> {
        let lower = name.trim().to_ascii_lowercase();
        let bare = match (lower.find('('), lower.find(')')) {
            (Some(open), Some(close)) if open < close => {
                format!("{}{}", lower[..open].trim_end(), &lower[close + 1..])
            }
            _ => lower,
        };
        Some(match bare.as_str() {
            "smallint" | "integer" | "bigint" | "int" | "int2" | "int4" | "int8" => Self::Int,
            "text" | "varchar" | "character varying" => Self::Text,
            "char" | "character" | "bpchar" => Self::Bpchar,
            "uuid" => Self::Uuid,
            "bool" | "boolean" => Self::Bool,
            "date" => Self::Date,
            "timestamp" | "timestamp without time zone" => Self::Timestamp,
            "timestamptz" | "timestamp with time zone" => Self::TimestampTz,
            "bytea" => Self::Bytea,
            _ => return None,
        })
    }

    /// The OIDs that [`KeyFamily::of_oid`] knows.
    pub const OIDS: [u32; 12] = [16, 17, 20, 21, 23, 25, 1042, 1043, 1082, 1114, 1184, 2950];

    /// The family of a built-in type by its OID (`pg_type.oid`, the same on every server).
    #[must_use]
    pub fn of_oid(oid: u32) -> Option<Self> {
        Some(match oid {
            20 | 21 | 23 => Self::Int,
            25 | 1043 => Self::Text,
            1042 => Self::Bpchar,
            2950 => Self::Uuid,
            16 => Self::Bool,
            1082 => Self::Date,
            1114 => Self::Timestamp,
            1184 => Self::TimestampTz,
            17 => Self::Bytea,
            _ => return None,
        })
    }
}
