"""Whatever crosses the pipe arrives as it was sent."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import pytest

from gguf_vl.engine import protocol
from gguf_vl.errors import UsageError
from gguf_vl.types import (
    Call,
    EngineSettings,
    Finished,
    Message,
    Picture,
    PictureLimits,
    Request,
    Sampling,
    Text,
    Timings,
    Tool,
    Usage,
)

PICTURE = Picture(b"\x00\x01\x02" * 32 * 32, 32, 32, (40, 41), "abc")
MESSAGES = [
    protocol.Load(EngineSettings(Path("/models/a b.gguf"), None, PictureLimits(8, 4096))),
    protocol.Generate(
        Request(
            (
                Message("system", ("Be brief.",)),
                Message("user", (PICTURE, "What? 红", PICTURE)),
                Message("assistant", (), (Call("call_1", "look", '{"a": 1}'), Call("call_2", "now", "{}"))),
                Message("tool", ("It is red.",)),
            ),
            Sampling(temperature=0.0, stop=("a", "b"), seed=7),
            parallel_tool_calls=False,
        )
    ),
    protocol.Cancel("id"),
    protocol.Published("id", (Text("红"),), Finished("stop", Usage(1, 2, 3), Timings(0.1, 0.2, 0.3, None))),
    protocol.Failed("", {"error": "DoesNotFit", "what": "w", "fix": "f"}),
]


def test_messages_survive_the_pipe() -> None:
    stream = io.BytesIO(b"".join(protocol.dumps(message) for message in MESSAGES))
    assert [protocol.read_message(stream) for _ in MESSAGES] == MESSAGES
    assert protocol.read_message(stream) is None


def test_a_frame_cut_short_reads_as_the_end() -> None:
    frame = protocol.dumps(protocol.Cancel("id"))
    for length in range(len(frame)):
        assert protocol.read_message(io.BytesIO(frame[:length])) is None


def nested(depth: int) -> Any:
    json: Any = {}
    for level in range(depth):
        json = [json] if level % 2 else {"a": json}
    return json


REQUEST = Request((Message("user", ("?",)),))
CYCLE: dict[str, Any] = {}
CYCLE |= {"a": CYCLE, "b": CYCLE}


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"maximum": 2**64}, "integer of 65 bits"),
        ({"minimum": -(2**70)}, "integer of 71 bits"),
        ({"enum": {1, 2}}, "type set"),
        (nested(300), "deeper than 200"),
        (CYCLE, "deeper than 200"),
    ],
)
def test_what_cannot_cross_is_refused_and_named(schema: Any, says: str) -> None:
    tool = Tool("tool", schema)
    for request in (Request(REQUEST.messages, schema=schema), Request(REQUEST.messages, tools=(tool,))):
        with pytest.raises(UsageError, match=says):
            protocol.dumps(protocol.Generate(request))


def test_the_deepest_schema_and_the_largest_integers_cross() -> None:
    for schema in (nested(199), {"maximum": 2**64 - 1, "minimum": -(2**63)}):
        command = protocol.Generate(Request(REQUEST.messages, schema=schema))
        assert protocol.read_message(io.BytesIO(protocol.dumps(command))) == command


def test_a_request_beyond_a_frames_length_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "LENGTH", struct.Struct(">B"))
    with pytest.raises(UsageError, match="too large"):
        protocol.dumps(protocol.Generate(Request((Message("user", ("?" * 300,)),))))
