"""What is asked about every picture of a batch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gguf_vl.errors import UsageError
from gguf_vl.media.choice import Frames
from gguf_vl.media.shown import Shown
from gguf_vl.media.video import is_video
from gguf_vl.tasks.question import Question
from gguf_vl.types import EngineSettings, Picture, Request

_ANY = Picture(b"", 0, 0, (0, 0), "")


@dataclass(frozen=True, slots=True)
class Job(Question):
    """The same question about each of many files, of a video about these `frames`."""

    frames: Frames = field(default_factory=Frames)

    def show_file(self, file: str, engine: EngineSettings) -> Shown:
        """What a file shows: a picture, a page of a document, or a video's frames as far as they fit the context.

        Blocking. Raises InvalidPicture for what cannot be read, UsageError for pages that make no sense, and for a
        video where the task is about one picture.
        """
        if not is_video(Path(file)):
            return self.show([file], engine.limits, engine.n_ctx)
        if self.task.n_pictures[1] == 1:
            raise UsageError(
                f"{file} is a video, and the task {self.task.name} is about one picture.",
                "Take one about several, such as --task timeline, or --prompt.",
            )
        return self.show([file], engine.limits, engine.n_ctx, self.frames)

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
            "frames": {way: value for way, value in asdict(self.frames).items() if value},
        }


def _texts(request: Request) -> list[str]:
    return [part for message in request.messages for part in message.content if isinstance(part, str)]
