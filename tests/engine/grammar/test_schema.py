"""What a schema's grammar lets through fulfils the schema, what fulfils it is let through, and nothing is left out."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from llama_cpp import llama_cpp as llama

from gguf_vl.engine.grammar.schema import grammar_of
from gguf_vl.errors import UsageError
from gguf_vl.native.grammar import Grammar
from tests.engine.grammar.grammars import fulfils, pocket

BOX = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 1000}, "minItems": 4, "maxItems": 4}
INVOICE = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Invoice",
    "type": "object",
    "properties": {
        "number": {"type": "string", "pattern": "^[A-Z]{2}-\\d{3,5}$", "description": "as printed"},
        "date": {"type": "string", "format": "date"},
        "paid": {"type": ["boolean", "null"]},
        "items": {"type": "array", "items": {"$ref": "#/$defs/item"}},
        "total": {"type": "number", "minimum": 0},
        "currency": {"enum": ["EUR", "USD", "元"]},
    },
    "required": ["number", "items", "total"],
    "additionalProperties": False,
    "$defs": {
        "item": {
            "type": "object",
            "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 40}, "box": BOX},
            "required": ["name", "box"],
        }
    },
}
LIST = {"type": ["object", "null"], "properties": {"next": {"$ref": "#"}, "value": {}}, "required": ["next"]}

ACCEPTED: list[tuple[Any, list[Any]]] = [
    (True, [1, None, {"a": [1.5, "x", {"b": []}]}, [], "é\n\"\\\u0001"]),
    ({}, [[]]),
    ({"description": "anything"}, [{}]),
    (INVOICE, [
        {"number": "AB-123", "items": [], "total": 0},
        {"number": "AB-12345", "date": "2024-02-29", "paid": None, "items": [{"name": "茶", "box": [0, 10, 999, 1000]}],
         "total": 12.5, "currency": "元"},
    ]),
    (LIST, [None, {"next": None}, {"next": {"next": {"next": None, "value": 1}}, "value": "x"}]),
    ({"type": "object"}, [{}, {"a": 1, "b": {"c": []}}]),
    ({"properties": {}}, [{}]),
    ({"properties": {"a": {}}, "additionalProperties": {"type": "integer"}},
        [{}, {"a": "x", "ab": 1, "": 2}, {"b": 1}]),
    ({"required": ["a", "b"]}, [{"a": 1, "b": 2, "c": 3}]),
    ({"properties": {"a": False, "b": True}}, [{}, {"b": 1}]),
    ({"type": "array", "minItems": 2}, [[1, 2], [1, 2, 3]]),
    ({"items": {"type": "null"}, "maxItems": 2}, [[], [None], [None, None]]),
    ({"items": False}, [[]]),
    ({"prefixItems": [{"type": "integer"}, {"type": "string"}], "minItems": 2, "maxItems": 2}, [[1, "a"]]),
    ({"prefixItems": [{}, {}], "minItems": 2, "items": False}, [[1, "a"]]),
    ({"type": "string", "minLength": 2, "maxLength": 3}, ["ab", "abc", "红色", "\\\"", "🟥\n"]),
    ({"type": "string", "maxLength": 2500}, ["", "x" * 999, "x" * 1000, "x" * 2500]),
    ({"type": "string", "minLength": 1500}, ["x" * 1500, "x" * 4000]),
    ({"format": "time"}, ["10:20:30Z", "23:59:59.123456+02:00"]),
    ({"format": "date-time"}, ["2024-12-31T00:00:00Z", "1999-01-30T10:20:30-11:30"]),
    ({"format": "uuid"}, ["123e4567-e89b-12d3-a456-426614174000"]),
    ({"type": "integer"}, [0, -1, 123456789012345678]),
    ({"type": "integer", "minimum": -15, "exclusiveMaximum": 120}, [-15, -9, -1, 0, 9, 10, 99, 100, 119]),
    ({"type": "integer", "minimum": 0.5}, [1, 10**17]),
    ({"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}, [-(2**63), -(10**17), 10**17, 2**63 - 1]),
    ({"type": "integer", "minimum": 1700000000000000000}, [17 * 10**17, 2**63, 2**64 - 1]),
    ({"type": "integer", "maximum": -(10**18)}, [-(10**18), -(2**63)]),
    ({"type": "number", "minimum": 10**18}, [10**18, 10**18 + 1, 10**19]),
    ({"type": "number", "maximum": 1e300}, [-0.5, 10**19]),
    ({"type": "number"}, [0, -1.5, 1e-7, 0.30000000000000004, 1e16]),
    ({"type": "number", "minimum": 0, "maximum": 1}, [0, 0.5, 1, 1.0]),
    ({"type": "number", "minimum": -10, "maximum": -2}, [-2, -2.5, -9.99, -10, -10.0]),
    ({"type": "number", "maximum": 3}, [-1e3, -0.5, 2.9, 3]),
    ({"const": {"a": [1, None]}}, [{"a": [1, None]}]),
    ({"enum": [1, "1", None, True], "type": ["integer", "null"]}, [1, None]),
    ({"anyOf": [{"type": "null"}, {"type": "array", "items": {"type": "null"}}]}, [None, [], [None]]),
    ({"oneOf": [{"properties": {"kind": {"const": kind}, kind: {}}, "required": ["kind"]} for kind in "ab"]},
        [{"kind": "a", "a": 1}, {"kind": "b", "b": 1}]),
    ({"oneOf": [{"type": "object"}, {"type": ["string", "null"]}, {"const": 1}, {"enum": [2, 3]}]}, [{}, "x", 1, 3]),
    ({"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"type": "null"}}, "title": "x"}, [None]),
    ({"allOf": [{"$ref": "#/$defs/a"}, {"properties": {"a": {"maximum": 9}, "b": {}}, "required": ["b"]}],
      "type": "object", "$defs": {"a": {"properties": {"a": {"type": "integer"}}}}}, [{"b": 1}, {"a": 9, "b": 1}]),
    ({"$ref": "#/definitions/a~1b%25", "definitions": {"a/b%": {"type": "boolean"}}}, [True, False]),
    ({"properties": {"quote\"\\\n": {"type": "null"}}}, [{"quote\"\\\n": None}]),
]  # fmt: skip

REFUSED: list[tuple[Any, list[str]]] = [
    (INVOICE, ['{"number": "AB-12", "items": [], "total": 0}', '{"number": "AB-123", "items": []}', "{}", "null", ""]),
    (INVOICE, ['{"number": "AB-123", "items": [], "total": -1}', '{"number":"AB-123","items":[],"total":1,"x":2}']),
    (LIST, ["{}", '{"value": 1}', '{"next": 1}', '{"next": {"next": null}']),
    (
        {"properties": {"ab": {}}, "additionalProperties": {"type": "integer"}},
        ['{"ac": ""}', '{"a": 1, "ab": 1, "ab": 2}'],
    ),
    (
        {"properties": {"a": {}}, "required": ["a"], "additionalProperties": True},
        ['{"b": 1}', "{}", '{"b": 1, "a": 1}'],
    ),
    ({"items": {"type": "null"}, "minItems": 1, "maxItems": 2}, ["[]", "[null,]", "[null, null, null]", "[1]"]),
    ({"type": "string", "minLength": 2, "maxLength": 3}, ['"a"', '"abcd"', '"\\u00e9"', '"\n\n"', '"ab']),
    ({"type": "string", "maxLength": 2500}, ['"' + "x" * 2501 + '"']),
    ({"type": "string"}, ['"\\ud800"', '"\\udc00\\ud800"', '"\\x41"', "'a'"]),
    ({"format": "date"}, ['"2023-02-29"', '"2023-04-31"', '"2023-13-01"', '"1900-02-29"', '"23-01-01"']),
    ({"format": "time"}, ['"24:00:00Z"', '"10:20Z"', '"10:20:30"']),
    ({"type": "integer", "minimum": -15, "maximum": 120}, ["-16", "121", "01", "1.0", "1e1", "1000", "-"]),
    ({"type": "number", "minimum": 0, "maximum": 1}, ["1.1", "-0.1", "1.01", "2", ".5", "0."]),
    ({"type": "boolean"}, ["True", "1", " true", "true "]),
    ({"enum": ["a", 1]}, ['"b"', "a", "11", '"1"']),
    (True, ["{}}", "[1,]", "{'a': 1}", "\n1", "nul", '{"a"  : 1}', '{"a":\n' + " " * 33 + "1}", '{"a":  1}']),
]

WRONG: list[tuple[Any, str, str]] = [
    ({"type": "object", "patternProperties": {}}, "patternProperties", "#/patternProperties"),
    ({"properties": {"a/b": {"type": "array", "uniqueItems": True}}}, "uniqueItems", "#/properties/a~1b/uniqueItems"),
    ({"type": "integer", "multipleOf": 5}, "multipleOf", "#/multipleOf"),
    ({"not": {}}, "not", "#/not"),
    ({"type": "string", "minimum": 5}, "minimum", "#/minimum"),
    ({"type": "string", "format": "email"}, "email", "#/format"),
    ({"type": "string", "format": "date", "minLength": 5}, "minLength", "#/minLength"),
    ({"pattern": "^a$", "maxLength": 5}, "beside “pattern”", "#/maxLength"),
    ({"pattern": "^a$", "format": "date"}, "beside “format”", "#/pattern"),
    ({"items": {"pattern": "a"}}, "whole string", "#/items/pattern"),
    ({"items": {"pattern": "^(?=a)$"}}, "(?=", "#/items/pattern"),
    ({"type": "text"}, "'text' is no type", "#/type"),
    ({"type": []}, "no type", "#/type"),
    ({"type": "number", "minimum": 0.5}, "must be whole", "#/minimum"),
    ({"type": "number", "exclusiveMinimum": 0}, "exclusiveMinimum", "#/exclusiveMinimum"),
    ({"type": "number", "exclusiveMaximum": 0}, "exclusiveMaximum", "#/exclusiveMaximum"),
    ({"type": "integer", "minimum": 5, "maximum": 4}, "between", "#"),
    ({"type": "integer", "minimum": True}, "must be a number", "#/minimum"),
    ({"type": "integer", "minimum": float("inf")}, "must be a number", "#/minimum"),
    ({"type": "integer", "minimum": 10**400}, "more than 20 digits", "#/minimum"),
    ({"items": {"exclusiveMinimum": 10**20 - 1, "type": "integer"}}, "20 digits", "#/items/exclusiveMinimum"),
    ({"type": "integer", "minimum": 1, "maximum": -1e20}, "20 digits", "#/maximum"),
    ({"type": "number", "minimum": 10**20}, "20 digits", "#/minimum"),
    ({"type": "number", "maximum": 2**53 + 1}, "floating point can say", "#/maximum"),
    ({"type": "string", "maxLength": -1}, "must be a count", "#/maxLength"),
    ({"type": "string", "maxLength": 10**9}, "must be a count", "#/maxLength"),
    ({"type": "string", "minLength": 2, "maxLength": 1}, "less than", "#/maxLength"),
    ({"prefixItems": [{}]}, "every item", "#/prefixItems"),
    ({"prefixItems": [{}], "items": False}, "every item", "#/prefixItems"),
    ({"prefixItems": [{}], "minItems": 1}, "every item", "#/prefixItems"),
    ({"properties": [], "type": "object"}, "must be an object", "#/properties"),
    ({"required": "a"}, "list of names", "#/required"),
    ({"properties": {}, "required": ["a"], "additionalProperties": False}, "false", "#/additionalProperties"),
    ({"properties": {"a": 5}}, "there must be an object", "#/properties/a"),
    ({"enum": []}, "not empty", "#/enum"),
    ({"enum": [1], "type": "string"}, "no value is left", "#"),
    ({"const": float("nan")}, "not JSON", "#"),
    ({"const": "\ud800"}, "not JSON", "#"),
    ({"properties": {"\ud800": {}}}, "no text", "#/properties/\ud800"),
    ({"enum": [1], "minimum": 0}, "minimum", "#/minimum"),
    ({"anyOf": [{}], "properties": {}}, "properties", "#/properties"),
    ({"oneOf": [{"type": "null"}], "type": "null"}, "beside “oneOf”", "#/type"),
    ({"anyOf": [False]}, "nothing fulfils", "#/anyOf"),
    ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "alternatives 0 and 1", "#/oneOf"),
    ({"oneOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}, "alternatives 0 and 1", "#/oneOf"),
    ({"oneOf": [{"maximum": 1}, {"minimum": 2}]}, "alternatives 0 and 1", "#/oneOf"),
    ({"oneOf": [{"properties": {"a": {"const": i}}} for i in (1, 2)]}, "alternatives 0 and 1", "#/oneOf"),
    ({"allOf": [{"minimum": 1}, {"minimum": 2}]}, "“minimum” stands in several", "#/allOf"),
    ({"allOf": [{"properties": {}}, {"additionalProperties": False}]}, "different schemas", "#/allOf"),
    ({"$ref": "#"}, "leads back", "#/$ref"),
    ({"allOf": [{"$ref": "#"}, {"type": "object"}]}, "holds too much", "#/allOf"),
    ({"anyOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"oneOf": [{"$ref": "#/$defs/a"}]}}},
        "leads back", "#/anyOf/0/$ref"),
    ({"$ref": "#/$defs/none"}, "nothing at “#/$defs/none”", "#/$ref"),
    ({"$ref": "https://example.org/schema"}, "within the document", "#/$ref"),
    ({"$ref": "#/$defs/a", "minimum": 1, "$defs": {"a": {}}}, "minimum", "#/minimum"),
    (False, "false", "#"),
    ([], "there must be an object", "#"),
    ("string", "there must be an object", "#"),
    (None, "there must be an object", "#"),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "values"), ACCEPTED, ids=[str(schema)[:50] for schema, _ in ACCEPTED])
def test_what_fulfils_a_schema_is_let_through_however_it_is_spaced(schema: Any, values: list[Any]) -> None:
    grammar = grammar_of(schema)
    for value in values:
        for spacing in ({"separators": (",", ":")}, {}, {"indent": 2}, {"indent": 4}):
            text = json.dumps(value, ensure_ascii=False, **spacing)  # type: ignore[arg-type]
            assert fulfils(grammar, text) or (isinstance(schema, dict) and "const" in schema and " " in text), text
        jsonschema.validate(value, schema)


@pytest.mark.parametrize(("schema", "texts"), REFUSED, ids=[str(schema)[:50] for schema, _ in REFUSED])
def test_what_does_not_is_refused(schema: Any, texts: list[str]) -> None:
    grammar = grammar_of(schema)
    for text in texts:
        assert not fulfils(grammar, text), text


@pytest.mark.parametrize(("schema", "reason", "place"), WRONG, ids=[str(schema)[:50] for schema, _, _ in WRONG])
def test_what_cannot_be_said_is_named_with_its_place(schema: Any, reason: str, place: str) -> None:
    with pytest.raises(UsageError) as caught:
        grammar_of(schema)
    assert reason in caught.value.what
    assert caught.value.what.endswith(f", at {place}")


def test_a_schema_without_end_is_refused_before_it_takes_long() -> None:
    deep: Any = {}
    for _ in range(100_000):
        deep = {"items": deep}
    chain = {f"s{i}": {"items": {"$ref": f"#/$defs/s{i + 1}"}} for i in range(5000)}
    doubled = {f"s{i}": {"allOf": [{"$ref": f"#/$defs/s{i + 1}"}] * 2} for i in range(50)}
    for schema in (
        deep,
        {"$ref": "#/$defs/s0", "$defs": chain | {"s5000": {}}},
        {"$ref": "#/$defs/s0", "$defs": doubled | {"s50": {}}},
        {"properties": {str(i): {} for i in range(20_000)}},
        {"oneOf": [{"const": i} for i in range(5_000)]},
    ):
        with pytest.raises(UsageError):
            grammar_of(schema)


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@st.composite
def described(draw: st.DrawFn, depth: int = 0) -> tuple[Any, st.SearchStrategy[Any]]:
    """A schema, and values that fulfil it, with their properties in its order."""
    kinds = ["integer", "number", "string", "enum", "boolean"] + (["object", "array", "anyOf"] * 2 if depth < 3 else [])
    match draw(st.sampled_from(kinds)):
        case "integer":
            low, high = sorted(draw(st.tuples(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))))
            return {"type": "integer", "minimum": low, "maximum": high}, st.integers(low, high)
        case "number":
            low = draw(st.integers(-1000, 1000))
            high = low + draw(st.integers(0, 1000))
            return {"type": "number", "minimum": low, "maximum": high}, st.integers(low * 16, high * 16).map(
                lambda sixteenths: sixteenths / 16
            )
        case "string":
            low = draw(st.integers(0, 3))
            high = low + draw(st.integers(0, 5))
            return {"type": "string", "minLength": low, "maxLength": high}, st.text(
                st.characters(exclude_categories=["Cs"]), min_size=low, max_size=high
            )
        case "enum":
            values = draw(st.lists(texts | st.integers(-9, 99), min_size=1, max_size=4))
            return {"enum": values}, st.sampled_from(values)
        case "boolean":
            return {"type": ["boolean", "null"]}, st.sampled_from([True, False, None])
        case "array":
            items, values = draw(described(depth + 1))
            low = draw(st.integers(0, 2))
            high = draw(st.none() | st.integers(low, low + 3))
            schema = {"type": "array", "items": items, "minItems": low}
            return schema | ({} if high is None else {"maxItems": high}), st.lists(
                values, min_size=low, max_size=low + 3 if high is None else high
            )
        case "anyOf":
            ways = draw(st.lists(described(depth + 1), min_size=1, max_size=3))
            return {"anyOf": [schema for schema, _ in ways]}, st.one_of([values for _, values in ways])
        case _:
            members = draw(st.dictionaries(names, described(depth + 1), max_size=4))
            required = [name for name in members if draw(st.booleans())]
            schema = {"type": "object", "properties": {name: each for name, (each, _) in members.items()}}
            order = list(members)
            return schema | {"required": required}, st.fixed_dictionaries(
                {name: members[name][1] for name in required},
                optional={name: values for name, (_, values) in members.items() if name not in required},
            ).map(lambda found: {name: found[name] for name in order if name in found})


@given(st.data())
def test_values_made_for_a_schema_are_let_through(data: st.DataObject) -> None:
    schema, values = data.draw(described())
    value = data.draw(values)
    jsonschema.validate(value, schema)
    assert fulfils(grammar_of(schema), json.dumps(value, ensure_ascii=False))


keywords = st.sampled_from(
    "type properties required additionalProperties items prefixItems minItems maxItems minLength maxLength pattern "
    "format minimum maximum exclusiveMinimum enum const anyOf oneOf allOf $ref $defs title not".split()
)
wild = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | texts
    | st.sampled_from(["#", "#/$defs/a", "object", "array", "string", "integer", "date", "^a|b*$", "a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keywords | st.just("a"), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


@settings(deadline=None, max_examples=500)
@given(wild)
def test_any_value_as_a_schema_gives_a_grammar_that_llama_cpp_takes_or_wrong_usage(value: Any) -> None:
    with suppress(UsageError):
        Grammar(pocket(), grammar_of(value)).close()


def said_by_chance(grammar_text: str, seed: int) -> str | None:
    """A text that chance says, held to the grammar; None where it comes to no end."""
    model = pocket()
    noise = np.random.default_rng(seed)
    likely = [model.tokenize(text)[0] for text in ('"', "}", "]", ",", "1", "é", "\\")]
    chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
    llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_dist(seed))
    said = b""
    try:
        with Grammar(model, grammar_text) as grammar:
            for _ in range(150):
                logits = noise.normal(0, 2, model.n_vocab).astype(np.float32)
                logits[likely] += 4
                logits[model.special_tokens["<|im_end|>"]] += 8
                token = grammar.sample(chain, logits)
                if model.ends_answer(token):
                    return said.decode()
                said += model.piece(token)
    finally:
        llama.llama_sampler_free(chain)
    return None


@given(described(), st.integers(0, 2**30))
def test_whatever_is_let_through_fulfils_the_schema(drawn: tuple[Any, Any], seed: int) -> None:
    schema, _ = drawn
    said = said_by_chance(grammar_of(schema), seed)
    assume(said is not None)
    jsonschema.validate(json.loads(str(said)), schema)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("schema", [schema for schema, _ in ACCEPTED], ids=[str(schema)[:50] for schema, _ in ACCEPTED])
def test_what_chance_says_under_these_schemas_fulfils_them_too(schema: Any, seed: int) -> None:
    said = said_by_chance(grammar_of(schema), seed)
    if said is not None:
        jsonschema.validate(json.loads(said), schema)


def test_every_date_that_is_let_through_is_one() -> None:
    grammar = grammar_of({"format": "date-time"})
    for seed in range(60):
        datetime.fromisoformat(json.loads(str(said_by_chance(grammar, seed))))


@settings(max_examples=40)
@given(st.integers(-(10**5), 10**5), st.integers(0, 10**4), st.integers(-(10**5), 10**5))
def test_the_bounds_of_an_integer_hold_exactly(low: int, width: int, number: int) -> None:
    grammar = grammar_of({"type": "integer", "minimum": low, "maximum": low + width})
    for each in (low - 1, low, low + width, low + width + 1, number):
        assert fulfils(grammar, str(each)) == (low <= each <= low + width)


limits = st.builds(
    lambda sign, power, nearby: sign * (power + nearby),
    st.sampled_from([-1, 1]),
    st.sampled_from([0, 2**53, 10**17, 10**18, 2**63, 10**19, 2**64, 10**20]),
    st.integers(-3, 3),
)


@settings(max_examples=30)
@given(limits, limits, st.lists(limits, max_size=5))
def test_the_bounds_of_an_integer_hold_near_the_most_digits_too(one: int, other: int, numbers: list[int]) -> None:
    low, high = sorted((one, other))
    try:
        grammar = grammar_of({"type": "integer", "minimum": low, "maximum": high})
    except UsageError:
        assert min(abs(low), abs(high)) >= 10**20
        return
    for each in (low - 1, low, high, high + 1, *numbers):
        assert fulfils(grammar, str(each)) == (low <= each <= high and abs(each) < 10**20)


@given(st.sampled_from(["integer", "number"]), limits | st.none(), limits | st.none(), st.integers(0, 2**30))
def test_whatever_is_let_through_fulfils_bounds_near_the_most_digits(
    kind: str, low: int | None, high: int | None, seed: int
) -> None:
    schema = {"type": kind, **({} if low is None else {"minimum": low}), **({} if high is None else {"maximum": high})}
    try:
        said = said_by_chance(grammar_of(schema), seed)
    except UsageError:
        return
    assume(said is not None)
    jsonschema.validate(json.loads(str(said)), schema)


def test_another_text_may_stand_in_the_place_of_json() -> None:
    grammar = grammar_of({"type": "array", "items": {"type": "integer"}}, other='There is "no" cat.')
    assert fulfils(grammar, "[1, 2]")
    assert fulfils(grammar, 'There is "no" cat.')
    assert not fulfils(grammar, 'There is "no" cat')
    assert not fulfils(grammar, "There is no dog.")
