"""Models that clients have fetched, where the operator allows it: what `gguf-vl pull` does, told as it goes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass

from gguf_vl.errors import Busy, GgufVlError, UsageError
from gguf_vl.server.failures import Forbidden
from gguf_vl.server.models import short_name
from gguf_vl.store import pull as store
from gguf_vl.store.wishes import plan

_STEPS = 200
"""How often at most the progress of one file is told."""
_HUBS = ("hf.co/", "huggingface.co/")


@dataclass(frozen=True, slots=True)
class FileProgress:
    """How far a file is: `done` of `total` bytes. `sha256` is what its hub promises, None where it does not say."""

    name: str
    sha256: str | None
    total: int
    done: int


Told = FileProgress | str
"""A file's progress, or a line."""


class Pulls:
    """Fetches models, one at a time. What has arrived of one that is stopped stays for the next attempt."""

    def __init__(self, *, allowed: bool) -> None:
        self._allowed = allowed
        self._fetching = threading.Lock()  # held until a pull's thread is done, not only until its client leaves

    async def pull(self, wish: str) -> AsyncGenerator[Told, None]:
        """Fetch a model; leaving early stops that. Raises `Forbidden`, `Busy`, and what planning and fetching raise."""
        if not self._allowed:
            raise Forbidden("Nobody may have models fetched here.", "Have the operator start it with --allow-pull.")
        loop, arrivals = asyncio.get_running_loop(), asyncio.Queue[Told | Exception | None]()
        stopped = threading.Event()

        def tell(told: Told | Exception | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(arrivals.put_nowait, told)

        def work() -> None:
            end: Exception | None = None
            try:
                _fetch(wish, tell, stopped)
            except OSError as error:
                end = GgufVlError(f"{wish} could not be fetched: {error}.", "Ask the operator to look at the disk.")
            except Exception as error:  # noqa: BLE001  it is the waiting client's
                end = error
            finally:
                self._fetching.release()
            tell(end)  # now, since who hears of it may ask for the next at once

        # A daemon: a hub that is silent must not keep a server that ends.
        thread = threading.Thread(target=work, name=f"pull {wish[:40]}", daemon=True)
        if not self._fetching.acquire(blocking=False):
            raise Busy("Another model is being fetched.", "Ask again when it is here.")
        try:
            thread.start()
        except RuntimeError:  # the machine has no more threads
            self._fetching.release()
            raise
        try:
            while (told := await arrivals.get()) is not None:
                if isinstance(told, Exception):
                    raise told
                yield told
        finally:
            stopped.set()


def _fetch(wish: str, tell: Callable[[Told], None], stopped: threading.Event) -> None:
    wanted = next((f"hf:{wish.removeprefix(hub)}" for hub in _HUBS if wish.startswith(hub)), short_name(wish))
    planned = plan(wanted, choose=_refuse)
    if not planned.is_installed:
        if planned.note:
            tell(planned.note)
        store.pull(planned, _Teller({each.remote.name: each.remote.sha256 for each in planned.files}, tell, stopped))


def _refuse(question: str, choices: Sequence[str]) -> str:
    raise UsageError(f"{question}: {', '.join(choices)}.", "Say which, with a colon behind the name.")


class _Stopped(GgufVlError):
    """The client has left."""


class _Teller:
    """A `Progress` of the store."""

    def __init__(self, sha256: dict[str, str | None], tell: Callable[[Told], None], stopped: threading.Event) -> None:
        self._sha256 = sha256
        self._tell = tell
        self._stopped = stopped
        self._files: dict[str, tuple[int, int]] = {}  # total, and what was told last

    def start(self, label: str, total: int, done: int = 0) -> None:
        """A file begins."""
        self._files[label] = (total, -total)
        self.at(label, done)

    def at(self, label: str, done: int) -> None:
        """A file goes on; once the client has left, this ends it."""
        if self._stopped.is_set():
            raise _Stopped("The client has left.", "Ask again to go on.")
        total, told = self._files[label]
        if done - told >= total / _STEPS or done == total:
            self._files[label] = (total, done)
            self._tell(FileProgress(label, self._sha256.get(label), total, done))

    def end(self, label: str) -> None:
        """Its last step has told it."""

    def note(self, line: str) -> None:
        """A line."""
        self._tell(line)
