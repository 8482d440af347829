//! Calendar, names and plans.
