"""Fetches what a plan names and makes it a model: verified, whole, or not at all.

Files wait in a hidden folder that belongs to these very contents, so that nothing of another pull gets in and an
interrupted one goes on where it stopped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from gguf_vl import paths
from gguf_vl.errors import GgufVlError, InvalidModelFile, Unreachable
from gguf_vl.gguf import Header, projector_shape, read_header, text_shape
from gguf_vl.gguf.wire import shown
from gguf_vl.store import disk, library, place
from gguf_vl.store.belonging import objection, training_of
from gguf_vl.store.download import WRONG, discard, download, download_beginning, remaining
from gguf_vl.store.hashing import sha256_of
from gguf_vl.store.library import LocalModel
from gguf_vl.store.progress import Progress
from gguf_vl.store.receipt import FileRecord, Receipt, now
from gguf_vl.store.sources import RemoteFile
from gguf_vl.store.wishes import Plan, Wanted

BEGINNINGS = (8 << 20, 32 << 20)
"""Bytes that hold a Qwen3-VL's header with its vocabulary, and one with a vocabulary of 262,144 words.

A pair is compared before the rest is fetched.
"""


def to_fetch(plan: Plan) -> int:
    """Bytes still to come: not those that are installed, have arrived, or can be linked from another model."""
    missing = [wanted.remote for wanted in plan.files if not plan.kept(wanted) and not any(_copies(wanted, plan))]
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
        if plan.is_installed:  # the other one has done it
            return library.open_folder(plan.folder)
        plan.check_name()
        with disk.telling(plan.staging, "written"):
            try:
                return _pull(plan, progress)
            except Unreachable as error:
                if plan.fallback is None:
                    raise
                try:
                    other = plan.fallback()
                    progress.note(f"{error.what} Going on from {other.repository.source}.")
                    return _pull(other, progress)
                except GgufVlError:  # the first source is the one that was meant, and its error says how to go on
                    raise error from None


def _pull(plan: Plan, progress: Progress) -> LocalModel:
    kept = [plan.kept(wanted) for wanted in plan.files]
    linked = [None if old else _linked(wanted, plan, progress) for old, wanted in zip(kept, plan.files, strict=True)]
    check_disk([plan])
    plan.staging.mkdir(exist_ok=True)
    _check_pair(plan, progress)
    records = [
        first or second or _fetched(wanted, plan, progress)
        for first, second, wanted in zip(kept, linked, plan.files, strict=True)
    ]
    for old in filter(None, kept):  # only now: nothing of what is installed is touched while something may still fail
        place.keep(old, plan.folder, plan.staging)
    receipt = Receipt(plan.name, str(plan.repository), records[0], records[1] if len(records) > 1 else None)
    found = [record.at(plan.folder if old else plan.staging) for old, record in zip(kept, records, strict=True)]
    library.open_file(found[0], mmproj=found[1] if len(found) > 1 else None)
    for leftover in (*plan.staging.glob("*.part"), *plan.staging.glob(f"*{WRONG}")):
        leftover.unlink()
    return library.open_folder(place.take_over(plan.staging, plan.name, receipt))


def _check_pair(plan: Plan, progress: Progress) -> None:
    """Refuse two files that don't belong together as soon as their headers are here.

    What speaks against a file may be a byte that was damaged on the way or on the disk: what has not the promised hash
    is fetched once more before it is believed.
    """
    if plan.mmproj is None or plan.receipt is not None:
        return
    try:
        _compare(plan.model, plan.mmproj, plan, progress)
    except InvalidModelFile as error:
        unsure = [each for each in plan.files if discard(each.remote, plan.staging / each.remote.name, progress)]
        if not unsure:
            raise
        progress.note(f"{error.what} Fetching its beginning again, to be sure.")
        _compare(plan.model, plan.mmproj, plan, progress)


def _compare(model: Wanted, mmproj: Wanted, plan: Plan, progress: Progress) -> None:
    text, vision = (_header(wanted, plan, progress) for wanted in (model, mmproj))
    names = model.remote.name, mmproj.remote.name
    if text is None or vision is None:
        return
    trained = training_of(text, names[0]), training_of(vision, names[1])
    if reason := objection(text_shape(text), projector_shape(vision), *trained):
        raise InvalidModelFile(
            f"{names[1]} does not belong to {names[0]}: {reason}.",
            "Choose the projector that was published with this model.",
        )


def _header(wanted: Wanted, plan: Plan, progress: Progress) -> Header | None:
    """The file's header, as soon as its beginning has arrived; None where not even the larger one holds all of it."""
    remote, target = wanted.remote, plan.staging / wanted.remote.name
    for size in BEGINNINGS:
        begun = target if target.exists() else download_beginning(remote, target, size, progress)
        if begun != target and begun.stat().st_size == remote.size:
            begun = download(remote, target, progress).path  # whole already: what it says is believed by its hash
        try:
            return replace(read_header(begun, whole_size=remote.size), path=Path(remote.name))
        except InvalidModelFile as error:
            if begun == target:
                raise InvalidModelFile(error.what.replace(shown(begun), remote.name), error.fix) from error
    return None


def _fetched(wanted: Wanted, plan: Plan, progress: Progress) -> FileRecord:
    remote = wanted.remote
    done = download(remote, plan.staging / remote.name, progress)
    if wanted.promised_by != "catalogue":
        said = "what the hub declares" if wanted.promised_by == "hub" else "what arrived: nobody says what it should be"
        progress.note(f"{remote.name}: the catalogue has no hash of it; recorded {said}, {done.sha256}.")
    return FileRecord(remote.name, done.size, done.sha256, wanted.promised_by, now())


def _linked(wanted: Wanted, plan: Plan, progress: Progress) -> FileRecord | None:
    """The file hard-linked into the staging folder, where these very bytes are on this disk already."""
    remote, target = wanted.remote, plan.staging / wanted.remote.name
    for path in _copies(wanted, plan):
        with suppress(OSError):
            plan.staging.mkdir(parents=True, exist_ok=True)
            os.link(path, target)
            if sha256_of(target, progress, f"{remote.name}: here already, verifying") == remote.sha256:
                progress.note(f"{remote.name} is on this disk already: linked from {path}.")
                return FileRecord(remote.name, target.stat().st_size, remote.sha256, wanted.promised_by, now())
            target.unlink()
    return None


def _copies(wanted: Wanted, plan: Plan) -> Iterator[Path]:
    """Files of other models, and of Hugging Face's own cache, that should be the wanted one and can be linked."""
    remote, models = wanted.remote, paths.models_dir()
    if (plan.staging / remote.name).exists():
        return
    disk_here = next(each for each in (models, *models.parents) if each.is_dir()).stat().st_dev
    for path in _elsewhere(remote, plan.repository.id):
        with suppress(OSError):
            found = path.resolve(strict=True)
            if (found.stat().st_size, found.stat().st_dev) == (remote.size, disk_here):
                yield found


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
