//! Brings the rows that were there before the triggers, in the order of the primary key, batch by batch.
//!
//! A batch reads its rows FOR SHARE: what it writes is what the row is until it commits, as nobody changes a row that is locked, and
//! whoever waits for that finds the row in the new parent. What a trigger brought is newer, or equal, and stays. The end of a batch
//! is asked for beforehand: a row that moved to another key while the batch waited must not move that end.
//!
//! A batch never waits for a row while it holds others, or it would close circles with the clients' transactions: rows that are
//! locked are left out, and brought one by one afterwards.

use crate::catalog::lease::Job;
use crate::catalog::quote;
use crate::partition::convert::attempt::{Patience, begin};
use crate::partition::convert::design::{Design, new_name};
use crate::partition::convert::range::{Key, Piece, as_text, end_of, exactly};
use crate::partition::convert::state;
use crate::partition::convert::{ConvertError, server};
use crate::partition::sql::qualified;
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::{Client, Error};

/// How long a batch shall hold its rows.
const AIM: Duration = Duration::from_millis(50);

/// Rows of the first batch.
const ROWS_FIRST: i64 = 200;

/// Rows of a batch, at least and at most.
const ROWS: std::ops::RangeInclusive<i64> = 10..=20_000;

/// What a batch brought, before it is written down.
#[derive(Debug)]
struct Brought {
    to: Key,
    rows: i64,
}

/// The copy of one table.
#[derive(Debug)]
pub(super) struct Copy<'c> {
    design: &'c Design<'c>,
    job: Job,
    token: i64,
    batch_rows: i64,
    brought: Option<Brought>,
    after: Option<Key>,
    /// Rows brought so far.
    pub(super) rows: i64,
    /// How long the longest batch held its rows.
    pub(super) longest: Duration,
}

impl<'c> Copy<'c> {
    /// Goes on behind `after`.
    pub(super) fn new(
        design: &'c Design<'c>,
        job: Job,
        token: i64,
        (after, rows): (Option<Key>, i64),
    ) -> Self {
        Self {
            design,
            job,
            token,
            batch_rows: ROWS_FIRST,
            brought: None,
            after,
            rows,
            longest: Duration::ZERO,
        }
    }

    /// Brings one batch. False when there are no more rows.
    ///
    /// # Errors
    /// When PostgreSQL refuses a row, or nobody lets go of a lock.
    pub(super) async fn step(&mut self, client: &mut Client) -> Result<bool, ConvertError> {
        let old = qualified(&self.design.table());
        let key = &self.design.facts.key;
        let to = end_of(client, &old, key, self.after.as_ref(), self.batch_rows).await;
        let Some(to) = to.map_err(server("look for rows"))? else {
            self.write_down(client).await?;
            return Ok(false);
        };
        let piece = Piece {
            after: self.after.clone(),
            to: Some(to.clone()),
        };
        let (rows, left) = self.batch(client, &piece).await?;
        let mut all = rows;
        for key in &left {
            all += self.one(client, key).await?;
        }
        self.rows += all;
        self.brought = Some(Brought {
            to: to.clone(),
            rows: all,
        });
        self.after = Some(to);
        Ok(true)
    }

    /// Brings the rows of a piece that nobody has locked. How many, and the keys of the others.
    async fn batch(
        &mut self,
        client: &mut Client,
        piece: &Piece,
    ) -> Result<(i64, Vec<Key>), ConvertError> {
        let mut patience = Patience::new();
        loop {
            let started = Instant::now();
            match self.try_batch(client, piece).await? {
                Ok((rows, left, held)) => {
                    self.longest = self.longest.max(held);
                    self.fit(held);
                    self.brought = None;
                    return Ok((rows, left));
                }
                Err(error) => {
                    self.longest = self.longest.max(started.elapsed());
                    patience.again(client, "copy rows", &error).await?;
                }
            }
        }
    }

    async fn try_batch(
        &self,
        client: &mut Client,
        piece: &Piece,
    ) -> Result<Result<(i64, Vec<Key>, Duration), Error>, ConvertError> {
        let design = self.design;
        let writing = begin(client, self.job, self.token).await?;
        let table = design.table();
        let old = qualified(&table);
        let columns: Vec<String> = design.facts.written().iter().map(|c| quote(c)).collect();
        let columns = columns.join(", ");
        let condition = piece.condition(&design.facts.key);
        let sql = format!(
            "WITH here AS MATERIALIZED (SELECT {columns} FROM ONLY {old} WHERE {condition} FOR SHARE SKIP LOCKED), \
             brought AS (INSERT INTO {new} ({columns}) SELECT {columns} FROM here ON CONFLICT ({conflict}) DO NOTHING RETURNING 1) \
             SELECT (SELECT count(*) FROM brought), (SELECT count(*) FROM here) \
             = (SELECT count(*) FROM ONLY {old} WHERE {condition})",
            new = qualified(&new_name(&table)),
            conflict = design.conflict_columns(),
        );
        let run = async {
            if let Some(brought) = &self.brought {
                state::advance(&writing, &table, &brought.to, brought.rows, self.token).await?;
            }
            // The old table before the new one, as a TRUNCATE has them.
            let lock = format!("LOCK TABLE ONLY {old} IN ROW SHARE MODE");
            writing.batch_execute(&lock).await?;
            let started = Instant::now();
            let row = writing.query_one(&sql, &[]).await?;
            let (rows, is_all): (i64, bool) = (row.try_get(0)?, row.try_get(1)?);
            let left = if is_all {
                Vec::new()
            } else {
                left_out(&writing, design, &condition).await?
            };
            writing.commit().await?;
            Ok((rows, left, started.elapsed()))
        };
        Ok(run.await)
    }

    /// Brings one row, waiting for whoever has it locked.
    async fn one(&self, client: &mut Client, key: &Key) -> Result<i64, ConvertError> {
        let design = self.design;
        let columns: Vec<String> = design.facts.written().iter().map(|c| quote(c)).collect();
        let columns = columns.join(", ");
        let sql = format!(
            "INSERT INTO {} ({columns}) SELECT {columns} FROM ONLY {} WHERE {} FOR SHARE ON CONFLICT ({}) DO NOTHING",
            qualified(&new_name(&design.table())),
            qualified(&design.table()),
            exactly(&design.facts.key, key),
            design.conflict_columns(),
        );
        let lock = format!(
            "LOCK TABLE ONLY {} IN ROW SHARE MODE",
            qualified(&design.table())
        );
        let mut patience = Patience::new();
        loop {
            let writing = begin(client, self.job, self.token).await?;
            let run = async {
                writing.batch_execute(&lock).await?;
                let rows = writing.execute(&sql, &[]).await?;
                writing.commit().await?;
                Ok(i64::try_from(rows).unwrap_or_default())
            };
            match run.await {
                Ok(rows) => return Ok(rows),
                Err(error) => {
                    patience
                        .again(client, "copy a row that is locked", &error)
                        .await?;
                }
            }
        }
    }

    /// Writes down what the last batch brought; between batches the next one does.
    async fn write_down(&mut self, client: &mut Client) -> Result<(), ConvertError> {
        let Some(brought) = self.brought.take() else {
            return Ok(());
        };
        let writing = begin(client, self.job, self.token).await?;
        let doing = "write how far the copy is";
        let table = self.design.table();
        state::advance(&writing, &table, &brought.to, brought.rows, self.token)
            .await
            .map_err(server(doing))?;
        writing.commit().await.map_err(server(doing))
    }

    /// The next batch holds its rows about as long as it should, and is at most twice as large.
    fn fit(&mut self, held: Duration) {
        self.batch_rows = fitting(self.batch_rows, held);
    }
}

/// How many rows are held [`AIM`] long, if so many were held so long.
pub(super) fn fitting(rows: i64, held: Duration) -> i64 {
    let aim = i64::try_from(AIM.as_micros()).unwrap_or(i64::MAX);
    let held = i64::try_from(held.as_micros()).unwrap_or(i64::MAX).max(1);
    let fitting = rows.saturating_mul(aim) / held;
    fitting
        .clamp(rows / 4, rows.saturating_mul(2))
        .clamp(*ROWS.start(), *ROWS.end())
}

/// The keys of a piece's rows that the new parent does not have.
async fn left_out(
    client: &impl tokio_postgres::GenericClient,
    design: &Design<'_>,
    condition: &str,
) -> Result<Vec<Key>, Error> {
    let same: Vec<String> = design
        .new_key()
        .iter()
        .map(|c| format!("n.{0} {1} o.{0}", quote(&c.name), c.equal))
        .collect();
    let sql = format!(
        "SELECT {} FROM ONLY {} o WHERE {condition} AND NOT EXISTS (SELECT FROM {} n WHERE {})",
        as_text(&design.facts.key, "o."),
        qualified(&design.table()),
        qualified(&new_name(&design.table())),
        same.join(" AND ")
    );
    let rows = client.query(&sql, &[]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}
