//! Binding: which table every name means, at every depth, and what must hold for its rows.
//!
//! In: a tree and the topology's names. Out: references ([`Ref`]), the columns that matter ([`Node`]), the conditions
//! that must hold ([`Conjunct`]) and the shape of the joins and subqueries ([`bound::Block`]). `pins` reads them.
//! What cannot be resolved for certain yields no condition, so it can only widen the route.
//!
//! Reading order: `bound` (the result), `scope` (the names in sight), `query`, `with`, `from` and `write` (statements
//! and their parts), `tables` and `columns` (what a name means), `facts` (what holds for a query's rows), `conditions`
//! and `constants` (what a WHERE says), `expressions` (whatever else stands in one: `calls`, `differs`, `params`),
//! `stored` (what a write puts into its columns), `unique` (may it put there what other shards may have).

pub(super) mod bound;
pub(super) mod calls;
mod columns;
mod conditions;
pub(super) mod constants;
pub(super) mod differs;
mod expressions;
mod facts;
mod from;
mod params;
mod query;
mod scope;
pub(super) mod stored;
pub(super) mod tables;
mod unique;
mod with;
mod write;

use crate::route::bind::bound::{BoundQuery, Conjunct, Node, NodeId, Ref, RefId};
use crate::route::bind::calls::Call;
use crate::route::bind::differs::TimeTexts;
use crate::route::bind::expressions::{Bag, Place};
use crate::route::bind::params::ParamUse;
use crate::route::bind::query::Traits;
use crate::route::bind::scope::Scope;
use crate::route::bind::stored::KeyWrite;
use crate::route::choose::context::Context;
use crate::route::error::RouteError;
use crate::route::key::is_certain_type;
use crate::statement::tree::{Expr, Query, Statement};
use crate::topology::KeyFamily;
use crate::topology::reach::Never;
use std::collections::{HashMap, HashSet};

/// References one statement may have, with views and WITH entries expanded.
const REFS_MAX: usize = 512;

/// How deep a statement may nest, with views and WITH entries expanded: a query counts [`QUERY_DEPTH`], an arm of a set
/// operation, a join and a level of an expression one. It bounds the stack.
const DEPTH_MAX: usize = 384;

/// What a nested query adds.
const QUERY_DEPTH: usize = 6;

/// What is of no concern to the route, but to whoever would give an answer again.
#[derive(Debug, Clone, Copy, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one thing that may be found, none is a state of another"
)]
pub(crate) struct Unkept {
    /// A name without schema that two schemas of the search path have: which one is meant is a matter of privileges.
    pub(crate) ambiguous: bool,
    /// Such a name is what the statement writes to.
    pub(crate) ambiguous_target: bool,
    /// A function of PostgreSQL's that depends on more than its arguments and the session's settings.
    pub(crate) stable: bool,
    /// A user's function that is not declared, or not called IMMUTABLE: its value may change by itself.
    pub(crate) users: bool,
    /// Text that may say 'now' is read as a time, or stands where nobody looks at it when it is given.
    pub(crate) clock: bool,
    /// A view that has been looked into is one of these.
    pub(crate) never: Option<Never>,
}

/// The binder's state.
pub(crate) struct Binder<'c> {
    context: &'c Context<'c>,
    /// References.
    pub(crate) refs: Vec<Ref>,
    /// Columns.
    pub(crate) nodes: Vec<Node>,
    /// Conditions.
    pub(crate) conds: Vec<Conjunct>,
    /// Function calls that matter.
    pub(crate) calls: Vec<Call>,
    /// Parameters.
    params: HashMap<u16, ParamUse>,
    /// WITH entries that are placed on their own.
    pub(crate) separate: Vec<BoundQuery>,
    /// Key columns that are set.
    pub(crate) key_writes: Vec<KeyWrite>,
    /// The first write that could give a row what a row of another shard has, and must not; or the first type that may
    /// be another than it is taken for.
    pub(crate) unchecked: Option<RouteError>,
    /// FOR UPDATE and kin anywhere.
    pub(crate) locking: bool,
    /// SELECT … INTO, or a data-modifying statement.
    pub(crate) writes: bool,
    /// Texts that could say 'now' and reach the answer.
    pub(crate) time_casts: TimeTexts,
    /// What makes its answer one that cannot be kept.
    pub(crate) unkept: Unkept,
    /// References to tables that are named without a schema.
    pub(crate) bare: HashSet<RefId>,
    /// The names that two schemas of the search path have, as far as they are read.
    pub(crate) ambiguous: Vec<String>,
    traits: Vec<Traits>,
    depth: usize,
}

impl<'c> Binder<'c> {
    /// A binder for one statement.
    pub(crate) fn new(context: &'c Context<'c>) -> Self {
        Self {
            context,
            refs: Vec::new(),
            nodes: Vec::new(),
            conds: Vec::new(),
            calls: Vec::new(),
            params: HashMap::new(),
            separate: Vec::new(),
            key_writes: Vec::new(),
            unchecked: None,
            locking: false,
            writes: false,
            time_casts: TimeTexts::default(),
            unkept: Unkept::default(),
            bare: HashSet::new(),
            ambiguous: Vec::new(),
            traits: vec![Traits::default()],
            depth: 0,
        }
    }

    /// Binds a top-level query.
    pub(crate) fn query(&mut self, query: &Query) -> Result<BoundQuery, RouteError> {
        self.bind_query(query, &Scope::root())
    }

    /// Visits expressions that stand in no query.
    pub(crate) fn alone(&mut self, exprs: &[Expr]) -> Result<(), RouteError> {
        let mut children = Vec::new();
        exprs.iter().try_for_each(|expr| {
            let mut bag = Bag::apart(&mut children);
            self.visit(expr, &Scope::root(), Place::Output, &mut bag)
        })
    }

    /// Binds INSERT, UPDATE, DELETE or MERGE.
    pub(crate) fn modifying(&mut self, statement: &Statement) -> Result<BoundQuery, RouteError> {
        self.bind_modifying(statement, &Scope::root())
    }

    /// A type's name is taken for PostgreSQL's own. Where the `search_path` has another schema in front of pg_catalog,
    /// that may have one of the same name.
    fn type_is_certain(&mut self, written: &str) {
        let path = self.context.search_path;
        let behind = path.iter().position(|schema| schema == "pg_catalog");
        if behind.is_some_and(|at| at > 0) && !is_certain_type(written) {
            self.unchecked.get_or_insert_with(|| RouteError::OneShardOnly {
                what: "a type that another schema than pg_catalog may have".to_owned(),
                reason: format!(
                    "Type {written}: the search_path names pg_catalog behind another schema; name it first, or write pg_catalog.{written}"
                ),
            });
        }
    }

    fn deeper(&mut self, by: usize) -> Result<(), RouteError> {
        self.depth += by;
        if self.depth > DEPTH_MAX {
            return Err(RouteError::TooComplex {
                reason: "it nests too deep, with what its views and WITH entries stand for"
                    .to_owned(),
            });
        }
        Ok(())
    }

    fn add_ref(&mut self, reference: Ref) -> Result<RefId, RouteError> {
        if self.refs.len() >= REFS_MAX {
            return Err(RouteError::TooComplex {
                reason: format!("more than {REFS_MAX} table references"),
            });
        }
        self.refs.push(reference);
        Ok(self.refs.len() - 1)
    }

    fn add_node(&mut self, reference: RefId, name: String, family: Option<KeyFamily>) -> NodeId {
        self.nodes.push(Node {
            reference,
            name,
            family,
        });
        self.nodes.len() - 1
    }
}
