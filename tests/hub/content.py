"""What a hub holds: files, in memory or on disk, and repositories of them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

CHUNK_BYTES = 65536
LFS_SUFFIX = ".gguf"


class Stored:
    """The content of one file. A path is read piece by piece whenever it is asked for, never whole."""

    def __init__(self, content: bytes | Path, sha256: str = "") -> None:
        """`sha256`, lower-case hex, spares reading a large file through before it is first named by its hash."""
        self._content = content
        if sha256:
            self.sha256 = sha256

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self._content) if isinstance(self._content, bytes) else self._content.stat().st_size

    def chunks(self, start: int, stop: int, n_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
        """The bytes from `start` up to `stop`, at most `n_bytes` at a time."""
        with self._open() as stream:
            stream.seek(start)
            while start < stop and (chunk := stream.read(min(n_bytes, stop - start))):
                start += len(chunk)
                yield chunk

    @cached_property
    def sha256(self) -> str:
        """Lower-case hex: what LFS names the content by."""
        digest = hashlib.sha256()
        for chunk in self.chunks(0, self.size):
            digest.update(chunk)
        return digest.hexdigest()

    @cached_property
    def blob_id(self) -> str:
        """What git names the content by, as a plain file."""
        digest = hashlib.sha1(b"blob %d\0" % self.size)
        for chunk in self.chunks(0, self.size):
            digest.update(chunk)
        return digest.hexdigest()

    @cached_property
    def pointer(self) -> Stored:
        """The small file that git keeps in the place of an LFS file (git-lfs, docs/spec.md)."""
        text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {self.size}\n"
        return Stored(text.encode())

    def _open(self) -> BinaryIO:
        return io.BytesIO(self._content) if isinstance(self._content, bytes) else self._content.open("rb")


def is_lfs(path: str) -> bool:
    """Whether a hub keeps the file of this name in LFS."""
    return path.endswith(LFS_SUFFIX)


@dataclass(frozen=True)
class Repo:
    """A repository of models at its only commit, which is also the tip of `main` or `master`."""

    files: Mapping[str, bytes | Path | Stored]
    """Path in the repository → content."""
    commit: str = "c0ffee" * 6 + "c0ff"
    token: str = ""
    """Who reads anything must show this token; empty: everybody may."""
    gated: bool = False
    """Everybody sees what there is, nobody may have it."""

    @classmethod
    def of_folder(cls, folder: Path) -> Repo:
        """Every file below a folder, by its path from there."""
        return cls({path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()})

    @cached_property
    def stored(self) -> dict[str, Stored]:
        """Path → content, all of one type."""
        return {
            path: content if isinstance(content, Stored) else Stored(content) for path, content in self.files.items()
        }

    def with_file(self, path: str, content: bytes | Path | Stored) -> Repo:
        """The same repository with one file's content changed or added."""
        return replace(self, files={**self.stored, path: content})
