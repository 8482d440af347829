-- What every type looks like in text and binary, from one shard and merged, user-defined types included.
-- all: equal

-- name: type_bool
select k, b from kinds order by k;
-- name: type_ints
select k, i2, i4, i8 from kinds order by k;
-- name: type_floats
select k, f4, f8 from kinds order by k;
-- name: type_numeric
select k, n from kinds order by k;
-- name: type_date
select k, d from kinds order by k;
-- name: type_timestamps
select k, ts, tz, tm from kinds order by k;
-- name: type_uuid_bytea
select k, u, "by" from kinds order by k;
-- name: type_text
select k, tx, vc, c from kinds order by k;
-- name: type_interval
select k, iv from kinds order by k;
-- name: type_everything_one
select * from kinds where k = 8;
-- name: type_everything_all
select * from kinds order by k;
-- name: type_jsonb
select id, opts from users order by id;
-- name: type_text_array
select id, tags from users order by id;
-- name: type_enum_one
select id, feeling from users where id = 5;
-- name: type_enum_all
select id, feeling from users order by id;
-- name: type_domain
select id, zip from users order by id;
-- name: type_composite_one
-- expect: listed
select id, home from users where id = 5;
-- name: type_composite_all
-- expect: listed
select id, home from users order by id;
-- name: type_composite_field
select id, (home).street, (home).number from users where id = 5;
-- name: type_enum_array_one
-- expect: listed
select id, moods from users where id = 5;
-- name: type_enum_array_all
-- expect: listed
select id, moods from users order by id;
-- name: type_enum_cast
select 'ok'::mood, id from users where id = 5;
-- name: type_enum_param
-- params: ["ok"]
select id from users where id = 5 and feeling = $1;
-- name: type_enum_param_scatter
-- params: ["happy"]
select id from users where feeling = $1 order by id;
-- name: type_enum_compare
select id from users where feeling > 'ok' order by id;
-- name: type_enum_text
select id, feeling::text from users order by id;
-- name: type_whole_row
-- expect: listed
select p from posts p where user_id = 4 and id = 1;
-- name: type_row_constructor
-- expect: listed
select row(id, name) from users where id = 4;
-- name: type_row_to_json
select row_to_json(p) from posts p where user_id = 4 order by id;
-- name: type_json_build
select json_build_object('id', id, 'name', name) from users where id = 4;
-- name: type_jsonb_operators
select opts -> 'deep' ->> 'a', opts @> '{"n": 5}', opts ? 'n' from users where id = 5;
-- name: type_array_operators
select tags[1], array_length(tags, 1), 't1' = any (tags) from users where id = 5;
-- name: type_array_int
select array[1, 2, null], array[[1, 2], [3, 4]], '{}'::int[];
-- name: type_range
select int4range(1, 5), daterange('2024-01-01', null), numrange(1.5, 2.5, '[]');
-- name: type_network
select '10.0.0.0/8'::cidr, '::1'::inet, '08:00:2b:01:02:03'::macaddr;
-- name: type_bits
select b'1010', '101'::varbit(5);
-- name: type_money
select 12.5::money;
-- name: type_geometry
select point(1, 2), box '((1,1),(0,0))', circle '<(0,0),1>';
-- name: type_tsvector
select to_tsvector('simple', 'a fat cat'), 'cat & fat'::tsquery;
-- name: type_xml_free
select '\x00ff'::bytea, 'a'::"char", 'name'::name, 5::oid, 'users'::regclass::text;
-- name: type_regclass
-- expect: listed
select 'pg_class'::regclass, 'int4'::regtype;
-- name: type_timetz
select timetz '12:00:00+02', interval '1 mon 2 days 03:04:05.6';
-- name: type_unknown_literal
select 'x', null;
-- name: type_typmods
select 'abc'::varchar(2), 'a'::char(3), 1.255::numeric(5, 2), '12:00:00.55'::time(1), 'x'::bpchar;
-- name: type_typmod_columns
select email, balance, c, vc from users, kinds where users.id = 3 and kinds.k = 3 and false;
-- name: type_typmod_columns_scatter
select email, balance from users order by id;
-- name: type_float_shortest
select 0.1::float8, 1e-7::float8, 1e22::float8, 123456789.123456789::float8, 1::float4 / 3;
-- name: type_numeric_big
select 1e100::numeric, 0.000000000000000000001, -0.0, 1.10::numeric(10, 5);
-- name: type_dates_bc
select '0044-03-15 BC'::date, '10000-01-01'::date, 'infinity'::timestamp, '4713-01-01 BC'::date;
-- name: type_column_names
select 1 + 1, id, max(id), now() is null, 'a' || 'b', case when true then 1 end, exists (select 1), array[1], id::text, cast(id as int) from users where id = 4 group by id;
-- name: type_column_names_scatter
select id + 1, upper(name), id::text, case when active then 1 end, (id), -id from users order by users.id limit 3;
-- name: type_long_text
select repeat('x', 100000) from users where id = 4;
-- name: type_many_columns
select id, id, id, id, id, id, id, id, id, id, id, id, id, id, id, id, id, id, id, id from users where id = 4;
-- name: type_many_rows
select g.i, u.id from users u, generate_series(1, 2000) g (i) where u.id = 4 order by g.i;
-- name: type_many_rows_scatter
select g.i, u.id from users u, generate_series(1, 200) g (i) order by g.i, u.id;
-- name: type_param_bool
-- params: [{"bool": true}]
select id from users where id in (3, 4) and active = $1 order by id;
-- name: type_param_many
-- params: [{"int4": 1}, {"text": "ü"}, {"float8": 1.5}, {"bytea": "00ff"}, {"timestamptz": "2024-01-01 00:00:00+00"}, {"uuid": "00000000-0000-4000-8000-000000000001"}, {"int4[]": [1, null, 3]}, null]
select $1 + 1, $2 || 'x', $3 * 2, $4, $5 + interval '1 day', $6, $7, $8::text from users where id = 4;
-- name: type_param_date_scatter
-- params: [{"date": "2024-03-01"}]
select user_id, id from orders where placed > $1 order by 1, 2;
-- name: type_param_numeric_scatter
-- params: [{"numeric": "300.5"}]
select user_id, id from orders where total > $1 order by 1, 2;
-- name: type_param_text_scatter
-- params: [{"text": "%e%"}]
select id, name from users where name like $1 order by id;
-- name: type_params_255
-- params: [{"int8[]": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]}]
select count(*) from users where id = any ($1);
