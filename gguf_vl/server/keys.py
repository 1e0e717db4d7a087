"""Who may ask: keys with names, compared in constant time and never logged."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from pathlib import Path

from gguf_vl.errors import MissingOrInvalid, UsageError

_KEY = re.compile(r"[!-~]{8,512}")


class Keys:
    """Keys by the names that logs show. With none, everybody may ask."""

    def __init__(self, keys: Iterable[tuple[str, str]] = ()) -> None:
        self._digests: list[tuple[str, bytes]] = []
        for name, key in keys:
            if not _KEY.fullmatch(key):
                raise UsageError(
                    f"The API key {name!r} is none: 8 to 512 visible ASCII characters are.",
                    "Make one: python3 -c 'import secrets; print(secrets.token_urlsafe())'",
                )
            self._digests.append((name, _digest(key)))

    def __bool__(self) -> bool:
        return bool(self._digests)

    def owner(self, key: str) -> str | None:
        """Whose key it is; None where it is nobody's. Takes the same time for every key."""
        given, found = _digest(key), None
        for name, digest in self._digests:
            if hmac.compare_digest(given, digest):
                found = name
        return found


def read_keys(path: Path) -> list[tuple[str, str]]:
    """The keys of a file, one a line: the key alone, or a name and the key; `#` begins a remark.

    Raises `MissingOrInvalid` for a file that cannot be read or has none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MissingOrInvalid(f"The keys in {path} cannot be read: {error}.", "Check the path.") from error
    words = [line.split() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not words or any(len(each) > 2 for each in words):
        raise MissingOrInvalid(
            f"{path} holds no keys, or a line that is not a name and a key.", "Write one a line: `anna sk-…`."
        )
    return [(each[0] if len(each) == 2 else f"key {number}", each[-1]) for number, each in enumerate(words, 1)]


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
