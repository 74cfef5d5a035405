# PostgreSQL: a cluster of its own, with a role and a database `celeriac`.
# shellcheck shell=bash disable=SC2154  # $state is set by the front

postgres_oldest=14

postgres_packages() { [[ -n $(postgres_newest) ]] || echo postgresql; }

# The newest installed major version; Debian keeps its programs out of the PATH.
postgres_newest() {
    local program version newest=
    for program in /usr/lib/postgresql/*/bin/postgres; do
        version=$(cut -d/ -f5 <<<"$program")
        [[ -x $program && $version -ge ${newest:-$postgres_oldest} ]] && newest=$version
    done
    printf '%s' "$newest"
}

# Program $1 of the version that made the cluster: another major version could not read it.
postgres_program() {
    local version
    version=$(cat "$state/postgres/cluster/data/PG_VERSION" 2>/dev/null || postgres_newest)
    [[ -x /usr/lib/postgresql/$version/bin/$1 ]] ||
        die "the data in $state/postgres is PostgreSQL $version's, which is gone; install it or run: services erase"
    printf '/usr/lib/postgresql/%s/bin/%s' "$version" "$1"
}

# PostgreSQL refuses to run as root; then it runs as the package's user. setpriv executes in place: the pid stays.
as_postgres=()
((EUID != 0)) || as_postgres=(setpriv --reuid postgres --regid postgres --init-groups --)

postgres_prepare() {
    local cluster=$state/postgres/cluster initdb
    [[ -d $cluster/data ]] && return
    mkdir -p "$state/postgres"
    [[ -d $cluster ]] || postgres_find_place "$cluster"
    initdb=$(postgres_program initdb)
    # Made beside and then renamed: an initdb that was interrupted leaves nothing that looks finished.
    rm -rf "$cluster/unfinished"
    (cd / && "${as_postgres[@]}" "$initdb" -D "$(postgres_cluster)/unfinished" -U postgres -A trust -E UTF8 --locale=C \
        >"$state/postgres/initdb.log" 2>&1) || {
        cat "$state/postgres/initdb.log" >&2
        die "initdb failed"
    }
    mv "$cluster/unfinished" "$cluster/data"
}

# The cluster lives in the checkout, except where root's checkout is closed to the user postgres (below /root, say):
# then it is in /var/tmp, with a link in its place. `erase` removes both.
postgres_find_place() {
    local cluster=$1 elsewhere
    mkdir "$cluster"
    ((EUID == 0)) || return 0
    chown postgres: "$cluster"
    if ! (cd / && "${as_postgres[@]}" test -w "$cluster"); then
        rmdir "$cluster"
        elsewhere=$(mktemp -d /var/tmp/celeriac-postgres.XXXXXX)
        chown postgres: "$elsewhere"
        ln -s "$elsewhere" "$cluster"
    fi
}

# The link itself may lie where the user postgres cannot go.
postgres_cluster() { readlink -f "$state/postgres/cluster"; }

# fsync stays on: the crash tests rely on it. No Unix socket: its path may not be longer than 107 bytes.
# The setting celeriac.home means nothing to PostgreSQL: process.bash knows its servers by the directory in it.
postgres_run() {
    local program
    program=$(postgres_program postgres)
    exec "${as_postgres[@]}" "$program" -D "$(postgres_cluster)/data" -c listen_addresses=127.0.0.1 \
        -p "$(port_of postgres)" -c unix_socket_directories='' -c max_connections=200 -c shared_buffers=128MB \
        -c lc_messages=C -c celeriac.home="$state/postgres/"
}

postgres_answers() { postgres_ask postgres 'SELECT 1' >/dev/null 2>&1; }

# The role may create databases (each test has its own) and is no superuser, as in a real installation.
postgres_furnish() {
    [[ $(postgres_ask postgres "SELECT count(*) FROM pg_roles WHERE rolname = 'celeriac'") == 1 ]] ||
        postgres_ask postgres 'CREATE ROLE celeriac LOGIN CREATEDB' >/dev/null || return
    [[ $(postgres_ask postgres "SELECT count(*) FROM pg_database WHERE datname = 'celeriac'") == 1 ]] ||
        postgres_ask postgres 'CREATE DATABASE celeriac OWNER celeriac' >/dev/null || return
    # DROP DATABASE … WITH (FORCE) ends an autovacuum too, which nobody's role owns.
    postgres_ask postgres 'SET client_min_messages = warning; GRANT pg_signal_backend TO celeriac' >/dev/null || return
}

# The answer of role and database $1 to the statement $2. Nothing of the caller's own PG* settings may interfere.
postgres_ask() {
    local address
    address="postgres://$1@127.0.0.1:$(port_of postgres)/$1?connect_timeout=5"
    env -i "$(postgres_program psql)" --no-psqlrc -qtA "$address" -c "$2"
}

postgres_env() { print_export DATABASE_URL "$(postgres_url)"; }

postgres_url() { printf 'postgres://celeriac@127.0.0.1:%s/celeriac' "$(port_of postgres)"; }

postgres_erase() {
    if [[ -L $state/postgres/cluster ]]; then rm -rf "$(postgres_cluster)"; fi
}
