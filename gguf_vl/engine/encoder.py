"""Encodes pictures on a thread beside the loop, the pictures of questions before those that are only prepared."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gguf_vl.engine.kept.embeddings import EmbeddingCache
from gguf_vl.engine.sharing import Turns
from gguf_vl.errors import DoesNotFit, GgufVlError
from gguf_vl.native.context import Aborted
from gguf_vl.types import Picture

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gguf_vl.native.vision import Vision


@dataclass(slots=True)
class Encoding:
    """A picture on its way: who wants it, and what became of it. `seconds` is 0 where it was kept from before."""

    picture: Picture
    wanted_by: set[str] = field(default_factory=set)
    urgent: bool = False
    embeddings: NDArray[np.float32] | None = None
    failure: GgufVlError | None = None
    seconds: float = 0.0

    @property
    def is_done(self) -> bool:
        return self.embeddings is not None or self.failure is not None


class Encoder:
    """One picture at a time, on a thread that lives while there are pictures. `on_done` is called for each, on another.

    A picture that is only prepared makes way for one that is asked about; what is on disk is read beside all that. With
    `turns` the thread shares the processor with the loop, and leaves it to it while its picture is only prepared. Every
    method but `on_done` belongs to the loop's thread, and `abandon` may be called from any.

    The thread ends because OpenMP counts the threads it keeps for it: with those, more than the cores, its barriers put
    the loop's own to sleep, which made the 2B's decoding 28 % slower.
    """

    def __init__(
        self, vision: Vision, cache: EmbeddingCache, on_done: Callable[[], None], turns: Turns | None = None
    ) -> None:
        self.encoded = self.reused = self.read = 0
        self.encode_s = 0.0
        self._vision = vision
        self._cache = cache
        self._on_done = on_done
        self._turns = turns
        self._lock = threading.Lock()
        self._reading: dict[str, Encoding] = {}
        self._waiting: dict[str, Encoding] = {}
        self._current: Encoding | None = None
        self._closed = False
        self.busy_since: float | None = None
        """When the encoder got further last, of `time.perf_counter`; None while it is idle."""
        vision.between_nodes = self._between_nodes
        if turns:
            vision.looks_often = lambda: turns.contended
        self._thread: threading.Thread | None = None

    def want(self, picture: Picture, by: str, *, urgent: bool) -> Encoding:
        """Have a picture encoded for `by`, unless its embeddings are kept."""
        with self._lock:
            kept = self._cache.get(picture.digest)
            if kept is not None:
                self.reused += 1
                return Encoding(picture, embeddings=kept)
            digest = picture.digest
            wanted = self._reading.get(digest) or self._waiting.get(digest) or self._encoded_now(digest)
            if wanted is None:
                wanted = Encoding(picture)
                self._find(wanted)
            wanted.wanted_by.add(by)
            wanted.urgent |= urgent
            if urgent and self._current not in (None, wanted) and not self._current.urgent:
                self._vision.abort()  # it begins again behind this one
            return wanted

    def _encoded_now(self, digest: str) -> Encoding | None:
        """The current one, where it is of that picture and not being given up."""
        current = self._current
        return current if current and current.picture.digest == digest and current.wanted_by else None

    def _find(self, wanted: Encoding) -> None:
        """Read a picture's embeddings, or have it encoded."""
        if self._cache.is_on_disk(wanted.picture.digest):
            self._reading[wanted.picture.digest] = wanted
            threading.Thread(target=self._read, args=(wanted,), name="reads embeddings", daemon=True).start()
        else:
            self._queue(wanted)

    def _read(self, wanted: Encoding) -> None:
        found = self._cache.read(wanted.picture.digest, (wanted.picture.tokens, self._vision.width))
        with self._lock:
            del self._reading[wanted.picture.digest]
            if found is not None:
                self.read += 1
                wanted.embeddings = found
            elif wanted.wanted_by and not self._closed:
                self._queue(wanted)
        self._on_done()

    def _queue(self, wanted: Encoding) -> None:
        self._waiting[wanted.picture.digest] = wanted
        if self._thread is None:
            if self._turns:
                self._turns.rest()
            self._thread = threading.Thread(target=self._run, name="encoder", daemon=True)
            self._thread.start()

    def abandon(self, by: str) -> None:
        """Encode nothing any more that only `by` wants; what is half done is stopped."""
        with self._lock:
            for reading in self._reading.values():
                reading.wanted_by.discard(by)
            for digest, waiting in list(self._waiting.items()):
                waiting.wanted_by.discard(by)
                if not waiting.wanted_by:
                    del self._waiting[digest]
            if self._current and by in self._current.wanted_by:
                self._current.wanted_by.discard(by)
                if not self._current.wanted_by:
                    self._vision.abort()

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._closed or not self._waiting:
                    self._thread = None
                    return
                digest = next((d for d, each in self._waiting.items() if each.urgent), next(iter(self._waiting)))
                current = self._current = self._waiting.pop(digest)
                self._vision.resume()
            self._encode(current)
            with self._lock:
                self._current = None
                self.busy_since = None
                if current.wanted_by and not current.is_done and not self._closed:
                    self._waiting[digest] = current
            self._on_done()

    def _between_nodes(self) -> None:
        if self._turns:
            self.busy_since = None
            self._turns.let_go(self._gives_way)
        self.busy_since = time.perf_counter()

    def _gives_way(self) -> bool:
        """Whether what is being encoded is only prepared, and goes on to be."""
        return self._current is not None and not (self._current.urgent or self._vision.is_aborted)

    def _encode(self, current: Encoding) -> None:
        began = self.busy_since = time.perf_counter()
        try:
            if self._turns:
                with self._turns.encode():
                    embeddings = self._vision.encode(current.picture)
            else:
                embeddings = self._vision.encode(current.picture)
        except Aborted:
            return
        except GgufVlError as error:
            current.failure = error
            return
        except MemoryError:
            current.failure = DoesNotFit("There is no memory left to encode a picture.", "Close other programs.")
            return
        self.encoded += 1
        current.seconds = time.perf_counter() - began
        self.encode_s += current.seconds
        current.embeddings = embeddings
        self._on_done()
        self._cache.put(current.picture.digest, embeddings)

    def close(self) -> None:
        """Stop, in mid-picture too, and end the thread."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
            self._vision.abort()
            thread = self._thread
        if thread:
            thread.join()
