"""Certificates for tests, made by openssl."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

OPENSSL = shutil.which("openssl")
needs_openssl = pytest.mark.skipif(not OPENSSL, reason="openssl is not here")


@dataclass(frozen=True)
class Certificate:
    """A certificate that signs itself, and its key."""

    cert: Path
    key: Path


def certificate(folder: Path, *names: str, password: str = "") -> Certificate:
    """One for these names, such as DNS:localhost."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    hidden = ["-passout", f"pass:{password}"] if password else ["-noenc"]
    subprocess.run(
        [
            str(OPENSSL),
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            *hidden,
            "-days",
            "2",
            "-subj",
            "/CN=gguf-vl test",
            "-addext",
            f"subjectAltName={','.join(names)}",
            "-keyout",
            str(key),
            "-out",
            str(cert),
        ],
        check=True,
        capture_output=True,
    )
    return Certificate(cert, key)
