"""What every dialect makes of what clients send and of what the engine answers, seen behind a scripted engine."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gguf_vl.engine.fake import NO_TIME, text
from gguf_vl.engine.protocol import Generate
from gguf_vl.errors import DoesNotFit, GgufVlError, ModelNotFound
from gguf_vl.server.asked import Shown, Turn
from gguf_vl.server.dialects import openai_responses
from gguf_vl.server.dialects.openai import arguments_of
from gguf_vl.server.dialects.openai_models import Embeddings
from gguf_vl.server.dialects.openai_responses import Memory
from gguf_vl.server.failures import NoSuchPicture, NoSuchResponse, TooManyPictures, failure_of
from gguf_vl.types import Call, CallArguments, CallEnded, CallStarted, Finished, Likely, Progress, Text, Usage
from tests.server import test_calling
from tests.server.inside import Inside, inside

pytestmark = pytest.mark.anyio

TALK: dict[str, Any] = {"messages": [{"role": "user", "content": "?"}]}
ASKED: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": TALK,
    "/v1/completions": {"prompt": "?"},
    "/v1/responses": {"input": "?"},
    "/v1/messages": TALK | {"max_tokens": 9},
}
"""The least that each dialect's questions need."""


async def post(served: Inside, path: str, body: dict[str, Any]) -> Any:
    """The response to a body, which may hold what UTF-8 cannot."""
    return await served.client.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})


async def refused(path: str, body: dict[str, Any], status: int = 400) -> dict[str, Any]:
    """The error that a body is answered with, which the engine has not seen."""
    async with inside(text("yes")) as served:
        response = await post(served, path, body)
        assert response.status_code == status, response.text
        assert not served.models.sent(Generate)
    error: dict[str, Any] = response.json()["error"]
    assert error["message"]
    return error


async def asked(path: str, body: dict[str, Any]) -> Any:
    """What the engine is asked when a body comes."""
    async with inside(text("yes")) as served:
        response = await post(served, path, body)
        assert response.status_code == 200, response.text
        [sent] = served.models.sent(Generate)
    return sent.request


@pytest.mark.parametrize("stop", [5, {"a": 1}, ["a", 1], True])
async def test_what_is_no_stop_string_is_refused(stop: Any) -> None:
    for path in ("/v1/chat/completions", "/v1/completions"):
        await refused(path, ASKED[path] | {"stop": stop})
    async with inside(text("yes")) as served:
        assert (await post(served, "/api/chat", TALK | {"options": {"stop": stop}})).status_code == 400


@pytest.mark.parametrize("path", ASKED)
async def test_a_stream_has_no_line_ends_within_its_lines(path: str) -> None:
    said = "a\u2028b\u2029c\u0085d\ud800"
    async with inside(text(said)) as served:
        response = await post(served, path, ASKED[path] | {"stream": True})
    lines = response.content.decode().splitlines()
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    assert said in "".join(map(_text, events))
    assert all(line.startswith(("data: ", "event: ")) or not line for line in lines)


def _text(event: dict[str, Any]) -> str:
    match event:
        case {"choices": [{"delta": {"content": str(said)}}]} | {"choices": [{"text": str(said)}]}:
            return said
        case {"delta": {"text": str(said)}} | {"type": "response.output_text.delta", "delta": str(said)}:
            return said
    return ""


async def test_half_a_surrogate_pair_goes_back_as_it_came() -> None:
    half = "\ud800"
    async with inside(text("yes" + half)) as served:
        echoed = await post(served, "/v1/completions", {"prompt": half, "echo": True})
        assert echoed.json()["choices"][0]["text"] == f"{half}yes{half}"
        responded = (await post(served, "/v1/responses", {"input": "?", "metadata": {"a": half}})).json()
        assert responded["metadata"] == {"a": half}
        kept = (await served.client.get(f"/v1/responses/{responded['id']}")).json()
        assert kept == responded
        for path in ("/v1/chat/completions", "/v1/messages"):
            assert rb"yes\ud800" in (await post(served, path, ASKED[path])).content
        for path, body in (("/api/chat", TALK), ("/api/generate", {"prompt": half})):
            found = (await post(served, path, body | {"model": half, "stream": False})).json()
            assert (found["model"], found.get("response") or found["message"]["content"]) == (half, f"yes{half}")
        assert (await post(served, "/api/embed", {"model": half, "input": []})).json()["model"] == half
        assert (await post(served, "/api/v1/chat", {"question": "?"})).json()["response"] == f"yes{half}"


async def test_a_response_that_is_not_kept_is_no_missing_model() -> None:
    error = await refused("/v1/responses", {"input": "?", "previous_response_id": "resp_1"}, 404)
    assert error["code"] == "response_not_found"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (TooManyPictures("65 pictures.", "Send fewer."), 400, "too_many_pictures"),
        (NoSuchPicture("No picture.", "Upload it."), 404, "picture_not_found"),
        (DoesNotFit("Too long.", "Send less."), 400, "context_length_exceeded"),
        (ModelNotFound("No model.", "Fetch it."), 404, "model_not_found"),
    ],
)
def test_each_failure_has_its_own_word(error: GgufVlError, status: int, code: str) -> None:
    failure = failure_of(error)
    assert (failure.status, failure.code) == (status, code)


LONG = "x" * 3000


@pytest.mark.parametrize(
    ("response", "turns"),
    [
        ({"metadata": {"a": LONG}}, ()),
        ({"instructions": LONG}, ()),
        ({"tools": [{"parameters": [[]] * 1000}]}, ()),
        ({}, (Turn("user", (LONG,)),)),
        ({}, (Turn("user", (Shown(LONG),)),)),
        ({}, (Turn("assistant", (), (Call("", "paint", LONG),)),)),
        ({}, (Turn("user", ("",)),) * 25),
    ],
)
def test_what_is_kept_stays_within_its_budget(response: dict[str, Any], turns: tuple[Turn, ...]) -> None:
    memory = Memory(budget=10_000)
    for number in range(10):
        memory.put({"id": str(number)} | response, turns)
    kept = [number for number in map(str, range(10)) if _is_kept(memory, number)]
    assert kept in (["7", "8", "9"], ["8", "9"], ["9"])
    memory.drop("9")
    for number in kept:
        memory.put({"id": f"again {number}"} | response, turns)
    assert _is_kept(memory, f"again {kept[-1]}")


def test_what_is_larger_than_the_budget_is_not_kept() -> None:
    memory = Memory(budget=1000)
    memory.put({"id": "1"}, (Turn("user", (LONG,)),))
    assert not _is_kept(memory, "1")


def _is_kept(memory: Memory, id: str) -> bool:
    try:
        memory.get(id)
    except NoSuchResponse:
        return False
    return True


async def test_a_response_is_kept_though_its_reader_takes_nothing_more() -> None:
    """What a web framework does with the stream of a client that has gone: it ends it where it stands."""
    kept = []
    making = openai_responses._Making(openai_responses.Responses(input="?"), "pocket")

    async def events() -> Any:
        yield 0, Text("yes")
        yield 0, Finished("stop", Usage(1, 0, 1), NO_TIME)

    lines = making.lines(events(), lambda: kept.append(making.response()))
    async for line in lines:
        if b"response.completed" in line:
            await lines.aclose()  # type: ignore[attr-defined]
    assert [each["status"] for each in kept] == ["completed"]


async def test_an_older_stream_tells_its_usage_only_where_that_is_wanted() -> None:
    async with inside(text("yes")) as served:
        for options, n_usages in ((None, 0), ({"include_usage": False}, 0), ({"include_usage": True}, 1)):
            body = {"prompt": "?", "stream": True, "stream_options": options}
            lines = (await post(served, "/v1/completions", body)).text.splitlines()
            chunks = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
            assert [each["choices"] for each in chunks].count([]) == n_usages
            assert sum(bool(each.get("usage")) for each in chunks) == n_usages


ILL_FORMED: list[tuple[str, dict[str, Any]]] = [
    *(
        ("/v1/messages", {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": wrong}]})
        for wrong in (5, ["a"], {"a": 1}, [5])
    ),
    ("/v1/messages", {"role": "assistant", "content": [{"type": "tool_use", "name": 5, "input": {}}]}),
    ("/v1/messages", {"role": "user", "content": [{"type": "image", "source": 5}]}),
    ("/v1/messages", {"role": "user", "content": [{"text": "a"}]}),
    *(("/v1/responses", {"role": "user", "content": wrong}) for wrong in (5, {"a": 1}, [5])),
    *(("/v1/responses", {"type": "function_call_output", "call_id": "a", "output": wrong}) for wrong in (5, {}, [5])),
    ("/v1/responses", {"type": "function_call_output", "call_id": "a"}),
    ("/v1/responses", {"role": ["user"], "content": "a"}),
    ("/v1/chat/completions", {"role": "user", "content": 5}),
]


@pytest.mark.parametrize(("path", "wrong"), ILL_FORMED)
async def test_an_ill_formed_message_is_the_clients_fault(path: str, wrong: dict[str, Any]) -> None:
    field = "input" if path == "/v1/responses" else "messages"
    await refused(path, {field: [wrong, {"role": "user", "content": "?"}], "max_tokens": 9})


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("/v1/chat/completions", {"response_format": {"type": "json_object", "schema": 5}}),
        ("/v1/responses", {"tools": [{"type": "function", "name": "paint", "parameters": 5}]}),
        ("/v1/responses", {"prompt": {"id": "pmpt_1"}}),
        ("/v1/responses", {"metadata": {"a": float("nan")}}),
        ("/v1/responses", {"metadata": {"a": float("inf")}, "stream": True}),
        *((path, {"temperature": float("nan")}) for path in ASKED),
        ("/v1/messages", {"tools": [{"name": "paint", "input_schema": 5}]}),
        ("/v1/messages", {"mcp_servers": [{"type": "url", "url": "https://a.example", "name": "a"}]}),
        ("/v1/messages", {"container": {"skills": [{"type": "anthropic", "skill_id": "pptx"}]}}),
        ("/v1/messages", {"output_config": {"format": {"type": "xml"}}}),
        ("/v1/messages", {"output_config": 5}),
    ],
)
async def test_what_changes_the_meaning_and_cannot_be_followed_is_refused(path: str, wrong: dict[str, Any]) -> None:
    await refused(path, ASKED[path] | wrong)


CALLED = [Call(id, "paint", json.dumps(arguments)) for id, arguments in test_calling.CALLED]
RESULTS = [("call_b", "Painted blue."), ("call_a", "Painted red.")]
CHAT_CALLS = [
    {"id": each.id, "type": "function", "function": {"name": each.name, "arguments": each.arguments}} for each in CALLED
]
ITEM_CALLS = [
    {"type": "function_call", "call_id": each.id, "name": each.name, "arguments": each.arguments} for each in CALLED
]
BLOCK_CALLS = [
    {"type": "tool_use", "id": each.id, "name": each.name, "input": json.loads(each.arguments)} for each in CALLED
]
ITEM_RESULTS = [{"type": "function_call_output", "call_id": id, "output": said} for id, said in RESULTS]
BLOCK_RESULTS = [{"type": "tool_result", "tool_use_id": id, "content": said} for id, said in RESULTS]
QUESTION = {"role": "user", "content": "?"}
ANSWERED: list[tuple[str, dict[str, Any]]] = [
    (
        "/v1/chat/completions",
        {
            "messages": [
                QUESTION,
                {"role": "assistant", "tool_calls": CHAT_CALLS},
                *({"role": "tool", "tool_call_id": id, "content": said} for id, said in RESULTS),
            ]
        },
    ),
    ("/v1/responses", {"input": [QUESTION, *ITEM_CALLS, *ITEM_RESULTS]}),
    (
        "/v1/messages",
        {
            "messages": [
                QUESTION,
                {"role": "assistant", "content": BLOCK_CALLS},
                {"role": "user", "content": BLOCK_RESULTS},
            ]
        },
    ),
    (
        "/v1/messages",
        {
            "messages": [
                QUESTION,
                {"role": "assistant", "content": BLOCK_CALLS},
                *({"role": "user", "content": [each]} for each in BLOCK_RESULTS),
            ]
        },
    ),
]


@pytest.mark.parametrize(("path", "body"), ANSWERED)
async def test_what_calls_gave_back_is_put_in_the_order_of_the_calls(path: str, body: dict[str, Any]) -> None:
    messages = (await asked(path, body | {"max_tokens": 9})).messages
    assert [each.role for each in messages] == ["user", "assistant", "tool", "tool"]
    assert messages[1].calls == tuple(CALLED)
    assert [each.content for each in messages[2:]] == [("Painted red.",), ("Painted blue.",)]


async def test_a_later_response_puts_them_in_order_too() -> None:
    async with inside(test_calling.calling(), text("yes")) as served:
        first = (await post(served, "/v1/responses", {"input": "?"})).json()
        body = {"input": ITEM_RESULTS, "previous_response_id": first["id"]}
        assert (await post(served, "/v1/responses", body)).status_code == 200
        messages = served.models.sent(Generate)[-1].request.messages
    assert [each.content for each in messages[2:]] == [("Painted red.",), ("Painted blue.",)]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('{"a": [1, 2.5, null]}', {"a": [1, 2.5, None]}),
        ("{}", {}),
        ('{"a": [1, 2', {}),
        ("", {}),
        ("[1]", {}),
        ('"a"', {}),
        ("null", {}),
        ('{"a": NaN}', {}),
        ('{"a": [-Infinity]}', {}),
        ('{"a": 1e999}', {}),
        pytest.param('{"a": ' + "[" * 100_000, {}, id="very deep"),
    ],
)
def test_the_arguments_of_a_call_are_an_object_that_json_can_write(written: str, read: dict[str, Any]) -> None:
    assert arguments_of(Call("", "paint", written)) == read


@pytest.mark.parametrize("path", ["/v1/messages", "/api/chat"])
async def test_a_call_that_was_cut_off_has_no_arguments(path: str) -> None:
    cut = [CallStarted(0, "call_a", "paint"), CallArguments(0, '{"colour": "re'), CallEnded(0, complete=False)]
    async with inside([*cut, Finished("length", Usage(5, 0, 9), NO_TIME)]) as served:
        answer = (await post(served, path, TALK | {"max_tokens": 9, "stream": False})).json()
    if path == "/v1/messages":
        assert answer["content"] == [{"type": "tool_use", "id": "call_a", "name": "paint", "input": {}}]
    else:
        assert answer["message"]["tool_calls"][0]["function"]["arguments"] == {}


SCHEMA = {"type": "object", "properties": {"shape": {"type": "string"}}}
FORMAT = {"type": "json_schema", "schema": SCHEMA}


@pytest.mark.parametrize("field", [{"output_config": {"format": FORMAT}}, {"output_format": FORMAT}])
async def test_anthropics_format_is_the_schema(field: dict[str, Any]) -> None:
    assert (await asked("/v1/messages", ASKED["/v1/messages"] | field)).schema == SCHEMA


@pytest.mark.parametrize("effort", ["none", "minimal"])
async def test_no_effort_is_no_thinking(effort: str) -> None:
    for path, field in (
        ("/v1/chat/completions", {"reasoning_effort": effort}),
        ("/v1/responses", {"reasoning": {"effort": effort}}),
    ):
        assert (await asked(path, ASKED[path] | field)).thinking_budget == 0
    path = "/v1/chat/completions"
    assert (await asked(path, TALK | {"reasoning_effort": "high"})).thinking_budget is None
    assert (await asked(path, TALK | {"reasoning_effort": "none", "thinking_budget": 7})).thinking_budget == 7


@pytest.mark.parametrize("path", [*ASKED, "/v1/messages/count_tokens", "/v1/embeddings"])
async def test_null_stands_for_a_field_that_is_left_out(path: str) -> None:
    body = ASKED.get(path, TALK | {"input": "?"})
    async with inside(text("yes")) as served:
        described = (await served.client.get("/openapi.json")).json()
        ref = described["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        fields = described["components"]["schemas"][ref.rpartition("/")[2]]["properties"]
        nulls = dict.fromkeys(set(fields) - set(body))
        if path == "/v1/embeddings":
            assert Embeddings.model_validate(nulls | body).encoding_format == "float"
            return
        assert {"model"} <= set(nulls)
        response = await post(served, path, body | nulls)
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "application/json"
    if path == "/v1/chat/completions":
        request = await asked(path, body | nulls | {"stream_options": {"include_usage": None}})
        assert request.loop_guard


async def test_a_message_starts_with_the_length_of_its_prompt() -> None:
    script = [Progress("queue", 1, 1), Progress("encode", 5, 9), Progress("prefill", 4, 20), *text("yes")]
    async with inside(script, text("yes"), [Progress("queue", 1, 1), DoesNotFit("Too long.", "Send less.")]) as served:
        starts = []
        for _ in range(3):
            lines = (await post(served, "/v1/messages", ASKED["/v1/messages"] | {"stream": True})).text.splitlines()
            events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
            assert [each["type"] for each in events].count("message_start") == 1
            starts.append(events[0]["message"]["usage"]["input_tokens"])
        assert starts == [20, 0, 0]
        assert events[-1]["error"]["message"]


async def test_what_cannot_be_has_a_likelihood_that_json_can_write() -> None:
    never = Likely((b"yes", float("-inf")), ((b"no", float("-inf")),))
    async with inside([never, *text("yes")]) as served:
        older = await post(served, "/v1/completions", {"prompt": "?", "logprobs": 1})
        assert older.json()["choices"][0]["logprobs"]["token_logprobs"] == [-9999.0]
        for path in ("/v1/completions", "/v1/chat/completions"):
            body = ASKED[path] | {"logprobs": 1 if path == "/v1/completions" else True, "stream": True}
            lines = (await post(served, path, body)).text.splitlines()
            assert "-9999.0" in "".join(lines)
            assert lines[-2] == "data: [DONE]"
