//! Code that a statement runs without naming it: the functions behind users' operators, casts and domains.
//!
//! In: the statement's shape and its bound tables. Out: calls, as if the statement had named the functions. Found by the
//! text, which can only find too much: an operator's or a type's name anywhere in it, or in a view that it reads, counts.

use crate::route::bind::Binder;
use crate::route::bind::bound::Source;
use crate::route::bind::calls::{Call, CallEffect};
use crate::route::choose::context::Context;
use crate::topology::{Database, ImpliedBy, Table, TableName};
use std::collections::BTreeSet;

/// Operators that a statement uses without writing them: IN, BETWEEN, LIKE, USING, CASE, DISTINCT, GROUP BY and others.
const UNWRITTEN: [&str; 12] = [
    "=", "<>", "<", "<=", ">", ">=", "~~", "!~~", "~~*", "!~~*", "~", "!~",
];

/// Spellings of types that neither the catalog nor `format_type` has.
const SPELLINGS: [(&str, &str); 6] = [
    ("integer", "int"),
    ("numeric", "dec"),
    ("numeric", "decimal"),
    ("double precision", "float"),
    ("character", "char"),
    ("character varying", "char varying"),
];

/// Adds the implied calls of a bound statement.
pub(crate) fn add_calls(binder: &mut Binder<'_>, context: &Context<'_>) {
    let database = context.database;
    let implied = &database.implied;
    if implied.operators.is_empty() && implied.types.is_empty() {
        return;
    }
    let text = text_with_views(context.shape, database);
    let mut functions: BTreeSet<&TableName> = BTreeSet::new();
    for (operator, behind) in &implied.operators {
        if UNWRITTEN.contains(&operator.as_str()) || text.contains(operator.as_str()) {
            functions.extend(behind);
        }
    }
    let tables = binder.refs.iter().filter_map(|r| match &r.source {
        Source::Table { table, .. } => Some(table),
        _ => None,
    });
    let stored: BTreeSet<String> = tables.flat_map(|table| column_types(table)).collect();
    let casts = text.contains("::") || is_word(&text, "cast");
    for (name, behind) in &implied.types {
        let named = is_named(&text, name);
        let stored = stored.contains(name);
        let runs = behind.iter().filter(|call| match call.by {
            ImpliedBy::Name => named,
            ImpliedBy::Column => named || stored,
            ImpliedBy::Cast => named && casts,
        });
        functions.extend(runs.map(|call| &call.function));
    }
    let calls: Vec<Call> = functions
        .into_iter()
        .flat_map(|name| calls_of(name, database))
        .collect();
    // None of them is IMMUTABLE.
    binder.unkept.users |= !calls.is_empty();
    binder.calls.extend(calls);
}

/// The shape, and the definitions of all views whose names are in it: they run too.
pub(super) fn text_with_views(shape: &str, database: &Database) -> String {
    let mut text = shape.to_lowercase();
    let mut views: Vec<&Table> = database
        .tables
        .values()
        .map(AsRef::as_ref)
        .filter(|table| table.view.is_some())
        .collect();
    // Views of views: until none is added.
    loop {
        let before = views.len();
        views.retain(|table| {
            let found = text.contains(&table.name.name.to_lowercase());
            if let (true, Some(definition)) = (found, &table.view) {
                text.push('\n');
                text.push_str(&definition.to_lowercase());
            }
            !found
        });
        if views.len() == before {
            return text;
        }
    }
}

/// Is the type named as a word, under any of its spellings?
fn is_named(text: &str, name: &str) -> bool {
    let own = std::iter::once(name);
    let others = SPELLINGS.iter().filter(|(known, _)| *known == name);
    own.chain(others.map(|(_, spelling)| *spelling))
        .any(|spelling| is_word(text, spelling))
}

pub(super) fn is_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let behind = text[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && !behind.is_some_and(is_part)
    })
}

/// The bare names of the types of a table's columns: as declared, and as stored.
fn column_types(table: &Table) -> Vec<String> {
    let types = table
        .columns
        .iter()
        .flat_map(|column| [&column.type_name, &column.stored_as]);
    types.map(|name| bare(name)).collect()
}

/// A type's name without schema, length and `[]`.
fn bare(written: &str) -> String {
    let mut name = written.to_lowercase().replace(['"', '[', ']'], "");
    if let (Some(open), Some(close)) = (name.find('('), name.find(')'))
        && open < close
    {
        name.replace_range(open..=close, "");
    }
    let bare = name.rsplit('.').next().unwrap_or_default();
    bare.trim().to_owned()
}

/// What calling any function of the name would be.
fn calls_of(name: &TableName, database: &Database) -> Vec<Call> {
    let call = |effect| Call {
        name: name.name.clone(),
        effect,
        output: true,
    };
    let overloads = database.functions.get(name).into_iter().flatten();
    overloads
        .filter_map(|function| match &function.declared {
            Some(declared) => Some(call(CallEffect::Declared(
                declared.clone(),
                function.volatility == 'v',
            ))),
            None if function.volatility == 'i' => None,
            None => Some(call(CallEffect::Undeclared)),
        })
        .collect()
}
