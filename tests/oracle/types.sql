-- User-defined types, created on every database before Keyway starts, in another order on each, so that their OIDs
-- differ from shard to shard. One statement a line; the harness shuffles the independent ones.
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE DOMAIN zip_code AS text CHECK (VALUE ~ '^[0-9]{5}$');
CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
CREATE TYPE address AS (street text, number int, zip text);
CREATE TYPE colour AS ENUM ('red', 'green', 'blue');
