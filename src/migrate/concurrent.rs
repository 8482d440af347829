//! CREATE INDEX CONCURRENTLY, which leaves an invalid index when it is cut off (manual, CREATE INDEX).

use crate::migrate::files::words;
use crate::statement::lex::{Lexer, TokenKind};
use crate::statement::scan::ScanSettings;

/// The index that a statement builds concurrently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Built {
    /// Its name, folded.
    pub(super) name: String,
    /// Its table, as written.
    pub(super) table: String,
}

/// Does it wait for old transactions and block nobody meanwhile: CREATE, DROP and REINDEX … CONCURRENTLY, DETACH PARTITION …
/// CONCURRENTLY?
pub(super) fn is_concurrent(text: &str) -> bool {
    let words = words(text);
    let says = |word: &str| words.iter().any(|own| own == word);
    let verb = words.first().map_or("", String::as_str);
    matches!(verb, "CREATE" | "DROP" | "REINDEX" | "ALTER") && says("CONCURRENTLY")
}

/// What `CREATE [UNIQUE] INDEX CONCURRENTLY [IF NOT EXISTS] name ON [ONLY] table` builds. `None` for any other statement, and for
/// an index whose name is left to PostgreSQL.
pub(super) fn built(text: &str) -> Option<Built> {
    let mut lexer = Lexer::new(
        text,
        ScanSettings {
            standard_conforming_strings: true,
        },
    );
    let mut tokens = Vec::new();
    while let Ok(Some(token)) = lexer.next() {
        tokens.push((token.kind, &text[token.start..token.end]));
        if tokens.len() == 16 {
            break;
        }
    }
    let mut rest = tokens.as_slice();
    let mut take = |words: &[&str]| {
        let found = rest.len() >= words.len()
            && rest.iter().zip(words).all(|((kind, own), word)| {
                *kind == TokenKind::Word && own.eq_ignore_ascii_case(word)
            });
        if found {
            rest = &rest[words.len()..];
        }
        found
    };
    if !take(&["create"]) {
        return None;
    }
    take(&["unique"]);
    if !take(&["index", "concurrently"]) {
        return None;
    }
    take(&["if", "not", "exists"]);
    if take(&["on"]) {
        return None;
    }
    let ((kind, own), behind) = rest.split_first()?;
    let name = match kind {
        TokenKind::Word => own.to_ascii_lowercase(),
        TokenKind::Quoted => own[1..own.len() - 1].replace("\"\"", "\""),
        _ => return None,
    };
    rest = behind;
    let mut take = |word: &str| {
        let found = rest
            .first()
            .is_some_and(|(kind, own)| *kind == TokenKind::Word && own.eq_ignore_ascii_case(word));
        if found {
            rest = &rest[1..];
        }
        found
    };
    if !take("on") {
        return None;
    }
    take("only");
    let parts = rest.iter().take_while(|(kind, own)| {
        matches!(kind, TokenKind::Quoted | TokenKind::Punctuation(b'.'))
            || (*kind == TokenKind::Word && !own.eq_ignore_ascii_case("using"))
    });
    let table: String = parts.map(|(_, own)| *own).collect();
    (!table.is_empty()).then_some(Built { name, table })
}
