"""A video in the chat: a chip, kept by its content, seen as a strip, and asked as the command line asks it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from gguf_vl.chat.export import files, html, importing
from gguf_vl.chat.export import json as as_json
from gguf_vl.chat.frames import with_frames
from gguf_vl.chat.history import History
from gguf_vl.engine.fake import text
from gguf_vl.tui import clips
from gguf_vl.tui.completing import suggestions
from gguf_vl.tui.widgets.chips import Chip
from gguf_vl.tui.widgets.picture import PictureView
from gguf_vl.tui.widgets.video import VideoView
from tests.media.clips import MOVING, clip, moving
from tests.tui.talking import playing, talking
from tests.tui.test_tasks import told

pytestmark = pytest.mark.anyio


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Six seconds of a circle that moves and a square that comes and goes."""
    return clip(tmp_path / "moving.mp4", moving())


async def test_a_video_is_one_chip_with_its_length_frames_and_tokens_and_is_seen_as_a_strip(video: Path) -> None:
    async with talking(playing(text("It moves."))) as stage:
        await stage.attach(video)
        await stage.until(lambda: "6.0 s · 12 frames · " in stage.text())
        assert "tokens" in stage.text()
        [chip] = stage.app.chat.query(Chip)
        assert chip.attachment.path.read_bytes() == video.read_bytes()
        assert chip.attachment.path.suffix == ".mp4"
        video.unlink()
        await stage.answer_to("What happens")
        [seen] = stage.app.chat.query(VideoView)
        await stage.until(lambda: seen.query_one(PictureView).is_drawn)
        assert "moving.mp4 · 6.0 s" in stage.text()


async def test_pocket_says_when_what_happens_in_a_video(video: Path) -> None:
    async with talking() as stage:
        await stage.attach(video)
        await stage.app.run_action("screen.task('timeline')")
        await stage.pilot.press("enter")
        await stage.until(lambda: len(stage.turns) == 2 and stage.turns[1].state != "writing")
        events = json.loads(stage.turns[1].text)
        assert [each["event"] for each in events] == [said for _, said in MOVING]
        for each, (time, _) in zip(events, MOVING, strict=True):
            assert abs(each["start"] - time) <= 0.5
        await stage.until(lambda: '"event": "The picture is empty."' in stage.text())


async def test_the_frames_stand_behind_their_times_in_what_the_model_reads(video: Path, tmp_path: Path) -> None:
    from gguf_vl.chat import talk
    from gguf_vl.config import Settings
    from gguf_vl.types import Picture, PictureLimits

    with History(tmp_path / "history") as history:
        chat = history.new_chat().id
        attachment = clips.attach_video(history, chat, video)
        history.set_draft(chat, "What happens?")
        turn = history.ask(chat, None)
        room = talk.Room(PictureLimits(8, 1024), 8192)
        *_, message = talk.messages([turn], Settings(), room)
        assert (attachment.width, attachment.height) == (256, 256)
        assert message.content[0] == "<0.2 seconds>"
        assert isinstance(message.content[1], Picture)
        assert message.content[1].frames == 2
        assert message.content[-1] == "What happens?"
        assert sum(each.tokens for each in message.content if isinstance(each, Picture)) <= room.n_ctx // 2


async def test_exports_carry_it_and_it_comes_back(video: Path, tmp_path: Path) -> None:
    with History(tmp_path / "one") as history:
        chat = history.new_chat().id
        attached = clips.attach_video(history, chat, video)
        history.name_attachment(attached.id, with_frames(attached.name, "Every=0.5"))
        history.set_draft(chat, "What happens?")
        history.ask(chat, None)
        page = html.export(history, chat)
        assert '<video controls src="data:video/mp4;base64,' in page
        assert "media-src data:" in page
        written = files.write(history, chat, files.Form.MARKDOWN, tmp_path / "out")
        assert "\n[moving.mp4\\#every=0.5](" in written.read_text()
        [copied] = (tmp_path / "out").rglob("*.mp4")
        assert (copied.name, copied.read_bytes()) == ("01 moving.mp4", video.read_bytes())
        data = as_json.export(history, [chat])
    with History(tmp_path / "two") as history:
        [chat_here] = importing.load(history, json.loads(json.dumps(data)))
        [turn] = history.turns(chat_here.id)
        [attachment] = turn.attachments
        assert attachment.seconds == pytest.approx(6.0, abs=0.2)
        assert attachment.path.read_bytes() == video.read_bytes()


async def test_without_pyav_and_for_one_too_large_there_is_a_line_and_no_chip(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with talking(playing()) as stage:
        monkeypatch.setattr(clips, "MOST_BYTES", 1000)
        stage.app.chat.bring(video)
        await stage.until(lambda: "gguf-vl ask moving.mp4" in told(stage.app))
        monkeypatch.undo()
        hidden = video.with_name("hidden")
        hidden.mkdir()
        (hidden / "av.py").write_text("raise ImportError('no av')")
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(hidden), *sys.path]))
        stage.app.chat.bring(video)
        await stage.until(lambda: "-m pip install" in told(stage.app))
        assert not stage.app.chat.query(Chip)


def test_videos_are_completed(video: Path) -> None:
    assert [each.title for each in suggestions("look at @mov", video.parent)] == ["moving.mp4"]


async def test_of_a_tiff_with_several_pages_it_is_asked_which(tmp_path: Path) -> None:
    file = tmp_path / "scan.tif"
    pages = [Image.new("RGB", (60, 40), colour) for colour in ("red", "green", "blue")]
    pages[0].save(file, save_all=True, append_images=pages[1:])
    async with talking(playing(text("ok"))) as stage:
        stage.app.chat.bring(file)
        await stage.until(lambda: "has 3 pages" in stage.text())
        await stage.pilot.press("2", "-", "3", "enter")
        await stage.until(lambda: len(stage.app.history.draft(stage.app.chat.chat_id).attachments) == 2)
        names = [each.name for each in stage.app.history.draft(stage.app.chat.chat_id).attachments]
        assert names == ["scan.tif#2", "scan.tif#3"]


async def test_which_frames_are_seen_is_chosen_and_stays_with_the_question(video: Path) -> None:
    async with talking(playing(text("It moves."))) as stage:
        await stage.until(lambda: stage.app.model.name)
        await stage.ask("/video scenes")
        await stage.until(lambda: "no video in what you are asking" in told(stage.app))
        stage.prompt.clear()
        await stage.attach(video)
        await stage.until(lambda: "12 frames" in stage.text())
        for choice, n_frames in (("every=2", 3), ("frames=6", 6), ("scenes", 4), ("auto", 12), ("every=2", 3)):
            stage.prompt.text = f"/video {choice}"
            await stage.pilot.press("enter")
            await stage.until(lambda n=n_frames: f" {n} frames" in stage.text())
            assert (f"moving.mp4#{choice}" in stage.text()) == (choice != "auto")
        stage.prompt.text = "/video every=often"
        await stage.pilot.press("enter")
        await stage.until(lambda: "chooses no frames" in told(stage.app))
        assert stage.prompt.text == "/video every=often"
        stage.prompt.clear()
        await stage.answer_to("What happens")
        asked = stage.app.history.edit(stage.turns[0].id, "And then?")
        assert asked.attachments[0].name == "moving.mp4#every=2"


async def test_other_frames_of_an_edited_question_are_those_of_its_branch(video: Path) -> None:
    async with talking(playing(text("It moves."), text("Again."))) as stage:
        await stage.attach(video)
        await stage.answer_to("What happens")
        stage.views[0].focus()
        await stage.pilot.press("e")
        await stage.until(lambda: stage.prompt.text == "What happens")
        stage.prompt.text = "/video Every=2"
        await stage.pilot.press("enter")
        await stage.until(lambda: "about moving.mp4#every=2" in told(stage.app))
        assert stage.prompt.text == "What happens"
        await stage.pilot.press("enter")
        await stage.until(lambda: stage.turns[0].of == 2)
        await stage.idle()
        [attachment] = stage.turns[0].attachments
        assert attachment.name == "moving.mp4#every=2"


async def test_a_choice_of_frames_waits_for_the_video_that_is_being_read(video: Path) -> None:
    async with talking(playing()) as stage:
        stage.app.chat.bring(video)
        await stage.until(lambda: stage.app.chat.is_reading)
        stage.prompt.text = "/video every=2"
        stage.prompt.action_send()
        await stage.until(lambda: "when what was dropped is read" in told(stage.app))
        await stage.until(lambda: "moving.mp4#every=2" in stage.text())
        assert stage.prompt.text == ""
