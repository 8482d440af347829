//! Appending one message to a buffer: the length is filled in at the end.

use crate::wire::error::EncodeError;
use bytes::{BufMut, BytesMut};

/// A message under way, in somebody's buffer. Unless it is finished, the buffer is as it was before.
pub(crate) struct Writer<'a> {
    out: &'a mut BytesMut,
    start: usize,
    length_at: usize,
    refused: Option<EncodeError>,
}

impl<'a> Writer<'a> {
    /// Starts a message with a tag.
    #[inline]
    pub(crate) fn tagged(out: &'a mut BytesMut, tag: u8) -> Self {
        let start = out.len();
        out.put_u8(tag);
        out.put_i32(0);
        Self {
            out,
            start,
            length_at: start + 1,
            refused: None,
        }
    }

    /// Starts a message without a tag: the packets of a startup.
    #[inline]
    pub(crate) fn untagged(out: &'a mut BytesMut) -> Self {
        let start = out.len();
        out.put_i32(0);
        Self {
            out,
            start,
            length_at: start,
            refused: None,
        }
    }

    #[inline]
    pub(crate) fn u8(&mut self, value: u8) -> &mut Self {
        self.out.put_u8(value);
        self
    }

    #[inline]
    pub(crate) fn i16(&mut self, value: i16) -> &mut Self {
        self.out.put_i16(value);
        self
    }

    #[inline]
    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.out.put_u32(value);
        self
    }

    #[inline]
    pub(crate) fn i32(&mut self, value: i32) -> &mut Self {
        self.out.put_i32(value);
        self
    }

    /// A count of two bytes.
    #[inline]
    pub(crate) fn count(&mut self, count: usize) -> &mut Self {
        match u16::try_from(count) {
            Ok(count) => self.out.put_u16(count),
            Err(_) => self.refused = Some(EncodeError::TooLong),
        }
        self
    }

    /// A count of four bytes.
    #[inline]
    pub(crate) fn long_count(&mut self, count: usize) -> &mut Self {
        match i32::try_from(count) {
            Ok(count) => self.out.put_i32(count),
            Err(_) => self.refused = Some(EncodeError::TooLong),
        }
        self
    }

    #[inline]
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.put_slice(bytes);
        self
    }

    /// A text that ends with a zero byte, and so may hold none.
    #[inline]
    pub(crate) fn cstr(&mut self, text: &str) -> &mut Self {
        self.cstr_bytes(text.as_bytes())
    }

    /// The same for bytes in the server's encoding.
    #[inline]
    pub(crate) fn cstr_bytes(&mut self, text: &[u8]) -> &mut Self {
        if memchr::memchr(0, text).is_some() {
            self.refused = Some(EncodeError::Nul);
        }
        self.out.put_slice(text);
        self.out.put_u8(0);
        self
    }

    /// A text for people that ends with a zero byte; zero bytes inside are left out.
    #[inline]
    pub(crate) fn cstr_lossy(&mut self, text: &str) -> &mut Self {
        for part in text.as_bytes().split(|&byte| byte == 0) {
            self.out.put_slice(part);
        }
        self.out.put_u8(0);
        self
    }

    /// A length of four bytes and the bytes; NULL is -1.
    #[inline]
    pub(crate) fn value(&mut self, value: Option<&[u8]>) -> &mut Self {
        match value.map(|value| (value, i32::try_from(value.len()))) {
            None => self.out.put_i32(-1),
            Some((value, Ok(length))) => {
                self.out.put_i32(length);
                self.out.put_slice(value);
            }
            Some((_, Err(_))) => self.refused = Some(EncodeError::TooLong),
        }
        self
    }

    /// Fills in the length; a message that cannot be sent leaves the buffer as it was.
    #[inline]
    pub(crate) fn finish(mut self) -> Result<(), EncodeError> {
        match (self.refused, i32::try_from(self.out.len() - self.length_at)) {
            (None, Ok(length)) => {
                self.out[self.length_at..self.length_at + 4].copy_from_slice(&length.to_be_bytes());
                self.start = self.out.len();
                Ok(())
            }
            (Some(refused), _) => Err(refused),
            (None, Err(_)) => Err(EncodeError::TooLong),
        }
    }
}

impl Writer<'_> {
    /// Fills in the length of a message to a client, made of parts of messages that were framed before.
    #[inline]
    pub(crate) fn finish_ours(self) {
        self.finish()
            .expect("what was read in messages below the frame limit fits in one");
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        self.out.truncate(self.start);
    }
}
