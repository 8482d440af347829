#!/bin/sh
# Run once by the postgres image when a shard's data directory is new: the vertical shards' database when this server
# holds one, and a role that a replica may copy with.
set -eu
psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d postgres <<SQL
CREATE ROLE replicator LOGIN REPLICATION PASSWORD '$REPLICATION_PASSWORD';
SQL
if [ -n "${VERTICAL_DATABASE:-}" ]; then
    createdb -U "$POSTGRES_USER" "$VERTICAL_DATABASE"
fi
echo "host replication replicator all scram-sha-256" >>"$PGDATA/pg_hba.conf"
