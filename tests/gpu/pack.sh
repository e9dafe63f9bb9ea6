#!/usr/bin/env bash
# pack.sh - the GPU programs and the libraries they are linked with as one archive, for a GPU node that has
# neither a compiler nor our packages:
#   here:   tests/gpu/pack.sh pack.tar.xz        (after cmake --build --preset cuda)
#   there:  tar -xJf pack.tar.xz                 at the top of a checkout of the same commit
#           tests/gpu/run.sh
# The programs look for tests/ and models/ where they were built; there that path must lead to the checkout.
# CUDA's own libraries are not packed; run.sh finds them below /usr/local/cuda*.
set -euo pipefail
out=$(realpath -m "${1:?usage: pack.sh OUT.tar.xz}")
cd "$(dirname "$0")/../.."
programs=(ops_check model_check deltaserve no_library.so)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$stage/build/cuda/lib"
for program in "${programs[@]}"; do
    strip -o "$stage/build/cuda/$program" "build/cuda/$program"
    # The C library and the loader belong to the node, and so does CUDA.
    ldd "build/cuda/$program" | awk '$2 == "=>" && $3 ~ /^\// {print $3}' |
        grep -vE '/(ld-linux|libc\.so|libm\.so|libpthread|libdl|librt|libcuda|libcudart|libcublas|libnvidia)' |
        xargs -r cp -Lnt "$stage/build/cuda/lib"
done
strip --strip-unneeded "$stage"/build/cuda/lib/*
tar -C "$stage" -cf - build | xz -T0 -9 >"$out"
ls -sh "$out"
