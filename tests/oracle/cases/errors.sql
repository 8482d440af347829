-- PostgreSQL's own errors, by SQLSTATE, from one shard, from many, and from no shard at all.
-- all: equal

-- name: error_syntax
-- expect: listed
-- error: 42601
selec 1;
-- name: error_syntax_end
-- expect: listed
-- error: 42601
select id from users where;
-- name: error_syntax_pinned
-- expect: listed
-- error: 42601
select id from users where id = 4 order;
-- name: error_unterminated_string
-- error: 42601
select 'abc from users;
-- name: error_unterminated_comment
-- error: 42601
select 1 /* open;
-- name: error_unterminated_identifier
-- error: 42601
select "abc from users;
-- name: error_unterminated_dollar
-- error: 42601
select $$abc from users;
-- name: error_zero_length_identifier
-- expect: listed
-- error: 42601
select "" from users;
-- name: error_table
-- expect: listed
-- error: 42P01
select * from no_such_table;
-- name: error_table_write
-- expect: listed
-- error: 42P01
insert into no_such_table values (1);
-- name: error_table_key
-- expect: listed
-- error: 42P01
select * from no_such_table where id = 1;
-- name: error_schema
-- expect: listed
-- error: 42P01
select * from nowhere.users where id = 1;
-- name: error_column
-- error: 42703
select nope from users where id = 1;
-- name: error_column_scatter
-- error: 42703
select nope from users;
-- name: error_column_where
-- error: 42703
select id from users where id = 1 and nope = 3;
-- name: error_column_ambiguous
-- error: 42702
select id from users u, posts p where u.id = 4 and p.user_id = 4;
-- name: error_alias_twice
-- expect: listed
-- error: 42712
select 1 from users u, posts u where u.id = 4;
-- name: error_from_missing
-- error: 42P01
select x.id from users where id = 4;
-- name: error_function
-- error: 42883
select nope(1);
-- name: error_function_shard
-- error: 42883
select nope(id) from users where id = 4;
-- name: error_operator
-- error: 42883
select id from users where id = 4 and name + 1 = 2;
-- name: error_type
-- error: 42704
select 1::nope;
-- name: error_type_mismatch
-- error: 42883
select id from users where id = true;
-- name: error_bool_expected
-- error: 42804
select id from users where id;
-- name: error_division_pinned
-- error: 22012
select 1 / (id - 4) from users where id = 4;
-- name: error_division_scatter
-- error: 22012
select 1 / (id - 4) from users;
-- name: error_division_constant
-- error: 22012
select 1 / 0;
-- name: error_cast
-- error: 22P02
select name::int from users where id = 4;
-- name: error_cast_scatter
-- error: 22P02
select name::int from users;
-- name: error_int_overflow
-- error: 22003
select 2147483647 + 1;
-- name: error_sum_overflow_expression
-- error: 22003
select i8 + 1 from kinds order by k;
-- name: error_date
-- error: 22008
select date '2024-02-30';
-- name: error_date_format
-- error: 22007
select 'no date'::date;
-- name: error_timezone
-- error: 22023
select now() at time zone 'Nowhere/City';
-- name: error_substring
-- error: 22011
select substring('abc', 1, -1);
-- name: error_regex
-- error: 2201B
select id from users where id = 4 and name ~ '(';
-- name: error_json
-- error: 22P02
select '{a'::jsonb;
-- name: error_array_literal
-- error: 22P02
select '{1,2'::int[];
-- name: error_like_escape
-- error: 22025
select name like 'A\' from users where id = 1;
-- name: error_sqrt
-- error: 2201F
select sqrt(-1);
-- name: error_subquery_columns
-- error: 42601
select id from users where id = 4 and id in (select user_id, id from posts where user_id = 4);
-- name: error_raise
-- error: P0001
-- expect: listed
do $$ begin raise exception 'no'; end $$;
-- name: error_param_missing
-- error: 42P02
-- modes: simple
select id from users where id = $1;
-- name: error_param_undetermined
-- error: 42P18
-- params: ["1"]
select id from users where id = 4 and $1 is null;
-- name: error_group
-- error: 42803
select name, count(*) from users where id = 4;
-- name: error_window_where
-- error: 42P20
select id from users where id = 4 and row_number() over () = 1;
-- name: error_limit_column
-- error: 42P10
select id from users where id = 4 limit id;
-- name: error_insert_select_star
-- error: 42601
insert into follows select * from users where id = 4;
-- name: error_update_unknown
-- error: 42703
update users set nope = 1 where id = 4;
-- name: error_delete_table
-- expect: listed
-- error: 42P01
delete from no_such_table where id = 4;
-- name: error_multi_in_extended
-- modes: extended binary
-- error: 42601
select 1; select 2;
-- name: error_system_column_assign
-- error: 0A000
update users set ctid = '(0,1)' where id = 4;
-- name: error_generated_identity
-- error: 428C9
insert into notes (user_id, id) values (4, 9);
-- name: error_nul_in_identifier_length
select 1 as aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa;
-- name: error_truncated_table_name
-- expect: listed
-- error: 42P01
select * from aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa where id = 1;
-- name: error_bad_unicode_escape
-- error: 42601
select U&'\zzzz';
-- name: error_keyword_table
-- expect: listed
-- error: 42601
select * from order where id = 1;
-- name: error_trailing_junk
-- expect: listed
-- error: 42601
select 123abc;
-- name: error_at_sign
-- expect: listed
-- error: 42601
select @;
