"""How much more memory and processor time this process may take: cgroups of both versions, resource limits.

`root` is where /proc and /sys are looked for: another folder in tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gguf_vl.hardware import reading

GIB = 1024**3
_UNLIMITED = 1 << 60
"""cgroup v1 has no word for "no limit": it says the largest multiple of a page."""


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """A limit and what it leaves: `available` bytes may still be taken. `name` is for the person."""

    name: str
    available: int


def memory_limit(root: Path = Path("/")) -> MemoryLimit | None:
    """The limit that leaves this process the least memory, of its cgroups and its own; None without any.

    Raises OSError or ValueError where the system does not say what the limits are.
    """
    limits = [*_cgroup_limits(root), *_own_limits(root)]
    return min(limits, key=lambda limit: limit.available, default=None)


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Processors' worth of time that this process's cgroups grant, None without a limit."""
    return min(_quotas(root), default=None)


def _cgroup_limits(root: Path) -> Iterator[MemoryLimit]:
    for folder in _groups(root, "memory"):
        for limit_file, used_file, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.high", "memory.current", "inactive_file"),  # beyond it the kernel stalls the process
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit = reading.number(folder / limit_file)
            if limit is None or limit >= _UNLIMITED:
                continue
            used = reading.number(folder / used_file) or 0
            # The kernel drops clean pages of files before it refuses memory.
            droppable = reading.table(folder / "memory.stat").get(cache, 0)
            available = max(0, limit - max(0, used - droppable))
            yield MemoryLimit(f"the container's or cgroup's {limit_file} of {limit / GIB:.1f} GiB", available)


def _own_limits(root: Path) -> Iterator[MemoryLimit]:
    """RLIMIT_DATA and RLIMIT_AS, less what this process has of each: a worker starts about as large."""
    limits = reading.text(root / "proc/self/limits")
    taken = reading.table(root / "proc/self/status")
    for title, name, used in (
        ("Max data size", "RLIMIT_DATA", "VmData:"),
        ("Max address space", "RLIMIT_AS", "VmSize:"),
    ):
        line = next((line for line in (limits or "").splitlines() if line.startswith(title)), "")
        soft = line.removeprefix(title).split()[:1]
        if soft and soft[0].isdigit():
            limit = int(soft[0])
            yield MemoryLimit(f"{name} of {limit / GIB:.1f} GiB", max(0, limit - taken.get(used, 0) * 1024))


def _quotas(root: Path) -> Iterator[float]:
    for folder in _groups(root, "cpu"):
        quota, _, period = (reading.text(folder / "cpu.max") or "max 100000").partition(" ")
        if quota.isdigit():
            yield int(quota) / int(period)
        old = reading.number(folder / "cpu.cfs_quota_us")
        if old is not None and old > 0:
            yield old / (reading.number(folder / "cpu.cfs_period_us") or 100_000)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's cgroups for a controller, each with all its ancestors that can be seen."""
    memberships = [line.split(":", 2) for line in (reading.text(root / "proc/self/cgroup") or "").splitlines()]
    for mount in _mounts(root, controller):
        for parts in memberships:
            if len(parts) == 3 and (controller in parts[1].split(",") if mount.version == 1 else parts[0] == "0"):
                yield from mount.groups(root, PurePosixPath(parts[2]))


@dataclass(frozen=True, slots=True)
class _Mount:
    """A hierarchy of cgroups: what part of it (`shown`) appears at `place`."""

    version: int
    shown: PurePosixPath
    place: str

    def groups(self, root: Path, group: PurePosixPath) -> Iterator[Path]:
        # In a container without a namespace of its own, the path is the host's, and only its end is mounted.
        below = group.relative_to(self.shown) if group.is_relative_to(self.shown) else PurePosixPath()
        if ".." in below.parts:
            below = PurePosixPath()
        top = root / self.place.lstrip("/")
        for name in (below, *below.parents):
            yield top / name


def _mounts(root: Path, controller: str) -> Iterator[_Mount]:
    for line in (reading.text(root / "proc/self/mountinfo") or "").splitlines():
        before, _, after = line.partition(" - ")
        where, what = before.split(), after.split()
        if len(where) < 5 or len(what) < 3:
            continue
        if what[0] == "cgroup2":
            yield _Mount(2, PurePosixPath(where[3]), where[4])
        elif what[0] == "cgroup" and controller in what[2].split(","):
            yield _Mount(1, PurePosixPath(where[3]), where[4])
