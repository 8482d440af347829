//! Room in an INSERT … VALUES for a column that it leaves to its default.

use crate::statement::lex::{Lexer, Token, TokenKind};
use crate::statement::scan::ScanSettings;
use std::ops::Range;

/// A column to be given in every row.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// Its name.
    pub column: &'a str,
    /// Where DEFAULT stands for it in every row, which may also end in front of it; `None` when the column is not listed.
    pub place: Option<usize>,
    /// Its value in each row, as SQL.
    pub values: &'a [String],
    /// It is GENERATED ALWAYS AS IDENTITY, which takes a value only by OVERRIDING SYSTEM VALUE.
    pub always: bool,
}

/// The text of an INSERT with a column given in every row. `None` when its parts are not found in the text.
#[must_use]
pub fn give_column(text: &str, settings: ScanSettings, given: &Given<'_>) -> Option<String> {
    let tokens = Tokens::read(text, settings)?;
    let quoted = format!("\"{}\"", given.column.replace('"', "\"\""));
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    let overriding = |edits: &mut Vec<_>, at: usize| {
        if given.always
            && !tokens
                .outside()
                .any(|token| tokens.is_word(token, "overriding"))
        {
            edits.push((at..at, "OVERRIDING SYSTEM VALUE ".to_owned()));
        }
    };
    if !tokens
        .0
        .first()
        .is_some_and(|first| tokens.is_word(first, "insert"))
    {
        return None;
    }
    if let Some(default) = tokens.default_values() {
        let [value] = given.values else { return None };
        let always = if given.always {
            "OVERRIDING SYSTEM VALUE "
        } else {
            ""
        };
        edits.push((default, format!("({quoted}) {always}VALUES ({value})")));
        return Some(edited(text, edits));
    }
    let values = tokens.values()?;
    let list = tokens
        .outside()
        .take_while(|token| token.start < tokens.0[values].start)
        .find(|token| token.kind == OPEN);
    match (given.place, list) {
        (None, None) => return None,
        (None, Some(open)) => edits.push((open.end..open.end, format!("{quoted}, "))),
        (Some(_), _) => {}
    }
    overriding(&mut edits, tokens.0[values].start);
    let mut rows = tokens.rows(values + 1)?.into_iter();
    for value in given.values {
        let row = rows.next()?;
        match given.place {
            None => {
                let behind = tokens.0[row.start].end;
                edits.push((behind..behind, format!("{value}, ")));
            }
            Some(place) => {
                edits.push(tokens.in_place(&row, place, value)?);
            }
        }
    }
    rows.next().is_none().then(|| edited(text, edits))
}

const OPEN: TokenKind = TokenKind::Punctuation(b'(');
const CLOSE: TokenKind = TokenKind::Punctuation(b')');
const COMMA: TokenKind = TokenKind::Punctuation(b',');

/// A text's tokens, how deep in parentheses each of them is, and the text. An opening parenthesis is as deep as what is
/// in front of it.
struct Tokens<'a>(Vec<Token>, Vec<usize>, &'a str);

impl<'a> Tokens<'a> {
    fn read(text: &'a str, settings: ScanSettings) -> Option<Self> {
        let mut lexer = Lexer::new(text, settings);
        let (mut tokens, mut depths, mut depth) = (Vec::new(), Vec::new(), 0_usize);
        while let Some(token) = lexer.next().ok()? {
            if token.kind == CLOSE {
                depth = depth.checked_sub(1)?;
            }
            tokens.push(token);
            depths.push(depth);
            if token.kind == OPEN {
                depth += 1;
            }
        }
        Some(Self(tokens, depths, text))
    }

    fn is_word(&self, token: &Token, word: &str) -> bool {
        token.kind == TokenKind::Word && self.2[token.start..token.end].eq_ignore_ascii_case(word)
    }

    /// Those outside all parentheses.
    fn outside(&self) -> impl Iterator<Item = &Token> {
        let both = self.0.iter().zip(&self.1);
        both.filter(|(_, depth)| **depth == 0)
            .map(|(token, _)| token)
    }

    /// DEFAULT VALUES.
    fn default_values(&self) -> Option<Range<usize>> {
        self.0.windows(2).zip(&self.1).find_map(|(pair, depth)| {
            let both = self.is_word(&pair[0], "default") && self.is_word(&pair[1], "values");
            (both && *depth == 0).then(|| pair[0].start..pair[1].end)
        })
    }

    /// The VALUES in front of the rows. A table may be called `values`, but behind the rows nothing in parentheses can be.
    fn values(&self) -> Option<usize> {
        (0..self.0.len()).rev().find(|at| {
            self.1[*at] == 0
                && self.is_word(&self.0[*at], "values")
                && self.0.get(at + 1).is_some_and(|next| next.kind == OPEN)
        })
    }

    /// The rows from a token on, each from its opening to its closing parenthesis.
    fn rows(&self, first: usize) -> Option<Vec<Range<usize>>> {
        let mut rows = Vec::new();
        let mut at = first;
        loop {
            if self.0.get(at)?.kind != OPEN {
                return None;
            }
            let close = (at + 1..self.0.len())
                .find(|index| self.0[*index].kind == CLOSE && self.1[*index] == 0)?;
            rows.push(at..close);
            if self.0.get(close + 1).is_none_or(|next| next.kind != COMMA) {
                return Some(rows);
            }
            at = close + 2;
        }
    }

    /// A value in a row's place: of DEFAULT, which must be all that is there, or behind the row's last element.
    fn in_place(
        &self,
        row: &Range<usize>,
        place: usize,
        value: &str,
    ) -> Option<(Range<usize>, String)> {
        let inside = row.start + 1..row.end;
        let comma = |index: &usize| self.0[*index].kind == COMMA && self.1[*index] == 1;
        let commas = inside.clone().filter(comma);
        let ends: Vec<usize> = commas.chain([row.end]).collect();
        if place == ends.len() {
            let end = self.0[row.end].start;
            return Some((end..end, format!(", {value}")));
        }
        let begin = match place.checked_sub(1) {
            None => inside.start,
            Some(before) => ends.get(before)? + 1,
        };
        match self.0.get(begin..*ends.get(place)?)? {
            [only] if self.is_word(only, "default") => {
                Some((only.start..only.end, value.to_owned()))
            }
            _ => None,
        }
    }
}

fn edited(text: &str, mut edits: Vec<(Range<usize>, String)>) -> String {
    edits.sort_by_key(|(range, _)| range.start);
    let mut out = String::with_capacity(text.len() + 32 * edits.len());
    let mut at = 0;
    for (range, new) in edits {
        out.push_str(&text[at..range.start]);
        out.push_str(&new);
        at = range.end;
    }
    out.push_str(&text[at..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &str, place: Option<usize>, always: bool, values: &[&str]) -> Option<String> {
        let values: Vec<String> = values.iter().map(ToString::to_string).collect();
        let settings = ScanSettings {
            standard_conforming_strings: true,
        };
        let given = Given {
            column: "id",
            place,
            values: &values,
            always,
        };
        give_column(text, settings, &given)
    }

    #[test]
    fn a_column_that_is_not_listed_comes_first() {
        let cases = [
            (
                "insert into t (a, b) values (1, 'x')",
                "insert into t (\"id\", a, b) values (7, 1, 'x')",
            ),
            (
                "INSERT INTO s.t AS u(a)VALUES(f(1, (2)))RETURNING values",
                "INSERT INTO s.t AS u(\"id\", a)VALUES(7, f(1, (2)))RETURNING values",
            ),
            (
                "insert into values (a) values ('values (', $1) on conflict (a) do update set a = (select 1)",
                "insert into values (\"id\", a) values (7, 'values (', $1) on conflict (a) do update set a = (select 1)",
            ),
            (
                "insert /* values (1) */ into t (a) -- values (\n values (1)",
                "insert /* values (1) */ into t (\"id\", a) -- values (\n values (7, 1)",
            ),
            (
                "insert into t default values",
                "insert into t (\"id\") VALUES (7)",
            ),
            (
                "insert into t default values returning id",
                "insert into t (\"id\") VALUES (7) returning id",
            ),
        ];
        for (text, wanted) in cases {
            assert_eq!(given(text, None, false, &["7"]).as_deref(), Some(wanted));
        }
    }

    #[test]
    fn a_default_is_replaced_where_it_stands() {
        assert_eq!(
            given(
                "insert into t values (1, DEFAULT, 'x'), (2, default, f(1, 2))",
                Some(1),
                false,
                &["7", "8"]
            )
            .as_deref(),
            Some("insert into t values (1, 7, 'x'), (2, 8, f(1, 2))")
        );
        assert_eq!(
            given(
                "insert into t values (1), (f(2, 3) )",
                Some(1),
                false,
                &["7", "8"]
            )
            .as_deref(),
            Some("insert into t values (1, 7), (f(2, 3) , 8)")
        );
        assert_eq!(
            given("insert into t values (1)", Some(2), false, &["7"]),
            None
        );
        assert_eq!(
            given("insert into t values (1, 2)", Some(1), false, &["7"]),
            None
        );
    }

    #[test]
    fn an_identity_column_is_overridden() {
        assert_eq!(
            given("insert into t (a) values (1)", None, true, &["7"]).as_deref(),
            Some("insert into t (\"id\", a) OVERRIDING SYSTEM VALUE values (7, 1)")
        );
        assert_eq!(
            given(
                "insert into t (a) overriding system value values (1)",
                None,
                true,
                &["7"]
            )
            .as_deref(),
            Some("insert into t (\"id\", a) overriding system value values (7, 1)")
        );
        assert_eq!(
            given("insert into t default values", None, true, &["7"]).as_deref(),
            Some("insert into t (\"id\") OVERRIDING SYSTEM VALUE VALUES (7)")
        );
    }

    #[test]
    fn what_does_not_fit_is_left_alone() {
        for (text, values) in [
            ("insert into t (a) values (1), (2)", &["7"][..]),
            ("insert into t (a) values (1)", &["7", "8"]),
            ("insert into t values (1)", &["7"]),
            ("insert into t (a) select 1", &["7"]),
            ("with x as (select 1) insert into t (a) values (1)", &["7"]),
            ("explain insert into t (a) values (1)", &["7"]),
            ("insert into t (a) values (1", &["7"]),
        ] {
            assert_eq!(given(text, None, false, values), None, "{text}");
        }
    }
}
