"""Which frames of a video a question is about: they stand behind its name, as a page of a document does."""

from __future__ import annotations

import re

from gguf_vl.errors import UsageError
from gguf_vl.media.choice import Frames

_CHOSEN = re.compile(r"#(?:every=(?P<every>\d+(?:\.\d+)?)|frames=(?P<number>\d{1,6})|(?P<scenes>scenes))$")


def chosen_in(name: str) -> Frames:
    """Those that are taken of the video of that name, such as `clip.mp4#every=2`. Raises `UsageError` for every 0 s."""
    if not (found := _CHOSEN.search(name)):
        return Frames()
    every, number = found["every"], found["number"]
    return Frames(float(every) if every else None, int(number) if number else None, bool(found["scenes"]))


def without_frames(name: str) -> str:
    """The name of the video itself."""
    return _CHOSEN.sub("", name)


def with_frames(name: str, choice: str) -> str:
    """The name of the same video with other frames: `every=2` (seconds), `frames=20`, `scenes`, or `auto`, which takes
    what is usual. Raises `UsageError` for any other choice.
    """
    plain, choice = without_frames(name), choice.casefold()
    if choice == "auto":
        return plain
    chosen = f"{plain}#{choice}"
    if chosen_in(chosen).is_default:
        raise UsageError(
            f"{choice!r} chooses no frames.",
            "Write /video every=2 (seconds), frames=20, scenes or auto.",
        )
    return chosen
