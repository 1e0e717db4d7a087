"""The keywords of a JSON schema, read and checked one by one. Every complaint is a `UsageError` that names a place."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

from gguf_vl.engine.grammar.json_rules import LARGEST, MOST_REPEATS
from gguf_vl.errors import UsageError

Schema = dict[str, Any]

ANNOTATIONS = frozenset(
    "$comment $defs $id $schema default definitions deprecated description discriminator examples readOnly title "
    "writeOnly".split()
)
"""What a schema says without asking anything of a value."""
_LOWEST: dict[str, Callable[[float], int]] = {
    "minimum": math.ceil,
    "exclusiveMinimum": lambda bound: math.floor(bound) + 1,
}
_HIGHEST: dict[str, Callable[[float], int]] = {
    "maximum": math.floor,
    "exclusiveMaximum": lambda bound: math.ceil(bound) - 1,
}
BOUNDS = (*_LOWEST, *_HIGHEST)
KEYWORDS: dict[str, tuple[str, ...]] = {
    "object": ("properties", "required", "additionalProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "integer": BOUNDS,
    "number": BOUNDS,
    "boolean": (),
    "null": (),
}
"""The types, and what may be asked of each."""
_GENERAL = ("type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref")
_INFERRED = ("object", "array", "string", "number")
_CONTAINERS = ((str, "string"), (list, "array"), (dict, "object"))
_MOST_DEEP = 200
_LONGEST_NAME = 256


def wrong(reason: str, at: str) -> UsageError:
    """The error of a schema that cannot be used, at a JSON pointer."""
    return UsageError(f"The JSON schema cannot be used: {reason}, at {at}", "Change the schema there.")


def escaped(name: str) -> str:
    """A name as part of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def check_depth(schema: Any, at: str) -> None:
    """A document so deep that Python's own functions would fail on it is refused."""
    todo = [(schema, 0)]
    while todo:
        each, depth = todo.pop()
        if depth > _MOST_DEEP:
            raise wrong(f"it is more than {_MOST_DEEP} deep", at)
        if isinstance(each, (dict, list)):
            todo += [(value, depth + 1) for value in (each.values() if isinstance(each, dict) else each)]


def asserted(schema: Any, at: str) -> Schema:
    """What a schema asks, without its annotations."""
    if not isinstance(schema, dict) or not all(isinstance(keyword, str) for keyword in schema):
        raise wrong("there must be an object, or true or false", at)
    return {keyword: value for keyword, value in schema.items() if keyword not in ANNOTATIONS}


def only(schema: Schema, keywords: Collection[str], at: str) -> None:
    """Refuse every keyword but these."""
    for keyword in schema:
        if keyword not in keywords:
            known = keyword in _GENERAL or any(keyword in each for each in KEYWORDS.values())
            others = ", ".join(f"“{other}”" for other in schema if other != keyword)
            beside = f" beside {others}" if known and others else ""
            raise wrong(f"the keyword “{keyword}” is not supported{beside}", f"{at}/{escaped(keyword)}")


def members(schema: Schema, keyword: str, at: str) -> list[Any]:
    """A list that is not empty."""
    found = schema[keyword]
    if not isinstance(found, list) or not found:
        raise wrong(f"“{keyword}” must be a list that is not empty", f"{at}/{keyword}")
    return found


def required(schema: Schema, at: str) -> list[str]:
    """`required`, each name once."""
    found = schema.get("required", [])
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise wrong("“required” must be a list of names", f"{at}/required")
    return list(dict.fromkeys(found))


def properties(schema: Schema, at: str) -> Schema:
    """`properties`, by name."""
    found = schema.get("properties", {})
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise wrong("“properties” must be an object", f"{at}/properties")
    if any(len(name) > _LONGEST_NAME for name in found):
        raise wrong(f"a name is longer than {_LONGEST_NAME} characters", f"{at}/properties")
    return found


def counts(schema: Schema, at_least: str, at_most: str, at: str) -> tuple[int, int | None]:
    """Two keywords that count something."""
    for keyword in (at_least, at_most):
        count = schema.get(keyword, 0)
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MOST_REPEATS:
            raise wrong(f"“{keyword}” must be a count, up to {MOST_REPEATS:,}", f"{at}/{keyword}")
    low, high = schema.get(at_least, 0), schema.get(at_most)
    if high is not None and high < low:
        raise wrong(f"“{at_most}” is less than “{at_least}”", f"{at}/{at_most}")
    return low, high


def bounds(schema: Schema, at: str) -> tuple[int | None, int | None]:
    """The smallest and largest whole number that the bounds allow, None without one.

    Some number up to `LARGEST` fulfils each of them.
    """
    found = {keyword: schema[keyword] for keyword in BOUNDS if keyword in schema}
    for keyword, bound in found.items():
        if isinstance(bound, bool) or not isinstance(bound, (int, float)) or bound != bound or abs(bound) == math.inf:
            raise wrong(f"“{keyword}” must be a number", f"{at}/{keyword}")
    lows = {keyword: end(found[keyword]) for keyword, end in _LOWEST.items() if keyword in found}
    highs = {keyword: end(found[keyword]) for keyword, end in _HIGHEST.items() if keyword in found}
    for keyword, beyond in [*lows.items(), *((keyword, -high) for keyword, high in highs.items())]:
        if beyond > LARGEST:
            raise wrong(f"“{keyword}” leaves only numbers of more than {len(str(LARGEST))} digits", f"{at}/{keyword}")
    low, high = max(lows.values(), default=None), min(highs.values(), default=None)
    if low is not None and high is not None and low > high:
        raise wrong("no number lies between the bounds", at)
    return low, high


def types(schema: Schema, at: str) -> list[str]:
    """The types that `type` names, or else the one that the other keywords give away, if they do."""
    if "type" not in schema:
        own = [each for each in _INFERRED if any(keyword in schema for keyword in KEYWORDS[each])]
        return own if len(own) == 1 else []
    found = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not found or not all(isinstance(each, str) and each in KEYWORDS for each in found):
        raise wrong(f"{schema['type']!r} is no type", f"{at}/type")
    return list(dict.fromkeys(found))


def values(schema: Schema, at: str) -> list[Any] | None:
    """The values that `enum`, `const` and `type` leave to choose from; None where they don't say."""
    if "enum" not in schema and "const" not in schema:
        return None
    found = members(schema, "enum", at) if "enum" in schema else [schema["const"]]
    if "enum" in schema and "const" in schema:
        found = [each for each in found if same(each, schema["const"])]
    named = _named_types(schema, at)
    return [each for each in found if _type_of(each) in named]


def possible_types(schema: Schema, at: str) -> set[str]:
    """The types of the values that may fulfil a schema, whole numbers being integers."""
    listed = values(schema, at)
    return _named_types(schema, at) if listed is None else {_type_of(value) for value in listed}


def _named_types(schema: Schema, at: str) -> set[str]:
    """The types that `type` allows, without it all, whole numbers being integers."""
    named = set(types(schema, at)) if "type" in schema else set(KEYWORDS)
    return named | {"integer"} if "number" in named else named


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same in JSON: 1 and 1.0 are, 1 and true are not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def _type_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, float) and not value.is_integer():
        return "number"
    if isinstance(value, (int, float)):
        return "integer"
    return next((name for kind, name in _CONTAINERS if isinstance(value, kind)), "")
