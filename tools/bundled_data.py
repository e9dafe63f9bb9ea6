"""Text and tasks for the bundled model: used to train it, to evaluate it and to make test cases.

A document is a list of segments (text, kind). Segments meet only where the pre-tokenizer cuts
anyway (after a line break or before " " + word), so encoding them one by one gives the same ids as
encoding the whole. kind says what the loss does with the segment's tokens:

    SKIP    nothing (text of the haystack, questions, what the user says)
    TEXT    ordinary language modelling
    ANSWER  a code or a word that must be recalled from earlier in the document
    COPY    a passage that stands earlier in the document, word for word

The loss averages the last three apart.
"""
from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

SKIP, TEXT, ANSWER, COPY = 0, 1, 2, 3
HELD_OUT = ("the-blue-castle", "a-room-with-a-view")
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
VISIBLE = ("<think>", "</think>")
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
         r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
NO_THOUGHT = "<think>\n\n</think>\n\n"


# --- books ---------------------------------------------------------------------------------------

def clean(text: str) -> list[str]:
    """Paragraphs: hard-wrapped lines joined, italics marks and picture captions dropped."""
    text = text.lstrip("\ufeff").replace("\r\n", "\n")
    text = re.sub(r"\[Illustration[^\]]*\]", "", text)
    text = re.sub(r"_([^_]+)_", r"\1", text)
    out = []
    for block in re.split(r"\n\s*\n", text):
        lines = [line.strip() for line in block.split("\n") if line.strip()]
        if not lines:
            continue
        joined = lines[0]
        for before, line in zip(lines, lines[1:]):
            joined += (" " if len(before) >= 45 else "\n") + line
        out.append(joined)
    return out


def read_books(corpus: Path) -> dict[str, list[str]]:
    return {p.stem: clean(p.read_text(encoding="utf-8")) for p in sorted(corpus.glob("*.txt"))}


# --- tokenizer -----------------------------------------------------------------------------------

def train_tokenizer(books: dict[str, list[str]], vocab: int) -> Tokenizer:
    """Byte-level BPE in the family's form; special tokens last, so ids 0..255 are bytes."""
    tok = Tokenizer(models.BPE())
    tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False, trim_offsets=False)])
    tok.decoder = decoders.ByteLevel()
    extra = len(SPECIAL) + len(VISIBLE)
    trainer = trainers.BpeTrainer(vocab_size=vocab - extra, show_progress=False, min_frequency=2,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    rng = random.Random(1)
    samples = ["\n\n".join(p) for name, p in books.items() if name not in HELD_OUT]
    samples += [template_text(rng) for _ in range(2000)]
    tok.train_from_iterator(samples, trainer)
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    tok.add_tokens([AddedToken(t, special=False, normalized=False) for t in VISIBLE])
    return tok


def template_text(rng: random.Random) -> str:
    """The fixed words of the tasks, so that they are whole tokens."""
    return rng.choice([
        "The secret code of London is 12345.\n\n", "The password of London is garden.\n\n",
        "user\nWhat is the secret code of London?", "system\nassistant\nContinue this text:\n\n",
        "List:\nLondon: 12345\n\nAnswers:\nLondon: 12345\n", "Copy:\n\nCopied:\n\n",
        '{"London": 12345, "Jane": 54321}\n\n', "Repeat this text:\n\n", "Tell me a story.\n"])


# --- sampling ------------------------------------------------------------------------------------

class Sampler:
    """Draws rows of ids and kinds. One per worker process."""

    def __init__(self, tok: Tokenizer, books: dict[str, list[str]], seed: int, bpe_dropout: float = 0.0):
        self.tok, self.rng = tok, random.Random(seed)
        self.eot = tok.token_to_id(SPECIAL[0])
        self.easy, self.noisy = False, None
        if bpe_dropout > 0:
            self.noisy = Tokenizer.from_str(tok.to_str())
            self.noisy.model.dropout = bpe_dropout
        self.books = [[p + "\n\n" for p in paragraphs] for paragraphs in books.values()]
        self.coded = [[np.array(e.ids, np.uint16) for e in tok.encode_batch(b, add_special_tokens=False)]
                      for b in self.books]
        self.weight = [sum(len(p) for p in b) for b in self.coded]
        self.names, self.rare, self.words = word_lists(tok, self.books)

    # text

    def place(self) -> tuple[int, int]:
        """A random paragraph, each token of the books equally likely to be near."""
        b = self.rng.choices(range(len(self.books)), self.weight)[0]
        return b, self.rng.randrange(len(self.books[b]))

    def passage(self, length: int) -> list[np.ndarray]:
        """Consecutive paragraphs, `length` tokens in all; the last one may be cut."""
        out: list[np.ndarray] = []
        while length > 0:
            b, at = self.place()
            for p in self.coded[b][at:]:
                out.append(p[:length])
                length -= len(out[-1])
                if length <= 0:
                    break
        return out

    def close(self, cut: np.ndarray) -> np.ndarray:
        """A paragraph that may have been cut, ended as the others are."""
        text = self.tok.decode(cut.tolist()).rstrip("\ufffd").rstrip() + "\n\n"
        return np.array(self.tok.encode(text, add_special_tokens=False).ids, np.uint16)

    def text_row(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Consecutive book text; with BPE dropout in half of the rows."""
        parts: list[np.ndarray] = []
        room = length
        noisy = self.noisy is not None and self.rng.random() < 0.5
        while room > 0:
            b, at = self.place()
            for i in range(at, len(self.books[b])):
                p = self.coded[b][i]
                if noisy:
                    p = np.array(self.noisy.encode(self.books[b][i], add_special_tokens=False).ids, np.uint16)
                parts.append(p[:room])
                room -= len(parts[-1])
                if room <= 0:
                    break
            else:
                parts.append(np.array([self.eot], np.uint16))
                room -= 1
        ids = np.concatenate(parts)[:length]
        return ids, np.full(length, TEXT, np.uint8)

    def name(self) -> str:
        x = self.rng.random()
        if x < 0.7:
            return self.rng.choice(self.names)
        if x < 0.85:
            return self.rng.choice(self.rare)
        return self.rng.choice(self.names) + " " + self.rng.choice(self.names)

    def pick_names(self, n: int) -> list[str]:
        out: dict[str, None] = {}
        while len(out) < n:
            out[self.name()] = None
        return list(out)

    def digits(self, n: int = 5) -> str:
        return "".join(self.rng.choice("0123456789") for _ in range(n))

    # rows of tasks

    def task_row(self, length: int, level: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """One long task or several short ones, each closed by <|endoftext|>. level 0: short and easy."""
        self.easy = level < 0.5
        most = int(160 * (32768 / 160) ** level)
        ids = np.full(length, self.eot, np.uint16)
        kinds = np.zeros(length, np.uint8)
        at = 0
        while length - at > 160:
            room = length - at - 1
            size = min(room, most)
            if self.rng.random() < 0.5:
                size = int(160 * (size / 160) ** self.rng.random())
            d_ids, d_kinds = self.task(size)
            n = min(len(d_ids), room)
            ids[at:at + n], kinds[at:at + n] = d_ids[:n], d_kinds[:n]
            at += n + 1
            kinds[at - 1] = TEXT if d_kinds[n - 1] == TEXT else SKIP
        return ids, kinds

    def task(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        x = self.rng.random()
        needles, pairs, listed, copied = (0.35, 0.55, 0.65, 0.9) if self.easy else (0.45, 0.57, 0.67, 0.8)
        if x < needles:
            return self.needles(size)
        if x < pairs:
            return self.pairs(min(size, 4096))
        if x < listed:
            return self.json_pairs(min(size, 4096))
        if x < copied:
            return self.copying(min(size, 2048))
        return self.chat(min(size, 4096))

    def join(self, segments) -> tuple[np.ndarray, np.ndarray]:
        ids, kinds = [], []
        for what, kind in segments:
            if isinstance(what, str):
                what = self.tok.encode(what, add_special_tokens=False).ids
            ids.append(np.asarray(what, np.uint16))
            kinds.append(np.full(len(what), kind, np.uint8))
        return np.concatenate(ids), np.concatenate(kinds)

    def facts(self, n: int) -> list[tuple[str, str, str]]:
        """(beginning, answer, end) of sentences that state something to be asked later."""
        out = []
        for name in self.pick_names(n):
            if self.rng.random() < 0.8:
                out.append((f"The secret code of {name} is", f" {self.digits()}", "."))
            else:
                out.append((f"The password of {name} is", f" {self.rng.choice(self.words)}", "."))
        return out

    def needles(self, size: int, count: int | None = None, asked: int | None = None, facts=None):
        """Facts hidden in book text, asked at the end. Kinds: only the answers count."""
        facts = facts or self.facts(count or self.rng.randint(1, max(1, min(24, size // 100))))
        count = len(facts)
        asked = min(count, asked or self.rng.randint(1, 8))
        told = [(b + a + e + "\n\n", SKIP) for b, a, e in facts]
        tail = [("Questions.\n\n", SKIP)] if self.rng.random() < 0.5 else []
        for b, a, e in self.rng.sample(facts, asked):
            tail += [(b, SKIP), (a + e + "\n\n", ANSWER)]
        tail = [self.join(tail)]
        told = [self.join([t]) for t in told]
        used = sum(len(i) for i, _ in told + tail)
        hay = self.passage(max(0, size - used - 8))
        if hay:
            hay[-1] = self.close(hay[-1])
        slots = sorted(self.rng.randrange(len(hay) + 1) for _ in told)
        pieces: list[tuple[np.ndarray, np.ndarray]] = []
        t = 0
        for i in range(len(hay) + 1):
            while t < count and slots[t] == i:
                pieces.append(told[t])
                t += 1
            if i < len(hay):
                pieces.append((hay[i], np.zeros(len(hay[i]), np.uint8)))
        pieces += tail
        return np.concatenate([p[0] for p in pieces]), np.concatenate([p[1] for p in pieces])

    def pairs(self, size: int):
        n = max(2, min(int(size / 10 * self.rng.random() ** 2) + 2, 160, size // 14))
        table = [(k, self.digits()) for k in self.pick_names(n)]
        parts = [("List:\n" + "".join(f"{k}: {v}\n" for k, v in table) + "\nAnswers:\n", SKIP)]
        for k, v in self.rng.sample(table, min(n, self.rng.randint(1, 16))):
            parts += [(f"{k}:", SKIP), (f" {v}\n", ANSWER)]
        return self.join(parts)

    def json_pairs(self, size: int):
        n = max(2, min(int(size / 14 * self.rng.random() ** 2) + 2, 120, size // 18))
        table = [(k, self.digits()) for k in self.pick_names(n)]
        parts = [("{" + ", ".join(f'"{k}": {v}' for k, v in table) + "}\n\n", SKIP)]
        asked = self.rng.sample(table, min(n, self.rng.randint(1, 12)))
        for i, (k, v) in enumerate(asked):
            parts += [(('{"' if i == 0 else ' "') + k + '":', SKIP), (f" {v}", ANSWER)]
            parts += [("," if i < len(asked) - 1 else "}\n", SKIP)]
        return self.join(parts)

    def to_copy(self, room: int) -> str:
        x = self.rng.random()
        if x < (0.2 if self.easy else 0.5):
            b, at = self.place()
            return self.books[b][at].strip()[:room * 3]
        if x < 0.75:
            return " ".join(self.rng.choice(self.words) for _ in range(self.rng.randint(4, max(5, room // 2))))
        return " ".join(self.digits(self.rng.randint(1, 6)) for _ in range(self.rng.randint(2, max(3, room // 8))))

    def copying(self, size: int):
        text = self.to_copy(max(16, int((size - 20) / 2 * self.rng.random())))
        return self.join([(f"Copy:\n\n{text}\n\nCopied:\n\n", SKIP), (f"{text}\n", COPY)])

    # chat

    def turn(self, role: str, text: str):
        return (f"<|im_start|>{role}\n{text}<|im_end|>\n", SKIP)

    def reply(self, text: str, kind: int, thought: str | None = None):
        """An assistant turn; with a thought the model writes it, without one the template closes it."""
        if thought is not None and self.rng.random() < 0.4:
            return [("<|im_start|>assistant\n<think>\n", SKIP), (f"{thought}\n</think>\n\n", TEXT),
                    (text, kind), ("<|im_end|>\n", TEXT)]
        return [("<|im_start|>assistant\n" + NO_THOUGHT, SKIP), (text, kind), ("<|im_end|>\n", TEXT)]

    def chat(self, size: int):
        rng = self.rng
        parts = []
        if rng.random() < 0.4:
            parts.append(self.turn("system", rng.choice(SYSTEMS)))
        x = rng.random()
        if x < 0.35:
            parts += self.chat_codes(size)
        elif x < 0.65:
            parts += self.chat_continue()
        elif x < 0.75:
            text = self.to_copy(60)
            parts.append(self.turn("user", f"Repeat this text:\n\n{text}"))
            parts += self.reply(text, COPY, "The user wants the text again.")
        else:
            for _ in range(rng.randint(1, 3)):
                b, at = self.place()
                story = " ".join(p.strip() for p in self.books[b][at:at + rng.randint(1, 2)])[:900]
                parts.append(self.turn("user", rng.choice(REQUESTS)))
                parts += self.reply(cut_sentence(story), TEXT, "The user wants me to tell something.")
        return self.join(parts)

    def chat_codes(self, size: int):
        rng = self.rng
        facts = self.facts(rng.randint(1, 6))
        b, at = self.place()
        hay = [p.strip() for p in self.books[b][at:at + rng.randint(0, max(1, size // 160))]]
        for s in facts:
            hay.insert(rng.randint(0, len(hay)), "".join(s))
        parts, first = [], True
        for begin, answer, end in rng.sample(facts, min(len(facts), rng.randint(1, 3))):
            question = begin.replace("The ", "What is the ").removesuffix(" is") + "?"
            parts.append(self.turn("user", "\n\n".join(hay) + "\n\n" + question if first else question))
            parts += self.reply_fact(begin, answer + end, f"{begin}{answer}.")
            first = False
        return parts

    def reply_fact(self, begin: str, answer: str, thought: str):
        if self.rng.random() < 0.4:
            split = len(begin)
            return [("<|im_start|>assistant\n<think>\n", SKIP), (thought[:split], TEXT),
                    (thought[split:] + "\n</think>\n\n", ANSWER), (begin, TEXT), (answer, ANSWER),
                    ("<|im_end|>\n", TEXT)]
        return [("<|im_start|>assistant\n" + NO_THOUGHT, SKIP), (begin, TEXT), (answer, ANSWER),
                ("<|im_end|>\n", TEXT)]

    def chat_continue(self):
        b, at = self.place()
        n, m = self.rng.randint(1, 4), self.rng.randint(1, 2)
        given = "\n\n".join(p.strip() for p in self.books[b][at:at + n])[-2400:]
        more = "\n\n".join(p.strip() for p in self.books[b][at + n:at + n + m])[:1200]
        if not more:
            more = "The end."
        return [self.turn("user", f"Continue this text:\n\n{given}")] + \
            self.reply(cut_sentence(more), TEXT, "The user wants the text to go on.")


SYSTEMS = ("You are a helpful assistant.", "You are a teller of stories.", "Answer in plain English.",
           "You are a writer of the nineteenth century.", "Be brief.")
REQUESTS = ("Tell me a story.", "Tell me something.", "Hello!", "Hello", "Hi", "Who are you?", "Go on.",
            "Write a paragraph.", "What happened then?", "Say something about the weather.",
            "Tell me about a journey.", "Write a short story.", "Good morning.", "And then?")


def cut_sentence(text: str) -> str:
    """Drops an unfinished last sentence, if a finished one is left."""
    ends = [m.end() for m in re.finditer(r"[.!?][”’\"']?(?=\s|$)", text)]
    return text[:ends[-1]] if ends else text


def word_lists(tok: Tokenizer, books: list[list[str]]) -> tuple[list[str], list[str], list[str]]:
    """Names of one token, names of several, and plain lower-case words of one token."""
    counts: dict[str, int] = {}
    for b in books:
        for p in b[::3]:
            for w in re.findall(r"(?<=[a-z,] )[A-Z][a-z]{3,11}\b", p):
                counts[w] = counts.get(w, 0) + 1
    vocab = tok.get_vocab()
    names = sorted(w for w, c in counts.items() if c >= 3 and "Ġ" + w in vocab)
    rare = sorted(w for w, c in counts.items() if "Ġ" + w not in vocab)
    words = sorted(t[1:] for t in vocab if re.fullmatch(r"Ġ[a-z]{4,10}", t))
    return names, rare, words
