"""Reads a bundle once from its beginning to its end, and lets nothing pass that its manifest does not promise."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gguf_vl.errors import MissingOrInvalid, UsageError, VerificationFailed
from gguf_vl.store.bundle import layout, manifest, published, signature
from gguf_vl.store.bundle.layout import BLOCK, Member
from gguf_vl.store.bundle.manifest import MANIFEST, README, SIGNATURE, Manifest
from gguf_vl.store.bundle.stream import Joined, parts_of
from gguf_vl.store.hashing import CHUNK
from gguf_vl.store.place import check_name
from gguf_vl.store.progress import Progress

_AGAIN = "Nothing was taken from it: copy the bundle again, or have it made again."
_LARGEST_README = 1 << 20


@dataclass(frozen=True, slots=True)
class Verified:
    """A bundle that is in every byte what its manifest promises.

    `signed_by` is who signed the manifest, as far as that was asked; None where it was not.
    """

    path: Path
    n_bytes: int
    manifest: Manifest
    signed: bool
    signed_by: str | None


@contextmanager
def reading(path: Path, progress: Progress, trust: Path | None = None) -> Iterator[Reading]:
    """A bundle of which the manifest has been read, and its signature checked against `trust` where that is given.

    Raises `MissingOrInvalid` when there is no bundle at `path`, and otherwise what `Reading.files` does.
    """
    with Joined(parts_of(path)) as stream:
        progress.start(path.name, stream.size)
        try:
            yield Reading(path, stream, progress, trust)
        finally:
            progress.end(path.name)


def verify(path: Path, progress: Progress, trust: Path | None = None) -> Verified:
    """Read all of the bundle at `path`, a tar or the first of its parts, and say what it is.

    With `trust`, a public key or an allowed_signers file, it must be signed by one of those. Raises
    `VerificationFailed` with what differs, `MissingOrInvalid` for what is no bundle.
    """
    with reading(path, progress, trust) as bundle:
        for _ in bundle.files():
            pass
        return bundle.verified


class Reading:
    """A bundle being read."""

    def __init__(self, path: Path, stream: Joined, progress: Progress, trust: Path | None) -> None:
        self._path = path
        self._stream = stream
        self._progress = progress
        readme = self._small(README, self._block(README), _LARGEST_README)
        plain = self._small(MANIFEST, self._block(MANIFEST), manifest.MAX_BYTES)
        signed = None
        self._ahead = self._read(BLOCK, "what follows the manifest")
        if layout.beginning(SIGNATURE, self._ahead, signature.MAX_BYTES) is not None:
            signed = self._small(SIGNATURE, self._ahead, signature.MAX_BYTES)
            self._ahead = b""
        signed_by = self._signer(trust, plain, signed)
        found = manifest.from_bytes(plain)
        try:
            for model in found.models:
                check_name(model.name)
        except UsageError as error:
            raise VerificationFailed(f"{path.name} is not to be trusted: {error.what}", _AGAIN) from error
        published.check(found)
        self.verified = Verified(path, stream.size, found, signed is not None, signed_by)
        all_members = layout.members(found, plain, signed)
        self._listed = {member.path for member in all_members}
        self._left = all_members[2 if signed is None else 3 :]
        if (len(readme), hashlib.sha256(readme).hexdigest()) != (all_members[0].size, all_members[0].sha256):
            raise self._wrong(f"is damaged in {README}")
        if stream.size < layout.total(all_members):
            raise self._wrong(_shortness(all_members, stream.size))

    def files(self) -> Iterator[tuple[Member, Iterator[bytes]]]:
        """Each file after the manifest with its bytes, in pieces. They are right when their iterator has ended.

        Raises `VerificationFailed` as soon as a byte of the tar is not what the manifest makes it.
        """
        for member in self._left:
            self._expect(member)
            pieces = self._bytes_of(member)
            yield member, pieces
            for _ in pieces:  # those that nobody wanted
                pass
            if self._read(len(member.padding), member.path) != member.padding:
                raise self._wrong(f"is damaged after {member.path}")
        end = self._next(len(layout.END), "the end")
        if end != layout.END:
            raise self._wrong(layout.difference(end, None, self._listed))
        if self._stream.at < self._stream.size:
            raise self._wrong("goes on after its end")
        self._progress.at(self._path.name, self._stream.at)

    def _bytes_of(self, member: Member) -> Iterator[bytes]:
        digest, left = hashlib.sha256(), member.size
        while left:
            piece = self._read(min(CHUNK, left), member.path)
            digest.update(piece)
            left -= len(piece)
            self._progress.at(self._path.name, self._stream.at)
            yield piece
        if digest.hexdigest() != member.sha256:
            raise self._wrong(
                f"is damaged in {member.path}: its sha256 is {digest.hexdigest()}, promised {member.sha256}"
            )

    def _expect(self, member: Member) -> None:
        header = member.header
        found = self._next(len(header), member.path)
        if found != header:
            raise self._wrong(layout.difference(found, member, self._listed))

    def _next(self, n: int, where: str) -> bytes:
        """`n` bytes, the first of which may have been read to see what they are."""
        ahead, self._ahead = self._ahead, b""
        return ahead + self._read(n - len(ahead), where)

    def _block(self, name: str) -> bytes:
        block = self._stream.read(BLOCK)
        if len(block) < BLOCK:
            raise self._foreign(name)
        return block

    def _small(self, name: str, block: bytes, limit: int) -> bytes:
        """The bytes of a file that the manifest cannot vouch for yet, whose header has been read."""
        size = layout.beginning(name, block, limit)
        if size is None:
            raise self._foreign(name)
        data = self._read(size, name)
        padding = layout.padding(size)
        if self._read(len(padding), name) != padding:
            raise self._wrong(f"is damaged after {name}")
        return data

    def _signer(self, trust: Path | None, plain: bytes, signed: bytes | None) -> str | None:
        if trust is None:
            return None
        if signed is None:
            raise VerificationFailed(
                f"{self._path.name} is not signed, and a signature by {trust} is demanded.",
                "Have it made with `gguf-vl bundle create --sign KEY`, or leave out --trust.",
            )
        return signature.check(trust, plain, signed)

    def _read(self, n: int, where: str) -> bytes:
        data = self._stream.read(n)
        if len(data) < n:
            raise self._wrong(f"ends too early, in {where}: {self._stream.at} bytes are here")
        return data

    def _foreign(self, name: str) -> MissingOrInvalid:
        return MissingOrInvalid(
            f"{self._path} is not a bundle, or is damaged in its beginning, where {name} should be.",
            "Give a tar that `gguf-vl bundle create` has made, or copy it again.",
        )

    def _wrong(self, what: str) -> VerificationFailed:
        return VerificationFailed(f"{self._path.name} {what}.", _AGAIN)


def _shortness(members: list[Member], size: int) -> str:
    place = 0
    for member in members:
        place += member.n_bytes
        if place > size:
            return f"is incomplete: it ends in {member.path}, after {size} of {layout.total(members)} bytes"
    return f"is incomplete: it has {size} of {layout.total(members)} bytes"
