#!/usr/bin/env python3
"""What transformers loses by computing in bf16 and in float16: mean Kullback-Leibler divergence from its own float32
run and share of equal likeliest tokens, on the prompts that tests/golden/types_check.c uses."""
import json
import os

import torch
from transformers import AutoModelForCausalLM

ROOT = os.path.join(os.path.dirname(__file__), "..", "..")
TOKENS_MAX = 300  # as in types_check.c
MODELS = [("dense_a", "tests/golden/dense_a", "tests/golden/dense_a/golden.json"),
          ("ratio3", "tests/golden/ratio3", "tests/golden/ratio3/golden.json"),
          ("bundled", "models/bundled", "tests/golden/bundled.json")]


def prompt_of(path):
    """The prompt that types_check.c chooses: the longest of at most TOKENS_MAX + 100 tokens."""
    with open(path) as f:
        ids = [case["prompt"] for case in json.load(f)["cases"]]
    best = ids[0]
    for i in ids[1:]:
        if len(best) < len(i) <= TOKENS_MAX + 100:
            best = i
    return best[:TOKENS_MAX]


@torch.no_grad()
def logprobs(path, ids, dtype):
    model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype).cuda().eval()
    return model(torch.tensor([ids], device="cuda")).logits[0].double().log_softmax(-1)


def main():
    for name, model, golden in MODELS:
        ids = prompt_of(os.path.join(ROOT, golden))
        want = logprobs(os.path.join(ROOT, model), ids, torch.float32)
        for dtype in (torch.bfloat16, torch.float16):
            got = logprobs(os.path.join(ROOT, model), ids, dtype)
            kl = (want.exp() * (want - got)).sum(-1).mean().item()
            same = (want.argmax(-1) == got.argmax(-1)).double().mean().item()
            print(f"{name}: transformers in {dtype} against its float32: mean KL {kl:.1e}, "
                  f"top-1 {same:.3f} ({len(ids)} tokens)")


if __name__ == "__main__":
    main()
