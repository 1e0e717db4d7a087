"""Who packed a bundle: OpenSSH's signature over its manifest, made and checked by `ssh-keygen -Y`."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from gguf_vl.errors import GgufVlError, MissingOrInvalid, VerificationFailed

NAMESPACE = "gguf-vl-bundle"
"""What the signature is for: one made for a mail or a commit is none for a bundle."""
MAX_BYTES = 64 << 10

_KEY_TYPES = r"(ssh|ecdsa|sk-ssh|sk-ecdsa)-[\w@.-]+ AAAA"
_BARE_KEY = "the-key"
"""The principal that a public key without one gets."""


def sign(key: Path, data: bytes) -> bytes:
    """The signature over `data` with a private key, or with the agent's key to this public one.

    ssh-keygen asks for a passphrase or a touch itself. Raises `MissingOrInvalid` without a key or without ssh-keygen,
    `GgufVlError` when it refuses.
    """
    if not key.is_file():
        raise MissingOrInvalid(f"There is no key {key}.", "Give a private key of OpenSSH; ssh-keygen makes one.")
    done = _ssh_keygen("sign", "-f", key, "-n", NAMESPACE, data=data)
    if done.returncode or not done.stdout:
        raise GgufVlError(f"{key} cannot sign: {_said(done)}.", "Give an OpenSSH key that ssh-keygen can use here.")
    return done.stdout


def is_by(key: Path, data: bytes, signature: bytes) -> bool:
    """Whether that is a signature over `data` with this key, private or public. No passphrase is asked for."""
    with TemporaryDirectory() as folder:
        file = Path(folder, "signature")
        file.write_bytes(signature)
        found = _ssh_keygen("check-novalidate", "-n", NAMESPACE, "-s", file, data=data)
    if found.returncode:
        return False
    done = subprocess.run(["ssh-keygen", "-l", "-f", key], stdin=subprocess.DEVNULL, capture_output=True)
    mine = re.search(r"SHA256:[\w+/]+", done.stdout.decode("utf-8", "replace"))
    theirs = re.search(r" key (SHA256:[\w+/]+)", found.stdout.decode("utf-8", "replace"))
    return bool(mine and theirs and mine[0] == theirs[1])


def check(trust: Path, data: bytes, signature: bytes) -> str:
    """Who signed `data`, when it is someone that the file `trust` names: a public key or an allowed_signers file.

    Raises `VerificationFailed` when it is not, `MissingOrInvalid` for a file that names nobody.
    """
    with _allowed_signers(trust) as allowed, TemporaryDirectory() as folder:
        file = Path(folder, "signature")
        file.write_bytes(signature)
        for principal in _principals(allowed, file):
            done = _ssh_keygen("verify", "-f", allowed, "-I", principal, "-n", NAMESPACE, "-s", file, data=data)
            if done.returncode == 0:
                key = _said(done).rpartition(" with ")[2]
                return key if principal == _BARE_KEY else f"{principal}, {key}"
    raise VerificationFailed(
        f"The signature is not by anybody that {trust} names, or the manifest was changed after it was signed.",
        "Don't install it. Ask who packed it for their key and for another copy.",
    )


def _principals(allowed: Path, signature: Path) -> list[str]:
    done = _ssh_keygen("find-principals", "-f", allowed, "-s", signature)
    return done.stdout.decode("utf-8", "replace").splitlines() if done.returncode == 0 else []


@contextmanager
def _allowed_signers(trust: Path) -> Iterator[Path]:
    """An allowed_signers file with what `trust` says; public keys get a principal."""
    try:
        lines = trust.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise MissingOrInvalid(f"{trust} cannot be read: {why}.", "Give the packer's public key, KEY.pub.") from error
    lines = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not lines or not all(re.search(_KEY_TYPES, line) for line in lines):
        raise MissingOrInvalid(
            f"{trust} is neither an OpenSSH public key nor an allowed_signers file.",
            "Give the packer's public key, KEY.pub, or a file as `man ssh-keygen` describes it.",
        )
    with TemporaryDirectory() as folder:
        file = Path(folder, "allowed_signers")
        bare = (f"{_BARE_KEY} {line}" if re.match(_KEY_TYPES, line) else line for line in lines)
        file.write_text("".join(f"{line}\n" for line in bare), encoding="utf-8")
        yield file


def _ssh_keygen(verb: str, *words: str | Path, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["ssh-keygen", "-Y", verb, *words], input=data, capture_output=True)
    except FileNotFoundError as error:
        raise MissingOrInvalid(
            "Signatures need ssh-keygen, which is not here.", "On Debian or Ubuntu: sudo apt-get install openssh-client"
        ) from error


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = (done.stdout + done.stderr).decode("utf-8", "replace").strip().splitlines()
    return "".join(char for char in lines[-1] if char.isprintable()).rstrip(".") if lines else "it says nothing"
