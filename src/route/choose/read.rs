//! Queries. One with a data-modifying WITH entry is a write.

use crate::route::bind::Binder;
use crate::route::choose::calls::traits_of;
use crate::route::choose::context::Context;
use crate::route::choose::meet::{ManyShards, meet};
use crate::route::error::RouteError;
use crate::route::pins;
use crate::route::recipe::Recipe;
use crate::route::schema;
use crate::statement::tree::{Body, Query};

pub(super) fn read(query: &Query, context: &Context<'_>) -> Result<Recipe, RouteError> {
    if let Body::Select(select) = &query.body
        && let Some(name) = &select.into
    {
        return schema::select_into(name, query, context);
    }
    let mut binder = Binder::new(context);
    let bound = binder.query(query)?;
    let traits = traits_of(&mut binder, context);
    traits.refuse()?;
    let analysis = pins::place(&binder, &bound);
    if let Some(table) = analysis
        .sharded
        .iter()
        .find(|placed| placed.write)
        .map(|placed| &placed.table)
    {
        // A data-modifying WITH entry.
        let several = ManyShards::Write(table.name.to_string());
        return meet(&binder, &analysis, &traits, several, context);
    }
    meet(
        &binder,
        &analysis,
        &traits,
        ManyShards::Read(query, &bound),
        context,
    )
}
