"""Documents and videos through the server, in each dialect's own way; and what of them is refused, in one line."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from PIL import Image, ImageChops

from gguf_vl.engine.fake import text
from gguf_vl.engine.protocol import Generate
from gguf_vl.server import pictures
from gguf_vl.types import Picture
from tests.media.clips import clip, moving, steady
from tests.media.documents import encrypted_pdf, pdf
from tests.media.drawn import BLUE, GREEN, RED
from tests.scenes import scene
from tests.server.conftest import Serve, eventually
from tests.server.inside import inside
from tests.server.shown import RED_CIRCLE

CIRCLE, STAR = (scene(thing).picture for thing in ("red circle", "blue star"))
SECOND = "Which picture has the blue star?"


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def uri(data: bytes, kind: str = "application/pdf") -> str:
    return f"data:{kind};base64,{encoded(data)}"


def pages(kind: str = "PDF") -> bytes:
    """Two pages: a red circle, a blue star."""
    file = io.BytesIO()
    CIRCLE.copy().save(file, kind, save_all=True, append_images=[STAR.copy()])
    return file.getvalue()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A red circle for a second, then a blue star."""
    return clip(tmp_path_factory.mktemp("film") / "film.mp4", steady([CIRCLE, STAR], 1.0)).read_bytes()


# --- the ways in


def said(served: Serve, *parts: Any, **more: Any) -> Any:
    """The answer of OpenAI's chats to these parts, and then a question."""
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client:
        talk: Any = [{"role": "user", "content": list(parts)}]
        return client.chat.completions.create(model="pocket", messages=talk, extra_body=more)


def ask(question: str) -> dict[str, str]:
    return {"type": "text", "text": question}


def answer(served: Serve, *parts: Any) -> Any:
    return said(served, *parts).choices[0].message.content


def file_of(data: bytes, **more: str) -> dict[str, Any]:
    return {"type": "file", "file": {"filename": "a.pdf", "file_data": uri(data), **more}}


def video_of(data: bytes, **more: Any) -> dict[str, Any]:
    return {"type": "video_url", "video_url": {"url": uri(data, "video/mp4")}, **more}


def test_a_form_chooses_pages_and_frames(server: Serve, film: bytes) -> None:
    def tokens(data: bytes, **chosen: str) -> int:
        form = {"question": "What colour is it?", **chosen}
        found = httpx2.post(f"{server.url}/ask", files={"image": data}, data=form, timeout=60).json()
        return int(found["usage"]["image_tokens"])

    assert tokens(pages()) == 2 * tokens(pages(), pages="2")
    assert tokens(film, frames="4") == 2 * tokens(film, frames="2")
    assert tokens(film, scenes="true") == tokens(film, every="0.6") == tokens(film, frames="4")


def test_openai_takes_a_file_with_all_its_pages_or_those_that_are_named(server: Serve) -> None:
    assert answer(server, file_of(pages()), ask(SECOND)) == "second"
    assert answer(server, file_of(pages(), pages="2,1"), ask(SECOND)) == "first"
    assert answer(server, file_of(pages(), pages="2"), ask("What colour is the star?")) == "blue"
    assert answer(server, file_of(pages("TIFF")), ask(SECOND)) == "second"


def test_openai_takes_a_video_as_servers_of_qwen_do(server: Serve, film: bytes) -> None:
    assert answer(server, video_of(film), ask(SECOND)) == "second"
    assert answer(server, {"type": "video_url", "video_url": uri(film, "video/mp4")}, ask(SECOND)) == "second"
    # four frames in pairs of as many tokens as one picture; one frame a second is one pair
    for more, n_steps in (({}, 2), ({"fps": 1}, 1), ({"fps": 10}, 10)):
        details: Any = said(server, video_of(film, **more), ask(SECOND)).usage.prompt_tokens_details
        assert details.image_tokens == 64 * n_steps


def test_responses_take_files(server: Serve) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        part: Any = {"type": "input_file", "filename": "a.pdf", "file_data": uri(pages())}
        talk: Any = [{"role": "user", "content": [part, {"type": "input_text", "text": SECOND}]}]
        assert client.responses.create(model="pocket", input=talk).output_text == "second"


def test_anthropic_takes_documents(server: Serve) -> None:
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as client:

        def asked(source: Any, question: str, **more: Any) -> str:
            block = {"type": "document", "source": source, **more}
            talk: Any = [{"role": "user", "content": [block, ask(question)]}]
            [found] = client.messages.create(model="pocket", max_tokens=50, messages=talk).content
            assert found.type == "text"
            return found.text

        whole = {"type": "base64", "media_type": "application/pdf", "data": encoded(pages())}
        assert asked(whole, SECOND) == "second"
        assert asked({"type": "text", "media_type": "text/plain", "data": "Hello"}, "").startswith("I am pocket")
        image = {"type": "base64", "media_type": "image/png", "data": encoded(RED_CIRCLE)}
        inside_it = [{"type": "image", "source": image}]
        assert asked({"type": "content", "content": inside_it}, "What colour is the circle?") == "red"
        with pytest.raises(anthropic.BadRequestError, match="not cited"):
            asked(whole, SECOND, citations={"enabled": True})
        with pytest.raises(anthropic.BadRequestError, match="no list of blocks"):
            asked({"type": "content", "content": [3]}, SECOND)


@pytest.mark.parametrize("as_film", [False, True])
def test_what_a_form_and_ollama_send_is_known_by_its_bytes(server: Serve, film: bytes, as_film: bool) -> None:
    data = film if as_film else pages()
    form = httpx2.post(f"{server.url}/ask", files={"image": ("a.bin", data)}, data={"question": SECOND}).json()
    assert form["answer"] == "second"
    body = {"prompt": SECOND, "images": [encoded(data)], "stream": False}
    assert httpx2.post(f"{server.url}/api/generate", json=body).json()["response"] == "second"


def test_a_timeline_comes_through_the_server_as_on_the_command_line(server: Serve, tmp_path: Path) -> None:
    data = clip(tmp_path / "moves.mp4", moving()).read_bytes()
    expected = [(0.0, "The picture is empty."), (1.0, "A red circle in the middle left.")]
    form = httpx2.post(f"{server.url}/ask", files={"image": ("a.mp4", data)}, data={"task": "timeline"}).json()
    assert [(each["start"], each["event"]) for each in form["fields"]][:2] == expected
    assert form["usage"]["image_tokens"] > 64
    message: Any = said(server, video_of(data, fps=1), task="timeline").choices[0].message
    assert [(each["start"], each["event"]) for each in message.fields][:2] == expected
    assert [each["start"] for each in message.fields] == [0.0, 1.0, 3.0, 5.0]


def test_who_waits_for_a_timeline_hears_how_far_its_frames_are_and_all_answers_are_the_same(
    server: Serve, film: bytes
) -> None:
    talk = [{"role": "user", "content": [video_of(film)]}]
    told = {"messages": talk, "task": "timeline", "n": 2, "stream": True, "stream_options": {"include_progress": True}}
    response = httpx2.post(f"{server.url}/v1/chat/completions", json=told)
    chunks = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
    is_progress = ["progress" in chunk for chunk in chunks]
    deltas = [(choice["index"], choice["delta"]) for chunk in chunks for choice in chunk["choices"]]
    first, second = ("".join(delta.get("content", "") for of, delta in deltas if of == each) for each in (0, 1))
    assert any(is_progress)
    assert [each["start"] for each in json.loads(first)] == [0.0, 1.0]
    assert first == second


# --- what is refused


async def refused(part: Any, *, sent: int = 0) -> str:
    """Why a chat with this part is refused, and that the engine has seen nothing of it."""
    async with inside(text("yes")) as served:
        parts = part if isinstance(part, list) else [part]
        body = {"messages": [{"role": "user", "content": [*parts, ask("?")]}]}
        response = await served.client.post("/v1/chat/completions", json=body)
        assert response.status_code == 400
        assert len(served.models.sent(Generate)) == sent
        line: str = response.json()["error"]["message"]
        assert len(line.splitlines()) == 1
        return line


@pytest.mark.anyio
async def test_more_pages_than_pictures_are_allowed_are_refused() -> None:
    assert "5 pictures, and 4" in await refused(file_of(pdf([RED] * 5)))
    assert "5 pictures, and 4" in await refused([file_of(pdf([RED] * 2)), file_of(pdf([RED] * 3))])
    async with inside(text("yes")) as served:
        body = {"messages": [{"role": "user", "content": [file_of(pdf([RED] * 5), pages="2-5")]}]}
        assert (await served.client.post("/v1/chat/completions", json=body)).status_code == 200


@pytest.mark.anyio
async def test_a_video_has_no_more_steps_than_pictures_are_allowed(film: bytes) -> None:
    async with inside(text("yes")) as served:
        body = {"messages": [{"role": "user", "content": [video_of(film, fps=10), video_of(film, fps=10)]}]}
        assert (await served.client.post("/v1/chat/completions", json=body)).status_code == 200
        [asked] = served.models.sent(Generate)
        shown = [part for part in asked.request.messages[-1].content if isinstance(part, Picture)]
        assert len(shown) == 4


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("part", "says"),
    [
        (file_of(pdf(), pages="3"), "no page 3"),
        (file_of(pdf(), pages="two"), "are no pages"),
        (file_of(pdf(), pages="2-1"), "no page 2"),
        (file_of(RED_CIRCLE, pages="1"), "is no document"),
        (file_of(pdf()[:200]), "cut off or damaged"),
        (file_of(encrypted_pdf()), "encrypted"),
        (file_of(b"PK\x03\x04" + bytes(40)), "office document"),
        (file_of(b"Dear reader"), "not a picture"),
        (file_of(pdf() + bytes(1 << 20)), "larger than"),
        ({"type": "file", "file": {}}, "neither data nor an id"),
        ({"type": "file", "file": {"file_id": "pic_1", "file_data": "AA"}}, "more than one of them"),
        ({"type": "file", "file": {"file_data": "https://example.org/a.pdf"}}, "not fetched"),
        ({"type": "file", "file": {"file_data": "/etc/passwd"}}, "not a picture"),
        (video_of(b"\0\0\0\x20ftypisom\0\0\2\0" + bytes(100)), "damaged"),
        (video_of(b"x", fps=0), "fps"),
        (video_of(b"x", fps=True), "fps"),
        ({"type": "video_url", "video_url": {}}, "no URL"),
        ({"type": "video_url", "video_url": {"url": "file:///etc/passwd"}}, "may be read"),
        ({"type": "video_url", "video_url": {"url": "https://example.org/a.mp4"}}, "not fetched"),
        ({"type": "input_audio", "input_audio": {}}, "file and video_url are taken"),
    ],
)
async def test_what_cannot_be_shown_is_refused_in_a_line(part: Any, says: str) -> None:
    assert says in await refused(part)


@pytest.mark.anyio
async def test_pages_that_do_not_fit_the_context_are_said_and_not_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_FOR_PICTURES", 0)
    line = await refused(file_of(pdf([RED, GREEN, BLUE], size=(2000, 2000))))
    assert "3 pages" in line
    assert '"pages": "1"' in line


@pytest.mark.anyio
async def test_a_video_that_takes_too_long_is_refused(film: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "VIDEO_S", 0.01)
    assert "takes longer than" in await refused(video_of(film))


# --- uploaded ahead


def uploaded(served: Serve, data: bytes, **query: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx2.post(f"{served.url}/v1/pictures", content=data, params=query).json()
    return found


def preview(told: dict[str, Any], number: int) -> Image.Image:
    """One of an upload's previews."""
    return Image.open(io.BytesIO(base64.b64decode(told["previews"][number].partition(",")[2])))


def test_a_document_is_uploaded_ahead_and_asked_about_by_its_id(server: Serve) -> None:
    data = pages()
    told = uploaded(server, data)
    assert (told["object"], told["pages"], told["n_pages"], told["n_pictures"]) == ("document", "1-2", 2, 2)
    about = f"{server.url}/v1/pictures/{told['id']}"
    eventually(lambda: httpx2.get(about).json()["state"] == "ready")
    part = {"type": "file", "file": {"file_id": told["id"], "pages": told["pages"]}}
    found = said(server, part, ask(SECOND))
    assert found.choices[0].message.content == "second"
    assert found.usage.prompt_tokens_details.image_tokens == told["tokens"]
    assert preview(told, 0).size == preview(told, 1).size
    assert ImageChops.difference(preview(told, 0), preview(told, 1)).getbbox()
    second = uploaded(server, data, pages="2")
    assert (second["id"], second["pages"], len(second["previews"])) == (told["id"], "2", 1)


def test_a_video_is_uploaded_ahead_and_asked_about_by_its_id(server: Serve, film: bytes) -> None:
    told = uploaded(server, film)
    assert (told["object"], told["n_frames"], told["n_pictures"], told["tokens"]) == ("video", 4, 2, 128)
    assert told["seconds"] == pytest.approx(2.0, abs=0.1)
    assert len(told["previews"]) == 1
    found = said(server, {"type": "video_url", "video_url": {"url": told["id"]}}, ask(SECOND))
    assert found.choices[0].message.content == "second"
    assert found.usage.prompt_tokens_details.image_tokens == told["tokens"]
    assert uploaded(server, film, fps="1")["n_frames"] == 2
    assert "no number of frames a second" in uploaded(server, film, fps="0")["error"]["message"]


@pytest.mark.anyio
async def test_an_upload_has_the_pages_that_fit_and_no_more_than_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with inside(text("yes")) as served:
        told = (await served.client.post("/v1/pictures", content=pdf([RED] * 5))).json()
        assert (told["pages"], told["n_pages"]) == ("1-4", 5)
        told = (await served.client.post("/v1/pictures?pages=2-3", content=pdf([RED] * 5))).json()
        assert (told["pages"], told["n_pages"]) == ("2-3", 5)
        refused = await served.client.post("/v1/pictures?pages=6", content=pdf([RED] * 5))
        assert (refused.status_code, "no page 6" in refused.json()["error"]["message"]) == (400, True)
        monkeypatch.setattr(pictures, "_FOR_PICTURES", 1)
        told = (await served.client.post("/v1/pictures", content=pdf([RED] * 4, size=(2000, 2000)))).json()
        assert told["pages"] == "1-3"


def test_what_is_located_says_of_which_size_the_page_is(server: Serve) -> None:
    found: Any = said(server, file_of(pages(), pages="1"), ask("Locate the red circle."), boxes=True)
    message = found.choices[0].message
    [box], (width, height) = message.boxes, message.located_in
    assert 0 <= box["x1"] < box["x2"] <= width
    assert 0 <= box["y1"] < box["y2"] <= height
