#!/bin/sh
# A replica's entry point: copies the primary when the data directory is new, then runs as any PostgreSQL.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    install -d -o postgres -g postgres -m 0700 "$PGDATA"
    export PGPASSWORD="$REPLICATION_PASSWORD"
    gosu postgres pg_basebackup -h "$PRIMARY_HOST" -U replicator -D "$PGDATA" -X stream -R
fi
exec docker-entrypoint.sh postgres "$@"
