#!/usr/bin/env python3
"""inverse_rival.py - times flash-linear-attention's solve_tril on what `ops_check inverse` is timed on.

16,384 matrices of 64 x 64 (32,768 tokens x 32 heads), float32 in and out, with the largest error against
float64. Its first call tries some tens of variants of itself, which takes a minute. Needs a CUDA device, PyTorch, Triton and fla-core 0.5 or newer.
Usage: FLA_DISABLE_BACKEND_DISPATCH=1 tests/gpu/inverse_rival.py
"""

import statistics

import torch
from fla.ops.utils.solve_tril import solve_tril

TOKENS, HEADS, CHUNK = 32768, 32, 64


def draw():
    """A as the delta rule makes it: keys of mean cosine 0.3, beta 0.835, a decay of 1e-3 a token."""
    keys = torch.randn(1, TOKENS, HEADS, 128, device="cuda")
    common = torch.randn(1, 1, HEADS, 128, device="cuda")
    keys = torch.nn.functional.normalize(0.7**0.5 * keys + 0.3**0.5 * common, dim=-1)
    keys = keys.view(TOKENS // CHUNK, CHUNK, HEADS, 128).permute(0, 2, 1, 3)
    token = torch.arange(CHUNK, device="cuda", dtype=torch.float32)
    decay = torch.exp(-1e-3 * (token[:, None] - token[None, :]))
    a = (0.835 * keys @ keys.transpose(-1, -2) * decay).tril(-1)
    return a.permute(0, 2, 1, 3).reshape(1, TOKENS, HEADS, CHUNK).contiguous()


def milliseconds(run):
    for _ in range(10):
        run()
    times = []
    for _ in range(15):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(10):
            run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 10)
    return statistics.median(times)


def error(a, t):
    part = 64 * CHUNK
    def square(x):
        return x[0, :part].double().view(-1, CHUNK, HEADS, CHUNK).permute(0, 2, 1, 3)
    one = torch.eye(CHUNK, device="cuda", dtype=torch.float64)
    exact = torch.linalg.solve_triangular(one + square(a), one.expand_as(square(a)), upper=False)
    return (square(t) - exact).abs().max().item()


def main():
    torch.manual_seed(1)
    a = draw()
    print(f"{torch.cuda.get_device_name()}, {TOKENS // CHUNK * HEADS} matrices of {CHUNK} x {CHUNK}")
    ms = milliseconds(lambda: solve_tril(a))
    print(f"solve_tril: {ms:.3f} ms, error {error(a, solve_tril(a)):.1e}", flush=True)


if __name__ == "__main__":
    main()
