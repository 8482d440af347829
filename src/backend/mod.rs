//! Connections to PostgreSQL servers. In: an address and a role. Out: a [`server::Server`] in a known state, leased
//! from a pool. Only this room opens server connections; it never decides where a statement goes.
//!
//! Reading order: `stream`, `connect`, `server`, `settings`, `budget`, `manager`, `pool`.

pub mod budget;
pub mod connect;
pub mod manager;
pub mod pool;
mod queue;
pub mod server;
pub mod settings;
pub mod stream;
pub mod tls;
