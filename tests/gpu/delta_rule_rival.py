#!/usr/bin/env python3
"""delta_rule_rival.py - prefill of one layer's gated delta rule: ours beside flash-linear-attention's.

Runs `ops_check perf delta_rule`, then times chunk_gated_delta_rule_fwd at the same shapes in this process:
q, k, v, g, beta -> o, state in bf16, CUDA graphs, the median of 15. Ours normalises q and k and makes the
gates from a and b as well; the rival is given them ready. Prints one line a shape.
Triton tunes by numbers of heads and compiles for minutes; one process for each does that ahead, all at the
same time, and leaves the compiled kernels in Triton's cache. What is timed is tuned again, alone.
Usage: delta_rule_rival.py path/to/ops_check [HEADS...]    HEADS as 16/32; none: all. Needs torch and fla-core
"""
import os
import re
import statistics
import subprocess
import sys

os.environ["FLA_DISABLE_BACKEND_DISPATCH"] = "1"  # Triton's kernels, not another package's

import torch
import torch.nn.functional as F
from fla.ops.gated_delta_rule.chunk import chunk_gated_delta_rule_fwd
from fla.ops.utils.index import prepare_chunk_indices

DIM, CHUNK, REPLAYS = 128, 64, 15
LINE = re.compile(r"delta_rule shape (\d+)/(\d+) (\d+)x(\d+) ([\d.]+) ms floor ([\d.]+) ms")


def graph_time(call):
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    times = []
    for _ in range(REPLAYS + 2):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times[2:])


def rival_time(k_heads, v_heads, tokens, sequences):
    t = tokens * sequences

    def unit():
        x = torch.randn(1, t, k_heads, DIM, device="cuda")
        return F.normalize(x, dim=-1).bfloat16()

    q, k = unit(), unit()
    v = torch.randn(1, t, v_heads, DIM, device="cuda").bfloat16()
    g = F.logsigmoid(torch.randn(1, t, v_heads, device="cuda")) / 16
    beta = torch.randn(1, t, v_heads, device="cuda").sigmoid()
    h0 = torch.zeros(sequences, v_heads, DIM, DIM, device="cuda")
    starts = indices = None
    if sequences > 1:
        starts = torch.arange(sequences + 1, device="cuda") * tokens
        indices = prepare_chunk_indices(starts, CHUNK)
    return graph_time(lambda: chunk_gated_delta_rule_fwd(
        q=q, k=k, v=v, g=g, beta=beta, scale=DIM ** -0.5, initial_state=h0,
        output_final_state=True, cu_seqlens=starts, chunk_indices=indices))


def compile_ahead(heads):
    """A process for each (k_heads, v_heads); one sequence and several are different kernels."""
    code = ("import sys; sys.argv = ['']; import delta_rule_rival as d; k, v = {}, {}; "
            "d.rival_time(k, v, 2048, 1); d.rival_time(k, v, 1024, 2)")
    for process in [subprocess.Popen([sys.executable, "-B", "-c", code.format(*h)],
                                     cwd=os.path.dirname(os.path.abspath(__file__))) for h in heads]:
        process.wait()


def main():
    run = subprocess.run([sys.argv[1], "perf", "delta_rule", "--device", "cuda", "--act", "bf16"],
                         capture_output=True, text=True)
    shapes = [m.groups() for m in map(LINE.match, run.stdout.splitlines()) if m]
    wanted = sys.argv[2:]
    shapes = [s for s in shapes if not wanted or f"{s[0]}/{s[1]}" in wanted]
    if not shapes:
        sys.exit(f"delta_rule_rival.py: no figures of {' '.join(wanted) or 'any heads'} from {sys.argv[1]}:\n"
                 f"{run.stdout}{run.stderr}")
    compile_ahead(sorted({s[:2] for s in shapes}))
    print(torch.cuda.get_device_name())
    print("heads   tokens x seq   ours ms    fla ms  floor ms  ours/floor  fla/ours")
    slower = 0
    for k_heads, v_heads, tokens, sequences, ours, floor in shapes:
        fla = rival_time(*map(int, (k_heads, v_heads, tokens, sequences)))
        ours, floor = float(ours), float(floor)
        slower += ours >= fla
        print(f"{k_heads + '/' + v_heads:7} {tokens + 'x' + sequences:>12} {ours:9.4f} {fla:9.4f} "
              f"{floor:9.4f} {ours / floor:11.2f} {fla / ours:9.2f}", flush=True)
        torch.cuda.empty_cache()
    print(f"{len(shapes) - slower} of {len(shapes)} shapes faster")
    sys.exit(slower > 0)


if __name__ == "__main__":
    main()
