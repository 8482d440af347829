-- Schema changes: on every shard or on none. The tables of this file are not in the configuration's keyspaces' key
-- lists unless they are listed there (`ddl_a` is, by column k).

-- name: ddl_alter_add_column
-- autocommit
-- cleanup: alter table smalls drop column if exists extra
alter table smalls add column extra int default 5;
select k, extra from smalls where k = 3;
select k, extra from smalls order by k;
select * from smalls where k = 3;
-- name: ddl_alter_drop_column
-- autocommit
-- cleanup: alter table maybes drop column if exists extra
alter table maybes add column extra text;
alter table maybes drop column extra;
select * from maybes where k = 3 order by n;
-- name: ddl_create_index
-- autocommit
-- cleanup: drop index if exists t_x
create index t_x on t (x);
select count(*) from t where x = 3;
drop index t_x;
-- name: ddl_create_index_concurrently
-- autocommit
-- cleanup: drop index if exists t_xc
create index concurrently t_xc on t (x);
drop index t_xc;
-- name: ddl_create_listed_table
-- autocommit
-- cleanup: drop table if exists ddl_a
create table ddl_a (k int primary key, v text);
insert into ddl_a values (1, 'a') returning k, v;
select v from ddl_a where k = 1;
select count(*) from ddl_a;
drop table ddl_a;
-- name: ddl_create_twice
-- error: 42P07
create table users (id bigint primary key);
-- name: ddl_create_if_not_exists
-- autocommit
create table if not exists users (id bigint primary key);
-- name: ddl_drop_missing
-- error: 42P01
-- autocommit
drop table no_such_table;
-- name: ddl_drop_if_exists
-- autocommit
drop table if exists no_such_table;
-- name: ddl_unique_without_key
-- expect: refused
-- autocommit
-- cleanup: drop index if exists users_email
create unique index users_email on users (email);
-- name: ddl_unique_constraint_without_key
-- expect: refused
-- autocommit
-- cleanup: alter table users drop constraint if exists users_email_key
alter table users add constraint users_email_key unique (email);
-- name: ddl_foreign_key_not_colocated
-- expect: refused
-- autocommit
-- cleanup: alter table follows drop constraint if exists follows_fk
alter table follows add constraint follows_fk foreign key (other_id) references users (id) not valid;
-- name: ddl_foreign_key_to_reference
-- autocommit
-- error: 23503
-- cleanup: alter table users drop constraint if exists users_country
alter table users add constraint users_country foreign key (country) references countries (code);
insert into users (id, name, country) values (1500, 'x', 'QQ');
-- name: ddl_alter_error
-- error: 42701
-- autocommit
alter table users add column name text;
-- name: ddl_not_null_violation_on_one_shard
-- error: 23502
-- autocommit
-- cleanup: alter table kinds alter column i4 drop not null
alter table kinds alter column i4 set not null;
select count(*) from kinds where i4 is null;
-- name: ddl_check_violation
-- error: 23514
-- autocommit
-- cleanup: alter table t drop constraint if exists t_check
alter table t add constraint t_check check (id <> 5);
-- name: ddl_create_view
-- autocommit
-- cleanup: drop view if exists ddl_view
create view ddl_view as select id, name from users where active;
select name from ddl_view where id = 4;
drop view ddl_view;
-- name: ddl_create_type
-- autocommit
-- cleanup: drop type if exists ddl_type
create type ddl_type as enum ('a', 'b');
select 'a'::ddl_type::text;
drop type ddl_type;
-- name: ddl_create_function
-- autocommit
-- cleanup: drop function if exists ddl_fn
create function ddl_fn(i int) returns int language sql immutable as 'select i * 2';
select ddl_fn(4);
drop function ddl_fn;
-- name: ddl_comment
-- autocommit
comment on table users is 'people';
-- name: ddl_vertical
-- autocommit
-- cleanup: alter table user_settings drop column if exists extra
alter table user_settings add column extra int;
select user_id, extra from user_settings where user_id = 4;
-- name: ddl_vertical_unique
-- autocommit
-- cleanup: drop index if exists user_settings_theme; drop index if exists user_settings_renamed
create unique index user_settings_theme on user_settings (theme, user_id);
drop index user_settings_theme;
create index user_settings_theme on user_settings (theme);
alter index user_settings_theme rename to user_settings_renamed;
drop index if exists user_settings_theme;
drop index if exists public.user_settings_renamed;
-- name: ddl_index_nowhere
-- autocommit
-- error: 42704
drop index there_is_none;
-- name: ddl_rename_column
-- autocommit
-- cleanup: alter table defaults rename column remark to note
alter table defaults rename column note to remark;
select remark from defaults where k = 3;
-- name: ddl_drop_key_column
-- expect: refused
alter table t drop column k;
-- name: ddl_partition
-- autocommit
-- cleanup: drop table if exists events_2026
create table events_2026 partition of events for values from ('2026-01-01') to ('2027-01-01');
insert into events values (3, '2026-05-05', 'x') returning what;
drop table events_2026;
-- name: ddl_rollback
begin;
alter table smalls add column gone int;
rollback;
select * from smalls where k = 3;
-- name: ddl_database
-- expect: listed
-- autocommit
-- compare: status
vacuum users;
