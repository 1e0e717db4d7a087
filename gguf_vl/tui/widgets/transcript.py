"""The turns of a chat, the latest at the foot. Of a long one only the end is there until somebody scrolls up."""

from __future__ import annotations

from collections.abc import Sequence

from textual.containers import VerticalScroll
from textual.reactive import reactive
from textual.widgets import Static

from gguf_vl.chat.turns import Attachment, Turn
from gguf_vl.tui.widgets.message import TurnView

AT_ONCE = 6
"""Turns that are put on the screen at a time: each is dozens of widgets, which cost a millisecond each to make."""
KEPT = 12
"""Turns that stay there when another one comes: all widgets are laid out anew with each frame of an answer."""

WELCOME = """\
[b]Talk about pictures, on this machine.[/]

Drop pictures, PDFs or videos here, paste with [b]Ctrl+V[/], or choose with [b]Ctrl+G[/]; then ask.
[b]F2[/] to [b]F6[/] ask what is often asked. [b]F1[/] lists every key, [b]/[/] every command."""


class Transcript(VerticalScroll, can_focus=False):
    """The turns on the chosen path."""

    n_hidden = reactive(0)
    """Turns above those that are there."""

    def __init__(self) -> None:
        super().__init__()
        self._turns: list[Turn] = []
        self._is_growing = False

    async def show(self, turns: Sequence[Turn], at: int | None = None) -> None:
        """Show these turns from the end, as far up as `at`, a turn's id."""
        self._turns = list(turns)
        places = {turn.id: n for n, turn in enumerate(turns)}
        first = max(0, min(len(turns) - AT_ONCE, places.get(at, len(turns)) if at else len(turns)))
        with self.app.batch_update():
            await self.remove_children()
            if turns:
                await self.mount(Static(classes="earlier"), *self._views(first, len(turns)))
            else:
                await self.mount(Static(WELCOME, classes="welcome"))
        self.n_hidden = first
        if at and (view := self.of(at)):
            view.focus()
            self.scroll_to_widget(view, animate=False, top=True)
        else:
            self.anchor()
            self.call_after_refresh(self._fill)

    async def _fill(self) -> None:
        """Have enough turns for the height of the screen."""
        if self.n_hidden and self.max_scroll_y == 0 and self.size.height and not self._is_growing:
            first = max(0, self.n_hidden - AT_ONCE)
            await self.mount_all(self._views(first, self.n_hidden), before=self.views[0])
            self.n_hidden = first
            self.anchor()
            self.call_after_refresh(self._fill)

    def _views(self, first: int, end: int) -> list[TurnView]:
        return [TurnView(turn, self._picture_above(first + n)) for n, turn in enumerate(self._turns[first:end])]

    def _picture_above(self, index: int) -> Attachment | None:
        pictures = (turn.attachments[-1] for turn in reversed(self._turns[:index]) if turn.attachments)
        last = next(pictures, None)
        return last if last and last.seconds is None else None

    async def add(self, turn: Turn) -> TurnView:
        """Put a turn at the end, and go there, unless somebody reads further up while an answer begins."""
        follows = turn.role == "user" or self.is_vertical_scroll_end
        for welcome in self.query(".welcome"):
            await welcome.remove()
        self._turns.append(turn)
        view = TurnView(turn, self._picture_above(len(self._turns) - 1))
        await self.mount(view)
        if follows:
            if surplus := self.views[:-KEPT]:
                self.n_hidden += len(surplus)
                await self.remove_children(surplus)
            self.anchor()
        return view

    @property
    def last(self) -> Turn | None:
        """The last turn, shown or not."""
        return self._turns[-1] if self._turns else None

    @property
    def last_answer(self) -> Turn | None:
        """The last answer that is over."""
        answers = (turn for turn in reversed(self._turns) if turn.role == "assistant" and turn.usage)
        return next(answers, None)

    def put(self, turn: Turn) -> None:
        """Know a turn as it is now."""
        self._turns = [turn if each.id == turn.id else each for each in self._turns]

    def of(self, turn_id: int) -> TurnView | None:
        """How a turn is shown, None where it is not."""
        return next((view for view in self.views if view.turn.id == turn_id), None)

    @property
    def views(self) -> list[TurnView]:
        """The turns that are there, the first first."""
        return [child for child in self.children if isinstance(child, TurnView)]  # a query looks at all below, too

    def watch_n_hidden(self, n_hidden: int) -> None:
        """Say how many more there are."""
        for line in self.query(".earlier").results(Static):
            line.display = n_hidden > 0
            line.update(f"▲ {n_hidden:,} earlier messages")

    def watch_scroll_y(self, before: float, now: float) -> None:
        """At the top, put earlier turns before those that are there."""
        super().watch_scroll_y(before, now)
        if now == 0 and before > 0 and self.n_hidden:
            self.call_later(self.show_earlier)

    async def show_earlier(self) -> None:
        """Put some earlier turns above, and stay at those that were in view."""
        if self._is_growing or not self.n_hidden:
            return
        self._is_growing = True
        end = self.n_hidden
        first = max(0, end - AT_ONCE)
        top = self.views[0]
        await self.mount_all(self._views(first, end), before=top)
        self.n_hidden = first
        self.call_after_refresh(self._grown, top)

    def _grown(self, top: TurnView) -> None:
        self.scroll_to_widget(top, animate=False, top=True)
        self._is_growing = False
