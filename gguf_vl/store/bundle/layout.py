"""The bytes of a bundle's tar, all but the files' own: they follow from the manifest, down to the last bit.

Plain GNU tar, which every tar reads, with no owner and no time in it. Not Python's `tarfile`: its headers have changed
between versions of Python, and these are compared byte by byte.
"""

from __future__ import annotations

import tarfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from hashlib import sha256

from gguf_vl.store.bundle.manifest import INSTALLERS, MANIFEST, MODELS, SIGNATURE, Manifest

BLOCK = 512
END = bytes(2 * BLOCK)
_TIME = 315_532_800
"""The first second of 1980, the earliest that no file system and no tar finds odd."""
_KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.DIRTYPE: "a folder",
    tarfile.FIFOTYPE: "a pipe",
}


@dataclass(frozen=True, slots=True)
class Member:
    """A file in the tar. `size` is bytes, `sha256` lower-case hex."""

    path: str
    size: int
    sha256: str

    @property
    def header(self) -> bytes:
        """The blocks before its bytes."""
        return header(self.path, self.size)

    @property
    def padding(self) -> bytes:
        """The zeros after its bytes."""
        return padding(self.size)

    @property
    def n_bytes(self) -> int:
        """Bytes it takes in the tar."""
        return len(self.header) + self.size + len(self.padding)


def members(manifest: Manifest, manifest_bytes: bytes, signature: bytes | None) -> list[Member]:
    """Every file of the tar, in its order."""
    readme, *others = (Member(file.path, file.size, file.sha256) for file in manifest.files)
    found = [readme, _small(MANIFEST, manifest_bytes)]
    if signature is not None:
        found.append(_small(SIGNATURE, signature))
    found += others
    for model in manifest.models:
        found += [Member(f"{MODELS}/{model.folder}/{file.name}", file.size, file.sha256) for file in model.files]
    return found


def total(found: Sequence[Member]) -> int:
    """Bytes of a tar of these."""
    return sum(member.n_bytes for member in found) + len(END)


def header(path: str, size: int) -> bytes:
    """The blocks that announce a file of `size` bytes (GNU tar manual, "Basic Tar Format")."""
    name = path.encode("utf-8")
    if len(name) <= 100:
        return _block(name, size, b"0", 0o755 if path == INSTALLERS[0] else 0o644)
    long = name + b"\0"
    before = _block(b"././@LongLink", len(long), b"L", 0) + long + padding(len(long))
    return before + _block(name[:100], size, b"0", 0o644)


def padding(size: int) -> bytes:
    """The zeros that fill the last block of `size` bytes."""
    return bytes(-size % BLOCK)


def beginning(path: str, block: bytes, limit: int) -> int | None:
    """The size that `block`, a file's header, announces for `path`; None when it is not just that, or above `limit`."""
    try:
        size = tarfile.TarInfo.frombuf(block, "utf-8", "replace").size
    except tarfile.HeaderError:
        return None
    return size if 0 <= size <= limit and block == header(path, size) else None


def difference(found: bytes, expected: Member | None, listed: Collection[str]) -> str:
    """What is wrong with a header that is not the expected one, in words that follow the bundle's name."""
    wanted = f"where {expected.path} is expected" if expected else "where it should end"
    if not any(found):
        return f"ends {wanted}"
    try:
        info = tarfile.TarInfo.frombuf(found[:BLOCK], "utf-8", "replace")
    except tarfile.HeaderError:
        return f"is damaged {wanted}"
    name = f"{info.name[:100]!r}"
    if info.type in _KINDS:
        return f"holds {_KINDS[info.type]}, {name}, {wanted}"
    if expected and info.name == expected.path:
        return f"holds {info.size} bytes of {name}, or has another header of it, where {expected.size} are promised"
    if info.name in listed:
        return f"holds {name} {wanted}"
    return f"holds {name}, which its manifest does not name, {wanted}"


def _small(path: str, data: bytes) -> Member:
    return Member(path, len(data), sha256(data).hexdigest())


def _block(name: bytes, size: int, kind: bytes, mode: int) -> bytes:
    octal = b"%011o\0" % size if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    fields = (
        (name, 100),
        (b"%07o\0" % mode, 8),
        (b"%07o\0" % 0, 8),  # user
        (b"%07o\0" % 0, 8),  # group
        (octal, 12),
        (b"%011o\0" % _TIME, 12),
        (b" " * 8, 8),  # the checksum's own place counts as spaces
        (kind, 1),
        (b"", 100),  # a link's target
        (b"ustar  \0", 8),
        (b"", BLOCK - 265),  # names of user and group, device, and what GNU added
    )
    block = b"".join(value.ljust(width, b"\0") for value, width in fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]
