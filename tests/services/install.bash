# Installs the Debian packages that are missing, and lets none of them start a service of the system.
# shellcheck shell=bash disable=SC2154  # $state is set by the front

# What compiling needs: librdkafka is C and C++, built by its own configure script.
build_packages() {
    local package
    for package in build-essential pkg-config zlib1g-dev; do
        is_installed "$package" || echo "$package"
    done
}

is_installed() { [[ $(dpkg-query -Wf '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }

# Installs what NAME_packages says is missing, for each NAME; a line `a|b` means a, or b where Debian has no a.
install_packages() {
    local name missing
    mapfile -t missing < <(for name in "$@"; do "${name}_packages"; done | sort -u)
    [[ ${#missing[@]} -gt 0 ]] || return 0
    if ! command -v apt-get >/dev/null || ! as_root true 2>/dev/null; then
        die "missing, and only root on Debian can install it here: apt-get install ${missing[*]%%|*}" 69
    fi
    # A subshell, for the sake of its trap. (Before `||`, bash ignores `set -e`: the steps inside leave by themselves.)
    (install_missing "${missing[@]}") || die "apt-get failed (see above); by hand: apt-get install ${missing[*]%%|*}" 69
}

as_root() {
    if ((EUID == 0)); then
        "$@"
    elif [[ -t 0 && -z ${CI:-} ]]; then
        sudo "$@"
    else
        sudo -n "$@"
    fi
}

install_missing() {
    local package packages=() units=()
    as_root apt-get update -qq || exit
    for package in "$@"; do packages+=("$(first_available "$package")"); done
    say install "${packages[*]}"
    for package in redis-server postgresql; do
        [[ " ${packages[*]} " == *" $package "* && ! -e /lib/systemd/system/$package.service ]] && units+=("$package")
    done
    trap allow_service_starts EXIT
    forbid_service_starts || exit
    # Debian's many lines are only of interest when it fails.
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
        -o DPkg::Lock::Timeout=300 "${packages[@]}" >"$state/install.log" 2>&1 || {
        cat "$state/install.log" >&2
        exit 1
    }
    for package in "${units[@]}"; do keep_off_at_boot "$package"; done
}

# The first of a|b|c that this Debian can install; some names are only remembered, without a candidate.
first_available() {
    local package policy
    for package in ${1//|/ }; do
        policy=$(LC_ALL=C apt-cache policy "$package")
        if [[ $policy == *'Candidate: '* && $policy != *'Candidate: (none)'* ]]; then
            echo "$package"
            return
        fi
    done
    echo "${1%%|*}"
}

# Debian asks this program before a package starts its service; 101 means no. A machine that has one keeps it.
service_policy=/usr/sbin/policy-rc.d
service_policy_is_ours=false

forbid_service_starts() {
    local answer=0
    if [[ -e $service_policy ]]; then
        "$service_policy" redis-server start >/dev/null 2>&1 || answer=$?
        [[ $answer == 101 ]] ||
            die "$service_policy would let the new packages start their services; install them yourself"
    else
        service_policy_is_ours=true
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$service_policy" >/dev/null && as_root chmod +x "$service_policy"
    fi
}

allow_service_starts() {
    if $service_policy_is_ours; then as_root rm -f "$service_policy"; fi
}

# Newly installed by us, so nobody else's: it shall not come up with the machine either.
keep_off_at_boot() {
    if command -v systemctl >/dev/null; then
        as_root systemctl disable --quiet "$1.service"
    else
        as_root update-rc.d "$1" disable
    fi
}
