//! What the shards' row descriptions tell: where the keys are, and how their types compare.

use super::{MergeError, Purpose, rows};
use crate::route::merge::{Finish, Fold, SortKey, Source};
use crate::wire::backend::{self, Field};
use crate::wire::frontend::Format;
use crate::wire::types;
use crate::wire::value::{Comparer, IntType, TextStyle};

/// The result formats for the shards when the client asked for `client` and `hidden` columns are added.
#[must_use]
pub fn server_formats(client: &[Format], hidden: usize) -> Vec<Format> {
    let mut formats = client.to_vec();
    // None and one stand for all columns. With one per column the hidden ones travel in binary, which no setting
    // changes.
    if client.len() > 1 {
        formats.extend(std::iter::repeat_n(Format::Binary, hidden));
    }
    formats
}

/// The columns of a RowDescription body for the client: without the last `hidden` ones, in the formats that its Bind
/// asked for (none means text, one means all; pass none for a statement that is not bound yet).
///
/// # Errors
/// When the body cannot be read.
pub fn client_description(
    body: &[u8],
    hidden: usize,
    formats: &[Format],
) -> Result<Vec<Field>, MergeError> {
    let mut fields = backend::read_row_description(body).map_err(|_| DESCRIPTION)?;
    visible(&mut fields, hidden, formats)?;
    Ok(fields)
}

/// Takes the hidden columns off and sets the formats.
fn visible(fields: &mut Vec<Field>, hidden: usize, formats: &[Format]) -> Result<(), MergeError> {
    let visible = fields.len().checked_sub(hidden).ok_or(DESCRIPTION)?;
    fields.truncate(visible);
    for (index, field) in fields.iter_mut().enumerate() {
        field.format = format_of(formats, index)?;
    }
    Ok(())
}

/// The format of a column (manual, 55.7 "Bind").
fn format_of(formats: &[Format], column: usize) -> Result<Format, MergeError> {
    match formats {
        [] => Ok(Format::Text),
        [all] => Ok(*all),
        each => each.get(column).copied().ok_or(DESCRIPTION),
    }
}

/// What is said of a description that cannot be read.
const DESCRIPTION: MergeError = MergeError::Malformed("row description");

/// The columns of the shards' rows, and the keys among them.
#[derive(Debug)]
pub(super) struct Columns {
    fields: Vec<Field>,
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
    /// Integers are added; without any the sum is NULL. (Counts are never without.)
    AddInt {
        /// Their type.
        int: IntType,
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
        formats: &[Format],
        style: TextStyle,
    ) -> Result<Self, MergeError> {
        let fields = backend::read_row_description(description).map_err(|_| DESCRIPTION)?;
        let visible = fields.len().checked_sub(finish.hidden).ok_or(DESCRIPTION)?;
        let comparer = |column: usize, purpose: Purpose| -> Result<Comparer, MergeError> {
            let type_oid = fields.get(column).ok_or(DESCRIPTION)?.type_oid;
            let format = format_of(formats, column)?;
            Comparer::for_type(type_oid, format, style).ok_or_else(|| {
                // In binary nothing depends on settings.
                if Comparer::for_type(type_oid, Format::Binary, style).is_some() {
                    MergeError::Settings { type_oid }
                } else {
                    MergeError::Type {
                        what: purpose,
                        type_oid,
                    }
                }
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
                return Err(DESCRIPTION);
            }
            for key in &groups.keys {
                equality_keys.push(equality_key(key.column, key.text_by_bytes)?);
            }
            for (column, fold) in groups.columns.iter().enumerate() {
                let (type_oid, format) = (fields[column].type_oid, format_of(formats, column)?);
                folds.push(match (fold, type_oid) {
                    (Fold::First, _) => ColumnFold::First,
                    (Fold::Sum, types::INT8) => ColumnFold::AddInt {
                        int: IntType::Int8,
                        format,
                    },
                    (Fold::Sum, types::NUMERIC) => ColumnFold::AddNumeric { format },
                    (Fold::Count, _) => {
                        let int = IntType::from_oid(type_oid);
                        let int = int.ok_or(MergeError::Type {
                            what: Purpose::Sum,
                            type_oid,
                        })?;
                        ColumnFold::AddInt { int, format }
                    }
                    (Fold::Sum, _) => {
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
            fields,
            sort_keys,
            equality_keys,
            folds,
        })
    }

    /// Another input's description must be the same. Users' types have other OIDs on other shards; keys are never of
    /// such types.
    pub(super) fn agree(&self, description: &[u8]) -> Result<(), MergeError> {
        let fields = backend::read_row_description(description).map_err(|_| DESCRIPTION)?;
        let users = types::FIRST_USER_OID;
        let same = |(a, b): (&Field, &Field)| {
            a.type_oid == b.type_oid || (a.type_oid >= users && b.type_oid >= users)
        };
        let agree = fields.len() == self.fields.len() && fields.iter().zip(&self.fields).all(same);
        if agree {
            Ok(())
        } else {
            Err(MergeError::Descriptions)
        }
    }

    /// What the client is told.
    pub(super) fn for_client(
        &self,
        hidden: usize,
        formats: &[Format],
    ) -> Result<Vec<Field>, MergeError> {
        let mut fields = self.fields.clone();
        visible(&mut fields, hidden, formats)?;
        Ok(fields)
    }

    pub(super) fn folds(&self) -> &[ColumnFold] {
        &self.folds
    }

    /// How many columns the shards' rows have.
    pub(super) fn len(&self) -> usize {
        self.fields.len()
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
        let values = rows::values(row, self.len())?;
        // Keys mostly ask for columns in order, so one walk serves them all; a key further left starts again.
        let (mut at, mut rest) = (0, values.clone());
        for key in keys {
            if key.column < at {
                (at, rest) = (0, values.clone());
            }
            let value = rest
                .nth(key.column - at)
                .and_then(Result::ok)
                .ok_or(MergeError::Malformed("row"))?;
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
        self.comparer.append_key(value, out)?;
        if self.descending {
            out[start..].iter_mut().for_each(|byte| *byte = !*byte);
        }
        Ok(())
    }
}

fn find_column(key: &SortKey, fields: &[Field], visible: usize) -> Result<usize, MergeError> {
    let named = |name: &str| {
        fields[..visible]
            .iter()
            .position(|field| field.name == name)
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
    column.ok_or(DESCRIPTION)
}
