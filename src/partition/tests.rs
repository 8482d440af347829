//! Calendar, names, bounds and plans.

use crate::config::partition_files::parse;
use crate::config::partitions::{Partitioned, Span, Then, Unit};
use crate::config::values::TableName;
use crate::partition::bounds::Bound;
use crate::partition::calendar::{
    DAY, HOUR, SECOND, before, civil, day_number, floor, iso_week, next,
};
use crate::partition::line::{self, Axis, EARLIEST, Edge, LATEST};
use crate::partition::names::{hash_suffix, partition_name, range_suffix};
use crate::partition::parent::{
    Child, Inner, Key, KeyColumn, Parent, Strategy as PartitionBy, Traits,
};
use crate::partition::plan::{Moment, Plan, horizon, milder, plan};
use crate::partition::sql::Table;
use proptest::prelude::*;

/// A time from how PostgreSQL prints it.
fn at(text: &str) -> i128 {
    let axis = if text.contains(' ') || text.ends_with("infinity") {
        Axis::Timestamp
    } else {
        Axis::Date
    };
    axis.read(text).expect(text)
}

fn declared(toml: &str) -> Partitioned {
    let declared = parse(&format!("[events]\n{toml}")).expect(toml);
    declared.into_values().next().unwrap()
}

fn monthly() -> Partitioned {
    declared("range = { column = \"at\", every = \"month\" }")
}

fn table(name: &str) -> TableName {
    TableName {
        schema: "public".to_owned(),
        name: name.to_owned(),
    }
}

fn child(name: &str, bound: Bound) -> Child {
    Child {
        oid: 0,
        name: table(name),
        is_foreign: false,
        bound,
        is_detaching: false,
        inner: None,
    }
}

/// Children with the ranges between these ends.
fn ranges(axis: Axis, bounds: &[(&str, &str)]) -> Vec<Child> {
    let read = |(lower, upper): &(&str, &str)| {
        let text = format!("FOR VALUES FROM ({lower}) TO ({upper})");
        let bound = Bound::read(&text, Some(axis));
        assert!(matches!(bound, Bound::Range(..)), "{text}");
        child(&format!("own_{lower}"), bound)
    };
    bounds.iter().map(read).collect()
}

fn parent(axis: Axis, children: Vec<Child>) -> Parent {
    Parent {
        oid: 1,
        name: table("events"),
        key: Key {
            strategy: PartitionBy::Range,
            columns: vec![KeyColumn {
                name: Some("at".to_owned()),
                type_name: axis.type_name().to_owned(),
                is_plain: true,
            }],
        },
        traits: Traits::default(),
        children,
    }
}

fn planned(declared: &Partitioned, axis: Axis, children: Vec<Child>, now: &str) -> Plan {
    let moment = Moment {
        now: at(now),
        greatest: None,
    };
    plan(declared, Some(axis), &parent(axis, children), &moment)
}

/// `name lower upper` of everything that is to be made.
fn made(declared: &Partitioned, axis: Axis, plan: &Plan) -> Vec<String> {
    let traits = Traits::default();
    let table = Table {
        declared,
        axis: Some(axis),
        traits: &traits,
    };
    let made = plan.create.iter().map(|creation| {
        let values = table.values(&creation.bound);
        let values = values.replace("FOR VALUES ", "");
        format!("{} {values}", creation.name.name)
    });
    made.collect()
}

#[test]
fn months_end_where_they_end() {
    assert_eq!(next(at("2024-02-29"), Unit::Month), at("2024-03-01"));
    assert_eq!(next(at("2023-02-28"), Unit::Month), at("2023-03-01"));
    assert_eq!(next(at("2026-12-31"), Unit::Month), at("2027-01-01"));
    assert_eq!(next(at("2026-12-31"), Unit::Quarter), at("2027-01-01"));
    assert_eq!(floor(at("2026-05-31"), Unit::Quarter), at("2026-04-01"));
    assert_eq!(floor(at("2024-12-31"), Unit::Year), at("2024-01-01"));
    assert_eq!(floor(at("2026-11-22"), Unit::Week), at("2026-11-16"));
    assert_eq!(floor(at("2026-11-23"), Unit::Week), at("2026-11-23"));
    assert_eq!(floor(at("1969-12-31 23:59:59.999999"), Unit::Hour), -HOUR);
    // A day that the month does not have is its last.
    assert_eq!(before(at("2024-03-31"), 1, Unit::Month), at("2024-02-29"));
    assert_eq!(before(at("2023-03-31"), 1, Unit::Month), at("2023-02-28"));
    assert_eq!(before(at("2024-02-29"), 1, Unit::Year), at("2023-02-28"));
    assert_eq!(before(at("2024-02-29"), 4, Unit::Year), at("2020-02-29"));
    assert_eq!(before(at("2026-05-31"), 1, Unit::Quarter), at("2026-02-28"));
    assert_eq!(before(at("2026-01-15"), 24, Unit::Month), at("2024-01-15"));
    // Centuries.
    assert_eq!(next(at("1900-02-28"), Unit::Day), at("1900-03-01"));
    assert_eq!(next(at("2000-02-28"), Unit::Day), at("2000-02-29"));
}

#[test]
fn weeks_belong_to_the_year_of_their_thursday() {
    let week = |text: &str| iso_week(at(text) / DAY);
    assert_eq!(week("2021-01-03"), (2020, 53));
    assert_eq!(week("2021-01-04"), (2021, 1));
    assert_eq!(week("2024-12-30"), (2025, 1));
    assert_eq!(week("2026-01-01"), (2026, 1));
    assert_eq!(week("2025-12-28"), (2025, 52));
}

#[test]
fn what_postgresql_prints_is_read() {
    let stamp = |text| Axis::TimestampTz.read(text);
    assert_eq!(stamp("1970-01-01 00:00:00+00"), Some(0));
    assert_eq!(stamp("1970-01-01 05:45:00+05:45"), Some(0));
    assert_eq!(stamp("1969-12-31 19:00:00-05"), Some(0));
    assert_eq!(stamp("1970-01-01 00:00:01.5+00"), Some(SECOND + SECOND / 2));
    assert_eq!(stamp("infinity"), Some(LATEST));
    assert_eq!(stamp("-infinity"), Some(EARLIEST));
    assert_eq!(stamp("1970-01-01 00:00:00"), None);
    assert_eq!(stamp("01.01.1970 00:00:00 CET"), None);
    assert_eq!(Axis::Timestamp.read("1970-01-01 00:00:00+00"), None);
    assert_eq!(Axis::Date.read("2023-02-29"), None);
    assert_eq!(Axis::Date.read("01/02/2023"), None);
    assert_eq!(
        Axis::Date.read("0001-01-01 BC").map(|at| civil(at / DAY)),
        Some((0, 1, 1))
    );
    assert!(Axis::Date.read("5874897-12-31").is_some());
    let range = |text| Bound::read(text, Some(Axis::Int8));
    assert_eq!(
        range("FOR VALUES FROM ('-100') TO (MAXVALUE)"),
        Bound::Range(Edge::At(-100), Edge::Above)
    );
    assert_eq!(
        range("FOR VALUES FROM (MINVALUE) TO (5)"),
        Bound::Range(Edge::Below, Edge::At(5))
    );
    assert_eq!(
        range("FOR VALUES WITH (modulus 4, remainder 3)"),
        Bound::Hash {
            modulus: 4,
            remainder: 3
        }
    );
    assert_eq!(range("DEFAULT"), Bound::Default);
    for strange in ["FOR VALUES IN (1)", "FOR VALUES FROM (1, 2) TO (3, 4)", ""] {
        assert_eq!(range(strange), Bound::Other(strange.to_owned()));
    }
    assert!(Edge::Below < Edge::At(EARLIEST) && Edge::At(LATEST) < Edge::Above);
}

#[test]
fn names_say_where_a_partition_begins() {
    let named = |text: &str, unit| {
        let at = floor(at(text), unit);
        range_suffix(at, Span::Time(1, unit), true).unwrap()
    };
    assert_eq!(named("2026-01-15 13:30:00", Unit::Hour), "_p2026_01_15_13");
    assert_eq!(named("2026-01-15", Unit::Day), "_p2026_01_15");
    assert_eq!(named("2021-01-01", Unit::Week), "_p2020_w53");
    assert_eq!(named("2026-01-15", Unit::Month), "_p2026_01");
    assert_eq!(named("2026-11-15", Unit::Quarter), "_p2026_q4");
    assert_eq!(named("0033-04-03", Unit::Year), "_p0033");
    let piece = |text: &str, unit| range_suffix(at(text), Span::Time(1, unit), false).unwrap();
    assert_eq!(piece("2026-01-15", Unit::Month), "_p2026_01_15");
    assert_eq!(piece("2026-01-15", Unit::Day), "_p2026_01_15_00");
    assert_eq!(
        piece("2026-01-15 13:00:00", Unit::Hour),
        "_p2026_01_15_13_00"
    );
    assert_eq!(piece("2026-01-15 13:00:00", Unit::Year), "_p2026_01_15_13");
    assert_eq!(
        piece("2026-01-15 13:30:07.000042", Unit::Month),
        "_p2026_01_15_13_30_07_000042"
    );
    let step = |at| range_suffix(at, Span::Step(1000), true).unwrap();
    assert_eq!((step(5000), step(0)), ("_p5000".into(), "_p0".into()));
    assert_eq!(step(-5000), "_pm5000");
    assert_eq!(
        range_suffix(day_number(0, 1, 1) * DAY, Span::Time(1, Unit::Year), true),
        None
    );
    assert_eq!(hash_suffix(3, 4), "_h03");
    assert_eq!(hash_suffix(3, 100), "_h03");
    assert_eq!(hash_suffix(3, 101), "_h003");
    assert_eq!(hash_suffix(1023, 1024), "_h1023");
}

#[test]
fn names_have_63_bytes_at_most() {
    let fits = "x".repeat(53);
    assert_eq!(
        partition_name(&fits, "_p2026_01_"),
        format!("{fits}_p2026_01_")
    );
    let (one, other) = (
        format!("{}1", "x".repeat(62)),
        format!("{}2", "x".repeat(62)),
    );
    let name = partition_name(&one, "_p2026_01");
    assert_eq!(name.len(), 63);
    assert!(name.ends_with("_p2026_01"), "{name}");
    assert_ne!(name, partition_name(&other, "_p2026_01"));
    // Cut between characters.
    for cut in 0..4 {
        let long = format!("{}{}", "x".repeat(cut), "表".repeat(20));
        let name = partition_name(&long, "_p2026_01_h03");
        assert!(name.len() <= 63 && name.len() > 59, "{name} {}", name.len());
        assert!(name.ends_with("_p2026_01_h03"), "{name}");
    }
}

#[test]
fn partitions_are_made_ahead() {
    let declared = monthly();
    let plan = planned(
        &declared,
        Axis::TimestampTz,
        Vec::new(),
        "2026-11-30 23:59:59",
    );
    assert_eq!(
        made(&declared, Axis::TimestampTz, &plan),
        [
            "events_p2026_11 FROM ('2026-11-01 00:00:00+00') TO ('2026-12-01 00:00:00+00')",
            "events_p2026_12 FROM ('2026-12-01 00:00:00+00') TO ('2027-01-01 00:00:00+00')",
            "events_p2027_01 FROM ('2027-01-01 00:00:00+00') TO ('2027-02-01 00:00:00+00')",
            "events_p2027_02 FROM ('2027-02-01 00:00:00+00') TO ('2027-03-01 00:00:00+00')",
        ]
    );
    // From `start`, which need not be on the grid, and may be later than now.
    let declared = self::declared(
        "range = { column = \"at\", every = \"month\", start = \"2026-10-15\" }\nahead = 1",
    );
    let plan = planned(&declared, Axis::Date, Vec::new(), "2026-11-23");
    assert_eq!(
        made(&declared, Axis::Date, &plan),
        [
            "events_p2026_10_15 FROM ('2026-10-15') TO ('2026-11-01')",
            "events_p2026_11 FROM ('2026-11-01') TO ('2026-12-01')",
            "events_p2026_12 FROM ('2026-12-01') TO ('2027-01-01')",
        ]
    );
    let plan = planned(&declared, Axis::Date, Vec::new(), "2025-01-01");
    assert_eq!(
        made(&declared, Axis::Date, &plan),
        [
            "events_p2026_10_15 FROM ('2026-10-15') TO ('2026-11-01')",
            "events_p2026_11 FROM ('2026-11-01') TO ('2026-12-01')",
        ]
    );
}

#[test]
fn what_is_there_is_respected() {
    let declared = monthly();
    // Off the grid, of another width, with gaps, and one that reaches far.
    let children = ranges(
        Axis::Date,
        &[
            ("MINVALUE", "'2026-06-15'"),
            ("'2026-06-20'", "'2026-07-10'"),
            ("'2026-08-01'", "'2026-10-01'"),
        ],
    );
    let plan = planned(&declared, Axis::Date, children, "2026-09-01");
    assert_eq!(
        made(&declared, Axis::Date, &plan),
        [
            "events_p2026_06_15 FROM ('2026-06-15') TO ('2026-06-20')",
            "events_p2026_07_10 FROM ('2026-07-10') TO ('2026-08-01')",
            "events_p2026_10 FROM ('2026-10-01') TO ('2026-11-01')",
            "events_p2026_11 FROM ('2026-11-01') TO ('2026-12-01')",
            "events_p2026_12 FROM ('2026-12-01') TO ('2027-01-01')",
        ]
    );
    let whole = ranges(Axis::Date, &[("MINVALUE", "MAXVALUE")]);
    assert_eq!(
        planned(&declared, Axis::Date, whole, "2026-09-01"),
        Plan::default()
    );
    let endless = ranges(Axis::Date, &[("'-infinity'", "'infinity'")]);
    assert_eq!(
        planned(&declared, Axis::Date, endless, "2026-09-01"),
        Plan::default()
    );
    // Only later ones: now must have one too.
    let later = ranges(Axis::Date, &[("'2026-10-20'", "'2027-01-01'")]);
    let plan = planned(&declared, Axis::Date, later, "2026-09-10");
    assert_eq!(
        made(&declared, Axis::Date, &plan),
        [
            "events_p2026_09 FROM ('2026-09-01') TO ('2026-10-01')",
            "events_p2026_10_01 FROM ('2026-10-01') TO ('2026-10-20')",
        ]
    );
    // One that is being detached still has its range, and nothing else is lost by it.
    let mut children = ranges(
        Axis::Date,
        &[
            ("'2026-08-01'", "'2026-10-01'"),
            ("'2026-10-01'", "'2027-01-01'"),
        ],
    );
    children[0].is_detaching = true;
    let plan = planned(&declared, Axis::Date, children.clone(), "2026-09-10");
    assert_eq!((plan.create.len(), plan.finalize.len()), (0, 1));
    assert_eq!(horizon(at("2026-09-10"), &children), None);
    assert_eq!(
        horizon(at("2026-10-10"), &children),
        Some(Edge::At(at("2027-01-01")))
    );
    let strange = child("strange", Bound::Other("FOR VALUES IN (1)".to_owned()));
    let plan = planned(&declared, Axis::Date, vec![strange], "2026-09-10");
    assert!(plan.create.is_empty() && plan.problems[0].contains("strange"));
}

#[test]
fn what_is_older_than_retain_leaves_and_does_not_come_back() {
    let declared = declared(
        "range = { column = \"at\", every = \"month\" }\nahead = 1\nretain = \"2 months\"",
    );
    let children = ranges(
        Axis::Date,
        &[
            ("'2026-01-01'", "'2026-02-01'"),
            // A gap that is too old to be filled.
            ("'2026-04-01'", "'2026-05-01'"),
            ("'2026-07-01'", "'2026-07-20'"),
            ("'2026-07-21'", "'2026-10-01'"),
        ],
    );
    let plan = planned(&declared, Axis::Date, children.clone(), "2026-09-30");
    let old: Vec<&str> = plan
        .retire
        .iter()
        .map(|child| child.name.name.as_str())
        .collect();
    assert_eq!(
        old,
        ["own_'2026-01-01'", "own_'2026-04-01'", "own_'2026-07-01'"]
    );
    // Nor what would be too old at once: 2026-07-20 to 2026-07-21.
    assert_eq!(
        made(&declared, Axis::Date, &plan),
        ["events_p2026_10 FROM ('2026-10-01') TO ('2026-11-01')"]
    );
    let kept: Vec<Child> = children
        .into_iter()
        .filter(|child| !plan.retire.contains(child))
        .collect();
    let again = planned(&declared, Axis::Date, kept, "2026-09-30");
    assert_eq!((again.retire.len(), again.create.len()), (0, 1));
    // To the day: what ends where retention begins is too old.
    let last = ranges(Axis::Date, &[("'2026-07-01'", "'2026-08-01'")]);
    assert_eq!(
        planned(&declared, Axis::Date, last.clone(), "2026-09-30")
            .retire
            .len(),
        0
    );
    assert_eq!(
        planned(&declared, Axis::Date, last, "2026-10-01")
            .retire
            .len(),
        1
    );
}

#[test]
fn integers_end_where_their_type_ends() {
    let declared = declared("range = { column = \"at\", every = 10000 }\nahead = 2");
    let planned = |axis, greatest, children: &[(&str, &str)]| {
        let moment = Moment { now: 0, greatest };
        let plan = plan(
            &declared,
            Some(axis),
            &parent(axis, ranges(axis, children)),
            &moment,
        );
        made(&declared, axis, &plan)
    };
    assert_eq!(
        planned(Axis::Int2, Some(25_000), &[]),
        [
            "events_p20000 FROM (20000) TO (30000)",
            "events_p30000 FROM (30000) TO (MAXVALUE)",
        ]
    );
    assert_eq!(
        planned(Axis::Int2, Some(-32_768), &[]),
        [
            "events_pm40000 FROM (MINVALUE) TO (-30000)",
            "events_pm30000 FROM (-30000) TO (-20000)",
            "events_pm20000 FROM (-20000) TO (-10000)",
        ]
    );
    // The greatest value itself is in none.
    assert_eq!(
        planned(Axis::Int2, Some(32_000), &[("30000", "'32767'")]),
        ["events_p32767 FROM (32767) TO (MAXVALUE)"]
    );
    assert_eq!(
        planned(Axis::Int8, Some(i64::MAX.into()), &[]),
        ["events_p9223372036854770000 FROM (9223372036854770000) TO (MAXVALUE)"]
    );
    // Nothing is written yet.
    assert_eq!(planned(Axis::Int4, None, &[]).len(), 3);
    assert_eq!(planned(Axis::Int4, None, &[("0", "30000")]), [""; 0]);
}

#[test]
fn partitions_by_hash_are_complete() {
    let declared = self::declared("hash = { columns = [\"a\", \"b\"], modulus = 3 }");
    let hash = |modulus, remainder| Bound::Hash { modulus, remainder };
    let moment = Moment {
        now: 0,
        greatest: None,
    };
    let own = parent(Axis::Int4, vec![child("events_h01", hash(3, 1))]);
    let plan = plan(&declared, None, &own, &moment);
    let names: Vec<&str> = plan.create.iter().map(|c| c.name.name.as_str()).collect();
    assert_eq!(names, ["events_h00", "events_h02"]);
    let other = parent(Axis::Int4, vec![child("events_h01", hash(6, 1))]);
    let plan = super::plan::plan(&declared, None, &other, &moment);
    assert!(plan.create.is_empty());
    assert!(plan.problems[0].contains("modulus 6"), "{plan:?}");
    // Below partitions by range.
    let both = self::declared(
        "range = { column = \"at\", every = \"year\" }\nhash = { column = \"user_id\", modulus = 2 }\nahead = 1",
    );
    let mut half = ranges(Axis::Date, &[("'2026-01-01'", "'2027-01-01'")]);
    half[0].name = table("events_p2026");
    half[0].inner = Some(Inner {
        strategy: PartitionBy::Hash,
        columns: vec![Some("user_id".to_owned())],
        bounds: vec![hash(2, 1)],
    });
    let plan = planned(&both, Axis::Date, half.clone(), "2026-05-01");
    let created: Vec<(&str, usize)> = plan
        .create
        .iter()
        .map(|c| (c.name.name.as_str(), c.inner.len()))
        .collect();
    assert_eq!(created, [("events_p2027", 2), ("events_p2026_h00", 0)]);
    assert_eq!(plan.create[0].inner[1].name, "events_p2027_h01");
    assert_eq!(plan.create[1].of.name, "events_p2026");
    // One that is divided otherwise is somebody's own.
    half[0].inner.as_mut().unwrap().bounds[0] = hash(4, 1);
    assert_eq!(
        planned(&both, Axis::Date, half, "2026-05-01").create.len(),
        1
    );
}

#[test]
fn too_many_are_refused() {
    let declared = declared("range = { column = \"at\", every = \"hour\" }");
    let old = ranges(
        Axis::Timestamp,
        &[("'1970-01-01 00:00:00'", "'1970-01-02 00:00:00'")],
    );
    let plan = planned(&declared, Axis::Timestamp, old, "2026-01-01");
    assert!(plan.create.is_empty());
    assert!(plan.problems[0].contains("more than 10000"), "{plan:?}");
}

/// One value far behind all others, in a partition without an end, makes nothing old.
#[test]
fn nothing_is_old_by_one_wrong_value() {
    let declared = declared("range = { column = \"id\", every = 100 }\nretain = 1000");
    let open = ranges(Axis::Int8, &[("0", "100"), ("200", "MAXVALUE")]);
    let closed = ranges(
        Axis::Int8,
        &[("0", "100"), ("100", "200"), ("1100", "1200")],
    );
    let retired = |children: &[Child], greatest: i128| {
        let parent = parent(Axis::Int8, children.to_vec());
        let moment = Moment {
            now: 0,
            greatest: Some(greatest),
        };
        super::plan::plan(&declared, Some(Axis::Int8), &parent, &moment)
            .retire
            .len()
    };
    assert_eq!(retired(&open, i64::MAX.into()), 0);
    assert_eq!(retired(&closed, 1099), 0);
    assert_eq!(retired(&closed, 1150), 1);
}

#[test]
fn clocks_far_apart_are_said() {
    let agree = super::rollout::agree;
    assert_eq!(agree(0, 3_600_000_000), Ok(()));
    let why = agree(0, -3_600_000_001).unwrap_err();
    assert!(
        why.starts_with("here it is 1970-01-01 00:00:00+00, and there 1969-12-31 22:59:59+00;"),
        "{why}"
    );
}

#[test]
fn the_milder_end_is_chosen() {
    assert_eq!(milder(Then::Drop, Then::Archive), Then::Archive);
    assert_eq!(milder(Then::Archive, Then::Drop), Then::Archive);
    assert_eq!(milder(Then::Drop, Then::Detach), Then::Detach);
    assert_eq!(milder(Then::Drop, Then::Drop), Then::Drop);
}

#[test]
fn a_table_that_does_not_fit_is_refused() {
    let key = |strategy, columns: &[(Option<&str>, &str)]| Key {
        strategy,
        columns: columns
            .iter()
            .map(|(name, type_name)| KeyColumn {
                name: name.map(str::to_owned),
                type_name: (*type_name).to_owned(),
                is_plain: true,
            })
            .collect(),
    };
    let at = Some("at");
    let fits = |key: &Key, toml| match key.fits(&declared(toml)) {
        Ok(axis) => format!("{axis:?}"),
        Err(misfit) => misfit.to_string(),
    };
    let month = "range = { column = \"at\", every = \"month\" }";
    let hour = "range = { column = \"at\", every = \"hour\" }";
    let step = "range = { column = \"at\", every = 5 }";
    let hash = "hash = { column = \"at\", modulus = 5 }";
    let date = key(PartitionBy::Range, &[(at, "date")]);
    assert_eq!(fits(&date, month), "Some(Date)");
    assert!(fits(&date, hour).ends_with("every = \"hour\" is too fine"));
    assert!(fits(&date, step).contains("not a number of values"));
    assert!(
        fits(&date, hash).starts_with("it is PARTITION BY RANGE (at), and declared BY HASH (at)")
    );
    let number = key(PartitionBy::Range, &[(at, "int8")]);
    assert_eq!(fits(&number, step), "Some(Int8)");
    assert!(fits(&number, month).contains("not a unit of the calendar"));
    let text = key(PartitionBy::Range, &[(at, "text")]);
    assert!(fits(&text, month).starts_with("column \"at\" has type text;"));
    let two = key(PartitionBy::Range, &[(at, "date"), (Some("b"), "int4")]);
    assert!(fits(&two, month).contains("RANGE (at, b)"));
    let expression = key(PartitionBy::Range, &[(None, "date")]);
    assert!(fits(&expression, month).contains("RANGE (an expression)"));
    let hashed = key(PartitionBy::Hash, &[(at, "text")]);
    assert_eq!(fits(&hashed, hash), "None");
}

fn unit() -> impl Strategy<Value = Unit> {
    prop_oneof![
        Just(Unit::Hour),
        Just(Unit::Day),
        Just(Unit::Week),
        Just(Unit::Month),
        Just(Unit::Quarter),
        Just(Unit::Year),
    ]
}

proptest! {
    /// Against another calendar, in the years that it knows.
    #[test]
    fn days_are_what_they_are(number in -3_500_000_i64..2_900_000) {
        let (year, month, day) = civil(number.into());
        prop_assert_eq!(day_number(year, month, day), i128::from(number));
        let julian = i32::try_from(number).unwrap() + 2_440_588;
        if let Ok(date) = time::Date::from_julian_day(julian) {
            let same = (i128::from(date.year()), u8::from(date.month()), date.day());
            prop_assert_eq!((year, month, day), same);
            let (iso_year, week, _) = date.to_iso_week_date();
            prop_assert_eq!(iso_week(number.into()), (i128::from(iso_year), week));
        }
    }

    /// Cells follow one another without gap, and each time is in its own.
    #[test]
    fn cells_follow_one_another(at in -100_000_000_000_000_000_i64..250_000_000_000_000_000, unit in unit()) {
        let at = i128::from(at);
        let begin = floor(at, unit);
        let end = next(at, unit);
        prop_assert!(begin <= at && at < end);
        prop_assert_eq!(floor(begin, unit), begin);
        prop_assert_eq!(floor(end, unit), end);
        prop_assert_eq!(floor(end - 1, unit), begin);
        prop_assert_eq!(next(begin, unit), end);
    }

    /// What is written for PostgreSQL is read back the same.
    #[test]
    fn times_are_written_as_they_are_read(at in -300_000_000_000_000_000_i64..9_000_000_000_000_000_000) {
        let at = i128::from(at);
        for axis in [Axis::Timestamp, Axis::TimestampTz] {
            prop_assert_eq!(axis.read(&axis.text(at)), Some(at));
        }
        let day = at.div_euclid(DAY) * DAY;
        prop_assert_eq!(Axis::Date.read(&Axis::Date.text(day)), Some(day));
    }

    /// Whatever a table has: what is planned overlaps nothing, covers all that is wanted, and is planned once.
    #[test]
    fn every_point_has_one_partition(
        cuts in proptest::collection::btree_set(-400_i128..400, 0..12),
        keeps in proptest::collection::vec(any::<bool>(), 12),
        ends in any::<(bool, bool)>(),
        position in -300_i64..300,
        every in 1_i64..60,
        ahead in 1_u32..6,
        retain in proptest::option::of(1_i64..200),
        start in proptest::option::of(-300_i64..300),
    ) {
        let start = start.map_or(String::new(), |start| format!(", start = \"{start}\""));
        let retain = retain.map_or(String::new(), |retain| format!("retain = {retain}"));
        let declared = declared(&format!(
            "range = {{ column = \"at\", every = {every}{start} }}\nahead = {ahead}\n{retain}"
        ));
        let mut edges: Vec<Edge> = cuts.into_iter().map(Edge::At).collect();
        if ends.0 {
            edges.insert(0, Edge::Below);
        }
        if ends.1 {
            edges.push(Edge::Above);
        }
        let children: Vec<Child> = edges
            .windows(2)
            .zip(keeps)
            .filter(|(_, keep)| *keep)
            .map(|(pair, _)| child("own", Bound::Range(pair[0], pair[1])))
            .collect();
        let moment = Moment { now: 0, greatest: Some(position.into()) };
        let range = declared.range.as_ref().unwrap();
        let wanted = super::plan::wanted(&declared, range, Axis::Int8, &moment, &children);
        let own = parent(Axis::Int8, children.clone());
        let plan = super::plan::plan(&declared, Some(Axis::Int8), &own, &moment);
        prop_assert!(plan.problems.is_empty());

        let made: Vec<(Edge, Edge)> = plan.create.iter().map(|creation| match creation.bound {
            Bound::Range(lower, upper) => (lower, upper),
            _ => panic!("{creation:?}"),
        }).collect();
        let had: Vec<(Edge, Edge)> = children.iter().map(|child| match child.bound {
            Bound::Range(lower, upper) => (lower, upper),
            _ => panic!("{child:?}"),
        }).collect();
        let cutoff = wanted.cutoff.unwrap_or(i128::MIN);
        for point in wanted.from - 100..wanted.until + 100 {
            let at = Edge::At(point);
            let holds = |ranges: &[(Edge, Edge)]| ranges.iter().filter(|(lower, upper)| *lower <= at && at < *upper).count();
            let (new, old) = (holds(&made), holds(&had));
            prop_assert!(new + old <= 1, "{point} is in {new} and {old}");
            if (wanted.from..wanted.until).contains(&point) && point >= cutoff {
                prop_assert_eq!(new + old, 1, "{} is in none", point);
            }
        }
        let here = i128::from(position);
        let here = line::floor(here, range.every).max(wanted.from);
        prop_assert!(here < wanted.until);
        // Nothing that is made is cut over an edge of the grid, and all names differ.
        let mut names: Vec<&str> = plan.create.iter().map(|creation| creation.name.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        prop_assert_eq!(names.len(), made.len());
        // And then nothing is left.
        let mut all = children;
        all.retain(|child| !plan.retire.contains(child));
        all.extend(plan.create.iter().map(|creation| child(&creation.name.name, creation.bound.clone())));
        let again = super::plan::plan(&declared, Some(Axis::Int8), &parent(Axis::Int8, all), &moment);
        prop_assert_eq!(again, Plan::default());
    }
}

/// `keyway serve` keeps partitions in a task of its own.
#[test]
fn a_run_can_be_spawned() {
    fn spawnable<T: Send>(_: impl FnOnce(&'static crate::catalog::Catalog) -> T) {}
    spawnable(|catalog| async move {
        let (_, lost) = tokio::sync::watch::channel(false);
        let declared = crate::config::partitions::Declared::new();
        let keyspace = super::rollout::Keyspace {
            name: "main",
            shards: &[],
            declared: &declared,
        };
        let manner = super::rollout::Manner {
            now: time::OffsetDateTime::UNIX_EPOCH,
            goes_on: true,
            patience: std::time::Duration::from_secs(1),
        };
        let right = super::rollout::Right {
            token: 1,
            lost: &lost,
        };
        super::rollout::keep(catalog, keyspace, &manner, right, &|_| {}).await
    });
}
