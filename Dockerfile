# The image of domicile: one binary that serves (`serve --role …`), migrates, backs up and deploys.
#
#   docker build -t myapp:prod .
#
# Works with the classic builder and with BuildKit, so there is no `# syntax=` line and no `RUN --mount`. The base images
# can be replaced, e.g. by those of a registry of your own; where there is no registry at all, `cargo xtask images` makes
# stand-ins under these names.
ARG RUST_IMAGE=rust:1.95-bookworm
ARG RUNTIME_IMAGE=debian:bookworm-slim

# --- The manifests alone, so that the next stage's layer outlives a change of our own code -----------------------
FROM ${RUST_IMAGE} AS skeleton
COPY . /from
RUN sh /from/infrastructure/image/skeleton.sh /from /skeleton

# --- Everything that we depend on ---------------------------------------------------------------------------------
FROM ${RUST_IMAGE} AS dependencies
WORKDIR /build
ENV CARGO_INCREMENTAL=0 CARGO_PROFILE_RELEASE_DEBUG=false CARGO_PROFILE_RELEASE_STRIP=symbols CARGO_TERM_COLOR=never
COPY --from=skeleton /skeleton ./
RUN cargo build --release --locked --package domicile --bin domicile

# --- Our own code ---------------------------------------------------------------------------------------------------
FROM dependencies AS build
COPY crates crates
COPY migrations migrations
COPY config config
# Files keep the time of their checkout, which may be before that of the empty ones: cargo goes by time.
RUN find crates -name '*.rs' -exec touch {} + \
    && cargo build --release --locked --package domicile --bin domicile \
    && mkdir -p /out \
    && cp target/release/domicile /out/domicile

# --- What runs ------------------------------------------------------------------------------------------------------
FROM ${RUNTIME_IMAGE} AS runtime
# libssl is librdkafka's; the client programs of PostgreSQL are what backups are made and restored with, and have to be
# as new as the servers are.
ARG POSTGRES_CLIENT=postgresql-client-15
RUN apt-get -q update \
    && DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends \
        ca-certificates libssl3 "${POSTGRES_CLIENT}" \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*.log /var/log/apt
# What it may write is in volumes below /var/lib/domicile; they take their owner from here.
RUN groupadd --gid 65532 domicile \
    && useradd --uid 65532 --gid 65532 --home-dir /var/lib/domicile --no-create-home --shell /usr/sbin/nologin domicile \
    && install -d -o 65532 -g 65532 -m 0750 /var/lib/domicile /var/lib/domicile/backups \
        /var/lib/domicile/forwarder /var/lib/domicile/signed
COPY config/residency.toml /etc/domicile/residency.toml
COPY config/presets /etc/domicile/presets
COPY config/geoip /usr/share/domicile/geoip
COPY config/cells /etc/domicile/cells
RUN ln -s cells/single/domicile.toml /etc/domicile/domicile.toml && ln -s /usr/local/bin/domicile /domicile
COPY --from=build /out/domicile /usr/local/bin/domicile

ENV DOMICILE_CONFIG=/etc/domicile/domicile.toml
USER 65532:65532
WORKDIR /var/lib/domicile
EXPOSE 8080 9090
# TERM: nobody new is let in, whoever is inside gets an answer, then stores, cursors and telemetry are finished.
STOPSIGNAL SIGTERM
# By the binary itself: is the process well? Whether it is ready is asked by whoever sends it requests.
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s --retries=3 CMD ["/usr/local/bin/domicile", "health"]
ENTRYPOINT ["/usr/local/bin/domicile"]
CMD ["serve"]

# Last, since they change with every build.
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="domicile" \
      org.opencontainers.image.description="Keeps people's data in the region where it is at home, and proves it" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
