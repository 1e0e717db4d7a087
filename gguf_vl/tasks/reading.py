"""Files of tasks, read and checked key by key: `tasks.toml` of this package, and a person's own."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple, get_args

from gguf_vl.errors import UsageError
from gguf_vl.tasks.task import PLACEHOLDER, Parameter, Shown, Task, takes_empty_list
from gguf_vl.types import Detail, Sampling

_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
_PARAMETER = re.compile(r"[a-z][a-z0-9_]{0,39}")
_KEPT = ("stop", "logit_bias")
"""Fields of `Sampling` that a file of tasks does not set."""
SAMPLING = tuple(field.name for field in fields(Sampling) if field.name not in _KEPT)


class _Rule(NamedTuple):
    """What a key must be, in words too."""

    accepts: Callable[[Any], bool]
    expected: str


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_whole(value) or isinstance(value, float)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_text, value))


_TABLE = _Rule(lambda value: isinstance(value, dict), "a table")
_TEXTS = _Rule(lambda value: isinstance(value, dict) and all(map(_is_text, value.values())), "a table of texts")
_RULES: Mapping[str, _Rule] = {
    "purpose": _Rule(_is_text, "text"),
    "purpose_zh": _Rule(_is_text, "text"),
    "prompt": _Rule(lambda value: _is_text(value) and bool(value.strip()), "text that is not empty"),
    "system": _Rule(_is_text, "text"),
    "parameters": _TABLE,
    "schema": _Rule(lambda value: isinstance(value, (dict, str)), "a table, or text that is JSON"),
    "sampling": _TABLE,
    "detail": _Rule(lambda value: value in get_args(Detail), f"one of {', '.join(get_args(Detail))}"),
    "min_tokens": _Rule(lambda value: _is_whole(value) and 1 <= value <= 16_384, "a whole number from 1 to 16384"),
    "n_pictures": _Rule(
        lambda value: (
            isinstance(value, list) and len(value) == 2 and all(map(_is_whole, value)) and 0 <= value[0] <= value[1]
        ),
        "the least and the most pictures, as [1, 2]",
    ),
    "shown": _Rule(lambda value: value in get_args(Shown), f"one of {', '.join(get_args(Shown))}"),
    "wordings": _TEXTS,
    "nothing": _TEXTS,
    "by_frame": _Rule(
        lambda value: isinstance(value, dict) and all(map(_is_list_of_texts, value.values())),
        "a table of lists of texts",
    ),
}
_PARAMETER_RULES: Mapping[str, _Rule] = {
    "help": _Rule(_is_text, "text"),
    "default": _Rule(_is_text, "text"),
    "choices": _Rule(_is_list_of_texts, "a list of texts"),
}


def read_file(path: Path) -> dict[str, Task]:
    """The tasks in a file, by name. Raises `UsageError` that names the file and the key."""
    try:
        tables = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise UsageError(f"The tasks {path} cannot be read: {error.strerror}.", "Make it a readable file.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"The tasks {path} are not UTF-8: {error.reason}.", "Save the file as UTF-8.") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"The tasks {path} are not TOML: {error}.", "Mend the file, or move it away.") from error
    return {name: _task(name, table, path) for name, table in tables.items()}


def _wrong(path: Path, place: str, what: str, fix: str) -> UsageError:
    return UsageError(f"{place} in {path} {what}.", fix)


def _task(name: str, table: Any, path: Path) -> Task:
    if not isinstance(table, dict):
        raise _wrong(path, name, "stands outside of any task", f"Put it below a line with a task's name: [{name}].")
    if not _NAME.fullmatch(name):
        raise _wrong(path, f"The task {name!r}", "has no name that can be typed", "Use a-z, 0-9 and -.")
    _check_keys(table, _RULES, "A task", name, path)
    if "prompt" not in table:
        raise _wrong(path, name, "has no prompt", "Say in `prompt` what is wanted.")
    schema = _schema(table.get("schema"), f"{name}.schema", path)
    if table.get("nothing") and not takes_empty_list(schema):
        what = "stands for an empty list, which the task's schema does not take"
        raise _wrong(path, f"{name}.nothing", what, "Leave it out, or make the schema that of a list.")
    parameters = tuple(
        _parameter(f"{name}.parameters.{each}", each, given, path)
        for each, given in table.get("parameters", {}).items()
    )
    wordings, nothing = table.get("wordings", {}), table.get("nothing", {})
    by_frame = table.get("by_frame", {})
    texts = (
        table["prompt"],
        table.get("system", ""),
        *wordings.values(),
        *nothing.values(),
        *(text for each in by_frame.values() for text in each),
    )
    _check_placeholders(name, texts, parameters, path)
    purpose: str = table.get("purpose", name)
    return Task(
        name=name,
        purpose=purpose,
        purpose_zh=table.get("purpose_zh", purpose),
        prompt=table["prompt"].strip(),
        system=table.get("system", "").strip(),
        parameters=parameters,
        schema=schema,
        sampling=_sampling(table.get("sampling", {}), f"{name}.sampling", path),
        detail=table.get("detail"),
        min_tokens=table.get("min_tokens"),
        n_pictures=tuple(table.get("n_pictures", (1, 1))),
        shown=table.get("shown", "text" if schema is None else "json"),
        wordings={model: text.strip() for model, text in wordings.items()},
        nothing={model: text.strip() for model, text in nothing.items()},
        by_frame={model: tuple(text.strip() for text in each) for model, each in by_frame.items()},
    )


def _schema(given: Any, place: str, path: Path) -> Any:
    """The schema, checked by making its grammar; JSON text keeps TOML from being written six tables deep."""
    from gguf_vl.engine.grammar.schema import grammar_of

    if given is None:
        return None
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError as error:
            raise _wrong(path, place, f"is not JSON: {error}", "Mend the JSON.") from error
    try:
        grammar_of(given)
    except UsageError as error:
        raise _wrong(path, place, f"cannot be used. {error.what.rstrip('.')}", error.fix) from error
    return given


def _check_keys(table: Mapping[str, Any], rules: Mapping[str, _Rule], what: str, place: str, path: Path) -> None:
    for key, value in table.items():
        if key not in rules:
            raise _wrong(path, f"{place}.{key}", "does not exist", f"{what} has {', '.join(rules)}.")
        if not rules[key].accepts(value):
            expected = rules[key].expected
            raise _wrong(path, f"{place}.{key}", f"is not {expected}", f"Give {key} {expected}.")


def _parameter(place: str, name: str, given: Any, path: Path) -> Parameter:
    if not _PARAMETER.fullmatch(name):
        raise _wrong(path, place, "has no name that can be typed", "Use a-z, 0-9 and _.")
    if not isinstance(given, dict):
        raise _wrong(path, place, "is not a table", 'Write { help = "what it is", default = "…" }.')
    _check_keys(given, _PARAMETER_RULES, "A parameter", place, path)
    found = Parameter(name, given.get("help", ""), given.get("default"), tuple(given.get("choices", ())))
    if found.choices and found.default is not None and found.default not in found.choices:
        raise _wrong(path, f"{place}.default", "is none of its choices", f"Take one of {', '.join(found.choices)}.")
    return found


def _sampling(given: dict[str, Any], place: str, path: Path) -> dict[str, Any]:
    for key, value in given.items():
        if key not in SAMPLING:
            raise _wrong(path, f"{place}.{key}", "does not exist", f"Sampling has {', '.join(SAMPLING)}.")
        if not _is_number(value) or (key in ("top_k", "seed", "max_tokens") and not _is_whole(value)):
            raise _wrong(path, f"{place}.{key}", "is not a number of its kind", f"Give {key} a number.")
    return given


def _check_placeholders(name: str, texts: tuple[str, ...], parameters: tuple[Parameter, ...], path: Path) -> None:
    """Every name in braces is a parameter's: a slip of the pen would reach the model as it stands."""
    known = {each.name for each in parameters}
    for text in texts:
        for found in PLACEHOLDER.findall(text):
            if found not in known:
                raise _wrong(
                    path, name, f"speaks of {{{found}}}, which is no parameter", f"Add [{name}.parameters.{found}]."
                )
