-- Aggregates, GROUP BY, HAVING, window functions.

-- name: agg_count_star
-- expect: equal
select count(*) from users;
-- name: agg_count_column
-- expect: equal
select count(age), count(name) from users;
-- name: agg_count_empty
-- expect: equal
select count(*) from users where age > 1000;
-- name: agg_sum_int4
-- expect: equal
select sum(x), sum(g) from t;
-- name: agg_sum_int2
-- expect: equal
select sum(i2) from kinds;
-- name: agg_sum_int8
-- expect: equal
select sum(i8) from kinds;
-- name: agg_sum_int8_big
select sum(i8) from kinds where i8 > 100;
-- name: agg_sum_empty
-- expect: equal
select sum(x) from t where x > 1000;
-- name: agg_sum_numeric
select sum(total), sum(n) from orders, kinds where false;
-- name: agg_sum_numeric_scale
select sum(total) from orders;
-- name: agg_sum_numeric_nan
select sum(n) from kinds;
-- name: agg_sum_float
select sum(f8) from kinds where f8 = 1.5;
-- name: agg_min_max_int
-- expect: listed
select min(x), max(x), min(i2), max(i8) from t, kinds where false;
-- name: agg_min_max_t
-- expect: equal
select min(x), max(x), min(id), max(id) from t;
-- name: agg_min_max_kinds
-- expect: equal
select min(i2), max(i2), min(i4), max(i4), min(i8), max(i8) from kinds;
-- name: agg_min_max_date
-- expect: equal
select min(d), max(d) from kinds;
-- name: agg_min_max_timestamp
select min(ts), max(ts), min(tz), max(tz), min(tm), max(tm) from kinds;
-- name: agg_min_max_numeric
select min(n), max(n) from kinds;
-- name: agg_min_max_float
select min(f8), max(f8), min(f4), max(f4) from kinds;
-- name: agg_min_max_text
select min(tx), max(tx), min(c), max(vc) from kinds;
-- name: agg_min_max_interval
select min(iv), max(iv) from kinds where iv not in ('1 mon', '30 days', '1 day', '24:00:00');
-- name: agg_min_max_enum
select min(feeling), max(feeling) from users;
-- name: agg_min_max_null_only
-- expect: equal
select min(x), max(x) from t where x is null;
-- name: agg_avg
select avg(x) from t;
-- name: agg_avg_numeric
select avg(total) from orders;
-- name: agg_avg_pinned
-- expect: equal
select avg(x) from t where k = 1;
-- name: agg_several
-- expect: equal
select count(*), sum(x), min(x), max(x) from t where x > 10;
-- name: agg_aliases
-- expect: equal
select count(*) as n, sum(x) "the Sum" from t;
-- name: agg_expression_arg
-- expect: equal
select sum(x * 2 + 1), max(x - g), count(nullif(g, 0)) from t;
-- name: agg_in_expression
select coalesce(sum(x), 0), sum(x) / count(*), count(*) + 1 from t;
-- name: agg_cast
select count(*)::int, sum(x)::text from t;
-- name: agg_filter
select count(*) filter (where k = 5), count(*) from t;
-- name: agg_distinct
select count(distinct g), sum(distinct g) from t;
-- name: agg_distinct_key
select count(distinct k) from t;
-- name: agg_bool
select bool_and(active), bool_or(active), every(id > 0) from users;
-- name: agg_bits
select bit_and(x), bit_or(x) from t;
-- name: agg_string
select string_agg(s, ',' order by id) from t;
-- name: agg_array
select array_agg(id order by id) from t where k < 3;
-- name: agg_json
select json_agg(id order by id) from t where k < 3;
-- name: agg_statistics
select stddev(x), variance(x) from t where k < 9;
-- name: agg_percentile
select percentile_cont(0.5) within group (order by x), mode() within group (order by g) from t;
-- name: agg_pinned_everything
-- expect: equal
select count(distinct g), string_agg(s, ',' order by id), array_agg(x order by id), stddev(x), percentile_disc(0.5) within group (order by x), bool_or(x > 3) from t where k = 1;
-- name: agg_nested_error
-- error: 42803
select sum(count(*)) from t where k = 1;
-- name: agg_where_error
-- error: 42803
select id from t where k = 1 and count(*) > 1;
-- name: agg_ungrouped_error
-- error: 42803
select id, count(*) from t where k = 1;
-- name: agg_order_by_agg
select count(*) from t order by count(*);
-- name: agg_limit_zero
select count(*) from t limit 0;
-- name: agg_offset_one
select count(*) from t offset 1;

-- name: group_column
-- expect: equal
select g, count(*) from t group by g order by g;
-- name: group_unordered
-- expect: equal
-- unordered
select g, count(*), sum(x), min(x), max(x) from t group by g;
-- name: group_by_key
-- expect: equal
select k, count(*), sum(x) from t group by k order by k;
-- name: group_by_key_anything
select k, string_agg(s, ',' order by id), count(distinct g) from t group by k order by k;
-- name: group_nulls
-- expect: equal
select k, count(*), sum(n) from maybes group by k order by k;
-- name: group_two_columns
-- expect: listed
select g, active, count(*) from t, users where false group by g, active;
-- name: group_two
-- expect: equal
select country, active, count(*), max(age) from users group by country, active order by country, active;
-- name: group_position
select g, count(*) from t group by 1 order by 1;
-- name: group_alias
select g as grp, count(*) from t group by grp order by grp;
-- name: group_expression
select g % 2, count(*) from t group by g % 2 order by 1;
-- name: group_expression_alias
select x / 10 as tens, count(*) from t group by tens order by tens;
-- name: group_unselected
-- unordered
select count(*) from t group by g;
-- name: group_no_aggregate
select g from t group by g order by g;
-- name: group_text
select s, count(*) from t group by s order by s nulls first;
-- name: group_text_count_desc
select s, count(*) from t group by s order by 2 desc, 1 limit 2;
-- name: group_enum
select feeling, count(*) from users group by feeling order by feeling;
-- name: group_float
select f8, count(*) from kinds where f8 <> 0 group by f8 order by f8;
-- name: group_numeric
select n, count(*) from kinds where n in ('NaN', 'Infinity', '-12345.678') group by n order by n;
-- name: group_date
-- expect: equal
select d, count(*) from kinds group by d order by d;
-- name: group_timestamp
select ts, count(*) from kinds group by ts order by ts;
-- name: group_bool
select b, count(*) from kinds group by b order by b;
-- name: group_uuid
select u, count(*) from kinds group by u order by u;
-- name: group_bytea
select "by", count(*) from kinds group by "by" order by 1;
-- name: group_order_by_aggregate
select g, sum(x) from t group by g order by sum(x) desc, g;
-- name: group_order_by_unselected_aggregate
select g from t group by g order by max(x) desc, g;
-- name: group_limit
select g, count(*) from t group by g order by g limit 2;
-- name: group_limit_by_count
select country, count(*) from users group by country order by 2 desc, 1 limit 3;
-- name: group_offset
select k, sum(x) from t group by k order by k offset 15;
-- name: group_having
select g, count(*) from t group by g having count(*) < 6;
-- name: group_having_sum
select k, sum(x) from t group by k having sum(x) > 80 order by k;
-- name: group_having_no_group
select count(*) from t having count(*) > 100;
-- name: group_having_pinned
-- expect: equal
select g, count(*) from t where k = 1 group by g having count(*) > 2;
-- name: group_rollup
select g, count(*) from t group by rollup (g) order by g nulls first;
-- name: group_cube
select g, active, count(*) from t join users on users.id = t.k group by cube (g, active) order by 1 nulls first, 2 nulls first;
-- name: group_sets
select g, count(*) from t group by grouping sets ((g), ()) order by g nulls first;
-- name: group_distinct_on_top
select distinct count(*) from t group by g;
-- name: group_primary_key_functional
-- expect: listed
select id, name, count(*) from users group by id order by id limit 3;
-- name: group_where_pinned
-- expect: equal
select g, sum(x), avg(x) from t where k = 1 group by g order by g;
-- name: group_pinned_rollup
-- expect: equal
select g, count(*) from t where k in (1) group by rollup (g) order by 1 nulls last;
-- name: group_empty_input
-- expect: equal
select g, count(*) from t where x > 1000 group by g;
-- name: group_all_types
select i2, i4, count(*) from kinds group by i2, i4 order by 1, 2;
-- name: group_params
-- params: [{"int4": 2}]
select g % $1, count(*) from t group by 1 order by 1;
-- name: group_case
select case when x > 30 then 'high' else 'low' end, count(*) from t group by 1 order by 1;
-- name: group_date_trunc
select date_trunc('month', created), count(*) from posts group by 1 order by 1;
-- name: group_coalesce
select coalesce(country, '??'), count(*) from users group by coalesce(country, '??') order by 1;

-- name: window_count
-- unordered
select id, count(*) over () from t;
-- name: window_row_number
select id, row_number() over (order by id) from t order by id;
-- name: window_partition_key
select k, id, row_number() over (partition by k order by id) from t order by k, id;
-- name: window_partition_other
select g, id, rank() over (partition by g order by x) from t order by g, id;
-- name: window_pinned
-- expect: equal
select id, sum(x) over (order by id), lag(x) over w, first_value(s) over w from t where k = 1 window w as (order by id) order by id;
-- name: window_running
select id, sum(x) over (order by id rows between 1 preceding and current row) from t order by id;
-- name: window_over_aggregate
select g, sum(count(*)) over (order by g) from t group by g order by g;
-- name: window_ntile
select ntile(4) over (order by id), id from t order by id;
-- name: window_reference
-- expect: equal
select code, rank() over (partition by continent order by code) from countries order by code;
-- name: window_filtered
select id from (select id, row_number() over (order by x, id) r from t) q where r <= 3 order by id;
