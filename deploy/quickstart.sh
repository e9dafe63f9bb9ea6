#!/usr/bin/env bash
# quickstart.sh - from a fresh Debian 12 machine to a completion: installs what is missing, builds,
# starts deltaserve with the bundled model, asks it to go on with a page of a novel, and leaves the
# server running. `--check` stops it again. A second run is quick.
# Environment: HOST, PORT (default 127.0.0.1:8080).
set -euo pipefail
cd "$(dirname "$0")/.."
source deploy/packages.sh

HOST=${HOST:-127.0.0.1}
PORT=${PORT:-8080}
URL=http://$HOST:$PORT
LOG=build/quickstart.log
check=no
for argument in "$@"; do
    case $argument in
    --check) check=yes ;;
    *) echo "quickstart.sh: unknown argument '$argument'; there is only --check" >&2; exit 2 ;;
    esac
done

stop_server() {
    local pid
    pid=$(cat build/quickstart.pid 2>/dev/null) || return 0
    if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = deltaserve ]; then
        kill "$pid"
        while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
    fi
    rm -f build/quickstart.pid
}

wait_ready() {
    local pid=$1
    for _ in $(seq 600); do
        curl -sf "$URL/readyz" >/dev/null && return 0
        kill -0 "$pid" 2>/dev/null || { echo "the server ended; its log:" >&2; tail -n 20 "$LOG" >&2; return 1; }
        sleep 0.1
    done
    echo "the server was not ready within a minute; see $LOG" >&2
    return 1
}

echo "== packages"
need "${BUILD_PACKAGES[@]}" curl jq ca-certificates
echo "== build"
mkdir -p build
# With a GPU and CUDA's compiler at hand the server is built for both; --device auto then takes the GPU.
preset=release
if nvidia-smi -L >/dev/null 2>&1 && command -v nvcc >/dev/null; then preset=release-cuda; fi
cmake --preset $preset | tail -n 3
cmake --build --preset $preset
echo "== start"
stop_server
if curl -s -o /dev/null "$URL/livez"; then
    echo "something else answers at $URL; choose another port: PORT=8081 deploy/quickstart.sh" >&2
    exit 1
fi
setsid "build/$preset/deltaserve" --model bundled --device auto --host "$HOST" --port "$PORT" \
    </dev/null >"$LOG" 2>&1 &
echo $! >build/quickstart.pid
wait_ready "$(cat build/quickstart.pid)"
grep -E ' (device|model|listening) ' "$LOG" || true

echo "== a completion: the prompt is the last part of a chapter"
head -c 9000 tests/data/heldout.txt | jq -Rs '{prompt: ., max_tokens: 120, temperature: 0.9, top_p: 0.95, seed: 7}' |
    curl -sS --fail-with-body "$URL/v1/completions" -H 'Content-Type: application/json' -d @- >build/quickstart.json
echo "... $(head -c 9000 tests/data/heldout.txt | tail -c 240)"
printf '\033[1m%s\033[0m\n\n' "$(jq -r '.choices[0].text' build/quickstart.json)"
jq -r '"prompt \(.usage.prompt_tokens) tokens in \(.timings.prompt_ms | round) ms (\(.timings.prompt_per_second | round) tokens/s); answer \(.usage.completion_tokens) tokens in \(.timings.predicted_ms | round) ms (\(.timings.predicted_per_second | round) tokens/s)"' build/quickstart.json

if [ $check = yes ]; then
    stop_server
    echo "== checked; the server is stopped"
    exit 0
fi
cat <<TXT

The server runs at $URL (log: $LOG; stop it with: kill \$(cat build/quickstart.pid)).
Open it in a browser, or try:

  curl -N $URL/v1/completions -H 'Content-Type: application/json' \\
    -d '{"prompt": "It was a dark and stormy night;", "max_tokens": 100, "stream": true}'
  curl $URL/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{"messages": [{"role": "user", "content": "The secret code of Anna is 48213. What is the secret code of Anna?"}]}'
  curl $URL/metrics
TXT
