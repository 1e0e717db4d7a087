"""From what a person asks for (`8b:q8_0`, `hf:owner/repo:Q4_K_M`) to verified files in `models/`.

First a plan that says what would be fetched, how much, from where and to where; then the fetching. A model is put
together in a hidden folder and appears whole, or not at all.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from gguf_vl import catalogue, paths
from gguf_vl.errors import GgufVlError, InvalidModelFile, ModelNotFound, UsageError, VerificationFailed
from gguf_vl.gguf import Header, mismatch, projector_shape, read_header, text_shape
from gguf_vl.store import library
from gguf_vl.store.download import download, download_beginning, remaining
from gguf_vl.store.library import LocalModel
from gguf_vl.store.progress import Progress
from gguf_vl.store.receipt import FileRecord, Promise, Receipt, now, read_receipt, write_receipt
from gguf_vl.store.sources import HuggingFace, ModelScope, RemoteFile, Repository, Source, SourceName, Unreachable

BEGINNING = 8 << 20
"""Bytes that hold a Qwen3-VL's header with its vocabulary; a pair is compared before the rest is fetched."""
SPARE_BYTES = 64 << 20
"""Disk to be left over."""

Choose = Callable[[str, Sequence[str]], str]
"""Asks a person which of several they mean."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One file to be had, and who promises its hash. `is_here`: it is installed already."""

    remote: RemoteFile
    promised_by: Promise
    is_here: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What a pull will do."""

    name: str
    repository: Repository
    model: Wanted
    mmproj: Wanted | None

    @property
    def files(self) -> tuple[Wanted, ...]:
        """The text model, then the projector."""
        return (self.model, self.mmproj) if self.mmproj else (self.model,)

    @property
    def folder(self) -> Path:
        """Where the model will be."""
        return paths.models_dir() / library.folder_name(self.name)

    @property
    def staging(self) -> Path:
        """Where files wait until all are right."""
        return paths.models_dir() / f".pull-{library.folder_name(self.name)}"

    @property
    def to_fetch(self) -> int:
        """Bytes still to come."""
        return sum(remaining(w.remote, self.staging / w.remote.name) for w in self.files if not w.is_here)


def plan(wish: str, *, mmproj: str | None = None, source: SourceName | None = None, choose: Choose) -> Plan:
    """What is to be fetched for `wish`: a catalogue name, or `hf:owner/repo[:quant]`.

    `mmproj` wishes for a projector's quantisation. Without a `source` Hugging Face is asked, and ModelScope where it
    cannot be reached. `choose` is asked where a repository leaves several possibilities. Raises `ModelNotFound`,
    `VerificationFailed` when a hub's hash is not the catalogue's, and what `Source.repository` raises.
    """
    if wish.casefold() == "pocket":
        raise UsageError("pocket is inside the package: there is nothing to fetch.", "See `gguf-vl list`.")
    if wish.startswith("hf:"):
        return _plan_of_repository(wish.removeprefix("hf:"), mmproj, source, choose)
    return _plan_of_catalogue(wish, mmproj, source)


def pull(plan: Plan, progress: Progress) -> LocalModel:
    """Fetch what the plan says and install it; waits where another process is at the same model.

    Raises `VerificationFailed` for wrong bytes, `InvalidModelFile` for two files that don't belong together (before
    they are fetched whole), `GgufVlError` for too little disk and for a network that does not come back. What has
    arrived stays for the next attempt.
    """
    paths.models_dir().mkdir(parents=True, exist_ok=True)
    lock = FileLock(paths.models_dir() / f".{library.folder_name(plan.name)}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress.note(f"Another gguf-vl is fetching {plan.name}: waiting for it.")
        lock.acquire()
    try:
        receipt = _fitting_receipt(plan)
        if receipt:  # the other one has done it
            return library.open_folder(plan.folder)
        check_disk([plan])
        plan.staging.mkdir(exist_ok=True)
        _check_pair(plan, progress)
        records = [_fetch(wanted, plan, progress) for wanted in plan.files]
        return _install(plan, records)
    finally:
        lock.release()


def check_disk(plans: Sequence[Plan]) -> None:
    """Raise `GgufVlError` when the disk has no room for what these plans still have to fetch."""
    place = paths.models_dir()
    place.mkdir(parents=True, exist_ok=True)
    free, needed = shutil.disk_usage(place).free, sum(plan.to_fetch for plan in plans)
    if needed + SPARE_BYTES > free:
        raise GgufVlError(
            f"{', '.join(plan.name for plan in plans)}: {needed / 1e9:.2f} GB are to come, "
            f"and {place} has {free / 1e9:.2f} GB free.",
            "Free some space (`gguf-vl rm`), or set GGUF_VL_HOME to a larger disk.",
        )


def is_installed(plan: Plan) -> bool:
    """Whether the model is here already, with these very files."""
    return _fitting_receipt(plan) is not None


# --- plans ------------------------------------------------------------------------------------------------------------


def _plan_of_catalogue(name: str, mmproj: str | None, source: SourceName | None) -> Plan:
    model, variant = catalogue.find(name)
    projector = variant.mmproj
    if mmproj:
        published = {p.quant: p.file for p in model.projectors}
        if mmproj.casefold() not in published:
            raise UsageError(
                f"{model.name} has no projector in {mmproj}.", f"It is published in {', '.join(sorted(published))}."
            )
        projector = published[mmproj.casefold()]
    ids = {"huggingface": (model.huggingface, model.revision), "modelscope": (model.modelscope, None)}
    repository = _repository({key: id for key, id in ids.items() if id[0]}, source)
    wanted = [_promised(_published(repository, file.name), file) for file in (variant.file, projector)]
    full_name = model.name if variant is model.default else f"{model.name}:{variant.quant}"
    return _with_what_is_here(full_name, repository, wanted)


def _promised(remote: RemoteFile, known: catalogue.File) -> tuple[RemoteFile, Promise]:
    """The remote file with the catalogue's size and hash, or with the hub's where the catalogue has none."""
    for what, ours, theirs in (("size", known.size, remote.size), ("sha256", known.sha256, remote.sha256)):
        if ours and theirs and ours != theirs:
            raise VerificationFailed(
                f"{known.name} has the {what} {theirs} on the hub, and {ours} in the catalogue.",
                "Update gguf-vl, which may know the new file; or take it on your own word with `gguf-vl pull hf:…`.",
            )
    size, sha256 = known.size or remote.size, known.sha256 or remote.sha256
    promise: Promise = "catalogue" if known.sha256 else ("hub" if remote.sha256 else "none")
    return RemoteFile(remote.path, remote.url, size, sha256, remote.headers), promise


def _plan_of_repository(wish: str, mmproj: str | None, source: SourceName | None, choose: Choose) -> Plan:
    id, _, quant = wish.partition(":")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", id):
        raise UsageError(f"{id!r} is not a repository.", "Give it as hf:owner/repo, or hf:owner/repo:Q4_K_M.")
    # The same name on the other hub may be somebody else's: it is taken only where it is asked for.
    repository = _repository({"huggingface": (id, None), "modelscope": (id, None)}, source or "huggingface")
    files = [file for file in repository.files if file.name.endswith(".gguf")]
    texts = [file for file in files if "mmproj" not in file.name.casefold()]
    projectors = [file for file in files if "mmproj" in file.name.casefold()]
    if not texts:
        raise ModelNotFound(
            f"{repository} holds no GGUF text model.", "Look for a repository whose name ends in -GGUF."
        )
    text = _one_of(texts, quant, "text models", id, choose)
    if re.search(r"-\d{5}-of-\d{5}\.gguf$", text.name):
        raise InvalidModelFile(f"{text.name} is one part of a split model.", "Take a quantisation that is one file.")
    projector = _one_of(projectors, mmproj or "", "projectors", id, _first_of_q8_or_f16(choose)) if projectors else None
    name = text.name.removesuffix(".gguf").casefold()
    wanted: list[tuple[RemoteFile, Promise]] = [
        (file, "hub" if file.sha256 else "none") for file in (text, projector) if file
    ]
    return _with_what_is_here(name, repository, wanted)


def _one_of(files: list[RemoteFile], quant: str, what: str, id: str, choose: Choose) -> RemoteFile:
    """The file of that quantisation; a person is asked where several are left."""
    fitting = [file for file in files if quant.casefold() in file.name.casefold()]
    if not fitting:
        names = ", ".join(sorted(file.name for file in files))
        raise ModelNotFound(f"{id} has no {what} in {quant}.", f"It has {names}.")
    exact = [file for file in fitting if re.search(rf"[-._]{re.escape(quant)}\.gguf$", file.name, re.IGNORECASE)]
    fitting = exact if quant and exact else fitting
    if len(fitting) == 1:
        return fitting[0]
    chosen = choose(f"{id} has several {what}", [file.path for file in fitting])
    return next(file for file in fitting if file.path == chosen)


def _first_of_q8_or_f16(choose: Choose) -> Choose:
    """Of projectors in several quantisations Q8_0 will do, then F16: nobody needs to be asked."""

    def chosen(question: str, options: Sequence[str]) -> str:
        for quant in ("q8_0", "f16"):
            found = [option for option in options if re.search(rf"[-._]{quant}\.gguf$", option, re.IGNORECASE)]
            if len(found) == 1:
                return found[0]
        return choose(question, options)

    return chosen


def _repository(ids: dict[str, tuple[str | None, str | None]], wished: SourceName | None) -> Repository:
    """The repository at the wished source, or at the first that can be reached."""
    sources: dict[str, Source] = {"huggingface": HuggingFace(), "modelscope": ModelScope()}
    names = [wished] if wished else list(sources)
    trouble: GgufVlError | None = None
    for name in names:
        id, revision = ids.get(name, (None, None))
        if id is None:
            continue
        try:
            return sources[name].repository(id, revision)
        except Unreachable as error:
            trouble = trouble or error
        except ModelNotFound as error:
            if not trouble:
                raise
            raise trouble from error
    raise trouble or UsageError(f"This model is not published on {wished}.", "Try another --source.")


def _published(repository: Repository, name: str) -> RemoteFile:
    for file in repository.files:
        if file.name == name:
            return file
    raise ModelNotFound(f"{repository} has no file {name}.", "Update gguf-vl, or try another --source.")


def _with_what_is_here(name: str, repository: Repository, files: list[tuple[RemoteFile, Promise]]) -> Plan:
    folder = paths.models_dir() / library.folder_name(name)
    receipt = read_receipt(folder)
    here = [record for record in receipt.files if record.at(folder).exists()] if receipt else []
    wanted = [Wanted(file, promise, any(_is(record, file) for record in here)) for file, promise in files]
    return Plan(name, repository, wanted[0], wanted[1] if len(wanted) > 1 else None)


def _is(record: FileRecord, remote: RemoteFile) -> bool:
    """Whether an installed file is the remote one; it may have another name, or live with another program."""
    return record.sha256 == remote.sha256 if remote.sha256 else record.path == remote.name


# --- fetching ---------------------------------------------------------------------------------------------------------


def _fitting_receipt(plan: Plan) -> Receipt | None:
    receipt = read_receipt(plan.folder)
    if receipt is None or len(receipt.files) != len(plan.files):
        return None
    pairs = zip(receipt.files, plan.files, strict=True)
    if all(_is(record, wanted.remote) and record.at(plan.folder).exists() for record, wanted in pairs):
        return receipt
    return None


def _check_pair(plan: Plan, progress: Progress) -> None:
    """Refuse two files that don't belong together as soon as their headers are here."""
    if plan.mmproj is None or any(wanted.is_here for wanted in plan.files):
        return
    text, projector = (_header(wanted, plan, progress) for wanted in (plan.model, plan.mmproj))
    if text and projector and (reason := mismatch(text_shape(text), projector_shape(projector))):
        raise InvalidModelFile(
            f"{plan.mmproj.remote.name} does not belong to {plan.model.remote.name}: {reason}.",
            "Choose the projector that was published with this model.",
        )


def _header(wanted: Wanted, plan: Plan, progress: Progress) -> Header | None:
    """The file's header, as soon as its beginning has arrived; None where that does not hold all of it."""
    target, size = plan.staging / wanted.remote.name, wanted.remote.size
    begun = target if target.exists() else download_beginning(wanted.remote, target, BEGINNING, progress)
    try:
        return read_header(begun, whole_size=size)
    except InvalidModelFile:
        if begun.stat().st_size == size:
            raise
        return None


def _fetch(wanted: Wanted, plan: Plan, progress: Progress) -> FileRecord:
    """The file in the staging folder or already installed, verified."""
    remote = wanted.remote
    receipt = read_receipt(plan.folder)
    if wanted.is_here and receipt:
        return next(record for record in receipt.files if _is(record, remote))
    done = download(remote, plan.staging / remote.name, progress)
    if wanted.promised_by != "catalogue":
        said = "what the hub declares" if wanted.promised_by == "hub" else "what arrived: nobody says what it should be"
        progress.note(f"{remote.name}: the catalogue has no hash of it; recorded {said}, {done.sha256}.")
    return FileRecord(remote.name, done.size, done.sha256, wanted.promised_by, now())


def _install(plan: Plan, records: list[FileRecord]) -> LocalModel:
    """Move the files into the model's folder; the receipt, written last, makes them a model."""
    receipt = Receipt(plan.name, str(plan.repository), records[0], records[1] if len(records) > 1 else None)
    opened = [staged if (staged := r.at(plan.staging)).exists() else r.at(plan.folder) for r in records]
    library.open_file(opened[0], mmproj=opened[1] if len(opened) > 1 else None)
    before = read_receipt(plan.folder)
    if not plan.folder.exists():
        write_receipt(plan.staging, receipt)
        for leftover in (*plan.staging.glob("*.part"), *plan.staging.glob("*.wrong")):
            leftover.unlink()
        plan.staging.rename(plan.folder)
        return library.open_folder(plan.folder)
    for path in opened:
        if path.parent == plan.staging:
            path.replace(plan.folder / path.name)
    write_receipt(plan.folder, receipt)
    for record in before.files if before else ():
        if record.path not in {kept.path for kept in records} and not Path(record.path).is_absolute():
            record.at(plan.folder).unlink(missing_ok=True)
    shutil.rmtree(plan.staging)
    return library.open_folder(plan.folder)
