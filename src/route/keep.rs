//! What an answer is made of, and what a statement changes: for the result cache, which is told of nothing that is not
//! certain.
//!
//! In: a bound statement and what its calls ask for. Out: the tables that its answer is a function of ([`Reads`]), or why
//! it is none that can be given again ([`NotKept`]); and the tables whose rows it may change ([`Changes`]).

use crate::route::bind::Binder;
use crate::route::bind::bound::Source;
use crate::route::bind::calls::{Call, CallEffect};
use crate::route::bind::differs::is_zoned_time;
use crate::route::builtin::Effect;
use crate::route::choose::calls::{CallTraits, access_of, traits_of};
use crate::route::choose::context::Context;
use crate::route::implied::text_with_views;
use crate::route::key::Values;
use crate::route::pins::{Analysis, Filling, Keys};
use crate::route::plan::Access;
use crate::route::recipe::{Recipe, Route};
use crate::route::temporary::{is_unseen, unseen};
use crate::statement::parse::parse;
use crate::statement::scan::{Verb, says_time};
use crate::statement::tree::{Name, OnConflict, Statement};
use crate::topology::reach::{Family, Never, Reach, TableReach};
use crate::topology::{FunctionDeclaration, Placement, Table, TableName, Topology};
use smallvec::SmallVec;
use std::sync::Arc;

/// Tables that an answer may be made of.
const TABLES_MAX: usize = 16;

/// Keys of one table that an answer may depend on one by one; with more, it depends on the whole table.
const KEYS_MAX: usize = 8;

/// Views within views that are looked into.
const VIEWS_MAX: usize = 16;

/// Why an answer is not kept, or not looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NotKept {
    /// It writes.
    Writes,
    /// It takes locks.
    Locks,
    /// It is no query, or is run by a way that is not followed.
    Utility,
    /// What it reads is not certain.
    NotUnderstood,
    /// It calls a function whose value changes by itself.
    Volatile,
    /// It calls a function that depends on more than its arguments.
    Stable,
    /// It calls a user's function that is not both IMMUTABLE and declared.
    UserFunction,
    /// It asks for the time.
    Clock,
    /// It reads a system catalog.
    Catalog,
    /// It reads no table.
    NoTable,
    /// It reads too many.
    ManyTables,
    /// It reads a table of which nothing is known.
    Unseen,
    /// It reads a table with row-level security.
    RowSecurity,
    /// It reads an UNLOGGED table.
    Unlogged,
    /// It reads a foreign table.
    Foreign,
    /// It reads a relation of another kind.
    Kind,
    /// Two schemas of the search path have a table that it names.
    Ambiguous,
    /// A hint, or the session's, says where it goes.
    Hinted,
    /// A hint or the configuration says so.
    Asked,
    /// The session's transaction has written, or has failed.
    Transaction,
    /// The transaction reads from one snapshot.
    Isolation,
    /// The session has state on a server: temporary tables and the like.
    SessionState,
    /// It is one of several statements, or a portal that is read in pieces.
    Several,
    /// A write to one of its tables is on its way.
    WriteOnItsWay,
    /// Its answer is larger than one may be.
    TooLarge,
    /// Its answer carried a notice, an error or the like.
    NotPlain,
    /// The cache is out of step with what others write.
    OutOfStep,
    /// Answers of its kind are hardly ever asked for again, and this one has been asked for once.
    Seldom,
    /// Versions are shared with other Keyways, and cannot be had.
    NoVersions,
}

impl NotKept {
    /// All, in order of their numbers.
    pub const ALL: [Self; 29] = [
        Self::Writes,
        Self::Locks,
        Self::Utility,
        Self::NotUnderstood,
        Self::Volatile,
        Self::Stable,
        Self::UserFunction,
        Self::Clock,
        Self::Catalog,
        Self::NoTable,
        Self::ManyTables,
        Self::Unseen,
        Self::RowSecurity,
        Self::Unlogged,
        Self::Foreign,
        Self::Kind,
        Self::Ambiguous,
        Self::Hinted,
        Self::Asked,
        Self::Transaction,
        Self::Isolation,
        Self::SessionState,
        Self::Several,
        Self::WriteOnItsWay,
        Self::TooLarge,
        Self::NotPlain,
        Self::OutOfStep,
        Self::Seldom,
        Self::NoVersions,
    ];

    /// As metrics name it.
    #[must_use]
    pub fn label(self) -> &'static str {
        self.words().0
    }

    /// For people.
    #[must_use]
    pub fn reason(self) -> &'static str {
        self.words().1
    }

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Writes => ("writes", "it writes"),
            Self::Locks => ("locks", "it takes locks"),
            Self::Utility => ("utility", "it is no query"),
            Self::NotUnderstood => ("not_understood", "what it reads is not certain"),
            Self::Volatile => (
                "volatile_function",
                "it calls a function whose value changes by itself",
            ),
            Self::Stable => (
                "stable_function",
                "it calls a function that depends on more than its arguments",
            ),
            Self::UserFunction => (
                "user_function",
                "it calls a user's function that is not IMMUTABLE, or that [functions] does not declare",
            ),
            Self::Clock => ("clock", "it asks for the time, or reads text as one"),
            Self::Catalog => ("catalog", "it reads a system catalog"),
            Self::NoTable => ("no_table", "it reads no table"),
            Self::ManyTables => ("many_tables", "it reads too many tables"),
            Self::Unseen => ("unseen_table", "it reads a table of which nothing is known"),
            Self::RowSecurity => ("row_security", "it reads a table with row-level security"),
            Self::Unlogged => ("unlogged_table", "it reads an UNLOGGED table"),
            Self::Foreign => ("foreign_table", "it reads a foreign table"),
            Self::Kind => (
                "table_kind",
                "it reads a table with rules, or no table at all",
            ),
            Self::Ambiguous => (
                "ambiguous_name",
                "two schemas of the search path have a table that it names",
            ),
            Self::Hinted => ("hinted", "a hint says where it goes"),
            Self::Asked => ("off", "a hint or the configuration says so"),
            Self::Transaction => ("transaction", "its transaction has written"),
            Self::Isolation => ("isolation", "its transaction reads from one snapshot"),
            Self::SessionState => ("session_state", "the session has state on a server"),
            Self::Several => ("several", "it is one of several statements"),
            Self::WriteOnItsWay => ("write_in_flight", "a write to its tables is on its way"),
            Self::TooLarge => ("too_large", "its answer is too large"),
            Self::NotPlain => ("not_plain", "its answer carried more than rows"),
            Self::OutOfStep => ("out_of_step", "the cache is out of step"),
            Self::Seldom => ("seldom", "such answers are hardly ever asked for again"),
            Self::NoVersions => (
                "no_versions",
                "Redis does not say which versions its tables have",
            ),
        }
    }
}

impl From<Never> for NotKept {
    fn from(never: Never) -> Self {
        match never {
            Never::Unseen => Self::Unseen,
            Never::RowSecurity => Self::RowSecurity,
            Never::Unlogged => Self::Unlogged,
            Never::Foreign => Self::Foreign,
            Never::Kind => Self::Kind,
        }
    }
}

/// The tables that an answer is a function of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reads {
    /// Their names, for settings by table.
    pub tables: Vec<TableName>,
    parts: SmallVec<[Part; 2]>,
}

/// One reference to a table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    family: Family,
    /// Whose keys say which rows matter.
    keys: PartKeys,
}

/// Where a reference's keys are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PartKeys {
    /// Nowhere: any row may matter.
    Any,
    /// In the recipe's place of this number.
    Place(usize),
    /// In the recipe's rows to insert.
    Rows,
}

/// The tables whose rows a statement may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    /// None.
    Nothing,
    /// These.
    Parts(Parts),
    /// Any on the shards that it runs on.
    Shards,
    /// Nobody can tell.
    Everything,
    /// As nobody has seen the tables of these names, they may be temporary ones of the session's.
    Temporary {
        /// Without schema.
        names: Vec<String>,
        /// If they are, and the session made them.
        own: Parts,
        /// If not.
        otherwise: Box<Changes>,
    },
}

impl Changes {
    /// Is all that it changes and nobody has seen among these temporary tables of the session's?
    #[must_use]
    pub fn are_of(&self, temporaries: &[Arc<str>]) -> bool {
        let is_own = |name: &String| temporaries.iter().any(|own| **own == **name);
        matches!(self, Self::Temporary { names, .. } if names.iter().all(is_own))
    }

    /// May it change anything anywhere?
    #[must_use]
    pub fn are_unknown(&self, temporaries: &[Arc<str>]) -> bool {
        match self {
            Self::Everything => true,
            Self::Temporary { otherwise, .. } => {
                !self.are_of(temporaries) && otherwise.are_unknown(temporaries)
            }
            Self::Nothing | Self::Parts(_) | Self::Shards => false,
        }
    }
}

/// See [`Changes`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parts(SmallVec<[Part; 2]>);

/// Rows that an execution reads or changes: of one key, or any of the family's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Touch {
    /// Of these tables.
    pub family: Family,
    /// A hash of the sharding key; `None`: any row.
    pub key: Option<u64>,
}

/// What an execution touches.
pub type Touches = SmallVec<[Touch; 2]>;

/// What an execution changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spoils {
    /// Nothing.
    Nothing,
    /// These rows.
    Rows(Touches),
    /// Any on the shards that it runs on.
    Shards,
    /// Nobody can tell.
    Everything,
}

impl Spoils {
    /// What two statements change together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Everything, _) | (_, Self::Everything) => Self::Everything,
            (Self::Shards, _) | (_, Self::Shards) => Self::Shards,
            (Self::Nothing, other) | (other, Self::Nothing) => other,
            (Self::Rows(mut rows), Self::Rows(others)) => {
                rows.extend(others);
                Self::Rows(rows)
            }
        }
    }
}

impl Recipe {
    /// The rows that the answer of an execution is made of. Only for a recipe whose answers are kept.
    #[must_use]
    pub fn touches(&self, reads: &Reads, values: &Values<'_>, topology: &Topology) -> Touches {
        self.touched(&reads.parts, values, topology)
    }

    /// What an execution changes, by a session that has these temporary tables.
    #[must_use]
    pub fn spoils(
        &self,
        values: &Values<'_>,
        topology: &Topology,
        temporaries: &[Arc<str>],
    ) -> Spoils {
        let rows = |parts: &Parts| Spoils::Rows(self.touched(&parts.0, values, topology));
        match &self.changes {
            Changes::Nothing => Spoils::Nothing,
            Changes::Parts(parts) => rows(parts),
            Changes::Shards => Spoils::Shards,
            Changes::Everything => Spoils::Everything,
            Changes::Temporary { own, otherwise, .. } => {
                // Also when there are none: by a snapshot that is newer than this the names may be another table's, which
                // those who have it must hear of.
                match (self.changes.are_of(temporaries), &**otherwise) {
                    (true, _) => rows(own),
                    (false, Changes::Shards) => Spoils::Shards,
                    (false, _) => Spoils::Everything,
                }
            }
        }
    }

    fn touched(&self, parts: &[Part], values: &Values<'_>, topology: &Topology) -> Touches {
        let filling = Filling {
            values,
            untyped: &self.untyped,
            topology,
        };
        let mut touches = Touches::new();
        for part in parts {
            let mut keys = SmallVec::<[u64; 1]>::new();
            let certain = match (&self.route, part.keys) {
                (Route::Keyed(keyed), PartKeys::Place(at)) => keyed
                    .places
                    .get(at)
                    .and_then(|place| place.keys.hashes(&filling, &mut keys)),
                (Route::Keyed(keyed), PartKeys::Rows) => keyed
                    .rows
                    .iter()
                    .try_for_each(|row| row.hashes(&filling, &mut |hash| keys.push(hash))),
                _ => None,
            };
            let family = part.family;
            if certain.is_none() || keys.len() > KEYS_MAX {
                touches.push(Touch { family, key: None });
                continue;
            }
            keys.sort_unstable();
            keys.dedup();
            touches.extend(keys.into_iter().map(|key| Touch {
                family,
                key: Some(key),
            }));
        }
        touches
    }
}

impl Keys {
    /// Hashes of all keys that rows can have; `None` when it could be any. A superset where conditions meet.
    pub(crate) fn hashes(
        &self,
        filling: &Filling<'_>,
        hashes: &mut SmallVec<[u64; 1]>,
    ) -> Option<()> {
        match self {
            Self::All => None,
            Self::Key(set) => set.hashes(filling, &mut |hash| hashes.push(hash)),
            // Any of them is true of every row.
            Self::And(all) => all.iter().find_map(|keys| {
                let before = hashes.len();
                let found = keys.hashes(filling, hashes);
                if found.is_none() {
                    hashes.truncate(before);
                }
                found
            }),
            Self::Or(any) => any.iter().try_for_each(|keys| keys.hashes(filling, hashes)),
        }
    }
}

/// The tables that a bound query's answer is made of.
pub(in crate::route) fn reads(
    binder: &Binder<'_>,
    analysis: &Analysis,
    traits: &CallTraits,
    context: &Context<'_>,
) -> Result<Arc<Reads>, NotKept> {
    match access_of(binder, traits) {
        Access::Read => {}
        Access::Lock => return Err(NotKept::Locks),
        Access::Write | Access::Schema | Access::Upkeep => return Err(NotKept::Writes),
    }
    let mut reading = Reading {
        context,
        reads: Reads {
            tables: Vec::new(),
            parts: SmallVec::new(),
        },
        views: 0,
    };
    reading.bound(binder, Some(analysis))?;
    let mut reads = reading.reads;
    if reads.parts.is_empty() {
        return Err(NotKept::NoTable);
    }
    reads.tables.sort();
    reads.tables.dedup();
    if reads.tables.len() > TABLES_MAX {
        return Err(NotKept::ManyTables);
    }
    Ok(Arc::new(reads))
}

/// Looks for all that an answer depends on.
struct Reading<'a> {
    context: &'a Context<'a>,
    reads: Reads,
    views: usize,
}

impl Reading<'_> {
    fn bound(&mut self, binder: &Binder<'_>, analysis: Option<&Analysis>) -> Result<(), NotKept> {
        let unkept = binder.unkept;
        if let Some(never) = unkept.never {
            return Err(never.into());
        }
        for (is_so, why) in [
            (unkept.clock, NotKept::Clock),
            (unkept.stable, NotKept::Stable),
            (unkept.users, NotKept::UserFunction),
            (unkept.ambiguous, NotKept::Ambiguous),
        ] {
            if is_so {
                return Err(why);
            }
        }
        for call in &binder.calls {
            self.call(call)?;
        }
        for (id, reference) in binder.refs.iter().enumerate() {
            match &reference.source {
                Source::Table { table, .. } => {
                    let place = analysis.and_then(|analysis| {
                        analysis.sharded.iter().position(|p| p.reference == id)
                    });
                    self.table(table, place)?;
                }
                Source::Catalog(_) => return Err(NotKept::Catalog),
                Source::Derived { .. } | Source::Rows => {}
            }
        }
        Ok(())
    }

    fn call(&mut self, call: &Call) -> Result<(), NotKept> {
        match &call.effect {
            CallEffect::BuiltIn(effect) => Err(match effect {
                Effect::Pure => return Ok(()),
                Effect::Stable => NotKept::Stable,
                Effect::Now => NotKept::Clock,
                Effect::Catalog => NotKept::Catalog,
                _ => NotKept::Volatile,
            }),
            CallEffect::Declared(FunctionDeclaration::Touches { reads, writes }, _)
                if writes.is_empty() =>
            {
                for name in reads {
                    let table = self.context.database.tables.get(name);
                    let table = table.cloned().ok_or(NotKept::Unseen)?;
                    self.table(&table, None)?;
                }
                Ok(())
            }
            CallEffect::Unknown | CallEffect::Undeclared | CallEffect::Declared(..) => {
                Err(NotKept::UserFunction)
            }
        }
    }

    fn table(&mut self, table: &Table, place: Option<usize>) -> Result<(), NotKept> {
        if let Some(never) = table.reach.never {
            return Err(never.into());
        }
        if table.reach.read != Reach::Families(Vec::new()) {
            return Err(NotKept::Writes);
        }
        // Whatever is made of it, or compared with it, may be made with the zone as it is today.
        if table.columns.iter().any(|c| is_zoned_time(&c.stored_as)) {
            return Err(NotKept::Clock);
        }
        self.reads.tables.push(table.name.clone());
        if let Some(definition) = table.view.as_ref().filter(|_| table.kind == 'v') {
            return self.view(definition);
        }
        self.reads.parts.push(Part {
            family: table.reach.family,
            keys: place.map_or(PartKeys::Any, PartKeys::Place),
        });
        Ok(())
    }

    fn view(&mut self, definition: &str) -> Result<(), NotKept> {
        self.views += 1;
        if self.views > VIEWS_MAX {
            return Err(NotKept::ManyTables);
        }
        // A literal of the definition stands in its text, where nobody looks for 'now'.
        if says_time(definition.as_bytes()) {
            return Err(NotKept::Clock);
        }
        let bound = in_view(definition, self.context, |binder, traits| {
            if access_of(binder, traits) != Access::Read {
                return Err(NotKept::Writes);
            }
            self.bound(binder, None)
        });
        bound.unwrap_or(Err(NotKept::NotUnderstood))
    }
}

/// A view's definition, bound. It names all with their schemas. `None` when it is not understood.
fn in_view<T>(
    definition: &str,
    context: &Context<'_>,
    look: impl FnOnce(&Binder<'_>, &CallTraits) -> T,
) -> Option<T> {
    let text = definition.trim().trim_end_matches(';');
    let Ok(Statement::Query(query)) = parse(text, Verb::Select) else {
        return None;
    };
    let context = Context {
        search_path: &[],
        shape: text,
        verb: Verb::Select,
        ..*context
    };
    let mut binder = Binder::new(&context);
    binder.query(&query).ok()?;
    let traits = traits_of(&mut binder, &context);
    Some(look(&binder, &traits))
}

/// What a bound statement changes. `rows`: the keys of the target's rows are those that are inserted.
pub(in crate::route) fn changes(
    tree: Option<&Statement>,
    binder: &Binder<'_>,
    analysis: Option<&Analysis>,
    traits: &CallTraits,
    context: &Context<'_>,
) -> Changes {
    let mut changing = Changing {
        context,
        parts: Parts::default(),
        any: false,
        everything: false,
        views: 0,
    };
    changing.by_calls(traits);
    changing.by_ambiguity(binder);
    let mut unseen_names = Vec::new();
    let is_target = |source: &Source| matches!(source, Source::Table { write: true, .. });
    let targets = binder.refs.iter().filter(|r| is_target(&r.source)).count();
    // What is done to the target of a WITH entry is not what the statement does to its own.
    let tree = tree.filter(|_| targets == 1);
    for (id, reference) in binder.refs.iter().enumerate() {
        let Source::Table { table, write } = &reference.source else {
            continue;
        };
        if binder.bare.contains(&id) && is_unseen(table, context) {
            unseen_names.push(table.name.name.clone());
            continue;
        }
        changing.by_reading(table);
        if *write {
            let keys = keys_of_target(tree, table, id, analysis);
            changing.target(tree, table, keys);
        }
    }
    match changing {
        Changing {
            everything: true, ..
        } => Changes::Everything,
        Changing { any: true, .. } => Changes::Shards,
        Changing { parts, .. } if !unseen_names.is_empty() => {
            own_or(unseen_names, parts, Changes::Shards)
        }
        Changing { parts, .. } if parts.0.is_empty() && !binder.writes => Changes::Nothing,
        // A write without a table that is known.
        Changing { parts, .. } if parts.0.is_empty() => Changes::Shards,
        Changing { parts, .. } => Changes::Parts(parts),
    }
}

/// Tables that nobody has seen are changed, and these parts.
pub(in crate::route) fn own_or(names: Vec<String>, own: Parts, otherwise: Changes) -> Changes {
    Changes::Temporary {
        names,
        own,
        otherwise: Box::new(otherwise),
    }
}

/// A table that a COPY fills.
pub(crate) fn copied(name: &Name, table: &Table, context: &Context<'_>) -> Changes {
    if let Some(name) = unseen(name, context) {
        return own_or(vec![name], Parts::default(), Changes::Shards);
    }
    let mut parts = Parts::default();
    if add(
        &mut parts,
        &table.reach,
        [&table.reach.insert],
        PartKeys::Any,
    ) {
        Changes::Parts(parts)
    } else {
        Changes::Shards
    }
}

/// Where the keys of a write's rows are.
fn keys_of_target(
    tree: Option<&Statement>,
    table: &Table,
    reference: usize,
    analysis: Option<&Analysis>,
) -> PartKeys {
    let place = || {
        let analysis = analysis?;
        let at = analysis
            .sharded
            .iter()
            .position(|placed| placed.reference == reference)?;
        Some(PartKeys::Place(at))
    };
    match tree {
        Some(Statement::Update(_) | Statement::Delete(_)) => place().unwrap_or(PartKeys::Any),
        Some(Statement::Insert(insert)) => {
            let own_keys = match insert.on_conflict {
                // The row that is there already has the same key, if every unique constraint contains it.
                Some(OnConflict::Update { .. }) => {
                    table.shared.is_empty() && table.trust.is_empty()
                }
                Some(OnConflict::Nothing) | None => true,
            };
            let is_sharded = matches!(table.placement, Placement::Sharded { .. });
            if own_keys && is_sharded && place().is_none() {
                PartKeys::Rows
            } else {
                PartKeys::Any
            }
        }
        _ => PartKeys::Any,
    }
}

/// Looks for all that a statement may change.
struct Changing<'a> {
    context: &'a Context<'a>,
    parts: Parts,
    /// Anything on its shards.
    any: bool,
    /// Nobody can tell.
    everything: bool,
    views: usize,
}

impl Changing<'_> {
    /// Of a name that two schemas of the search path have, any table may be the one that is read, and so may run what it runs.
    fn by_ambiguity(&mut self, binder: &Binder<'_>) {
        self.any |= binder.unkept.ambiguous_target;
        let tables = &self.context.database.tables;
        for name in &binder.ambiguous {
            let namesakes = self.context.search_path.iter().filter_map(|schema| {
                tables.get(&TableName {
                    schema: schema.clone(),
                    name: name.clone(),
                })
            });
            namesakes.for_each(|table| self.by_reading(table));
        }
    }

    /// Functions that it calls.
    fn by_calls(&mut self, traits: &CallTraits) {
        self.everything |= traits.is_opaque();
        for (_, writes) in &traits.touches {
            for name in writes {
                self.by_function(name);
            }
        }
    }

    /// A table that it reads, or writes. A view runs what its definition says, and so may its tables' policies.
    fn by_reading(&mut self, table: &Table) {
        self.any |= !reached(&mut self.parts, &table.reach.read);
        let Some(definition) = table.view.as_ref().filter(|_| table.kind == 'v') else {
            return;
        };
        self.views += 1;
        let understood = self.views <= VIEWS_MAX
            && in_view(definition, self.context, |binder, traits| {
                self.by_calls(traits);
                for reference in &binder.refs {
                    if let Source::Table { table, .. } = &reference.source {
                        self.by_reading(table);
                    }
                }
            })
            .is_some();
        if !understood {
            self.by_words(definition);
        }
    }

    /// A view whose definition is not understood runs what it names, at most.
    fn by_words(&mut self, definition: &str) {
        let database = self.context.database;
        let text = text_with_views(definition, database);
        for function in database.functions.values().flatten() {
            if !text.contains(&function.name.name.to_lowercase()) {
                continue;
            }
            match &function.declared {
                Some(FunctionDeclaration::Touches { writes, .. }) => {
                    writes.iter().for_each(|name| self.by_function(name));
                }
                Some(FunctionDeclaration::PerShard) => {
                    self.everything |= function.volatility == 'v';
                }
                None => self.everything |= function.volatility != 'i',
            }
        }
        for table in database.tables.values() {
            self.any |= !reached(&mut self.parts, &table.reach.read);
        }
    }

    /// A statement's target.
    fn target(&mut self, tree: Option<&Statement>, table: &Table, keys: PartKeys) {
        let reach = &table.reach;
        // Its rows, or a partition's, may be another shard's.
        self.everything |= table.kind == 'f' || reach.never == Some(Never::Foreign);
        let known = match tree {
            Some(Statement::Insert(insert)) => match insert.on_conflict {
                Some(OnConflict::Update { .. }) => {
                    add(&mut self.parts, reach, [&reach.insert, &reach.update], keys)
                }
                Some(OnConflict::Nothing) | None => {
                    add(&mut self.parts, reach, [&reach.insert], keys)
                }
            },
            Some(Statement::Update(_)) => add(&mut self.parts, reach, [&reach.update], keys),
            Some(Statement::Delete(_)) => add(&mut self.parts, reach, [&reach.delete], keys),
            _ => add(&mut self.parts, reach, all_of(reach), PartKeys::Any),
        };
        self.any |= !known;
    }

    /// A table that a declared function writes to.
    fn by_function(&mut self, name: &TableName) {
        let known = self.context.database.tables.get(name).is_some_and(|table| {
            let reach = &table.reach;
            add(&mut self.parts, reach, all_of(reach), PartKeys::Any)
        });
        self.any |= !known;
    }
}

fn all_of(reach: &TableReach) -> [&Reach; 3] {
    [&reach.insert, &reach.update, &reach.delete]
}

/// Adds a table and what writing to it reaches; `false` when that may be anything.
fn add<'r>(
    parts: &mut Parts,
    own: &TableReach,
    reached: impl IntoIterator<Item = &'r Reach>,
    keys: PartKeys,
) -> bool {
    parts.0.push(Part {
        family: own.family,
        keys,
    });
    reached.into_iter().all(|reach| self::reached(parts, reach))
}

/// Adds what is reached; `false` when that may be anything.
fn reached(parts: &mut Parts, reach: &Reach) -> bool {
    let Reach::Families(families) = reach else {
        return false;
    };
    parts.0.extend(families.iter().map(|family| Part {
        family: *family,
        keys: PartKeys::Any,
    }));
    true
}
