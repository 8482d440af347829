//! A cursor over one message's body. Every step checks the bounds, so decoders above cannot read past the end.

use crate::wire::error::ProtocolError;

/// What is left of a message's body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the beginning of `body`.
    #[inline]
    pub(crate) fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    /// The bytes not read yet.
    #[inline]
    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next `count` bytes.
    #[inline]
    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], ProtocolError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(ProtocolError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Everything that is left.
    #[inline]
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], ProtocolError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(ProtocolError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// One byte.
    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, ProtocolError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    /// Two bytes, unsigned: PostgreSQL reads its counts so.
    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, ProtocolError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// Two bytes, signed.
    #[inline]
    pub(crate) fn i16(&mut self) -> Result<i16, ProtocolError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    /// Four bytes, unsigned.
    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, ProtocolError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// Four bytes, signed.
    #[inline]
    pub(crate) fn i32(&mut self) -> Result<i32, ProtocolError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// A count of two bytes, each item of which takes at least `item` bytes: refused before anything is allocated.
    #[inline]
    pub(crate) fn count(&mut self, item: usize) -> Result<usize, ProtocolError> {
        let count = usize::from(self.u16()?);
        if count * item > self.remaining() {
            return Err(ProtocolError::Truncated);
        }
        Ok(count)
    }

    /// The bytes up to the next zero byte, which is consumed.
    #[inline]
    pub(crate) fn cstr_bytes(&mut self) -> Result<&'a [u8], ProtocolError> {
        // Most names are empty.
        let end = match self.rest.first() {
            Some(0) => 0,
            _ => memchr::memchr(0, self.rest).ok_or(ProtocolError::Unterminated)?,
        };
        let text = self.bytes(end)?;
        self.bytes(1)?;
        Ok(text)
    }

    /// A text up to the next zero byte, which is consumed.
    #[inline]
    pub(crate) fn cstr(&mut self) -> Result<&'a str, ProtocolError> {
        utf8(self.cstr_bytes()?)
    }

    /// A length of four bytes and so many bytes; -1 is NULL. Other negative lengths are refused.
    #[inline]
    pub(crate) fn value(&mut self) -> Result<Option<&'a [u8]>, ProtocolError> {
        match self.i32()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| ProtocolError::Truncated)?;
                self.bytes(length).map(Some)
            }
        }
    }

    /// The message ends here.
    #[inline]
    pub(crate) fn finish(self) -> Result<(), ProtocolError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(ProtocolError::Trailing)
        }
    }
}

/// Text in UTF-8, or the error PostgreSQL gives for text that is not.
pub(crate) fn utf8(text: &[u8]) -> Result<&str, ProtocolError> {
    std::str::from_utf8(text).map_err(|error| {
        let at = error.valid_up_to();
        ProtocolError::NotUtf8 {
            byte: text.get(at).copied().unwrap_or(0),
        }
    })
}
