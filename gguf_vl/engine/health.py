"""How an engine's worker is: how long silent, whether needed, what it died of, and how often. Seconds are loop time."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from gguf_vl.engine.process import Connection
from gguf_vl.errors import DoesNotFit, EngineError, GgufVlError, WorkerDied, is_about_memory
from gguf_vl.types import EngineInfo

MOST_DEATHS = 3
"""Workers that may die in a row before none is started for a while."""


def _now() -> float:
    return asyncio.get_running_loop().time()


class Worker:
    """A worker as its engine knows it, from its start to its end."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.info: asyncio.Future[EngineInfo] = asyncio.get_running_loop().create_future()
        self.complaint = ""  # the last error in its log
        self.hung = ""  # why it was ended, if it hung
        self.is_unloaded = False
        self.heard()

    @property
    def is_loaded(self) -> bool:
        """Whether it can answer."""
        return self.info.done()

    def heard(self) -> None:
        """It has reported something."""
        self._heard_at = _now()

    @property
    def silent_s(self) -> float:
        """How long it has reported nothing."""
        return _now() - self._heard_at

    def obituary(self, how: str) -> GgufVlError:
        """What to tell those who waited for it. `how` is what its connection says of its end."""
        when = "while working" if self.is_loaded else "while loading the model"
        reason = next(filter(is_about_memory, (self.complaint, how)), how if "SIGKILL" in how else "")
        if reason and not self.is_loaded and not self.hung:  # the kernel, too, kills where memory ends
            what = f"Memory ran out {when}, most likely: {reason.rstrip('.')}."
            return DoesNotFit(what, "Close other programs, or take a smaller model.")
        what = f"The engine's process ended {when} ({self.hung or how})."
        return WorkerDied(what, "Ask again: a fresh one starts by itself.")


SHORTEST_LOOK_S = 0.1
"""Seconds between two looks at whether a model is still needed, at least."""


class Use:
    """When the model was last needed. It is over after `idle_s`, with None never."""

    def __init__(self, idle_s: float | None) -> None:
        self._made_with = self._idle_s = idle_s
        self._last_at = 0.0
        self._changed = asyncio.Event()

    @property
    def idle_s(self) -> float | None:
        """May be set at any time, and holds until `begin_anew`."""
        return self._idle_s

    @idle_s.setter
    def idle_s(self, seconds: float | None) -> None:
        self._idle_s = seconds
        self._changed.set()

    def begin_anew(self) -> None:
        """The model is gone, and with it what was said of this load of it."""
        self._idle_s = self._made_with

    async def until_a_look(self, longest_s: float) -> None:
        """Wait for as long as nothing need be looked at: for `longest_s` at most, less when `idle_s` is set."""
        if self._idle_s is not None:
            longest_s = min(longest_s, max(SHORTEST_LOOK_S, self._idle_s / 10))
        with suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                await self._changed.wait()
        self._changed.clear()

    def now(self) -> None:
        """A request begins or ends."""
        self._last_at = _now()

    @property
    def left_s(self) -> float | None:
        """Seconds until it is over, if nobody asks; None for never."""
        return None if self._idle_s is None else max(0.0, self._last_at + self._idle_s - _now())

    @property
    def is_over(self) -> bool:
        """Whether the last request was long enough ago."""
        return self.left_s == 0.0


class Deaths:
    """Workers that died: `total` of them, and one after the other with no answer between. These are a row until
    `rest_s` have passed.
    """

    def __init__(self, rest_s: float) -> None:
        self.total = 0
        self._rest_s = rest_s
        self._in_a_row = 0
        self._last_at = 0.0

    def add(self) -> None:
        """One more has died."""
        self.total += 1
        self._in_a_row += 1
        self._last_at = _now()

    def forget(self) -> None:
        """A worker has done what it was asked for."""
        self._in_a_row = 0

    def check(self) -> None:
        """Raise `EngineError` when no other worker is to be started yet."""
        if self._in_a_row >= MOST_DEATHS and _now() - self._last_at < self._rest_s:
            raise EngineError(
                f"The engine's process ended {self._in_a_row} times in a row; none is started for {self._rest_s:g} s.",
                "Run `gguf-vl doctor`, or ask with --debug to see why.",
            )
