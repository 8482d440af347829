//! Everything that is not a query or a change of rows: definitions, upkeep, COPY, EXPLAIN, PREPARE, DECLARE, CALL.

use crate::statement::lex::TokenKind;
use crate::statement::parse::reader::{Reader, qualified};
use crate::statement::parse::{Parse, refuse};
use crate::statement::tree::{
    AlterAction, Becomes, ColumnDefinition, Copy, CopyDirection, CopySubject, CreateTable, Ddl,
    Expr, Name, Statement, TableConstraint,
};

/// Words that may stand between CREATE or DROP and the kind of object.
const MODIFIERS: &[&str] = &[
    "or",
    "replace",
    "temporary",
    "temp",
    "local",
    "global",
    "unlogged",
    "unique",
    "recursive",
    "trusted",
    "procedural",
    "constraint",
];

/// Behind a column's type: where its constraints begin.
const COLUMN_CONSTRAINTS: &[&str] = &[
    "constraint",
    "not",
    "null",
    "check",
    "default",
    "generated",
    "unique",
    "primary",
    "references",
    "collate",
    "deferrable",
    "initially",
    "storage",
    "compression",
    "options",
    "with",
    "no",
];

/// PostgreSQL's operator classes whose equality is the type's own.
const OWN_CLASSES: &[&str] = &[
    "bool_ops",
    "bpchar_ops",
    "bpchar_pattern_ops",
    "bytea_ops",
    "date_ops",
    "int2_ops",
    "int4_ops",
    "int8_ops",
    "text_ops",
    "text_pattern_ops",
    "timestamp_ops",
    "timestamptz_ops",
    "uuid_ops",
    "varchar_ops",
    "varchar_pattern_ops",
];

impl Reader<'_> {
    /// EXPLAIN statement.
    pub(super) fn explain(&mut self) -> Parse<Statement> {
        self.skip();
        let mut analyze = false;
        if self.is_symbol(self.at, b'(') && !self.is_query_group(self.at) {
            let close = self.matching(self.at)?;
            self.skip();
            while self.at < close {
                let name = self.folded(self.at);
                self.skip();
                let mut value = String::new();
                while self.at < close && !self.is_symbol(self.at, b',') {
                    value.push_str(&self.raw(self.at).to_ascii_lowercase());
                    self.skip();
                }
                self.symbol(b',');
                if matches!(name.as_str(), "analyze" | "analyse") {
                    analyze = !matches!(value.trim_matches('\''), "false" | "off" | "0");
                }
            }
            self.close()?;
        } else {
            analyze = self.word("analyze") || self.word("analyse");
            self.word("verbose");
        }
        let statement = if self.is_word("declare") {
            self.declare()?
        } else if self.is_word("create") {
            match self.definition()? {
                statement @ Statement::Ddl(Ddl::CreateAs { .. }) => statement,
                _ => return refuse("EXPLAIN of this"),
            }
        } else {
            self.data_statement()?
        };
        Ok(Statement::Explain {
            analyze,
            statement: Box::new(statement),
        })
    }

    pub(super) fn declare(&mut self) -> Parse<Statement> {
        self.skip();
        let name = self.name_part()?;
        let mut scroll = false;
        while !self.word("cursor") {
            if self.word("no") {
                self.expect("scroll")?;
            } else if self.word("scroll") {
                scroll = true;
            } else if !self.word("binary") && !self.word("insensitive") {
                self.expect("asensitive")?;
            }
        }
        let hold = self.word("with");
        if hold || self.word("without") {
            self.expect("hold")?;
        }
        self.expect("for")?;
        let start = self.at;
        let query = self.query()?;
        Ok(Statement::Declare {
            name,
            hold,
            scroll,
            query,
            query_span: self.span(start),
        })
    }

    pub(super) fn prepare(&mut self) -> Parse<Statement> {
        self.skip();
        let name = self.name_part()?;
        let mut types = Vec::new();
        if self.symbol(b'(') {
            loop {
                types.push(self.data_type()?);
                if !self.symbol(b',') {
                    break;
                }
            }
            self.close()?;
        }
        self.expect("as")?;
        let start = self.at;
        let statement = self.data_statement()?;
        Ok(Statement::Prepare {
            name,
            types,
            statement: Box::new(statement),
            statement_span: self.span(start),
        })
    }

    pub(super) fn call_statement(&mut self) -> Parse<Statement> {
        self.skip();
        let name = self.name()?;
        match self.call(name, false)? {
            Expr::Function(call) if call.filter.is_none() && call.over.is_none() => {
                Ok(Statement::Call {
                    function: call.name,
                    args: call.args,
                })
            }
            _ => refuse("CALL is not understood"),
        }
    }

    pub(super) fn copy(&mut self) -> Parse<Statement> {
        self.skip();
        let mut options = Vec::new();
        let subject = if self.is_symbol(self.at, b'(') {
            self.skip();
            let statement = self.data_statement()?;
            self.close()?;
            CopySubject::Statement(Box::new(statement))
        } else {
            if self.is_word("binary") {
                self.skip();
                options.push(("format".to_owned(), "binary".to_owned()));
            }
            let name = self.name()?;
            let columns = if self.is_symbol(self.at, b'(') {
                self.column_list()?
            } else {
                Vec::new()
            };
            CopySubject::Table { name, columns }
        };
        let direction = if self.word("from") {
            CopyDirection::From
        } else {
            self.expect("to")?;
            CopyDirection::To
        };
        let stdio = self.word("stdin") || self.word("stdout");
        if !stdio {
            self.word("program");
            self.string()?;
        }
        self.word("with");
        if self.symbol(b'(') {
            self.copy_options(&mut options)?;
        } else {
            self.old_copy_options(&mut options)?;
        }
        if direction == CopyDirection::From && self.is_word("where") {
            let start = self.at;
            self.skip();
            self.expr()?;
            let text = self.text_of(start..self.at).to_owned();
            options.push(("where".to_owned(), text));
        }
        Ok(Statement::Copy(Copy {
            subject,
            direction,
            stdio,
            options,
        }))
    }

    /// `(name value, …)`
    fn copy_options(&mut self, options: &mut Vec<(String, String)>) -> Parse<()> {
        loop {
            let name = self.label()?.to_ascii_lowercase();
            let value = match self.kind(self.at) {
                Some(TokenKind::Punctuation(b'(')) => {
                    let start = self.at;
                    self.at = self.matching(start)? + 1;
                    self.text_of(start..self.at).to_owned()
                }
                Some(TokenKind::Punctuation(_)) | None => "true".to_owned(),
                _ => self.copy_value()?,
            };
            options.push((name, value));
            if !self.symbol(b',') {
                return self.close();
            }
        }
    }

    /// A word, folded, a string's value, a number or `*`.
    fn copy_value(&mut self) -> Parse<String> {
        match self.kind(self.at) {
            Some(TokenKind::Word) => {
                let word = self.folded(self.at);
                self.skip();
                Ok(word)
            }
            Some(TokenKind::Quoted) => self.label(),
            Some(TokenKind::Integer | TokenKind::Decimal | TokenKind::Operator) => {
                let text = self.raw(self.at).to_owned();
                self.skip();
                Ok(text)
            }
            _ => self.string(),
        }
    }

    /// The options of old: CSV HEADER DELIMITER AS ','
    fn old_copy_options(&mut self, options: &mut Vec<(String, String)>) -> Parse<()> {
        while !self.at_end() && !self.is_word("where") {
            let name = self.folded(self.at);
            self.skip();
            let value = match name.as_str() {
                "csv" | "binary" => {
                    options.push(("format".to_owned(), name));
                    continue;
                }
                "header" | "freeze" | "oids" => "true".to_owned(),
                "delimiter" | "delimiters" | "null" | "quote" | "escape" | "encoding" => {
                    if !self.word("as") {
                        self.word("using");
                    }
                    self.string()?
                }
                "force" => {
                    let start = self.at;
                    if !self.word("quote") {
                        self.word("not");
                        self.expect("null")?;
                    }
                    if !self.is_operator("*") {
                        self.plain_names()?;
                    }
                    self.text_of(start..self.at).to_owned()
                }
                _ => return refuse("an option of COPY is not understood"),
            };
            let name = if name == "delimiters" {
                "delimiter".to_owned()
            } else {
                name
            };
            options.push((name, value));
        }
        Ok(())
    }

    /// `[ONLY] a [*], …`
    fn relations(&mut self) -> Parse<Vec<Name>> {
        let mut tables = vec![self.relation()?.0];
        while self.symbol(b',') {
            tables.push(self.relation()?.0);
        }
        Ok(tables)
    }

    pub(super) fn truncate(&mut self) -> Parse<Statement> {
        self.skip();
        self.word("table");
        let tables = self.relations()?;
        if self.word("restart") || self.word("continue") {
            self.expect("identity")?;
        }
        let cascade = self.word("cascade");
        if !cascade {
            self.word("restrict");
        }
        Ok(Statement::Truncate { tables, cascade })
    }

    pub(super) fn lock(&mut self) -> Parse<Statement> {
        self.skip();
        self.word("table");
        let tables = self.relations()?;
        if self.word("in") {
            while !self.word("mode") {
                if self.kind(self.at) != Some(TokenKind::Word) {
                    return refuse("MODE is missing");
                }
                self.skip();
            }
        }
        self.word("nowait");
        Ok(Statement::Lock { tables })
    }

    pub(super) fn maintenance(&mut self) -> Parse<Statement> {
        let what = self.folded(self.at);
        self.skip();
        let mut concurrently = false;
        let mut rebuilds = what == "reindex" || what == "cluster";
        if self.is_symbol(self.at, b'(') {
            let close = self.matching(self.at)?;
            let says = |option: &str| {
                (self.at..close).any(|at| {
                    self.word_at(at, option)
                        && !["false", "off"].iter().any(|no| self.word_at(at + 1, no))
                })
            };
            concurrently = says("concurrently");
            rebuilds |= says("full");
            self.at = close + 1;
        }
        let mut tables = Vec::new();
        let mut outside = what == "vacuum";
        match what.as_str() {
            "reindex" => {
                let kind = self.folded(self.at);
                self.skip();
                if !matches!(
                    kind.as_str(),
                    "index" | "table" | "schema" | "database" | "system"
                ) {
                    return refuse("REINDEX is not understood");
                }
                concurrently |= self.word("concurrently");
                let single = matches!(kind.as_str(), "index" | "table");
                outside = concurrently || !single;
                if single {
                    tables.push(self.name()?);
                } else if !self.at_end() {
                    self.name_part()?;
                }
            }
            "cluster" => {
                self.word("verbose");
                if self.at_end() {
                    outside = true;
                } else {
                    let first = self.name()?;
                    if self.word("on") {
                        tables.push(self.name()?);
                    } else {
                        tables.push(first);
                        if self.word("using") {
                            self.name_part()?;
                        }
                    }
                }
            }
            _ => {
                rebuilds |= self.word("full");
                for word in ["freeze", "verbose", "analyze", "analyse"] {
                    self.word(word);
                }
                while !self.at_end() {
                    tables.push(self.relation()?.0);
                    if self.is_symbol(self.at, b'(') {
                        self.column_list()?;
                    }
                    if !self.symbol(b',') {
                        break;
                    }
                }
            }
        }
        Ok(Statement::Maintenance {
            tables,
            outside_transaction: outside,
            rebuilds,
        })
    }

    /// CREATE, ALTER, DROP, GRANT, … and DO.
    pub(super) fn definition(&mut self) -> Parse<Statement> {
        let verb = self.folded(self.at);
        let start = self.at;
        self.skip();
        let ddl = match verb.as_str() {
            "create" => self.create()?,
            "alter" if self.is_word("table") => self.alter_table(start)?,
            "drop" => self.drop()?,
            _ => self.other(start)?,
        };
        Ok(Statement::Ddl(ddl))
    }

    /// Behind CREATE.
    fn create(&mut self) -> Parse<Ddl> {
        let start = self.at - 1;
        let mut unique = false;
        let mut recursive = false;
        while MODIFIERS.iter().any(|word| self.is_word(word)) {
            unique |= self.is_word("unique");
            recursive |= self.is_word("recursive");
            self.skip();
        }
        if self.word("table") {
            return self.create_table();
        }
        if self.word("index") {
            return self.create_index(unique);
        }
        let materialized = self.words(&["materialized", "view"]);
        if materialized || self.word("view") {
            if recursive {
                // The view's own name is a table in its query.
                return refuse("CREATE RECURSIVE VIEW");
            }
            let kind = if materialized {
                "materialized view"
            } else {
                "view"
            };
            self.words(&["if", "not", "exists"]);
            let name = self.name()?;
            return self.create_as(kind, name);
        }
        self.other(start)
    }

    /// Behind the name of a view, or of a table whose AS is to come.
    fn create_as(&mut self, kind: &str, name: Name) -> Parse<Ddl> {
        if self.is_symbol(self.at, b'(') {
            self.at = self.matching(self.at)? + 1;
        }
        while !self.word("as") {
            if self.word("using") || self.word("tablespace") {
                self.name_part()?;
            } else if self.words(&["on", "commit"]) {
                for word in ["preserve", "delete", "rows", "drop"] {
                    self.word(word);
                }
            } else if self.words(&["without", "oids"]) {
            } else {
                self.expect("with")?;
                if !self.is_symbol(self.at, b'(') {
                    return refuse("WITH is not understood");
                }
                self.at = self.matching(self.at)? + 1;
            }
        }
        if self.is_word("execute") {
            return refuse("CREATE TABLE … AS EXECUTE");
        }
        let query = Box::new(self.query()?);
        if self.word("with") {
            if self.word("no") {
                self.expect("data")?;
            } else if !self.word("data") {
                if !self.word("cascaded") {
                    self.word("local");
                }
                self.words(&["check", "option"]);
            }
        }
        Ok(Ddl::CreateAs {
            kind: kind.to_owned(),
            name,
            query,
        })
    }

    /// Behind CREATE … TABLE.
    fn create_table(&mut self) -> Parse<Ddl> {
        let if_not_exists = self.words(&["if", "not", "exists"]);
        let name = self.name()?;
        if self.is_create_table_as()? {
            return self.create_as("table", name);
        }
        let mut table = CreateTable {
            name,
            if_not_exists,
            columns: Vec::new(),
            constraints: Vec::new(),
            columns_from: None,
            partition_by: false,
        };
        if self.words(&["partition", "of"]) || self.word("of") {
            table.columns_from = Some(self.name()?);
        }
        if self.symbol(b'(') {
            if !self.symbol(b')') {
                self.table_elements(&mut table)?;
                self.close()?;
            }
        } else if table.columns_from.is_none() {
            return refuse("CREATE TABLE is not understood");
        }
        self.table_tail(&mut table)?;
        Ok(Ddl::CreateTable(table))
    }

    /// Is there an AS behind the name, its columns and its options?
    fn is_create_table_as(&self) -> Parse<bool> {
        let mut at = self.at;
        let mut first = true;
        loop {
            if self.is_symbol(at, b'(') {
                let close = self.matching(at)?;
                // Columns without types are a list of names.
                if first
                    && !(self.word_at(close + 1, "as")
                        || self.word_at(close + 1, "with")
                        || self.word_at(close + 1, "on")
                        || self.word_at(close + 1, "tablespace")
                        || self.word_at(close + 1, "using"))
                {
                    return Ok(false);
                }
                at = close;
            } else if self.word_at(at, "as") {
                return Ok(true);
            } else if self.kind(at).is_none()
                || self.word_at(at, "of")
                || self.word_at(at, "partition")
                || self.word_at(at, "inherits")
            {
                return Ok(false);
            }
            first = false;
            at += 1;
        }
    }

    fn table_elements(&mut self, table: &mut CreateTable) -> Parse<()> {
        loop {
            if self.word("like") {
                table.columns_from = Some(self.name()?);
                while self.word("including") || self.word("excluding") {
                    self.label()?;
                }
            } else if self.starts_table_constraint() {
                table.constraints.push(self.table_constraint()?);
            } else {
                let typed = table.columns_from.is_none();
                let column = self.column_definition(typed)?;
                table.columns.push(column);
            }
            if !self.symbol(b',') {
                return Ok(());
            }
        }
    }

    fn starts_table_constraint(&self) -> bool {
        self.is_word("constraint")
            || self.is_word("check")
            || self.is_word("unique")
            || (self.is_word("primary") && self.word_at(self.at + 1, "key"))
            || (self.is_word("foreign") && self.word_at(self.at + 1, "key"))
            || (self.is_word("exclude")
                && (self.is_symbol(self.at + 1, b'(') || self.word_at(self.at + 1, "using")))
            || (self.is_word("not") && self.word_at(self.at + 1, "null"))
    }

    /// `name type constraints`; in a typed table or a partition the type is missing.
    fn column_definition(&mut self, typed: bool) -> Parse<ColumnDefinition> {
        let mut column = ColumnDefinition {
            name: self.name_part()?,
            data_type: String::new(),
            identity: false,
            default: None,
            constraints: Vec::new(),
        };
        if typed {
            column.data_type = self.data_type()?;
        } else {
            self.words(&["with", "options"]);
        }
        while !self.at_end() && COLUMN_CONSTRAINTS.iter().any(|word| self.is_word(word)) {
            self.column_constraint(&mut column)?;
        }
        Ok(column)
    }

    fn column_constraint(&mut self, column: &mut ColumnDefinition) -> Parse<()> {
        if self.word("constraint") {
            self.name_part()?;
        }
        let own = vec![column.name.clone()];
        if self.words(&["not", "null"]) || self.word("null") {
            self.words(&["no", "inherit"]);
            column.constraints.push(TableConstraint::Local);
        } else if self.word("check") {
            self.skip_group()?;
            self.words(&["no", "inherit"]);
            column.constraints.push(TableConstraint::Local);
        } else if self.word("default") {
            column.default = Some(self.expr()?);
        } else if self.word("generated") {
            if !self.word("always") {
                self.expect("by")?;
                self.expect("default")?;
            }
            self.expect("as")?;
            if self.word("identity") {
                column.identity = true;
                if self.is_symbol(self.at, b'(') {
                    self.skip_group()?;
                }
            } else {
                // A stored expression over the row's own columns; it may be what the key is made of.
                self.open()?;
                column.default = Some(Expr::Other(vec![self.expr()?]));
                self.close()?;
                if !self.word("stored") {
                    self.word("virtual");
                }
            }
        } else if self.word("unique") {
            self.nulls_distinct();
            self.index_parameters()?;
            column.constraints.push(TableConstraint::Unique(own));
        } else if self.words(&["primary", "key"]) {
            self.index_parameters()?;
            column.constraints.push(TableConstraint::PrimaryKey(own));
        } else if self.is_word("references") {
            let constraint = self.references(own)?;
            column.constraints.push(constraint);
        } else if self.word("collate") {
            self.name()?;
        } else if self.word("storage") || self.word("compression") {
            self.label()?;
        } else if self.word("options") {
            self.skip_group()?;
        } else {
            self.deferral()?;
        }
        Ok(())
    }

    fn nulls_distinct(&mut self) {
        if !self.words(&["nulls", "not", "distinct"]) {
            self.words(&["nulls", "distinct"]);
        }
    }

    /// `(…)`, passed unread: what stands in it concerns one shard alone.
    fn skip_group(&mut self) -> Parse<()> {
        if !self.is_symbol(self.at, b'(') {
            return refuse("( is missing");
        }
        self.at = self.matching(self.at)? + 1;
        Ok(())
    }

    /// INCLUDE, WITH and USING INDEX TABLESPACE.
    fn index_parameters(&mut self) -> Parse<()> {
        if self.word("include") {
            self.skip_group()?;
        }
        if self.is_word("with") && self.is_symbol(self.at + 1, b'(') {
            self.skip();
            self.skip_group()?;
        }
        if self.words(&["using", "index", "tablespace"]) {
            self.name_part()?;
        }
        Ok(())
    }

    /// DEFERRABLE, INITIALLY …, NOT VALID, NO INHERIT, ENFORCED; at least one of them.
    fn deferral(&mut self) -> Parse<()> {
        let start = self.at;
        while self.word("deferrable")
            || self.words(&["not", "deferrable"])
            || self.words(&["initially", "deferred"])
            || self.words(&["initially", "immediate"])
            || self.words(&["not", "valid"])
            || self.words(&["no", "inherit"])
            || self.word("enforced")
            || self.words(&["not", "enforced"])
        {}
        if self.at == start {
            return refuse("a constraint is not understood");
        }
        Ok(())
    }

    /// A table constraint with everything behind it.
    fn table_constraint(&mut self) -> Parse<TableConstraint> {
        if self.word("constraint") {
            self.name_part()?;
        }
        let constraint = if self.words(&["primary", "key"]) {
            match self.constraint_columns()? {
                Some(columns) => TableConstraint::PrimaryKey(columns),
                None => return refuse("a constraint by USING INDEX"),
            }
        } else if self.word("unique") {
            self.nulls_distinct();
            match self.constraint_columns()? {
                Some(columns) => TableConstraint::Unique(columns),
                None => return refuse("a constraint by USING INDEX"),
            }
        } else if self.word("check") {
            self.skip_group()?;
            TableConstraint::Local
        } else if self.words(&["not", "null"]) {
            self.name_part()?;
            TableConstraint::Local
        } else if self.word("exclude") {
            self.exclude()?
        } else {
            self.expect("foreign")?;
            self.expect("key")?;
            let columns = self.column_list()?;
            self.references(columns)?
        };
        if self.starts_deferral() {
            self.deferral()?;
        }
        Ok(constraint)
    }

    fn starts_deferral(&self) -> bool {
        ["deferrable", "initially", "not", "no", "enforced"]
            .iter()
            .any(|word| self.is_word(word))
    }

    /// `(a, b [WITHOUT OVERLAPS])` and index parameters; `None` for USING INDEX.
    fn constraint_columns(&mut self) -> Parse<Option<Vec<String>>> {
        if self.words(&["using", "index"]) {
            self.name_part()?;
            return Ok(None);
        }
        self.open()?;
        let mut columns = Vec::new();
        loop {
            let column = self.name_part()?;
            // Ranges that do not overlap may share a key's equal part: still one shard's if the key is in front.
            if !self.words(&["without", "overlaps"]) {
                columns.push(column);
            }
            if !self.symbol(b',') {
                break;
            }
        }
        self.close()?;
        self.index_parameters()?;
        Ok(Some(columns))
    }

    /// Behind EXCLUDE: the plain columns compared by `=`.
    fn exclude(&mut self) -> Parse<TableConstraint> {
        if self.word("using") {
            self.name_part()?;
        }
        self.open()?;
        let mut columns = Vec::new();
        loop {
            let plain = matches!(
                self.kind(self.at),
                Some(TokenKind::Word | TokenKind::Quoted)
            ) && self.word_at(self.at + 1, "with")
                && self.operator_at(self.at + 2) == Some("=");
            if plain {
                columns.push(self.name_part()?);
                self.at += 2;
            } else {
                // To the comma behind WITH operator.
                while !self.is_symbol(self.at, b',') && !self.is_symbol(self.at, b')') {
                    if self.is_symbol(self.at, b'(') {
                        self.at = self.matching(self.at)?;
                    }
                    self.skip();
                }
            }
            if !self.symbol(b',') {
                break;
            }
        }
        self.close()?;
        self.index_parameters()?;
        if self.word("where") {
            self.skip_group()?;
        }
        Ok(TableConstraint::Exclude(columns))
    }

    /// `REFERENCES t [(columns)] [MATCH …] [ON DELETE …] [ON UPDATE …]`
    fn references(&mut self, columns: Vec<String>) -> Parse<TableConstraint> {
        self.expect("references")?;
        let table = self.name()?;
        let references = if self.is_symbol(self.at, b'(') {
            self.column_list()?
        } else {
            Vec::new()
        };
        let (mut on_update_changes, mut on_delete_sets) = (false, false);
        loop {
            if self.word("match") {
                self.label()?;
                continue;
            }
            let update = self.words(&["on", "update"]);
            if !update && !self.words(&["on", "delete"]) {
                break;
            }
            if self.words(&["no", "action"]) || self.word("restrict") {
                continue;
            }
            let cascade = self.word("cascade");
            if !cascade {
                self.expect("set")?;
                if !self.word("null") {
                    self.expect("default")?;
                }
                if self.is_symbol(self.at, b'(') {
                    self.skip_group()?;
                }
            }
            on_update_changes |= update;
            on_delete_sets |= !update && !cascade;
        }
        Ok(TableConstraint::ForeignKey {
            columns,
            table,
            references,
            on_update_changes,
            on_delete_sets,
        })
    }

    /// What may follow a table's columns.
    fn table_tail(&mut self, table: &mut CreateTable) -> Parse<()> {
        loop {
            if self.word("inherits") {
                self.open()?;
                table.columns_from = Some(self.name()?);
                while self.symbol(b',') {
                    self.name()?;
                }
                self.close()?;
            } else if self.words(&["partition", "by"]) {
                table.partition_by = true;
                self.name_part()?;
                self.skip_group()?;
            } else if self.words(&["for", "values"]) {
                while self.kind(self.at) == Some(TokenKind::Word) && !self.is_word("partition") {
                    self.skip();
                    if self.is_symbol(self.at, b'(') {
                        self.skip_group()?;
                    }
                    if self.is_word("with") && !self.is_symbol(self.at + 1, b'(') {
                        break;
                    }
                }
            } else if self.word("default") {
            } else if self.word("using") || self.word("tablespace") {
                self.name_part()?;
            } else if self.words(&["on", "commit"]) {
                for word in ["preserve", "delete", "rows", "drop"] {
                    self.word(word);
                }
            } else if self.words(&["without", "oids"]) {
            } else if self.word("with") {
                self.skip_group()?;
            } else {
                return Ok(());
            }
        }
    }

    /// Behind CREATE [UNIQUE] INDEX.
    fn create_index(&mut self, unique: bool) -> Parse<Ddl> {
        let concurrently = self.word("concurrently");
        self.words(&["if", "not", "exists"]);
        if !self.is_word("on") {
            self.name_part()?;
        }
        self.expect("on")?;
        let table = self.relation()?.0;
        if self.word("using") {
            self.name_part()?;
        }
        let close = self.matching(self.at)?;
        let mut columns = Vec::new();
        while self.at < close {
            self.skip();
            let plain = matches!(
                self.kind(self.at),
                Some(TokenKind::Word | TokenKind::Quoted)
            ) && !self.is_symbol(self.at + 1, b'(')
                && !self.is_symbol(self.at + 1, b'.');
            let column = if plain { Some(self.name_part()?) } else { None };
            columns.push(column.filter(|_| !unique || self.is_equal_bytes()));
            while self.at < close && !self.is_symbol(self.at, b',') {
                if self.is_symbol(self.at, b'(') {
                    self.at = self.matching(self.at)?;
                }
                self.skip();
            }
        }
        self.at = close + 1;
        if self.word("include") {
            self.skip_group()?;
        }
        self.nulls_distinct();
        if self.word("with") {
            self.skip_group()?;
        }
        if self.word("tablespace") {
            self.name_part()?;
        }
        if self.word("where") {
            self.expr()?;
        }
        Ok(Ddl::CreateIndex {
            table,
            unique,
            columns,
            concurrently,
        })
    }

    /// Behind a column of an index: is what follows sure to leave equality what it is for the column? Another collation or
    /// operator class may call equal what is not, unless PostgreSQL's own.
    fn is_equal_bytes(&self) -> bool {
        let mut at = self.at;
        let own_schema = |at: &mut usize| {
            if self.word_at(*at, "pg_catalog") && self.is_symbol(*at + 1, b'.') {
                *at += 2;
            }
        };
        if self.word_at(at, "collate") {
            at += 1;
            own_schema(&mut at);
            let known = ["\"C\"", "\"POSIX\"", "\"default\"", "ucs_basic"];
            if !known.contains(&self.raw(at)) {
                return false;
            }
            at += 1;
        }
        own_schema(&mut at);
        let next = self.folded(at);
        let ends = self.is_symbol(at, b',') || self.is_symbol(at, b')');
        ends || ["asc", "desc", "nulls"].contains(&next.as_str())
            || OWN_CLASSES.contains(&next.as_str())
    }

    /// Behind DROP.
    fn drop(&mut self) -> Parse<Ddl> {
        let start = self.at - 1;
        let kind = match self.folded(self.at).as_str() {
            "materialized" => "materialized view".to_owned(),
            "foreign" if self.word_at(self.at + 1, "table") => "foreign table".to_owned(),
            kind @ ("table" | "index" | "view" | "sequence" | "type" | "domain" | "schema"
            | "function" | "procedure" | "routine" | "aggregate" | "extension"
            | "statistics" | "collation" | "conversion") => kind.to_owned(),
            _ => return self.other(start),
        };
        self.at += kind.split(' ').count();
        let concurrently = self.word("concurrently");
        self.words(&["if", "exists"]);
        let mut names = Vec::new();
        loop {
            names.push(self.name()?);
            if self.is_symbol(self.at, b'(') {
                self.skip_group()?;
            }
            if !self.symbol(b',') {
                break;
            }
        }
        if !self.word("cascade") {
            self.word("restrict");
        }
        Ok(Ddl::Drop {
            kind,
            names,
            concurrently,
        })
    }

    /// Behind ALTER, at TABLE.
    fn alter_table(&mut self, start: usize) -> Parse<Ddl> {
        self.skip();
        if self.words(&["all", "in"]) {
            return self.other(start);
        }
        self.words(&["if", "exists"]);
        let table = self.relation()?.0;
        let mut actions = Vec::new();
        loop {
            actions.push(self.alter_action()?);
            if !self.symbol(b',') {
                break;
            }
        }
        Ok(Ddl::AlterTable { table, actions })
    }

    fn alter_action(&mut self) -> Parse<AlterAction> {
        if self.word("rename") {
            if self.word("to") {
                return self.name_part().map(AlterAction::RenameTable);
            }
            if self.word("constraint") {
                self.name_part()?;
                self.expect("to")?;
                self.name_part()?;
                return Ok(AlterAction::Local);
            }
            self.word("column");
            let old = self.name_part()?;
            self.expect("to")?;
            return Ok(AlterAction::RenameColumn(old, self.name_part()?));
        }
        if self.word("add") {
            if self.starts_table_constraint() {
                return self.table_constraint().map(AlterAction::AddConstraint);
            }
            self.word("column");
            self.words(&["if", "not", "exists"]);
            return self.column_definition(true).map(AlterAction::AddColumn);
        }
        if self.word("drop") {
            let constraint = self.word("constraint");
            if !constraint {
                self.word("column");
            }
            self.words(&["if", "exists"]);
            let name = self.name_part()?;
            if !self.word("cascade") {
                self.word("restrict");
            }
            return Ok(if constraint {
                AlterAction::Local
            } else {
                AlterAction::DropColumn(name)
            });
        }
        if self.word("alter") {
            if self.word("constraint") {
                self.name_part()?;
                self.deferral()?;
                return Ok(AlterAction::Local);
            }
            self.word("column");
            let column = self.name_part()?;
            return self.alter_column(column);
        }
        if self.words(&["set", "schema"]) {
            return self.name_part().map(AlterAction::SetSchema);
        }
        let local = self.words(&["owner", "to"])
            || self.words(&["validate", "constraint"])
            || self.words(&["cluster", "on"])
            || self.words(&["set", "tablespace"])
            || self.words(&["set", "without", "cluster"])
            || self.words(&["set", "logged"])
            || self.words(&["set", "unlogged"])
            || self.words(&["set", "access", "method"])
            || self.words(&["replica", "identity"])
            || self.is_word("enable")
            || self.is_word("disable")
            || self.words(&["force", "row", "level", "security"])
            || self.words(&["no", "force", "row", "level", "security"])
            || (self.is_word("set") && self.is_symbol(self.at + 1, b'('))
            || (self.is_word("reset") && self.is_symbol(self.at + 1, b'('));
        self.skip_action()?;
        Ok(if local {
            AlterAction::Local
        } else {
            AlterAction::Other
        })
    }

    fn alter_column(&mut self, column: String) -> Parse<AlterAction> {
        if self.word("type") || self.words(&["set", "data", "type"]) {
            self.data_type()?;
            if self.word("collate") {
                self.name()?;
            }
            let using = if self.word("using") {
                Some(self.expr()?)
            } else {
                None
            };
            return Ok(AlterAction::AlterType(column, using));
        }
        if self.words(&["set", "default"]) {
            let default = self.expr()?;
            return Ok(AlterAction::SetDefault(column, default));
        }
        let local = self.words(&["set", "not", "null"])
            || self.words(&["drop", "not", "null"])
            || self.words(&["drop", "default"])
            || self.words(&["set", "statistics"])
            || self.words(&["set", "storage"])
            || self.words(&["set", "compression"])
            || (self.is_word("set") && self.is_symbol(self.at + 1, b'('))
            || (self.is_word("reset") && self.is_symbol(self.at + 1, b'('));
        self.skip_action()?;
        Ok(if local {
            AlterAction::Local
        } else {
            AlterAction::Other
        })
    }

    /// To the next comma outside parentheses.
    fn skip_action(&mut self) -> Parse<()> {
        while !self.at_end() && !self.is_symbol(self.at, b',') {
            if self.is_symbol(self.at, b'(') || self.is_symbol(self.at, b'[') {
                self.at = self.matching(self.at)?;
            }
            self.skip();
        }
        Ok(())
    }

    /// Any other definition: its first words, its own name and the tables behind ON, FROM, TABLE … as far as they
    /// can be seen. `start` is its first token.
    fn other(&mut self, start: usize) -> Parse<Ddl> {
        self.at = start;
        let mut what = self.folded(start).to_ascii_uppercase();
        self.skip();
        let verb = what.clone();
        let mut name = None;
        let mut tables = Vec::new();
        match verb.as_str() {
            "DO" => {}
            "GRANT" | "REVOKE" => self.granted(&mut tables)?,
            "COMMENT" | "SECURITY" => self.commented(&mut tables)?,
            "REFRESH" => {
                what.push_str(" MATERIALIZED VIEW");
                if self.words(&["materialized", "view"]) {
                    self.word("concurrently");
                    let view = self.name()?;
                    tables.push(view.clone());
                    name = Some(view);
                }
            }
            "CREATE" | "ALTER" | "DROP" => {
                while MODIFIERS.iter().any(|word| self.is_word(word)) {
                    self.skip();
                }
                let kind = self.object_kind();
                what.push(' ');
                what.push_str(&kind.to_ascii_uppercase());
                self.word("concurrently");
                if !self.words(&["if", "not", "exists"]) {
                    self.words(&["if", "exists"]);
                }
                let named = matches!(
                    self.kind(self.at),
                    Some(TokenKind::Word | TokenKind::Quoted)
                );
                if named && !self.is_word("for") && kind != "cast" && kind != "operator" {
                    name = self.name().ok();
                }
                if kind == "schema"
                    && (self.at..)
                        .take_while(|at| self.kind(*at).is_some())
                        .any(|at| self.word_at(at, "create") || self.word_at(at, "grant"))
                {
                    return refuse("CREATE SCHEMA with elements");
                }
                self.tables_of(&kind, &mut tables)?;
            }
            _ => {
                let word = self.folded(self.at).to_ascii_uppercase();
                if !word.is_empty() {
                    what.push(' ');
                    what.push_str(&word);
                }
            }
        }
        // What stands behind is not read, but for a new name.
        let mut becomes = None;
        while !self.at_end() {
            if verb == "ALTER" && self.words(&["rename", "to"]) {
                becomes = Some(Becomes::Named(self.name_part()?));
            } else if verb == "ALTER" && self.words(&["set", "schema"]) {
                becomes = Some(Becomes::InSchema(self.name_part()?));
            } else {
                self.skip();
            }
        }
        Ok(Ddl::Other {
            what,
            tables,
            name,
            becomes,
        })
    }

    /// `type`, `event trigger`, `foreign data wrapper`, …
    fn object_kind(&mut self) -> String {
        for words in [
            &["foreign", "data", "wrapper"][..],
            &["text", "search"],
            &["foreign", "table"],
            &["event", "trigger"],
            &["access", "method"],
            &["user", "mapping"],
            &["materialized", "view"],
            &["large", "object"],
            &["operator", "class"],
            &["operator", "family"],
            &["default", "privileges"],
        ] {
            if self.words(words) {
                return words.join(" ");
            }
        }
        let kind = self.folded(self.at);
        self.skip();
        kind
    }

    /// The tables a definition is about.
    fn tables_of(&mut self, kind: &str, tables: &mut Vec<Name>) -> Parse<()> {
        let (behind, until): (&[&str], &[&str]) = match kind {
            // CREATE TRIGGER n BEFORE INSERT ON t [FROM referenced]
            "trigger" => (&["on", "from"], &["for", "execute", "when"]),
            // CREATE RULE n AS ON INSERT TO t WHERE … DO …
            "rule" => (&["to", "on"], &["where", "do"]),
            "policy" => (&["on"], &["using", "with", "to", "for", "as"]),
            "statistics" => (&["from"], &[]),
            "sequence" => (&["by"], &[]),
            "publication" => (&["table"], &["with"]),
            _ => return Ok(()),
        };
        while !self.at_end() && !until.iter().any(|word| self.is_word(word)) {
            let found = behind.iter().any(|word| self.word(word));
            if !found {
                self.skip();
                continue;
            }
            // `ON INSERT TO t`: an event is not a table.
            let event = ["insert", "update", "delete", "select"]
                .iter()
                .any(|word| self.is_word(word));
            if event || self.is_word("none") {
                continue;
            }
            loop {
                let start = self.at;
                let Ok((table, _)) = self.relation() else {
                    self.at = start;
                    break;
                };
                // OWNED BY t.column
                if kind == "sequence" {
                    let schema_and_table = table.schema.map(|schema| Name {
                        schema: None,
                        name: schema,
                    });
                    tables.extend(schema_and_table);
                } else {
                    tables.push(table);
                }
                if kind != "publication" {
                    break;
                }
                if self.is_symbol(self.at, b'(') {
                    self.skip_group()?;
                }
                if !self.symbol(b',') {
                    break;
                }
                self.word("table");
            }
        }
        Ok(())
    }

    /// GRANT … ON [TABLE] a, b TO …; other kinds of objects are not tables.
    fn granted(&mut self, tables: &mut Vec<Name>) -> Parse<()> {
        while !self.at_end() && !self.is_word("on") {
            self.skip();
        }
        if !self.word("on") {
            return Ok(());
        }
        let others = [
            "all",
            "database",
            "domain",
            "foreign",
            "function",
            "language",
            "large",
            "parameter",
            "procedure",
            "routine",
            "schema",
            "sequence",
            "tablespace",
            "type",
        ];
        let other = others.iter().any(|word| {
            self.is_word(word)
                && !self.is_symbol(self.at + 1, b',')
                && !self.is_symbol(self.at + 1, b'.')
                && !self.word_at(self.at + 1, "to")
                && !self.word_at(self.at + 1, "from")
        });
        if other {
            return Ok(());
        }
        self.word("table");
        tables.extend(self.relations()?);
        Ok(())
    }

    /// COMMENT ON TABLE t, COMMENT ON COLUMN t.c, COMMENT ON CONSTRAINT c ON t.
    fn commented(&mut self, tables: &mut Vec<Name>) -> Parse<()> {
        while !self.at_end() && !self.is_word("on") {
            self.skip();
        }
        self.skip();
        if self.word("table") {
            tables.push(self.name()?);
        } else if self.word("column") {
            let mut parts = vec![self.name_part()?];
            while self.symbol(b'.') {
                parts.push(self.label()?);
            }
            parts.pop();
            tables.push(qualified(parts)?);
        } else if ["constraint", "trigger", "policy", "rule"]
            .iter()
            .any(|word| self.word(word))
        {
            self.name_part()?;
            self.expect("on")?;
            if !self.word("domain") {
                tables.push(self.name()?);
            }
        }
        Ok(())
    }
}
