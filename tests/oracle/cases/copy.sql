-- COPY, in and out. Rows split over shards come with cross-shard commit.

-- name: copy_out_reference
-- expect: equal
copy (select code, name from countries order by code) to stdout;
-- name: copy_out_pinned_query
-- expect: equal
copy (select id, title, body from posts where user_id = 4 order by id) to stdout;
-- name: copy_out_csv
-- expect: equal
copy (select id, name, null, 'a,"b' from users where id = 4) to stdout with (format csv, header);
-- name: copy_out_binary
-- expect: equal
copy (select id, name from users where id = 4) to stdout (format binary);
-- name: copy_out_table_reference
-- expect: equal
-- unordered
copy countries to stdout;
-- name: copy_out_vertical
-- expect: equal
-- unordered
copy user_activities to stdout;
-- name: copy_out_options_old
copy (select id, name from users where id = 4) to stdout csv header;
-- name: copy_out_scatter_table
-- unordered
copy t to stdout;
-- name: copy_out_scatter_query
copy (select id, k from t order by id) to stdout;
-- name: copy_out_scatter_csv
-- unordered
copy t (id, k) to stdout with (format csv, header);
-- name: copy_out_scatter_binary
-- unordered
copy t (id) to stdout (format binary);
-- name: copy_out_returning
copy (insert into follows values (700, 1, null) returning user_id, other_id) to stdout;
-- name: copy_out_error
-- error: 42P01
copy no_such_table to stdout;
-- name: copy_out_column_error
-- error: 42703
copy (select nope from users where id = 4) to stdout;
-- name: copy_in_one_shard
copy follows from stdin;
3	3001	\N
3	3002	2024-01-01
\.
select other_id, since from follows where user_id = 3 and other_id > 3000 order by 1;
-- name: copy_in_columns
copy follows (other_id, user_id) from stdin;
3001	3
\.
select other_id, since from follows where user_id = 3 and other_id > 3000 order by 1;
-- name: copy_in_csv
copy follows from stdin with (format csv, header);
user_id,other_id,since
3,3001,"2024-01-01"
3,3002,
\.
select other_id, since from follows where user_id = 3 and other_id > 3000 order by 1;
-- name: copy_in_many_shards
copy t (id, k) from stdin;
9001	1
9002	2
9003	3
9004	4
9005	5
\.
select id, k from t where id > 9000 order by 1;
-- name: copy_in_vertical
-- expect: equal
copy user_activities from stdin;
1000	5	view	\N
1001	6	click	2024-01-01 00:00:00+00
\.
select id, what from user_activities where id >= 1000 order by id;
-- name: copy_in_reference
copy currencies from stdin;
CHF	0.95
\.
select rate from currencies where code = 'CHF';
-- name: copy_in_bad_row
-- error: 22P02
copy user_activities from stdin;
x	5	view	\N
\.
select 1;
-- name: copy_in_missing_column
-- error: 22P04
copy user_activities from stdin;
1000	5
\.
-- name: copy_in_duplicate
-- error: 23505
copy user_activities from stdin;
1	5	view	\N
\.
-- name: copy_in_no_rows
copy user_activities from stdin;
\.
-- name: copy_in_fail_message
-- copy: fail
-- error: 57014
copy user_activities from stdin;
1000	5	view	\N
\.
select count(*) from user_activities;
-- name: copy_in_file
-- expect: listed
-- error: 58P01
copy user_activities from '/nonexistent/file';
