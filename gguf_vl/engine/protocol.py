"""What crosses the pipe between a program and its worker: dataclasses as msgpack, each frame led by its length."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, fields, is_dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO

import msgpack

from gguf_vl import types
from gguf_vl.errors import UsageError
from gguf_vl.types import EngineInfo, EngineSettings, EngineStats, Event, Finished, Message, Request, Usage

LENGTH = struct.Struct(">I")
"""The head of a frame: its length in bytes, unsigned, big-endian."""


@dataclass(frozen=True, slots=True)
class Load:
    """To the worker, once, first: load this model."""

    settings: EngineSettings


@dataclass(frozen=True, slots=True)
class Generate:
    """To the worker: answer this request."""

    request: Request


@dataclass(frozen=True, slots=True)
class Prepare:
    """To the worker: compute a conversation as far as it is written, its pictures too, and keep that."""

    id: str
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Cancel:
    """To the worker: stop this request, running or waiting."""

    id: str


@dataclass(frozen=True, slots=True)
class Count:
    """To the worker: answer `Counted` for this request, without running it."""

    request: Request


@dataclass(frozen=True, slots=True)
class Embed:
    """To the worker: answer `Embedded` for this text."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Tokenize:
    """To the worker: answer `Tokenized` for this text."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class AskStats:
    """To the worker: answer `Stats`."""

    id: str


@dataclass(frozen=True, slots=True)
class Loading:
    """From the worker: how much of the model is loaded, 0 to 1."""

    fraction: float


@dataclass(frozen=True, slots=True)
class Ready:
    """From the worker: the model is loaded."""

    info: EngineInfo


@dataclass(frozen=True, slots=True)
class Published:
    """From the worker: new events of a request. `so_far` is its end, should it end now."""

    id: str
    events: tuple[Event, ...]
    so_far: Finished


@dataclass(frozen=True, slots=True)
class Prepared:
    """From the worker: what was to be prepared is kept."""

    id: str


@dataclass(frozen=True, slots=True)
class Counted:
    """From the worker: what a request's prompt takes."""

    id: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class Embedded:
    """From the worker: the hidden state behind a text of `n_tokens`, float32 in the machine's own order."""

    id: str
    values: bytes
    n_tokens: int


@dataclass(frozen=True, slots=True)
class Tokenized:
    """From the worker: a text's tokens, each with its bytes."""

    id: str
    tokens: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class Stats:
    """From the worker."""

    id: str
    stats: EngineStats


@dataclass(frozen=True, slots=True)
class Failed:
    """From the worker: a request, or with an empty `id` the loading, ended with an error (`errors.to_plain`)."""

    id: str
    error: dict[str, str]


@dataclass(frozen=True, slots=True)
class Step:
    """From the worker: all that came of one step, for whichever requests."""

    outcomes: tuple[Published | Prepared | Counted | Embedded | Tokenized | Failed, ...]


@dataclass(frozen=True, slots=True)
class LogLine:
    """From the worker: a line for our logger, with the logger's name and level."""

    logger: str
    level: int
    text: str


Command = Load | Generate | Prepare | Count | Embed | Tokenize | Cancel | AskStats
Report = Loading | Ready | Step | Stats | Failed | LogLine

_UNICODE = "surrogatepass"
"""Text may hold lone surrogates, which stand for bytes on the command line that are not UTF-8."""
DEEPEST = 200
"""Levels of a JSON schema that cross."""
_DATACLASS, _PATH = 1, 2
_MARK = msgpack.ExtType(_DATACLASS, b"")
"""The one key of a map that is a dataclass: its name and its values. No JSON can hold such a key."""
_KNOWN: dict[str, type[Any]] = {
    name: thing
    for name, thing in [*vars(types).items(), *globals().items()]
    if isinstance(thing, type) and is_dataclass(thing)
}
_FIELDS = {
    kind: attrgetter(*names) for kind in _KNOWN.values() if len(names := [each.name for each in fields(kind)]) > 1
}
_WITH_JSON = {kind for kind in _KNOWN.values() if any(each.type == "Any" for each in fields(kind))}


def _pack(thing: Any) -> msgpack.ExtType | dict[msgpack.ExtType, list[Any]]:
    if isinstance(thing, Path):
        return msgpack.ExtType(_PATH, os.fsencode(thing))
    kind = type(thing)
    if kind.__name__ not in _KNOWN:
        raise _not_packable(thing)
    if kind in _WITH_JSON:
        _check_depth([getattr(thing, each.name) for each in fields(kind) if each.type == "Any"])
    values = _FIELDS[kind](thing) if kind in _FIELDS else [getattr(thing, each.name) for each in fields(thing)]
    return {_MARK: [kind.__name__, *values]}


def _not_packable(thing: Any) -> UsageError:
    if isinstance(thing, int):
        what = f"A request holds an integer of {thing.bit_length()} bits; 64 is the most."
        return UsageError(what, "Take a number from -2^63 to 2^64 - 1.")
    return UsageError(f"A request holds something of the type {type(thing).__name__}.", "Give it what JSON can hold.")


def _check_depth(json: list[Any]) -> None:
    """The worker reads JSON by recursion, and one that is too deep would end its reader with all other requests."""
    for _ in range(DEEPEST):
        nested = {id(each): each for each in json if isinstance(each, dict | list | tuple)}.values()
        json = [inner for each in nested for inner in (each.values() if isinstance(each, dict) else each)]
        if not json:
            return
    raise UsageError(f"A schema is nested deeper than {DEEPEST} levels.", "Say parts of it with $ref and $defs.")


def _unpack(code: int, data: bytes) -> Any:
    return Path(os.fsdecode(data)) if code == _PATH else _MARK


def _revive(found: dict[Any, Any]) -> Any:
    if _MARK not in found:
        return found
    name, *values = found[_MARK]
    kind = _KNOWN[name]
    if kind in _WITH_JSON:
        pairs = zip(fields(kind), values, strict=True)
        values = [_listed(value) if each.type == "Any" else value for each, value in pairs]
    return kind(*values)


def _listed(value: Any) -> Any:
    """JSON as it was: msgpack's arrays arrive as tuples."""
    if isinstance(value, tuple):
        return [_listed(each) for each in value]
    return {key: _listed(each) for key, each in value.items()} if isinstance(value, dict) else value


def dumps(message: Command | Report) -> bytes:
    """One whole frame. Raises `UsageError` for what cannot cross."""
    try:
        body: bytes = msgpack.packb(message, default=_pack, unicode_errors=_UNICODE)
        return LENGTH.pack(len(body)) + body
    except (ValueError, struct.error) as error:  # bytes beyond what 32 bits count
        raise UsageError(f"A request is too large to reach the worker: {error}.", "Ask for less at once.") from error


def loads(body: bytes) -> Any:
    """The message in a frame's body."""
    return msgpack.unpackb(
        body, use_list=False, strict_map_key=False, ext_hook=_unpack, object_hook=_revive, unicode_errors=_UNICODE
    )


def read_message(stream: BinaryIO) -> Any | None:
    """The next message of a blocking stream; None when the other side has closed it, also in mid-frame."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    body = stream.read(length)
    return loads(body) if len(body) == length else None
