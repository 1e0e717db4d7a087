"""Installs gguf-vl and the models of a bundle where only Python is. It lies in the bundle as install.py.

    python3 install.py BUNDLE [--venv DIR] [--trust KEY]

Imports the standard library alone, and asks no network. It refuses a machine that the bundle is not for, checks every
package against manifest.json, makes a virtual environment, and has gguf-vl itself check and install the models.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path
from typing import IO, Any, NoReturn, cast

MACHINES = {"amd64": "x86_64", "x64": "x86_64", "aarch64": "arm64"}
NEEDED_FLAGS = {"x86-64-v3": {"avx", "avx2", "bmi2", "f16c", "fma"}}
"""What a processor of a baseline says of itself in /proc/cpuinfo."""
USAGE, NOT_FOR_HERE, DAMAGED, FAILED = 2, 3, 5, 1
"""gguf-vl's own exit codes."""


def refuse(code: int, line: str) -> NoReturn:
    """End here, with one line that says why."""
    print(f"install.py: {line}", file=sys.stderr)
    sys.exit(code)


class Joined:
    """Reads the parts of a bundle one after the other."""

    def __init__(self, bundle: Path) -> None:
        base = bundle.with_suffix("") if bundle.suffix == ".001" else bundle
        parts = sorted(base.parent.glob(f"{base.name}.[0-9][0-9][0-9]"))
        self._left = [bundle] if bundle.is_file() and bundle.suffix != ".001" else parts
        self._stream: IO[bytes] | None = None
        if not self._left:
            refuse(NOT_FOR_HERE, f"There is no file {bundle}.")

    def read(self, n: int) -> bytes:
        """Up to `n` bytes; none at the end."""
        data = b""
        while len(data) < n and (self._stream or self._left):
            self._stream = self._stream or self._left.pop(0).open("rb")
            piece = self._stream.read(n - len(data))
            if not piece:
                self._stream.close()
                self._stream = None
            data += piece
        return data


def unpack(bundle: Path, folder: Path) -> None:
    """Write the packages to `folder`, each as the manifest promises it, when they are for this machine."""
    promised: dict[str, Any] = {}
    with tarfile.open(fileobj=cast(IO[bytes], Joined(bundle)), mode="r|") as archive:
        for member in archive:
            if not member.isreg() or member.name.startswith("models/"):
                break
            stream = cast(IO[bytes], archive.extractfile(member))
            if member.name == "manifest.json":
                manifest = json.load(stream)
                check_platform(manifest["platforms"])
                promised = {file["path"]: file for file in manifest["files"] if file["path"].endswith(".whl")}
            elif member.name in promised:
                file = promised.pop(member.name)
                copy = folder / Path(member.name).name
                with copy.open("wb") as target:
                    shutil.copyfileobj(stream, target)
                if hashlib.sha256(copy.read_bytes()).hexdigest() != file["sha256"]:
                    refuse(DAMAGED, f"{member.name} is not what manifest.json promises: copy the bundle again.")
    if promised or not any(folder.iterdir()):
        refuse(DAMAGED, f"The bundle lacks {', '.join(sorted(promised)) or 'packages'}: copy it again.")


def check_platform(platforms: list[dict[str, Any]]) -> None:
    """Go on when the packages are for this machine and Python, with another Python where that is the right one."""
    machine = MACHINES.get(platform.machine().lower(), platform.machine().lower())
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    names = " or ".join(f"{each['sys_platform']} {each['machine']}, Python {each['python']}" for each in platforms)
    if not platforms:
        refuse(NOT_FOR_HERE, "This bundle holds models alone: install gguf-vl first, then `gguf-vl bundle install`.")
    here = [each for each in platforms if (each["sys_platform"], each["machine"]) == (sys.platform, machine)]
    if not here:
        refuse(NOT_FOR_HERE, f"This bundle is for {names}; this machine is {sys.platform} {machine}.")
    fitting = [each for each in here if each["python"] == python]
    if not fitting:
        for each in here:
            other = shutil.which(f"python{each['python']}")
            if other and os.name == "posix":
                os.execv(other, [other, *sys.argv])
        refuse(NOT_FOR_HERE, f"This bundle is for {names}; this is Python {python}: run install.py with the right one.")
    libc, version = platform.libc_ver()
    needed = (fitting[0]["libc"] or "").split()
    if needed and (libc or "musl") != needed[0]:
        refuse(NOT_FOR_HERE, f"This bundle is for systems with {' '.join(needed)}; this one has {libc or 'another'}.")
    if len(needed) > 1 and numbers(version) < numbers(needed[1]):
        refuse(NOT_FOR_HERE, f"This bundle needs {' '.join(needed)} or newer; this system has {libc} {version}.")
    missing = NEEDED_FLAGS.get(fitting[0]["baseline"], set()) - processor_flags()
    if missing and processor_flags():
        refuse(NOT_FOR_HERE, f"This bundle needs a processor with {', '.join(sorted(missing))}, which this one lacks.")


def numbers(version: str) -> list[int]:
    """A version to compare."""
    return [int(number) for number in re.findall(r"\d+", version)]


def processor_flags() -> set[str]:
    """What the processor says it can; nothing where that cannot be read."""
    try:
        found = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        return set()
    return set(found[1].split()) if found else set()


def install(packages: Path, folder: Path) -> Path:
    """Install the packages into the virtual environment `folder`, made where there is none. Returns its Python."""
    is_new = not (folder / "pyvenv.cfg").is_file()
    if is_new and folder.exists() and any(folder.iterdir()):
        refuse(USAGE, f"{folder} is there and is no virtual environment: give another folder with --venv.")
    if is_new:
        print(f"Making the virtual environment {folder} …", flush=True)
        venv.EnvBuilder(symlinks=os.name == "posix").create(folder)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = next(packages.glob("pip-*.whl")) / "pip"  # a Python without ensurepip has none of its own
    words = ["install", "--quiet", "--upgrade", "--no-index", "--no-cache-dir", "--find-links", str(packages)]
    print("Installing the packages …", flush=True)
    done = subprocess.run([str(python), "-I", str(pip), "--isolated", *words, "gguf-vl", "pip"])
    if done.returncode:
        if is_new:
            shutil.rmtree(folder)
        refuse(FAILED, "pip could not install the packages; its reason is above.")
    return python


def main() -> int:
    """Do all of it. Returns the exit code."""
    home = os.environ.get("GGUF_VL_HOME")
    where = Path(home, "venv") if home else Path("~/gguf-vl")
    parser = argparse.ArgumentParser(prog="install.py", description="Install gguf-vl and its models from a bundle.")
    parser.add_argument("bundle", type=Path, help="the tar, or the first of its parts")
    parser.add_argument("--venv", type=Path, default=where, help=f"the virtual environment; {where} by default")
    parser.add_argument("--trust", type=Path, help="a public key or allowed_signers file: who must have signed it")
    wishes = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        try:
            unpack(wishes.bundle, Path(work))
        except (OSError, ValueError, KeyError, tarfile.TarError) as error:
            refuse(DAMAGED, f"{wishes.bundle} cannot be read as a bundle: {error}.")
        python = install(Path(work), wishes.venv.expanduser().absolute())
    trust = ["--trust", str(wishes.trust)] if wishes.trust else []
    done = subprocess.run([str(python), "-I", "-m", "gguf_vl", "bundle", "install", str(wishes.bundle), *trust])
    if done.returncode == 0:
        print(f"Installed. Start it with {python.with_name('gguf-vl')} (add `doctor` to see that all is well).")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
