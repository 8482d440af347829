use super::{Failure, Typed, run};
use crate::config::Variables;
use clap::{CommandFactory, Parser};
use std::process::ExitCode;

fn status(arguments: &[&str]) -> ExitCode {
    let arguments = std::iter::once("keyway")
        .chain(arguments.iter().copied())
        .map(Into::into);
    run(arguments, &Variables::new())
}

#[test]
fn the_command_line_is_consistent() {
    Typed::command().debug_assert();
    for typed in [
        "keyway serve -c x.toml",
        "keyway check --json",
        "keyway route -d app -p 7 SELECT",
        "keyway demo --shards 5 --port 7000 --keep /tmp/x --exec true",
    ] {
        Typed::try_parse_from(typed.split(' ')).unwrap();
    }
    assert!(Typed::try_parse_from(["keyway", "demo", "--shards", "0"]).is_err());
}

#[test]
fn exit_statuses_say_what_kind_of_failure_it_was() {
    assert_eq!(status(&["--version"]), ExitCode::SUCCESS);
    assert_eq!(status(&["no-such-command"]), ExitCode::from(2));
    assert_eq!(status(&[]), ExitCode::from(2));
    assert_eq!(
        status(&["check", "-c", "/no/such/file.toml"]),
        ExitCode::from(64)
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "lisen = 1").unwrap();
    assert_eq!(
        status(&["serve", "-c", file.path().to_str().unwrap()]),
        ExitCode::from(64)
    );
    assert_eq!(Failure::Other(String::new()).status(), 1);
}

#[test]
fn a_report_is_printed_a_finding_a_paragraph() {
    use crate::catalog::check::{Finding, Report, Severity};
    let finding = |severity, hint: Option<&str>| Finding {
        severity,
        place: "keyspace main, table users".into(),
        what: "is odd".into(),
        hint: hint.map(Into::into),
    };
    let report = Report {
        findings: vec![
            finding(Severity::Error, Some("make it even")),
            finding(Severity::Note, None),
        ],
        lifted: vec!["app.posts".into()],
        servers_reached: 3,
        tables: 7,
        contradicts: false,
    };
    let mut out = Vec::new();
    super::check::print(&mut out, &report, false).unwrap();
    let expected = "error: keyspace main, table users: is odd\n    hint: make it even\n\
                    note: keyspace main, table users: is odd\n\
                    lifted: app.posts is the same on all its shards again and may be used\n\
                    3 servers reached, 7 tables compared: 1 errors, 0 warnings\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["findings"][0]["severity"], "error");
    assert!(json["findings"][1].get("hint").is_none());
}
