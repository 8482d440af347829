-- Which shard: keys as constants, parameters, lists, casts, and the predicates that must not pin.
-- all: equal

-- name: key_eq
select id, name, age from users where id = 1;
-- name: key_eq_star
-- expect: listed
select * from users where id = 7;
-- name: key_eq_none
select id, name from users where id = 4000;
-- name: key_eq_reversed
select id from users where 5 = id;
-- name: key_eq_and_more
select id, name from users where id = 5 and active and age > 3;
-- name: key_eq_contradiction
select id from users where id = 5 and id = 6;
-- name: key_eq_qualified
select users.id, public.users.name from public.users where users.id = 9;
-- name: key_eq_alias
select u.id, u.name n from users as u where u.id = 9;
-- name: key_eq_column_alias
select a, b from users as u (a, b) where a = 9;
-- name: key_eq_parens
select id from users where ((id = (9)));
-- name: key_eq_negative
select k, v from smalls where k = -2;
-- name: key_eq_plus_sign
select k, v from smalls where k = +2;
-- name: key_eq_string
select id, name from users where id = '7';
-- name: key_eq_string_blank
select id, name from users where id = ' 7 ';
-- name: key_eq_cast
select id, name from users where id = 7::bigint;
-- name: key_eq_cast_int
select id, name from users where id = 7::int;
-- name: key_eq_cast_text
select id, name from users where id = '7'::int8;
-- name: key_eq_cast_function
select id, name from users where id = cast('7' as bigint);
-- name: key_eq_type_literal
select id, name from users where id = bigint '7';
-- name: key_eq_numeric_exact
select id from users where id = 1.0;
-- name: key_eq_numeric_inexact
select id from users where id = 1.5;
-- name: key_eq_exponent
select id from users where id = 1e1;
-- name: key_eq_float
select id from users where id = 7::float8;
-- name: key_eq_hex_string
-- error: 22P02
select id from users where id = '0x7';
-- name: key_eq_overflow
select id from users where id = 99999999999999999999;
-- name: key_eq_bad_text
-- error: 22P02
select id from users where id = 'seven';
-- name: key_eq_null
select id from users where id = null;
-- name: key_is_null
select k, n from maybes where k is null order by n;
-- name: key_is_not_distinct
select k, n from maybes where k is not distinct from 3 order by n;
-- name: key_is_not_distinct_null
select k, n from maybes where k is not distinct from null order by n;
-- name: key_in_one
select id from users where id in (3);
-- name: key_in_several
select id from users where id in (3, 4, 5, 99) order by id;
-- name: key_in_null
select id from users where id in (3, null) order by id;
-- name: key_in_duplicates
select id from users where id in (3, 3, 3);
-- name: key_any_array
select id from users where id = any (array[3, 4]) order by id;
-- name: key_any_literal
select id from users where id = any ('{3,4}') order by id;
-- name: key_any_literal_cast
select id from users where id = any ('{3,4,NULL}'::bigint[]) order by id;
-- name: key_or
select id from users where id = 3 or id = 30 order by id;
-- name: key_or_other
select id from users where id = 3 or name = 'Bo' order by id;
-- name: key_not
select count(*) from users where not (id = 3);
-- name: key_ne
select count(*) from users where id <> 3;
-- name: key_between
select id from users where id between 3 and 6 order by id;
-- name: key_range
select id from users where id > 35 order by id;
-- name: key_values_row
select a, b, n from pairs where a = 1 and b = 'b5';
-- name: key_half
select a, b, n from pairs where a = 1 order by b;
-- name: key_row_compare
-- expect: listed
select a, b, n from pairs where (a, b) = (1, 'b5');
-- name: key_row_in
-- expect: listed
select a, b, n from pairs where (a, b) in ((1, 'b5'), (2, 'b6')) order by b;
-- name: key_param_int8
-- params: [{"int8": 7}]
select id, name from users where id = $1;
-- name: key_param_int4
-- params: [{"int4": 7}]
select id, name from users where id = $1;
-- name: key_param_int2
-- params: [{"int2": 7}]
select id, name from users where id = $1;
-- name: key_param_untyped
-- params: ["7"]
select id, name from users where id = $1;
-- name: key_param_null
-- params: [null]
select id, name from users where id = $1;
-- name: key_param_text_typed
-- params: [{"text": "7"}]
-- error: 42883
select id, name from users where id = $1;
-- name: key_param_cast
-- params: ["7"]
select id, name from users where id = $1::int;
-- name: key_param_numeric
-- params: [{"numeric": "7"}]
select id, name from users where id = $1;
-- name: key_param_float8
-- params: [{"float8": 7}]
select id, name from users where id = $1;
-- name: key_param_any
-- params: [{"int8[]": [3, 4, 90]}]
select id from users where id = any ($1) order by id;
-- name: key_param_any_one
-- params: [{"int8[]": [3]}]
select id, name from users where id = any ($1);
-- name: key_param_any_empty
-- params: [{"int8[]": []}]
select id, name from users where id = any ($1);
-- name: key_param_any_null_inside
-- params: [{"int8[]": [3, null]}]
select id, name from users where id = any ($1);
-- name: key_param_in
-- params: [{"int8": 3}, {"int8": 33}]
select id from users where id in ($1, $2) order by id;
-- name: key_param_in_mixed
-- params: [{"int8": 3}]
select id from users where id in ($1, 4, 5) order by id;
-- name: key_param_and_literal
-- params: [{"int8": 3}]
select id from users where id = $1 and id = 3;
-- name: key_param_bad_text
-- params: ["seven"]
-- error: 22P02
select id from users where id = $1;
-- name: key_param_bad_binary
-- params: [{"bytes:int8": "0003"}]
-- modes: binary
-- error: 08P01
select id from users where id = $1;
-- name: key_param_twice
-- params: [{"int8": 3}]
select u.id, p.id from users u, posts p where u.id = $1 and p.user_id = $1 order by 2;
-- name: key_text
select w, n from words where w = 'O''Hara';
-- name: key_text_escape_string
select w, n from words where w = E'O\'Hara';
-- name: key_text_backslash
select w, n from words where w = 'back\slash';
-- name: key_text_dollar_quote
select w, n from words where w = $$O'Hara$$;
-- name: key_text_unicode_escape
select w, n from words where w = U&'\00fcn\00ef';
-- name: key_text_concat_lines
select w, n from words where w = 'al'
'pha';
-- name: key_text_number
select w, n from words where w = '007';
-- name: key_text_empty
select w, n from words where w = '';
-- name: key_text_vs_int
-- error: 42883
select w, n from words where w = 7;
-- name: key_text_param
-- params: [{"text": "Beta"}]
select w, n from words where w = $1;
-- name: key_text_param_varchar
-- params: [{"varchar": "Beta"}]
select w, n from words where w = $1;
-- name: key_text_param_untyped
-- params: ["ünï"]
select w, n from words where w = $1;
-- name: key_text_any
-- params: [{"text[]": ["Beta", "gamma", "nope"]}]
select w, n from words where w = any ($1) order by n;
-- name: key_text_concat_operator
select w, n from words where w = 'al' || 'pha';
-- name: key_text_lower
select w, n from words where lower(w) = 'beta';
-- name: key_text_like
select w, n from words where w like '%a' order by n;
-- name: key_varchar
select code, n from codes where code = '123';
-- name: key_varchar_cast
select code, n from codes where code = 'a'::text;
-- name: key_varchar_trailing_blank
select code, n from codes where code = 'a ';
-- name: key_char
select c, n from chars where c = 'ab';
-- name: key_char_trailing_blanks
select c, n from chars where c = 'ab   ';
-- name: key_char_text_cast
-- expect: listed
select c, n from chars where c = 'ab '::text;
-- name: key_uuid
select token, note from tokens where token = '00000003-1111-4111-8111-1234567890ab';
-- name: key_uuid_upper
select token, note from tokens where token = '00000003-1111-4111-8111-1234567890AB';
-- name: key_uuid_braces
select token, note from tokens where token = '{00000003-1111-4111-8111-1234567890ab}';
-- name: key_uuid_no_dashes
select token, note from tokens where token = '000000031111411181111234567890ab';
-- name: key_uuid_param
-- params: [{"uuid": "00000003-1111-4111-8111-1234567890ab"}]
select token, note from tokens where token = $1;
-- name: key_date
select day, n from days where day = '2024-01-30';
-- name: key_date_literal
select day, n from days where day = date '2024-01-30';
-- name: key_date_iso_basic
select day, n from days where day = '20240130';
-- name: key_date_month_name
select day, n from days where day = 'Jan 30, 2024';
-- name: key_date_param
-- params: [{"date": "2024-01-30"}]
select day, n from days where day = $1;
-- name: key_date_vs_timestamp
select day, n from days where day = timestamp '2024-01-30 00:00:00';
-- name: key_date_vs_timestamp_noon
select day, n from days where day = timestamp '2024-01-30 12:00:00';
-- name: key_timestamp
select at, n from stamps where at = '2024-01-03 03:30:00.3';
-- name: key_timestamp_param
-- params: [{"timestamp": "2024-01-03 03:30:00.3"}]
select at, n from stamps where at = $1;
-- name: key_timestamptz
select at, n from moments where at = '2024-01-03 03:30:00+03';
-- name: key_timestamptz_other_zone
select at, n from moments where at = '2024-01-03 00:30:00+00';
-- name: key_timestamptz_param
-- params: [{"timestamptz": "2024-01-03 03:30:00+03"}]
select at, n from moments where at = $1;
-- name: key_bytea
select b, n from blobs where b = '\x0300';
-- name: key_bytea_hex
select b, n from blobs where b = '\x03';
-- name: key_bytea_escape
select b, n from blobs where b = '\003';
-- name: key_bytea_param
-- params: [{"bytea": "04"}]
select b, n from blobs where b = $1;
-- name: key_bool
select ok, n from flags where ok = true order by n;
-- name: key_bool_bare
select ok, n from flags where ok order by n;
-- name: key_bool_not
select ok, n from flags where not ok order by n;
-- name: key_bool_is_false
select ok, n from flags where ok is false order by n;
-- name: key_bool_string
select ok, n from flags where ok = 'yes' order by n;
-- name: key_smallint_vs_int8
select k, v from smalls where k = 3::bigint;
-- name: key_smallint_out_of_range
select k, v from smalls where k = 70000;
-- name: key_quoted_identifier
select "Key Col", "select", "MiXed" from "Odd Table" where "Key Col" = 3;
-- name: key_quoted_wrong_case
-- expect: listed
-- error: 42P01
select * from "odd table" where "Key Col" = 3;
-- name: key_folded
SELECT ID, NAME FROM USERS WHERE ID = 3;
-- name: key_other_schema
select id, k, note from other.t where k = 3 order by id;
-- name: key_same_name_two_schemas
select a.id, b.id from t a, other.t b where a.k = 3 and b.k = 3 order by 1, 2;
-- name: key_partitioned
select user_id, at, what from events where user_id = 3 order by at;
-- name: key_partition_child
select user_id, at, what from events_2024 where user_id = 3 order by at;
-- name: key_comment_in_the_way
select id /* where id = 9 */ from users -- where id = 8
where id = 3;
-- name: key_nested_comment
select id from users /* a /* nested */ comment */ where id = 3;
-- name: key_in_string_only
select 'where id = 5', id from users where id = 3;
-- name: key_only_keyword
select id from only users where id = 3;
-- name: key_star_table
select id from users * where id = 3;
-- name: key_tablesample_all
-- expect: listed
select count(*) from users tablesample system (100) where id = 3;
-- name: no_key_concat
-- unordered
select id, name from users;
-- name: no_key_filter
-- unordered
select id from users where age > 40;
-- name: no_key_expression
-- unordered
select id * 2 as twice, upper(name) from users where age is not null;
-- name: no_key_arithmetic_on_key
select id from t where k + 1 = 5 order by id;
-- name: no_key_modulo
select id from t where k % 10 = 5 order by id;
-- name: no_key_key_vs_column
select id from t where k = g order by id;
-- name: no_key_function_of_key
select id from t where abs(k) = 5 order by id;
-- name: no_key_case
select id from t where case when k = 5 then true else false end order by id;
-- name: no_key_coalesce
select k, n from maybes where coalesce(k, 0) = 0 order by n;
-- name: no_from
select 1, 'two', null, 3.5;
-- name: no_from_named
select 1 as a, 2 as a;
-- name: values_list
values (1, 'a'), (2, 'b');
-- name: select_nothing
select;
-- name: empty_query
;
-- name: only_comment
-- modes: simple
/* nothing */;
-- name: table_command
-- expect: listed
-- unordered
table currencies;
