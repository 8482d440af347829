//! The room's tests: each message there and back and against an implementation that is not ours, then anything at all.

mod auth;
mod fuzz;
mod messages;
mod replication;
mod startup;
