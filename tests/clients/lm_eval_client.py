#!/usr/bin/env python3
"""lm_eval_client.py - lm-eval against a running server, as its users run it: `local-completions` with the
server's own tokenizer (lm-eval's remote backend), tasks of all three kinds of request.

The figures are known: the book's loss from the server's own token log-probabilities, and codes hidden in
a thousand tokens, which the bundled model finds. Prints "N passed, N failed" last.
Usage: lm_eval_client.py --url http://127.0.0.1:8080 --model bundled
"""

import argparse
import json
import logging
import math
import os
import pathlib
import random
import sys
import tempfile
import urllib.request

os.environ.setdefault("HF_DATASETS_OFFLINE", "1")  # nothing is fetched: all data is in the repository
os.environ.setdefault("HF_HUB_OFFLINE", "1")

os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import lm_eval  # noqa: E402  (after the environment)

DATA = pathlib.Path(__file__).resolve().parent.parent / "data"
CODES, CHOICES, PIECES = 6, 3, 3  # prompts that hide codes; answers to choose from; texts of the book
PIECE = 4000  # characters of a text

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--url", required=True)
parser.add_argument("--model", required=True)
args = parser.parse_args()
logging.getLogger("lm_eval").setLevel(logging.WARNING)


def codes():
    """Prompts with the right code and wrong ones to choose from, the right one anywhere among them."""
    rng = random.Random(1)
    with open(DATA / "recall.jsonl", encoding="utf-8") as lines:
        items = [json.loads(line) for line in lines][:CODES]
    for item in items:
        choices = [item["answer"].strip()] + [str(rng.randrange(10000, 100000)) for _ in range(CHOICES - 1)]
        rng.shuffle(choices)
        yield {"prompt": item["prompt"], "answer": item["answer"].strip(), "choices": choices,
               "label": choices.index(item["answer"].strip())}


def texts():
    book = (DATA / "heldout.txt").read_text(encoding="utf-8")
    for i in range(PIECES):
        yield {"text": book[i * PIECE:(i + 1) * PIECE]}


def task(folder, name, rows, **fields):
    path = os.path.join(folder, f"{name}.jsonl")
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return {"task": name, "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": path}},
            "test_split": "test", **fields}


def evaluate(folder):
    tasks = [
        task(folder, "book", texts(), output_type="loglikelihood_rolling", doc_to_text="", doc_to_target="{{text}}",
             metric_list=[{"metric": "bits_per_byte"}]),
        task(folder, "choose_code", codes(), output_type="multiple_choice", doc_to_text="{{prompt}}",
             doc_to_choice="{{choices}}", doc_to_target="label", metric_list=[{"metric": "acc"}]),
        task(folder, "write_code", codes(), output_type="generate_until", doc_to_text="{{prompt}}",
             doc_to_target="{{answer}}", generation_kwargs={"until": ["."], "max_gen_toks": 12, "temperature": 0},
             filter_list=[{"name": "number", "filter": [{"function": "regex", "regex_pattern": r"(\d+)"},
                                                        {"function": "take_first"}]}],
             metric_list=[{"metric": "exact_match"}]),
    ]
    return lm_eval.simple_evaluate(
        model="local-completions", tasks=tasks, batch_size=1, log_samples=True, bootstrap_iters=0,
        model_args={"model": args.model, "base_url": f"{args.url}/v1/completions", "tokenizer_backend": "remote",
                    "num_concurrent": 2, "max_length": 4096})


def post(path, body):
    request = urllib.request.Request(args.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as reply:
        return json.load(reply)


def own_bits_per_byte():
    """The same texts, one request each, after the token that lm-eval puts before them."""
    with urllib.request.urlopen(f"{args.url}/tokenizer_info", timeout=60) as reply:
        info = json.load(reply)
    start = post("/tokenize", {"prompt": info["bos_token"] or info["eos_token"], "add_special_tokens": False})["tokens"]
    nats = size = 0
    for row in texts():
        ids = post("/tokenize", {"prompt": row["text"], "add_special_tokens": False})["tokens"]
        reply = post("/v1/completions", {"model": args.model, "prompt": start + ids, "max_tokens": 1, "echo": True,
                                         "logprobs": 1, "temperature": 0})
        nats -= sum(reply["choices"][0]["logprobs"]["token_logprobs"][1:len(ids) + 1])
        size += len(row["text"].encode())
    return nats / size / math.log(2)


def metric(results, name, wanted):
    return next(value for key, value in results["results"][name].items() if key.split(",")[0] == wanted)


def main():
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        results = evaluate(folder)
    own, found = own_bits_per_byte(), metric(results, "book", "bits_per_byte")
    checks = [
        (f"bits a byte of the book {found:.4f}, by its own log-probabilities {own:.4f}", abs(found - own) < 1e-3),
        (f"right code chosen {metric(results, 'choose_code', 'acc'):.2f}", metric(results, "choose_code", "acc") == 1),
        (f"right code written {metric(results, 'write_code', 'exact_match'):.2f}",
         metric(results, "write_code", "exact_match") >= 0.75),
    ]
    for what, held in checks:
        print(f"{'ok  ' if held else 'FAIL'} lm-eval {lm_eval.__version__}: {what}")
        passed, failed = passed + held, failed + (not held)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
