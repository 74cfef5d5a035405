# Which port each server has: chosen once among the free ones, then remembered in $state/ports.
# shellcheck shell=bash disable=SC2154  # $state is set by the front

# Below Linux's ephemeral range (32768 and up): no client's own end of a connection can sit on the port of a server
# that is down for a moment, and a client that tries again cannot connect to itself.
port_first=20000
port_count=12000

port_is_chosen() { grep -qs "^$1 " "$state/ports"; }

# The port of $1; chosen now if it has none.
port_of() {
    port_is_chosen "$1" || choose_port "$1"
    awk -v name="$1" '$1 == name { print $2 }' "$state/ports"
}

choose_port() {
    local port
    touch "$state/ports"
    while :; do
        port=$((port_first + (RANDOM * 32768 + RANDOM) % port_count))
        if ! port_is_taken "$port" && ! grep -q " $port\$" "$state/ports"; then break; fi
    done
    sed -i "/^$1 /d" "$state/ports"
    printf '%s %s\n' "$1" "$port" >>"$state/ports"
}

port_is_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Before a start: a remembered port that a stranger listens on meanwhile is given up for another.
settle_port() {
    local port
    port=$(port_of "$1")
    if port_is_taken "$port"; then
        choose_port "$1"
        say "$1" "port $port is taken by another program; from now on $(port_of "$1")"
    fi
}
