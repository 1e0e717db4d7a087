"""What both hubs share: a server that logs what it is asked, and fails on demand.

It knows nothing of addresses: what is found where is a hub's `route`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Self
from urllib.parse import parse_qsl

from tests.hub.content import Repo, Stored
from tests.hub.exchange import DETOUR, Exchange, Log, Range, Reply, Request, parse_range
from tests.hub.faults import Fault, Faults, Hold, Swap
from tests.hub.listener import Connection, Listener


@dataclass(frozen=True)
class Call:
    """A request as a hub's `route` sees it."""

    method: str
    path: str
    """Percent-encoded, without query and detour."""
    query: Mapping[str, str]
    token: str


class Server:
    """A hub on 127.0.0.1, up from its construction until `close` or the end of its `with`."""

    def __init__(
        self, repos: Mapping[str, Repo], *, rate: int = 0, done: Callable[[Request], None] | None = None
    ) -> None:
        """`rate`, bytes per second and connection, sleeps: not for tests. `done` is told of each finished request."""
        self._repos = dict(repos)
        self._log = Log()
        self._faults = Faults()
        self._holds: list[Hold] = []
        self._changing = Lock()
        self._rate = rate
        self._done = done
        self._listener = Listener(self._answer)

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return self._listener.url

    @property
    def requests(self) -> list[Request]:
        """Every request until now, in the order in which they came, unfinished ones as far as they got."""
        return self._log.lines()

    def asked(self, path_suffix: str) -> list[Range | None]:
        """The ranges (None: the whole) of the GETs for the bytes of files whose path ends so."""
        return [request.asked for request in self._bodies(path_suffix)]

    def bytes_sent(self, path_suffix: str) -> int:
        """How many bytes of files whose path ends so were sent in all."""
        return sum(request.bytes_sent for request in self._bodies(path_suffix) if request.status in (200, 206))

    def inject(self, path: str | None, *faults: Fault, times: int = 1) -> None:
        """Let these faults strike, in this order, requests for the file of this path, or of any kind (None)."""
        self._holds += [fault for fault in faults if isinstance(fault, Hold)]
        self._faults.put(path, *faults * times)

    def replace(self, repo: str, path: str, content: bytes | Path | Stored) -> None:
        """Give a file another content, size and ETag, at the same commit."""
        with self._changing:
            self._repos[repo] = self._repos[repo].with_file(path, content)

    def route(self, call: Call) -> Reply:
        """What a hub answers to this, when nothing goes wrong."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop listening, let go what is held and close every connection."""
        for hold in self._holds:
            hold.release.set()
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _bodies(self, path_suffix: str) -> list[Request]:
        return [request for request in self.requests if request.stage == "body" and request.file.endswith(path_suffix)]

    def _answer(self, connection: Connection) -> None:
        token = connection.headers.get("Authorization", "").removeprefix("Bearer ")
        asked = parse_range(connection.headers.get("Range", ""))
        request = Request(connection.command, connection.path, asked, token=token)
        exchange = Exchange(connection, self._log, request, self._rate)
        path, _, query = connection.path.partition("?")
        call = Call(connection.command, re.sub(f"^({DETOUR})+(?=/)", "", path), dict(parse_qsl(query)), token)
        reply = self.route(call)
        fault = self._faults.take(reply.file, reply.stage)
        if isinstance(fault, Swap):
            self.replace(reply.repo, reply.file, fault.content)
            reply = self.route(call)
        exchange.note(file=reply.file, stage=reply.stage)
        try:
            exchange.send(reply, fault)
        except ConnectionError:
            connection.close_connection = True
        finally:
            if self._done:
                self._done(exchange.request)
