"""Files named by what people call things."""

from __future__ import annotations

import re
from pathlib import Path

MAX_BYTES = 120
"""Of a name in UTF-8, endings aside: every file system takes it."""
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)", re.IGNORECASE)


def file_name(text: str, otherwise: str = "chat") -> str:
    """Text as a file's name on any system, without an ending."""
    safe = "".join(char if char.isalnum() or char in " -_(),.+'" else " " for char in text)
    safe = " ".join(safe.split()).encode("utf-8", "ignore")[:MAX_BYTES].decode("utf-8", "ignore").strip(" .'-")
    return f"{safe}_" if _DEVICE.fullmatch(safe) else safe or otherwise


def unused(folder: Path, title: str, ending: str) -> Path:
    """A place in `folder` for a file of that title, and a folder beside it, where nothing is yet."""
    name, number = file_name(title), 1
    while True:
        path = folder / (f"{name}{ending}" if number == 1 else f"{name} ({number}){ending}")
        if not path.exists() and not path.with_suffix("").exists():
            return path
        number += 1
