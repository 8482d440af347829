//! The data path's only way to the control plane: a bounded queue of requests.

use crate::topology::TableName;
use tokio::sync::{mpsc, oneshot};

/// Requests that may wait for the control plane.
pub const REQUESTS_MAX: usize = 1_024;

/// A change of the schema through this Keyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SchemaChange {
    /// Of a table that others may see or not; if they do, the schemas' fingerprints show it.
    Possible,
    /// Surely.
    Made,
}

/// What a session asks of the control plane.
#[derive(Debug)]
pub enum Request {
    /// The schema changed: read it again and publish it. Answered when the new snapshot is published.
    SchemaChanged {
        /// Has it?
        change: SchemaChange,
        /// Where to say that it is done.
        done: oneshot::Sender<Result<(), String>>,
    },
    /// Kept answers are to be dropped by every Keyway. Answered when this one has dropped them and the others are told.
    Flush {
        /// Those made of this table; `None`: all.
        table: Option<TableName>,
        /// Where to say that it is done.
        done: oneshot::Sender<Result<(), String>>,
    },
    /// A schema change committed on some shards only: these tables are refused until the shards are equal again.
    Refuse {
        /// The database.
        database: String,
        /// The tables.
        tables: Vec<TableName>,
        /// Which shards have the change and which do not.
        reason: String,
        /// Where to say that it is recorded.
        done: oneshot::Sender<Result<(), String>>,
    },
}

/// A handle to the control plane.
#[derive(Debug, Clone)]
pub struct Control {
    requests: mpsc::Sender<Request>,
}

impl Control {
    /// A handle and the queue's other end.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Request>) {
        let (requests, queue) = mpsc::channel(REQUESTS_MAX);
        (Self { requests }, queue)
    }

    /// Waits until every statement planned from now on sees the schema as it is now.
    ///
    /// # Errors
    /// Why it could not be read, in words for a log.
    pub async fn schema_changed(&self, change: SchemaChange) -> Result<(), String> {
        self.ask(|done| Request::SchemaChanged { change, done })
            .await
    }

    /// Waits until kept answers are dropped: those made of a table, or all.
    ///
    /// # Errors
    /// Why others could not be told, in words for a log.
    pub async fn flush(&self, table: Option<TableName>) -> Result<(), String> {
        self.ask(|done| Request::Flush { table, done }).await
    }

    /// Waits until `tables` are refused everywhere.
    ///
    /// # Errors
    /// Why it could not be recorded, in words for a log.
    pub async fn refuse(
        &self,
        database: &str,
        tables: &[TableName],
        reason: &str,
    ) -> Result<(), String> {
        self.ask(|done| Request::Refuse {
            database: database.to_owned(),
            tables: tables.to_vec(),
            reason: reason.to_owned(),
            done,
        })
        .await
    }

    async fn ask(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<(), String>>) -> Request,
    ) -> Result<(), String> {
        let (done, answer) = oneshot::channel();
        self.requests
            .send(request(done))
            .await
            .map_err(|_| "the control plane has stopped".to_owned())?;
        answer
            .await
            .map_err(|_| "the control plane has stopped".to_owned())?
    }
}
