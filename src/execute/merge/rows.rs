//! One DataRow body: a count and as many values, each with its length (protocol 3, "DataRow").

use super::MergeError;

/// A row's values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    count: u16,
    values: &'a [u8],
}

/// The first columns of a row, still as they stand on the wire.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head<'a> {
    /// How many.
    pub(super) count: u16,
    /// Lengths and values.
    pub(super) bytes: &'a [u8],
}

impl<'a> Row<'a> {
    pub(super) fn new(body: &'a [u8]) -> Result<Self, MergeError> {
        let (count, values) = body
            .split_first_chunk::<2>()
            .ok_or(MergeError::Malformed("row"))?;
        Ok(Self {
            count: u16::from_be_bytes(*count),
            values,
        })
    }

    /// The values in order, NULL as `None`; exactly `columns` of them.
    pub(super) fn values(self, columns: usize) -> Result<Values<'a>, MergeError> {
        if usize::from(self.count) != columns {
            return Err(MergeError::Malformed("row"));
        }
        Ok(Values {
            left: self.count,
            rest: self.values,
        })
    }

    /// All but the last `hidden` columns.
    pub(super) fn first_columns(self, hidden: usize) -> Result<Head<'a>, MergeError> {
        let hidden = u16::try_from(hidden).map_err(|_| MergeError::Malformed("row"))?;
        let count = self
            .count
            .checked_sub(hidden)
            .ok_or(MergeError::Malformed("row"))?;
        let mut values = Values {
            left: count,
            rest: self.values,
        };
        for value in values.by_ref() {
            value?;
        }
        let length = self.values.len() - values.rest.len();
        Ok(Head {
            count,
            bytes: &self.values[..length],
        })
    }
}

/// An iterator over a row's values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Values<'a> {
    left: u16,
    rest: &'a [u8],
}

impl<'a> Iterator for Values<'a> {
    type Item = Result<Option<&'a [u8]>, MergeError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        Some(self.take().ok_or(MergeError::Malformed("row")))
    }
}

impl<'a> Values<'a> {
    fn take(&mut self) -> Option<Option<&'a [u8]>> {
        let (length, rest) = self.rest.split_first_chunk::<4>()?;
        let length = i32::from_be_bytes(*length);
        self.rest = rest;
        if length == -1 {
            return Some(None);
        }
        let (value, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        self.rest = rest;
        Some(Some(value))
    }
}

/// Appends a value with its length.
pub(super) fn append_value(value: Option<&[u8]>, out: &mut Vec<u8>) -> Result<(), MergeError> {
    let Some(value) = value else {
        out.extend_from_slice(&(-1_i32).to_be_bytes());
        return Ok(());
    };
    let length = i32::try_from(value.len()).map_err(|_| MergeError::Malformed("row"))?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(value);
    Ok(())
}
