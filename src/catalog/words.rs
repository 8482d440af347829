//! What a shard's refusal means, and who stands in the way: for runners on connections of their own.

use crate::catalog::servers::chain;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};

/// Will it be better later?
pub(crate) fn is_lock_wait(error: &Error) -> bool {
    matches!(
        error.code(),
        Some(&SqlState::LOCK_NOT_AVAILABLE | &SqlState::T_R_DEADLOCK_DETECTED)
    )
}

/// PostgreSQL's error with its SQLSTATE, detail and hint.
pub(crate) fn in_words(error: &Error) -> String {
    let Some(own) = error.as_db_error() else {
        return chain(error);
    };
    let mut words = format!("{} ({})", own.message(), own.code().code());
    for (name, text) in [("detail", own.detail()), ("hint", own.hint())] {
        if let Some(text) = text {
            words = format!("{words}; {name}: {text}");
        }
    }
    words
}

/// Who has been in a transaction for the longest: first those that have a lock on one of these tables.
pub(crate) async fn holders(client: &Client, tables: &[u32]) -> String {
    let sql = "SELECT a.pid::text, coalesce(a.usename, '?')::text, coalesce(a.application_name, ''),
                 pg_catalog.date_trunc('second', pg_catalog.clock_timestamp() - a.xact_start)::text
               FROM pg_catalog.pg_stat_activity a
               WHERE a.datname = pg_catalog.current_database() AND a.pid <> pg_catalog.pg_backend_pid()
                 AND a.xact_start IS NOT NULL
               ORDER BY EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.pid = a.pid AND l.relation = ANY ($1)) DESC,
                 a.xact_start LIMIT 3";
    let rows = client.query(sql, &[&tables]).await.unwrap_or_default();
    let words: Vec<String> = rows
        .iter()
        .filter_map(|row| {
            let text = |at| row.try_get::<_, String>(at).ok();
            let (pid, user, application, time) = (text(0)?, text(1)?, text(2)?, text(3)?);
            Some(format!("pid {pid} ({user} {application}) for {time}"))
        })
        .collect();
    if words.is_empty() {
        "nobody is in a transaction now".to_owned()
    } else {
        format!("in a transaction: {}", words.join(", "))
    }
}
