use super::*;
use crate::statement::scan::{LITERAL_BASE, ScanSettings, scan, shape};
use crate::statement::tree::{
    AlterAction, Body, CopyDirection, CopySubject, Ddl, Distinct, Expr, From, InsertSource, Item,
    JoinKind, JoinOn, MergeAction, Name, OnConflict, OrderKey, Query, Select, SetOp, Span,
    TableConstraint,
};
use proptest::prelude::*;

const ON: ScanSettings = ScanSettings {
    standard_conforming_strings: true,
};

/// The way every statement goes: scan, shape, parse.
fn read(text: &str) -> (String, Parse<Statement>) {
    let scanned = scan(text, ON).expect(text).remove(0);
    let shape = shape(text, &scanned);
    let statement = parse(&shape, scanned.verb);
    (shape, statement)
}

fn statement(text: &str) -> Statement {
    read(text)
        .1
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn query(text: &str) -> Query {
    match statement(text) {
        Statement::Query(query) => query,
        other => panic!("{text}: {other:?}"),
    }
}

fn select(text: &str) -> Select {
    match query(text).body {
        Body::Select(select) => *select,
        other => panic!("{text}: {other:?}"),
    }
}

fn refused(text: &str) {
    if let Ok(statement) = read(text).1 {
        panic!("{text}: {statement:?}");
    }
}

fn list(exprs: &[Expr]) -> String {
    exprs.iter().map(show).collect::<Vec<_>>().join(" ")
}

fn name(name: &Name) -> String {
    match &name.schema {
        Some(schema) => format!("{schema}.{}", name.name),
        None => name.name.clone(),
    }
}

/// An expression in few letters: (op left right), #literal, $param.
fn show(expr: &Expr) -> String {
    match expr {
        Expr::Column { qualifier, name } => {
            let mut parts = qualifier.clone();
            parts.push(name.clone());
            parts.join(".")
        }
        Expr::Literal(index) => format!("#{index}"),
        Expr::Param(number) => format!("${number}"),
        Expr::Null => "null".into(),
        Expr::Bool(value) => value.to_string(),
        Expr::Number(text) => text.clone(),
        Expr::String(text) => format!("'{text}'"),
        Expr::Default => "default".into(),
        Expr::And(parts) => format!("(and {})", list(parts)),
        Expr::Or(parts) => format!("(or {})", list(parts)),
        Expr::Not(expr) => format!("(not {})", show(expr)),
        Expr::Negate(expr) => format!("(neg {})", show(expr)),
        Expr::Binary { op, left, right } => format!("({op} {} {})", show(left), show(right)),
        Expr::In {
            expr,
            list: values,
            negated,
        } => {
            format!(
                "({}in {} [{}])",
                if *negated { "not " } else { "" },
                show(expr),
                list(values)
            )
        }
        Expr::InQuery {
            expr,
            query,
            negated,
        } => {
            format!(
                "({}in {} {})",
                if *negated { "not " } else { "" },
                show(expr),
                show_query(query)
            )
        }
        Expr::Quantified {
            left,
            op,
            all,
            right,
        } => {
            format!(
                "({op} {} {} {})",
                if *all { "all" } else { "any" },
                show(left),
                show(right)
            )
        }
        Expr::IsNull { expr, negated } => {
            format!(
                "({} {})",
                if *negated { "notnull" } else { "isnull" },
                show(expr)
            )
        }
        Expr::Between {
            expr,
            low,
            high,
            negated,
        } => format!(
            "({}between {} {} {})",
            if *negated { "not " } else { "" },
            show(expr),
            show(low),
            show(high)
        ),
        Expr::Exists(query) => format!("(exists {})", show_query(query)),
        Expr::Query(query) => show_query(query),
        Expr::Array(parts) => format!("(array {})", list(parts)),
        Expr::Row(parts) => format!("(row {})", list(parts)),
        Expr::Cast { expr, data_type } => format!("(cast {} {data_type})", show(expr)),
        Expr::Case(parts) => format!("(case {})", list(parts)),
        Expr::Function(call) => {
            let mut text = format!("{}(", name(&call.name));
            if call.star {
                text.push('*');
            }
            if call.distinct {
                text.push_str("distinct ");
            }
            text.push_str(&list(&call.args));
            if !call.order_by.is_empty() {
                text.push_str(&format!(" order {}", list(&call.order_by)));
            }
            text.push(')');
            if let Some(filter) = &call.filter {
                text.push_str(&format!(" filter {}", show(filter)));
            }
            if let Some(over) = &call.over {
                text.push_str(&format!(" over [{}]", list(over)));
            }
            text
        }
        Expr::Collate { expr, collation } => {
            format!("(collate {} {})", show(expr), name(collation))
        }
        Expr::Field { expr, .. } => format!("(? {})", list(std::slice::from_ref(expr))),
        Expr::Other(parts) => format!("(? {})", list(parts)),
    }
}

fn show_query(query: &Query) -> String {
    format!("<{}>", tables(&Statement::Query(query.clone())).join(" "))
}

/// Every table of a statement, at every depth, through a walk that the compiler keeps complete.
fn tables(statement: &Statement) -> Vec<String> {
    let mut found = Vec::new();
    walk_statement(statement, &mut found);
    found
}

fn walk_statement(statement: &Statement, found: &mut Vec<String>) {
    match statement {
        Statement::Query(query) => walk_query(query, found),
        Statement::Insert(insert) => {
            insert
                .with
                .iter()
                .for_each(|cte| walk_statement(&cte.statement, found));
            found.push(name(&insert.table));
            match &insert.source {
                InsertSource::Values(rows) => rows.iter().flatten().for_each(|e| walk(e, found)),
                InsertSource::Default => {}
                InsertSource::Query(query) => walk_query(query, found),
            }
            if let Some(OnConflict::Update { set, filter }) = &insert.on_conflict {
                set.iter().for_each(|a| walk(&a.value, found));
                filter.iter().for_each(|e| walk(e, found));
            }
            walk_items(&insert.returning, found);
        }
        Statement::Update(update) => {
            update
                .with
                .iter()
                .for_each(|cte| walk_statement(&cte.statement, found));
            found.push(name(&update.table));
            update.set.iter().for_each(|a| walk(&a.value, found));
            update.from.iter().for_each(|f| walk_from(f, found));
            update.filter.iter().for_each(|e| walk(e, found));
            walk_items(&update.returning, found);
        }
        Statement::Delete(delete) => {
            delete
                .with
                .iter()
                .for_each(|cte| walk_statement(&cte.statement, found));
            found.push(name(&delete.table));
            delete.using.iter().for_each(|f| walk_from(f, found));
            delete.filter.iter().for_each(|e| walk(e, found));
            walk_items(&delete.returning, found);
        }
        Statement::Merge(merge) => {
            merge
                .with
                .iter()
                .for_each(|cte| walk_statement(&cte.statement, found));
            found.push(name(&merge.table));
            walk_from(&merge.source, found);
            walk(&merge.on, found);
            for clause in &merge.clauses {
                clause.condition.iter().for_each(|e| walk(e, found));
                match &clause.action {
                    MergeAction::Insert { values, .. } => {
                        values.iter().flatten().for_each(|e| walk(e, found));
                    }
                    MergeAction::Update(set) => set.iter().for_each(|a| walk(&a.value, found)),
                    MergeAction::Delete | MergeAction::Nothing => {}
                }
            }
        }
        Statement::Explain { statement, .. } | Statement::Prepare { statement, .. } => {
            walk_statement(statement, found);
        }
        Statement::Declare { query, .. } => walk_query(query, found),
        Statement::Truncate { tables, .. }
        | Statement::Lock { tables }
        | Statement::Maintenance { tables, .. } => found.extend(tables.iter().map(name)),
        Statement::Copy(copy) => match &copy.subject {
            CopySubject::Table { name: table, .. } => found.push(name(table)),
            CopySubject::Statement(statement) => walk_statement(statement, found),
        },
        Statement::Call { args, .. } => args.iter().for_each(|e| walk(e, found)),
        Statement::Ddl(ddl) => match ddl {
            Ddl::CreateAs { query, .. } => walk_query(query, found),
            Ddl::CreateTable(table) => found.push(name(&table.name)),
            Ddl::AlterTable { table, .. } | Ddl::CreateIndex { table, .. } => {
                found.push(name(table))
            }
            Ddl::Drop { names, .. } => found.extend(names.iter().map(name)),
            Ddl::Other { tables, .. } => found.extend(tables.iter().map(name)),
        },
    }
}

fn walk_query(query: &Query, found: &mut Vec<String>) {
    query
        .with
        .iter()
        .for_each(|cte| walk_statement(&cte.statement, found));
    walk_body(&query.body, found);
    query.order_by.iter().for_each(|key| walk(&key.expr, found));
    query
        .limit
        .iter()
        .chain(&query.offset)
        .for_each(|e| walk(e, found));
}

fn walk_body(body: &Body, found: &mut Vec<String>) {
    match body {
        Body::Select(select) => {
            if let Distinct::On(keys) = &select.distinct {
                keys.iter().for_each(|e| walk(e, found));
            }
            walk_items(&select.items, found);
            select.from.iter().for_each(|f| walk_from(f, found));
            select
                .filter
                .iter()
                .chain(&select.group_by)
                .chain(&select.having)
                .chain(&select.windows)
                .for_each(|e| walk(e, found));
        }
        Body::Values(rows) => rows.iter().flatten().for_each(|e| walk(e, found)),
        Body::Set { left, right, .. } => {
            walk_body(left, found);
            walk_body(right, found);
        }
        Body::Nested(query) => walk_query(query, found),
    }
}

fn walk_items(items: &[Item], found: &mut Vec<String>) {
    for item in items {
        if let Item::Expr { expr, .. } = item {
            walk(expr, found);
        }
    }
}

fn walk_from(from: &From, found: &mut Vec<String>) {
    match from {
        From::Table { name: table, .. } => found.push(name(table)),
        From::Subquery { query, .. } => walk_query(query, found),
        From::Function { args, .. } => args.iter().for_each(|e| walk(e, found)),
        From::Join {
            left, right, on, ..
        } => {
            walk_from(left, found);
            walk_from(right, found);
            if let JoinOn::On(on) = on {
                walk(on, found);
            }
        }
    }
}

fn walk(expr: &Expr, found: &mut Vec<String>) {
    match expr {
        Expr::Column { .. }
        | Expr::Literal(_)
        | Expr::Param(_)
        | Expr::Null
        | Expr::Bool(_)
        | Expr::Number(_)
        | Expr::String(_)
        | Expr::Default => {}
        Expr::And(parts)
        | Expr::Or(parts)
        | Expr::Array(parts)
        | Expr::Row(parts)
        | Expr::Case(parts)
        | Expr::Other(parts) => parts.iter().for_each(|e| walk(e, found)),
        Expr::Not(expr)
        | Expr::Negate(expr)
        | Expr::IsNull { expr, .. }
        | Expr::Cast { expr, .. }
        | Expr::Collate { expr, .. }
        | Expr::Field { expr, .. } => walk(expr, found),
        Expr::Binary { left, right, .. } | Expr::Quantified { left, right, .. } => {
            walk(left, found);
            walk(right, found);
        }
        Expr::In { expr, list, .. } => {
            walk(expr, found);
            list.iter().for_each(|e| walk(e, found));
        }
        Expr::InQuery { expr, query, .. } => {
            walk(expr, found);
            walk_query(query, found);
        }
        Expr::Between {
            expr, low, high, ..
        } => {
            [expr, low, high].into_iter().for_each(|e| walk(e, found));
        }
        Expr::Exists(query) | Expr::Query(query) => walk_query(query, found),
        Expr::Function(call) => {
            call.args
                .iter()
                .chain(&call.filter)
                .chain(&call.order_by)
                .chain(call.over.iter().flatten())
                .for_each(|e| walk(e, found));
        }
    }
}

fn shown_filter(text: &str) -> String {
    let select = select(&format!("select 1 from t where {text}"));
    let mut shown = show(select.filter.as_ref().expect(text));
    // The select list's own literal is number 0.
    for index in 1..10 {
        shown = shown.replace(&format!("#{index}"), &format!("#{}", index - 1));
    }
    shown
}

#[test]
fn operators_bind_as_in_postgresql() {
    let mut wrong = Vec::new();
    for (text, expected) in [
        ("a = 1", "(= a #0)"),
        (
            "a = 1 and b = 2 and c = 3",
            "(and (= a #0) (= b #1) (= c #2))",
        ),
        (
            "a = 1 or b = 2 and c = 3",
            "(or (= a #0) (and (= b #1) (= c #2)))",
        ),
        (
            "(a = 1 or b = 2) and c = 3",
            "(and (or (= a #0) (= b #1)) (= c #2))",
        ),
        (
            "((a = 1 and b = 2)) and c = 3",
            "(and (= a #0) (= b #1) (= c #2))",
        ),
        ("not a = 1 and b = 2", "(and (not (= a #0)) (= b #1))"),
        ("not a and b", "(and (not a) b)"),
        ("not not a", "(not (not a))"),
        ("not (a = 1 or b)", "(not (or (= a #0) b))"),
        ("a = 1 is null", "(isnull (= a #0))"),
        ("a is null = b", "(= (isnull a) b)"),
        ("a is not null and b", "(and (notnull a) b)"),
        ("a isnull or b notnull", "(or (isnull a) (notnull b))"),
        (
            "a is distinct from b and c",
            "(and (is distinct from a b) c)",
        ),
        (
            "a is not distinct from b + 1 or c",
            "(or (is not distinct from a (+ b #0)) c)",
        ),
        ("a = b || c", "(= a (|| b c))"),
        ("a || b = c", "(= (|| a b) c)"),
        ("a + b * c - d", "(- (+ a (* b c)) d)"),
        ("a < b + 1", "(< a (+ b #0))"),
        ("a <> b", "(<> a b)"),
        ("a != b", "(<> a b)"),
        ("-a = 1", "(= (neg a) #0)"),
        ("a = -1", "(= a (neg #0))"),
        ("a = - 1 + 2", "(= a (+ (neg #0) #1))"),
        ("~ a = 1", "(= (? a) #0)"),
        ("@ a = 1", "(= (? a) #0)"),
        ("a @> b = c", "(= (@> a b) c)"),
        ("a = b @> c", "(= a (@> b c))"),
        ("a <#> b < 1", "(< (<#> a b) #0)"),
        ("a -> 'x' = 'y'", "(= (-> a #0) #1)"),
        ("a ->> 'x' = 'y' and b", "(and (= (->> a #0) #1) b)"),
        ("a ? 'x' and b", "(and (? a #0) b)"),
        ("a OPERATOR(pg_catalog.=) 1", "(OPERATOR(pg_catalog.=) a 1)"),
        ("a::int = 1", "(= (cast a int) #0)"),
        ("a = 1::bigint", "(= a (cast #0 bigint))"),
        ("a = -1::bigint", "(= a (neg (cast #0 bigint)))"),
        (
            "a = '1'::varchar(10)::text[]",
            "(= a (cast (cast #0 varchar(10)) text[]))",
        ),
        (
            "a = cast(1 as numeric(10, 2))",
            "(= a (cast #0 numeric(10,2)))",
        ),
        ("a = date '2020-01-01'", "(= a (cast '2020-01-01' date))"),
        (
            "a > now() - interval '1 day'",
            "(> a (- now() (cast '1 day' interval)))",
        ),
        (
            "a > interval '1' year to month",
            "(> a (cast '1' interval year to month))",
        ),
        (
            "a = timestamp(3) with time zone 'x'",
            "(= a (cast 'x' timestamp(3) with time zone))",
        ),
        ("a collate \"C\" = 'x'", "(= (collate a C) #0)"),
        (
            "a = 'x' collate pg_catalog.\"C\"",
            "(= a (collate #0 pg_catalog.C))",
        ),
        ("a at time zone 'utc' = b", "(= timezone('utc' a) b)"),
        ("a between 1 and 2 and b", "(and (between a #0 #1) b)"),
        ("a not between 1 and 2 or b", "(or (not between a #0 #1) b)"),
        ("a between symmetric 1 and 2", "(? a #0 #1)"),
        (
            "a between b and c and d between e and f",
            "(and (between a b c) (between d e f))",
        ),
        ("a in (1, 2)", "(in a [#0 #1])"),
        ("a not in (1)", "(not in a [#0])"),
        ("a in (-1, +2)", "(in a [(neg #0) (? #1)])"),
        (
            "(a, b) in ((1, 2), (3, 4))",
            "(in (row a b) [(row #0 #1) (row #2 #3)])",
        ),
        ("a in (1) = b", "(= (in a [#0]) b)"),
        ("a in (select x from u)", "(in a <u>)"),
        ("a in ((select x from u))", "(in a <u>)"),
        ("a in ((select x from u), 1)", "(in a [<u> #0])"),
        (
            "a in ((select x from u) union (select y from v))",
            "(in a <u v>)",
        ),
        (
            "a not in (with w as (select 1) select * from w)",
            "(not in a <w>)",
        ),
        ("a in (values (1), (2))", "(in a <>)"),
        ("a = any ('{1,2}')", "(= any a #0)"),
        ("a = any ($1)", "(= any a $1)"),
        ("a = some (array[1, 2])", "(= any a (array #0 #1))"),
        ("a <> all (select x from u)", "(<> all a <u>)"),
        (
            "a = any ((select x from u)::int[])",
            "(= any a (cast <u> int[]))",
        ),
        ("a @> any (b)", "(@> a (? b))"),
        ("a like 'x%'", "(like a #0)"),
        ("a not like 'x' and b", "(and (not like a #0) b)"),
        ("a ilike 'x' || 'y'", "(ilike a (|| #0 #1))"),
        ("a like 'x' escape '!' or b", "(or (? a #0 '!') b)"),
        ("a like any (array['x'])", "(like a (? (array #0)))"),
        ("a not ilike all ($1)", "(not ilike a (? $1))"),
        ("a similar to 'x'", "(similar to a 'x')"),
        ("a ~ 'x' and b !~* 'y'", "(and (~ a #0) (!~* b #1))"),
        ("a is true or b is not unknown", "(or (? a) (? b))"),
        ("a is json object with unique keys", "(? a)"),
        ("a is nfc normalized", "(? a)"),
        ("exists (select 1 from u)", "(exists <u>)"),
        (
            "not exists (select 1 from u) and b",
            "(and (not (exists <u>)) b)",
        ),
        ("a = (select max(x) from u)", "(= a <u>)"),
        ("a = ((select x from u) + 1)", "(= a (+ <u> #0))"),
        ("(a, b) = (select x, y from u)", "(= (row a b) <u>)"),
        ("(a, b) = (1, 2)", "(= (row a b) (row #0 #1))"),
        ("row(a, b) = row(1)", "(= (row a b) (row #0))"),
        ("a = array(select x from u)", "(= a (? <u>))"),
        ("a = array[[1], [2]]", "(= a (array (array #0) (array #1)))"),
        ("a[1] = 1", "(= (? a 1) #0)"),
        ("a[1:2] = b", "(= (? a 1 2) b)"),
        ("(a).b = 1", "(= (? a) #0)"),
        ("a.b.c = 1", "(= a.b.c #0)"),
        (
            "case a when 1 then b else (select x from u) end = 1",
            "(= (case a #0 b <u>) #1)",
        ),
        (
            "case when a and b or c then 1 end = 1",
            "(= (case (or (and a b) c) #0) #1)",
        ),
        ("coalesce(a, 1) = 1", "(= coalesce(a #0) #1)"),
        ("f(x => 1, y := a and b)", "f(#0 (and a b))"),
        ("f(variadic a)", "f(a)"),
        ("s.f(a)", "s.f(a)"),
        ("extract(year from a) = 1", "(= extract('year' a) #0)"),
        ("extract('year' from a) = 1", "(= extract(#0 a) #1)"),
        (
            "substring(a from 1 for 2) = 'x'",
            "(= substring(a #0 2) #1)",
        ),
        ("substring(a, 1, 2) = 'x'", "(= substring(a #0 #1) #2)"),
        ("trim(both 'x' from a) = 'y'", "(= trim('x' a) #0)"),
        ("trim(a) = 'y'", "(= trim(a) #0)"),
        ("position('x' in a) = 1", "(= position(#0 a) #1)"),
        (
            "position((b in (1)) in a) = 1",
            "(= position((in b [#0]) a) #1)",
        ),
        (
            "overlay(a placing b from 1 for 2) = 'x'",
            "(= overlay(a b #0 2) #1)",
        ),
        (
            "a = current_date and b < current_timestamp(3)",
            "(and (= a current_date()) (< b current_timestamp()))",
        ),
        (
            "a = user or a = session_user",
            "(or (= a user()) (= a session_user()))",
        ),
        ("\"user\" = 1", "(= user #0)"),
        ("t.user = 1", "(= t.user #0)"),
        ("\"A\" = 1", "(= A #0)"),
        ("A = 1", "(= a #0)"),
        ("a = $1 and b = $2", "(and (= a $1) (= b $2))"),
        ("a = null", "(= a null)"),
        ("a = true", "(= a true)"),
        ("a = x'1f'", "(= a (? ))"),
        ("a = U&'x' uescape '!'", "(= a (? ))"),
        ("(a, b) overlaps (c, d)", "overlaps((row a b) (row c d))"),
        ("left(a, 1) = 'x'", "(= left(a #0) #1)"),
        ("a = 1e3", "(= a #0)"),
    ] {
        let shown = shown_filter(text);
        if shown != expected {
            wrong.push(format!("{text}: {shown}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn calls_keep_all_their_parts() {
    for (text, expected) in [
        ("count(*)", "count(*)"),
        ("count(distinct a)", "count(distinct a)"),
        ("count(all a)", "count(a)"),
        (
            "string_agg(a, ',' order by b desc, c nulls first)",
            "string_agg(a #0 order b c)",
        ),
        ("sum(a) filter (where b = 1)", "sum(a) filter (= b #0)"),
        (
            "percentile_cont(0.5) within group (order by a)",
            "percentile_cont(#0 order a)",
        ),
        (
            "row_number() over (partition by a, b order by c rows between 1 preceding and current row exclude ties)",
            "row_number() over [a b c 1]",
        ),
        ("sum(a) over w", "sum(a) over []"),
        ("sum(a) over (w order by b)", "sum(a) over [b]"),
        (
            "f((select x from u), exists (select 1 from v))",
            "f(<u> (exists <v>))",
        ),
        ("current_schema()", "current_schema()"),
        ("count(t.*)", "count(t.*)"),
        ("row(s.t.*, 1)", "(row s.t.* #0)"),
        ("json_build_object('a', b)", "json_build_object(#0 b)"),
    ] {
        let select = select(&format!("select {text} from t"));
        let Item::Expr { expr, .. } = &select.items[0] else {
            panic!("{text}")
        };
        assert_eq!(show(expr), expected, "{text}");
    }
}

#[test]
fn every_table_is_seen() {
    for (text, expected) in [
        ("select 1", ""),
        ("select * from a", "a"),
        ("select * from s.a x, only b, c *", "s.a b c"),
        (
            "select * from a join b on a.x = b.x left join c using (x) cross join d natural join e",
            "a b c d e",
        ),
        (
            "select * from a join b join c on b.x = c.x on a.x = b.x",
            "a b c",
        ),
        ("select * from (a join b on true) join c on true", "a b c"),
        (
            "select * from (select * from a) x, lateral (select * from b where b.x = x.x) y",
            "a b",
        ),
        (
            "select * from f((select x from a)) x(y int), rows from (g(1), h((select 1 from b)) as (z int)) with ordinality",
            "a b",
        ),
        (
            "select (select 1 from a), array(select 1 from b) from c where x in (select 1 from d) and exists (select 1 from e)",
            "a b c d e",
        ),
        (
            "select 1 from a group by (select 1 from b) having (select true from c) order by (select 1 from d) limit (select 1 from e) offset (select 1 from f)",
            "a b c d e f",
        ),
        (
            "select sum((select 1 from a)) filter (where (select true from b)) over (order by (select 1 from c)) from d",
            "a b c d",
        ),
        (
            "select distinct on ((select 1 from a)) 1 from b window w as (partition by (select 1 from c))",
            "a b c",
        ),
        (
            "with x as (select * from a), y as materialized (delete from b returning *) select * from x, y",
            "a b x y",
        ),
        (
            "with recursive x(n) as (select 1 from a union all select n + 1 from x) search depth first by n set o cycle n set c using p select * from x",
            "a x x",
        ),
        (
            "select * from a union select * from b intersect (select * from c order by 1 limit 1) except table d",
            "a b c d",
        ),
        ("table a", "a"),
        ("table a limit 5", "a"),
        ("select from a where exists (select from b)", "a b"),
        (
            "select json_build_object('x', value), xmlconcat(a, b) from a",
            "a",
        ),
        ("values (1, (select 1 from a)), (2, 3)", "a"),
        ("((select * from a))", "a"),
        (
            "select case when (select true from a) then (select 1 from b) else (select 2 from c) end",
            "a b c",
        ),
        ("select (a.b).c, (select row(x) from d) from a", "d a"),
        (
            "select cast((select 1 from a) as int), (select 2 from b)::int, (select 'x' from c) collate \"C\"",
            "a b c",
        ),
        (
            "insert into a values (1, (select 1 from b)) on conflict (x) where y do update set z = (select 1 from c) where (select true from d) returning (select 1 from e)",
            "a b c d e",
        ),
        ("insert into a (x, y) select * from b", "a b"),
        ("insert into a (select * from b)", "a b"),
        (
            "insert into a with x as (select * from b) select * from x",
            "a b x",
        ),
        ("insert into a default values", "a"),
        (
            "insert into a as t overriding system value values (default) on conflict on constraint c do nothing",
            "a",
        ),
        (
            "insert into a select * from b join c on true on conflict do nothing",
            "a b c",
        ),
        (
            "with x as (select * from b) insert into a select * from x",
            "b a x",
        ),
        (
            "update only a set x = (select 1 from b), (y, z) = (select 1, 2 from c) from d join e on true where (select true from f) returning (select 1 from g)",
            "a b c d e f g",
        ),
        ("update a * as t set x[1] = 2, y.z = 3", "a"),
        (
            "delete from a using b, (select * from c) x where exists (select 1 from d) returning *",
            "a b c d",
        ),
        (
            "merge into a t using (select * from b) s on t.x = s.x and (select true from c) when matched and (select true from d) then update set y = (select 1 from e) when not matched by target then insert (x) values ((select 1 from f)) when matched then delete when not matched then do nothing",
            "a b c d e f",
        ),
        ("explain (analyze, costs off) select * from a", "a"),
        ("explain analyze verbose update a set x = 1", "a"),
        ("explain create table b as select * from a", "a"),
        (
            "declare c scroll cursor with hold for select * from a for update",
            "a",
        ),
        (
            "prepare p (int, varchar(10)) as insert into a select * from b",
            "a b",
        ),
        ("copy (select * from a) to stdout", "a"),
        ("copy s.a (x, y) from stdin", "s.a"),
        ("call p((select 1 from a))", "a"),
        (
            "truncate table only a, s.b restart identity cascade",
            "a s.b",
        ),
        ("lock table a, b in access exclusive mode nowait", "a b"),
        ("vacuum (full, analyze) a (x, y), b", "a b"),
        ("vacuum full verbose a", "a"),
        ("analyze a", "a"),
        ("reindex (concurrently) table a", "a"),
        ("cluster a using i", "a"),
        ("create table a (x int)", "a"),
        ("create table a as select * from b", "b"),
        ("create table a (x, y) as select * from b with no data", "b"),
        (
            "create materialized view a as select * from b with data",
            "b",
        ),
        (
            "create view a (x) with (security_barrier) as select * from b with check option",
            "b",
        ),
        (
            "create unique index concurrently i on only a using btree (x, lower(y) desc, (z + 1)) include (q) where x > 1",
            "a",
        ),
        ("alter table if exists only a add column x int", "a"),
        ("drop table if exists a, s.b cascade", "a s.b"),
        (
            "create trigger t after insert or update of x on s.a referencing new table as n for each row execute function f()",
            "s.a",
        ),
        ("create policy p on a using (true)", "a"),
        ("create rule r as on insert to a do nothing", "a"),
        ("grant select, insert on table a, b to u", "a b"),
        ("grant all on a to u", "a"),
        ("grant usage on schema a to u", ""),
        ("grant r to u", ""),
        ("comment on table a is 'x'", "a"),
        ("comment on column s.a.x is 'x'", "s.a"),
        ("create publication p for table a, b", "a b"),
        ("drop trigger t on a", "a"),
        ("do $$ begin end $$", ""),
    ] {
        assert_eq!(tables(&statement(text)).join(" "), expected, "{text}");
    }
}

#[test]
fn what_is_not_understood_is_refused() {
    for text in [
        "select top 5 * from t",
        "select * from t qualify x = 1",
        "select * from t prewhere x",
        "select * from t lateral view f(x)",
        "select * from t limit 1, 2",
        "select * from t tablesample system (10)",
        "select * from a left b",
        "select * from a join b",
        "select * from a join b where x = 1",
        "select * from (a join b on true) x",
        "select 1 'x'",
        "select 1 2",
        "select 1 from t t t",
        "select * from t where",
        "select * from t where a = ",
        "select * from t where a = = b",
        "select * from t where (a = 1",
        "select * from t where a in ()",
        "select * from t where a between 1",
        "select (a).* from t",
        "select * from a.b.c",
        "select f(* ) + * from t",
        "select * from t order by a using <",
        "select * except (a) from t",
        "select * replace (a) from t",
        "select a -> b -> from t",
        "select * from xmltable('x' passing y columns z int)",
        "select json_value(a, '$' returning int) from t",
        "select xmlelement(name a) from t",
        "select 0x1f from t",
        "select { from t",
        "insert into t (a[1]) values (1)",
        "insert t values (1)",
        "insert into t set a = 1",
        "update t set a = 1 limit 5",
        "update t set (a, b) = 5",
        "delete t",
        "delete from t order by a",
        "merge into t using s on true when not matched by source then delete",
        "merge into t using s on true when matched then delete returning *",
        "merge into t using s on true",
        "create recursive view v (a) as select 1",
        "with x as (select 1)",
        "with x select 1",
        "replace into t values (1)",
        "select * from t for nothing",
        "select a from t group by",
        "select 1 union",
        "table t where a = 1",
        "copy t from",
        "set a = 1",
        "table t order by a",
        "select from t order by a",
        "select from t group by a",
        "create schema s create table t (a int)",
        "json_value(a, '$' returning int)",
        "select json_object('a': 1)",
        "select xmlforest(a as b)",
    ] {
        refused(text);
    }
}

#[test]
fn depth_is_bounded() {
    for (open, close) in [
        ("(", ")"),
        ("f(", ")"),
        ("(select ", ")"),
        ("array[", "]"),
        ("case when ", " then 1 end"),
        ("a in (", ")"),
        ("not ", ""),
        ("- ", ""),
        ("a[", "]"),
        ("cast(", " as int)"),
        ("a or (b and ", ")"),
        ("exists (select 1 where ", ")"),
    ] {
        for depth in [20_000, 90] {
            let text = format!("select {}a{}", open.repeat(depth), close.repeat(depth));
            let _ = read(&text);
        }
    }
    for (piece, count) in [
        (" or a = 1", 20_000),
        (" and a = 1", 20_000),
        (" + 1", 20_000),
        (" || a", 20_000),
    ] {
        let _ = read(&format!("select a{}", piece.repeat(count)));
    }
    for text in [
        format!("select 1{}", " union all select 1".repeat(20_000)),
        format!("select 1 from a{}", " join a on true".repeat(20_000)),
        format!(
            "select 1 from {}a{}",
            "(".repeat(20_000),
            ")".repeat(20_000)
        ),
        format!("select 1 from a {}", "join a ".repeat(20_000)),
        format!("select 1 where a in ({}1)", "1,".repeat(20_000)),
        format!("select a{}", "::int".repeat(20_000)),
        format!("select a{}", " collate b".repeat(20_000)),
        format!("select a{}", "[1]".repeat(20_000)),
        format!("select a{}", ".b".repeat(20_000)),
        format!("select {} a", "- ".repeat(20_000)),
        format!(
            "select 1 group by {}a{}",
            "rollup (".repeat(20_000),
            ")".repeat(20_000)
        ),
        format!(
            "{}select 1{}",
            "with x as (".repeat(20_000),
            ") select 1".repeat(20_000)
        ),
        format!("{}select 1", "explain ".repeat(20_000)),
    ] {
        let _ = read(&text);
    }
    let many = select(&format!(
        "select 1 from t where {}b",
        "a = 1 or ".repeat(5_000)
    ));
    assert!(matches!(many.filter, Some(Expr::Or(parts)) if parts.len() == 5_001));
}

fn slice(shape: &str, span: &Option<Span>) -> String {
    span.clone()
        .map_or_else(String::new, |span| shape[span].to_owned())
}

#[test]
fn spans_are_exact() {
    let text = "/* é */ with w as (select 'é' as \"ü\") select /* x */ a + 1 as \"é\" , coalesce( b , 2 ) c, t.d  \
                from t where a = 'é' group by a having  count(*) > 1  order by  a  desc , lower( b ) nulls last \
                limit 5 offset 6 rows for update of t nowait";
    let (shape, parsed) = read(text);
    let Ok(Statement::Query(query)) = parsed else {
        panic!("{parsed:?}")
    };
    let Body::Select(select) = &query.body else {
        panic!()
    };
    let spans: Vec<&str> = select
        .items
        .iter()
        .map(|item| match item {
            Item::Expr { span, .. } => &shape[span.clone()],
            _ => "",
        })
        .collect();
    let literal = |index: u32| format!("${}", LITERAL_BASE + index);
    assert_eq!(
        spans,
        [
            format!("a + {}", literal(1)),
            format!("coalesce( b , {} )", literal(2)),
            "t.d".to_owned()
        ]
    );
    assert!(shape[select.items_end..].starts_with("  from t"));
    assert_eq!(
        slice(&shape, &select.having_span),
        format!("having  count(*) > {}", literal(4))
    );
    let keys: Vec<&str> = query
        .order_by
        .iter()
        .map(|key| &shape[key.span.clone()])
        .collect();
    assert_eq!(keys, ["a", "lower( b )"]);
    assert_eq!(
        slice(&shape, &query.limit_span),
        format!("limit {} offset {} rows", literal(5), literal(6))
    );
    assert!(shape[..query.limit_at].ends_with("nulls last"));
    assert!(query.locking);
    assert_eq!(&shape[query.span.clone()], shape);
    assert_eq!(
        query
            .order_by
            .iter()
            .map(|key| (key.descending, key.nulls_first))
            .collect::<Vec<_>>(),
        [(true, None), (false, Some(false))]
    );
    let From::Table { span, alias, .. } = &select.from[0] else {
        panic!()
    };
    assert_eq!((&shape[span.clone()], alias), ("t", &None));

    for (text, limit, before) in [
        ("select a from t", "", "select a from t"),
        ("select a from t limit all", "limit all", "select a from t"),
        ("select a from t for update", "", "select a from t"),
        (
            "select a from t for share limit $1",
            "limit $1",
            "select a from t",
        ),
        (
            "select a from t order by 1 fetch first row only",
            "fetch first row only",
            "select a from t order by 1",
        ),
        (
            "select a from t fetch next 5 rows with ties",
            "fetch next 5 rows with ties",
            "select a from t",
        ),
        (
            "select a from t offset $1 limit $2 for update",
            "offset $1 limit $2",
            "select a from t",
        ),
        (
            "(select a from t) limit $1",
            "limit $1",
            "(select a from t)",
        ),
        ("(select a from t limit $1)", "limit $1", "(select a from t"),
        (
            "select a from t union select b from u limit $1",
            "limit $1",
            "select a from t union select b from u",
        ),
    ] {
        let query = super::tests::query(text);
        assert_eq!(slice(text, &query.limit_span), limit, "{text}");
        assert_eq!(&text[..query.limit_at], before, "{text}");
    }
    for (text, before) in [
        ("select from t", "select"),
        ("select distinct a from t", "select distinct a"),
        ("select *", "select *"),
        ("select t.* into x from t", "select t.*"),
        (
            "select a as \"from\", b b from t",
            "select a as \"from\", b b",
        ),
        (
            "select a is distinct from b from t",
            "select a is distinct from b",
        ),
        (
            "select extract(year from a) from t",
            "select extract(year from a)",
        ),
    ] {
        assert_eq!(&text[..select_end(text)], before, "{text}");
    }
    let text = "declare c cursor for select a from t where x = 'é' -- é";
    let (shape, parsed) = read(text);
    let Ok(Statement::Declare {
        query_span, query, ..
    }) = parsed
    else {
        panic!("{parsed:?}")
    };
    assert_eq!(
        &shape[query_span.clone()],
        format!("select a from t where x = {}", literal(0))
    );
    assert_eq!(query.span, query_span);
    let text = "prepare p as  delete from t where x = 1";
    let (shape, parsed) = read(text);
    let Ok(Statement::Prepare { statement_span, .. }) = parsed else {
        panic!("{parsed:?}")
    };
    assert_eq!(
        &shape[statement_span],
        format!("delete from t where x = {}", literal(0))
    );
}

fn select_end(text: &str) -> usize {
    select(text).items_end
}

#[test]
fn queries() {
    let query = query("select a, t.*, s.t.*, * from t limit null offset 5");
    assert_eq!((query.limit, query.offset), (None, Some(Expr::Literal(0))));
    let Body::Select(found) = query.body else {
        panic!()
    };
    assert!(matches!(&found.items[1], Item::QualifiedStar(parts) if parts == &["t"]));
    assert!(matches!(&found.items[2], Item::QualifiedStar(parts) if parts == &["s", "t"]));
    assert!(matches!(&found.items[3], Item::Star));
    let found = select("select a as \"B\", a b, a c from t");
    let aliases: Vec<_> = found
        .items
        .iter()
        .map(|item| match item {
            Item::Expr { alias, .. } => alias.clone().unwrap_or_default(),
            _ => String::new(),
        })
        .collect();
    assert_eq!(aliases, ["B", "b", "c"]);
    assert!(select("select 1 into temp table x from t").into.is_some());
    assert_eq!(select("select distinct a").distinct, Distinct::Rows);
    assert!(
        matches!(select("select distinct on (a, b) c").distinct, Distinct::On(keys) if keys.len() == 2)
    );
    for (text, count, sets) in [
        ("select 1 from t group by a, b", 2, false),
        ("select 1 from t group by (a, b), c", 3, false),
        ("select 1 from t group by ()", 0, true),
        ("select 1 from t group by rollup (a, (b, c))", 3, true),
        (
            "select 1 from t group by grouping sets ((a), cube (b), ())",
            2,
            true,
        ),
        ("select 1 from t group by distinct a", 1, true),
        ("select 1 from t group by 1", 1, false),
    ] {
        let found = select(text);
        assert_eq!(
            (found.group_by.len(), found.grouping_sets),
            (count, sets),
            "{text}"
        );
    }
    let by_ordinal = super::tests::query("select a from t order by 2");
    assert!(
        matches!(&by_ordinal.order_by[..], [OrderKey { expr: Expr::Number(n), .. }] if n == "2")
    );
    let Body::Set {
        op,
        all,
        left,
        right,
    } = super::tests::query("select 1 union all select 2 intersect select 3").body
    else {
        panic!()
    };
    assert_eq!((op, all), (SetOp::Union, true));
    assert!(matches!(*left, Body::Select(_)));
    assert!(matches!(
        *right,
        Body::Set {
            op: SetOp::Intersect,
            ..
        }
    ));
    let Body::Set { left, .. } =
        super::tests::query("select 1 except select 2 union select 3").body
    else {
        panic!()
    };
    assert!(matches!(
        *left,
        Body::Set {
            op: SetOp::Except,
            ..
        }
    ));
    let ties = super::tests::query("select 1 fetch first 3 rows with ties");
    assert!(ties.with_ties && ties.limit == Some(Expr::Number("3".into())));
    for text in [
        "select 1 for no key update",
        "select 1 for key share skip locked",
        "select 1 from t for update of t, u nowait for share",
    ] {
        assert!(super::tests::query(text).locking, "{text}");
    }
    assert!(!super::tests::query("select 1 for read only").locking);
    let joined =
        select("select 1 from a left outer join b on x full join c using (y, z) right join d on w");
    let From::Join { kind, left, .. } = &joined.from[0] else {
        panic!()
    };
    assert_eq!(*kind, JoinKind::Right);
    let From::Join { kind, on, left, .. } = left.as_ref() else {
        panic!()
    };
    assert_eq!(*kind, JoinKind::Full);
    assert_eq!(*on, JoinOn::Using(vec!["y".into(), "z".into()]));
    assert!(matches!(
        left.as_ref(),
        From::Join {
            kind: JoinKind::Left,
            ..
        }
    ));
    let found = select(
        "select 1 from t as x (a, b), f(1) with ordinality as y (c, d), g() as (e int), (values (1)) z (h)",
    );
    assert!(
        matches!(&found.from[0], From::Table { alias: Some(a), columns, .. } if a == "x" && columns.len() == 2)
    );
    assert!(
        matches!(&found.from[1], From::Function { alias: Some(a), columns, .. } if a == "y" && columns.len() == 2)
    );
    assert!(
        matches!(&found.from[2], From::Function { alias: None, columns, .. } if columns == &["e"])
    );
    assert!(matches!(&found.from[3], From::Subquery { alias: Some(a), .. } if a == "z"));
}

#[test]
fn changes() {
    let Statement::Insert(insert) = statement(
        "insert into s.t as x (a, \"B\") values (1, default), ($1, 'x') on conflict (a) do update set b = excluded.b, (c, d) = row(1, 2) where x.a > 5 returning a, *",
    ) else {
        panic!()
    };
    assert_eq!(
        (name(&insert.table), insert.alias.as_deref()),
        ("s.t".into(), Some("x"))
    );
    assert_eq!(insert.columns, ["a", "B"]);
    let InsertSource::Values(rows) = &insert.source else {
        panic!()
    };
    assert_eq!(
        rows.iter().map(|row| list(row)).collect::<Vec<_>>(),
        ["#0 default", "$1 #1"]
    );
    let Some(OnConflict::Update {
        set,
        filter: Some(_),
    }) = &insert.on_conflict
    else {
        panic!()
    };
    assert_eq!(set[0].columns, ["b"]);
    assert_eq!(
        (set[1].columns.len(), show(&set[1].value)),
        (2, "(row #2 #3)".into())
    );
    assert_eq!(insert.returning.len(), 2);
    let Statement::Insert(insert) = statement("insert into t values (1) on conflict do nothing")
    else {
        panic!()
    };
    assert_eq!(insert.on_conflict, Some(OnConflict::Nothing));
    let Statement::Update(update) = statement("update t x set a = 1, b[2] = 3 where current of c")
    else {
        panic!()
    };
    assert_eq!(
        (update.alias.as_deref(), update.current_of.as_deref()),
        (Some("x"), Some("c"))
    );
    assert_eq!(show(&update.set[1].value), "(? 2 #1)");
    let Statement::Delete(delete) = statement("delete from t where id = $1") else {
        panic!()
    };
    assert_eq!(delete.filter.as_ref().map(show), Some("(= id $1)".into()));
    let Statement::Copy(copy) =
        statement("copy t (a) from stdin with (format csv, header, null 'x', force_null (a, b))")
    else {
        panic!()
    };
    assert!(copy.stdio && copy.direction == CopyDirection::From);
    let options: Vec<_> = copy
        .options
        .iter()
        .map(|(n, v)| format!("{n}={v}"))
        .collect();
    assert_eq!(
        options,
        ["format=csv", "header=true", "null=x", "force_null=(a, b)"]
    );
    let Statement::Copy(copy) =
        statement("copy t to '/tmp/x' csv header delimiter as ',' force quote *")
    else {
        panic!()
    };
    assert!(!copy.stdio);
    assert_eq!(copy.options.len(), 4);
    assert!(matches!(
        statement("explain analyze select 1"),
        Statement::Explain { analyze: true, .. }
    ));
    assert!(matches!(
        statement("explain (analyze off) select 1"),
        Statement::Explain { analyze: false, .. }
    ));
    assert!(matches!(
        statement("explain (select 1)"),
        Statement::Explain { analyze: false, .. }
    ));
}

#[test]
fn definitions() {
    let Statement::Ddl(Ddl::CreateTable(table)) = statement(
        "create table if not exists s.t (
            id bigint generated always as identity (start 5) primary key,
            a varchar(10) not null default 'x' collate \"C\" check (a <> ''),
            b numeric(10, 2) constraint u unique nulls not distinct,
            c timestamp with time zone default now() not null,
            d int references o (id) on delete set null on update cascade deferrable initially deferred,
            e int generated always as (d + 1) stored,
            f text[] storage external,
            constraint p unique (a, b) include (c),
            primary key (id, a),
            foreign key (a, b) references s.o match full on delete cascade not valid,
            exclude using gist (a with =, b with &&) where (a > 1),
            check (a > 1) no inherit,
            like x including all
        ) partition by hash (id) with (fillfactor = 70) tablespace y",
    ) else {
        panic!()
    };
    assert!(table.if_not_exists && table.partition_by);
    assert_eq!(table.columns_from.as_ref().map(name).as_deref(), Some("x"));
    let types: Vec<&str> = table.columns.iter().map(|c| c.data_type.as_str()).collect();
    assert_eq!(
        types,
        [
            "bigint",
            "varchar(10)",
            "numeric(10,2)",
            "timestamp with time zone",
            "int",
            "int",
            "text[]"
        ]
    );
    assert!(table.columns[0].identity);
    assert_eq!(
        table.columns[0].constraints,
        [TableConstraint::PrimaryKey(vec!["id".into()])]
    );
    assert_eq!(
        table.columns[1].default.as_ref().map(show).as_deref(),
        Some("(collate 'x' C)")
    );
    assert_eq!(
        table.columns[2].constraints,
        [TableConstraint::Unique(vec!["b".into()])]
    );
    assert_eq!(
        table.columns[3].default.as_ref().map(show).as_deref(),
        Some("now()")
    );
    assert!(matches!(
        &table.columns[4].constraints[..],
        [TableConstraint::ForeignKey {
            on_update_changes: true,
            on_delete_sets: true,
            ..
        }]
    ));
    assert!(matches!(
        &table.constraints[..],
        [
            TableConstraint::Unique(u),
            TableConstraint::PrimaryKey(p),
            TableConstraint::ForeignKey { columns, table, on_update_changes: false, on_delete_sets: false, .. },
            TableConstraint::Exclude(x),
            TableConstraint::Local,
        ] if u == &["a", "b"] && p == &["id", "a"] && columns == &["a", "b"] && name(table) == "s.o" && x == &["a"]
    ));
    for text in [
        "create temp table t (a int) on commit drop",
        "create table t ()",
        "create table t (a int) inherits (p)",
        "create table t partition of p for values from (1) to (2)",
        "create table t partition of p for values in (1, 2) partition by range (a)",
        "create table t partition of p for values with (modulus 4, remainder 0)",
        "create table t partition of p default",
        "create table t of ty (a with options primary key)",
        "create unlogged table t (a double precision, b character varying, c \"T\", d s.ty)",
    ] {
        let Statement::Ddl(Ddl::CreateTable(_)) = statement(text) else {
            panic!("{text}")
        };
    }
    let actions = |text: &str| match statement(text) {
        Statement::Ddl(Ddl::AlterTable { actions, .. }) => actions,
        other => panic!("{text}: {other:?}"),
    };
    assert!(matches!(
        &actions(
            "alter table t add column a int not null, add b text, add constraint c unique (a), drop column if exists d cascade, alter e type bigint using e::bigint, alter column f set default 5, alter g set not null, owner to u, drop constraint c"
        )[..],
        [
            AlterAction::AddColumn(_),
            AlterAction::AddColumn(_),
            AlterAction::AddConstraint(TableConstraint::Unique(_)),
            AlterAction::DropColumn(_),
            AlterAction::AlterType(..),
            AlterAction::SetDefault(_, _),
            AlterAction::Local,
            AlterAction::Local,
            AlterAction::Local,
        ]
    ));
    for (text, expected) in [
        (
            "alter table t rename to u",
            AlterAction::RenameTable("u".into()),
        ),
        (
            "alter table t rename a to b",
            AlterAction::RenameColumn("a".into(), "b".into()),
        ),
        (
            "alter table t rename column a to b",
            AlterAction::RenameColumn("a".into(), "b".into()),
        ),
        (
            "alter table t set schema s",
            AlterAction::SetSchema("s".into()),
        ),
        (
            "alter table t attach partition p for values in (1)",
            AlterAction::Other,
        ),
        (
            "alter table t detach partition p concurrently",
            AlterAction::Other,
        ),
        ("alter table t inherit p", AlterAction::Other),
        (
            "alter table t enable row level security",
            AlterAction::Local,
        ),
        ("alter table t set (fillfactor = 70)", AlterAction::Local),
        (
            "alter table t alter a add generated always as identity",
            AlterAction::Other,
        ),
    ] {
        assert_eq!(actions(text), [expected], "{text}");
    }
    let Statement::Ddl(Ddl::CreateIndex {
        unique,
        columns,
        concurrently,
        ..
    }) = statement(
        "create unique index concurrently if not exists i on t (a, lower(b), (c || d) text_ops, \"E\" collate \"C\" desc nulls last)",
    )
    else {
        panic!()
    };
    assert!(unique && concurrently);
    assert_eq!(columns, [Some("a".into()), None, None, Some("E".into())]);
    for (text, what, named) in [
        (
            "create type s.mood as enum ('a')",
            "CREATE TYPE",
            Some("s.mood"),
        ),
        (
            "create sequence q owned by t.a",
            "CREATE SEQUENCE",
            Some("q"),
        ),
        (
            "create extension if not exists x",
            "CREATE EXTENSION",
            Some("x"),
        ),
        (
            "create or replace function f(a int) returns int as $$ select 1 $$ language sql",
            "CREATE FUNCTION",
            Some("f"),
        ),
        ("alter sequence q restart", "ALTER SEQUENCE", Some("q")),
        ("drop function f(int)", "", Some("")),
        ("grant select on t to u", "GRANT", None),
        (
            "refresh materialized view concurrently m",
            "REFRESH MATERIALIZED VIEW",
            Some("m"),
        ),
        ("create cast (a as b) without function", "CREATE CAST", None),
        (
            "alter default privileges grant select on tables to u",
            "ALTER DEFAULT PRIVILEGES",
            None,
        ),
        ("do $$ begin end $$", "DO", None),
    ] {
        match statement(text) {
            Statement::Ddl(Ddl::Other {
                what: found,
                name: object,
                ..
            }) => {
                assert_eq!(found, what, "{text}");
                assert_eq!(object.as_ref().map(name).as_deref(), named, "{text}");
            }
            Statement::Ddl(Ddl::Drop { .. }) if what.is_empty() => {}
            other => panic!("{text}: {other:?}"),
        }
    }
    assert!(matches!(
        statement("reindex table concurrently t"),
        Statement::Maintenance {
            outside_transaction: true,
            ..
        }
    ));
    assert!(matches!(
        statement("analyze t"),
        Statement::Maintenance {
            outside_transaction: false,
            ..
        }
    ));
    assert!(
        matches!(statement("vacuum"), Statement::Maintenance { outside_transaction: true, tables, rebuilds: false } if tables.is_empty())
    );
}

#[test]
fn upkeep_says_whether_it_builds_indexes_anew() {
    for (text, rebuilt) in [
        ("vacuum t", false),
        ("vacuum (analyze, verbose) t", false),
        ("vacuum (full off) t", false),
        ("analyze t", false),
        ("vacuum full t", true),
        ("vacuum full verbose analyze t", true),
        ("vacuum (full) t", true),
        ("vacuum (analyze, full true) t", true),
        ("reindex index i", true),
        ("cluster t", true),
    ] {
        let Statement::Maintenance { rebuilds, .. } = statement(text) else {
            panic!("{text}");
        };
        assert_eq!(rebuilds, rebuilt, "{text}");
    }
}

#[test]
fn strings_that_stay_mean_the_same_with_backslashes() {
    let off = ScanSettings {
        standard_conforming_strings: false,
    };
    let text = r"select interval '1\' from a' from b where x = 'it\'s'";
    let scanned = scan(text, off).expect(text).remove(0);
    let shape = shape(text, &scanned);
    assert_eq!(
        shape,
        format!(r"select interval E'1\' from a' from b where x = ${LITERAL_BASE}")
    );
    let found = parse(&shape, scanned.verb).expect("whole");
    assert_eq!(tables(&found), ["b"]);
}

/// Words and signs that make statements, right and wrong.
fn word() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "select",
        "from",
        "where",
        "t",
        "u",
        "a",
        "b.c",
        "*",
        ",",
        "(",
        ")",
        "(",
        ")",
        "=",
        "and",
        "or",
        "not",
        "1",
        "'x'",
        "$1",
        "in",
        "between",
        "like",
        "is",
        "null",
        "case",
        "when",
        "then",
        "else",
        "end",
        "join",
        "on",
        "left",
        "using",
        "union",
        "all",
        "order",
        "by",
        "group",
        "having",
        "limit",
        "offset",
        "with",
        "as",
        "insert",
        "into",
        "values",
        "update",
        "set",
        "delete",
        "returning",
        "exists",
        "array",
        "[",
        "]",
        "::",
        "int",
        "over",
        "partition",
        "filter",
        "distinct",
        "f",
        "é",
        "\"Q\"",
        "conflict",
        "do",
        "nothing",
        "merge",
        "matched",
        "default",
        "-",
        "||",
        ".",
        "for",
        "any",
        "interval",
        "date",
        "cast",
        "create",
        "table",
        "index",
        "alter",
        "add",
        "column",
        "primary",
        "key",
        "references",
        "copy",
        "stdin",
        "explain",
        "analyze",
        "declare",
        "cursor",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_it_panic(
        first in proptest::sample::select(vec!["select", "with", "insert into t", "update t set", "delete from t", "merge into t", "create table", "alter table t", "copy", "explain", "values", "create index", "grant", "vacuum", "call f", "declare c", "prepare p", "drop", "lock", "truncate"]),
        words in proptest::collection::vec(word(), 0..30),
    ) {
        let text = format!("{first} {}", words.join(" "));
        let Ok(scanned) = scan(&text, ON) else { return Ok(()) };
        for statement in &scanned {
            let shape = shape(&text, statement);
            if let Ok(Statement::Query(query)) = parse(&shape, statement.verb) {
                check_spans(&query, &shape);
            }
        }
    }
}

/// Spans are slices of the text, in order and inside their query.
fn check_spans(query: &Query, shape: &str) {
    assert!(shape.get(query.span.clone()).is_some());
    assert!(query.span.contains(&(query.limit_at - 1)), "{shape}");
    for key in &query.order_by {
        assert!(
            shape
                .get(key.span.clone())
                .is_some_and(|text| !text.is_empty())
        );
    }
    if let Body::Select(select) = &query.body {
        assert!(shape.get(..select.items_end).is_some());
        let mut at = query.span.start;
        for item in &select.items {
            if let Item::Expr { span, .. } = item {
                assert!(span.start >= at && span.end <= select.items_end, "{shape}");
                at = span.end;
            }
        }
    }
}

/// Random expressions, each beside what PostgreSQL 15 makes of it (pg_get_viewdef writes all parentheses).
const AS_POSTGRESQL_READS_THEM: &[(&str, &str)] = &[
    (
        "not b1 isnull or b1 or b2 = b3 and b1 or not b2",
        "((NOT (b1 IS NULL)) OR b1 OR ((b2 = b3) AND b1) OR (NOT b2))",
    ),
    (
        "not b1 or i1 is null and b3",
        "((NOT b1) OR ((i1 IS NULL) AND b3))",
    ),
    (
        "b1 or i3 is not null <> b3 or b2 <> b2 is not false",
        "(b1 OR ((i3 IS NOT NULL) <> b3) OR ((b2 <> b2) IS NOT FALSE))",
    ),
    ("b2 or b2 is not false", "(b2 OR (b2 IS NOT FALSE))"),
    (
        "not b3 <> b3 and i1 is null and b3 or b2 = b2 is not false",
        "(((NOT (b3 <> b3)) AND (i1 IS NULL) AND b3) OR ((b2 = b2) IS NOT FALSE))",
    ),
    ("not b1 = b3 is unknown", "(NOT ((b1 = b3) IS UNKNOWN))"),
    ("b3 or b1 <> b2 or b2", "(b3 OR (b1 <> b2) OR b2)"),
    (
        "not not b3 < not not not b1 <> b1",
        "(NOT (NOT (b3 < (NOT (NOT (NOT (b1 <> b1)))))))",
    ),
    (
        "i1 > i2 + i2 and b3 < b2 is not false",
        "((i1 > (i2 + i2)) AND ((b3 < b2) IS NOT FALSE))",
    ),
    (
        "b3 or i2 >> i1 & i1 is not null < not b3 isnull or b3",
        "(b3 OR ((((i2 >> i1) & i1) IS NOT NULL) < (NOT (b3 IS NULL))) OR b3)",
    ),
    (
        "not b1 is not null and b3",
        "((NOT (b1 IS NOT NULL)) AND b3)",
    ),
    (
        "i1 is not null or b3 < b1",
        "((i1 IS NOT NULL) OR (b3 < b1))",
    ),
    ("b2 < b3 is not false", "((b2 < b3) IS NOT FALSE)"),
    (
        "b2 <> b2 is true or b1 < not b3",
        "(((b2 <> b2) IS TRUE) OR (b1 < (NOT b3)))",
    ),
    (
        "b3 < b2 isnull <> not b2 <> not b3",
        "(((b3 < b2) IS NULL) <> (NOT (b2 <> (NOT b3))))",
    ),
    (
        "i2 is null or b1 <> b3 or b2",
        "((i2 IS NULL) OR (b1 <> b3) OR b2)",
    ),
    (
        "b1 and not not b1 is not false <> b3",
        "(b1 AND (NOT (NOT ((b1 IS NOT FALSE) <> b3))))",
    ),
    ("b2 is true = not b2", "((b2 IS TRUE) = (NOT b2))"),
    (
        "not b2 <> b3 is not false <> not b1",
        "(NOT (((b2 <> b3) IS NOT FALSE) <> (NOT b1)))",
    ),
    (
        "b1 is true = not b3 notnull",
        "((b1 IS TRUE) = (NOT (b3 IS NOT NULL)))",
    ),
    ("b3 < not b1 is unknown", "(b3 < (NOT (b1 IS UNKNOWN)))"),
    (
        "not not b3 or b3 < not b2 is true and b3 = not b1 is not null",
        "((NOT (NOT b3)) OR ((b3 < (NOT (b2 IS TRUE))) AND (b3 = (NOT (b1 IS NOT NULL)))))",
    ),
    (
        "i3 + i2 = - i3 * i2 and b2 is unknown",
        "(((i3 + i2) = ((- i3) * i2)) AND (b2 IS UNKNOWN))",
    ),
    (
        "i2 | i1 < i1 or not b3 <> not b3",
        "(((i2 | i1) < i1) OR (NOT (b3 <> (NOT b3))))",
    ),
    ("b1 is not false < b2", "((b1 IS NOT FALSE) < b2)"),
    ("i2 = i2 or not b2 = b3", "((i2 = i2) OR (NOT (b2 = b3)))"),
    (
        "i3 >> i1 << i2 << i1 is not null < not b1 is not null",
        "(((((i3 >> i1) << i2) << i1) IS NOT NULL) < (NOT (b1 IS NOT NULL)))",
    ),
    (
        "b1 = not not b1 = b1 and b2 notnull",
        "((b1 = (NOT (NOT (b1 = b1)))) AND (b2 IS NOT NULL))",
    ),
    ("b2 < not b3 < not b1", "(b2 < (NOT (b3 < (NOT b1))))"),
    ("b2 or b1 or b2 notnull", "(b2 OR b1 OR (b2 IS NOT NULL))"),
    (
        "not b3 = b3 is true <> b3",
        "(NOT (((b3 = b3) IS TRUE) <> b3))",
    ),
    (
        "not not not b1 = b3 is not false = b1",
        "(NOT (NOT (NOT (((b1 = b3) IS NOT FALSE) = b1))))",
    ),
    (
        "not b2 <> b1 or b3 <> b1",
        "((NOT (b2 <> b1)) OR (b3 <> b1))",
    ),
    ("b3 is not null or not b2", "((b3 IS NOT NULL) OR (NOT b2))"),
    (
        "b2 < not b3 <> not b1 < b2",
        "(b2 < (NOT (b3 <> (NOT (b1 < b2)))))",
    ),
    (
        "b1 < not not b1 is not null = b1",
        "(b1 < (NOT (NOT ((b1 IS NOT NULL) = b1))))",
    ),
    (
        "- i1 | i1 >= i1 and b1 and b1 = b3 notnull",
        "((((- i1) | i1) >= i1) AND b1 AND ((b1 = b3) IS NOT NULL))",
    ),
    (
        "b2 or b3 or i2 is distinct from - i3 and not b3",
        "(b2 OR b3 OR ((i2 IS DISTINCT FROM (- i3)) AND (NOT b3)))",
    ),
    (
        "not not not not b1 = not b2 or b3 is not false < b2",
        "((NOT (NOT (NOT (NOT (b1 = (NOT b2)))))) OR ((b3 IS NOT FALSE) < b2))",
    ),
    (
        "b3 or b2 or b1 and b2 or b3 = not b1 is true",
        "(b3 OR b2 OR (b1 AND b2) OR (b3 = (NOT (b1 IS TRUE))))",
    ),
];

#[test]
fn parentheses_change_nothing_where_postgresql_writes_them() {
    for (text, whole) in AS_POSTGRESQL_READS_THEM {
        assert_eq!(shown_filter(text), shown_filter(whole), "{text}");
    }
}
