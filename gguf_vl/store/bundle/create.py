"""Packs a bundle: streamed from the models' folders to the tar, hashed on the way, continued after an interrupt.

What an interrupted run has left is read again and compared with what it must be; packing goes on after the last file
that is complete. No file has the bundle's name before all of it is written and synced.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from gguf_vl import __version__, paths
from gguf_vl.errors import GgufVlError, MissingOrInvalid, UsageError, VerificationFailed
from gguf_vl.store import disk
from gguf_vl.store.bundle import layout, manifest, published, signature
from gguf_vl.store.bundle.contents import Packed, packed
from gguf_vl.store.bundle.layout import Member
from gguf_vl.store.bundle.manifest import INSTALLERS, MANIFEST, MODELS, PACKAGES, README, SIGNATURE, FileEntry, Manifest
from gguf_vl.store.bundle.packages import Collected
from gguf_vl.store.bundle.readme import INSTALL_SH, readme
from gguf_vl.store.bundle.stream import MAX_PARTS, Joined, Output
from gguf_vl.store.hashing import CHUNK, sha256_of
from gguf_vl.store.progress import Progress, size

INSTALLER = Path(__file__).with_name("installer.py")
SMALLEST_PART = 1_000_000

_Source = bytes | Path


@dataclass(frozen=True, slots=True)
class Created:
    """A finished bundle. `files` are the tar or its parts, `n_bytes` is all of them."""

    files: tuple[Path, ...]
    n_bytes: int
    manifest: Manifest


def create(
    names: Sequence[str],
    out: Path,
    progress: Progress,
    *,
    packages: Collected | None = None,
    split: int | None = None,
    sign: Path | None = None,
) -> Created:
    """Pack the models `names` into the tar `out`, or into parts of it of `split` bytes.

    With `packages` it carries gguf-vl itself too; with `sign`, a private key, a signature over its manifest. Raises
    `ModelNotFound`, `UsageError` for a file that is there already, `VerificationFailed` for a file that is not what its
    receipt says, `GgufVlError` for too little disk. What has been written by then stays, to be continued.
    """
    _check_place(out, split)
    with _alone(out):
        models = [packed(name, progress) for name in names]
        models = list({each.model.folder.casefold(): each for each in models}.values())
        for each in models:
            _check_published(each)
        described, sources = _described(models, out, packages, is_split=split is not None, is_signed=sign is not None)
        plain = manifest.to_bytes(described)
        sources[MANIFEST] = plain
        output = Output(out, split, _beginning(layout.members(described, plain, None), sources))
        if taken := output.in_the_way():
            raise _taken(taken)
        signed = _signature(sign, plain, described, output) if sign else None
        sources |= {SIGNATURE: signed} if signed else {}
        members = layout.members(described, plain, signed)
        files = _pack(members, sources, output, split, progress)
    return Created(tuple(files), layout.total(members), described)


def _described(
    models: Sequence[Packed], out: Path, packages: Collected | None, *, is_split: bool, is_signed: bool
) -> tuple[Manifest, dict[str, _Source]]:
    """The manifest, and where the bytes of each file of the tar come from."""
    bundled = tuple(each.model for each in models)
    platforms = packages.platforms if packages else ()
    text = readme(out.name, bundled, platforms, is_split=is_split, is_signed=is_signed)
    sources: dict[str, _Source] = {README: text.encode()}
    if packages:
        sources |= {INSTALLERS[0]: INSTALL_SH.encode(), INSTALLERS[1]: INSTALLER.read_bytes()}
        sources |= {f"{PACKAGES}/{wheel.name}": wheel for wheel in sorted(packages.wheels, key=lambda path: path.name)}
    entries = tuple(_entry(path, source) for path, source in sources.items())
    for each in models:
        for file, source in zip(each.model.files, each.files, strict=True):
            sources[f"{MODELS}/{each.model.folder}/{file.name}"] = source
    return Manifest(__version__, bundled, entries, platforms, published.entries(bundled)), sources


def _beginning(members: Sequence[Member], sources: Mapping[str, _Source]) -> bytes:
    """The tar's first two files, README and manifest, which are in no other bundle."""
    found = b""
    for member in members[:2]:
        with _opened(sources[member.path]) as stream:
            found += member.header + stream.read() + member.padding
    return found


def _check_published(model: Packed) -> None:
    """What the other side would refuse is not packed."""
    published.check_sizes(model.model, model.files[0])
    for file, path in zip(model.model.files, model.files, strict=True):
        if why := published.unlike_published(model.model, file):
            raise VerificationFailed(
                f"{path} {why}.",
                "Fetch the published file with `gguf-vl pull`, or give this one another name and import it again.",
            )


def _signature(key: Path, plain: bytes, described: Manifest, output: Output) -> bytes:
    """The signature over the manifest: the one an earlier attempt has left, else a new one.

    Not every kind of key makes the same one twice, and with another one packing could not go on behind it.
    """
    with Joined(output.existing()) as stream:
        stream.read(sum(member.n_bytes for member in layout.members(described, plain, None)[:2]))
        n_bytes = layout.beginning(SIGNATURE, stream.read(layout.BLOCK), signature.MAX_BYTES)
        found = stream.read(n_bytes) if n_bytes else b""
    return found if found and signature.is_by(key, plain, found) else signature.sign(key, plain)


def _entry(path: str, source: _Source) -> FileEntry:
    if isinstance(source, bytes):
        return FileEntry(path, len(source), hashlib.sha256(source).hexdigest())
    return FileEntry(path, source.stat().st_size, sha256_of(source))


def _pack(
    members: Sequence[Member], sources: Mapping[str, _Source], output: Output, split: int | None, progress: Progress
) -> list[Path]:
    label, total = output.path.name, layout.total(members)
    if split and total > split * MAX_PARTS:
        raise UsageError(f"The bundle would have more than {MAX_PARTS} parts.", "Give a larger --split.")
    existing = output.existing()
    left = sum(part.stat().st_size for part in existing)
    missing = total - left
    disk.need(missing, output.path.absolute().parent, label, "Free some space, or give a larger disk with -o.")
    progress.start(label, total)
    is_finished = False
    try:
        n_complete, at = _complete(members, existing, label, progress)
        output.truncate(at)
        if n_complete < 2 and left > sum(member.n_bytes for member in members[:2]):  # README and manifest
            progress.note("What an earlier attempt left is another bundle's, of other packages maybe: packing anew.")
        elif at:
            progress.note(f"{size(at)} are there from an earlier attempt and are right: going on.")
        for member in members[n_complete:]:
            _append(member, sources[member.path], output, progress)
        output.write(layout.END)
        progress.at(label, output.at)
        files = output.finish()
        is_finished = True
    finally:
        progress.end(label)
        if not is_finished:
            output.close()
            if stays := [part.name for part in output.existing()]:
                progress.note(f"What is packed stays in {', '.join(stays)}: the same command goes on there.")
    return files


def _complete(members: Sequence[Member], parts: list[Path], label: str, progress: Progress) -> tuple[int, int]:
    """How many members what is there has in full, and the bytes they take."""
    at = 0
    with Joined(parts) as stream:
        for number, member in enumerate(members):
            if stream.read(len(member.header)) != member.header:
                return number, at
            digest, left = hashlib.sha256(), member.size
            while piece := stream.read(min(CHUNK, left)):
                digest.update(piece)
                left -= len(piece)
                progress.at(label, stream.at)
            if digest.hexdigest() != member.sha256 or stream.read(len(member.padding)) != member.padding:
                return number, at
            at = stream.at
    return len(members), at


def _append(member: Member, source: _Source, output: Output, progress: Progress) -> None:
    start = output.at
    output.write(member.header)
    digest, left = hashlib.sha256(), member.size
    with _opened(source) as stream:
        while left:
            with disk.telling(source if isinstance(source, Path) else output.path, "read"):
                piece = stream.read(min(CHUNK, left))
            if not piece:
                break
            digest.update(piece)
            output.write(piece)
            left -= len(piece)
            progress.at(output.path.name, output.at)
    if left or digest.hexdigest() != member.sha256:
        output.truncate(start)
        where = source if isinstance(source, Path) else member.path
        raise VerificationFailed(
            f"{where} is not what its receipt says: its sha256 is {digest.hexdigest()}, promised {member.sha256}.",
            "See `gguf-vl verify`; remove the model and fetch it again.",
        )
    output.write(member.padding)


def _opened(source: _Source) -> BinaryIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    with disk.telling(source, "read"):
        return source.open("rb")


def _check_place(out: Path, split: int | None) -> None:
    for taken in (out, out.with_name(f"{out.name}.001")):
        if taken.exists():
            raise _taken(taken)
    if not out.parent.is_dir():
        raise MissingOrInvalid(f"There is no folder {out.parent}.", "Make it, or give another place with -o.")
    if split is not None and split < SMALLEST_PART:
        raise UsageError(f"Parts of {split} bytes are too small.", "Give --split 1M or more; 4G suits a FAT stick.")


def _taken(path: Path) -> UsageError:
    return UsageError(f"{path} is there already.", "Give another name with -o, or remove it first.")


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Only one process at a time packs one bundle. The lock is kept off the stick."""
    folder = paths.cache_dir() / "bundle"
    lock = FileLock(folder / f"{hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:16]}.lock")
    with disk.telling(folder, "written"):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            what = f"Another gguf-vl is packing {out}."
            raise GgufVlError(what, "Wait for it, or give another name with -o.") from error
    try:
        yield
    finally:
        lock.release()
