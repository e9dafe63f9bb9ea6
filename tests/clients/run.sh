#!/usr/bin/env bash
# run.sh BINARY - starts the server with the bundled model on a free port, runs the real client
# libraries against it (tests/clients/*.py, in the repository's .venv), stops it.
set -euo pipefail
binary=$1
here=$(cd "$(dirname "$0")" && pwd)
log=$(mktemp)
"$binary" --model bundled --port 0 2>"$log" &
pid=$!
trap 'kill $pid 2>/dev/null; wait $pid 2>/dev/null; rm -f "$log"' EXIT
port=""
for _ in $(seq 300); do
    port=$(sed -nE 's/.* listening .*port=([0-9]+).*/\1/p' "$log" | head -n 1)
    [ -n "$port" ] && curl -sf "http://127.0.0.1:$port/readyz" >/dev/null && break
    kill -0 $pid 2>/dev/null || { cat "$log"; exit 1; }
    sleep 0.1
done
status=0 passed=0 failed=0
for client in "$here"/*.py; do
    echo "== $(basename "$client")"
    output=$("$here/../../.venv/bin/python" "$client" --url "http://127.0.0.1:$port" --model bundled 2>&1) || status=1
    echo "$output"
    line=$(grep -E '^[0-9]+ passed, [0-9]+ failed' <<<"$output" | tail -n 1) || { status=1; continue; }
    passed=$((passed + $(cut -d' ' -f1 <<<"$line")))
    failed=$((failed + $(cut -d' ' -f3 <<<"$line")))
done
echo "$passed passed, $failed failed"
exit $status
