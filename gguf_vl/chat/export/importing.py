"""Chats from an export of JSON into a history: all of them, or none where anything is wrong.

Until the last one is there, they are hidden: they count as deleted, and belong to the instance that imports them. What
it leaves behind when it is killed, the next ones remove.
"""

from __future__ import annotations

import hashlib
import json
import time
from base64 import b64decode
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf_vl.chat import search
from gguf_vl.chat.export.given import Given
from gguf_vl.chat.export.json import FORMAT, VERSION, ranked
from gguf_vl.chat.history import History
from gguf_vl.chat.rows import Rows
from gguf_vl.chat.turns import Chat
from gguf_vl.errors import GgufVlError, InvalidHistory, InvalidPicture

MOST_PIXELS = 1_000_000
"""Of a picture's side."""
TURNS = 16
"""Written at once, while nobody else can write."""


def read(path: Path) -> object:
    """The data in a file of JSON. Raises InvalidHistory."""
    try:
        data: object = json.loads(path.read_bytes())
    except OSError as error:
        raise InvalidHistory(f"{path} cannot be read: {error.strerror}.", "Give the file of an export.") from error
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, or nested beyond any sense
        fix = "Give a file that `gguf-vl chats export --as json` has written."
        raise InvalidHistory(f"{path} is not JSON, and nothing was imported.", fix) from error
    return data


def load(history: History, data: object) -> list[Chat]:
    """Add the chats of an export, which `data` is when parsed. -> the new chats.

    Nothing that is here is changed or replaced. Raises InvalidHistory, and GgufVlError where the disk refuses or the
    history is closed meanwhile; then nothing was added.
    """
    given = Given(data, "")
    if given.field("format").value != FORMAT:
        raise given.wrong("an export of chats")
    if given.field("version").whole(1) > VERSION:
        what = "These chats were exported by a newer gguf-vl, and nothing was imported."
        raise InvalidHistory(what, "Update gguf-vl, and import them again.")
    pictures = dict(_picture(name, each) for name, each in given.field("pictures").fields())
    chats = [_chat(each, pictures) for each in given.field("chats").each()]
    with history.importing:
        ids = _add_all(history, chats, pictures.values())
    with history.reading() as rows:
        added = rows.chats_of(ids)
    return [added[each] for each in ids]


@dataclass(frozen=True, slots=True)
class _Picture:
    """`data` is None where the file was gone when it was exported; `seconds` are a video's."""

    data: bytes | None
    size: tuple[int, int]
    seconds: float | None


@dataclass(frozen=True, slots=True)
class _Attached:
    digest: str
    name: str


@dataclass(frozen=True, slots=True)
class _Turn:
    """`columns` are those of the database that are taken as they are."""

    parent: int | None
    chosen: int
    attachments: tuple[_Attached, ...]
    columns: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Chat:
    columns: dict[str, Any]
    draft: tuple[_Attached, ...]
    turns: tuple[_Turn, ...]


def _picture(digest: str, given: Given) -> tuple[str, _Picture]:
    from gguf_vl.media.formats import kind_of, video_in

    seconds = given.field("seconds").maybe(Given.number)
    size = (given.field("width").whole(1, MOST_PIXELS), given.field("height").whole(1, MOST_PIXELS))
    encoded = given.field("data").maybe(Given.text)
    if encoded is None:
        return digest, _Picture(None, size, seconds)
    try:
        data = b64decode(encoded, validate=True)
        if seconds is None:
            kind_of(data, "it")
        elif seconds < 0 or not video_in(data[:1024]):
            raise given.wrong("a video")
    except (ValueError, InvalidPicture):
        raise given.wrong("a picture") from None
    if hashlib.sha256(data).hexdigest() != digest:
        raise given.wrong("the picture that it is called: its bytes are others")
    return digest, _Picture(data, size, seconds)


def _chat(given: Given, pictures: dict[str, _Picture]) -> _Chat:
    columns = {
        "title": given.field("title").maybe(Given.text) or None,
        "created": given.field("created").time(),
        "updated": given.field("updated").time(),
        "pinned": int(given.field("pinned").truth()),
        "system": given.field("system").maybe(Given.text),
        "sampling": json.dumps({name: _setting(name, each) for name, each in given.field("sampling").fields()}),
        "model": given.field("model").maybe(Given.text),
        "preset": given.field("preset").maybe(Given.text),
        "draft": given.field("draft").field("text").text(),
    }
    draft = _attachments(given.field("draft").field("attachments"), pictures)
    turns = [_turn(each, place, pictures) for place, each in enumerate(given.field("turns").each())]
    return _Chat(columns, draft, tuple(turns))


def _setting(name: str, given: Given) -> object:
    """A field of `Sampling`."""
    match name:
        case "temperature" | "top_p" | "min_p" | "presence_penalty" | "frequency_penalty" | "repetition_penalty":
            return given.number()
        case "top_k":
            return given.whole(0)
        case "seed" | "max_tokens":
            return given.maybe(lambda each: each.whole(0))
        case "stop":
            return [each.text() for each in given.each()]
        case "logit_bias":
            return [_bias(each) for each in given.each()]
    raise given.wrong("a setting of sampling")


def _bias(given: Given) -> list[float]:
    pair = list(given.each())
    if len(pair) != 2:
        raise given.wrong("a token and its bias")
    return [pair[0].whole(0), pair[1].number()]


def _turn(given: Given, place: int, pictures: dict[str, _Picture]) -> _Turn:
    columns = {
        "role": given.field("role").one_of("user", "assistant"),
        "text": given.field("text").text(),
        "thinking": given.field("thinking").text(),
        "state": given.field("state").one_of("done", "stopped", "failed"),
        "finish_reason": given.field("finish_reason").text(),
        "error": given.field("error").text(),
        "model": given.field("model").text(),
        "usage": given.field("usage").maybe(_usage),
        "timings": given.field("timings").maybe(_timings),
        "created": given.field("created").time(),
        "task": given.field("task").maybe(Given.text),
    }
    parent = given.field("parent").maybe(lambda each: each.whole(0, place - 1))
    return _Turn(parent, given.field("chosen").whole(0), _attachments(given.field("attachments"), pictures), columns)


def _usage(given: Given) -> str:
    names = ("prompt_tokens", "image_tokens", "completion_tokens")
    return json.dumps({name: given.field(name).whole(0) for name in names})


def _timings(given: Given) -> str:
    timings: dict[str, float | None] = {
        name: given.field(name).number() for name in ("encode_s", "prefill_s", "ttft_s", "queue_s")
    }
    timings["decode_tps"] = given.field("decode_tps").maybe(Given.number)
    timings["tokens_reused"] = given.field("tokens_reused").whole(0)
    return json.dumps(timings)


def _attachments(given: Given, pictures: dict[str, _Picture]) -> tuple[_Attached, ...]:
    """Those whose pictures the export has."""
    found = []
    for each in given.each():
        digest = each.field("picture").text()
        if digest not in pictures:
            raise each.wrong("an attachment of a picture that is in the export")
        if pictures[digest].data is not None:
            found.append(_Attached(digest, each.field("name").text()))
    return tuple(found)


def _add_all(history: History, chats: Iterable[_Chat], pictures: Iterable[_Picture]) -> list[int]:
    """All of them, or none. -> their ids."""
    begun: list[int] = []
    try:
        for picture in pictures:
            _check_open(history)
            if picture.data is not None:
                history.pictures.keep(picture.data, picture.size, picture.seconds)
        for chat in chats:
            _check_open(history)
            begun.append(_add(history, chat))
            _fill(history, begun[-1], chat)
        with history.writing() as rows:
            sql = "UPDATE chat SET deleted_at = NULL, importer = NULL WHERE id IN (SELECT value FROM json_each(?))"
            if rows.connection.execute(sql, (json.dumps(begun),)).rowcount != len(begun):
                what = "Another gguf-vl has removed what was being imported, and nothing was imported."
                raise GgufVlError(what, "Import the file again.")
    except BaseException:
        if not history.is_closing:  # else those who come next do it
            with suppress(GgufVlError):
                _take_back(history, begun)
        raise
    return begun


def _check_open(history: History) -> None:
    if history.is_closing:
        what = "gguf-vl was closed before the import was done, and nothing was imported."
        raise GgufVlError(what, "Import the file again.")


def _take_back(history: History, begun: Iterable[int]) -> None:
    for chat_id in begun:
        history.database.run("DELETE FROM chat WHERE id = ? AND importer IS NOT NULL", (chat_id,))


def _add(history: History, chat: _Chat) -> int:
    """A hidden chat without its turns. -> its id."""
    hidden = {"deleted_at": time.time(), "importer": history.instance.name}
    with history.writing() as rows:
        chat_id = _insert(rows, "chat", chat.columns | hidden)
        search.index(rows.connection, -chat_id, chat.columns["title"] or "")
        _attach(rows, chat_id, None, chat.draft)
    return chat_id


def _fill(history: History, chat_id: int, chat: _Chat) -> None:
    """Write the turns piece by piece, with pauses as long as the pieces took, so that others who write wait little."""
    ids: list[int] = []
    ranks = ranked([(turn.parent, turn.chosen) for turn in chat.turns])
    for start in range(0, len(chat.turns), TURNS):
        _check_open(history)
        with history.writing() as rows:
            began = time.monotonic()
            for turn, rank in zip(chat.turns[start : start + TURNS], ranks[start : start + TURNS], strict=True):
                parent_id = None if turn.parent is None else ids[turn.parent]
                own = {"chat_id": chat_id, "parent_id": parent_id, "chosen": rank}
                ids.append(_insert(rows, "turn", own | turn.columns))
                _attach(rows, chat_id, ids[-1], turn.attachments)
                search.index(rows.connection, ids[-1], turn.columns["text"], [each.name for each in turn.attachments])
        time.sleep(time.monotonic() - began)


def _attach(rows: Rows, chat_id: int, turn_id: int | None, attachments: tuple[_Attached, ...]) -> None:
    for each in attachments:
        columns = {"chat_id": chat_id, "turn_id": turn_id, "digest": each.digest, "name": each.name}
        _insert(rows, "attachment", columns)


def _insert(rows: Rows, table: str, columns: dict[str, Any]) -> int:
    names, places = ", ".join(columns), ", ".join("?" * len(columns))
    added = rows.connection.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", tuple(columns.values()))
    return added.lastrowid or 0
