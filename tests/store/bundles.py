"""Small installed models to pack, other machines to carry them to, and wheels with nothing in them."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gguf_vl import paths
from gguf_vl.store.bundle.manifest import sealed
from gguf_vl.store.bundle.wheels import this_platform
from gguf_vl.store.hashing import sha256_of
from gguf_vl.store.progress import Silent
from gguf_vl.store.receipt import FileRecord, Receipt, now, write_receipt

TEXT = paths.pocket_dir() / "pocket-F16.gguf"
_PRINTS = "import os, sys; print('ran', sys.argv[1:], os.path.dirname(sys.prefix))"
PROJECTOR = paths.pocket_dir() / "mmproj-pocket-F16.gguf"
HERE = this_platform()


def install_model(name: str, *files: Path) -> Path:
    """A model in `models/`, with a receipt: `pocket` under another name, and by default its text model alone."""
    folder = paths.models_dir() / name.replace(":", "-")
    folder.mkdir(parents=True)
    records = []
    for file in files or (TEXT,):
        shutil.copy(file, folder)
        records.append(FileRecord(file.name, file.stat().st_size, sha256_of(file), "hub", now()))
    write_receipt(folder, Receipt(name, "hf:somebody/something", records[0], records[1] if len(records) > 1 else None))
    return folder


def resealed(plain: dict[str, Any], indent: int | None = None) -> bytes:
    """A manifest that was read and changed, as somebody would write it who knows how."""
    unsealed = {key: value for key, value in plain.items() if key != "sha256"}
    return sealed(json.dumps(unsealed, ensure_ascii=indent is None, indent=indent).encode())


def another_machine(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """From here on everything is read and written there. Returns its `models/`."""
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("GGUF_VL_HOME", str(folder))
    return paths.models_dir()


def contents(folder: Path) -> dict[str, str]:
    """Every file under a folder with its hash."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def disk_use(folder: Path) -> int:
    """Bytes of every file under a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


class Watching(Silent):
    """Calls `look` at every step of the work, and keeps what was noted."""

    def __init__(self, look: Callable[[int], object] = lambda done: None) -> None:
        self._look = look
        self.notes: list[str] = []

    def at(self, label: str, done: int) -> None:
        if label.partition(".001")[0].endswith(".tar"):
            self._look(done)

    def note(self, line: str) -> None:
        self.notes.append(line)


class Interrupting(Watching):
    """Interrupts the work on a bundle at a byte, as Ctrl-C does."""

    def __init__(self, place: int) -> None:
        def look(done: int) -> None:
            if done >= place:
                raise KeyboardInterrupt

        super().__init__(look)


def make_wheel(folder: Path, name: str, modules: dict[str, str] | None = None, requires: str = "") -> Path:
    """A wheel of this file name that pip installs, with these modules in it."""
    distribution, version = name.split("-")[:2]
    info = f"{distribution}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
    metadata += f"Requires-Dist: {requires}\n" if requires else ""
    tags = "".join(f"Tag: {tag}\n" for tag in ["-".join(name.removesuffix(".whl").split("-")[2:])])
    files = {f"{distribution}/__init__.py": "", **(modules or {})}
    files |= {f"{info}/METADATA": metadata, f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\n{tags}"}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(zipfile.ZipInfo(file), text)
        archive.writestr(zipfile.ZipInfo(f"{info}/RECORD"), "".join(f"{file},,\n" for file in files))
    return path


def stubs(folder: Path) -> tuple[Path, Path]:
    """Wheels that stand for gguf-vl and llama-cpp-python."""
    code = {"gguf_vl/__main__.py": _PRINTS}
    own = make_wheel(folder, "gguf_vl-9.9-py3-none-any.whl", code, requires="llama-cpp-python==0.0.1")
    machine = "amd64" if HERE.sys_platform == "win32" else os.uname().machine
    tag = {"linux": f"linux_{machine}", "win32": "win_amd64"}.get(HERE.sys_platform, f"macosx_11_0_{machine}")
    return own, make_wheel(folder, f"llama_cpp_python-0.0.1-py3-none-{tag}.whl")


def bundled_pip() -> Path | None:
    """pip's wheel as this Python brings it; Debian's does not."""
    found = importlib.util.find_spec("ensurepip")
    folder = Path(found.origin).parent if found and found.origin else Path()
    return next(folder.glob("_bundled/pip-*.whl"), None)


needs_pip = pytest.mark.skipif(bundled_pip() is None, reason="this Python brings no wheel of pip")


needs_ssh_keygen = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="ssh-keygen is not here (openssh-client)")


def key(folder: Path, name: str, kind: str = "ed25519") -> Path:
    """A new private key of OpenSSH."""
    made = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", f"{name}@site", "-f", made], check=True)
    return made


def public(private: Path) -> Path:
    """The public key of a private one."""
    return private.with_name(f"{private.name}.pub")
