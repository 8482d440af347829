//! `keyway partition convert` on real shards.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use crate::crowd::is_soak;
use crate::harness::{Router, cluster, create_database, direct_target, eventually};
use crate::place::{Place, Ran, connect};
use crate::raw::Client;

/// By month.
const EVENTS: &str =
    "[keyspaces.solo.partitions.events]\nrange = { column = \"at\", every = \"month\" }\n";

/// A sharded keyspace on three shards and an unsharded one, with these declarations.
fn place(name: &'static str, declared: &str) -> Place {
    place_with(name, declared, |database| {
        create_database(database);
        cluster().dsn(database)
    })
}

fn place_with(name: &'static str, declared: &str, dsn: impl Fn(&str) -> String) -> Place {
    let rest = format!(
        "[databases.app]\nkeyspaces = [\"main\", \"solo\"]\ndefault = \"solo\"\n\
         [keyspaces.main]\nshards = [\"s0\", \"s1\", \"s2\"]\n\
         [keyspaces.main.tables]\nposts = {{ key = \"user_id\" }}\n\
         [keyspaces.solo]\nshards = [\"solo\"]\n{declared}"
    );
    let shards = ["s0", "s1", "s2", "solo"];
    Place::new(name, &["partition", "convert"], &shards, dsn, &rest)
}

fn solo(site: &Place) -> Client {
    site.on("solo")
}

/// Waits until a session of the runner on the shard is such.
fn wait_running(site: &Place, such: &str) {
    let such = format!("application_name = 'keyway control' and {such}");
    site.wait_running("solo", &such);
}

/// Kills a runner; the next one need not wait for the end of its lease.
fn kill(site: &Place, mut runner: Child) {
    runner.kill().unwrap();
    runner.wait().unwrap();
    let release = "update keyway.leases set until = '-infinity' where name = 'convert'";
    site.on("s0").run(release);
}

/// Waits until the shard remembers such a conversion.
fn wait_state(site: &Place, such: &str) {
    let mut watcher = solo(site);
    eventually(such, || {
        let known = watcher.one("select to_regclass('keyway.conversions') is not null") == "t";
        let sql = format!("select count(*) from keyway.conversions where {such}");
        (known && watcher.one(&sql) != "0").then_some(())
    });
}

/// Everything that the catalogs say of a table, a line for each thing; what makes it partitioned is left out.
fn described(client: &mut Client, table: &str) -> Vec<String> {
    let questions = [
        "select 'owner ' || relowner::regrole || ' rls ' || relrowsecurity || relforcerowsecurity || ' acl ' ||
           coalesce((select string_agg(a::text, ' ' order by a::text) from aclexplode(coalesce(relacl, acldefault('r', relowner))) a), '')
         from pg_class where oid = 'TABLE'::regclass",
        "select 'column ' || concat_ws(' ', attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated, attstorage,
           attcompression, attcollation::regcollation, attstattarget, attoptions, pg_get_expr(adbin, adrelid), attacl)
         from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum
         where attrelid = 'TABLE'::regclass and attnum > 0 and not attisdropped order by attnum",
        "select 'constraint ' || conname || ' ' || pg_get_constraintdef(oid) || convalidated from pg_constraint
         where conrelid = 'TABLE'::regclass and contype <> 't' order by conname",
        "select 'index ' || replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON ') || indisvalid from pg_index
         where indrelid = 'TABLE'::regclass order by 1",
        "select 'trigger ' || pg_get_triggerdef(oid) || tgenabled::text from pg_trigger
         where tgrelid = 'TABLE'::regclass and not tgisinternal order by 1",
        "select 'policy ' || concat_ws(' ', policyname, permissive, roles, cmd, qual, with_check) from pg_policies
         where (quote_ident(schemaname) || '.' || quote_ident(tablename))::regclass = 'TABLE'::regclass order by 1",
        "select 'statistics ' || pg_get_statisticsobjdef(oid) || stxstattarget || stxowner::regrole from pg_statistic_ext
         where stxrelid = 'TABLE'::regclass order by 1",
        "select 'sequence ' || concat_ws(' ', objid::regclass, deptype, seqstart, seqincrement, seqmin, seqmax, seqcache, seqcycle,
           pg_sequence_last_value(objid),
           (select string_agg(a::text, ' ' order by a::text) from pg_class, aclexplode(coalesce(relacl, acldefault('s', relowner))) a where pg_class.oid = objid))
         from pg_depend join pg_sequence on seqrelid = objid
         where classid = 'pg_class'::regclass and refclassid = 'pg_class'::regclass and refobjid = 'TABLE'::regclass and deptype in ('a', 'i') order by 1",
        "select 'comment ' || pg_describe_object(classoid, objoid, objsubid) || ': ' || description from pg_description
         where (classoid = 'pg_class'::regclass and (objoid = 'TABLE'::regclass
             or objoid in (select indexrelid from pg_index where indrelid = 'TABLE'::regclass)
             or objoid in (select objid from pg_depend where classid = 'pg_class'::regclass and refclassid = 'pg_class'::regclass
                           and refobjid = 'TABLE'::regclass and deptype in ('a', 'i'))))
           or (classoid = 'pg_constraint'::regclass and objoid in (select oid from pg_constraint where conrelid = 'TABLE'::regclass))
           or (classoid = 'pg_trigger'::regclass and objoid in (select oid from pg_trigger where tgrelid = 'TABLE'::regclass))
           or (classoid = 'pg_policy'::regclass and objoid in (select oid from pg_policy where polrelid = 'TABLE'::regclass))
           or (classoid = 'pg_statistic_ext'::regclass and objoid in (select oid from pg_statistic_ext where stxrelid = 'TABLE'::regclass))
         order by 1",
    ];
    let mut lines = Vec::new();
    for question in questions {
        let rows = client.rows(&question.replace("TABLE", table));
        lines.extend(rows.into_iter().map(|row| row[0].clone()));
    }
    lines
}

/// A table with everything that a partitioned one can have, too.
const RICH: &str = r#"
create role convert_owner;
create role convert_reader;
create role convert_writer;
grant create, usage on schema public to convert_owner;
alter default privileges in schema public grant select on tables to convert_writer;
create domain amount as numeric(10, 2) check (value >= 0);
create type mood as enum ('good', 'bad');
create table places (id int primary key, name text);
insert into places select n, 'place ' || n from generate_series(1, 5) n;
create table log (what text);
create function noted() returns trigger language plpgsql as
  $$ begin insert into public.log values (tg_op || ' ' || tg_when || ' ' || tg_name); return coalesce(new, old); end $$;
create function noted_all() returns trigger language plpgsql as
  $$ begin insert into public.log select tg_name || ' ' || count(*) from news; return null; end $$;
create table "Rich ""events""" (
  id bigint generated always as identity (start 100 increment 5 minvalue 100 maxvalue 999999 cache 1),
  at timestamptz not null default now(),
  gone int,
  counted serial,
  "user id" int not null,
  note text collate "C" default 'it''s' check (note <> 'bad'),
  price amount,
  feeling mood default 'good',
  doubled int generated always as ("user id" * 2) stored,
  place int constraint at_a_place references places on delete set null on update cascade deferrable initially immediate,
  other int references places (id) match full,
  data jsonb,
  constraint "rich key" primary key (at, id),
  constraint unique_enough unique ("user id", at) include (note) with (fillfactor = 70),
  constraint "sum is small" check ("user id" + coalesce(place, 0) < 1000000)
);
alter table "Rich ""events""" drop column gone;
alter table "Rich ""events""" owner to convert_owner;
create index "by note" on "Rich ""events""" using btree (lower(note) desc nulls last, "user id") include (price) with (fillfactor = 60) where note is not null;
create index by_data on "Rich ""events""" using gin (data jsonb_path_ops);
create index on "Rich ""events""" using hash (note);
create index on "Rich ""events""" using brin (at);
create unique index unique_when on "Rich ""events""" (at, "user id", (note || ')')) where place is not null;
create statistics rich_stats (ndistinct, dependencies) on "user id", note from "Rich ""events""";
alter statistics rich_stats set statistics 500;
alter table "Rich ""events""" alter note set storage external, alter note set compression pglz, alter "user id" set statistics 321;
alter table "Rich ""events""" alter place set (n_distinct = -0.5);
alter table "Rich ""events""" set (fillfactor = 80, toast.autovacuum_enabled = off);
grant select, insert on "Rich ""events""" to convert_writer with grant option;
grant update (note, price) on "Rich ""events""" to convert_reader;
grant usage on sequence "Rich ""events""_id_seq" to convert_reader;
revoke truncate on "Rich ""events""" from convert_owner;
comment on table "Rich ""events""" is 'it''s \ rich';
comment on column "Rich ""events""".note is 'a note';
comment on constraint "sum is small" on "Rich ""events""" is 'a check';
comment on constraint "rich key" on "Rich ""events""" is 'a key';
comment on index "by note" is 'an index';
comment on index "rich key" is 'an index of a key';
comment on statistics rich_stats is 'statistics';
comment on sequence "Rich ""events""_id_seq" is 'a sequence';
create trigger before_write before insert or update of note on "Rich ""events""" for each row when (new.note is distinct from 'quiet') execute function noted();
create trigger after_row after delete on "Rich ""events""" for each row execute function noted();
create trigger after_all after insert on "Rich ""events""" referencing new table as news for each statement execute function noted_all();
create constraint trigger checked after insert on "Rich ""events""" deferrable initially deferred for each row execute function noted();
create trigger off after insert on "Rich ""events""" for each row execute function noted();
alter table "Rich ""events""" disable trigger off, enable always trigger after_row;
comment on trigger after_row on "Rich ""events""" is 'a trigger';
create policy own on "Rich ""events""" as permissive for select to convert_reader, convert_writer using ("user id" = 7 or exists (select from places p where p.id = "Rich ""events""".place));
create policy never on "Rich ""events""" as restrictive for insert with check (note <> 'no');
comment on policy own on "Rich ""events""" is 'a policy';
alter table "Rich ""events""" enable row level security;
insert into "Rich ""events""" (at, "user id", note, price, place, data)
  select '2025-11-03 10:00+00'::timestamptz + n * interval '3 hours', n, case when n % 3 = 0 then null else 'note ' || n end, n / 3.0, n % 5 + 1, jsonb_build_object('n', n)
  from generate_series(1, 1000) n;
"#;

const RICH_NAME: &str = "public.\"Rich \"\"events\"\"\"";

#[test]
fn everything_that_was_said_of_a_table_is_said_of_the_new_one() {
    let site = place(
        "convert_rich",
        "[keyspaces.solo.partitions.\"\\\"Rich \\\"\\\"events\\\"\\\"\\\"\"]\nrange = { column = \"at\", every = \"month\" }\n",
    );
    let mut client = solo(&site);
    for role in ["convert_owner", "convert_reader", "convert_writer"] {
        client.simple(&format!("drop role if exists {role}"));
    }
    client.run(RICH);
    let name = "\"Rich \"\"events\"\"\"";
    let before = described(&mut client, RICH_NAME);
    let all = format!("select r::text from {name} r order by id");
    let rows = client.rows(&all);
    let logged = client.one("select count(*) from log");

    let sql = site.good(&[name, "--dry-run"]);
    assert!(sql.contains("PARTITION BY RANGE (\"at\")"), "{sql}");
    assert_eq!(described(&mut client, RICH_NAME), before);
    let said = site.good(&[name]);
    assert!(
        said.contains("solo solo: Rich \"events\": 1000 rows in "),
        "{said}"
    );
    assert_eq!(described(&mut client, RICH_NAME), before);
    assert_eq!(client.rows(&all), rows);
    // No trigger ran for the copy.
    assert_eq!(client.one("select count(*) from log"), logged);
    let kind = format!("select relkind from pg_class where oid = '{RICH_NAME}'::regclass");
    assert_eq!(client.one(&kind), "p");
    let leaves = format!(
        "select count(*) || ' ' || count(distinct reloptions) || min(reloptions::text) || string_agg(distinct relowner::regrole::text, '')
         from pg_partition_tree('{RICH_NAME}') join pg_class on oid = relid where isleaf"
    );
    let leaves = client.one(&leaves);
    assert!(
        leaves.ends_with(" 1{fillfactor=80}convert_owner"),
        "{leaves}"
    );
    // What is left behind is the old table and nothing else.
    assert_eq!(
        client.one("select count(*) from pg_trigger t join pg_proc f on f.oid = tgfoid where f.pronamespace = 'keyway'::regnamespace"),
        "0"
    );
    assert_eq!(
        client.one("select count(*) from pg_class where relname like '%keyway_new%'"),
        "0"
    );
    assert_eq!(
        client.one("select count(*) from pg_proc where pronamespace = 'keyway'::regnamespace"),
        "0"
    );
    assert!(site.good(&[name]).contains("it is partitioned already"));

    // Dropping the old table takes nothing that the new one needs; it counts on where the old one stood.
    client.run("drop table \"Rich \"\"events\"\"_unpartitioned\"");
    assert_eq!(described(&mut client, RICH_NAME), before);
    client.run("delete from log");
    let added = client.rows(&format!(
        "insert into {name} (at, \"user id\", place) values ('2026-01-05', 5000, 2) returning id, counted, doubled, note"
    ));
    assert_eq!(added, [["5100", "1001", "10000", "it's"]]);
    assert_eq!(
        client.rows("select what from log order by 1"),
        [
            ["INSERT AFTER checked"],
            ["INSERT BEFORE before_write"],
            ["after_all 1"]
        ]
    );
    client.run("delete from places where id = 2");
    assert_eq!(
        client.one(&format!("select place is null from {name} where id = 5100")),
        "t"
    );
    assert_eq!(
        client.error(&format!(
            "insert into {name} (at, \"user id\", note) values ('2026-01-05', 1, 'bad')"
        )),
        "23514"
    );
    client.run(&format!("drop table {name}; drop owned by convert_owner, convert_reader, convert_writer; drop role convert_owner, convert_reader, convert_writer"));
}

/// A table of so many rows, a few minutes apart, from 2026 on.
fn events(client: &mut Client, rows: u32) {
    client.run(&format!(
        "create table events (id bigserial, at timestamptz not null, value bigint not null, note text not null, primary key (id, at));
         insert into events (id, at, value, note)
           select n, '2026-01-01 00:00+00'::timestamptz + n * interval '20 seconds', n, 'event ' || n from generate_series(1, {rows}) n;
         select setval('events_id_seq', {rows}); analyze events"
    ));
}

/// All rows in one number.
const SUM: &str =
    "select count(*) || ' ' || coalesce(sum(hashtextextended(e::text, 0)), 0) from events e";

#[test]
fn everything_that_stands_in_the_way_is_said_at_once() {
    let site = place("convert_refuses", EVENTS);
    let mut client = solo(&site);
    site.run(&["events"]).refused("there is no such table");
    site.run(&["other"])
        .refused("other is not declared to have partitions: say how in migrations/<keyspace>/partitions.toml first");
    client.run("create view events as select 1 as id, now() as at");
    site.run(&["events"]).refused("it is a view");
    client.run("drop view events; create table events (id int, at timestamptz)");
    site.run(&["events"]).refused("it has no primary key");
    client.run(
        "drop table events;
         create role convert_grants;
         create table others (id int primary key);
         create table events (
           id int primary key, at timestamptz, email text, mate int references events, other int, span int4range,
           constraint email_once unique (email) deferrable,
           constraint apart exclude using gist (span with &&),
           constraint small check (id < 1000) no inherit,
           note text
         );
         create table below () inherits (events);
         alter table events add constraint of_other foreign key (other) references others not valid;
         create unique index on events (lower(email));
         alter table events cluster on events_pkey;
         alter table events replica identity using index events_pkey;
         create table children (event int references events);
         create view seen as select id from events;
         create materialized view summed as select count(*) from events;
         create function took(events) returns int language sql as 'select 1';
         create function counted() returns bigint language sql begin atomic select count(*) from events; end;
         create table holds (one events);
         create rule quiet as on delete to events do instead nothing;
         create publication news for table events;
         create function f() returns trigger language plpgsql as 'begin return null; end';
         create trigger per_row after update on events referencing new table as news for each row execute function f();
         grant select on events to convert_grants with grant option;
         set role convert_grants; grant select on events to public; reset role;
         create table events_unpartitioned (a int)",
    );
    let before = described(&mut client, "events");
    let ran = site.run(&["events"]);
    for words in [
        "solo solo: events cannot be converted:",
        "public.below inherits from it: ALTER TABLE … NO INHERIT first",
        "constraint apart excludes rows",
        "constraint small is NO INHERIT",
        "constraint of_other is NOT VALID: VALIDATE CONSTRAINT first",
        "constraint email_once is DEFERRABLE",
        "constraint events_mate_fkey refers to the table itself",
        "foreign key children_event_fkey of public.children refers to it",
        "index events_pkey is the one to CLUSTER by",
        "its replica identity is an index",
        "trigger per_row is FOR EACH ROW and names transition tables",
        "publication news publishes it",
        "a privilege of PUBLIC was granted by convert_grants",
        "view public.seen depends on it",
        "materialized view public.summed depends on it",
        "function public.took(public.events) depends on it",
        "function public.counted() depends on it",
        "column one of table public.holds depends on it",
        "rule quiet rewrites statements on it: drop it first",
        "events_pkey (PRIMARY KEY (id)) lacks the partition column at",
        "--extend-unique appends it",
        "events_lower_idx (UNIQUE INDEX btree (lower(email))) lacks the partition column at",
        "column \"at\" may be NULL, and the primary key gets it",
        "the name \"events_unpartitioned\" is taken",
    ] {
        ran.refused(words);
    }
    // Each thing is said once.
    assert_eq!(ran.err.matches("public.seen").count(), 1, "{}", ran.err);
    assert_eq!(described(&mut client, "events"), before);
    client.run("drop owned by convert_grants cascade; drop role convert_grants");

    client.run(
        "drop table events, children, holds cascade; drop table events_unpartitioned;
         create unlogged table events (id int, at timestamp, gone text, primary key (id, at));
         create table far (a events)",
    );
    site.run(&["events"]).refused("it is UNLOGGED or TEMPORARY");
    client.run(
        "drop table far; alter table events set logged; insert into events values (1, 'infinity'), (2, '0044-03-15 BC')",
    );
    let ran = site.run(&["events"]);
    ran.refused("rows have \"at\" at infinity, which no range has: declare default = true");
    ran.refused("which is more than 10000 partitions: widen `every`");
    client.run("drop table events; create table events (id int, at text, primary key (id, at))");
    site.run(&["events"]).refused("column \"at\" has type text");
    assert_eq!(
        client.one("select to_regclass('events_keyway_new') is null"),
        "t"
    );
    assert_eq!(
        client.one("select to_regclass('keyway.conversions') is null"),
        "t"
    );
}

/// What clients do while the rows are copied and behind them, in every way to write.
#[test]
fn what_is_written_meanwhile_is_there_afterwards() {
    let site = place("convert_meanwhile", EVENTS);
    let mut client = solo(&site);
    events(&mut client, 3000);
    // Writes that are seen, and one whose trigger comes before that of the statement around it.
    client.run(
        "create function touch(i bigint) returns bigint language plpgsql as
           $$ begin update events set value = 777 where id = i - 1; return i * 1000; end $$",
    );
    client.run(
        "create table places (id int primary key); insert into places select generate_series(1, 10);
         alter table events add place int references places on delete cascade on update cascade;
         update events set place = id % 10 + 1",
    );
    // The triggers are there, and nothing is copied.
    halt(&site);
    client.run("begin isolation level repeatable read; delete from places where id = 6; update places set id = 60 where id = 7; commit");
    client.run("begin isolation level serializable; delete from events where id = 1000; update events set id = 1000 where id = 1001; commit");
    client.run("update events set value = 3 where id = 1002; delete from events where id = 1003; update events set at = at + interval '1 month' where id = 1004");
    client.run("update events set value = touch(id) where id in (1011, 1012)");
    let mut old = solo(&site);
    old.run("begin isolation level repeatable read; select 1 from pg_class limit 1");
    let mut held = solo(&site);
    let runner = site.spawn(&["events"]);
    // All is copied and compared; the swap waits for the old snapshot.
    wait_running(&site, "query ilike '%backend_xmin%'");
    client.run("insert into events (at, value, note) values ('2026-01-02', 1, 'new'), ('2026-02-02', 2, 'new')");
    client.run("update events set value = value + 1 where id between 10 and 20");
    client.run("update events set at = at + interval '2 months' where id between 30 and 40");
    client.run("update events set id = id + 100000 where id between 50 and 60");
    client.run("delete from events where id between 70 and 80");
    client.run(
        "delete from events where id = 81; insert into events (id, at, value, note) select 81, '2026-01-01', 0, 'again'",
    );
    client.run("with gone as (delete from events where id = 90 returning *) insert into events select id + 200000, at, value, note, place from gone");
    client.run("update events set value = touch(id) where id in (101, 102)");
    client.run("insert into events values (110, '2026-01-01 00:36:40+00', 5, 'conflict') on conflict (id, at) do update set value = excluded.value");
    client.run("merge into events e using (values (120::bigint), (900001)) v(id) on e.id = v.id
                when matched then delete when not matched then insert values (v.id, '2026-03-03', 1, 'merged')");
    client.run("begin; savepoint a; delete from events where id < 500; rollback to a; update events set value = -1 where id = 130; commit");
    client.run("begin; delete from events; rollback");
    client.run("delete from places where id = 3; update places set id = 50 where id = 4");
    client.run("begin isolation level repeatable read; delete from places where id = 5; commit");
    assert_eq!(
        client.error("insert into events values (0, '2026-01-01', 0, '', 999)"),
        "23503"
    );
    client.run("set session_replication_role = replica; update events set value = -2 where id = 140; reset session_replication_role");
    client.run("begin isolation level serializable; delete from events where id = 150; commit");
    // Its own snapshot does not see the copy of the row, and a row that stayed there would be wrong.
    assert_eq!(old.error("delete from events where id = 160"), "40001");
    old.run("rollback");
    // The swap waits for whoever reads the table.
    held.run("begin; select count(*) from events where id = 1");
    client.run("insert into events (at, value, note) values ('2026-01-03', 9, 'last')");
    let sum = client.one(SUM);
    held.run("commit");
    let ran = Ran::of(&runner.wait_with_output().unwrap());
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert_eq!(client.one(SUM), sum);
    assert_eq!(
        client.one("select relkind from pg_class where relname = 'events'"),
        "p"
    );
    assert_eq!(client.one("select value from events where id = 101"), "777");
    let kept = "select count(*) || ' ' || coalesce(sum(hashtextextended(e::text, 0)), 0) from events_unpartitioned e";
    assert_eq!(client.one(kept), client.one(SUM));
}

#[test]
fn a_truncate_meanwhile_empties_both() {
    let site = place("convert_truncates", EVENTS);
    let mut client = solo(&site);
    events(&mut client, 1000);
    let mut old = solo(&site);
    old.run("begin isolation level repeatable read; select 1 from pg_class limit 1");
    let runner = site.spawn(&["events"]);
    wait_running(&site, "query ilike '%backend_xmin%'");
    client.run("truncate events restart identity; insert into events (at, value, note) values ('2026-05-05', 1, 'after')");
    old.run("rollback");
    let ran = Ran::of(&runner.wait_with_output().unwrap());
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert_eq!(client.rows("select id, note from events"), [["1", "after"]]);
}

/// A runner that is killed when it rehearses the swap: the triggers are there, and no row is copied.
fn halt(site: &Place) {
    let mut reader = solo(site);
    reader.run("begin; select 1 from events limit 1");
    let runner = site.spawn(&["events"]);
    site.wait_stuck("solo", "ACCESS EXCLUSIVE MODE");
    kill(site, runner);
    reader.run("rollback");
    site.wait_gone();
}

/// A row that a client has locked does not hold up the others, nor close a circle with what the client waits for.
#[test]
fn a_locked_row_is_brought_when_it_is_let_go() {
    let site = place("convert_locked", EVENTS);
    let mut client = solo(&site);
    events(&mut client, 1000);
    let mut holder = solo(&site);
    // The rehearsal needs the table for itself; the next run has it behind it.
    halt(&site);
    holder.run("begin; select 1 from events where id in (1, 500, 1000) for update");
    let runner = site.spawn(&["events"]);
    site.wait_stuck("solo", "FOR SHARE ON CONFLICT");
    // The others are copied, and nobody waits for the runner.
    assert_eq!(
        client.one("select count(*) >= 100 from events_keyway_new"),
        "t"
    );
    holder.run("update events set value = -5 where id = 1; delete from events where id = 500; select 1 from events order by id for update");
    holder.run("commit");
    let ran = Ran::of(&runner.wait_with_output().unwrap());
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert_eq!(
        client.one("select count(*) || ' ' || min(value) from events"),
        "999 -5"
    );
}

/// Kills the runner at each of its steps, and lets the next one go on.
#[test]
fn a_killed_runner_is_taken_up_where_it_stood() {
    let site = place(
        "convert_killed",
        &format!(
            "{EVENTS}[keyspaces.solo.partitions.warm]\nhash = {{ column = \"id\", modulus = 2 }}\n"
        ),
    );
    let mut client = solo(&site);
    client.run("create table warm (id int primary key)");
    site.good(&["warm"]);
    events(&mut client, 200_000);
    let before = described(&mut client, "events");
    let mut sum = client.one(SUM);
    let mut lock = solo(&site);
    let phase = "select coalesce(max(phase), 'none') from keyway.conversions where name = 'events'";
    let kill = |runner: Child, lock: &mut Client| {
        kill(&site, runner);
        lock.run("rollback");
        site.wait_gone();
    };
    // Whoever writes between two runs is served, too.
    let mut write = |client: &mut Client, number: u32| {
        client.run(&format!(
            "insert into events (at, value, note) values ('2026-04-04', {number}, 'between');
             update events set value = -{number} where id = {number}; delete from events where id = {number} + 1000"
        ));
        sum = client.one(SUM);
    };
    let steps: [(&str, &str, &str); 8] = [
        (
            "begin; create table events_keyway_new (a int)",
            "CREATE TABLE",
            "none",
        ),
        (
            "begin; insert into events values (0, '2026-01-01', 0, '')",
            "CREATE FUNCTION",
            "made",
        ),
        (
            "begin; select 1 from events limit 1",
            "ACCESS EXCLUSIVE MODE",
            "copying",
        ),
        ("", "UPDATE keyway.conversions", "copying"),
        (
            "begin; select 1 from events where id = 199990 for update",
            "FOR SHARE ON CONFLICT",
            "copying",
        ),
        (
            "begin; lock table events_keyway_new in share update exclusive mode",
            "ANALYZE",
            "copied",
        ),
        (
            "begin; select 1 from events limit 1",
            "ACCESS EXCLUSIVE MODE",
            "copied",
        ),
        (
            "begin; select nextval('events_id_seq')",
            "OWNED BY",
            "swapped",
        ),
    ];
    for (number, (held, stuck, expected)) in steps.into_iter().enumerate() {
        if !held.is_empty() {
            lock.run(held);
        }
        let runner = site.spawn(&["events"]);
        if held.is_empty() {
            wait_state(&site, "name = 'events' and copied_to is not null");
            lock.run("begin; lock table keyway.conversions in share mode");
        }
        site.wait_stuck("solo", stuck);
        assert_eq!(client.one(phase), expected, "{stuck}");
        kill(runner, &mut lock);
        write(&mut client, u32::try_from(number).unwrap() * 10 + 5);
        // The snapshot of somebody is older than the copy's end.
        if expected == "copied" && stuck == "ANALYZE" {
            lock.run("begin isolation level repeatable read; select 1 from pg_class limit 1");
            let runner = site.spawn(&["events"]);
            wait_running(&site, "query ilike '%backend_xmin%'");
            kill(runner, &mut lock);
        }
    }
    assert_eq!(
        client.one("select relkind from pg_class where relname = 'events'"),
        "p"
    );
    assert!(site.good(&["events"]).contains("it is partitioned already"));
    assert_eq!(client.one(phase), "done");
    assert_eq!(client.one(SUM), sum);
    client.run("drop table events_unpartitioned");
    let after: Vec<String> = described(&mut client, "events");
    let still = |line: &&String| !line.starts_with("sequence");
    assert_eq!(
        after.iter().filter(still).collect::<Vec<_>>(),
        before.iter().filter(still).collect::<Vec<_>>()
    );
    client.run("insert into events (at, value, note) values ('2026-04-04', 1, 'last')");
    let strange = "select relname from pg_class where relname ~ 'keyway_|unpartitioned' and relname !~ '^warm' order by 1";
    assert_eq!(client.rows(strange), [[""; 1]; 0]);
}

#[test]
fn an_abort_leaves_nothing_behind() {
    let site = place("convert_aborts", EVENTS);
    let mut client = solo(&site);
    events(&mut client, 1000);
    assert!(
        site.good(&["events", "--abort"])
            .contains("no conversion was begun")
    );
    let everything = "select string_agg(c.oid || c.relname::text || c.relkind::text, ',' order by c.oid) || (select count(*) from pg_trigger)
                      || (select count(*) from pg_proc) || (select count(*) from pg_constraint) || (select count(*) from pg_depend)
                      from pg_class c where relname not in ('conversions', 'conversions_pkey') and relkind <> 't' and relname !~ 'pg_toast'";
    // What Keyway keeps for itself is there from the first run on.
    client.run("create table pair (a int)");
    let mut reader = solo(&site);
    halt(&site);
    site.good(&["events", "--abort"]);
    let before = (
        client.one(everything),
        client.one(SUM),
        described(&mut client, "events"),
    );
    halt(&site);
    assert_ne!(client.one(everything), before.0);
    // The declaration must not change on the way, nor the table.
    let config = site.directory.path().join("keyway.toml");
    fs::write(&config, site.config.replace("\"month\"", "\"year\"")).unwrap();
    site.run(&["events"]).refused("it was begun with range");
    fs::write(&config, &site.config).unwrap();
    assert_eq!(client.error("alter table events drop column note"), "2BP01");
    client.run("alter table events add column more int; insert into events values (0, '2026-01-01', 1, 'x', 5)");
    site.run(&["events"])
        .refused("events was changed while it was converted: is: column more integer");
    assert!(site.good(&["events", "--abort"]).contains("is taken away"));
    client.run("alter table events drop column more; delete from events where id = 0");
    assert_eq!(
        (
            client.one(everything),
            client.one(SUM),
            described(&mut client, "events")
        ),
        before
    );
    // A trigger that was off for a while has missed something.
    halt(&site);
    client.run("alter table events disable trigger keyway_convert_row; alter table events enable always trigger keyway_convert_row");
    site.run(&["events"])
        .refused("somebody changed Keyway's triggers on it");
    // A copy that is not equal is not swapped.
    site.good(&["events", "--abort"]);
    reader.run("begin isolation level repeatable read; select 1 from pg_class limit 1");
    let runner = site.spawn(&["events"]);
    wait_running(&site, "query ilike '%backend_xmin%'");
    kill(&site, runner);
    reader.run("rollback");
    site.wait_gone();
    client.run("update events_keyway_new set value = 0 where id = 77");
    site.run(&["events"])
        .refused("events and its copy differ up to key (1000, 2026-01-01 05:33:20+00): 1000 rows each, of other contents; nothing is swapped");
    client.run("delete from events_keyway_new where id = 77");
    site.run(&["events"])
        .refused("1000 rows and 999; nothing is swapped");
    client.run("insert into events_keyway_new select * from events where id = 77; insert into events_keyway_new values (5000, '2026-01-01', 1, 'ghost')");
    site.run(&["events"])
        .refused("0 rows and 1; nothing is swapped");
    client.run("delete from events_keyway_new where id = 5000");
    site.good(&["events"]);
    site.run(&["events", "--abort"])
        .refused("it is converted already and cannot be taken back by --abort: the old rows, as they were then, are in events_unpartitioned");
}

/// One client's rows: what it has committed, by id; `None` for one that it has deleted. It alone writes them.
type Journal = BTreeMap<u64, Option<(u64, i64)>>;

/// What a client did.
#[derive(Debug, Default)]
struct Worked {
    journal: Journal,
    transactions: u64,
    again: u64,
    slowest: Duration,
}

const CLIENTS: u64 = 8;

/// Rows of the table: a million in a soak.
fn all_rows() -> u64 {
    if is_soak() { 1_000_000 } else { 200_000 }
}

/// The time of a row is so many times 20 seconds behind the beginning of 2026.
fn at(number: u64) -> String {
    format!("timestamptz '2026-01-01 00:00+00' + {number} * interval '20 seconds'")
}

/// Inserts, updates, deletes and moves rows, one to three in a transaction, until it is told to stop.
fn work(mut client: Client, number: u64, stop: &AtomicBool) -> Worked {
    let mut worked = Worked::default();
    let mut seed = number * 7_919 + 1;
    let mut random = move |below: u64| {
        // Knuth's MMIX generator.
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut fresh = 2 * all_rows() + number;
    while !stop.load(Ordering::Relaxed) {
        let mut sql = match random(4) {
            0 => "begin isolation level repeatable read".to_owned(),
            _ => "begin".to_owned(),
        };
        let mut planned = Journal::new();
        for _ in 0..=random(3) {
            let mut id = (1 + random(all_rows() / CLIENTS - 1)) * CLIENTS + number;
            if random(4) == 0 && fresh > 2 * all_rows() + CLIENTS {
                id = fresh - CLIENTS;
            }
            let now = planned
                .get(&id)
                .or_else(|| worked.journal.get(&id))
                .copied();
            let now = now.unwrap_or((id < all_rows()).then(|| (id, i64::try_from(id).unwrap())));
            let key = |when: u64| format!("id = {id} and at = {}", at(when));
            match (now, random(6)) {
                (Some((when, value)), 0 | 1) => {
                    sql += &format!("; update events set value = value + 1 where {}", key(when));
                    planned.insert(id, Some((when, value + 1)));
                }
                (Some((when, value)), 2) => {
                    let moved = random(all_rows());
                    sql += &format!("; update events set at = {} where {}", at(moved), key(when));
                    planned.insert(id, Some((moved, value)));
                }
                (Some((when, value)), 3) => {
                    sql += &format!("; update events set id = {fresh} where {}", key(when));
                    planned.insert(id, None);
                    planned.insert(fresh, Some((when, value)));
                    fresh += CLIENTS;
                }
                (Some((when, _)), 4) => {
                    sql += &format!("; delete from events where {}", key(when));
                    planned.insert(id, None);
                }
                (None, _) => {
                    let when = random(all_rows());
                    sql += &format!(
                        "; insert into events (id, at, value, note) values ({id}, {}, -1, 'again')",
                        at(when)
                    );
                    planned.insert(id, Some((when, -1)));
                }
                (Some(_), _) => {
                    let when = random(all_rows());
                    sql += &format!(
                        "; insert into events (id, at, value, note) values ({fresh}, {}, 0, 'new')",
                        at(when)
                    );
                    planned.insert(fresh, Some((when, 0)));
                    fresh += CLIENTS;
                }
            }
        }
        let is_kept = random(8) != 0;
        sql += if is_kept { "; commit" } else { "; rollback" };
        let started = Instant::now();
        let mut failed = None;
        for statement in sql.split("; ") {
            let answer = client.simple(statement);
            failed = answer
                .iter()
                .find(|m| m.tag == b'E')
                .map(crate::raw::Message::sqlstate);
            if failed.is_some() {
                client.run("rollback");
                break;
            }
        }
        worked.slowest = worked.slowest.max(started.elapsed());
        worked.transactions += 1;
        match failed.as_deref() {
            None if is_kept => worked.journal.extend(planned),
            None => {}
            Some("40001") => worked.again += 1,
            Some(other) => panic!("{other}: {sql}"),
        }
    }
    worked
}

/// Nothing is lost and nothing is there twice when clients write all the time: four of them by way of Keyway.
#[test]
fn soak_a_million_rows_are_converted_while_eight_clients_write() {
    let site = place("convert_million", EVENTS);
    let mut client = solo(&site);
    events(&mut client, u32::try_from(all_rows()).unwrap() - 1);
    let router = Router::start(&site.config);
    let stop = AtomicBool::new(false);
    let (worked, ran) = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let client = if number % 2 == 0 {
                    solo(&site)
                } else {
                    connect(&router)
                };
                let stop = &stop;
                scope.spawn(move || work(client, number, stop))
            })
            .collect();
        let ran = site.run(&["events"]);
        stop.store(true, Ordering::Relaxed);
        let worked: Vec<Worked> = clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .collect();
        (worked, ran)
    });
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let transactions: u64 = worked.iter().map(|one| one.transactions).sum();
    let again: u64 = worked.iter().map(|one| one.again).sum();
    let slowest = worked.iter().map(|one| one.slowest).max().unwrap();
    eprintln!(
        "{}\n{transactions} transactions meanwhile, {again} to be done again (40001), the slowest {} ms",
        ran.out,
        slowest.as_millis()
    );
    client.run("create temp table journal (id bigint primary key, place bigint, value bigint)");
    for one in &worked {
        let rows: Vec<String> = one
            .journal
            .iter()
            .map(|(id, row)| match row {
                Some((when, value)) => format!("({id}, {when}, {value})"),
                None => format!("({id}, null, null)"),
            })
            .collect();
        for rows in rows.chunks(10_000) {
            client.run(&format!("insert into journal values {}", rows.join(", ")));
        }
    }
    client.run(&format!(
        "create temp table expected as
           select id, {} as at, value from journal where value is not null
           union all select n, {}, n from generate_series(1, {} - 1) n where not exists (select from journal where id = n)",
        at(0).replace(" 0 *", " place *"),
        at(0).replace(" 0 *", " n *"),
        all_rows(),
    ));
    let differ = "select count(*) from ((select id, at, value from events except all select * from expected)
                  union all (select * from expected except all select id, at, value from events)) d";
    assert_eq!(client.one(differ), "0");
    assert_eq!(
        client.one("select relkind from pg_class where relname = 'events'"),
        "p"
    );
}

/// A sharded table, used by way of the router before, meanwhile and afterwards.
#[test]
fn a_sharded_table_is_used_all_the_time() {
    let site = place(
        "convert_sharded",
        "[keyspaces.main.partitions.posts]\nrange = { column = \"at\", every = \"quarter\" }\nhash = { column = \"user_id\", modulus = 3 }\n",
    );
    let router = Router::start(&site.config);
    let mut client = connect(&router);
    client.run("create table posts (user_id bigint not null, id bigint generated always as identity, at date not null, title text, primary key (user_id, id, at))");
    client.run("create index on posts (at)");
    for user in 1..=60 {
        client.run(&format!(
            "insert into posts (user_id, at, title) select {user}, date '2025-12-20' + n, 'post ' || n from generate_series(1, 20) n"
        ));
    }
    let all = "select user_id, at, title from posts order by user_id, at";
    let insert = |client: &mut Client, user: u32| {
        client.rows(&format!("insert into posts (user_id, at, title) values ({user}, '2026-02-03', 'later') returning id"))
    };
    let mut rows = client.rows(all);
    assert_eq!(rows.len(), 1200);
    let mut prepared = connect(&router);
    let by_user = "select count(*) from posts where user_id = $1";
    prepared.extended(by_user, &["7"]);

    // Meanwhile: the swap on the first shard waits for a snapshot, the others have not begun.
    let mut old = site.on("s0");
    old.run("begin isolation level repeatable read; select 1 from pg_class limit 1");
    let runner = site.spawn(&["posts"]);
    let mut watcher = Client::connect(&direct_target("postgres"));
    let waits = "select count(*) from pg_stat_activity where datname = 'convert_sharded_s0' and query ilike '%backend_xmin%' and application_name = 'keyway control'";
    eventually("the runner waits", || {
        (watcher.one(waits) != "0").then_some(())
    });
    for user in 1..=20 {
        insert(&mut client, user);
    }
    client.run("update posts set title = 'changed' where user_id = 3 and at = '2025-12-25'");
    rows = {
        let now = client.rows(all);
        assert_eq!(now.len(), rows.len() + 20);
        now
    };
    old.run("commit");
    let ran = Ran::of(&runner.wait_with_output().unwrap());
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert_eq!(
        ran.out
            .matches("the old table is posts_unpartitioned")
            .count(),
        3,
        "{}",
        ran.out
    );

    let kinds = "select relkind::text || ' ' || (select count(*) from pg_partition_tree('posts') where isleaf and level = 2) % 3 from pg_class where relname = 'posts'";
    for shard in ["s0", "s1", "s2"] {
        assert_eq!(site.on(shard).one(kinds), "p 0");
    }
    assert_eq!(client.rows(all), rows);
    let answer = prepared.extended(by_user, &["7"]);
    assert_eq!(crate::raw::rows_of(&answer), [["21"]]);
    // The shards count on in their own ranges.
    let mut ids = Vec::new();
    for user in 1..=60 {
        ids.push(insert(&mut client, user)[0][0].clone());
    }
    assert_eq!(client.one("select count(*) from posts"), "1280");
    let known = client.rows("select user_id, id from posts");
    for id in &ids {
        assert_eq!(known.iter().filter(|row| row[1] == *id).count(), 1, "{id}");
    }
    // `apply` keeps them from here on.
    let applied = Command::new(env!("CARGO_BIN_EXE_keyway"))
        .current_dir(site.directory.path())
        .args(["partition", "apply"])
        .output()
        .unwrap();
    let applied = Ran::of(&applied);
    assert_eq!(applied.status, Some(0), "{applied:?}");
    assert!(applied.out.contains("nothing to do"), "{applied:?}");
}

/// Keys that lack the partition column get it when it is asked for, and PostgreSQL keeps no more unique than it can.
#[test]
fn keys_are_extended_when_it_is_asked_for() {
    let site = place("convert_extends", EVENTS);
    let mut client = solo(&site);
    client.run(
        "create table events (id text primary key, at timestamptz not null, email text, unique (email) include (at));
         create unique index \"odd (name\" on events (lower(email) collate \"C\" desc, (id || ')')) where email <> '(';
         insert into events select 'e' || n, timestamptz '2026-01-01' + n * interval '1 day', 'mail' || n from generate_series(1, 300) n",
    );
    let rows = client.rows("select * from events order by id");
    site.run(&["events"])
        .refused("lacks the partition column at");
    let mut old = solo(&site);
    old.run("begin isolation level repeatable read; select 1 from pg_class limit 1");
    let runner = site.spawn(&["events", "--extend-unique"]);
    wait_running(&site, "query ilike '%backend_xmin%'");
    client.run("update events set at = at + interval '3 months' where id = 'e1'; update events set at = at - interval '3 months' where id = 'e1'");
    client.run(
        "update events set id = 'x' where id = 'e2'; update events set id = 'e2' where id = 'x'",
    );
    old.run("rollback");
    let ran = Ran::of(&runner.wait_with_output().unwrap());
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert_eq!(client.rows("select * from events order by id"), rows);
    let keys = "select pg_get_indexdef(indexrelid) from pg_index where indrelid = 'events'::regclass order by 1";
    assert_eq!(
        client.rows(keys),
        [
            [
                "CREATE UNIQUE INDEX \"odd (name\" ON ONLY public.events USING btree (lower(email) COLLATE \"C\" DESC, ((id || ')'::text)), at) WHERE (email <> '('::text)"
            ],
            [
                "CREATE UNIQUE INDEX events_email_at_key ON ONLY public.events USING btree (email, at) INCLUDE (at)"
            ],
            ["CREATE UNIQUE INDEX events_pkey ON ONLY public.events USING btree (id, at)"],
        ]
    );
    // A default partition takes what no range has.
    let site = place(
        "convert_default",
        "[keyspaces.solo.partitions.events]\nrange = { column = \"id\", every = \"1000\" }\nahead = 1\ndefault = true\n",
    );
    let mut client = solo(&site);
    client.run("create table events (id int primary key, a text); insert into events select n, n from generate_series(-1500, 2500) n");
    let mut old = solo(&site);
    old.run("begin isolation level repeatable read; select 1 from pg_class limit 1");
    let runner = site.spawn(&["events"]);
    wait_running(&site, "query ilike '%backend_xmin%'");
    client.run("insert into events values (2147483647, 'last'), (-2147483648, 'first')");
    old.run("rollback");
    let ran = Ran::of(&runner.wait_with_output().unwrap());
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert_eq!(
        client.rows(
            "select tableoid::regclass::text, count(*) from events group by 1 order by min(id)"
        ),
        [
            ["events_default", "2"],
            ["events_pm2000", "500"],
            ["events_pm1000", "1000"],
            ["events_p0", "1000"],
            ["events_p1000", "1000"],
            ["events_p2000", "501"]
        ]
    );
    // By hash alone, with names that leave no room.
    let long = "a_table_whose_name_has_sixty_three_bytes_and_not_a_single_one_m";
    let site = place(
        "convert_long",
        &format!("[keyspaces.solo.partitions.{long}]\nhash = {{ column = \"id\", modulus = 2 }}\n"),
    );
    let mut client = solo(&site);
    client.run(&format!(
        "create table {long} (id int generated by default as identity primary key, a int);
         create index {}_i on {long} (a); insert into {long} (a) select generate_series(1, 100)",
        &long[..61]
    ));
    let before = described(&mut client, long);
    let said = site.good(&[long]);
    assert_eq!(described(&mut client, long), before);
    let kept = said
        .split("the old table is ")
        .nth(1)
        .unwrap()
        .split(';')
        .next()
        .unwrap();
    assert!(kept.ends_with("_unpartitioned"), "{said}");
    client.run(&format!(
        "drop table {kept}; insert into {long} (a) values (1)"
    ));
    assert_eq!(client.one(&format!("select max(id) from {long}")), "101");
}

/// Keyway's login need not be a superuser, and the key's operators need not be PostgreSQL's own.
#[test]
fn an_ordinary_role_converts_a_table_with_a_key_of_an_extension() {
    let mut server = Client::connect(&direct_target("postgres"));
    server.simple("create role convert_plain login");
    server.simple("create role convert_group");
    server.run("grant convert_group to convert_plain");
    let site = place_with("convert_plain", EVENTS, |database| {
        create_database(database);
        let own = format!("alter database {database} owner to convert_plain");
        cluster().execute("postgres", &own).unwrap();
        let dsn = cluster().dsn(database);
        assert!(dsn.contains("//postgres@"), "{dsn}");
        dsn.replace("//postgres@", "//convert_plain@")
    });
    let mut client = solo(&site);
    // As citext has it: everything in public.
    client.run(
        "grant create on schema public to convert_group;
         create type word;
         create function word_in(cstring) returns word language internal immutable strict as 'textin';
         create function word_out(word) returns cstring language internal immutable strict as 'textout';
         create type word (input = word_in, output = word_out, like = text, collatable = true);
         create function word_eq(word, word) returns boolean language internal immutable strict as 'texteq';
         create function word_lt(word, word) returns boolean language internal immutable strict as 'text_lt';
         create function word_le(word, word) returns boolean language internal immutable strict as 'text_le';
         create function word_gt(word, word) returns boolean language internal immutable strict as 'text_gt';
         create function word_ge(word, word) returns boolean language internal immutable strict as 'text_ge';
         create function word_cmp(word, word) returns int language internal immutable strict as 'bttextcmp';
         create operator = (leftarg = word, rightarg = word, function = word_eq, commutator = =);
         create operator < (leftarg = word, rightarg = word, function = word_lt, commutator = >, negator = >=);
         create operator <= (leftarg = word, rightarg = word, function = word_le, commutator = >=, negator = >);
         create operator > (leftarg = word, rightarg = word, function = word_gt, commutator = <, negator = <=);
         create operator >= (leftarg = word, rightarg = word, function = word_ge, commutator = <=, negator = <);
         create operator class word_ops default for type word using btree as
           operator 1 <, operator 2 <=, operator 3 =, operator 4 >=, operator 5 >, function 1 word_cmp(word, word);
         create table events (name word, number numeric(6, 2), at timestamp, value int, primary key (name, number, at));
         alter table events enable row level security;
         create policy none on events using (false);
         insert into events select ('n' || n % 100)::word, n / 7.0, timestamp '2026-01-01' + n * interval '1 hour', n from generate_series(1, 2000) n",
    );
    site.run(&["events"])
        .refused("role convert_plain must own it, or inherit from its owner postgres");
    client.run(
        "alter table events owner to convert_group; alter table events force row level security",
    );
    site.run(&["events"])
        .refused("FORCE ROW LEVEL SECURITY hides rows from role convert_plain");
    client.run("alter table events no force row level security");
    let before = described(&mut client, "events");
    let mut old = solo(&site);
    old.run("begin isolation level repeatable read; select 1 from pg_class limit 1");
    let runner = site.spawn(&["events"]);
    wait_running(&site, "query ilike '%backend_xmin%'");
    client.run(
        "update events set value = -1 where name = 'n7'; update events set name = 'moved' where name = 'n8'; delete from events where name = 'n9';
         insert into events values ('n7', 1, '2026-01-01', 5)",
    );
    let sum = client.one(SUM);
    old.run("rollback");
    let ran = Ran::of(&runner.wait_with_output().unwrap());
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert_eq!(client.one(SUM), sum);
    assert_eq!(described(&mut client, "events"), before);
}

/// A foreign key to a partitioned table has a shadow for each of its partitions.
#[test]
fn a_foreign_key_to_a_partitioned_table_is_carried_over() {
    let site = place("convert_refers", EVENTS);
    let mut client = solo(&site);
    client.run(
        "create table people (id bigint primary key) partition by hash (id);
         create table people_0 partition of people for values with (modulus 2, remainder 0);
         create table people_1 partition of people for values with (modulus 2, remainder 1);
         insert into people select generate_series(1, 20);
         create table events (id bigint, at timestamptz, person bigint not null references people on delete cascade, primary key (id, at));
         insert into events select n, timestamptz '2026-01-01' + n * interval '1 day', 1 + n % 20 from generate_series(1, 200) n",
    );
    let keys = "select string_agg(conname || pg_get_constraintdef(oid), ', ' order by conname) from pg_constraint \
                where conrelid = 'events'::regclass and contype = 'f' and conparentid = 0";
    let before = client.one(keys);
    site.good(&["events"]);
    assert_eq!(client.one(keys), before);
    assert_eq!(
        client.error("insert into events values (999, '2026-02-01', 99)"),
        "23503"
    );
    client.run("delete from people where id = 3");
    assert_eq!(client.one("select count(*) from events"), "190");
    client.run("drop table events_unpartitioned");
    assert_eq!(
        client.error("insert into events values (999, '2026-02-01', 99)"),
        "23503"
    );
}
