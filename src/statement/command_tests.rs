use super::*;
use crate::statement::scan::scan;

const ON: ScanSettings = ScanSettings {
    standard_conforming_strings: true,
};

fn read(text: &str) -> Result<Command, CommandError> {
    let statements = scan(text, ON).expect(text);
    assert_eq!(statements.len(), 1, "{text}");
    let statement = &statements[0];
    command(&text[statement.range.clone()], statement.verb, ON)
}

fn check(text: &str, expected: &Command) {
    assert_eq!(read(text).as_ref(), Ok(expected), "{text}");
}

fn refuse(text: &str) {
    assert_eq!(read(text), Err(CommandError), "{text}");
}

fn modes(
    isolation: Option<Isolation>,
    read_only: Option<bool>,
    deferrable: Option<bool>,
) -> TransactionModes {
    TransactionModes {
        isolation,
        read_only,
        deferrable,
    }
}

#[test]
fn transactions() {
    let plain = Command::Begin(TransactionModes::default());
    for text in [
        "begin",
        "BEGIN WORK",
        "begin transaction",
        "start transaction",
    ] {
        check(text, &plain);
    }
    check(
        "begin isolation level serializable, read only, not deferrable",
        &Command::Begin(modes(
            Some(Isolation::Serializable),
            Some(true),
            Some(false),
        )),
    );
    check(
        "start transaction isolation level read committed read write deferrable",
        &Command::Begin(modes(
            Some(Isolation::ReadCommitted),
            Some(false),
            Some(true),
        )),
    );
    check(
        "begin isolation level repeatable read",
        &Command::Begin(modes(Some(Isolation::RepeatableRead), None, None)),
    );
    check(
        "begin isolation level read uncommitted",
        &Command::Begin(modes(Some(Isolation::ReadUncommitted), None, None)),
    );
    for text in [
        "begin x",
        "start",
        "begin isolation serializable",
        "begin , read only",
        "begin read only,",
        "begin isolation level snapshot",
    ] {
        refuse(text);
    }
    check("commit", &Command::Commit { chain: false });
    check("end transaction", &Command::Commit { chain: false });
    check("commit and chain", &Command::Commit { chain: true });
    check(
        "commit work and no chain",
        &Command::Commit { chain: false },
    );
    check("rollback and chain", &Command::Rollback { chain: true });
    check("abort", &Command::Rollback { chain: false });
    refuse("commit and");
    refuse("commit x");
    check("savepoint A", &Command::Savepoint("a".into()));
    check("savepoint \"A\"\"b\"", &Command::Savepoint("A\"b".into()));
    refuse("savepoint");
    refuse("savepoint select");
    refuse("savepoint a b");
    check("release a", &Command::Release("a".into()));
    check("release savepoint a", &Command::Release("a".into()));
    check("release savepoint", &Command::Release("savepoint".into()));
    check("rollback to a", &Command::RollbackTo("a".into()));
    check(
        "rollback work to savepoint a",
        &Command::RollbackTo("a".into()),
    );
    check("prepare transaction 'x'", &Command::TwoPhase);
    check("commit prepared 'x'", &Command::TwoPhase);
    refuse("commit prepared");
}

fn set(scope: Scope, name: &str, values: &[(&str, &str)]) -> Command {
    Command::Set {
        scope,
        name: name.into(),
        value: SetValue::Values(
            values
                .iter()
                .map(|(raw, text)| SetWord {
                    raw: (*raw).into(),
                    text: (*text).into(),
                })
                .collect(),
        ),
    }
}

fn set_to(name: &str, value: SetValue) -> Command {
    Command::Set {
        scope: Scope::Session,
        name: name.into(),
        value,
    }
}

#[test]
fn settings() {
    use Scope::{Local, Session};
    check("set a = b", &set(Session, "a", &[("b", "b")]));
    check(
        "SET Search_Path TO A, \"B\", 'C'",
        &set(
            Session,
            "search_path",
            &[("A", "a"), ("\"B\"", "B"), ("'C'", "C")],
        ),
    );
    check(
        "set local a to 'it''s'",
        &set(Local, "a", &[("'it''s'", "it's")]),
    );
    check("set session a = -5", &set(Session, "a", &[("-5", "-5")]));
    check("set a = on", &set(Session, "a", &[("on", "on")]));
    check("set a = 1.5", &set(Session, "a", &[("1.5", "1.5")]));
    check(
        "set app.tenant = 'x'",
        &set(Session, "app.tenant", &[("'x'", "x")]),
    );
    check(
        "set keyway.key = '42'",
        &set(Session, "keyway.key", &[("'42'", "42")]),
    );
    check(
        "set local keyway.shard to s1",
        &set(Local, "keyway.shard", &[("s1", "s1")]),
    );
    check("set a to default", &set_to("a", SetValue::Default));
    check("set a from current", &set_to("a", SetValue::Current));
    check(
        "set time zone 'UTC'",
        &set(Session, "timezone", &[("'UTC'", "UTC")]),
    );
    check(
        "set local time zone -7",
        &set(Local, "timezone", &[("-7", "-7")]),
    );
    check(
        "set time zone local",
        &set_to("timezone", SetValue::Default),
    );
    check(
        "set time zone default",
        &set_to("timezone", SetValue::Default),
    );
    check(
        "set time zone interval '-08:00' hour to minute",
        &set_to(
            "timezone",
            SetValue::Interval("interval '-08:00' hour to minute".into()),
        ),
    );
    check(
        "set names 'utf8'",
        &set(Session, "client_encoding", &[("'utf8'", "utf8")]),
    );
    check("set names", &set_to("client_encoding", SetValue::Default));
    check(
        "set schema 'x'",
        &set(Session, "search_path", &[("'x'", "x")]),
    );
    check("set role bob", &set(Session, "role", &[("bob", "bob")]));
    check("set role none", &set(Session, "role", &[("none", "none")]));
    check("set role to bob", &set(Session, "role", &[("bob", "bob")]));
    check(
        "set role = 'Bob'",
        &set(Session, "role", &[("'Bob'", "Bob")]),
    );
    check(
        "set session authorization 'Bob'",
        &set(Session, "session_authorization", &[("'Bob'", "Bob")]),
    );
    check(
        "set local session authorization bob",
        &set(Local, "session_authorization", &[("bob", "bob")]),
    );
    check(
        "set session authorization default",
        &set_to("session_authorization", SetValue::Default),
    );
    check(
        "set xml option document",
        &set(Session, "xmloption", &[("document", "document")]),
    );
    for text in [
        "set a",
        "set a =",
        "set a = b c",
        "set a = ,",
        "set a = select",
        "set select = 1",
        "set local = 1",
        "set a = (1)",
        "set role 5",
        "set names utf8",
        "set time zone interval 5",
        "set a = -x",
        "set app.user = 'x'",
    ] {
        refuse(text);
    }
    check(
        "set transaction isolation level serializable",
        &Command::SetTransaction(modes(Some(Isolation::Serializable), None, None)),
    );
    check(
        "set local transaction read only",
        &Command::SetTransaction(modes(None, Some(true), None)),
    );
    check("set transaction snapshot 'x'", &Command::SetSnapshot);
    check(
        "set session characteristics as transaction read only",
        &Command::SetCharacteristics(modes(None, Some(true), None)),
    );
    refuse("set transaction");
    check(
        "set constraints all deferred",
        &Command::SetConstraints { deferred: true },
    );
    check(
        "set constraints a, b.c immediate",
        &Command::SetConstraints { deferred: false },
    );
    refuse("set constraints all");
    check("reset all", &Command::Reset(None));
    check("reset A.b", &Command::Reset(Some("a.b".into())));
    check("reset role", &Command::Reset(Some("role".into())));
    check(
        "reset session authorization",
        &Command::Reset(Some("session_authorization".into())),
    );
    check("reset time zone", &Command::Reset(Some("timezone".into())));
    refuse("reset");
    check("show all", &Command::Show(None));
    check(
        "show keyway.cache",
        &Command::Show(Some("keyway.cache".into())),
    );
    check(
        "show transaction isolation level",
        &Command::Show(Some("transaction_isolation".into())),
    );
    check("show TimeZone", &Command::Show(Some("timezone".into())));
    check("discard all", &Command::Discard(Discard::All));
    check("discard temporary", &Command::Discard(Discard::Temp));
    refuse("discard");
    refuse("discard x");
}

#[test]
fn prepared_statements_and_cursors() {
    let text = "prepare P (int, varchar(10)) as select $1 -- x";
    let Ok(Command::Prepare { name, types, body }) = read(text) else {
        panic!("{text}")
    };
    assert_eq!(
        (name.as_str(), types),
        ("p", vec!["int".to_owned(), "varchar(10)".to_owned()])
    );
    assert_eq!(&text[body], "select $1");
    refuse("prepare p as");
    refuse("prepare p () as select 1");
    let text = "execute p (1, f(2, 3), array[4, 5])";
    let Ok(Command::Execute { args, .. }) = read(text) else {
        panic!("{text}")
    };
    let args: Vec<&str> = args.into_iter().map(|arg| &text[arg]).collect();
    assert_eq!(args, ["1", "f(2, 3)", "array[4, 5]"]);
    check(
        "execute p",
        &Command::Execute {
            name: "p".into(),
            args: vec![],
        },
    );
    refuse("execute p ()");
    refuse("execute p (1");
    check("deallocate p", &Command::Deallocate(Some("p".into())));
    check("deallocate prepare all", &Command::Deallocate(None));
    check(
        "deallocate prepare",
        &Command::Deallocate(Some("prepare".into())),
    );

    let text = "declare C binary no scroll cursor with hold for select 1 for update";
    let Ok(Command::Declare(declare)) = read(text) else {
        panic!("{text}")
    };
    assert_eq!(&text[declare.query.clone()], "select 1 for update");
    assert_eq!(
        declare,
        Declare {
            name: "c".into(),
            binary: true,
            scroll: Some(false),
            hold: true,
            query: declare.query.clone()
        }
    );
    refuse("declare c for select 1");
    refuse("declare c scroll no scroll cursor for select 1");

    use Direction::{Absolute, Backward, BackwardAll, Forward, ForwardAll, Relative};
    for (text, direction) in [
        ("fetch c", Forward(1)),
        ("fetch from c", Forward(1)),
        ("fetch in c", Forward(1)),
        ("fetch next c", Forward(1)),
        ("fetch next from c", Forward(1)),
        ("fetch prior from c", Backward(1)),
        ("fetch first c", Absolute(1)),
        ("fetch last in c", Absolute(-1)),
        ("fetch absolute -5 from c", Absolute(-5)),
        ("fetch relative 0 c", Relative(0)),
        ("fetch 10 c", Forward(10)),
        ("fetch -10 from c", Forward(-10)),
        ("fetch all c", ForwardAll),
        ("fetch all in c", ForwardAll),
        ("fetch forward c", Forward(1)),
        ("fetch forward 3 from c", Forward(3)),
        ("fetch forward all c", ForwardAll),
        ("fetch backward from c", Backward(1)),
        ("fetch backward 3 c", Backward(3)),
        ("fetch backward all from c", BackwardAll),
    ] {
        check(
            text,
            &Command::Fetch {
                direction,
                cursor: "c".into(),
            },
        );
        let text = text.replacen("fetch", "move", 1);
        check(
            &text,
            &Command::Move {
                direction,
                cursor: "c".into(),
            },
        );
    }
    check(
        "fetch next",
        &Command::Fetch {
            direction: Forward(1),
            cursor: "next".into(),
        },
    );
    for text in [
        "fetch",
        "fetch all",
        "fetch 5",
        "fetch 3000000000 c",
        "fetch absolute c",
        "fetch c d",
        "fetch 1.5 c",
    ] {
        refuse(text);
    }
    check("close c", &Command::Close(Some("c".into())));
    check("close all", &Command::Close(None));
    check("listen \"Ch\"", &Command::Listen("Ch".into()));
    check("unlisten *", &Command::Unlisten(None));
    check("unlisten c", &Command::Unlisten(Some("c".into())));
    check(
        "notify c",
        &Command::Notify {
            channel: "c".into(),
            payload: String::new(),
        },
    );
    check(
        "notify c, 'it''s'",
        &Command::Notify {
            channel: "c".into(),
            payload: "it's".into(),
        },
    );
    refuse("notify c 'x'");
    refuse("notify c, x");
}

#[test]
fn explain_route() {
    for (text, json) in [
        ("explain (route) select 1", false),
        ("explain (route, format json) select 1", true),
        ("explain (FORMAT TEXT, ROUTE on) select 1", false),
    ] {
        let Ok(Command::ExplainRoute {
            statement,
            json: found,
        }) = read(text)
        else {
            panic!("{text}")
        };
        assert_eq!((&text[statement], found), ("select 1", json));
    }
    refuse("explain (route, analyze) select 1");
    refuse("explain (route off) select 1");
    refuse("explain (route)");
}
