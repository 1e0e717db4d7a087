"""What a wheel's file name says: which distribution it is, and where it runs (PyPA's binary distribution format)."""

from __future__ import annotations

import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from gguf_vl.errors import UsageError
from gguf_vl.store.bundle.manifest import Platform

_NAME = re.compile(
    r"(?P<name>[\w.]+)-(?P<version>[\w.+!]+)(-\d\w*)?-(?P<python>[\w.]+)-(?P<abi>[\w.]+)-(?P<platform>[\w.]+)\.whl",
    re.ASCII,
)
_SYSTEMS = {"manylinux": "linux", "musllinux": "linux", "linux": "linux", "macosx": "darwin", "win": "win32"}
_LIBCS = {"manylinux": "glibc", "musllinux": "musl"}
_MACHINES = {"amd64": "x86_64", "x64": "x86_64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel by its name. `name` is normalised, as in `llama-cpp-python`."""

    path: Path
    name: str
    version: str
    pythons: tuple[str, ...]
    abis: tuple[str, ...]
    platforms: tuple[str, ...]

    @property
    def machines(self) -> frozenset[tuple[str, str]]:
        """The (`sys.platform`, machine) pairs that it is for; none means all."""
        return frozenset(pair for tag in self.platforms if tag != "any" for pair in _machines(tag))

    @property
    def python(self) -> str | None:
        """The one Python that it is for ("3.11"), None where it is for several."""
        exact = [re.fullmatch(r"cp3(\d+)", tag) for tag in self.pythons]
        if "abi3" in self.abis or "none" in self.abis or len(exact) != 1 or exact[0] is None:
            return None
        return f"3.{exact[0][1]}"

    def runs_on(self, place: Platform) -> bool:
        """Whether its name promises that. pip looks closer, at the versions of the system."""
        if self.machines and (place.sys_platform, place.machine) not in self.machines:
            return False
        libcs = {_LIBCS[system] for tag in self.platforms for system in _LIBCS if tag.startswith(system)}
        if libcs and place.libc and place.libc.split()[0] not in libcs:
            return False
        minor = int(place.python.partition(".")[2])
        return any(_takes(tag, minor, stable="abi3" in self.abis) for tag in self.pythons)


def wheel(path: Path) -> Wheel:
    """The wheel at `path`. `UsageError` when there is none."""
    found = _NAME.fullmatch(path.name)
    if not found or not path.is_file():
        raise UsageError(f"{path} is not a wheel.", "Give a file as pip makes it: NAME-VERSION-PYTHON-ABI-PLATFORM.whl")
    tags = (tuple(found[part].split(".")) for part in ("python", "abi", "platform"))
    return Wheel(path, re.sub(r"[-_.]+", "-", found["name"]).lower(), found["version"], *tags)


def this_platform(baseline: str | None = None) -> Platform:
    """The machine that this runs on."""
    name, version = platform.libc_ver() if sys.platform == "linux" else ("", "")
    libc = f"{name} {version}" if version else ("musl" if sys.platform == "linux" else None)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Platform(sys.platform, machine(platform.machine()), python, libc, baseline)


def machine(name: str) -> str:
    """One name for a processor family, whatever a system calls it."""
    return _MACHINES.get(name.lower(), name.lower())


def _machines(tag: str) -> list[tuple[str, str]]:
    if tag == "win32":
        return [("win32", "x86")]
    found = re.fullmatch(r"(manylinux|musllinux|linux|macosx|win)(\d+)?(?:_\d+_\d+)?_(\w+)", tag)
    if not found:
        return [("unknown", tag)]
    system, name = _SYSTEMS[found[1]], found[3]
    names = ("x86_64", "arm64") if name == "universal2" else (machine(name),)
    return [(system, each) for each in names]


def _takes(tag: str, minor: int, *, stable: bool) -> bool:
    if tag in ("py3", f"py3{minor}", f"cp3{minor}"):
        return True
    oldest = re.fullmatch(r"cp3(\d+)", tag)
    return bool(stable and oldest and int(oldest[1]) <= minor)
