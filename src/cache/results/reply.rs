//! What is kept of an answer: the columns, the rows and the tag, as they went to the client.
//!
//! What belongs to one session is not kept: ReadyForQuery is made from the asking session's own state, and a reply with a
//! notice, a changed parameter or an error is no answer to keep.

use crate::wire::backend::{TransactionStatus, ready_for_query, tag};
use crate::wire::frame::next_frame;
use bytes::BytesMut;

/// ParseComplete.
const PARSED: &[u8] = b"1\0\0\0\x04";

/// BindComplete.
const BOUND: &[u8] = b"2\0\0\0\x04";

/// How an answer was, or is to be, asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// By a Query.
    Query,
    /// By Bind, Execute and Sync.
    Batch {
        /// With Parse.
        parses: bool,
        /// With Describe of the portal.
        described: bool,
    },
}

impl Asked {
    /// Does the client want to hear of the columns?
    #[must_use]
    pub fn describes(self) -> bool {
        match self {
            Self::Query => true,
            Self::Batch { described, .. } => described,
        }
    }
}

/// An answer's messages, in order: RowDescription if it is known, DataRows, CommandComplete.
#[derive(Debug, PartialEq, Eq)]
pub struct Kept {
    bytes: Box<[u8]>,
    /// Length of the RowDescription; 0 when it is not known.
    described: usize,
    /// How many rows.
    pub rows: u64,
}

impl Kept {
    /// Of everything that a client was told, from its request to ReadyForQuery; `None` when it is not to be kept.
    #[must_use]
    pub fn of(asked: Asked, told: &[u8]) -> Option<Self> {
        let mut rest = told;
        let next = |rest: &mut &[u8]| {
            let frame = next_frame(rest, usize::MAX).ok()??;
            let (whole, behind) = rest.split_at(frame.len);
            *rest = behind;
            Some((frame.tag, whole.len()))
        };
        if let Asked::Batch { parses, .. } = asked {
            if parses {
                rest = rest.strip_prefix(PARSED)?;
            }
            rest = rest.strip_prefix(BOUND)?;
        }
        let body = rest;
        let mut described = 0;
        if asked.describes() {
            let (tag::ROW_DESCRIPTION, length) = next(&mut rest)? else {
                return None;
            };
            described = length;
        }
        let mut rows = 0;
        loop {
            match next(&mut rest)? {
                (tag::DATA_ROW, _) => rows += 1,
                (tag::COMMAND_COMPLETE, length) => {
                    let end = body.len() - rest.len();
                    let said = &body[end - length + 5..end];
                    let selected = format!("SELECT {rows}\0");
                    let (tag::READY_FOR_QUERY, _) = next(&mut rest)? else {
                        return None;
                    };
                    let whole = rest.is_empty() && said == selected.as_bytes();
                    return whole.then(|| Self {
                        bytes: body[..end].into(),
                        described,
                        rows,
                    });
                }
                _ => return None,
            }
        }
    }

    /// Of what [`parts`](Self::parts) said, from elsewhere; `None` when it is no whole answer.
    #[must_use]
    pub fn from_parts(bytes: &[u8], described: usize) -> Option<Self> {
        // Read as if it had just been told, so that there is one way to be an answer.
        let asked = Asked::Batch {
            parses: false,
            described: described > 0,
        };
        let mut told = BytesMut::with_capacity(BOUND.len() + bytes.len() + 8);
        told.extend_from_slice(BOUND);
        told.extend_from_slice(bytes);
        ready_for_query(&mut told, TransactionStatus::Idle);
        Self::of(asked, &told).filter(|kept| kept.described == described)
    }

    /// As it is stored elsewhere: its bytes, and how many of them describe the columns.
    #[must_use]
    pub fn parts(&self) -> (&[u8], usize) {
        (&self.bytes, self.described)
    }

    /// How many bytes it takes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never: there is a tag at least.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Can it be the answer to what is asked this way?
    #[inline]
    #[must_use]
    pub fn answers(&self, asked: Asked) -> bool {
        !asked.describes() || self.described > 0
    }

    /// Appends the whole answer, which [`answers`](Self::answers).
    #[inline]
    pub fn tell(&self, asked: Asked, status: TransactionStatus, out: &mut BytesMut) {
        out.reserve(self.bytes.len() + 16);
        let mut own = &*self.bytes;
        if let Asked::Batch { parses, described } = asked {
            if parses {
                out.extend_from_slice(PARSED);
            }
            out.extend_from_slice(BOUND);
            if !described {
                own = &own[self.described..];
            }
        }
        out.extend_from_slice(own);
        ready_for_query(out, status);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[u8] = b"T\0\0\0\x06\0\0";
    const ROW: &[u8] = b"D\0\0\0\x06\0\0";
    const READY: &[u8] = b"Z\0\0\0\x05I";

    fn complete(said: &str) -> Vec<u8> {
        let mut message = vec![b'C', 0, 0, 0];
        message.push(u8::try_from(said.len() + 5).expect("short"));
        message.extend_from_slice(said.as_bytes());
        message.push(0);
        message
    }

    #[test]
    fn an_answer_is_told_again_as_it_was_told() {
        let batches = [(false, false), (false, true), (true, false), (true, true)];
        let asked: Vec<Asked> = batches
            .iter()
            .map(|(parses, described)| Asked::Batch {
                parses: *parses,
                described: *described,
            })
            .chain([Asked::Query])
            .collect();
        let told = |asked: Asked| {
            let mut told = Vec::new();
            if let Asked::Batch { parses, .. } = asked {
                if parses {
                    told.extend_from_slice(PARSED);
                }
                told.extend_from_slice(BOUND);
            }
            if asked.describes() {
                told.extend_from_slice(COLUMNS);
            }
            [&told[..], ROW, ROW, &complete("SELECT 2"), READY].concat()
        };
        for kept_of in &asked {
            let kept = Kept::of(*kept_of, &told(*kept_of)).expect("an answer");
            assert_eq!(kept.rows, 2);
            let (bytes, length) = kept.parts();
            assert_eq!(Kept::from_parts(bytes, length).as_ref(), Some(&kept));
            assert_eq!(Kept::from_parts(bytes, length + 1), None);
            for end in 0..bytes.len() {
                assert_eq!(Kept::from_parts(&bytes[..end], length), None);
            }
            for asked in &asked {
                assert_eq!(
                    kept.answers(*asked),
                    kept_of.describes() || !asked.describes()
                );
                if kept.answers(*asked) {
                    let mut out = BytesMut::new();
                    kept.tell(*asked, TransactionStatus::Idle, &mut out);
                    assert_eq!(out, told(*asked), "{kept_of:?} {asked:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_plain_answer_is_not_kept() {
        let of = |parts: &[&[u8]]| Kept::of(Asked::Query, &parts.concat());
        let tag = complete("SELECT 1");
        assert!(of(&[COLUMNS, ROW, &tag, READY]).is_some());
        assert!(of(&[COLUMNS, &complete("SELECT 0"), READY]).is_some());
        let notice: &[u8] = b"N\0\0\0\x05\0";
        let parameter: &[u8] = b"S\0\0\0\x08a\0b\0";
        let error: &[u8] = b"E\0\0\0\x05\0";
        let not_kept: &[&[&[u8]]] = &[
            &[notice, COLUMNS, ROW, &tag, READY],
            &[COLUMNS, notice, ROW, &tag, READY],
            &[COLUMNS, ROW, &tag, parameter, READY],
            &[COLUMNS, ROW, error, READY],
            &[COLUMNS, ROW, &tag],
            &[COLUMNS, ROW, &tag, READY, READY],
            &[COLUMNS, &tag, READY],
            &[COLUMNS, ROW, &complete("INSERT 0 1"), READY],
            &[ROW, &tag, READY],
            &[&tag, READY],
            &[b"I\0\0\0\x04", READY],
            &[COLUMNS, ROW, b"s\0\0\0\x04", READY],
            &[],
        ];
        for parts in not_kept {
            assert_eq!(of(parts), None, "{parts:?}");
        }
        let whole = [COLUMNS, ROW, &tag, READY].concat();
        for end in 0..whole.len() {
            assert_eq!(Kept::of(Asked::Query, &whole[..end]), None);
        }
    }
}
