//! What the shards' row descriptions tell: where the keys are, and how their types compare.

use super::rows::Row;
use super::{MergeError, Purpose};
use crate::route::merge::{Finish, Fold, SortKey, Source};
use crate::wire::value::{Comparer, Format, TextStyle, oid};

/// The format codes for the shards when the client asked for `client` and `hidden` columns are added.
#[must_use]
pub fn server_formats(client: &[i16], hidden: usize) -> Vec<i16> {
    let mut codes = client.to_vec();
    // None and one stand for all columns. With one code per column the hidden ones travel in binary, which no
    // setting changes.
    if client.len() > 1 {
        codes.extend(std::iter::repeat_n(Format::Binary.code(), hidden));
    }
    codes
}

/// A RowDescription body without its last `hidden` columns, with the formats that a Bind asked for (none means text,
/// one means all; pass none for a statement that is not bound yet).
///
/// # Errors
/// When the body cannot be read.
pub fn client_description(
    body: &[u8],
    hidden: usize,
    formats: &[i16],
) -> Result<Vec<u8>, MergeError> {
    let malformed = MergeError::Malformed("row description");
    let fields = read_fields(body)?;
    let visible = fields.len().checked_sub(hidden).ok_or(malformed.clone())?;
    let count = u16::try_from(visible).map_err(|_| malformed.clone())?;
    let mut out = Vec::with_capacity(body.len());
    out.extend_from_slice(&count.to_be_bytes());
    for (index, field) in fields[..visible].iter().enumerate() {
        let format = Format::of_column(formats, index).ok_or(malformed.clone())?;
        out.extend_from_slice(&field.bytes[..field.bytes.len() - 2]);
        out.extend_from_slice(&format.code().to_be_bytes());
    }
    Ok(out)
}

/// One column of a RowDescription.
#[derive(Debug, Clone, Copy)]
struct Field<'a> {
    name: &'a [u8],
    type_oid: u32,
    /// The whole column: name, 0, table OID, attribute, type OID, length, modifier, format.
    bytes: &'a [u8],
}

/// Bytes of a column behind its name: 4 + 2 + 4 + 2 + 4 + 2.
const FIELD_TAIL: usize = 18;

fn read_fields(body: &[u8]) -> Result<Vec<Field<'_>>, MergeError> {
    let malformed = MergeError::Malformed("row description");
    let (count, mut rest) = body.split_first_chunk::<2>().ok_or(malformed.clone())?;
    let mut fields = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let end = memchr::memchr(0, rest).ok_or(malformed.clone())?;
        let (bytes, behind) = rest
            .split_at_checked(end + 1 + FIELD_TAIL)
            .ok_or(malformed.clone())?;
        let type_oid = bytes[end + 7..].first_chunk().ok_or(malformed.clone())?;
        fields.push(Field {
            name: &bytes[..end],
            type_oid: u32::from_be_bytes(*type_oid),
            bytes,
        });
        rest = behind;
    }
    Ok(fields)
}

/// The columns of the shards' rows, and the keys among them.
#[derive(Debug)]
pub(super) struct Columns {
    description: Vec<u8>,
    type_oids: Vec<u32>,
    sort_keys: Vec<ColumnKey>,
    /// DISTINCT's columns, or GROUP BY's keys.
    equality_keys: Vec<ColumnKey>,
    folds: Vec<ColumnFold>,
}

/// A key column.
#[derive(Debug, Clone, Copy)]
struct ColumnKey {
    column: usize,
    comparer: Comparer,
    descending: bool,
    nulls_first: bool,
}

/// How a column of partial groups is put together.
#[derive(Debug, Clone, Copy)]
pub(super) enum ColumnFold {
    /// The first.
    First,
    /// Bigints are added; without any the sum is this.
    AddInt {
        /// 0 for counts, NULL for sums.
        empty: Option<i64>,
        /// How it is written.
        format: Format,
    },
    /// Numerics are added.
    AddNumeric {
        /// How it is written.
        format: Format,
    },
    /// The least.
    Min(Comparer),
    /// The greatest.
    Max(Comparer),
}

impl Columns {
    pub(super) fn new(
        description: &[u8],
        finish: &Finish,
        formats: &[i16],
        style: TextStyle,
    ) -> Result<Self, MergeError> {
        let malformed = MergeError::Malformed("row description");
        let fields = read_fields(description)?;
        let visible = fields
            .len()
            .checked_sub(finish.hidden)
            .ok_or(malformed.clone())?;
        let format_of = |column| Format::of_column(formats, column).ok_or(malformed.clone());
        let comparer = |column: usize, purpose: Purpose| -> Result<Comparer, MergeError> {
            let type_oid = fields.get(column).ok_or(malformed.clone())?.type_oid;
            Comparer::for_type(type_oid, format_of(column)?, style).ok_or(MergeError::Type {
                what: purpose,
                type_oid,
            })
        };
        let ordered = |column: usize, text_is_c: bool| match comparer(column, Purpose::Order)? {
            comparer if comparer.has_collation() && !text_is_c => Err(MergeError::Collation),
            comparer => Ok(comparer),
        };
        let equality_key =
            |column: usize, text_by_bytes: bool| match comparer(column, Purpose::Group)? {
                comparer if comparer.has_collation() && !text_by_bytes => Err(MergeError::Equality),
                comparer => Ok(ColumnKey {
                    column,
                    comparer,
                    descending: false,
                    nulls_first: false,
                }),
            };

        let mut sort_keys = Vec::with_capacity(finish.order.len());
        // One row needs no order, and its keys need no known type.
        let one_row = finish
            .groups
            .as_ref()
            .is_some_and(|groups| groups.keys.is_empty());
        for key in finish.order.iter().filter(|_| !one_row) {
            let column = find_column(key, &fields, visible)?;
            sort_keys.push(ColumnKey {
                column,
                comparer: ordered(column, key.text_is_c)?,
                descending: key.descending,
                nulls_first: key.nulls_first,
            });
        }

        let mut equality_keys = Vec::new();
        let mut folds = Vec::new();
        if let Some(groups) = &finish.groups {
            if groups.columns.len() != fields.len() {
                return Err(malformed);
            }
            for key in &groups.keys {
                equality_keys.push(equality_key(key.column, key.text_by_bytes)?);
            }
            for (column, fold) in groups.columns.iter().enumerate() {
                let (type_oid, format) = (fields[column].type_oid, format_of(column)?);
                folds.push(match (fold, type_oid) {
                    (Fold::First, _) => ColumnFold::First,
                    (Fold::Count, oid::INT8) => ColumnFold::AddInt {
                        empty: Some(0),
                        format,
                    },
                    (Fold::Sum, oid::INT8) => ColumnFold::AddInt {
                        empty: None,
                        format,
                    },
                    (Fold::Sum, oid::NUMERIC) => ColumnFold::AddNumeric { format },
                    (Fold::Count | Fold::Sum, _) => {
                        return Err(MergeError::Type {
                            what: Purpose::Sum,
                            type_oid,
                        });
                    }
                    (Fold::Min { text_is_c }, _) => ColumnFold::Min(ordered(column, *text_is_c)?),
                    (Fold::Max { text_is_c }, _) => ColumnFold::Max(ordered(column, *text_is_c)?),
                });
            }
        } else if let Some(distinct) = finish.distinct {
            for column in 0..visible {
                equality_keys.push(equality_key(column, distinct.text_by_bytes)?);
            }
        }
        Ok(Self {
            description: description.to_vec(),
            type_oids: fields.iter().map(|field| field.type_oid).collect(),
            sort_keys,
            equality_keys,
            folds,
        })
    }

    /// Another input's description must be the same. Users' types have other OIDs on other shards; keys are never of
    /// such types.
    pub(super) fn agree(&self, description: &[u8]) -> Result<(), MergeError> {
        let fields = read_fields(description)?;
        let same = |a: u32, b: u32| a == b || (a >= oid::FIRST_USER && b >= oid::FIRST_USER);
        let agree = fields.len() == self.type_oids.len()
            && fields
                .iter()
                .zip(&self.type_oids)
                .all(|(field, type_oid)| same(field.type_oid, *type_oid));
        if agree {
            Ok(())
        } else {
            Err(MergeError::Descriptions)
        }
    }

    pub(super) fn description(&self) -> &[u8] {
        &self.description
    }

    pub(super) fn folds(&self) -> &[ColumnFold] {
        &self.folds
    }

    /// How many columns the shards' rows have.
    pub(super) fn len(&self) -> usize {
        self.type_oids.len()
    }

    /// Bytes that order rows as ORDER BY does.
    pub(super) fn append_sort_key(&self, row: &[u8], out: &mut Vec<u8>) -> Result<(), MergeError> {
        self.append_keys(&self.sort_keys, row, out)
    }

    /// Bytes that are equal when rows are equal (DISTINCT) or are of one group (GROUP BY).
    pub(super) fn append_distinct_key(
        &self,
        row: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), MergeError> {
        self.append_keys(&self.equality_keys, row, out)
    }

    fn append_keys(
        &self,
        keys: &[ColumnKey],
        row: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), MergeError> {
        let values = Row::new(row)?.values(self.len())?;
        // Keys mostly ask for columns in order, so one walk serves them all; a key further left starts again.
        let (mut at, mut rest) = (0, values);
        for key in keys {
            if key.column < at {
                (at, rest) = (0, values);
            }
            let value = rest
                .nth(key.column - at)
                .ok_or(MergeError::Malformed("row"))??;
            at = key.column + 1;
            key.append(value, out)?;
        }
        Ok(())
    }
}

impl ColumnKey {
    fn append(&self, value: Option<&[u8]>, out: &mut Vec<u8>) -> Result<(), MergeError> {
        let Some(value) = value else {
            out.push(if self.nulls_first { 0 } else { 2 });
            return Ok(());
        };
        out.push(1);
        let start = out.len();
        self.comparer
            .append_key(value, out)
            .map_err(|bad| MergeError::Malformed(bad.type_name))?;
        if self.descending {
            out[start..].iter_mut().for_each(|byte| *byte = !*byte);
        }
        Ok(())
    }
}

fn find_column(key: &SortKey, fields: &[Field<'_>], visible: usize) -> Result<usize, MergeError> {
    let named = |name: &str| {
        fields[..visible]
            .iter()
            .position(|field| field.name == name.as_bytes())
    };
    let column = match &key.source {
        Source::Visible(column) => Some(*column).filter(|column| *column < visible),
        Source::VisibleFromEnd(back) => visible.checked_sub(back + 1),
        Source::Hidden(column) => Some(visible + column).filter(|column| *column < fields.len()),
        Source::Named(name) => {
            Some(named(name).ok_or_else(|| MergeError::UnknownKey { name: name.clone() })?)
        }
        Source::NamedOrHidden(name, hidden) => named(name).or(Some(visible + hidden)),
    };
    column.ok_or(MergeError::Malformed("row description"))
}
