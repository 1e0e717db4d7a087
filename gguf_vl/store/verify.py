"""Hashes the files of an installed model again and holds them against what was promised."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from gguf_vl import catalogue
from gguf_vl.errors import GgufVlError, InvalidModelFile
from gguf_vl.store.disk import telling
from gguf_vl.store.hashing import sha256_of
from gguf_vl.store.known import published_files
from gguf_vl.store.place import locked
from gguf_vl.store.progress import Progress
from gguf_vl.store.receipt import Promise, Receipt, read_receipt, write_receipt


@dataclass(frozen=True, slots=True)
class Checked:
    """One file's outcome. `trouble` is None when it is as promised; `promised_by` none: nobody said what it must be.

    `fix` is what a person can do about the trouble.
    """

    path: Path
    size: int
    sha256: str | None
    promised_by: Promise
    trouble: str | None = None
    fix: str = ""


def verify(folder: Path, progress: Progress) -> list[Checked]:
    """Hash the files of a model's folder, broken or not. What was found is written into its receipt, if that can be.

    Raises `InvalidModelFile` for a receipt that makes no sense and for a folder without a model's file.
    """
    while True:
        receipt = read_receipt(folder)
        checked = [_check(path, promised, receipt, progress) for path, promised in _promises(folder, receipt)]
        if receipt is None or receipt.is_for_files_of(read_receipt(folder)):
            break
        progress.note(f"{receipt.name} was replaced meanwhile: verifying it again.")
    if not checked:
        raise InvalidModelFile(f"{folder} holds no GGUF file.", f"If it is for nothing: gguf-vl rm {folder.name}")
    if receipt:
        _record(folder, receipt, checked, progress)
    return checked


def _record(folder: Path, receipt: Receipt, checked: list[Checked], progress: Progress) -> None:
    """Say in the receipt when, unless the model has been replaced or nothing can be written there."""
    wrong = [record for record, each in zip(receipt.files, checked, strict=True) if each.trouble]
    try:
        with locked(folder.name, progress, wait=False), telling(folder, "written"):
            if receipt.is_for_files_of(read_receipt(folder)):
                write_receipt(folder, receipt.verified_now(wrong))
    except GgufVlError as error:
        progress.note(f"When {receipt.name} was verified is not noted: {error.what}")


_Promised = tuple[int | None, str | None, Promise]


def _promises(folder: Path, receipt: Receipt | None) -> list[tuple[Path, _Promised]]:
    """Each file with the size and hash it should have: the receipt's, else the catalogue's for a file of that name."""
    if receipt:
        return [(r.at(folder), (r.size, r.sha256, r.promised_by)) for r in receipt.files]
    known: dict[str, _Promised] = {
        file.name: (file.size, file.sha256, "catalogue" if file.sha256 else "none") for file in published_files()
    }
    return [(path, known.get(path.name, (None, None, "none"))) for path in sorted(folder.glob("*.gguf"))]


def _check(path: Path, promised: _Promised, receipt: Receipt | None, progress: Progress) -> Checked:
    size, sha256, promised_by = promised
    found, computed, trouble = 0, None, None
    try:
        found = os.path.getsize(path)
        if size is not None and found != size:
            trouble = f"{found} bytes where {size} were promised"
        else:
            computed = sha256_of(path, progress, f"{path.parent.name}/{path.name}")
            if sha256 is not None and computed != sha256:
                trouble = f"sha256 {computed}, promised {sha256}"
    except OSError as error:
        trouble = f"it cannot be read: {error.strerror}"
    return Checked(path, found, computed, promised_by, trouble, _mend(receipt) if trouble else "")


def _pull(receipt: Receipt, repository: str, hub: str, revision: str) -> str:
    """The command that pulls these very files under this very name: it keeps those that are right."""
    known = catalogue.load_catalogue().get(receipt.name.partition(":")[0])
    mmproj = receipt.mmproj.path if receipt.mmproj else None
    if known:
        words = [receipt.name]
        mmproj = next((each.quant for each in known.projectors if each.file.name == mmproj), None)
    else:
        # Of a commit the receipt has the beginning, which a hub need not take; a named revision it has whole.
        at = "" if hub != "ModelScope" or revision == "master" else f"@{revision}"
        words = [f"hf:{repository}{at}:{receipt.model.path}", "--name", receipt.name]
    words += ["--mmproj", mmproj] if mmproj else []
    words += ["--source", "modelscope"] if hub == "ModelScope" else []
    return shlex.join(["gguf-vl", "pull", *words])


def _mend(receipt: Receipt | None) -> str:
    """How to get the file again, by where the receipt says that it came from."""
    if receipt is None:
        return "Fetch it again where it came from."
    rm = f"gguf-vl rm {receipt.name}"
    if bundle := re.search(r" \(bundle (.+)\)$", receipt.source):
        return f"Install the bundle again: {rm}, then gguf-vl bundle install {shlex.quote(bundle[1])}"
    if pulled := re.match(r"(\S+/\S+) on (.+) \(revision (.+)\)$", receipt.source):
        return f"Fetch what is damaged again: {_pull(receipt, *pulled.groups())}"
    return f"Fetch it again where it came from ({receipt.source}), then {rm}, and import it anew."
