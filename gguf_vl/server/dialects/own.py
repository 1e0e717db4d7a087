"""What is ours: pictures, documents and videos uploaded ahead of their question, whose encoding starts at once; tokens;
tasks.
"""

from __future__ import annotations

import asyncio
import base64
import io
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request
from PIL import Image
from starlette.datastructures import UploadFile

from gguf_vl.errors import UsageError
from gguf_vl.media.documents import spelled
from gguf_vl.server.answers import unless_gone
from gguf_vl.server.asked import Shown
from gguf_vl.server.dialects.openai import Body, frames_of
from gguf_vl.server.pictures import Seen
from gguf_vl.server.service import Service
from gguf_vl.tasks.task import Task, load
from gguf_vl.types import Detail, Picture

_TAKEN = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "application/pdf": {"schema": {"type": "string", "format": "binary"}},
            "video/*": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}}
            },
        },
    }
}
_AT_ONCE = 2
"""Uploads that are being encoded, or are next; the others wait as the bytes that came."""
_PREVIEW = 768
"""Pixels of the longer side of a page or frame that is shown to a person."""


class Text(Body):
    """A text whose tokens are wanted."""

    text: str
    model: str = ""


class Preparing:
    """The encodings that were begun, by the upload's id: for each the last model and pixels that it was wanted for."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._wanted: dict[str, tuple[str, ...]] = {}

    def begin(self, id: str, seen: Seen, model: str, shown: Shown) -> None:
        """Encode an upload for a model, unless that is under way or done; `shown` is what it was read from."""
        wanted = (self._service.models.find(model).name, *(picture.digest for picture in seen.pictures))
        if self._wanted.get(id) == wanted and self.state(id) in ("encoding", "ready"):
            return
        self.stop(id)
        self._wanted[id] = wanted
        self._tasks[id] = task = asyncio.create_task(self._encode(shown, model))
        task.add_done_callback(_seen)

    async def _encode(self, shown: Shown, model: str) -> None:
        """Read it again when its turn has come: those that wait would fill the memory with their pixels."""
        async with self._turns:
            await self._service.prepare(await self._service.look(shown, model), model)

    def state(self, id: str) -> str:
        """Whether it is "encoding", "ready", or "waiting" to be asked about."""
        task = self._tasks.get(id)
        if task is None or task.cancelled() or (task.done() and task.exception()):
            return "waiting"
        return "ready" if task.done() else "encoding"

    def stop(self, id: str) -> None:
        """Take an upload back."""
        self._wanted.pop(id, None)
        if task := self._tasks.pop(id, None):
            task.cancel()


def _seen(task: asyncio.Task[None]) -> None:
    """What went wrong with it is told when it is asked about."""
    if not task.cancelled():
        task.exception()


def router(service: Service) -> APIRouter:
    """The endpoints."""
    routes = APIRouter(tags=["gguf-vl"])
    preparing = Preparing(service)
    service.pictures.uploads.on_drop = preparing.stop

    @routes.post("/v1/pictures", summary="Upload a picture, document or video ahead", openapi_extra=_TAKEN)
    async def upload(
        http: Request,
        model: str = "",
        detail: Detail | None = None,
        pages: str | None = None,
        fps: float | None = None,
    ) -> dict[str, Any]:
        frames = frames_of(fps)
        data = await _file(http)
        shown = Shown(data, detail, pages, frames)
        seen = await service.look(shown, model)
        id = service.pictures.uploads.put(data)
        preparing.begin(id, seen, model, shown)
        return {"id": id, "state": preparing.state(id), **await asyncio.to_thread(_described, seen)}

    @routes.get("/v1/pictures/{id}", summary="How far an upload is")
    async def look_up(id: str) -> dict[str, Any]:
        service.pictures.uploads.get(id)
        return {"id": id, "object": "picture", "state": preparing.state(id)}

    @routes.delete("/v1/pictures/{id}", summary="Take an upload back")
    async def take_back(id: str) -> dict[str, Any]:
        service.pictures.uploads.drop(id)
        return {"id": id, "object": "picture", "deleted": True}

    @routes.post("/v1/tokenize", summary="The tokens of a text")
    async def tokenize(body: Text, http: Request) -> dict[str, Any]:
        found = await unless_gone(http, service.tokenize(body.model, body.text))
        tokens = [{"id": id, "text": piece.decode("utf-8", "replace"), "bytes": list(piece)} for id, piece in found]
        return {"model": service.models.find(body.model).name, "n_tokens": len(tokens), "tokens": tokens}

    @routes.get("/v1/tasks", summary="The tasks that chats and `/ask` do")
    async def list_tasks(model: str = "") -> dict[str, Any]:
        model = service.models.find(model).name
        return {"object": "list", "data": [_told(task, model) for task in (await asyncio.to_thread(load)).values()]}

    return routes


def _described(seen: Seen) -> dict[str, Any]:
    """What a client wants to know of an upload. `width` and `height` are the last page's or frame's. There are
    `previews` as `data:` URIs of a document's first page and, where there are several, its last, and of a video's
    middle.
    """
    pictures = seen.pictures
    width, height = pictures[-1].original_size
    told: dict[str, Any] = {"object": "picture", "width": width, "height": height}
    told["tokens"] = sum(picture.tokens for picture in pictures)
    told["n_pictures"] = len(pictures)
    if seen.document:
        told["object"] = "document"
        told["previews"] = [_preview(picture) for picture in (pictures[0], *pictures[1:][-1:])]
        told["pages"], told["n_pages"] = spelled(seen.document.numbers), seen.document.n_pages
    if seen.clip:
        told["object"] = "video"
        told["previews"] = [_preview(pictures[len(pictures) // 2])]
        told["seconds"], told["n_frames"] = seen.clip.duration, sum(len(step.times) for step in seen.clip.steps)
    return told


def _preview(picture: Picture) -> str:
    """The picture's last frame, small, as a `data:` URI."""
    size = (picture.width, picture.height)
    frame = Image.frombytes("RGB", size, picture.rgb[-3 * size[0] * size[1] :])
    frame.thumbnail((_PREVIEW, _PREVIEW))
    file = io.BytesIO()
    frame.save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _told(task: Task, model: str) -> dict[str, Any]:
    """What a client needs to know of a task, its prompt in the words that are best for a model."""
    return {
        "id": task.name,
        "object": "task",
        "purpose": task.purpose,
        "purpose_zh": task.purpose_zh,
        "prompt": task.wordings.get(model, task.prompt),
        "system": task.system,
        "parameters": [asdict(each) for each in task.parameters],
        "n_pictures": list(task.n_pictures),
        "shown": task.shown,
        "schema": task.schema,
        "is_beyond_model": task.is_beyond(model),
    }


async def _file(http: Request) -> bytes:
    """The bytes of an upload: the body itself, or the file of a form."""
    if not http.headers.get("content-type", "").startswith("multipart/"):
        return await http.body()
    async with http.form() as form:
        for value in form.values():
            if isinstance(value, UploadFile):
                return await value.read()
    raise UsageError("The form has no file.", "Send it as the file of a form, or as the body itself.")
