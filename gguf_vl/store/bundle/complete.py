"""Whether wheels are all that a kind of machine needs: gguf-vl, what that requires there, and what those require.

Read from the wheels' own metadata. pip cannot be asked: it judges `sys_platform == "win32"` by the machine it runs on.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from email.parser import BytesParser
from typing import cast

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from gguf_vl.errors import UsageError
from gguf_vl.store.bundle.manifest import Platform
from gguf_vl.store.bundle.wheels import Wheel

ROOTS = ("gguf-vl", "pip")
"""What the installer asks pip for."""
_SYSTEMS = {"linux": ("posix", "Linux"), "darwin": ("posix", "Darwin"), "win32": ("nt", "Windows")}
_MACHINES = {("win32", "x86_64"): "AMD64", ("win32", "arm64"): "ARM64", ("linux", "arm64"): "aarch64"}


def lacking(place: Platform, wheels: Sequence[Wheel]) -> list[str]:
    """Which requirements none of the wheels meets on such a machine, in order of name; empty: it can be installed."""
    there = [each for each in wheels if each.runs_on(place)]
    environment = _environment(place)
    missing: set[str] = set()
    seen: set[tuple[str, str]] = set()
    left = [Requirement(name) for name in ROOTS]
    while left:
        wanted = left.pop()
        fitting = [each for each in there if each.name == canonicalize_name(wanted.name) and _is_in(each, wanted)]
        if not fitting:
            missing.add(f"{wanted.name}{wanted.specifier}")
        for each in fitting:
            for extra in ("", *wanted.extras):
                if (each.path.name, extra) not in seen:
                    seen.add((each.path.name, extra))
                    left += _required(each, environment, extra)
    return sorted(missing)


def _is_in(wheel: Wheel, wanted: Requirement) -> bool:
    return wanted.specifier.contains(wheel.version, prereleases=True)


def _required(wheel: Wheel, environment: dict[str, str], extra: str) -> Iterator[Requirement]:
    """What a wheel requires in such an environment, for one of its extras where that is not empty."""
    try:
        with zipfile.ZipFile(wheel.path) as archive:
            about = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            lines = BytesParser().parsebytes(archive.read(about)).get_all("Requires-Dist") or []
        required = [Requirement(line) for line in lines]
    except (OSError, StopIteration, zipfile.BadZipFile, InvalidRequirement) as error:
        raise UsageError(f"{wheel.path} does not say what it requires.", "Give a wheel that pip has made.") from error
    for each in required:
        if not each.marker or each.marker.evaluate({**environment, "extra": extra}):
            yield each


def _environment(place: Platform) -> dict[str, str]:
    """What markers look at, on that machine."""
    os_name, system = _SYSTEMS.get(place.sys_platform, ("posix", place.sys_platform))
    found = cast(dict[str, str], default_environment())
    found["sys_platform"], found["os_name"], found["platform_system"] = place.sys_platform, os_name, system
    found["platform_machine"] = _MACHINES.get((place.sys_platform, place.machine), place.machine)
    found["python_version"], found["python_full_version"] = place.python, f"{place.python}.0"
    found["implementation_name"], found["platform_python_implementation"] = "cpython", "CPython"
    found["implementation_version"] = f"{place.python}.0"
    return found
