-- Transaction blocks, savepoints, errors inside them, implicit transactions.
-- all: equal

-- name: tx_commit
begin;
insert into follows values (500, 1, null);
select * from follows where user_id = 500;
commit;
select count(*) from follows where user_id = 500;
delete from follows where user_id = 500;
-- name: tx_rollback
begin;
insert into follows values (501, 1, null);
rollback;
select count(*) from follows where user_id = 501;
-- name: tx_start_transaction
start transaction isolation level repeatable read, read only;
select count(*) from posts where user_id = 4;
commit;
-- name: tx_read_only_write
-- error: 25006
begin read only;
insert into follows values (502, 1, null);
rollback;
-- name: tx_begin_work_end
begin work;
select 1;
end;
-- name: tx_abort
begin transaction;
select 1;
abort;
-- name: tx_begin_twice
begin;
begin;
commit;
-- name: tx_commit_outside
commit;
-- name: tx_rollback_outside
rollback;
-- name: tx_error_then_select
-- error: 22012
begin;
select 1 / 0;
select 1;
rollback;
select 2;
-- name: tx_error_then_commit
-- error: 22012
begin;
select 1 / 0;
commit;
select 2;
-- name: tx_error_on_shard_then_commit
-- expect: listed
-- error: 23505
begin;
insert into follows values (503, 1, null);
insert into users (id, name) values (4, 'x');
select 1;
commit;
select count(*) from follows where user_id = 503;
-- name: tx_syntax_error_then
-- error: 42601
begin;
selec 1;
select 1;
rollback;
-- name: tx_savepoint
begin;
insert into follows values (504, 1, null);
savepoint a;
insert into follows values (504, 2, null);
rollback to a;
select other_id from follows where user_id = 504;
release a;
rollback;
-- name: tx_savepoint_error
-- error: 23505
begin;
savepoint a;
insert into users (id, name) values (4, 'x');
select 1;
rollback to savepoint a;
select 1;
commit;
-- name: tx_savepoint_nested
begin;
insert into follows values (505, 1, null);
savepoint a;
insert into follows values (505, 2, null);
savepoint b;
insert into follows values (505, 3, null);
rollback to b;
select count(*) from follows where user_id = 505;
rollback to a;
select count(*) from follows where user_id = 505;
rollback;
-- name: tx_savepoint_same_name
begin;
savepoint a;
insert into follows values (506, 1, null);
savepoint a;
insert into follows values (506, 2, null);
rollback to a;
release a;
rollback to a;
select count(*) from follows where user_id = 506;
rollback;
-- name: tx_savepoint_release_unknown
-- error: 3B001
begin;
select 1;
release nope;
rollback;
-- name: tx_savepoint_rollback_unknown
-- error: 3B001
begin;
select 1;
rollback to nope;
rollback;
-- name: tx_savepoint_outside
-- error: 25P01
savepoint a;
-- name: tx_savepoint_before_shards
begin;
savepoint a;
select name from users where id = 4;
rollback to a;
select name from users where id = 5;
commit;
-- name: tx_savepoint_two_shards_read
begin;
select name from users where id = 4;
savepoint a;
select name from users where id = 5;
select name from users where id = 6;
rollback to a;
select name from users where id = 7;
commit;
-- name: tx_read_many_shards
begin;
select name from users where id = 1;
select name from users where id = 2;
select name from users where id = 3;
select count(*) from users;
commit;
-- name: tx_read_all_write_one
begin;
select count(*) from users;
update users set age = 1 where id = 3;
select age from users where id = 3;
select count(*) from users where age = 1;
rollback;
-- name: tx_write_two_shards
-- expect: listed
begin;
update users set age = 1 where id = 1;
update users set age = 1 where id = 2;
update users set age = 1 where id = 3;
update users set age = 1 where id = 4;
update users set age = 1 where id = 5;
update users set age = 1 where id = 6;
select count(*) from users where age = 1;
rollback;
-- name: tx_and_chain
-- expect: listed
begin isolation level repeatable read;
select 1;
commit and chain;
show transaction_isolation;
rollback;
-- name: tx_repeatable_read_one_shard
begin isolation level repeatable read;
select count(*) from posts where user_id = 4;
select count(*) from follows where user_id = 4;
commit;
-- name: tx_repeatable_read_scatter
-- expect: listed
begin isolation level repeatable read;
select count(*) from posts;
commit;
-- name: tx_serializable_one_shard
begin isolation level serializable;
select count(*) from posts where user_id = 4;
commit;
-- name: tx_serializable_scatter
-- expect: refused
begin isolation level serializable;
select count(*) from posts;
commit;
-- name: tx_set_transaction
-- expect: listed
begin;
set transaction isolation level repeatable read;
show transaction_isolation;
select count(*) from posts where user_id = 4;
commit;
-- name: tx_set_transaction_late
-- error: 25001
begin;
select count(*) from posts where user_id = 4;
set transaction isolation level serializable;
rollback;
-- name: tx_deferrable
begin transaction isolation level serializable read only deferrable;
select count(*) from posts where user_id = 4;
commit;
-- name: tx_set_local
begin;
set local statement_timeout = '5s';
show statement_timeout;
commit;
show statement_timeout;
-- name: tx_set_rollback
begin;
set work_mem = '7MB';
show work_mem;
rollback;
show work_mem;
-- name: tx_set_rollback_to
begin;
savepoint a;
set work_mem = '7MB';
rollback to a;
show work_mem;
commit;
-- name: tx_now_stable
begin;
select now() = transaction_timestamp(), statement_timestamp() >= now();
commit;
-- name: tx_deferred_constraint
begin;
set constraints all deferred;
select 1;
commit;
-- name: tx_vacuum_inside
-- error: 25001
-- expect: listed
begin;
vacuum users;
rollback;
-- name: implicit_two_selects
-- modes: simple
select 1; select 2;
-- name: implicit_same_shard_writes
-- modes: simple
insert into follows values (510, 1, null); insert into follows values (510, 2, null); select count(*) from follows where user_id = 510; delete from follows where user_id = 510;
-- name: implicit_error_rolls_back
-- modes: simple
-- error: 22012
insert into follows values (511, 1, null); select 1 / 0; select 3;
select count(*) from follows where user_id = 511;
-- name: implicit_two_shards_write
-- modes: simple
-- expect: listed
-- autocommit
insert into t (id, k) values (511, 1); insert into t (id, k) values (511, 2); insert into t (id, k) values (511, 3); insert into t (id, k) values (511, 4);
select count(*) from t where id = 511;
-- cleanup: delete from t where k = 1 and id = 511
-- cleanup: delete from t where k = 2 and id = 511
-- cleanup: delete from t where k = 3 and id = 511
-- cleanup: delete from t where k = 4 and id = 511
-- name: implicit_two_shards_read
-- modes: simple
select name from users where id = 1; select name from users where id = 2; select name from users where id = 3;
-- name: implicit_begin_inside
-- modes: simple
begin; select name from users where id = 1; commit; select 3;
-- name: implicit_begin_left_open
-- modes: simple
select 1; begin; select 2;
rollback;
-- name: implicit_commit_in_the_middle
-- modes: simple
-- error: 22012
insert into follows values (512, 1, null); commit; select 1 / 0;
select count(*) from follows where user_id = 512;
delete from follows where user_id = 512;
-- name: implicit_syntax_error_runs_nothing
-- modes: simple
-- error: 42601
insert into follows values (513, 1, null); selec 1;
select count(*) from follows where user_id = 513;
-- name: implicit_unknown_table_later
-- expect: listed
-- modes: simple
-- error: 42P01
select 1; select * from nope; select 2;
-- name: implicit_empty_statements
-- modes: simple
;; select 1;;
-- name: implicit_savepoint
-- modes: simple
-- error: 25P01
savepoint a; select 1;
