"""What a terminal pastes when files are dropped on it, as those files; and a paste of words is never taken for any."""

from __future__ import annotations

import os
import re
import shlex
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote

_LONGEST = 100_000
"""Characters of a paste that are looked at: hundreds of files. Longer ones are text."""
_BLANK = " \t\r\n"
"""Not `str.split`'s: macOS puts a narrow no-break space into the names of screenshots."""
_WINDOWS_WORD = re.compile(r'"([^"\r\n]+)"|([^\s"]+)')
_DRIVE = re.compile(r"([A-Za-z]):[\\/]")


def dropped_paths(text: str) -> tuple[Path, ...]:
    """The files that `text` names, in its order, when all of it is existing files; otherwise none.

    Paths may be quoted or backslash-escaped as for a shell, in double quotes with plain backslashes (Windows), bare
    with one on each line, or `file:` URIs, and several may stand one after the other. A relative path counts only with
    a separator in it: a word of prose that happens to be a file's name stays a word. Folders are not files.
    """
    if len(text) > _LONGEST or not text.strip(_BLANK):
        return ()
    for reading in (_uris, _shell_words, _lines, _windows_words):
        if found := _all_files(reading(text)):
            return found
    return ()


def path_of_uri(uri: str) -> Path | None:
    """The path that a `file:` URI of this machine names, whether or not it exists; None for any other URI."""
    scheme, _, rest = uri.partition(":")
    if scheme.lower() != "file":
        return None
    if rest.startswith("//"):
        host, slash, rest = rest[2:].partition("/")
        if host.lower() not in ("", "localhost", socket.gethostname().lower()):
            return None
        rest = slash + rest
    path = unquote(rest, errors="surrogateescape")  # as `os.fsdecode` does for bytes that are no UTF-8
    return path_on_drive(path[1:]) or Path(path) if path.startswith("/") else None


def path_on_drive(path: str) -> Path | None:
    """A path that begins with a drive; under Linux where WSL has that drive. None for any other path."""
    drive = _DRIVE.match(path)
    if drive is None:
        return None
    if os.name == "nt":
        return Path(path)
    return Path("/mnt", drive[1].lower(), path[drive.end() :].replace("\\", "/"))


def _uris(text: str) -> Iterator[str]:
    """Words that are all URIs: in those a quotation mark is a character of the name."""
    for word in re.split(f"[{_BLANK}]+", text.strip(_BLANK)):
        yield word if word[:5].lower() == "file:" else ""


def _shell_words(text: str) -> Iterator[str]:
    words = shlex.shlex(text, posix=True)
    words.whitespace_split = True
    words.commenters = ""
    try:
        yield from words
    except ValueError:  # a quotation that does not end, or a last backslash
        yield ""


def _lines(text: str) -> Iterator[str]:
    return (line for each in re.split(r"[\r\n]+", text) if (line := each.strip(_BLANK)))


def _windows_words(text: str) -> Iterator[str]:
    words = list(_WINDOWS_WORD.finditer(text))
    if _WINDOWS_WORD.sub("", text).strip(_BLANK):
        return iter(("",))  # a quotation that does not end
    return (word[1] or word[2] for word in words)


def _all_files(words: Iterable[str]) -> tuple[Path, ...]:
    """The files that the words name; none as soon as one names none: prose costs a look at its first word."""
    found = []
    for word in words:
        path = _path(word)
        if path is None or not os.path.isfile(path):  # unlike Path.is_file, no error for a name that is too long
            return ()
        found.append(path)
    return tuple(found)


def _path(word: str) -> Path | None:
    if word[:5].lower() == "file:":
        return path_of_uri(word)
    if os.name == "nt" and word.startswith(("//", "\\\\")):
        return None  # looking whether it exists would ask another machine
    if word.startswith("~/"):
        return Path(os.path.expanduser(word))
    if "/" not in word and os.sep not in word:
        return path_on_drive(word)
    return path_on_drive(word) or Path(word)
