"""The file of lines: one writer, whole lines at every moment, gone on with after anything."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout

from gguf_vl.errors import GgufVlError, MissingOrInvalid, UsageError
from gguf_vl.tasks.batch.formats import Format
from gguf_vl.tasks.batch.line import Line, Plain

VERSION = 1


class Output:
    """A file of lines for one job, and beside it what the job is (`FILE.job`) and a lock (`.FILE.lock`).

    Each line is written at once and flushed to the disk, so that a killed process or a power cut costs nothing that was
    finished. `done` are the absolute paths of the files that have a line; `n_failed` of the lines are errors.

    Opening raises `UsageError` for a file that is there without `resume`, and for one of another job with it;
    `MissingOrInvalid` for one that is no such file; `GgufVlError` where another process writes it or the disk refuses.
    """

    def __init__(self, path: Path, job: Mapping[str, Any], form: Format, *, resume: bool) -> None:
        self.path = path
        self.done: set[str] = set()
        self.n_failed = 0
        self.healed = 0  # bytes of a torn line that were cut off
        real = Path(os.path.realpath(path))  # two names of one file have one lock
        self._job_file = real.with_name(f"{real.name}.job")
        self._form = form
        self._lock = FileLock(real.with_name(f".{real.name}.lock"))
        self._fd = -1
        self._end = 0
        self._take_lock()
        try:
            self._cwd = self._check_job(job, resume=resume)
            self._open(resume=resume)
        except BaseException:
            self.close()
            raise

    def _take_lock(self) -> None:
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise GgufVlError(
                f"Another gguf-vl is writing {self.path}.", "Wait for it, or give another name with --out."
            ) from error
        except OSError as error:
            raise self._unwritable(error) from error

    def _check_job(self, job: Mapping[str, Any], *, resume: bool) -> str:
        """The folder that relative names are meant from: this one, or that of the beginning. Writes the job down."""
        if self.path.exists():
            if not resume:
                raise UsageError(
                    f"{self.path} is there already.", "Go on with it: --resume. Or give another name with --out."
                )
            begun = self._begun()
            changed = [key for key in job if begun.get(key) != job[key]]
            if changed:
                was = ", ".join(f"{key} was {_shown(begun.get(key))}, now {_shown(job[key])}" for key in changed)
                raise UsageError(f"{self.path} was begun otherwise: {was}.", "Ask the same, or give another --out.")
            return str(begun["cwd"])
        self._write_job({"version": VERSION, **job, "cwd": os.getcwd()})
        return os.getcwd()

    def _begun(self) -> dict[str, Any]:
        try:
            begun = json.loads(self._job_file.read_bytes())
            if begun["version"] != VERSION:
                raise ValueError(f"version {begun['version']}")
            os.fspath(begun["cwd"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise MissingOrInvalid(
                f"{self.path} cannot be gone on with: {self._job_file.name} beside it, which says what was asked, is "
                "missing or damaged.",
                "Give another name with --out.",
            ) from error
        else:
            assert isinstance(begun, dict)
            return begun

    def _write_job(self, job: Mapping[str, Any]) -> None:
        new = self._job_file.with_name(f".{self._job_file.name}.new")
        try:
            with new.open("w", encoding="utf-8") as file:
                json.dump(job, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, self._job_file)
        except OSError as error:
            new.unlink(missing_ok=True)
            raise self._unwritable(error) from error

    def _open(self, *, resume: bool) -> None:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | (0 if resume else os.O_EXCL)
        try:
            self._fd = os.open(self.path, flags, 0o666)
            self._heal()
        except OSError as error:
            raise self._unwritable(error) from error
        if not self._end:
            self._append(self._form.head)

    def _heal(self) -> None:
        """Find what is done, and cut off a last line that was not written to its end."""
        for n, (record, plain) in enumerate(self._records(), 1):
            if plain is None and self._end + len(record) < os.fstat(self._fd).st_size:
                raise MissingOrInvalid(
                    f"Line {n} of {self.path} is none that was written here.", "Mend it, or give another --out."
                )
            if plain is None:
                break
            self._end += len(record)
            if plain:
                self._count(plain["file"], plain.get("error"))
        self.healed = os.fstat(self._fd).st_size - self._end
        if self.healed:
            os.ftruncate(self._fd, self._end)

    def _records(self) -> Iterator[tuple[bytes, Plain | None]]:
        """Each record and its line: none in a head, None where it cannot be read."""
        with self.path.open("rb") as file:
            for n, record in enumerate(self._form.records(file)):
                if n == 0 and record == self._form.head:
                    yield record, {}
                    continue
                try:
                    yield record, self._form.read(record)
                except ValueError:
                    yield record, None

    def lines(self) -> Iterator[Plain]:
        """All lines, as they stand in the file."""
        return (plain for _, plain in self._records() if plain)

    def place(self, file: str) -> str:
        """Where a line's file is, absolute."""
        return os.path.normpath(os.path.join(self._cwd, file))

    def append(self, line: Line) -> None:
        """Write a line so that it is there to stay. Raises `GgufVlError` where the disk refuses; nothing of it is left
        then.
        """
        if not os.path.isabs(line.file) and os.getcwd() != self._cwd:  # relative names all mean one folder
            line = replace(line, file=os.path.relpath(line.file, self._cwd))
        self._append(self._form.write(line))
        self._count(line.file, line.error)

    def _count(self, file: str, error: object) -> None:
        self.done.add(self.place(file))
        self.n_failed += bool(error)

    def _append(self, data: bytes) -> None:
        try:
            os.lseek(self._fd, self._end, os.SEEK_SET)
            written = 0
            while written < len(data):
                written += os.write(self._fd, data[written:])
            os.fsync(self._fd)
        except OSError as error:
            os.ftruncate(self._fd, self._end)  # needs no room
            raise self._unwritable(error) from error
        self._end += len(data)

    def _unwritable(self, error: OSError) -> GgufVlError:
        return GgufVlError(
            f"{self.path} cannot be written: {error.strerror or error}.",
            "Make room for it there, or see that it may be written; then go on with --resume.",
        )

    def close(self) -> None:
        """Let others write it. Harmless when done twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"
