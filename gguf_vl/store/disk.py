"""The disk's own troubles, in words for a person: no room, no right to write, a file too large."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gguf_vl import paths
from gguf_vl.errors import GgufVlError
from gguf_vl.gguf.wire import shown
from gguf_vl.store.progress import size

SPARE_BYTES = 64 << 20
"""Disk to be left over."""


def need(n_bytes: int, place: Path, what: str, fix: str | None = None) -> None:
    """`GgufVlError` when `place`, which need not exist yet, has no room for `n_bytes` and some to spare.

    `what` is to be put there: "The bundle's models"; `fix` what to do, where that is not about the models' folder.
    """
    free = shutil.disk_usage(next(each for each in (place, *place.parents) if each.is_dir())).free
    if n_bytes and n_bytes + SPARE_BYTES > free:
        raise GgufVlError(
            f"{what}: {size(n_bytes)} are to come, and {shown(place)} has {size(free)} free.",
            fix or "Free some space (`gguf-vl rm`), or set GGUF_VL_HOME to a larger disk.",
        )


@contextmanager
def telling(path: Path, done: str) -> Iterator[None]:
    """Turn what a disk complains of into a `GgufVlError`; `done` is "read" or "written"."""
    try:
        yield
    except OSError as error:
        fix = {
            errno.EFBIG: "The file system takes no file so large: use another; a bundle can be packed with --split 4G.",
            errno.ENOSPC: "Free some space, or take a larger disk",
        }.get(error.errno or 0, f"See that the disk is there and in order, and that the file may be {done}")
        if error.errno != errno.EFBIG:
            fix += ", or set GGUF_VL_HOME to another." if path.is_relative_to(paths.data_dir()) else "."
        why = error.strerror or error
        if error.errno == errno.EEXIST:  # the folder to be made is something else already
            why = f"it is a link to {shown(os.path.realpath(path))}" if path.is_symlink() else "it is a file"
            why += ", and no folder"
        raise GgufVlError(f"{shown(path)} cannot be {done}: {why}.", fix) from error


def replace_text(path: Path, text: str) -> None:
    """Write a file, or leave the one that is there as it was. Raises `OSError`."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        new.write_text(text, encoding="utf-8")
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Make a file's bytes, or the names in a folder, outlive a power cut, where the system lets that be asked for."""
    if hasattr(os, "O_DIRECTORY"):
        opened = os.open(path, os.O_RDONLY)
        try:
            os.fsync(opened)
        except OSError as error:  # not every file system can
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(opened)
