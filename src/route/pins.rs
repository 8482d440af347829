//! Pins: on which shards the rows of each table reference are that can matter.
//!
//! A reference's *environment* is every condition such that leaving out the rows that break it cannot change the
//! statement's result. The environments come from the joins and subqueries ([`place`]); from one follow which columns
//! equal the key and what the key is compared with ([`Keys`]), and whether two references' rows can only meet on one
//! shard ([`Analysis::linked`]).

use crate::route::bind::Binder;
use crate::route::bind::bound::{
    Block, Bound, BoundQuery, Child, Cond, CondId, Joined, NodeId, RefId, Source,
};
use crate::route::bind::constants::{Constant, Operand};
use crate::route::key::{
    self, ConstantType, KeyBytes, KeyValue, KeyValues, Use, Values, array_from_param,
    array_from_string, from_literal, from_number, from_param, from_string,
};
use crate::route::plan::ShardSet;
use crate::statement::scan::{LiteralKind, literal_text};
use crate::topology::{
    Bucket, KeyFamily, KeyHash, Keyspace, KeyspaceId, KeyspaceKind, Placement, ShardId, Table,
    Topology,
};
use smallvec::SmallVec;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Keys of a multi-column key that one plan multiplies out.
const COMBINATIONS_MAX: usize = 4_096;

/// Conditions on one key column that are all made use of; of more, the last ones.
const SETS_MAX: usize = 64;

/// Stands in a path for what belongs to no outermost block, and so to all of them: WITH entries placed on their own,
/// LIMIT, data-modifying statements.
const OUTSIDE: usize = 0;

/// A sharded reference and what is known of its rows.
#[derive(Debug)]
pub(crate) struct Placed {
    /// The table.
    pub(crate) table: Arc<Table>,
    /// The reference.
    pub(crate) reference: RefId,
    /// It is written.
    pub(crate) write: bool,
    /// What may be assumed of the rows that matter.
    env: Vec<CondId>,
    /// The SELECT blocks around it, by address.
    path: Vec<usize>,
    /// The outermost block whose rows are the union over this reference's shards, and the columns that grouping on
    /// the way must contain the key of.
    spine: Option<Spine>,
}

/// A way from an outermost block down to a reference along which unions can be pulled up.
#[derive(Debug, Clone)]
struct Spine {
    block: usize,
    covers: Vec<Vec<NodeId>>,
}

/// All references of a statement, placed.
#[derive(Debug, Default)]
pub(crate) struct Analysis {
    /// References to sharded tables.
    pub(crate) sharded: Vec<Placed>,
    /// Reference and unsharded tables, and whether they are written.
    pub(crate) others: Vec<(Arc<Table>, bool)>,
    /// System catalogs.
    pub(crate) catalogs: Vec<String>,
    /// Subqueries without sharded tables whose rows may be chosen differently on each shard (LIMIT and the like).
    fickle: Vec<Vec<usize>>,
}

/// Where the walk is.
#[derive(Clone)]
struct Walk {
    path: Vec<usize>,
    spine: Option<Spine>,
}

impl Walk {
    fn apart(&self) -> Self {
        Self {
            path: self.path.clone(),
            spine: None,
        }
    }
}

/// Places every reference of a statement.
pub(crate) fn place(binder: &Binder<'_>, query: &BoundQuery) -> Analysis {
    let mut analysis = Analysis::default();
    let mut placer = Placer {
        binder,
        analysis: &mut analysis,
    };
    placer.top(query);
    for separate in &binder.separate {
        placer.query(
            separate,
            &[],
            &Walk {
                path: vec![OUTSIDE],
                spine: None,
            },
        );
    }
    analysis
}

struct Placer<'a, 'c> {
    binder: &'a Binder<'c>,
    analysis: &'a mut Analysis,
}

impl Placer<'_, '_> {
    /// The outermost query and the arms of its set operations.
    fn top(&mut self, query: &BoundQuery) {
        let nowhere = Walk {
            path: vec![OUTSIDE],
            spine: None,
        };
        self.children(&query.children, &[], &Joined::Nothing, &nowhere);
        match &query.body {
            Bound::Block(block) => {
                let spine = Some(Spine {
                    block: block.address,
                    covers: Vec::new(),
                });
                self.block(
                    block,
                    &[],
                    &Walk {
                        path: vec![block.address],
                        spine,
                    },
                );
            }
            Bound::Set(left, right) => {
                self.top(left);
                self.top(right);
            }
            Bound::Query(inner) => self.top(inner),
            Bound::Values(children) => self.children(children, &[], &Joined::Nothing, &nowhere),
        }
    }

    /// A query below the outermost.
    fn query(&mut self, query: &BoundQuery, env: &[CondId], walk: &Walk) {
        self.children(&query.children, &[], &Joined::Nothing, &walk.apart());
        let before = self.analysis.sharded.len();
        let mut fickle = query.limited;
        match &query.body {
            Bound::Block(block) => {
                fickle |= block.fickle;
                let mut inner = walk.clone();
                inner.path.push(block.address);
                inner.spine = inner
                    .spine
                    .filter(|_| !query.limited && !block.windows && !block.folds);
                if let Some(spine) = &mut inner.spine {
                    spine
                        .covers
                        .extend(block.groups.iter().chain(&block.distinct).cloned());
                }
                self.block(block, env, &inner);
            }
            Bound::Set(left, right) => {
                self.query(left, env, &walk.apart());
                self.query(right, env, &walk.apart());
            }
            Bound::Query(inner) if query.limited => self.query(inner, env, &walk.apart()),
            Bound::Query(inner) => self.query(inner, env, walk),
            Bound::Values(children) => self.children(children, env, &Joined::Nothing, walk),
        }
        if fickle && self.analysis.sharded.len() == before {
            self.analysis.fickle.push(walk.path.clone());
        }
    }

    fn block(&mut self, block: &Block, env: &[CondId], walk: &Walk) {
        let mut all = env.to_vec();
        all.extend(&block.filter);
        let tree = self
            .binder
            .reduce(&block.tree, &self.binder.strict_refs(&all));
        self.joined(&tree, &all, walk);
        self.children(&block.children, &all, &tree, walk);
    }

    /// Subqueries in expressions: what holds for the outer row may be used in them, but for what they themselves prove.
    fn children(&mut self, children: &[Child], env: &[CondId], tree: &Joined, walk: &Walk) {
        for child in children {
            let mut inner = Vec::new();
            if child.sees_outer {
                let proven: HashSet<&CondId> = child.proves.iter().collect();
                inner.extend(env.iter().filter(|cond| !proven.contains(cond)));
                let strict = self.binder.strict_refs(&self.binder.facts(&child.query));
                self.binder
                    .holds(&self.binder.reduce(tree, &strict), &mut inner);
                inner.extend(&child.links);
            }
            self.query(&child.query, &inner, &walk.apart());
        }
    }

    fn joined(&mut self, tree: &Joined, env: &[CondId], walk: &Walk) {
        match tree {
            Joined::Nothing => {}
            Joined::Leaf(leaf) => self.leaf(*leaf, env, walk),
            Joined::Inner(left, right, on) => {
                for (side, other) in [(left, right), (right, left)] {
                    let mut inner = env.to_vec();
                    inner.extend(on);
                    self.binder.holds(other, &mut inner);
                    self.joined(side, &inner, walk);
                }
            }
            Joined::Left(left, right, on) => {
                self.joined(left, env, walk);
                // Conditions from above that speak of the nullable side are about its NULLs too (IS NULL): they do
                // not restrict its rows. The ON does, and so does what holds for the rows they can be joined with.
                let mut nullable = Vec::new();
                right.leaves(&mut nullable);
                let speaks = |cond: &&CondId| {
                    self.binder.conds[**cond]
                        .mentions
                        .iter()
                        .any(|leaf| nullable.contains(leaf))
                };
                let mut inner: Vec<CondId> =
                    env.iter().filter(|cond| !speaks(cond)).copied().collect();
                inner.extend(on);
                let joinable = self.binder.reduce(left, &self.binder.strict_refs(on));
                self.binder.holds(&joinable, &mut inner);
                self.joined(right, &inner, &walk.apart());
            }
            Joined::Full(left, right, _) => {
                self.joined(left, &[], &walk.apart());
                self.joined(right, &[], &walk.apart());
            }
        }
    }

    fn leaf(&mut self, leaf: RefId, env: &[CondId], walk: &Walk) {
        match &self.binder.refs[leaf].source {
            Source::Table { table, write } => match table.placement {
                Placement::Sharded { .. } => self.analysis.sharded.push(Placed {
                    table: Arc::clone(table),
                    reference: leaf,
                    write: *write,
                    env: env.to_vec(),
                    path: walk.path.clone(),
                    spine: walk.spine.clone(),
                }),
                Placement::Reference | Placement::Unsharded => {
                    self.analysis.others.push((Arc::clone(table), *write));
                }
            },
            Source::Catalog(name) => self.analysis.catalogs.push(name.clone()),
            Source::Derived {
                query: Some(query),
                links_in,
                ..
            } => {
                let mut inner = env.to_vec();
                inner.extend(links_in);
                let query = std::rc::Rc::clone(query);
                self.query(&query, &inner, walk);
            }
            Source::Derived { query: None, .. } | Source::Rows => {}
        }
    }
}

/// Which columns are equal in an environment. Columns that no equality names stand for themselves.
struct Classes(HashMap<NodeId, NodeId>);

impl Classes {
    fn new(binder: &Binder<'_>, env: &[CondId]) -> Self {
        let mut classes = Self(HashMap::new());
        for cond in env {
            classes.join(&binder.conds[*cond].cond);
        }
        classes
    }

    fn join(&mut self, cond: &Cond) {
        match cond {
            Cond::Same(a, b) => {
                let (a, b) = (self.of(*a), self.of(*b));
                // To the older one, which keeps the ways short.
                if a != b {
                    self.0.insert(a.max(b), a.min(b));
                }
            }
            Cond::And(parts) => parts.iter().for_each(|part| self.join(part)),
            Cond::True | Cond::Value(..) | Cond::Strict(_) | Cond::Or(_) => {}
        }
    }

    fn of(&self, mut node: NodeId) -> NodeId {
        while let Some(next) = self.0.get(&node) {
            node = *next;
        }
        node
    }
}

/// The key's columns of a sharded table.
pub(crate) fn key_of(table: &Table) -> &[crate::topology::KeyColumn] {
    match &table.placement {
        Placement::Sharded { key } => key,
        Placement::Reference | Placement::Unsharded => &[],
    }
}

impl Analysis {
    /// The keys that `placed`'s rows can have.
    pub(crate) fn keys(&self, binder: &Binder<'_>, placed: &Placed) -> Keys {
        let classes = Classes::new(binder, &placed.env);
        let Some(nodes) = key_nodes(binder, placed) else {
            return Keys::All;
        };
        let mut env = placed.env.clone();
        env.sort_unstable();
        env.dedup();
        let conds: Vec<&Cond> = env.iter().map(|cond| &binder.conds[*cond].cond).collect();
        let key = KeyShape {
            binder,
            classes: &classes,
            nodes: &nodes,
            keyspace: placed.table.keyspace,
        };
        key.formula(&mut vec![Vec::new(); nodes.len()], &conds)
    }

    /// Is `node` equal to the key column of `placed` for every row that matters?
    pub(crate) fn is_key(
        &self,
        binder: &Binder<'_>,
        placed: &Placed,
        column: &str,
        node: NodeId,
    ) -> bool {
        let classes = Classes::new(binder, &placed.env);
        binder
            .key_node(placed.reference, column)
            .is_some_and(|key| classes.of(key) == classes.of(node))
    }

    /// The constants that a key column of `placed` certainly equals (each one of them).
    pub(crate) fn constants(
        &self,
        binder: &Binder<'_>,
        placed: &Placed,
        column: &str,
    ) -> Vec<Operand> {
        let classes = Classes::new(binder, &placed.env);
        let Some(key) = binder.key_node(placed.reference, column) else {
            return Vec::new();
        };
        let mut constants = Vec::new();
        let mut stack: Vec<&Cond> = placed
            .env
            .iter()
            .map(|cond| &binder.conds[*cond].cond)
            .collect();
        while let Some(cond) = stack.pop() {
            match cond {
                Cond::And(parts) => stack.extend(parts),
                Cond::Value(node, operands) if classes.of(*node) == classes.of(key) => {
                    if let [operand @ Operand::One { .. }] = operands.as_slice() {
                        constants.push(operand.clone());
                    }
                }
                _ => {}
            }
        }
        constants
    }

    /// The reference of a block's spine by whose shards the block's rows divide, when every other sharded reference in
    /// it can only meet rows of its shard; else why not.
    pub(crate) fn anchor(&self, binder: &Binder<'_>, block: usize) -> Result<usize, String> {
        let inside = |path: &[usize]| path.contains(&OUTSIDE) || path.contains(&block);
        if self.fickle.iter().any(|path| inside(path)) {
            return Err(
                "a subquery's LIMIT or order could choose other rows on each shard".to_owned(),
            );
        }
        let members: Vec<usize> = (0..self.sharded.len())
            .filter(|index| inside(&self.sharded[*index].path))
            .collect();
        let mut reason =
            "rows of a table that is the same on every shard would be repeated".to_owned();
        for index in &members {
            let anchor = &self.sharded[*index];
            let Some(spine) = anchor.spine.as_ref().filter(|spine| spine.block == block) else {
                continue;
            };
            let classes = Classes::new(binder, &anchor.env);
            let Some(nodes) = key_nodes(binder, anchor) else {
                reason = format!(
                    "the columns of {} are not known; a shard's schema could not be read yet",
                    anchor.table.name
                );
                continue;
            };
            let covered = |columns: &Vec<NodeId>| {
                nodes.iter().all(|key| {
                    columns
                        .iter()
                        .any(|column| classes.of(*column) == classes.of(*key))
                })
            };
            if !spine.covers.iter().all(covered) {
                reason = format!(
                    "a subquery groups rows of {} by other columns than its key",
                    anchor.table.name
                );
                continue;
            }
            match members.iter().find(|other| {
                *other != index && !self.linked(binder, anchor, &self.sharded[**other])
            }) {
                None => return Ok(*index),
                Some(other) => {
                    let other = &self.sharded[*other];
                    reason = format!(
                        "rows of {} and {} on different shards could belong together; they are not joined by their \
                         sharding keys",
                        anchor.table.name, other.table.name
                    );
                }
            }
        }
        Err(reason)
    }

    /// Rows of `other` that matter for a row of `anchor` are on its shard.
    fn linked(&self, binder: &Binder<'_>, anchor: &Placed, other: &Placed) -> bool {
        if anchor.table.keyspace != other.table.keyspace {
            return false;
        }
        let classes = Classes::new(binder, &other.env);
        match (key_nodes(binder, anchor), key_nodes(binder, other)) {
            (Some(a), Some(b)) => {
                a.len() == b.len()
                    && a.iter()
                        .zip(&b)
                        .all(|(a, b)| classes.of(*a) == classes.of(*b))
            }
            _ => false,
        }
    }

    /// Rows that agree in `nodes` are on one shard: they contain the key of a table of the block's spine.
    pub(crate) fn covers_key(&self, binder: &Binder<'_>, block: usize, columns: &[NodeId]) -> bool {
        self.sharded.iter().any(|placed| {
            placed
                .spine
                .as_ref()
                .is_some_and(|spine| spine.block == block)
                && key_nodes(binder, placed).is_some_and(|nodes| {
                    let classes = Classes::new(binder, &placed.env);
                    nodes
                        .iter()
                        .all(|key| columns.iter().any(|c| classes.of(*c) == classes.of(*key)))
                })
        })
    }
}

/// The nodes of a reference's key; `None` when one cannot be named.
fn key_nodes(binder: &Binder<'_>, placed: &Placed) -> Option<Vec<NodeId>> {
    key_of(&placed.table)
        .iter()
        .map(|column| binder.key_node(placed.reference, &column.name))
        .collect()
}

/// The keys a reference's rows can have, before values are known.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Keys {
    /// Any.
    All,
    /// These.
    Key(KeySet),
    /// Those in all.
    And(Vec<Keys>),
    /// Those in one.
    Or(Vec<Keys>),
}

/// A set of keys: the product of its parts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct KeySet {
    /// Whose buckets.
    pub(crate) keyspace: KeyspaceId,
    /// One part per key column.
    pub(crate) parts: SmallVec<[KeyPart; 1]>,
    /// Compared or stored.
    pub(crate) usage: Use,
}

/// The values one key column can have.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct KeyPart {
    /// Its family; `None` offline.
    pub(crate) family: Option<KeyFamily>,
    /// The values.
    pub(crate) operands: Vec<Operand>,
    /// Stored text longer than this many characters is not certain (varchar(n) may cut blanks).
    pub(crate) chars_max: Option<usize>,
    /// Stored times with fractions of a second are not certain (timestamp(p) rounds).
    pub(crate) whole_seconds: bool,
}

struct KeyShape<'a, 'c> {
    binder: &'a Binder<'c>,
    classes: &'a Classes,
    nodes: &'a [NodeId],
    keyspace: KeyspaceId,
}

impl KeyShape<'_, '_> {
    /// `atoms` are the sets per key column that hold around here already.
    fn formula(&self, atoms: &mut Vec<Vec<Vec<Operand>>>, conds: &[&Cond]) -> Keys {
        let depths: Vec<usize> = atoms.iter().map(Vec::len).collect();
        let mut ors: Vec<&[Cond]> = Vec::new();
        let mut stack: Vec<&Cond> = conds.to_vec();
        while let Some(cond) = stack.pop() {
            match cond {
                Cond::And(parts) => stack.extend(parts),
                Cond::Or(parts) => ors.push(parts),
                Cond::Value(node, operands) => {
                    for (index, key) in self.nodes.iter().enumerate() {
                        if self.classes.of(*node) == self.classes.of(*key) {
                            atoms[index].push(operands.clone());
                        }
                    }
                }
                Cond::True | Cond::Same(..) | Cond::Strict(_) => {}
            }
        }
        let mut all = Vec::new();
        let grown = atoms
            .iter()
            .zip(&depths)
            .any(|(sets, depth)| sets.len() > *depth);
        if grown && atoms.iter().all(|sets| !sets.is_empty()) {
            // A single column's sets are used, up to a bound; of several columns the last of each. Any are sound.
            if let [sets] = atoms.as_slice() {
                let last = &sets[sets.len().saturating_sub(SETS_MAX)..];
                for (index, set) in last.iter().enumerate() {
                    if !last[..index].contains(set) {
                        all.push(self.key(std::iter::once(set)));
                    }
                }
            } else {
                all.push(self.key(atoms.iter().filter_map(|sets| sets.last())));
            }
        }
        for parts in ors {
            let arms: Vec<Keys> = parts
                .iter()
                .map(|part| self.formula(atoms, &[part]))
                .collect();
            if !arms.contains(&Keys::All) {
                all.push(Keys::Or(arms));
            }
        }
        for (sets, depth) in atoms.iter_mut().zip(depths) {
            sets.truncate(depth);
        }
        match all.len() {
            0 => Keys::All,
            1 => all.swap_remove(0),
            _ => Keys::And(all),
        }
    }

    fn key<'o>(&self, sets: impl Iterator<Item = &'o Vec<Operand>>) -> Keys {
        let parts = sets.zip(self.nodes).map(|(operands, node)| KeyPart {
            family: self.binder.nodes[*node].family,
            operands: operands.clone(),
            chars_max: None,
            whole_seconds: false,
        });
        Keys::Key(KeySet {
            keyspace: self.keyspace,
            parts: parts.collect(),
            usage: Use::Compare,
        })
    }
}

/// What one execution fills keys with.
pub(crate) struct Filling<'a> {
    /// Literals and parameters.
    pub(crate) values: &'a Values<'a>,
    /// Parameters whose type does not follow from their use.
    pub(crate) untyped: &'a [u16],
    /// The bucket maps.
    pub(crate) topology: &'a Topology,
}

impl Keys {
    /// The shards of these keys; `None` when it could be any.
    pub(crate) fn shards(&self, filling: &Filling<'_>) -> Option<ShardSet> {
        match self {
            Self::All => None,
            Self::Key(set) => {
                let map = filling.map(set.keyspace)?;
                let mut shards = ShardSet::new();
                let mut mapped = true;
                set.buckets(
                    filling,
                    &mut |bucket| match map.get(usize::from(bucket.0)) {
                        Some(shard) => shards.insert(*shard),
                        None => mapped = false,
                    },
                )?;
                mapped.then_some(shards)
            }
            Self::And(all) => all
                .iter()
                .filter_map(|keys| keys.shards(filling))
                .reduce(|a, b| a.intersection(&b)),
            Self::Or(any) => {
                let mut shards = ShardSet::new();
                for keys in any {
                    shards.union_with(&keys.shards(filling)?);
                }
                Some(shards)
            }
        }
    }

    /// The buckets of these keys, for people; `None` when it could be any.
    pub(crate) fn buckets(&self, filling: &Filling<'_>) -> Option<Vec<Bucket>> {
        let mut buckets = match self {
            Self::All => return None,
            Self::Key(set) => {
                let mut buckets = Vec::new();
                set.buckets(filling, &mut |bucket| buckets.push(bucket))?;
                buckets
            }
            Self::And(all) => all
                .iter()
                .filter_map(|keys| keys.buckets(filling))
                .reduce(|a, b| a.into_iter().filter(|bucket| b.contains(bucket)).collect())?,
            Self::Or(any) => {
                let mut buckets = Vec::new();
                for keys in any {
                    buckets.extend(keys.buckets(filling)?);
                }
                buckets
            }
        };
        buckets.sort_unstable_by_key(|bucket| bucket.0);
        buckets.dedup();
        Some(buckets)
    }
}

impl KeySet {
    /// Calls `each` with every bucket; `None` when one is not certain.
    pub(crate) fn buckets(
        &self,
        filling: &Filling<'_>,
        each: &mut dyn FnMut(Bucket),
    ) -> Option<()> {
        let hash = filling.hash(self.keyspace)?;
        self.each_key(filling, &mut |key| {
            each(match key {
                [(_, None)] => Bucket(0),
                key => key::bucket(hash, key),
            });
        })
    }

    /// Calls `each` with a hash of every key; `None` when one is not certain.
    pub(crate) fn hashes(&self, filling: &Filling<'_>, each: &mut dyn FnMut(u64)) -> Option<()> {
        self.each_key(filling, &mut |key| each(key::hash_of(key)))
    }

    /// Calls `each` with every key, one part per column; `None` when one is not certain.
    fn each_key(&self, filling: &Filling<'_>, each: &mut dyn FnMut(&KeyParts<'_>)) -> Option<()> {
        let [part] = self.parts.as_slice() else {
            return self.combine(filling, each);
        };
        // The family is only asked for by PostgreSQL's own hash, which no offline key has.
        let family = part.family.unwrap_or(KeyFamily::Int);
        for operand in &part.operands {
            for value in part.values(operand, filling, self.usage)? {
                match value {
                    KeyValue::Bytes(bytes) => each(&[(family, Some(&bytes))]),
                    KeyValue::Null => each(&[(family, None)]),
                    KeyValue::Nothing => {}
                    KeyValue::Unknown => return None,
                }
            }
        }
        Some(())
    }

    /// Multiplies the columns' values out.
    fn combine(&self, filling: &Filling<'_>, each: &mut dyn FnMut(&KeyParts<'_>)) -> Option<()> {
        let mut keys: Vec<Vec<Option<KeyBytes>>> = vec![Vec::new()];
        for part in &self.parts {
            let mut values = Vec::new();
            for operand in &part.operands {
                for value in part.values(operand, filling, self.usage)? {
                    match value {
                        KeyValue::Bytes(bytes) => values.push(Some(bytes)),
                        KeyValue::Null => values.push(None),
                        KeyValue::Nothing => {}
                        KeyValue::Unknown => return None,
                    }
                }
            }
            if keys.len().saturating_mul(values.len()) > COMBINATIONS_MAX {
                return None;
            }
            keys = keys
                .iter()
                .flat_map(|key| {
                    values.iter().map(move |value| {
                        let mut longer = key.clone();
                        longer.push(value.clone());
                        longer
                    })
                })
                .collect();
        }
        for key in keys {
            let parts: Vec<(KeyFamily, Option<&[u8]>)> = key
                .iter()
                .zip(&self.parts)
                .map(|(value, part)| (part.family.unwrap_or(KeyFamily::Int), value.as_deref()))
                .collect();
            each(&parts);
        }
        Some(())
    }
}

/// A key's columns: their families and values, `None` for NULL.
type KeyParts<'a> = [(KeyFamily, Option<&'a [u8]>)];

impl KeyPart {
    /// An operand's values; `None` when an array cannot be read.
    pub(crate) fn values(
        &self,
        operand: &Operand,
        filling: &Filling<'_>,
        usage: Use,
    ) -> Option<KeyValues> {
        let values = filling.values;
        let typed = |number: u16| !filling.untyped.contains(&number);
        match operand {
            Operand::IsNull => Some(KeyValues::from_elem(KeyValue::Null, 1)),
            Operand::One {
                constant,
                negative,
                given,
            } => {
                let value = self.value(constant, *negative, *given, filling, usage);
                Some(KeyValues::from_elem(self.stored(value, usage), 1))
            }
            Operand::Each { constant, given } => {
                let family = self.family?;
                let elements = match constant {
                    Constant::Literal(index) => {
                        let literal = values.statement.literals.get(*index)?;
                        let text =
                            literal_text(values.text, literal, values.statement.settings).ok()?;
                        array_from_string(text.as_bytes(), family, *given)?
                    }
                    Constant::Text(text) => array_from_string(text.as_bytes(), family, *given)?,
                    Constant::Param(number) => array_from_param(
                        values.params.get(*number)?,
                        typed(*number),
                        family,
                        *given,
                    )?,
                    Constant::Null => Vec::new(),
                    Constant::Number(_) | Constant::Bool(_) => return None,
                };
                let elements = elements.into_iter();
                Some(elements.map(|value| self.stored(value, usage)).collect())
            }
        }
    }

    fn value(
        &self,
        constant: &Constant,
        negative: bool,
        given: ConstantType,
        filling: &Filling<'_>,
        usage: Use,
    ) -> KeyValue {
        let values = filling.values;
        let Some(family) = self.family.or_else(|| offline_family(constant, values)) else {
            return KeyValue::Unknown;
        };
        match constant {
            Constant::Literal(index) => match values.statement.literals.get(*index) {
                Some(literal) => from_literal(
                    values.text,
                    literal,
                    values.statement.settings,
                    negative,
                    (family, given, usage),
                ),
                None => KeyValue::Unknown,
            },
            Constant::Param(number) => match values.params.get(*number) {
                Some(param) => from_param(
                    param,
                    !filling.untyped.contains(number),
                    family,
                    given,
                    usage,
                ),
                None => KeyValue::Unknown,
            },
            Constant::Number(number) => from_number(number, negative, family, given, usage),
            Constant::Text(text) => from_string(text.as_bytes(), family, given, usage),
            Constant::Bool(value) if family == KeyFamily::Bool && given != ConstantType::Other => {
                KeyValue::Bytes(KeyBytes::from_slice(&[u8::from(*value)]))
            }
            Constant::Bool(_) => KeyValue::Unknown,
            Constant::Null => match usage {
                Use::Compare => KeyValue::Nothing,
                Use::Store => KeyValue::Null,
            },
        }
    }

    /// Storing may cut or round to the column's length.
    fn stored(&self, value: KeyValue, usage: Use) -> KeyValue {
        let KeyValue::Bytes(bytes) = &value else {
            return value;
        };
        if usage == Use::Compare {
            return value;
        }
        let too_long = self.chars_max.is_some_and(|max| {
            std::str::from_utf8(bytes).map_or(true, |text| text.chars().count() > max)
        });
        let fraction = self.whole_seconds
            && <[u8; 8]>::try_from(bytes.as_slice())
                .map_or(true, |micros| i64::from_le_bytes(micros) % 1_000_000 != 0);
        if too_long || fraction {
            KeyValue::Unknown
        } else {
            value
        }
    }
}

/// Offline, an integer is taken for what it looks like; anything else needs the schema.
fn offline_family(constant: &Constant, values: &Values<'_>) -> Option<KeyFamily> {
    let integer = match constant {
        Constant::Literal(index) => {
            values.statement.literals.get(*index)?.kind == LiteralKind::Integer
        }
        Constant::Number(number) => number.bytes().all(|byte| byte.is_ascii_digit()),
        _ => false,
    };
    integer.then_some(KeyFamily::Int)
}

impl Filling<'_> {
    fn keyspace(&self, id: KeyspaceId) -> Option<&Keyspace> {
        self.topology
            .keyspaces
            .get(usize::from(id.0))
            .map(Arc::as_ref)
    }

    fn hash(&self, id: KeyspaceId) -> Option<KeyHash> {
        match &self.keyspace(id)?.kind {
            KeyspaceKind::Sharded { hash, .. } => Some(*hash),
            KeyspaceKind::Unsharded => None,
        }
    }

    /// The whole bucket map. A map of the wrong size is not used.
    fn map(&self, id: KeyspaceId) -> Option<&[ShardId]> {
        match &self.keyspace(id)?.kind {
            KeyspaceKind::Sharded { map, .. } if map.len() == crate::topology::BUCKETS => Some(map),
            _ => None,
        }
    }
}
