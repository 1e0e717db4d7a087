"""Hashes the files of an installed model again and holds them against what was promised."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from gguf_vl import catalogue
from gguf_vl.store.hashing import sha256_of
from gguf_vl.store.progress import Progress
from gguf_vl.store.receipt import Promise, Receipt, read_receipt, write_receipt


@dataclass(frozen=True, slots=True)
class Checked:
    """One file's outcome. `trouble` is None when it is as promised; `promised_by` none: nobody said what it must be."""

    path: Path
    size: int
    sha256: str | None
    promised_by: Promise
    trouble: str | None


def verify(folder: Path, progress: Progress) -> list[Checked]:
    """Hash the files of a model's folder, broken or not. When all are right its receipt says so with this moment."""
    receipt = read_receipt(folder)
    checked = [_check(path, promised, progress) for path, promised in _promises(folder, receipt)]
    if receipt and not any(each.trouble for each in checked):
        write_receipt(folder, receipt.verified_now())
    return checked


_Promised = tuple[int | None, str | None, Promise]


def _promises(folder: Path, receipt: Receipt | None) -> list[tuple[Path, _Promised]]:
    """Each file with the size and hash it should have: the receipt's, else the catalogue's for a file of that name."""
    if receipt:
        return [(r.at(folder), (r.size, r.sha256, r.promised_by)) for r in receipt.files]
    known: dict[str, _Promised] = {
        file.name: (file.size, file.sha256, "catalogue" if file.sha256 else "none")
        for model in catalogue.load_catalogue().values()
        for file in (*(v.file for v in model.variants), *(p.file for p in model.projectors))
    }
    return [(path, known.get(path.name, (None, None, "none"))) for path in sorted(folder.glob("*.gguf"))]


def _check(path: Path, promised: _Promised, progress: Progress) -> Checked:
    size, sha256, promised_by = promised
    try:
        found = os.path.getsize(path)
        if size is not None and found != size:
            return Checked(path, found, None, promised_by, f"{found} bytes where {size} were promised")
        progress.start(path.name, found)
        computed = sha256_of(path, lambda done: progress.at(path.name, done))
        progress.end(path.name)
    except OSError as error:
        return Checked(path, 0, None, promised_by, f"it cannot be read: {error.strerror}")
    wrong = sha256 is not None and computed != sha256
    return Checked(path, found, computed, promised_by, f"sha256 {computed}, promised {sha256}" if wrong else None)
