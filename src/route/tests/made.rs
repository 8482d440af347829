//! Keys that Keyway makes for rows that leave them to their default.

use super::{column, table};
use crate::route::choose::made::{KeySource, is_generated, source_of};
use crate::topology::{KeyFamily, Placement};

#[test]
fn a_default_is_made_only_when_it_is_known_what_it_does() {
    let sharded = Placement::Sharded { key: Vec::new() };
    let of = |data_type: &str, family, default: Option<&str>, generated, unique| {
        let mut id = column("id", data_type);
        id.default = default.map(str::to_owned);
        (id.generated, id.unique_by_construction) = (generated, unique);
        source_of(&table("t\"s", 0, sharded.clone(), &[]), &id, family)
    };
    let uuid = |default| of("uuid", KeyFamily::Uuid, default, None, true);
    assert_eq!(uuid(Some("gen_random_uuid()")), Some(KeySource::Uuid));
    assert_eq!(uuid(Some("public.gen_random_uuid()")), None);
    assert_eq!(uuid(Some("public.uuid_generate_v4()")), None);
    assert_eq!(uuid(None), None);
    let int = |default, generated, unique| of("bigint", KeyFamily::Int, default, generated, unique);
    let next = Some("nextval('public.s''1'::regclass)");
    let own = "pg_catalog.nextval('public.s''1'::pg_catalog.regclass)";
    assert_eq!(
        int(next, None, true),
        Some(KeySource::Sequence(own.to_owned()))
    );
    let identity = "pg_catalog.nextval(pg_catalog.pg_get_serial_sequence('\"public\".\"t\"\"s\"', 'id')::pg_catalog.regclass)";
    let identity = Some(KeySource::Sequence(identity.to_owned()));
    assert_eq!(int(None, Some('a'), true), identity);
    assert_eq!(int(None, Some('d'), true), identity);
    // On every shard from 1, or not only the sequence's value.
    assert_eq!(int(next, None, false), None);
    assert_eq!(
        int(Some("(nextval('public.s'::regclass) * 2)"), None, true),
        None
    );
    assert_eq!(int(Some("7"), None, true), None);
}

#[test]
fn a_hint_vouches_only_for_defaults_that_the_client_may_know() {
    let generated = |default: Option<&str>| {
        let mut table = table("t", 0, Placement::Reference, &[("id", "bigint")]);
        table.columns[0].default = default.map(str::to_owned);
        is_generated(&table, "id")
    };
    for default in [
        "nextval('public.s'::regclass)",
        "public.next_id()",
        "\"My\".\"next id\"()",
        "((public.next_id() + 1))::bigint",
        "(random() * (100)::double precision)",
        "(current_setting('a'::text))::bigint + public.next_id()",
    ] {
        assert!(generated(Some(default)), "{default}");
    }
    for default in [
        "7",
        "'a(b)'::text",
        "'-7'::integer",
        "(current_setting('app.tenant'::text))::bigint",
        "(current_setting('app.tenant'::text, true))::bigint",
        "CURRENT_DATE",
    ] {
        assert!(!generated(Some(default)), "{default}");
    }
    assert!(!generated(None));
}
