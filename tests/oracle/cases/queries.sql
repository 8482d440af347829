-- Common table expressions, set operations, subqueries.

-- name: cte_pinned
-- expect: equal
with c as (select id, name from users where id = 4) select * from c;
-- name: cte_pinned_join
-- expect: equal
with p as (select * from posts where user_id = 4) select u.name, p.title from users u join p on p.user_id = u.id where u.id = 4 order by p.id;
-- name: cte_scatter
with c as (select id, age from users where age > 20) select id from c order by id;
-- name: cte_pin_outside
with c as (select id, name from users) select name from c where id = 4;
-- name: cte_pin_inside_only
with c as (select * from t where k = 1) select count(*) from t;
-- name: cte_max
with c as (select max(id) m from t) select m from c;
-- name: cte_twice
with c as (select id from t where k = 1) select a.id, b.id from c a, c b order by 1, 2;
-- name: cte_two_keys
with a as (select id from t where k = 1), b as (select id from t where k = 2) select * from a union all select * from b order by 1;
-- name: cte_reference
-- expect: equal
with c as (select code from countries where continent = 'Europe') select code from c order by 1;
-- name: cte_unused
with c as (select * from t) select 1;
-- name: cte_shadows_table
with users as (select 1 as id, 'me' as name) select id, name from users;
-- name: cte_shadows_table_key
with users as (select 4 as id) select p.id from posts p join users u on u.id = p.user_id where p.user_id = 4 order by 1;
-- name: cte_recursive_no_table
with recursive n (i) as (select 1 union all select i + 1 from n where i < 5) select i from n order by i;
-- name: cte_recursive_pinned
with recursive r as (select id, 1 as d from posts where user_id = 4 and id = 1 union all select p.id, d + 1 from posts p join r on p.id = r.id + 1 where p.user_id = 4) select * from r order by id;
-- name: cte_recursive_scatter
with recursive r (id) as (select 1::bigint union select f.other_id from follows f join r on f.user_id = r.id) select count(*) from r;
-- name: cte_materialized
with c as materialized (select id from users where id = 4) select id from c;
-- name: cte_not_materialized
with c as not materialized (select id from users) select id from c where id = 4;
-- name: cte_nested
with a as (with b as (select id from users where id = 4) select id from b) select id from a;
-- name: cte_column_names
with c (x, y) as (select id, name from users where id = 4) select y, x from c;
-- name: cte_in_subquery
select name from users where id = 4 and exists (with q as (select 1 from posts where user_id = 4) select * from q);
-- name: cte_order_limit
with c as (select id from users order by id limit 3) select id from c order by id desc;
-- name: cte_aggregate_over
with c as (select user_id, count(*) n from posts group by user_id) select max(n) from c;
-- name: cte_values
with v (k) as (values (1), (2)) select t.id from t join v on v.k = t.k order by 1;

-- name: union_all_same_key
select id from t where k = 1 union all select g from t where k = 1 order by 1;
-- name: union_all_pinned_unordered
-- unordered
-- expect: equal
select id from t where k = 1 union all select x from t where k = 1;
-- name: union_same_key
-- unordered
select g from t where k = 1 union select g from t where k = 1;
-- name: union_two_keys
select id from t where k = 1 union select id from t where k = 2 order by 1;
-- name: union_scatter
select g from t union select k from t order by 1;
-- name: union_all_scatter
-- unordered
select id from t union all select id from t;
-- name: union_constants
select 1 as a union select 2 union select 1 order by 1;
-- name: union_types
-- unordered
select 1 union all select 2.5;
-- name: union_reference
-- expect: equal
select code from countries union select code from currencies order by 1;
-- name: union_reference_sharded
select country from users where id = 4 union all select code from countries order by 1;
-- name: union_all_reference_scatter
select country from users union all select code from countries order by 1 nulls first;
-- name: except_scatter
-- unordered
select g from t where x > 7 except select g from t where x < 3;
-- name: except_pinned
select id from t where k = 1 except select id from t where k = 1 and id > 20 order by 1;
-- name: except_all
select k from t except all select k from t where id < 20 order by 1;
-- name: intersect_scatter
select k from t intersect select g from t order by 1;
-- name: intersect_pinned
select id from t where k = 1 intersect select 21 order by 1;
-- name: setop_nested
(select 1 union select 2) except select 2 order by 1;
-- name: setop_order_limit
select id from t where k = 1 union all select id from t where k = 1 order by 1 limit 3;
-- name: setop_arms_with_limit
(select id from t where k = 1 order by id limit 1) union all (select id from t where k = 1 order by id desc limit 1) order by 1;
-- name: setop_mismatch
-- error: 42601
select id, k from t where k = 1 union select id from t where k = 1;
-- name: setop_types_mismatch
-- error: 42804
select id from t where k = 1 union select array[1];
-- name: setop_values
-- unordered
values (1) union values (2);

-- name: sub_scalar_pinned
-- expect: equal
select id, (select count(*) from posts p where p.user_id = 4) from users where id = 4;
-- name: sub_scalar_correlated_pinned
-- expect: equal
select id, (select count(*) from posts p where p.user_id = u.id) from users u where id = 4;
-- name: sub_scalar_correlated_scatter
select id, (select count(*) from posts p where p.user_id = u.id) from users u order by id;
-- name: sub_scalar_global
select id, (select count(*) from users) from users where id = 4;
-- name: sub_scalar_other_key
select id, (select name from users where id = 5) from users where id = 4;
-- name: sub_scalar_reference
-- expect: equal
select id, (select c.name from countries c where c.code = u.country) from users u where id = 4;
-- name: sub_scalar_reference_scatter
select id, (select c.name from countries c where c.code = u.country) from users u order by id;
-- name: sub_scalar_too_many
-- error: 21000
select (select id from posts where user_id = 4) from users where id = 4;
-- name: sub_in_pinned
-- expect: equal
select id from users where id = 4 and id in (select user_id from posts where user_id = 4);
-- name: sub_in_scatter
select count(*) from t where g in (select g from t where k = 1);
-- name: sub_in_key_to_key
select id from users where id in (select user_id from posts where likes > 15) order by id;
-- name: sub_in_reference
-- expect: equal
select id from users where id = 4 and country in (select code from countries where continent = 'Europe');
-- name: sub_in_reference_scatter
select id from users where country in (select code from countries where continent = 'Europe') order by id;
-- name: sub_not_in_key_to_key
select id from users where id not in (select user_id from posts) order by id;
-- name: sub_not_in_null
select id from t where k = 1 and g not in (select age from users where id = 10);
-- name: sub_eq_max
select count(*) from t where id = (select max(id) from t);
-- name: sub_any
select id from users where id = 4 and age > any (select likes from posts where user_id = 4);
-- name: sub_all
select id from users where id = 4 and age > all (select likes from posts where user_id = 4);
-- name: sub_exists_uncorrelated
select id from users where id = 4 and exists (select 1 from posts where likes > 20);
-- name: sub_from
-- expect: equal
select q.id from (select id, name from users where id = 4) q;
-- name: sub_from_scatter
select q.id from (select id, age from users where age > 30) q where q.age < 60 order by 1;
-- name: sub_from_pin_outside
select q.name from (select id, name from users) q where q.id = 4;
-- name: sub_from_aggregate
select max(c) from (select k, count(*) c from t group by k) q;
-- name: sub_from_limit
select count(*) from (select id from t limit 10) q;
-- name: sub_from_distinct
select count(*) from (select distinct g from t) q;
-- name: sub_from_nested
select n from (select name n, i from (select name, id i from users) a) b where i = 4;
-- name: sub_in_select_list_array
select array(select id from posts where user_id = 4 order by id) from users where id = 4;
-- name: sub_row
select (select row(id, likes) from posts where user_id = 4 and id = 1) is not null from users where id = 4;
-- name: sub_in_limit
select id from t where k = 1 order by id limit (select 2);
-- name: sub_in_case
select case when exists (select 1 from posts where user_id = 4) then 'y' else 'n' end from users where id = 4;
-- name: sub_in_order_by
select id from posts where user_id = 4 order by (select -posts.id);
-- name: sub_correlated_two_levels
select id from users u where id = 4 and exists (select 1 from orders o where o.user_id = u.id and exists (select 1 from order_items i where i.user_id = u.id and i.order_id = o.id));
-- name: sub_key_from_constant_subquery
select id from users where id = (select 4);
-- name: sub_key_from_reference
select id from users where id = (select count(*) from currencies);
