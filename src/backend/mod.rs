//! Connections to PostgreSQL servers. In: an address and a role. Out: a [`server::Server`] in a known state, leased
//! from a pool. Only this room opens server connections; it never decides where a statement goes.
//!
//! Reading order: `stream`, `connect`, `server`, `settings`, `pool`.

pub mod connect;
pub mod pool;
pub mod server;
pub mod settings;
pub mod stream;
pub mod tls;
