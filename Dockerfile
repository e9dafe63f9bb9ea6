# deltaserve in a container: build stage, run stage, non-root, read-only root file system.
#   CPU:  docker build -t deltaserve .
#         docker run --rm -p 8080:8080 --read-only deltaserve
#   GPU:  docker build -t deltaserve:cuda --build-arg PRESET=release-cuda \
#             --build-arg BUILD_IMAGE=nvidia/cuda:13.0.2-devel-ubuntu24.04 \
#             --build-arg RUN_IMAGE=nvidia/cuda:13.0.2-base-ubuntu24.04 .
#         docker run --rm --gpus all -p 8080:8080 --read-only -v /models/Qwen3.5-9B:/model:ro \
#             deltaserve:cuda --model /model
# With --build-arg COMMIT=$(git rev-parse --short=12 HEAD) reports and --version name the commit, which the
# build cannot ask for: .git stays outside.
# The two images must be of one distribution: the run stage installs the packages whose libraries the
# program was linked with in the build stage, by the names they have there.
ARG BUILD_IMAGE=debian:12-slim
ARG RUN_IMAGE=debian:12-slim
FROM ${BUILD_IMAGE} AS build
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends ca-certificates
WORKDIR /src
COPY deploy/packages.sh deploy/
RUN bash -c 'source deploy/packages.sh && need "${BUILD_PACKAGES[@]}"'
COPY . .
# Here, so that another preset or commit does not install the packages anew.
ARG PRESET=release
ARG COMMIT=
RUN cmake --preset ${PRESET} -DCOMMIT=${COMMIT} && cmake --build --preset ${PRESET} \
    && cmake --install build/${PRESET} --prefix /usr/local --strip \
    && bash deploy/linked_packages.sh /usr/local/bin/deltaserve > /linked_packages

FROM ${RUN_IMAGE}
COPY --from=build /linked_packages /linked_packages
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends $(cat /linked_packages) \
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
