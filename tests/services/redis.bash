# Redis: the broker and the result backend.
# shellcheck shell=bash disable=SC2154  # $state is set by the front

# openssl makes the certificates of the tests of TLS.
redis_packages() {
    command -v redis-server redis-cli >/dev/null || echo redis-server
    command -v openssl >/dev/null || echo openssl
}

redis_prepare() {
    mkdir -p "$state/redis/data"
}

# Every write is in the append-only file before its reply leaves, so nothing that a client was told is lost by kill -9.
# The title stays as typed: process.bash knows its servers by it.
redis_run() {
    exec redis-server --bind 127.0.0.1 --port "$(port_of redis)" --dir "$state/redis/data" \
        --appendonly yes --appendfsync everysec --save '' --set-proc-title no --daemonize no
}

redis_answers() { [[ $(redis-cli -h 127.0.0.1 -p "$(port_of redis)" ping 2>/dev/null) == PONG ]]; }

redis_env() {
    print_export CELERY_BROKER_URL "$(redis_url)/0"
    print_export CELERY_RESULT_BACKEND "$(redis_url)/1"
}

redis_url() { printf 'redis://127.0.0.1:%s' "$(port_of redis)"; }
