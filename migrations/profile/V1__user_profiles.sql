-- A vertical keyspace: whole tables on a shard of their own.
CREATE TABLE user_profiles (
    user_id   bigint PRIMARY KEY,
    bio       text NOT NULL DEFAULT '',
    website   text,
    interests text[] NOT NULL DEFAULT '{}',
    updated   timestamptz NOT NULL DEFAULT now()
);
