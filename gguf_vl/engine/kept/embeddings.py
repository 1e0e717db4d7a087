"""Encoded pictures, kept by content: in memory, and on disk for tomorrow."""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
import threading
from collections import OrderedDict
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gguf_vl import __version__, paths
from gguf_vl.engine.kept.disk import Budgeted
from gguf_vl.types import EngineSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HEAD = struct.Struct("<8sII32s")
"""Magic, rows, width, and the sha256 of the float32 values that follow."""
_MAGIC = b"GVLEMB01"
_SAMPLE = 1 << 16


class EmbeddingCache:
    """Picture embeddings by content hash, the least recently used leaving first when `budget` bytes are passed.

    What leaves memory, and what another process has encoded, may still be on `disk`. Any thread may call it.
    """

    def __init__(self, budget: int, disk: EmbeddingFiles | None = None) -> None:
        self._budget = budget
        self._disk = disk
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, NDArray[np.float32]] = OrderedDict()

    def get(self, digest: str) -> NDArray[np.float32] | None:
        """The embeddings, [image tokens, width] float32, where they are in memory."""
        with self._lock:
            if digest in self._kept:
                self._kept.move_to_end(digest)
            return self._kept.get(digest)

    def is_on_disk(self, digest: str) -> bool:
        """Whether there is a file of these."""
        return self._disk is not None and self._disk.has(digest)

    def read(self, digest: str, shape: tuple[int, int]) -> NDArray[np.float32] | None:
        """The embeddings where they are on disk, in that shape; from now on in memory too."""
        found = self._disk.read(digest) if self._disk else None
        if found is None or found.shape != shape:
            return None
        self._put(digest, found)
        return found

    def put(self, digest: str, embeddings: NDArray[np.float32]) -> None:
        """Keep these; in memory the latest is kept even where it is larger than the whole budget."""
        self._put(digest, embeddings)
        if self._disk:
            self._disk.write(digest, embeddings)

    def _put(self, digest: str, embeddings: NDArray[np.float32]) -> None:
        with self._lock:
            self._kept[digest] = embeddings
            while sum(each.nbytes for each in self._kept.values()) > self._budget and len(self._kept) > 1:
                self._kept.popitem(last=False)

    @property
    def disk_bytes(self) -> int:
        """Bytes kept on disk now."""
        return self._disk.n_bytes if self._disk else 0

    @property
    def n_bytes(self) -> int:
        """Bytes kept in memory now."""
        with self._lock:
            return sum(embeddings.nbytes for embeddings in self._kept.values())


class EmbeddingFiles:
    """Embeddings on disk, a file for each picture and `projector`: that, and the versions of what encodes with it.

    A file is whole and what was written, or it is not there: it is written under another name and checked when it is
    read. One that cannot be read or written costs time and nothing else; several processes may use one folder.
    """

    def __init__(self, disk: Budgeted, projector: str) -> None:
        self._disk = disk
        self._projector = projector

    @classmethod
    def of(cls, settings: EngineSettings) -> EmbeddingFiles | None:
        """Those that such an engine keeps; None where there are no pictures, or nothing may be kept on disk."""
        if settings.mmproj is None or not settings.disk_budget:
            return None
        disk = Budgeted(paths.cache_dir() / "embeddings", settings.disk_budget // 4)
        return cls(disk, f"{fingerprint(settings.mmproj)} {version('llama-cpp-python')} {__version__}")

    def read(self, digest: str) -> NDArray[np.float32] | None:
        """The embeddings; None where there are none, or not whole ones."""
        file = self._file(digest)
        try:
            data = file.read_bytes()
            magic, rows, width, checksum = _HEAD.unpack_from(data)
            values = memoryview(data)[_HEAD.size :]
            is_whole = magic == _MAGIC and len(values) == 4 * rows * width
            if not is_whole or hashlib.sha256(values).digest() != checksum:
                file.unlink(missing_ok=True)
                return None
            os.utime(file)
        except (OSError, MemoryError, struct.error):
            return None
        return np.frombuffer(values, np.float32).reshape(rows, width)

    def has(self, digest: str) -> bool:
        """Whether there is a file of these, whole or not."""
        return self._file(digest).exists()

    def write(self, digest: str, embeddings: NDArray[np.float32]) -> None:
        """Keep embeddings, and remove what was not read for longest where there are too many."""
        values = np.ascontiguousarray(embeddings, np.float32).data.cast("B")
        head = _HEAD.pack(_MAGIC, *embeddings.shape, hashlib.sha256(values).digest())
        with suppress(OSError):
            if not self._disk.make_room(len(values) + len(head)):
                return
            with tempfile.NamedTemporaryFile(dir=self._disk.folder, suffix=".part", delete=False) as new:
                try:
                    new.write(head)
                    new.write(values)
                except OSError:
                    os.unlink(new.name)
                    raise
            os.replace(new.name, self._file(digest))

    @property
    def n_bytes(self) -> int:
        """Bytes on disk, those of other projectors too."""
        return self._disk.n_bytes()

    def _file(self, digest: str) -> Path:
        name = hashlib.sha256(f"{self._projector} {digest}".encode()).hexdigest()[:40]
        return self._disk.folder / f"{name}.embeddings"


def fingerprint(path: Path) -> str:
    """A large file's identity in milliseconds: its size, its beginning, its end and 64 places between."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as stream:
        for place in range(66):
            stream.seek(max(0, size - _SAMPLE) * place // 65)
            digest.update(stream.read(_SAMPLE if place in (0, 65) else 4096))
    return digest.hexdigest()
