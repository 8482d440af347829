//! Temporary tables: what is created as one, and what a statement changes that names no others. The session knows which
//! are its own; a server finds those before all others (manual, 20.11.1).
//!
//! In: a tree, and the text it was made of. Out: for a recipe, the name of the table it makes, if writing to that is sure to
//! change nothing else; and what it changes besides tables that nobody has seen, should those be the session's own.

use crate::route::bind::Binder;
use crate::route::bind::tables::{Found, find_table};
use crate::route::choose::calls::traits_of;
use crate::route::choose::context::Context;
use crate::route::implied::is_word;
use crate::route::keep::{self, Changes, Parts, own_or};
use crate::route::plan::Access;
use crate::route::recipe::Recipe;
use crate::statement::tree::{CreateTable, Ddl, Expr, Name, Query};
use crate::topology::reach::{Never, Reach};
use crate::topology::{ImpliedBy, Table};
use std::sync::Arc;

/// May what is created here be temporary? By TEMP behind the word it belongs to, by a name in a temporary schema, or
/// because the search_path creates there (manual, 20.11.1): in its first schema that exists. One with tables surely does.
pub(crate) fn is_temporary(context: &Context<'_>) -> bool {
    let exists = |schema: &String| {
        let mut tables = context.database.tables.keys();
        tables.any(|table| table.schema == *schema)
    };
    let mut path = context.search_path.iter();
    if path
        .find(|schema| is_temporary_schema(schema) || exists(schema))
        .is_some_and(|schema| is_temporary_schema(schema))
    {
        return true;
    }
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let is_any = |words: &[&str], word: &str| words.iter().any(|w| w.eq_ignore_ascii_case(word));
    let mut before = "";
    let mut rest = context.shape;
    while let Some(start) = rest.find(is_part) {
        let end = rest[start..]
            .find(|c: char| !is_part(c))
            .map_or(rest.len(), |length| start + length);
        let word = &rest[start..end];
        rest = &rest[end..];
        // SET search_path = public, pg_temp in a function's definition creates nothing there.
        let qualifies = rest.trim_start_matches('"').trim_start().starts_with('.');
        let of_what = ["create", "replace", "local", "global", "into"];
        if (is_any(&["temp", "temporary"], word) && is_any(&of_what, before))
            || (is_temporary_schema(word) && qualifies)
        {
            return true;
        }
        before = word;
    }
    false
}

fn is_temporary_schema(schema: &str) -> bool {
    let prefix = schema.get(..7);
    prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case("pg_temp"))
}

/// What a change of the schema has to do with temporary tables. One that makes such a table changes what no plan depends on.
pub(super) fn note(ddl: &Ddl, context: &Context<'_>, recipe: &mut Recipe) {
    // A function that an event trigger runs may do anything.
    if context.database.event_triggers {
        return;
    }
    match ddl {
        Ddl::CreateTable(create) if is_surely_temporary(&create.name, context) => {
            // Nothing, as far as this snapshot knows of event triggers.
            let nothing = Changes::Parts(Parts::default());
            (recipe.access, recipe.changes) = (Access::Write, nothing);
            recipe.makes_temporary = is_plain(create, context).then(|| name_of(&create.name));
        }
        Ddl::CreateAs { kind, name, query }
            if kind == "table" && is_surely_temporary(name, context) =>
        {
            (recipe.access, recipe.changes) = (Access::Write, changed_by(query, context));
            recipe.makes_temporary = are_types_plain(context).then(|| name_of(name));
        }
        Ddl::Drop { kind, names, .. } if kind == "table" => {
            recipe.changes = of_tables(names, context);
        }
        Ddl::CreateIndex { table, .. } => {
            recipe.changes = of_tables(std::slice::from_ref(table), context);
        }
        _ => {}
    }
}

/// Is a table that is created here temporary by its first words, or by its schema? What [`is_temporary`] takes for one may be a table
/// that all see.
fn is_surely_temporary(name: &Name, context: &Context<'_>) -> bool {
    let text = context.shape.to_lowercase();
    let mut words = text
        .split_whitespace()
        .filter(|word| !["local", "global"].contains(word));
    let by_words = words.next() == Some("create")
        && matches!(words.next(), Some("temp" | "temporary"))
        && words.next() == Some("table");
    by_words || name.schema.as_deref() == Some("pg_temp")
}

fn name_of(name: &Name) -> Arc<str> {
    name.name.as_str().into()
}

fn changed_by(query: &Query, context: &Context<'_>) -> Changes {
    let mut binder = Binder::new(context);
    if binder.query(query).is_err() {
        return Changes::Everything;
    }
    let traits = traits_of(&mut binder, context);
    match keep::changes(None, &binder, None, &traits, context) {
        Changes::Nothing => Changes::Parts(Parts::default()),
        changes => changes,
    }
}

/// What DROP, TRUNCATE and their like change, which reach further from tables that others know.
pub(super) fn of_tables(tables: &[Name], context: &Context<'_>) -> Changes {
    let names: Option<Vec<String>> = tables.iter().map(|name| unseen(name, context)).collect();
    names.map_or(Changes::Everything, |names| {
        own_or(names, Parts::default(), Changes::Everything)
    })
}

/// A name without schema that nobody has seen a table of.
pub(super) fn unseen(name: &Name, context: &Context<'_>) -> Option<String> {
    match find_table(context, name) {
        Ok(Found::Table(table)) if name.schema.is_none() && is_unseen(&table, context) => {
            Some(name.name.clone())
        }
        _ => None,
    }
}

/// Has nobody seen a table of this name?
pub(super) fn is_unseen(table: &Table, context: &Context<'_>) -> bool {
    table.reach.never == Some(Never::Unseen) && !context.database.tables.contains_key(&table.name)
}

/// Is writing to the table sure to run nothing but what PostgreSQL brings?
fn is_plain(create: &CreateTable, context: &Context<'_>) -> bool {
    let text = context.shape.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| is_word(&text, word));
    let columns = create.columns.iter();
    let mut defaults = columns.filter_map(|column| column.default.as_ref());
    let copied = match &create.columns_from {
        None => true,
        Some(_) if says(&["inherits", "partition", "of"]) || !says(&["like"]) => false,
        // LIKE takes defaults and CHECKs along, should it be told to; triggers never.
        Some(source) => match find_table(context, source) {
            Ok(Found::Table(table)) => table.reach.insert == Reach::Families(Vec::new()),
            _ => false,
        },
    };
    copied
        && are_types_plain(context)
        && !says(&["check", "generated", "exclude"])
        && defaults.all(is_constant)
}

/// No type runs a function of the user's by being stored.
fn are_types_plain(context: &Context<'_>) -> bool {
    let mut calls = context.database.implied.types.values().flatten();
    !calls.any(|call| call.by == ImpliedBy::Column)
}

fn is_constant(default: &Expr) -> bool {
    matches!(
        default,
        Expr::Literal(_) | Expr::Null | Expr::Bool(_) | Expr::Number(_) | Expr::String(_)
    )
}
