-- Functions: built in, immutable, stable, volatile, the user's own, set-returning, sequences.

-- name: fn_now
-- expect: equal
select now() is not null, current_date is not null, current_user = session_user;
-- name: fn_version
-- expect: equal
select version() like 'PostgreSQL%', current_database() is not null, current_schema();
-- name: fn_string
-- expect: equal
select upper('a'), length('ü'), lpad('x', 3, 'y'), split_part('a,b', ',', 2), format('%s-%I', 1, 'A b');
-- name: fn_math
-- expect: equal
select abs(-1), round(2.5), round(2.567, 2), 7 % 3, 7 / 2, 2 ^ 10, |/ 16, greatest(1, 2), least(1, null);
-- name: fn_date
-- expect: equal
select extract(year from date '2024-05-06'), date_trunc('month', timestamp '2024-05-06 07:08'), age(timestamp '2024-01-01', timestamp '2023-01-01'), make_date(2024, 1, 2), to_char(date '2024-01-02', 'DD Mon YYYY');
-- name: fn_interval_literals
-- expect: equal
select date '2024-01-31' + interval '1 month', timestamp '2024-01-01' - interval '1' day, interval '2' hour;
-- name: fn_set_returning
-- expect: equal
select * from generate_series(1, 5);
-- name: fn_set_returning_target
-- expect: equal
select generate_series(1, 3), 'x';
-- name: fn_unnest_ordinality
-- expect: equal
select * from unnest(array['a', 'b'], array[1, 2, 3]) with ordinality t (a, b, n);
-- name: fn_rows_from
-- expect: equal
select * from rows from (generate_series(1, 2), generate_series(1, 3)) as t (a, b);
-- name: fn_json_each
-- expect: equal
select * from jsonb_each_text('{"a": 1, "b": null}');
-- name: fn_json_recordset
-- expect: equal
select * from json_to_recordset('[{"a": 1, "b": "x"}]') as x (a int, b text);
-- name: fn_regexp
-- expect: equal
select regexp_replace('abc', 'b', 'x'), 'abc' ~ '^a', 'abc' similar to 'a%', regexp_match('ab12', '\d+');
-- name: fn_like
-- expect: equal
select 'abc' like 'a_c', 'ABC' ilike 'abc', 'a%c' like 'a\%c', 'x' between 'a' and 'z';
-- name: fn_case_null
-- expect: equal
select nullif(1, 1), coalesce(null, 2), case 1 when 1 then 'one' else 'other' end, null is distinct from 1;
-- name: fn_at_time_zone
-- expect: equal
select timestamptz '2024-01-01 00:00+00' at time zone 'Asia/Tokyo', timezone('UTC', timestamp '2024-01-01');
-- name: fn_position_forms
-- expect: equal
select position('b' in 'abc'), substring('abcdef' from 2 for 3), trim(both 'x' from 'xax'), overlay('abc' placing 'X' from 2), extract(epoch from interval '1 day');
-- name: fn_named_arguments
-- expect: equal
select make_interval(days => 3, hours => 2);
-- name: fn_variadic
-- expect: equal
select concat_ws('-', variadic array['a', 'b']), num_nulls(1, null);
-- name: fn_operator_schema
-- expect: equal
select 1 operator(pg_catalog.+) 2, 3 = any (array[1, 2, 3]), 5 <> all (array[1, 2]);
-- name: fn_array_slices
-- expect: equal
select (array[1, 2, 3])[2:3], array_append(array[1], 2), cardinality(array[1, 2]);
-- name: fn_row_comparison
-- expect: equal
select (1, 2) < (1, 3), row(1, null) is null, (1, 2) in ((1, 2), (3, 4));
-- name: fn_overlaps
-- expect: equal
select (date '2024-01-01', date '2024-02-01') overlaps (date '2024-01-15', date '2024-03-01');
-- name: fn_collate
-- expect: equal
select 'a' < 'B' collate "C", 'a' < 'B' collate "und-x-icu";
-- name: fn_immutable_user
select add_one(3);
-- name: fn_immutable_user_key
select id from t where k = add_one(3) order by id;
-- name: fn_immutable_user_column
select add_one(x) from t where k = 3 order by id;
-- name: fn_immutable_user_scatter
select id, add_one(x) from t order by id;
-- name: fn_stable_reads_sharded
-- expect: refused
select count_users();
-- name: fn_stable_reads_sharded_pinned
-- expect: refused
select count_users() from users where id = 4;
-- name: fn_behind_an_operator
-- expect: refused
select id, age ### 1 from users where id = 4;
-- name: fn_behind_an_operator_nobody_uses
-- expect: equal
select id, age # 1 from users where id = 4;
-- name: fn_volatile_writes
-- expect: refused
select touch(id) from users order by id;
-- name: fn_volatile_pinned
-- expect: listed
select touch(id) from users where id = 4;
-- name: fn_random_pinned
-- expect: equal
select random() between 0 and 1 from users where id = 4;
-- name: fn_random_scatter
-- expect: listed
select id, random() between 0 and 1 from users order by id;
-- name: fn_clock_where
-- expect: listed
select count(*) from users where created < clock_timestamp();
-- name: fn_setseed
-- expect: listed
select setseed(0.5);
select random() = random();
-- name: fn_gen_uuid
-- expect: equal
select gen_random_uuid() is not null;
-- name: fn_txid
-- expect: listed
select txid_current() > 0;
-- name: fn_pg_typeof
-- expect: equal
select pg_typeof(1)::text, pg_typeof(feeling)::text from users where id = 4;
-- name: fn_sequence_nextval
-- expect: listed
select nextval('tickets_id_seq') > 0;
-- name: fn_sequence_currval_unset
-- expect: listed
-- error: 55000
select currval('tickets_id_seq');
-- name: fn_pg_sleep_zero
-- expect: equal
select pg_sleep(0) from users where id = 4;
-- name: fn_pg_backend_pid
-- expect: equal
select pg_backend_pid() > 0;
-- name: fn_inet_server
-- expect: listed
select pg_is_in_recovery();
-- name: fn_current_setting_key
-- expect: listed
set app.tenant = '4';
select id from users where id = current_setting('app.tenant')::bigint;
-- name: fn_view
-- expect: listed
select id, age from adults where id = 4;
-- name: fn_view_scatter
-- expect: listed
select id from adults order by id;
-- name: fn_view_count
-- expect: listed
select count(*) from adults;
-- name: fn_lateral_function
select u.id, t.tag from users u, unnest(u.tags) t (tag) where u.id = 7 or u.id = 6 order by 1, 2;
-- name: fn_lateral_function_pinned
select u.id, t.tag, t.n from users u, unnest(u.tags) with ordinality t (tag, n) where u.id = 6 order by 3;
-- name: fn_tablefunc_in_select
select id, unnest(tags) from users where id = 6 order by 2;
-- name: fn_set_returning_scatter
select id, unnest(tags) from users order by 1, 2;
