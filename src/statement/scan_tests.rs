use super::*;
use proptest::prelude::*;

const ON: ScanSettings = ScanSettings {
    standard_conforming_strings: true,
};
const OFF: ScanSettings = ScanSettings {
    standard_conforming_strings: false,
};

fn one(text: &str) -> Scanned {
    let mut statements = scan(text, ON).expect(text);
    assert_eq!(statements.len(), 1, "{text}");
    statements.remove(0)
}

fn fingerprint(text: &str) -> u128 {
    one(text).fingerprint
}

/// The texts of the literals that are taken out.
fn check_literals(text: &str, expected: &[&str]) {
    let statement = one(text);
    let found: Vec<&str> = statement
        .literals
        .iter()
        .map(|literal| &text[literal.start as usize..literal.end as usize])
        .collect();
    assert_eq!(found, expected, "{text}");
    assert_eq!(
        restore(&shape(text, &statement), text, &statement).replace(' ', ""),
        text[statement.range.clone()].replace(' ', ""),
        "{text}"
    );
}

fn check_split(text: &str, expected: &[&str]) {
    let statements = scan(text, ON).expect(text);
    let found: Vec<&str> = statements
        .iter()
        .map(|statement| &text[statement.range.clone()])
        .collect();
    assert_eq!(found, expected, "{text}");
}

#[test]
fn verbs() {
    for (text, verb) in [
        ("", Verb::Empty),
        (" -- x", Verb::Empty),
        (";;", Verb::Empty),
        ("select 1", Verb::Select),
        ("SeLeCt 1", Verb::Select),
        ("/* a */ VALUES (1)", Verb::Select),
        ("TABLE t", Verb::Select),
        ("((select 1) union select 2)", Verb::Select),
        ("(with x as (select 1) select 1)", Verb::Select),
        ("(delete from t)", Verb::Unknown),
        ("with x as (select 1) delete from t", Verb::With),
        ("insert into t values (1)", Verb::Insert),
        ("update t set a = 1", Verb::Update),
        ("delete from t", Verb::Delete),
        (
            "merge into t using s on true when matched then delete",
            Verb::Merge,
        ),
        ("copy t from stdin", Verb::Copy),
        ("explain select 1", Verb::Explain),
        ("explain (costs off) select route from t", Verb::Explain),
        ("explain (route) select 1", Verb::ExplainRoute),
        ("EXPLAIN (format json, ROUTE) select 1", Verb::ExplainRoute),
        ("explain (select route from t)", Verb::Explain),
        ("begin", Verb::Begin),
        ("start transaction read only", Verb::Begin),
        ("commit", Verb::Commit),
        ("end", Verb::Commit),
        ("commit prepared 'x'", Verb::TwoPhase),
        ("rollback", Verb::Rollback),
        ("abort work", Verb::Rollback),
        ("rollback prepared 'x'", Verb::TwoPhase),
        ("rollback to s", Verb::RollbackTo),
        ("rollback transaction to savepoint s", Verb::RollbackTo),
        ("savepoint s", Verb::Savepoint),
        ("release s", Verb::Release),
        ("prepare transaction 'x'", Verb::TwoPhase),
        ("prepare transaction as select 1", Verb::Prepare),
        ("prepare p (int) as select $1", Verb::Prepare),
        ("execute p (1)", Verb::Execute),
        ("deallocate all", Verb::Deallocate),
        ("set a to b", Verb::Set),
        ("reset all", Verb::Reset),
        ("show x", Verb::Show),
        ("discard all", Verb::Discard),
        ("declare c cursor for select 1", Verb::Declare),
        ("fetch c", Verb::Fetch),
        ("move c", Verb::Move),
        ("close c", Verb::Close),
        ("listen c", Verb::Listen),
        ("unlisten *", Verb::Unlisten),
        ("notify c", Verb::Notify),
        ("lock t", Verb::Lock),
        ("truncate t", Verb::Truncate),
        ("vacuum", Verb::Maintenance),
        ("analyse t", Verb::Maintenance),
        ("checkpoint", Verb::Server),
        ("alter system set a = 1", Verb::Server),
        ("alter table system add a int", Verb::Ddl),
        ("call p()", Verb::Call),
        ("do $$ begin end $$", Verb::Do),
        ("create table t (a int)", Verb::Ddl),
        ("grant select on t to u", Verb::Ddl),
        ("selectx 1", Verb::Unknown),
        ("\"select\" 1", Verb::Unknown),
        ("'select'", Verb::Unknown),
    ] {
        assert_eq!(scan(text, ON).expect(text)[0].verb, verb, "{text}");
    }
}

#[test]
fn statements_end_at_semicolons_of_their_own() {
    check_split("select 1; select 2;", &["select 1", "select 2"]);
    check_split(";; select 1 ;; ", &["select 1"]);
    check_split(" /* a */ select 1 /* b */ ; -- c", &["select 1"]);
    check_split("select ';'", &["select ';'"]);
    check_split("select \";\"", &["select \";\""]);
    check_split("select $$;$$", &["select $$;$$"]);
    check_split(
        "select $a$;$$;$a$; select 2",
        &["select $a$;$$;$a$", "select 2"],
    );
    check_split(
        "select /* ; /* ; */ ; */ 1",
        &["select /* ; /* ; */ ; */ 1"],
    );
    check_split("select 1 -- ;\n; select 2", &["select 1", "select 2"]);
    check_split("select E'\\';'; select 2", &["select E'\\';'", "select 2"]);
    check_split("select '\\'; select 2", &["select '\\'", "select 2"]);
    check_split("select 'a'';'; select 2", &["select 'a'';'", "select 2"]);
    check_split(
        "create rule r as on insert to t do also (insert into a values (1); delete from b); select 2",
        &[
            "create rule r as on insert to t do also (insert into a values (1); delete from b)",
            "select 2",
        ],
    );
    check_split(
        "create or replace function f() returns int begin atomic select case when true then 1 end; select 2; end; select 3",
        &[
            "create or replace function f() returns int begin atomic select case when true then 1 end; select 2; end",
            "select 3",
        ],
    );
    check_split(
        "create procedure p() begin atomic end; begin; select 1; end",
        &[
            "create procedure p() begin atomic end",
            "begin",
            "select 1",
            "end",
        ],
    );
    check_split("begin; select 1; commit", &["begin", "select 1", "commit"]);
    let off = scan("select '\\';'; select 2", OFF).expect("whole");
    assert_eq!(off.len(), 2);
}

#[test]
fn text_without_an_end() {
    for (text, error) in [
        ("select 'a", ScanError::String),
        ("select 'a''", ScanError::String),
        ("select E'a\\'", ScanError::String),
        ("select E'a\\", ScanError::String),
        ("select x'a", ScanError::String),
        ("select 'a'\n'b", ScanError::String),
        ("select \"a", ScanError::Identifier),
        ("select U&\"a", ScanError::Identifier),
        ("select /* /* */", ScanError::Comment),
        ("select $$a$", ScanError::Dollar),
        ("select $a$ $b$", ScanError::Dollar),
        ("select $65536", ScanError::Parameter),
        ("select $1000000", ScanError::Parameter),
    ] {
        assert_eq!(scan(text, ON).expect_err(text), error, "{text}");
    }
}

#[test]
fn literals_that_are_taken_out() {
    check_literals(
        "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;",
        &["12345"],
    );
    check_literals(
        "select 1, 1.5, .5, 1e3, 'a', E'b', $$c$$",
        &["1", "1.5", ".5", "1e3", "'a'", "E'b'", "$$c$$"],
    );
    check_literals("select -5, - 5, +5.", &["5", "5", "5."]);
    check_literals("select 'a'\n  'b' , 'c'", &["'a'\n  'b'", "'c'"]);
    check_literals(
        "insert into t (a, b) values (1, 'x'), (2, 'y')",
        &["1", "'x'", "2", "'y'"],
    );
    check_literals(
        "select * from t where a in (1, 2) and b between 3 and 4",
        &["1", "2", "3", "4"],
    );
    check_literals("select * from t where a like 'x%' escape '!'", &["'x%'"]);
    check_literals(
        "select f(1, g('a')) from h(2, 3) where x.y.z(4)",
        &["1", "'a'", "2", "3", "4"],
    );
    check_literals("select case x when 1 then 2 else 3 end", &["1", "2", "3"]);
    check_literals("select ARRAY[1, 2, [3]], array[[4]]", &["1", "2", "3", "4"]);
    check_literals("select * from t limit 10 offset 20", &["10", "20"]);
    check_literals(
        "update t set a = 1, b = 'x' where c = 2 returning 3",
        &["1", "'x'", "2", "3"],
    );
    check_literals(
        "with x as (select 1), y (a) as materialized (values (2)) select 3",
        &["1", "2", "3"],
    );
    check_literals(
        "insert into t values (1) on conflict (a) do update set b = 2 where t.c > 3",
        &["1", "2", "3"],
    );
    check_literals("select * from (values (1, 'a')) as t (x, y)", &["1", "'a'"]);
    check_literals("select f(a => 1, b := 2)", &["1", "2"]);
    check_literals("select count(*) filter (where a = 1) from t", &["1"]);
    check_literals("explain (costs 0) select 5", &["5"]);
    check_literals("explain analyze update t set a = 5", &["5"]);
    check_literals("prepare p (varchar(10)) as select 5", &["5"]);
    check_literals("declare c cursor with hold for select 5", &["5"]);
    check_literals("((select 1) union select 2)", &["1", "2"]);
    check_literals(
        "select * from t where a = any ('{1,2}') or exists (select 1)",
        &["'{1,2}'", "1"],
    );
    check_literals(
        "select '2020-01-01'::date, '1.5'::numeric(10, 2)",
        &["'2020-01-01'", "'1.5'"],
    );
    check_literals(
        "select data->>'a', data #> '{a,1}' from t where data @> '{\"a\": 1}'",
        &["'a'", "'{a,1}'", "'{\"a\": 1}'"],
    );
    check_literals(
        "select'x'from t where a in('y')and b='z'",
        &["'x'", "'y'", "'z'"],
    );
    check_literals(
        "merge into t using s on t.a = s.a when matched and s.b = 1 then update set c = 2 when not matched then insert values (3)",
        &["1", "2", "3"],
    );
    check_literals(
        "select a from t group by a having count(*) > 5 order by a limit 5",
        &["5", "5"],
    );
    check_literals("select * from t order by a limit 5 for update", &["5"]);
}

#[test]
fn literals_that_stay() {
    for text in [
        "select a from t order by 1, 2",
        "select a from t order by a + 1, f(2), (3)",
        "select a, count(*) from t group by 1",
        "select a from t group by rollup (1, 2)",
        "select distinct on (1) a from t",
        "select sum(a) over (partition by 1 order by 2 rows 3 preceding) from t",
        "select interval '1 day', date '2020-01-01', timestamp with time zone '2020-01-01'",
        "select interval(3) '1 day'",
        "select x'1f', b'01', U&'a', n'x'",
        "select a::varchar(10), cast(a as numeric(10, 2)), a::timestamp(3) with time zone",
        "select a from t fetch first 5 rows only",
        "select a[1], b[1:2], (c)[3] from t",
        "select * from json_to_recordset(x) as y(a varchar(10))",
        "select * from json_to_recordset(x) y(a varchar(10))",
        "select a at time zone 'utc' from t",
        "create table t (a int default 5)",
        "copy t to '/tmp/x'",
        "set a = 5",
        "explain create table x as select 5",
        "explain execute p (5)",
        "select 1_000, 0x1f",
        "execute p (1, 'a')",
        "call p(1)",
    ] {
        check_literals(text, &[]);
    }
}

#[test]
fn equal_shapes_have_equal_fingerprints() {
    for (left, right) in [
        ("select 1", "SELECT 2"),
        ("select  1", "select\n1 -- x"),
        ("select 1", "/* x */ select /* y */ 1"),
        ("select a+b", "select a + b"),
        ("select 'a'", "select 'b''c'"),
        ("select A from T", "select a from t"),
        ("select 1;", "select 1"),
        ("select É", "select É"),
    ] {
        assert_eq!(
            scan(left, ON).expect(left)[0].fingerprint,
            scan(right, ON).expect(right)[0].fingerprint,
            "{left} / {right}"
        );
    }
}

#[test]
fn different_shapes_have_different_fingerprints() {
    let texts = [
        "select a b",
        "select ab",
        "select a, b",
        "select 1",
        "select '1'",
        "select 1.0",
        "select E'1'",
        "select $$1$$",
        "select $1",
        "select $2",
        "select -1",
        "select \"A\"",
        "select \"a\"",
        "select a",
        "select É",
        "select é",
        "select a from t order by 1",
        "select a from t order by 2",
        "select interval '1 day'",
        "select interval '2 day'",
        "select a::varchar(1)",
        "select a::varchar(2)",
        "select a - - b",
        "select a -b",
        "select x'1'",
        "select b'1'",
        "select \u{1}",
        "select \u{6}",
        "select a fetch first 1 rows only",
        "select a fetch first 2 rows only",
    ];
    for (at, left) in texts.iter().enumerate() {
        for right in &texts[at + 1..] {
            assert_ne!(fingerprint(left), fingerprint(right), "{left} / {right}");
        }
    }
}

#[test]
fn shapes_stay_whole() {
    for (text, expected) in [
        ("select 1", "select $1000000"),
        ("select'x'from t", "select $1000000 from t"),
        ("  select 'x' , 2 ; ", "select $1000000 , $1000001"),
        (
            "select a from t where b>5and c<'x'",
            "select a from t where b>5and c<$1000000",
        ),
        ("select -5", "select -$1000000"),
    ] {
        let statement = scan(text, ON).expect(text).remove(0);
        assert_eq!(shape(text, &statement), expected);
    }
}

#[test]
fn restoring_leaves_strings_and_comments_alone() {
    let text = "select 5, interval '$1000000' /* $1000000 */ from \"$1000000\"";
    let statement = one(text);
    assert_eq!(restore(&shape(text, &statement), text, &statement), text);
    assert_eq!(
        restore("select $1000000 + $1000000, $1000001", text, &statement),
        "select 5 + 5, $1000001"
    );
}

#[test]
fn literals_decode() {
    for (text, settings, expected) in [
        ("select 42", ON, Ok("42")),
        ("select 'a''b'", ON, Ok("a'b")),
        ("select 'a\\nb'", ON, Ok("a\\nb")),
        ("select 'a\\nb'", OFF, Ok("a\nb")),
        ("select 'it''s' -- ' x\n  'more'", ON, Ok("it'smore")),
        (
            "select E'\\x41\\101\\u0041\\U00000041\\t\\q\\''''",
            ON,
            Ok("AAAA\tq''"),
        ),
        ("select E'\\ud83d\\ude00'", ON, Ok("😀")),
        ("select E'\\xc3\\xa9'", ON, Ok("é")),
        ("select E'\\xff'", ON, Err(ScanError::Escape)),
        ("select E'\\0'", ON, Err(ScanError::Escape)),
        ("select E'\\u12'", ON, Err(ScanError::Escape)),
        ("select E'\\ud83d'", ON, Err(ScanError::Escape)),
        ("select E'\\xg'", ON, Ok("xg")),
        ("select $a$x$b$y$a$", ON, Ok("x$b$y")),
        ("select $$$$", ON, Ok("")),
        ("select ''", ON, Ok("")),
        ("select ''''", ON, Ok("'")),
    ] {
        let statement = scan(text, settings).expect(text).remove(0);
        let found = literal_text(text, &statement.literals[0], settings);
        assert_eq!(found.as_deref().map_err(Clone::clone), expected, "{text}");
    }
}

#[test]
fn hints() {
    let hints = |text: &str| one(text).hints.map(|hints| *hints);
    assert_eq!(hints("select 1 /* a */"), None);
    let key = |text: &str| hints(text).and_then(|hints| hints.key);
    assert_eq!(key("/* keyway: key=42 */ select 1").as_deref(), Some("42"));
    assert_eq!(key("/*keyway:key=42*/ select 1").as_deref(), Some("42"));
    assert_eq!(
        key("select 1 /* Keyway: key = 'it''s, 2' */").as_deref(),
        Some("it's, 2")
    );
    assert_eq!(
        key("select '/* keyway: key=1 */' /* keyway: key=2 */").as_deref(),
        Some("2")
    );
    assert_eq!(key("select 1 -- /* keyway: key=1 */"), None);
    let both = hints("select /* keyway: key=42, shard=s1 */ 1").expect("hints");
    assert_eq!(
        (both.key.as_deref(), both.shard.as_deref()),
        (Some("42"), Some("s1"))
    );
    let both =
        hints("/* keyway: key=42 shard='s 1' */ /* keyway: key=42 */ select 1").expect("hints");
    assert_eq!(
        (both.key.as_deref(), both.shard.as_deref()),
        (Some("42"), Some("s 1"))
    );
    assert!(both.unknown.is_empty());
    for text in [
        "keyx=1",
        "key",
        "key=",
        "key='a",
        "key='a'b",
        "key=1 key=2",
        "keyway",
        "k\u{e9}y=1",
    ] {
        let found = hints(&format!("/* keyway: {text} */ select 1")).expect(text);
        assert!(!found.unknown.is_empty(), "{text}");
    }
    let statements = scan(
        "/* keyway: key=1 */ select 1 /* keyway: shard=a */; select 2; /* keyway: key=3 */ select 3",
        ON,
    )
    .expect("whole");
    let keys: Vec<_> = statements
        .iter()
        .map(|s| s.hints.as_ref().and_then(|hints| hints.key.as_deref()))
        .collect();
    assert_eq!(keys, [Some("1"), None, Some("3")]);
}

#[test]
fn time_words() {
    for text in [
        "select 'now'",
        "select ' NOW '",
        "select timestamp 'today 10:00'",
        "select 'now'::timestamptz",
        "select '[today,tomorrow)'::tsrange",
        "select E'n\\x6fw'",
        "select $$yesterday$$",
        "select U&'n\\006fw'",
        "select 'no'\n'w'",
        "insert into t values ('x', 'now')",
    ] {
        assert!(one(text).time_words, "{text}");
    }
    for text in [
        "select now()",
        "select 'know', 'nowhere', 'infinity', 'todays'",
        "select E'a\\nb'",
        "select 1",
    ] {
        assert!(!one(text).time_words, "{text}");
    }
}

#[test]
fn operators_end_where_postgresql_ends_them() {
    let tokens = |text: &str| -> Vec<String> {
        let mut lexer = Lexer::new(text, ON);
        let mut found = Vec::new();
        while let Some(token) = lexer.next().expect(text) {
            found.push(text[token.start..token.end].to_owned());
        }
        found
    };
    for (text, expected) in [
        ("a=-1", vec!["a", "=", "-", "1"]),
        ("a@-1", vec!["a", "@-", "1"]),
        ("a+-1", vec!["a", "+", "-", "1"]),
        ("a<>-1", vec!["a", "<>", "-", "1"]),
        ("a*/*c*/b", vec!["a", "*", "b"]),
        ("a+--c\nb", vec!["a", "+", "b"]),
        ("a->>'b'", vec!["a", "->>", "'b'"]),
        ("a<#>b", vec!["a", "<#>", "b"]),
        ("a::int", vec!["a", "::", "int"]),
        ("a:=1", vec!["a", ":=", "1"]),
        ("1..2", vec!["1", "..", "2"]),
        ("1.5e3", vec!["1.5e3"]),
        ("1.e3", vec!["1.e3"]),
        ("1e", vec!["1e"]),
        ("a$1", vec!["a$1"]),
        ("$12+$3", vec!["$12", "+", "$3"]),
        ("$a", vec!["$", "a"]),
        ("b''''", vec!["b''", "''"]),
        ("x.\"y\"\"z\"", vec!["x", ".", "\"y\"\"z\""]),
        ("?| ?&", vec!["?|", "?&"]),
    ] {
        assert_eq!(tokens(text), expected, "{text}");
    }
}

/// Pieces that touch every rule of the lexer.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("select ".to_owned()),
        Just(" from t ".to_owned()),
        Just("'a''b'".to_owned()),
        Just("'".to_owned()),
        Just("\"".to_owned()),
        Just("E'\\''".to_owned()),
        Just("$$".to_owned()),
        Just("$a$".to_owned()),
        Just("/*".to_owned()),
        Just("*/".to_owned()),
        Just("--".to_owned()),
        Just("\n".to_owned()),
        Just(";".to_owned()),
        Just("(".to_owned()),
        Just(")".to_owned()),
        Just("[".to_owned()),
        Just("]".to_owned()),
        Just("1.5e3".to_owned()),
        Just("42".to_owned()),
        Just("$1".to_owned()),
        Just("::".to_owned()),
        Just(" order by ".to_owned()),
        Just("é".to_owned()),
        Just(",".to_owned()),
        Just("=".to_owned()),
        Just(" keyway: key='x ".to_owned()),
        Just("\\".to_owned()),
        "[a-z0-9'$/* -]{0,6}",
        any::<char>().prop_map(String::from),
    ]
}

/// A SELECT with the parts that vary: white space, case, literals.
fn generated() -> impl Strategy<Value = (Vec<usize>, Vec<u8>)> {
    (
        proptest::collection::vec(0usize..14, 1..12),
        proptest::collection::vec(any::<u8>(), 40),
    )
}

/// Renders tokens in one of many spellings of the same shape.
fn spell(tokens: &[usize], taste: &[u8]) -> String {
    let words = [
        "a",
        "b",
        "ab",
        "\"a\"",
        "+",
        "(",
        ")",
        ",",
        "=",
        "$1",
        "t.c",
        "interval '1 day'",
        "#I",
        "#S",
    ];
    let mut text = String::from("SELECT");
    for (at, token) in tokens.iter().enumerate() {
        let taste = taste[at % taste.len()];
        text.push_str(match taste % 4 {
            0 => " ",
            1 => "  ",
            2 => "\n",
            _ => " /* x; 'y */ ",
        });
        match words[*token] {
            "#I" => text.push_str(&taste.to_string()),
            "#S" => text.push_str(&format!("'v''{taste}'")),
            word if taste.is_multiple_of(3) && !word.contains(['"', '\'']) => {
                text.push_str(&word.to_uppercase())
            }
            word => text.push_str(word),
        }
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_without_panic(pieces in proptest::collection::vec(piece(), 0..24), on in any::<bool>()) {
        let text = pieces.concat();
        let settings = ScanSettings { standard_conforming_strings: on };
        let Ok(statements) = scan(&text, settings) else { return Ok(()) };
        prop_assert!(!statements.is_empty());
        let mut behind = 0;
        for statement in &statements {
            prop_assert!(statement.range.start >= behind);
            prop_assert!(statement.range.end <= text.len());
            behind = statement.range.end;
            let mut at = u32::try_from(statement.range.start).expect("small");
            for literal in &statement.literals {
                prop_assert!(literal.start >= at && literal.end > literal.start);
                at = literal.end;
                let _ = literal_text(&text, literal, settings);
            }
            prop_assert!(at as usize <= statement.range.end);
            // The statement read by itself is the same statement.
            let alone = scan(&text[statement.range.clone()], settings);
            let alone = alone.expect("a part of what was whole");
            prop_assert_eq!(alone.len(), 1);
            prop_assert_eq!(alone[0].fingerprint, statement.fingerprint);
            prop_assert_eq!(alone[0].literals.len(), statement.literals.len());
            // Its literals go out and come back.
            let shape = shape(&text, statement);
            let back = restore(&shape, &text, statement);
            let again = scan(&back, settings).expect("restored");
            // Strings that stay may have got an E.
            if on {
                prop_assert_eq!(again[0].fingerprint, statement.fingerprint);
            }
            prop_assert_eq!(again[0].literals.len(), statement.literals.len());
            for (left, right) in again[0].literals.iter().zip(&statement.literals) {
                prop_assert_eq!(
                    &back[left.start as usize..left.end as usize],
                    &text[right.start as usize..right.end as usize]
                );
            }
        }
    }

    #[test]
    fn a_fingerprint_tells_shapes_apart((left, taste) in generated(), (right, other) in generated()) {
        let texts = [spell(&left, &taste), spell(&left, &other), spell(&right, &taste)];
        for first in &texts {
            for second in &texts {
                let equal = scan(first, ON).expect("whole")[0].fingerprint
                    == scan(second, ON).expect("whole")[0].fingerprint;
                prop_assert_eq!(normal(first) == normal(second), equal, "{} / {}", first, second);
            }
        }
    }
}

/// The shape's tokens, words folded, each literal as its kind.
fn normal(text: &str) -> Vec<String> {
    let statement = one(text);
    let mut lexer = Lexer::new(text, ON);
    let mut tokens = Vec::new();
    while let Some(token) = lexer.next().expect(text) {
        let raw = &text[token.start..token.end];
        let literal = statement
            .literals
            .iter()
            .find(|literal| literal.start as usize == token.start);
        tokens.push(match literal {
            Some(literal) => format!("{:?}", literal.kind),
            None if token.kind == TokenKind::Word => raw.to_ascii_lowercase(),
            None => raw.to_owned(),
        });
    }
    tokens
}
