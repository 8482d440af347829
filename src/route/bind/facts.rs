//! What holds for every row that a query or a join returns.

use crate::route::bind::Binder;
use crate::route::bind::bound::{Bound, BoundQuery, CondId, Joined, RefId, Source};

impl Binder<'_> {
    /// What holds for every row the query returns.
    pub(crate) fn facts(&self, query: &BoundQuery) -> Vec<CondId> {
        match &query.body {
            Bound::Block(block) if !block.folds => {
                let tree = self.reduce(&block.tree, &self.strict_refs(&block.filter));
                let mut facts = block.filter.clone();
                self.holds(&tree, &mut facts);
                facts
            }
            Bound::Query(inner) => self.facts(inner),
            _ => Vec::new(),
        }
    }

    /// References that the conditions keep from being null-extended.
    pub(crate) fn strict_refs(&self, conds: &[CondId]) -> Vec<RefId> {
        conds
            .iter()
            .flat_map(|id| self.conds[*id].strict.iter().copied())
            .collect()
    }

    /// What holds for every row of a join.
    pub(crate) fn holds(&self, tree: &Joined, out: &mut Vec<CondId>) {
        match tree {
            Joined::Nothing | Joined::Full(..) => {}
            Joined::Leaf(leaf) => {
                if let Source::Derived { facts, .. } = &self.refs[*leaf].source {
                    out.extend(facts);
                }
            }
            Joined::Inner(left, right, on) => {
                out.extend(on);
                self.holds(left, out);
                self.holds(right, out);
            }
            Joined::Left(left, ..) => self.holds(left, out),
        }
    }

    /// Outer joins become inner where a strict condition above throws the null-extended rows away.
    pub(crate) fn reduce(&self, tree: &Joined, strict: &[RefId]) -> Joined {
        let touches = |side: &Joined| {
            let mut leaves = Vec::new();
            side.leaves(&mut leaves);
            leaves.iter().any(|leaf| strict.contains(leaf))
        };
        let inner = |left: &Joined, right: &Joined, on: &[CondId]| {
            let mut strict = strict.to_vec();
            strict.extend(self.strict_refs(on));
            Joined::Inner(
                Box::new(self.reduce(left, &strict)),
                Box::new(self.reduce(right, &strict)),
                on.to_vec(),
            )
        };
        match tree {
            Joined::Nothing | Joined::Leaf(_) => tree.clone(),
            Joined::Inner(left, right, on) => inner(left, right, on),
            Joined::Left(left, right, on) if touches(right) => inner(left, right, on),
            Joined::Left(left, right, on) => Joined::Left(
                Box::new(self.reduce(left, strict)),
                Box::new(self.reduce(right, &self.strict_refs(on))),
                on.clone(),
            ),
            Joined::Full(left, right, on) => match (touches(left), touches(right)) {
                (true, true) => inner(left, right, on),
                (true, false) => self.reduce(
                    &Joined::Left(left.clone(), right.clone(), on.clone()),
                    strict,
                ),
                (false, true) => self.reduce(
                    &Joined::Left(right.clone(), left.clone(), on.clone()),
                    strict,
                ),
                (false, false) => Joined::Full(
                    Box::new(self.reduce(left, &[])),
                    Box::new(self.reduce(right, &[])),
                    on.clone(),
                ),
            },
        }
    }
}
