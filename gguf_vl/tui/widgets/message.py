"""One turn of a chat as it is shown: who and when, pictures, thoughts, the text, and how it ended."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.markup import escape
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Collapsible, Static

from gguf_vl.chat.shown import as_markdown
from gguf_vl.chat.turns import Attachment, Turn
from gguf_vl.tui.actions import bindings
from gguf_vl.tui.widgets.picture import PictureView
from gguf_vl.tui.widgets.status import per_second
from gguf_vl.tui.widgets.video import VideoView

if TYPE_CHECKING:
    from gguf_vl.media.boxes import Box, Point
    from gguf_vl.tui.widgets.answer import AnswerText

FRAMES = 20
"""Times a second that a growing answer is drawn, at most; what comes between is drawn together."""
REST = 1
"""Between two frames there is so many times as long as one took, for keys and for what comes."""
THUMBNAIL = (36, 12)
LOCATED = (72, 24)
"""Cells that pictures of a question, and one with boxes, take at most."""
_FENCE = re.compile(r"^(`{3,}|~{3,})[^\n]*\n(.*?)^\1[`~]*[ \t]*$", re.MULTILINE | re.DOTALL)


class TurnView(Vertical, can_focus=True):
    """A turn. `located` is the picture that boxes and points in an answer are drawn on: the last one above it."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("message")
    FOCUS_ON_CLICK = False
    """Letters typed after a click are meant for the prompt; a click on the name chooses the turn."""

    @dataclass
    class BranchAsked(Message):
        """An arrow between branches was clicked."""

        turn: Turn
        step: int

    @dataclass
    class GoOnAsked(Message):
        """The answer is to be continued, or begun again."""

        turn: Turn
        anew: bool

    def __init__(self, turn: Turn, located: Attachment | None = None) -> None:
        super().__init__(id=f"turn-{turn.id}", classes=turn.role)
        self.turn = turn
        self._located = located
        self._text = turn.text
        self._thoughts = turn.thinking
        self._drawn = len(turn.text)
        self._thoughts_drawn = 0
        self._frames: Timer | None = None
        self._codes_copied = 0
        self.boxes: tuple[Box, ...] = ()
        self.points: tuple[Point, ...] = ()

    # --- drawing

    def compose(self) -> ComposeResult:
        """Everything there may be; what is empty is not displayed."""
        with Horizontal(classes="head"):
            yield Static(classes="who")
            yield Static(classes="branches")
            yield Static(classes="when")
        if self.turn.attachments:
            with Horizontal(classes="pictures"):
                for each in self.turn.attachments:
                    yield _picture(each, THUMBNAIL) if each.seconds is None else VideoView(each, LOCATED)
        if self.turn.role == "user":
            yield Static(self.turn.text, markup=False, classes="text")
        else:
            from gguf_vl.tui.widgets.answer import AnswerText  # here: it costs some of the time to the first screen

            with Collapsible(title="Thoughts", classes="thoughts"):
                yield Static(markup=False, classes="thought")
            yield AnswerText(as_markdown(self.turn))
        yield Vertical(classes="located")
        yield Static(classes="foot")

    async def on_mount(self) -> None:
        """Draw what there is, and go on with what is being written."""
        if self.turn.role == "assistant":
            self.query_one(Collapsible).display = False
            await self._draw()
        self.query_one(".located").display = False
        if self.turn.state == "writing":
            self._begin_frames()
        else:
            self._show_ended()
        self._show_head()

    def _show_head(self) -> None:
        turn = self.turn
        who = "You" if turn.role == "user" else turn.model or "…"
        self.query_one(".who", Static).update(f"[@click=choose]{escape(who)}[/]")
        self.query_one(".when", Static).update(datetime.fromtimestamp(turn.created).strftime("%H:%M"))
        branches = f"[@click=before]‹[/] {turn.place}/{turn.of} [@click=behind]›[/]" if turn.of > 1 else ""
        self.query_one(".branches", Static).update(branches)

    @property
    def _answer(self) -> AnswerText:
        from gguf_vl.tui.widgets.answer import AnswerText

        return self.query_one(AnswerText)

    async def _draw(self) -> None:
        new, self._drawn = self._text[self._drawn :], len(self._text)
        if new:
            await self._answer.append(new)
        if len(self._thoughts) > self._thoughts_drawn:
            self._thoughts_drawn = len(self._thoughts)
            folded = self.query_one(Collapsible)
            folded.display = True
            folded.query_one(".thought", Static).update(self._thoughts.strip())
            n_words = len(self._thoughts.split())
            folded.title = f"Thoughts · {n_words:,} words" + ("" if self._text else " so far …")

    def _begin_frames(self) -> None:
        if self._frames is None:
            self._frames = self.set_timer(1 / FRAMES, self._frame)
            foot = self.query_one(".foot", Static)
            foot.display = True
            foot.update("" if self._text else "…")

    async def _frame(self) -> None:
        began = monotonic()
        await self._draw()
        self.call_after_refresh(self._rest, began)

    def _rest(self, began: float) -> None:
        if self._frames is not None:
            self._frames = self.set_timer(max(1 / FRAMES, REST * (monotonic() - began)), self._frame)

    # --- an answer as it comes

    def goes_on(self, turn: Turn) -> None:
        """The answer is being written, again perhaps."""
        self.turn = turn
        self.query_one(".located").display = False
        self._show_head()
        self._begin_frames()

    def came(self, text: str = "", thinking: str = "") -> None:
        """Take a piece of the answer; it is drawn with the next frame."""
        if text and not self._text:
            self.query_one(".foot", Static).update("")
        self._text += text
        self._thoughts += thinking

    def told(self, line: str) -> None:
        """Show a line while there is nothing of the answer: what is being done for it."""
        if not self._text and self.turn.state == "writing":
            self.query_one(".foot", Static).update(Content(line))

    async def ended(self, turn: Turn) -> None:
        """Draw the answer as the history has it."""
        if self._frames:
            self._frames.stop()
            self._frames = None
        self.turn, self._text, self._thoughts = turn, turn.text, turn.thinking
        if turn.role == "assistant":
            await self._draw()
            await self._answer.set(as_markdown(turn))
        self._show_head()
        self._show_ended()

    def _show_ended(self) -> None:
        foot, line = self.query_one(".foot", Static), self._foot()
        foot.display = bool(line)
        foot.update(line)
        if self.turn.role == "assistant" and self._located:
            self._show_boxes(self._located)

    def _foot(self) -> str:
        turn = self.turn
        go_on, again = "[@click=go_on]continue (g)[/]", "[@click=again]answer again (r)[/]"
        if turn.role == "user":
            is_steered = turn.task and " " in turn.task  # by parameters that its words do not show
            return f"[dim]/task {escape(turn.task or '')}[/]" if is_steered else ""
        match turn.state, turn.finish_reason:
            case "failed", _:
                return f"✗ {escape(turn.error)} · {go_on if turn.text else again}"
            case "stopped", _:
                return f"■ stopped · {go_on if turn.text else again}"
            case _, "length":
                return f"⋯ cut off: the answer had no more room · {go_on}"
            case _, "loop":
                return f"↻ ended: it repeated itself · {again}"
        timings = turn.timings
        if timings is None or turn.usage is None:
            return ""
        rate = f"{per_second(timings.decode_tps)} · " if timings.decode_tps else ""
        n_tokens = turn.usage.completion_tokens
        return f"[dim]{rate}{n_tokens:,} token{'s'[: n_tokens != 1]} · first after {timings.ttft_s:.1f} s[/]"

    def _show_boxes(self, picture: Attachment) -> None:
        from gguf_vl.media.boxes import find_boxes, find_points

        size = (picture.width, picture.height)
        self.boxes, self.points = tuple(find_boxes(self.turn.text, size)), tuple(find_points(self.turn.text, size))
        located = self.query_one(".located")
        located.display = bool(self.boxes or self.points)
        located.remove_children()
        if located.display:
            lines = [f"{box.label}  ({box.x1}, {box.y1}) – ({box.x2}, {box.y2})" for box in self.boxes]
            lines += [f"{point.label}  ({point.x}, {point.y})" for point in self.points]
            located.mount(
                _picture(picture, LOCATED, self.boxes, self.points),
                Static("\n".join(lines), markup=False, classes="boxes"),
            )

    # --- what can be taken from it

    def next_code(self) -> str | None:
        """The next block of code of the answer, beginning again after the last; None where there is none."""
        blocks = [found[2] for found in _FENCE.finditer(self.turn.text)]
        if not blocks:
            return None
        self._codes_copied += 1
        return blocks[(self._codes_copied - 1) % len(blocks)]

    def show_thoughts(self) -> None:
        """Unfold the thoughts, or fold them."""
        for folded in self.query(Collapsible):
            folded.collapsed = not folded.collapsed

    # --- mouse

    def action_choose(self) -> None:
        """Choose this turn: its keys hold then."""
        self.focus()

    def action_before(self) -> None:
        """To the branch before."""
        self.post_message(self.BranchAsked(self.turn, -1))

    def action_behind(self) -> None:
        """To the next branch."""
        self.post_message(self.BranchAsked(self.turn, 1))

    def action_go_on(self) -> None:
        """Continue the answer."""
        self.post_message(self.GoOnAsked(self.turn, anew=False))

    def action_again(self) -> None:
        """Answer again."""
        self.post_message(self.GoOnAsked(self.turn, anew=True))


def _picture(
    attachment: Attachment, room: tuple[int, int], boxes: tuple[Box, ...] = (), points: tuple[Point, ...] = ()
) -> PictureView:
    """A picture on at most `room` columns and rows."""
    return PictureView(
        attachment.path,
        attachment.name,
        pixels=(attachment.width, attachment.height),
        boxes=boxes,
        points=points,
        max_columns=room[0],
        max_rows=room[1],
    )
