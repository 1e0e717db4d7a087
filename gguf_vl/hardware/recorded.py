"""A machine as a JSON file, to plan for one that is elsewhere."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from gguf_vl.errors import MissingOrInvalid
from gguf_vl.types import Device, Machine

_FIX = (
    "Correct that field, or write the file anew. A recorded machine has every field that `Machine` and `Device` of "
    "gguf_vl.types have, memory in bytes, null for what is unknown, and may have `source`, a text."
)

T = TypeVar("T", Machine, Device)


def machine_to_json(machine: Machine, source: str) -> str:
    """The machine as JSON text; `source` says where its figures come from."""
    return json.dumps({"source": source, **dataclasses.asdict(machine)}, ensure_ascii=False, indent=2) + "\n"


def machine_from_json(text: str) -> Machine:
    """The machine that `machine_to_json` wrote. Raises `MissingOrInvalid`, which names the field that is wrong."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise MissingOrInvalid(f"This is not a recorded machine: it is not JSON ({error}).", _FIX) from None
    if isinstance(found, dict) and isinstance(found.get("machine"), dict):  # all that `plan --json` prints
        found = found["machine"]
    if isinstance(found, dict):
        source = found.pop("source", "")
        if not isinstance(source, str):
            raise _wrong("source", source, "a text")
    machine = _read(Machine, found, "")
    if machine.cores < 1:
        raise _wrong("cores", machine.cores, "1 or more")
    return machine


def _read(kind: type[T], found: Any, place: str) -> T:
    if not isinstance(found, dict):
        raise _wrong(place.rstrip(".") or "the whole file", found, "an object")
    types = get_type_hints(kind)
    for name in types:
        if name not in found:
            raise MissingOrInvalid(f"The recorded machine lacks the field {place}{name}.", _FIX)
    for name in found:
        if name not in types:
            raise MissingOrInvalid(f"The recorded machine has a field that nothing knows: {place}{name}.", _FIX)
    return kind(**{name: _value(hint, found[name], place + name) for name, hint in types.items()})


def _value(hint: Any, found: Any, place: str) -> Any:
    """`found` as the type that `hint` names: what `Machine` and `Device` are made of and no more."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is UnionType or NoneType in parts:
        return None if found is None else _value(next(part for part in parts if part is not NoneType), found, place)
    if origin is Literal:
        if found in parts:
            return found
        raise _wrong(place, found, f"one of {', '.join(map(str, parts))}")
    if origin is tuple:
        if not isinstance(found, list):
            raise _wrong(place, found, "a list")
        return tuple(_read(parts[0], each, f"{place}[{number}].") for number, each in enumerate(found))
    if origin is Mapping:
        if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
            raise _wrong(place, found, "an object of texts")
        return found
    if hint is float and isinstance(found, int | float) and not isinstance(found, bool) and 0 < found < float("inf"):
        return float(found)
    if hint is int and isinstance(found, int) and not isinstance(found, bool) and found >= 0:
        return found
    if hint in (str, bool) and isinstance(found, hint):
        return found
    names = {int: "a whole number, 0 or more", float: "a number above 0", str: "a text", bool: "true or false"}
    raise _wrong(place, found, names[hint])


def _wrong(place: str, found: Any, expected: str) -> MissingOrInvalid:
    shown = json.dumps(found, ensure_ascii=False)
    shown = shown if len(shown) <= 40 else shown[:39] + "…"
    return MissingOrInvalid(f"The recorded machine is wrong at {place}: {shown}, where {expected} belongs.", _FIX)
