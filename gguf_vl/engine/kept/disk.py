"""A folder of files that may take so many bytes together; who was read longest ago goes first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


class Budgeted:
    """`folder` with at most `budget` bytes in it. Several processes may use one: a file may vanish at any time."""

    def __init__(self, folder: Path, budget: int) -> None:
        self.folder = folder
        self.budget = budget

    def make_room(self, n_bytes: int) -> bool:
        """Remove what was not read for longest until so many bytes have room. False where they never will."""
        if n_bytes > self.budget:
            return False
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = sorted(self._files())
        too_many = sum(size for _, size, _ in found) + n_bytes - self.budget
        for _, size, file in found:
            if too_many <= 0:
                break
            with suppress(OSError):
                file.unlink()
            too_many -= size
        return True

    def n_bytes(self) -> int:
        """What it takes now."""
        return sum(size for _, size, _ in self._files())

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """(when it was read last, bytes, where)"""
        with suppress(OSError):
            for file in self.folder.iterdir():
                with suppress(OSError):
                    stat = file.stat()
                    yield stat.st_mtime, stat.st_size, file
