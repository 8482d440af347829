//! Types, as a cast or a column definition names them: one spelling of each, whatever the text's blanks and case.

use crate::statement::lex::TokenKind;
use crate::statement::parse::reader::Reader;
use crate::statement::parse::{Parse, refuse};

impl Reader<'_> {
    /// A type as written, words in lower case, without blanks that mean nothing.
    pub(super) fn data_type(&mut self) -> Parse<String> {
        let start = self.at;
        self.word("setof");
        let first = self.folded(self.at);
        match first.as_str() {
            "double" => {
                self.skip();
                self.expect("precision")?;
            }
            "character" | "char" | "nchar" | "bit" => {
                self.skip();
                self.word("varying");
                self.modifier()?;
            }
            "national" => {
                self.skip();
                if !self.word("char") {
                    self.expect("character")?;
                }
                self.word("varying");
                self.modifier()?;
            }
            "time" | "timestamp" => {
                self.skip();
                self.modifier()?;
                if !self.words(&["with", "time", "zone"]) {
                    self.words(&["without", "time", "zone"]);
                }
            }
            "interval" => {
                self.skip();
                self.modifier()?;
                self.interval_fields();
            }
            _ => {
                self.name_part()?;
                while self.symbol(b'.') {
                    self.label()?;
                }
                self.modifier()?;
            }
        }
        if self.word("array") {
            self.bounds()?;
        } else {
            while self.bounds()? {}
        }
        Ok(self.normal(start))
    }

    /// YEAR TO MONTH, SECOND(3) … behind an interval.
    pub(super) fn interval_fields(&mut self) -> String {
        let start = self.at;
        let unit = |reader: &mut Self| {
            ["year", "month", "day", "hour", "minute", "second"]
                .iter()
                .any(|unit| reader.word(unit))
        };
        if unit(self) && self.word("to") {
            unit(self);
        }
        if self.at > start
            && self.word_at(self.at - 1, "second")
            && self.is_symbol(self.at, b'(')
            && self.modifier().is_err()
        {
            self.at = start;
        }
        self.normal(start)
    }

    /// `(10, 2)`: numbers and words only.
    fn modifier(&mut self) -> Parse<()> {
        if !self.is_symbol(self.at, b'(') {
            return Ok(());
        }
        let close = self.matching(self.at)?;
        for at in self.at + 1..close {
            let known = matches!(
                self.kind(at),
                Some(TokenKind::Integer | TokenKind::Word | TokenKind::Punctuation(b','))
            ) || self.operator_at(at) == Some("-");
            if !known {
                return refuse("a type's modifier is not understood");
            }
        }
        self.at = close + 1;
        Ok(())
    }

    /// `[]` or `[3]`
    fn bounds(&mut self) -> Parse<bool> {
        if !self.symbol(b'[') {
            return Ok(false);
        }
        if self.kind(self.at) == Some(TokenKind::Integer) {
            self.skip();
        }
        if self.symbol(b']') {
            Ok(true)
        } else {
            refuse("a type's bounds are not understood")
        }
    }

    /// The passed tokens from `start` on: words in lower case, one blank between words.
    fn normal(&self, start: usize) -> String {
        let mut normal = String::new();
        let mut after_word = false;
        for at in start..self.at {
            let word = matches!(
                self.kind(at),
                Some(TokenKind::Word | TokenKind::Quoted | TokenKind::Integer)
            );
            if word && after_word {
                normal.push(' ');
            }
            match self.kind(at) {
                Some(TokenKind::Word) => normal.push_str(&self.raw(at).to_ascii_lowercase()),
                _ => normal.push_str(self.raw(at)),
            }
            after_word = word || (self.is_symbol(at, b')') && !self.is_symbol(at + 1, b'['));
        }
        normal
    }
}
