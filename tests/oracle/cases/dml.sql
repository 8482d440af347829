-- Writes. Without `-- autocommit` a case runs between BEGIN and ROLLBACK.
-- all: equal

-- name: insert_one
insert into users (id, name) values (1000, 'new');
select id, name, active from users where id = 1000;
-- name: insert_one_autocommit
-- autocommit
insert into users (id, name) values (1001, 'auto');
select id, name, active from users where id = 1001;
delete from users where id = 1001;
select count(*) from users where id = 1001;
-- name: insert_no_column_list
insert into follows values (1000, 2, '2024-01-01');
select * from follows where user_id = 1000;
-- name: insert_columns_reordered
insert into follows (since, other_id, user_id) values ('2024-01-01', 2, 1000);
select * from follows where user_id = 1000;
-- name: insert_returning
insert into users (id, name) values (1000, 'new') returning id, name, active;
-- name: insert_returning_star
insert into follows values (1000, 2, null) returning *;
-- name: insert_returning_expression
insert into follows values (1000, 2, null) returning user_id + 1 as next, other_id::text;
-- name: insert_params
-- params: [{"int8": 1000}, {"text": "p"}]
insert into users (id, name) values ($1, $2) returning id, name;
-- name: insert_params_untyped
-- params: ["1000", "p"]
insert into users (id, name) values ($1, $2) returning id, name;
-- name: insert_param_cast
-- params: ["1000", "p"]
insert into users (id, name) values ($1::bigint, $2) returning id, name;
-- name: insert_negative_key
insert into smalls values (-100, 'n') returning k;
-- name: insert_string_key
insert into users (id, name) values ('1000', 's') returning id;
-- name: insert_expression_key
-- expect: listed
insert into t (id, k) values (1000, 3 + 4);
select count(*) from t where k = 7;
-- name: insert_expression_key_cast
insert into t (id, k) values (1000, '7'::int);
select count(*) from t where k = 7;
-- name: insert_numeric_key_rounds
-- expect: listed
insert into t (id, k) values (1000, 6.6);
select id, k from t where id = 1000 and k = 7;
-- name: insert_default_key
insert into defaults (n) values (99) returning k, n, note;
-- name: insert_default_key_keyword
insert into defaults (k, n) values (default, 99) returning k, n, note;
-- name: insert_default_values
insert into defaults default values returning k, n, note;
-- name: insert_missing_key_not_null
-- error: 23502
-- expect: listed
insert into t (id) values (5);
-- name: insert_null_key
insert into maybes values (null, 77) returning k, n;
select k, n from maybes where k is null order by n;
-- name: insert_missing_nullable_key
insert into maybes (n) values (78) returning k, n;
select n from maybes where k is null order by n;
-- name: insert_null_key_not_null
-- error: 23502
insert into t (id, k) values (1, null);
-- name: insert_text_key
insert into words values ('brand new', 50) returning w;
select n from words where w = 'brand new';
-- name: insert_numeric_looking_text
insert into codes (code, n) values ('00123', 1);
select code, n from codes where code = '00123';
-- name: insert_int_into_text_key
-- expect: listed
insert into codes (code, n) values (777, 1);
select code, n from codes where code = '777';
-- name: insert_char_key_padded
insert into chars values ('q', 1);
select c, n from chars where c = 'q';
-- name: insert_char_key_too_long
-- expect: listed
-- error: 22001
insert into chars values ('much too long', 1);
-- name: insert_uuid_key
insert into tokens values ('AAAAAAAA-0000-4000-8000-000000000001', 'x') returning token;
select note from tokens where token = 'aaaaaaaa-0000-4000-8000-000000000001';
-- name: insert_date_key
-- expect: listed
insert into days values ('Feb 3, 2030', 1) returning day;
select n from days where day = '2030-02-03';
-- name: insert_bytea_key
insert into blobs values ('\xabcd', 1);
select n from blobs where b = '\xABCD';
-- name: insert_bool_key
insert into flags values ('t', 50);
select n from flags where ok and n = 50;
-- name: insert_composite_key
insert into pairs values (9, 'nine', 1);
select n from pairs where a = 9 and b = 'nine';
-- name: insert_partitioned
insert into events values (3, '2025-06-01', 'new') returning *;
select count(*) from events_2025 where user_id = 3;
-- name: insert_no_partition
-- error: 23514
insert into events values (3, '2030-06-01', 'new');
-- name: insert_quoted
insert into "Odd Table" values (100, 'x', 3) returning "Key Col", "select";
-- name: insert_other_schema
insert into other.t values (1, 3, 'x') returning *;
select count(*) from t where k = 3;
-- name: insert_identity
insert into notes (user_id, body) values (5, 'b') returning user_id, body, id is not null, uid is not null;
-- name: insert_identity_explicit
-- error: 428C9
insert into notes (user_id, id, body) values (5, 1, 'b');
-- name: insert_identity_overriding
insert into notes (user_id, id, body) overriding system value values (5, 1, 'b') returning id;
-- name: insert_serial
insert into tickets (user_id, note) values (5, 'x') returning id > 0, user_id, note;
-- name: insert_serial_default
insert into tickets values (default, 5, 'x'), (default, 5, 'y') returning id > 0, user_id, note;
-- name: insert_serial_explicit
-- expect: refused
insert into tickets (id, user_id, note) values (1, 5, 'x');
-- name: insert_serial_explicit_all
-- expect: refused
insert into tickets values (1, 5, 'x') on conflict do nothing;
-- name: insert_serial_selected
-- expect: refused
insert into tickets (id, user_id) select 1, 5;
-- name: update_serial
-- expect: refused
update tickets set id = 1 where user_id = 5;
-- name: update_serial_itself
update tickets set id = id, note = 'z' where user_id = 5;
-- name: update_serial_default
update tickets set id = default where user_id = 5;
-- name: insert_uuid_generated
insert into notes (user_id, uid, body) values (5, gen_random_uuid(), 'b') returning user_id, body, uid is not null;
-- name: insert_all_types
-- expect: listed
insert into users values (1000, 'n', 'e', 'DE', 5, 1.5, 2.25, true, '2000-01-01', '2000-01-01 01:02:03', '2000-01-01 01:02:03+01', '00000000-0000-0000-0000-000000000001', '\x01', 'ok', '{a,"b c"}', '{"a": 1}', '("S",1,10001)', '12345', '{ok,sad}') returning *;
-- name: insert_multi_same_shard
insert into posts (user_id, id, title) values (1000, 1, 'a'), (1000, 2, 'b'), (1000, 3, 'c') returning user_id, id, title;
-- name: insert_multi_several_shards
-- expect: listed
insert into t (id, k) values (3000, 1), (3001, 2), (3002, 3), (3003, 4);
select id, k from t where id >= 3000 order by id;
-- name: insert_multi_params
-- params: [{"int8": 1000}, {"int4": 1}, {"int4": 2}]
insert into posts (user_id, id, title) values ($1, $2, 'a'), ($1, $3, 'b') returning id;
-- name: insert_select_same_key
-- expect: listed
insert into follows select user_id, 1000, null from posts where user_id = 3 and id = 1;
select other_id from follows where user_id = 3 and other_id = 1000;
-- name: insert_select_constant
insert into t (id, k) select 1000, 7;
select count(*) from t where k = 7;
-- name: insert_select_constant_from_its_shard
insert into posts (user_id, id, title) select 3, 1000 + p.id, u.name || p.title from posts p join users u on u.id = p.user_id where p.user_id = 3 order by p.id returning user_id, id, title;
-- name: insert_select_constant_from_another_shard
-- expect: refused
insert into follows select 3, id, null from posts where user_id = 5;
-- name: insert_select_param
-- params: [{"int8": 4}, {"text": "once"}]
insert into posts (user_id, id, title) select $1, 2000, $2 where not exists (select from posts where user_id = $1 and title = $2) returning *;
select count(*) from posts where user_id = 4 and title = 'once';
-- name: insert_select_param_untyped
-- params: ["4", "once"]
insert into posts (user_id, id, title) select $1, 2000, $2 from countries where code = 'DE' returning user_id, title;
select count(*) from posts where user_id = 4 and title = 'once';
-- name: insert_select_default_key
insert into defaults (n) select 5 returning *;
select * from defaults where k = 7;
-- name: insert_select_conflict
insert into users (id, name) select 4, 'again' on conflict (id) do update set name = excluded.name || users.name returning id, name;
-- name: insert_unnest
insert into posts (user_id, id, title) select * from unnest(('{4,4,4}')::bigint[], (array[1001, 1002, 1003])::integer[], ('{a,b,c}')::text[]) returning posts.user_id, posts.id, posts.title;
select count(*) from posts where user_id = 4 and id > 1000;
-- name: insert_unnest_params
-- params: [{"int8[]": [4, 4]}, "{3001,3002}", "{p,q}"]
insert into posts (user_id, id, title) select * from unnest($1::bigint[], $2::int[], $3::text[]) returning user_id, id, title;
-- name: insert_unnest_named
insert into posts (user_id, id, title) select u, i, 'n' || i from unnest('{4,4}'::bigint[], '{4001,4002}'::int[]) as x (u, i) where i > 4001 returning user_id, id, title;
-- name: insert_unnest_empty
insert into posts (user_id, id, title) select * from unnest('{}'::bigint[], '{}'::int[], '{}'::text[]) returning *;
-- name: insert_unnest_shorter
-- error: 23502
insert into posts (user_id, id, title) select * from unnest('{4}'::bigint[], '{5001,5002}'::int[], '{a,b}'::text[]);
-- name: insert_unnest_several_shards
-- expect: refused
insert into posts (user_id, id, title) select * from unnest('{4,5}'::bigint[], '{5001,5002}'::int[], '{a,b}'::text[]);
-- name: insert_select_all
-- expect: listed
insert into t select id + 1000, k, g, x, s from t;
select count(*) from t;
-- name: insert_select_from_reference
-- expect: listed
insert into words select code, 1 from countries;
select count(*) from words;
-- name: insert_on_conflict_nothing
insert into users (id, name) values (4, 'again') on conflict do nothing;
select name from users where id = 4;
-- name: insert_on_conflict_update
insert into users (id, name) values (4, 'again') on conflict (id) do update set name = excluded.name || '!' returning id, name;
-- name: insert_on_conflict_update_where
insert into users (id, name) values (4, 'again') on conflict (id) do update set name = excluded.name where users.age > 1000 returning id;
-- name: insert_on_conflict_constraint
insert into users (id, name) values (4, 'again') on conflict on constraint users_pkey do nothing;
-- name: insert_on_conflict_set_key
-- expect: refused
insert into users (id, name) values (3, 'again') on conflict (id) do update set id = 500;
-- name: insert_on_conflict_set_key_same
-- expect: listed
insert into users (id, name) values (4, 'again') on conflict (id) do update set id = excluded.id returning id;
-- name: insert_duplicate
-- error: 23505
insert into users (id, name) values (4, 'again');
-- name: insert_not_null
-- error: 23502
insert into users (id) values (1000);
-- name: insert_check
-- error: 23514
insert into order_items values (1, 1, 50, 'sku', 0, 1);
-- name: insert_foreign_key
-- error: 23503
insert into orders (user_id, id) values (99999, 1);
-- name: insert_too_many_values
-- error: 42601
insert into follows values (1, 2, null, 4);
-- name: insert_too_few_targets
-- error: 42601
insert into follows (user_id, other_id) values (1);
-- name: insert_unknown_column
-- error: 42703
insert into follows (user_id, nope) values (1, 2);
-- name: insert_duplicate_column
-- error: 42701
insert into follows (user_id, user_id) values (1, 2);
-- name: insert_bad_key_text
-- expect: listed
-- error: 22P02
insert into users (id, name) values ('x', 'y');
-- name: insert_key_out_of_range
-- error: 22003
insert into smalls values (70000, 'x');
-- name: insert_domain_violation
-- error: 23514
insert into users (id, name, zip) values (1000, 'n', 'abc');
-- name: insert_enum_violation
-- error: 22P02
insert into users (id, name, feeling) values (1000, 'n', 'angry');
-- name: insert_key_from_subquery
-- expect: listed
insert into t (id, k) values (1000, (select 7));
select count(*) from t where k = 7;
-- name: insert_key_random
-- expect: refused
insert into t (id, k) values (1000, (random() * 100)::int);
-- name: insert_value_volatile
insert into stamps values ('2030-01-01 00:00:00', (random() * 0)::int) returning at, n;

-- name: update_key
update users set age = 99 where id = 4;
select id, age from users where id = 4;
-- name: update_autocommit
-- autocommit
update users set age = age + 1 where id = 12 returning id;
update users set age = age - 1 where id = 12;
-- name: update_returning
update users set age = 99, name = 'x' where id = 4 returning id, age, name;
-- name: update_none
update users set age = 99 where id = 4000;
-- name: update_param
-- params: [{"int4": 98}, {"int8": 4}]
update users set age = $1 where id = $2 returning id, age;
-- name: update_expression
-- unordered
update posts set likes = likes * 2 + 1 where user_id = 4 returning id, likes;
-- name: update_multi_set
update users set (age, name) = (5, 'five') where id = 4 returning age, name;
-- name: update_from_colocated
-- unordered
update posts p set title = u.name from users u where u.id = p.user_id and p.user_id = 4 returning p.id, p.title;
-- name: update_from_reference
-- unordered
update users u set name = c.name from countries c where c.code = u.country and u.id = 4 returning u.name;
-- name: update_subquery
update users set age = (select count(*) from posts where user_id = 4) where id = 4 returning age;
-- name: update_alias
update users as u set age = 3 where u.id = 4 returning u.age;
-- name: update_only
update only users set age = 3 where id = 4 returning age;
-- name: update_default
update defaults set note = default where k = 3 returning note;
-- name: update_the_key
-- expect: refused
update users set id = 900 where id = 3;
-- name: update_the_key_expression
-- expect: refused
update t set k = k + 1 where k = 4;
-- name: update_the_key_to_itself
-- expect: listed
update t set k = k where k = 4;
-- name: update_no_key
-- expect: listed
update users set age = 3;
select count(*) from users where age = 3;
-- name: update_no_key_none_match
-- expect: listed
update users set age = 3 where name = 'nobody';
-- name: update_two_keys
-- expect: listed
update users set age = 3 where id in (1, 2, 3, 4, 5, 6);
-- name: update_arithmetic_key
-- expect: listed
update t set x = 0 where k + 1 = 5;
select count(*) from t where x = 0;
-- name: update_or_key
-- expect: listed
update t set x = 0 where k = 5 or id = 3;
-- name: update_unique_violation
-- error: 23505
update follows set other_id = 1 where user_id = 7;
-- name: update_check
-- error: 23514
update order_items set qty = -1 where user_id = 4;
-- name: update_where_current_of
-- expect: listed
begin;
declare c cursor for select id from posts where user_id = 4 order by id for update;
fetch 1 from c;
update posts set likes = 1000 where current of c returning id, likes;
rollback;

-- name: delete_key
delete from follows where user_id = 3;
select count(*) from follows where user_id = 3;
-- name: delete_returning
delete from posts where user_id = 4 and id = 2 returning id, title;
-- name: delete_none
delete from posts where user_id = 4000;
-- name: delete_using
-- unordered
delete from posts using users where users.id = posts.user_id and users.id = 4 returning posts.id;
-- name: delete_using_reference
-- unordered
delete from follows f using countries c where f.user_id = 3 and c.code = 'DE' returning f.other_id;
-- name: delete_param
-- unordered
-- params: [{"int8": 4}]
delete from posts where user_id = $1 returning id;
-- name: delete_subquery
-- unordered
delete from posts where user_id = 4 and id in (select id from posts where user_id = 4 and likes > 10) returning id;
-- name: delete_no_key
-- expect: listed
delete from follows;
select count(*) from follows;
-- name: delete_foreign_key
-- error: 23503
delete from users where id = 4;
-- name: delete_cte
with gone as (delete from posts where user_id = 4 returning id) select count(*) from gone;
-- name: insert_cte
-- expect: listed
with n as (insert into follows values (3, 2000, null) returning user_id, other_id) select * from n;
-- name: update_cte
with u as (update posts set likes = 7 where user_id = 4 returning id) select id from u order by id;
-- name: cte_move
with gone as (delete from posts where user_id = 4 returning user_id, id) insert into follows select user_id, 5000 + id, null from gone;
select count(*) from follows where user_id = 4 and other_id > 5000;
-- name: cte_write_two_keys
-- expect: listed
with a as (delete from posts where user_id = 4 returning id), b as (delete from posts where user_id = 9 returning id) select (select count(*) from a), (select count(*) from b);
-- name: cte_write_unread
-- expect: listed
with a as (delete from follows) select 1;
-- name: merge_pinned
merge into posts p using (values (4, 1, 'm'), (4, 77, 'n')) v (user_id, id, title) on p.user_id = 4 and p.id = v.id when matched then update set title = v.title when not matched then insert (user_id, id, title) values (4, v.id, v.title);
select id, title from posts where user_id = 4 order by id;
-- name: merge_delete
-- expect: listed
merge into posts p using users u on p.user_id = u.id and u.id = 4 and p.user_id = 4 when matched then delete;
-- name: merge_no_key
-- expect: listed
merge into t using (values (1)) v (a) on t.id = v.a when matched then update set x = 0;
-- name: select_for_update
select id, name from users where id = 4 for update;
-- name: select_for_share_of
select u.id, p.id from users u join posts p on p.user_id = u.id where u.id = 4 order by 2 for no key update of p skip locked;
-- name: select_for_update_nowait
select id from users where id = 4 for update nowait;
-- name: select_for_update_scatter
-- expect: listed
select id from users where age > 60 order by id for update;
-- name: lock_table
-- expect: listed
lock table users in share mode;
-- name: truncate_table
-- expect: listed
truncate follows;
select count(*) from follows;
-- name: truncate_foreign_key
-- compare: status
-- error: 0A000
truncate users;
-- name: reference_read_after_nothing
select count(*) from countries;
-- name: reference_insert
-- expect: listed
insert into countries values ('XX', 'Nowhere', null);
select name from countries where code = 'XX';
-- name: reference_update
-- expect: listed
update countries set name = 'x' where code = 'DE' returning code, name;
-- name: reference_delete
-- expect: listed
delete from currencies where code = 'JPY';
-- name: reference_insert_volatile
-- expect: listed
insert into currencies values ('RND', random()) returning code;
-- name: view_insert
-- expect: listed
insert into adults values (1000, 'v', 20) returning id;
select name from users where id = 1000;
-- name: insert_unnest_vertical_tab
insert into words (w) select * from unnest(E'{a\x0b}'::text[]) returning w;
select w from words where w = 'a';
-- name: any_vertical_tab
select code, n from codes where code = any (E'{ 123\x0b,A }') order by code;
