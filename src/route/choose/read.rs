//! Queries. One with a data-modifying WITH entry is a write.

use crate::route::bind::Binder;
use crate::route::choose::calls::traits_of;
use crate::route::choose::context::Context;
use crate::route::choose::meet::{ManyShards, meet};
use crate::route::choose::write::guards;
use crate::route::error::RouteError;
use crate::route::keep::{self, NotKept};
use crate::route::pins;
use crate::route::recipe::{Recipe, Route};
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
    if let Some(refused) = binder.unchecked.take() {
        return Err(refused);
    }
    let analysis = pins::place(&binder, &bound);
    if let Some(table) = analysis
        .sharded
        .iter()
        .find(|placed| placed.write)
        .map(|placed| &placed.table)
    {
        // A data-modifying WITH entry.
        let several = ManyShards::Write(table.name.to_string());
        let guards = guards(&binder, &analysis)?;
        let mut recipe = meet(&binder, &analysis, &traits, several, context)?;
        if let Route::Keyed(keyed) = &mut recipe.route {
            keyed.guards = guards;
        }
        recipe.keeps = Err(NotKept::Writes);
        recipe.changes = keep::changes(None, &binder, Some(&analysis), &traits, context);
        return Ok(recipe);
    }
    let several = ManyShards::Read(query, &bound);
    let mut recipe = meet(&binder, &analysis, &traits, several, context)?;
    recipe.keeps = keep::reads(&binder, &analysis, &traits, context);
    recipe.changes = keep::changes(None, &binder, Some(&analysis), &traits, context);
    Ok(recipe)
}
