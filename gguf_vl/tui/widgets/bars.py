"""Memory and progress as bars of characters, which alone tell the parts apart: colour only helps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from textual.content import Content
from textual.geometry import Size
from textual.reactive import reactive
from textual.widget import Widget

if TYPE_CHECKING:
    from gguf_vl.tui.downloads import Download
    from gguf_vl.types import Plan, Pool

LOOKS: Mapping[str, tuple[str, str]] = {
    "weights": ("█", "$primary"),
    "KV": ("▓", "$accent"),
    "compute": ("▒", "$text-primary"),
    "projector": ("▚", "$success"),
    "encode": ("░", "$text-warning"),
    "embeddings": ("▫", "$text-success"),
    "program": ("▪", "$foreground"),
    "margin": ("╱", "$foreground 50%"),
    "free": ("·", "$foreground 50%"),
}
"""Each part's character and colour, as `gguf-vl plan` prints them."""


class PlanBars(Widget):
    """A plan: for each device one bar, and what takes how much of what is free there."""

    DEFAULT_CSS = "PlanBars { height: auto; }"
    plan: reactive[Plan | None] = reactive(None, layout=True)

    def render(self) -> Content:
        """As wide as there is room."""
        return self._drawn(self.content_size.width)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """The lines that it takes at that width."""
        return self._drawn(width).plain.count("\n") + 1 if self.plan else 0

    def _drawn(self, width: int) -> Content:
        plan = self.plan
        if plan is None or width < 20:
            return Content("")
        return Content("\n").join(_pool(plan, pool, width) for pool in plan.pools)


def _pool(plan: Plan, pool: Pool, width: int) -> Content:
    from gguf_vl.fit.explain import size
    from gguf_vl.fit.parts import cells, parts
    from gguf_vl.gguf.wire import shown

    shares = parts(plan, pool)
    within = f", within {pool.within}" if pool.within else ""
    name = Content.assemble((pool.device, "bold"), f"  {shown(pool.description)}{within}")
    takes = Content(f"{size(plan.taken(pool.device))} of {size(pool.free)} free")
    gap = max(2, width - name.cell_length - takes.cell_length)
    head = Content.assemble(name.truncate(width - takes.cell_length - 2, ellipsis=True), " " * gap, takes)
    bar = Content.assemble(
        *(
            (LOOKS[share.purpose][0] * n, LOOKS[share.purpose][1])
            for share, n in zip(shares, cells([share.n_bytes for share in shares], width), strict=True)
        )
    )
    legend = [Content.assemble(LOOKS[share.purpose], f" {share.purpose} {size(share.n_bytes)}") for share in shares]
    return Content("\n").join([head, bar, *_wrapped(legend, width)])


def _wrapped(words: Sequence[Content], width: int) -> list[Content]:
    """The words in lines of that width, none of them cut."""
    lines: list[Content] = []
    for word in words:
        if lines and lines[-1].cell_length + 2 + word.cell_length <= width:
            lines[-1] = Content.assemble(lines[-1], "  ", word)
        else:
            lines.append(word)
    return lines


def progress_line(download: Download, width: int) -> Content:
    """A download in one line: its name and state, a bar, bytes, rate and time left, as far as there is room."""
    from gguf_vl.gguf.wire import shown
    from gguf_vl.store.progress import size

    words = "asking the hub" if download.state == "planning" else download.state
    name = Content.assemble((shown(download.name, 24), "bold"), f" {words} ")
    if download.state == "done":
        return Content(f"✓ {shown(download.note)}").truncate(width, ellipsis=True)
    if download.error:
        return Content.assemble("✗ ", name, shown(download.error.what)).truncate(width, ellipsis=True)
    if download.state in ("waiting", "planning") or (download.note and not download.rate and download.is_active):
        return Content.assemble(name, shown(download.note)).truncate(width, ellipsis=True)
    figures = []
    if download.fraction is not None:
        figures.append(f"{download.fraction:4.0%}".replace("%", " %"))
    figures.append(f"{size(download.done)}" + (f" of {size(download.total)}" if download.total else ""))
    if download.rate:
        figures.append(f"{size(round(download.rate))}/s")
    if download.eta_s is not None:
        figures.append(f"{time_left(download.eta_s)} left")
    tail = Content(" " + "  ".join(figures))
    room = width - name.cell_length - tail.cell_length
    while room < 8 and len(figures) > 1:  # the size goes first, then the rate
        figures.pop(1)
        tail = Content(" " + "  ".join(figures))
        room = width - name.cell_length - tail.cell_length
    return Content.assemble(name, bar(download.fraction or 0.0, max(0, room)), tail)


def bar(fraction: float, width: int) -> Content:
    """A bar of so many characters, filled that far."""
    filled = min(width, int(fraction * width))
    return Content.assemble(("█" * filled, "$primary"), ("░" * (width - filled), "$foreground 50%"))


def time_left(seconds: float) -> str:
    """As `2:05`, or `1:02:05`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
