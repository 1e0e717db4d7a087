"""The processor's cores that this process may use, and which of them are fast."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from gguf_vl.hardware import limits, reading

_FAST = 0.75
"""A core of at least this share of the fastest one's capacity or clock counts as fast. Between two kinds of core the
published clocks differ by more (Zen 5 and 5c: 3.3 of 5.1 GHz), between favoured cores of one kind by less."""


def physical_cores(root: Path = Path("/")) -> int:
    """Cores this process may use, counting hyper-threads once: more threads than these make llama.cpp slower.

    The affinity of the process and a container's share of processor time limit them.
    """
    siblings = _cores(root)
    if siblings:
        found = len(siblings)
    else:
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count() or 1
        found = min(psutil.cpu_count(logical=False) or usable, usable)
    return _within_quota(found, root)


def performance_cores(root: Path = Path("/")) -> int | None:
    """The fast ones among `physical_cores`, all of them where all are alike; None where Linux does not tell."""
    siblings = _cores(root)
    speeds = {core: _speed(root, min(core)) for core in siblings}
    named = reading.cpu_list(reading.text(root / "sys/devices/cpu_core/cpus"))  # Intel's hybrids name their fast ones
    if named:
        fast = [core for core in siblings if core & named]
    elif speeds and all(speeds.values()):
        fast = [core for core, speed in speeds.items() if speed >= _FAST * max(speeds.values())]
    else:
        return None
    return _within_quota(len(fast), root) if fast else None


def _cores(root: Path) -> set[frozenset[int]]:
    """The usable processors of each usable core, by Linux's account; empty where it gives none."""
    allowed = next(
        (
            reading.cpu_list(line.partition(":")[2])
            for line in (reading.text(root / "proc/self/status") or "").splitlines()
            if line.startswith("Cpus_allowed_list:")
        ),
        set(),
    )
    found = set()
    for cpu in allowed:
        topology = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
        siblings = reading.text(topology / "core_cpus_list") or reading.text(topology / "thread_siblings_list")
        if siblings is None:
            return set()
        found.add(frozenset(reading.cpu_list(siblings) & allowed | {cpu}))
    return found


def _speed(root: Path, cpu: int) -> int:
    folder = root / f"sys/devices/system/cpu/cpu{cpu}"
    return reading.number(folder / "cpu_capacity") or reading.number(folder / "cpufreq/cpuinfo_max_freq") or 0


def _within_quota(cores: int, root: Path) -> int:
    quota = limits.cpu_quota(root)
    return max(1, cores if quota is None else min(cores, int(quota)))
