"""What the system tells of a process, and of all others beside it."""

from __future__ import annotations

import time

import psutil


def resident(pid: int) -> int:
    """The resident memory of a process, bytes."""
    return int(psutil.Process(pid).memory_info().rss)


QUIET = 0.05
"""The share of the processors that others may take of a quiet machine."""


class Others:
    """How much of the processors all but some processes and this one take, since it was last asked."""

    def __init__(self, *pids: int) -> None:
        self._processes = [psutil.Process(), *map(psutil.Process, pids)]
        self._before = self._now()

    def share(self) -> float:
        """Between 0 and 1. On a virtual machine also what its host gave to others."""
        before, self._before = self._before, self._now()
        seconds, all_of_it, own = (now - then for now, then in zip(self._before, before, strict=True))
        return max(0.0, (all_of_it - own) / (seconds * (psutil.cpu_count() or 1)))

    def wait(self, patience: float) -> None:
        """Wait for a second in which they take next to nothing, but no longer than so many seconds."""
        until = time.monotonic() + patience
        while time.monotonic() < until:
            self._before = self._now()
            time.sleep(1)
            if self.share() <= QUIET:
                break
        self._before = self._now()

    def _now(self) -> tuple[float, float, float]:
        times = psutil.cpu_times()
        # Linux counts a guest's time among the user's.
        idle = times.idle + getattr(times, "iowait", 0.0) + getattr(times, "guest", 0.0)
        own = sum(each.user + each.system for each in (process.cpu_times() for process in self._processes))
        return time.monotonic(), sum(times) - idle - getattr(times, "guest_nice", 0.0), own
