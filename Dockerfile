# One binary, every role: `docker run IMAGE node ...`, `docker run IMAGE coordinator ...`.
# The two stages are of one Debian release, so that the binary finds the C library it was linked to.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p granum

FROM debian:bookworm-slim
# Numeric, so that Kubernetes can see that it is not root; helm/granum/values.yaml names the same.
RUN groupadd --gid 10001 granum \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin granum \
    && install -d -o 10001 -g 10001 -m 0750 /var/lib/granum
COPY --from=build /src/target/release/granum /usr/local/bin/granum
COPY LICENSE NOTICE /usr/share/doc/granum/
USER 10001:10001
WORKDIR /var/lib/granum
VOLUME /var/lib/granum
ENV GRANUM_DATA_DIR=/var/lib/granum
# Set to anything, it spares the embedder a look at /proc/cpuinfo for each matrix product; its threads are `embed_threads`.
ENV RAYON_NUM_THREADS=2
# Coordinator: HTTP and gRPC. Node: data and Raft. Both: metrics and health.
EXPOSE 6333 6334 6335 6337 6336
# SIGTERM drains: leaders are handed over, requests finished.
STOPSIGNAL SIGTERM
ENTRYPOINT ["granum"]
