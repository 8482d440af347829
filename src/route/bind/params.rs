//! Parameters: does a type follow from how one is used?

use crate::route::bind::Binder;
use crate::statement::tree::Expr;
use crate::topology::KeyFamily;

/// How often a parameter is used, and how often where its type follows from a key family.
#[derive(Debug, Default, Clone)]
pub(super) struct ParamUse {
    pub(super) total: u32,
    typed: u32,
    family: Option<KeyFamily>,
    mixed: bool,
}

impl Binder<'_> {
    /// Parameters whose undeclared type does not surely follow from the key they are compared with.
    pub(crate) fn untyped_params(&self) -> Vec<u16> {
        let mut untyped: Vec<u16> = self
            .params
            .iter()
            .filter(|(_, uses)| uses.mixed || uses.total != uses.typed)
            .map(|(n, _)| *n)
            .collect();
        untyped.sort_unstable();
        untyped
    }

    /// Notes that a parameter's type follows from `family` here.
    pub(super) fn mark_param(&mut self, expr: &Expr, family: Option<KeyFamily>) {
        let (Expr::Param(number), Some(family)) = (expr, family) else {
            return;
        };
        let uses = self.params.entry(*number).or_default();
        uses.typed += 1;
        uses.mixed |= uses.family.is_some_and(|before| before != family);
        uses.family = Some(family);
    }
}
