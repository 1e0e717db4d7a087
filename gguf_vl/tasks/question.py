"""A task put to one model about whatever is given: pictures, documents and videos. How `ask`, batches, `tasks test` and
the library ask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from gguf_vl.media.choice import Frames
from gguf_vl.tasks import asking
from gguf_vl.tasks.by_frame import FrameByFrame, is_by_frame
from gguf_vl.types import Picture, PictureLimits, Request

if TYPE_CHECKING:
    from gguf_vl.config import Settings
    from gguf_vl.media.shown import Shown
    from gguf_vl.media.sources import Source
    from gguf_vl.runtime.models import Installed
    from gguf_vl.tasks.task import Task
    from gguf_vl.types import Detail, Message


@dataclass(frozen=True, slots=True)
class Question:
    """A task with its parameters and `extra` words, put to one model. `sampling`, `system` and `detail` are what was
    asked for with this question: they go before the task's own.
    """

    task: Task
    installed: Installed
    settings: Settings
    given: Mapping[str, str] = field(default_factory=dict)
    extra: str = ""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    system: str | None = None
    detail: Detail | None = None

    @property
    def is_by_frame(self) -> bool:
        """Whether the model is asked about each frame of a video by itself."""
        return is_by_frame(self.task, self.installed.name)

    def limits(self, limits: PictureLimits) -> PictureLimits:
        """The image tokens of a picture, within the model's `limits`: see `asking.limits`."""
        return asking.limits(self.task, self.settings, limits, detail=self.detail)

    def show(
        self,
        sources: Sequence[Source | Picture],
        limits: PictureLimits,
        n_ctx: int,
        frames: Frames | None = None,
        *,
        before: Sequence[Message] = (),
    ) -> Shown:
        """What these show, as far as it fits a context of `n_ctx` tokens beside the question and its answer. `limits`
        are the model's, `frames` say which are taken of a video. Of a conversation that was `before`, the oldest
        messages give way to documents and videos until these have half of the room.

        Blocking. Raises as `media.shown.show`.
        """
        from gguf_vl.media.shown import room, show
        from gguf_vl.media.video import MOST_TOKENS

        said = [part for message in before for part in message.content]
        texts, most = self._texts(), self._most_tokens
        left = room(n_ctx, texts, most)
        beside = room(n_ctx, (*texts, *(part for part in said if isinstance(part, str))), most)
        beside -= sum(part.tokens for part in said if isinstance(part, Picture))
        left = max(beside, left // 2)
        limits = self.limits(limits)
        if self.is_by_frame:  # one frame at a time is all that the context must hold
            limits = PictureLimits(limits.min_tokens, max(limits.min_tokens, min(limits.max_tokens, left)))
            left, frames = MOST_TOKENS, replace(frames or Frames(), alone=True)
        return show(sources, limits, left, frames)

    def asked(self, shown: Shown) -> Request | FrameByFrame:
        """The question about what is shown, or one about each frame of a video. Raises as `request`."""
        if not self.is_by_frame:
            return self.request(shown.content)
        return FrameByFrame(self.task, shown.clips, self.given, self.installed, self.settings, **self._how)

    def request(self, content: Sequence[Picture | str]) -> Request:
        """The question as one request. Raises `UsageError` as `asking.check`."""
        return asking.request(self.task, content, self.given, self.installed, self.settings, **self._how)

    @property
    def _how(self) -> dict[str, Any]:
        return {"extra": self.extra, "sampling": self.sampling, "system": self.system}

    def _texts(self) -> tuple[str, ...]:
        """All the words that the model reads of it."""
        return (
            asking.system_prompt(self.task, self.given, self.settings, self.system),
            asking.prompt(self.task, self.given, self.installed.name, extra=self.extra),
        )

    @property
    def _most_tokens(self) -> int | None:
        """Of the answer."""
        most: int | None = {**self.task.sampling, **self.sampling}.get("max_tokens")
        return most or self.settings.max_tokens
