"""Times and events are found in whatever way a model writes them."""

from __future__ import annotations

import pytest

from gguf_vl.media.timeline import Event, find_events


@pytest.mark.parametrize(
    ("answer", "events"),
    [
        (
            '[{"time": 1.5, "event": "A star appears."}, {"time": 0, "event": "A circle."}]',
            [Event(0, None, "A circle."), Event(1.5, None, "A star appears.")],
        ),
        (
            '```json\n[{"start": "0:03", "end": "1:05", "description": "rain"}]\n```',
            [Event(3, 65, "rain")],
        ),
        ('{"events": [{"timestamp": "<2.2 seconds>", "event": "灯亮了"}]}', [Event(2.2, None, "灯亮了")]),
        ('[{"time": [1, 2], "event": "a"}, {"time": 3, "event": "b', [Event(1, 2, "a")]),
        ('{"time": "0:01 - 0:02", "event": "both"}', [Event(1, 2, "both")]),
        ("<3.0 seconds> The light turns on.", [Event(3, None, "The light turns on.")]),
        (
            "- 0:03 - 0:05: A car comes.\n- **1:00:07** It is gone.",
            [Event(3, 5, "A car comes."), Event(3607, None, "It is gone.")],
        ),
        ("At 2 seconds, the door opens.", [Event(2, None, "the door opens.")]),
        ("1.5 - 2 s: a blink", [Event(1.5, 2, "a blink")]),
        ("3秒：灯亮了", [Event(3, None, "灯亮了")]),
        ("Nothing happens in 2024.", []),
        ("There are 3 shapes.", []),
        ('[{"bbox_2d": [1, 2, 3, 4], "label": "car"}]', []),
        ("{" * 5000, []),
        ('{"time": -1, "event": "before"} {"time": true, "event": "x"} {"time": 1e999, "event": "x"}', []),
        ("", []),
    ],
)
def test_events_are_found(answer: str, events: list[Event]) -> None:
    assert find_events(answer) == events
