//! Many shards' rows become one answer: a pure machine that is fed rows and gives rows.
//!
//! In: the planner's [`Finish`], each shard's RowDescription and DataRow bodies. Out: the client's RowDescription and
//! DataRow messages. It does no I/O and never waits: [`Merger::next`] says whose row it needs. What it holds is
//! bounded: one row per input when it merges, [`Limits`] when it must remember groups or distinct rows.
//! Reading order: this file, `columns` (what the row descriptions tell), `rows` (one DataRow), `groups`.

mod columns;
mod groups;
mod rows;
#[cfg(test)]
mod tests;

use crate::route::merge::{Finish, Window};
use crate::wire::backend::{Field, tag};
use crate::wire::error::{ClientError, SqlState};
use crate::wire::frontend::Format;
use crate::wire::types;
use crate::wire::value::{BadValue, TextStyle};
use bytes::{BufMut, Bytes, BytesMut};
use columns::Columns;
use groups::GroupTable;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet, VecDeque};
use std::sync::Arc;

pub use columns::{client_description, server_formats};

/// What a merge may hold in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Groups of a GROUP BY, or distinct rows, at most.
    pub groups_max: usize,
    /// Bytes of their keys and values at most.
    pub bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            groups_max: 1_000_000,
            bytes_max: 64 << 20,
        }
    }
}

/// What a hash table needs per entry beside its bytes, roughly.
const ENTRY_OVERHEAD: usize = 48;

/// What a merge is made of.
#[derive(Debug, Clone)]
pub struct Setup<'a> {
    /// How the rows become one answer.
    pub finish: Arc<Finish>,
    /// OFFSET and LIMIT of this execution.
    pub window: Window,
    /// How many shards send rows.
    pub inputs: usize,
    /// The client's result formats (Bind); the shards got [`server_formats`] of them. Empty in the simple protocol.
    pub result_formats: &'a [Format],
    /// The servers' settings that change how text values look.
    pub style: TextStyle,
    /// Bounds.
    pub limits: Limits,
}

/// What [`Merger::next`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It needs a row, or the end, of this input.
    Need(usize),
    /// It needs a row, or the end, of any input that has not ended.
    NeedAny,
    /// One DataRow message was appended.
    Row,
    /// The answer is complete; inputs that have not ended are not needed any more.
    Done,
}

/// Why a merge stops. Unless rows were sent before, none has been.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// The type has no order, sum or equality that Keyway computes exactly.
    #[error("cannot {} values of type {} from several shards", .what.verb(), named(.type_oid))]
    Type {
        /// What was to be done with it.
        what: Purpose,
        /// The type's OID.
        type_oid: u32,
    },
    /// The session writes the type's text in a form that is not read here.
    #[error("cannot read {} values as this session writes them", named(.type_oid))]
    Settings {
        /// The type's OID.
        type_oid: u32,
    },
    /// Text that is not ordered by bytes.
    #[error("cannot order text of several shards by its collation")]
    Collation,
    /// Text whose equality may not be that of its bytes.
    #[error("cannot tell equal text of several shards by its collation")]
    Equality,
    /// An ORDER BY name that is no column of the select list.
    #[error("the ORDER BY key {name:?} is not in the select list")]
    UnknownKey {
        /// The name.
        name: String,
    },
    /// A sum leaves its type.
    #[error("{0}")]
    Overflow(&'static str),
    /// A bound of [`Limits`].
    #[error("the query needs more than {bound} {unit} in the router")]
    Limit {
        /// The bound.
        bound: usize,
        /// Of what.
        unit: &'static str,
    },
    /// The shards' row descriptions differ.
    #[error("the shards return different columns for this query")]
    Descriptions,
    /// A message that is not what the protocol says, or a row before its description.
    #[error("a shard's {0} cannot be read")]
    Malformed(&'static str),
    /// A shard's rows are not in the order that was asked for.
    #[error("a shard returned its rows in another order than the query's")]
    OutOfOrder,
}

impl From<BadValue> for MergeError {
    fn from(bad: BadValue) -> Self {
        // Which bytea_output a server has is seen in its values only.
        if bad.type_name == "bytea" {
            return Self::Settings {
                type_oid: types::BYTEA,
            };
        }
        Self::Malformed(bad.type_name)
    }
}

/// What a merge does with a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// ORDER BY, min, max.
    Order,
    /// DISTINCT, GROUP BY.
    Group,
    /// sum, count.
    Sum,
}

/// A type as messages name it.
fn named(type_oid: &u32) -> String {
    types::name_of(*type_oid).map_or_else(|| format!("number {type_oid}"), str::to_owned)
}

impl Purpose {
    fn verb(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Group => "group",
            Self::Sum => "add up",
        }
    }
}

impl ClientError for MergeError {
    fn sqlstate(&self) -> SqlState {
        match self {
            Self::Type { .. }
            | Self::Settings { .. }
            | Self::Collation
            | Self::Equality
            | Self::UnknownKey { .. }
            | Self::Descriptions => SqlState::FEATURE_NOT_SUPPORTED,
            Self::Overflow(_) => SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
            Self::Limit { .. } => SqlState::CONFIGURATION_LIMIT_EXCEEDED,
            Self::Malformed(_) => SqlState::PROTOCOL_VIOLATION,
            Self::OutOfOrder => SqlState::INTERNAL_ERROR,
        }
    }

    fn detail(&self) -> Option<String> {
        match self {
            Self::Type { .. } => {
                Some("Keyway merges only types whose order and arithmetic it knows exactly.".into())
            }
            Self::Collation => {
                Some("Text of several shards is ordered only under the C collation.".into())
            }
            _ => None,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Type { .. } => {
                "Name the sharding key in the WHERE clause, or cast to a type with a plain order."
            }
            Self::Collation => {
                "Write COLLATE \"C\" behind the ORDER BY key, or name the sharding key in the WHERE clause."
            }
            Self::Equality => {
                "Write COLLATE \"C\" behind the column, or name the sharding key in the WHERE clause."
            }
            Self::Settings { .. } => {
                "Use PostgreSQL's defaults: DateStyle ISO, extra_float_digits 1, bytea_output hex."
            }
            Self::UnknownKey { .. } => {
                "Write the key with its table's name, or add it to the select list."
            }
            Self::Limit { .. } => {
                "Select fewer groups, name the sharding key, or raise the limit in the configuration."
            }
            Self::Descriptions => {
                "Run keyway check: the tables' columns differ from shard to shard."
            }
            Self::Overflow(_) | Self::Malformed(_) | Self::OutOfOrder => return None,
        };
        Some(hint.into())
    }
}

/// Merges the rows of several shards.
#[derive(Debug)]
pub struct Merger {
    finish: Arc<Finish>,
    formats: Formats,
    limits: Limits,
    columns: Option<Columns>,
    inputs: Vec<Input>,
    way: Way,
    /// The input of the last ordered row.
    last: usize,
    /// Inputs that have neither ended nor a row in the heap.
    waiting: usize,
    distinct: HashSet<Box<[u8]>>,
    /// Bytes in `distinct`.
    distinct_bytes: usize,
    /// Rows still to skip.
    skip: u64,
    /// Rows still to send.
    left: Option<u64>,
    sent: u64,
}

/// How values are written.
#[derive(Debug)]
struct Formats {
    of_columns: Vec<Format>,
    style: TextStyle,
}

/// One shard's side of the merge.
#[derive(Debug, Default)]
struct Input {
    described: bool,
    ended: bool,
    rows: VecDeque<Bytes>,
    /// The sort key of the row that is in the heap, or of the last one that was.
    key: Vec<u8>,
    /// Its first row is in the heap.
    queued: bool,
    /// A key's buffer to be used again.
    spare: Vec<u8>,
}

/// How the rows come together.
#[derive(Debug)]
enum Way {
    /// In any order: whose row comes next.
    Concatenate(VecDeque<usize>),
    /// By sort key: the heads of the inputs.
    Ordered(BinaryHeap<Reverse<(Vec<u8>, usize)>>),
    /// Groups are collected until all inputs have ended.
    Collect(GroupTable),
    /// The groups' rows, in order.
    Emit(std::vec::IntoIter<Bytes>),
}

impl Merger {
    /// Before the first row.
    #[must_use]
    pub fn new(setup: Setup<'_>) -> Self {
        let way = if let Some(groups) = &setup.finish.groups {
            Way::Collect(GroupTable::new(groups, setup.limits))
        } else if setup.finish.order.is_empty() {
            Way::Concatenate(VecDeque::new())
        } else {
            Way::Ordered(BinaryHeap::with_capacity(setup.inputs))
        };
        Self {
            formats: Formats {
                of_columns: server_formats(setup.result_formats, setup.finish.hidden),
                style: setup.style,
            },
            limits: setup.limits,
            columns: None,
            inputs: (0..setup.inputs).map(|_| Input::default()).collect(),
            way,
            last: 0,
            waiting: setup.inputs,
            distinct: HashSet::new(),
            distinct_bytes: 0,
            skip: setup.window.offset,
            left: setup.window.limit,
            sent: 0,
            finish: setup.finish,
        }
    }

    /// The rows' columns must be known before the first row; a plain concatenation does without.
    #[must_use]
    pub fn needs_description(finish: &Finish) -> bool {
        finish.groups.is_some() || finish.distinct.is_some() || !finish.order.is_empty()
    }

    /// Takes the RowDescription body of an input.
    ///
    /// # Errors
    /// When this query cannot be merged exactly with columns of these types, or the inputs disagree.
    pub fn describe(&mut self, input: usize, row_description: &[u8]) -> Result<(), MergeError> {
        match &self.columns {
            None => {
                let columns = Columns::new(
                    row_description,
                    &self.finish,
                    &self.formats.of_columns,
                    self.formats.style,
                )?;
                self.columns = Some(columns);
            }
            Some(columns) => columns.agree(row_description)?,
        }
        self.inputs[input].described = true;
        Ok(())
    }

    /// The columns for the client's RowDescription, as the first described input has them, without hidden ones.
    ///
    /// # Errors
    /// Before any input was described.
    pub fn client_description(&self) -> Result<Vec<Field>, MergeError> {
        let columns = self
            .columns
            .as_ref()
            .ok_or(MergeError::Malformed("row description"))?;
        columns.for_client(self.finish.hidden, &self.formats.of_columns)
    }

    /// May this input be fed now? Rows pushed beyond that are kept all the same.
    #[must_use]
    pub fn wants(&self, input: usize) -> bool {
        let side = &self.inputs[input];
        !side.ended && side.rows.is_empty() && self.left != Some(0)
    }

    /// Takes the DataRow body of an input.
    ///
    /// # Errors
    /// When it cannot be read, or a bound is reached.
    pub fn push(&mut self, input: usize, row: Bytes) -> Result<(), MergeError> {
        if self.left == Some(0) {
            return Ok(());
        }
        if !self.inputs[input].described && Self::needs_description(&self.finish) {
            return Err(MergeError::Malformed("row description"));
        }
        match &mut self.way {
            Way::Concatenate(turns) => {
                turns.push_back(input);
                self.inputs[input].rows.push_back(row);
            }
            Way::Ordered(_) => {
                self.inputs[input].rows.push_back(row);
                self.queue_head(input)?;
            }
            Way::Collect(table) => {
                let columns = self
                    .columns
                    .as_ref()
                    .ok_or(MergeError::Malformed("row description"))?;
                table.add(&row, columns)?;
            }
            Way::Emit(_) => return Err(MergeError::Malformed("row after its end")),
        }
        Ok(())
    }

    /// An input has no more rows.
    pub fn end(&mut self, input: usize) {
        let side = &mut self.inputs[input];
        if !side.ended && !side.queued {
            self.waiting -= 1;
        }
        side.ended = true;
    }

    /// Goes on as far as one row, appending it as a DataRow message.
    ///
    /// # Errors
    /// As [`Merger::push`], and when a sum overflows.
    pub fn next(&mut self, out: &mut BytesMut) -> Result<Step, MergeError> {
        loop {
            if self.left == Some(0) {
                return Ok(Step::Done);
            }
            let row = match self.next_row()? {
                Turn::Row(row) => row,
                Turn::Step(step) => return Ok(step),
            };
            if self.finish.distinct.is_some() && !self.is_new(&row)? {
                continue;
            }
            if self.skip > 0 {
                self.skip -= 1;
                continue;
            }
            append_row(&row, self.finish.hidden, out)?;
            self.left = self.left.map(|left| left - 1);
            self.sent += 1;
            return Ok(Step::Row);
        }
    }

    /// Rows given so far: the number for the command tag.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.sent
    }

    /// The next row before DISTINCT and the window.
    fn next_row(&mut self) -> Result<Turn, MergeError> {
        loop {
            match &mut self.way {
                Way::Concatenate(turns) => {
                    return Ok(match turns.pop_front() {
                        Some(input) => {
                            let row = self.inputs[input].rows.pop_front();
                            Turn::Row(row.expect("each turn stands for a row"))
                        }
                        None => Turn::Step(self.wait_for_any()),
                    });
                }
                Way::Ordered(heap) => {
                    if self.waiting > 0 {
                        let input = self
                            .inputs
                            .iter()
                            .position(|side| !side.queued && !side.ended);
                        return Ok(Turn::Step(Step::Need(input.expect("one is waiting"))));
                    }
                    let Some(Reverse((key, input))) = heap.pop() else {
                        return Ok(Turn::Step(Step::Done));
                    };
                    // Equal rows have equal sort keys (DISTINCT's keys are its columns): the others can be forgotten.
                    if !self.distinct.is_empty() && self.inputs[self.last].key != key {
                        self.distinct.clear();
                        self.distinct_bytes = 0;
                    }
                    self.last = input;
                    let side = &mut self.inputs[input];
                    side.spare = std::mem::replace(&mut side.key, key);
                    side.queued = false;
                    self.waiting += usize::from(!side.ended);
                    let row = side.rows.pop_front().expect("a queued input has a row");
                    self.queue_head(input)?;
                    return Ok(Turn::Row(row));
                }
                Way::Collect(table) => {
                    if self.inputs.iter().any(|side| !side.ended) {
                        return Ok(Turn::Step(Step::NeedAny));
                    }
                    let Some(columns) = &self.columns else {
                        return Err(MergeError::Malformed("row description"));
                    };
                    let rows = std::mem::take(table).finish(columns)?;
                    self.way = Way::Emit(rows.into_iter());
                }
                Way::Emit(rows) => {
                    return Ok(match rows.next() {
                        Some(row) => Turn::Row(row),
                        None => Turn::Step(Step::Done),
                    });
                }
            }
        }
    }

    fn wait_for_any(&self) -> Step {
        if self.inputs.iter().all(|side| side.ended) {
            Step::Done
        } else {
            Step::NeedAny
        }
    }

    /// Puts the first row of an input into the heap, unless one is there.
    fn queue_head(&mut self, input: usize) -> Result<(), MergeError> {
        let Way::Ordered(heap) = &mut self.way else {
            return Ok(());
        };
        let side = &mut self.inputs[input];
        if side.queued {
            return Ok(());
        }
        let (Some(row), Some(columns)) = (side.rows.front(), &self.columns) else {
            return Ok(());
        };
        let mut key = std::mem::take(&mut side.spare);
        key.clear();
        columns.append_sort_key(row, &mut key)?;
        // A shard that orders otherwise than Keyway does would make a wrong answer.
        if key < side.key {
            return Err(MergeError::OutOfOrder);
        }
        side.queued = true;
        self.waiting -= usize::from(!side.ended);
        heap.push(Reverse((key, input)));
        Ok(())
    }

    /// Remembers a row for DISTINCT; false when an equal one was there.
    fn is_new(&mut self, row: &Bytes) -> Result<bool, MergeError> {
        let columns = self
            .columns
            .as_ref()
            .ok_or(MergeError::Malformed("row description"))?;
        let mut key = Vec::new();
        columns.append_distinct_key(row, &mut key)?;
        if self.distinct.contains(key.as_slice()) {
            return Ok(false);
        }
        self.distinct_bytes += key.len() + ENTRY_OVERHEAD;
        if self.distinct.len() >= self.limits.groups_max {
            return Err(MergeError::Limit {
                bound: self.limits.groups_max,
                unit: "distinct rows",
            });
        }
        if self.distinct_bytes > self.limits.bytes_max {
            return Err(MergeError::Limit {
                bound: self.limits.bytes_max,
                unit: "bytes of distinct rows",
            });
        }
        self.distinct.insert(key.into_boxed_slice());
        Ok(true)
    }
}

/// A row, or what `next` answers instead.
enum Turn {
    Row(Bytes),
    Step(Step),
}

/// Appends a DataRow message without the last `hidden` columns.
fn append_row(row: &Bytes, hidden: usize, out: &mut BytesMut) -> Result<(), MergeError> {
    let too_long = |_| MergeError::Malformed("row");
    out.reserve(row.len() + 5);
    out.put_u8(tag::DATA_ROW);
    if hidden == 0 {
        out.put_i32(i32::try_from(row.len() + 4).map_err(too_long)?);
        out.put_slice(row);
    } else {
        let (count, values) = rows::first_columns(row, hidden)?;
        out.put_i32(i32::try_from(values.len() + 6).map_err(too_long)?);
        out.put_u16(count);
        out.put_slice(values);
    }
    Ok(())
}
