"""From what a person asks for (`8b:q8_0`, `hf:owner/repo:Q4_K_M`) to the published files that are meant.

Asks a hub for its list, and decides; fetches nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from gguf_vl import catalogue, paths
from gguf_vl.errors import GgufVlError, InvalidModelFile, ModelNotFound, Unreachable, UsageError, VerificationFailed
from gguf_vl.gguf.wire import shown
from gguf_vl.store import place
from gguf_vl.store.receipt import FileRecord, Promise, Receipt, read_receipt
from gguf_vl.store.sources import HuggingFace, ModelScope, RemoteFile, Repository, Source, SourceName

TEXT_QUANTS = ("Q4_K_M",)
PROJECTOR_QUANTS = ("Q8_0", "F16", "BF16")
"""Of a repository's several the first of these is taken where none is named."""

Choose = Callable[[str, Sequence[str]], str]
"""Asks a person which of several they mean."""

_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
_URL = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/", re.IGNORECASE)
_FILE = re.compile(r"\w[\w.+ ()-]*\.gguf", re.IGNORECASE)
"""Names that every file system and terminal takes as they are; others are passed over."""
_PART = re.compile(r"-\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)
_NO_MODEL = re.compile(r"mmproj|imatrix", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One file to be had, and who promises its hash."""

    remote: RemoteFile
    promised_by: Promise


@dataclass(frozen=True, slots=True)
class Plan:
    """What a pull will do.

    `note` says what a person should know of how it came about. `fallback` makes the plan for the same files from
    another source, where there is one.
    """

    name: str
    repository: Repository
    model: Wanted
    mmproj: Wanted | None
    note: str | None = None
    fallback: Callable[[], Plan] | None = None

    @property
    def files(self) -> tuple[Wanted, ...]:
        """The text model, then the projector."""
        return (self.model, self.mmproj) if self.mmproj else (self.model,)

    @property
    def folder(self) -> Path:
        """Where the model is, or will be."""
        return place.entry_of(self.name) or paths.models_dir() / place.folder_name(self.name)

    @property
    def staging(self) -> Path:
        """Where these very files wait until all are right."""
        content = " ".join(wanted.remote.sha256 or f"{wanted.remote.url} {wanted.remote.size}" for wanted in self.files)
        key = hashlib.sha256(content.encode()).hexdigest()[:8]
        return paths.models_dir() / f".pull-{place.folder_name(self.name).casefold()}-{key}"

    @property
    def receipt(self) -> Receipt | None:
        """That of the model that has this place now; None also where it makes no sense."""
        with suppress(InvalidModelFile):
            return read_receipt(self.folder)
        return None

    @property
    def is_installed(self) -> bool:
        """Whether the model is here already, with these very files."""
        return all(self.kept(wanted) for wanted in self.files)

    def kept(self, wanted: Wanted) -> FileRecord | None:
        """The installed file that is the wanted one, under whatever name, if it is there in its size."""
        remote, receipt = wanted.remote, self.receipt
        for record in receipt.files if receipt else ():
            is_it = record.sha256 == remote.sha256 if remote.sha256 else record.path == remote.name
            is_it = is_it and remote.size in (None, record.size)
            with suppress(OSError):
                if is_it and record.verified and os.path.getsize(record.at(self.folder)) == record.size:
                    return record
        return None

    def check_name(self) -> None:
        """`UsageError` when these files may not have this name."""
        place.check_may_have(
            self.name,
            [wanted.remote.promised for wanted in self.files],
            source=self.repository.id,
            fix="Give this one a name of its own with --name"
            + (f", or take the other away: gguf-vl rm {self.name}" if place.entry_of(self.name) else "."),
        )


def plan(
    wish: str,
    *,
    mmproj: str | None = None,
    source: SourceName | None = None,
    name: str | None = None,
    choose: Choose,
) -> Plan:
    """What is to be fetched for `wish`: a catalogue name, or `hf:owner/repo[@revision][:quant]`.

    `mmproj` wishes for a projector's quantisation, `name` for another name than the model's own. Without a `source`
    Hugging Face is asked, and ModelScope for a catalogue model where it cannot be reached. `choose` is asked where a
    repository leaves several possibilities. Raises `ModelNotFound`, `UsageError`, also for a name that these files may
    not have, `VerificationFailed` when a hub's hash is not the catalogue's, and what `Source.repository` raises.
    """
    place.sweep()  # before what is here is counted
    if name is not None:
        place.check_name(name)
    if wish.casefold() == "pocket":
        raise UsageError("pocket is inside the package: there is nothing to fetch.", "See `gguf-vl list`.")
    of_repository = _URL.sub("", wish.removeprefix("hf:"))
    if of_repository != wish:
        found = _of_repository(of_repository.rstrip("/"), mmproj, source, choose)
    elif "/" in wish:
        raise UsageError(f"{shown(wish)} is no catalogue name.", f"A repository is pulled as hf:{shown(wish)}.")
    else:
        found = _of_catalogue(wish, mmproj, source)
    found = replace(found, name=name) if name else found
    if not found.is_installed:
        found.check_name()
    return found


# --- the catalogue's models -------------------------------------------------------------------------------------------


def _of_catalogue(name: str, mmproj: str | None, source: SourceName | None) -> Plan:
    model, variant = catalogue.find(name)
    projector = variant.mmproj
    if mmproj:
        published = {p.quant: p.file for p in model.projectors}
        if mmproj.casefold() not in published:
            quants = ", ".join(sorted(published))
            raise UsageError(f"{model.name} has no projector in {shown(mmproj)}.", f"It is published in {quants}.")
        projector = published[mmproj.casefold()]
    full_name = model.name if variant is model.default else f"{model.name}:{variant.quant}"
    ids = {"huggingface": (model.huggingface, model.revision), "modelscope": (model.modelscope, None)}

    def at(which: SourceName) -> Plan:
        id, revision = ids[which]
        if id is None:
            raise UsageError(f"{model.name} is not published on {which}.", "Try another --source.")
        repository = _source(which).repository(id, revision)
        text, vision = (_promised(_published(repository, file.name), file) for file in (variant.file, projector))
        return Plan(full_name, repository, text, vision)

    if source:
        return at(source)
    try:
        found = at("huggingface")
    except Unreachable as error:
        try:
            return replace(at("modelscope"), note=f"{error.what} Taking the same files from ModelScope.")
        except GgufVlError:
            raise error from None
    return replace(found, fallback=lambda: at("modelscope")) if model.modelscope else found


def _source(name: SourceName) -> Source:
    return HuggingFace() if name == "huggingface" else ModelScope()


def _promised(remote: RemoteFile, known: catalogue.File) -> Wanted:
    """The remote file with the catalogue's size and hash, or with the hub's where the catalogue has none."""
    for what, ours, theirs in (("size", known.size, remote.size), ("sha256", known.sha256, remote.sha256)):
        if ours and theirs and ours != theirs:
            raise VerificationFailed(
                f"{known.name} has the {what} {theirs} on the hub, and {ours} in the catalogue.",
                "Update gguf-vl, which may know the new file; or take it on your own word with `gguf-vl pull hf:…`.",
            )
    filled = replace(remote, size=known.size or remote.size, sha256=known.sha256 or remote.sha256)
    return Wanted(filled, "catalogue" if known.sha256 else _promise(remote))


def _promise(remote: RemoteFile) -> Promise:
    return "hub" if remote.sha256 else "none"


def _published(repository: Repository, name: str) -> RemoteFile:
    for file in repository.files:
        if file.name == name:
            return file
    raise ModelNotFound(f"{repository} has no file {name}.", "Update gguf-vl, or try another --source.")


# --- any repository ---------------------------------------------------------------------------------------------------


def _of_repository(wish: str, mmproj: str | None, source: SourceName | None, choose: Choose) -> Plan:
    address, _, quant = wish.partition(":")
    id, _, revision = address.partition("@")
    if not _ID.fullmatch(id):
        raise UsageError(f"{shown(id)!r} is not a repository.", "Give it as hf:owner/repo, or hf:owner/repo:Q4_K_M.")
    # The same name on the other hub may be somebody else's: it is taken only where it is asked for.
    repository = _source(source or "huggingface").repository(id, revision or None)
    files = [file for file in repository.files if _FILE.fullmatch(file.name) and file.path.isprintable()]
    texts = [file for file in files if not _NO_MODEL.search(file.name) and not _PART.search(file.name)]
    projectors = [file for file in files if "mmproj" in file.name.casefold()]
    if not texts:
        split = any(_PART.search(file.name) for file in files)
        what = "only split GGUF models, which cannot be used here" if split else "no GGUF text model"
        raise ModelNotFound(f"{repository} holds {what}.", "Look for a repository whose name ends in -GGUF.")
    if mmproj and not projectors:
        raise ModelNotFound(f"{repository} holds no projector.", "Without --mmproj it is pulled for text alone.")
    text = _one_of(texts, quant, TEXT_QUANTS, "text models", id, choose)
    vision = _one_of(projectors, mmproj or "", PROJECTOR_QUANTS, "projectors", id, choose) if projectors else None
    return Plan(
        place.name_from(text.name.removesuffix(".gguf")),
        repository,
        Wanted(text, _promise(text)),
        Wanted(vision, _promise(vision)) if vision else None,
        note=None if vision else f"{id} holds no projector: this model will not see pictures.",
    )


def _one_of(
    files: list[RemoteFile], quant: str, usual: Sequence[str], what: str, id: str, choose: Choose
) -> RemoteFile:
    """The file of that quantisation, or of the first usual one there is; a person is asked where several are left."""
    fitting = _in(files, quant) if quant else files
    if not fitting:
        names = ", ".join(sorted(shown(file.name) for file in files))
        raise ModelNotFound(f"{id} has no {what} in {shown(quant)}.", f"It has {names}.")
    for each in usual if len(fitting) > 1 and not quant else ():
        if len(found := _in(fitting, each)) == 1:
            return found[0]
    if len(fitting) == 1:
        return fitting[0]
    chosen = choose(f"{id} has several {what}", [file.path for file in fitting])
    return next(file for file in fitting if file.path == chosen)


def _in(files: list[RemoteFile], quant: str) -> list[RemoteFile]:
    """The files of that very name, else those whose names end in that quantisation, else those with it as a word."""
    this = re.escape(quant)
    for pattern in (this, rf".*[-._]{this}\.gguf", rf"(?:.*[^a-z0-9])?{this}(?:[^a-z0-9_].*)?"):
        if found := [file for file in files if re.fullmatch(pattern, file.name, re.IGNORECASE)]:
            return found
    return []
