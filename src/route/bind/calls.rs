//! Function calls, in whichever notation: what they do, and which block's aggregates they are.

use crate::route::bind::Binder;
use crate::route::bind::differs::{SYSTEM_COLUMNS, is_made_text, is_time};
use crate::route::bind::expressions::{Bag, Place};
use crate::route::bind::scope::Scope;
use crate::route::builtin::{self, Effect};
use crate::route::error::RouteError;
use crate::route::merge::walk;
use crate::statement::tree::{Expr, FunctionCall, Name};
use crate::topology::{FunctionDeclaration, TableName};

/// A function call that matters.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// Its name.
    pub(crate) name: String,
    /// What it does.
    pub(crate) effect: CallEffect,
    /// Its value can reach the answer.
    pub(crate) output: bool,
}

/// What a call does.
#[derive(Debug, Clone)]
pub(crate) enum CallEffect {
    /// PostgreSQL's own.
    BuiltIn(Effect),
    /// Nothing of that name is known: PostgreSQL refuses it, or is newer than we.
    Unknown,
    /// A user's, not IMMUTABLE and not declared.
    Undeclared,
    /// A user's, declared.
    Declared(FunctionDeclaration, bool),
}

impl Binder<'_> {
    pub(super) fn visit_call(
        &mut self,
        call: &FunctionCall,
        here: &Scope<'_>,
        place: Place,
        bag: &mut Bag<'_>,
    ) -> Result<(), RouteError> {
        let exprs = call
            .args
            .iter()
            .chain(&call.filter)
            .chain(&call.order_by)
            .chain(call.over.iter().flatten());
        for expr in exprs {
            self.visit(expr, here, place, bag)?;
        }
        if is_time(&call.name.name) {
            self.unkept.clock |= call.args.iter().any(|arg| self.may_say_time(arg, here));
            if place == Place::Output && call.args.iter().any(is_made_text) {
                self.differs(&call.name.name, place);
            }
        }
        let aggregate = self.call(&call.name, place);
        if call.over.is_some() {
            // A window function is of the block it is written in.
            if let Some(traits) = self.traits.last_mut() {
                traits.windows = true;
            }
        } else if aggregate {
            self.aggregates(&call.name.name, self.is_of_own_block(call, here));
        }
        Ok(())
    }

    /// A column may be none: `t.f`, where t has no column f, is the call f(t) (manual, 38.5.3).
    pub(super) fn visit_column(
        &mut self,
        qualifier: &[String],
        name: &str,
        here: &Scope<'_>,
        place: Place,
    ) {
        if SYSTEM_COLUMNS.contains(&name) && !self.is_known(qualifier, name, here) {
            self.differs(name, place);
            return;
        }
        if name == "*" || qualifier.is_empty() {
            return;
        }
        // A database's name may stand in front.
        let qualifier = &qualifier[qualifier.len().saturating_sub(2)..];
        let Some(leaf) = self.leaf_named(qualifier, here) else {
            return;
        };
        let call = match self.has_column(leaf, name) {
            Some(has) => !has,
            // What a catalog has is not known here; a column of the name of an aggregate it has not.
            None => self.is_callable(name),
        };
        if call {
            let own = self.is_of_level(qualifier, name, here);
            self.visit_notation(name, own, place);
        }
    }

    /// A call in functional notation.
    pub(super) fn visit_notation(&mut self, name: &str, own: bool, place: Place) {
        let function = Name {
            schema: None,
            name: name.to_owned(),
        };
        if self.call(&function, place) {
            self.aggregates(name, own);
            // The merge planner takes it for a column.
            self.differs(name, place);
        }
    }

    /// Records a call; says whether it may be an aggregate.
    pub(super) fn call(&mut self, name: &Name, place: Place) -> bool {
        if name.name.is_empty() {
            return false;
        }
        let own = name
            .schema
            .as_deref()
            .is_none_or(|schema| schema == "pg_catalog");
        let built_in = if own {
            builtin::effect(&name.name)
        } else {
            None
        };
        let mut record = |effect: CallEffect| {
            let output = place == Place::Output;
            self.calls.push(Call {
                name: name.name.clone(),
                effect,
                output,
            });
        };
        self.unkept.stable |=
            built_in == Some(Effect::Stable) && !builtin::follows_settings(&name.name);
        self.unkept.clock |= own && builtin::reads_data(&name.name);
        let mut aggregate = own && builtin::is_aggregate(&name.name);
        if let Some(effect) = built_in
            && effect != Effect::Pure
            && effect != Effect::Stable
        {
            record(CallEffect::BuiltIn(effect));
        }
        let database = self.context.database;
        let schemas: Vec<&str> = match &name.schema {
            Some(schema) => vec![schema],
            None => self
                .context
                .search_path
                .iter()
                .map(String::as_str)
                .collect(),
        };
        let mut known = built_in.is_some();
        let mut users = false;
        for schema in schemas {
            let key = TableName {
                schema: schema.to_owned(),
                name: name.name.clone(),
            };
            for function in database.functions.get(&key).into_iter().flatten() {
                known = true;
                aggregate |= function.kind == 'a';
                match &function.declared {
                    Some(declared) => {
                        users |= function.volatility != 'i';
                        record(CallEffect::Declared(
                            declared.clone(),
                            function.volatility == 'v',
                        ));
                    }
                    None if function.volatility == 'i' => users = true,
                    None => record(CallEffect::Undeclared),
                }
            }
        }
        if !known {
            record(CallEffect::Unknown);
            // It could be an aggregate of a newer PostgreSQL.
            aggregate = true;
        }
        self.unkept.users |= users;
        aggregate
    }

    /// Is something of that name an aggregate, or not PostgreSQL's own?
    pub(super) fn is_callable(&self, name: &str) -> bool {
        let functions = &self.context.database.functions;
        builtin::is_aggregate(name)
            || self.context.search_path.iter().any(|schema| {
                functions.contains_key(&TableName {
                    schema: schema.clone(),
                    name: name.to_owned(),
                })
            })
    }

    /// Notes an aggregate in the block it is written in, and, unless it is surely of that one, in every block around it.
    fn aggregates(&mut self, name: &str, own: bool) {
        let first = if own {
            self.traits.len().saturating_sub(1)
        } else {
            0
        };
        for traits in self.traits.iter_mut().skip(first) {
            traits.aggregates = true;
            traits.order_sensitive |= !builtin::is_order_free(name);
        }
    }

    /// An aggregate is of the innermost block that one of its columns is from (manual, 4.2.7): is it surely this one?
    fn is_of_own_block(&self, call: &FunctionCall, here: &Scope<'_>) -> bool {
        let (mut columns, mut queries, mut own) = (0, 0, false);
        for part in walk::function_parts(call) {
            let mut visit = |expr: &Expr| {
                if let Expr::Column { qualifier, name } = expr {
                    columns += 1;
                    own |= self.is_of_level(qualifier, name, here);
                }
            };
            walk::expression(part, &mut visit, &mut |_| queries += 1);
        }
        own || columns + queries == 0
    }
}
