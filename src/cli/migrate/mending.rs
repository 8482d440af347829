//! `keyway migrate repair` and `baseline`.

use crate::catalog::Catalog;
use crate::cli::Failure;
use crate::cli::migrate::{println, take_lease};
use crate::migrate::mend;
use crate::migrate::rollout::Keyspace;
use crate::migrate::version::Version;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

pub(super) async fn repair(
    catalog: &Catalog,
    keyspaces: &[Keyspace<'_>],
    dry_run: bool,
    wait: Duration,
) -> Result<(), Failure> {
    let lease = take_lease(catalog, wait).await?;
    let told = AtomicUsize::new(0);
    let mut ended = Ok(());
    for keyspace in keyspaces {
        let tell = |shard: &str, mend: &mend::Mend<'_>| {
            told.fetch_add(1, Ordering::Relaxed);
            println(&format!("{} {shard}: {mend}", keyspace.name));
        };
        ended = mend::repair(catalog, keyspace, &lease, dry_run, &tell)
            .await
            .map_err(|error| Failure::Other(format!("{}: {error}", keyspace.name)));
        if ended.is_err() {
            break;
        }
    }
    lease.release().await;
    if ended.is_ok() && told.into_inner() == 0 {
        println("nothing to repair: what ran is what the files say");
    }
    ended
}

pub(super) async fn baseline(
    catalog: &Catalog,
    keyspace: &Keyspace<'_>,
    version: &Version,
    wait: Duration,
) -> Result<(), Failure> {
    let lease = take_lease(catalog, wait).await?;
    let ended = mend::baseline(catalog, keyspace, &lease, version).await;
    lease.release().await;
    let name = keyspace.name;
    let known = ended.map_err(|error| Failure::Other(format!("{name}: {error}")))?;
    for (shard, _) in &keyspace.shards {
        let how = if known.contains(shard) {
            "had that baseline"
        } else {
            "begins"
        };
        println(&format!("{name} {shard}: {how} at version {version}"));
    }
    Ok(())
}
