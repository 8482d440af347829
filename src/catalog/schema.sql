-- Keyway's own tables. Applied under an advisory lock, again and again: every statement is a no-op the second time.
-- Every shard has `identity`; the other tables mean something on the catalog's shard only.
-- What is there already is no news.
SET LOCAL client_min_messages = warning;
CREATE SCHEMA IF NOT EXISTS keyway;
COMMENT ON SCHEMA keyway IS 'Keyway''s catalog: which shard this is and which shard holds what. Do not edit.';

CREATE TABLE IF NOT EXISTS keyway.identity (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    cluster  uuid NOT NULL,
    shard    integer NOT NULL CHECK (shard BETWEEN 0 AND 511),
    name     text NOT NULL,
    catalog  text NOT NULL
);

CREATE TABLE IF NOT EXISTS keyway.shards (
    id      integer PRIMARY KEY CHECK (id BETWEEN 0 AND 511),
    name    text NOT NULL UNIQUE,
    address text NOT NULL,
    joined  boolean NOT NULL DEFAULT false
);

CREATE TABLE IF NOT EXISTS keyway.keyspaces (
    name  text PRIMARY KEY,
    hash  text,
    shard integer REFERENCES keyway.shards,
    CHECK ((hash IS NULL) <> (shard IS NULL))
);

CREATE TABLE IF NOT EXISTS keyway.buckets (
    keyspace text NOT NULL REFERENCES keyway.keyspaces,
    first    integer NOT NULL CHECK (first BETWEEN 0 AND 16383),
    last     integer NOT NULL CHECK (last BETWEEN first AND 16383),
    shard    integer NOT NULL REFERENCES keyway.shards,
    PRIMARY KEY (keyspace, first)
);

CREATE TABLE IF NOT EXISTS keyway.tables (
    keyspace  text NOT NULL REFERENCES keyway.keyspaces,
    schema    text NOT NULL,
    name      text NOT NULL,
    placement text NOT NULL,
    PRIMARY KEY (keyspace, schema, name)
);

CREATE TABLE IF NOT EXISTS keyway.refused (
    database text NOT NULL,
    schema   text NOT NULL,
    name     text NOT NULL,
    reason   text NOT NULL,
    since    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (database, schema, name)
);

CREATE TABLE IF NOT EXISTS keyway.required (
    keyspace text NOT NULL,
    version  text NOT NULL,
    shards   text[],
    PRIMARY KEY (keyspace, version)
);

CREATE TABLE IF NOT EXISTS keyway.keyways (
    id    uuid PRIMARY KEY,
    epoch bigint NOT NULL,
    seen  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS keyway.popular (
    name     bytea PRIMARY KEY,
    asker    bytea NOT NULL,
    question bytea NOT NULL,
    extended boolean NOT NULL,
    ttl      bigint NOT NULL,
    hits     bigint NOT NULL
);

CREATE TABLE IF NOT EXISTS keyway.settings (
    name  text PRIMARY KEY,
    value bigint NOT NULL
);
INSERT INTO keyway.settings VALUES ('epoch', 1), ('version', 1) ON CONFLICT DO NOTHING;
