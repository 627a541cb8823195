#!/bin/bash
# Runs once, when Postgres makes its data folder: a role and a database for each service, and nobody may enter
# another's. `<NAME>_DB_PASSWORD` are their passwords. The SQL is as old as Postgres 14.
set -euo pipefail

owner_psql() {
    psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres "$@"
}

for name in order billing notification analytics ops; do
    password=${name^^}_DB_PASSWORD
    owner_psql --set name="$name" --set password="${!password:?is not set}" <<'SQL'
create role :"name" login password :'password';
create database :"name" owner :"name";
revoke connect, temporary on database :"name" from public;
SQL
done

owner_psql <<'SQL'
revoke connect, temporary on database postgres, template1 from public;
SQL
