//! Compares the old table with the new parent, piece by piece of the primary key.
//!
//! Each piece is one statement, so one snapshot, and in every snapshot both are equal: a client's transaction writes both. So nobody
//! has to be kept from writing, and no difference is a matter of time.

use crate::catalog::quote;
use crate::partition::convert::design::{Design, new_name};
use crate::partition::convert::range::{Key, Piece, end_of};
use crate::partition::convert::{ConvertError, server};
use crate::partition::sql::qualified;
use tokio_postgres::{Client, Error};

/// Rows of a piece.
const ROWS: i64 = 20_000;

/// The comparison of one table.
#[derive(Debug)]
pub(super) struct Verify<'v> {
    design: &'v Design<'v>,
    after: Option<Key>,
    is_done: bool,
    /// Rows compared so far.
    pub(super) rows: i64,
}

impl<'v> Verify<'v> {
    pub(super) fn new(design: &'v Design<'v>) -> Self {
        Self {
            design,
            after: None,
            is_done: false,
            rows: 0,
        }
    }

    /// Compares one piece; the last one has no end, as the new parent may have what the old table has not. False when there are no
    /// more.
    ///
    /// # Errors
    /// When they differ.
    pub(super) async fn step(&mut self, client: &Client) -> Result<bool, ConvertError> {
        if self.is_done {
            return Ok(false);
        }
        let old = qualified(&self.design.table());
        let key = &self.design.facts.key;
        let to = end_of(client, &old, key, self.after.as_ref(), ROWS).await;
        let to = to.map_err(server("look for rows"))?;
        self.is_done = to.is_none();
        let piece = Piece {
            after: self.after.take(),
            to: to.clone(),
        };
        let (old, new) = self
            .sums(client, &piece)
            .await
            .map_err(server("compare rows"))?;
        if old != new {
            return Err(ConvertError::Differs {
                table: self.design.table().to_string(),
                place: piece.shown(),
                what: if old.0 == new.0 {
                    format!("{} rows each, of other contents", old.0)
                } else {
                    format!("{} rows and {}", old.0, new.0)
                },
            });
        }
        self.rows += old.0;
        self.after = to;
        Ok(true)
    }

    /// How many rows both have in a piece, and the sums of their hashes.
    async fn sums(
        &self,
        client: &Client,
        piece: &Piece,
    ) -> Result<((i64, String), (i64, String)), Error> {
        let columns = self.design.facts.columns.iter();
        let columns: Vec<String> = columns.map(|column| quote(&column.name)).collect();
        let condition = piece.condition(&self.design.facts.key);
        let side = |from: String| {
            format!(
                "(SELECT count(*) AS n, coalesce(sum(pg_catalog.hashtextextended(ROW({})::pg_catalog.text COLLATE \"C\", 0)), 0)::pg_catalog.text AS sum \
                 FROM {from} WHERE {condition})",
                columns.join(", ")
            )
        };
        let table = self.design.table();
        let sql = format!(
            "SELECT o.n, o.sum, c.n, c.sum FROM {} o, {} c",
            side(format!("ONLY {}", qualified(&table))),
            side(qualified(&new_name(&table)))
        );
        let row = client.query_one(&sql, &[]).await?;
        Ok((
            (row.try_get(0)?, row.try_get(1)?),
            (row.try_get(2)?, row.try_get(3)?),
        ))
    }
}
