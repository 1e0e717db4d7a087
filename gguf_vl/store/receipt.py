"""What a folder of `models/` was filled with: names, sizes, hashes, where from, and when each was last verified.

A folder without a receipt is a person's own; it works as well, only that nobody promised anything about its files.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from gguf_vl.errors import InvalidModelFile

NAME = "receipt.json"
SCHEMA = 1

Promise = Literal["catalogue", "hub", "bundle", "none"]
"""Who said what a file's hash is: the catalogue, the hub it came from, the bundle's manifest, or nobody, so that the
hash is what was found when it was taken in."""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file of a model.

    `path` is its name in the folder, or an absolute path where it stays with another program. `size` is bytes, `sha256`
    lower-case hex. `verified` is when hash and file were last found equal, ISO 8601 in UTC.
    """

    path: str
    size: int
    sha256: str
    promised_by: Promise
    verified: str

    def at(self, folder: Path) -> Path:
        """Where the file is, for a receipt in `folder`."""
        return folder / self.path


@dataclass(frozen=True, slots=True)
class Receipt:
    """An installed model: what it is called, its files, and where they came from, in words for a person."""

    name: str
    source: str
    model: FileRecord
    mmproj: FileRecord | None = None

    @property
    def files(self) -> tuple[FileRecord, ...]:
        """The text model, then the projector."""
        return (self.model, self.mmproj) if self.mmproj else (self.model,)

    def verified_now(self) -> Receipt:
        """The same receipt, every file verified at this moment."""
        at = now()
        mmproj = replace(self.mmproj, verified=at) if self.mmproj else None
        return replace(self, model=replace(self.model, verified=at), mmproj=mmproj)


def now() -> str:
    """This moment as receipts write it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_receipt(folder: Path) -> Receipt | None:
    """The folder's receipt; None where there is none. `InvalidModelFile` when it cannot be understood."""
    file = folder / NAME
    try:
        plain = json.loads(file.read_text(encoding="utf-8"))
        return _from_plain(plain)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidModelFile(
            f"{file} cannot be understood: {error}.", "Remove it, then import the folder."
        ) from error


def write_receipt(folder: Path, receipt: Receipt) -> None:
    """Writes the folder's receipt whole or not at all; the folder must exist."""
    unfinished = folder / f".{NAME}.{os.getpid()}"
    with unfinished.open("w", encoding="utf-8") as stream:
        json.dump({"schema": SCHEMA, **asdict(receipt)}, stream, ensure_ascii=False, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.replace(folder / NAME)


def _from_plain(plain: dict[str, Any]) -> Receipt:
    if plain["schema"] != SCHEMA:
        raise ValueError(f"it is of form {plain['schema']}, and {SCHEMA} is known here")
    mmproj = FileRecord(**plain["mmproj"]) if plain["mmproj"] else None
    receipt = Receipt(plain["name"], plain["source"], FileRecord(**plain["model"]), mmproj)
    for record in receipt.files:
        if not (isinstance(record.path, str) and isinstance(record.size, int) and isinstance(record.sha256, str)):
            raise TypeError("a file's path, size or hash is of the wrong type")
    return receipt
