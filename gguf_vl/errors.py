"""Everything that can go wrong, as one tree.

    GgufVlError                    exit 1   the work failed
    ├── UsageError                 exit 2   the command, a flag or a setting is wrong
    ├── MissingOrInvalid           exit 3   a file or model is missing, or is not what it should be
    │   ├── ModelNotFound                   no model of that name here
    │   ├── InvalidModelFile                not a GGUF file, truncated, or of a kind we cannot run
    │   ├── InvalidPicture                  not a picture, truncated, too large
    │   ├── ChatNotFound                    no such chat, turn or attachment, or it is deleted
    │   └── InvalidHistory                  the chats' file is damaged or newer, or what is imported is no export
    │   └── NothingOnClipboard              no picture and no file is there, or the clipboard cannot be read
    ├── DoesNotFit                 exit 4   more memory or context than there is
    ├── VerificationFailed         exit 5   a size or hash differs from what was promised
    ├── OfflineError               exit 6   the network is needed and switched off
    ├── Busy                   exit 1   too many requests wait already
    ├── Unreachable                exit 1   a source of models does not answer; another one may
    ├── CutOff                     exit 1   an answer that must be whole ended too early; it has the part that came
    ├── AnswerInvalid              exit 1   an answer is not what its task asks for
    └── EngineError                exit 1   the engine refused or failed
        └── WorkerDied                      the worker process ended in mid-work; a new one can be started

Each carries what happened and what to do next, both written for the person who reads them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar


class GgufVlError(Exception):
    """A failure with a line that says what happened and a line that says what to do.

    Raised as is for failures that have no class of their own.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix


class UsageError(GgufVlError):
    """The command line, a setting or an argument makes no sense."""

    exit_code = 2


class MissingOrInvalid(GgufVlError):
    """A file or model is missing or is not what it should be."""

    exit_code = 3


class ModelNotFound(MissingOrInvalid):
    """No model of the given name is in the catalogue or on this machine."""


class InvalidModelFile(MissingOrInvalid):
    """The file is not GGUF, is truncated, or holds a model this program cannot run."""


class InvalidPicture(MissingOrInvalid):
    """The file or data is not a picture that can be shown to a model."""


class ChatNotFound(MissingOrInvalid):
    """No chat, turn or attachment of that number is in the history, or it is deleted."""


class InvalidHistory(MissingOrInvalid):
    """The file of the chats is damaged or written by a newer version, or data to be imported is no export of chats."""


class NothingOnClipboard(MissingOrInvalid):
    """No picture and no file is on the clipboard, or the clipboard cannot be read from here."""


class DoesNotFit(GgufVlError):
    """The request needs more memory or more context than there is."""

    exit_code = 4


class VerificationFailed(GgufVlError):
    """A file's size or hash differs from what was promised."""

    exit_code = 5


class OfflineError(GgufVlError):
    """The work needs the network, which is switched off."""

    exit_code = 6


class Unreachable(GgufVlError):
    """A source of models did not answer, or not with what was asked for; another one may."""


class Busy(GgufVlError):
    """More requests wait than are let in; a later one may not."""


class CutOff(GgufVlError):
    """An answer that must be whole ended too early. `partial` is the text that came."""

    def __init__(self, what: str, fix: str, partial: str = "") -> None:
        super().__init__(what, fix)
        self.partial = partial


class AnswerInvalid(GgufVlError):
    """An answer is not what its task asks for. `answer` is its text."""

    def __init__(self, what: str, fix: str, answer: str = "") -> None:
        super().__init__(what, fix)
        self.answer = answer


class EngineError(GgufVlError):
    """The engine refused a request or failed while running it."""


class WorkerDied(EngineError):
    """The worker process ended while it still had work; the next request starts a fresh one."""


_NO_MEMORY = re.compile(
    r"alloc|out of (\w+ )?memory|ErrorOutOf\w+Memory|insufficient memory|MemoryError|start new thread", re.IGNORECASE
)


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """What to do about a name that is none of those known: the nearest of them as a question; None where none is."""
    from difflib import get_close_matches

    near = get_close_matches(name, list(known), n=1)
    return f"Did you mean {near[0]}?" if near else None


def is_about_memory(reason: str) -> bool:
    """Whether a complaint, of llama.cpp, a backend or Python, says that memory did not suffice."""
    return bool(_NO_MEMORY.search(reason))


def _tree(root: type[GgufVlError]) -> dict[str, type[GgufVlError]]:
    found = {root.__name__: root}
    for child in root.__subclasses__():
        found |= _tree(child)
    return found


def to_plain(error: GgufVlError) -> dict[str, str]:
    """The error as plain strings, to cross a process border."""
    return {"error": type(error).__name__, "what": error.what, "fix": error.fix}


def from_plain(plain: dict[str, str]) -> GgufVlError:
    """The error that `to_plain` was given; an unknown class name becomes an `EngineError`."""
    return _tree(GgufVlError).get(plain["error"], EngineError)(plain["what"], plain["fix"])
