"""Starting a worker process, and the pipe to it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import sys
from collections import deque
from typing import Any, Protocol

from gguf_vl.engine.protocol import LENGTH, Command, dumps, loads
from gguf_vl.errors import EngineError, is_about_memory

logger = logging.getLogger("gguf_vl.engine")

_STDERR_KEPT = 20
"""Lines of a worker's standard error kept for the error message, should it die."""
_STDERR_CHUNK = 2**16
"""Bytes read at a time, and the most that is kept of one line."""
_TELLING = re.compile("GGML_ASSERT|error", re.IGNORECASE)
BY_ITSELF_S = 0.5
"""Seconds a worker has to end once its pipe is closed."""
TERMINATED_S = 0.25
"""Seconds more once it was asked to terminate. Then it is killed, so that a program ends within a second."""


class Connection(Protocol):
    """What `Engine` needs of a worker. The scripted fake stands here too."""

    async def send(self, command: Command) -> None:
        """Deliver a command; one that can no longer arrive is dropped, `receive` tells of the end."""

    async def receive(self) -> Any | None:
        """The next report; None when the worker is gone."""

    async def close(self) -> str:
        """End the worker, if it still runs, and say how it ended."""


class WorkerProcess:
    """A worker started as a process of its own, in a session of its own so that Ctrl+C is ours alone to handle."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._sending = asyncio.Lock()
        self._stderr: deque[str] = deque(maxlen=_STDERR_KEPT)
        self._listener = asyncio.create_task(self._listen())
        self._ending: asyncio.Task[str] | None = None

    @classmethod
    async def start(cls) -> WorkerProcess:
        """Start one. Raises `EngineError` when the system cannot start a process."""
        try:
            return cls(await cls._spawn())
        except OSError as error:
            raise EngineError(f"No worker process could be started: {error}", "Run `gguf-vl doctor`.") from error

    @staticmethod
    async def _spawn() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-P", "-m", "gguf_vl.engine.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=os.name == "posix",
        )

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    async def _listen(self) -> None:
        assert self._process.stderr
        rest = b""
        while chunk := await self._process.stderr.read(_STDERR_CHUNK):
            *lines, rest = (rest + chunk).split(b"\n")
            rest = rest[-_STDERR_CHUNK:]
            for line in lines:
                self._hear(line)
        self._hear(rest)

    def _hear(self, line: bytes) -> None:
        text = line.decode("utf-8", errors="replace").rstrip()
        if text:
            self._stderr.append(text)
            logger.debug("worker %d: %s", self.pid, text)

    async def send(self, command: Command) -> None:
        """Deliver a command. It is packed once those before it are on their way: pictures would fill the memory."""
        assert self._process.stdin
        async with self._sending:
            with contextlib.suppress(ConnectionError, RuntimeError):
                self._process.stdin.write(dumps(command))
                await self._process.stdin.drain()

    async def receive(self) -> Any | None:
        """The next report; None when the pipe is closed."""
        assert self._process.stdout
        try:
            (length,) = LENGTH.unpack(await self._process.stdout.readexactly(LENGTH.size))
            return loads(await self._process.stdout.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def close(self) -> str:
        """Close the pipe, which ends the worker; terminate, then kill it when that takes too long.

        Once begun it goes on, also when the caller no longer waits.
        """
        self._ending = self._ending or asyncio.create_task(self._end())
        return await asyncio.shield(self._ending)

    async def _end(self) -> str:
        assert self._process.stdin
        with contextlib.suppress(ConnectionError, RuntimeError):
            self._process.stdin.close()
        for patience_s, force in ((BY_ITSELF_S, self._process.terminate), (TERMINATED_S, self._process.kill)):
            try:
                await asyncio.wait_for(self._process.wait(), patience_s)
                break
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    force()
        await self._process.wait()
        await self._listener
        return self._how_it_ended()

    def _how_it_ended(self) -> str:
        code = self._process.returncode or 0
        ending = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        lines = self._stderr
        telling = [line for line in lines if is_about_memory(line)] or [line for line in lines if _TELLING.search(line)]
        reason = telling[0] if telling else ""
        return f"{ending}: {reason}" if reason else ending
