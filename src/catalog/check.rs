//! `keyway check`.
