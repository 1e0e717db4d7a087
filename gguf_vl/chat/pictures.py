"""The files of pictures and videos, each once: `pictures/ab/abcdef….png`, named by the SHA-256 of their bytes.

A file appears under its name complete or not at all. The database knows of it before it is written, so that what a
kill leaves behind is found and swept; a file that the database does not know is never touched.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from io import BufferedReader, BytesIO
from pathlib import Path

from gguf_vl.chat.database import Database

HEAD = 1024
"""Bytes by which a file is known."""
_VIDEOS = {
    "mov": ".mp4",
    "matroska": ".mkv",
    "avi": ".avi",
    "mpegts": ".ts",
    "ogg": ".ogv",
    "flv": ".flv",
    "asf": ".wmv",
}
_Source = Callable[[], BytesIO | BufferedReader]
UNUSED_S = 24 * 3600.0
"""A picture that nothing refers to is kept so long: it may just be on its way into a chat."""


def picture_path(folder: Path, digest: str, suffix: str) -> Path:
    """Where the picture of that digest is kept."""
    return folder / digest[:2] / f"{digest}{suffix}"


class Pictures:
    """The picture files of a history."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder = folder
        self._database = database

    def keep(self, data: bytes, size: tuple[int, int], seconds: float | None = None) -> str:
        """Write a picture of (width, height) pixels, upright, or a video of so many seconds, unless it is here. -> its
        digest.

        Raises GgufVlError where the disk refuses.
        """
        return self._keep(lambda: BytesIO(data), size, seconds)

    def keep_file(self, path: Path, size: tuple[int, int], seconds: float) -> str:
        """The same with the video in a file, which is read by and by."""
        from gguf_vl.store.disk import telling

        with telling(path, "read"):
            return self._keep(lambda: path.open("rb"), size, seconds)

    def _keep(
        self, source: Callable[[], BytesIO | BufferedReader], size: tuple[int, int], seconds: float | None
    ) -> str:
        import hashlib

        with source() as file:
            suffix = _suffix(file.read(HEAD))
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            n_bytes = file.seek(0, os.SEEK_END)
        self._database.run(
            "INSERT INTO picture (digest, suffix, width, height, n_bytes, touched, seconds) "
            "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET touched = excluded.touched",
            (digest, suffix, *size, n_bytes, time.time(), seconds),
        )
        path = picture_path(self.folder, digest, suffix)
        if not (path.is_file() and path.stat().st_size == n_bytes):
            with source() as file:
                self._write(path, file)
        return digest

    def sweep(self) -> None:
        """Remove the files of pictures that no chat holds any more, and what a kill has left of a writing."""
        before = time.time() - UNUSED_S
        unused = """FROM picture WHERE touched < ? AND NOT EXISTS
            (SELECT 1 FROM attachment WHERE attachment.digest = picture.digest)"""
        with self._database.reading() as connection:
            found = connection.execute(f"SELECT 1 {unused} LIMIT 1", (before,)).fetchone()
        if found and not any(self._database.path.parent.glob(f"{self._database.path.stem}.damaged-*")):
            with self._database.writing() as connection:
                for row in connection.execute(f"SELECT digest, suffix {unused}", (before,)).fetchall():
                    with suppress(OSError):
                        picture_path(self.folder, row["digest"], row["suffix"]).unlink()
                connection.execute(f"DELETE {unused}", (before,))
        with suppress(OSError):
            for path in self._aside.iterdir():
                if path.stat().st_mtime < before:
                    path.unlink()

    @property
    def _aside(self) -> Path:
        return self.folder / ".writing"

    def _write(self, path: Path, source: BytesIO | BufferedReader) -> None:
        from gguf_vl.store.disk import sync, telling

        aside = self._aside / os.urandom(8).hex()
        with telling(path, "written"):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in (self._aside, path.parent):
                folder.mkdir(exist_ok=True)
            try:
                with aside.open("wb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(aside, path)
            except BaseException:
                with suppress(OSError):
                    aside.unlink()
                raise
            sync(path.parent)


def _suffix(data: bytes) -> str:
    """By the first bytes, never by what a stranger calls it: programs that open the file go by it."""
    from gguf_vl.errors import InvalidPicture
    from gguf_vl.media.formats import kind_of, video_in

    if container := video_in(data):
        return _VIDEOS.get(container, ".video")
    try:
        return f".{kind_of(data, 'it').lower()}"
    except InvalidPicture:
        return ".bin"
