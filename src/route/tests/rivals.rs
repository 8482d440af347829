//! The 25 openings: what the nearest rival answers wrongly, we answer right or refuse.

use super::check_all;

#[test]
fn the_live_table() {
    let several = "refuse 0A000";
    check_all(&[
        (
            "select id from t where k=1 union all select id from t where k=1",
            "single {1}",
        ),
        (
            "select id from t union all select id from t",
            "scatter s0,s1,s2",
        ),
        (
            "select g from t where x>7 except select g from t where x<3",
            several,
        ),
        (
            "with c as (select max(id) m from t) select m from c",
            several,
        ),
        (
            "select count(*) from t where g in (select g from t where k=1)",
            several,
        ),
        (
            "select count(*) from t where id = (select max(id) from t)",
            several,
        ),
        (
            "select count(*) filter (where k=5), count(*) from t",
            "scatter s0,s1,s2",
        ),
        (
            "select count(*) from t where (k=5) is not true",
            "scatter s0,s1,s2",
        ),
        ("select id from t where k+1=5", "scatter s0,s1,s2"),
        ("select id from t where k in (1,1+1)", "scatter s0,s1,s2"),
        (
            "select a.id,b.id from t a join t b on a.id=b.g where a.id<4",
            several,
        ),
        ("select avg(x) from t where k=1", "single {1}"),
        ("insert into t(id,k) values (1000,3+4)", several),
        (
            "insert into t select id+100, k, g, x, s from t",
            "refuse 0A000: the statement would write",
        ),
        ("copy t from stdin", several),
        ("copy t(id) to stdout (format binary)", several),
        ("update t set x = 1", several),
        ("update t set x = 1 where k % 10 = 5", several),
        (
            "insert into countries values ('a', clock_timestamp()::text)",
            "refuse 0A000: writes to reference tables",
        ),
        ("select * from unconfigured", several),
        (
            "select id from t where k between 1 and 1",
            "scatter s0,s1,s2",
        ),
        ("insert into t(id, k) values (1, DEFAULT)", "single s0"),
        ("insert into t(id) values (1)", "single s0"),
        ("insert into t(id, k) values (1, NULL)", "single s0"),
    ]);
    let case = super::Case::new();
    // What depends on where keys happen to live: never a scatter, and single only on the right shard.
    for sql in [
        "insert into t(id, k) values (3000,1),(3001,2)",
        "with c as (select * from t where k=1) select count(*) from t",
    ] {
        let words = case.words(sql, &[], None);
        assert!(
            !words.starts_with("scatter") && !words.starts_with("any"),
            "{sql}: {words}"
        );
    }
}
