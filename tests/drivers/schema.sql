-- The drivers' tables.
create table accounts (id bigint primary key, name text not null, balance int not null default 0, opened date, data jsonb, token uuid, raw bytea, tags text[]);
create table entries (account_id bigint not null, line int not null, amount numeric(12,2), note text, primary key (account_id, line));
create table regions (code text primary key, name text not null);
-- keyspace: activity
create table activity_rust (id int primary key, what text);
create table activity_psycopg (id int primary key, what text);
create table activity_asyncpg (id int primary key, what text);
create table activity_node (id int primary key, what text);
