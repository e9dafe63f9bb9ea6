# deltaserve on the CPU: build stage, run stage, non-root, read-only root file system.
#   docker build -t deltaserve .
#   docker run --rm -p 8080:8080 --read-only deltaserve
#   docker run --rm -p 8080:8080 --read-only -v /models/Qwen3.5-0.8B:/model:ro deltaserve --model /model
ARG DEBIAN=debian:12-slim
FROM ${DEBIAN} AS build
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends ca-certificates
WORKDIR /src
COPY deploy/packages.sh deploy/
RUN bash -c 'source deploy/packages.sh && need "${BUILD_PACKAGES[@]}"'
COPY . .
RUN cmake --preset release && cmake --build --preset release && cmake --install build/release --prefix /usr/local --strip

FROM ${DEBIAN}
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends libmicrohttpd12 libuv1 libjansson4 libutf8proc2 libdnnl2 libgomp1 libsqlite3-0 libnettle8 libcurl4 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /usr/local/bin/deltaserve /usr/local/bin/deltaserve
COPY --from=build /usr/local/share/deltaserve /usr/local/share/deltaserve
# Jobs are kept in a volume, which can be written although the root file system cannot.
RUN install -d -o 10001 -g 10001 -m 0700 /var/lib/deltaserve
VOLUME /var/lib/deltaserve
USER 10001:10001
WORKDIR /
EXPOSE 8080
STOPSIGNAL SIGTERM
# A container's own network is the border here; put --api-key-file on anything that others can reach.
ENV DELTASERVE_HOST=0.0.0.0 DELTASERVE_INSECURE=true XDG_STATE_HOME=/var/lib
ENTRYPOINT ["/usr/local/bin/deltaserve"]
