use super::closure::{Mark, closures};
use super::{FAMILIES_MAX, FILLED_BY_KEYWAY, Family, Never, Reach, TableReach, of_keyspaces};
use crate::topology::schema::{
    Constraint, ConstraintKind, Policy, Relation, Rule, Schema, Trigger, TriggerEvent,
};
use crate::topology::{FunctionDeclaration, Keyspace, KeyspaceKind, ShardId, TableName};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

fn name(text: &str) -> TableName {
    TableName::parse(text).unwrap()
}

fn names(texts: &[&str]) -> Vec<TableName> {
    texts.iter().map(|text| name(text)).collect()
}

/// A relation of this kind with nothing to it, but for its parents.
fn relation(kind: char, table: &str, parents: &[&str]) -> Relation {
    Relation {
        name: name(table),
        kind,
        persistence: 'p',
        columns: Vec::new(),
        constraints: Vec::new(),
        triggers: Vec::new(),
        rules: Vec::new(),
        view: (kind == 'v').then(|| "SELECT 1".into()),
        row_security: false,
        policies: Vec::new(),
        parents: names(parents),
        calls: Vec::new(),
    }
}

fn table(table: &str) -> Relation {
    relation('r', table, &[])
}

/// The table refers to another with these actions, ON UPDATE first.
fn referring(mut from: Relation, to: &str, actions: &str) -> Relation {
    let mut letters = actions.chars();
    from.constraints.push(Constraint {
        name: "key".into(),
        kind: ConstraintKind::Foreign {
            table: name(to),
            columns: vec!["id".into()],
            on_update: letters.next().unwrap(),
            on_delete: letters.next().unwrap(),
        },
        columns: vec!["other".into()],
        expressions: false,
        definition: String::new(),
    });
    from
}

/// The relation has a trigger at these bits of pg_trigger.tgtype.
fn triggered(mut on: Relation, bits: i16, function: &str) -> Relation {
    on.triggers.push(Trigger {
        name: "t".into(),
        function: name(function),
        timing: if bits & 64 == 0 {
            "AFTER"
        } else {
            "INSTEAD OF"
        },
        events: TriggerEvent::of_bits(bits),
        calls: Vec::new(),
        definition: String::new(),
    });
    on
}

fn changed(mut relation: Relation, change: impl FnOnce(&mut Relation)) -> Relation {
    change(&mut relation);
    relation
}

fn schema(relations: Vec<Relation>) -> Schema {
    Schema {
        relations,
        ..Schema::default()
    }
}

const INSERT: i16 = 4;
const DELETE: i16 = 8;
const UPDATE: i16 = 16;
const TRUNCATE: i16 = 32;
const INSTEAD: i16 = 64;

/// Declared functions: `local` may do anything on its shard, `pure` touches nothing, `to_x` writes to x.
fn functions() -> BTreeMap<TableName, FunctionDeclaration> {
    let writes = |tables: &[&str]| FunctionDeclaration::Touches {
        reads: Vec::new(),
        writes: names(tables),
    };
    [
        ("local", FunctionDeclaration::PerShard),
        ("pure", writes(&[])),
        ("to_a", writes(&["a"])),
        ("to_b", writes(&["b"])),
        ("to_c", writes(&["c"])),
        ("to_nowhere", writes(&["nowhere"])),
    ]
    .into_iter()
    .map(|(function, declared)| (name(function), declared))
    .collect()
}

/// Keyspaces on these shards, of which some have a schema.
fn reaches(
    keyspaces: &[&[u16]],
    schemas: &[(u16, Vec<Relation>)],
) -> Vec<HashMap<TableName, TableReach>> {
    let keyspaces: Vec<Arc<Keyspace>> = keyspaces
        .iter()
        .map(|shards| {
            Arc::new(Keyspace {
                name: format!("{shards:?}"),
                shards: shards.iter().map(|shard| ShardId(*shard)).collect(),
                kind: KeyspaceKind::Unsharded,
            })
        })
        .collect();
    let schemas: HashMap<ShardId, Schema> = schemas
        .iter()
        .map(|(shard, relations)| (ShardId(*shard), schema(relations.clone())))
        .collect();
    of_keyspaces(&keyspaces, |shard| schemas.get(&shard), &functions())
}

/// Of one keyspace with one shard.
fn of_one(relations: Vec<Relation>) -> HashMap<TableName, TableReach> {
    reaches(&[&[0]], &[(0, relations)]).remove(0)
}

/// The families by their names: `b c`, `*` for anything, and nothing for nothing.
fn shown(reach: &Reach) -> String {
    let Reach::Families(families) = reach else {
        return "*".into();
    };
    assert!(families.is_sorted());
    let known = ["a", "b", "c", "d", "p", "v"];
    let mut shown: Vec<&str> = families
        .iter()
        .map(|family| {
            let mut known = known.iter();
            known
                .find(|known| Family::named(&name(known)) == *family)
                .unwrap()
        })
        .copied()
        .collect();
    shown.sort_unstable();
    shown.join(" ")
}

/// What INSERT, UPDATE and DELETE of the table `a` reach: `insert/update/delete`.
fn check(relations: Vec<Relation>, expected: &str) {
    check_of("a", relations, expected);
}

fn check_of(of: &str, relations: Vec<Relation>, expected: &str) {
    let described = format!("{relations:#?}");
    let reaches = of_one(relations);
    let reach = &reaches[&name(of)];
    let found = [&reach.insert, &reach.update, &reach.delete].map(shown);
    assert_eq!(found.join("/"), expected, "{of} of {described}");
}

/// The table's family is the one that is called so.
fn check_family(reaches: &HashMap<TableName, TableReach>, table: &str, family: &str) {
    let found = reaches[&name(table)].family;
    assert_eq!(found, Family::named(&name(family)), "{table} in {family}");
}

#[test]
fn a_family_is_all_that_is_connected_and_is_called_by_its_least_name() {
    let reaches = of_one(vec![
        relation('p', "orders", &[]),
        relation('p', "archive.orders_old", &["orders"]),
        relation('r', "z.orders_2020", &["archive.orders_old"]),
        relation('r', "orders_2021", &["orders"]),
        table("animals"),
        table("pets"),
        relation('r', "dogs", &["pets", "animals"]),
        relation('r', "cats", &["pets"]),
        table("alone"),
    ]);
    for table in [
        "orders",
        "archive.orders_old",
        "z.orders_2020",
        "orders_2021",
    ] {
        check_family(&reaches, table, "archive.orders_old");
    }
    for table in ["animals", "pets", "dogs", "cats"] {
        check_family(&reaches, table, "animals");
    }
    check_family(&reaches, "alone", "alone");
    assert!(reaches.values().all(|reach| reach.never.is_none()));
}

/// In whatever order the shards are read: every Keyway counts with the same numbers.
#[test]
fn what_any_shard_connects_is_one_family() {
    let first = vec![
        table("a"),
        relation('r', "b", &["a"]),
        table("c"),
        table("d"),
    ];
    let second = vec![
        table("d"),
        table("c"),
        relation('r', "b", &["c"]),
        table("a"),
    ];
    for (left, right) in [(&first, &second), (&second, &first)] {
        let schemas = [(0, left.clone()), (1, right.clone())];
        let reaches = reaches(&[&[0, 1]], &schemas).remove(0);
        for table in ["a", "b", "c"] {
            check_family(&reaches, table, "a");
        }
        check_family(&reaches, "d", "d");
    }
}

/// Tables of the same names on another keyspace's shards are others, unless the keyspaces share a shard.
#[test]
fn keyspaces_share_what_they_know_only_where_they_share_shards() {
    let plain = || vec![table("a"), table("b")];
    let connected = || {
        vec![
            table("a"),
            triggered(relation('r', "b", &["a"]), INSERT, "unknown"),
        ]
    };
    let apart = reaches(&[&[0], &[1]], &[(0, plain()), (1, connected())]);
    check_family(&apart[0], "b", "b");
    assert_eq!(shown(&apart[0][&name("b")].insert), "");
    check_family(&apart[1], "b", "a");
    assert_eq!(shown(&apart[1][&name("b")].insert), "*");

    // By way of a third, too.
    let keyspaces: [&[u16]; 3] = [&[0, 1], &[2], &[1, 2]];
    let schemas = [(0, plain()), (1, plain()), (2, connected())];
    for reaches in reaches(&keyspaces, &schemas) {
        check_family(&reaches, "b", "a");
        assert_eq!(shown(&reaches[&name("b")].insert), "*");
    }
}

#[test]
fn what_is_not_known_on_every_shard_is_not_known() {
    let both = || vec![table("a"), table("b")];
    let unseen = |reaches: &HashMap<TableName, TableReach>, table: &str| {
        let reach = &reaches[&name(table)];
        let all = [&reach.read, &reach.insert, &reach.update, &reach.delete];
        let anything = all.iter().all(|reach| **reach == Reach::Anything);
        assert_eq!(anything, reach.never == Some(Never::Unseen), "{reach:?}");
        anything
    };
    let schemas = [(0, both()), (1, vec![table("a")])];
    let one_lacks_it = reaches(&[&[0, 1]], &schemas).remove(0);
    assert!(unseen(&one_lacks_it, "b") && !unseen(&one_lacks_it, "a"));
    let the_first_lacks_it = reaches(&[&[1, 0]], &schemas).remove(0);
    assert!(unseen(&the_first_lacks_it, "b") && !unseen(&the_first_lacks_it, "a"));

    let one_is_silent = reaches(&[&[0, 1]], &[(0, both())]).remove(0);
    assert!(unseen(&one_is_silent, "a") && unseen(&one_is_silent, "b"));
    let by_way_of_another = reaches(&[&[0], &[0, 1]], &[(0, both())]).remove(0);
    assert!(unseen(&by_way_of_another, "a"), "families may be others");
    let elsewhere = reaches(&[&[0], &[1]], &[(0, both())]);
    assert!(!unseen(&elsewhere[0], "a") && elsewhere[1].is_empty());
    assert!(reaches(&[&[0]], &[])[0].is_empty(), "nothing is known");
}

#[test]
fn rows_that_are_more_than_a_matter_of_rows_are_not_kept() {
    type Change = fn(&mut Relation);
    let cases: [(Change, Option<Never>); 10] = [
        (|_| (), None),
        (|a| a.kind = 'p', None),
        (|a| a.kind = 'm', None),
        (|a| a.row_security = true, Some(Never::RowSecurity)),
        (|a| a.persistence = 'u', Some(Never::Unlogged)),
        (|a| a.kind = 'f', Some(Never::Foreign)),
        (|a| a.kind = 'S', Some(Never::Kind)),
        (|a| a.persistence = '?', Some(Never::Kind)),
        (
            |a| {
                a.rules.push(Rule {
                    name: "r".into(),
                    event: '1',
                });
            },
            Some(Never::Kind),
        ),
        (
            |a| {
                a.rules.push(Rule {
                    name: "r".into(),
                    event: '3',
                });
            },
            None,
        ),
    ];
    for (index, (change, expected)) in cases.into_iter().enumerate() {
        let one = of_one(vec![changed(table("a"), change), table("b")]);
        assert_eq!(one[&name("a")].never, expected, "case {index}");
        assert_eq!(one[&name("b")].never, None, "case {index}");
        // On one shard of two, the other one: it is not known what it is.
        let schemas = [
            (0, vec![table("a")]),
            (1, vec![changed(table("a"), change)]),
        ];
        let two = reaches(&[&[0, 1]], &schemas).remove(0);
        let expected = match index {
            2 => Some(Never::Kind),
            _ => expected,
        };
        assert_eq!(two[&name("a")].never, expected, "case {index} on one shard");
    }
    // A reason of one member is its family's, and of several the first.
    for (first, second, expected) in [
        ('p', 'u', Never::Unlogged),
        ('f', 'p', Never::Foreign),
        ('f', 'u', Never::Unlogged),
    ] {
        let reaches = of_one(vec![
            relation('p', "p", &[]),
            changed(relation('r', "b", &["p"]), |b| {
                if first == 'f' {
                    b.kind = 'f';
                }
            }),
            changed(relation('r', "c", &["p"]), |c| c.persistence = second),
        ]);
        for table in ["p", "b", "c"] {
            assert_eq!(reaches[&name(table)].never, Some(expected), "{table}");
        }
    }
    let filled = format!("a{FILLED_BY_KEYWAY}");
    let reaches = of_one(vec![
        table("a"),
        relation('p', &filled, &[]),
        relation('r', "a_1", &[&filled]),
    ]);
    assert_eq!(reaches[&name("a")].never, None);
    assert_eq!(reaches[&name(&filled)].never, Some(Never::Kind));
    assert_eq!(reaches[&name("a_1")].never, Some(Never::Kind));
}

#[test]
fn a_view_is_kept_only_when_it_is_one_and_the_same_on_every_shard() {
    let view = |definition: &str| {
        changed(relation('v', "v", &[]), |v| {
            v.view = Some(definition.into())
        })
    };
    let none = || changed(relation('v', "v", &[]), |v| v.view = None);
    for (first, second, expected) in [
        (view("SELECT 1"), view("SELECT 1"), None),
        (view("SELECT 1"), view("SELECT 2"), Some(Never::Kind)),
        (view("SELECT 1"), table("v"), Some(Never::Kind)),
        (table("v"), view("SELECT 1"), Some(Never::Kind)),
        (none(), none(), Some(Never::Kind)),
    ] {
        let reaches = reaches(&[&[0, 1]], &[(0, vec![first]), (1, vec![second])]).remove(0);
        assert_eq!(reaches[&name("v")].never, expected);
    }
}

#[test]
fn foreign_keys_lead_to_the_rows_that_their_actions_change() {
    let b = |actions: &str| referring(table("b"), "a", actions);
    for (actions, expected) in [
        ("aa", "//"),
        ("rr", "//"),
        ("ca", "/b/"),
        ("na", "/b/"),
        ("da", "/b/"),
        ("ac", "//b"),
        ("an", "//b"),
        ("ad", "//b"),
        ("cc", "/b/b"),
        ("??", "/b/b"),
    ] {
        check(vec![table("a"), b(actions)], expected);
        check_of("b", vec![table("a"), b(actions)], "//");
    }
    // What is deleted deletes further, and what is set updates further.
    for (first, second, expected) in [
        ("ac", "ac", "//b c"),
        ("ac", "ca", "//b"),
        ("an", "ca", "//b c"),
        ("ad", "na", "//b c"),
        ("an", "ac", "//b"),
        ("cc", "ca", "/b c/b"),
        ("cc", "ac", "/b/b c"),
    ] {
        let c = referring(table("c"), "b", second);
        check(vec![table("a"), b(first), c], expected);
    }
}

#[test]
fn families_refer_to_each_other_as_a_whole() {
    // To a partition, from a partition, and by way of both.
    let parted = || vec![relation('p', "a", &[]), relation('r', "a_1", &["a"])];
    let referring_parted = |to: &str| {
        vec![
            relation('p', "b", &[]),
            referring(relation('r', "b_1", &["b"]), to, "ac"),
            referring(table("c"), "b", "ac"),
        ]
    };
    for to in ["a", "a_1"] {
        let all = || [parted(), referring_parted(to)].concat();
        // An UPDATE may move a row, which is a DELETE as well.
        check(all(), "/b c/b c");
        check_of("a_1", all(), "/b c/b c");
        check_of("b_1", all(), "/c/c");
    }
    // Inheritance moves nothing.
    let inheriting = vec![
        relation('r', "a", &[]),
        relation('r', "a_1", &["a"]),
        referring(table("b"), "a_1", "ac"),
    ];
    check(inheriting, "//b");
}

#[test]
fn a_family_is_its_own_when_rows_are_reached_that_nobody_named() {
    check(vec![referring(table("a"), "a", "aa")], "//");
    check(vec![referring(table("a"), "a", "cc")], "/a/a");
    // SET NULL of its own rows is an UPDATE of them.
    let own = || referring(table("a"), "a", "an");
    check(vec![own(), referring(table("b"), "a", "ca")], "/b/a b");
    check(vec![triggered(table("a"), INSERT, "to_a")], "a//");
    check(vec![triggered(table("a"), DELETE, "to_a")], "//a");
}

#[test]
fn circles_of_keys_end() {
    let circle = vec![
        referring(table("a"), "c", "ac"),
        referring(table("b"), "a", "ac"),
        referring(table("c"), "b", "ac"),
        referring(table("d"), "c", "ca"),
    ];
    for table in ["a", "b", "c"] {
        let expected = if table == "c" { "/d/a b c" } else { "//a b c" };
        check_of(table, circle.clone(), expected);
    }
}

#[test]
fn triggers_lead_to_what_their_functions_write() {
    let on = |bits: i16, function: &str| {
        vec![
            triggered(table("a"), bits, function),
            table("b"),
            referring(table("c"), "b", "ac"),
        ]
    };
    for (bits, function, expected) in [
        (INSERT, "to_b", "b c//"),
        (UPDATE, "to_b", "/b c/"),
        (DELETE, "to_b", "//b c"),
        (INSERT | UPDATE | DELETE, "to_b", "b c/b c/b c"),
        (TRUNCATE, "to_b", "//"),
        (0, "to_b", "b c/b c/b c"),
        (INSERT, "pure", "//"),
        (INSERT, "local", "*//"),
        (INSERT, "undeclared", "*//"),
        (DELETE, "to_nowhere", "//*"),
        (UPDATE, "pg_catalog.tsvector_update_trigger", "//"),
        (UPDATE, "pg_catalog.lo_manage", "/*/"),
        (UPDATE, "tsvector_update_trigger", "/*/"),
    ] {
        check(on(bits, function), expected);
    }
    // A function that writes may do so in any way, TRUNCATE too.
    let truncating = |function: &str| {
        vec![
            triggered(table("a"), INSERT, "to_b"),
            triggered(table("b"), TRUNCATE, function),
            table("c"),
        ]
    };
    check(truncating("to_c"), "b c//");
    check(truncating("undeclared"), "*//");
    // Those of what is reached count as what is done to it.
    let child = |bits: i16, actions: &str| {
        vec![
            table("a"),
            triggered(referring(table("b"), "a", actions), bits, "to_c"),
            table("c"),
        ]
    };
    check(child(DELETE, "ac"), "//b c");
    check(child(UPDATE, "ac"), "//b");
    check(child(UPDATE, "an"), "//b c");
    check(child(UPDATE, "na"), "/b c/");
    check(child(INSERT, "cc"), "/b/b");
    // A partition's count for all of its family, and a row that moves leaves and arrives.
    let parted = |bits: i16, kind: char| {
        vec![
            relation(kind, "a", &[]),
            triggered(relation('r', "a_1", &["a"]), bits, "to_c"),
            table("c"),
        ]
    };
    check(parted(INSERT, 'p'), "c/c/");
    check(parted(DELETE, 'p'), "/c/c");
    check(parted(INSERT, 'r'), "c//");
    check(parted(UPDATE, 'r'), "/c/");
    // WHEN may call a function before the trigger's own is.
    let mut when = triggered(table("a"), DELETE, "pure");
    when.triggers[0].calls = names(&["to_c"]);
    check(vec![when.clone(), table("c")], "//c");
    when.triggers[0].calls = names(&["undeclared"]);
    check(vec![when, table("c")], "//*");
}

#[test]
fn rules_may_do_anything() {
    let ruled = |kind: char| {
        changed(relation(kind, "a", &[]), |a| {
            a.rules.push(Rule {
                name: "r".into(),
                event: '3',
            });
        })
    };
    check(vec![ruled('r')], "*/*/*");
    check(
        vec![triggered(ruled('v'), INSTEAD | INSERT, "pure")],
        "*/*/*",
    );
    let mut member = ruled('r');
    member.parents = names(&["b"]);
    check_of("b", vec![member.clone(), table("b")], "*/*/*");
    // And so may what leads to it.
    let c = |actions: &str| referring(member.clone(), "c", actions);
    check_of("c", vec![table("c"), c("ac"), table("b")], "//*");
}

#[test]
fn functions_of_defaults_and_checks_run_when_a_row_is_made() {
    let calling = |functions: &[&str]| {
        vec![
            changed(table("a"), |a| a.calls = names(functions)),
            table("b"),
            table("c"),
        ]
    };
    check(calling(&["pure"]), "//");
    check(calling(&["to_b", "to_c"]), "b c/b c/");
    check(calling(&["undeclared"]), "*/*/");
    check(calling(&["to_b", "local"]), "*/*/");
    // SET DEFAULT makes one, too.
    let referred = |actions: &str| {
        let mut tables = calling(&["to_c"]);
        tables.push(table("d"));
        tables[0] = referring(tables[0].clone(), "d", actions);
        tables
    };
    check_of("d", referred("ad"), "//a c");
    check_of("d", referred("ac"), "//a");
}

#[test]
fn policies_run_whatever_is_done() {
    let policy = |calls: &[&str], reads: &[&str]| Policy {
        calls: names(calls),
        reads: names(reads),
        ..Policy::default()
    };
    let secured = |on: bool, of: &str, policy: Policy| {
        changed(table(of), |a| {
            a.row_security = on;
            a.policies.push(policy);
        })
    };
    let read = |relations: Vec<Relation>| shown(&of_one(relations)[&name("a")].read);
    for (a, expected) in [
        (secured(true, "a", policy(&["to_c"], &[])), "c"),
        (secured(true, "a", policy(&["undeclared"], &[])), "*"),
        (secured(true, "a", policy(&["pure"], &[])), ""),
        (secured(true, "a", policy(&[], &["c"])), ""),
        (secured(true, "a", policy(&[], &["v"])), "*"),
        (secured(true, "a", policy(&[], &["nowhere"])), "*"),
        (secured(false, "a", policy(&["to_c"], &[])), ""),
        (table("a"), ""),
    ] {
        let tables = || vec![a.clone(), table("c"), relation('v', "v", &[])];
        assert_eq!(read(tables()), expected, "{a:?}");
        check(tables(), &format!("{expected}/{expected}/{expected}"));
    }
    // What a policy reads has policies, which run.
    let nested = vec![
        secured(true, "a", policy(&[], &["b"])),
        secured(true, "b", policy(&["to_c"], &["a"])),
        table("c"),
    ];
    assert_eq!(read(nested.clone()), "c", "what is read is not written");
    check(nested, "c/c/c");
}

#[test]
fn writes_through_views_go_anywhere_but_by_triggers_instead() {
    let view = || relation('v', "a", &[]);
    check(vec![view()], "*/*/*");
    check(
        vec![
            triggered(view(), INSTEAD | INSERT | DELETE, "to_b"),
            table("b"),
        ],
        "b/*/b",
    );
    check(vec![triggered(view(), INSTEAD | UPDATE, "local")], "*/*/*");
    check(vec![triggered(view(), INSERT, "to_b"), table("b")], "*/*/*");
    // On one shard only: the other writes through the view.
    let schemas = [
        (0, vec![triggered(view(), INSTEAD | INSERT, "pure")]),
        (1, vec![view()]),
    ];
    let reaches = reaches(&[&[0, 1]], &schemas).remove(0);
    assert_eq!(shown(&reaches[&name("a")].insert), "*");
    // A function that is said to write to a view writes behind it.
    let behind = vec![triggered(table("b"), INSERT, "to_a"), view()];
    check_of("b", behind, "*//");
    for kind in ['f', 'm', '?'] {
        check(vec![relation(kind, "a", &[])], "*/*/*");
    }
    let reading = of_one(vec![view()]);
    assert_eq!(shown(&reading[&name("a")].read), "");
}

/// What one shard has, every write may meet.
#[test]
fn any_shards_keys_and_triggers_count() {
    let schemas = [
        (0, vec![table("a"), table("b"), table("c")]),
        (
            1,
            vec![
                triggered(table("a"), INSERT, "to_c"),
                referring(table("b"), "a", "ac"),
                table("c"),
            ],
        ),
    ];
    let reaches = reaches(&[&[0, 1]], &schemas).remove(0);
    let a = &reaches[&name("a")];
    let found = [&a.insert, &a.update, &a.delete].map(shown);
    assert_eq!(found, ["c", "", "b"]);
}

/// Longer than any stack, and not a matter of squares.
#[test]
fn thousands_of_keys_are_followed_at_once() {
    const TABLES: usize = 3_000;
    let of = |index: usize| format!("t{index:04}");
    let chain = |closed: bool| -> Vec<Relation> {
        (0..TABLES)
            .map(|index| match index.checked_sub(1) {
                Some(before) => referring(table(&of(index)), &of(before), "cc"),
                None if closed => referring(table(&of(0)), &of(TABLES - 1), "cc"),
                None => table(&of(0)),
            })
            .collect()
    };
    let started = tokio::time::Instant::now();
    let (open, closed) = (of_one(chain(false)), of_one(chain(true)));
    let taken = started.elapsed();
    assert!(taken < Duration::from_secs(2), "{taken:?}");

    for index in [0, TABLES - FAMILIES_MAX - 2] {
        assert_eq!(open[&name(&of(index))].delete, Reach::Anything, "{index}");
    }
    for index in [TABLES - FAMILIES_MAX - 1, TABLES - 2, TABLES - 1] {
        let mut rest: Vec<Family> = (index + 1..TABLES)
            .map(|rest| Family::named(&name(&of(rest))))
            .collect();
        rest.sort_unstable();
        let reach = &open[&name(&of(index))];
        assert_eq!(reach.delete, Reach::Families(rest.clone()), "{index}");
        assert_eq!(reach.update, Reach::Families(rest), "{index}");
        assert_eq!(shown(&reach.insert), "");
    }
    assert!(closed.values().all(|reach| reach.delete == Reach::Anything));
}

/// All that a walk from `start` meets: the slow and simple way.
fn walked(next: &[Vec<usize>], start: usize, anything: usize) -> Option<BTreeSet<usize>> {
    let mut met = BTreeSet::new();
    let mut todo = vec![start];
    while let Some(node) = todo.pop() {
        todo.extend(next[node].iter().filter(|to| met.insert(**to)));
    }
    (start != anything && !met.contains(&anything)).then_some(met)
}

proptest! {
    /// Proptest prints the graph that fails.
    #[test]
    fn closures_are_what_walks_meet(
        next in prop::collection::vec(prop::collection::vec(0..24_usize, 0..4), 24),
        anything in 0..48_usize,
        most in 1..24_usize,
    ) {
        let mark = |node: usize| match node {
            node if node == anything => Mark::Anything,
            node if node % 5 == 0 => Mark::Nothing,
            node => Mark::One(node),
        };
        let found = closures(&next, mark, most);
        for start in (0..next.len()).filter(|start| *start != anything) {
            let expected = walked(&next, start, anything)
                .map(|met| met.into_iter().filter(|to| to % 5 != 0).collect::<BTreeSet<_>>())
                .filter(|met| met.len() <= most);
            prop_assert_eq!(found.of(start), expected.as_ref(), "from {}", start);
        }
    }
}
