"""The plain forms that small scripts use: a picture and a question in, an answer out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Request, UploadFile
from pydantic import Field

from gguf_vl.errors import UsageError, did_you_mean
from gguf_vl.media.choice import Frames
from gguf_vl.media.formats import is_pdf, is_tiff, video_in
from gguf_vl.server.answers import Answer, unless_gone, whole
from gguf_vl.server.asked import Asked, Shown, Turn, base64_or_named
from gguf_vl.server.dialects.openai import Body
from gguf_vl.server.failures import Failure
from gguf_vl.server.service import Service
from gguf_vl.tasks import asking, results
from gguf_vl.tasks.task import Task, find

_FIELDS = ("question", "image", "task", "param", "pages", "every", "frames", "scenes", "model")
"""Of the form of `/ask`."""


class Question(Body):
    """A question, and a picture in base64 or as a `data:` URI."""

    question: str = Field(min_length=1)
    image: str | None = None
    model: str = ""


def error_body(failure: Failure) -> dict[str, Any]:
    """An error, as a line and a word for programs."""
    return {"error": failure.message, "code": failure.code}


def _check_fields(form: Iterable[str]) -> None:
    for name in form:
        if name not in _FIELDS:
            fix = did_you_mean(name, _FIELDS) or f"There are {', '.join(_FIELDS)}."
            raise UsageError(f"The form has a field {name!r}, which is none of ours.", fix)


def _chosen(files: Sequence[bytes], pages: str | None, frames: Frames) -> list[Shown]:
    """Files with these pages of the documents and these frames of the videos among them. Raises `UsageError` where
    something is chosen and nothing is there to choose it from.
    """
    has_frames = [video_in(each[:1024]) is not None for each in files]
    has_pages = [is_pdf(each) or is_tiff(each) for each in files]
    if not frames.is_default and not any(has_frames):
        raise UsageError("Frames are a video's, and there is none.", "Leave out every, frames and scenes.")
    if pages is not None and not any(has_pages):
        raise UsageError("Pages are a document's, and there is none.", "Leave out pages.")
    return [
        Shown(each, pages=pages if paged else None, frames=frames if moving else None)
        for each, paged, moving in zip(files, has_pages, has_frames, strict=True)
    ]


def router(service: Service) -> APIRouter:
    """The endpoints."""
    routes = APIRouter(tags=["Plain"])

    async def answered(
        http: Request,
        model: str,
        *content: str | Shown,
        task: Task | None = None,
        given: Mapping[str, str] | None = None,
    ) -> Answer:
        asked = Asked(model, (Turn("user", content, task=task, given=given or {}),), boxes=True)
        [answer] = await unless_gone(http, whole(service.answer(asked)))
        return answer

    @routes.post("/ask", summary="Ask about a picture, as a form")
    async def ask(
        http: Request,
        question: Annotated[str, Form()] = "",
        image: Annotated[list[UploadFile] | None, File()] = None,
        task: Annotated[str | None, Form()] = None,
        param: Annotated[list[str] | None, Form()] = None,
        pages: Annotated[str | None, Form()] = None,
        every: Annotated[float | None, Form()] = None,
        frames: Annotated[int | None, Form()] = None,
        scenes: Annotated[bool, Form()] = False,
        model: Annotated[str, Form()] = "",
    ) -> dict[str, Any]:
        _check_fields(await http.form())
        if not task and not question:
            raise UsageError("There is neither a question nor a task.", "Give `question`, or `task` with its name.")
        if param and not task:
            raise UsageError("Parameters are a task's, and there is no task.", "Give `task` too, or leave them out.")
        chosen = find(task) if task else None
        given = asking.parameters(param or ())
        pictures = _chosen([await each.read() for each in image or ()], pages, Frames(every, frames, scenes))
        words = (question,) if question else ()
        answer = await answered(http, model, *pictures, *words, task=chosen, given=given)
        end = answer.finished
        result = results.read(chosen, answer.text, end, ())
        of_task = {"task": task, "fields": result.fields} if task else {}
        return {
            "model": service.models.find(model).name,
            "answer": result.text,
            "finish_reason": end.finish_reason,
            "usage": asdict(end.usage),
            "timings": asdict(end.timings),
            "boxes": [asdict(box) for box in answer.boxes],
            "points": [asdict(point) for point in answer.points],
            **of_task,
        }

    @routes.post("/api/v1/chat", summary="Ask about a picture, as JSON")
    async def chat(body: Question, http: Request) -> dict[str, Any]:
        pictures = [base64_or_named(body.image)] if body.image else []
        answer = await answered(http, body.model, *pictures, body.question)
        name = service.models.find(body.model).name
        return {"response": answer.text, "timestamp": datetime.now(UTC).isoformat(), "model": name}

    return routes
