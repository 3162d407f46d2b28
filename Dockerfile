# One image for the gateway, for `init`, for the echo upstreams and for the load of docker-compose.yml.

FROM rust:1.95.0-bookworm AS build
# zlib-ng, which Pingora links, is built with cmake.
RUN apt-get update \
 && apt-get install -y --no-install-recommends cmake \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# The toolchain file stays outside: the base image pins the same release.
COPY Cargo.toml Cargo.lock ./
COPY benches benches
COPY src src
# The console shows it.
COPY docs/runbook.md docs/runbook.md
RUN cargo build --profile dist --locked --bin portcullis

FROM debian:bookworm-slim
# Roots for TLS to upstreams.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/target/dist/portcullis /usr/local/bin/portcullis
# A named volume takes owner and mode from the directory that it covers when first used; the store
# refuses directories that others may read.
RUN install -d -m 0755 -o 10001 -g 10001 /var/lib/portcullis \
 && install -d -m 0700 -o 10001 -g 10001 /var/lib/portcullis/data /var/lib/portcullis/secrets \
    /var/lib/portcullis/clients
# Relative paths of the configuration start here. Nothing else is ever written: a read-only root works.
WORKDIR /var/lib/portcullis
# By number, so that an orchestrator can prove that it is not root.
USER 10001:10001
EXPOSE 8080 9901 9902
# No HEALTHCHECK: probe /readyz on the metrics listener (9902) from outside.
# Where every command looks for the configuration, which has to be mounted there.
ENV PORTCULLIS_CONFIG=/etc/portcullis/portcullis.yaml
ENTRYPOINT ["/usr/local/bin/portcullis"]
CMD ["serve"]
