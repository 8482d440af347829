//! Partial groups: rows with equal keys become one.

use super::columns::{ColumnFold, Columns};
use super::rows::{self, append_value};
use super::{ENTRY_OVERHEAD, Limits, MergeError};
use crate::route::merge::Groups;
use crate::wire::value::Comparer;
use crate::wire::value::numeric::Numeric;
use bytes::Bytes;
use std::collections::HashMap;

/// The groups seen so far.
#[derive(Debug, Default)]
pub(super) struct GroupTable {
    groups: HashMap<Box<[u8]>, Vec<Cell>>,
    limits: Limits,
    /// Bytes of keys and values held.
    bytes: usize,
}

/// What one column of a group has come to.
#[derive(Debug)]
enum Cell {
    First(Option<Box<[u8]>>),
    /// Wide enough for any number of bigints; checked at the end.
    Int(Option<i128>),
    Numeric(Option<Numeric>),
    /// The best value so far, with its key.
    Best(Option<(Vec<u8>, Box<[u8]>)>),
}

impl GroupTable {
    pub(super) fn new(groups: &Groups, limits: Limits) -> Self {
        let capacity = if groups.keys.is_empty() { 1 } else { 64 };
        Self {
            groups: HashMap::with_capacity(capacity),
            limits,
            bytes: 0,
        }
    }

    /// Takes one partial row.
    pub(super) fn add(&mut self, row: &Bytes, columns: &Columns) -> Result<(), MergeError> {
        let mut key = Vec::new();
        columns.append_distinct_key(row, &mut key)?;
        let values = rows::values(row, columns.len())?
            .map(|value| value.map_err(|_| MergeError::Malformed("row")));
        if let Some(cells) = self.groups.get_mut(key.as_slice()) {
            for ((cell, fold), value) in cells.iter_mut().zip(columns.folds()).zip(values) {
                cell.add(*fold, value?, &mut self.bytes)?;
            }
        } else {
            if self.groups.len() >= self.limits.groups_max {
                return Err(MergeError::Limit {
                    bound: self.limits.groups_max,
                    unit: "groups",
                });
            }
            self.bytes += ENTRY_OVERHEAD + key.len() + columns.len() * size_of::<Cell>();
            let mut cells = Vec::with_capacity(columns.len());
            for (fold, value) in columns.folds().iter().zip(values) {
                let mut cell = Cell::empty(*fold);
                cell.add(*fold, value?, &mut self.bytes)?;
                cells.push(cell);
            }
            self.groups.insert(key.into_boxed_slice(), cells);
        }
        if self.bytes > self.limits.bytes_max {
            return Err(MergeError::Limit {
                bound: self.limits.bytes_max,
                unit: "bytes of groups",
            });
        }
        Ok(())
    }

    /// The groups' rows (DataRow bodies) in the answer's order.
    pub(super) fn finish(self, columns: &Columns) -> Result<Vec<Bytes>, MergeError> {
        let count =
            u16::try_from(columns.len()).map_err(|_| MergeError::Malformed("row description"))?;
        let mut rows = Vec::with_capacity(self.groups.len());
        for cells in self.groups.into_values() {
            let mut row = Vec::new();
            row.extend_from_slice(&count.to_be_bytes());
            for (cell, fold) in cells.iter().zip(columns.folds()) {
                cell.append(*fold, &mut row)?;
            }
            let mut sort_key = Vec::new();
            columns.append_sort_key(&row, &mut sort_key)?;
            rows.push((sort_key, Bytes::from(row)));
        }
        rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(rows.into_iter().map(|(_, row)| row).collect())
    }
}

impl Cell {
    fn empty(fold: ColumnFold) -> Self {
        match fold {
            ColumnFold::First => Self::First(None),
            ColumnFold::AddInt { .. } => Self::Int(None),
            ColumnFold::AddNumeric { .. } => Self::Numeric(None),
            ColumnFold::Min(_) | ColumnFold::Max(_) => Self::Best(None),
        }
    }

    /// Takes a partial value; NULL stands for no value at all.
    fn add(
        &mut self,
        fold: ColumnFold,
        value: Option<&[u8]>,
        bytes: &mut usize,
    ) -> Result<(), MergeError> {
        let Some(value) = value else { return Ok(()) };
        match (self, fold) {
            (Self::First(first), _) => {
                if first.is_none() {
                    *bytes += value.len();
                    *first = Some(value.into());
                }
            }
            (Self::Int(sum), ColumnFold::AddInt { int, format }) => {
                let value = int.read(value, format)?;
                *sum = Some(sum.unwrap_or(0) + i128::from(value));
            }
            (Self::Numeric(sum), ColumnFold::AddNumeric { format }) => {
                let value = Numeric::read(value, format).ok_or(MergeError::Malformed("numeric"))?;
                *bytes += value.size();
                *sum = Some(match sum.take() {
                    None => value,
                    Some(sum) => sum
                        .add(&value)
                        .map_err(|_| MergeError::Overflow("value overflows numeric format"))?,
                });
            }
            (Self::Best(best), ColumnFold::Min(comparer)) => {
                replace(best, value, comparer, false, bytes)?
            }
            (Self::Best(best), ColumnFold::Max(comparer)) => {
                replace(best, value, comparer, true, bytes)?
            }
            (Self::Int(_) | Self::Numeric(_) | Self::Best(_), _) => {
                unreachable!("cells are made by their folds")
            }
        }
        Ok(())
    }

    fn append(&self, fold: ColumnFold, out: &mut Vec<u8>) -> Result<(), MergeError> {
        match (self, fold) {
            (Self::First(value), _) => append_value(value.as_deref(), out),
            (Self::Best(best), _) => append_value(best.as_ref().map(|(_, value)| &**value), out),
            (Self::Int(Some(sum)), ColumnFold::AddInt { int, format }) => {
                let mut value = Vec::new();
                let written = int.write(*sum, format, &mut value);
                written.ok_or(MergeError::Overflow(int.out_of_range()))?;
                append_value(Some(&value), out)
            }
            (Self::Numeric(Some(sum)), ColumnFold::AddNumeric { format }) => {
                let mut value = Vec::new();
                sum.write(format, &mut value);
                append_value(Some(&value), out)
            }
            (Self::Int(_) | Self::Numeric(_), _) => append_value(None, out),
        }
    }
}

/// Takes the value if it is better.
fn replace(
    best: &mut Option<(Vec<u8>, Box<[u8]>)>,
    value: &[u8],
    comparer: Comparer,
    greatest: bool,
    bytes: &mut usize,
) -> Result<(), MergeError> {
    let mut key = Vec::new();
    comparer.append_key(value, &mut key)?;
    let better = match best {
        None => true,
        Some((best, _)) if greatest => key > *best,
        Some((best, _)) => key < *best,
    };
    if better {
        *bytes += key.len() + value.len();
        if let Some((key, value)) = best.replace((key, value.into())) {
            *bytes -= key.len() + value.len();
        }
    }
    Ok(())
}
