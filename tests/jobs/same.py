#!/usr/bin/env python3
"""same.py - can the kernel benchmark of a running server be believed? Submits identical jobs, and between
them jobs of the same kernels with 5 % more work (as many more tokens), then compares them pairwise:
identical ones must be SAME in 95 % of the rows, those with more work must be SLOWER in 95 %.

Usage: same.py --url http://127.0.0.1:8080 [--jobs 5] [--spec '{"tokens": 20480}'] [--key KEY]
Exit status 0: both held. Wants a machine with nothing else to do (of whose cores the server leaves one alone:
--threads), and takes --jobs * 2 times what one job takes, a minute on two cores.
"""

import argparse
import itertools
import json
import sys
import time
import urllib.request
from collections import Counter

SPEC = {"ops": ["gdn_inverse"], "tokens": 1280, "chunks": [16, 64], "methods": ["substitution", "merge", "auto"],
        "types": ["fp32", "fp16", "int8"], "rounds": 20, "seconds_min": 1, "seconds_max": 1, "samples_max": 10000}
MORE, SHARE = 1.05, 0.95

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--url", default="http://127.0.0.1:8080")
parser.add_argument("--key", help="an API key")
parser.add_argument("--jobs", type=int, default=5, help="of each of the two kinds")
parser.add_argument("--spec", type=json.loads, default={}, help="fields of spec to replace; one number of tokens")
parser.add_argument("--tolerance", type=float, default=0.03)
args = parser.parse_args()


def call(method, path, body=None):
    headers = {"Content-Type": "application/json"}
    if args.key:
        headers["Authorization"] = f"Bearer {args.key}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(args.url + path, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=600) as reply:
        return json.load(reply)


def run(spec, name):
    job = call("POST", "/v1/jobs", {"type": "kernel_benchmark", "spec": spec, "name": name})
    while job["status"] in ("queued", "running"):
        job = call("GET", f"/v1/jobs/{job['id']}?wait=30")
    if job["status"] != "succeeded":
        raise SystemExit(f"{job['id']} is {job['status']}: {job['error']}")
    print(f"{job['id']} {name}: {job['usage']['wall_seconds']:.1f} s", flush=True)
    return job["id"]


def wait_until_ready(seconds):
    end = time.monotonic() + seconds
    while True:
        try:
            return call("GET", "/readyz")
        except OSError as why:  # nobody listens yet, or 503: it is loading
            if time.monotonic() > end:
                sys.exit(f"{args.url} is not ready: {why}")
            time.sleep(0.2)


def compare(pairs, expected, what):
    """Compare pairs of jobs; print how many rows are as expected, and which rows are not."""
    found, odd = Counter(), Counter()
    ratios = {}
    for base, new in pairs:
        document = call("POST", f"/v1/jobs/{base}/compare?with={new}&tolerance={args.tolerance}&ignore=tokens")
        [table] = document["tables"]
        for *key, _, _, ratio, finding in table["rows"]:
            row = " ".join(str(part) for part in key if part is not None)
            found[finding] += 1
            odd[row] += finding != expected
            ratios.setdefault(row, []).append(ratio)
    total = found.total()
    print(f"{what}: {found[expected]} of {total} rows are {expected} "
          f"({100 * found[expected] / total:.1f} %), {dict(found)}")
    for row, count in odd.most_common(12):
        if count:
            shown = sorted(ratio for ratio in ratios[row] if ratio)
            print(f"  {count} of {len(pairs)}: {row}, new / base {shown[0]:.3f} to {shown[-1]:.3f}")
    return found[expected] >= SHARE * total


spec = {**SPEC, **args.spec}
tokens = spec["tokens"]
more = round(tokens * MORE)
if abs(more / tokens - MORE) > 1e-9 or more % max(spec["chunks"]) or tokens % max(spec["chunks"]):
    sys.exit(f"tokens is {tokens}; it and {MORE} times it must be multiples of the largest chunk")
same, slow = [], []
wait_until_ready(60)
for i in range(args.jobs):  # in turns, so that a drift of the machine is in both kinds
    same.append(run(spec, f"same {i}"))
    slow.append(run({**spec, "tokens": more}, f"slower {i}"))
held = [compare(list(itertools.combinations(same, 2)), "SAME", "identical jobs"),
        compare(list(zip(same, slow)), "SLOWER", "5 % more work")]
sys.exit(0 if all(held) else 1)
