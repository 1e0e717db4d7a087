"""The lowest line: the model, how full its context is, how fast it writes, and the memory it takes."""

from __future__ import annotations

from dataclasses import dataclass

from textual.content import Content
from textual.reactive import reactive
from textual.widgets import Static


@dataclass(frozen=True, slots=True)
class Numbers:
    """What the line tells. `used` and `n_ctx` are tokens; `n_reused` are those of the last prompt that were computed
    before; `planned` and `taken` are bytes. None is not known.
    """

    model: str = ""
    doing: str = ""
    used: int | None = None
    n_ctx: int | None = None
    rate: float | None = None
    ttft_s: float | None = None
    n_reused: int | None = None
    planned: int | None = None
    taken: int | None = None


class StatusLine(Static):
    """As much of it as there is room for, the most important first."""

    numbers: reactive[Numbers] = reactive(Numbers())

    def watch_numbers(self) -> None:
        """Draw them."""
        self._show()

    def on_resize(self) -> None:
        """Draw as many as there is room for."""
        self._show()

    def _show(self) -> None:
        room = self.size.width - 2
        line = ""
        for part in _parts(self.numbers):
            longer = f"{line} · {part}" if line else part
            if Content(longer).cell_length > room:
                break
            line = longer
        self.update(Content(line))


def per_second(tokens: float) -> str:
    """A rate as a person reads it."""
    return f"{tokens:,.0f} tokens/s" if tokens >= 100 else f"{tokens:.1f} tokens/s"


def _parts(told: Numbers) -> list[str]:
    parts = [told.model or "no model"]
    if told.doing:
        parts.append(told.doing)
    if told.n_ctx:
        used = told.used or 0
        parts.append(f"context {used:,}/{told.n_ctx:,} ({used / told.n_ctx:.0%})")
    if told.rate:
        parts.append(per_second(told.rate))
    if told.planned:
        taken = f"{told.taken / 1e9:.1f} of " if told.taken else ""
        parts.append(f"memory {taken}{told.planned / 1e9:.1f} GB planned")
    if told.ttft_s is not None:
        parts.append(f"first {told.ttft_s:.2f} s")
    if told.n_reused:
        parts.append(f"reused {told.n_reused:,}")
    return parts
