"""What an answer says happens when in a video: times and events, in whatever way a model writes them."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

_TIME_KEYS = ("time", "start", "start_time", "timestamp", "at", "from", "seconds")
_END_KEYS = ("end", "end_time", "until", "to")
_EVENT_KEYS = ("event", "description", "what", "caption", "action", "label", "text")

_CLOCK = r"(?:(\d{1,3}):)?(\d{1,3}):(\d{2}(?:\.\d+)?)"
_SECONDS = r"(\d+(?:\.\d+)?)\s*(?:seconds?|secs?|s\b|秒)"
_MOMENT = re.compile(rf"<?\s*(?:{_CLOCK}|{_SECONDS}|(\d+(?:\.\d+)?)(?=\s*(?:-|–|to|到)))\s*>?")
_TO = re.compile(r"\s*(?:-|–|—|to|until|到|至)\s*")
_LEAD = re.compile(r"\s*(?:[-*•]\s+|\d+[.)]\s+)?(?:At\s+|at\s+|From\s+|from\s+)?[\[(*]{0,3}\s*")
_BETWEEN = "])*>:：,，-–— \t"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens in a video: from `start` to `end` seconds, None where only one moment is told."""

    start: float
    end: float | None
    what: str


def find_events(answer: str) -> list[Event]:
    """The events in an answer, by time: objects of JSON, fenced or bare, also of a list that is cut off; else lines
    that begin with a time, `<3.0 seconds> …`, `0:03 - 0:05 …`, `1.5 s to 2 s: …`. Empty where there is none.
    """
    events = _in_json(answer) or [event for line in answer.splitlines() if (event := _in_line(line))]
    return sorted(events, key=lambda event: event.start)


def _in_json(answer: str) -> list[Event]:
    decoder = json.JSONDecoder(strict=False)  # a line break inside a text is no reason to lose it
    found: list[Event] = []
    at = answer.find("{")
    while at >= 0:
        try:
            value, end = decoder.raw_decode(answer, at)
        except (ValueError, RecursionError):
            end = at + 1  # an object around it may be cut off, and those within whole
        else:
            if event := _of_object(value):
                found.append(event)
            else:
                end = at + 1
        at = answer.find("{", end)
    return found


def _of_object(value: dict[str, Any]) -> Event | None:
    named = {key.casefold(): each for key, each in value.items()}
    what = next((named[key] for key in _EVENT_KEYS if isinstance(named.get(key), str)), None)
    time = next((named[key] for key in _TIME_KEYS if key in named), None)
    if what is None or time is None:
        return None
    start, end = _span(time)
    if end is None:
        end = next((_span(named[key])[0] for key in _END_KEYS if key in named), None)
    return None if start is None else Event(start, end, what.strip())


def _span(value: Any) -> tuple[float | None, float | None]:
    """Seconds of a number, of a text such as "0:03 - 0:05", or of a list of two of these."""
    if isinstance(value, bool):
        return None, None
    if isinstance(value, int | float):
        return (float(value), None) if math.isfinite(value) and value >= 0 else (None, None)
    if isinstance(value, list) and value:
        return _span(value[0])[0], _span(value[1])[0] if len(value) > 1 else None
    if isinstance(value, str):
        try:
            return _span(float(value))
        except ValueError:
            start, end, _ = _read(value)
            return start, end
    return None, None


def _in_line(line: str) -> Event | None:
    start, end, rest = _read(line)
    what = rest.lstrip(_BETWEEN).strip().strip("*")
    return Event(start, end, what) if start is not None and what else None


def _read(text: str) -> tuple[float | None, float | None, str]:
    """(start, end, what stands behind) of a text that begins with a time."""
    lead = _LEAD.match(text)
    first = _MOMENT.match(text, lead.end() if lead else 0)
    if not first:
        return None, None, text
    between = _TO.match(text, first.end())
    second = _MOMENT.match(text, between.end()) if between else None
    if second is None:
        return _moment(first), None, text[first.end() :]
    return _moment(first), _moment(second), text[second.end() :]


def _moment(found: re.Match[str]) -> float:
    hours, minutes, seconds, plain, bare = found.groups()
    if minutes is not None:
        return int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds)
    return float(plain or bare)
