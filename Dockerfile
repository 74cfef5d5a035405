# The program as an image: `celeriac`, and the same program under the name `celery`. Not root.
#
#   docker build --tag celeriac .
#   docker run --rm celeriac celeriac --help
#
# docker-compose.yml runs the whole pipeline with it. For the oldest engines in use there is nothing here that needs
# BuildKit. RUST_IMAGE brings the compiler of rust-toolchain.toml; that file itself stays outside, or rustup would fetch
# formatter and linter too.

ARG RUST_IMAGE=rust:1.95-bookworm
# The same Debian as RUST_IMAGE, or a later one: the program is linked to its libssl and libc.
ARG RUNTIME_IMAGE=debian:bookworm-slim

# What decides which dependencies are built, and how: of all sources only the manifests, and an empty program in place of
# each. It stays the same when the code changes, and with it the longest step below.
FROM ${RUST_IMAGE} AS manifests
WORKDIR /build
COPY . .
RUN find . -type f ! -name Cargo.toml ! -name Cargo.lock ! -name lib.rs ! -name main.rs ! -name build.rs -delete \
    && find . -type d -empty -delete \
    && find . -name '*.rs' -exec sh -c 'for file; do echo "fn main() { }" > "$file"; done' sh {} +

FROM ${RUST_IMAGE} AS build
# librdkafka is built by its own configure script, with TLS and SASL.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        build-essential libsasl2-dev libssl-dev pkg-config zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY --from=manifests /build .
RUN cargo build --release --locked --package celeriac-pipeline --features kafka-ssl
COPY . .
# Cargo goes by times, and the empty programs are newer than the code.
RUN find . -path ./target -prune -o -name '*.rs' -exec touch {} + \
    && cargo build --release --locked --package celeriac-pipeline --features kafka-ssl

FROM ${RUNTIME_IMAGE}
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates libsasl2-2 libssl3 zlib1g \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 1000 celeriac \
    && useradd --uid 1000 --gid 1000 --home-dir /srv/celeriac --no-create-home --shell /usr/sbin/nologin celeriac \
    && install --directory --owner=celeriac --group=celeriac \
        /srv/celeriac /srv/celeriac/data /srv/celeriac/quarantine /srv/celeriac/logs
COPY --from=build /build/target/release/celeriac /usr/local/bin/celeriac
RUN ln -s celeriac /usr/local/bin/celery
# As numbers: an orchestrator that refuses root cannot look up a name.
USER 1000:1000
# Relative paths count from here: data/, quarantine/, logs/, celeriac.toml.
WORKDIR /srv/celeriac
# TERM, the default signal to stop, is a warm shutdown.
CMD ["celery", "-A", "worker.tasks", "worker", "--loglevel=info"]
