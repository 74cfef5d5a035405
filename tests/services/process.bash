# Starting, watching and ending a server.
# shellcheck shell=bash disable=SC2154  # $state and $here are set by the front

# Generous: a compiler may have all cores.
start_deadline_secs=120
stop_deadline_secs=20
log_tail_lines=25

log_of() { printf '%s/%s/log' "$state" "$1"; }

pid_of() { cat "$state/$1/pid" 2>/dev/null; }

# A number in a file proves nothing after a reboot: the process must carry our directory in its command line.
# (A zombie's command line is empty, so a dead server that nobody has reaped does not count as running.)
is_running() {
    local pid command_line
    pid=$(pid_of "$1") && [[ -n $pid ]] || return 1
    command_line=$(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline") || return 1
    [[ $command_line == *"$state/$1/"* ]]
}

# Starts server $1 unless it runs.
start() {
    local name=$1
    is_running "$name" && return
    settle_port "$name"
    [[ $name != kafka ]] || settle_port kafka-controller
    rm -f "$state/$name/pid"
    setsid "$here/services" keep "$name" </dev/null >>"$(log_of "$name")" 2>&1 9>&- &
    keeper_pids[$name]=$!
}

declare -A keeper_pids=()

# The server's parent, for as long as it lives: in a session of its own, so that no terminal takes it along, and there
# to collect the dead. (An uncollected one counts as alive to PostgreSQL, which then refuses to start again, and not
# every container has an init that collects.)
keep() {
    local name=$1 fd pid code=0
    # What the caller had open besides (make's job server, a test's pipe) must not be held open by a server.
    for fd in 3 4 5 6 7 8; do eval "exec $fd>&-"; done
    cd /
    printf -- '--- %s: start\n' "$(date --iso-8601=seconds)"
    "${name}_run" &
    pid=$!
    printf '%s\n' "$pid" >"$state/$name/pid"
    wait "$pid" || code=$?
    printf -- '--- %s: ended with exit code %s\n' "$(date --iso-8601=seconds)" "$code"
}

# Waits until server $1 answers; if it has died or stays silent, shows the end of its log.
await_answer() {
    local name=$1 deadline=$((SECONDS + start_deadline_secs))
    while ! "${name}_answers"; do
        if ! is_alive "${keeper_pids[$name]:-$(pid_of "$name")}" || ((SECONDS >= deadline)); then
            say "$name" "did not come up; the end of $(log_of "$name"):" >&2
            tail -n "$log_tail_lines" "$(log_of "$name")" | sed 's/^/    /' >&2
            return 1
        fi
        sleep 0.1
    done
    if declare -F "${name}_furnish" >/dev/null; then "${name}_furnish" || return; fi
    say "$name" "running  $("${name}_url")"
}

# A process that is not a zombie.
is_alive() {
    local letter
    letter=$(sed 's/.*) //; s/ .*//' "/proc/$1/stat" 2>/dev/null) && [[ -n $letter && $letter != Z ]]
}

# Stops server $1 politely; after the deadline, with force.
stop() {
    local name=$1 deadline=$((SECONDS + stop_deadline_secs)) signal=TERM
    if ! is_running "$name"; then
        say "$name" stopped
        return
    fi
    # PostgreSQL's TERM waits for every client to leave; INT sends them away.
    [[ $name == postgres ]] && signal=INT
    kill -s "$signal" "$(pid_of "$name")"
    while is_running "$name"; do
        if ((SECONDS >= deadline)); then
            crash "$name"
            return
        fi
        sleep 0.1
    done
    say "$name" stopped
}

# Kills server $1 and its children with -9 and waits until they are gone.
crash() {
    local name=$1 pid children
    if ! is_running "$name"; then
        say "$name" "stopped (was not running)"
        return
    fi
    pid=$(pid_of "$name")
    children=$(cat "/proc/$pid/task/$pid/children")
    # shellcheck disable=SC2086  # a list of numbers
    kill -s KILL "$pid" $children 2>/dev/null || true
    # All of them: PostgreSQL does not start again while a child holds the old shared memory.
    for pid in $pid $children; do
        while is_alive "$pid"; do sleep 0.05; done
    done
    say "$name" "killed   pid $(pid_of "$name")"
}

show_log() { cat "$(log_of "$1")"; }
