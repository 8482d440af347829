//! Session settings as a value: what a session has set, what a server has applied, and the difference as SQL.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// A setting's value, as it was given.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SettingValue {
    /// The text behind `SET name TO`, as the client wrote it: `a, b`, `'x'`, `on`.
    Raw(String),
    /// A plain value: a startup parameter's, or `set_config`'s.
    Text(String),
}

/// The role that statements run as.
const ROLE: &str = "role";

/// Who the session belongs to.
const SESSION_AUTHORIZATION: &str = "session_authorization";

/// Two settings in one: how dates are written, and in which order their fields are read.
pub const DATESTYLE: &str = "datestyle";

/// Settings whose value changes how a text is read at Parse: a prepared statement is shared only between sessions
/// that agree on them (PostgreSQL fixes `'01/02/2024'::date` at Parse).
const READ_AT_PARSE: &[&str] = &[
    "datestyle",
    "timezone",
    "intervalstyle",
    "search_path",
    "standard_conforming_strings",
    "backslash_quote",
    "escape_string_warning",
    "role",
    "session_authorization",
    "row_security",
    "transform_null_equals",
    "array_nulls",
    "xmloption",
    "xmlbinary",
    "bytea_output",
    "lc_monetary",
    "lc_time",
    "lc_numeric",
    "default_text_search_config",
    "quote_all_identifiers",
    "plpgsql.variable_conflict",
    "timezone_abbreviations",
    "dynamic_library_path",
];

/// What a session has set, or a server has applied. Immutable; compared by pointer first.
#[derive(Debug, Clone)]
pub struct Settings {
    entries: BTreeMap<String, SettingValue>,
    parse_key: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self::new(BTreeMap::new())
    }
}

impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}
impl Eq for Settings {}

impl Hash for Settings {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.entries.hash(state);
    }
}

impl Settings {
    /// From entries with folded names.
    #[must_use]
    pub fn new(entries: BTreeMap<String, SettingValue>) -> Self {
        let mut hasher = DefaultHasher::new();
        for name in READ_AT_PARSE {
            if let Some(value) = entries.get(*name) {
                (name, value).hash(&mut hasher);
            }
        }
        for (name, value) in entries.iter().filter(|(name, _)| name.contains('.')) {
            (name, value).hash(&mut hasher);
        }
        Self {
            entries,
            parse_key: hasher.finish(),
        }
    }

    /// With `name` set (`Some`) or back at the server's own default (`None`). Another session authorization ends the role
    /// (manual, SET SESSION AUTHORIZATION).
    #[must_use]
    pub fn with(&self, name: &str, value: Option<SettingValue>) -> Self {
        let mut entries = self.entries.clone();
        if name == SESSION_AUTHORIZATION {
            entries.remove(ROLE);
        }
        match value {
            Some(value) => {
                entries.insert(name.to_owned(), value);
            }
            None => {
                entries.remove(name);
            }
        }
        Self::new(entries)
    }

    /// With those custom settings empty that have no value: once set in a session, they are never missing again.
    #[must_use]
    pub fn with_customs(self: &Arc<Self>, names: &BTreeSet<String>) -> Arc<Self> {
        let missing = || names.iter().filter(|name| self.get(name).is_none());
        if missing().next().is_none() {
            return Arc::clone(self);
        }
        let mut entries = self.entries.clone();
        entries.extend(missing().map(|name| (name.clone(), SettingValue::Text(String::new()))));
        Arc::new(Self::new(entries))
    }

    /// The value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&SettingValue> {
        self.entries.get(name)
    }

    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &SettingValue)> {
        self.entries.iter()
    }

    /// Nothing set?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Equal keys mean that a text parses to the same thing.
    #[must_use]
    pub fn parse_key(&self) -> u64 {
        self.parse_key
    }

    /// The names of custom settings (with a point): once set on a server, RESET leaves them '' instead of missing.
    #[must_use]
    pub fn custom_names(&self) -> BTreeSet<String> {
        self.entries
            .keys()
            .filter(|name| name.contains('.'))
            .cloned()
            .collect()
    }

    /// SQL that takes a server from `self` to `wanted`; `None` when they are equal.
    #[must_use]
    pub fn difference(&self, wanted: &Self) -> Option<String> {
        if self == wanted {
            return None;
        }
        let mut sql = String::new();
        // A role may lack the right to set or reset what is beside it, and a session authorization ends the role: both go
        // back first and are set last, the role at the very end.
        for name in [ROLE, SESSION_AUTHORIZATION] {
            if self.get(name).is_some() {
                let _ = write!(sql, "RESET {};", quote_setting(name));
            }
        }
        let is_role = |name: &str| name == ROLE || name == SESSION_AUTHORIZATION;
        for name in self.entries.keys().rev() {
            if !is_role(name) && wanted.get(name).is_none() {
                let _ = write!(sql, "RESET {};", quote_setting(name));
            }
        }
        for (name, value) in &wanted.entries {
            if !is_role(name) && self.get(name) != Some(value) {
                // A value of one part leaves the other as it is.
                if name == DATESTYLE && self.get(name).is_some() {
                    sql.push_str("RESET datestyle;");
                }
                write_set(&mut sql, name, value);
            }
        }
        for name in [SESSION_AUTHORIZATION, ROLE] {
            if let Some(value) = wanted.get(name) {
                write_set(&mut sql, name, value);
            }
        }
        Some(sql)
    }
}

fn write_set(sql: &mut String, name: &str, value: &SettingValue) {
    let _ = match value {
        // Only SET TIME ZONE takes an INTERVAL, and only in this spelling.
        SettingValue::Raw(raw) if name == "timezone" => write!(sql, "SET TIME ZONE {raw};"),
        SettingValue::Raw(raw) => write!(sql, "SET {} TO {raw};", quote_setting(name)),
        SettingValue::Text(text) => write!(
            sql,
            "SELECT pg_catalog.set_config({},{},false);",
            quote_literal(name),
            quote_literal(text)
        ),
    };
}

/// A setting's name for SET: each part quoted.
#[must_use]
pub fn quote_setting(name: &str) -> String {
    name.split('.')
        .map(quote_setting_part)
        .collect::<Vec<_>>()
        .join(".")
}

/// An identifier, quoted.
#[must_use]
pub fn quote_setting_part(part: &str) -> String {
    format!("\"{}\"", part.replace('"', "\"\""))
}

/// A string literal that reads the same whatever `standard_conforming_strings` says.
#[must_use]
pub fn quote_literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') {
        format!("E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        Settings::new(
            pairs
                .iter()
                .map(|(n, v)| ((*n).to_owned(), SettingValue::Raw((*v).to_owned())))
                .collect(),
        )
    }

    #[test]
    fn a_difference_resets_what_is_gone_and_sets_what_is_new() {
        let server = settings(&[("work_mem", "'4MB'"), ("datestyle", "iso")]);
        let wanted = settings(&[("datestyle", "iso"), ("search_path", "a, b"), ("role", "x")]);
        assert_eq!(
            server.difference(&wanted).unwrap(),
            "RESET \"work_mem\";SET \"search_path\" TO a, b;SET \"role\" TO x;"
        );
        assert_eq!(wanted.difference(&wanted.clone()), None);
    }

    #[test]
    fn roles_go_first_and_come_last() {
        let server = settings(&[("role", "a"), ("work_mem", "'4MB'")]);
        let wanted = settings(&[("role", "a"), ("session_authorization", "b")]);
        assert_eq!(
            server.difference(&wanted).unwrap(),
            "RESET \"role\";RESET \"work_mem\";SET \"session_authorization\" TO b;SET \"role\" TO a;"
        );
        let authorized = wanted.with(
            SESSION_AUTHORIZATION,
            Some(SettingValue::Raw("c".to_owned())),
        );
        assert_eq!(authorized.get(ROLE), None);
    }

    #[test]
    fn a_part_of_datestyle_does_not_inherit_the_other() {
        assert_eq!(
            settings(&[("datestyle", "german")]).difference(&settings(&[("datestyle", "dmy")])),
            Some("RESET datestyle;SET \"datestyle\" TO dmy;".to_owned())
        );
    }

    #[test]
    fn plain_values_cannot_leave_their_quotes() {
        let wanted = Settings::default().with(
            "application_name",
            Some(SettingValue::Text("it's \\ x".into())),
        );
        assert_eq!(
            Settings::default().difference(&wanted).unwrap(),
            "SELECT pg_catalog.set_config('application_name',E'it''s \\\\ x',false);"
        );
    }

    #[test]
    fn only_what_changes_the_reading_of_a_text_changes_the_parse_key() {
        let base = Settings::default();
        assert_eq!(base.parse_key(), settings(&[("work_mem", "1")]).parse_key());
        assert_ne!(
            base.parse_key(),
            settings(&[("timezone", "utc")]).parse_key()
        );
    }
}
