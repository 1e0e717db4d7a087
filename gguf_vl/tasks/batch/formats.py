"""How lines stand in a file: JSON, one object on each line, or CSV where what is asked for is flat."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Protocol

from gguf_vl.errors import UsageError
from gguf_vl.tasks.batch.line import Line, Plain


class Format(Protocol):
    """Records of bytes, each of which ends with a line break and is written whole."""

    head: bytes

    def write(self, line: Line) -> bytes:
        """A line as a record."""

    def records(self, file: BinaryIO) -> Iterator[bytes]:
        """The records of a file from where it stands, its head among them, without a last one that was cut off."""

    def read(self, record: bytes) -> Plain:
        """A record's line. Raises ValueError for what is none."""


def format_of(name: str, schema: Any) -> Format:
    """The format that a file's name asks for. Raises `UsageError` for another name, or CSV of a schema with depth."""
    suffix = name.casefold().rpartition(".")[2]
    if suffix == "csv":
        return Csv(columns_of(schema))
    if suffix in ("jsonl", "ndjson"):
        return JsonLines()
    raise UsageError(f"{name} is neither JSON lines nor CSV.", "Give a name that ends in .jsonl or .csv.")


class JsonLines:
    """One object on each line, in UTF-8."""

    head = b""

    def write(self, line: Line) -> bytes:
        plain = line.as_plain()
        try:
            return json.dumps(plain, ensure_ascii=False).encode() + b"\n"
        except UnicodeEncodeError:  # a file's name that is no text
            return json.dumps(plain).encode() + b"\n"

    def records(self, file: BinaryIO) -> Iterator[bytes]:
        return (line for line in file if line.endswith(b"\n"))

    def read(self, record: bytes) -> Plain:
        plain = json.loads(record)
        if not isinstance(plain, dict) or not isinstance(plain.get("file"), str):
            raise ValueError("no object with a file")
        return plain


class Csv:
    """A row for each picture (RFC 4180, UTF-8): `file`, then the schema's columns or `answer`, then `error`.

    A column that has the name of one of ours is `fields.NAME`.
    """

    def __init__(self, columns: tuple[str, ...] | None) -> None:
        self._columns = columns
        taken = ("file", "answer", "error")
        middle = ("answer",) if columns is None else (f"fields.{n}" if n in taken else n for n in columns)
        self._names = ("file", *middle, "error")
        self.head = _row(self._names)

    def write(self, line: Line) -> bytes:
        fields = line.fields if isinstance(line.fields, dict) else {}
        value = line.answer if line.fields is None else line.fields
        middle = (value,) if self._columns is None else tuple(fields.get(name) for name in self._columns)
        return _row((line.file, *map(_cell, middle), line.error or ""))

    def records(self, file: BinaryIO) -> Iterator[bytes]:
        held = b""
        for line in file:
            held += line
            if line.endswith(b"\n") and held.count(b'"') % 2 == 0:  # not within a cell
                yield held
                held = b""

    def read(self, record: bytes) -> Plain:
        rows = list(csv.reader(io.StringIO(record.decode("utf-8", "surrogateescape"), newline="")))
        if len(rows) != 1 or len(rows[0]) != len(self._names):
            raise ValueError(f"no row of {len(self._names)} cells")
        file, *middle, error = rows[0]
        fields = None if self._columns is None else dict(zip(self._columns, middle, strict=True))
        answer = middle[0] if self._columns is None else None
        return {"file": file, "answer": answer, "fields": fields, "boxes": [], "error": error or None}


def columns_of(schema: Any) -> tuple[str, ...] | None:
    """The columns of a flat object, None for one plain value or no schema. Raises `UsageError` for any other schema."""
    if schema is None or _is_flat(schema):
        return None
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    if not isinstance(properties, Mapping) or not properties:
        raise UsageError("The answers are no objects with known names, so a table has no columns.", _AS_JSON)
    for name, inner in properties.items():
        if not _is_flat(inner):
            raise UsageError(
                f"{name!r} may hold a list or an object, which has no place in a cell of a table.", _AS_JSON
            )
    return tuple(properties)


_AS_JSON = "Give --out a name that ends in .jsonl, or a flat schema."


def _is_flat(schema: Any) -> bool:
    if not isinstance(schema, Mapping):
        return False
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return all(map(_is_flat, schema[several]))
    values = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if values is not None:
        return not any(isinstance(value, (dict, list)) for value in values)
    kinds = schema.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds or ["object"]
    return not {"object", "array"} & set(kinds)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _row(cells: tuple[str, ...]) -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue().encode("utf-8", "surrogateescape")
