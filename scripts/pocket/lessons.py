"""Scenes and questions as batches of numbers to train on.

Pictures of one size make a batch. About every picture some dozen exchanges are asked in one sequence: a shared
beginning (system prompt, picture) and *branches*, each of which sees the beginning and itself only, with positions
that go on from the beginning. So one pass over a picture teaches many single-question chats, exactly as they will be
asked, and no answer can be copied from another one.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from draw import CELL, CHARACTERS, COLOURS, KINDS, TRAINING_SEEDS, Scene, draw_page, draw_scene, random_size
from elsewhere import honest_sentence
from model import patches
from questions import Exchange, Turn, ask, ask_of_one, ask_which
from vocabulary import encode, token_id

MIX = {
    "colour": 2.0,
    "shape": 2.0,
    "count": 3.0,
    "count kind": 4.0,
    "place": 2.0,
    "box": 8.0,
    "text": 8.0,
    "describe": 1.0,
    "list": 0.4,
    "absent": 3.0,
    "follow-up": 1.5,
    "else": 1.5,
}
"""How often each kind of question is asked, relative to the others."""
CHINESE_SHARE = 0.4
QUESTION_FIRST_SHARE = 0.35
"""Batches in which every chat has its first question before the picture."""
QUESTION_TOKENS = 260
"""Questions are added to a sequence until they and their answers take so many tokens."""
SIZE_MIX = (((16, 48), 0.42), ((49, 110), 0.28), ((111, 300), 0.19), ((301, 1024), 0.11))
"""Ranges of image tokens and how often a batch is drawn from each."""
RESIZED_SHARE = 0.25
"""Batches whose pictures were drawn in another size and resized, as most people's are."""
PAGE_LOAD = 3
"""Image tokens of pages in a batch, relative to those of its pictures."""
PAGE_USES = 3
"""How often each page is seen, on average."""
PAGES_KEPT = 60
"""Batches of pages in memory, some 8 MB each at the default load."""
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

    def picture(self, scene: Scene) -> None:
        """Adds the tokens of a scene's picture, with their start and end."""
        rows, columns = scene.picture.height // CELL, scene.picture.width // CELL
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
class Pictures:
    """Pictures of one size, and what the vision tower should see in them."""

    rows: int
    columns: int
    """Merged tokens of every picture."""
    patches: np.ndarray
    """[pictures, patches, 768] uint8"""
    dense: dict[str, np.ndarray]
    """Targets per merged token [pictures, tokens, …]."""


@dataclass(slots=True)
class Batch:
    """Sequences of one batch and their pictures, as arrays."""

    pictures: Pictures | None
    """With two per sequence, first and second in turn; None where nothing is shown."""
    pages: Pictures | None
    """Without a question."""
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


def write_sequence(scenes: list[Scene], rng: random.Random, question_first: bool) -> Sequence:
    """A chat about no, one or two scenes of the same size, in one of the forms in which people ask."""
    sequence = Sequence()
    if rng.random() < 0.25:
        sequence.text(f"<|im_start|>system\n{rng.choice(SYSTEM_PROMPTS)}<|im_end|>\n")
    sequence.text(_USER)
    if not scenes:
        _ask_about_nothing(sequence, rng)
    elif question_first:
        _ask_first(sequence, scenes, rng)
    elif len(scenes) == 2:
        _ask_about_two(sequence, (scenes[0], scenes[1]), rng)
    else:
        if rng.random() < 0.06:
            sequence.turns(_about_nothing(rng, scenes[0]))
            sequence.text("\n" + _USER)
        sequence.picture(scenes[0])
        _ask_in_branches(sequence, scenes[0], rng)
    return sequence


def _ask_about_nothing(sequence: Sequence, rng: random.Random) -> None:
    scene = draw_scene(rng.choice(TRAINING_SEEDS), size=(128, 128))
    while len(sequence.ids) < 2 * QUESTION_TOKENS:
        sequence.branch()
        sequence.turns(_about_nothing(rng, scene))


def _ask_first(sequence: Sequence, scenes: list[Scene], rng: random.Random) -> None:
    """A question before the pictures, and a few after the answer."""
    exchange = _about_two((scenes[0], scenes[1]), rng) if len(scenes) == 2 else _exchange(scenes[0], rng)
    first, *others = exchange.turns
    kind = f"{exchange.kind} {exchange.language}"
    sequence.text(first.question)
    for scene in scenes:
        sequence.picture(scene)
    sequence.text(_ASSISTANT)
    sequence.answer(first.answer, kind)
    for turn in others:
        sequence.text("\n" + _USER + turn.question + _ASSISTANT)
        sequence.answer(turn.answer, kind)
    if len(scenes) == 1:
        _ask_in_branches(sequence, scenes[0], rng, first=False, tokens=QUESTION_TOKENS // 3)


def _ask_about_two(sequence: Sequence, scenes: tuple[Scene, Scene], rng: random.Random) -> None:
    sequence.picture(scenes[0])
    if rng.random() < 0.6:
        sequence.picture(scenes[1])
        limit = len(sequence.ids) + QUESTION_TOKENS
        while len(sequence.ids) < limit:
            sequence.branch()
            sequence.turns(_about_two(scenes, rng))
        return
    sequence.turns(_exchange(scenes[0], rng, single=True))
    sequence.text("\n" + _USER)
    sequence.picture(scenes[1])
    _ask_in_branches(sequence, scenes[1], rng)


def _ask_in_branches(
    sequence: Sequence, scene: Scene, rng: random.Random, first: bool = True, tokens: int = QUESTION_TOKENS
) -> None:
    limit = len(sequence.ids) + tokens
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
    for word in scene.words:
        for number, (character, (left, top, right, bottom)) in enumerate(zip(word.text, word.boxes, strict=True)):
            row = min(rows - 1, int((top + bottom) / 2 // CELL))
            column = min(columns - 1, int((left + right) / 2 // CELL))
            free = int((characters[row, column] > 0).sum())
            if free < CHARACTER_SLOTS:
                characters[row, column, free] = CHARACTERS.index(character) + 1
            if free == 0:
                index[row, column] = number + 1
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


def make_batch(rng: random.Random, load: int, pages: Pictures | None) -> Batch:
    """A batch of about `load` image tokens and as many pictures as that gives, beside `pages`."""
    per_sequence = rng.choices((0, 1, 2), (0.03, 0.80, 0.17))[0]
    question_first = per_sequence > 0 and rng.random() < QUESTION_FIRST_SHARE
    least, most = rng.choices([r for r, _ in SIZE_MIX], [share for _, share in SIZE_MIX])[0]
    size = random_size(rng, least, most)
    tokens = size[0] * size[1] // CELL**2
    n_pictures = max(2, min(40, round((1.5 if question_first else 1) * load / (tokens + 30))))
    n_sequences = 12 if per_sequence == 0 else max(1, n_pictures // per_sequence)
    drawn_at = _other_size(rng, size) if rng.random() < RESIZED_SHARE else size
    chats = [[_draw(rng, drawn_at, size) for _ in range(per_sequence)] for _ in range(n_sequences)]
    sequences = [write_sequence(scenes, rng, question_first) for scenes in chats]
    return pack(sequences, [scene for scenes in chats for scene in scenes], pages)


def _other_size(rng: random.Random, size: tuple[int, int]) -> tuple[int, int]:
    """A size in pixels from which a picture may have been resized to `size`."""
    scale = rng.uniform(0.6, 1.3)
    return round(size[0] * scale * rng.uniform(0.97, 1.03)), round(size[1] * scale)


def _draw(rng: random.Random, drawn_at: tuple[int, int], size: tuple[int, int]) -> Scene:
    scene = draw_scene(rng.choice(TRAINING_SEEDS), size=drawn_at)
    return scene if drawn_at == size else scene.resized(size)


def make_pages(rng: random.Random, load: int) -> Pictures:
    """Pages of one size, about `load` image tokens."""
    size = random_size(rng, 24, 140)
    n_pages = max(1, round(PAGE_LOAD * load / (size[0] * size[1] // CELL**2)))
    pages = gather([draw_page(rng.choice(TRAINING_SEEDS), size) for _ in range(n_pages)])
    del pages.dense["count"]
    return pages


def gather(scenes: list[Scene]) -> Pictures:
    """Pictures of one size with their targets."""
    targets = [dense_targets(scene) for scene in scenes]
    return Pictures(
        rows=scenes[0].picture.height // CELL,
        columns=scenes[0].picture.width // CELL,
        patches=np.stack([patches(scene.picture) for scene in scenes]),
        dense={name: np.stack([target[name] for target in targets]) for name in targets[0]},
    )


def pack(sequences: list[Sequence], scenes: list[Scene], pages: Pictures | None) -> Batch:
    """Pads sequences to one length and gathers their pictures."""
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
    return Batch(
        pictures=gather(scenes) if scenes else None,
        pages=pages,
        ids=ids,
        positions=positions,
        branches=branches,
        groups=groups,
        kinds=kinds,
    )


def batches(seed: int, load: int, with_pages: bool = True) -> Iterator[Batch]:
    """Endless batches, never the same twice; pages, which take long to draw, come back a few times."""
    rng = random.Random(seed)
    drawn: deque[Pictures] = deque(maxlen=PAGES_KEPT)
    while True:
        if with_pages and (rng.random() < 1 / PAGE_USES or not drawn):
            drawn.append(make_pages(rng, load))
        yield make_batch(rng, load, rng.choice(drawn) if with_pages else None)
