"""SHA-256 of large files, with progress and a way out."""

from __future__ import annotations

import hashlib
from pathlib import Path

from gguf_vl.store.progress import Progress, Silent

CHUNK = 1 << 20


def sha256_of(path: Path, progress: Progress | None = None, label: str | None = None) -> str:
    """The file's hash, lower-case hex. `progress` hears of it under `label`, the file's name where there is none."""
    progress, label = progress or Silent(), label or path.name
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as stream:
        progress.start(label, path.stat().st_size)
        try:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
                done += len(chunk)
                progress.at(label, done)
        finally:
            progress.end(label)
    return digest.hexdigest()
