//! DataRow bodies taken apart and put together.

use super::MergeError;
use crate::wire::backend::{self, Columns};

/// What is said of a row that cannot be read.
const ROW: MergeError = MergeError::Malformed("row");

/// The values of a row that has `count` columns.
pub(super) fn values(body: &[u8], count: usize) -> Result<Columns<'_>, MergeError> {
    let values = backend::columns(body);
    if values.left() == count {
        Ok(values)
    } else {
        Err(ROW)
    }
}

/// All but the last `hidden` columns: how many, and their bytes as they stand on the wire.
pub(super) fn first_columns(body: &[u8], hidden: usize) -> Result<(u16, &[u8]), MergeError> {
    let values = backend::columns(body);
    let count = values.left().checked_sub(hidden).ok_or(ROW)?;
    let mut end = 2;
    for value in values.take(count) {
        end += 4 + value.map_err(|_| ROW)?.map_or(0, <[u8]>::len);
    }
    let count = u16::try_from(count).map_err(|_| ROW)?;
    Ok((count, body.get(2..end).ok_or(ROW)?))
}

/// Appends a value with its length.
pub(super) fn append_value(value: Option<&[u8]>, out: &mut Vec<u8>) -> Result<(), MergeError> {
    let Some(value) = value else {
        out.extend_from_slice(&(-1_i32).to_be_bytes());
        return Ok(());
    };
    let length = i32::try_from(value.len()).map_err(|_| ROW)?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(value);
    Ok(())
}
