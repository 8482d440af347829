//! Planning the finish of a scatter: which columns the shards must return, and how their rows become one answer.

/// OFFSET and LIMIT of one execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// Rows to skip.
    pub offset: u64,
    /// Rows to return at most.
    pub limit: Option<u64>,
}

/// How the shards' rows become one answer. Made at planning, the same for every execution of a shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Finish {
    /// Columns at the end of the shards' rows that the client did not ask for.
    pub hidden: usize,
}
