//! A table and its partitions as a shard has them.

use crate::config::partitions::Partitioned;
use crate::config::values::TableName;
use crate::partition::bounds::Bound;
use crate::partition::line::Axis;
use tokio_postgres::{Client, Error, Row};

/// A partitioned table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// Its oid on this shard.
    pub oid: u32,
    /// Its name.
    pub name: TableName,
    /// What it is divided by.
    pub key: Key,
    /// What its new partitions have from it.
    pub traits: Traits,
    /// Its partitions.
    pub children: Vec<Child>,
}

/// What a partition of a table has from the table and LIKE does not copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traits {
    /// The owner, when it is not the role that works.
    pub owner: Option<String>,
    /// The tablespace, when it is not the database's.
    pub tablespace: Option<String>,
    /// The access method, when the table names one.
    pub method: Option<String>,
}

/// PARTITION BY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// RANGE, HASH or LIST.
    pub strategy: Strategy,
    /// In order.
    pub columns: Vec<KeyColumn>,
}

/// How rows are divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// BY RANGE
    Range,
    /// BY HASH
    Hash,
    /// BY LIST
    List,
}

impl Strategy {
    /// In PostgreSQL's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Range => "RANGE",
            Self::Hash => "HASH",
            Self::List => "LIST",
        }
    }
}

/// A column of a partition key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyColumn {
    /// Its name; `None` for an expression.
    pub name: Option<String>,
    /// Its type, under all domains.
    pub type_name: String,
    /// Are values ordered, or hashed, as the type's default operator class does it?
    pub is_plain: bool,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// Its oid on this shard.
    pub oid: u32,
    /// Its name.
    pub name: TableName,
    /// A foreign table.
    pub is_foreign: bool,
    /// What it takes.
    pub bound: Bound,
    /// A DETACH … CONCURRENTLY was cut off. It takes no new rows, and nothing else may take its range.
    pub is_detaching: bool,
    /// Its own partitions, when it is divided by itself.
    pub inner: Option<Inner>,
}

/// How a partition is divided by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inner {
    /// By what.
    pub strategy: Strategy,
    /// The columns in order; `None` for an expression.
    pub columns: Vec<Option<String>>,
    /// Its partitions' bounds.
    pub bounds: Vec<Bound>,
}

/// Why a declaration and a table do not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// There is none.
    #[error(
        "there is no such table; CREATE TABLE … PARTITION BY is a migration's business, its partitions are Keyway's"
    )]
    Missing,
    /// An ordinary table.
    #[error(
        "it is an ordinary table; `keyway partition convert {0}` makes a partitioned table of it while it is used"
    )]
    Ordinary(TableName),
    /// Something else that is no table.
    #[error("it is {0}, not a table")]
    NoTable(&'static str),
    /// Divided by something else.
    #[error(
        "it is PARTITION BY {found}, and declared BY {declared}; change the declaration, PostgreSQL cannot change the table"
    )]
    Key {
        /// Found.
        found: String,
        /// Declared.
        declared: String,
    },
    /// Ordered, or hashed, in another way than its type.
    #[error(
        "column {0:?} of its partition key has an operator class of its own, whose order Keyway does not know"
    )]
    OperatorClass(String),
    /// A type that ranges cannot be counted on.
    #[error(
        "column {column:?} has type {type_name}; ranges are kept for date, timestamp, timestamptz, smallint, integer and bigint"
    )]
    Type {
        /// The column.
        column: String,
        /// Its type.
        type_name: String,
    },
    /// `every` or `retain` is for another type.
    #[error("column {column:?} has type {type_name}, for which {what}")]
    Every {
        /// The column.
        column: String,
        /// Its type.
        type_name: String,
        /// What is wrong.
        what: &'static str,
    },
}

impl Key {
    fn shown(&self) -> String {
        let names = self.columns.iter().map(|column| match &column.name {
            Some(name) => name.as_str(),
            None => "an expression",
        });
        shown(self.strategy, &names.collect::<Vec<_>>())
    }

    /// Does the table's key fit its declaration? Its line, when it is divided by range.
    ///
    /// # Errors
    /// When it does not.
    pub fn fits(&self, declared: &Partitioned) -> Result<Option<Axis>, Misfit> {
        let (strategy, columns) = match (&declared.range, &declared.hash) {
            (Some(range), _) => (Strategy::Range, vec![range.column.as_str()]),
            (None, Some(hash)) => {
                let columns = hash.columns.iter().map(String::as_str);
                (Strategy::Hash, columns.collect())
            }
            (None, None) => (Strategy::List, Vec::new()),
        };
        let own: Vec<Option<&str>> = self.columns.iter().map(|one| one.name.as_deref()).collect();
        let wanted: Vec<Option<&str>> = columns.iter().copied().map(Some).collect();
        if strategy != self.strategy || own != wanted {
            return Err(Misfit::Key {
                found: self.shown(),
                declared: shown(strategy, &columns),
            });
        }
        let Some(range) = &declared.range else {
            return Ok(None);
        };
        let column = &self.columns[0];
        if !column.is_plain {
            return Err(Misfit::OperatorClass(range.column.clone()));
        }
        axis(&range.column, &column.type_name, declared).map(Some)
    }
}

/// The line of a column of this type, if the declared ranges can be counted on it.
///
/// # Errors
/// When they cannot.
pub fn axis(column: &str, type_name: &str, declared: &Partitioned) -> Result<Axis, Misfit> {
    use crate::config::partitions::{Span, Unit};
    let Some(axis) = Axis::of_type(type_name) else {
        return Err(Misfit::Type {
            column: column.to_owned(),
            type_name: type_name.to_owned(),
        });
    };
    let every = declared.range.as_ref().map(|range| range.every);
    let what = match (axis, every) {
        (Axis::Date, Some(Span::Time(_, Unit::Hour))) => "every = \"hour\" is too fine",
        (axis, Some(Span::Step(_))) if axis.is_time() => {
            "every is a unit of the calendar, not a number of values"
        }
        (axis, Some(Span::Time(..))) if !axis.is_time() => {
            "every is a number of values, not a unit of the calendar"
        }
        _ => return Ok(axis),
    };
    Err(Misfit::Every {
        column: column.to_owned(),
        type_name: type_name.to_owned(),
        what,
    })
}

fn shown(strategy: Strategy, columns: &[&str]) -> String {
    format!("{} ({})", strategy.word(), columns.join(", "))
}

const TABLE: &str = "
    SELECT c.oid, c.relkind::text, o.rolname::text, o.rolname = current_user, t.spcname::text, m.amname::text, p.partstrat::text
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_roles o ON o.oid = c.relowner
    LEFT JOIN pg_catalog.pg_tablespace t ON t.oid = c.reltablespace
    LEFT JOIN pg_catalog.pg_am m ON m.oid = c.relam
    LEFT JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = c.oid
    WHERE n.nspname = $1 AND c.relname = $2";

const KEY: &str = "
    SELECT a.attname::text, o.opcdefault,
      (WITH RECURSIVE under(oid, basetype) AS (
         SELECT t.oid, t.typbasetype FROM pg_catalog.pg_type t WHERE t.oid = a.atttypid
         UNION ALL SELECT t.oid, t.typbasetype FROM under u JOIN pg_catalog.pg_type t ON t.oid = u.basetype)
       SELECT CASE WHEN t.typnamespace = 'pg_catalog'::pg_catalog.regnamespace THEN t.typname::text
                   ELSE pg_catalog.format_type(t.oid, NULL) END
       FROM under u JOIN pg_catalog.pg_type t ON t.oid = u.oid WHERE u.basetype = 0)
    FROM pg_catalog.pg_partitioned_table p
    CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(p.partattrs::int2[]), pg_catalog.unnest(p.partclass::oid[]))
      WITH ORDINALITY AS k(number, class, place)
    LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = k.number AND k.number <> 0
    JOIN pg_catalog.pg_opclass o ON o.oid = k.class
    WHERE p.partrelid = $1 ORDER BY k.place";

const CHILDREN: &str = "
    SELECT i.inhparent, c.oid, n.nspname::text, c.relname::text, c.relkind::text, i.inhdetachpending,
      pg_catalog.pg_get_expr(c.relpartbound, c.oid), p.partstrat::text,
      ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(p.partattrs::int2[]) WITH ORDINALITY AS k(number, place)
            LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number AND k.number <> 0
            ORDER BY k.place)
    FROM pg_catalog.pg_inherits i
    JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = c.oid
    WHERE i.inhparent = ANY ($1) ORDER BY i.inhparent, c.oid";

fn strategy(letter: Option<&str>) -> Option<Strategy> {
    match letter? {
        "r" => Some(Strategy::Range),
        "h" => Some(Strategy::Hash),
        _ => Some(Strategy::List),
    }
}

/// Reads a table and its partitions. The session prints dates as ISO and times in UTC ([`crate::partition::sql::SESSION`]).
///
/// # Errors
/// When the server fails; inside, when the table is none that can have partitions.
pub async fn read(client: &Client, name: &TableName) -> Result<Result<Parent, Misfit>, Error> {
    let Some(row) = client.query_opt(TABLE, &[&name.schema, &name.name]).await? else {
        return Ok(Err(Misfit::Missing));
    };
    let kind: String = row.try_get(1)?;
    let letter: Option<String> = row.try_get(6)?;
    let Some(strategy) = strategy(letter.as_deref()) else {
        return Ok(Err(match kind.as_str() {
            "r" => Misfit::Ordinary(name.clone()),
            "v" => Misfit::NoTable("a view"),
            "m" => Misfit::NoTable("a materialized view"),
            "f" => Misfit::NoTable("a foreign table"),
            "S" => Misfit::NoTable("a sequence"),
            "i" | "I" => Misfit::NoTable("an index"),
            _ => Misfit::NoTable("something else"),
        }));
    };
    let oid: u32 = row.try_get(0)?;
    let is_own: bool = row.try_get(3)?;
    let owner: String = row.try_get(2)?;
    let traits = Traits {
        owner: (!is_own).then_some(owner),
        tablespace: row.try_get(4)?,
        method: row.try_get(5)?,
    };
    let mut columns = Vec::new();
    for row in client.query(KEY, &[&oid]).await? {
        let type_name: Option<String> = row.try_get(2)?;
        columns.push(KeyColumn {
            name: row.try_get(0)?,
            type_name: type_name.unwrap_or_default(),
            is_plain: row.try_get(1)?,
        });
    }
    let axis = match columns.as_slice() {
        [only] if strategy == Strategy::Range => Axis::of_type(&only.type_name),
        _ => None,
    };
    Ok(Ok(Parent {
        oid,
        name: name.clone(),
        key: Key { strategy, columns },
        traits,
        children: children(client, oid, axis).await?,
    }))
}

async fn children(client: &Client, oid: u32, axis: Option<Axis>) -> Result<Vec<Child>, Error> {
    let mut children = Vec::new();
    for row in client.query(CHILDREN, &[&vec![oid]]).await? {
        children.push(child(&row, axis)?);
    }
    let divided: Vec<u32> = children
        .iter()
        .filter(|child| child.inner.is_some())
        .map(|child| child.oid)
        .collect();
    if divided.is_empty() {
        return Ok(children);
    }
    for row in client.query(CHILDREN, &[&divided]).await? {
        let above: u32 = row.try_get(0)?;
        let bound: Option<String> = row.try_get(6)?;
        let of = children.iter_mut().find(|child| child.oid == above);
        if let Some(inner) = of.and_then(|child| child.inner.as_mut()) {
            let bound = bound.unwrap_or_default();
            inner.bounds.push(Bound::read(&bound, None));
        }
    }
    Ok(children)
}

fn child(row: &Row, axis: Option<Axis>) -> Result<Child, Error> {
    let kind: String = row.try_get(4)?;
    // NULL between the two transactions of a DETACH … CONCURRENTLY, never otherwise.
    let bound: Option<String> = row.try_get(6)?;
    let letter: Option<String> = row.try_get(7)?;
    let columns: Vec<Option<String>> = row.try_get(8)?;
    Ok(Child {
        oid: row.try_get(1)?,
        name: TableName {
            schema: row.try_get(2)?,
            name: row.try_get(3)?,
        },
        is_foreign: kind == "f",
        bound: Bound::read(&bound.unwrap_or_default(), axis),
        is_detaching: row.try_get(5)?,
        inner: strategy(letter.as_deref()).map(|strategy| Inner {
            strategy,
            columns,
            bounds: Vec::new(),
        }),
    })
}
