//! Shape text → tree, by PostgreSQL's grammar (src/backend/parser/gram.y). The only module that names sqlparser.
//!
//! A statement's clauses are read here from the lexer's tokens, so every span is exact; its expressions in
//! `expression`, which leaves operators and their precedence to sqlparser; definitions and upkeep in `definition`.
//! What is not understood is an error, never a guess.
//!
//! Reading order: this file (which reader for which verb), `reader` (tokens, words, names), `query`, `select`, `from`,
//! `write`, `expression`, `types`, `definition`.

mod definition;
mod expression;
mod from;
mod query;
mod reader;
mod select;
#[cfg(test)]
mod tests;
mod types;
mod write;

use crate::statement::parse::reader::Reader;
use crate::statement::scan::Verb;
use crate::statement::tree::{ParseError, Statement};

/// How deep queries and expressions may nest.
const DEPTH_MAX: usize = 100;

/// How many levels the tree may have, each link of a chain (`a + b + c`, `a::int::text`, joins) being one: it is walked
/// and dropped by recursion.
const HEIGHT_MAX: usize = 384;

/// How many joins or set operations may follow one another: they nest.
const CHAIN_MAX: usize = 256;

/// How long a shape text may be, in bytes.
const SHAPE_MAX: usize = 8 << 20;

/// What reading gives.
type Parse<T> = Result<T, ParseError>;

/// Reads a statement's shape text (see [`crate::statement::scan::shape`]).
///
/// # Errors
/// When the statement is not understood, or is a session statement.
pub fn parse(shape: &str, verb: Verb) -> Result<Statement, ParseError> {
    if shape.len() > SHAPE_MAX {
        return refuse("the statement is too long to be analysed");
    }
    let mut reader = Reader::new(shape)?;
    let statement = reader.statement(verb)?;
    if !reader.at_end() {
        return refuse("the statement goes on where it should end");
    }
    Ok(statement)
}

fn refuse<T>(reason: &str) -> Parse<T> {
    Err(ParseError {
        reason: reason.to_owned(),
    })
}

impl Reader<'_> {
    fn statement(&mut self, verb: Verb) -> Parse<Statement> {
        match verb {
            Verb::Select
            | Verb::With
            | Verb::Insert
            | Verb::Update
            | Verb::Delete
            | Verb::Merge => self.data_statement(),
            Verb::Copy => self.copy(),
            Verb::Explain => self.explain(),
            Verb::Declare => self.declare(),
            Verb::Prepare => self.prepare(),
            Verb::Call => self.call_statement(),
            Verb::Lock => self.lock(),
            Verb::Truncate => self.truncate(),
            Verb::Maintenance => self.maintenance(),
            Verb::Ddl | Verb::Do => self.definition(),
            Verb::Empty
            | Verb::ExplainRoute
            | Verb::Begin
            | Verb::Commit
            | Verb::Rollback
            | Verb::Savepoint
            | Verb::Release
            | Verb::RollbackTo
            | Verb::TwoPhase
            | Verb::Set
            | Verb::Reset
            | Verb::Show
            | Verb::Discard
            | Verb::Execute
            | Verb::Deallocate
            | Verb::Fetch
            | Verb::Move
            | Verb::Close
            | Verb::Listen
            | Verb::Unlisten
            | Verb::Notify
            | Verb::Server
            | Verb::Unknown => refuse("not a statement that works on data"),
        }
    }

    /// SELECT, INSERT, UPDATE, DELETE or MERGE, with or without WITH.
    fn data_statement(&mut self) -> Parse<Statement> {
        let beside = self.enter()?;
        let start = self.at;
        let (with, recursive) = self.with()?;
        let statement = if self.word("insert") {
            Statement::Insert(self.insert(with, recursive)?)
        } else if self.word("update") {
            Statement::Update(self.update(with, recursive)?)
        } else if self.word("delete") {
            Statement::Delete(self.delete(with, recursive)?)
        } else if self.word("merge") {
            if recursive {
                return refuse("MERGE with WITH RECURSIVE");
            }
            Statement::Merge(self.merge(with)?)
        } else {
            Statement::Query(self.query_behind_with(start, with, recursive)?)
        };
        self.leave(beside)?;
        Ok(statement)
    }
}
