"""One file from a URL to the disk: resumed after anything, hashed on the way, taken over only when it is right.

What has arrived lies in a `.part` file named after the content it belongs to, so that it outlives the process and is
never continued with other bytes. Nothing here knows models or hubs.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gguf_vl.errors import Unreachable, VerificationFailed
from gguf_vl.gguf.wire import shown
from gguf_vl.store.hashing import CHUNK, sha256_of
from gguf_vl.store.progress import Progress
from gguf_vl.store.sources import RemoteFile

if TYPE_CHECKING:
    import httpx2

ATTEMPTS = 6
"""Attempts in a row that bring no new byte before it gives up."""
LONGEST_WAIT_S = 120.0
"""A server that wants more patience than this is told of, not waited for."""
TIMEOUT_S = 30.0
"""Without a byte for so long, a connection counts as cut."""
SYNC_EVERY = 64 * CHUNK
"""Bytes after which a part is written through, so that a power cut costs no more."""
HASHED_AT_ONCE = 64 * CHUNK
"""A part of at most so many bytes is hashed when it is opened, a longer one when the file is whole; it takes no bar."""
WRONG = ".wrong"
"""At the end of a file's name: its bytes are not the promised ones."""
AGAIN = "Run the same command again: it goes on where it stopped. Or try another --source."


class _Cut(Exception):
    """The connection ended before the file did, or the server asks for patience; `wait_s` as it wishes."""

    def __init__(self, why: str, wait_s: float | None = None) -> None:
        super().__init__(why)
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class Fetched:
    """A complete file. `sha256` was computed from its bytes."""

    path: Path
    size: int
    sha256: str


def download(
    file: RemoteFile, target: Path, progress: Progress, *, wait: Callable[[float], None] | None = None
) -> Fetched:
    """Fetch `file` to `target`, continuing what an earlier attempt left beside it. What is there and right stays.

    Cut connections, timeouts, 429, 5xx and answers that are another file's are tried again with growing waits. Raises
    `VerificationFailed` when the hash is not that of `file`; the wrong bytes are then kept beside `target` with
    `WRONG` at the end. Raises `Unreachable` when it does not come through, and `file.refusal` when it is refused.
    """
    if target.exists():
        n_bytes = target.stat().st_size
        told = progress if n_bytes > HASHED_AT_ONCE else None
        found = Fetched(target, n_bytes, sha256_of(target, told, f"{file.name}: verifying"))
        if file.sha256 in (None, found.sha256) and file.size in (None, found.size):
            return found
    for fresh in (False, True):
        part = _Part(file, target)
        resumed = part.size > 0
        try:
            _complete(part, progress, wait)
            return part.take_over(progress)
        except VerificationFailed:
            if fresh or not resumed:
                raise
            progress.note(f"What was here of {file.name} belongs to something else: fetching it anew.")
        finally:
            part.close()
    raise AssertionError("unreachable")


def download_beginning(
    file: RemoteFile, target: Path, size: int, progress: Progress, *, wait: Callable[[float], None] | None = None
) -> Path:
    """Fetch the first `size` bytes of `file` at least, and return where they are: `download` goes on from there."""
    part = _Part(file, target)
    try:
        _complete(part, progress, wait, until=size)
        return part.path
    finally:
        part.close()


def discard(file: RemoteFile, target: Path, progress: Progress) -> bool:
    """Remove what is here but for the whole file with the promised hash; whether there was anything."""
    found = [path for path in (_part_path(file, target), target) if path.exists()]
    if target in found and file.sha256 and file.sha256 == sha256_of(target, progress, f"{file.name}: verifying"):
        found.remove(target)
    for path in found:
        path.unlink()
    return bool(found)


def remaining(file: RemoteFile, target: Path) -> int:
    """Bytes of `file` that `download` has still to fetch; 0 also where its size is unknown."""
    here = target if target.exists() else _part_path(file, target)
    return max(0, (file.size or 0) - (here.stat().st_size if here.exists() else 0))


def _part_path(file: RemoteFile, target: Path) -> Path:
    content = file.sha256 or hashlib.sha256(f"{file.url} {file.size}".encode()).hexdigest()
    return target.with_name(f"{target.name}.{content[:12]}.part")


class _Part:
    """The bytes that have arrived, and their hash so far."""

    def __init__(self, file: RemoteFile, target: Path) -> None:
        self.file = file
        self.target = target
        self.path = _part_path(file, target)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = self.path.open("a+b")
        self.size = self._stream.seek(0, os.SEEK_END)
        self._hashed = 0
        self._hash = hashlib.sha256()
        self._unsynced = 0
        if self.size <= HASHED_AT_ONCE:
            self._stream.seek(0)
            self._hash.update(self._stream.read())
            self._hashed = self.size

    @property
    def is_complete(self) -> bool:
        """Whether as many bytes are here as the file has."""
        return self.file.size is not None and self.size >= self.file.size

    def holds(self, until: int | None) -> bool:
        """Whether all of it is here, or `until` bytes are."""
        return self.is_complete or (until is not None and self.size >= until)

    def write(self, chunk: bytes) -> None:
        """Add bytes at the end."""
        if self._hashed == self.size:
            self._hash.update(chunk)
            self._hashed += len(chunk)
        self._stream.write(chunk)
        self.size += len(chunk)
        self._unsynced += len(chunk)
        if self._unsynced >= SYNC_EVERY:
            self._sync()

    def take_over(self, progress: Progress) -> Fetched:
        """Move the file to its place when it is the promised one; else aside, with `VerificationFailed`."""
        self._sync()
        self._hash_the_rest(progress)
        sha256 = self._hash.hexdigest()
        file = self.file
        self.close()
        if (file.size is not None and self.size != file.size) or (file.sha256 and sha256 != file.sha256):
            wrong = self.target.with_name(f"{self.target.name}{WRONG}")
            self.path.replace(wrong)
            promised = f"{file.size} bytes with sha256 {file.sha256 or 'unknown'}"
            raise VerificationFailed(
                f"{file.name} is not what was promised: {self.size} bytes with sha256 {sha256}, expected {promised}.",
                f"It was not installed and is kept as {wrong}; try again, or another --source.",
            )
        self.path.replace(self.target)
        return Fetched(self.target, self.size, sha256)

    def close(self) -> None:
        """Leave the bytes on the disk."""
        self._stream.close()

    def _sync(self) -> None:
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._unsynced = 0

    def _hash_the_rest(self, progress: Progress) -> None:
        """Hash a file of which an earlier process left a part: only such a one is read once more."""
        if self._hashed == self.size:
            return
        label = f"{self.file.name}: verifying"
        progress.start(label, self.size)
        self._hash, self._hashed = hashlib.sha256(), 0
        self._stream.seek(0)
        while chunk := self._stream.read(CHUNK):
            self._hash.update(chunk)
            self._hashed += len(chunk)
            progress.at(label, self._hashed)
        progress.end(label)


def _complete(part: _Part, progress: Progress, wait: Callable[[float], None] | None, until: int | None = None) -> None:
    """Fetch until the part is complete, or holds `until` bytes."""
    if part.holds(until):
        return
    file, failures = part.file, 0
    progress.start(file.name, file.size or 0, part.size)
    while not part.holds(until):
        before = part.size
        try:
            _fetch(part, progress, until)
            if file.size is None:
                break
        except _Cut as cut:
            failures = 0 if part.size > before else failures + 1
            if failures >= ATTEMPTS:
                what = f"{file.name} did not come through after {ATTEMPTS} attempts: {cut}."
                raise Unreachable(what, AGAIN) from cut
            pause = min(30.0, 2.0**failures) if cut.wait_s is None else cut.wait_s
            if pause > LONGEST_WAIT_S:
                what = f"The server wants {pause:.0f} s of patience before it goes on with {file.name}."
                raise Unreachable(what, AGAIN) from cut
            progress.note(f"{file.name}: {cut}; trying again in {pause:.0f} s.")
            (time.sleep if wait is None else wait)(pause)
    progress.end(file.name)


def _fetch(part: _Part, progress: Progress, until: int | None) -> None:
    """One request for what is missing, written as it arrives. Raises `_Cut` when it ends too early."""
    file = part.file
    headers = {**file.headers, "Accept-Encoding": "identity"}
    if part.size or until is not None:
        headers["Range"] = f"bytes={part.size}-{'' if until is None else until - 1}"
    with _network_errors(), _open(file.url, headers) as response:
        if response.status_code == 416 and file.size is None and _total(response) == part.size:
            return  # nobody said how long it is, and all of it is here
        _check_status(response, file)
        skip = _to_skip(response, part)
        with closing(response.iter_raw()) as chunks:  # one that is only let go of swallows a Ctrl-C while it closes
            for chunk in chunks:
                fresh = chunk[skip:]
                skip = max(0, skip - len(chunk))
                part.write(fresh)
                progress.at(file.name, part.size)
                if part.holds(until):
                    return  # a server that ignored the range would go on
    if file.size is not None and part.size < (file.size if until is None else min(until, file.size)):
        raise _Cut("the connection ended early")


def _open(url: str, headers: dict[str, str]) -> Any:
    from huggingface_hub import get_session

    return get_session().stream("GET", url, headers=headers, timeout=TIMEOUT_S, follow_redirects=True)


@contextmanager
def _network_errors() -> Iterator[None]:
    import httpx2

    try:
        yield
    except (httpx2.RequestError, httpx2.InvalidURL) as error:
        said = shown(error).rstrip(".")
        raise _Cut(f"{type(error).__name__}: {said}" if said else type(error).__name__) from error


def _check_status(response: httpx2.Response, file: RemoteFile) -> None:
    status = response.status_code
    if status in (200, 206):
        return
    if status in (408, 416, 425, 429) or status >= 500:
        raise _Cut(f"the server answers {status}", _retry_after(response))
    raise file.refusal(status, response.headers.get("X-Error-Code"))


def _to_skip(response: httpx2.Response, part: _Part) -> int:
    """Bytes at the answer's beginning that are here already: all of them where the server knows no ranges.

    Raises `_Cut` for an answer that cannot be this file: nothing of it touches what has arrived.
    """
    total, kind = _total(response), shown(response.headers.get("Content-Type", ""), 80)
    if part.file.size is not None and total is not None and total != part.file.size:
        raise _Cut(f"it has {total} bytes there ({kind or 'of no type'}) where {part.file.size} were promised")
    if kind.startswith("text/html"):
        raise _Cut("a web page came in its place; is there a login page in the way?")
    start = _start(response)
    if start is None or start > part.size:
        raise _Cut("the server began in the wrong place")
    return part.size - start


def _retry_after(response: httpx2.Response) -> float | None:
    try:
        return max(0.0, float(response.headers["Retry-After"]))
    except (KeyError, ValueError):  # missing, or a date
        return None


def _start(response: httpx2.Response) -> int | None:
    """The file's byte with which the answer begins; None where a part does not say which it is.

    ModelScope answers ranges with status 200: the header decides.
    """
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if found:
        return int(found[1])
    return None if response.status_code == 206 else 0


def _total(response: httpx2.Response) -> int | None:
    """Bytes of the whole file, as the answer's headers declare them."""
    headers = response.headers
    whole = headers["Content-Range"].rpartition("/")[2] if "Content-Range" in headers else headers.get("Content-Length")
    return int(whole) if whole and whole.isdigit() else None
