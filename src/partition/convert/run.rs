//! One table on one shard, from wherever it stands to the end.

use crate::catalog::lease::{self, Job};
use crate::catalog::servers::Direct;
use crate::config::values::TableName;
use crate::partition::convert::attempt::{self, begin};
use crate::partition::convert::copy::Copy;
use crate::partition::convert::cover::cover;
use crate::partition::convert::design::{Design, kept_name, new_name, undo};
use crate::partition::convert::facts::{self, Facts, find};
use crate::partition::convert::standing::{Order, Standing, axis, standing};
use crate::partition::convert::state::{self, Phase, State};
use crate::partition::convert::swap::{self, Manner, settle};
use crate::partition::convert::verify::Verify;
use crate::partition::convert::{ConvertError, server};
use crate::partition::sql::{SESSION, qualified};
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::Client;

pub use crate::partition::convert::swap::Stall;

/// Behind [`SESSION`]: rows are printed exactly and found by their keys, whatever the planner knows of a table that is being filled.
const COPYING: &str = "
    SET extra_float_digits = 3; SET bytea_output = 'hex'; SET xmlbinary = 'base64'; SET row_security = off;
    SET default_tablespace = ''; SET default_transaction_deferrable = off;
    SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off;";

/// How often it is looked whether the new parent needs more partitions.
const COVER_EVERY: Duration = Duration::from_secs(10);

/// Readings of a table that is changed again and again.
const READ_TRIES_MAX: u32 = 10;

/// What happens on a shard, as it happens.
#[derive(Debug)]
pub enum Step {
    /// The new parent has so many partitions more.
    Made(usize),
    /// So many rows are copied, of about so many.
    Copied(i64, i64),
    /// So many rows are compared.
    Compared(i64, i64),
    /// Something that somebody should know.
    Says(String),
}

/// How a conversion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The table was partitioned already.
    Already,
    /// It is now.
    Done {
        /// Its rows when they were compared.
        rows: i64,
        /// How long one batch of the copy held its rows at most.
        longest_batch: Duration,
        /// What the swap cost.
        stall: Stall,
    },
}

/// Prepares a session that converts.
///
/// # Errors
/// When the server fails.
pub async fn open(connection: &Direct) -> Result<(), ConvertError> {
    let client = &connection.client;
    let settings = async {
        client.batch_execute(SESSION).await?;
        client.batch_execute(COPYING).await
    };
    settings.await.map_err(server("set up the session"))
}

/// Takes away what was made of a conversion that was not swapped. False when there was nothing.
///
/// # Errors
/// When it is swapped already, or the server fails.
pub async fn abort(
    connection: &mut Direct,
    table: &TableName,
    (job, token): (Job, i64),
) -> Result<bool, ConvertError> {
    let client = &mut connection.client;
    let doing = "take the copy away";
    let Some(state) = state::read(client, table).await.map_err(server(doing))? else {
        return Ok(false);
    };
    if matches!(state.phase, Phase::Swapped | Phase::Done) {
        return Err(ConvertError::Refused {
            table: table.to_string(),
            reasons: vec![format!(
                "it is converted already and cannot be taken back by --abort: the old rows, as they were then, are in {}",
                kept_name(table)
            )],
        });
    }
    // Only what was made for this conversion goes.
    let new = new_name(table);
    let found = find(client, &new.schema, &new.name)
        .await
        .map_err(server(doing))?;
    if let Some(found) = found.filter(|found| found.oid != state.new) {
        return Err(ConvertError::Refused {
            table: table.to_string(),
            reasons: vec![format!(
                "{new} (OID {}) is not the copy that was made (OID {}): rename it first",
                found.oid, state.new
            )],
        });
    }
    let mut statements = undo(table, state.old);
    statements.push(format!(
        "DELETE FROM keyway.conversions WHERE schema = {} AND name = {}",
        crate::topology::ranges::literal(&table.schema),
        crate::topology::ranges::literal(&table.name)
    ));
    attempt::all(client, job, token, doing, &statements).await?;
    Ok(true)
}

/// Converts, or goes on converting.
///
/// # Errors
/// When it cannot be done, or not now. The next run goes on.
pub async fn convert(
    connection: &mut Direct,
    order: &Order,
    (job, token): (Job, i64),
    tell: &(dyn Fn(Step) + Sync),
) -> Result<Outcome, ConvertError> {
    let client = &mut connection.client;
    let prepared = async {
        lease::prepare(client).await?;
        state::prepare(client).await
    };
    prepared.await.map_err(server("make Keyway's own tables"))?;
    let (facts, state) = match standing(client, order).await? {
        Standing::Already => return Ok(Outcome::Already),
        Standing::Swapped => {
            finish(client, order, (job, token)).await?;
            return Ok(Outcome::Already);
        }
        Standing::Ordinary(facts, state) => (facts, state),
    };
    let design = order.design(&facts);
    let axis = axis(client, &design).await?;
    if state.is_none() {
        make(client, order, &design, (job, token)).await?;
    }
    let made = cover(client, &design, axis, (job, token)).await?;
    tell(Step::Made(made));
    let mut state = known(client, order).await?;
    if state.phase == Phase::Made {
        keep_in_step(client, &design, (job, token)).await?;
        // What came before the triggers were there.
        cover(client, &design, axis, (job, token)).await?;
        state = known(client, order).await?;
        swap_when_unchanged(client, order, &state, (job, token), Manner::Rehearsal).await?;
    }
    let about = facts.rows_estimated;
    let mut longest_batch = Duration::ZERO;
    if state.phase == Phase::Copying {
        let since = (state.copied_to.clone(), state.rows);
        let mut copy = Copy::new(&design, job, token, since);
        let (mut covered, mut pause) = (Instant::now(), COVER_EVERY);
        while copy.step(client).await? {
            tell(Step::Copied(copy.rows, about));
            if covered.elapsed() > pause {
                let begun = Instant::now();
                cover(client, &design, axis, (job, token)).await?;
                // Where finding the greatest value means to read all rows, it is done the less often.
                (covered, pause) = (Instant::now(), COVER_EVERY.max(begun.elapsed() * 20));
            }
        }
        longest_batch = copy.longest;
        enter(client, order, Phase::Copied, (job, token)).await?;
    }
    let analyze = format!("ANALYZE {}", qualified(&new_name(&order.table)));
    // A new table has no statistics, and nobody would make any of a parent.
    let analyzed = client.batch_execute(&analyze).await;
    analyzed.map_err(server("make statistics"))?;
    let mut verify = Verify::new(&design);
    while verify.step(client).await? {
        tell(Step::Compared(verify.rows, about));
    }
    cover(client, &design, axis, (job, token)).await?;
    settle(client, &|words| tell(Step::Says(words)))
        .await
        .map_err(server("wait for older transactions"))?;
    let stall = swap_when_unchanged(client, order, &state, (job, token), Manner::Real).await?;
    finish(client, order, (job, token)).await?;
    if let Some(note) = design.note() {
        tell(Step::Says(note));
    }
    Ok(Outcome::Done {
        rows: verify.rows,
        longest_batch,
        stall,
    })
}

/// The new parent, and that it is there.
async fn make(
    client: &mut Client,
    order: &Order,
    design: &Design<'_>,
    (job, token): (Job, i64),
) -> Result<(), ConvertError> {
    let doing = "make the new parent";
    let mut patience = attempt::Patience::new();
    loop {
        let writing = begin(client, job, token).await?;
        let run = async {
            writing.batch_execute(&design.create().join(";\n")).await?;
            let new = new_name(&order.table);
            let found = find(&writing, &new.schema, &new.name).await?;
            let oids = (design.facts.oid, found.map_or(0, |found| found.oid));
            let (shape, declared) = (design.facts.shape(), order.shown());
            let of = (order.keyspace.as_str(), &order.table);
            state::begin(&writing, of, oids, (&shape, &declared), token).await?;
            writing.commit().await
        };
        match run.await {
            Ok(()) => return Ok(()),
            Err(error) => patience.again(client, doing, &error).await?,
        }
    }
}

/// The triggers, and that they are there.
async fn keep_in_step(
    client: &mut Client,
    design: &Design<'_>,
    (job, token): (Job, i64),
) -> Result<(), ConvertError> {
    let doing = "make the triggers";
    let mut patience = attempt::Patience::new();
    loop {
        let writing = begin(client, job, token).await?;
        let run = async {
            writing
                .batch_execute(&design.keep_in_step().join(";\n"))
                .await?;
            let table = design.table();
            let triggers = state::triggers(&writing, design.facts.oid).await?;
            state::with_triggers(&writing, &table, &triggers).await?;
            state::enter(&writing, &table, Phase::Copying, token).await?;
            writing.commit().await
        };
        match run.await {
            Ok(()) => return Ok(()),
            Err(error) => patience.again(client, doing, &error).await?,
        }
    }
}

async fn enter(
    client: &mut Client,
    order: &Order,
    phase: Phase,
    (job, token): (Job, i64),
) -> Result<(), ConvertError> {
    let doing = "write how far it is";
    let writing = begin(client, job, token).await?;
    state::enter(&writing, &order.table, phase, token)
        .await
        .map_err(server(doing))?;
    writing.commit().await.map_err(server(doing))
}

async fn known(client: &Client, order: &Order) -> Result<State, ConvertError> {
    let doing = "read how far it is";
    let state = state::read(client, &order.table).await;
    state
        .map_err(server(doing))?
        .ok_or_else(|| ConvertError::Server {
            doing,
            why: "keyway.conversions does not have it any more".to_owned(),
        })
}

/// Swaps the table as it is now. What was said of it since the beginning, privileges or comments, is said again; what the new parent
/// was made from must be the same.
async fn swap_when_unchanged(
    client: &mut Client,
    order: &Order,
    state: &State,
    (job, token): (Job, i64),
    manner: Manner,
) -> Result<Stall, ConvertError> {
    let doing = "look at the table";
    for _ in 0..READ_TRIES_MAX {
        // Before the facts: what changes between the two shows.
        let version = facts::version(client, state.old).await;
        let version = version.map_err(server(doing))?;
        let Standing::Ordinary(facts, _) = standing(client, order).await? else {
            return Err(order.changed("it is not an ordinary table any more"));
        };
        let design = order.design(&facts);
        let swapped = swap::swap(client, &design, (&version, state), (job, token), manner).await?;
        if let Some(stall) = swapped {
            return Ok(stall);
        }
    }
    Err(order.changed("it is being changed again and again"))
}

/// What belongs behind the swap.
async fn finish(
    client: &mut Client,
    order: &Order,
    (job, token): (Job, i64),
) -> Result<(), ConvertError> {
    let state = known(client, order).await?;
    if state.phase == Phase::Done {
        return Ok(());
    }
    // The old table says which sequences are its own still.
    let doing = "hand over the sequences";
    let kept = kept_name(&order.table);
    let found = find(client, &kept.schema, &kept.name)
        .await
        .map_err(server(doing))?;
    if found.is_some_and(|found| found.oid == state.old) {
        let mut facts = Facts::read(client, state.old)
            .await
            .map_err(server(doing))?;
        facts.name.clone_from(&order.table.name);
        let statements = order.design(&facts).afterwards();
        attempt::all(client, job, token, doing, &statements).await?;
    }
    enter(client, order, Phase::Done, (job, token)).await
}
