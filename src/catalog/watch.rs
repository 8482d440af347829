//! Hearing of changes that other Keyways made: NOTIFY when it comes, polling when it does not. Keeps this Keyway's
//! lease, and looks after shards whose schema could not be read.

use crate::catalog::servers::Listener;
use crate::catalog::{Catalog, CatalogError, State, read};
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_postgres::AsyncMessage;

/// How often the catalog is asked when nothing is heard.
const POLL: Duration = Duration::from_secs(5);
/// Of those looks, how many until the shards' schemas are compared.
const LOOKS_PER_COMPARISON: u32 = 6;
/// How long a Keyway that is not heard of counts as living.
pub(super) const LEASE: Duration = Duration::from_secs(15);
/// The longest one question may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why to call [`Catalog::read_again`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Another Keyway changed a map or a schema, or refused a table; or this one did.
    Epoch(u64),
    /// A shard whose schema could not be read answers again.
    ShardBack,
    /// A shard's schema is not what was read, and nobody said so: it was changed directly.
    SchemaChanged,
}

impl Catalog {
    /// Watches until the receiver is dropped. At most `bound` events wait; more are not needed, since the first makes
    /// the receiver read everything. `held` tells the [`catalog_epoch`](crate::topology::Topology::catalog_epoch) of the snapshot that this
    /// Keyway routes by, for the others to see.
    pub fn watch(
        self: &Arc<Self>,
        bound: usize,
        held: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> mpsc::Receiver<Event> {
        let (events, receiver) = mpsc::channel(bound.max(1));
        let catalog = Arc::clone(self);
        tokio::spawn(async move {
            let closed = events.clone();
            let watching = async {
                loop {
                    let result = catalog.listen(&events, &held).await;
                    if let Err(error) = result {
                        tracing::warn!(%error, "the catalog is not heard; trying again");
                    }
                    tokio::time::sleep(POLL).await;
                }
            };
            tokio::select! {
                () = closed.closed() => {}
                () = watching => {}
            }
            catalog.leave().await;
        });
        receiver
    }

    /// Listens on one connection until it breaks or the catalog moves.
    async fn listen(
        &self,
        events: &mpsc::Sender<Event>,
        held: &(impl Fn() -> u64 + Send + Sync),
    ) -> Result<(), CatalogError> {
        let state = self.state.load_full();
        let Listener {
            client,
            mut connection,
        } = state.servers.listen(&state.agreed.catalog).await?;
        // One slot: a second notification before the first is seen says nothing new.
        let (heard, mut hear) = mpsc::channel::<()>(1);
        let driving = async move {
            while let Some(message) =
                std::future::poll_fn(|context| connection.poll_message(context)).await
            {
                match message {
                    Ok(AsyncMessage::Notification(_)) => {
                        // Full is fine: one is waiting.
                        let _ = heard.try_send(());
                    }
                    Ok(_) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        let asking = async {
            client.batch_execute("LISTEN keyway_epoch").await?;
            let mut poll = tokio::time::interval(POLL);
            loop {
                tokio::select! {
                    _ = poll.tick() => {}
                    _ = hear.recv() => {}
                }
                let epoch = tokio::time::timeout(PATIENCE, self.ask(&client, held())).await;
                let Ok(epoch) = epoch else { return Ok(()) };
                let epoch = epoch?;
                // Said again at every look until the reader holds it: a reading that failed is tried again.
                if epoch > held() {
                    let _ = events.try_send(Event::Epoch(epoch));
                }
            }
        };
        let result: Result<(), tokio_postgres::Error> = tokio::select! {
            result = driving => result,
            result = asking => result,
            () = self.look_after_shards(events) => Ok(()),
        };
        result.map_err(state.failed("listen"))
    }

    /// Renews the lease, forgets Keyways long gone, and returns the epoch.
    async fn ask(
        &self,
        client: &tokio_postgres::Client,
        held: u64,
    ) -> Result<u64, tokio_postgres::Error> {
        let held = i64::try_from(held).unwrap_or(i64::MAX);
        client
            .execute(
                "INSERT INTO keyway.keyways (id, epoch) VALUES ($1::text::uuid, $2)
                 ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch, seen = now()",
                &[&self.id, &held],
            )
            .await?;
        client
            .execute(
                "DELETE FROM keyway.keyways WHERE seen < now() - interval '1 hour'",
                &[],
            )
            .await?;
        crate::catalog::agree::read_epoch(client).await
    }

    /// Asks the shards whether they are back, and now and then whether somebody changed their schemas directly.
    /// Beside the lease, since a shard that is down answers slowly.
    async fn look_after_shards(&self, events: &mpsc::Sender<Event>) {
        let mut poll = tokio::time::interval(POLL);
        let mut looks = 0;
        loop {
            poll.tick().await;
            let state = self.state.load_full();
            let asking = state.unread.iter().map(|shard| answers(&state, shard));
            if join_all(asking).await.contains(&true) {
                let _ = events.try_send(Event::ShardBack);
            }
            looks = (looks + 1) % LOOKS_PER_COMPARISON;
            if looks != 0 {
                continue;
            }
            let comparing = state
                .fingerprints
                .iter()
                .map(|(shard, known)| has_changed(&state, shard, known));
            for (shard, _) in join_all(comparing).await.into_iter().flatten() {
                tracing::info!(%shard, "the schema was changed directly");
                let _ = events.try_send(Event::SchemaChanged);
            }
        }
    }

    /// Gives the lease back.
    async fn leave(&self) {
        let state = self.state.load_full();
        let leaving = async {
            let holder = state.holder().await?;
            let sql = "DELETE FROM keyway.keyways WHERE id = $1::text::uuid";
            holder
                .execute(sql, &[&self.id])
                .await
                .map_err(state.failed("leave"))
        };
        if let Ok(Err(error)) = tokio::time::timeout(PATIENCE, leaving).await {
            tracing::debug!(%error, "the lease runs out by itself");
        }
    }
}

async fn answers(state: &State, shard: &str) -> bool {
    let asking = async {
        state
            .servers
            .get(shard)
            .await
            .ok()?
            .batch_execute("SELECT 1")
            .await
            .ok()
    };
    matches!(tokio::time::timeout(PATIENCE, asking).await, Ok(Some(())))
}

/// Does the shard say that its schema's fingerprint is the one `known`?
pub(super) async fn is_as_known(state: &State, shard: &str, known: &str) -> bool {
    fingerprint(state, shard)
        .await
        .is_some_and(|now| now == known)
}

/// The shard and its schema's fingerprint, if that is not the one `known`.
async fn has_changed<'s>(state: &State, shard: &'s str, known: &str) -> Option<(&'s str, String)> {
    let now = fingerprint(state, shard).await?;
    (now != known).then_some((shard, now))
}

/// A shard's fingerprint, if it answers in time.
async fn fingerprint(state: &State, shard: &str) -> Option<String> {
    let asking = async {
        read::fingerprint(&**state.servers.get(shard).await.ok()?)
            .await
            .ok()
    };
    tokio::time::timeout(PATIENCE, asking).await.ok().flatten()
}
