//! Everything that needs real servers: one binary, so that the throwaway clusters are started once.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::print_stderr,
    reason = "these are tests: what goes wrong must be loud"
)]

mod again;
mod cache;
mod cancel;
mod conversations;
mod convert;
mod crowd;
mod drivers;
mod faults;
mod follow;
mod fuzz;
mod gate;
mod harness;
mod house;
mod keeper;
mod keys;
mod linear;
mod logins;
mod lone;
mod migrate;
mod moments;
mod oracle;
mod partition;
mod place;
mod pools;
mod protocol;
mod raw;
mod sessions;
mod settings;
mod shared;
mod temporary;
mod tls;
mod traps;
