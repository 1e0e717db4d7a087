"""A task and pictures, put to one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gguf_vl.tasks.task import Task
from gguf_vl.types import Picture, PictureLimits, Request

if TYPE_CHECKING:
    from gguf_vl.config import Settings
    from gguf_vl.runtime.models import Installed
    from gguf_vl.types import Detail


def check(task: Task, n_pictures: int, given: Mapping[str, str]) -> None:
    """Raise `UsageError` for a number of pictures or parameters that the task does not take: before a model loads."""
    raise NotImplementedError


def limits(task: Task, settings: Settings, limits: PictureLimits, *, detail: Detail | None = None) -> PictureLimits:
    """The image tokens to load the task's pictures with, within the model's `limits`.

    `detail` is what was asked for with this request; it goes before the task's own, which goes before the settings'.
    """
    raise NotImplementedError


def request(
    task: Task,
    pictures: Sequence[Picture | str],
    given: Mapping[str, str],
    installed: Installed,
    settings: Settings,
    *,
    extra: str = "",
    sampling: Mapping[str, Any] | None = None,
    system: str | None = None,
) -> Request:
    """The task as a request to a model, about pictures that were loaded within `limits`.

    Texts among the `pictures` stand between them, such as the time of a video's frame. `given` are parameters, `extra`
    is words that are added to the prompt. `sampling` (fields of `types.Sampling`) and `system` are what was asked for
    with this request: they go before the task's own, which go before the settings'. Raises `UsageError` as `check`.
    """
    raise NotImplementedError
