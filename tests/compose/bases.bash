# Base images for an engine of our own, which has no registry: made here under the names that docker-compose.yml expects,
# from Debian's packages, this machine's Rust toolchain and the jars of Kafka. They stay in the engine's directory, so
# only the first run pays for them.
#
# Builds reach the package registries as this machine does: its certificate authorities and its settings for pip and
# cargo go into the stand-ins for Rust and Python, and its proxies into every build. None of it leaves .celeriac/.
# shellcheck shell=bash disable=SC2154  # $checkout, $home and $here are set by the front

# What docker-compose.yml falls back to where the variable $1 is not set; the variable itself wins here too.
image_of() {
    local default
    default=$(sed -n "s/.*\${$1:-\([^}]*\)}.*/\1/p" "$checkout/docker-compose.yml" | head -n 1)
    [[ -n $default ]] || die "docker-compose.yml has no default for $1"
    printf %s "${!1:-$default}"
}

bases_make() {
    debian=$(image_of RUNTIME_IMAGE)
    base_debian
    base rust RUST_IMAGE
    base python PYTHON_IMAGE
    base redis REDIS_IMAGE
    base postgres POSTGRES_IMAGE
    base kafka KAFKA_IMAGE
}

has_image() { docker image inspect "$1" >/dev/null 2>&1; }

# debian:bookworm-slim, by debootstrap for the release in its tag.
base_debian() {
    local release root=$home/debian
    has_image "$debian" && return
    release=${debian##*:}
    release=${release%%-*}
    say "Makes $debian (debootstrap)"
    rm -rf "$root"
    debootstrap --variant=minbase "$release" "$root" >"$home/debootstrap.log" 2>&1 ||
        die "debootstrap failed, see $home/debootstrap.log"
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
    # As Docker's: what apt-get downloads is not kept in a layer.
    echo 'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb || true"; };' >"$root/etc/apt/apt.conf.d/docker-clean"
    tar --create --directory="$root" . | docker import --change 'CMD ["bash"]' - "$debian" >/dev/null
    rm -rf "$root"
}

# Builds bases/$1 under the name that the variable $2 stands for.
base() {
    local name=$1 image context=$home/context
    image=$(image_of "$2")
    has_image "$image" && return
    say "Makes $image"
    rm -rf "$context"
    cp -a "$here/bases/$name" "$context"
    if declare -F "base_${name}_lay" >/dev/null; then "base_${name}_lay" "$context"; fi
    docker build "${proxies[@]}" --build-arg DEBIAN="$debian" --tag "$image" "$context" >"$home/$name.log" 2>&1 ||
        die "the image $image could not be made, see $home/$name.log"
    rm -rf "$context"
}

base_rust_lay() {
    local sysroot config=${CARGO_HOME:-$HOME/.cargo}/config.toml
    # In the checkout, so that it is the toolchain of rust-toolchain.toml.
    sysroot=$(cd "$checkout" && rustc --print sysroot) || die 'Rust is missing; get it from https://rustup.rs and try again' 69
    mkdir "$1/toolchain" "$1/settings"
    cp -a "$sysroot"/{bin,lib,libexec} "$1/toolchain/"
    if [[ -f $config ]]; then cp "$config" "$1/settings/"; fi
    authorities "$1"
}

base_python_lay() {
    local config
    mkdir "$1/settings"
    for config in /etc/pip.conf "$HOME/.config/pip/pip.conf"; do
        if [[ -f $config ]]; then cp "$config" "$1/settings/"; fi
    done
    authorities "$1"
}

base_kafka_lay() {
    (
        # shellcheck disable=SC2034  # read by kafka.bash
        state=$home/kafka downloads=$checkout/.celeriac here=$checkout/tests/services
        # shellcheck source=../services/kafka.bash
        source "$here/kafka.bash"
        kafka_is_fetched || "$here/services" install kafka
        kafka_is_fetched || kafka_fetch
        cp -a "$(kafka_libs)" "$1/libs"
    )
}

authorities() { cp "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" "$1/authorities.crt"; }

# For `docker build` and `compose build`: the proxies of this shell, if there are any.
proxies=()
for variable in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
    if [[ -n ${!variable:-} ]]; then proxies+=(--build-arg "$variable"); fi
done
