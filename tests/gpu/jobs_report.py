#!/usr/bin/env python3
"""Submits jobs to a server of its own and keeps their reports:
jobs_report.py BINARY MODEL DEVICE OUT [--dtype T] NAME=TYPE:SPEC...   writes OUT/NAME.html and OUT/NAME.json
The examples in deploy/reports come from it."""
import argparse
import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time

PORT = 18081


def start(o):
    server = subprocess.Popen([o.binary, "--model", o.model, "--device", o.device, "--dtype", o.dtype, "--port", str(PORT),
                               "--jobs-db", ":memory:", "--context-max", "16384"], stderr=subprocess.PIPE, text=True)
    for line in server.stderr:
        if re.search(r" (device|model) ", line):
            print(line.rstrip())
        if " ready " in line:
            threading.Thread(target=lambda: [None for _ in server.stderr], daemon=True).start()
            return server
    raise SystemExit("the server ended before it was ready")


def call(method, path, body=None, accept="application/json"):
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=600)
    headers = {"Content-Type": "application/json", "Accept": accept}
    connection.request(method, path, json.dumps(body) if body is not None else None, headers)
    reply = connection.getresponse()
    return reply.status, reply.read().decode()


def run(out, name, kind, spec):
    begin = time.monotonic()
    status, text = call("POST", "/v1/jobs", {"type": kind, "spec": spec})
    if status not in (200, 202):
        print(f"{name}: {status} {text[:600]}")
        return False
    job = json.loads(text)
    while job["status"] in ("queued", "running", "cancelling"):
        _, text = call("GET", f"/v1/jobs/{job['id']}?wait=10")
        job = json.loads(text)
    print(f"{name}: {job['status']} in {time.monotonic() - begin:.1f} s {job.get('error') or ''}")
    for form, accept in (("html", "text/html"), ("json", "application/json")):
        status, text = call("GET", f"/v1/jobs/{job['id']}/result", accept=accept)
        with open(os.path.join(out, f"{name}.{form}"), "w") as f:
            f.write(text)
    status, text = call("GET", f"/v1/jobs/{job['id']}/result", accept="text/markdown")
    print("\n".join(line[:180] for line in text.splitlines()[:60]))
    return job["status"] == "succeeded"


def main():
    p = argparse.ArgumentParser(description=__doc__)
    for name in ("binary", "model", "device", "out"):
        p.add_argument(name)
    p.add_argument("--dtype", default="bf16")
    p.add_argument("jobs", nargs="+")
    o = p.parse_args()
    os.makedirs(o.out, exist_ok=True)
    server, good = start(o), True
    try:
        for job in o.jobs:
            name, rest = job.split("=", 1)
            kind, spec = rest.split(":", 1)
            good &= run(o.out, name, kind, json.loads(spec))
    finally:
        server.terminate()
        server.wait(60)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
