"""The forms of small scripts, with `curl` and without, and pictures that are uploaded ahead."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.server.conftest import Serve, eventually
from tests.server.shown import ANSWER, QUESTION, RED_CIRCLE, encoded


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "red circle.png"
    path.write_bytes(RED_CIRCLE)
    return path


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not here")
def test_curl_asks_with_a_form(server: Serve, picture: Path) -> None:
    words = ["curl", "-sS", f"{server.url}/ask", "-F", f"image=@{picture}", "-F", f"question={QUESTION}"]
    found = json.loads(subprocess.run(words, capture_output=True, check=True).stdout)
    assert (found["answer"], found["model"], found["finish_reason"]) == (ANSWER, "pocket", "stop")


def test_a_picture_and_a_question_as_json(server: Serve) -> None:
    asked = {"image": encoded(RED_CIRCLE), "question": QUESTION}
    found = httpx2.post(f"{server.url}/api/v1/chat", json=asked).json()
    assert (found["response"], found["model"], {*found}) == (ANSWER, "pocket", {"response", "timestamp", "model"})


def test_an_uploaded_picture_is_encoded_ahead_and_known_by_its_id_everywhere(server: Serve) -> None:
    uploaded = httpx2.post(
        f"{server.url}/v1/pictures", content=RED_CIRCLE, headers={"content-type": "image/png"}
    ).json()
    assert (uploaded["width"], uploaded["height"], uploaded["tokens"]) == (256, 256, 64)
    about = f"{server.url}/v1/pictures/{uploaded['id']}"
    eventually(lambda: httpx2.get(about).json()["state"] == "ready")
    asked: Any = {"image": uploaded["id"], "question": QUESTION}
    assert httpx2.post(f"{server.url}/api/v1/chat", json=asked).json()["response"] == ANSWER
    assert httpx2.delete(about).json()["deleted"]
    gone = httpx2.post(f"{server.url}/api/v1/chat", json=asked)
    assert gone.status_code == 404
    assert "Upload it again" in gone.json()["error"]


def test_a_text_is_taken_apart(server: Serve) -> None:
    found = httpx2.post(f"{server.url}/v1/tokenize", json={"text": "a red 🦄 <|im_end|>"}).json()
    assert b"".join(bytes(each["bytes"]) for each in found["tokens"]).decode() == "a red 🦄 <|im_end|>"
    assert found["n_tokens"] == len(found["tokens"]) > 5


def test_what_is_no_picture_is_refused_in_a_line(server: Serve) -> None:
    for wrong in (b"", b"no picture", RED_CIRCLE[:100]):
        refused = httpx2.post(f"{server.url}/v1/pictures", content=wrong, headers={"content-type": "image/png"})
        assert refused.status_code == 400
        assert refused.json()["error"]["message"]


def test_a_task_is_done_by_its_name(server: Serve) -> None:
    asked = {"task": "locate", "param": "thing=red circle"}
    found = httpx2.post(f"{server.url}/ask", files={"image": RED_CIRCLE}, data=asked, timeout=60).json()
    assert (found["task"], found["fields"][0]["label"], len(found["boxes"])) == ("locate", "red circle", 1)
    assert found["points"] == []
    by_words = {"task": "locate", "question": "red circle"}
    assert (
        httpx2.post(f"{server.url}/ask", files={"image": RED_CIRCLE}, data=by_words).json()["boxes"] == found["boxes"]
    )
    assert httpx2.post(f"{server.url}/ask", files={"image": RED_CIRCLE}, data={"task": "count"}).json()["fields"] == 1


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({}, "neither a question nor a task"),
        ({"task": "nothing"}, "no task 'nothing'"),
        ({"task": "locate"}, "needs thing"),
        ({"task": "count", "param": "x"}, "no parameter"),
        ({"question": "x", "param": "a=b"}, "there is no task"),
        ({"task": "compare", "param": "thing=x"}, "about 2 pictures"),
        ({"question": "x", "evry": "1"}, "'evry', which is none of ours. Did you mean every?"),
        ({"question": "x", "colour": "red"}, "'colour', which is none of ours. There are question, image"),
        ({"question": "x", "every": "1"}, "there is none"),
        ({"question": "x", "pages": "1"}, "there is none"),
        ({"question": "x", "every": "1", "frames": "2"}, "more than one way"),
    ],
)
def test_what_a_task_does_not_take_is_refused(server: Serve, asked: dict[str, str], says: str) -> None:
    refused = httpx2.post(f"{server.url}/ask", files={"image": RED_CIRCLE}, data=asked)
    assert refused.status_code == 400
    assert says in refused.json()["error"]


def test_a_tasks_answer_that_is_cut_off_is_an_error_with_its_part(server: Serve) -> None:
    cut = httpx2.post(f"{server.url}/ask", files={"image": RED_CIRCLE}, data={"task": "receipt"}, timeout=60)
    assert (cut.status_code, cut.json()["code"]) == (422, "answer_cut_off")
    assert cut.json()["partial"].startswith("{")


def test_the_tasks_are_listed(server: Serve) -> None:
    listed = httpx2.get(f"{server.url}/v1/tasks").json()["data"]
    locate = next(each for each in listed if each["id"] == "locate")
    assert (locate["n_pictures"], locate["parameters"][0]["name"]) == ([1, 1], "thing")
    assert [each["id"] for each in listed if not each["is_beyond_model"]] == [
        "describe", "ocr", "locate", "count", "compare", "spatial", "timeline"
    ]  # fmt: skip
