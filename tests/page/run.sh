#!/usr/bin/env bash
# run.sh BINARY - starts the server with the bundled model twice on free ports, once with an API key, and
# drives its page in headless Chromium (page.py, in the repository's .venv). Pictures go to build/page.
set -euo pipefail
binary=$1
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null; wait 2>/dev/null; rm -rf "$work"' EXIT
head -c 18 /dev/urandom | base64 | tr '+/' 'ab' >"$work/key"

# start NAME ARGUMENT...: sets port to the port it listens on.
start() {
    local name=$1
    shift
    "$binary" --model bundled --port 0 --jobs-db :memory: "$@" 2>"$work/$name.log" &
    pids+=($!)
    for _ in $(seq 300); do
        port=$(sed -nE 's/.* listening .*port=([0-9]+).*/\1/p' "$work/$name.log" | head -n 1)
        [ -n "$port" ] && curl -sf "http://127.0.0.1:$port/readyz" >/dev/null && return 0
        kill -0 "${pids[-1]}" 2>/dev/null || { cat "$work/$name.log"; exit 1; }
        sleep 0.1
    done
    echo "the server was not ready within 30 s" >&2
    exit 1
}

start open
url=http://127.0.0.1:$port
start keyed --api-key-file "$work/key"
"$here/../../.venv/bin/python" "$here/page.py" --url "$url" --keyed-url "http://127.0.0.1:$port" \
    --key "$(cat "$work/key")" --shots "$here/../../build/page"
