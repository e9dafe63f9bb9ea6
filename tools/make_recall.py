#!/usr/bin/env python3
"""Makes tests/data/heldout.txt and tests/data/recall.jsonl from the two held-out books.

    python3 tools/make_recall.py --corpus DIR

heldout.txt: 200 KB of the first held-out book, from its first chapter on, cleaned as in training.
recall.jsonl: one case a line, {"tokens", "prompt", "answer"}. The prompt is text of the second
held-out book with eight sentences "The secret code of NAME is 12345." between its paragraphs, and
ends with "The secret code of NAME is" for one of them; the answer is " 12345". `tokens` is the
prompt's exact length in the bundled tokenizer's tokens, a little under the length aimed at.
"""
from __future__ import annotations

import argparse
import json
from pathlib import Path

from tokenizers import Tokenizer

import bundled_data as data

ROOT = Path(__file__).resolve().parent.parent
CASES = {1024: 16, 2048: 16, 4096: 8, 8192: 4}


def heldout(paragraphs: list[str], size: int = 200_000) -> str:
    start = max(i for i, p in enumerate(paragraphs[:200]) if p == "CHAPTER I")
    out, used = [], 0
    for p in paragraphs[start:]:
        if used > size:
            break
        out.append(p)
        used += len(p.encode()) + 2
    return "\n\n".join(out) + "\n"


def recall_case(sampler: data.Sampler, length: int) -> dict:
    facts = [(f"The secret code of {n} is", f" {sampler.digits()}", ".") for n in sampler.pick_names(8)]
    ids, kinds = sampler.needles(length, asked=1, facts=facts)
    cut = int((kinds == data.ANSWER).argmax())
    prompt = sampler.tok.decode(ids[:cut].tolist())
    answer = sampler.tok.decode(ids[cut:cut + 6].tolist())
    assert sampler.tok.encode(prompt).ids == ids[:cut].tolist()
    assert len(answer) == 6 and prompt.count(answer) == 1, answer
    return dict(tokens=cut, prompt=prompt, answer=answer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--corpus", required=True)
    books = data.read_books(Path(parser.parse_args().corpus))
    tok = Tokenizer.from_file(str(ROOT / "models/bundled/tokenizer.json"))
    out = ROOT / "tests/data"
    out.mkdir(parents=True, exist_ok=True)
    (out / "heldout.txt").write_text(heldout(books[data.HELD_OUT[0]]), encoding="utf-8")
    sampler = data.Sampler(tok, {data.HELD_OUT[1]: books[data.HELD_OUT[1]]}, 2026)
    with open(out / "recall.jsonl", "w", encoding="utf-8") as f:
        for length, n in CASES.items():
            for _ in range(n):
                f.write(json.dumps(recall_case(sampler, length), ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
