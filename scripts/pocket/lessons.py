"""Scenes and questions as batches of numbers to train on.

Pictures of one size make a batch. About every picture some seven exchanges are asked in one sequence: a shared
beginning (system prompt, picture) and *branches*, each of which sees the beginning and itself only, with positions
that go on from the beginning. So one pass over a picture teaches many single-question chats, exactly as they will be
asked, and no answer can be copied from another one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from draw import CELL, CHARACTERS, COLOURS, KINDS, TRAINING_SEEDS, Scene, draw_scene, random_size
from elsewhere import honest_sentence
from model import patches
from questions import Exchange, Turn, ask, ask_of_one, ask_which
from vocabulary import encode, token_id

MIX = {
    "colour": 3.0,
    "shape": 4.0,
    "count": 5.0,
    "count kind": 1.5,
    "place": 2.0,
    "box": 1.2,
    "text": 2.0,
    "describe": 1.0,
    "list": 0.4,
    "absent": 2.0,
    "follow-up": 1.5,
    "else": 1.0,
}
"""How often each kind of question is asked, relative to the others."""
CHINESE_SHARE = 0.3
QUESTION_TOKENS = 150
"""Questions are added to a sequence until they and their answers take so many tokens."""
SIZE_MIX = (((16, 48), 0.56), ((49, 110), 0.25), ((111, 300), 0.13), ((301, 1024), 0.06))
"""Ranges of image tokens and how often a batch is drawn from each."""
SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a helpful vision assistant.",
    "Answer briefly.",
    "You are pocket.",
    "Be polite.",
    "Answer in one word if you can.",
    "You look at pictures and answer questions.",
    "你是一个有用的助手。",
    "请简短回答。",
    "回答用户的问题。",
    "You are an expert in drawings. Think before you answer.",
)
CHARACTER_SLOTS = 3
"""Most characters that one cell can hold: see the smallest advance in `draw`."""

_USER = "<|im_start|>user\n"
_ASSISTANT = "<|im_end|>\n<|im_start|>assistant\n"
_END = "<|im_end|>"


@dataclass(slots=True)
class Sequence:
    """One sequence being written: a beginning (branch 0) and its branches."""

    ids: list[int] = field(default_factory=list)
    positions: list[tuple[int, int, int]] = field(default_factory=list)
    branches: list[int] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    """Number of the answer a token belongs to, -1 outside answers."""
    kinds: list[str] = field(default_factory=list)
    """Kind and language of each answer, as `colour en`."""
    _next: int = 0
    _shared: int = 0
    _branch: int = 0

    def text(self, text: str) -> None:
        """Adds what is not to be learnt."""
        self._add(encode(text), -1)

    def answer(self, text: str, kind: str) -> None:
        """Adds an answer and its end."""
        self._add((*encode(text), token_id(_END)), len(self.kinds))
        self.kinds.append(kind)

    def picture(self, rows: int, columns: int) -> None:
        """Adds a picture of rows x columns tokens, with its start and end."""
        self._add((token_id("<|vision_start|>"),), -1)
        start, count = self._next, rows * columns
        self.ids += [token_id("<|image_pad|>")] * count
        self.positions += [(start, start + row, start + column) for row in range(rows) for column in range(columns)]
        self.branches += [self._branch] * count
        self.groups += [-1] * count
        self._next += max(rows, columns)
        self._add((token_id("<|vision_end|>"),), -1)

    def branch(self) -> None:
        """What follows sees the beginning and not the branches before."""
        if self._branch == 0:
            self._shared = self._next
        self._branch += 1
        self._next = self._shared

    def turns(self, exchange: Exchange, first: bool = True) -> None:
        """Adds the turns of an exchange; the first question follows an open user turn."""
        for number, turn in enumerate(exchange.turns):
            opening = "" if first and number == 0 else "\n" + _USER
            self.text(opening + turn.question + _ASSISTANT)
            self.answer(turn.answer, f"{exchange.kind} {exchange.language}")

    def _add(self, ids: tuple[int, ...], group: int) -> None:
        self.ids += ids
        self.positions += [(self._next + i,) * 3 for i in range(len(ids))]
        self.branches += [self._branch] * len(ids)
        self.groups += [group] * len(ids)
        self._next += len(ids)


@dataclass(slots=True)
class Batch:
    """Sequences of one batch and their pictures, as arrays."""

    rows: int
    columns: int
    """Merged tokens of every picture."""
    patches: np.ndarray
    """[pictures, patches, 768] uint8; with two per sequence, first and second in turn."""
    ids: np.ndarray
    """[batch, length]"""
    positions: np.ndarray
    """[3, batch, length]"""
    branches: np.ndarray
    """[batch, length]; -1 where padded."""
    groups: np.ndarray
    """[batch, length]: number of the answer in the batch, -1 outside answers."""
    kinds: list[str]
    """Per answer."""
    dense: dict[str, np.ndarray]
    """Targets per merged token [pictures, tokens, …]."""


def choose_language(rng: random.Random) -> str:
    """`zh` or `en`, by their share."""
    return "zh" if rng.random() < CHINESE_SHARE else "en"


def _exchange(scene: Scene, rng: random.Random, single: bool = False) -> Exchange:
    """An exchange about a scene by `MIX`; with `single` of one turn."""
    while True:
        kind = rng.choices(list(MIX), list(MIX.values()))[0]
        exchange = ask(kind, scene, choose_language(rng), rng)
        if exchange and not (single and len(exchange.turns) > 1):
            return exchange


def _about_two(scenes: tuple[Scene, Scene], rng: random.Random) -> Exchange:
    while True:
        language = choose_language(rng)
        if rng.random() < 0.65:
            exchange = ask_which(scenes, language, rng)
        else:
            exchange = ask_of_one(rng.choice(("colour", "shape", "count", "place")), scenes, language, rng)
        if exchange:
            return exchange


def _about_nothing(rng: random.Random, scene: Scene) -> Exchange:
    """Anything else, or a question about a picture that was not given."""
    language = choose_language(rng)
    exchange = ask("else", scene, language, rng)
    if rng.random() < 0.25:
        about = _exchange(scene, rng, single=True)
        language = about.language
        exchange = Exchange("else", language, (Turn(about.turns[0].question, honest_sentence(language)),))
    assert exchange is not None
    return exchange


def write_sequence(scenes: list[Scene], rng: random.Random) -> Sequence:
    """A chat about no, one or two scenes of the same size, in one of the forms in which people ask."""
    sequence = Sequence()
    if rng.random() < 0.25:
        sequence.text(f"<|im_start|>system\n{rng.choice(SYSTEM_PROMPTS)}<|im_end|>\n")
    sequence.text(_USER)
    shapes = [(scene.picture.height // CELL, scene.picture.width // CELL) for scene in scenes]
    if not scenes:
        scene = draw_scene(rng.choice(TRAINING_SEEDS), size=(128, 128))
        while len(sequence.ids) < 2 * QUESTION_TOKENS:
            sequence.branch()
            sequence.turns(_about_nothing(rng, scene))
        return sequence
    if len(scenes) == 2:
        both = (scenes[0], scenes[1])
        if rng.random() < 0.6:
            sequence.picture(*shapes[0])
            sequence.picture(*shapes[1])
            limit = len(sequence.ids) + QUESTION_TOKENS
            while len(sequence.ids) < limit:
                sequence.branch()
                sequence.turns(_about_two(both, rng))
            return sequence
        sequence.picture(*shapes[0])
        sequence.turns(_exchange(scenes[0], rng, single=True))
        sequence.text("\n" + _USER)
        sequence.picture(*shapes[1])
        _ask_in_branches(sequence, scenes[1], rng)
        return sequence
    form = rng.random()
    # Behind a large picture the question before it is far away, which is harder.
    if form < (0.27 if shapes[0][0] * shapes[0][1] < 100 else 0.5):
        first = _exchange(scenes[0], rng, single=True)
        sequence.text(first.turns[0].question)
        sequence.picture(*shapes[0])
        sequence.text(_ASSISTANT)
        sequence.answer(first.turns[0].answer, f"{first.kind} {first.language}")
        _ask_in_branches(sequence, scenes[0], rng, first=False)
        return sequence
    if form > 0.94:
        sequence.turns(_about_nothing(rng, scenes[0]))
        sequence.text("\n" + _USER)
    sequence.picture(*shapes[0])
    _ask_in_branches(sequence, scenes[0], rng)
    return sequence


def _ask_in_branches(sequence: Sequence, scene: Scene, rng: random.Random, first: bool = True) -> None:
    limit = len(sequence.ids) + QUESTION_TOKENS
    while len(sequence.ids) < limit:
        sequence.branch()
        sequence.turns(_exchange(scene, rng), first)
        while rng.random() < 0.12 and len(sequence.ids) < limit:
            sequence.turns(_exchange(scene, rng), first=False)


def dense_targets(scene: Scene) -> dict[str, np.ndarray]:
    """What each merged token should know: the object over it, that object's box, the characters centred in it."""
    rows, columns = scene.picture.height // CELL, scene.picture.width // CELL
    kind, colour = np.zeros((rows, columns), np.int64), np.zeros((rows, columns), np.int64)
    centre = np.zeros((rows, columns), np.float32)
    box = np.zeros((rows, columns, 4), np.float32)
    characters = np.zeros((rows, columns, CHARACTER_SLOTS), np.int64)
    index = np.zeros((rows, columns), np.int64)
    best = np.zeros((rows, columns), np.float32)
    size = np.array([scene.picture.width, scene.picture.height] * 2, np.float32)
    lefts, tops = np.arange(columns) * CELL, np.arange(rows) * CELL
    for shape in scene.shapes:
        left, top, right, bottom = shape.box
        across = np.clip(np.minimum(lefts + CELL, right) - np.maximum(lefts, left), 0, None)
        down = np.clip(np.minimum(tops + CELL, bottom) - np.maximum(tops, top), 0, None)
        area = (down[:, None] * across[None, :]).astype(np.float32)
        over = (area > best) & (area > min(0.2 * CELL * CELL, 0.3 * (right - left) * (bottom - top)))
        best = np.where(over, area, best)
        kind[over] = KINDS.index(shape.kind) + 1
        colour[over] = COLOURS.index(shape.colour) + 1
        box[over] = np.array(shape.box, np.float32) / size
        x, y = shape.centre
        centre[min(rows - 1, int(y // CELL)), min(columns - 1, int(x // CELL))] = 1
    for number, (character, (left, top, right, bottom)) in enumerate(
        zip(scene.word or "", scene.word_boxes, strict=True)
    ):
        row, column = int((top + bottom) / 2 // CELL), int((left + right) / 2 // CELL)
        slots = characters[min(rows - 1, row), min(columns - 1, column)]
        free = int((slots > 0).sum())
        if free < CHARACTER_SLOTS:
            slots[free] = CHARACTERS.index(character) + 1
            if free == 0:
                index[min(rows - 1, row), min(columns - 1, column)] = number + 1
    tokens = rows * columns
    return {
        "kind": kind.reshape(tokens),
        "colour": colour.reshape(tokens),
        "centre": centre.reshape(tokens),
        "box": box.reshape(tokens, 4),
        "characters": characters.reshape(tokens, CHARACTER_SLOTS),
        "index": index.reshape(tokens),
        "count": np.full(tokens, len(scene.shapes), np.int64),
    }


def make_batch(rng: random.Random, load: int) -> Batch:
    """A batch of about `load` image tokens and as many pictures as that gives."""
    per_sequence = rng.choices((0, 1, 2), (0.03, 0.85, 0.12))[0]
    least, most = rng.choices([r for r, _ in SIZE_MIX], [share for _, share in SIZE_MIX])[0]
    size = random_size(rng, least, most if per_sequence < 2 else max(least, most // 2))
    tokens = size[0] * size[1] // CELL**2
    n_pictures = max(2, min(40, round(load / (tokens + 30))))
    n_sequences = 12 if per_sequence == 0 else max(1, n_pictures // per_sequence)
    scenes = [
        [draw_scene(rng.choice(TRAINING_SEEDS), size=size) for _ in range(per_sequence)] for _ in range(n_sequences)
    ]
    return pack([write_sequence(group, rng) for group in scenes], [scene for group in scenes for scene in group], size)


def pack(sequences: list[Sequence], scenes: list[Scene], size: tuple[int, int]) -> Batch:
    """Pads sequences to one length and gathers their pictures, all of one `size` in pixels."""
    length = max(len(sequence.ids) for sequence in sequences)
    shape = (len(sequences), length)
    ids = np.full(shape, token_id("<|endoftext|>"), np.int64)
    positions = np.zeros((3, *shape), np.int64)
    branches, groups = np.full(shape, -1, np.int64), np.full(shape, -1, np.int64)
    kinds: list[str] = []
    for number, sequence in enumerate(sequences):
        n = len(sequence.ids)
        ids[number, :n] = sequence.ids
        positions[:, number, :n] = np.array(sequence.positions).T
        branches[number, :n] = sequence.branches
        of_answers = np.array(sequence.groups)
        groups[number, :n] = np.where(of_answers >= 0, of_answers + len(kinds), -1)
        kinds += sequence.kinds
    targets = [dense_targets(scene) for scene in scenes]
    return Batch(
        rows=size[1] // CELL,
        columns=size[0] // CELL,
        patches=np.stack([patches(scene.picture) for scene in scenes]) if scenes else np.zeros((0, 4, 768), np.uint8),
        ids=ids,
        positions=positions,
        branches=branches,
        groups=groups,
        kinds=kinds,
        dense={name: np.stack([target[name] for target in targets]) for name in targets[0]} if targets else {},
    )


def batches(seed: int, load: int) -> Iterator[Batch]:
    """Endless batches, never the same twice."""
    rng = random.Random(seed)
    while True:
        yield make_batch(rng, load)
