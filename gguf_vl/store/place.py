"""Where a model is put in `models/`: its name, its folder, the lock on it, and the swap that replaces it as a whole.

    check_name(name)                       UsageError unless a model can be called so
    reserved()                             the folders' names that mean a model of the catalogue, and pocket's
    name_from(label) -> str                a name made of any text, never a reserved one
    folder_name(name) -> str               `8b:q8_0` lives in `8b-q8_0`
    folder_of(name) -> Path | None         its folder, case ignored; it may be broken
    folders() -> list[Path]                the models' folders, broken ones too
    entry_of(name) -> Path | None          whatever has its place: a folder, a link, a file
    foreign(name, file) -> str | None      why the catalogue's model of that name cannot have such a file
    check_may_have(name, files, …)         whether these files may have this name, for all that takes models in
    replaceable(name) -> Path | None       the folder that a new model would replace; refuses one that is not ours
    with locked(name, progress): …         one process at a time changes a model; wait=False: GgufVlError instead
    with staging() as folder: …            a hidden folder to fill, gone at the end
    keep(record, old_folder, staging)      a file of the installed model that the new one keeps, before `take_over`
    take_over(staging, name, receipt)      under the lock: the filled folder becomes the model. -> its folder
    discard(folder)                        removes a folder: out of sight first, then its files
    sweep()                                removes what dead processes left: before models are listed or changed
    unfinished() -> list[Unfinished]       interrupted pulls (name, folder, n_bytes): `.pull-FOLDER_NAME-<8 hex digits>`

A model is changed under its lock, after another look at what is here, and by `take_over` alone. Hidden folders:
`.installing-*` and `.removing-*` are nobody's when their process has died, `.replaced-*` is put back or removed then.
`.pull-*` are kept: they hold what has arrived.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from gguf_vl import catalogue, paths
from gguf_vl.catalogue import File, Model, Variant
from gguf_vl.errors import GgufVlError, InvalidModelFile, UsageError
from gguf_vl.gguf.wire import shown
from gguf_vl.store import receipt as receipts
from gguf_vl.store.disk import sync, telling
from gguf_vl.store.download import WRONG
from gguf_vl.store.progress import Progress
from gguf_vl.store.receipt import FileRecord, Receipt, read_receipt, write_receipt

MAX_NAME = 100
"""Characters; the folder of the same name must fit into every file system."""

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._:-]*[A-Za-z0-9])?")
DEVICE = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)
"""Names of devices on Windows, in every folder."""
_UNFINISHED = re.compile(r"\.pull-(.+)-[0-9a-f]{8}")
_REPLACED = re.compile(r"\.replaced-[0-9a-f]{8}-(.+)")


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What an interrupted pull has left. `name` is the catalogue's where it has one, else the folder's to be.

    `n_bytes` are those that the same pull goes on with; wrong ones, kept aside, are not among them.
    """

    name: str
    folder: Path
    n_bytes: int


# --- names ------------------------------------------------------------------------------------------------------------


def check_name(name: str) -> None:
    """`UsageError` unless a model can be called so: it names a folder, and --model must not take it for a file."""
    fits = _NAME.fullmatch(name) and len(name) <= MAX_NAME and not DEVICE.fullmatch(folder_name(name))
    if not fits or name.casefold().endswith(".gguf"):
        what = f"{shown(name, 80)!r} cannot be a model's name."
        raise UsageError(what, "Take letters, digits and . _ - : in between, such as my-8b:q8_0, and no .gguf.")


def reserved() -> frozenset[str]:
    """Every folder's name that means a model of the catalogue."""
    return frozenset(_catalogue_names())


def name_from(label: str) -> str:
    """A name that `check_name` takes, made of any text; never one that means a model of the catalogue."""
    safe = re.sub(r"[^a-z0-9._]+", "-", label.casefold())[: MAX_NAME - len("local-")]
    safe = re.sub(r"^[-._]+|(?:\.gguf|[-._])+$", "", safe) or "model"
    return f"local-{safe}" if safe in reserved() or DEVICE.fullmatch(safe) else safe


def folder_name(name: str) -> str:
    """The folder for a model's name: `8b:q8_0` lives in `8b-q8_0`, because not every system takes a colon."""
    return name.replace(":", "-").replace("/", "-")


def folder_of(name: str) -> Path | None:
    """The folder that holds the model of that name, case ignored; it may be broken."""
    if name.casefold() == "pocket":
        return paths.pocket_dir()
    found = entry_of(name)
    return found if found and _is_folder(found) else None


def folders() -> list[Path]:
    """Every model's folder by name, and links that lead to none. `GgufVlError` when `models/` cannot be read."""
    return [path for path in _visible() if _is_folder(path)]


def entry_of(name: str) -> Path | None:
    """Whatever has the place of that model in `models/`, case ignored."""
    wanted = folder_name(name).casefold()
    return next((path for path in _visible() if path.name.casefold() == wanted), None)


def foreign(name: str, file: File) -> str | None:
    """Why the model that the catalogue calls so cannot have this file, in words that follow the file's name.

    None when it can, or when the catalogue calls nothing so. Where the catalogue has no hash, its file's name will do.
    """
    meant = _catalogue_names().get(folder_name(name).casefold())
    if meant is None:
        return None
    called, model, variant = meant
    if any(_is_published(file, known) for known in (variant.file, *(each.file for each in model.projectors))):
        return None
    return f"is none of the files that the catalogue calls {called}"


def check_may_have(name: str, files: Sequence[File], *, source: str | None = None, fix: str) -> None:
    """`UsageError` unless a model of these files, the text model first, may be called so; `fix` is what else to do.

    A name of the catalogue is for its files, and pocket's for no other. A model that is here may be replaced by one
    from the same `source`, a repository, or with the same text model; without a source it is never replaced. Raises
    what `replaceable` does, too.
    """
    check_name(name)
    if folder_name(name).casefold() == "pocket":
        raise UsageError("pocket is the name of the model inside this package.", fix)
    for file in files:
        if why := foreign(name, file):
            raise UsageError(f"{shown(file.name)} cannot be called {name}: it {why}.", fix)
    if source is None and (here := entry_of(name)):
        raise UsageError(f"{name} is here already with other files, in {shown(here)}.", fix)
    receipt = read_receipt(here) if source and (here := replaceable(name)) else None
    if receipt and not receipt.source.startswith(f"{source} on ") and receipt.model.sha256 != files[0].sha256:
        raise UsageError(f"{receipt.name} is here already, from {shown(receipt.source)}.", fix)


def replaceable(name: str) -> Path | None:
    """The model's folder that `take_over` would replace; `GgufVlError` for what is not ours to replace."""
    found = entry_of(name)
    if found is None:
        return None
    if found.is_symlink():
        what = f"{shown(found)} is a link to {shown(os.path.realpath(found))}, which gguf-vl does not replace."
        raise GgufVlError(what, f"Take the link away: gguf-vl rm {name}")
    if not found.is_dir() or read_receipt(found) is None:
        what = f"{shown(found)} is there, and gguf-vl has not made it."
        fix = f"Take it in as it is: gguf-vl import {shlex.quote(shown(found))}; or move it to another place."
        raise GgufVlError(what, fix)
    return found


# --- one at a time ----------------------------------------------------------------------------------------------------


@contextmanager
def locked(name: str, progress: Progress, *, wait: bool = True) -> Iterator[None]:
    """Let nobody else change the model of that name meanwhile; says when it waits for another.

    Raises `GgufVlError` where nothing can be written, and instead of waiting when it is not to `wait`.
    """
    _make()
    file = _lock_file(name)
    sweep()
    lock = FileLock(file)
    with telling(file, "written"):
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            if not wait:
                raise GgufVlError(f"Another gguf-vl is at work on {name}.", "Try again when it is done.") from error
            progress.note(f"Another gguf-vl is at work on {name}: waiting for it.")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def staging() -> Iterator[Path]:
    """A hidden folder of `models/` to fill; what has not been taken over from it by the end is removed."""
    _make()
    folder = paths.models_dir() / f".installing-{secrets.token_hex(4)}"
    lock = FileLock(_beside(folder))  # held before the folder is there: one whose lock is free is a dead process's
    with telling(folder, "written"):
        lock.acquire()
    try:
        with telling(folder, "written"):
            folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()
        _beside(folder).unlink(missing_ok=True)


# --- taking over ------------------------------------------------------------------------------------------------------


def keep(record: FileRecord, old_folder: Path, staging: Path) -> FileRecord:
    """Hard-link a file of the installed model into `staging`; where links are not possible, `take_over` moves it.

    One that stays with another program needs nothing. `InvalidModelFile` when it was found wrong, or has another size.
    """
    source, target = record.at(old_folder), record.at(staging)
    if source == target:
        return record
    with telling(source, "read"):
        if not record.verified or source.stat().st_size != record.size:
            raise InvalidModelFile(f"{shown(source)} is damaged.", "See `gguf-vl verify`.")
    with telling(target, "written"):
        target.unlink(missing_ok=True)
        with suppress(OSError):  # a file system without links
            os.link(source, target)
    return record


def take_over(staging: Path, name: str, receipt: Receipt) -> Path:
    """Give the filled folder its receipt and make it, with all that is in it, the model of that name. Under `locked`.

    What the receipt names and `staging` lacks is moved there from the model that is replaced.
    Whenever this ends, even by a power cut, all of the old model or all of the new one is there, or is put back by the
    next `sweep`. What a person has put beside the old model's files moves over. Raises what `replaceable` does, and
    `GgufVlError` when the disk refuses; then the old model is there again.
    """
    old, target = replaceable(name), paths.models_dir() / folder_name(name)
    with telling(staging, "written"):
        write_receipt(staging, receipt)
        for record in receipt.files:
            if os.path.exists(record.at(staging)) and not Path(record.path).is_absolute():
                sync(record.at(staging))
        sync(staging)
    aside = target.with_name(f".replaced-{secrets.token_hex(4)}-{old.name}") if old else None
    with telling(target, "written"), ExitStack() as undo:
        if old and aside:
            _moved(old, aside, undo)
        _moved(staging, target, undo)
        for record in receipt.files:
            if not os.path.lexists(record.at(target)):
                _moved(record.at(aside or staging), record.at(target), undo)
        sync(target)
        sync(target.parent)
        undo.pop_all()
    if aside:
        _clear(aside, target)
    return target


def _moved(source: Path, target: Path, undo: ExitStack) -> None:
    source.rename(target)
    undo.callback(target.rename, source)


def needed_elsewhere(folder: Path) -> list[tuple[Path, FileRecord]]:
    """The folders of other models whose receipts say that they use a file of `folder` where it is, and which."""
    found = []
    for other in folders():
        with suppress(InvalidModelFile):
            receipt = read_receipt(other) if other != folder else None
            for record in receipt.files if receipt else ():
                if Path(os.path.realpath(record.at(other))).parent == Path(os.path.realpath(folder)):
                    found.append((other, record))
    return found


# --- what is left over ------------------------------------------------------------------------------------------------


def sweep() -> None:
    """Remove the hidden folders of processes that have died, and put back the model that one was about to replace."""
    try:
        entries = _entries()
    except GgufVlError:  # whoever looks for a model is told
        return
    for folder in entries:
        if folder.name.startswith(".removing-"):
            shutil.rmtree(folder, ignore_errors=True)
        elif folder.name.startswith(".installing-") and folder.is_dir():
            with _if_free(_beside(folder)) as is_free:
                if is_free:
                    shutil.rmtree(folder, ignore_errors=True)
            if is_free:
                with suppress(OSError):
                    _beside(folder).unlink()
        elif replaced := _REPLACED.fullmatch(folder.name):
            with _if_free(_lock_file(replaced[1])) as is_free:
                if is_free and (new := entry_of(replaced[1])):
                    _clear(folder, new)
                elif is_free:
                    with suppress(OSError):
                        folder.rename(folder.with_name(replaced[1]))


def discard(folder: Path) -> None:
    """Remove a folder of `models/`: first out of sight in one step, then its files."""
    doomed = paths.models_dir() / f".removing-{secrets.token_hex(4)}"
    folder.rename(doomed)
    try:
        shutil.rmtree(doomed)
    except FileNotFoundError:  # another process's sweep is at it, too
        shutil.rmtree(doomed, ignore_errors=True)


def files_in(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Every file below, links and what is just going aside."""
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if stat.S_ISREG((found := path.lstat()).st_mode):
                yield path, found


def unfinished() -> list[Unfinished]:
    """What interrupted pulls have left, and those at work."""
    known, found = _catalogue_names(), []
    for folder in _entries():
        if pull := _UNFINISHED.fullmatch(folder.name):
            n_bytes = sum(found.st_size for path, found in files_in(folder) if path.suffix != WRONG)
            name = known[pull[1]][0] if pull[1] in known else pull[1]
            found.append(Unfinished(name, folder, n_bytes))
    return found


def _clear(aside: Path, new: Path) -> None:
    """Remove a replaced model, but for what is not its own and what is still used: that moves to the new one."""
    try:
        receipt, successor = read_receipt(aside), read_receipt(new)
        used = {Path(record.path).name for _, record in needed_elsewhere(new)}
        if receipt and successor:  # it was killed before it had moved all that it kept
            kept = {(record.path, record.sha256) for record in receipt.files}
            used |= {record.path for record in successor.files if (record.path, record.sha256) in kept}
        for path in aside.iterdir():
            its_own = receipt is not None and path.name in _names(receipt)
            if (not its_own or path.name in used) and not os.path.lexists(new / path.name):
                path.rename(new / path.name)
        discard(aside)
    except (OSError, GgufVlError):  # the next sweep tries again
        return


def _names(receipt: Receipt) -> set[str]:
    return {receipts.NAME, *(record.path for record in receipt.files)}


def _catalogue_names() -> dict[str, tuple[str, Model, Variant]]:
    """Folder's name → the name, and what it means, for every name of the catalogue."""
    models = catalogue.load_catalogue().values()
    names = [(model.name, model, model.default) for model in models]
    names += [(f"{model.name}:{variant.quant}", model, variant) for model in models for variant in model.variants]
    return {folder_name(each[0]): each for each in names}


def _is_published(file: File, known: File) -> bool:
    if known.sha256:
        return file.sha256 == known.sha256
    return file.name.casefold() == known.name.casefold() and known.size in (None, file.size)


def _make() -> None:
    place = paths.models_dir()
    with telling(place, "written"):
        place.mkdir(parents=True, exist_ok=True)


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path) or (path.is_symlink() and not os.path.isfile(path))


def _visible() -> list[Path]:
    return [path for path in _entries() if not path.name.startswith(".")]


def _entries() -> list[Path]:
    place = paths.models_dir()
    with telling(place, "read"):
        return sorted(place.iterdir()) if place.is_dir() else []


def _lock_file(name: str) -> Path:
    return paths.models_dir() / f".{folder_name(name).casefold()}.lock"


def _beside(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


@contextmanager
def _if_free(file: Path) -> Iterator[bool]:
    """Hold a lock if nobody else does."""
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except OSError:  # held, or not ours to write
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
