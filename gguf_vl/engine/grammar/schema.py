"""From a JSON schema to the grammar of the answers that fulfil it.

What the grammar lets through fulfils the schema; it does not let everything through that does. The keywords, after
draft 2020-12 (https://json-schema.org/draft/2020-12):

- any type: `type` (one or several), `enum`, `const`, `anyOf`, `oneOf` whose alternatives cannot hold at once, `allOf`
  whose members can be written as one schema, `$ref` within the document, also to itself, `$defs`, `true` and `{}`;
- objects: `properties`, in the schema's order, `required`, `additionalProperties`. Where `properties` are named and
  nothing is said of others, there are none. `properties` alone say that it is an object; likewise for the rest;
- arrays: `items`, `minItems`, `maxItems`, and `prefixItems` that say each item;
- strings: `minLength`, `maxLength`, or `pattern` (see `pattern.py`), or `format`: date, time, date-time, uuid;
- integers: `minimum`, `maximum`, and both exclusive; numbers: whole `minimum` and `maximum`. Integers have up to 18
  digits, up to 20 where a bound asks for them.

Annotations (`title`, `description`, `default`, …) are passed over. Every other keyword raises `UsageError` that names
it and its place as a JSON pointer: none is silently left out.
"""

from __future__ import annotations

from typing import Any

from gguf_vl.engine.grammar import json_rules, keywords, pattern
from gguf_vl.engine.grammar.document import Document
from gguf_vl.engine.grammar.json_rules import Rules, literal
from gguf_vl.engine.grammar.keywords import KEYWORDS, Schema, escaped, only, wrong

_FORMATS = ("date", "time", "date-time", "uuid")
_MOST_SCHEMAS = 10_000
_MOST_DEEP = 100
_MOST_EXCLUSIVE = 100
"""Alternatives of a `oneOf`: each is compared with each."""


def grammar_of(schema: Any, *, other: str = "") -> str:
    """GBNF, from `root` on, of the JSON texts that fulfil a schema, and of the one `other` text that may stand in their
    place. Raises `UsageError` for what it cannot say.
    """
    rules = Rules()
    held = add_schema(rules, schema)
    rules.fill("root", f"{held} | {literal(other)}" if other else held)
    return rules.text()


def add_schema(rules: Rules, schema: Any, at: str = "#") -> str:
    """The same as a rule among others; gives back its name. `at` is what errors call the schema's root."""
    return _Compiler(rules, schema, at).rule(schema, at)


class _Compiler:
    """Makes the rules of one document."""

    def __init__(self, rules: Rules, root: Any, at: str) -> None:
        self._rules = rules
        self._document = Document(root, at)
        self._at = at
        self._references: dict[str, str] = {}
        self._n_schemas = 0
        self._depth = 0

    def rule(self, schema: Any, at: str) -> str:
        """The name of a rule for what fulfils the schema at `at`."""
        self._n_schemas += 1
        self._depth += 1
        if self._n_schemas > _MOST_SCHEMAS or self._depth > _MOST_DEEP:
            raise wrong("it is too large, or too deep", at)
        name = self._rule(schema, at)
        self._depth -= 1
        return name

    def _rule(self, schema: Any, at: str) -> str:
        if schema is False:
            raise wrong("nothing fulfils “false”", at)
        asked = {} if schema is True else keywords.asserted(schema, at)
        if not asked:
            return self._rules.standard("value")
        if "allOf" in asked:
            alone = len(asked) == 1 and len(keywords.members(asked, "allOf", at)) == 1
            # A member that is alone stays a reference, which may lead back to here.
            return self.rule(asked["allOf"][0] if alone else self._document.merged(asked, at), f"{at}/allOf")
        if "$ref" in asked:
            only(asked, ("$ref",), at)
            return self._reference(asked["$ref"], at)
        for keyword in ("anyOf", "oneOf"):
            if keyword in asked:
                only(asked, (keyword,), at)
                return self._alternatives(keyword, keywords.members(asked, keyword, at), at)
        if "enum" in asked or "const" in asked:
            return self._constants(asked, at)
        return self._typed(asked, at)

    def _reference(self, reference: Any, at: str) -> str:
        target = self._document.resolve(reference, at)
        if reference not in self._references:
            if self._document.leads_back(reference, at):
                raise wrong("the reference leads back to itself with nothing in between", f"{at}/$ref")
            name = self._references[reference] = self._rules.reserve(reference.strip("#/"))
            self._rules.fill(name, self.rule(target, self._at + reference[1:]))
        return self._references[reference]

    def _alternatives(self, keyword: str, members: list[Any], at: str) -> str:
        if keyword == "oneOf":
            if len(members) > _MOST_EXCLUSIVE:
                raise wrong(f"“oneOf” has more than {_MOST_EXCLUSIVE} alternatives", f"{at}/oneOf")
            if overlap := self._document.first_overlap(members, at):
                both = (
                    f"the alternatives {overlap[0]} and {overlap[1]} of “oneOf” can hold at once as far as can be seen"
                )
                raise wrong(f"{both}; “anyOf” would do", f"{at}/oneOf")
        ways = [self.rule(each, f"{at}/{keyword}/{i}") for i, each in enumerate(members) if each is not False]
        if not ways:
            raise wrong(f"nothing fulfils “{keyword}”", f"{at}/{keyword}")
        return self._rules.add(keyword, " | ".join(dict.fromkeys(ways)))

    def _constants(self, asked: Schema, at: str) -> str:
        only(asked, ("enum", "const", "type"), at)
        try:
            ways = [json_rules.json_literal(value) for value in keywords.values(asked, at) or ()]
        except (ValueError, TypeError):
            raise wrong("a value is not JSON", at) from None
        if not ways:
            raise wrong("no value is left to choose from", at)
        return self._rules.add("constant", " | ".join(dict.fromkeys(ways)))

    def _typed(self, asked: Schema, at: str) -> str:
        types = keywords.types(asked, at)
        only(asked, {"type", *(keyword for each in types for keyword in KEYWORDS[each])}, at)
        ways = []
        for each in types:
            said = {keyword: asked[keyword] for keyword in KEYWORDS[each] if keyword in asked}
            ways.append(self._of_type(each, said, at) if said else self._rules.standard(each))
        return ways[0] if len(ways) == 1 else self._rules.add("types", " | ".join(ways))

    def _of_type(self, name: str, said: Schema, at: str) -> str:
        match name:
            case "object":
                return self._object(said, at)
            case "array":
                return self._array(said, at)
            case "string":
                return self._string(said, at)
            case "integer":
                return self._rules.add("integer", json_rules.integers(*keywords.bounds(said, at)))
            case _:
                return self._number(said, at)

    def _object(self, schema: Schema, at: str) -> str:
        ws, others = self._rules.standard("ws"), schema.get("additionalProperties", True)
        properties, required = keywords.properties(schema, at), keywords.required(schema, at)
        named = {name: (each, f"{at}/properties/{escaped(name)}") for name, each in properties.items()}
        named |= {name: (others, f"{at}/additionalProperties") for name in required if name not in named}
        pairs = [
            (self._pair(name, each, place), name in required)
            for name, (each, place) in named.items()
            if each is not False or name in required
        ]
        written, nothing = ws, '""'
        if others is not False and ("additionalProperties" in schema or "properties" not in schema):
            key = self._rules.key_besides(named)
            other = self._rules.add("pair", f'{key} ":" {ws} {self.rule(others, f"{at}/additionalProperties")}')
            written = self._rules.add("others", f'("," {ws} {other})* {ws}')
            nothing = self._rules.add("others", f"({other} {written})?")
        # From the last property to the first: what follows where something is written already, and where nothing is.
        for pair, needed in reversed(pairs):
            more = f'"," {ws} {pair} {written}'
            nothing = f"{pair} {written}" if needed else f"{pair} {written} | {nothing}"
            written, nothing = (
                self._rules.add("more", more if needed else f"{more} | {written}"),
                self._rules.add("first", nothing),
            )
        return self._rules.add("object", f'"{{" {ws} {nothing} "}}"')

    def _pair(self, name: str, schema: Any, at: str) -> str:
        try:
            key = json_rules.json_literal(name)
        except ValueError:
            raise wrong("a name is no text", at) from None
        return self._rules.add("pair", f'{key} ":" {self._rules.standard("ws")} {self.rule(schema, at)}')

    def _array(self, schema: Schema, at: str) -> str:
        ws, low, high = self._rules.standard("ws"), *keywords.counts(schema, "minItems", "maxItems", at)
        if "prefixItems" in schema:
            members = keywords.members(schema, "prefixItems", at)
            if low != len(members) or (high != low and schema.get("items") is not False):
                raise wrong("“prefixItems” must say every item: “minItems” and “maxItems” as many", f"{at}/prefixItems")
            items = [self.rule(each, f"{at}/prefixItems/{i}") for i, each in enumerate(members)]
            return self._rules.add("array", f'"[" {ws} ' + f' "," {ws} '.join(items) + f' {ws} "]"')
        if high == 0 or (schema.get("items") is False and not low):
            return self._rules.add("array", f'"[" {ws} "]"')
        item = self.rule(schema.get("items", True), f"{at}/items")
        more = self._rules.add("item", f'"," {ws} {item}')
        some = f"{item} {self._rules.repeated(more, max(low - 1, 0), None if high is None else high - 1)} {ws}"
        return self._rules.add("array", f'"[" {ws} {some if low else f"({some})?"} "]"')

    def _string(self, schema: Schema, at: str) -> str:
        if "format" in schema:
            only(schema, ("format",), at)
            if schema["format"] not in _FORMATS:
                raise wrong(f"the format {schema['format']!r} is not supported", f"{at}/format")
            return self._rules.standard(schema["format"])
        if "pattern" in schema:
            only(schema, ("pattern",), at)
            try:
                inside = pattern.expression(str(schema["pattern"]), self._rules)
            except ValueError as error:
                raise wrong(f"the pattern cannot be used: {error}", f"{at}/pattern") from None
        else:
            char = self._rules.standard("char")
            inside = self._rules.repeated(char, *keywords.counts(schema, "minLength", "maxLength", at))
        return self._rules.add("string", rf'"\"" {inside} "\""')

    def _number(self, schema: Schema, at: str) -> str:
        only(schema, ("minimum", "maximum"), at)
        low, high = keywords.bounds(schema, at)
        for keyword, whole in (("minimum", low), ("maximum", high)):
            if schema.get(keyword, whole) != whole:
                raise wrong(f"“{keyword}” of a number must be whole", f"{at}/{keyword}")
            if whole is not None and abs(whole) <= json_rules.LARGEST and float(whole) != whole:
                raise wrong(f"“{keyword}” of a number must be one that floating point can say", f"{at}/{keyword}")
        self._rules.standard("fraction")
        return self._rules.add("number", json_rules.numbers(low, high))
