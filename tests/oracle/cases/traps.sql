-- Traps: statements that look as if each shard could answer for itself, and cannot.

-- name: trap_in_limited
select id from users u where u.id in (select o.user_id from orders o order by o.user_id desc limit 1);
-- name: trap_in_limited_pinned
select id from users u where u.id = 4 and u.id in (select o.user_id from orders o order by o.user_id desc limit 1);
-- name: trap_in_limited_row
select id from orders where (user_id, id) in (select user_id, id from orders order by user_id desc, id limit 1);
-- name: trap_in_window
select id from users where id in (select user_id from (select user_id, count(*) over () as n from orders) z where z.n > 5) order by 1;
-- name: trap_in_distinct_on
select id from users where id in (select distinct on (status) user_id from orders order by status, user_id, id) order by 1;
-- name: trap_exists_limited
select id from users u where exists (select 1 from (select user_id from orders order by user_id desc limit 1) z where z.user_id = u.id);
-- name: trap_with_limited
with z as (select user_id from orders order by user_id desc limit 1) select id from users where id in (select user_id from z);
-- name: trap_copy_limited
copy (select id from users u where u.id = 4 and u.id in (select user_id from orders order by user_id desc limit 1)) to stdout;
-- name: trap_delete_limited
delete from timelines where user_id = 4 and user_id in (select user_id from orders order by user_id desc limit 1);
-- name: trap_in_limited_inside_the_key
-- expect: equal
select id from users where id in (select user_id from orders where user_id = 5 order by id limit 1);
-- name: trap_outer_aggregate
select d.* from (select (select max(u.age)) as m from users u) d;
-- name: trap_outer_aggregate_with
with x as (select (select count(u.id)) as m from users u) select * from x;
-- name: trap_own_aggregate
-- expect: equal
select d.* from (select u.id, (select max(o.id) from orders o where o.user_id = u.id) as m from users u) d order by 1;
-- name: trap_returning_updated
with d as (update orders set id = 5 where user_id = 4 and id = 4 returning id) select u.id from users u join d on u.id = d.id;
-- name: trap_returning_key
-- expect: equal
with d as (update orders set status = 'old' where user_id = 4 returning user_id, id) select u.id, d.id from users u join d on u.id = d.user_id order by 2;
-- name: trap_count_notation
select u.count from users u;
-- name: trap_count_field
select (u).count from users u;
-- name: trap_count_column
-- expect: equal
select d.user_id, d.count from (select user_id, count(*) from orders group by user_id) d order by 1;
-- name: trap_ctid
select id from users where ctid = tid '(9999,1)';
-- name: trap_regclass_oid
select count(distinct 'users'::regclass::oid) from users;
-- name: trap_regclass_text
-- expect: equal
select id, 'users'::regclass::text from users order by id;
-- name: trap_now_range
select count(distinct tstzrange('now', null)) from users;
-- name: trap_now_made
select count(distinct ('no' || 'w')::timestamptz) from users;
-- name: trap_now_params
-- params: ["now"]
select count(distinct $1::timestamptz) from users;
-- name: trap_current_database
select count(*) from users where current_database() = 'no database';
