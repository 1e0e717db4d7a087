"""pocket's vocabulary: byte-level BPE of 1,024 entries with Qwen's special tokens.

`tokenizer.json` beside this file is the vocabulary: it is kept when pocket is trained again, and `python
vocabulary.py` makes it anew only when the questions have changed so much that a new model is wanted anyway.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

SIZE = 1024
FILE = Path(__file__).with_name("tokenizer.json")

CONTROL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
USER_DEFINED = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")
"""Qwen's added tokens that are ordinary text to a reader."""

# Qwen2's pre-tokenizer, which llama.cpp calls `qwen2`.
_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@lru_cache(maxsize=1)
def tokenizer() -> Tokenizer:
    """The committed vocabulary."""
    return Tokenizer.from_file(str(FILE))


@lru_cache(maxsize=1 << 16)
def encode(text: str) -> tuple[int, ...]:
    """Token ids of a text in which special tokens count."""
    return tuple(tokenizer().encode(text).ids)


def token_id(special: str) -> int:
    """Id of a special token."""
    number = tokenizer().token_to_id(special)
    assert number is not None, special
    return number


def merges() -> list[str]:
    """BPE merges in order, each as `left right`."""
    rules = json.loads(FILE.read_text(encoding="utf-8"))["model"]["merges"]
    return [rule if isinstance(rule, str) else " ".join(rule) for rule in rules]


def _corpus(exchanges: int) -> Iterator[str]:
    """Questions and answers without the printed words, which must stay single characters."""
    from draw import draw_scene
    from questions import KINDS_OF_QUESTION, ask, ask_which

    rng = random.Random(1)
    scenes = [draw_scene(seed, size=(160, 160), with_word=False) for seed in range(200)]
    for _ in range(exchanges):
        language = "zh" if rng.random() < 0.4 else "en"
        kind = rng.choice(KINDS_OF_QUESTION)
        if kind == "which":
            exchange = ask_which((rng.choice(scenes), rng.choice(scenes)), language, rng)
        else:
            exchange = ask(kind, rng.choice(scenes), language, rng)
        for turn in exchange.turns if exchange else ():
            yield turn.question
            yield turn.answer
    yield from ("system\n", "user\n", "assistant\n") * (exchanges // 10)


def make() -> Tokenizer:
    """Trains the vocabulary on the questions and answers."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    specials = (*CONTROL, *USER_DEFINED)
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE - len(specials),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=9,  # bytes: `assistant`, or three Chinese characters, so that sentences stay made of words
        show_progress=False,
    )
    made.train_from_iterator(_corpus(60_000), trainer)
    made.add_special_tokens(list(specials))
    return made


if __name__ == "__main__":
    made = make()
    assert made.get_vocab_size() == SIZE, made.get_vocab_size()
    made.save(str(FILE))
    print(f"{FILE.name}: {made.get_vocab_size()} entries")
