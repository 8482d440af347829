-- The statements that the nearest rival answers wrongly (sharding.md §2): we answer right or refuse.

-- name: opening_union_all
-- unordered
select id from t union all select id from t;
-- name: opening_union_two_keys
-- unordered
select id from t where k=1 union select id from t where k=2;
-- name: opening_except
-- unordered
select g from t where x>7 except select g from t where x<3;
-- name: opening_cte_key_inside
with c as (select * from t where k=1) select count(*) from t;
-- name: opening_cte_max
with c as (select max(id) m from t) select m from c;
-- name: opening_in_subquery
select count(*) from t where g in (select g from t where k=1);
-- name: opening_eq_max
select count(*) from t where id = (select max(id) from t);
-- name: opening_filter
select count(*) filter (where k=5), count(*) from t;
-- name: opening_is_not_true
-- expect: equal
select count(*) from t where (k=5) is not true;
-- name: opening_k_plus_one
-- expect: equal
-- unordered
select id from t where k+1=5;
-- name: opening_param_plus_one
-- expect: equal
-- unordered
-- params: [{"int4": 3}]
select id from t where k = $1::int + 1;
-- name: opening_in_expression
-- expect: equal
-- unordered
select id from t where k in (1,1+1);
-- name: opening_group_expression
-- unordered
select g%2, count(*) from t group by g%2;
-- name: opening_group_unselected
-- unordered
select count(*) from t group by g;
-- name: opening_group_no_aggregate
-- unordered
select g from t group by g;
-- name: opening_having
-- unordered
select g, count(*) from t group by g having count(*)<6;
-- name: opening_coalesce_sum
select coalesce(sum(x),0) from t;
-- name: opening_sum_by_count
select sum(x)/count(*) from t;
-- name: opening_count_plus_one
select count(*)+1 from t;
-- name: opening_window_count
-- unordered
select id, count(*) over () from t;
-- name: opening_row_number
-- unordered
select id, row_number() over (order by id) from t;
-- name: opening_join_across
-- unordered
select a.id,b.id from t a join t b on a.id=b.g where a.id<4;
-- name: opening_order_unselected
-- expect: equal
select id from t order by x desc, id limit 3;
-- name: opening_nulls_first
-- expect: equal
select id, s from t order by s nulls first, id;
-- name: opening_desc_nulls_last
-- expect: equal
select id, s from t order by s desc nulls last, id;
-- name: opening_order_lower
select id, s from t order by lower(s), id;
-- name: opening_limit_expression
-- expect: listed
select id from t order by id limit 2+1;
-- name: opening_offset
-- expect: equal
select id from t order by id offset 50;
-- name: opening_group_order_limit
select s,count(*) from t group by s order by 2 desc,1 limit 2;
-- name: opening_rollup
-- unordered
select g, count(*) from t group by rollup(g);
-- name: opening_grouping_sets
-- unordered
select g, count(*) from t group by grouping sets ((g), ());
-- name: opening_avg_pinned
-- expect: equal
select avg(x) from t where k=1;
-- name: opening_limit_offset_binary
-- params: [{"int2": 3}, {"int2": 4}]
select id from t order by id limit $1 offset $2;
-- name: opening_count_distinct
select count(distinct g) from t;
-- name: opening_count_distinct_in_transaction
begin;
select count(distinct g) from t;
select 1;
commit;
-- name: opening_sum_distinct
select sum(distinct g) from t;
-- name: opening_string_agg
select string_agg(s, ',' order by id) from t;
-- name: opening_array_agg
select array_agg(id order by id) from t;
-- name: opening_bool_or
select bool_or(x > 60) from t;
-- name: opening_percentile
select percentile_cont(0.5) within group (order by x) from t;
-- name: opening_insert_expression
insert into t(id,k) values (1000,3+4);
select id from t where k=7 order by id;
-- name: opening_insert_multi
insert into t(id,k) values (3000,1),(3001,2);
select id, k from t where id >= 3000 order by id;
-- name: opening_varchar_key
-- expect: equal
insert into codes(code,n) values ('1234',1);
select count(*) from codes where code = '1234';
select count(*) from codes;
-- name: opening_insert_select
insert into t select * from t;
select count(*) from t;
-- name: opening_two_inserts_one_query
-- modes: simple
-- cleanup: delete from t where k = 1 and id = 1000
-- cleanup: delete from t where k = 2 and id = 1001
insert into t (id, k) values (1000, 1); insert into t (id, k) values (1001, 2);
select id from t where k = 2 order by id;
-- name: opening_copy_no_columns
copy t from stdin;
2000	1	1	1	a
2001	2	1	1	b
\.
select id from t where id >= 2000 order by id;
-- name: opening_copy_binary_out
-- unordered
copy t(id) to stdout (format binary);
-- name: opening_copy_csv_header
-- unordered
copy t to stdout (format csv, header);
-- name: opening_cursor
begin;
declare c cursor for select id from t order by id;
fetch 5 from c;
commit;
-- name: opening_reference_volatile
insert into currencies values ('VOL', extract(epoch from clock_timestamp())::numeric + random()::numeric);
-- name: opening_update_failing
-- error: 22012
update t set x = 1 / (k - 7);
select count(*) from t;
-- name: opening_discard_all
-- expect: equal
set work_mem = '7MB';
discard all;
show work_mem;
-- name: opening_key_in_case
-- expect: equal
select count(*) from t where case when k = 5 then false else true end;
-- name: opening_key_in_target_list
-- expect: equal
-- unordered
select id, k = 5 from t;
-- name: opening_key_in_outer_join
select count(*) from t a left join t b on a.id = b.id and b.k = 5;
-- name: opening_key_update_with_modulo
update t set x = -1 where k % 10 = 5;
select count(*) from t where x = -1;
-- name: opening_null_key_insert
-- expect: equal
insert into maybes values (null, 99);
select count(*) from maybes where n = 99;
-- name: opening_order_by_two_groups_limit
select k, count(*) from t group by k order by count(*) desc, k limit 3;
-- name: opening_with_ties
select id from t order by x fetch first 2 rows with ties;
-- name: opening_distinct_on
select distinct on (g) g, id from t order by g, id desc;
-- name: opening_numeric_digits
select sum(n) from kinds where k in (2, 12, 22);
-- name: opening_set_config
select set_config('work_mem', '4MB', false), 1;
show work_mem;
-- name: opening_key_update
-- expect: refused
update t set k = k + 1 where k = 7;
-- name: opening_write_function
-- expect: refused
select touch(4);
-- name: opening_limit_below_group
select g, sum(x) from t group by g order by sum(x), g limit 1;
-- name: opening_min_text
select min(s), max(s) from t;
-- name: opening_sum_interval
select sum(iv) from kinds where k < 5;
-- name: opening_between
-- expect: equal
select id from t where k between 3 and 4 order by id;
