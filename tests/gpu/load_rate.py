#!/usr/bin/env python3
"""How fast a checkpoint is loaded, beside the disk it lies on.
load_rate.py BINARY [--dir D] [--device cuda] [--dtypes bf16,f16,int8] [--port P]
Writes a checkpoint of the 4B shape with made-up bf16 weights (8.4 GB) into a new directory under D, reads it past
the page cache in blocks and through it (the disk's rates), then starts the server on it for each dtype: with nothing
of the file in memory, and again with all of it there. A rate is the file's bytes over the time between the server's
lines, from the model's first to the last of "loading"; "loaded" comes after the first steps and the choice of
algorithms, which take as long for any file."""
import argparse
import array
import json
import mmap
import os
import random
import re
import shutil
import struct
import subprocess
import tempfile
import threading
import time

HIDDEN, LAYERS, INNER, HEADS, KV, KEYS, VALUES, VOCAB, DIM, D = 2560, 32, 9216, 16, 4, 16, 32, 248320, 256, 128
BLOCK = 16 << 20


def tensors():
    """{name: (dtype, shape)} as published."""
    p = "model.language_model."
    t = {p + "embed_tokens.weight": [VOCAB, HIDDEN], p + "norm.weight": [HIDDEN]}
    channels = 2 * KEYS * D + VALUES * D
    for i in range(LAYERS):
        layer = f"{p}layers.{i}."
        t |= {layer + "input_layernorm.weight": [HIDDEN], layer + "post_attention_layernorm.weight": [HIDDEN],
              layer + "mlp.gate_proj.weight": [INNER, HIDDEN], layer + "mlp.up_proj.weight": [INNER, HIDDEN],
              layer + "mlp.down_proj.weight": [HIDDEN, INNER]}
        if i % 4 == 3:
            a = layer + "self_attn."
            t |= {a + "q_proj.weight": [2 * HEADS * DIM, HIDDEN], a + "k_proj.weight": [KV * DIM, HIDDEN],
                  a + "v_proj.weight": [KV * DIM, HIDDEN], a + "o_proj.weight": [HIDDEN, HEADS * DIM],
                  a + "q_norm.weight": [DIM], a + "k_norm.weight": [DIM]}
        else:
            a = layer + "linear_attn."
            t |= {a + "in_proj_qkv.weight": [channels, HIDDEN], a + "in_proj_z.weight": [VALUES * D, HIDDEN],
                  a + "in_proj_b.weight": [VALUES, HIDDEN], a + "in_proj_a.weight": [VALUES, HIDDEN],
                  a + "conv1d.weight": [channels, 1, 4], a + "out_proj.weight": [HIDDEN, VALUES * D],
                  a + "A_log": [VALUES], a + "dt_bias": [VALUES], a + "norm.weight": [D]}
    return {name: ("F32" if name.endswith(("A_log", "linear_attn.norm.weight")) else "BF16", shape)
            for name, shape in t.items()}


def config():
    kinds = ["full_attention" if i % 4 == 3 else "linear_attention" for i in range(LAYERS)]
    return {"architectures": ["Qwen3_5ForConditionalGeneration"], "model_type": "qwen3_5", "tie_word_embeddings": True,
            "text_config": {
                "model_type": "qwen3_5_text", "vocab_size": VOCAB, "hidden_size": HIDDEN, "intermediate_size": INNER,
                "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV,
                "hidden_act": "silu", "max_position_embeddings": 262144, "rms_norm_eps": 1e-6,
                "tie_word_embeddings": True, "head_dim": DIM, "linear_conv_kernel_dim": 4,
                "linear_key_head_dim": D, "linear_value_head_dim": D, "linear_num_key_heads": KEYS,
                "linear_num_value_heads": VALUES, "layer_types": kinds, "eos_token_id": VOCAB - 1,
                "rope_parameters": {"rope_theta": 1e7, "partial_rotary_factor": 0.25, "rope_type": "default"}}}


def write(folder):
    """Returns the file and its bytes."""
    random.seed(1)
    some = array.array("H", (struct.unpack("<I", struct.pack("<f", random.gauss(0, 0.02)))[0] >> 16
                             for _ in range(1 << 20)))
    some = some.tobytes() * (BLOCK // 2 >> 20)
    header, at = {}, 0
    for name, (kind, shape) in tensors().items():
        n = 4 if kind == "F32" else 2
        for x in shape:
            n *= x
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + n]}
        at += n
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    path = os.path.join(folder, "model.safetensors")
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config(), f)
    with open(path, "wb", buffering=0) as f:
        f.write(struct.pack("<Q", len(head)) + head)
        for _ in range(at // len(some)):
            f.write(some)
        f.write(some[:at % len(some)])
        os.fsync(f.fileno())
    return path, os.path.getsize(path)


def forget(path):
    f = os.open(path, os.O_RDONLY)
    os.posix_fadvise(f, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(f)


def disk_rate(path, n, threads, flags):
    """Bytes a second of reading all of it."""

    def part(i):
        f, buffer = os.open(path, os.O_RDONLY | flags), mmap.mmap(-1, BLOCK)
        for at in range(i * BLOCK, n, threads * BLOCK):
            os.preadv(f, [buffer], at)
        os.close(f)
    begin = time.monotonic()
    workers = [threading.Thread(target=part, args=(i,)) for i in range(threads)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    return n / (time.monotonic() - begin)


def load(o, folder, dtype):
    """Seconds of loading, and until it is loaded."""
    server = subprocess.Popen([o.binary, "--model", folder, "--device", o.device, "--dtype", dtype, "--port", str(o.port),
                               "--context-max", "4096", "--jobs-db", ":memory:"], stderr=subprocess.PIPE, text=True)
    said, begin, read = "", None, None
    try:
        for line in server.stderr:
            said += line
            at = time.monotonic()
            begin = at if " no_tokenizer " in line else begin
            if m := re.search(r" loading mib=(\d+) of=(\d+)", line):
                read = at - begin if m[1] == m[2] else read
            if m := re.search(r" loaded .*seconds=([\d.]+)", line):
                return read, float(m[1])
    finally:
        server.kill()
        server.wait()
    raise SystemExit(f"the server ended before it had loaded the model:\n{said}")


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("binary")
    for name, value in (("--dir", None), ("--device", "cuda"), ("--dtypes", "bf16,f16,int8")):
        p.add_argument(name, default=value)
    p.add_argument("--port", type=int, default=18083)
    o = p.parse_args()
    folder = tempfile.mkdtemp(dir=o.dir)
    try:
        path, n = write(folder)
        print(f"{n * 1e-9:.2f} GB in {folder}")
        for what, flags in (("past the page cache", getattr(os, "O_DIRECT", 0)), ("through it", 0)):
            for threads in (1, 4):
                forget(path)
                rate = disk_rate(path, n, threads, flags)
                print(f"  the disk {what}, {threads} at a time: {rate * 1e-9:.2f} GB/s")
        for dtype in o.dtypes.split(","):
            forget(path)
            for what in ("from the disk", "from memory"):
                read, all_of_it = load(o, folder, dtype)
                print(f"  as {dtype:4s} {what:13s} {read:6.2f} s, {n / read * 1e-9:.2f} GB/s; loaded after "
                      f"{all_of_it:.2f} s")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
