//! The questions asked most often, so that a Keyway that starts finds their answers before its clients ask.

use crate::catalog::{Catalog, CatalogError};
use md5::{Digest, Md5};

/// A question, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Popular {
    /// Who asks: database, role and settings.
    pub asker: Vec<u8>,
    /// The statement's text and values.
    pub question: Vec<u8>,
    /// By the extended protocol?
    pub extended: bool,
    /// How long its answer may be given, in milliseconds.
    pub ttl: i64,
    /// How often it was given.
    pub hits: i64,
}

impl Popular {
    fn name(&self) -> Vec<u8> {
        let mut md5 = Md5::new();
        md5.update((self.asker.len() as u64).to_le_bytes());
        md5.update(&self.asker);
        md5.update(&self.question);
        md5.finalize().to_vec()
    }
}

impl Catalog {
    /// The `max` questions that were asked most often.
    ///
    /// # Errors
    /// When the catalog's shard does not answer.
    pub async fn popular(&self, max: usize) -> Result<Vec<Popular>, CatalogError> {
        let sql = "SELECT asker, question, extended, ttl, hits FROM keyway.popular ORDER BY hits DESC, name LIMIT $1";
        let max = i64::try_from(max).unwrap_or(i64::MAX);
        let state = self.state.load_full();
        let rows = state
            .holder()
            .await?
            .query(sql, &[&max])
            .await
            .map_err(state.failed("read keyway.popular"))?;
        let mut all = Vec::with_capacity(rows.len());
        for row in rows {
            let read = || {
                Ok(Popular {
                    asker: row.try_get(0)?,
                    question: row.try_get(1)?,
                    extended: row.try_get(2)?,
                    ttl: row.try_get(3)?,
                    hits: row.try_get(4)?,
                })
            };
            all.push(read().map_err(state.failed("read keyway.popular"))?);
        }
        Ok(all)
    }

    /// Notes how often questions were asked since they were noted last, and forgets all but the `max` most often asked. What
    /// was asked before counts half from each minute to the next, however many Keyways note.
    ///
    /// # Errors
    /// When the catalog's shard does not take it.
    pub async fn note_popular(&self, asked: &[Popular], max: usize) -> Result<(), CatalogError> {
        let sql = "WITH asked AS (
                SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::boolean[], $5::bigint[], $6::bigint[])
                    AS a (name, asker, question, extended, ttl, hits)
                ORDER BY name
            )
            INSERT INTO keyway.popular AS p (name, asker, question, extended, ttl, hits)
            SELECT name, asker, question, extended, ttl, hits FROM asked
            ON CONFLICT (name) DO UPDATE SET hits = p.hits + excluded.hits, ttl = excluded.ttl";
        let names: Vec<Vec<u8>> = asked.iter().map(Popular::name).collect();
        let askers: Vec<&[u8]> = asked.iter().map(|a| &*a.asker).collect();
        let questions: Vec<&[u8]> = asked.iter().map(|a| &*a.question).collect();
        let extended: Vec<bool> = asked.iter().map(|a| a.extended).collect();
        let ttls: Vec<i64> = asked.iter().map(|a| a.ttl).collect();
        let hits: Vec<i64> = asked.iter().map(|a| a.hits).collect();
        let state = self.state.load_full();
        let holder = state.holder().await?;
        let failed = || state.failed("write keyway.popular");
        let half = "WITH first_of_its_minute AS (
                INSERT INTO keyway.settings AS s (name, value) VALUES ('popular halved', extract(epoch FROM now())::bigint / 60)
                ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE s.value < excluded.value
                RETURNING 1
            )
            UPDATE keyway.popular SET hits = hits / 2 WHERE EXISTS (SELECT FROM first_of_its_minute)";
        holder.execute(half, &[]).await.map_err(failed())?;
        holder
            .execute(sql, &[&names, &askers, &questions, &extended, &ttls, &hits])
            .await
            .map_err(failed())?;
        let forget = "DELETE FROM keyway.popular WHERE name IN
            (SELECT name FROM keyway.popular ORDER BY hits DESC, name OFFSET $1)";
        let max = i64::try_from(max).unwrap_or(i64::MAX);
        holder.execute(forget, &[&max]).await.map_err(failed())?;
        Ok(())
    }
}
