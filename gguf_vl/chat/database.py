"""The SQLite file: opening and migrating it, connections for threads, transactions, and its troubles in plain words.

database = Database(path)
with database.reading() as connection: …    several threads at once, each sees one state
with database.writing() as connection: …    one at a time, of all processes; committed at the end, or undone
database.close()
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gguf_vl.errors import GgufVlError, InvalidHistory

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_MS = 10_000
"""How long a writer waits for those of other processes."""


class Database:
    """An open file, made or migrated where need be. Raises `InvalidHistory` or `GgufVlError`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._idle: list[sqlite3.Connection] = []
        # Threads that wait for each other here get their turn at once; SQLite would have them sleep and try again.
        self._turn = threading.RLock()
        self._closed = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                path.touch(mode=0o600)  # what a person asks is nobody else's; SQLite's files beside it follow
        except OSError as error:
            what = f"{path} cannot be made: {error.strerror}."
            raise GgufVlError(what, f"Make room for it, {_ELSEWHERE}") from error
        with self._connection() as connection, telling(path):
            _migrate(connection, path)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection on which every query sees the same state."""
        with self._connection() as connection, telling(self.path):
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                _end(connection, "ROLLBACK")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that nobody else writes beside; not to be entered twice by one thread."""
        with self._turn, self._connection() as connection, telling(self.path):
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                _end(connection, "ROLLBACK")
                raise

    def run(self, statement: str, values: tuple[object, ...]) -> int:
        """One statement as its own transaction: the cheapest write. -> the rows that changed."""
        with self._turn, self._connection() as connection, telling(self.path):
            return connection.execute(statement, values).rowcount

    def close(self) -> None:
        """Close every connection; one that is still used by another thread is closed when that is done."""
        self._closed = True
        while True:
            try:
                self._idle.pop().close()
            except IndexError:
                return

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection that no other thread uses meanwhile."""
        try:
            connection = self._idle.pop()
        except IndexError:
            with telling(self.path):
                connection = _connected(self.path)
        try:
            yield connection
        finally:
            self._idle.append(connection)
            if self._closed:
                self.close()


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        # A crash of this program or a kill loses nothing; a power cut at most the last moments, never the file.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA cache_size = -16000")  # KiB: what a search reads stays in memory
    except BaseException:
        connection.close()
        raise
    return connection


def _end(connection: sqlite3.Connection, how: str) -> None:
    if connection.in_transaction:  # SQLite has undone it by itself after some errors
        connection.execute(how)


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Apply the numbered files that the database has not seen, all of them or none."""
    steps = sorted(MIGRATIONS.glob("m[0-9]*.sql"))
    if _version(connection) == len(steps):
        return
    connection.execute("BEGIN IMMEDIATE")  # another process may be at it
    try:
        version = _version(connection)
        if version > len(steps):
            raise InvalidHistory(
                f"The chats in {path} were written by a newer gguf-vl (their format is {version}, this one knows up "
                f"to {len(steps)}).",
                "Update gguf-vl, or set GGUF_VL_HOME to another folder to begin anew there. Nothing was changed.",
            )
        if version == 0 and connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise InvalidHistory(
                f"{path} is a database of another program.", "Move it to another place. Nothing was changed."
            )
        for step in steps[version:]:
            for statement in _statements(step.read_text(encoding="utf-8")):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(steps)}")
        connection.execute("COMMIT")
    except BaseException:
        _end(connection, "ROLLBACK")
        raise


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _statements(script: str) -> Iterator[str]:
    """One by one, because `executescript` commits what is open before it begins."""
    begun = ""
    for line in script.splitlines(keepends=True):
        begun += line
        if sqlite3.complete_statement(begun):
            yield begun
            begun = ""


_ELSEWHERE = "or set GGUF_VL_HOME to another folder."
_TROUBLES = {
    sqlite3.SQLITE_FULL: ("the disk is full", f"Free some space, {_ELSEWHERE} What was written before is kept."),
    sqlite3.SQLITE_BUSY: ("another program holds it", "See whether another gguf-vl hangs, and try again."),
    sqlite3.SQLITE_LOCKED: ("another program holds it", "See whether another gguf-vl hangs, and try again."),
    sqlite3.SQLITE_READONLY: ("it may not be written", f"Give yourself the right to write it, {_ELSEWHERE}"),
    sqlite3.SQLITE_PERM: ("it may not be read", f"Give yourself the right to read it, {_ELSEWHERE}"),
    sqlite3.SQLITE_CANTOPEN: (
        "it cannot be opened",
        f"See that it is a file that you may read and write, {_ELSEWHERE}",
    ),
    sqlite3.SQLITE_IOERR: ("the disk fails", f"See that the disk is there and in order, {_ELSEWHERE}"),
}
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT)


@contextmanager
def telling(path: Path) -> Iterator[None]:
    """Turn what SQLite says of the disk and the file into an error for a person; mistakes in SQL stay what they are."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without the finer distinctions
        if code in _DAMAGED:
            raise InvalidHistory(
                f"The chats in {path} cannot be read: {error}.",
                "The file is left as it is. Restore it from a backup, or move it aside to begin anew "
                f"(`sqlite3 {path.name} .recover` may save what is in it).",
            ) from error
        if code not in _TROUBLES:
            raise
        why, fix = _TROUBLES[code]
        raise GgufVlError(f"The chats in {path} cannot be kept: {why}.", fix) from error


def set_aside(path: Path) -> Path:
    """Move a damaged database, with the files SQLite keeps beside it, to a name of its own. -> the new place.

    Nothing of it is deleted, nor are pictures as long as it is there.
    """
    number = 1
    while (target := path.with_name(f"{path.stem}.damaged-{number}{path.suffix}")).exists():
        number += 1
    try:
        for ending in ("-wal", "-shm", ""):
            beside = path.with_name(path.name + ending)
            if beside.exists():
                beside.rename(target.with_name(target.name + ending))
    except OSError as error:
        raise GgufVlError(f"{path} cannot be moved aside: {error.strerror}.", "Move it by hand.") from error
    return target
