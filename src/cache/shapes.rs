//! Statements seen before: the level in front of the plan cache. A text that differs from a known one in its literals
//! only is read by comparing, not by scanning.
//!
//! The lexer reads from left to right and looks at most a few bytes ahead, so a text with the same bytes between its
//! literals, and literals of the same kinds in the same places, has the same tokens. What could break that (a literal
//! that touches a letter, a point or a quote) is not remembered. `statement/scan` stays the authority: a property test
//! compares the two.

use crate::statement::scan::{Literal, LiteralKind, Scanned, says_time};
use smallvec::SmallVec;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Longer texts are not remembered, in bytes.
const TEXT_MAX: usize = 1_024;

/// Sets of the table.
const SETS: usize = 128;

/// Texts in a set.
const WAYS: usize = 4;

/// Who reads a text, as far as it changes what the text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// A number for the database and the role.
    pub database: u64,
    /// A number for the settings.
    pub settings: u64,
    /// The topology's epoch.
    pub epoch: u64,
}

/// A statement that was planned before.
#[derive(Debug)]
pub struct Seen<T> {
    text: Box<str>,
    reading: Reading,
    scanned: Scanned,
    /// What was made for it.
    pub made: T,
}

/// The statements that one worker has seen. Bounded: a new one takes the place of an older one.
#[derive(Debug)]
pub struct Shapes<T> {
    sets: RefCell<Vec<Set<T>>>,
    turn: Cell<usize>,
}

type Set<T> = [Option<Rc<Seen<T>>>; WAYS];

impl<T> Default for Shapes<T> {
    fn default() -> Self {
        Self {
            sets: RefCell::default(),
            turn: Cell::default(),
        }
    }
}

impl<T> Shapes<T> {
    /// The statement that `text` is, and its scan.
    #[must_use]
    pub fn find(&self, text: &str, reading: Reading) -> Option<(Rc<Seen<T>>, Scanned)> {
        let sets = self.sets.borrow();
        let set = sets.get(set_of(text))?;
        set.iter().flatten().find_map(|seen| {
            let scanned = (seen.reading == reading).then(|| seen.read(text))??;
            Some((Rc::clone(seen), scanned))
        })
    }

    /// Remembers a message that holds just this statement, if it is one of those that are read by comparing.
    pub fn learn(&self, text: &str, scanned: &Scanned, reading: Reading, made: T) {
        if !can_be_compared(text, scanned) {
            return;
        }
        let seen = Rc::new(Seen {
            text: text.into(),
            reading,
            scanned: scanned.clone(),
            made,
        });
        let mut sets = self.sets.borrow_mut();
        if sets.is_empty() {
            sets.resize_with(SETS, || [const { None }; WAYS]);
        }
        let set = &mut sets[set_of(text)];
        let stale = |place: &Option<Rc<Seen<T>>>| {
            place
                .as_ref()
                .is_none_or(|old| old.reading.epoch != reading.epoch || old.text == seen.text)
        };
        let place = set.iter().position(stale).unwrap_or_else(|| {
            self.turn.set(self.turn.get().wrapping_add(1));
            self.turn.get() % WAYS
        });
        set[place] = Some(seen);
    }
}

/// Texts that are alike begin alike and are as long, give or take their literals' digits.
fn set_of(text: &str) -> usize {
    let bytes = text.as_bytes();
    let word = |at: usize| {
        let word = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>());
        word.map_or(0, |word| u64::from_le_bytes(*word))
    };
    let (low, high) = (word(0), word(8));
    let mixed =
        (low ^ high.rotate_left(23) ^ bytes.len() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 32) as usize % SETS
}

fn can_be_compared(text: &str, scanned: &Scanned) -> bool {
    let bytes = text.as_bytes();
    // Comments often carry what is never the same twice.
    let commented = memchr::memmem::find(bytes, b"/*").is_some();
    if !scanned.verb.is_plain()
        || commented
        || bytes.len() > TEXT_MAX
        || scanned.hints.is_some()
        || scanned.time_words
        || !scanned.settings.standard_conforming_strings
    {
        return false;
    }
    scanned.literals.iter().all(|literal| {
        let behind = bytes.get(literal.end as usize).copied().unwrap_or(b' ');
        match literal.kind {
            LiteralKind::Integer => {
                !(behind.is_ascii_alphanumeric() || matches!(behind, b'_' | b'.' | b'$' | 0x80..))
            }
            LiteralKind::String => {
                let inside = &bytes[literal.start as usize..literal.end as usize];
                behind != b'\'' && is_plain_string(inside)
            }
            LiteralKind::Decimal | LiteralKind::EscapeString | LiteralKind::DollarString => false,
        }
    })
}

/// `'…'` with nothing in it that is read in another way than it stands.
fn is_plain_string(quoted: &[u8]) -> bool {
    match quoted {
        [b'\'', inside @ .., b'\''] => memchr::memchr2(b'\'', b'\n', inside).is_none(),
        _ => false,
    }
}

impl<T> Seen<T> {
    /// The scan of `text`, if it is this statement.
    #[inline]
    fn read(&self, text: &str) -> Option<Scanned> {
        let (own, new) = (self.text.as_bytes(), text.as_bytes());
        let (mut at, mut at_new) = (0, 0);
        let mut literals: SmallVec<[Literal; 8]> = SmallVec::new();
        for literal in &self.scanned.literals {
            let between = own.get(at..literal.start as usize)?;
            let start = at_new + between.len();
            if new.get(at_new..start)? != between {
                return None;
            }
            let length = match literal.kind {
                LiteralKind::Integer => new[start..]
                    .iter()
                    .take_while(|b| b.is_ascii_digit())
                    .count(),
                _ => string_length(&new[start..])?,
            };
            if length == 0 {
                return None;
            }
            at = literal.end as usize;
            at_new = start + length;
            literals.push(Literal {
                start: u32::try_from(start).ok()?,
                end: u32::try_from(at_new).ok()?,
                kind: literal.kind,
            });
        }
        if new.get(at_new..)? != own.get(at..)? {
            return None;
        }
        let behind = own.len() - self.scanned.range.end;
        Some(Scanned {
            range: self.scanned.range.start..new.len() - behind,
            verb: self.scanned.verb,
            fingerprint: self.scanned.fingerprint,
            literals,
            params: self.scanned.params,
            hints: None,
            time_words: false,
            commented: self.scanned.commented,
            settings: self.scanned.settings,
        })
    }
}

/// The length of the plain string that begins here, quotes included.
#[inline]
fn string_length(bytes: &[u8]) -> Option<usize> {
    let inside = bytes.strip_prefix(b"'")?;
    let end = memchr::memchr2(b'\'', b'\n', inside)?;
    if inside[end] != b'\'' || inside.get(end + 1) == Some(&b'\'') || says_time(&inside[..end]) {
        return None;
    }
    Some(end + 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::scan::{ScanSettings, Verb, scan};

    const SETTINGS: ScanSettings = ScanSettings {
        standard_conforming_strings: true,
    };

    fn only(text: &str) -> Option<Scanned> {
        let statements = scan(text, SETTINGS).ok()?;
        (statements.len() == 1).then(|| statements.into_iter().next())?
    }

    fn seen(text: &str) -> Option<Seen<()>> {
        let scanned = only(text)?;
        can_be_compared(text, &scanned).then(|| Seen {
            text: text.into(),
            reading: Reading {
                database: 0,
                settings: 0,
                epoch: 0,
            },
            scanned,
            made: (),
        })
    }

    /// What comparing reads, scanning reads.
    fn agrees(seen: &Seen<()>, text: &str) -> bool {
        match seen.read(text) {
            None => false,
            Some(read) => {
                let scanned = only(text).expect("comparing took what is not one statement");
                assert_eq!(read.range, scanned.range, "{text:?}");
                assert_eq!(read.verb, scanned.verb, "{text:?}");
                assert_eq!(read.fingerprint, scanned.fingerprint, "{text:?}");
                assert_eq!(read.literals, scanned.literals, "{text:?}");
                assert_eq!(read.params, scanned.params, "{text:?}");
                assert_eq!(read.time_words, scanned.time_words, "{text:?}");
                assert!(scanned.hints.is_none(), "{text:?}");
                true
            }
        }
    }

    #[test]
    fn the_same_statement_with_other_literals_is_recognised() {
        let known = seen("SELECT a FROM t WHERE k = 12 AND s = 'x' ;").expect("a plain statement");
        for other in [
            "SELECT a FROM t WHERE k = 12 AND s = 'x' ;",
            "SELECT a FROM t WHERE k = 7 AND s = '' ;",
            "SELECT a FROM t WHERE k = 123456789012 AND s = 'much longer, with ; and -- in it' ;",
        ] {
            assert!(agrees(&known, other), "{other}");
        }
        for different in [
            "SELECT a FROM t WHERE k = 12 AND s = 'x'",
            "SELECT a FROM t WHERE k = 12.5 AND s = 'x' ;",
            "SELECT a FROM t WHERE k = 12e5 AND s = 'x' ;",
            "SELECT a FROM t WHERE k = -12 AND s = 'x' ;",
            "SELECT a FROM t WHERE k = 12 AND s = 'it''s' ;",
            "SELECT a FROM t WHERE k = 12 AND s = 'now' ;",
            "SELECT a FROM t WHERE k = 12 AND s = 'a\nb' ;",
            "SELECT a FROM t WHERE k = 12 AND s = E'x' ;",
            "SELECT a FROM t WHERE k = 12 AND s = 'x' ; SELECT 1",
            "SELECT a FROM t WHERE k = 12 AND s = 'x' -- ;",
            "SELECT a FROM t WHERE k = '12' AND s = 'x' ;",
            "select a FROM t WHERE k = 12 AND s = 'x' ;",
        ] {
            assert!(!agrees(&known, different), "{different}");
        }
    }

    #[test]
    fn what_comparing_could_misread_is_not_remembered() {
        for text in [
            "SELECT 1.5",
            "SELECT E'a'",
            "SELECT $$a$$",
            "SELECT 'it''s'",
            "SELECT 1 /* c */",
            "/* keyway: key=1 */ SELECT 1",
            "SELECT 'now'",
            "SET a = 1",
            "SELECT generate_series(1,2)x WHERE 1..2",
        ] {
            let remembered = seen(text).is_some_and(|seen| {
                seen.scanned
                    .literals
                    .iter()
                    .any(|l| text.as_bytes().get(l.end as usize) == Some(&b'.'))
                    || text.contains("/*")
                    || text.contains("now")
                    || !matches!(seen.scanned.verb, Verb::Select)
            });
            assert!(!remembered, "{text}");
        }
    }

    #[test]
    fn comparing_never_reads_what_scanning_would_read_differently() {
        use proptest::prelude::*;
        let piece = prop::sample::select(vec![
            "SELECT ",
            "select",
            " FROM t ",
            "WHERE ",
            " = ",
            "=",
            "k",
            " AND ",
            "(",
            ")",
            ",",
            " ",
            "\n",
            "--x\n",
            "-",
            "/",
            "*",
            ".",
            "$1",
            "$",
            "::int",
            " IN ",
            "LIMIT ",
            "1",
            "23",
            "4e",
            "5.",
            "'a'",
            "'b c'",
            "'",
            "''",
            "E'x'",
            "now",
            ";",
            "INSERT INTO t VALUES ",
            "\"q\"",
            "é",
        ]);
        let text = || prop::collection::vec(piece.clone(), 1..14).prop_map(|parts| parts.concat());
        let literal = prop::sample::select(vec![
            "0", "77", "'a'", "'zz top'", "''", "'today'", "1.5", "x", "'a''b'", "",
        ]);
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
            cases: 20_000,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        runner
            .run(
                &(text(), prop::collection::vec(literal, 8), text()),
                |(text, literals, other)| {
                    let text = format!("SELECT {text}");
                    let Some(known) = seen(&text) else {
                        return Ok(());
                    };
                    assert!(agrees(&known, &text), "{text:?}");
                    agrees(&known, &format!("SELECT {other}"));
                    let mut changed = String::new();
                    let mut at = 0;
                    for (literal, new) in known.scanned.literals.iter().zip(&literals) {
                        changed.push_str(&text[at..literal.start as usize]);
                        changed.push_str(new);
                        at = literal.end as usize;
                    }
                    changed.push_str(&text[at..]);
                    agrees(&known, &changed);
                    Ok(())
                },
            )
            .unwrap();
    }
}
