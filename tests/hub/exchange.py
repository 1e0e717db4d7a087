"""One request and its answer: the log's line, the byte ranges, and what a fault does to the bytes."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

from tests.hub.content import CHUNK_BYTES, Stored
from tests.hub.faults import (
    Answer,
    ClaimLength,
    ClaimLinkedSize,
    Cut,
    Fault,
    Flip,
    HangUp,
    Hold,
    IgnoreRange,
    Redirect,
    Stage,
)
from tests.hub.listener import Connection

Range = tuple[int, int | None]
"""First and last byte as in the header, the last None for "to the end"; the last 5 bytes are (-5, None)."""
DETOUR = "/via"
"""A path behind this means the same as without it."""


@dataclass(frozen=True)
class Request:
    """One request as the log has it."""

    method: str
    path: str
    """As asked for, with its query."""
    asked: Range | None = None
    status: int = 0
    """0: not answered."""
    bytes_sent: int = 0
    """Of the body, handed to the connection: never fewer than the client has."""
    file: str = ""
    """Path in the repository, of the file that this is about."""
    stage: Stage = "api"
    token: str = ""
    """What stood behind `Authorization: Bearer`."""


@dataclass(frozen=True)
class Reply:
    """What a hub answers, before faults."""

    stage: Stage
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Stored = b""
    """A `Stored` is served by ranges, and `status` does not count."""
    repo: str = ""
    file: str = ""
    partial_status: int = 206
    """What a range of it is answered with."""


class Log:
    """The requests in the order in which they came. An unfinished one is there too, as far as it got."""

    def __init__(self) -> None:
        self._lines: list[Request] = []
        self._lock = Lock()

    def add(self, request: Request) -> int:
        """A new line; its number."""
        with self._lock:
            self._lines.append(request)
            return len(self._lines) - 1

    def change(self, line: int, request: Request) -> None:
        """Rewrite a line."""
        self._lines[line] = request

    def lines(self) -> list[Request]:
        """All until now."""
        return list(self._lines)


def parse_range(header: str) -> Range | None:
    """The range that a header asks for; None, and so the whole file, for what is not one range (RFC 9110, 14.2)."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header.strip())
    if not match or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        return -int(last), None
    if not last:
        return int(first), None
    return (int(first), int(last)) if int(first) <= int(last) else None


def cut_out(asked: Range | None, size: int, partial_status: int = 206) -> tuple[int, dict[str, str], int, int]:
    """Status, headers and the bytes [start, stop) that answer a range of a file of this size."""
    headers = {"Accept-Ranges": "bytes"}
    if asked is None:
        return 200, {**headers, "Content-Length": str(size)}, 0, size
    first, last = asked
    start = first if first >= 0 else max(0, size + first)
    stop = size if last is None else min(size, last + 1)
    if start >= size:
        return 416, {**headers, "Content-Range": f"bytes */{size}", "Content-Length": "0"}, 0, 0
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return partial_status, {**headers, "Content-Length": str(stop - start)}, start, stop


class Exchange:
    """One request while it is answered: the only writer to its connection and of its line in the log."""

    def __init__(self, connection: Connection, log: Log, request: Request, rate: int = 0) -> None:
        """`rate` is in bytes per second; 0: no limit."""
        self.request = request
        self._connection = connection
        self._log = log
        self._line = log.add(request)
        self._rate = rate

    def note(self, **changes: Any) -> None:
        """Write more of the request to its line."""
        self.request = replace(self.request, **changes)
        self._log.change(self._line, self.request)

    def send(self, reply: Reply, fault: Fault | None) -> None:
        """Answer, as the fault will have it; ConnectionError when the client is gone."""
        match fault:
            case HangUp():
                self._connection.close_connection = True
                return
            case Answer():
                reply = Reply(reply.stage, fault.status, fault.headers, fault.body)
            case Redirect():
                reply = Reply(reply.stage, 302, {"Location": fault.to or DETOUR + self.request.path})
            case ClaimLinkedSize():
                reply = replace(reply, headers={**reply.headers, "X-Linked-Size": str(fault.n_bytes)})
        if isinstance(reply.body, Stored):
            self._send_file(reply, reply.body, fault)
        else:
            self._send_head(reply.status, {**reply.headers, "Content-Length": str(len(reply.body))})
            self._send(reply.body)

    def _send_file(self, reply: Reply, content: Stored, fault: Fault | None) -> None:
        whole = self.request.method == "HEAD" or isinstance(fault, IgnoreRange) or self._has_changed(reply)
        asked = None if whole else self.request.asked
        status, headers, start, stop = cut_out(asked, content.size, reply.partial_status)
        if isinstance(fault, ClaimLength):
            headers["Content-Length"] = str(stop - start + fault.extra)
            stop = min(stop, stop + fault.extra)
        if isinstance(fault, Cut):
            stop = min(stop, start + fault.n_bytes)
        self._send_head(status, {**reply.headers, **headers})
        flip = fault.offset if isinstance(fault, Flip) else -1
        if isinstance(fault, Hold):
            self._send_part(content, start, min(stop, start + fault.after), flip)
            start = min(stop, start + fault.after)
            fault.reached.set()
            fault.release.wait()
        self._send_part(content, start, stop, flip)
        if isinstance(fault, (Cut, ClaimLength)):
            self._connection.close_connection = True
        if isinstance(fault, Cut) and fault.reset:
            self._connection.reset()

    def _has_changed(self, reply: Reply) -> bool:
        etag = self._connection.headers.get("If-Range")
        return etag is not None and etag != reply.headers.get("ETag")

    def _send_head(self, status: int, headers: Mapping[str, str]) -> None:
        self.note(status=status)
        self._connection.send_response(status)
        for name, value in headers.items():
            self._connection.send_header(name, value)
        self._connection.end_headers()

    def _send_part(self, content: Stored, start: int, stop: int, flip: int) -> None:
        n_bytes = max(1, min(CHUNK_BYTES, self._rate // 10)) if self._rate else CHUNK_BYTES
        for chunk in content.chunks(start, stop, n_bytes):
            self._send(flipped(chunk, flip - start))
            start += len(chunk)
            if self._rate:
                time.sleep(len(chunk) / self._rate)

    def _send(self, chunk: bytes) -> None:
        if self.request.method != "HEAD":
            self.note(bytes_sent=self.request.bytes_sent + len(chunk))
            self._connection.wfile.write(chunk)


def flipped(chunk: bytes, offset: int) -> bytes:
    """The chunk with the bits of the byte at this offset inverted, if it has one there."""
    if not 0 <= offset < len(chunk):
        return chunk
    return chunk[:offset] + bytes([chunk[offset] ^ 0xFF]) + chunk[offset + 1 :]
