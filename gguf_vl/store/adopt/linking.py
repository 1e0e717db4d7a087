"""From a pair that lies elsewhere to a model of ours: hashed, compared with what was promised, and hard-linked."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gguf_vl import paths
from gguf_vl.catalogue import File
from gguf_vl.errors import InvalidModelFile, VerificationFailed
from gguf_vl.gguf.wire import shown
from gguf_vl.store import library, place
from gguf_vl.store.disk import telling
from gguf_vl.store.hashing import sha256_of
from gguf_vl.store.known import published_files
from gguf_vl.store.library import LocalModel
from gguf_vl.store.place import check_name, folder_name
from gguf_vl.store.progress import Progress, Silent
from gguf_vl.store.receipt import FileRecord, Promise, Receipt, now, write_receipt

from .candidates import SUFFIX, Candidate, unreadable
from .naming import name_for
from .pairing import Pair

_CHANGED: Final = "Wait until the other program is done with it, then import it again."


@dataclass(frozen=True, slots=True)
class Adopted:
    """A model of ours, and whether it is new or was here already."""

    local: LocalModel
    new: bool


@dataclass(frozen=True, slots=True)
class _Hashed:
    """A candidate as it was when it was hashed."""

    file: Candidate
    stat: os.stat_result
    sha256: str
    promised_by: Promise

    @property
    def content(self) -> File:
        return File(self.file.name, self.stat.st_size, self.sha256)

    def record(self, path: str) -> FileRecord:
        """What a receipt says of it, where it is used as `path`."""
        return FileRecord(path, self.stat.st_size, self.sha256, self.promised_by, now())


def adopt(pair: Pair, name: str | None = None, progress: Progress | None = None) -> Adopted:
    """Take a pair in under `name`, or under the one that `name_for` finds, unless the same content is here already.

    A folder of `models/` that is given itself and has no receipt gets one.

    `VerificationFailed` when a file's hash is not what the catalogue or its place promises, `UsageError` for a name
    that another model has or that cannot be one, `InvalidModelFile` when a file cannot be read.
    """
    progress = progress or Silent()
    if name is not None:
        check_name(name)
    if here := already_here(pair, name):
        return Adopted(_with_receipt(here, pair, progress), new=False)
    hashed = [_hash(file, progress) for file in pair.files]
    if here := already_here(pair, name, [file.sha256 for file in hashed]):
        return Adopted(here, new=False)
    files = [file.content for file in hashed]
    name = name or name_for(pair, files)
    check_may_have(name, pair, files)
    return _install(name, pair, hashed, progress)


def already_here(pair: Pair, name: str | None = None, sha256s: Sequence[str] = ()) -> LocalModel | None:
    """The installed model that has the pair's files, by hash or because they are the same on disk.

    With `name` only the model of that name is looked at. A text model alone is here, too, where it has a projector.
    """
    for entry in library.scan():
        if isinstance(entry, LocalModel) and (name is None or _is_called(entry, name)):
            ours = [path for path in (entry.model, entry.mmproj) if path]
            if len(ours) >= len(pair.files) and all(
                _same(entry, our, file, sha256s[index] if sha256s else None)
                for index, (our, file) in enumerate(zip(ours, pair.files, strict=False))
            ):
                return entry
    return None


def check_may_have(name: str, pair: Pair, files: Sequence[File]) -> None:
    """`UsageError` when the pair may not have that name, or a model of that name is here already."""
    quoted = " ".join(shlex.quote(shown(file.path)) for file in pair.files)
    fix = f"Give it a name of its own: gguf-vl import {quoted} --name NAME; or see `gguf-vl rm`."
    place.check_may_have(name, files, fix=fix)


def promised(file: Candidate, size: int) -> tuple[str | None, str | None]:
    """The hash that the catalogue has for a file of that name and that size in bytes, and the one its place says."""
    published = (known.sha256 for known in published_files() if (known.name, known.size) == (file.name, size))
    return next(published, None), file.promised_sha256()


def _is_called(entry: LocalModel, name: str) -> bool:
    return folder_name(entry.name).casefold() == folder_name(name).casefold()


def _same(entry: LocalModel, our: Path, file: Candidate, sha256: str | None) -> bool:
    ours, theirs = our.stat(), file.stat()
    if os.path.samestat(ours, theirs):
        return True
    if sha256 is None or ours.st_size != theirs.st_size:
        return False
    records = entry.receipt.files if entry.receipt else ()
    known = (record.sha256 for record in records if record.at(our.parent) == our and record.verified)
    return (next(known, None) or sha256_of(our)) == sha256


def _hash(file: Candidate, progress: Progress) -> _Hashed:
    before = file.stat()
    try:
        found = sha256_of(file.path, progress, shown(file.name))
    except OSError as error:
        raise unreadable(file.path, error).error from error
    if _identity(before) != _identity(file.stat()):
        raise InvalidModelFile(f"{shown(file.path)} changed while it was read.", _CHANGED)
    by_catalogue, by_place = promised(file, before.st_size)
    for promise, who in ((by_catalogue, "the catalogue"), (by_place, "its name there")):
        if promise and promise != found:
            raise VerificationFailed(
                f"{shown(file.path)} is damaged: its SHA-256 is {found}, and {who} says {promise}.",
                "Download it again with the program that it belongs to, or with `gguf-vl pull`.",
            )
    published = by_catalogue or any(known.sha256 == found for known in published_files())
    return _Hashed(file, before, found, "catalogue" if published else "hub" if by_place else "none")


def _install(name: str, pair: Pair, hashed: list[_Hashed], progress: Progress) -> Adopted:
    """Fill a hidden folder, and give it its name when it is whole, unless another process has been quicker."""
    with place.staging() as staging, place.locked(name, progress):
        if here := already_here(pair, name, [file.sha256 for file in hashed]):
            return Adopted(here, new=False)
        check_may_have(name, pair, [file.content for file in hashed])
        folder = staging / folder_name(name)
        with telling(folder, "written"):
            folder.mkdir()
        named = zip(hashed, _names(pair), strict=True)
        records = [_linked(file, folder, link_name) for file, link_name in named]
        return Adopted(library.open_folder(place.take_over(folder, name, _receipt(name, pair, records))), new=True)


def _with_receipt(here: LocalModel, pair: Pair, progress: Progress) -> LocalModel:
    folder = pair.text.file.path.parent
    is_given = folder == here.folder and folder.parent == paths.models_dir() and not folder.is_symlink()
    if here.receipt or not is_given:
        return here
    hashed = [_hash(Candidate(path, path.name), progress) for path in (here.model, here.mmproj) if path]
    with place.locked(here.name, progress), telling(folder, "written"):
        write_receipt(folder, _receipt(here.name, pair, [file.record(file.file.name) for file in hashed]))
    return library.open_folder(folder)


def _receipt(name: str, pair: Pair, records: Sequence[FileRecord]) -> Receipt:
    model, *rest = records
    return Receipt(name, f"{pair.source}: {pair.text.file.path}", model, rest[0] if rest else None)


def _linked(hashed: _Hashed, folder: Path, name: str) -> FileRecord:
    """The file in our folder under that name; where it cannot be hard-linked, it is used where it is."""
    link = folder / name
    try:
        os.link(hashed.file.path.resolve(strict=True), link)
        path, found = name, os.stat(link)
    except OSError:  # another file system, one without links, or not ours to link
        path, found = str(hashed.file.path), hashed.file.stat()
    if _identity(found) != _identity(hashed.stat):
        raise InvalidModelFile(f"{shown(hashed.file.path)} changed while it was taken in.", _CHANGED)
    return hashed.record(path)


def _identity(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _names(pair: Pair) -> list[str]:
    """What the links are called: as their publisher called them, the projector so that it is known for one."""
    text = _with_suffix(pair.text.file.name)
    if pair.mmproj is None:
        return [text]
    mmproj = _with_suffix(pair.mmproj.file.name)
    return [text, mmproj if "mmproj" in mmproj.casefold() else f"mmproj-{mmproj}"]


def _with_suffix(name: str) -> str:
    return name if name.casefold().endswith(SUFFIX) else f"{name}{SUFFIX}"
