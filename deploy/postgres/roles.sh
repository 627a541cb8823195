#!/bin/bash
# Runs once, when Postgres initialises its data folder. Creates a role and a database for each
# service; no role may connect to another service's database. The passwords are in
# `<NAME>_DB_PASSWORD`. The SQL runs on Postgres 14.
set -euo pipefail

owner_psql() {
    psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres "$@"
}

for name in order billing notification analytics; do
    password=${name^^}_DB_PASSWORD
    # By the environment: everybody on the host can read the arguments of a process.
    ROLE_PASSWORD=${!password:?is not set} owner_psql --set name="$name" <<'SQL'
\set password `printf %s "$ROLE_PASSWORD"`
create role :"name" login password :'password';
create database :"name" owner :"name";
revoke connect, temporary on database :"name" from public;
SQL
done

owner_psql <<'SQL'
revoke connect, temporary on database postgres, template1 from public;
SQL
