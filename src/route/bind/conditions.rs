//! What a WHERE or ON says of columns that may carry a key. What is not understood says nothing.

use crate::route::bind::Binder;
use crate::route::bind::bound::{Child, Cond, CondId, Conjunct, NodeId, RefId};
use crate::route::bind::constants::{Operand, array_operands, operand};
use crate::route::bind::expressions::{Bag, Place};
use crate::route::bind::scope::Scope;
use crate::route::error::RouteError;
use crate::statement::tree::{Expr, Query};

impl Binder<'_> {
    /// Takes a WHERE or ON apart. Positive subqueries (`EXISTS`, `IN`) become semi-joins: what they prove holds.
    pub(super) fn conjuncts(
        &mut self,
        expr: &Expr,
        here: &Scope<'_>,
        place: Place,
        conds: &mut Vec<CondId>,
        children: &mut Vec<Child>,
    ) -> Result<(), RouteError> {
        match expr {
            Expr::And(parts) => {
                for part in parts {
                    self.conjuncts(part, here, place, conds, children)?;
                }
                return Ok(());
            }
            Expr::Exists(query) if place == Place::Filter => {
                let query = self.bind_query(query, here)?;
                let proves = self.facts(&query);
                conds.extend(&proves);
                children.push(Child {
                    query,
                    links: Vec::new(),
                    proves,
                    sees_outer: true,
                });
                return Ok(());
            }
            Expr::InQuery {
                expr,
                query,
                negated: false,
            } if place == Place::Filter => {
                return self.semi_join(expr, query, here, conds, children);
            }
            Expr::Quantified {
                left,
                op,
                all: false,
                right,
            } if place == Place::Filter && op == "=" => {
                if let Expr::Query(query) = right.as_ref() {
                    return self.semi_join(left, query, here, conds, children);
                }
            }
            _ => {}
        }
        let mut bag = if place == Place::On {
            Bag::apart(children)
        } else {
            Bag::new(children)
        };
        self.visit(expr, here, place, &mut bag)?;
        let cond = self.condition(expr, here);
        if !matches!(cond, Cond::True) {
            let id = self.add_cond(cond);
            conds.push(id);
        }
        Ok(())
    }

    fn semi_join(
        &mut self,
        left: &Expr,
        query: &Query,
        here: &Scope<'_>,
        conds: &mut Vec<CondId>,
        children: &mut Vec<Child>,
    ) -> Result<(), RouteError> {
        self.visit(left, here, Place::Filter, &mut Bag::new(children))?;
        let query = self.bind_query(query, here)?;
        let mut proves = self.facts(&query);
        let exprs: &[Expr] = if let Expr::Row(parts) = left {
            parts
        } else {
            std::slice::from_ref(left)
        };
        let mut links = Vec::new();
        if query.output.positional && query.output.columns.len() == exprs.len() {
            for (expr, column) in exprs.iter().zip(query.output.columns.clone()) {
                let Some(outer) = self.plain(expr, here) else {
                    continue;
                };
                for (source, inward) in &column.sources {
                    if !self.comparable(outer, *source) {
                        continue;
                    }
                    let same = self.add_cond(Cond::Same(outer, *source));
                    if *inward {
                        links.push(same);
                    }
                    if column.outward {
                        proves.push(same);
                    }
                }
            }
        }
        conds.extend(&proves);
        children.push(Child {
            query,
            links,
            proves,
            sees_outer: true,
        });
        Ok(())
    }

    /// What an expression says when it must be true.
    fn condition(&self, expr: &Expr, here: &Scope<'_>) -> Cond {
        match expr {
            Expr::And(parts) => {
                let parts: Vec<Cond> = parts
                    .iter()
                    .map(|part| self.condition(part, here))
                    .filter(|part| !matches!(part, Cond::True))
                    .collect();
                if parts.is_empty() {
                    Cond::True
                } else {
                    Cond::And(parts)
                }
            }
            Expr::Or(parts) => {
                let parts: Vec<Cond> = parts
                    .iter()
                    .map(|part| self.condition(part, here))
                    .collect();
                if parts.iter().any(|part| matches!(part, Cond::True)) {
                    Cond::True
                } else {
                    Cond::Or(parts)
                }
            }
            Expr::Binary { op, left, right } => self.comparison(op, left, right, here),
            Expr::In {
                expr,
                list,
                negated: false,
            } => self.in_list(expr, list, here),
            Expr::Quantified {
                left,
                op,
                all: false,
                right,
            } if op == "=" => match self.plain(left, here) {
                Some(node) => match array_operands(right) {
                    Some(operands) => Cond::Value(node, operands),
                    None => Cond::True,
                },
                None => Cond::True,
            },
            Expr::IsNull { expr, negated } => match (self.plain(expr, here), negated) {
                (Some(node), true) => Cond::Strict(node),
                (Some(node), false) => Cond::Value(node, vec![Operand::IsNull]),
                (None, _) => Cond::True,
            },
            Expr::Between {
                expr,
                negated: false,
                ..
            } => self.plain(expr, here).map_or(Cond::True, Cond::Strict),
            _ => Cond::True,
        }
    }

    fn comparison(&self, op: &str, left: &Expr, right: &Expr, here: &Scope<'_>) -> Cond {
        if let (Expr::Row(left), Expr::Row(right)) = (left, right) {
            if op != "=" || left.len() != right.len() {
                return Cond::True;
            }
            let parts = left
                .iter()
                .zip(right)
                .map(|(l, r)| self.comparison("=", l, r, here));
            return Cond::And(parts.filter(|part| !matches!(part, Cond::True)).collect());
        }
        let (a, b) = (self.plain(left, here), self.plain(right, here));
        match (op, a, b) {
            ("=", Some(a), Some(b)) if self.comparable(a, b) => Cond::Same(a, b),
            ("=", Some(a), None) => {
                operand(right).map_or(Cond::Strict(a), |o| Cond::Value(a, vec![o]))
            }
            ("=", None, Some(b)) => {
                operand(left).map_or(Cond::Strict(b), |o| Cond::Value(b, vec![o]))
            }
            ("=" | "<" | ">" | "<=" | ">=" | "<>" | "!=", a, b) => {
                let parts: Vec<Cond> = a.into_iter().chain(b).map(Cond::Strict).collect();
                if parts.is_empty() {
                    Cond::True
                } else {
                    Cond::And(parts)
                }
            }
            _ => Cond::True,
        }
    }

    fn in_list(&self, expr: &Expr, list: &[Expr], here: &Scope<'_>) -> Cond {
        if let Expr::Row(_) = expr {
            let rows: Vec<Cond> = list
                .iter()
                .map(|row| self.comparison("=", expr, row, here))
                .collect();
            let useful = |row: &Cond| matches!(row, Cond::And(parts) if !parts.is_empty());
            return if rows.iter().all(useful) {
                Cond::Or(rows)
            } else {
                Cond::True
            };
        }
        let Some(node) = self.plain(expr, here) else {
            return Cond::True;
        };
        let operands: Option<Vec<Operand>> = list.iter().map(operand).collect();
        // A list is compared as one type: a decimal among parameters would type the parameters numeric.
        let has_param = list.iter().any(|e| matches!(e, Expr::Param(_)));
        let all_plain = list
            .iter()
            .all(|e| matches!(e, Expr::Param(_) | Expr::Null));
        match operands {
            Some(operands) if !has_param || all_plain => Cond::Value(node, operands),
            _ => Cond::Strict(node),
        }
    }

    pub(super) fn add_cond(&mut self, cond: Cond) -> CondId {
        let (mut strict, mut mentions) = (Vec::new(), Vec::new());
        self.describe(&cond, &mut strict, &mut mentions);
        self.conds.push(Conjunct {
            cond,
            strict,
            mentions,
        });
        self.conds.len() - 1
    }

    /// An identity, not a comparison: it says nothing about NULL.
    pub(super) fn add_link(&mut self, a: NodeId, b: NodeId) -> CondId {
        let mentions = vec![self.nodes[a].reference, self.nodes[b].reference];
        self.conds.push(Conjunct {
            cond: Cond::Same(a, b),
            strict: Vec::new(),
            mentions,
        });
        self.conds.len() - 1
    }

    fn describe(&self, cond: &Cond, strict: &mut Vec<RefId>, mentions: &mut Vec<RefId>) {
        match cond {
            Cond::True => {}
            Cond::Same(a, b) => {
                for node in [a, b] {
                    strict.push(self.nodes[*node].reference);
                    mentions.push(self.nodes[*node].reference);
                }
            }
            Cond::Value(node, operands) => {
                mentions.push(self.nodes[*node].reference);
                if !operands.contains(&Operand::IsNull) {
                    strict.push(self.nodes[*node].reference);
                }
            }
            Cond::Strict(node) => {
                mentions.push(self.nodes[*node].reference);
                strict.push(self.nodes[*node].reference);
            }
            Cond::And(parts) => parts
                .iter()
                .for_each(|part| self.describe(part, strict, mentions)),
            Cond::Or(parts) => {
                let mut common: Option<Vec<RefId>> = None;
                for part in parts {
                    let mut these = Vec::new();
                    self.describe(part, &mut these, mentions);
                    common = Some(match common {
                        None => these,
                        Some(before) => before
                            .into_iter()
                            .filter(|leaf| these.contains(leaf))
                            .collect(),
                    });
                }
                strict.extend(common.unwrap_or_default());
            }
        }
    }
}
