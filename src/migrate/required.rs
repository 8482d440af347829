//! What a keyspace requires of its shards: the versions that all of them have. Kept on the catalog's shard; a Keyway sends
//! nothing to a shard that lacks one (`topology::behind`).

use crate::catalog::{Catalog, CatalogError};
use crate::migrate::files::Key;
use crate::migrate::plan::State;
use crate::migrate::rollout::{Keyspace, histories};
use std::collections::BTreeSet;
use std::time::Duration;

/// How long running Keyways are waited for before what they require is taken away.
const OTHERS: Duration = Duration::from_secs(10);

/// Requires what all shards have. Nothing changes while one of them does not answer, or when another runner has taken over:
/// it may have undone what was read here.
///
/// # Errors
/// When the catalog's shard fails.
pub(super) async fn raise(
    catalog: &Catalog,
    keyspace: &Keyspace<'_>,
    token: i64,
) -> Result<(), CatalogError> {
    let mut shards = Vec::new();
    for (shard, history) in histories(catalog, keyspace).await {
        let Ok(history) = history else { return Ok(()) };
        let has = |state| matches!(state, State::Done | State::Baseline);
        let had = history.into_iter().filter(|entry| has(entry.state));
        shards.push((shard, had.map(|entry| entry.key).collect::<BTreeSet<Key>>()));
    }
    let mut complete = Vec::new();
    for migration in keyspace.migrations {
        let Key::Version(version) = &migration.key else {
            continue;
        };
        let only = migration.up.shards.as_ref();
        let concerned = |name: &String| only.is_none_or(|only| only.contains(name));
        let mut all = shards.iter().filter(|(name, _)| concerned(name));
        if all.all(|(_, has)| has.contains(&migration.key)) {
            complete.push((version.to_string(), only.cloned()));
        }
    }
    catalog.require(keyspace.name, &complete, token).await
}

/// Requires no longer what is about to be undone, and waits until running Keyways know.
///
/// # Errors
/// When the catalog's shard fails.
pub(super) async fn lower<'k>(
    catalog: &Catalog,
    keyspace: &Keyspace<'_>,
    keys: impl Iterator<Item = &'k Key>,
) -> Result<(), CatalogError> {
    let versions: BTreeSet<String> = keys
        .filter_map(|key| match key {
            Key::Version(version) => Some(version.to_string()),
            Key::Repeatable(_) => None,
        })
        .collect();
    let versions: Vec<String> = versions.into_iter().collect();
    if catalog.require_no_more(keyspace.name, &versions).await?
        && !catalog.wait_for_others(OTHERS).await?
    {
        tracing::warn!(
            "a running Keyway has not heard that versions are undone; it may refuse shards for a while"
        );
    }
    Ok(())
}
