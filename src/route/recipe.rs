//! A recipe: what can be decided about a statement from its shape alone, and the step that fills in one execution.
//!
//! [`Recipe::plan`] is on the hot path: for one key it hashes one value and copies an `Arc`.

use crate::route::bind::constants::{Constant, Operand};
use crate::route::bind::differs::TimeTexts;
use crate::route::choose::made::MadeKeys;
use crate::route::error::RouteError;
use crate::route::keep::{Changes, NotKept, Reads, Spoils};
use crate::route::key::{KeyValue, Use, Values};
use crate::route::merge::{Finish, Window};
use crate::route::pins::{Filling, KeyPart, KeySet, Keys};
use crate::route::plan::{Access, Pin, Plan, PlanKind, ShardSet};
use crate::statement::scan::{LiteralKind, restore};
use crate::statement::tree::Expr;
use crate::topology::{Bucket, ShardId, TableName, Topology};
use smallvec::SmallVec;
use std::sync::Arc;

/// Where statements of one shape go.
#[derive(Debug, Clone)]
pub struct Recipe {
    pub(crate) route: Route,
    /// What the statement does.
    pub access: Access,
    /// The tables it touches.
    pub tables: Arc<[TableName]>,
    /// Why it keeps its server, if it does.
    pub pin: Option<Pin>,
    /// It calls set_config: the session must learn the setting.
    pub set_config: bool,
    /// It may not run in a transaction block.
    pub outside_transaction: bool,
    /// Why this route, for people.
    pub reason: String,
    /// Keys that must be made before it can be planned: the statement with them is another one.
    pub makes: Option<Arc<MadeKeys>>,
    /// It makes a temporary table of this name, and writing to that changes nothing else.
    pub makes_temporary: Option<Arc<str>>,
    /// What its answer is made of, or why that is not known.
    pub keeps: Result<Arc<Reads>, NotKept>,
    /// What it changes.
    pub changes: Changes,
    /// Parameters whose type does not follow from their use.
    pub(crate) untyped: SmallVec<[u16; 2]>,
}

/// How the shards are found.
#[derive(Debug, Clone)]
pub(crate) enum Route {
    /// Always the same.
    Fixed {
        /// The kind.
        kind: PlanKind,
        /// The shards.
        shards: ShardSet,
        /// What to run afterwards on each shard.
        after: Vec<(ShardId, String)>,
    },
    /// By key.
    Keyed(Box<Keyed>),
    /// By a hint, which the statement's own keys must not contradict.
    Hinted(Box<Hinted>),
}

/// A hint's route, and what the statement itself says of its keys.
#[derive(Debug, Clone)]
pub(crate) struct Hinted {
    /// Where the hint leads.
    pub(crate) shard: ShardId,
    /// One per sharded reference.
    pub(crate) places: Vec<PlacedKeys>,
    /// Rows to insert and their tables; those whose key cannot be read are left out.
    pub(crate) rows: Vec<(String, KeySet)>,
    /// Key columns that are set to constants.
    pub(crate) guards: Vec<KeyGuard>,
}

/// A route that depends on values.
#[derive(Debug, Clone)]
pub(crate) struct Keyed {
    /// One per sharded reference: the keys its rows can have, and its keyspace's shards.
    pub(crate) places: SmallVec<[PlacedKeys; 1]>,
    /// Rows to insert.
    pub(crate) rows: Vec<KeySet>,
    /// The inserted table and its key, for refusals.
    pub(crate) insert: Option<(String, String)>,
    /// Shards it needs in any case (unsharded tables, the home shard).
    pub(crate) needed: ShardSet,
    /// Shards where all its tables exist.
    pub(crate) allowed: ShardSet,
    /// What its tables and needs are called, when they do not meet.
    pub(crate) apart: RouteError,
    /// When more than one shard is needed.
    pub(crate) several: Several,
    /// Key columns that are set to constants.
    pub(crate) guards: Vec<KeyGuard>,
}

/// The keys of one reference.
#[derive(Debug, Clone)]
pub(crate) struct PlacedKeys {
    /// The table.
    pub(crate) table: String,
    /// The keys.
    pub(crate) keys: Keys,
    /// Shards that hold rows of the table.
    pub(crate) holders: ShardSet,
}

/// What to do when more than one shard is needed.
#[derive(Debug, Clone)]
pub(crate) enum Several {
    /// Refuse.
    Refuse(RouteError),
    /// Merge.
    Scatter {
        /// Places whose shards are asked: one per arm.
        anchors: Vec<usize>,
        /// The shards' text in shape form, when it is not the client's.
        text: Option<String>,
        /// How the replies become one.
        finish: Arc<Finish>,
        /// Texts like 'now' could give each shard another value.
        time_casts: TimeTexts,
    },
}

/// `SET key = constant`: allowed when it does not change the key.
#[derive(Debug, Clone)]
pub(crate) struct KeyGuard {
    /// The table.
    pub(crate) table: String,
    /// The key column.
    pub(crate) column: String,
    /// Its family and where it is stored.
    pub(crate) part: KeyPart,
    /// The new value.
    pub(crate) set: Operand,
    /// What the old value certainly equals.
    pub(crate) pinned: Vec<Operand>,
}

impl Recipe {
    /// One execution's plan.
    ///
    /// # Errors
    /// When this execution cannot be answered exactly.
    pub fn plan(&self, values: &Values<'_>, topology: &Topology) -> Result<Plan, RouteError> {
        if let Some(made) = &self.makes {
            return Err(RouteError::KeyMissing {
                table: self.table_names(),
                column: made.column.clone(),
                reason: "Keyway makes its value for an INSERT that is sent by itself, not for one inside another statement"
                    .to_owned(),
            });
        }
        match &self.route {
            Route::Fixed {
                kind,
                shards,
                after,
            } => Ok(Plan {
                after: after.clone(),
                ..self.plan_on(*kind, shards.clone(), topology)
            }),
            Route::Keyed(keyed) => {
                let filling = Filling {
                    values,
                    untyped: &self.untyped,
                    topology,
                };
                self.keyed(keyed, &filling)
            }
            Route::Hinted(hinted) => {
                hinted.check(&Filling {
                    values,
                    untyped: &self.untyped,
                    topology,
                })?;
                let shards = ShardSet::from_iter([hinted.shard]);
                Ok(self.plan_on(PlanKind::Single, shards, topology))
            }
        }
    }

    /// What is shown of one execution: of one whose key is made when it runs, where it may go.
    ///
    /// # Errors
    /// As [`Recipe::plan`].
    pub fn shown(&self, values: &Values<'_>, topology: &Topology) -> Result<Plan, RouteError> {
        match &self.makes {
            None => self.plan(values, topology),
            Some(made) => {
                let shards = made
                    .only
                    .map_or_else(|| self.shards(), |only| ShardSet::from_iter([only]));
                Ok(self.plan_on(PlanKind::Any, shards, topology))
            }
        }
    }

    fn table_names(&self) -> String {
        let names: Vec<String> = self.tables.iter().map(ToString::to_string).collect();
        names.join(", ")
    }

    /// The shard of an execution that one shard answers with the client's own text, and that asks nothing else of the
    /// session. `None` says only that [`Recipe::plan`] must be asked.
    #[inline]
    #[must_use]
    pub fn only_shard(&self, values: &Values<'_>, topology: &Topology) -> Option<ShardId> {
        let plain = self.pin.is_none()
            && self.makes.is_none()
            && !self.set_config
            && !self.outside_transaction
            && !self.access.is_of_each_shard();
        if !plain {
            return None;
        }
        let filling = Filling {
            values,
            untyped: &self.untyped,
            topology,
        };
        let keyed = match &self.route {
            Route::Fixed {
                kind: PlanKind::Single | PlanKind::Any,
                shards,
                after,
            } if after.is_empty() => return shards.only(),
            Route::Fixed { .. } => return None,
            Route::Hinted(hinted) => return hinted.check(&filling).ok().map(|()| hinted.shard),
            Route::Keyed(keyed) => keyed,
        };
        if !keyed.guards.is_empty() {
            return None;
        }
        let mut needed = keyed.needed.clone();
        for row in &keyed.rows {
            keyed.row(row, &filling, &mut needed).ok()?;
        }
        for place in &keyed.places {
            match place.keys.shards(&filling) {
                Some(shards) => needed.union_with(&shards),
                None => needed.union_with(&place.holders),
            }
        }
        needed.only().filter(|shard| keyed.allowed.contains(*shard))
    }

    /// Shards whose servers know all of the statement's tables: any of them can parse and describe it.
    #[must_use]
    pub fn shards(&self) -> ShardSet {
        match &self.route {
            Route::Fixed { shards, .. } => shards.clone(),
            Route::Keyed(keyed) => keyed.allowed.clone(),
            Route::Hinted(hinted) => ShardSet::from_iter([hinted.shard]),
        }
    }

    fn plan_on(&self, kind: PlanKind, shards: ShardSet, topology: &Topology) -> Plan {
        Plan {
            kind,
            shards,
            access: self.access,
            text: None,
            finish: None,
            window: Window::default(),
            after: Vec::new(),
            pin: self.pin,
            of_temporaries: false,
            outside_transaction: self.outside_transaction,
            tables: Arc::clone(&self.tables),
            epoch: topology.epoch,
            spoils: Spoils::Everything,
            keeps: Err(NotKept::NotUnderstood),
        }
    }

    fn keyed(&self, keyed: &Keyed, filling: &Filling<'_>) -> Result<Plan, RouteError> {
        for guard in &keyed.guards {
            guard.check(filling)?;
        }
        let mut rows = ShardSet::new();
        for row in &keyed.rows {
            keyed.row(row, filling, &mut rows)?;
        }
        let mut needed = keyed.needed.clone();
        needed.union_with(&rows);
        let mut sets: SmallVec<[ShardSet; 1]> = SmallVec::new();
        for place in &keyed.places {
            let shards = place
                .keys
                .shards(filling)
                .unwrap_or_else(|| place.holders.clone());
            needed.union_with(&shards);
            sets.push(shards);
        }
        if let Some(shard) = needed.only() {
            if !keyed.allowed.contains(shard) {
                return Err(keyed.apart.clone());
            }
            return Ok(self.plan_on(PlanKind::Single, needed, filling.topology));
        }
        if needed.is_empty() {
            return self.nowhere(keyed, filling.topology);
        }
        match &keyed.several {
            Several::Refuse(RouteError::ManyShardWrite { table, .. }) if !rows.is_empty() => {
                let reason = if rows.len() > 1 {
                    "its rows belong to several shards"
                } else {
                    "the key of its rows names one shard, and what the statement reads is on others"
                };
                Err(RouteError::ManyShardWrite {
                    table: table.clone(),
                    reason: reason.to_owned(),
                })
            }
            Several::Refuse(error) => Err(error.clone()),
            Several::Scatter {
                anchors,
                text,
                finish,
                time_casts,
            } => {
                if time_casts.say_time(filling.values) {
                    return Err(RouteError::ManyShards {
                        tables: keyed.table_names(),
                        reason: "a time literal like 'now' would differ between shards".to_owned(),
                    });
                }
                let mut shards = keyed.needed.clone();
                for anchor in anchors {
                    shards.union_with(&sets[*anchor]);
                }
                if shards.iter().any(|shard| !keyed.allowed.contains(shard)) {
                    return Err(keyed.apart.clone());
                }
                let window = finish.window(|expr| window_value(expr, filling.values))?;
                let kind = match shards.len() {
                    // The anchors' rows are all on one shard, or there are none: that shard's answer is the answer.
                    0 => return self.nowhere(keyed, filling.topology),
                    1 => return Ok(self.plan_on(PlanKind::Single, shards, filling.topology)),
                    _ => PlanKind::Scatter,
                };
                let text = text
                    .as_ref()
                    .map(|shape| restore(shape, filling.values.text, filling.values.statement));
                Ok(Plan {
                    text,
                    finish: Some(Arc::clone(finish)),
                    window,
                    ..self.plan_on(kind, shards, filling.topology)
                })
            }
        }
    }

    /// No row can matter: any shard that has the tables gives the (empty) answer.
    fn nowhere(&self, keyed: &Keyed, topology: &Topology) -> Result<Plan, RouteError> {
        let first = keyed
            .allowed
            .iter()
            .next()
            .ok_or_else(|| keyed.apart.clone())?;
        if self.access == Access::Read {
            return Ok(self.plan_on(PlanKind::Any, keyed.allowed.clone(), topology));
        }
        Ok(self.plan_on(PlanKind::Single, ShardSet::from_iter([first]), topology))
    }

    /// The route's lines and buckets, for `keyway route` and EXPLAIN (ROUTE).
    pub(crate) fn pins(
        &self,
        values: &Values<'_>,
        topology: &Topology,
    ) -> Vec<(String, Option<Vec<Bucket>>)> {
        let filling = Filling {
            values,
            untyped: &self.untyped,
            topology,
        };
        let of = |places: &[PlacedKeys]| -> Vec<(String, Option<Vec<Bucket>>)> {
            places
                .iter()
                .map(|place| (place.table.clone(), place.keys.buckets(&filling)))
                .collect()
        };
        let keyed = match &self.route {
            Route::Fixed { .. } => return Vec::new(),
            Route::Hinted(hinted) => return of(&hinted.places),
            Route::Keyed(keyed) => keyed,
        };
        let mut pins = of(&keyed.places);
        if let Some((table, _)) = &keyed.insert {
            for row in &keyed.rows {
                let mut buckets = Vec::new();
                let certain = row.buckets(&filling, &mut |bucket| buckets.push(bucket));
                pins.push((table.clone(), certain.map(|()| buckets)));
            }
        }
        pins
    }
}

impl Keyed {
    /// The shard of a row to insert.
    fn row(
        &self,
        row: &KeySet,
        filling: &Filling<'_>,
        needed: &mut ShardSet,
    ) -> Result<(), RouteError> {
        let keys = Keys::Key(row.clone());
        // An array may be empty.
        let may_be_none = || {
            row.parts.iter().any(|part| {
                let array = |operand: &Operand| matches!(operand, Operand::Each { .. });
                part.operands.is_empty() || part.operands.iter().any(array)
            })
        };
        match keys.shards(filling) {
            Some(shards) if !shards.is_empty() || may_be_none() => {
                needed.union_with(&shards);
                Ok(())
            }
            _ => {
                let (table, column) = self.insert.clone().unwrap_or_default();
                Err(RouteError::KeyMissing {
                    table,
                    column,
                    reason: "its value is not certain before PostgreSQL converts it".to_owned(),
                })
            }
        }
    }

    fn table_names(&self) -> String {
        let mut names: Vec<&str> = self
            .places
            .iter()
            .map(|place| place.table.as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        names.join(", ")
    }
}

impl Hinted {
    /// What the statement says of its keys holds on the hint's shard, as far as it can be read.
    fn check(&self, filling: &Filling<'_>) -> Result<(), RouteError> {
        for guard in &self.guards {
            guard.check(filling)?;
        }
        let elsewhere = |shards: Option<ShardSet>| {
            shards.is_some_and(|s| !s.is_empty() && !s.contains(self.shard))
        };
        // All rows that are given are written.
        let not_only_here = |shards: Option<ShardSet>| {
            shards.is_some_and(|shards| shards.iter().any(|shard| shard != self.shard))
        };
        let row = self
            .rows
            .iter()
            .find(|(_, row)| not_only_here(Keys::Key(row.clone()).shards(filling)));
        let place = self
            .places
            .iter()
            .find(|place| elsewhere(place.keys.shards(filling)));
        match row.map(|(table, _)| table).or(place.map(|place| &place.table)) {
            None => Ok(()),
            Some(table) => Err(RouteError::BadHint {
                reason: format!(
                    "the hint contradicts the statement's own key: its rows of table {table} are not on the hint's shard"
                ),
                hint: "Leave the hint out, or correct it. A hint is for what a statement does not say.".to_owned(),
            }),
        }
    }
}

impl KeyGuard {
    fn check(&self, filling: &Filling<'_>) -> Result<(), RouteError> {
        let one = |operand: &Operand, usage| {
            let values = self.part.values(operand, filling, usage)?;
            match values.as_slice() {
                [KeyValue::Bytes(bytes)] => Some(bytes.clone()),
                _ => None,
            }
        };
        let set = one(&self.set, Use::Store);
        if set.is_some()
            && self
                .pinned
                .iter()
                .any(|pinned| one(pinned, Use::Compare) == set)
        {
            return Ok(());
        }
        Err(RouteError::KeyUpdate {
            table: self.table.clone(),
            column: self.column.clone(),
        })
    }
}

/// LIMIT's or OFFSET's value: NULL is no limit.
fn window_value(expr: &Expr, values: &Values<'_>) -> Result<Option<i64>, RouteError> {
    let part = KeyPart {
        family: Some(crate::topology::KeyFamily::Int),
        operands: Vec::new(),
        chars_max: None,
        whole_seconds: false,
    };
    let number = |value: &KeyValue| match value {
        KeyValue::Bytes(bytes) => {
            let bytes =
                <[u8; 8]>::try_from(bytes.as_slice()).map_err(|_| RouteError::WindowValue)?;
            Ok(Some(i64::from_le_bytes(bytes)))
        }
        KeyValue::Null | KeyValue::Nothing => Ok(None),
        KeyValue::Unknown => Err(RouteError::WindowValue),
    };
    let topology = Topology::default();
    let filling = Filling {
        values,
        untyped: &[],
        topology: &topology,
    };
    let (constant, plain) = match expr {
        Expr::Literal(index) => {
            let literal = values
                .statement
                .literals
                .get(*index)
                .ok_or(RouteError::WindowValue)?;
            // 2.5 would be rounded; NULL-like strings do not exist.
            (
                Constant::Literal(*index),
                literal.kind != LiteralKind::Decimal,
            )
        }
        Expr::Param(number) => (Constant::Param(*number), true),
        _ => return Err(RouteError::WindowValue),
    };
    if !plain {
        return Err(RouteError::WindowValue);
    }
    let operand = Operand::One {
        constant,
        negative: false,
        given: crate::route::key::ConstantType::Context,
    };
    let found = part
        .values(&operand, &filling, Use::Store)
        .ok_or(RouteError::WindowValue)?;
    number(found.first().ok_or(RouteError::WindowValue)?)
}
