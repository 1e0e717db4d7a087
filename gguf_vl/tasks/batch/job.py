"""What is asked about every picture of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from gguf_vl.config import Settings
from gguf_vl.runtime.models import Installed
from gguf_vl.tasks import asking
from gguf_vl.tasks.task import Task
from gguf_vl.types import Picture, PictureLimits, Request

_ANY = Picture(b"", 0, 0, (0, 0), "")


@dataclass(frozen=True, slots=True)
class Job:
    """A task with its parameters, `extra` words and what was asked for of the sampling, put to one model."""

    task: Task
    installed: Installed
    settings: Settings
    given: Mapping[str, str] = field(default_factory=dict)
    extra: str = ""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    system: str | None = None

    def request(self, picture: Picture) -> Request:
        """The question about one picture."""
        return asking.request(
            self.task,
            (picture,),
            self.given,
            self.installed,
            self.settings,
            extra=self.extra,
            sampling=self.sampling,
            system=self.system,
        )

    def limits(self, limits: PictureLimits) -> PictureLimits:
        """The image tokens to load a picture with, within those that the engine takes."""
        return asking.limits(self.task, self.settings, limits)

    def described(self) -> dict[str, Any]:
        """All that the answers depend on, as plain data: two jobs that are described alike give one file of lines.

        Raises `UsageError` where the task cannot be about one picture, or lacks a parameter.
        """
        request = self.request(_ANY)
        said = [part for message in request.messages for part in message.content if isinstance(part, str)]
        local = self.installed.local
        return {
            "model": self.installed.name,
            "files": {path.name: path.stat().st_size for path in (local.model, local.mmproj) if path},
            "task": self.task.name,
            "prompt": said[-1],
            "system": "\n".join(said[:-1]),
            "schema": request.schema,
            "sampling": asdict(request.sampling) | {"stop": list(request.sampling.stop), "logit_bias": []},
            "detail": self.task.detail or self.settings.detail,
            "min_tokens": self.task.min_tokens,
        }
