"""The requests of an engine whose end has not come yet, and what its worker reports of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gguf_vl.engine.health import Worker
from gguf_vl.engine.protocol import Counted, Embedded, Failed, Prepared, Published, Stats, Tokenized
from gguf_vl.errors import UsageError, from_plain
from gguf_vl.types import Finished, Timings, Usage

Outcome = Published | Prepared | Counted | Embedded | Tokenized | Stats | Failed
_NOTHING_YET = Finished("cancelled", Usage(0, 0, 0), Timings(0.0, 0.0, 0.0, None))


class Pending:
    """One request. `so_far` is its end, should it end now; `worker` the one it was sent to."""

    def __init__(self) -> None:
        self.so_far = _NOTHING_YET
        self.sending: asyncio.Task[None] | None = None
        self.worker: Worker | None = None
        self._arrivals: asyncio.Queue[Any] = asyncio.Queue()

    def put(self, arrived: Any) -> None:
        """Leave what came for it, or the error it ends with."""
        self._arrivals.put_nowait(arrived)

    async def arrival(self) -> Any:
        """What comes next. Raises the error it ended with."""
        arrived = await self._arrivals.get()
        if isinstance(arrived, Exception):
            raise arrived
        return arrived


class AllPending:
    """All of an engine's, by their ids."""

    def __init__(self) -> None:
        self._by_id: dict[str, Pending] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    @contextmanager
    def awaiting(self, id: str) -> Iterator[Pending]:
        """Inside, a request is one of them until its end. Raises `UsageError` where another has its id."""
        if id in self._by_id:
            raise UsageError(f"A request with the id {id!r} is under way already.", "Give each an id of its own.")
        pending = self._by_id[id] = Pending()
        try:
            yield pending
        finally:
            if self.has(id, pending):
                del self._by_id[id]

    def has(self, id: str, pending: Pending) -> bool:
        """Whether that request's end has not come yet."""
        return self._by_id.get(id) is pending

    def pop(self, id: str) -> Pending | None:
        """End a request here, whatever the worker still says of it. None where there is none of that id."""
        return self._by_id.pop(id, None)

    def pop_of(self, worker: Worker) -> list[Pending]:
        """End all that were sent to this worker."""
        return [self._by_id.pop(id) for id, each in list(self._by_id.items()) if each.worker is worker]

    def deliver(self, report: Outcome) -> bool:
        """Hand a report to the request it belongs to, and forget the request with its last.

        Returns whether this shows a worker that does what it is for.
        """
        pending = self._by_id.get(report.id)
        if pending is None:
            return False  # cancelled in the meantime
        match report:
            case Published(_, events, so_far):
                pending.so_far = so_far
                arrivals: tuple[Any, ...] = events
            case Stats(_, stats):
                arrivals = (stats,)
            case Prepared():
                arrivals = (None,)
            case Counted(_, usage):
                arrivals = (usage,)
            case Embedded():
                arrivals = (report,)
            case Tokenized(_, tokens):
                arrivals = (tokens,)
            case Failed(_, error):
                arrivals = (from_plain(error),)
        last = arrivals[-1] if arrivals and isinstance(arrivals[-1], Finished) else None
        if last or not isinstance(report, Published):
            del self._by_id[report.id]
        for arrival in arrivals:
            pending.put(arrival)
        return isinstance(report, Prepared | Embedded) or bool(last and last.finish_reason != "cancelled")
