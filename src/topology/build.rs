//! Configuration + bucket maps + schemas → [`Topology`]. Pure: the same in, the same out.

use crate::config::{Config, TablePlacement};
use crate::topology::behind::{Required, behind};
use crate::topology::digest::digest;
use crate::topology::reach::{TableReach, of_keyspaces};
use crate::topology::schema::{ColumnFacts, Constraint, ConstraintKind, Relation, Schema};
use crate::topology::{
    BUCKETS, Column, Database, FIRST_USER_OID, Function, FunctionDeclaration, ImpliedCall,
    ImpliedCalls, KeyColumn, KeyFamily, KeyHash, Keyspace, KeyspaceId, KeyspaceKind, OidMap,
    Placement, Shard, ShardId, SharedConstraint, Table, TableName, Topology,
};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// The bits of a bigint that a shard's sequences count in: 2^44 values, for 512 shards.
pub const BIGINT_RANGE_BITS: u32 = 44;
/// The bits of an integer that a shard's sequences count in: 2^22 values, for 512 shards.
pub const INTEGER_RANGE_BITS: u32 = 22;

/// The values that a shard's sequences of `type_oid` (int4 or int8) may count through, both ends included.
#[must_use]
pub fn sequence_range(stable_id: u16, type_oid: u32) -> Option<(i64, i64)> {
    let bits = match type_oid {
        20 => BIGINT_RANGE_BITS,
        23 => INTEGER_RANGE_BITS,
        _ => return None,
    };
    let low = i64::from(stable_id) << bits;
    let high = (i64::from(stable_id) + 1) << bits;
    // 512 << 22 is one past the last integer; 512 << 44 is 2^53, the last that JavaScript holds exactly.
    let high = if type_oid == 23 {
        high.min(i64::from(i32::MAX))
    } else {
        high
    };
    Some((low + 1, high))
}

/// What the catalog decides: which shard has which id, which bucket is where, what is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assignments {
    /// Grows with every change.
    pub epoch: u64,
    /// Stable ids by the shards' names.
    pub shard_ids: BTreeMap<String, u16>,
    /// Per sharded keyspace, [`BUCKETS`] stable ids.
    pub maps: BTreeMap<String, Vec<u16>>,
    /// Tables that may not be used: database, table, reason.
    pub refused: Vec<(String, TableName, String)>,
    /// How often kept answers were dropped by somebody's wish: all, and those of tables.
    pub flushed: BTreeMap<Option<TableName>, i64>,
    /// Versions that shards must have.
    pub required: Vec<Required>,
    /// Versions that have run on shards, with their keyspaces, by stable id. Shards that were never read are missing; one that does
    /// not answer now has what it had.
    pub histories: HashMap<u16, Vec<(String, String)>>,
}

impl Assignments {
    /// What a new catalog starts with, and what offline planning assumes: ids by name, buckets in even runs.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let shard_ids: BTreeMap<String, u16> = config
            .shards
            .keys()
            .zip(0..)
            .map(|(name, id)| (name.clone(), id))
            .collect();
        let mut maps = BTreeMap::new();
        for (name, keyspace) in &config.keyspaces {
            if let Some(hash) = keyspace.hash {
                let ids: Vec<u16> = keyspace
                    .shards
                    .iter()
                    .filter_map(|shard| shard_ids.get(shard).copied())
                    .collect();
                maps.insert(name.clone(), even_map(hash, &ids));
            }
        }
        Self {
            epoch: 1,
            shard_ids,
            maps,
            refused: Vec::new(),
            flushed: BTreeMap::new(),
            required: Vec::new(),
            histories: HashMap::new(),
        }
    }
}

/// Buckets in contiguous runs over `ids`, as even as can be. Under `hash = "postgres"` only the first `modulus`
/// buckets mean anything; the rest go with the last shard.
#[must_use]
pub fn even_map(hash: KeyHash, ids: &[u16]) -> Vec<u16> {
    let used = match hash {
        KeyHash::Xxh3 => BUCKETS,
        KeyHash::Postgres { modulus } => usize::from(modulus),
    };
    let last = ids.len().saturating_sub(1);
    (0..BUCKETS)
        .filter_map(|bucket| {
            ids.get((bucket * ids.len() / used.max(1)).min(last))
                .copied()
        })
        .collect()
}

/// Schemas by their shards' stable ids; a shard that could not be asked is missing.
pub type Schemas = HashMap<u16, Schema>;

/// Why configuration and assignments do not fit together.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BuildError {
    /// A shard without id.
    #[error("shard {0:?} has no id in the catalog")]
    NoId(String),
    /// A sharded keyspace without map.
    #[error("keyspace {0:?} has no bucket map in the catalog")]
    NoMap(String),
    /// A map that is not whole.
    #[error("keyspace {keyspace:?}: its bucket map has {found} buckets, not {BUCKETS}")]
    MapLength {
        /// The keyspace.
        keyspace: String,
        /// Buckets found.
        found: usize,
    },
    /// A bucket on a shard that the keyspace does not list.
    #[error(
        "keyspace {keyspace:?}: bucket {bucket} is on the shard with id {shard} in the catalog, which keyspaces.{keyspace}.shards does not list"
    )]
    Elsewhere {
        /// The keyspace.
        keyspace: String,
        /// The bucket.
        bucket: usize,
        /// The shard's stable id.
        shard: u16,
    },
}

/// Without any server: ids by name, even maps, types from the configuration.
///
/// # Errors
/// Never for a checked configuration.
pub fn offline(config: &Config) -> Result<Topology, BuildError> {
    build(config, &Assignments::new(config), &Schemas::new())
}

/// Makes the snapshot.
///
/// # Errors
/// When the configuration contradicts the assignments.
pub fn build(
    config: &Config,
    assignments: &Assignments,
    schemas: &Schemas,
) -> Result<Topology, BuildError> {
    let shards = shards(config, assignments)?;
    let mut keyspace_ids = BTreeMap::new();
    let mut keyspaces = Vec::new();
    for (index, (name, keyspace)) in (0..).zip(&config.keyspaces) {
        keyspace_ids.insert(name.as_str(), KeyspaceId(index));
        keyspaces.push(Arc::new(build_keyspace(
            name,
            keyspace,
            &shards,
            assignments,
        )?));
    }
    let schema_of = |id: ShardId| schemas.get(&shards.get(usize::from(id.0))?.stable_id);
    let reaches = of_keyspaces(&keyspaces, schema_of, &config.functions);
    let mut databases = HashMap::new();
    for (name, database) in &config.databases {
        let ids: Vec<KeyspaceId> = database
            .keyspaces
            .iter()
            .filter_map(|keyspace| keyspace_ids.get(keyspace.as_str()).copied())
            .collect();
        let default = database
            .default
            .as_ref()
            .and_then(|keyspace| keyspace_ids.get(keyspace.as_str()).copied());
        let builder = DatabaseBuilder {
            config,
            shards: &shards,
            keyspaces: &keyspaces,
            schemas,
            reaches: &reaches,
        };
        let mut built = builder.build(name, ids, default);
        built.refused.extend(
            assignments
                .refused
                .iter()
                .filter(|(database, ..)| database == name)
                .map(|(_, table, reason)| (table.clone(), reason.clone())),
        );
        databases.insert(name.clone(), Arc::new(built));
    }
    let behind = behind(config, assignments, &shards);
    let family_of = |(name, reach): (&TableName, &TableReach)| (name.clone(), reach.family);
    let families = reaches.iter().map(|of| of.iter().map(family_of).collect());
    Ok(Topology {
        families: families.collect(),
        epoch: assignments.epoch,
        digest: digest(config, assignments, schemas, &behind),
        catalog_epoch: assignments.epoch,
        flushed: assignments.flushed.clone(),
        behind,
        shards,
        keyspaces,
        databases,
    })
}

/// In the order of their stable ids.
fn shards(config: &Config, assignments: &Assignments) -> Result<Vec<Arc<Shard>>, BuildError> {
    let mut shards = Vec::new();
    for (name, shard) in &config.shards {
        let stable_id = *assignments
            .shard_ids
            .get(name)
            .ok_or_else(|| BuildError::NoId(name.clone()))?;
        shards.push(Arc::new(Shard {
            name: name.clone(),
            stable_id,
            primary: shard.primary.clone(),
            replicas: shard.replicas.clone(),
        }));
    }
    shards.sort_by_key(|shard| shard.stable_id);
    Ok(shards)
}

fn build_keyspace(
    name: &str,
    keyspace: &crate::config::KeyspaceConfig,
    shards: &[Arc<Shard>],
    assignments: &Assignments,
) -> Result<Keyspace, BuildError> {
    let listed: Vec<(ShardId, u16)> = (0..)
        .map(ShardId)
        .zip(shards)
        .filter(|(_, shard)| keyspace.shards.contains(&shard.name))
        .map(|(id, shard)| (id, shard.stable_id))
        .collect();
    let Some(hash) = keyspace.hash else {
        let shards = listed.into_iter().map(|(id, _)| id).collect();
        return Ok(Keyspace {
            name: name.to_owned(),
            shards,
            kind: KeyspaceKind::Unsharded,
        });
    };
    let stable = assignments
        .maps
        .get(name)
        .ok_or_else(|| BuildError::NoMap(name.to_owned()))?;
    if stable.len() != BUCKETS {
        return Err(BuildError::MapLength {
            keyspace: name.to_owned(),
            found: stable.len(),
        });
    }
    let by_stable: HashMap<u16, ShardId> =
        listed.iter().map(|(id, stable)| (*stable, *id)).collect();
    let mut map = Vec::with_capacity(BUCKETS);
    for (bucket, stable_id) in stable.iter().enumerate() {
        let shard = by_stable
            .get(stable_id)
            .ok_or_else(|| BuildError::Elsewhere {
                keyspace: name.to_owned(),
                bucket,
                shard: *stable_id,
            })?;
        map.push(*shard);
    }
    // A shard that has joined and holds no bucket yet has neither tables nor copies of reference tables: it takes no
    // part in the keyspace until it is given buckets.
    let holding: HashSet<ShardId> = map.iter().copied().collect();
    let shards = listed
        .into_iter()
        .map(|(id, _)| id)
        .filter(|id| holding.contains(id))
        .collect();
    Ok(Keyspace {
        name: name.to_owned(),
        shards,
        kind: KeyspaceKind::Sharded {
            hash,
            map: map.into(),
        },
    })
}

/// What building one database needs.
struct DatabaseBuilder<'a> {
    config: &'a Config,
    shards: &'a [Arc<Shard>],
    keyspaces: &'a [Arc<Keyspace>],
    schemas: &'a Schemas,
    /// By keyspace.
    reaches: &'a [HashMap<TableName, TableReach>],
}

impl DatabaseBuilder<'_> {
    fn build(&self, name: &str, ids: Vec<KeyspaceId>, default: Option<KeyspaceId>) -> Database {
        let home = default
            .or(ids.first().copied())
            .and_then(|id| self.keyspace(id))
            .and_then(|k| k.shards.first().copied());
        let oid_maps = self.oid_maps(home);
        let mut tables: HashMap<TableName, Arc<Table>> = HashMap::new();
        let mut refused = HashMap::new();
        for id in &ids {
            for table in self.listed_tables(*id, &oid_maps) {
                tables.insert(table.name.clone(), Arc::new(table));
            }
        }
        let listed: HashSet<TableName> = tables.keys().cloned().collect();
        for id in &ids {
            for table in self.found_tables(*id, &listed, &oid_maps) {
                let Some(first) = tables.get(&table.name) else {
                    tables.insert(table.name.clone(), Arc::new(table));
                    continue;
                };
                if first.keyspace == table.keyspace {
                    continue;
                }
                if default == Some(table.keyspace) {
                    refused.remove(&table.name);
                    tables.insert(table.name.clone(), Arc::new(table));
                } else if default != Some(first.keyspace) {
                    let reason = format!(
                        "table {} exists in keyspaces {:?} and {:?}, and no keyspace lists it",
                        table.name,
                        self.keyspace_name(first.keyspace),
                        self.keyspace_name(table.keyspace)
                    );
                    refused.insert(table.name, reason);
                }
            }
        }
        let participants: Vec<ShardId> = ids
            .iter()
            .filter_map(|id| self.keyspace(*id))
            .flat_map(|k| k.shards.clone())
            .collect();
        let schema_known = !self.schemas.is_empty();
        let collation_is_c = schema_known
            && participants.iter().all(|shard| {
                self.schema(*shard)
                    .is_some_and(|schema| schema.collation_is_c)
            });
        Database {
            name: name.to_owned(),
            functions: self.functions(&ids),
            implied: self.implied(&ids),
            event_triggers: participants.iter().any(|shard| {
                self.schema(*shard)
                    .is_none_or(|schema| schema.event_triggers)
            }),
            attached: self.attached(&ids),
            keyspaces: ids,
            default,
            home,
            tables,
            schema_known,
            collation_is_c,
            refused,
            oid_maps,
        }
    }

    fn keyspace(&self, id: KeyspaceId) -> Option<&Keyspace> {
        self.keyspaces.get(usize::from(id.0)).map(Arc::as_ref)
    }

    fn keyspace_name(&self, id: KeyspaceId) -> &str {
        self.keyspace(id)
            .map_or("", |keyspace| keyspace.name.as_str())
    }

    fn shard(&self, id: ShardId) -> Option<&Shard> {
        self.shards.get(usize::from(id.0)).map(Arc::as_ref)
    }

    fn schema(&self, id: ShardId) -> Option<&Schema> {
        self.schemas.get(&self.shard(id)?.stable_id)
    }

    /// The first shard of the keyspace whose schema is known.
    fn leader(&self, keyspace: &Keyspace) -> Option<(ShardId, &Schema)> {
        keyspace
            .shards
            .iter()
            .find_map(|shard| Some((*shard, self.schema(*shard)?)))
    }

    /// Nothing is known of a shard that could not be asked: its map is empty, and its user types show as unknown.
    fn oid_maps(&self, home: Option<ShardId>) -> Vec<Option<Arc<OidMap>>> {
        if self.schemas.is_empty() {
            return Vec::new();
        }
        let types = |id| self.schema(id).map(|schema| schema.types.as_slice());
        let home_types = home.and_then(types);
        (0..)
            .map(ShardId)
            .zip(self.shards)
            .map(|(id, _)| match (home_types, types(id)) {
                _ if home == Some(id) => None,
                (Some(home), Some(here)) => OidMap::between(home, here).map(Arc::new),
                _ => Some(Arc::default()),
            })
            .collect()
    }

    /// Every table that the keyspace's configuration lists, and those that are partitions or children of them.
    fn listed_tables(&self, id: KeyspaceId, oid_maps: &[Option<Arc<OidMap>>]) -> Vec<Table> {
        let Some(keyspace) = self.keyspace(id) else {
            return Vec::new();
        };
        let Some(config) = self.config.keyspaces.get(&keyspace.name) else {
            return Vec::new();
        };
        let leader = self.leader(keyspace);
        let mut tables = Vec::new();
        for (name, table) in &config.tables {
            let relation = leader.and_then(|(_, schema)| schema.relation(name));
            let placement = match &table.placement {
                TablePlacement::Reference => Placement::Reference,
                TablePlacement::Whole => Placement::Unsharded,
                TablePlacement::Key { columns, types } => Placement::Sharded {
                    key: key_columns(columns, types.as_deref(), relation),
                },
            };
            tables.push(self.table(id, name, placement, &table.trust, oid_maps));
        }
        if let Some((_, schema)) = leader {
            for relation in &schema.relations {
                if config.tables.contains_key(&relation.name) {
                    continue;
                }
                let Some(root) =
                    listed_ancestor(schema, relation, |name| config.tables.contains_key(name))
                else {
                    continue;
                };
                let Some(parent) = tables.iter().find(|table| table.name == root) else {
                    continue;
                };
                let (placement, trust) = (parent.placement.clone(), parent.trust.clone());
                tables.push(self.table(id, &relation.name, placement, &trust, oid_maps));
            }
            add_changing_actions(schema, &mut tables);
        }
        tables
    }

    /// What was found on the shards and is not listed: everything of an unsharded keyspace, views of a sharded one.
    fn found_tables(
        &self,
        id: KeyspaceId,
        listed: &HashSet<TableName>,
        oid_maps: &[Option<Arc<OidMap>>],
    ) -> Vec<Table> {
        let Some(keyspace) = self.keyspace(id) else {
            return Vec::new();
        };
        let Some((_, schema)) = self.leader(keyspace) else {
            return Vec::new();
        };
        let placement = match keyspace.kind {
            KeyspaceKind::Unsharded => Placement::Unsharded,
            // No key: nothing pins it. Its definition says where its tables are.
            KeyspaceKind::Sharded { .. } => Placement::Sharded { key: Vec::new() },
        };
        schema
            .relations
            .iter()
            .filter(|relation| !listed.contains(&relation.name))
            .filter(|relation| keyspace.kind == KeyspaceKind::Unsharded || relation.kind == 'v')
            .map(|relation| self.table(id, &relation.name, placement.clone(), &[], oid_maps))
            .collect()
    }

    fn table(
        &self,
        id: KeyspaceId,
        name: &TableName,
        placement: Placement,
        trust: &[String],
        oid_maps: &[Option<Arc<OidMap>>],
    ) -> Table {
        let keyspace = self.keyspace(id);
        let leader = keyspace.and_then(|keyspace| self.leader(keyspace));
        let relation = leader.and_then(|(_, schema)| schema.relation(name));
        let mut table = Table {
            name: name.clone(),
            keyspace: id,
            placement,
            columns: Vec::new(),
            kind: relation.map_or('r', |relation| relation.kind),
            trust: trust.to_vec(),
            hazards: Vec::new(),
            view: relation.and_then(|relation| relation.view.clone()),
            policy_hazards: Vec::new(),
            shared: Vec::new(),
            reach: self.reach(id, name),
        };
        let (Some(keyspace), Some((shard, schema)), Some(relation)) = (keyspace, leader, relation)
        else {
            return table;
        };
        let here = oid_maps
            .get(usize::from(shard.0))
            .and_then(Option::as_deref);
        table.columns = relation
            .columns
            .iter()
            .map(|column| Column {
                name: column.name.clone(),
                type_oid: at_home(here, column.type_oid),
                base_oid: at_home(here, column.base_oid),
                type_name: column.type_name.clone(),
                stored_as: column.stored_as.clone(),
                not_null: column.not_null,
                default: column.default.clone(),
                generated: column.generated,
                unique_by_construction: self.unique_by_construction(keyspace, name, column),
                collation_is_c: column.collation_is_c,
                deterministic: column.deterministic,
            })
            .collect();
        if keyspace.kind != KeyspaceKind::Unsharded {
            table.shared = shared_constraints(schema, relation, &table);
            table.hazards = hazards(self.config, keyspace, schema, relation, &table.placement);
            table.policy_hazards = policy_hazards(self.config, keyspace, schema, relation);
        }
        table
    }

    fn reach(&self, id: KeyspaceId, name: &TableName) -> TableReach {
        let known = self.reaches.get(usize::from(id.0));
        let known = known.and_then(|tables| tables.get(name));
        known.map_or_else(|| TableReach::unseen(name), TableReach::clone)
    }

    /// A random uuid, or a sequence that counts in its shard's own range on every shard that could be asked.
    fn unique_by_construction(
        &self,
        keyspace: &Keyspace,
        table: &TableName,
        column: &ColumnFacts,
    ) -> bool {
        let default = column.default.as_deref().unwrap_or_default();
        if column.base_oid == 2950 {
            let bare = default.strip_prefix("public.").unwrap_or(default);
            let call = bare.strip_suffix("()");
            return call.is_some_and(|name| UUID_GENERATORS.contains(&name));
        }
        if column.sequence.is_none() {
            return false;
        }
        keyspace
            .shards
            .iter()
            .filter_map(|id| self.shard(*id))
            .all(|shard| {
                let Some(schema) = self.schemas.get(&shard.stable_id) else {
                    return true;
                };
                let here = schema
                    .relation(table)
                    .and_then(|relation| relation.columns.iter().find(|c| c.name == column.name));
                here.is_some_and(|here| has_own_range(here, shard.stable_id))
            })
    }

    /// Indexes and sequences, by the keyspaces that have one of the name.
    fn attached(&self, ids: &[KeyspaceId]) -> HashMap<TableName, Vec<KeyspaceId>> {
        let mut attached: HashMap<TableName, Vec<KeyspaceId>> = HashMap::new();
        for id in ids {
            let shards = self.keyspace(*id).map(|keyspace| keyspace.shards.iter());
            for schema in shards.into_iter().flatten().filter_map(|s| self.schema(*s)) {
                for name in &schema.attached {
                    let keyspaces = attached.entry(name.clone()).or_default();
                    if !keyspaces.contains(id) {
                        keyspaces.push(*id);
                    }
                }
            }
        }
        attached
    }

    /// What runs without being named, on any of the keyspaces' shards.
    fn implied(&self, ids: &[KeyspaceId]) -> ImpliedCalls {
        let mut implied = ImpliedCalls::default();
        let leaders = ids
            .iter()
            .filter_map(|id| self.keyspace(*id))
            .filter_map(|keyspace| self.leader(keyspace));
        for (_, schema) in leaders {
            for (operator, function) in &schema.operators {
                let behind = implied.operators.entry(operator.clone()).or_default();
                if !behind.contains(function) {
                    behind.push(function.clone());
                }
            }
            for call in &schema.typed_calls {
                let behind = implied.types.entry(call.type_name.clone()).or_default();
                let call = ImpliedCall {
                    function: call.function.clone(),
                    by: call.by,
                };
                if !behind.contains(&call) {
                    behind.push(call);
                }
            }
        }
        implied
    }

    /// Found on the keyspaces' shards, and declared.
    fn functions(&self, ids: &[KeyspaceId]) -> HashMap<TableName, Vec<Arc<Function>>> {
        let mut functions: HashMap<TableName, Vec<Arc<Function>>> = HashMap::new();
        let mut add = |function: Function| {
            let overloads = functions.entry(function.name.clone()).or_default();
            if !overloads.iter().any(|known| **known == function) {
                overloads.push(Arc::new(function));
            }
        };
        let leaders = ids
            .iter()
            .filter_map(|id| self.keyspace(*id))
            .filter_map(|keyspace| self.leader(keyspace));
        for (_, schema) in leaders {
            for routine in &schema.routines {
                add(Function {
                    name: routine.name.clone(),
                    volatility: routine.volatility,
                    kind: routine.kind,
                    declared: self.config.functions.get(&routine.name).cloned(),
                });
            }
        }
        for (name, declaration) in &self.config.functions {
            functions.entry(name.clone()).or_insert_with(|| {
                vec![Arc::new(Function {
                    name: name.clone(),
                    volatility: 'v',
                    kind: 'f',
                    declared: Some(declaration.clone()),
                })]
            });
        }
        functions
    }
}

/// Functions that give a uuid that nobody else has.
pub const UUID_GENERATORS: &[&str] = &["gen_random_uuid", "uuid_generate_v4", "uuidv4", "uuidv7"];

/// The constraints that hold for rows written to `relation`, whose table is `table`, and that no shard can check alone.
fn shared_constraints(
    schema: &Schema,
    relation: &Relation,
    table: &Table,
) -> Vec<SharedConstraint> {
    let unique = |column: &String| {
        let known = table.columns.iter().find(|known| known.name == *column);
        known.is_some_and(|known| known.unique_by_construction)
    };
    let is_unique = |constraint: &&Constraint| {
        matches!(
            constraint.kind,
            ConstraintKind::Primary
                | ConstraintKind::Unique
                | ConstraintKind::UniqueIndex
                | ConstraintKind::Exclusion
        )
    };
    // A partition's own copy of a constraint has another name.
    let trusted_above = |constraint: &Constraint| {
        relation.constraints.iter().filter(is_unique).any(|own| {
            own.columns == constraint.columns
                && own.expressions == constraint.expressions
                && is_trusted(own, &table.trust)
        })
    };
    let mut shared: Vec<SharedConstraint> = Vec::new();
    for relation in with_descendants(schema, relation) {
        for constraint in relation.constraints.iter().filter(is_unique) {
            let beyond = constraint_beyond_one_shard(
                &table.placement,
                constraint,
                &table.trust,
                |_| false,
                |_| None,
            );
            if beyond.is_none() || trusted_above(constraint) {
                continue;
            }
            let generated = match constraint.kind {
                ConstraintKind::Exclusion => None,
                _ => constraint.columns.iter().find(|c| unique(c)).cloned(),
            };
            shared.push(SharedConstraint {
                name: constraint.name.clone(),
                shown: match constraint.kind {
                    ConstraintKind::UniqueIndex => format!("UNIQUE INDEX {}", constraint.name),
                    _ => constraint.definition.clone(),
                },
                columns: constraint.columns.clone(),
                expressions: constraint.expressions,
                generated,
            });
        }
    }
    shared
}

/// A relation, its partitions and children, and theirs.
fn with_descendants<'s>(schema: &'s Schema, relation: &'s Relation) -> Vec<&'s Relation> {
    let mut found = vec![relation];
    let mut next = 0;
    while let Some(parent) = found.get(next).map(|parent| &parent.name) {
        next += 1;
        let children = schema
            .relations
            .iter()
            .filter(|child| child.parents.contains(parent));
        for child in children {
            if !found.iter().any(|known| known.name == child.name) {
                found.push(child);
            }
        }
    }
    found
}

/// True when the column's sequence counts in `stable_id`'s range and nowhere else.
#[must_use]
pub fn has_own_range(column: &ColumnFacts, stable_id: u16) -> bool {
    let (Some(sequence), Some((low, high))) =
        (&column.sequence, sequence_range(stable_id, column.base_oid))
    else {
        return false;
    };
    sequence.min >= low && sequence.max <= high && !sequence.cycle
}

/// The OID on the home shard, as far as there is one.
fn at_home(map: Option<&OidMap>, oid: u32) -> u32 {
    match map.map(|map| map.client(oid)) {
        Some(client) if oid < FIRST_USER_OID || client >= FIRST_USER_OID => client,
        _ => oid,
    }
}

/// The nearest listed table that `relation` is a partition or child of.
fn listed_ancestor(
    schema: &Schema,
    relation: &Relation,
    listed: impl Fn(&TableName) -> bool,
) -> Option<TableName> {
    let mut todo: Vec<&TableName> = relation.parents.iter().collect();
    let mut seen: HashSet<&TableName> = HashSet::new();
    while let Some(name) = todo.pop() {
        if listed(name) {
            return Some(name.clone());
        }
        if seen.insert(name)
            && let Some(parent) = schema.relation(name)
        {
            todo.extend(&parent.parents);
        }
    }
    None
}

/// The key's columns with their families: what the shards say, else what the configuration says.
fn key_columns(
    columns: &[String],
    types: Option<&[KeyFamily]>,
    relation: Option<&Relation>,
) -> Vec<KeyColumn> {
    columns
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let family = match relation {
                Some(relation) => relation
                    .columns
                    .iter()
                    .find(|column| &column.name == name)
                    .and_then(key_family),
                None => types.and_then(|types| types.get(index)).copied(),
            };
            KeyColumn {
                name: name.clone(),
                family,
            }
        })
        .collect()
}

/// The family of a column as a sharding key; `None` when equality is not equality of bytes.
#[must_use]
pub fn key_family(column: &ColumnFacts) -> Option<KeyFamily> {
    KeyFamily::of_oid(column.base_oid).filter(|_| column.deterministic)
}

/// Why writing this table of a sharded keyspace could go wrong without anybody noticing.
#[must_use]
pub fn hazards(
    config: &Config,
    keyspace: &Keyspace,
    schema: &Schema,
    relation: &Relation,
    placement: &Placement,
) -> Vec<String> {
    let mut hazards = Vec::new();
    if let Placement::Sharded { key } = placement {
        for column in key {
            match relation.columns.iter().find(|found| found.name == column.name) {
                None => hazards.push(format!("the sharding key's column {:?} does not exist", column.name)),
                Some(found) if key_family(found).is_none() => hazards.push(format!(
                    "the sharding key's column {:?} has type {}, whose equality is not equality of bytes",
                    column.name, found.type_name
                )),
                Some(_) => {}
            }
        }
    }
    // A row that is written by way of a parent runs its partition's triggers.
    let own_and_below = with_descendants(schema, relation);
    for trigger in own_and_below.iter().flat_map(|below| &below.triggers) {
        let builtin = trigger.function.schema == "pg_catalog";
        if !builtin && !config.functions.contains_key(&trigger.function) {
            hazards.push(format!(
                "trigger {:?} ({}) runs function {}, which may change the sharding key or other tables and is not declared in [functions]",
                trigger.name, trigger.timing, trigger.function
            ));
        }
    }
    for function in &relation.calls {
        if !config.functions.contains_key(function) {
            hazards.push(format!(
                "a default or CHECK runs function {function}, which is not IMMUTABLE and not declared in [functions]"
            ));
        }
    }
    for rule in &relation.rules {
        hazards.push(format!("rule {:?} rewrites statements on it", rule.name));
    }
    if let Placement::Sharded { key } = placement {
        let is_key = |name: &str| key.iter().any(|column| column.name == name);
        for constraint in own_and_below.iter().flat_map(|below| &below.constraints) {
            if let Some(action) = changing_action(constraint, is_key) {
                hazards.push(format!(
                    "foreign key {:?} changes the sharding key {action}",
                    constraint.name
                ));
            }
        }
    }
    // The other side: writing a referenced row changes keys of the rows that refer to it.
    let listed = config
        .keyspaces
        .get(&keyspace.name)
        .map(|keyspace| &keyspace.tables);
    for other in &schema.relations {
        let Some(TablePlacement::Key { columns, .. }) = listed
            .and_then(|tables| tables.get(&other.name))
            .map(|t| &t.placement)
        else {
            continue;
        };
        let is_key = |name: &str| columns.iter().any(|column| column == name);
        for constraint in &other.constraints {
            if other.name != relation.name
                && matches!(&constraint.kind, ConstraintKind::Foreign { table, .. } if *table == relation.name)
                && let Some(action) = changing_action(constraint, is_key)
            {
                hazards.push(format!(
                    "foreign key {:?} of {} changes that table's sharding key {action}",
                    constraint.name, other.name
                ));
            }
        }
    }
    hazards
}

/// Why a table's row-level security, applied by each shard to its own rows, could differ from one PostgreSQL's. What it
/// reads must be whole on every shard, and must not be hidden by policies of its own that are not so.
#[must_use]
pub fn policy_hazards(
    config: &Config,
    keyspace: &Keyspace,
    schema: &Schema,
    relation: &Relation,
) -> Vec<String> {
    let listed = config
        .keyspaces
        .get(&keyspace.name)
        .map(|keyspace| &keyspace.tables);
    let is_reference = |name: &TableName| {
        let table = listed.and_then(|tables| tables.get(name));
        table.is_some_and(|table| table.placement == TablePlacement::Reference)
    };
    let mut hazards = Vec::new();
    let mut seen = vec![relation];
    let mut next = 0;
    while let Some(relation) = seen.get(next).copied() {
        next += 1;
        let policies = relation.policies.iter().filter(|_| relation.row_security);
        for policy in policies {
            let of = format!("policy {:?} on {}", policy.name, relation.name);
            let mut reads: Vec<&TableName> = policy.reads.iter().collect();
            for function in &policy.calls {
                match config.functions.get(function) {
                    None => hazards.push(format!(
                        "{of} runs function {function}, which is not IMMUTABLE and not declared in [functions]"
                    )),
                    Some(FunctionDeclaration::Touches { writes, .. }) if !writes.is_empty() => {
                        hazards.push(format!("{of} runs function {function}, which writes"));
                    }
                    Some(FunctionDeclaration::Touches { reads: further, .. }) => reads.extend(further),
                    Some(FunctionDeclaration::PerShard) => {}
                }
            }
            for read in reads {
                if !is_reference(read) {
                    hazards.push(format!("{of} reads {read}, which is not a reference table"));
                } else if let Some(other) = schema.relation(read)
                    && !seen.iter().any(|known| known.name == *read)
                {
                    seen.push(other);
                }
            }
            if policy.of_server {
                hazards.push(format!("{of} asks for what each server knows by itself"));
            }
        }
    }
    hazards
}

/// Foreign keys whose actions assign a column that no shard can compare alone make writes to both their tables unsafe.
fn add_changing_actions(schema: &Schema, tables: &mut [Table]) {
    let mut found: Vec<(TableName, String)> = Vec::new();
    for table in tables.iter().filter(|table| !table.shared.is_empty()) {
        let Some(relation) = schema.relation(&table.name) else {
            continue;
        };
        let below = with_descendants(schema, relation);
        for constraint in below.iter().flat_map(|below| &below.constraints) {
            let ConstraintKind::Foreign { table: other, .. } = &constraint.kind else {
                continue;
            };
            for shared in &table.shared {
                let is_shared = |column: &str| match &shared.generated {
                    Some(generated) => generated == column,
                    None => shared.columns.iter().any(|own| own == column),
                };
                if let Some(action) = changing_action(constraint, is_shared) {
                    let hazard = format!(
                        "foreign key {:?} of {} changes columns of {} {action}, which each shard would check among its own rows only",
                        constraint.name, table.name, shared.shown
                    );
                    found.extend([
                        (table.name.clone(), hazard.clone()),
                        (other.clone(), hazard),
                    ]);
                }
            }
        }
    }
    for (name, hazard) in found {
        if let Some(table) = tables.iter_mut().find(|table| table.name == name)
            && !table.hazards.contains(&hazard)
        {
            table.hazards.push(hazard);
        }
    }
}

/// The action of a foreign key that assigns one of these columns of the referring table.
fn changing_action(constraint: &Constraint, is_one: impl Fn(&str) -> bool) -> Option<&'static str> {
    let ConstraintKind::Foreign {
        on_update,
        on_delete,
        ..
    } = constraint.kind
    else {
        return None;
    };
    if !constraint.columns.iter().any(|column| is_one(column)) {
        return None;
    }
    match (on_update, on_delete) {
        ('c' | 'n' | 'd', _) => Some("ON UPDATE"),
        (_, 'n' | 'd') => Some("ON DELETE"),
        _ => None,
    }
}

/// Why one shard cannot hold `constraint` of a table in a sharded keyspace by itself (DESIGN §5); `None` when it can.
///
/// `placement_of` places the other tables of the keyspace; `unique` says whether a column is unique by construction.
#[must_use]
pub fn constraint_beyond_one_shard(
    placement: &Placement,
    constraint: &Constraint,
    trust: &[String],
    unique: impl Fn(&str) -> bool,
    placement_of: impl Fn(&TableName) -> Option<Placement>,
) -> Option<String> {
    let Placement::Sharded { key } = placement else {
        // A reference table is whole everywhere; it may refer only to what is whole everywhere.
        return match (&constraint.kind, placement) {
            (ConstraintKind::Foreign { table, .. }, Placement::Reference)
                if placement_of(table) != Some(Placement::Reference) =>
            {
                Some(format!(
                    "a reference table cannot refer to {table}, which is not one"
                ))
            }
            _ => None,
        };
    };
    if is_trusted(constraint, trust) {
        return None;
    }
    match &constraint.kind {
        ConstraintKind::Check => None,
        ConstraintKind::Primary | ConstraintKind::Unique | ConstraintKind::UniqueIndex => {
            let has_key = key
                .iter()
                .all(|column| constraint.columns.contains(&column.name));
            let has_unique = constraint.columns.iter().any(|column| unique(column));
            (!has_key && !has_unique).then(|| "it does not contain the sharding key, so each shard would check its own rows only".to_owned())
        }
        ConstraintKind::Exclusion => {
            // WITH = on every key column; the definition prints each as `column WITH =`.
            let has_key = key.iter().all(|column| {
                constraint.columns.contains(&column.name)
                    && constraint.definition.split([',', '(', ')']).any(|part| {
                        part.trim().trim_matches('"').starts_with(&column.name)
                            && part.trim().ends_with("WITH =")
                    })
            });
            (!has_key).then(|| "it does not compare the sharding key WITH =, so each shard would check its own rows only".to_owned())
        }
        ConstraintKind::Foreign { table, columns, .. } => match placement_of(table) {
            Some(Placement::Reference) => None,
            Some(Placement::Sharded { key: other_key })
                if is_key_to_key(key, &constraint.columns, &other_key, columns) =>
            {
                None
            }
            Some(Placement::Sharded { .. }) => Some(format!(
                "it does not lead from sharding key to sharding key of {table}, so the row it refers to may be on another shard"
            )),
            Some(Placement::Unsharded) | None => Some(format!("{table} is not in this keyspace")),
        },
    }
}

fn is_trusted(constraint: &Constraint, trust: &[String]) -> bool {
    trust.iter().any(|trusted| {
        *trusted == constraint.name
            || (!constraint.expressions && *trusted == constraint.columns.join(","))
    })
}

/// Each part of the one key refers to the same part of the other, of the same family.
fn is_key_to_key(
    key: &[KeyColumn],
    columns: &[String],
    other_key: &[KeyColumn],
    other_columns: &[String],
) -> bool {
    key.len() == other_key.len()
        && key.iter().zip(other_key).all(|(mine, theirs)| {
            mine.family == theirs.family
                && columns
                    .iter()
                    .zip(other_columns)
                    .any(|(column, other)| *column == mine.name && *other == theirs.name)
        })
}
