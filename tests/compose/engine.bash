# The container engine: one that runs here already, or Debian's, started for this test with everything it keeps below
# .celeriac/compose/engine. What that sets in the kernel (a bridge, rules of iptables) stays until the next boot, as with
# any stopped engine.
# shellcheck shell=bash disable=SC2154  # $checkout and $home are set by the front

engine_is_ours=false
engine_packages=(docker.io docker-compose debootstrap iptables)

# Finds or starts an engine; without one this script has nothing to do.
engine_up() {
    if command -v docker >/dev/null && docker info >/dev/null 2>&1; then
        say "Uses the engine that runs here, which fetches the base images from its registry."
        return
    fi
    engine_can_be_started || die 'there is no container engine here, and only root on Debian can start one for this test' 69
    engine_is_ours=true
    engine_install
    engine_start
}

engine_can_be_started() { ((EUID == 0)) && [[ -x $(command -v dockerd) || -x $(command -v apt-get) ]]; }

# By the services' installer, which lets no new package start anything.
engine_install() {
    local absent=() package
    for package in "${engine_packages[@]}"; do
        [[ $(dpkg-query -Wf '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || absent+=("$package")
    done
    ((${#absent[@]} > 0)) || return 0
    (
        # shellcheck disable=SC2034  # read by install_missing
        state=$home
        # shellcheck source-path=SCRIPTDIR source=../services/install.bash
        source "$checkout/tests/services/install.bash"
        install_missing "${absent[@]}"
    ) || die "there is no container engine here, and apt-get could not install one: ${absent[*]}" 69
}

# Sockets have short names (108 bytes), which a deep checkout would exceed.
engine_start() {
    local at=$home/engine
    mkdir -p "$at"
    runtime=$(mktemp -d /tmp/celeriac-compose.XXXXXX)
    export DOCKER_HOST=unix://$runtime/engine.sock
    # Signals of the terminal are the front's business: it ends the pipeline first.
    setsid dockerd --data-root="$at/data" --exec-root="$runtime/run" --pidfile="$at/pid" --host="$DOCKER_HOST" \
        >"$at/log" 2>&1 9>&- &
    engine_pid=$!
    local deadline=$((SECONDS + 60))
    until docker info >/dev/null 2>&1; do
        if ! kill -0 "$engine_pid" 2>/dev/null || ((SECONDS > deadline)); then
            tail -n 20 "$at/log" >&2
            die "Debian's dockerd does not run on this machine (see above, and $at/log)" 69
        fi
        sleep 0.5
    done
}

engine_down() {
    $engine_is_ours && [[ -n ${engine_pid:-} ]] || return 0
    kill "$engine_pid" 2>/dev/null || true
    wait "$engine_pid" 2>/dev/null || true
    rm -rf "${runtime:?}"
}

# Compose v1 where it is installed, else v2's; COMPOSE names another one.
compose_program() {
    if [[ -n ${COMPOSE:-} ]]; then
        printf %s "$COMPOSE"
    elif command -v docker-compose >/dev/null; then
        printf 'docker-compose'
    else
        printf 'docker compose'
    fi
}
