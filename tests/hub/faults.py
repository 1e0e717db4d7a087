"""What can be made to go wrong. A fault strikes once; a test queues as many as it wants.

A request passes through one of four stages, and a fault waits for a request in a stage that it can strike:

    api      the description of a repository, or the list of its files
    head     HEAD of a file
    resolve  GET of a file, answered by a redirect or a refusal
    body     GET of a file, answered by its bytes
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock
from typing import ClassVar, Literal

from tests.hub.content import Stored

Stage = Literal["api", "head", "resolve", "body"]
EVERY: frozenset[Stage] = frozenset({"api", "head", "resolve", "body"})


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong with one request."""

    stages: ClassVar[frozenset[Stage]] = frozenset({"body"})

    def strikes(self, stage: Stage) -> bool:
        """Whether a request in this stage can meet with the fault."""
        return stage in self.stages


@dataclass(frozen=True)
class Cut(Fault):
    """The connection ends after this many bytes of the body."""

    n_bytes: int
    reset: bool = False
    """End it with RST ("connection reset by peer"), after which the client may have fewer bytes, and not with FIN."""


@dataclass(frozen=True)
class Flip(Fault):
    """The byte at this offset in the file arrives with its bits inverted, if it is among those asked for."""

    offset: int


@dataclass(frozen=True)
class Hold(Fault):
    """After this many bytes of the body nothing comes until the test sets `release`."""

    after: int = 0
    release: Event = field(default_factory=Event)
    reached: Event = field(default_factory=Event)
    """Set by the server when it begins to hold."""


@dataclass(frozen=True)
class IgnoreRange(Fault):
    """200 and the whole file, whatever range was asked for."""


@dataclass(frozen=True)
class ClaimLength(Fault):
    """Content-Length is off by so much. More than there is: the rest never comes; less: the end is left out."""

    extra: int


@dataclass(frozen=True)
class ClaimLinkedSize(Fault):
    """X-Linked-Size, the size that a hub declares beforehand, is this."""

    stages: ClassVar[frozenset[Stage]] = frozenset({"head", "resolve"})
    n_bytes: int


@dataclass(frozen=True)
class Swap(Fault):
    """Before this request is answered, and from then on, the file has another content, size and ETag."""

    stages: ClassVar[frozenset[Stage]] = frozenset({"head", "resolve", "body"})
    content: bytes | Path | Stored


@dataclass(frozen=True)
class _Anywhere(Fault):
    on: Stage | None = field(default=None, kw_only=True)
    """The one stage in which it strikes; None: any."""

    def strikes(self, stage: Stage) -> bool:
        """Whether a request in this stage can meet with the fault."""
        return self.on in (None, stage)


@dataclass(frozen=True)
class Answer(_Anywhere):
    """This status, with these headers and this body, in place of what was asked for."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class HangUp(_Anywhere):
    """The connection is closed without an answer."""


@dataclass(frozen=True)
class Redirect(_Anywhere):
    """302 to another address: `to`, or one on the same server that leads to the same content."""

    to: str = ""


class Faults:
    """The faults in store for each file, and for requests of any kind, in the order in which they were put there."""

    def __init__(self) -> None:
        self._queues: dict[str | None, deque[Fault]] = defaultdict(deque)
        self._lock = Lock()

    def put(self, path: str | None, *faults: Fault) -> None:
        """Queue faults for the file of this path in its repository, or for requests of any kind (None)."""
        with self._lock:
            self._queues[path].extend(faults)

    def take(self, path: str, stage: Stage) -> Fault | None:
        """What strikes this request. Only the first in a queue is looked at: it holds up those behind it."""
        with self._lock:
            for queue in (self._queues[path], self._queues[None]):
                if queue and queue[0].strikes(stage):
                    return queue.popleft()
        return None
