"""The memory of a peer over many requests of all kinds, and a drawing of it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from .process import resident
from .talk import Peer, Talk, Turn, Unanswered, assistant, at_once, noise, user

EVERY = 20
"""Requests between two looks at the memory."""
SIDES = (128, 192, 256, 320, 384, 512)
"""Of pictures, pixels: 16 to 256 tokens."""
REMEMBERED = 8
"""Chats and pictures that come back."""
MOST_TURNS = 5
WORDS = "the red house and three green circles stand beside a small blue square of light".split()
GIB, MIB = 2**30, 2**20


@dataclass(slots=True)
class Curve:
    """(requests so far, resident bytes, seconds so far) of one peer, and what it did not answer."""

    points: list[tuple[int, int, float]] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Chat:
    """A chat as it stands."""

    turns: Talk = ()
    busy: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """A request: what is said next in a chat, and how many tokens are to be answered."""

    chat: Chat
    said: Turn
    n_tokens: int


def steps(n_requests: int, seed: int) -> Iterator[list[Step]]:
    """Requests in the order they come, those of a list at once: the same for every peer, whatever it answers.

    Of ten, about four are text, three a picture never seen, one a picture seen before, two a follow-up.
    """
    rng = random.Random(seed)
    chats: list[Chat] = []
    pictures: list[bytes] = []
    left = n_requests
    while left:
        n_at_once = min(left, rng.choices((1, 2, 4), (8, 1, 1))[0])
        yield [_step(rng, chats, pictures) for _ in range(n_at_once)]
        left -= n_at_once
        for chat in chats:
            chat.busy = False
        del chats[:-REMEMBERED], pictures[:-REMEMBERED]


def _step(rng: random.Random, chats: list[Chat], pictures: list[bytes]) -> Step:
    words = " ".join(rng.choices(WORDS, k=rng.randrange(3, 60)))
    n_tokens = rng.choice((4, 8, 16, 48))
    kind = rng.choices(("text", "new", "seen", "more"), (4, 3, 1, 2))[0]
    going = [chat for chat in chats if chat.turns and not chat.busy and len(chat.turns) < 2 * MOST_TURNS]
    if kind == "more" and going:
        chat, said = rng.choice(going), user(words)
    else:
        chat, said = Chat(), user(words)
        chats.append(chat)
        if kind == "new" or (kind == "seen" and not pictures):
            pictures.append(noise(rng.randrange(2**40), (rng.choice(SIDES), rng.choice(SIDES))))
            said = user(pictures[-1], words)
        elif kind == "seen":
            said = user(rng.choice(pictures), words)
    chat.busy = True
    return Step(chat, said, n_tokens)


def follow(peer: Peer, n_requests: int, seed: int, tell: Callable[[str], None]) -> Curve:
    """Ask so many requests, and look at the peer's memory now and then."""
    curve, done, began = Curve(), 0, time.monotonic()
    curve.points.append((0, resident(peer.pid), 0.0))

    def ask(step: Step) -> None:
        talk = (*step.chat.turns, step.said)
        try:
            answer = peer.ask(talk, step.n_tokens)
        except Unanswered as error:
            curve.unanswered.append(str(error))
            answered = "..."
        else:
            answered = answer.text
        step.chat.turns = (*talk, assistant(answered))

    for together in steps(n_requests, seed):
        at_once([partial(ask, step) for step in together])
        before, done = done, done + len(together)
        if done // EVERY > before // EVERY or done == n_requests:
            curve.points.append((done, resident(peer.pid), round(time.monotonic() - began, 1)))
            tell(f"{peer.name}: {done} of {n_requests} requests, {curve.points[-1][1] / MIB:.0f} MiB")
    return curve


COLOURS = ("#d1495b", "#edae49", "#00798c", "#52489c")
WIDE, HIGH, LEFT, RIGHT, TOP, BOTTOM = 1200, 700, 110, 30, 60, 80


def draw(curves: Mapping[str, Curve], path: Path) -> None:
    """A PNG file of resident memory over requests, one line for each peer."""
    image = Image.new("RGB", (WIDE, HIGH), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(20)
    most_x = max(1, *(point[0] for curve in curves.values() for point in curve.points))
    most_y = max(1, *(point[1] for curve in curves.values() for point in curve.points)) / GIB * 1.05

    def place(requests: float, gib: float) -> tuple[float, float]:
        x = LEFT + requests / most_x * (WIDE - LEFT - RIGHT)
        return x, HIGH - BOTTOM - gib / most_y * (HIGH - TOP - BOTTOM)

    for gib in ticks(most_y):
        pen.line([place(0, gib), place(most_x, gib)], "#dddddd")
        pen.text((LEFT - 10, place(0, gib)[1]), f"{gib:g}", "black", font, "rm")
    for requests in ticks(most_x):
        pen.line([place(requests, 0), place(requests, most_y)], "#eeeeee")
        pen.text((place(requests, 0)[0], HIGH - BOTTOM + 10), f"{requests:g}", "black", font, "mt")
    pen.line([place(0, most_y), place(0, 0), place(most_x, 0)], "black", 2)
    pen.text(((WIDE + LEFT) / 2, HIGH - 12), "requests", "black", font, "mb")
    pen.text((12, 12), "resident memory, GiB", "black", font, "lt")
    right = WIDE - RIGHT
    for (name, curve), colour in reversed(list(zip(curves.items(), COLOURS, strict=False))):
        pen.line([place(requests, n_bytes / GIB) for requests, n_bytes, _ in curve.points], colour, 3)
        pen.text((right, 12), name, "black", font, "rt")
        right -= round(pen.textlength(name, font)) + 12
        pen.line([(right - 30, 22), (right, 22)], colour, 4)
        right -= 50
    image.save(path)


def ticks(most: float) -> Sequence[float]:
    """Four to ten round numbers from 0 up to `most`."""
    step = 10.0 ** len(str(int(most)))
    while most / step < 4:
        step = next(part for part in (step / 2, step / 5, step / 10) if most / part >= 4 or part == step / 10)
    return [round(n * step, 6) for n in range(int(most / step) + 1)]
