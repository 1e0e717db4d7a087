"""Where the scenes of a video begin, by how much its frames differ from each other."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np

LEAST_CHANGE = 0.006
"""Mean difference of two frames' small copies, of the whole range, that can be a new scene: a shape that appears on a
hundredth of the picture. Noise of cameras and codecs stays below in a copy so small."""

RATIO = 3.0
"""A new scene differs so many times as much as the frames around it do from each other: a pan or a moving thing makes
all of them differ (PySceneDetect's adaptive detector compares likewise)."""

SLOW_CHANGE = 0.2
"""Mean difference to a scene's first frame that is another scene however slowly it came."""

_AROUND = 2


def scene_starts(frames: Iterable[tuple[float, np.ndarray]]) -> list[tuple[float, float]]:
    """When scenes begin, in seconds, and how great each change is, from 0 to 1; the first begins with the first frame.

    `frames` are times and small copies, [height, width, 3] uint8. Only a few are held at a time.
    """
    starts: list[tuple[float, float]] = []
    window: deque[tuple[float, float, np.ndarray]] = deque(maxlen=2 * _AROUND + 1)
    previous = reference = None

    def judge(at: int) -> None:
        """Decide on the frame at a place of the window."""
        nonlocal reference
        time, change, small = window[at]
        around = [each[1] for place, each in enumerate(window) if place != at]
        usual = sum(around) / len(around) if around else 0.0
        slow = _difference(small, reference)
        if change >= LEAST_CHANGE and change >= RATIO * usual:
            starts.append((time, change))
            reference = small
        elif slow >= SLOW_CHANGE and change < LEAST_CHANGE:  # it has come to rest
            starts.append((time, slow))
            reference = small

    for time, small in frames:
        small = small.astype(np.int16)
        if previous is None:
            starts.append((time, 1.0))
            previous = reference = small
            continue
        window.append((time, _difference(small, previous), small))
        previous = small
        if len(window) > _AROUND:
            judge(len(window) - _AROUND - 1)
    for at in range(max(0, len(window) - _AROUND), len(window)):
        judge(at)
    return starts


def _difference(one: np.ndarray, other: np.ndarray | None) -> float:
    return 0.0 if other is None else float(np.abs(one - other).mean()) / 255
