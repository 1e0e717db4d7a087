"""How the schemas of one document hang together: references, several in one, and whether two can hold at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote

from gguf_vl.engine.grammar import keywords
from gguf_vl.engine.grammar.keywords import ANNOTATIONS, Schema, wrong

_MOST_STEPS = 100
"""References that lead to references, or `allOf` inside `allOf`."""
_MOST_MERGED = 2_000
"""Schemas that are members of an `allOf`, in one document."""


class Document:
    """A JSON schema as a whole. `at` is what errors call its root, where references begin with `#`."""

    def __init__(self, root: Any, at: str) -> None:
        keywords.check_depth(root, at)
        self._root = root
        self._n_merged = 0

    def resolve(self, reference: Any, at: str) -> Any:
        """The schema that a reference in the schema at `at` names."""
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            raise wrong(f"{reference!r} is no reference within the document", f"{at}/$ref")
        found = self._root
        for part in reference.split("/")[1:]:
            key = unquote(part).replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and key.isdecimal() and len(key) < 9 and int(key) < len(found):
                found = found[int(key)]
            elif isinstance(found, dict) and key in found:
                found = found[key]
            else:
                raise wrong(f"there is nothing at “{reference}”", f"{at}/$ref")
        return found

    def followed(self, schema: Any, at: str) -> Any:
        """What a schema that only refers to another refers to in the end, and any other schema itself."""
        for _ in range(_MOST_STEPS):
            if not isinstance(schema, dict) or schema.keys() - ANNOTATIONS != {"$ref"}:
                return schema
            schema = self.resolve(schema["$ref"], at)
        raise wrong("the reference leads to no end", f"{at}/$ref")

    def leads_back(self, reference: str, at: str) -> bool:
        """Whether what a reference names is itself again, before anything can be written."""
        todo, seen = [reference], set()
        while todo:
            schemas = [self.resolve(todo.pop(), at)]
            while schemas:
                schema = schemas.pop()
                if not isinstance(schema, dict):
                    continue
                if isinstance(other := schema.get("$ref"), str) and other not in seen:
                    seen.add(other)
                    todo.append(other)
                for keyword in ("anyOf", "oneOf", "allOf"):
                    schemas += members if isinstance(members := schema.get(keyword), list) else []
        return reference in seen

    def merged(self, schema: Schema, at: str) -> Schema:
        """One schema that says what this one and those in its `allOf` say."""
        found: Schema = {}
        for each in self._flat(schema, at, 0):
            for rest, first in (("additionalProperties", "properties"), ("items", "prefixItems")):
                if (rest in found and first in each) or (rest in each and first in found):
                    raise wrong(f"“{rest}” and “{first}” stand in different schemas", f"{at}/allOf")
            for keyword, value in each.items():
                if keyword not in found or keywords.same(found[keyword], value):
                    found[keyword] = value
                elif keyword == "properties":
                    old, new = keywords.properties(found, at), keywords.properties(each, at)
                    both = {name: {"allOf": [old[name], new[name]]} for name in old.keys() & new.keys()}
                    found[keyword] = {**old, **new, **both}
                elif keyword == "required":
                    found[keyword] = keywords.required(found, at) + keywords.required(each, at)
                else:
                    raise wrong(f"“{keyword}” stands in several schemas and differs", f"{at}/allOf")
        return found

    def _flat(self, schema: Any, at: str, depth: int) -> Iterator[Schema]:
        self._n_merged += 1
        if depth > _MOST_STEPS or self._n_merged > _MOST_MERGED:
            raise wrong("“allOf” holds too much", f"{at}/allOf")
        schema = self.followed(schema, at)
        asserted = {} if schema is True else keywords.asserted(schema, f"{at}/allOf")
        yield {keyword: value for keyword, value in asserted.items() if keyword != "allOf"}
        for member in keywords.members(asserted, "allOf", at) if "allOf" in asserted else ():
            yield from self._flat(member, at, depth + 1)

    def first_overlap(self, schemas: list[Any], at: str) -> tuple[int, int] | None:
        """Two of these that one value may fulfil, as far as can be seen."""
        pairs: Iterable[tuple[int, int]] = ((i, j) for j in range(len(schemas)) for i in range(j))
        return next(((i, j) for i, j in pairs if not self._exclude(schemas[i], schemas[j], at, 0)), None)

    def _exclude(self, one: Any, other: Any, at: str, depth: int) -> bool:
        """Whether it is plain that no value fulfils both: by their types, values, or those of a property in both."""
        one, other = self.followed(one, at), self.followed(other, at)
        if one is False or other is False:
            return True
        if not isinstance(one, dict) or not isinstance(other, dict) or depth > _MOST_STEPS // 10:
            return False
        types = keywords.possible_types(one, at), keywords.possible_types(other, at)
        if not types[0] & types[1]:
            return True
        values = keywords.values(one, at), keywords.values(other, at)
        if values[0] is not None and values[1] is not None:
            return not any(keywords.same(a, b) for a in values[0] for b in values[1])
        if keywords.types(one, at) != ["object"] or keywords.types(other, at) != ["object"]:
            return False
        always = [
            {
                name: each
                for name, each in keywords.properties(schema, at).items()
                if name in keywords.required(schema, at)
            }
            for schema in (one, other)
        ]
        return any(
            self._exclude(always[0][name], always[1][name], at, depth + 1)
            for name in always[0].keys() & always[1].keys()
        )
