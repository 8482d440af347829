//! Keyway: a sharding router for PostgreSQL. `ARCHITECTURE.md` is the map; read `session/answer.rs` first.

// The path of a statement, in order.
pub mod wire;

pub mod session;

pub mod statement;

pub mod route;

pub mod cache;

pub mod backend;

pub mod execute;

// The control plane.
pub mod admin;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod demo;
pub mod follow;
pub mod metrics;
pub mod migrate;
pub mod partition;
pub mod topology;
