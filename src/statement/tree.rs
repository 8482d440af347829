//! The statement as a tree of our own: what routing needs to see, and nothing more.
//!
//! `parse` makes it from the *shape text* (the client's text with its extracted literals replaced by
//! placeholders, see `scan.rs`), so whatever is decided from a tree can only depend on the shape. Anything
//! `parse` does not understand becomes [`Expr::Other`] (children kept) or a [`ParseError`]; nothing is dropped
//! silently, because a table reference that is not seen is a wrong answer.
//!
//! Identifiers are folded as PostgreSQL does: unquoted ones to lower case, quoted ones as they are, 63 bytes at most.
//! Every [`Span`] is a byte range in the shape text.

use std::ops::Range;

/// A byte range in the shape text.
pub type Span = Range<usize>;

/// A possibly schema-qualified name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name {
    /// The schema, when the text gives one.
    pub schema: Option<String>,
    /// The last part.
    pub name: String,
}

/// One statement that needs routing. Session statements (SET, BEGIN, …) never get here: `command.rs` reads them.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// SELECT, VALUES, TABLE, set operations, with or without WITH.
    Query(Query),
    /// INSERT.
    Insert(Insert),
    /// UPDATE.
    Update(Update),
    /// DELETE.
    Delete(Delete),
    /// MERGE.
    Merge(Merge),
    /// COPY table or COPY (query).
    Copy(Copy),
    /// EXPLAIN of an inner statement.
    Explain {
        /// ANALYZE was asked for: the inner statement runs.
        analyze: bool,
        /// What is explained.
        statement: Box<Statement>,
    },
    /// DECLARE name CURSOR FOR query.
    Declare {
        /// The cursor's name.
        name: String,
        /// WITH HOLD: outlives its transaction.
        hold: bool,
        /// SCROLL was asked for.
        scroll: bool,
        /// The query, and where its text is in the shape text.
        query: Query,
        /// Where the query's own text is.
        query_span: Span,
    },
    /// PREPARE name [(types)] AS statement.
    Prepare {
        /// The prepared statement's name.
        name: String,
        /// The declared parameter types, as written.
        types: Vec<String>,
        /// The statement.
        statement: Box<Statement>,
        /// Where the inner statement's text is.
        statement_span: Span,
    },
    /// Schema changes and everything else that names objects.
    Ddl(Ddl),
    /// TRUNCATE.
    Truncate {
        /// The tables.
        tables: Vec<Name>,
        /// CASCADE: reaches tables that are not named.
        cascade: bool,
    },
    /// LOCK TABLE.
    Lock {
        /// The tables.
        tables: Vec<Name>,
    },
    /// VACUUM, ANALYZE, REINDEX, CLUSTER: per-shard upkeep. No tables means the whole database.
    Maintenance {
        /// The tables; empty means all.
        tables: Vec<Name>,
        /// It refuses to run inside a transaction block (VACUUM, REINDEX CONCURRENTLY …).
        outside_transaction: bool,
        /// It builds indexes anew (REINDEX, CLUSTER, VACUUM FULL).
        rebuilds: bool,
    },
    /// CALL procedure(…).
    Call {
        /// The procedure.
        function: Name,
        /// Its arguments.
        args: Vec<Expr>,
    },
}

impl Statement {
    /// Does it answer with rows?
    #[must_use]
    pub fn returns_rows(&self) -> bool {
        match self {
            Self::Query(query) => {
                !matches!(&query.body, Body::Select(select) if select.into.is_some())
            }
            Self::Insert(insert) => !insert.returning.is_empty(),
            Self::Update(update) => !update.returning.is_empty(),
            Self::Delete(delete) => !delete.returning.is_empty(),
            Self::Explain { .. } => true,
            Self::Merge(_)
            | Self::Copy(_)
            | Self::Declare { .. }
            | Self::Prepare { .. }
            | Self::Ddl(_)
            | Self::Truncate { .. }
            | Self::Lock { .. }
            | Self::Maintenance { .. }
            | Self::Call { .. } => false,
        }
    }
}

/// A query expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// WITH entries in order.
    pub with: Vec<Cte>,
    /// WITH RECURSIVE.
    pub recursive: bool,
    /// The body.
    pub body: Body,
    /// ORDER BY of the whole.
    pub order_by: Vec<OrderKey>,
    /// LIMIT or FETCH FIRST; `LIMIT ALL` and `LIMIT NULL` give `None` only when written as such literals.
    pub limit: Option<Expr>,
    /// OFFSET.
    pub offset: Option<Expr>,
    /// FETCH FIRST … WITH TIES.
    pub with_ties: bool,
    /// FOR UPDATE / SHARE and kin.
    pub locking: bool,
    /// From the first byte of `LIMIT`/`OFFSET`/`FETCH` to the end of the last of them, if any is there.
    pub limit_span: Option<Span>,
    /// Where a `LIMIT n` could be put: after ORDER BY, before FOR UPDATE.
    pub limit_at: usize,
    /// The whole query with its WITH.
    pub span: Span,
}

impl Query {
    /// Its SELECT block, if it is one.
    #[must_use]
    pub fn select(&self) -> Option<&Select> {
        match &self.body {
            Body::Select(select) => Some(select),
            Body::Nested(query) => query.select(),
            Body::Values(_) | Body::Set { .. } => None,
        }
    }
}

/// One WITH entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Cte {
    /// Its name, which hides tables of the same (unqualified) name in the statement.
    pub name: String,
    /// Column names given after the name.
    pub columns: Vec<String>,
    /// A query or a data-modifying statement with RETURNING.
    pub statement: Statement,
}

/// What a query is made of.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// SELECT.
    Select(Box<Select>),
    /// VALUES rows.
    Values(Vec<Vec<Expr>>),
    /// UNION, INTERSECT, EXCEPT.
    Set {
        /// Which.
        op: SetOp,
        /// ALL.
        all: bool,
        /// Left arm.
        left: Box<Body>,
        /// Right arm.
        right: Box<Body>,
    },
    /// A parenthesised query with clauses of its own.
    Nested(Box<Query>),
}

/// The set operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetOp {
    /// UNION
    Union,
    /// INTERSECT
    Intersect,
    /// EXCEPT
    Except,
}

/// One SELECT block.
#[derive(Debug, Clone, PartialEq)]
pub struct Select {
    /// DISTINCT.
    pub distinct: Distinct,
    /// The select list.
    pub items: Vec<Item>,
    /// Just behind the last item of the select list: where hidden columns can be added.
    pub items_end: usize,
    /// FROM, comma separated.
    pub from: Vec<From>,
    /// WHERE.
    pub filter: Option<Expr>,
    /// GROUP BY.
    pub group_by: Vec<Expr>,
    /// Where each GROUP BY expression is, so that it can be copied into the select list. Empty when not known.
    pub group_by_spans: Vec<Span>,
    /// ROLLUP, CUBE, GROUPING SETS, GROUP BY ALL or DISTINCT: not a plain list of expressions.
    pub grouping_sets: bool,
    /// HAVING.
    pub having: Option<Expr>,
    /// Where `HAVING …` is, keyword included.
    pub having_span: Option<Span>,
    /// WINDOW clause definitions' expressions, or QUALIFY and other things outside plain SQL.
    pub windows: Vec<Expr>,
    /// SELECT … INTO name: creates a table.
    pub into: Option<Name>,
}

/// DISTINCT of a select.
#[derive(Debug, Clone, PartialEq)]
pub enum Distinct {
    /// Not asked for.
    No,
    /// DISTINCT.
    Rows,
    /// DISTINCT ON (…).
    On(Vec<Expr>),
}

/// One entry of a select list or RETURNING.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// An expression, perhaps named.
    Expr {
        /// The expression.
        expr: Expr,
        /// AS name.
        alias: Option<String>,
        /// Where the expression (without its alias) is.
        span: Span,
    },
    /// `*`
    Star,
    /// `t.*` or `s.t.*`
    QualifiedStar(Vec<String>),
}

/// A FROM entry.
#[derive(Debug, Clone, PartialEq)]
pub enum From {
    /// A table, view or CTE name.
    Table {
        /// The name as written.
        name: Name,
        /// Its alias.
        alias: Option<String>,
        /// Column aliases.
        columns: Vec<String>,
        /// Where it stands.
        span: Span,
    },
    /// A subquery.
    Subquery {
        /// LATERAL.
        lateral: bool,
        /// The query.
        query: Box<Query>,
        /// Its alias.
        alias: Option<String>,
        /// Column aliases.
        columns: Vec<String>,
    },
    /// A set-returning function, UNNEST, ROWS FROM, XMLTABLE, JSON_TABLE …
    Function {
        /// Its name; empty name for forms that are not a plain call.
        name: Name,
        /// All argument expressions (may refer to entries on the left).
        args: Vec<Expr>,
        /// Its alias.
        alias: Option<String>,
        /// Column aliases.
        columns: Vec<String>,
    },
    /// A join.
    Join {
        /// Left side.
        left: Box<From>,
        /// Right side.
        right: Box<From>,
        /// Inner, left, …
        kind: JoinKind,
        /// Its condition.
        on: JoinOn,
    },
}

/// Join kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinKind {
    /// INNER or CROSS
    Inner,
    /// LEFT
    Left,
    /// RIGHT
    Right,
    /// FULL
    Full,
}

/// Join conditions.
#[derive(Debug, Clone, PartialEq)]
pub enum JoinOn {
    /// CROSS JOIN.
    Nothing,
    /// ON.
    On(Expr),
    /// USING.
    Using(Vec<String>),
    /// NATURAL.
    Natural,
}

/// An ORDER BY key.
#[derive(Debug, Clone, PartialEq)]
pub struct OrderKey {
    /// The expression, an output name or an ordinal (a [`Expr::Number`]).
    pub expr: Expr,
    /// DESC. (`USING operator` is a [`ParseError`].)
    pub descending: bool,
    /// NULLS FIRST / LAST when written.
    pub nulls_first: Option<bool>,
    /// Where the expression is.
    pub span: Span,
}

/// INSERT.
#[derive(Debug, Clone, PartialEq)]
pub struct Insert {
    /// WITH before INSERT.
    pub with: Vec<Cte>,
    /// WITH RECURSIVE.
    pub recursive: bool,
    /// The target.
    pub table: Name,
    /// AS alias.
    pub alias: Option<String>,
    /// The column list; empty when absent.
    pub columns: Vec<String>,
    /// OVERRIDING USER VALUE: what is given for identity columns is not used.
    pub overriding_user: bool,
    /// What is inserted.
    pub source: InsertSource,
    /// ON CONFLICT.
    pub on_conflict: Option<OnConflict>,
    /// RETURNING.
    pub returning: Vec<Item>,
}

/// What an INSERT inserts.
#[derive(Debug, Clone, PartialEq)]
pub enum InsertSource {
    /// VALUES rows; [`Expr::Default`] may stand in them.
    Values(Vec<Vec<Expr>>),
    /// DEFAULT VALUES.
    Default,
    /// A query.
    Query(Box<Query>),
}

/// ON CONFLICT.
#[derive(Debug, Clone, PartialEq)]
pub enum OnConflict {
    /// DO NOTHING.
    Nothing,
    /// DO UPDATE SET … [WHERE …].
    Update {
        /// Columns set and their values.
        set: Vec<Assignment>,
        /// WHERE.
        filter: Option<Expr>,
    },
}

/// `column = value` in a SET list. `(a, b) = (SELECT …)` gives one assignment with both columns.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// The columns.
    pub columns: Vec<String>,
    /// The value.
    pub value: Expr,
}

/// UPDATE.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// WITH.
    pub with: Vec<Cte>,
    /// WITH RECURSIVE.
    pub recursive: bool,
    /// The target.
    pub table: Name,
    /// Its alias.
    pub alias: Option<String>,
    /// SET.
    pub set: Vec<Assignment>,
    /// FROM.
    pub from: Vec<From>,
    /// WHERE.
    pub filter: Option<Expr>,
    /// WHERE CURRENT OF cursor.
    pub current_of: Option<String>,
    /// RETURNING.
    pub returning: Vec<Item>,
}

/// DELETE.
#[derive(Debug, Clone, PartialEq)]
pub struct Delete {
    /// WITH.
    pub with: Vec<Cte>,
    /// WITH RECURSIVE.
    pub recursive: bool,
    /// The target.
    pub table: Name,
    /// Its alias.
    pub alias: Option<String>,
    /// USING.
    pub using: Vec<From>,
    /// WHERE.
    pub filter: Option<Expr>,
    /// WHERE CURRENT OF cursor.
    pub current_of: Option<String>,
    /// RETURNING.
    pub returning: Vec<Item>,
}

/// MERGE.
#[derive(Debug, Clone, PartialEq)]
pub struct Merge {
    /// WITH.
    pub with: Vec<Cte>,
    /// The target.
    pub table: Name,
    /// Its alias.
    pub alias: Option<String>,
    /// USING source.
    pub source: From,
    /// ON.
    pub on: Expr,
    /// WHEN clauses.
    pub clauses: Vec<MergeClause>,
}

/// One WHEN of a MERGE.
#[derive(Debug, Clone, PartialEq)]
pub struct MergeClause {
    /// AND condition.
    pub condition: Option<Expr>,
    /// The action.
    pub action: MergeAction,
}

/// What a WHEN does.
#[derive(Debug, Clone, PartialEq)]
pub enum MergeAction {
    /// INSERT (columns) VALUES (values).
    Insert {
        /// Columns; empty when absent.
        columns: Vec<String>,
        /// OVERRIDING USER VALUE.
        overriding_user: bool,
        /// Values; `None` for DEFAULT VALUES.
        values: Option<Vec<Expr>>,
    },
    /// UPDATE SET.
    Update(Vec<Assignment>),
    /// DELETE.
    Delete,
    /// DO NOTHING.
    Nothing,
}

/// COPY.
#[derive(Debug, Clone, PartialEq)]
pub struct Copy {
    /// What is copied.
    pub subject: CopySubject,
    /// FROM or TO.
    pub direction: CopyDirection,
    /// STDIN/STDOUT; otherwise a server's file or program.
    pub stdio: bool,
    /// The options as written, lower-cased names: (`format`, `csv`), (`header`, `true`) …
    pub options: Vec<(String, String)>,
}

/// What COPY copies.
#[derive(Debug, Clone, PartialEq)]
pub enum CopySubject {
    /// A table, perhaps with a column list.
    Table {
        /// The table.
        name: Name,
        /// The columns; empty when absent.
        columns: Vec<String>,
    },
    /// COPY (statement) TO.
    Statement(Box<Statement>),
}

/// The direction of a COPY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyDirection {
    /// COPY … FROM
    From,
    /// COPY … TO
    To,
}

/// Statements that change or name objects.
#[derive(Debug, Clone, PartialEq)]
pub enum Ddl {
    /// CREATE TABLE with its columns and constraints.
    CreateTable(CreateTable),
    /// ALTER TABLE.
    AlterTable {
        /// The table.
        table: Name,
        /// Each action, as far as it matters.
        actions: Vec<AlterAction>,
    },
    /// CREATE [UNIQUE] INDEX.
    CreateIndex {
        /// The table.
        table: Name,
        /// UNIQUE.
        unique: bool,
        /// Plain columns; `None` where an entry is an expression.
        columns: Vec<Option<String>>,
        /// CONCURRENTLY: cannot run in a transaction block.
        concurrently: bool,
    },
    /// DROP TABLE/INDEX/VIEW/SEQUENCE/… with the names.
    Drop {
        /// `table`, `index`, `view`, `sequence`, `type`, `schema`, `function`, …
        kind: String,
        /// The names.
        names: Vec<Name>,
        /// CONCURRENTLY.
        concurrently: bool,
    },
    /// CREATE [MATERIALIZED] VIEW name AS query, CREATE TABLE AS query.
    CreateAs {
        /// `view`, `materialized view`, `table`.
        kind: String,
        /// What is created.
        name: Name,
        /// The query.
        query: Box<Query>,
    },
    /// CREATE TYPE / DOMAIN / SEQUENCE / SCHEMA / EXTENSION / FUNCTION / TRIGGER / POLICY / RULE, GRANT, COMMENT …
    Other {
        /// The first words in upper case, e.g. `CREATE TYPE`, `GRANT`, `ALTER SEQUENCE`.
        what: String,
        /// The tables it names, as far as known (trigger's, policy's, grant's tables).
        tables: Vec<Name>,
        /// The object's own name, if it has one.
        name: Option<Name>,
        /// What ALTER calls it from now on.
        becomes: Option<Becomes>,
    },
}

/// A new name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Becomes {
    /// RENAME TO.
    Named(String),
    /// SET SCHEMA.
    InSchema(String),
}

/// CREATE TABLE.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateTable {
    /// The table.
    pub name: Name,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// The columns.
    pub columns: Vec<ColumnDefinition>,
    /// Table constraints.
    pub constraints: Vec<TableConstraint>,
    /// LIKE, INHERITS, PARTITION OF, OF type: the columns come from elsewhere.
    pub columns_from: Option<Name>,
    /// PARTITION BY.
    pub partition_by: bool,
}

/// A column in CREATE TABLE or ADD COLUMN.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnDefinition {
    /// Its name.
    pub name: String,
    /// Its type as written, lower case: `bigint`, `varchar(10)`, `bigserial`.
    pub data_type: String,
    /// GENERATED … AS IDENTITY.
    pub identity: bool,
    /// DEFAULT expression.
    pub default: Option<Expr>,
    /// Column constraints, as table constraints over this one column.
    pub constraints: Vec<TableConstraint>,
}

/// A constraint.
#[derive(Debug, Clone, PartialEq)]
pub enum TableConstraint {
    /// PRIMARY KEY.
    PrimaryKey(Vec<String>),
    /// UNIQUE.
    Unique(Vec<String>),
    /// EXCLUDE with the plain columns compared by `=`.
    Exclude(Vec<String>),
    /// FOREIGN KEY.
    ForeignKey {
        /// Own columns.
        columns: Vec<String>,
        /// The referenced table.
        table: Name,
        /// Its columns; empty means its primary key.
        references: Vec<String>,
        /// ON UPDATE CASCADE / SET NULL / SET DEFAULT.
        on_update_changes: bool,
        /// ON DELETE SET NULL / SET DEFAULT.
        on_delete_sets: bool,
    },
    /// CHECK and NOT NULL: one shard holds them alone.
    Local,
}

/// An ALTER TABLE action.
#[derive(Debug, Clone, PartialEq)]
pub enum AlterAction {
    /// ADD COLUMN.
    AddColumn(ColumnDefinition),
    /// ADD CONSTRAINT.
    AddConstraint(TableConstraint),
    /// DROP COLUMN.
    DropColumn(String),
    /// ALTER COLUMN … TYPE, with its USING.
    AlterType(String, Option<Expr>),
    /// ALTER COLUMN … SET DEFAULT.
    SetDefault(String, Expr),
    /// RENAME COLUMN a TO b.
    RenameColumn(String, String),
    /// RENAME TO.
    RenameTable(String),
    /// SET SCHEMA.
    SetSchema(String),
    /// Anything whose effect stays on the shard (OWNER, SET NOT NULL, VALIDATE …).
    Local,
    /// Anything not understood; refused on sharded tables.
    Other,
}

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// A column: qualifier parts (`t`, `s.t`) and the name. The name `*` is the whole row, as in `count(t.*)`.
    Column {
        /// What stands before the last dot.
        qualifier: Vec<String>,
        /// The column.
        name: String,
    },
    /// The i-th literal that `scan` took out of the text (0-based).
    Literal(usize),
    /// `$n` (1-based).
    Param(u16),
    /// NULL.
    Null,
    /// TRUE or FALSE.
    Bool(bool),
    /// A number that stayed in the shape text.
    Number(String),
    /// A string that stayed in the shape text.
    String(String),
    /// DEFAULT, in VALUES and SET.
    Default,
    /// A AND B AND …, flattened.
    And(Vec<Expr>),
    /// A OR B OR …, flattened.
    Or(Vec<Expr>),
    /// NOT.
    Not(Box<Expr>),
    /// Unary minus.
    Negate(Box<Expr>),
    /// Any other binary operator, by its text: `=`, `<`, `+`, `||`, `->>`, `OPERATOR(x.=)` …
    Binary {
        /// The operator.
        op: String,
        /// Left.
        left: Box<Expr>,
        /// Right.
        right: Box<Expr>,
    },
    /// `x IN (list)`.
    In {
        /// The left side.
        expr: Box<Expr>,
        /// The list.
        list: Vec<Expr>,
        /// NOT IN.
        negated: bool,
    },
    /// `x IN (query)`.
    InQuery {
        /// The left side.
        expr: Box<Expr>,
        /// The query.
        query: Box<Query>,
        /// NOT IN.
        negated: bool,
    },
    /// `x op ANY (array or query)` / ALL.
    Quantified {
        /// The left side.
        left: Box<Expr>,
        /// The operator.
        op: String,
        /// ALL rather than ANY/SOME.
        all: bool,
        /// The array, or an [`Expr::Query`].
        right: Box<Expr>,
    },
    /// `x IS NULL` / `IS NOT NULL`.
    IsNull {
        /// The operand.
        expr: Box<Expr>,
        /// IS NOT NULL.
        negated: bool,
    },
    /// `x BETWEEN a AND b`.
    Between {
        /// The operand.
        expr: Box<Expr>,
        /// Lower bound.
        low: Box<Expr>,
        /// Upper bound.
        high: Box<Expr>,
        /// NOT BETWEEN.
        negated: bool,
    },
    /// EXISTS (query).
    Exists(Box<Query>),
    /// A scalar subquery.
    Query(Box<Query>),
    /// ARRAY[…]; `ARRAY(query)` is [`Expr::Other`] with the query as its child.
    Array(Vec<Expr>),
    /// ROW(…) or (a, b).
    Row(Vec<Expr>),
    /// A cast: `x::t`, CAST(x AS t), `t 'literal'`.
    Cast {
        /// The operand.
        expr: Box<Expr>,
        /// The type as written, lower case.
        data_type: String,
    },
    /// CASE.
    Case(Vec<Expr>),
    /// A function call, keyword functions included (`current_timestamp`, `extract`, `coalesce`).
    Function(Box<FunctionCall>),
    /// `x COLLATE c`.
    Collate {
        /// The operand.
        expr: Box<Expr>,
        /// The collation.
        collation: Name,
    },
    /// `(x).name`: a field of a composite value, or, where it has none of that name, the call `name(x)`.
    Field {
        /// The value.
        expr: Box<Expr>,
        /// The field, or the function.
        name: String,
    },
    /// Anything else: understood only as far as its children.
    Other(Vec<Expr>),
}

/// A function call.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionCall {
    /// The function, folded. Keyword functions carry their keyword in lower case.
    pub name: Name,
    /// The arguments.
    pub args: Vec<Expr>,
    /// `count(*)`.
    pub star: bool,
    /// `f(DISTINCT …)`.
    pub distinct: bool,
    /// FILTER (WHERE …).
    pub filter: Option<Expr>,
    /// ORDER BY inside, WITHIN GROUP (…).
    pub order_by: Vec<Expr>,
    /// OVER (…) or OVER w: a window function. The expressions of the window are children here.
    pub over: Option<Vec<Expr>>,
}

/// The text could not be turned into a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ParseError {
    /// What was not understood, without any literal of the statement.
    pub reason: String,
}
