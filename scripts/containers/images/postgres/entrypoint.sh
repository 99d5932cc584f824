#!/bin/bash
# Initialises PGDATA once, like the official image: user, password and database from the environment, then the scripts
# in /docker-entrypoint-initdb.d; then runs the server.
set -euo pipefail
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  mkdir -p "$PGDATA"
  initdb --encoding UTF8 --locale C.UTF-8 --username "$POSTGRES_USER" --pwfile <(printf '%s' "$POSTGRES_PASSWORD") --auth-host scram-sha-256 --auth-local trust
  printf 'host all all all scram-sha-256\n' >> "$PGDATA/pg_hba.conf"
  pg_ctl --wait --options "-c listen_addresses=''" start
  [ "$POSTGRES_DB" = postgres ] || createdb --username "$POSTGRES_USER" "$POSTGRES_DB"
  for script in /docker-entrypoint-initdb.d/*.sql; do
    psql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --set ON_ERROR_STOP=1 --file "$script"
  done
  pg_ctl --wait --mode fast stop
fi
exec postgres -c listen_addresses='*'
