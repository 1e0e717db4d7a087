"""What peers are asked, and what is kept of an answer: the same for all of them."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import numpy as np
from PIL import Image

from gguf_vl.gguf import read_header
from gguf_vl.gguf.wire import Array

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a chat: text, and pictures as the bytes of PNG files, in order."""

    role: Literal["system", "user", "assistant"]
    content: tuple[str | bytes, ...]


Talk = tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of as many tokens as were asked for. `began`, `ended` and when each piece of `text` came (`stamps`) are
    seconds of `time.perf_counter`; `parts` says where the time before the first went, as far as the peer tells; `id`
    is the request's, where it has one.
    """

    text: str
    n_tokens: int
    began: float
    stamps: tuple[float, ...]
    ended: float
    parts: Mapping[str, float] = field(default_factory=dict)
    id: str = ""

    @property
    def ttft(self) -> float:
        """Seconds from the question to the first text of the answer."""
        return self.stamps[0] - self.began


class Unanswered(Exception):
    """A peer refused a request, failed, or ended its answer early."""


class Peer(Protocol):
    """Something that answers, in a process of its own."""

    name: str
    prepares: bool

    @property
    def pid(self) -> int:
        """The process that holds the model."""

    def ask(self, talk: Talk, n_tokens: int) -> Answer:
        """Answer greedily with exactly so many tokens. From any thread. Raises `Unanswered`."""

    def prepare(self, talk: Talk) -> None:
        """Compute a talk ahead of its question, where it `prepares`."""


def user(*content: str | bytes) -> Turn:
    """What a person says."""
    return Turn("user", content)


def assistant(text: str) -> Turn:
    """What the model has answered."""
    return Turn("assistant", (text,))


def at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """The results of all calls, made at the same time. Raises what one of them raised.

    Whoever interrupts this need not wait for them, as with an executor: the peer is to be ended first.
    """
    results: list[Future[T]] = [Future() for _ in calls]

    def run(call: Callable[[], T], result: Future[T]) -> None:
        try:
            result.set_result(call())
        except Exception as error:  # noqa: BLE001  it is the waiting caller's
            result.set_exception(error)

    for each in zip(calls, results, strict=True):
        threading.Thread(target=run, args=each, daemon=True).start()
    return [result.result() for result in results]


def noise(seed: int, size: tuple[int, int]) -> bytes:
    """A picture of noise that no other seed gives, as a PNG file; pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def special_tokens(model: Path) -> tuple[int, ...]:
    """The tokens that are no text. Forbidden, nothing ends an answer early, and every token has something to show."""
    types = read_header(model).metadata["tokenizer.ggml.token_type"]
    assert isinstance(types, Array)
    return tuple(token for token, type in enumerate(types.values()) if type not in (1, 6))  # ordinary words and bytes
