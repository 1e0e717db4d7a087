"""gguf-vl and everything it imports as wheels, so that a machine with Python alone can install it.

pip, in a process of its own, builds and collects them. llama-cpp-python is built for a stated baseline of processors:
built as it is by default, for the processor that builds it, it dies with SIGILL on an older one.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit
from urllib.request import url2pathname

from gguf_vl import paths
from gguf_vl.errors import GgufVlError, OfflineError, UsageError
from gguf_vl.store.bundle.complete import lacking
from gguf_vl.store.bundle.manifest import Platform
from gguf_vl.store.bundle.wheels import Wheel, this_platform, wheel
from gguf_vl.store.progress import Progress

OWN = "gguf-vl"
LLAMA = "llama-cpp-python"

# ggml's options (ggml/CMakeLists.txt). Each is said, because their defaults follow the environment and the version.
_X86_64_V3 = ("SSE42", "AVX", "AVX2", "BMI2", "FMA", "F16C")
_ABOVE_V3 = ("AVX_VNNI", "AVX512", "AVX512_VBMI", "AVX512_VNNI", "AVX512_BF16", "AMX_TILE", "AMX_INT8", "AMX_BF16")


@dataclass(frozen=True, slots=True)
class Collected:
    """Wheels to carry, and the kinds of machine that they are for."""

    wheels: tuple[Path, ...]
    platforms: tuple[Platform, ...]


def baseline(place: Platform) -> tuple[str, str]:
    """What llama-cpp-python is built for on such a machine: the processor's name, and CMAKE_ARGS for it."""
    options = ["-DGGML_NATIVE=OFF"]
    if place.sys_platform == "linux":
        options.append("-DGGML_OPENMP=OFF")  # libgomp is not on a machine that has Python and nothing else
    if place.machine == "x86_64":
        options += [f"-DGGML_{name}=ON" for name in _X86_64_V3] + [f"-DGGML_{name}=OFF" for name in _ABOVE_V3]
        return "x86-64-v3", " ".join(options)
    if place.machine == "arm64" and place.sys_platform == "darwin":
        return "apple-m1", " ".join(options)
    if place.machine == "arm64":
        return "armv8-a", " ".join([*options, "-DGGML_CPU_ARM_ARCH=armv8-a"])
    return f"generic {place.machine}", " ".join(options)


@contextmanager
def collected(given: Sequence[Path], progress: Progress, *, offline: bool = False) -> Iterator[Collected]:
    """The wheels for this machine and Python, and those `given`, in a folder that is there as long as the context.

    A given wheel that runs here is taken in place of what would be built or fetched; those for another kind of machine
    must be all that it needs. Raises `OfflineError` because pip needs the network, `UsageError` for what is no wheel or
    of no use, `GgufVlError` with the end of pip's log when pip fails.
    """
    wheels = [wheel(path) for path in given]
    if offline:
        raise OfflineError("pip needs the network to collect packages, and offline mode is on.", "Go online for this.")
    if importlib.util.find_spec("pip") is None:
        raise GgufVlError(f"{sys.executable} has no pip to collect packages.", f"{sys.executable} -m ensurepip")
    here = this_platform()
    mine = {each.name: each.path for each in wheels if each.runs_on(here)}
    work = paths.cache_dir() / "bundle"
    work.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=work, prefix="packages-") as folder:
        if OWN not in mine:
            mine[OWN] = _own(Path(folder, "own"), progress)
        name = None
        if LLAMA in mine:
            progress.note(f"Taking {mine[LLAMA].name} as it is: only who built it knows for which processors.")
        else:
            name, options = baseline(here)
            mine[LLAMA] = _portable_llama(_requirement(mine[OWN]), name, options, here, progress)
        progress.note("Collecting what gguf-vl imports, with pip …")
        found = Path(folder, "wheels")
        # pip itself goes along: where Python came without it, the installer runs it from its wheel.
        _pip("wheel", "--prefer-binary", "--wheel-dir", found, *mine.values(), "pip")
        carried = [wheel(path) for path in sorted(found.iterdir())]
        others = [each for each in wheels if not each.runs_on(here)]
        elsewhere = _platforms(others, carried, here)
        platforms = (this_platform(name), *elsewhere)
        yield Collected((*(each.path for each in carried), *(each.path for each in others)), platforms)


def _platforms(given: list[Wheel], carried: list[Wheel], here: Platform) -> list[Platform]:
    """The other platforms that the given wheels are enough for. `UsageError` for those that are of no use."""
    pairs = sorted({pair for each in given for pair in each.machines})
    complete: list[Platform] = []
    incomplete: list[str] = []
    for system, name in pairs:
        there = [each for each in given if (system, name) in each.machines]
        for python in sorted({each.python for each in there if each.python} or {here.python}):
            place = Platform(system, name, python)
            if missing := lacking(place, [*carried, *given]):
                incomplete.append(f"for {place} {', '.join(missing)}")
            else:
                complete.append(place)
    useless = [each.path.name for each in given if not any(each.runs_on(place) for place in complete)]
    if useless:
        why = f"there is no wheel {'; '.join(incomplete)}" if incomplete else "it says no machine that this knows"
        raise UsageError(
            f"Nobody could install {', '.join(useless)}: {why}.",
            "Add what is missing with --wheel, or leave out what is for that kind of machine.",
        )
    return complete


def _own(folder: Path, progress: Progress) -> Path:
    """This package's wheel, from the checkout it runs from or from what it was installed from."""
    source = _own_source()
    if source.suffix == ".whl":
        return source
    progress.note(f"Building gguf-vl from {source} …")
    _pip("wheel", "--no-deps", "--wheel-dir", folder, source)
    return next(folder.glob("*.whl"))


def _own_source() -> Path:
    checkout = paths.PACKAGE.parent
    if (checkout / "pyproject.toml").is_file() and (checkout / "models.toml").is_file():
        return checkout
    try:
        url = urlsplit(json.loads(metadata.distribution(OWN).read_text("direct_url.json") or "{}").get("url", ""))
    except metadata.PackageNotFoundError:
        url = urlsplit("")
    source = Path(url2pathname(url.path))
    if url.scheme == "file" and source.exists():
        return source
    raise UsageError(
        "gguf-vl cannot find what it was installed from, to put it into the bundle.",
        "Run it from a checkout, or give its wheel too: --wheel gguf_vl-….whl",
    )


def _requirement(own: Path) -> str:
    """What gguf-vl's wheel asks for, as in `llama-cpp-python==0.3.36`."""
    with zipfile.ZipFile(own) as archive:
        about = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        found = re.search(rf"^Requires-Dist: ({LLAMA}==\S+?)\s*(;|$)", archive.read(about).decode(), re.MULTILINE)
    if not found:
        raise UsageError(f"{own.name} does not say which {LLAMA} it needs.", "Give a wheel of gguf-vl itself.")
    return found[1]


def _portable_llama(requirement: str, name: str, options: str, here: Platform, progress: Progress) -> Path:
    """llama-cpp-python for every processor of the baseline; built once, then taken from the cache."""
    build = hashlib.sha256(f"{requirement} {here} {options}".encode()).hexdigest()[:16]
    kept = paths.cache_dir() / "wheels" / f"{LLAMA}-{name.replace(' ', '-')}-{build}"
    if not any(kept.glob("*.whl")):
        progress.note(f"Building {requirement} for {name}: some minutes, longer on few cores; it is kept in {kept} …")
        kept.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=kept.parent) as folder:
            # No cache: pip knows built wheels by name and version alone, and one for this processor must not be taken.
            words = ("--no-cache-dir", "--no-binary", LLAMA, "--no-deps", "--wheel-dir", folder, requirement)
            _pip("wheel", *words, CMAKE_ARGS=options, FORCE_CMAKE="1")
            kept.mkdir(exist_ok=True)
            for built in Path(folder).glob("*.whl"):
                shutil.move(built, kept / built.name)
    return next(kept.glob("*.whl"))


def _pip(*words: str | Path, **environment: str) -> None:
    """Run pip; what it says is shown only when it fails."""
    # Compiler flags of the person's would be for their own machine.
    mine = {key: value for key, value in os.environ.items() if key not in ("CFLAGS", "CXXFLAGS", "CMAKE_ARGS")}
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *words],
        env=mine | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode:
        said = "\n".join(done.stdout.strip().splitlines()[-20:])
        raise GgufVlError(
            f"pip could not do its part: pip {' '.join(map(str, words))}\n{said}",
            "Mend that. llama-cpp-python needs a C++ compiler; `--wheel FILE` takes one that is built already.",
        )
