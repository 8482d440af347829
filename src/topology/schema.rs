//! What one shard's system catalogs say: plain values, read by `catalog`, turned into tables by `build`.

use crate::topology::{ImpliedBy, TableName};

/// One shard's schema.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Schema {
    /// Tables, views and their like.
    pub relations: Vec<Relation>,
    /// User-defined functions.
    pub routines: Vec<Routine>,
    /// Operators with the functions behind them that are a user's and not IMMUTABLE.
    pub operators: Vec<(String, TableName)>,
    /// Types whose casts, defaults or CHECKs run such functions.
    pub typed_calls: Vec<TypedCall>,
    /// User-defined types with their OIDs: schema-qualified name, arrays as the element's name and `[]`.
    pub types: Vec<(String, u32)>,
    /// Enum types by schema-qualified name, with their labels in order.
    pub enums: Vec<(String, Vec<String>)>,
    /// Indexes and sequences.
    pub attached: Vec<TableName>,
    /// The database's default collation is C or POSIX.
    pub collation_is_c: bool,
    /// The database's default collation, as the provider names it.
    pub collation: String,
    /// The database's encoding.
    pub encoding: String,
    /// The server's version as `server_version_num`.
    pub version: i32,
    /// The server follows another (it is a standby).
    pub in_recovery: bool,
    /// It has event triggers that are on: a change of the schema may do anything.
    pub event_triggers: bool,
    /// Changes with every change of the schema.
    pub fingerprint: String,
    /// `max_connections` less the reserved ones.
    pub connections_max: i64,
}

impl Schema {
    /// The relation of this name.
    #[must_use]
    pub fn relation(&self, name: &TableName) -> Option<&Relation> {
        self.relations
            .iter()
            .find(|relation| &relation.name == name)
    }
}

/// A table, view, matview, foreign table or partition.
#[derive(Debug, Clone, PartialEq)]
pub struct Relation {
    /// Its name.
    pub name: TableName,
    /// pg_class.relkind.
    pub kind: char,
    /// pg_class.relpersistence.
    pub persistence: char,
    /// Its columns in order.
    pub columns: Vec<ColumnFacts>,
    /// Primary keys, unique and exclusion constraints, foreign keys, and unique indexes that are no constraint.
    pub constraints: Vec<Constraint>,
    /// Triggers that are neither PostgreSQL's own nor Keyway's.
    pub triggers: Vec<Trigger>,
    /// Rewrite rules other than a view's own.
    pub rules: Vec<Rule>,
    /// A view's definition.
    pub view: Option<String>,
    /// Row-level security is on.
    pub row_security: bool,
    /// Its policies, on or off.
    pub policies: Vec<Policy>,
    /// The tables it is a partition of or inherits from.
    pub parents: Vec<TableName>,
    /// Users' functions, not IMMUTABLE, that its defaults and CHECKs run, and those of its columns' types.
    pub calls: Vec<TableName>,
}

/// A row-level security policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// For which commands and roles it is, and its expressions as `pg_get_expr` prints them.
    pub definition: String,
    /// What its expressions read besides the row.
    pub reads: Vec<TableName>,
    /// Users' functions, not IMMUTABLE, that its expressions run.
    pub calls: Vec<TableName>,
    /// Its expressions ask for what each server knows by itself: a system catalog, its database's name, chance.
    pub of_server: bool,
}

/// A column as one shard has it.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnFacts {
    /// Its name.
    pub name: String,
    /// Its type's OID on this shard.
    pub type_oid: u32,
    /// The base type's OID on this shard, when it is a domain; else the same.
    pub base_oid: u32,
    /// As `format_type` prints it.
    pub type_name: String,
    /// The base type with its length or precision, when it is a domain; else as `type_name`.
    pub stored_as: String,
    /// NOT NULL.
    pub not_null: bool,
    /// Its default as `pg_get_expr` prints it.
    pub default: Option<String>,
    /// `a`, `d` (identity) or `s` (generated).
    pub generated: Option<char>,
    /// Its collation sorts by bytes, or its type has none.
    pub collation_is_c: bool,
    /// Equal means equal bytes under its collation.
    pub deterministic: bool,
    /// The sequence it owns.
    pub sequence: Option<SequenceFacts>,
}

/// A column's sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceFacts {
    /// Its name.
    pub name: TableName,
    /// Least value.
    pub min: i64,
    /// Greatest value.
    pub max: i64,
    /// Step.
    pub increment: i64,
    /// Starts over at the end.
    pub cycle: bool,
}

/// A constraint or unique index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constraint {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: ConstraintKind,
    /// Its columns, in order; expressions are left out.
    pub columns: Vec<String>,
    /// It has expressions besides the columns.
    pub expressions: bool,
    /// As PostgreSQL prints it.
    pub definition: String,
}

/// What a constraint is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConstraintKind {
    /// PRIMARY KEY.
    Primary,
    /// UNIQUE.
    Unique,
    /// A unique index that is no constraint.
    UniqueIndex,
    /// EXCLUDE.
    Exclusion,
    /// FOREIGN KEY.
    Foreign {
        /// The referenced table.
        table: TableName,
        /// Its columns, in order.
        columns: Vec<String>,
        /// pg_constraint.confupdtype.
        on_update: char,
        /// pg_constraint.confdeltype.
        on_delete: char,
    },
    /// CHECK: one shard can always hold it; kept to compare shards.
    Check,
}

/// A trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// Its name.
    pub name: String,
    /// The function it runs.
    pub function: TableName,
    /// `BEFORE`, `AFTER` or `INSTEAD OF`.
    pub timing: &'static str,
    /// What it runs at.
    pub events: Vec<TriggerEvent>,
    /// Users' functions, not IMMUTABLE, that its WHEN runs.
    pub calls: Vec<TableName>,
    /// As `pg_get_triggerdef` prints it.
    pub definition: String,
}

/// What a trigger runs at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TriggerEvent {
    /// INSERT.
    Insert,
    /// UPDATE, of whatever columns.
    Update,
    /// DELETE.
    Delete,
    /// TRUNCATE.
    Truncate,
}

impl TriggerEvent {
    /// What a pg_trigger.tgtype says. One that says nothing known may run at anything.
    #[must_use]
    pub fn of_bits(bits: i16) -> Vec<Self> {
        let all = [
            (4, Self::Insert),
            (8, Self::Delete),
            (16, Self::Update),
            (32, Self::Truncate),
        ];
        let known = all.iter().any(|(bit, _)| bits & bit != 0);
        all.iter()
            .filter(|(bit, _)| !known || bits & bit != 0)
            .map(|(_, event)| *event)
            .collect()
    }
}

/// A rewrite rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// pg_rewrite.ev_type: `1` SELECT, `2` UPDATE, `3` INSERT, `4` DELETE.
    pub event: char,
}

/// A user-defined function.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Routine {
    /// Its name.
    pub name: TableName,
    /// Its identity arguments.
    pub arguments: String,
    /// pg_proc.provolatile.
    pub volatility: char,
    /// pg_proc.prokind.
    pub kind: char,
    /// The md5 of its definition, to compare shards; `None` for an aggregate.
    pub definition_md5: Option<String>,
}

/// A user's function, not IMMUTABLE, that a type runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TypedCall {
    /// The type's bare name.
    pub type_name: String,
    /// The function.
    pub function: TableName,
    /// When it runs.
    pub by: ImpliedBy,
}
