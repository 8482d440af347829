//! The messages that the fast path knows: requests of one statement, and replies that need no looking at.

use crate::wire::backend::tag as reply;
use crate::wire::frame::{HEADER, next_frame};
use crate::wire::frontend::tag;
use bytes::BytesMut;
use std::ops::Range;

/// What a server answers to a BEGIN by the extended protocol.
const BEGUN: &[u8] = b"1\0\0\0\x042\0\0\0\x04C\0\0\0\x0aBEGIN\0";

/// What a server answers to COMMIT, when nothing went wrong.
const COMMITTED: &[u8] = b"C\0\0\0\x0bCOMMIT\0Z\0\0\0\x05I";

/// What a server was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// The client's statement.
    Statement,
    /// BEGIN and the client's statement.
    BeginAndStatement,
    /// COMMIT.
    Commit,
}

/// How the client asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// By a Query.
    Query,
    /// By Bind, Execute and Sync.
    Batch {
        /// With Parse.
        parses: bool,
        /// With Describe.
        described: bool,
    },
}

/// The messages of a batch: where their bodies are.
pub(super) struct Batch {
    pub(super) parse: Option<Range<usize>>,
    pub(super) bind: Range<usize>,
    pub(super) described: bool,
}

impl Batch {
    /// `bytes` as the messages of one statement, and nothing else.
    pub(super) fn read(bytes: &[u8], message_max: usize) -> Option<Self> {
        let mut at = 0;
        let mut next = || {
            let frame = next_frame(&bytes[at..], message_max).ok()??;
            let body = at + HEADER..at + frame.len;
            at = body.end;
            Some((frame.tag, body))
        };
        let mut message = next()?;
        let mut parse = None;
        if message.0 == tag::PARSE {
            parse = Some(message.1);
            message = next()?;
        }
        let (tag::BIND, bind) = message else {
            return None;
        };
        message = next()?;
        let described = message.0 == tag::DESCRIBE;
        if described {
            if &bytes[message.1] != b"P\0" {
                return None;
            }
            message = next()?;
        }
        // All rows of the unnamed portal.
        if message.0 != tag::EXECUTE || &bytes[message.1] != b"\0\0\0\0\0" {
            return None;
        }
        let (tag::SYNC, end) = next()? else {
            return None;
        };
        (end.end == bytes.len()).then_some(Self {
            parse,
            bind,
            described,
        })
    }
}

impl Sent {
    /// The transaction status at the end of `bytes` and what of them is the client's, if they are the whole reply and
    /// the client may have it as it is.
    #[inline]
    pub(super) fn whole_reply(self, request: Request, bytes: &[u8]) -> Option<(u8, &[u8])> {
        let own = match self {
            Self::Statement => bytes,
            Self::BeginAndStatement => bytes.strip_prefix(BEGUN)?,
            Self::Commit => return (bytes == COMMITTED).then_some((b'I', &[])),
        };
        Some((request.whole_reply(own)?, own))
    }
}

impl Request {
    /// Appends what the client hears before the CommandComplete of a statement without rows.
    pub(super) fn open_reply(self, out: &mut BytesMut) {
        if let Self::Batch { parses, described } = self {
            if parses {
                out.extend_from_slice(b"1\0\0\0\x04");
            }
            out.extend_from_slice(b"2\0\0\0\x04");
            if described {
                out.extend_from_slice(b"n\0\0\0\x04");
            }
        }
    }

    /// The transaction status at the end of `bytes`, if they are the whole reply and the client may have it as it is.
    #[inline]
    fn whole_reply(self, bytes: &[u8]) -> Option<u8> {
        let mut rest = bytes;
        let next = |rest: &mut &[u8]| {
            let frame = next_frame(rest, usize::MAX).ok()??;
            let last = rest[frame.len - 1];
            *rest = &rest[frame.len..];
            Some((frame.tag, last))
        };
        if let Self::Batch { parses, described } = self {
            if parses && next(&mut rest)?.0 != reply::PARSE_COMPLETE {
                return None;
            }
            if next(&mut rest)?.0 != reply::BIND_COMPLETE {
                return None;
            }
            let columns =
                described && !matches!(next(&mut rest)?.0, reply::ROW_DESCRIPTION | reply::NO_DATA);
            if columns {
                return None;
            }
        }
        loop {
            match next(&mut rest)? {
                (reply::DATA_ROW | reply::COMMAND_COMPLETE, _) => {}
                (reply::ROW_DESCRIPTION, _) if matches!(self, Self::Query) => {}
                (reply::READY_FOR_QUERY, status) if rest.is_empty() => return Some(status),
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY_REPLY: &[u8] = b"T\0\0\0\x06\0\0D\0\0\0\x06\0\0C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I";
    const BATCH_REPLY: &[u8] =
        b"1\0\0\0\x042\0\0\0\x04T\0\0\0\x06\0\0D\0\0\0\x06\0\0C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05T";

    #[test]
    fn only_a_whole_and_ordinary_reply_is_passed_on_unseen() {
        let query = Request::Query;
        assert_eq!(query.whole_reply(QUERY_REPLY), Some(b'I'));
        for end in 0..QUERY_REPLY.len() {
            assert_eq!(query.whole_reply(&QUERY_REPLY[..end]), None);
        }
        let mut more = QUERY_REPLY.to_vec();
        more.extend_from_slice(b"S\0\0\0\x08a\0b\0");
        assert_eq!(query.whole_reply(&more), None, "something behind it");
        let mut notice = b"N\0\0\0\x05\0".to_vec();
        notice.extend_from_slice(QUERY_REPLY);
        assert_eq!(query.whole_reply(&notice), None, "a notice");
        assert_eq!(query.whole_reply(b"E\0\0\0\x05\0Z\0\0\0\x05I"), None);
        assert_eq!(query.whole_reply(BATCH_REPLY), None);
        let batch = Request::Batch {
            parses: false,
            described: true,
        };
        assert_eq!(
            batch.whole_reply(BATCH_REPLY),
            None,
            "a Parse that nobody sent"
        );
        assert_eq!(batch.whole_reply(&BATCH_REPLY[5..]), Some(b'T'));
        let blind = Request::Batch {
            parses: false,
            described: false,
        };
        assert_eq!(blind.whole_reply(&BATCH_REPLY[5..]), None);
    }

    #[test]
    fn a_batch_of_one_statement_is_recognised() {
        let bind: &[u8] = b"B\0\0\0\x0c\0\0\0\0\0\0\0\0";
        let describe: &[u8] = b"D\0\0\0\x06P\0";
        let execute: &[u8] = b"E\0\0\0\x09\0\0\0\0\0";
        let sync: &[u8] = b"S\0\0\0\x04";
        let parse: &[u8] = b"P\0\0\0\x08\0\0\0\0";
        let read = |parts: &[&[u8]]| {
            let bytes = parts.concat();
            Batch::read(&bytes, 1 << 20)
                .map(|b| (b.parse.is_some(), b.described, bytes.len() - b.bind.end))
        };
        assert_eq!(read(&[bind, execute, sync]), Some((false, false, 15)));
        assert_eq!(
            read(&[parse, bind, describe, execute, sync]),
            Some((true, true, 22))
        );
        for other in [
            &[bind, execute][..],
            &[bind, execute, sync, sync],
            &[bind, sync],
            &[bind, b"D\0\0\0\x06S\0", execute, sync],
            &[bind, b"E\0\0\0\x09\0\0\0\0\x01", sync],
            &[bind, b"E\0\0\0\x0ap\0\0\0\0\0", sync],
            &[bind, execute, b"H\0\0\0\x04"],
            &[bind, bind, execute, sync],
            &[parse, parse, bind, execute, sync],
            &[execute, sync],
        ] {
            assert_eq!(read(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_begin_in_front_is_nobodys() {
        let both = [BEGUN, QUERY_REPLY].concat();
        let whole = |sent: Sent, bytes| {
            sent.whole_reply(Request::Query, bytes)
                .map(|(status, own)| (status, own.len()))
        };
        let length = QUERY_REPLY.len();
        assert_eq!(whole(Sent::BeginAndStatement, &both), Some((b'I', length)));
        assert_eq!(whole(Sent::BeginAndStatement, QUERY_REPLY), None);
        assert_eq!(whole(Sent::Statement, &both), None);
        assert_eq!(whole(Sent::Commit, COMMITTED), Some((b'I', 0)));
        let rolled_back = b"C\0\0\0\x0dROLLBACK\0Z\0\0\0\x05I";
        assert_eq!(whole(Sent::Commit, rolled_back), None);
    }
}
