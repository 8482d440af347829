-- Tables on shards of their own, reference tables, and statements over several keyspaces.

-- name: vertical_select
-- expect: equal
select id, what from user_activities where user_id = 4 order by id;
-- name: vertical_aggregate
-- expect: equal
select what, count(*), array_agg(id order by id) from user_activities group by what having count(*) > 1 order by what;
-- name: vertical_join
-- expect: equal
select a.id, k.weight from user_activities a left join activity_kinds k using (what) order by a.id;
-- name: vertical_window
-- expect: equal
select id, row_number() over (partition by what order by id) from user_activities order by id;
-- name: vertical_insert
-- expect: equal
insert into user_activities values (100, 5, 'view', null), (101, 6, 'click', null) returning id;
-- name: vertical_update_all
-- expect: equal
update user_activities set what = upper(what);
select count(*) from user_activities where what = 'VIEW';
-- name: vertical_delete_all
-- expect: equal
delete from user_activities;
select count(*) from user_activities;
-- name: vertical_cte
-- unordered
-- expect: equal
with gone as (delete from user_activities where user_id = 4 returning id) insert into activity_kinds select 'k' || id, 1 from gone returning what;
-- name: vertical_union
-- expect: equal
select what from user_activities union select what from activity_kinds order by 1;
-- name: vertical_truncate
truncate user_activities;
select count(*) from user_activities;
-- name: vertical_other
-- expect: equal
select theme, count(*) from user_settings group by theme order by 1;
-- name: vertical_param
-- expect: equal
-- params: [{"int8": 4}]
select theme, opts ->> 'lang' from user_settings where user_id = $1;
-- name: vertical_recursive
-- expect: equal
with recursive r as (select min(id) id from user_activities union all select r.id + 1 from r where r.id < 5) select id from r order by id;
-- name: vertical_cursor
-- expect: equal
begin;
declare c cursor for select id from user_activities order by id;
fetch 3 from c;
commit;
-- name: vertical_grouping_sets
-- expect: equal
select what, user_id, count(*) from user_activities group by grouping sets ((what), (user_id), ()) order by 1 nulls last, 2 nulls last;
-- name: vertical_lock
-- expect: listed
lock table user_activities in exclusive mode;
-- name: vertical_merge
merge into user_settings s using (values (1::bigint, 'x'), (99, 'y')) v (id, theme) on s.user_id = v.id when matched then update set theme = v.theme when not matched then insert values (v.id, v.theme, null);
select user_id, theme from user_settings where user_id in (1, 99) order by 1;
-- name: two_verticals_join
select a.id, s.theme from user_activities a join user_settings s using (user_id) order by a.id;
-- name: vertical_and_sharded_join
select u.name, s.theme from users u join user_settings s on s.user_id = u.id where u.id = 4;
-- name: vertical_and_sharded_join_scatter
select u.name, s.theme from users u join user_settings s on s.user_id = u.id order by u.id;
-- name: vertical_and_sharded_subquery
select name from users where id in (select user_id from user_activities where what = 'view') order by id;
-- name: vertical_and_reference_join
select c.name, s.theme from countries c, user_settings s where s.user_id = 4 order by 1;
-- name: vertical_and_sharded_transaction_read
-- expect: equal
begin;
select name from users where id = 4;
select theme from user_settings where user_id = 4;
select count(*) from user_activities;
commit;
-- name: vertical_and_sharded_transaction_write
begin;
update users set age = 1 where id = 4;
update user_settings set theme = 'x' where user_id = 4;
select theme from user_settings where user_id = 4;
rollback;
-- name: vertical_error
-- expect: equal
-- error: 23505
insert into user_activities values (1, 1, 'view', null);
-- name: vertical_union_sharded
select id from user_activities union all select id from users order by 1;
-- name: vertical_insert_select_sharded
insert into user_settings select id, name from users where id = 30;
select theme from user_settings where user_id = 30;
-- name: reference_select
-- expect: equal
select * from countries order by code;
-- name: reference_aggregate
-- expect: equal
select continent, count(*), string_agg(code, ',' order by code) from countries group by continent order by 1;
-- name: reference_key_param
-- expect: equal
-- params: [{"text": "DE"}]
select name from countries where code = $1;
-- name: reference_join_two
-- expect: equal
select c.name, r.rate from countries c, currencies r where r.code = 'USD' order by 1;
-- name: reference_for_update
select code from countries where code = 'DE' for update;
-- name: reference_with_write
-- expect: equal
begin;
update users set country = (select min(code) from countries) where id = 4 returning country;
rollback;
-- name: catalog_tables
select relname from pg_class where relname in ('users', 'posts', 'countries') order by 1;
-- name: catalog_information_schema
select column_name, data_type, is_nullable from information_schema.columns where table_schema = 'public' and table_name = 'posts' order by ordinal_position;
-- name: catalog_joined_with_user_table
-- expect: refused
select count(*) from pg_class c join users u on u.name = c.relname;
-- name: catalog_type
select typname from pg_type where oid = 23;
-- name: catalog_vertical_table
-- expect: equal
-- cleanup: reset keyway.shard
set keyway.shard = 'settings';
select count(*) from pg_class where relname = 'user_settings';
-- name: unlisted_table
-- autocommit
-- expect: listed
create table never_listed (id int);
-- cleanup: drop table never_listed
