#!/bin/bash
# As in Docker's image: an empty data directory becomes a database with POSTGRES_USER, POSTGRES_PASSWORD and
# POSTGRES_DB. While that is done, the server answers on its socket only.
set -euo pipefail

if [[ $1 == postgres && $(id -u) == 0 ]]; then
    chown -R postgres:postgres "$PGDATA"
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi

make_database() {
    local user=${POSTGRES_USER:-postgres}
    initdb --username="$user" --auth-local=trust --auth-host=scram-sha-256 --pwfile=<(printf %s "$POSTGRES_PASSWORD")
    echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
    pg_ctl start --wait --options="-c listen_addresses=''"
    if [[ ${POSTGRES_DB:-postgres} != postgres ]]; then createdb --username="$user" "$POSTGRES_DB"; fi
    pg_ctl stop --wait --mode=fast
}

if [[ $1 == postgres && ! -s $PGDATA/PG_VERSION ]]; then make_database; fi
if [[ $1 == postgres ]]; then set -- "$@" -c 'listen_addresses=*'; fi
exec "$@"
