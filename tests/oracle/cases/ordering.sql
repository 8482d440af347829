-- ORDER BY in every form, LIMIT and OFFSET, DISTINCT.
-- all: equal

-- name: order_int
select id from t order by id;
-- name: order_int_desc
select id from t order by id desc;
-- name: order_two
select g, id from t order by g, id;
-- name: order_two_mixed
select g, id from t order by g desc, id asc;
-- name: order_position
select g, id from t order by 1, 2 desc;
-- name: order_alias
select id as n from t order by n;
-- name: order_alias_hides_column
select -id as k, k as q from t order by k;
-- name: order_unselected
select s from t order by id;
-- name: order_unselected_two
select s from t order by g, id;
-- name: order_expression
select id from t order by id % 7, id;
-- name: order_expression_unselected
select s from t order by x + g, id;
-- name: order_function
select id, abs(x - 30) from t order by abs(x - 30), id;
-- name: order_x_limit
select id from t order by x desc, id limit 3;
-- name: order_nulls_default
select k, i4 from kinds order by i4, k;
-- name: order_nulls_first
select k, i4 from kinds order by i4 nulls first, k;
-- name: order_nulls_last_desc
select k, i4 from kinds order by i4 desc nulls last, k;
-- name: order_desc_default_nulls
select k, i4 from kinds order by i4 desc, k;
-- name: order_using
-- expect: listed
select k from kinds order by k using >;
-- name: order_int2
select i2, k from kinds order by i2, k;
-- name: order_int8
select i8, k from kinds order by i8 desc, k;
-- name: order_float8
select f8, k from kinds order by f8, k;
-- name: order_float8_desc
select f8, k from kinds order by f8 desc nulls last, k;
-- name: order_float4
select f4, k from kinds order by f4, k;
-- name: order_numeric
select n, k from kinds order by n, k;
-- name: order_numeric_desc
select n, k from kinds order by n desc, k;
-- name: order_bool
select b, k from kinds order by b, k;
-- name: order_date
select d, k from kinds order by d, k;
-- name: order_date_desc
select d, k from kinds order by d desc nulls first, k;
-- name: order_timestamp
select ts, k from kinds order by ts, k;
-- name: order_timestamptz
select tz, k from kinds order by tz, k;
-- name: order_time
select tm, k from kinds order by tm, k;
-- name: order_uuid
select u, k from kinds order by u, k;
-- name: order_bytea
select "by", k from kinds order by "by", k;
-- name: order_text_c
select tx, k from kinds order by tx, k;
-- name: order_text_c_desc
select tx, k from kinds order by tx desc nulls last, k;
-- name: order_varchar
select vc, k from kinds order by vc, k;
-- name: order_char
-- expect: listed
select c, k from kinds order by c, k;
-- name: order_interval
-- expect: listed
select iv, k from kinds order by iv, k;
-- name: order_enum
-- expect: listed
select feeling, id from users order by feeling, id;
-- name: order_array
-- expect: listed
select tags, id from users order by tags, id;
-- name: order_jsonb
-- expect: listed
select opts, id from users order by opts, id;
-- name: order_composite
-- expect: listed
select home, id from users order by home, id;
-- name: order_domain
-- expect: listed
select zip, id from users order by zip, id;
-- name: order_text_nulls_first
select id, s from t order by s nulls first, id;
-- name: order_text_desc_nulls_last
select id, s from t order by s desc nulls last, id;
-- name: order_lower
-- expect: listed
select id, s from t order by lower(s), id;
-- name: order_collate_c
select id, s from t order by s collate "C", id;
-- name: order_collate_other
-- expect: listed
select id, name from users order by name collate "und-x-icu", id;
-- name: order_constant_position_out_of_range
-- expect: listed
-- error: 42P10
select id from t order by 2;
-- name: order_unknown_column
-- error: 42703
select id from t order by nope;
-- name: order_string_constant
-- expect: listed
-- error: 42601
select id from t order by 'x';
-- name: order_pinned
select id, s from t where k = 3 order by lower(s) desc, id;
-- name: order_by_case
select id from t order by case when g = 2 then 0 else 1 end, id limit 5;
-- name: order_by_cast
select id, x from t order by x::text, id limit 8;
-- name: order_by_random_pinned_count
select count(*) from (select id from t where k = 3 order by random()) q;
-- name: order_duplicate_names
select id as a, g as a from t order by id;
-- name: order_star
select * from t order by id;
-- name: order_star_unique_expression
select *, x * 2 from t order by 6 desc, id;
-- name: order_by_boolean_expression
select id, x from t order by x > 30, id limit 7;

-- name: limit_plain
select id from t order by id limit 5;
-- name: limit_zero
select id from t order by id limit 0;
-- name: limit_all
select id from t order by id limit all;
-- name: limit_null
select id from t order by id limit null;
-- name: limit_expression
-- expect: listed
select id from t order by id limit 2 + 1;
-- name: limit_negative
-- expect: listed
-- error: 2201W
select id from t order by id limit -1;
-- name: limit_huge
select id from t order by id limit 9223372036854775807;
-- name: limit_string
select id from t order by id limit '3';
-- name: limit_cast
select id from t order by id limit '3'::bigint;
-- name: limit_float
-- expect: listed
select id from t order by id limit 2.5;
-- name: limit_offset
select id from t order by id limit 5 offset 10;
-- name: offset_limit
select id from t order by id offset 10 limit 5;
-- name: offset_only
select id from t order by id offset 50;
-- name: offset_beyond
select id from t order by id offset 500;
-- name: offset_negative
-- expect: listed
-- error: 2201X
select id from t order by id offset -1;
-- name: offset_rows
select id from t order by id offset 3 rows fetch next 2 rows only;
-- name: fetch_first
select id from t order by id fetch first 4 rows only;
-- name: fetch_first_row
select id from t order by id fetch first row only;
-- name: fetch_with_ties
-- expect: listed
select g from t order by g fetch first 3 rows with ties;
-- name: limit_overflow
select id from t order by id limit 9223372036854775807 offset 9223372036854775807;
-- name: limit_param_int8
-- params: [{"int8": 3}]
select id from t order by id limit $1;
-- name: limit_param_int4
-- params: [{"int4": 3}]
-- expect: listed
select id from t order by id limit $1;
-- name: limit_param_int2
-- params: [{"int2": 3}, {"int2": 2}]
-- expect: listed
select id from t order by id limit $1 offset $2;
-- name: limit_param_null
-- params: [null]
select id from t order by id limit $1;
-- name: limit_param_untyped
-- params: ["3", "50"]
select id from t order by id limit $1 offset $2;
-- name: limit_param_negative
-- params: [{"int8": -3}]
-- error: 2201W
select id from t order by id limit $1;
-- name: limit_param_used_twice
-- params: [{"int8": 3}]
select id from t where x > $1 order by id limit $1;
-- name: limit_pinned
select id from t where k = 3 order by id limit 2 offset 1;
-- name: limit_no_order_all
-- unordered
select id from t limit 1000;
-- name: limit_hidden_key
select s from t order by x desc, id limit 4 offset 2;

-- name: distinct_int
select distinct g from t order by g;
-- name: distinct_unordered
-- unordered
select distinct g from t;
-- name: distinct_two
select distinct g, x % 2 from t order by 1, 2;
-- name: distinct_null
select distinct k from maybes order by k;
-- name: distinct_text
select distinct s from t order by s;
-- name: distinct_float
-- expect: listed
select distinct f8 from kinds where f8 <> 0 or f8 is null order by f8;
-- name: distinct_numeric
-- expect: listed
select distinct n from kinds where n is null or n in ('NaN', 'Infinity', '-Infinity') order by n;
-- name: distinct_enum
-- expect: listed
select distinct feeling from users order by feeling;
-- name: distinct_date
select distinct d from kinds order by d desc;
-- name: distinct_limit
select distinct g from t order by g limit 2;
-- name: distinct_offset
select distinct g from t order by g offset 3;
-- name: distinct_expression
select distinct g * 10 as ten from t order by ten desc;
-- name: distinct_star
select distinct * from smalls order by k;
-- name: distinct_order_unselected
-- expect: listed
-- error: 42P10
select distinct g from t order by id;
-- name: distinct_on
-- expect: listed
select distinct on (g) g, id from t order by g, id;
-- name: distinct_on_key
-- expect: listed
select distinct on (k) k, id from t order by k, id desc;
-- name: distinct_on_pinned
select distinct on (g) g, id from t where k = 3 order by g, id;
-- name: distinct_pinned
select distinct g, s from t where k = 3 order by 1, 2;
-- name: distinct_constant
select distinct 1 from t;
-- name: distinct_reference
select distinct continent from countries order by 1;
