#!/usr/bin/env python3
"""Prefill and decode rates through HTTP beside the engine's own.
http_rates.py BINARY MODEL DTYPE [--perf LOG] [--device D] [--long N] [--prompt N] [--answer N] [--port P]
LOG is what `model_check perf` printed for the same model, dtype and card; with it, a rate more than 3 %
below the engine's own fails: of one prompt beside the best of single ones, of many prompts and of generated
tokens, whose rate is one over all of a stream, beside what the engine does in a row.
Decode is what streams deliver while all of them generate; prefill is the prompts' tokens over the whole
time of as many requests for one token, from first byte to last reply. Of one request the part is told
that its engine did not take (timings.prompt_ms): reading, waking, replying, and this client's own."""
import argparse
import json
import re
import selectors
import socket
import subprocess
import sys
import threading
import time

BATCHES, RUNS, SHARE = (1, 64), 3, 0.97
BEST_S = 0.5  # one prompt is repeated this long, as model_check perf does
TOKENS = re.compile(rb'"token_ids":\[([0-9,]+)\]')


def start(o):
    """A server that is ready."""
    server = subprocess.Popen([o.binary, "--model", o.model, "--dtype", o.dtype, "--device", o.device,
                               "--port", str(o.port), "--context-max", str(2 * o.long), "--jobs-db", ":memory:"],
                              stderr=subprocess.PIPE, text=True)
    for line in server.stderr:
        if re.search(r" (device|model|loaded) ", line):
            print(line.rstrip())
        if " ready " in line:
            threading.Thread(target=lambda: [None for _ in server.stderr], daemon=True).start()
            return server
    raise SystemExit("the server ended before it was ready")


def body_of(i, prompt, answer, stream):
    return json.dumps({"prompt": [(7919 * (i + 1) * (t + 1)) % 4000 for t in range(prompt)],
                       "max_tokens": answer, "temperature": 0, "ignore_eos": True, "stream": stream,
                       "return_token_ids": stream}, separators=(",", ":")).encode()


def request_of(body):
    return (b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def connect(o):
    connection = socket.create_connection(("127.0.0.1", o.port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def reply_of(connection):
    """The body of a reply that says how long it is."""
    got = b""
    while True:
        head, end, body = got.partition(b"\r\n\r\n")
        if end and len(body) >= int(re.search(rb"(?i)\ncontent-length: *(\d+)", head)[1]):
            return body
        part = connection.recv(1 << 20)
        if not part:
            raise SystemExit(f"the server closed a connection: {got[:300]}")
        got += part


class Stream:
    """One request and when its tokens came: [(seconds, tokens so far)]."""

    def __init__(self, o, i):
        self.socket = connect(o)
        self.socket.sendall(request_of(body_of(i, o.prompt, o.answer, True)))
        self.rest, self.n, self.times = b"", 0, []

    def read(self):
        """False at the end."""
        got = self.socket.recv(1 << 20)
        lines = (self.rest + got).split(b"\n")
        self.rest = lines.pop()
        new = sum(m.count(b",") + 1 for line in lines for m in TOKENS.findall(line))
        if new:
            self.n += new
            self.times.append((time.monotonic(), self.n))
        return bool(got)


def decode_rate(o, n):
    """Tokens a second of n streams together, from when the last has begun to when the first ends."""
    streams, left = [Stream(o, i) for i in range(n)], selectors.DefaultSelector()
    for s in streams:
        left.register(s.socket, selectors.EVENT_READ, s)
    while left.get_map():
        for key, _ in left.select():
            if not key.data.read():
                left.unregister(key.fileobj)
                key.fileobj.close()
    if any(s.n != o.answer for s in streams):
        raise SystemExit(f"a stream brought {min(s.n for s in streams)} of {o.answer} tokens: "
                         f"{streams[0].rest[:300]}")
    begin, end = max(s.times[0][0] for s in streams), min(s.times[-1][0] for s in streams)
    if end <= begin:
        raise SystemExit(f"{n} streams never ran together: give a larger --answer")
    until = [max((k for t, k in s.times if t <= end), default=0) -
             max((k for t, k in s.times if t <= begin), default=0) for s in streams]
    return sum(until) / (end - begin)


def prefill_rate(o, n):
    """Prompt tokens a second of n requests together, and the ms beyond the longest of them in the engine."""
    requests = [request_of(body_of(i, o.long, 1, False)) for i in range(n)]
    connections = [connect(o) for _ in requests]
    begin = time.monotonic()
    for connection, request in zip(connections, requests):
        connection.sendall(request)
    replies = [reply_of(connection) for connection in connections]
    seconds = time.monotonic() - begin
    for connection in connections:
        connection.close()
    replies = [json.loads(reply) for reply in replies]
    for reply in replies:
        if "usage" not in reply:
            raise SystemExit(f"a request failed: {reply}")
    return n * o.long / seconds, 1e3 * seconds - max(r["timings"]["prompt_ms"] for r in replies)


def best_prefill(o, n):
    """The best of single requests for BEST_S, or one measurement of many."""
    end, rates = time.monotonic() + (BEST_S if n == 1 else 0), [prefill_rate(o, n)]
    while time.monotonic() < end:
        rates.append(prefill_rate(o, n))
    return max(rates)


def engine_rates(o):
    """{("prefill", length), ("row", length) or (depth, batch): tokens a second} of the log."""
    rates = {}
    for line in open(o.perf) if o.perf else ():
        if m := re.match(r" +(\d+) +(\d+) tok/s in a row", line):
            rates["row", int(m[1])] = float(m[2])
        elif m := re.match(r" +(\d+) +(\d+) tok/s ", line):
            rates["prefill", int(m[1])] = float(m[2])
        elif m := re.match(r" +(\d+) +(\d+) +[\d.]+ tok/s .*; in a row +([\d.]+) tok/s", line):
            rates[int(m[1]), int(m[2])] = float(m[3])
    return rates


def tell(what, rate, own):
    """False when it is too far below."""
    print(f"  {what:40s} {rate:10.1f} tokens/s" +
          (f", the engine's own {own:10.1f}: {100 * rate / own:.1f} %" if own else ""))
    return not own or rate >= SHARE * own


def main():
    p = argparse.ArgumentParser(description=__doc__)
    for name in ("binary", "model", "dtype"):
        p.add_argument(name)
    p.add_argument("--perf", metavar="LOG")
    p.add_argument("--device", default="cuda")
    for name, value in (("--long", 8192), ("--prompt", 2048), ("--answer", 256), ("--port", 18080)):
        p.add_argument(name, type=int, default=value)
    o = p.parse_args()
    own, good, server = engine_rates(o), True, start(o)
    print(f"{o.model} {o.dtype} through HTTP, decode the best of {RUNS}")
    try:
        prefill_rate(o, 1)
        for n in BATCHES:
            rate, outside = best_prefill(o, n)
            good &= tell(f"prefill of {o.long}, {n} at a time", rate,
                         own.get(("prefill" if n == 1 else "row", o.long)))
            if n == 1:
                print(f"    of one request {1e3 * o.long / rate:.2f} ms, outside the engine {outside:.2f} ms")
        for n in BATCHES:
            rate = max(decode_rate(o, n) for _ in range(RUNS))
            good &= tell(f"decode, {n} at a time, from {o.prompt} tokens on", rate,
                         own.get((o.prompt, n)))
    finally:
        server.terminate()
        server.wait(60)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
