"""Models that are fetched and verified in the background: queued, paused, resumed, and told as they go.

Everything here is changed on the app's loop alone; the threads that work only report to it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from gguf_vl.errors import GgufVlError, OfflineError
from gguf_vl.tui.transfers import Left, News, Run, State, Stopped, Teller, Work, left_behind, pull, verify

EVERY_S = 0.1
"""Seconds between two reports of how far one is."""
RATE_OVER_S = 10.0
"""Seconds whose bytes make the rate."""


@dataclass(frozen=True, slots=True)
class Download:
    """How far a model is. `done` and `total` are bytes, `total` 0 while that is unknown; `rate` is bytes per second.

    `eta_s` is None while nothing moves. `note` is what was last said of it, `error` why it failed.
    """

    name: str
    state: State
    done: int = 0
    total: int = 0
    rate: float = 0.0
    eta_s: float | None = None
    note: str = ""
    error: GgufVlError | None = None

    @property
    def is_active(self) -> bool:
        """Whether it is being worked on, or will be without anybody's doing."""
        return self.state in ("waiting", "planning", "fetching", "verifying")

    @property
    def fraction(self) -> float | None:
        """How far it is, from 0 to 1; None while that is unknown."""
        return min(1.0, self.done / self.total) if self.total else None


class Downloads:
    """Pulls and verifications by model name, one at a time. `on_change` is called on the loop that this is made on.

    What has arrived of a pull always stays: `resume`, another start of the program and `gguf-vl pull` go on with it.
    What an earlier run left is here, paused, soon after this is made.
    """

    def __init__(
        self,
        on_change: Callable[[], None],
        *,
        is_offline: Callable[[], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_change = on_change
        self._is_offline = is_offline or _offline_by_settings
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._jobs: dict[str, _Job] = {}
        self._queue: list[_Job] = []
        self._run: Run | None = None
        self._closed = False
        self._in_thread("unfinished pulls", self._look)

    @property
    def states(self) -> tuple[Download, ...]:
        """All of them, in the order in which they were first asked for."""
        now = self._clock()
        return tuple(job.told(now) for job in self._jobs.values())

    def of(self, name: str) -> Download | None:
        """That of a model, None where there is none."""
        job = self._jobs.get(name.casefold())
        return job.told(self._clock()) if job else None

    def pull(self, name: str) -> None:
        """Fetch a model, a catalogue name or `hf:owner/repo[:quant]`, behind those that wait already."""
        job = self._job(name, "pull")
        if job is None:
            return
        if self._is_offline():
            what = f"{name} cannot be fetched: offline mode is on."
            fix = "Carry it here: `gguf-vl bundle create` elsewhere, then `gguf-vl bundle install FILE`."
            job.state, job.error = "failed", OfflineError(what, fix)
            self._on_change()
        else:
            self._enqueue(job)

    def verify(self, name: str) -> None:
        """Hash a model's files again, behind what waits already."""
        if job := self._job(name, "verify"):
            self._enqueue(job)

    def pause(self, name: str) -> None:
        """Stop a pull where it is. A verification that is paused begins anew."""
        job = self._jobs.get(name.casefold())
        if job and job.told(self._clock()).is_active:
            self._stop(job)
            job.state = "paused"
            self._on_change()
            self._next()

    def resume(self, name: str) -> None:
        """Go on with what is paused or has failed."""
        job = self._jobs.get(name.casefold())
        if job and job.state in ("paused", "failed"):
            self.pull(job.name) if job.kind == "pull" else self.verify(job.name)

    def cancel(self, name: str) -> None:
        """Stop it, if it is not over, and take it out of `states`."""
        if job := self._jobs.pop(name.casefold(), None):
            self._stop(job)
            self._on_change()
            self._next()

    def close(self) -> None:
        """Stop everything."""
        self._closed = True
        self._queue.clear()
        if self._run:
            self._run.stopped.set()

    # --- on the loop

    def _job(self, name: str, kind: Literal["pull", "verify"]) -> _Job | None:
        """The job to be begun, new or again; None where it is under way."""
        job = self._jobs.get(name.casefold())
        if job is None:
            job = self._jobs[name.casefold()] = _Job(name, kind)
        elif job.told(self._clock()).is_active:
            return None
        if job.kind != kind:
            job.kind, job.done, job.total = kind, 0, 0
        job.note, job.error = "", None
        return job

    def _enqueue(self, job: _Job) -> None:
        job.state = "waiting"
        self._queue.append(job)
        self._on_change()
        self._next()

    def _stop(self, job: _Job) -> None:
        if job in self._queue:
            self._queue.remove(job)
        if self._run and self._run is job.run:
            self._run.stopped.set()  # its thread hears of it with the next bytes
            self._run = None

    def _next(self) -> None:
        """Begin with the first that waits and whose own last thread, paused while its hub was silent, has ended."""
        if self._run or self._closed:
            return
        job = next((job for job in self._queue if job.run is None or job.run.is_over), None)
        if job:
            self._queue.remove(job)
            self._run = job.run = run = Run()
            job.begin("planning" if job.kind == "pull" else "verifying")
            self._on_change()
            work = pull if job.kind == "pull" else verify
            self._in_thread(f"{job.kind} {job.name[:40]}", partial(self._work, job, run, work))

    def _heard(self, job: _Job, run: Run, news: News) -> None:
        if job.run is run and not (run.is_over or run.stopped.is_set() or self._closed):
            job.hear(news, self._clock())
            self._on_change()

    def _over(self, job: _Job, run: Run, outcome: str | GgufVlError | None) -> None:
        """`outcome` is the last note, or why it failed; None where it was stopped."""
        run.is_over = True
        if self._run is run:
            self._run = None
            if isinstance(outcome, str):
                job.state, job.note, job.done = "done", outcome, job.total
            else:
                job.state, job.error = "failed", outcome
            self._on_change()
        self._next()

    def _found(self, left: Sequence[Left]) -> None:
        for each in left:
            if each.name.casefold() not in self._jobs:
                job = _Job(each.name, "pull", "paused", each.done, each.total)
                self._jobs[each.name.casefold()] = job
        if left:
            self._on_change()

    # --- in threads

    def _in_thread(self, name: str, work: Callable[[], None]) -> None:
        """A daemon: a hub that is silent must not keep a program that ends."""
        threading.Thread(target=work, name=name, daemon=True).start()

    def _post(self, call: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(lambda: None if self._closed else call())

    def _look(self) -> None:
        left = left_behind()
        self._post(lambda: self._found(left))

    def _work(self, job: _Job, run: Run, work: Work) -> None:
        outcome: str | GgufVlError | None = GgufVlError(f"{job.name}: it ended unexpectedly.", "See the log.")

        def soon() -> None:
            if not run.is_due:
                run.is_due = True
                self._post(lambda: self._loop.call_later(EVERY_S, late))

        def late() -> None:
            run.is_due = False
            self._heard(job, run, tell.news)

        try:
            tell = Teller(run, job.state, lambda news: self._post(lambda: self._heard(job, run, news)), soon)
            outcome = work(job.name, tell)
        except Stopped:
            outcome = None
        except GgufVlError as error:
            outcome = error
        except OSError as error:
            outcome = GgufVlError(f"{job.name}: {error}.", "Look at the disk, and at whether it may be written.")
        finally:
            self._post(lambda: self._over(job, run, outcome))


@dataclass(eq=False, slots=True)
class _Job:
    """What is known of one model's pull or verification. `samples` are (seconds, bytes) of its last reports."""

    name: str
    kind: Literal["pull", "verify"]
    state: State = "waiting"
    done: int = 0
    total: int = 0
    note: str = ""
    error: GgufVlError | None = None
    run: Run | None = None
    samples: deque[tuple[float, int]] = field(default_factory=deque)

    def begin(self, state: State) -> None:
        self.state = state
        self.samples.clear()

    def hear(self, news: News, now: float) -> None:
        if news.state != self.state:
            self.begin(news.state)
        self.done, self.total, self.note = news.done, news.total, news.note
        self.samples.append((now, news.done))
        while now - self.samples[0][0] > RATE_OVER_S and len(self.samples) > 2:
            self.samples.popleft()

    def told(self, now: float) -> Download:
        rate, eta = 0.0, None
        if self.state in ("fetching", "verifying") and self.samples:
            began, before = self.samples[0]
            if now > began and self.done > before:
                rate = (self.done - before) / (now - began)
            eta = (self.total - self.done) / rate if rate and self.total else None
        return Download(self.name, self.state, self.done, self.total, rate, eta, self.note, self.error)


def _offline_by_settings() -> bool:
    from gguf_vl.config import load_settings

    return load_settings({}).offline
