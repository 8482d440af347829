//! Pieces of the primary key's order, as conditions.

use crate::catalog::quote;
use crate::partition::convert::facts::KeyColumn;
use crate::topology::ranges::literal;
use tokio_postgres::{Client, Error};

/// A row's primary key, each value as PostgreSQL prints it.
pub(super) type Key = Vec<String>;

/// The keys behind `after`, up to `to` and with it. `None`: without an end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) after: Option<Key>,
    pub(super) to: Option<Key>,
}

impl Piece {
    /// A condition, true without any end.
    pub(super) fn condition(&self, key: &[KeyColumn]) -> String {
        let mut parts = Vec::new();
        if let Some(after) = &self.after {
            parts.push(behind(key, after));
        }
        if let Some(to) = &self.to {
            parts.push(up_to(key, to));
        }
        if parts.is_empty() {
            "true".to_owned()
        } else {
            parts.join(" AND ")
        }
    }

    /// For people.
    pub(super) fn shown(&self) -> String {
        let of = |key: &Key| format!("({})", key.join(", "));
        match (&self.after, &self.to) {
            (None, None) => "somewhere".to_owned(),
            (Some(after), None) => format!("behind key {}", of(after)),
            (None, Some(to)) => format!("up to key {}", of(to)),
            (Some(after), Some(to)) => {
                format!("behind key {} and up to {}", of(after), of(to))
            }
        }
    }
}

/// The rows behind a key. With PostgreSQL's own operators as a comparison of rows, which an index can answer; it looks for operators
/// by name, so those of other schemas are written out.
fn behind(key: &[KeyColumn], at: &Key) -> String {
    if let Some(rows) = rows(key, at, ">") {
        return rows;
    }
    // An index can answer for the first column.
    let first = format!(
        "NOT ({} {} {})",
        value(&key[0], &at[0]),
        key[0].greater,
        quote(&key[0].name)
    );
    format!("{first} AND ({})", behind_one_by_one(key, at))
}

/// The rows up to a key and with it.
fn up_to(key: &[KeyColumn], at: &Key) -> String {
    if let Some(rows) = rows(key, at, "<=") {
        return rows;
    }
    let first = &key[0];
    let least = value(first, &at[0]);
    let name = quote(&first.name);
    format!(
        "NOT ({name} {} {least}) AND NOT ({})",
        first.greater,
        behind_one_by_one(key, at)
    )
}

fn rows(key: &[KeyColumn], at: &Key, operator: &str) -> Option<String> {
    let is_own = |column: &KeyColumn| column.greater == "OPERATOR(pg_catalog.>)";
    let names: Vec<String> = key.iter().map(|column| quote(&column.name)).collect();
    let values: Vec<String> = key.iter().zip(at).map(|(c, text)| value(c, text)).collect();
    let rows = format!(
        "ROW({}) {operator} ROW({})",
        names.join(", "),
        values.join(", ")
    );
    key.iter().all(is_own).then_some(rows)
}

fn behind_one_by_one(key: &[KeyColumn], at: &Key) -> String {
    let mut any = Vec::new();
    for (place, (column, text)) in key.iter().zip(at).enumerate() {
        let mut all: Vec<String> = key[..place]
            .iter()
            .zip(at)
            .map(|(before, text)| is(before, &value(before, text)))
            .collect();
        let name = quote(&column.name);
        all.push(format!("{name} {} {}", column.greater, value(column, text)));
        any.push(format!("({})", all.join(" AND ")));
    }
    any.join(" OR ")
}

/// A value of a column as PostgreSQL printed it.
pub(super) fn value(column: &KeyColumn, text: &str) -> String {
    format!("{}::{}", literal(text), column.type_name)
}

/// A column has a value.
pub(super) fn is(column: &KeyColumn, value: &str) -> String {
    format!("{} {} {value}", quote(&column.name), column.equal)
}

/// One row.
pub(super) fn exactly(key: &[KeyColumn], at: &Key) -> String {
    let parts: Vec<String> = key
        .iter()
        .zip(at)
        .map(|(column, text)| is(column, &value(column, text)))
        .collect();
    parts.join(" AND ")
}

/// The key's columns as text, to be selected.
pub(super) fn as_text(key: &[KeyColumn], of: &str) -> String {
    let columns: Vec<String> = key
        .iter()
        .map(|column| format!("{of}{}::pg_catalog.text", quote(&column.name)))
        .collect();
    format!("ARRAY[{}]", columns.join(", "))
}

/// The key's columns, to order by: the order of their types, whatever the search_path is.
pub(super) fn order(key: &[KeyColumn]) -> String {
    let columns: Vec<String> = key.iter().map(|column| quote(&column.name)).collect();
    columns.join(", ")
}

/// The key of the last of so many rows of `from` behind `after`; `None` when there are none.
pub(super) async fn end_of(
    client: &Client,
    from: &str,
    key: &[KeyColumn],
    after: Option<&Key>,
    rows: i64,
) -> Result<Option<Key>, Error> {
    let rest = Piece {
        after: after.cloned(),
        to: None,
    };
    let back: Vec<String> = key
        .iter()
        .map(|column| format!("{} DESC", quote(&column.name)))
        .collect();
    let sql = format!(
        "SELECT {} FROM (SELECT {order} FROM ONLY {from} WHERE {} ORDER BY {order} LIMIT {rows}) next ORDER BY {} LIMIT 1",
        as_text(key, "next."),
        rest.condition(key),
        back.join(", "),
        order = order(key),
    );
    let row = client.query_opt(&sql, &[]).await?;
    row.map(|row| row.try_get(0)).transpose()
}
