"""What people often want of a picture, as questions to begin with: `presets.toml`, typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gguf_vl.types import Detail


@dataclass(frozen=True, slots=True)
class Preset:
    """A question to begin with.

    `name` is its short title and what a chat remembers it by, `title` says in full what it does, `hint` what comes of
    it, `key` the letter that picks it. `select` is the part of `prompt` that a person will want to change, empty where
    there is none. `sampling` has fields of `Sampling`; `detail` None leaves it to the settings.
    """

    key: str
    slash: str
    name: str
    title: str
    hint: str
    prompt: str
    select: str = ""
    detail: Detail | None = None
    sampling: Mapping[str, float] = field(default_factory=dict)

    @property
    def selected(self) -> tuple[int, int]:
        """Where `select` is in `prompt`, [start, end); at its end where there is none."""
        start = self.prompt.find(self.select) if self.select else len(self.prompt)
        return start, start + len(self.select)


@cache
def presets() -> tuple[Preset, ...]:
    """All of them, in the order to show them in."""
    import tomllib

    text = (Path(__file__).parent / "presets.toml").read_text(encoding="utf-8")
    return tuple(Preset(**each) for each in tomllib.loads(text)["preset"])


def preset(name: str | None) -> Preset | None:
    """The preset of that name; None for one that is not there (any more)."""
    return next((each for each in presets() if each.name == name), None)
