# kak in a container: docker build -t kak-containers . && docker run -it --privileged kak-containers
ARG BUILDER=rust:1.95-slim-bookworm
ARG BASE=debian:bookworm-slim

FROM ${BUILDER} AS build
WORKDIR /src
COPY . .
RUN target=$(uname -m)-unknown-linux-musl && \
    rustup target add "$target" && \
    cargo build --release --locked --target "$target" && \
    cp "target/$target/release/kak" /kak

FROM ${BASE}
COPY --from=build /kak /bin/kak
RUN ln -s kak /bin/nssh && \
    ln -s /bin/kak /sbin/kak-setup && \
    { command -v ip >/dev/null || ln -s /bin/kak /sbin/ip; }
ENTRYPOINT ["/sbin/kak-setup", "--attach", "--login-shell", "root"]
