"""Which processes that write into a history live: each holds an OS lock on a file of its own, which a kill frees."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import FileLock


class Instance:
    """This one among those that use the same history. Its lock is taken when it is first named."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = os.urandom(8).hex()
        self._lock: FileLock | None = None
        self._naming = threading.Lock()

    @property
    def name(self) -> str:
        """What rows call this instance. Others see from now on that it lives. GgufVlError where the disk refuses."""
        from gguf_vl.store.disk import telling

        with self._naming:
            if self._lock is None:
                with telling(self._folder, "written"):
                    self._folder.mkdir(parents=True, exist_ok=True)
                    self._lock = self._taken()
                for path in self._folder.glob("*.lock"):
                    self.lives(path.stem)  # takes away what the dead have left
        return self._name

    def lives(self, name: str) -> bool:
        """Whether the instance of that name is alive."""
        if name == self._name:
            return self._lock is not None
        path = self._path(name)
        if not path.exists():
            return False
        lock = _lock(path)
        try:
            lock.acquire(timeout=0)
        except OSError:  # held; or not to be asked: better to leave an answer unfinished than to take a living one
            return True
        with suppress(OSError):
            path.unlink(missing_ok=True)
        lock.release()
        return False

    def end(self) -> None:
        """Let go of the lock."""
        with self._naming:
            if self._lock is not None:
                with suppress(OSError):
                    self._path(self._name).unlink(missing_ok=True)
                self._lock.release()
                self._lock = None

    def _taken(self) -> FileLock:
        """A lock whose file is there: another instance may have swept it away before it was locked."""
        from filelock import Timeout

        while True:
            lock = _lock(self._path(self._name))
            with suppress(Timeout):
                lock.acquire(timeout=0)
                if self._path(self._name).exists():
                    return lock
                lock.release()
            self._name = os.urandom(8).hex()

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.lock"


def _lock(path: Path) -> FileLock:
    from filelock import FileLock

    return FileLock(path, thread_local=False)  # taken by one thread, let go by another
