//! Times that a schema change would fix: PostgreSQL makes a constant of `'now'::timestamp` when it reads a definition, and
//! computes a partition's bounds. Each shard does so at another moment.
//!
//! In: a change's tree and text. Out: may a shard's clock become part of the schema? By the text, where the tree leaves
//! out what concerns one shard alone.

use crate::route::bind::differs::is_time;
use crate::route::choose::context::Context;
use crate::route::key::{ConstantType, type_named};
use crate::statement::lex::{Lexer, Token, TokenKind, identifier};
use crate::statement::scan::{ScanSettings, says_time};
use crate::statement::tree::{AlterAction, ColumnDefinition, Ddl, Expr};
use crate::topology::KeyFamily;

/// What stands between a type and the string it is of: `timestamp (3) with time zone '…'`.
const BEHIND_TYPE: &[&str] = &["with", "without", "time", "zone"];

/// What gives a bound another value on each shard.
const FICKLE: &[&str] = &[
    "clock_timestamp",
    "current_catalog",
    "current_database",
    "current_date",
    "current_time",
    "current_timestamp",
    "gen_random_uuid",
    "localtime",
    "localtimestamp",
    "nextval",
    "now",
    "random",
    "statement_timestamp",
    "timeofday",
    "transaction_timestamp",
];

/// Would the change make a constant of each shard's clock?
pub(super) fn fixes_time(ddl: &Ddl, context: &Context<'_>) -> bool {
    let default_fixes = |column: &ColumnDefinition| {
        let default = column.default.as_ref();
        default.is_some_and(|default| is_read_as_time(default, &column.data_type))
    };
    let by_default = match ddl {
        Ddl::CreateTable(create) => create.columns.iter().any(default_fixes),
        Ddl::AlterTable { actions, table } => actions.iter().any(|action| match action {
            AlterAction::AddColumn(column) => default_fixes(column),
            AlterAction::SetDefault(column, default) => {
                let mut tables = context.database.tables.values();
                let known = tables.find_map(|known| {
                    let mut columns = known.columns.iter();
                    columns
                        .find(|own| known.name.name == table.name && own.name == *column)
                        .map(|column| column.stored_as.as_str())
                });
                is_read_as_time(default, known.unwrap_or_default())
            }
            _ => false,
        }),
        _ => false,
    };
    let is_time_column = |name: &str| {
        let created = match ddl {
            Ddl::CreateTable(create) => create.columns.as_slice(),
            _ => &[],
        };
        let mut tables = context.database.tables.values();
        created
            .iter()
            .any(|column| column.name == name && is_time(&column.data_type))
            || tables.any(|table| {
                let mut columns = table.columns.iter();
                columns.any(|column| column.name == name && is_time(&column.stored_as))
            })
    };
    by_default || text_fixes_time(context.shape, is_time_column)
}

/// A string alone is read as its column's type. What is not known may be a time.
fn is_read_as_time(default: &Expr, data_type: &str) -> bool {
    let base = data_type.split('(').next().unwrap_or_default().trim();
    let is_text = matches!(
        type_named(base),
        ConstantType::Family(KeyFamily::Text | KeyFamily::Bpchar)
    ) || ["char", "character", "citext", "name", "json", "jsonb"].contains(&base);
    matches!(default, Expr::String(text) if says_time(text.as_bytes())) && !is_text
}

/// A string that says now is cast to a time, compared with a column of times, or a partition's bound.
fn text_fixes_time(text: &str, is_time_column: impl Fn(&str) -> bool) -> bool {
    let settings = ScanSettings {
        standard_conforming_strings: true,
    };
    let mut lexer = Lexer::new(text, settings);
    let mut tokens = Vec::new();
    while let Ok(Some(token)) = lexer.next() {
        tokens.push(token);
    }
    let raw = |token: &Token| &text[token.start..token.end];
    let word = |at: usize| {
        let token = tokens.get(at)?;
        let name = matches!(token.kind, TokenKind::Word | TokenKind::Quoted);
        name.then(|| identifier(text, *token)).flatten()
    };
    let is_word = |at: usize, wanted: &str| word(at).is_some_and(|word| word == wanted);
    let is_type = |at: usize| word(at).is_some_and(|word| is_time(&word));
    let is_column = |at: Option<usize>| at.and_then(word).is_some_and(|word| is_time_column(&word));
    let is_operator = |at: Option<usize>| {
        at.and_then(|at| tokens.get(at))
            .is_some_and(|token| token.kind == TokenKind::Operator)
    };
    let is = |at: usize, symbol: u8| {
        let token = tokens.get(at);
        token.is_some_and(|token| token.kind == TokenKind::Punctuation(symbol))
    };
    let (mut typed, mut bounds) = (false, false);
    for (at, token) in tokens.iter().enumerate() {
        let string = matches!(
            token.kind,
            TokenKind::String
                | TokenKind::EscapeString
                | TokenKind::UnicodeString
                | TokenKind::DollarString
        );
        if string && says_time(raw(token).as_bytes()) {
            let mut behind = at + 1;
            while is(behind, b')') {
                behind += 1;
            }
            let is_cast = tokens
                .get(behind)
                .is_some_and(|token| token.kind == TokenKind::Cast)
                || is_word(behind, "as");
            // `pg_catalog.timestamptz`
            let of = if is(behind + 2, b'.') {
                behind + 3
            } else {
                behind + 1
            };
            let compared = (is_operator(at.checked_sub(1)) && is_column(at.checked_sub(2)))
                || (is_operator(Some(at + 1)) && is_column(Some(at + 2)));
            if typed || bounds || compared || (is_cast && is_type(of)) {
                return true;
            }
        }
        bounds |= is_word(at, "values") && at > 0 && is_word(at - 1, "for");
        if bounds && word(at).is_some_and(|word| FICKLE.contains(&word.as_str())) {
            return true;
        }
        typed = is_type(at)
            || (typed
                && (matches!(token.kind, TokenKind::Integer)
                    || is(at, b'(')
                    || is(at, b')')
                    || BEHIND_TYPE.iter().any(|word| is_word(at, word))));
    }
    false
}
