"""Whatever crosses the pipe arrives as it was sent."""

from __future__ import annotations

import io
from pathlib import Path

from gguf_vl.engine import protocol
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
