"""Installs gguf-vl and the models of a bundle where only Python is. It lies in the bundle as install.py.

    python3 -I install.py BUNDLE [--venv DIR] [--trust KEY]

Imports the standard library alone, and asks no network. It holds every byte of the bundle against manifest.json, and
that against the packer's signature where --trust asks for one, before anything of the bundle is run or installed; then
it makes a virtual environment, and has gguf-vl install the models. Nothing checks this file but the person who runs it:
README.txt says how.
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
import tempfile
import venv
from contextlib import closing, nullcontext
from itertools import takewhile
from pathlib import Path
from typing import IO, Any, NoReturn

MACHINES = {"amd64": "x86_64", "x64": "x86_64", "aarch64": "arm64"}
NEEDED_FLAGS = {"x86-64-v3": {"avx", "avx2", "bmi2", "f16c", "fma"}}
"""What a processor of a baseline says of itself in /proc/cpuinfo."""
USAGE, NOT_FOR_HERE, DAMAGED, FAILED = 2, 3, 5, 1
"""gguf-vl's own exit codes."""
BLOCK, CHUNK = 512, 1 << 20
NAMESPACE = "gguf-vl-bundle"
KEY_TYPES = r"(ssh|ecdsa|sk-ssh|sk-ecdsa)-[\w@.-]+ AAAA"
Member = tuple[str, int, str]
"""A file's name in the tar, its size in bytes, and its sha256."""


def refuse(code: int, line: str) -> NoReturn:
    """End here, with one line that says why."""
    print(f"install.py: {shown(line)}", file=sys.stderr)
    sys.exit(code)


def shown(text: str) -> str:
    """Text that a bundle may have made, as a terminal may see it."""
    return "".join(char if char.isprintable() else "?" for char in text)


# --- the bundle -------------------------------------------------------------------------------------------------------


class Bundle:
    """Reads a bundle from its beginning to its end: one file, or its parts one after the other."""

    def __init__(self, path: Path) -> None:
        base = path.with_suffix("") if path.suffix == ".001" else path
        parts = (base.with_name(f"{base.name}.{number:03}") for number in range(1, 1000))
        self.path = path
        self._left = [path] if path.is_file() and path.suffix != ".001" else list(takewhile(Path.is_file, parts))
        self._stream: IO[bytes] | None = None
        self._ahead = b""
        if not self._left:
            refuse(NOT_FOR_HERE, f"There is no file {path}.")

    def read(self, n: int) -> bytes:
        """Up to `n` bytes; fewer at the end."""
        data, self._ahead = self._ahead[:n], self._ahead[n:]
        while len(data) < n and (self._stream or self._left):
            self._stream = self._stream or self._left.pop(0).open("rb")
            piece = self._stream.read(n - len(data))
            if not piece:
                self.close()
            data += piece
        return data

    def close(self) -> None:
        """Read no more."""
        if self._stream:
            self._stream.close()
            self._stream = None

    def small(self, name: str, limit: int, *, optional: bool = False) -> bytes | None:
        """A file that no manifest vouches for yet. None where something else stands there, if it is optional."""
        block = self.read(BLOCK)
        digits = block[124:135]
        size = int(digits, 8) if re.fullmatch(rb"[0-7]{11}", digits) else -1
        if not 0 <= size <= limit or block != header(name, size):
            if not optional:
                refuse(DAMAGED, f"{self.path} is not a bundle, or is damaged in its beginning, where {name} should be.")
            self._ahead = block
            return None
        data = self.read(size)
        self.expect(bytes(-size % BLOCK), name)
        return data

    def expect(self, data: bytes, where: str) -> None:
        """Read these very bytes."""
        if self.read(len(data)) != data:
            refuse(DAMAGED, f"{self.path} is damaged, or ends too early, at {where}: copy it again.")

    def check(self, member: Member, copy: Path | None) -> None:
        """Read a file that must be as the manifest has it, and write it to `copy`."""
        path, size, sha256 = member
        self.expect(header(path, size), path)
        digest, left = hashlib.sha256(), size
        with copy.open("xb") if copy else nullcontext() as target:
            while left and (piece := self.read(min(CHUNK, left))):
                digest.update(piece)
                left -= len(piece)
                if target:
                    target.write(piece)
        if left or digest.hexdigest() != sha256:
            refuse(
                DAMAGED, f"{self.path} is damaged in {path}, which is not what manifest.json promises: copy it again."
            )
        self.expect(bytes(-size % BLOCK), path)


def header(path: str, size: int) -> bytes:
    """The blocks before a file's bytes, as `bundle create` writes them: nothing else passes."""
    name = path.encode("utf-8")
    if len(name) <= 100:
        return tar_block(name, size, b"0", 0o755 if path == "install.sh" else 0o644)
    long = name + b"\0"
    before = tar_block(b"././@LongLink", len(long), b"L", 0) + long + bytes(-len(long) % BLOCK)
    return before + tar_block(name[:100], size, b"0", 0o644)


def tar_block(name: bytes, size: int, kind: bytes, mode: int) -> bytes:
    """One block of GNU tar: no owner, the first second of 1980."""
    octal = b"%011o\0" % size if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    block = name.ljust(100, b"\0") + b"%07o\0" % mode + b"0000000\0" * 2 + octal + b"%011o\0" % 315_532_800 + b" " * 8
    block = (block + kind).ljust(257, b"\0") + b"ustar  \0"
    block = block.ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def unpack(path: Path, folder: Path, trust: Path | None) -> None:
    """Check all of the bundle at `path`, and write its packages to `folder`, when they are for this machine."""
    with closing(Bundle(path)) as bundle:
        readme = bundle.small("README.txt", 1 << 20) or b""
        plain = bundle.small("manifest.json", 4 << 20) or b""
        signature = bundle.small("manifest.json.sig", 64 << 10, optional=True)
        if trust:
            print(f"The manifest is signed by {shown(signer(trust, plain, signature))}.", flush=True)
        manifest = unsealed(plain)
        check_platform(manifest["platforms"])
        found = members(manifest)
        if found[0] != ("README.txt", len(readme), hashlib.sha256(readme).hexdigest()):
            refuse(DAMAGED, f"{path} is damaged in README.txt: copy it again.")
        print(f"Checking all of {path}, {sum(size for _, size, _ in found) / 1e9:.2f} GB …", flush=True)
        for member in found[1:]:
            if member[1] >= 1e8:
                print(f"  {shown(member[0])}, {member[1] / 1e9:.2f} GB …", flush=True)
            wheel = re.fullmatch(r"packages/([\w.+!-]+\.whl)", member[0], re.ASCII)
            bundle.check(member, folder / wheel[1] if wheel else None)
        bundle.expect(bytes(2 * BLOCK), "its end")
        if bundle.read(1):
            refuse(DAMAGED, f"{path} goes on after its end: copy it again.")


def unsealed(plain: bytes) -> dict[str, Any]:
    """What the manifest says, when it ends with the sha256 of all that stands before."""
    body = plain[: -len(seal(b""))]
    if plain != body + seal(body):
        raise ValueError("its manifest is not what it was when the bundle was made")
    return dict(json.loads(plain))


def seal(body: bytes) -> bytes:
    """The end of a manifest."""
    return b',\n "sha256": "%s"\n}\n' % hashlib.sha256(body).hexdigest().encode()


def members(manifest: dict[str, Any]) -> list[Member]:
    """Every file of the tar but the manifest and its signature, in its order."""
    found = [(file["path"], file["size"], file["sha256"]) for file in manifest["files"]]
    for model in manifest["models"]:
        folder = f"models/{model['name'].replace(':', '-').replace('/', '-')}"
        files = (file for file in (model["model"], model["mmproj"]) if file)
        found += [(f"{folder}/{file['name']}", file["size"], file["sha256"]) for file in files]
    if not found or not all(
        isinstance(path, str) and type(size) is int and 0 <= size < 1 << 60 for path, size, _ in found
    ):
        raise ValueError("its manifest names no files with sizes")
    return found


# --- who signed it ----------------------------------------------------------------------------------------------------


def signer(trust: Path, plain: bytes, signature: bytes | None) -> str:
    """Who signed the manifest, of those that `trust` names: a public key or an allowed_signers file."""
    if signature is None:
        refuse(DAMAGED, f"The bundle is not signed, and a signature by {trust} is demanded.")
    try:
        lines = [line.strip() for line in trust.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        refuse(NOT_FOR_HERE, f"{trust} cannot be read: {error}.")
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines or not all(re.search(KEY_TYPES, line) for line in lines):
        refuse(NOT_FOR_HERE, f"{trust} is neither an OpenSSH public key nor an allowed_signers file.")
    with tempfile.TemporaryDirectory() as work:
        allowed, file = Path(work, "allowed_signers"), Path(work, "signature")
        allowed.write_text(
            "".join(f"the-key {line}\n" if re.match(KEY_TYPES, line) else f"{line}\n" for line in lines),
            encoding="utf-8",
        )
        file.write_bytes(signature)
        for who in ssh_keygen("find-principals", "-f", allowed, "-s", file).stdout.decode(errors="replace").split("\n"):
            words = ("-f", allowed, "-I", who, "-n", NAMESPACE, "-s", file)
            if who and ssh_keygen("verify", *words, data=plain).returncode == 0:
                return str(trust) if who == "the-key" else who
    refuse(
        DAMAGED, f"The signature is not by anybody that {trust} names, or the manifest was changed: don't install it."
    )


def ssh_keygen(verb: str, *words: str | Path, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """OpenSSH's own check."""
    try:
        return subprocess.run(["ssh-keygen", "-Y", verb, *words], input=data, capture_output=True)
    except FileNotFoundError:
        refuse(NOT_FOR_HERE, "--trust needs ssh-keygen, which is not here: it comes with OpenSSH.")


# --- the machine ------------------------------------------------------------------------------------------------------


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
            version = each["python"] if re.fullmatch(r"3\.\d{1,3}", each["python"], re.ASCII) else "of no version"
            other = shutil.which(f"python{version}")
            if other and os.name == "posix":
                os.execv(other, [other, "-I", *sys.argv])
        refuse(NOT_FOR_HERE, f"This bundle is for {names}; this is Python {python}: run install.py with the right one.")
    reasons = [lacking(each) for each in fitting]
    if all(reasons):
        refuse(NOT_FOR_HERE, f"This bundle needs {reasons[0]}.")


def lacking(wanted: dict[str, Any]) -> str:
    """What packages need that this system does not have, in words that follow "needs"; empty when nothing."""
    libc, version = platform.libc_ver()
    needed = (wanted["libc"] or "").split()
    if needed and (libc or "musl") != needed[0]:
        return f"{' '.join(needed)}; this system has {libc or 'another C library'}"
    if len(needed) > 1 and numbers(version) < numbers(needed[1]):
        return f"{' '.join(needed)} or newer; this system has {libc} {version}"
    flags = processor_flags()
    missing = NEEDED_FLAGS.get(wanted["baseline"], set()) - flags
    return f"a processor with {', '.join(sorted(missing))}, which this one lacks" if missing and flags else ""


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


# --- installing -------------------------------------------------------------------------------------------------------


def check_place(folder: Path) -> None:
    """Go on when a virtual environment is there, or can be."""
    is_free = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    if not is_free and not (folder / "pyvenv.cfg").is_file():
        refuse(USAGE, f"{folder} is there and is no virtual environment: give another folder with --venv.")


def install(packages: Path, folder: Path) -> Path:
    """Install the packages into the virtual environment `folder`, made where there is none. Returns its Python."""
    pip = next(packages.glob("pip-*.whl"), None)  # a Python without ensurepip has none of its own
    if not pip:
        refuse(DAMAGED, "The bundle lacks packages, pip at least: have it made again.")
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    words = ["install", "--quiet", "--upgrade", "--no-index", "--no-cache-dir", "--find-links", str(packages)]
    is_new = not (folder / "pyvenv.cfg").is_file()
    try:
        if not python.exists():  # pyvenv.cfg may be there: it comes first, and the making may have been killed
            print(f"Making the virtual environment {folder} …", flush=True)
            venv.EnvBuilder(symlinks=os.name == "posix").create(folder)
        print("Installing the packages …", flush=True)
        done = subprocess.run([str(python), "-I", str(pip / "pip"), "--isolated", *words, "gguf-vl", "pip"])
        if done.returncode:
            refuse(FAILED, "pip could not install the packages; its reason is above.")
    except BaseException:
        if is_new:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return python


def unpack_or_refuse(bundle: Path, packages: Path, trust: Path | None) -> None:
    """Have what is wrong with a bundle told as its own."""
    try:
        unpack(bundle, packages, trust)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        refuse(DAMAGED, f"{bundle} cannot be read as a bundle: {error}.")
    except OSError as error:
        refuse(FAILED, f"{bundle} cannot be checked: {error}.")


def main() -> int:
    """Do all of it. Returns the exit code."""
    home = os.environ.get("GGUF_VL_HOME")
    where = Path(home, "venv") if home else Path("~/gguf-vl")
    parser = argparse.ArgumentParser(prog="install.py", description="Install gguf-vl and its models from a bundle.")
    parser.add_argument("bundle", type=Path, help="the tar, or the first of its parts")
    parser.add_argument("--venv", type=Path, default=where, help=f"the virtual environment; {where} by default")
    parser.add_argument("--trust", type=Path, help="a public key or allowed_signers file: who must have signed it")
    wishes = parser.parse_args()
    folder = wishes.venv.expanduser().absolute()
    try:
        check_place(folder)
        with tempfile.TemporaryDirectory() as work:
            unpack_or_refuse(wishes.bundle, Path(work), wishes.trust)
            python = install(Path(work), folder)
    except (OSError, ValueError) as error:
        refuse(FAILED, f"The packages cannot be put into {folder}: {error}. Free some space, or give another --venv.")
    trust = ["--trust", str(wishes.trust)] if wishes.trust else []
    done = subprocess.run([str(python), "-I", "-m", "gguf_vl", "bundle", "install", str(wishes.bundle), *trust])
    if done.returncode == 0:
        print(f"Installed. Start it with {python.with_name('gguf-vl')} (add `doctor` to see that all is well).")
    return done.returncode


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("install.py: Interrupted; run it again.", file=sys.stderr)
        sys.exit(130)
