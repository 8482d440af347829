//! The result cache as a client sees it: SHOW keyway.cache, SHOW keyway.cache_entries, SELECT keyway.cache_flush().

use crate::route::keep::NotKept;
use crate::route::key::Values;
use crate::route::recipe::Recipe;
use crate::session::Session;
use crate::session::error::SessionError;
use crate::session::kept::says_time_now;
use crate::statement::scan::{ScanSettings, Verb, scan, shape};
use crate::topology::TableName;
use crate::wire::error::{ErrorFields, SqlState};
use tokio::time::Instant;

/// Of SHOW keyway.cache.
pub(super) const CACHE_COLUMNS: [&str; 2] = ["name", "value"];

/// Of SHOW keyway.cache_entries.
pub(super) const ENTRY_COLUMNS: [&str; 5] = ["hits", "age_ms", "rows", "bytes", "statement"];

/// Entries that are shown.
const ENTRIES_SHOWN: usize = 100;

/// A longer statement is no call of it, in bytes.
const CALL_MAX: usize = 512;

/// The function that drops kept answers.
const FLUSH: &str = "keyway.cache_flush";

/// What `SELECT keyway.cache_flush('table')` drops, if a statement is just that: a table's answers, or all.
pub(super) fn flush_called(own: &str) -> Option<Option<String>> {
    if own.len() > CALL_MAX {
        return None;
    }
    let select = own.get(..6)?;
    let call = own[select.len()..].trim();
    let name = call.get(..FLUSH.len())?;
    let rest = call[name.len()..].trim();
    if !select.eq_ignore_ascii_case("select") || !name.eq_ignore_ascii_case(FLUSH) {
        return None;
    }
    let inside = rest.strip_prefix('(')?.strip_suffix(')')?.trim();
    if inside.is_empty() {
        return Some(None);
    }
    let quoted = inside.strip_prefix('\'')?.strip_suffix('\'')?;
    // Two strings, or a part of one.
    let is_one = !quoted.replace("''", "").contains('\'');
    is_one.then(|| Some(quoted.replace("''", "'")))
}

impl Session {
    /// Whether a statement's answer is kept, for EXPLAIN (ROUTE); nothing where no answer is.
    pub(super) fn explain_kept(&self, recipe: &Recipe, values: &Values<'_>) -> Option<String> {
        self.worker.results.as_ref()?;
        let hints = values.statement.hints.as_deref();
        let kept = recipe.keeps.as_ref().map_err(|why| *why).and_then(|reads| {
            if says_time_now(values) {
                return Err(NotKept::Clock);
            }
            self.ttl_of(reads, hints)
        });
        Some(match kept {
            Ok(ttl) => format!("kept for {}s", ttl.as_secs_f64()),
            Err(why) => format!("not kept: {}", why.reason()),
        })
    }

    /// The rows of SHOW keyway.cache, or of SHOW keyway.cache_entries.
    pub(super) fn cache_shown(&self, entries: bool) -> Result<Vec<Vec<String>>, SessionError> {
        let Some(results) = &self.worker.results else {
            return if entries {
                Err(cache_is_off())
            } else {
                Ok(vec![row("enabled", &"off")])
            };
        };
        if !entries {
            let standing = results.standing();
            let mut rows = vec![
                row("enabled", &"on"),
                row("entries", &standing.entries),
                row("bytes", &standing.bytes),
                row("size", &standing.size),
                row("versions_bytes", &standing.cells_bytes),
                row("evictions", &standing.evictions),
                row("flushes", &standing.flushes),
                row("writes_in_doubt", &standing.in_doubt),
            ];
            if let Some(shared) = self.worker.shared.metrics.shared() {
                let step = if shared.is_away {
                    "away"
                } else if shared.is_out_of_step {
                    "out of step"
                } else {
                    "in step"
                };
                rows.push(row("redis", &step));
                rows.push(row("redis.lag_us", &shared.lag_us.unwrap_or_default()));
                rows.push(row("redis.marks", &shared.marks));
                rows.push(row("redis.timeouts", &shared.timeouts));
                rows.push(row("redis.answers_found", &shared.found));
            } else {
                rows.push(row("redis", &"off"));
            }
            let Some(followed) = self.worker.shared.metrics.followed() else {
                rows.push(row("follow", &"off"));
                return Ok(rows);
            };
            rows.push(row("follow", &"on"));
            for shard in &followed {
                let name = |what: &str| format!("follow.{}.{what}", shard.shard);
                rows.push(row(&name("state"), &shard.state));
                rows.push(row(&name("lag_ms"), &shard.lag_ms));
                rows.push(row(&name("lag_bytes"), &shard.lag_bytes));
                rows.push(row(&name("changes"), &shard.changes));
                rows.push(row(&name("reconnects"), &shard.reconnects));
            }
            return Ok(rows);
        }
        let now = Instant::now();
        let used = results.most_used(ENTRIES_SHOWN, now);
        Ok(used
            .iter()
            .map(|(key, entry)| {
                vec![
                    entry.hits().to_string(),
                    now.duration_since(entry.made()).as_millis().to_string(),
                    entry.reply.rows.to_string(),
                    entry.reply.len().to_string(),
                    without_values(key.text()),
                ]
            })
            .collect())
    }

    /// Drops kept answers, here and in every other Keyway.
    pub(super) async fn flush_cache(&mut self, table: Option<&str>) -> Result<(), SessionError> {
        if self.worker.results.is_none() {
            return Err(cache_is_off());
        }
        let table = match table {
            None => None,
            Some(text) => {
                let known = |name: &TableName| self.database.tables.contains_key(name);
                let name = TableName::parse(text).filter(known);
                Some(name.ok_or_else(|| no_table(text))?)
            }
        };
        let told = self.worker.shared.control.flush(table).await;
        told.map_err(|why| {
            tracing::warn!(why, "kept answers could not be dropped");
            let fields = ErrorFields::error(
                SqlState::CONNECTION_FAILURE,
                "kept answers could not be dropped",
            )
            .detail("The catalog cannot be reached, by which Keyways tell each other.")
            .hint("Try again, or stop and start Keyway.");
            SessionError::Statement(Some(Box::new(fields)))
        })
    }
}

fn no_table(name: &str) -> SessionError {
    let message = format!("relation \"{name}\" does not exist");
    let fields = ErrorFields::error(SqlState::UNDEFINED_TABLE, message)
        .hint("Name it with its schema, unless that is public.");
    SessionError::Statement(Some(Box::new(fields)))
}

fn row(name: &str, value: &impl ToString) -> Vec<String> {
    vec![name.to_owned(), value.to_string()]
}

fn cache_is_off() -> SessionError {
    SessionError::Statement(Some(Box::new(
        ErrorFields::error(
            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
            "the result cache is off",
        )
        .hint("Set cache.enabled = true and start Keyway again."),
    )))
}

/// A statement without its literals, which are other people's data.
fn without_values(text: &str) -> String {
    let settings = ScanSettings {
        standard_conforming_strings: true,
    };
    let shown = scan(text, settings).ok().and_then(|statements| {
        let one = statements.into_iter().find(|s| s.verb != Verb::Empty)?;
        Some(shape(text, &one))
    });
    shown.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::flush_called;

    #[test]
    fn only_the_call_alone_flushes() {
        let table = flush_called;
        assert_eq!(table("SELECT keyway.cache_flush()"), Some(None));
        assert_eq!(
            table("select  Keyway.Cache_Flush ( 'app.users' ) "),
            Some(Some("app.users".to_owned()))
        );
        for other in [
            "SELECT keyway.cache_flush('a', 'b')",
            "SELECT keyway.cache_flush('a'",
            "SELECT keyway.cache_flush(a)",
            "SELECT keyway.cache_flush() FROM t",
            "SELECT 1",
            "SELECT 'keyway.cache_flush()'",
            "",
        ] {
            assert_eq!(table(other), None, "{other}");
        }
    }
}
