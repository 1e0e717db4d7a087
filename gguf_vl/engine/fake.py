"""A scripted worker for tests of everything that uses an `Engine`: no model, no process, no waiting.

    engine = Engine(settings, connect=scripted([Text("red"), Finished(…)], [WorkerDies()]))

stands where the real one does, so that the same `Engine` is driven to the edges a real model seldom reaches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gguf_vl.engine.protocol import (
    AskStats,
    Cancel,
    Command,
    Count,
    Counted,
    Failed,
    Generate,
    Load,
    Loading,
    Prepare,
    Prepared,
    Published,
    Ready,
    Stats,
    Step,
    dumps,
)
from gguf_vl.errors import GgufVlError, to_plain
from gguf_vl.types import (
    EngineInfo,
    EngineSettings,
    EngineStats,
    Event,
    Finished,
    Message,
    Picture,
    Progress,
    Text,
    Timings,
    Usage,
    Used,
)

NO_TIME = Timings(0.0, 0.0, 0.0, None)
NOTHING_USED = Used((), {}, None, 0)


@dataclass(frozen=True)
class WorkerDies:
    """A step of a script: the worker is gone, as by a failed assert in native code."""


@dataclass(frozen=True)
class Waits:
    """A step of a script: nothing comes until the request is cancelled or `release` is set."""

    release: asyncio.Event | None = None

    async def until_released(self) -> None:
        """Wait, for ever where there is no `release`."""
        await (self.release or asyncio.Event()).wait()


Line = Event | GgufVlError | WorkerDies | Waits
Script = Sequence[Line]
LoadScript = Sequence[Loading | Waits] | GgufVlError
"""What comes before the model is loaded, or why it cannot be."""


def text(*pieces: str) -> Script:
    """The script of an answer in these pieces."""
    usage = Usage(prompt_tokens=1, image_tokens=0, completion_tokens=len(pieces))
    return [*map(Text, pieces), Finished("stop", usage, NO_TIME)]


def scripted(
    *scripts: Script, loading: Sequence[LoadScript] = (), preparing: Script | None = None, stuck_s: float = 0.0
) -> Callable[[], Awaitable[ScriptedWorker]]:
    """What `Engine(connect=…)` takes: workers that answer one request per script, the last script again and again.

    `loading` says how the first workers load, or fail to. `preparing` is what comes before anything is prepared, or in
    its place; without it the pictures are encoded at once. All of them say that they got no further for `stuck_s`.
    """
    remaining = list(scripts) or [text("a scripted answer")]
    loads = list(loading)

    async def connect() -> ScriptedWorker:
        return ScriptedWorker(remaining, loads.pop(0) if loads else (), stuck_s, preparing)

    return connect


def _encoded(messages: Sequence[Message]) -> Script:
    total = sum(part.tokens for message in messages for part in message.content if isinstance(part, Picture))
    return [Progress("encode", 0, total), Progress("encode", total, total)] if total else []


class ScriptedWorker:
    """A `Connection` that plays scripts. `commands` are those it was sent."""

    def __init__(
        self,
        scripts: list[Script],
        loading: LoadScript = (),
        stuck_s: float = 0.0,
        preparing: Script | None = None,
    ) -> None:
        self.commands: list[Command] = []
        self._scripts = scripts
        self._loading = loading
        self._stuck_s = stuck_s
        self._preparing = preparing
        self._reports: asyncio.Queue[Any | None] = asyncio.Queue()
        self._loads: asyncio.Task[None] | None = None
        self._playing: dict[str, asyncio.Task[None]] = {}

    async def send(self, command: Command) -> None:
        """Take a command, if it can cross, and begin what its script says."""
        dumps(command)
        self.commands.append(command)
        match command:
            case Load(settings):
                self._loads = asyncio.create_task(self._load(settings))
            case Count(request):
                self._report(Step((Counted(request.id, Usage(1, 0, 0)),)))
            case Generate(request):
                script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
                self._playing[request.id] = asyncio.create_task(self._play(request.id, script))
            case Prepare(id, messages):
                script = _encoded(messages) if self._preparing is None else self._preparing
                self._playing[id] = asyncio.create_task(self._prepare(id, script))
            case AskStats(id):
                self._report(Stats(id, EngineStats(len(self._playing), 0, 0, 0, 0, 0, stuck_s=self._stuck_s)))
            case Cancel(id) if id in self._playing:
                self._playing[id].cancel()

    async def _load(self, settings: EngineSettings) -> None:
        if isinstance(self._loading, GgufVlError):
            self._report(Failed("", to_plain(self._loading)))
            return self._report(None)
        for line in self._loading:
            if isinstance(line, Waits):
                await line.until_released()
            else:
                self._report(line)
        self._report(Loading(1.0))
        self._report(Ready(EngineInfo(settings.n_ctx, settings.mmproj is not None, 0.0, NOTHING_USED)))

    async def _play(self, id: str, script: Script) -> None:
        so_far = Finished("cancelled", Usage(1, 0, 0), NO_TIME)
        for line in script:
            match line:
                case WorkerDies():
                    self._report(None)
                    return
                case Waits():
                    await line.until_released()
                case GgufVlError():
                    self._report(Step((Failed(id, to_plain(line)),)))
                case _:
                    self._report(Step((Published(id, (line,), so_far),)))

    async def _prepare(self, id: str, script: Script) -> None:
        await self._play(id, script)
        self._report(Step((Prepared(id),)))

    def _report(self, report: Any | None) -> None:
        self._reports.put_nowait(report)

    async def receive(self) -> Any | None:
        """The next report of whichever script is playing."""
        return await self._reports.get()

    async def close(self) -> str:
        """Stop playing."""
        for task in filter(None, (self._loads, *self._playing.values())):
            task.cancel()
        self._report(None)
        return "scripted"
