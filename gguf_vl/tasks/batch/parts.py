"""What of a file has a line of its own: each page of a document of several, anything else as a whole."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Container

from gguf_vl.errors import InvalidPicture, UsageError
from gguf_vl.media.documents import open_document
from gguf_vl.media.formats import is_pdf, is_tiff
from gguf_vl.media.pdf import split_pages


def parts_of(file: str) -> list[str]:
    """The pages of a document, as `report.pdf#3`: those that its name asks for (`report.pdf#2-5`), or all of several.

    Anything else, and what cannot be read, is itself. Looks at the disk.
    """
    asked = split_pages(file)[1]
    name = file if asked is None else file.rpartition("#")[0]
    if (asked is not None and asked.isdecimal()) or not _may_be_document(name):
        return [file]
    try:
        document = open_document(file)
    except (InvalidPicture, UsageError):  # its line will say so
        return [file]
    if document is None or (asked is None and document.n_pages == 1):
        return [file]
    return [f"{name}#{number}" for number in document.numbers]


async def parts(
    files: AsyncIterator[str], done: Container[str], more: Callable[[int], None] = lambda _: None
) -> AsyncGenerator[str, None]:
    """The parts of the files that are not `done` (absolute paths), each once. A document is opened when its turn comes,
    so that the first answers wait for no other's; `more` hears by how many its parts are more than one file.
    """
    seen: set[str] = set()
    async for file in files:
        found = []
        for part in await asyncio.to_thread(parts_of, file):
            path = os.path.abspath(part)
            if path not in done and path not in seen:
                seen.add(path)
                found.append(part)
        more(len(found) - 1)
        for part in found:
            yield part


def _may_be_document(path: str) -> bool:
    try:
        if not os.path.isfile(path):
            return False
        with open(path, "rb") as file:
            head = file.read(1024)
    except (OSError, ValueError):
        return False
    return is_pdf(head) or is_tiff(head)
