"""Which frames of a video are wanted. Apart from `video`, so that to name them imports no Pillow."""

from __future__ import annotations

from dataclasses import dataclass

from gguf_vl.errors import UsageError

EVERY_S = 0.5
"""Seconds from one frame to the next where nothing else is asked for (the reference's `fps` of 2)."""


@dataclass(frozen=True, slots=True)
class Frames:
    """Which frames of a video are wanted: one every so many seconds, so many in all, or the first of every scene.

    With none of these it is one every `EVERY_S` seconds. They come in pairs, or each `alone` as those of scenes do.
    Raises UsageError for two ways to choose, and for less than nothing.
    """

    every: float | None = None
    number: int | None = None
    scenes: bool = False
    alone: bool = False

    def __post_init__(self) -> None:
        if (self.every is not None) + (self.number is not None) + self.scenes > 1:
            raise UsageError(
                "Frames are chosen in more than one way.",
                "Take seconds, a number, or scenes.",
            )
        if self.every is not None and not 0.001 <= self.every < 1e6:
            raise UsageError(f"A frame every {self.every:g} seconds.", "Give the seconds between two, such as 2.")
        if self.number is not None and not 1 <= self.number <= 100_000:
            raise UsageError(f"{self.number} frames of a video.", "Give how many, such as 16.")

    @property
    def is_default(self) -> bool:
        """Whether no way to choose them is asked for."""
        return (self.every, self.number, self.scenes) == (None, None, False)
