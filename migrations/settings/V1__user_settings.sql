-- A vertical keyspace: whole tables on a shard of their own.
CREATE TABLE user_settings (
    user_id       bigint PRIMARY KEY,
    theme         text NOT NULL DEFAULT 'light' CHECK (theme IN ('light', 'dark')),
    language      text NOT NULL DEFAULT 'en',
    notifications boolean NOT NULL DEFAULT true
);
