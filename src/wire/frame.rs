//! Cutting a stream into messages: one tag byte, then four bytes of length that count themselves and the body
//! (manual, 55.2.1 "Messaging Overview"). Both directions look the same.

use crate::wire::error::{ClientError, SqlState};

/// The bytes before a message's body: the tag and the length.
pub const HEADER: usize = 5;

/// One whole message at the start of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What kind of message it is.
    pub tag: u8,
    /// The whole message in bytes, tag and length included.
    pub len: usize,
}

impl Frame {
    /// The message's body, in the buffer the frame was found in.
    #[must_use]
    pub fn body<'a>(&self, buf: &'a [u8]) -> &'a [u8] {
        &buf[HEADER..self.len]
    }
}

/// A length that cannot be. The stream has lost its beat: the connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length does not even count itself.
    #[error("invalid message length {length} in a message of type {tag:#04x}")]
    TooShort {
        /// The message's tag.
        tag: u8,
        /// The length it declared.
        length: i32,
    },
    /// The message is longer than we take.
    #[error("a message of type {tag:#04x} declares {len} bytes and the limit is {max}")]
    TooLong {
        /// The message's tag.
        tag: u8,
        /// The whole message in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
}

impl ClientError for FrameError {
    fn sqlstate(&self) -> SqlState {
        SqlState::PROTOCOL_VIOLATION
    }
}

/// The header at the start of `buf`, if it has arrived: the body may still be missing. `max` bounds the whole message.
#[inline]
pub fn next_header(buf: &[u8], max: usize) -> Result<Option<Frame>, FrameError> {
    let Some(&[tag, a, b, c, d]) = buf.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let length = i32::from_be_bytes([a, b, c, d]);
    match usize::try_from(length) {
        Ok(length) if length >= 4 => {
            let len = length + 1;
            if len > max {
                Err(FrameError::TooLong { tag, len, max })
            } else {
                Ok(Some(Frame { tag, len }))
            }
        }
        _ => Err(FrameError::TooShort { tag, length }),
    }
}

/// The message at the start of `buf`, once the whole of it has arrived. A length that cannot be is refused as soon
/// as the header is there. `max` bounds the whole message in bytes.
#[inline]
pub fn next_frame(buf: &[u8], max: usize) -> Result<Option<Frame>, FrameError> {
    Ok(next_header(buf, max)?.filter(|frame| frame.len <= buf.len()))
}

/// A message that a [`Walker`] stops at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop<'a> {
    /// What kind of message it is.
    pub tag: u8,
    /// Its whole body.
    pub body: &'a [u8],
    /// Where it starts in the buffer.
    pub start: usize,
    /// Where it ends in the buffer.
    pub end: usize,
}

/// Walks over the messages of a relayed stream without copying. Rows (or COPY data), the bulk of a stream, are passed
/// over and may be relayed while half of one has arrived; any other message is a stop, reported once and whole.
///
/// The caller reads into a buffer, calls [`next`](Walker::next) until it says `None`, writes out and drops the first
/// [`release`](Walker::release) bytes, and keeps the rest (a piece of a message that is a stop) for the next read.
/// It may release after any stop: what comes behind a ReadyForQuery need not go the same way.
#[derive(Clone, Debug)]
pub struct Walker {
    /// What is passed over: rows and COPY data.
    bulk: [u8; 2],
    /// The longest message that must be whole to be reported.
    max: usize,
    /// How far into the buffer we have walked.
    position: usize,
    /// What has not arrived yet of the bulk message we are in. Then `position` is the end of the buffer.
    missing: usize,
    /// Bulk messages begun so far.
    passed: u64,
}

impl Walker {
    /// Walks over what a server sends: passes DataRow and CopyData.
    #[must_use]
    pub fn backend(max: usize) -> Self {
        Self {
            bulk: *b"Dd",
            max,
            position: 0,
            missing: 0,
            passed: 0,
        }
    }

    /// Walks over what a client sends: passes CopyData.
    #[must_use]
    pub fn frontend(max: usize) -> Self {
        Self {
            bulk: *b"dd",
            max,
            position: 0,
            missing: 0,
            passed: 0,
        }
    }

    /// The next stop in `buf`, or `None` when the buffer holds no further whole one. `buf` begins with the bytes not
    /// released yet. Bulk messages may be as long as the protocol allows, for they need not fit in the buffer.
    #[inline]
    pub fn next<'a>(&mut self, buf: &'a [u8]) -> Result<Option<Stop<'a>>, FrameError> {
        if self.missing > 0 {
            let arrived = self.missing.min(buf.len() - self.position);
            self.position += arrived;
            self.missing -= arrived;
            if self.missing > 0 {
                return Ok(None);
            }
        }
        loop {
            let start = self.position;
            let Some(frame) = next_header(&buf[start..], usize::MAX)? else {
                return Ok(None);
            };
            let arrived = buf.len() - start;
            if frame.tag == self.bulk[0] || frame.tag == self.bulk[1] {
                self.passed += 1;
                if frame.len > arrived {
                    self.position = buf.len();
                    self.missing = frame.len - arrived;
                    return Ok(None);
                }
                self.position = start + frame.len;
                continue;
            }
            if frame.len > self.max {
                return Err(FrameError::TooLong {
                    tag: frame.tag,
                    len: frame.len,
                    max: self.max,
                });
            }
            if frame.len > arrived {
                return Ok(None);
            }
            let end = start + frame.len;
            self.position = end;
            return Ok(Some(Stop {
                tag: frame.tag,
                body: &buf[start + HEADER..end],
                start,
                end,
            }));
        }
    }

    /// Where the walk stands in the buffer: everything before may be relayed.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }

    /// How many bytes at the start of the buffer are done with. The caller takes them out of the buffer now.
    pub fn release(&mut self) -> usize {
        std::mem::take(&mut self.position)
    }

    /// Whether the bytes released so far end where a message ends.
    #[must_use]
    pub fn at_boundary(&self) -> bool {
        self.missing == 0
    }

    /// How many bulk messages (rows, COPY data) have begun.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.passed
    }
}
