//! The walk through an expression: its subqueries are bound, its calls and parameters noted.

use crate::route::bind::Binder;
use crate::route::bind::bound::Child;
use crate::route::bind::differs::{
    SYSTEM_COLUMNS, holds_no_time, is_made_text, is_shown_by, is_time, is_zoned_time, object_parts,
};
use crate::route::bind::scope::Scope;
use crate::route::error::RouteError;
use crate::route::key::{ConstantType, element_type_named, type_named};
use crate::statement::scan::says_time;
use crate::statement::tree::{Expr, Query};

/// Where an expression stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Its value can reach the answer.
    Output,
    /// WHERE or ON of an inner join.
    Filter,
    /// ON of an outer join.
    On,
}

/// Where subqueries of an expression are put.
pub(super) struct Bag<'b> {
    pub(super) children: &'b mut Vec<Child>,
    pub(super) sees_outer: bool,
}

impl<'b> Bag<'b> {
    /// Their outer row satisfies the block's conditions.
    pub(super) fn new(children: &'b mut Vec<Child>) -> Self {
        Self {
            children,
            sees_outer: true,
        }
    }

    /// Nothing is known of their outer row.
    pub(super) fn apart(children: &'b mut Vec<Child>) -> Self {
        Self {
            children,
            sees_outer: false,
        }
    }
}

impl Binder<'_> {
    /// Walks an expression for subqueries, functions and parameters.
    pub(super) fn visit(
        &mut self,
        expr: &Expr,
        here: &Scope<'_>,
        place: Place,
        bag: &mut Bag<'_>,
    ) -> Result<(), RouteError> {
        self.deeper(1)?;
        self.visit_parts(expr, here, place, bag)?;
        self.depth -= 1;
        Ok(())
    }

    fn visit_parts(
        &mut self,
        expr: &Expr,
        here: &Scope<'_>,
        place: Place,
        bag: &mut Bag<'_>,
    ) -> Result<(), RouteError> {
        match expr {
            Expr::Column { qualifier, name } => {
                self.visit_column(qualifier, name, here, place);
                Ok(())
            }
            Expr::Literal(index) => {
                if place == Place::Output {
                    self.time_casts.literals.push(*index);
                }
                Ok(())
            }
            Expr::String(text) => {
                self.unkept.clock |= says_time(text.as_bytes());
                if place == Place::Output && says_time(text.as_bytes()) {
                    self.time_casts.unseen = true;
                }
                Ok(())
            }
            Expr::Null | Expr::Bool(_) | Expr::Number(_) | Expr::Default => Ok(()),
            Expr::Field { expr: inner, name } => {
                if SYSTEM_COLUMNS.contains(&name.as_str()) {
                    self.differs(name, place);
                }
                if self.is_callable(name) {
                    self.visit_notation(name, false, place);
                }
                self.visit(inner, here, place, bag)
            }
            Expr::Param(number) => {
                self.params.entry(*number).or_default().total += 1;
                if place == Place::Output {
                    self.time_casts.params.push(*number);
                }
                Ok(())
            }
            // A string that is not taken apart.
            Expr::Other(parts) if parts.is_empty() => {
                self.unkept.clock = true;
                self.time_casts.unseen |= place == Place::Output;
                Ok(())
            }
            Expr::And(parts)
            | Expr::Or(parts)
            | Expr::Array(parts)
            | Expr::Row(parts)
            | Expr::Case(parts)
            | Expr::Other(parts) => parts
                .iter()
                .try_for_each(|part| self.visit(part, here, place, bag)),
            Expr::Not(inner) | Expr::Negate(inner) | Expr::Collate { expr: inner, .. } => {
                self.visit(inner, here, place, bag)
            }
            Expr::IsNull { expr: inner, .. } => self.visit(inner, here, place, bag),
            Expr::Cast {
                expr: inner,
                data_type,
            } => {
                self.type_is_certain(data_type);
                if is_shown_by(data_type)
                    && let Some(parts) = object_parts(inner)
                {
                    return parts
                        .iter()
                        .try_for_each(|part| self.visit(part, here, place, bag));
                }
                if object_parts(expr).is_some() {
                    self.differs(data_type, place);
                }
                if let ConstantType::Family(family) = type_named(data_type) {
                    self.mark_param(inner, Some(family));
                } else if let ConstantType::Family(family) = element_type_named(data_type) {
                    self.mark_param(inner, Some(family));
                    if let Expr::Array(parts) = inner.as_ref() {
                        parts
                            .iter()
                            .for_each(|part| self.mark_param(part, Some(family)));
                    }
                }
                self.unkept.clock |= is_zoned_time(data_type)
                    || (is_time(data_type) || !holds_no_time(data_type))
                        && self.may_say_time(inner, here);
                if place == Place::Output && is_time(data_type) {
                    self.time_casts.unseen = true;
                    if is_made_text(inner) {
                        self.differs(data_type, place);
                    }
                }
                self.visit(inner, here, place, bag)
            }
            Expr::Binary { op, left, right } => {
                if matches!(op.as_str(), "=" | "<" | ">" | "<=" | ">=" | "<>" | "!=") {
                    let family = |binder: &Self, e: &Expr| {
                        binder
                            .plain(e, here)
                            .and_then(|node| binder.nodes[node].family)
                    };
                    self.mark_param(right, family(self, left));
                    self.mark_param(left, family(self, right));
                }
                self.visit(left, here, place, bag)?;
                self.visit(right, here, place, bag)
            }
            Expr::In {
                expr: inner, list, ..
            } => {
                if list
                    .iter()
                    .all(|item| matches!(item, Expr::Param(_) | Expr::Null))
                {
                    let family = self
                        .plain(inner, here)
                        .and_then(|node| self.nodes[node].family);
                    for item in list {
                        self.mark_param(item, family);
                    }
                }
                self.visit(inner, here, place, bag)?;
                list.iter()
                    .try_for_each(|item| self.visit(item, here, place, bag))
            }
            Expr::Quantified { left, right, .. } => {
                let family = self
                    .plain(left, here)
                    .and_then(|node| self.nodes[node].family);
                self.mark_param(right, family);
                self.visit(left, here, place, bag)?;
                self.visit(right, here, place, bag)
            }
            Expr::Between {
                expr: inner,
                low,
                high,
                ..
            } => {
                let family = self
                    .plain(inner, here)
                    .and_then(|node| self.nodes[node].family);
                self.mark_param(low, family);
                self.mark_param(high, family);
                self.visit(inner, here, place, bag)?;
                self.visit(low, here, place, bag)?;
                self.visit(high, here, place, bag)
            }
            Expr::Exists(query) | Expr::Query(query) => self.child(query, here, bag),
            Expr::InQuery {
                expr: inner, query, ..
            } => {
                self.visit(inner, here, place, bag)?;
                self.child(query, here, bag)
            }
            Expr::Function(call) => {
                if object_parts(expr).is_some() {
                    self.differs(&call.name.name, place);
                }
                self.visit_call(call, here, place, bag)
            }
        }
    }

    fn child(
        &mut self,
        query: &Query,
        here: &Scope<'_>,
        bag: &mut Bag<'_>,
    ) -> Result<(), RouteError> {
        let query = self.bind_query(query, here)?;
        bag.children.push(Child {
            query,
            links: Vec::new(),
            proves: Vec::new(),
            sees_outer: bag.sees_outer,
        });
        Ok(())
    }
}
