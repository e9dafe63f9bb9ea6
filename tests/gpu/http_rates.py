#!/usr/bin/env python3
"""Decode and prefill rates through HTTP, by the server's own clock and by the client's:
http_rates.py BINARY MODEL DTYPE. Compare with `model_check perf` on the same device."""
import http.client
import json
import re
import subprocess
import sys
import threading
import time

PROMPT, ANSWER, PORT = 2048, 256, 18080


def start(binary, model, dtype):
    server = subprocess.Popen([binary, "--model", model, "--dtype", dtype, "--device", "cuda", "--port",
                               str(PORT), "--context-max", "16384"], stderr=subprocess.PIPE, text=True)
    for line in server.stderr:
        if re.search(r" (device|model|loaded) ", line):
            print(line.rstrip())
        if " ready " in line:
            threading.Thread(target=lambda: [None for _ in server.stderr], daemon=True).start()
            return server
    raise SystemExit("the server ended before it was ready")


def ask(out, i, prompt, answer):
    body = {"prompt": [(7919 * (i + 1) * (t + 1)) % 240000 for t in range(prompt)], "max_tokens": answer,
            "temperature": 0, "ignore_eos": True, "return_token_ids": True}
    connection = http.client.HTTPConnection("127.0.0.1", PORT)
    begin = time.monotonic()
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    reply = json.loads(connection.getresponse().read())
    out[i] = (time.monotonic() - begin, reply)


def run(n, prompt, answer):
    out = [None] * n
    threads = [threading.Thread(target=ask, args=(out, i, prompt, answer)) for i in range(n)]
    begin = time.monotonic()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    seconds = time.monotonic() - begin
    bad = [r for _, r in out if "timings" not in r]
    if bad:
        raise SystemExit(f"a request failed: {bad[0]}")
    timings = [r["timings"] for _, r in out]
    decode = sum(t["predicted_per_second"] for t in timings)
    prefill = sum(t["prompt_per_second"] for t in timings) / n
    print(f"  {n:3d} at a time, {prompt} + {answer} tokens: decode {decode:9.1f} tokens/s together, "
          f"prefill {prefill:9.0f} tokens/s each, whole {n * answer / seconds:9.1f} answer tokens/s, "
          f"{seconds:.2f} s by the client's clock")


def main():
    binary, model, dtype = sys.argv[1:4]
    server = start(binary, model, dtype)
    print(f"{model} {dtype} through HTTP")
    try:
        run(1, 64, 8)  # warm
        for n in (1, 64):
            run(n, PROMPT, ANSWER)
            run(n, PROMPT, ANSWER)
        run(1, 8192, 1)
        run(1, 8192, 1)
    finally:
        server.terminate()
        server.wait(60)


if __name__ == "__main__":
    main()
