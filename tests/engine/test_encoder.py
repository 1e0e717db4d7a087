"""Pictures on their way, of a projector and a disk that wait until they may."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from gguf_vl.engine.encoder import Encoder
from gguf_vl.engine.kept.embeddings import EmbeddingCache
from gguf_vl.types import Picture

WIDTH = 8
PICTURE = Picture(bytes(3 * 32 * 32), 32, 32, (32, 32), "a picture")


class SlowDisk:
    """Has every picture, and gives none before it may."""

    n_bytes = 0

    def __init__(self) -> None:
        self.may = threading.Event()

    def has(self, _digest: str) -> bool:
        return True

    def read(self, _digest: str) -> Any:
        self.may.wait()
        return np.zeros((1, WIDTH), np.float32)


class NoVision:
    """A projector that is never needed."""

    width = WIDTH

    def abort(self) -> None:
        """Nothing is running."""


def test_a_picture_given_up_while_it_is_read_may_be_asked_for_again() -> None:
    disk, done = SlowDisk(), threading.Event()
    encoder = Encoder(NoVision(), EmbeddingCache(1 << 20, disk), done.set)  # type: ignore[arg-type]
    encoder.want(PICTURE, "prepares", urgent=False)
    encoder.abandon("prepares")
    wanted = encoder.want(PICTURE, "asks", urgent=True)
    disk.may.set()
    assert done.wait(20)
    assert wanted.is_done
    encoder.close()
