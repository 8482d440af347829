//! Pieces of keys, and statements.

use crate::config::partitions::{Hash, Partitioned, Range, Span, Then, Unit};
use crate::config::values::TableName;
use crate::partition::convert::copy::fitting;
use crate::partition::convert::design::{Design, appended, kept_name, new_name, without_timing};
use crate::partition::convert::facts::{Column, Constraint, Facts, Index, KeyColumn};
use crate::partition::convert::range::Piece;
use std::time::Duration;

fn key(columns: &[(&str, &str, &str)]) -> Vec<KeyColumn> {
    columns
        .iter()
        .map(|(name, type_name, schema)| KeyColumn {
            name: (*name).to_owned(),
            type_name: (*type_name).to_owned(),
            equal: format!("OPERATOR({schema}.=)"),
            greater: format!("OPERATOR({schema}.>)"),
        })
        .collect()
}

#[track_caller]
fn check_piece(columns: &[(&str, &str, &str)], after: &[&str], to: &[&str], expected: &str) {
    let of = |values: &[&str]| {
        let values: Vec<String> = values.iter().map(|text| (*text).to_owned()).collect();
        (!values.is_empty()).then_some(values)
    };
    let piece = Piece {
        after: of(after),
        to: of(to),
    };
    assert_eq!(piece.condition(&key(columns)), expected);
}

#[test]
fn a_piece_of_the_key_is_a_condition() {
    let own = "pg_catalog";
    check_piece(&[("id", "integer", own)], &[], &[], "true");
    check_piece(
        &[("id", "integer", own)],
        &["1"],
        &["9"],
        r#"ROW("id") > ROW(E'1'::integer) AND ROW("id") <= ROW(E'9'::integer)"#,
    );
    check_piece(
        &[("a\"b", "text", own), ("at", "date", own)],
        &["it's \\", "2026-01-01"],
        &[],
        r#"ROW("a""b", "at") > ROW(E'it''s \\'::text, E'2026-01-01'::date)"#,
    );
    // Operators of other schemas are not found by name.
    check_piece(
        &[("name", "public.citext", "public"), ("id", "integer", own)],
        &["a", "1"],
        &["b", "2"],
        r#"NOT (E'a'::public.citext OPERATOR(public.>) "name") AND (("name" OPERATOR(public.>) E'a'::public.citext) OR ("name" OPERATOR(public.=) E'a'::public.citext AND "id" OPERATOR(pg_catalog.>) E'1'::integer)) AND NOT ("name" OPERATOR(public.>) E'b'::public.citext) AND NOT (("name" OPERATOR(public.>) E'b'::public.citext) OR ("name" OPERATOR(public.=) E'b'::public.citext AND "id" OPERATOR(pg_catalog.>) E'2'::integer))"#,
    );
}

#[test]
fn columns_are_appended_to_the_first_list() {
    for (definition, expected) in [
        ("PRIMARY KEY (id)", r#"PRIMARY KEY (id, "at")"#),
        (
            "UNIQUE NULLS NOT DISTINCT (a, b) INCLUDE (c)",
            r#"UNIQUE NULLS NOT DISTINCT (a, b, "at") INCLUDE (c)"#,
        ),
        (
            "btree (lower(a), (b || ')'::text) DESC) WHERE (a = '('::text)",
            r#"btree (lower(a), (b || ')'::text) DESC, "at") WHERE (a = '('::text)"#,
        ),
        (r#"btree ("odd)")"#, r#"btree ("odd)", "at")"#),
    ] {
        assert_eq!(appended(definition, &["at"]), expected);
        assert_eq!(appended(definition, &[]), definition);
    }
}

#[test]
fn foreign_keys_lose_their_timing() {
    let plain = "FOREIGN KEY (a) REFERENCES public.b(id) MATCH FULL ON DELETE CASCADE";
    for end in ["", " DEFERRABLE", " DEFERRABLE INITIALLY DEFERRED"] {
        assert_eq!(without_timing(&format!("{plain}{end}")), plain);
    }
}

#[test]
fn a_batch_becomes_as_large_as_fits() {
    let fit = |rows, ms| fitting(rows, Duration::from_millis(ms));
    assert_eq!(fit(200, 1), 400);
    assert_eq!(fit(1000, 50), 1000);
    assert_eq!(fit(1000, 100), 500);
    assert_eq!(fit(1000, 10_000), 250);
    assert_eq!(fit(20, 10_000), 10);
    assert_eq!(fit(20_000, 0), 20_000);
}

#[test]
fn names_have_63_bytes() {
    for name in ["events", &"é".repeat(31), &"x".repeat(63)] {
        let table = TableName {
            schema: "public".to_owned(),
            name: name.to_owned(),
        };
        let (new, kept) = (new_name(&table).name, kept_name(&table).name);
        assert!(new.len() <= 63 && new.ends_with("_keyway_new"), "{new}");
        assert!(
            kept.len() <= 63 && kept.ends_with("_unpartitioned"),
            "{kept}"
        );
    }
}

fn facts() -> Facts {
    let column = |name: &str, type_name: &str| Column {
        name: name.to_owned(),
        type_name: type_name.to_owned(),
        not_null: true,
        generated: false,
        rest: String::new(),
        statistics: None,
        options: Vec::new(),
    };
    Facts {
        oid: 16_400,
        schema: "public".to_owned(),
        name: "events".to_owned(),
        owner: "app".to_owned(),
        tablespace: None,
        replica_identity: 'd',
        options: Vec::new(),
        rows_estimated: 0,
        columns: vec![
            column("id", "bigint"),
            column("at", "date"),
            column("user_id", "bigint"),
        ],
        key: key(&[("id", "bigint", "pg_catalog")]),
        constraints: vec![Constraint {
            name: "events_pkey".to_owned(),
            kind: 'p',
            definition: "PRIMARY KEY (id)".to_owned(),
            columns: vec!["id".to_owned()],
            deferrable: false,
            deferred: false,
            options: Vec::new(),
        }],
        indexes: vec![Index {
            name: "by_user".to_owned(),
            unique: true,
            columns: vec!["user_id".to_owned(), "at".to_owned()],
            definition: "btree (user_id, at)".to_owned(),
        }],
        identities: Vec::new(),
        serials: Vec::new(),
        statistics: Vec::new(),
        obstacles: Vec::new(),
        dress: Vec::new(),
    }
}

/// By month, and by hash below that.
fn declared() -> Partitioned {
    Partitioned {
        range: Some(Range {
            column: "at".to_owned(),
            every: Span::Time(1, Unit::Month),
            start: None,
        }),
        hash: Some(Hash {
            columns: vec!["user_id".to_owned()],
            modulus: 2,
        }),
        ahead: 3,
        retain: None,
        then: Then::Detach,
        archive: String::new(),
        default: false,
    }
}

#[test]
fn unique_keys_need_every_partition_column() {
    let (mut facts, declared) = (facts(), declared());
    let reasons = |facts: &Facts, extend| {
        let design = Design {
            facts,
            declared: &declared,
            extend,
        };
        design.reasons()
    };
    let found = reasons(&facts, false);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0]
            .starts_with("events_pkey (PRIMARY KEY (id)) lacks the partition column at, user_id:"),
        "{found:?}"
    );
    assert_eq!(reasons(&facts, true), [""; 0]);
    facts.columns[1].not_null = false;
    facts.columns[2].generated = true;
    let found = reasons(&facts, true);
    assert!(
        found[0].starts_with("column \"at\" may be NULL"),
        "{found:?}"
    );
    assert!(
        found[1].starts_with("column \"user_id\" is generated"),
        "{found:?}"
    );
    facts.columns.remove(1);
    assert!(reasons(&facts, true)[0].starts_with("it has no column \"at\""));
}

#[test]
fn the_trigger_looks_for_all_columns_of_the_new_key() {
    let (facts, declared) = (facts(), declared());
    let design = Design {
        facts: &facts,
        declared: &declared,
        extend: true,
    };
    assert_eq!(design.conflict_columns(), r#""id", "at", "user_id""#);
    let create = design.create();
    assert!(
        create
            .iter()
            .any(|sql| sql
                .ends_with(r#""events_pkey_keyway_new" PRIMARY KEY (id, "at", "user_id")"#)),
        "{create:#?}"
    );
    let function = &design.keep_in_step()[0];
    for needed in [
        r#"t."at" OPERATOR(pg_catalog.=) OLD."at""#,
        r#"t."user_id" OPERATOR(pg_catalog.=) NEW."user_id""#,
        r#"ON CONFLICT ("id", "at", "user_id") DO UPDATE SET "id" = excluded."id""#,
        "SECURITY DEFINER SET search_path = pg_catalog, pg_temp",
    ] {
        assert!(function.contains(needed), "{needed}\n{function}");
    }
}
