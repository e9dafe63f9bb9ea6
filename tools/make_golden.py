#!/usr/bin/env python3
"""Makes the golden files: what transformers computes, in float32, for small checkpoints.

    python3 tools/make_golden.py random --ratio 3      tests/golden/ratio3/
    python3 tools/make_golden.py random --ratio 4      tests/golden/ratio4/
    python3 tools/make_golden.py bundled               tests/golden/bundled.json

`random` draws every weight (norms too, so that a missing "+1" shows), rounds to the type it is
stored in, and records cases. The two checkpoints differ on purpose in everything a loader meets:

    ratio3  Hk 2, Hv 6, nh/nkv 3/1; flat config, prefix `model.`; one file; tied; A_log, norm in bf16
    ratio4  Hk 1, Hv 4, nh/nkv 6/2; nested config, prefix `model.language_model.`; two shards with an
            index; its own lm_head; A_log, norm in f32

`bundled` runs models/bundled: one case of about 300 ids, and the mean negative log likelihood of
tests/data/heldout.txt. Everything runs on the CPU with transformers' own torch code (neither
flash-linear-attention nor causal_conv1d may be installed), eager attention, no padding.

A case: `prompt` ids; `last_logits` at its last position; `prompt_logprobs`, one per prompt token,
null for the first; `greedy`, the 24 most likely next tokens, each fed back through the cache.
Written with transformers 5.17.0 and torch 2.11.0, 2026-11-23.
"""
from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.models.qwen3_5 import Qwen3_5ForCausalLM, Qwen3_5TextConfig

ROOT = Path(__file__).resolve().parent.parent
HELDOUT_TOKENS = 8192

SHAPES = {
    3: dict(linear_num_key_heads=2, linear_num_value_heads=6, num_attention_heads=3,
            num_key_value_heads=1, tie_word_embeddings=True),
    4: dict(linear_num_key_heads=1, linear_num_value_heads=4, num_attention_heads=6,
            num_key_value_heads=2, tie_word_embeddings=False),
}


def text_config(ratio: int) -> Qwen3_5TextConfig:
    return Qwen3_5TextConfig(
        vocab_size=600, hidden_size=64, intermediate_size=96, num_hidden_layers=4, head_dim=256,
        linear_key_head_dim=128, linear_value_head_dim=128, linear_conv_kernel_dim=4,
        max_position_embeddings=4096,
        rope_parameters=dict(rope_type="default", rope_theta=1e4, partial_rotary_factor=0.25,
                             mrope_section=[11, 11, 10], mrope_interleaved=True),
        **SHAPES[ratio])


def stored_as(name: str, f32_extras: bool) -> torch.dtype:
    extra = name.endswith("A_log") or name.endswith("linear_attn.norm.weight")
    return torch.float32 if extra and f32_extras else torch.bfloat16


def randomise(model: torch.nn.Module, f32_extras: bool) -> None:
    """Every weight random, rounded to its stored type. Scales: spec of the family, section 6."""
    for name, p in model.named_parameters():
        if name.endswith("linear_attn.norm.weight"):
            x = 1 + 0.2 * torch.randn_like(p)
        elif "norm" in name:
            x = 0.2 * torch.randn_like(p)
        elif name.endswith("A_log"):
            x = torch.empty_like(p).uniform_(-2, 2)
        elif name.endswith("dt_bias"):
            x = torch.randn_like(p)
        elif "conv1d" in name:
            x = 0.5 * torch.randn_like(p)
        else:
            x = torch.randn_like(p) / math.sqrt(p.shape[-1])
        p.data.copy_(x.to(stored_as(name, f32_extras)).float())


def rounded(values: torch.Tensor) -> list[float]:
    return [round(float(v), 5) for v in values]


@torch.no_grad()
def run_case(model: Qwen3_5ForCausalLM, prompt: list[int], new_tokens: int = 24) -> dict:
    out = model(torch.tensor([prompt]), use_cache=True)
    logits = out.logits[0].float()
    lp = torch.log_softmax(logits[:-1], -1).gather(1, torch.tensor(prompt[1:], dtype=torch.long)[:, None])
    greedy, last, cache = [], logits[-1], out.past_key_values
    for _ in range(new_tokens):
        greedy.append(int(last.argmax()))
        out = model(torch.tensor([greedy[-1:]]), past_key_values=cache, use_cache=True)
        last, cache = out.logits[0, -1], out.past_key_values
    return dict(prompt=prompt, last_logits=rounded(logits[-1]),
                prompt_logprobs=[None] + rounded(lp[:, 0]), greedy=greedy)


def stored_tensors(model: torch.nn.Module, prefix: str, f32_extras: bool, tied: bool) -> dict:
    out = {}
    for name, p in model.state_dict().items():
        if name == "lm_head.weight" and tied:
            continue
        new = prefix + name[len("model."):] if name.startswith("model.") else name
        out[new] = p.detach().to(stored_as(name, f32_extras)).contiguous()
    return out


def save_sharded(tensors: dict, folder: Path) -> None:
    """Two shards, cut in the middle of a layer, and the index that names them."""
    names = sorted(tensors)
    half = sum(t.nbytes for t in tensors.values()) / 2
    shards, size = [[], []], 0
    for n in names:
        shards[size >= half].append(n)
        size += tensors[n].nbytes
    weight_map = {}
    for i, part in enumerate(shards, 1):
        file = f"model-{i:05d}-of-00002.safetensors"
        save_file({n: tensors[n] for n in part}, folder / file, metadata={"format": "pt"})
        weight_map.update({n: file for n in part})
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def make_random(ratio: int) -> None:
    torch.manual_seed(100 + ratio)
    config = text_config(ratio)
    config._attn_implementation = "eager"
    nested = ratio == 4
    model = Qwen3_5ForCausalLM(config).float().eval()
    randomise(model, f32_extras=nested)
    gen = torch.Generator().manual_seed(ratio)
    lengths = (1, 5, 63, 65, 200)
    prompts = [torch.randint(0, config.vocab_size, (n,), generator=gen).tolist() for n in lengths]
    cases = [run_case(model, p) for p in prompts]

    folder = ROOT / f"tests/golden/ratio{ratio}"
    folder.mkdir(parents=True, exist_ok=True)
    flat = {k: v for k, v in json.loads(config.to_json_string(use_diff=False)).items()
            if k in KEPT_KEYS}
    flat.update(model_type="qwen3_5_text", dtype="bfloat16")
    if nested:
        published = dict(architectures=["Qwen3_5ForConditionalGeneration"], model_type="qwen3_5",
                         text_config=flat, tie_word_embeddings=False)
        tensors = stored_tensors(model, "model.language_model.", True, tied=False)
        save_sharded(tensors, folder)
    else:
        published = dict(architectures=["Qwen3_5ForCausalLM"], **flat)
        tensors = stored_tensors(model, "model.", False, tied=True)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(published, indent=2) + "\n")
    golden = dict(transformers=transformers.__version__, torch=torch.__version__,
                  tensors={n: [str(t.dtype), list(t.shape)] for n, t in sorted(tensors.items())},
                  cases=cases)
    (folder / "golden.json").write_text(json.dumps(golden) + "\n")
    print(folder, sum(t.nbytes for t in tensors.values()), "bytes of weights")


KEPT_KEYS = {
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "hidden_act", "max_position_embeddings", "rms_norm_eps",
    "tie_word_embeddings", "rope_parameters", "attention_bias", "head_dim",
    "linear_conv_kernel_dim", "linear_key_head_dim", "linear_value_head_dim",
    "linear_num_key_heads", "linear_num_value_heads", "layer_types"}


def load_bundled(folder: Path) -> Qwen3_5ForCausalLM:
    config = Qwen3_5TextConfig.from_pretrained(folder)
    config._attn_implementation = "eager"
    model = Qwen3_5ForCausalLM(config).float().eval()
    tensors = {n: t.float() for n, t in load_file(folder / "model.safetensors").items()}
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    model.tie_weights()
    return model


@torch.no_grad()
def sequence_nll(model: Qwen3_5ForCausalLM, ids: list[int], step: int = 1024) -> float:
    """Mean negative log likelihood of ids[1:], one sequence, fed in pieces through the cache."""
    cache, total = None, 0.0
    for at in range(0, len(ids), step):
        piece = ids[at:at + step]
        out = model(torch.tensor([piece]), past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        targets = ids[at + 1:at + 1 + len(piece)]
        lp = torch.log_softmax(out.logits[0, :len(targets)].float(), -1)
        total -= float(lp.gather(1, torch.tensor(targets)[:, None]).double().sum())
    return total / (len(ids) - 1)


def make_bundled() -> None:
    from tokenizers import Tokenizer
    folder = ROOT / "models/bundled"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = load_bundled(folder)
    text = (ROOT / "tests/data/heldout.txt").read_text(encoding="utf-8")
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    case = run_case(model, ids[:300])
    window = ids[:HELDOUT_TOKENS]
    golden = dict(
        transformers=transformers.__version__, torch=torch.__version__,
        prompt_text=tokenizer.decode(ids[:300]), greedy_text=tokenizer.decode(case["greedy"]),
        cases=[case],
        heldout_bytes=len(tokenizer.decode(window).encode()), heldout_tokens=len(window),
        heldout_nll=round(sequence_nll(model, window), 6),
        heldout_windowing="the first 8,192 tokens of tests/data/heldout.txt as one sequence from "
                          "position 0; mean over the predictions of tokens 1..8191, natural log; "
                          "heldout_bytes is the UTF-8 length of these 8,192 tokens' text")
    out = ROOT / "tests/golden/bundled.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(golden, ensure_ascii=False) + "\n")
    nll = golden["heldout_nll"]
    print(f"nll {nll} ppl {math.exp(nll):.2f} bits/byte "
          f"{nll * (len(window) - 1) / golden['heldout_bytes'] / math.log(2):.4f}")
    print(repr(golden["greedy_text"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    sub = parser.add_subparsers(dest="what", required=True)
    sub.add_parser("random").add_argument("--ratio", type=int, choices=(3, 4), required=True)
    sub.add_parser("bundled")
    args = parser.parse_args()
    torch.set_num_threads(2)
    if args.what == "random":
        make_random(args.ratio)
    else:
        make_bundled()


if __name__ == "__main__":
    main()
