//! What a write to a table reaches beyond the table itself, and whether answers made of its rows may be kept: what the
//! result cache must know.
//!
//! In: the shards' schemas and the declared functions. Out: a [`TableReach`] for every relation. What is not certain is not kept, and may
//! have reached anything. Reading order: `families` (what belongs together), `effects` (what leads to what), `closure` (and that to what
//! further), `never` (what is not kept).

mod closure;
mod effects;
mod families;
mod never;

#[cfg(test)]
mod tests;

use crate::topology::reach::effects::{Act, Effects};
use crate::topology::reach::families::Families;
use crate::topology::reach::never::{is_doubtful, never_of_families};
use crate::topology::schema::{Relation, Schema};
use crate::topology::{FunctionDeclaration, Keyspace, ShardId, TableName};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// The end of the name of a table that Keyway fills by itself, while clients write to the one it will replace.
pub const FILLED_BY_KEYWAY: &str = "_keyway_new";

/// The most families that a write is said to reach one by one; one that reaches more may have reached anything.
pub const FAMILIES_MAX: usize = 256;

/// A number for a table together with its partitions, parents and children: a write to one may be seen through another.
/// A hash, the same on every Keyway. Two families with one number spoil each other's answers, and do no other harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Family(pub u64);

impl Family {
    /// The family that is called by this table's name.
    #[must_use]
    pub fn named(name: &TableName) -> Self {
        // A NUL is part of no name.
        Self(xxh3_64(
            format!("{}\0{}", name.schema, name.name).as_bytes(),
        ))
    }
}

/// What is known of a table for the result cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableReach {
    /// Its family.
    pub family: Family,
    /// Why answers made of its rows are not kept.
    pub never: Option<Never>,
    /// What reading it reaches: functions that its row-level security runs may write.
    pub read: Reach,
    /// What an INSERT reaches besides the rows it says.
    pub insert: Reach,
    /// What an UPDATE reaches.
    pub update: Reach,
    /// What a DELETE reaches.
    pub delete: Reach,
}

/// Tables whose rows a statement may change besides those it says: by foreign keys' actions, by triggers, by rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Any rows of these families, in order; often none. The table's own is among them only when rows of it are reached that the
    /// statement does not name: by a foreign key to itself, or a trigger that writes to it.
    Families(Vec<Family>),
    /// Nobody can tell: anything on the shards it runs on, by whatever keyspace or database that is seen.
    Anything,
}

/// Why answers made of a table's rows are not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Never {
    /// Its schema is not known.
    Unseen,
    /// Row-level security is on: who sees what is not a matter of rows alone.
    RowSecurity,
    /// It is UNLOGGED: a crash of its server empties it.
    Unlogged,
    /// It is a foreign table: its rows change elsewhere.
    Foreign,
    /// A rule makes something else of reading it, its kind is none that is known here or not the same on every shard, or it is one that
    /// Keyway is filling.
    Kind,
}

impl TableReach {
    /// Of a table of which nothing is known.
    #[must_use]
    pub fn unseen(name: &TableName) -> Self {
        Self::anything(Family::named(name))
    }

    fn anything(family: Family) -> Self {
        Self {
            family,
            never: Some(Never::Unseen),
            read: Reach::Anything,
            insert: Reach::Anything,
            update: Reach::Anything,
            delete: Reach::Anything,
        }
    }
}

/// Of every relation, by keyspace. Keyspaces that share a shard share its tables, and one's writes are seen through the other; so what is
/// true of one of their shards is taken to be true of all.
pub(super) fn of_keyspaces<'s>(
    keyspaces: &[Arc<Keyspace>],
    schema_of: impl Fn(ShardId) -> Option<&'s Schema>,
    functions: &BTreeMap<TableName, FunctionDeclaration>,
) -> Vec<HashMap<TableName, TableReach>> {
    let mut reaches = vec![HashMap::new(); keyspaces.len()];
    for shards in sharing(keyspaces) {
        let known: Vec<(ShardId, &Schema)> = shards
            .iter()
            .filter_map(|shard| Some((*shard, schema_of(*shard)?)))
            .collect();
        let picture = Picture::new(&known, functions);
        for (keyspace, reach) in keyspaces.iter().zip(&mut reaches) {
            if keyspace.shards.iter().any(|shard| shards.contains(shard)) {
                *reach = picture.of(keyspace, known.len() == shards.len());
            }
        }
    }
    reaches
}

/// The shards in sets, so that each keyspace's are in one.
fn sharing(keyspaces: &[Arc<Keyspace>]) -> Vec<Vec<ShardId>> {
    let mut sets: Vec<Vec<ShardId>> = Vec::new();
    for keyspace in keyspaces {
        let (mut joined, apart): (Vec<_>, Vec<_>) = sets
            .into_iter()
            .partition(|set| set.iter().any(|shard| keyspace.shards.contains(shard)));
        joined.push(keyspace.shards.clone());
        let mut joined = joined.concat();
        joined.sort_unstable();
        joined.dedup();
        sets = apart;
        sets.push(joined);
    }
    sets
}

/// What the shards that belong together say.
struct Picture<'s> {
    /// Each name's relations, with their shards.
    relations: HashMap<&'s TableName, Vec<(ShardId, &'s Relation)>>,
    families: Families<'s>,
    /// By family.
    reaches: Vec<TableReach>,
}

impl<'s> Picture<'s> {
    fn new(
        shards: &[(ShardId, &'s Schema)],
        functions: &BTreeMap<TableName, FunctionDeclaration>,
    ) -> Self {
        let mut relations: HashMap<&TableName, Vec<(ShardId, &Relation)>> = HashMap::new();
        for (shard, schema) in shards {
            for relation in &schema.relations {
                let named = relations.entry(&relation.name).or_default();
                named.push((*shard, relation));
            }
        }
        let all: Vec<&Relation> = shards
            .iter()
            .flat_map(|(_, schema)| &schema.relations)
            .collect();
        let families = Families::new(&all);
        let effects = Effects::new(&families, &all, functions);
        let never = never_of_families(&families, &all);
        let reaches = never.into_iter().enumerate().map(|(family, never)| {
            let reach = |act: Act| effects.reach(&families, family, act);
            TableReach {
                family: families.number(family),
                never,
                read: reach(Act::Read),
                insert: reach(Act::Insert),
                update: reach(Act::Update),
                delete: reach(Act::Delete),
            }
        });
        Self {
            reaches: reaches.collect(),
            relations,
            families,
        }
    }

    /// Of every relation of the keyspace. Unless all shards are known, anything may be on the others.
    fn of(&self, keyspace: &Keyspace, all_known: bool) -> HashMap<TableName, TableReach> {
        let mut reaches = HashMap::new();
        for (name, relations) in &self.relations {
            let here: Vec<&Relation> = relations
                .iter()
                .filter(|(shard, _)| keyspace.shards.contains(shard))
                .map(|(_, relation)| *relation)
                .collect();
            let family = self.families.of(name).and_then(|f| self.reaches.get(f));
            let Some(family) = family.filter(|_| !here.is_empty()) else {
                continue;
            };
            let mut reach = if all_known && here.len() == keyspace.shards.len() {
                family.clone()
            } else {
                TableReach::anything(family.family)
            };
            if is_doubtful(&here) {
                reach.never = reach.never.or(Some(Never::Kind));
            }
            reaches.insert((*name).clone(), reach);
        }
        reaches
    }
}
