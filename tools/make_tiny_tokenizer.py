#!/usr/bin/env python3
"""Writes tests/data/tiny_tokenizer: a tokenizer of Qwen3.5's form with a few hundred tokens, and what
the `tokenizers` library makes of a table of strings with it.

    python tools/make_tiny_tokenizer.py tests/data/tiny_tokenizer

Needs tokenizers; run by hand when a string is added, never by the tests.
"""
import json
import pathlib
import sys

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers import processors, trainers

QWEN35 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = QWEN35.replace(r"[\p{L}\p{M}]+", r"\p{L}+").replace(r"\p{M}", "")
VOCABULARY = 620

SENTENCES = [
    "The state of the recurrence is read and written once for every token of the sequence.",
    "There is no rule that they're able to state; it's what we've seen, and I'll say so.",
    "for (size_t i = 0; i < n; i++) {\n    total += values[i];\n}\n\n\treturn total;\r\n",
    "Der schnelle Fuchs springt über den faulen Hund; cela a été fait à l'école.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "天地玄黄 宇宙洪荒 日月盈昃 辰宿列张", "हिन्दी में लिखा हुआ वाक्य", "สวัสดีชาวโลก", "مرحبا بالعالم",
    "안녕하세요 세계", "0123456789 3.14159 2026-11-23", "!!! ... --- === ((())) [[[]]] <think>",
]  # fmt: skip

TEXTS = [
    "", "a", "the", " the", "The state of the", "the the  the   the", " ", "  ", "   ", "\n", "\n\n", " \n", "\n ",
    "\r\n", "a\n", "a \n b", "a  \n  b", "a\n\n  b", "\t\tx", "\u00a0x", "\u3000x", "a\u00a0\u00a0b", "x \u2003 y",
    " \n \n x", "\n x\n", "it's", "IT'S", "it'S we'LL they'Re I'm you'd can't we've", "'s't're've'm'll'd", "'", "''s",
    "'ſ it'ſ", "'sand", "'l", "'r", "'lL'", "rock'n'roll", "x'", "0", "12345", "3.14", "a1b2", "x²", "½Ⅷ٣", "1 2",
    "!", "!!!", " !!!", "  !!!", "!\n", "!!\r\n\r\nx", "...\n\n", "a,b", "(hello)", "((hello", "a.b.c", "-1", "<|", "_x",
    "e\u0301", "é", "\u0301", "\u0301\u0301", "a\u0301\u0323", "a\u0323\u0301", "\u1e69 \u1e9b\u0323", "\u212b\u2126",
    "\u0344", "\u0958", "\u2adc", "1\u0301", "!\u0301", " \u0301", "\n\u0301x", "\u0301x", "q\u0307\u0323",
    "क्षि", "हिन्दी में", "น้ำ", "مَرْحَبًا", "שָׁלוֹם", "가각", "\u1100\u1161\u11a8", "\u1100\u1161", "가\u11a8", "가\u11a7x\u0301",
    "\u1100\u1100\u1161", "가각\u11a8", "天地玄黄", "天地, 玄黄。", "日本語テスト", "😀", "👩‍🚀 👨‍👩‍👧", "🇩🇪", "☕️", "a😀b",
    "हिन्दी लिखा हुआ वाक्य", "สวัสดี ชาวโลก", " हि न्दी", "\u200b", "a\u200bb", "\ufeffx", "\x00", "a\x00b", "\x1c\x1d", "\x7f", "\u0085x", "\u1680 \u2028x", "\ue000",
    "\U0010ffff", "\U0002ebf0", "\u1c89", "\U00011938 \U00011935\U00011930", "a\u1ac1\u0323", "a\u0897\u0323",
    "<|im_start|>user\nHi<|im_end|>\n", "<|im_start|><|im_start|>", "<|im_start", "<|im_start|", "x<think>y</think>z",
    " <think> ", "<think>e\u0301</think>\u0301", "<<think>>", "<|endoftext|>", "<tts_pad>x", "a<|im_end|>  b",
    "'<think>s", "über école", "Съешь ещё", "for (i = 0; i < n; i++) {\n    x += 1;\n}\n", "aaaaaaaaaaaaaaaaaaaaaaaa",
    "the" * 30, "x" * 70, "=" * 130, "-" * 65 + "\n", " " * 70 + "x", "天" * 40, "he\u0301" * 12, "\u0301\u0323" * 40,
]  # fmt: skip

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
PLAIN = ["<tool_call>", "</tool_call>", "<think>", "</think>"]
CONFIG_ONLY = ["<tts_pad>"]


def build(regex):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    split = pre_tokenizers.Split(Regex(regex), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES * 3, trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in PLAIN])
    return tokenizer


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = build(QWEN35)
    text = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, indent=None)
    (folder / "tokenizer.json").write_text(text + "\n", encoding="utf-8")

    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in CONFIG_ONLY])
    added = {}
    for token_id, token in tokenizer.get_added_tokens_decoder().items():
        flags = {k: getattr(token, k) for k in ("lstrip", "normalized", "rstrip", "single_word", "special")}
        added[str(token_id)] = {"content": token.content, **flags}
    config = {"added_tokens_decoder": added, "eos_token": "<|im_end|>", "tokenizer_class": "Qwen2Tokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")

    other = Tokenizer.from_str(text.replace(json.dumps(QWEN35)[1:-1], json.dumps(QWEN2)[1:-1]))
    other.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in CONFIG_ONLY])
    cases = []
    for string in TEXTS:
        ids = tokenizer.encode(string).ids
        qwen2 = other.encode(string).ids
        one = {"text": string, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False)}
        one["shown"] = tokenizer.decode(ids, skip_special_tokens=True)
        if qwen2 != ids:
            one["qwen2_ids"] = qwen2
        cases.append(one)
    lists = [list(range(i, i + 9)) for i in range(0, 256, 5)]
    lists += [[(i * 37 + k * k * 11) % 256 for k in range(8)] for i in range(60)]
    bytes_of = [{"ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False)} for ids in lists]
    document = {"made_by": "tools/make_tiny_tokenizer.py", "tokenizers": tokenizers.__version__,
                "encode": cases, "decode": bytes_of}  # fmt: skip
    (folder / "expected.json").write_text(json.dumps(document, indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
