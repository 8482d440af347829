//! Choosing: (tree, topology) → [`Recipe`]. One function per kind of statement; the default is to refuse.
//!
//! In: a tree and the [`Context`] it is planned in, or a client's word on the shard. Out: a recipe that holds for every
//! execution of the shape, or a refusal. No value of a literal or parameter is looked at here.
//!
//! Reading order: this file ([`recipe`], then `choose`), `context`, `read`, `write` (and `rows`, the keys of what is
//! inserted, and `made`, those that Keyway makes), `utility`, `meet` (the shards that have all a statement needs), `scatter` (else its rows are merged),
//! `calls` (what its functions ask for), `forced` (when the shard is settled before), `hint`, `names`.

pub(in crate::route) mod calls;
pub mod context;
mod forced;
pub mod hint;
pub mod made;
mod meet;
pub(super) mod names;
mod read;
mod rows;
mod scatter;
mod utility;
mod write;

use crate::route::choose::context::Context;
use crate::route::choose::forced::{forced, pin_of_definition};
use crate::route::choose::read::read;
use crate::route::choose::write::write;
use crate::route::error::RouteError;
use crate::route::recipe::Recipe;
use crate::route::reserved;
use crate::route::schema;
use crate::statement::tree::Statement;

/// Decides where statements of this shape go.
///
/// # Errors
/// When they cannot be answered exactly, whatever their values.
pub fn recipe(tree: &Statement, context: &Context<'_>) -> Result<Recipe, RouteError> {
    reserved::refuse(context)?;
    let mut recipe = chosen(tree, context)?;
    if let Some(pin) = pin_of_definition(tree, context) {
        if recipe.shards().len() > 1 {
            return Err(RouteError::OneShardOnly {
                what: "code whose effects are not known".to_owned(),
                reason: "It would run on every shard".to_owned(),
            });
        }
        recipe.pin = recipe.pin.or(Some(pin));
    }
    Ok(recipe)
}

/// Decides for a statement that the parser did not understand.
///
/// # Errors
/// Unless the database has one shard.
pub fn unparsed(reason: &str, context: &Context<'_>) -> Result<Recipe, RouteError> {
    reserved::refuse(context)?;
    match context.only_shard() {
        Some(shard) => Ok(forced(None, context, shard, "the database has one shard")),
        None => Err(RouteError::Unparsed {
            reason: reason.to_owned(),
        }),
    }
}

/// As the session may run it: where it can be answered exactly, or where everything is.
fn chosen(tree: &Statement, context: &Context<'_>) -> Result<Recipe, RouteError> {
    match (choose(tree, context), context.only_shard()) {
        (Err(error @ (RouteError::RefusedTable { .. } | RouteError::BadHint { .. })), _) => {
            Err(error)
        }
        // A keyspace that has one shard today may have two tomorrow: its schema is held to the rules.
        (
            Err(
                error @ (RouteError::Constraint { .. }
                | RouteError::Schema { .. }
                | RouteError::UnlistedTable { .. }),
            ),
            Some(_),
        ) if matches!(tree, Statement::Ddl(_)) => Err(error),
        // Where one shard has everything, nothing can be on another.
        (Err(_), Some(shard)) => Ok(forced(
            Some(tree),
            context,
            shard,
            "the database has one shard",
        )),
        (result, _) => result,
    }
}

fn choose(tree: &Statement, context: &Context<'_>) -> Result<Recipe, RouteError> {
    match tree {
        Statement::Query(query) => read(query, context),
        Statement::Insert(_)
        | Statement::Update(_)
        | Statement::Delete(_)
        | Statement::Merge(_) => write(tree, context),
        Statement::Copy(copy) => utility::copy(copy, context),
        Statement::Explain { analyze, statement } => utility::explain(*analyze, statement, context),
        Statement::Declare {
            hold,
            query,
            query_span,
            ..
        } => utility::declare(*hold, query, query_span, context),
        Statement::Prepare { statement, .. } => choose(statement, context),
        Statement::Ddl(ddl) => schema::recipe(ddl, context),
        // CASCADE reaches tables of the same shard only.
        Statement::Truncate { tables, .. } => utility::truncate(tables, context),
        Statement::Lock { tables } => utility::lock(tables, context),
        Statement::Maintenance {
            tables,
            outside_transaction,
            rebuilds,
        } => {
            let mut recipe = schema::maintenance(tables, context)?;
            recipe.outside_transaction = *outside_transaction;
            schema::upkeep(&mut recipe, *rebuilds);
            Ok(recipe)
        }
        Statement::Call { function, args } => utility::call(function, args, context),
    }
}
