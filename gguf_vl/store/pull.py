"""Fetches what a plan names and makes it a model: verified, whole, or not at all.

Files wait in a hidden folder that belongs to these very contents, so that nothing of another pull gets in and an
interrupted one goes on where it stopped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from gguf_vl import paths
from gguf_vl.errors import InvalidModelFile, Unreachable
from gguf_vl.gguf import Header, projector_shape, read_header, text_shape
from gguf_vl.store import disk, library, place
from gguf_vl.store.belonging import objection, training_of
from gguf_vl.store.download import download, download_beginning, remaining
from gguf_vl.store.hashing import sha256_of
from gguf_vl.store.library import LocalModel
from gguf_vl.store.progress import Progress
from gguf_vl.store.receipt import FileRecord, Receipt, now, read_receipt
from gguf_vl.store.sources import RemoteFile
from gguf_vl.store.wishes import Plan, Wanted

BEGINNING = 8 << 20
"""Bytes that hold a Qwen3-VL's header with its vocabulary; a pair is compared before the rest is fetched."""


def is_installed(plan: Plan) -> bool:
    """Whether the model is here already, with these very files."""
    return all(_kept(wanted, plan) for wanted in plan.files)


def to_fetch(plan: Plan) -> int:
    """Bytes still to come."""
    missing = [wanted.remote for wanted in plan.files if not _kept(wanted, plan)]
    return sum(remaining(remote, plan.staging / remote.name) for remote in missing)


def check_disk(plans: Sequence[Plan]) -> None:
    """Raise `GgufVlError` when the disk has no room for what these plans still have to fetch."""
    names = ", ".join(plan.name for plan in plans)
    disk.need(sum(to_fetch(plan) for plan in plans), paths.models_dir(), names)


def pull(plan: Plan, progress: Progress) -> LocalModel:
    """Fetch what the plan says and install it; waits where another process is at the same model.

    Where the source falls silent half-way, the plan's fallback goes on with what has arrived. Raises
    `VerificationFailed` for wrong bytes, `InvalidModelFile` for two files that don't belong together (before they are
    fetched whole), `UsageError` when these files may not have the name, `GgufVlError` for too little disk, and
    `Unreachable` for a network that does not come back. What has arrived stays for the next attempt.
    """
    with place.locked(plan.name, progress):
        plan.check_name()
        if is_installed(plan):  # the other one has done it
            return library.open_folder(plan.folder)
        check_disk([plan])
        with disk.telling(plan.staging, "written"):
            try:
                return _pull(plan, progress)
            except Unreachable as error:
                if plan.fallback is None:
                    raise
                other = plan.fallback()
                progress.note(f"{error.what} Going on from {other.repository.source}.")
                return _pull(other, progress)


def _pull(plan: Plan, progress: Progress) -> LocalModel:
    plan.staging.mkdir(exist_ok=True)
    _check_pair(plan, progress)
    kept = [_kept(wanted, plan) for wanted in plan.files]
    records = [old or _obtain(wanted, plan, progress) for old, wanted in zip(kept, plan.files, strict=True)]
    for old in filter(None, kept):  # only now: nothing of what is installed is touched while something may still fail
        place.keep(old, plan.folder, plan.staging)
    receipt = Receipt(plan.name, str(plan.repository), records[0], records[1] if len(records) > 1 else None)
    found = [record.at(plan.folder if old else plan.staging) for old, record in zip(kept, records, strict=True)]
    library.open_file(found[0], mmproj=found[1] if len(found) > 1 else None)
    for leftover in (*plan.staging.glob("*.part"), *plan.staging.glob("*.wrong")):
        leftover.unlink()
    return library.open_folder(place.take_over(plan.staging, plan.name, receipt))


def _receipt(plan: Plan) -> Receipt | None:
    with suppress(InvalidModelFile):
        return read_receipt(plan.folder)
    return None


def _kept(wanted: Wanted, plan: Plan) -> FileRecord | None:
    """The installed file that is the wanted one, under whatever name, if it is there in its size."""
    remote, receipt = wanted.remote, _receipt(plan)
    for record in receipt.files if receipt else ():
        is_it = record.sha256 == remote.sha256 if remote.sha256 else record.path == remote.name
        with suppress(OSError):
            if is_it and record.verified and os.path.getsize(record.at(plan.folder)) == record.size:
                return record
    return None


def _check_pair(plan: Plan, progress: Progress) -> None:
    """Refuse two files that don't belong together as soon as their headers are here."""
    if plan.mmproj is None or _receipt(plan) is not None:
        return
    text, vision = (_header(wanted, plan, progress) for wanted in (plan.model, plan.mmproj))
    names = plan.model.remote.name, plan.mmproj.remote.name
    if text is None or vision is None:
        return
    trained = training_of(text, names[0]), training_of(vision, names[1])
    if reason := objection(text_shape(text), projector_shape(vision), *trained):
        raise InvalidModelFile(
            f"{names[1]} does not belong to {names[0]}: {reason}.",
            "Choose the projector that was published with this model.",
        )


def _header(wanted: Wanted, plan: Plan, progress: Progress) -> Header | None:
    """The file's header, as soon as its beginning has arrived; None where that does not hold all of it."""
    target, n_bytes = plan.staging / wanted.remote.name, wanted.remote.size
    begun = target if target.exists() else download_beginning(wanted.remote, target, BEGINNING, progress)
    try:
        return read_header(begun, whole_size=n_bytes)
    except InvalidModelFile:
        if begun.stat().st_size == n_bytes:
            raise
        return None


def _obtain(wanted: Wanted, plan: Plan, progress: Progress) -> FileRecord:
    """The file in the staging folder, verified: linked from where it is already, or fetched."""
    remote = wanted.remote
    target = plan.staging / remote.name
    if not target.exists() and _link(remote, plan, target, progress):
        return FileRecord(remote.name, target.stat().st_size, remote.sha256 or "", wanted.promised_by, now())
    done = download(remote, target, progress)
    if wanted.promised_by != "catalogue":
        said = "what the hub declares" if wanted.promised_by == "hub" else "what arrived: nobody says what it should be"
        progress.note(f"{remote.name}: the catalogue has no hash of it; recorded {said}, {done.sha256}.")
    return FileRecord(remote.name, done.size, done.sha256, wanted.promised_by, now())


def _link(remote: RemoteFile, plan: Plan, target: Path, progress: Progress) -> bool:
    """Hard-link a file with these very bytes that another model, or Hugging Face's own cache, has on this disk."""
    for path in _elsewhere(remote, plan.repository.id):
        with suppress(OSError):
            if path.stat().st_size != remote.size:
                continue
            os.link(path.resolve(strict=True), target)
            if sha256_of(target, progress, f"{remote.name}: here already, verifying") == remote.sha256:
                progress.note(f"{remote.name} is on this disk already: linked from {path}.")
                return True
            target.unlink()
    return False


def _elsewhere(remote: RemoteFile, id: str) -> Iterator[Path]:
    if remote.sha256 is None or remote.size is None:
        return
    for entry in library.scan():
        receipt = entry.receipt if isinstance(entry, LocalModel) else None
        folder = library.folder_of(entry.name)
        for record in receipt.files if receipt and folder else ():
            if record.sha256 == remote.sha256 and folder:
                yield record.at(folder)
    from huggingface_hub.constants import HF_HUB_CACHE

    yield Path(HF_HUB_CACHE) / f"models--{id.replace('/', '--')}" / "blobs" / remote.sha256
