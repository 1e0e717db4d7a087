"""What is asked about every picture of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gguf_vl.config import Settings
from gguf_vl.errors import UsageError
from gguf_vl.media.shown import Shown, room, show
from gguf_vl.media.video import MOST_TOKENS, Frames, is_video
from gguf_vl.runtime.models import Installed
from gguf_vl.tasks import asking
from gguf_vl.tasks.by_frame import FrameByFrame, is_by_frame
from gguf_vl.tasks.task import Task
from gguf_vl.types import Detail, EngineSettings, Picture, PictureLimits, Request

_ANY = Picture(b"", 0, 0, (0, 0), "")


@dataclass(frozen=True, slots=True)
class Job:
    """A task with its parameters and `extra` words, put to one model. `sampling`, `system` and `detail` are what was
    asked for with this batch: they go before the task's own.
    """

    task: Task
    installed: Installed
    settings: Settings
    given: Mapping[str, str] = field(default_factory=dict)
    extra: str = ""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    system: str | None = None
    detail: Detail | None = None

    def show(self, file: str, engine: EngineSettings) -> Shown:
        """What a file shows: a picture, a page of a document, or a video's frames as far as they fit the context.

        Blocking. Raises InvalidPicture for what cannot be read, UsageError for pages that make no sense, and for a
        video where the task is about one picture.
        """
        if self.task.n_pictures[1] == 1 and is_video(Path(file)):
            raise UsageError(
                f"{file} is a video, and the task {self.task.name} is about one picture.",
                "Take one about several, such as --task timeline, or --prompt.",
            )
        request = self.request((_ANY,))
        limits = asking.limits(self.task, self.settings, engine.limits, detail=self.detail)
        left = room(engine.n_ctx, _texts(request), request.sampling.max_tokens)
        if not (self._is_by_frame and is_video(Path(file))):
            return show([file], limits, left)
        most = max(limits.min_tokens, min(limits.max_tokens, left))  # one frame is all that the context must hold
        return show([file], PictureLimits(limits.min_tokens, most), MOST_TOKENS, Frames(alone=True))

    @property
    def _is_by_frame(self) -> bool:
        return is_by_frame(self.task, self.installed.name)

    def asked(self, shown: Shown) -> Request | FrameByFrame:
        """The question about what a file shows, or one about each frame of a video. Raises as `request`."""
        if not (self._is_by_frame and shown.clips):
            return self.request(shown.content)
        return FrameByFrame(
            self.task,
            shown.clips,
            self.given,
            self.installed,
            self.settings,
            extra=self.extra,
            sampling=self.sampling,
            system=self.system,
        )

    def request(self, content: Sequence[Picture | str]) -> Request:
        """The question about what a file shows. Raises `UsageError` as `asking.check`."""
        return asking.request(
            self.task,
            content,
            self.given,
            self.installed,
            self.settings,
            extra=self.extra,
            sampling=self.sampling,
            system=self.system,
        )

    def described(self) -> dict[str, Any]:
        """All that the answers depend on, as plain data: two jobs that are described alike give one file of lines.

        Raises `UsageError` where the task cannot be about one picture, or lacks a parameter.
        """
        request = self.request((_ANY,))
        said = _texts(request)
        local = self.installed.local
        return {
            "model": self.installed.name,
            "files": {path.name: path.stat().st_size for path in (local.model, local.mmproj) if path},
            "task": self.task.name,
            "prompt": said[-1],
            "system": "\n".join(said[:-1]),
            "schema": self.task.schema,
            "sampling": asdict(request.sampling) | {"stop": list(request.sampling.stop), "logit_bias": []},
            "detail": self.detail or self.task.detail or self.settings.detail,
            "min_tokens": self.task.min_tokens,
        }


def _texts(request: Request) -> list[str]:
    return [part for message in request.messages for part in message.content if isinstance(part, str)]
