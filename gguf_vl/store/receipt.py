"""What a folder of `models/` was filled with: names, sizes, hashes, where from, and when each was last verified.

A folder without a receipt is a person's own; it works as well, only that nobody promised anything about its files.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

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
    lower-case hex. `verified` is when hash and file were last found equal, ISO 8601 in UTC; empty when they were last
    found to differ.
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

    @property
    def is_damaged(self) -> bool:
        """Whether a file was last found to differ from what was promised."""
        return not all(record.verified for record in self.files)

    def verified_now(self, wrong: Collection[FileRecord] = ()) -> Receipt:
        """The same receipt, every file looked at in this moment and found right but for those."""
        at = now()
        looked_at = [replace(record, verified="" if record in wrong else at) for record in self.files]
        return replace(self, model=looked_at[0], mmproj=looked_at[1] if self.mmproj else None)

    def is_for_files_of(self, other: Receipt | None) -> bool:
        """Whether both are for the same files, whenever those were verified."""
        return other is not None and [(r.path, r.sha256) for r in self.files] == [
            (r.path, r.sha256) for r in other.files
        ]


def now() -> str:
    """This moment as receipts write it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_receipt(folder: Path) -> Receipt | None:
    """The folder's receipt; None where there is none. `InvalidModelFile` when it cannot be read or understood."""
    file = folder / NAME
    try:
        plain = json.loads(file.read_text(encoding="utf-8"))
        return _from_plain(plain)
    except FileNotFoundError:
        return None
    except OSError as error:
        fix = "See that it is a file that you may read, and that the disk is in order."
        raise InvalidModelFile(f"{file} cannot be read: {error.strerror}.", fix) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        fix = f"Remove it, then take in what lies beside it: gguf-vl import {shlex.quote(str(folder))}"
        raise InvalidModelFile(f"{file} cannot be understood: {error}.", fix) from error


def write_receipt(folder: Path, receipt: Receipt) -> None:
    """Writes the folder's receipt whole or not at all; the folder must exist."""
    unfinished = folder / f".{NAME}.{os.getpid()}"
    try:
        with unfinished.open("w", encoding="utf-8") as stream:
            json.dump({"schema": SCHEMA, **asdict(receipt)}, stream, ensure_ascii=False, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(folder / NAME)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _from_plain(plain: dict[str, Any]) -> Receipt:
    if plain["schema"] != SCHEMA:
        raise ValueError(f"it is of form {plain['schema']}, and {SCHEMA} is known here")
    if not (isinstance(plain["name"], str) and plain["name"] and isinstance(plain["source"], str)):
        raise TypeError("its name or source is no text")
    mmproj = _record(plain["mmproj"]) if plain["mmproj"] is not None else None
    return Receipt(plain["name"], plain["source"], _record(plain["model"]), mmproj)


def _record(plain: dict[str, Any]) -> FileRecord:
    record = FileRecord(**plain)
    for field in fields(record):
        value = getattr(record, field.name)
        if type(value) is not (int if field.name == "size" else str):
            raise TypeError(f"a file's {field.name} is of the wrong type")
    if not re.fullmatch("[0-9a-f]{64}", record.sha256) or record.promised_by not in get_args(Promise):
        raise ValueError("a file's hash, or who promised it, makes no sense")
    if not Path(record.path).is_absolute() and Path(record.path).name != record.path:
        raise ValueError("a file's path leads elsewhere")
    return record
