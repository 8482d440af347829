//! Throwaway shards on this machine, for trying Keyway out and for its tests.

pub mod binaries;
pub mod cluster;

#[cfg(test)]
mod tests;
