"""How the server begins to listen and ends: what is under way is finished, for a while, and nothing is begun."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from sse_starlette.sse import AppStatus

from gguf_vl.server.service import Service

DRAIN_S = 30
"""Seconds that requests under way have when the server is told to end."""

AppStatus.enable_automatic_graceful_drain = False  # it would cut every stream off at once


class Server(uvicorn.Server):
    """Listens, and calls `started`. SIGTERM or SIGINT has it take no connection more, close those that idle, finish the
    requests under way within `drain_s` seconds and end the others with their dialect's error; a second ends it at once.
    """

    def __init__(
        self, config: uvicorn.Config, service: Service, started: Callable[[], None], drain_s: float = DRAIN_S
    ) -> None:
        super().__init__(config)
        self._service = service
        self._started = started
        self._drain_s = drain_s

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        self._started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal. uvicorn's own handler would have the process die of it in the end."""
        if self.should_exit:
            signal.signal(sig, signal.SIG_DFL)
            signal.raise_signal(sig)
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain."""
        cutting_off = asyncio.create_task(self._cut_off())
        try:
            await super().shutdown(sockets)
        finally:
            cutting_off.cancel()

    async def _cut_off(self) -> None:
        await asyncio.sleep(self._drain_s)
        await self._service.end()
