-- The oracle's schema. A statement ends at a line that ends with ';'. `-- keyspace:` says where the statements below
-- it belong; the whole file is applied through Keyway and, as it is, to one plain PostgreSQL.

-- keyspace: main
CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL, email varchar(60), country text, age int, score float8,
  balance numeric(12,2), active boolean NOT NULL DEFAULT true, born date, created timestamp, seen timestamptz, token uuid,
  photo bytea, feeling mood, tags text[], opts jsonb, home address, zip zip_code, moods mood[]);
CREATE TABLE posts (user_id bigint NOT NULL, id int NOT NULL, title text NOT NULL, body text, likes int NOT NULL DEFAULT 0,
  created timestamp, PRIMARY KEY (user_id, id));
CREATE TABLE follows (user_id bigint NOT NULL, other_id bigint NOT NULL, since date, PRIMARY KEY (user_id, other_id));
CREATE TABLE timelines (user_id bigint NOT NULL, author_id bigint NOT NULL, post_id int NOT NULL, at timestamptz NOT NULL,
  PRIMARY KEY (user_id, author_id, post_id));
CREATE TABLE orders (user_id bigint NOT NULL REFERENCES users (id), id int NOT NULL, total numeric(10,2), placed date,
  status text NOT NULL DEFAULT 'new', PRIMARY KEY (user_id, id));
CREATE TABLE order_items (user_id bigint NOT NULL, order_id int NOT NULL, line int NOT NULL, sku text NOT NULL,
  qty int NOT NULL CHECK (qty > 0), price numeric(8,2), PRIMARY KEY (user_id, order_id, line),
  FOREIGN KEY (user_id, order_id) REFERENCES orders (user_id, id));
CREATE TABLE t (id int NOT NULL, k int NOT NULL, g int, x int, s text);
CREATE INDEX t_k ON t (k);
CREATE TABLE kinds (k int NOT NULL, b boolean, i2 smallint, i4 int, i8 bigint, f4 real, f8 double precision, n numeric,
  d date, ts timestamp, tz timestamptz, tm time, u uuid, by bytea, tx text, vc varchar(10), c char(5), iv interval);
CREATE TABLE words (w text PRIMARY KEY, n int);
CREATE TABLE codes (code varchar(20) PRIMARY KEY, n int);
CREATE TABLE chars (c char(6) PRIMARY KEY, n int);
CREATE TABLE tokens (token uuid PRIMARY KEY, note text);
CREATE TABLE days (day date PRIMARY KEY, n int);
CREATE TABLE stamps (at timestamp PRIMARY KEY, n int);
CREATE TABLE moments (at timestamptz PRIMARY KEY, n int);
CREATE TABLE blobs (b bytea PRIMARY KEY, n int);
CREATE TABLE flags (ok boolean NOT NULL, n int);
CREATE TABLE smalls (k smallint PRIMARY KEY, v text);
CREATE TABLE pairs (a int NOT NULL, b text NOT NULL, n int, PRIMARY KEY (a, b));
CREATE TABLE maybes (k int, n int);
CREATE TABLE defaults (k int NOT NULL DEFAULT 7, n int, note text DEFAULT 'none');
CREATE TABLE events (user_id bigint NOT NULL, at date NOT NULL, what text) PARTITION BY RANGE (at);
CREATE TABLE events_2024 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE ledger (k int NOT NULL, at timestamptz NOT NULL, amount int, PRIMARY KEY (k, at)) PARTITION BY RANGE (at);
CREATE TABLE ledger_p2024 PARTITION OF ledger FOR VALUES FROM ('2024-01-01 00:00+00') TO ('2025-01-01 00:00+00')
  PARTITION BY HASH (k);
CREATE TABLE ledger_p2024_h00 PARTITION OF ledger_p2024 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE ledger_p2024_h01 PARTITION OF ledger_p2024 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE ledger_p2025 PARTITION OF ledger FOR VALUES FROM ('2025-01-01 00:00+00') TO ('2026-01-01 00:00+00');
CREATE TABLE "Odd Table" ("Key Col" int PRIMARY KEY, "select" text, "MiXed" int);
CREATE SCHEMA other;
CREATE TABLE other.t (id int NOT NULL, k int NOT NULL, note text);
CREATE TABLE tickets (id bigserial PRIMARY KEY, user_id bigint NOT NULL, note text);
CREATE TABLE notes (user_id bigint NOT NULL, id bigint GENERATED ALWAYS AS IDENTITY, uid uuid NOT NULL DEFAULT gen_random_uuid(),
  body text, PRIMARY KEY (user_id, id));
CREATE TABLE countries (code text PRIMARY KEY, name text NOT NULL, continent text);
CREATE TABLE currencies (code text PRIMARY KEY, rate numeric NOT NULL);
CREATE VIEW adults AS SELECT id, name, age FROM users WHERE age >= 18;
CREATE VIEW user_posts AS SELECT u.id AS user_id, u.name, p.id AS post_id, p.title FROM users u JOIN posts p ON p.user_id = u.id;
CREATE FUNCTION add_one(i int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT i + 1';
CREATE FUNCTION count_users() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM users';
CREATE FUNCTION users_older(a int, b int) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM users WHERE age > a + b';
CREATE OPERATOR ### (LEFTARG = int, RIGHTARG = int, FUNCTION = users_older);
CREATE FUNCTION touch(i bigint) RETURNS bigint LANGUAGE plpgsql VOLATILE AS 'BEGIN UPDATE users SET age = age WHERE id = i; RETURN i; END';

-- keyspace: activity
CREATE TABLE user_activities (id bigint PRIMARY KEY, user_id bigint NOT NULL, what text NOT NULL, at timestamptz);
CREATE TABLE activity_kinds (what text PRIMARY KEY, weight int);

-- keyspace: settings
CREATE TABLE user_settings (user_id bigint PRIMARY KEY, theme text, opts jsonb);
