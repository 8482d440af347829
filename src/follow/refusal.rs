//! What a shard needs so that it can tell: `wal_level`, a publication, the right to replicate, a free slot. What is missing is
//! said in words that an operator can act on.

use crate::backend::connect::ConnectError;
use crate::follow::line::{FollowError, Line};

/// The publication: of all tables, and made when it is missing.
pub(super) const PUBLICATION: &str = "keyway_cache";

/// Is it of all tables, and of all changes? No row when it is not there.
const IS_WHOLE: &str =
    "SELECT puballtables AND pubinsert AND pubupdate AND pubdelete AND pubtruncate
  FROM pg_catalog.pg_publication WHERE pubname = 'keyway_cache'";

/// Tables whose rows nobody could update or delete any more once they are published: PostgreSQL wants to say which row it was.
const NAMELESS: &str =
    "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND c.relreplident <> 'f'
    AND n.nspname NOT IN ('pg_catalog', 'information_schema')
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisvalid AND i.indimmediate
      AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END)
  ORDER BY 1 LIMIT 5";

/// Looks whether the server's log says enough, and makes the publication if it is missing.
///
/// Not cancel safe, as [`Line::rows`].
///
/// # Errors
/// A refusal when somebody must do something.
pub(super) async fn prepare(line: &mut Line) -> Result<(), FollowError> {
    let level = "SELECT pg_catalog.current_setting('wal_level')";
    let level = only(line, level).await?.unwrap_or_default();
    if level != "logical" {
        return Err(FollowError::Refused(format!(
            "wal_level is {level} there: set wal_level = logical and restart that server"
        )));
    }
    match only(line, IS_WHOLE).await?.as_deref() {
        Some("t") => Ok(()),
        Some(_) => Err(FollowError::Refused(format!(
            "publication {PUBLICATION} is not one of all tables and all changes: DROP PUBLICATION {PUBLICATION}"
        ))),
        None => publish(line).await,
    }
}

async fn publish(line: &mut Line) -> Result<(), FollowError> {
    let create = format!("CREATE PUBLICATION {PUBLICATION} FOR ALL TABLES");
    let nameless = line.rows(NAMELESS).await?;
    if !nameless.is_empty() {
        let names: Vec<_> = nameless.into_iter().flatten().flatten().collect();
        let names = names.join(", ");
        return Err(FollowError::Refused(format!(
            "UPDATE and DELETE would fail on tables without a primary key once they are published ({names}): give them one, \
             or ALTER TABLE … REPLICA IDENTITY FULL; or run {create} all the same"
        )));
    }
    match line.rows(&create).await {
        Ok(_) => Ok(()),
        Err(FollowError::Answered { code, message }) => match code.as_str() {
            // Another Keyway has made it meanwhile.
            "42710" | "23505" => Ok(()),
            "42501" => Err(FollowError::Refused(format!(
                "a superuser must run {create} there ({message})"
            ))),
            _ => Err(FollowError::Answered { code, message }),
        },
        Err(error) => Err(error),
    }
}

/// The first column of a query's only row.
pub(super) async fn only(line: &mut Line, sql: &str) -> Result<Option<String>, FollowError> {
    let rows = line.rows(sql).await?;
    Ok(rows
        .into_iter()
        .next()
        .and_then(|row| row.into_iter().next())
        .flatten())
}

/// What the server's refusal of a replication connection or of a slot means.
pub(super) fn explained(error: FollowError, user: &str) -> FollowError {
    let (code, message) = match &error {
        FollowError::Connect(ConnectError::Rejected { code, message, .. })
        | FollowError::Answered { code, message } => (code.as_str(), message),
        _ => return error,
    };
    let advice = match code {
        "42501" => format!("role {user} may not replicate: ALTER ROLE … REPLICATION"),
        "53300" => "no replication connection is free: raise max_wal_senders".to_owned(),
        "53400" => "no replication slot is free: raise max_replication_slots".to_owned(),
        _ => return error,
    };
    FollowError::Refused(format!("{advice} ({message})"))
}
