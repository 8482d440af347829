-- Tables that PostgreSQL divides inside each shard: by range (events), and by range and hash (ledger). Their partitions are
-- not listed in the configuration.

-- name: part_insert_returning
insert into ledger values (1, '2024-02-03 04:05+00', 10) returning k, at, amount;
select k, amount from ledger where k = 1;
-- name: part_insert_many_of_one_key
insert into ledger values (2, '2024-02-03+00', 1), (2, '2025-02-03+00', 2);
select count(*), sum(amount) from ledger where k = 2;
select amount from ledger where k = 2 and at >= '2025-01-01+00';
-- name: part_out_of_range
-- error: 23514
insert into ledger values (1, '2031-01-01+00', 1);
-- name: part_null_bound
-- error: 23514
insert into ledger values (1, null, 1);
-- name: part_partition_by_its_name
insert into ledger values (3, '2024-07-01+00', 7), (3, '2025-07-01+00', 8);
select amount from ledger_p2024 where k = 3;
select amount from ledger_p2025 where k = 3;
select count(*) from ledger_p2024_h00 where k = 3;
-- name: part_write_to_a_partition
insert into ledger_p2025 values (4, '2025-03-01+00', 4);
update ledger_p2025 set amount = amount + 1 where k = 4 returning amount;
select amount from ledger where k = 4;
delete from ledger_p2025 where k = 4 returning k;
-- name: part_write_to_the_wrong_partition
-- error: 23514
insert into ledger_p2025 values (4, '2024-03-01+00', 4);
-- name: part_row_moves
insert into ledger values (5, '2024-03-01+00', 5);
update ledger set at = '2025-03-01+00' where k = 5 returning at;
select count(*) from ledger_p2024 where k = 5;
select count(*) from ledger_p2025 where k = 5;
-- name: part_key_may_not_change
-- expect: refused
update ledger set k = 6 where k = 5;
-- name: part_only
insert into ledger values (7, '2024-03-01+00', 5);
select count(*) from only ledger where k = 7;
select count(*) from only ledger_p2024 where k = 7;
-- name: part_upsert
insert into ledger values (8, '2024-03-01+00', 5);
insert into ledger values (8, '2024-03-01+00', 6) on conflict (k, at) do update set amount = excluded.amount returning amount;
insert into ledger values (8, '2024-03-01+00', 6) on conflict do nothing returning amount;
-- name: part_duplicate
-- error: 23505
insert into ledger values (8, '2024-03-01+00', 5);
insert into ledger values (8, '2024-03-01+00', 5);
-- name: part_everywhere_count
select count(*), min(user_id), max(user_id) from events;
-- name: part_everywhere_order
select user_id, at, what from events order by user_id, at, what limit 7;
-- name: part_everywhere_by_partition
select count(*) from events_2024;
-- name: part_everywhere_group
select what, count(*) from events group by what order by what;
-- name: part_join_on_the_key
select u.name, e.what from users u join events e on e.user_id = u.id where u.id = 3 order by e.at, e.what;
-- name: part_join_partition_on_the_key
select u.name, count(*) from users u join events_2024 e on e.user_id = u.id where u.id = 3 group by u.name;
-- name: part_semi_join
select count(*) from users u where exists (select from events e where e.user_id = u.id and e.at >= '2025-01-01');
-- name: part_delete_everywhere
-- expect: refused
delete from events where at < '2024-06-01';
-- name: part_copy
copy ledger from stdin;
1	2024-01-01 00:00:00+00	1
1	2025-01-01 00:00:00+00	2
1	2024-12-31 23:59:59+00	3
\.
select count(*), sum(amount) from ledger where k = 1;
-- name: part_copy_out_of_range
-- error: 23514
copy ledger from stdin;
1	2031-01-01 00:00:00+00	1
\.
-- name: part_tableoid
-- modes: simple extended
select tableoid::regclass, at from events where user_id = 3 order by at;
-- name: part_truncate_partition
truncate ledger_p2024;
select count(*) from ledger where k = 9;
-- name: part_new_partition
-- autocommit
-- cleanup: drop table if exists ledger_p2026
create table ledger_p2026 partition of ledger for values from ('2026-01-01 00:00+00') to ('2027-01-01 00:00+00');
insert into ledger values (10, '2026-03-01+00', 10);
select amount from ledger where k = 10;
select amount from ledger_p2026 where k = 10;
drop table ledger_p2026;
select count(*) from ledger where k = 10;
-- name: part_detach_and_attach
-- autocommit
-- cleanup: drop table if exists ledger_p2026
create table ledger_p2026 partition of ledger for values from ('2026-01-01 00:00+00') to ('2027-01-01 00:00+00');
alter table ledger detach partition ledger_p2026;
alter table ledger attach partition ledger_p2026 for values from ('2026-01-01 00:00+00') to ('2027-01-01 00:00+00');
insert into ledger values (11, '2026-03-01+00', 11);
select amount from ledger where k = 11;
drop table ledger_p2026;
-- name: part_index_on_all
-- autocommit
-- cleanup: drop index if exists ledger_amount
create index ledger_amount on ledger (amount);
insert into ledger values (12, '2025-03-01+00', 12) returning amount;
delete from ledger where k = 12;
drop index ledger_amount;
-- name: part_overlap
-- error: 42P17
-- autocommit
create table ledger_again partition of ledger for values from ('2025-06-01 00:00+00') to ('2025-07-01 00:00+00');
-- name: part_prepared
-- params: [{"int4": 3}, {"date": "2024-06-01"}]
select what from events where user_id = $1 and at >= $2 order by at, what;
