"""Computed sequences on disk, so that a chat that is opened again later needs not be computed again.

A file is llama.cpp's own form of a sequence's state. Where that has room for tokens stands what the cells hold, so a
file says by itself what it can be used for. Its name ends in the sha256 of its content: one that is not whole, or not
what was written, is never taken.
"""

from __future__ import annotations

import hashlib
import os
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from gguf_vl import __version__, paths
from gguf_vl.engine.cells import Cells
from gguf_vl.engine.kept.disk import Budgeted
from gguf_vl.engine.kept.embeddings import fingerprint
from gguf_vl.types import EngineSettings

if TYPE_CHECKING:
    from gguf_vl.native.context import Context

_HEAD = struct.Struct("<III")
"""llama.cpp's: magic, version, and how many 32-bit words follow before the state."""
_SUFFIX = ".sequence"


@dataclass(eq=False, slots=True)
class Stored:
    """A sequence on disk. `is_whole` is None until its content has been checked against its name."""

    path: Path
    cells: Cells
    is_whole: bool | None = None


class SequenceFiles:
    """The sequences of one `identity`: a model, its projector, and all else that a state depends on; for a cache of
    `n_ctx` cells.

    Content is checked and named on a thread of its own; `on_done` is called there whenever something is done. Every
    method belongs to the loop's thread. What cannot be read or written costs time and nothing else.
    """

    def __init__(self, disk: Budgeted, identity: str, n_ctx: int, on_done: Callable[[], None]) -> None:
        self._n_ctx = n_ctx
        self._disk = disk
        self._identity = identity
        self._on_done = on_done
        self._known: dict[str, Stored] = {}
        self._naming: threading.Thread | None = None
        self.is_busy = False
        """Whether a file is still being named."""

    @classmethod
    def of(cls, settings: EngineSettings, on_done: Callable[[], None]) -> SequenceFiles | None:
        """Those that such an engine keeps; None where nothing may be kept on disk."""
        if not settings.disk_budget:
            return None
        files = [fingerprint(each) for each in (settings.model, settings.mmproj) if each]
        places = (settings.n_gpu_layers, settings.mmproj_offload)
        depends_on = (files, settings.kv_type, places, version("llama-cpp-python"), __version__)
        identity = hashlib.sha256(repr(depends_on).encode()).hexdigest()[:16]
        return cls(
            Budgeted(paths.cache_dir() / "sequences", settings.disk_budget * 3 // 4), identity, settings.n_ctx, on_done
        )

    def find(self, wanted: Cells, *, more_than: int) -> Stored | None:
        """The file that a sequence of these cells can take most from, where that is more than so many cells.

        None that the cache cannot hold, or that is for the most part something else. Its content is being checked from
        now on.
        """
        self._look()
        usable = [each for each in self._known.values() if each.cells.n <= min(self._n_ctx, 2 * wanted.n)]
        best = max(usable, key=lambda each: wanted.reusable(each.cells), default=None)
        if best is None or wanted.reusable(best.cells) <= max(more_than, best.cells.n // 2):
            return None
        if best.is_whole is None:
            threading.Thread(target=self._check, args=(best,), name="checks a sequence", daemon=True).start()
        return best

    def _look(self) -> None:
        """Learn of files that are new, also from other processes, and forget those that are gone."""
        with suppress(OSError):
            here = {file.name: file for file in self._disk.folder.glob(f"{self._identity}.*{_SUFFIX}")}
            self._known = {name: stored for name, stored in self._known.items() if name in here}
            for name in here.keys() - self._known.keys():
                with suppress(OSError, ValueError):
                    self._known[name] = Stored(here[name], _read_cells(here[name]))

    def _check(self, stored: Stored) -> None:
        try:
            stored.is_whole = _digest(stored.path) == stored.path.name.split(".")[1]
            if stored.is_whole:
                os.utime(stored.path)
            else:
                stored.path.unlink(missing_ok=True)
        except OSError:
            stored.is_whole = False
        self._on_done()

    @property
    def n_bytes(self) -> int:
        """Bytes on disk, those of other models too."""
        return self._disk.n_bytes()

    def write(self, context: Context, slot: int, cells: Cells) -> bool:
        """Keep a sequence, in place of those that it begins with. False where one has all of it, or it is too large."""
        self._look()
        if any(each.cells.common(cells) == cells.n for each in self._known.values()):
            return False
        with suppress(OSError):
            if not self._disk.make_room(context.state_bytes(slot)):
                return False
            unnamed = self._disk.folder / f"{self._identity}.{os.getpid()}.part"
            if not context.save(slot, unnamed, _words(cells.dumps())):
                unnamed.unlink(missing_ok=True)
                return False
            beginnings = [each.path for each in self._known.values() if each.cells.common(cells) == each.cells.n]
            self.is_busy = True
            self._naming = threading.Thread(target=self._name, args=(unnamed, beginnings), name="names a sequence")
            self._naming.start()
            return True
        return False

    def _name(self, unnamed: Path, beginnings: list[Path]) -> None:
        with suppress(OSError):
            unnamed.replace(self._disk.folder / f"{self._identity}.{_digest(unnamed)}{_SUFFIX}")
            for each in beginnings:
                each.unlink(missing_ok=True)
        self.is_busy = False
        self._on_done()

    def close(self) -> None:
        """Wait for the thread that names a file."""
        if self._naming:
            self._naming.join()


def _words(data: bytes) -> bytes:
    """Whole 32-bit words that begin with the length."""
    return struct.pack("<I", len(data)) + data + bytes(-len(data) % 4)


def _read_cells(path: Path) -> Cells:
    """Raises `ValueError` for what is no such file."""
    with path.open("rb") as stream:
        head = stream.read(_HEAD.size + 4)
        if len(head) < _HEAD.size + 4:
            raise ValueError(f"{path.name} ends in its head")
        (n_words,), (length,) = _HEAD.unpack_from(head)[2:], struct.unpack_from("<I", head, _HEAD.size)
        if length > 4 * n_words or 4 * n_words > path.stat().st_size:
            raise ValueError(f"{path.name} has another form")
        return Cells.loads(stream.read(length))


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
