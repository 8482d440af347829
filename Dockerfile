# syntax=docker/dockerfile:1

FROM rust:1.95-bookworm AS build
WORKDIR /keyway
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/keyway/target \
    cargo build --release --locked --bin keyway \
    && install -D -m 0755 target/release/keyway /out/keyway

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin keyway
COPY --from=build /out/keyway /usr/local/bin/keyway
USER keyway
EXPOSE 6432 6480
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=5s --start-period=10s --retries=6 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/6480 && printf 'GET /readyz HTTP/1.0\\r\\n\\r\\n' >&3 && read -r _ status _ <&3 && [ \"$status\" = 200 ]"]
ENTRYPOINT ["keyway"]
CMD ["serve", "-c", "/etc/keyway/keyway.toml"]
