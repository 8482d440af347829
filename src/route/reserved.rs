//! Keyway's own schema is not the client's: what is changed there moves buckets under every Keyway, and each shard has
//! its own.
//!
//! In: a statement's text. Out: does it name the schema? Where a role may use the schema and makes its name up as it
//! runs (EXECUTE of a text put together), only PostgreSQL's privileges keep it out.

use crate::route::choose::context::Context;
use crate::route::error::RouteError;
use crate::statement::lex::{Lexer, Token, TokenKind, identifier};
use crate::statement::scan::{ScanSettings, Verb, dollar_body};

/// The schema of the catalog's tables.
pub(crate) const SCHEMA: &str = "keyway";

/// How deep the code of DO and CREATE FUNCTION is looked into.
const DEPTH_MAX: usize = 4;

/// Refuses what names Keyway's own schema.
pub(super) fn refuse(context: &Context<'_>) -> Result<(), RouteError> {
    if names_schema(context.shape, context.verb == Verb::Do, DEPTH_MAX) {
        return Err(RouteError::OwnSchema);
    }
    Ok(())
}

/// `keyway.…`, or SCHEMA keyway; in code between dollars too, and in DO's however it is quoted.
fn names_schema(text: &str, code: bool, depth: usize) -> bool {
    // An escaped name may spell it.
    let lower = text.to_ascii_lowercase();
    if depth == 0 || !(lower.contains(SCHEMA) || lower.contains("u&\"")) {
        return false;
    }
    let settings = ScanSettings {
        standard_conforming_strings: true,
    };
    let mut lexer = Lexer::new(text, settings);
    let mut tokens: Vec<Token> = Vec::new();
    while let Ok(Some(token)) = lexer.next() {
        tokens.push(token);
    }
    let raw = |token: &Token| &text[token.start..token.end];
    let is_schema = |token: &Token| match token.kind {
        TokenKind::Word | TokenKind::Quoted => {
            identifier(text, *token).is_some_and(|name| name == SCHEMA)
        }
        TokenKind::UnicodeQuoted => identifier(text, *token).is_none_or(|name| name == SCHEMA),
        _ => false,
    };
    let is_dot = |token: Option<&Token>| {
        token.is_some_and(|token| token.kind == TokenKind::Punctuation(b'.'))
    };
    let is_word = |token: &Token, word: &str| {
        token.kind == TokenKind::Word && raw(token).eq_ignore_ascii_case(word)
    };
    tokens
        .iter()
        .enumerate()
        .any(|(at, token)| match token.kind {
            TokenKind::DollarString => names_schema(dollar_body(raw(token)), true, depth - 1),
            TokenKind::String | TokenKind::EscapeString if code => {
                // A name alone is a setting's, or an object's to be looked up.
                let body = raw(token).split_once('\'').map_or("", |(_, body)| body);
                body.contains(char::is_whitespace)
                    && names_schema(body.trim_end_matches('\''), true, depth - 1)
            }
            _ if !is_schema(token) => false,
            _ if is_dot(tokens.get(at + 1)) => true,
            // SCHEMA [IF [NOT] EXISTS] keyway, and where several are listed.
            _ => {
                let before = tokens[..at].iter().rev();
                let mut listed = before.skip_while(|token| {
                    is_word(token, "if")
                        || is_word(token, "not")
                        || is_word(token, "exists")
                        || token.kind == TokenKind::Punctuation(b',')
                        || (token.kind == TokenKind::Word
                            && !is_word(token, "schema")
                            && is_listed(&tokens, token))
                        || token.kind == TokenKind::Quoted
                });
                listed.next().is_some_and(|token| is_word(token, "schema"))
            }
        })
}

/// Does a comma stand behind the token?
fn is_listed(tokens: &[Token], token: &Token) -> bool {
    let mut behind = tokens.iter().skip_while(|other| other.start <= token.start);
    behind
        .next()
        .is_some_and(|next| next.kind == TokenKind::Punctuation(b','))
}
