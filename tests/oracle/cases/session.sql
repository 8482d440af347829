-- Session state: SET, SHOW, PREPARE, cursors, DISCARD.
-- all: equal

-- name: show_setting
show server_encoding;
-- name: show_integer_datetimes
show integer_datetimes;
-- name: show_unknown
-- error: 42704
show nope_nope;
-- name: show_search_path
show search_path;
-- name: set_show
set work_mem = '7MB';
show work_mem;
-- name: set_to
set work_mem to 8192;
show work_mem;
-- name: set_default
set work_mem = '7MB';
set work_mem to default;
show work_mem;
-- name: set_reset
set work_mem = '7MB';
reset work_mem;
show work_mem;
-- name: set_reset_all
set work_mem = '7MB';
reset all;
show work_mem;
-- name: set_unknown
-- error: 42704
set nope_nope = 1;
-- name: set_invalid
-- error: 22023
set work_mem = 'much';
-- name: null_equals_off
set transform_null_equals = off;
select count(*) from users where id = null;
reset transform_null_equals;
-- name: null_equals_on
-- expect: refused
set transform_null_equals = on;
-- name: null_equals_by_set_config
-- expect: refused
select set_config('transform_null_equals', 'yes', false);
-- name: array_nulls_on
set array_nulls = on;
select '{NULL}'::text[];
reset array_nulls;
-- name: array_nulls_off
-- expect: refused
set array_nulls = off;
-- name: array_nulls_by_set_config
-- expect: refused
select set_config('array_nulls', 'false', false);
-- name: array_nulls_by_escapes
-- expect: refused
set array_nulls = E'o\x66f';
-- name: seed
-- expect: refused
set seed = 0.5;
-- name: seed_by_set_config
-- expect: refused
select set_config('seed', '0.5', false);
-- name: encoding_by_set_config
-- expect: refused
select set_config('client_encoding', 'latin1', false);
-- name: set_custom
set app.who = '42';
select current_setting('app.who');
show app.who;
-- name: set_custom_missing
-- error: 42704
select current_setting('app.never');
-- name: set_custom_missing_ok
select current_setting('app.never', true);
-- name: set_config_function
-- expect: listed
select set_config('app.x', 'y', false);
select current_setting('app.x');
-- name: set_config_local
-- expect: listed
begin;
select set_config('app.x', 'y', true);
select current_setting('app.x');
commit;
-- name: set_time_zone
set time zone 'Asia/Tokyo';
select timestamptz '2024-01-01 00:00:00+00';
show timezone;
-- name: set_time_zone_interval
set time zone interval '+02:00' hour to minute;
select timestamptz '2024-01-01 00:00:00+00';
-- name: set_time_zone_local
set time zone local;
show timezone;
-- name: set_time_zone_read
set timezone = 'America/New_York';
select seen from users where id = 4;
select at, n from moments order by n limit 3;
-- name: set_datestyle
set datestyle = 'German, DMY';
select date '2024-02-01', '01/02/2024'::date;
select day from days where day = '30.01.2024';
-- name: set_datestyle_key
set datestyle = 'SQL, DMY';
select day, n from days where day = '30/01/2024';
-- name: set_intervalstyle
set intervalstyle = 'iso_8601';
select interval '1 day 2 hours';
select iv from kinds where k = 4;
-- name: set_bytea_output
set bytea_output = 'escape';
select b from blobs where b = '\x03'::bytea;
select b from blobs order by n limit 4;
-- name: set_extra_float_digits
set extra_float_digits = -3;
select 0.1::float8 + 0.2::float8;
select f8 from kinds where k = 9;
-- name: set_search_path
set search_path = other, public;
select id, k from t where k = 3 order by id;
-- name: set_search_path_missing_schema
-- expect: listed
-- error: 42P01
set search_path = nowhere;
select id from users where id = 3;
-- name: set_search_path_qualified
set search_path = other;
select id from public.users where id = 3;
-- name: set_search_path_local
begin;
set local search_path = other;
select count(*) from t where k = 3;
commit;
select count(*) from t where k = 3;
-- name: set_schema
-- expect: listed
set schema 'other';
select count(*) from t where k = 3;
-- name: set_standard_conforming_strings
set standard_conforming_strings = off;
select w, n from words where w = 'back\\slash';
-- name: set_names
set names 'UTF8';
show client_encoding;
-- name: set_client_encoding_other
-- expect: refused
set client_encoding = 'LATIN1';
-- name: set_session_characteristics
set session characteristics as transaction isolation level repeatable read;
begin;
show transaction_isolation;
commit;
-- name: set_role_unknown
-- error: 22023
-- expect: listed
set role nobody_here;
-- name: set_statement_timeout_fires
-- error: 57014
set statement_timeout = '50ms';
select pg_sleep(5) from users where id = 4;
-- name: set_application_name
set application_name = 'the oracle';
show application_name;
select current_setting('application_name') from users where id = 4;
-- name: set_lock_timeout
set lock_timeout = '1s';
select id from users where id = 4;
show lock_timeout;
-- name: discard_all
set work_mem = '7MB';
discard all;
show work_mem;
-- name: discard_all_in_transaction
-- error: 25001
begin;
discard all;
rollback;
-- name: discard_plans
discard plans;
-- name: discard_sequences
discard sequences;
-- name: discard_temp
discard temp;

-- name: prepare_execute
-- expect: listed
prepare p (bigint) as select name from users where id = $1;
execute p (4);
execute p (5);
deallocate p;
-- name: prepare_untyped
-- expect: listed
prepare p as select name from users where id = $1;
execute p ('4');
-- name: prepare_cut_text
-- expect: listed
prepare p (varchar(1)) as select n from words where w = $1;
execute p ('7x');
execute p ('7');
-- name: prepare_numeric_for_int
-- expect: listed
prepare p (numeric) as select name from users where id = $1;
execute p (4);
execute p (4.5);
-- name: prepare_rounded
-- expect: listed
prepare p (int) as select name from users where id = $1;
execute p (3.6);
-- name: prepare_blanks
-- expect: listed
prepare p (bpchar) as select n from words where w = $1;
execute p ('alpha  ');
-- name: prepare_array
-- expect: listed
prepare p (int[]) as select name from users where id = any ($1) and id = 4;
execute p ('{3,4}');
-- name: execute_number_for_text
begin;
prepare p (text) as insert into words (w, n) select $1, 1 returning w;
execute p (-03);
select n from words where w = '-3';
rollback;
-- name: execute_zeros_for_text
begin;
prepare p (text) as insert into words (w, n) values ($1, 1);
execute p (-00.50);
select w from words where w = '-0.50';
rollback;
-- name: execute_minus_zero_for_text
begin;
prepare p (text) as insert into words (w, n) values ($1, 1);
execute p (-00);
select w from words where w = '0';
rollback;
-- name: execute_exponent_for_text
-- expect: listed
begin;
prepare p (text) as insert into words (w, n) values ($1, 1);
execute p (1e2);
rollback;
-- name: prepare_insert
-- expect: listed
begin;
prepare p (bigint, bigint) as insert into follows values ($1, $2, null) returning user_id;
execute p (600, 1);
execute p (600, 2);
rollback;
-- name: prepare_twice
-- error: 42P05
prepare p as select 1;
prepare p as select 2;
-- name: prepare_execute_unknown
-- expect: listed
-- error: 26000
execute nope;
-- name: prepare_deallocate_unknown
-- error: 26000
deallocate nope;
-- name: prepare_deallocate_all
-- expect: listed
-- error: 26000
prepare p as select 1;
deallocate all;
execute p;
-- name: prepare_wrong_count
-- expect: listed
-- error: 42601
prepare p (int) as select $1;
execute p (1, 2);
-- name: prepare_scatter
-- expect: listed
prepare p (int) as select id from t where x > $1 order by id;
execute p (50);
-- name: prepare_survives_rollback
-- expect: listed
begin;
prepare p as select 1;
rollback;
execute p;
-- name: prepare_expression_argument
-- expect: listed
prepare p (bigint) as select name from users where id = $1;
execute p (2 + 2);
-- name: prepare_syntax_error
-- compare: status
-- error: 42601
prepare p as selec 1;

-- name: cursor_pinned
begin;
declare c cursor for select id from posts where user_id = 4 order by id;
fetch 2 from c;
fetch next from c;
fetch all from c;
close c;
commit;
-- name: cursor_scatter
-- expect: listed
begin;
declare c cursor for select id from t order by id;
fetch 5 from c;
fetch 3 from c;
move 10 from c;
fetch 2 from c;
close c;
commit;
-- name: cursor_scroll
begin;
declare c scroll cursor for select id from posts where user_id = 4 order by id;
fetch last from c;
fetch first from c;
fetch absolute 2 from c;
fetch prior from c;
fetch backward 1 from c;
commit;
-- name: cursor_outside
-- error: 25P01
declare c cursor for select id from posts where user_id = 4;
-- name: cursor_unknown
-- error: 34000
begin;
fetch 1 from nope;
rollback;
-- name: cursor_hold
-- expect: listed
begin;
declare c cursor with hold for select id from posts where user_id = 4 order by id;
fetch 1 from c;
commit;
fetch 2 from c;
close c;
-- name: cursor_hold_autocommit
-- expect: listed
declare c cursor with hold for select id from posts where user_id = 4 order by id;
fetch all from c;
close c;
-- name: cursor_two
begin;
declare a cursor for select id from posts where user_id = 4 order by id;
declare b cursor for select other_id from follows where user_id = 3 order by other_id;
fetch 1 from a;
fetch 1 from b;
fetch 1 from a;
close all;
commit;
-- name: cursor_gone_after_commit
-- error: 34000
begin;
declare c cursor for select id from posts where user_id = 4;
commit;
begin;
fetch 1 from c;
rollback;
-- name: temp_table
-- expect: listed
create temp table scratch (a int);
insert into scratch values (1), (2);
select a from scratch order by a;
drop table scratch;
-- name: temp_table_on_commit
-- expect: listed
begin;
create temp table scratch (a int) on commit drop;
insert into scratch values (3);
select a from scratch;
commit;
-- name: listen_unlisten
listen channel_one;
unlisten channel_one;
unlisten *;
-- name: notify_nobody
notify channel_nobody, 'x';
-- name: advisory_lock
-- expect: listed
select pg_advisory_lock(4711);
select pg_try_advisory_lock(4711);
select pg_advisory_unlock(4711);
select pg_advisory_unlock(4711);
-- name: advisory_xact_lock
-- expect: listed
begin;
select pg_advisory_xact_lock(4712);
commit;
-- name: explain_runs
-- expect: listed
-- compare: status
explain (costs off) select * from users where id = 4;
-- name: do_block
-- expect: listed
do $$ begin perform 1; end $$;
-- name: checkpoint_command
-- expect: listed
checkpoint;
-- name: analyze_table
-- expect: listed
analyze users;
