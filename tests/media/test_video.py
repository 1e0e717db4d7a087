"""Videos: the frames that are meant, in pairs, upright and at their own times; and nothing from a file that lies."""

from __future__ import annotations

import asyncio
import random
import struct
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
from PIL import Image

from gguf_vl.errors import InvalidPicture, UsageError
from gguf_vl.media import video
from gguf_vl.media.apart import in_child
from gguf_vl.media.children import in_thread
from gguf_vl.media.pictures import load_picture
from gguf_vl.media.scenes import scene_starts
from gguf_vl.media.shown import show
from gguf_vl.media.video import Clip, Frames, is_video, load_clip, sample
from gguf_vl.types import Picture, PictureLimits

from .clips import Drawn, clip, steady
from .drawn import BLUE, GREEN, RED, WHITE, WIDE, YELLOW, Colour, encoded, near, quarters

COLOURS = (RED, GREEN, BLUE, YELLOW)
PLENTY = 1_000_000
TOLERANCE = 40
"""What YUV and its chroma make of a colour."""


def flat(colour: Colour, size: tuple[int, int] = (128, 96)) -> Image.Image:
    return Image.new("RGB", size, colour)


def four(path: Path, **options: object) -> Path:
    """Red, green, blue and yellow, a second each."""
    return clip(path, steady([flat(colour) for colour in COLOURS], 1.0), **options)  # type: ignore[arg-type]


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return four(tmp_path / "clip.mp4")


def loaded(source: Path | bytes, frames: Frames | None = None, budget: int = PLENTY) -> Clip:
    return load_clip(source, WIDE, budget, frames)


def seen(picture: Picture) -> list[Colour]:
    """The drawn colour in the middle of each frame of a picture."""
    frames = np.frombuffer(picture.rgb, np.uint8).reshape(picture.frames, picture.height, picture.width, 3)
    return [named(frame[picture.height // 2, picture.width // 2].tolist()) for frame in frames]


def named(found: Sequence[int]) -> Colour:
    red, green, blue = found
    return next(each for each in (*COLOURS, WHITE) if near((red, green, blue), each, TOLERANCE))


def told(clip: Clip) -> list[tuple[str, list[Colour]]]:
    return [(step.caption, seen(step.picture)) for step in clip.steps]


def refusal(source: Path | bytes, frames: Frames | None = None) -> InvalidPicture:
    with pytest.raises(InvalidPicture) as caught:
        loaded(source, frames)
    for line in (caught.value.what, caught.value.fix):
        assert len(line.splitlines()) == 1
    return caught.value


KINDS = {
    "clip.mp4": {},
    "clip.mov": {},
    "clip.mkv": {},
    "clip.ts": {},
    "clip.webm": {"codec": "libvpx", "options": {"b": "2000000", "deadline": "realtime"}},
    "clip.avi": {"codec": "mpeg4", "options": {"b": "4000000"}},
}


@pytest.mark.parametrize("name", KINDS)
def test_frames_come_in_pairs_with_the_mean_of_their_times(tmp_path: Path, name: str) -> None:
    found = loaded(four(tmp_path / name, **KINDS[name]))
    # as the reference's processor writes two frames a second: 0.25 rounds to 0.2
    assert [step.times for step in found.steps] == pytest.approx([(n, n + 0.5) for n in range(4)])
    expected = ["<0.2 seconds>", "<1.2 seconds>", "<2.2 seconds>", "<3.2 seconds>"]
    assert told(found) == [(when, [each] * 2) for when, each in zip(expected, COLOURS, strict=True)]
    assert found.duration == pytest.approx(4.0, abs=0.11)
    assert found.note == ""
    assert [(step.picture.width, step.picture.height) for step in found.steps] == [(128, 96)] * 4


def test_a_video_is_known_by_its_first_bytes(tmp_path: Path, film: Path) -> None:
    renamed = film.rename(tmp_path / "film.dat")
    assert is_video(renamed)
    for data in (encoded(quarters(), "PNG"), b"Get free stuff here", b"", encoded(quarters(), "AVIF")):
        other = tmp_path / "other.mp4"
        other.write_bytes(data)
        assert not is_video(other)
    assert not is_video(tmp_path)
    assert not is_video(tmp_path / "nothing.mp4")


def test_bytes_are_read_like_a_file(film: Path) -> None:
    assert loaded(film.read_bytes()).steps == loaded(film).steps


def test_frames_are_taken_at_an_interval(film: Path) -> None:
    found = loaded(film, Frames(every=1))
    assert told(found) == [("<0.5 seconds>", [RED, GREEN]), ("<2.5 seconds>", [BLUE, YELLOW])]
    assert loaded(film, Frames(every=2)).steps[0].times == (0, 2)


def test_so_many_frames_are_spread_over_all(film: Path) -> None:
    found = loaded(film, Frames(number=3))
    assert [step.times for step in found.steps] == [pytest.approx((0, 1.95)), pytest.approx((3.9,))]
    assert [seen(step.picture) for step in found.steps] == [[RED, GREEN], [YELLOW]]
    assert told(loaded(film, Frames(number=1))) == [("<0.0 seconds>", [RED])]


def test_a_scene_is_its_first_frame_at_its_exact_time(film: Path) -> None:
    found = loaded(film, Frames(scenes=True))
    assert told(found) == [(f"<{n}.0 seconds>", [colour]) for n, colour in enumerate(COLOURS)]


def test_a_step_without_a_partner_is_a_picture_as_any_other(film: Path) -> None:
    [step] = loaded(film, Frames(number=1)).steps
    assert step.picture.frames == 1
    same = load_picture(encoded(Image.frombytes("RGB", (128, 96), step.picture.rgb), "PNG"), WIDE)
    assert same.digest == step.picture.digest


@pytest.mark.parametrize(
    "wrong", [{"every": 1, "number": 2}, {"number": 2, "scenes": True}, {"every": 0}, {"every": -1}, {"number": 0}]
)
def test_frames_are_chosen_in_one_way_that_makes_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Frames(**wrong)  # type: ignore[arg-type]


def test_frames_without_a_video_are_wrong_usage() -> None:
    with pytest.raises(UsageError, match="no video"):
        show([encoded(quarters(), "PNG")], WIDE, PLENTY, Frames(scenes=True))


# --- time


def test_irregular_frames_are_taken_by_their_timestamps(tmp_path: Path) -> None:
    """As a recorder of screens writes them: a frame when something changes."""
    changes: list[Drawn] = [
        (0, flat(RED)),
        (0.1, flat(RED)),
        (2.5, flat(GREEN)),
        (2.55, flat(BLUE)),
        (6, flat(YELLOW)),
        (6.4, flat(YELLOW)),
    ]
    for name in ("clip.mp4", "clip.mkv"):
        found = loaded(clip(tmp_path / name, changes), Frames(every=1))
        assert [colour for step in found.steps for colour in seen(step.picture)] == [RED] * 3 + [BLUE] * 3 + [YELLOW]
        assert [time for step in found.steps for time in step.times] == list(range(7))


def test_time_begins_with_the_first_frame(tmp_path: Path) -> None:
    later = [(time + 5, picture) for time, picture in steady([flat(RED), flat(GREEN)], 1.0)]
    for name in ("clip.mkv", "clip.ts", "clip.mp4"):
        found = loaded(clip(tmp_path / name, later), Frames(every=1))
        assert [seen(step.picture) for step in found.steps] == [[RED, GREEN]]
        assert found.steps[0].times == (0, 1)


@pytest.mark.parametrize("begin", [0, 300])
def test_recordings_that_were_glued_behind_each_other_are_one(tmp_path: Path, begin: int) -> None:
    first = [(time + begin, picture) for time, picture in steady([flat(RED), flat(GREEN)], 1.0)]
    parts = [clip(tmp_path / "1.ts", first), clip(tmp_path / "2.ts", steady([flat(BLUE), flat(YELLOW)], 1.0))]
    film = b"".join(part.read_bytes() for part in parts)
    assert [seen(step.picture) for step in loaded(film, Frames(scenes=True)).steps] == [[each] for each in COLOURS]
    found = loaded(film, Frames(every=1))
    assert [seen(step.picture) for step in found.steps] == [[RED, GREEN], [BLUE, YELLOW]]
    assert found.duration == pytest.approx(4.0, abs=0.2)
    assert found.note == ""


def test_a_program_stream_is_read_and_glued_too(tmp_path: Path) -> None:
    def part(name: str, *colours: Colour) -> bytes:
        drawn = steady([flat(each) for each in colours], 2.0, rate=25)
        return clip(tmp_path / name, drawn, codec="mpeg2video", rate=25, ticks=25).read_bytes()

    first, second = part("1.mpg", RED, GREEN), part("2.mpg", BLUE, YELLOW)
    for film, colours in ((first, [RED, GREEN]), (first + second, [*COLOURS])):
        found = loaded(film, Frames(every=2))
        assert [colour for step in found.steps for colour in seen(step.picture)] == colours
        assert found.duration == pytest.approx(2.0 * len(colours), abs=0.3)


def test_a_file_that_does_not_say_how_long_it_is_is_asked(tmp_path: Path) -> None:
    path = four(tmp_path / "live.mkv", container_options={"live": "1"})
    with av.open(path) as container:
        assert container.duration is None
    assert [step.time for step in loaded(path).steps] == [0.25, 1.25, 2.25, 3.25]


@pytest.mark.parametrize(
    ("name", "key_s", "most"),
    [
        ("long.mp4", 5, 160),
        ("long.mkv", 5, 160),
        ("live.mkv", 5, 160),
        ("long.flv", 5, 160),
        ("long.ts", 1, 160),  # FFmpeg's index of these is none: it holds where the file was looked at
        ("long.ts", 5, 280),
        ("long.ts", 100, 800),  # farther from one key frame to the next than from one wanted frame to the next
        ("late.ts", 5, 280),
    ],
)
def test_a_long_file_is_searched_and_not_decoded_as_a_whole(tmp_path: Path, name: str, key_s: int, most: int) -> None:
    begin = 40 if name == "late.ts" else 0
    frames = [(begin + at / 2, bits(at)) for at in range(800)]
    options = {"live": "1"} if name == "live.mkv" else None
    path = clip(tmp_path / name, frames, rate=2, key_every=2 * key_s, container_options=options)
    demuxer = {"mp4": "mov", "mkv": "matroska", "ts": "mpegts", "flv": "flv"}[path.suffix[1:]]
    command = [sys.executable, "-P", "-c", _COUNTING, str(path), demuxer]
    decoded, *shown = map(float, subprocess.run(command, capture_output=True, check=True, text=True).stdout.split())
    assert shown == [35.0 * step for step in range(12)]
    assert decoded <= most


_BITS = (160, 96)


def bits(number: int) -> Image.Image:
    """A picture that says its number: of ten squares those are white whose bit is set."""
    picture = flat((0, 0, 0), _BITS)
    for bit in range(10):
        if number >> bit & 1:
            picture.paste((255, 255, 255), (32 * (bit % 5), 48 * (bit // 5), 32 * (bit % 5) + 32, 48 * (bit // 5) + 48))
    return picture


_COUNTING = """
import os, sys
from gguf_vl.media.reader import Reader

def number(frame):
    grey = frame.reformat(format="gray").to_ndarray()
    return sum(int(grey[48 * (bit // 5) + 24, 32 * (bit % 5) + 16] > 128) << bit for bit in range(10))

n, inner = 0, Reader._decoded
def counted(self):
    global n
    for frame in inner(self):
        n += 1
        yield frame

Reader._decoded = counted
with open(sys.argv[1], "rb") as file:
    reader = Reader(file, sys.argv[2], "x")
    shown = [number(frame) / 2 for _, frame in reader.at([35.0 * step for step in range(12)])]
    print(n, *shown, flush=True)
    os._exit(0)  # as the child does
"""


def test_hours_take_no_memory(tmp_path: Path) -> None:
    """Two hours, a frame each second: what a reader holds does not grow with the file."""
    frames = ((float(second), flat(COLOURS[second // 600 % 4], (320, 240))) for second in range(7200))
    path = clip(
        tmp_path / "hours.mp4", list(_few(frames)), rate=1, key_every=60, options={"crf": "30", "preset": "ultrafast"}
    )
    child = psutil.Popen([sys.executable, "-P", "-c", _PEAK, str(path)], stdout=subprocess.PIPE, text=True)
    said, _ = child.communicate()
    steps, peak = said.split()
    assert int(steps) > 10
    assert int(peak) < 600 * 2**20


def _few(frames: Iterable[Drawn]) -> Iterable[Drawn]:
    return (frame for place, frame in enumerate(frames) if place % 10 == 0)


_PEAK = """
import resource, sys
from pathlib import Path
import psutil
from gguf_vl.media.video import load_clip
from gguf_vl.types import PictureLimits
clip = load_clip(Path(sys.argv[1]), PictureLimits(16, 1024), 6000)
# this one's own maximum would be that of who began it
reader = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
print(len(clip.steps), max(reader, psutil.Process().memory_info().rss))
"""

# --- shape


@pytest.mark.parametrize(
    ("rotation", "expected"),
    [
        (0, [RED, GREEN, BLUE, YELLOW]),
        (90, [GREEN, YELLOW, RED, BLUE]),  # against the clock
        (180, [YELLOW, BLUE, GREEN, RED]),
        (-90, [BLUE, RED, YELLOW, GREEN]),
    ],
)
def test_a_turned_video_is_upright(tmp_path: Path, rotation: int, expected: list[Colour]) -> None:
    path = clip(tmp_path / "turned.mp4", steady([quarters((192, 128))], 1.0), rotation=rotation)
    picture = loaded(path, Frames(number=1)).steps[0].picture
    turned = rotation in (90, -90)
    assert picture.original_size == ((128, 192) if turned else (192, 128))
    assert (picture.width, picture.height) == picture.original_size
    frame = np.frombuffer(picture.rgb, np.uint8).reshape(picture.height, picture.width, 3)
    rows, columns = (picture.height // 4, 3 * picture.height // 4), (picture.width // 4, 3 * picture.width // 4)
    assert [named(frame[row, column].tolist()) for row in rows for column in columns] == expected


def test_a_mirrored_video_is_mirrored_back(tmp_path: Path) -> None:
    path = clip(tmp_path / "mirrored.mp4", steady([quarters((192, 128))], 1.0), rotation=180)
    data = path.read_bytes()
    one = struct.pack(">i", 1 << 16)
    turned = struct.pack(">i", -(1 << 16))
    matrix = turned + bytes(12) + turned
    assert data.count(matrix) == 1
    mirrored = data.replace(matrix, turned + bytes(12) + one)
    frame = np.frombuffer(loaded(mirrored, Frames(number=1)).steps[0].picture.rgb, np.uint8).reshape(128, 192, 3)
    assert named(frame[30, 30].tolist()) == GREEN


def test_pixels_that_are_not_square_become_so(tmp_path: Path) -> None:
    path = clip(tmp_path / "wide.mp4", steady([flat(RED, (128, 96))], 1.0), aspect=Fraction(2, 1))
    assert loaded(path).steps[0].picture.original_size == (256, 96)


# --- room


def test_steps_get_smaller_and_then_fewer() -> None:
    limits = PictureLimits(16, 1024)

    def taken(budget: int, wanted: Frames | None = None, last: float = 9.99) -> tuple[int, int, int]:
        found = sample(last, wanted or Frames(), limits, budget)
        assert len(found.times) == 1 or sum(len(found.times) * (found.tokens + 16) for _ in (0,)) <= budget
        return len(found.times), found.tokens, found.wanted

    assert taken(PLENTY) == (10, 768, 20)
    assert taken(4000) == (10, 384, 20)
    assert taken(1440) == (10, 128, 20)
    assert taken(720) == (5, 128, 20)
    assert taken(0) == (1, 128, 20)
    assert taken(PLENTY, Frames(every=0.1)) == (50, 24_576 // 50 - 16, 100)
    assert taken(PLENTY, Frames(number=1)) == (1, 768, 1)
    assert taken(PLENTY, last=7200) == (24_576 // 144, 128, 768)
    assert taken(PLENTY, last=0.0) == (1, 768, 1)
    assert taken(PLENTY, last=0.1) == (2, 768, 4)


def test_fewer_frames_are_as_far_apart_as_the_others() -> None:
    found = sample(100.0, Frames(), PictureLimits(16, 1024), 144 * 4)
    flat_times = [time for step in found.times for time in step]
    assert flat_times == pytest.approx([100 / 7 * n for n in range(8)])


def test_the_greatest_changes_of_scene_are_kept() -> None:
    scenes = [(0.0, 1.0), (1.0, 0.1), (2.0, 0.5), (3.0, 0.01), (4.0, 0.3)]
    found = sample(5.0, Frames(scenes=True), PictureLimits(16, 1024), 144 * 3, scenes)
    assert found.times == ((0.0,), (2.0,), (4.0,))
    assert found.wanted == 5


def test_what_had_no_room_is_said_in_one_line(film: Path) -> None:
    # 12 tokens a frame, and 16 for its caption
    found = loaded(film, budget=28 * 2)
    assert found.note == "clip.mp4: 4 of 8 frames fit the context, one every 1 seconds."
    assert len(found.steps) == 2
    assert loaded(film, Frames(scenes=True), 28 * 2).note == "clip.mp4: 2 of 4 scenes fit the context."
    assert [step.time for step in loaded(film, Frames(scenes=True), 28 * 2).steps] == [0.0, 3.0]


def test_a_clip_and_a_picture_stand_in_their_order(film: Path) -> None:
    picture = encoded(quarters(), "PNG")
    shown = show([picture, str(film)], WIDE, PLENTY, Frames(every=2))
    assert isinstance(shown.content[0], Picture)
    assert shown.content[1] == "<1.0 seconds>"
    assert [each.frames for each in shown.pictures] == [1, 2]


# --- scenes


def small(*levels: float) -> list[tuple[float, np.ndarray]]:
    return [(place / 10, np.full((18, 32, 3), round(level * 255), np.uint8)) for place, level in enumerate(levels)]


def test_a_steady_movement_is_no_scene_and_a_cut_in_it_is() -> None:
    moving = [0.01 * step for step in range(15)]
    assert [time for time, _ in scene_starts(small(*moving))] == [0.0]
    cut = [*moving, *(level + 0.5 for level in moving)]
    assert [time for time, _ in scene_starts(small(*cut))] == [0.0, 1.5]


def test_a_slow_change_is_a_scene_when_it_has_come_to_rest() -> None:
    fade = [0.0] * 5 + [0.02 * step for step in range(40)] + [0.8] * 10
    starts = [time for time, _ in scene_starts(small(*fade))]
    assert len(starts) == 2
    assert starts[1] == pytest.approx(4.5, abs=0.2)


def test_noise_is_no_scene() -> None:
    rng = np.random.default_rng(3)
    frames = [(n / 10, rng.integers(125, 128, (18, 32, 3), np.uint8)) for n in range(50)]
    assert len(scene_starts(frames)) == 1


@pytest.mark.parametrize("n", range(1, 7))
def test_few_frames_are_enough(n: int) -> None:
    assert len(scene_starts(small(*[float(place % 2) for place in range(n)]))) >= 1
    assert scene_starts(small()) == []


# --- what is broken


def test_a_file_that_is_cut_off_gives_what_is_there_and_says_so(tmp_path: Path) -> None:
    noise = random.Random(1)
    pictures = [Image.frombytes("RGB", (128, 96), noise.randbytes(128 * 96 * 3)) for _ in range(4)]
    path = clip(tmp_path / "cut.mp4", steady(pictures, 1.0), container_options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = loaded(path)
    assert 0.5 < found.duration < 3
    assert len(found.steps) >= 1
    assert all(time <= found.duration for step in found.steps for time in step.times)
    assert "it ends after" in found.note
    assert "4.0 seconds that it promises" in found.note


def test_a_file_without_its_index_is_refused(film: Path) -> None:
    film.write_bytes(film.read_bytes()[:-200])
    assert "cut off or damaged" in refusal(film).what
    film.write_bytes(film.read_bytes()[:40])
    assert "again" in refusal(film).fix


def test_sound_without_pictures_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "song.m4a"
    with av.open(path, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        for start in range(0, 8000, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 8000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert "sound and no pictures" in refusal(path).what


def test_a_playlist_in_disguise_reads_no_other_file(tmp_path: Path, film: Path) -> None:
    for text in (f"#EXTM3U\n#EXTINF:4,\n{film}\n#EXT-X-ENDLIST\n", f"ffconcat version 1.0\nfile '{film}'\n"):
        path = tmp_path / "list.mp4"
        path.write_text(text)
        assert not is_video(path)
        refusal(path)
        path.write_bytes(b"\0\0\0\x20ftypisom\0\0\2\0" + text.encode())
        refusal(path)


def test_frames_beyond_bounds_are_refused(tmp_path: Path) -> None:
    large = clip(tmp_path / "large.mp4", [(0, flat(RED, (8192, 4992)))], options={"preset": "ultrafast"})
    assert "more than 40 megapixels" in refusal(large).what


@pytest.mark.parametrize(
    ("side", "said"), [(8000, "more than 40 megapixels"), (60_000, "cut off or damaged"), (0, "cut off or damaged")]
)
def test_raw_frames_are_believed_within_bounds(tmp_path: Path, side: int, said: str) -> None:
    """Nothing but its head says how large they are."""
    data = four(tmp_path / "raw.avi", codec="rawvideo", options={}).read_bytes()
    size = struct.pack("<ii", 128, 96)
    assert size in data
    assert said in refusal(data.replace(size, struct.pack("<ii", side, side))).what


def test_a_container_that_lies_about_its_frames_is_not_believed(film: Path) -> None:
    data = film.read_bytes()
    at = data.rindex(b"avc1")
    lying = data[:at] + data[at:].replace(struct.pack(">HH", 128, 96), struct.pack(">HH", 60_000, 60_000), 1)
    assert lying != data
    found = loaded(lying)
    assert [colour for step in found.steps for colour in seen(step.picture)] == [each for each in COLOURS for _ in "ab"]
    # 4:3 on square ones: all that is left of the lie is that pixels are a third wider than high
    assert {step.picture.original_size for step in found.steps} == {(171, 96)}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts"])
def test_damaged_files_are_refused_or_read_and_nothing_else(tmp_path: Path, name: str, seed: int) -> None:
    path = four(tmp_path / name)
    data, rng = bytearray(path.read_bytes()), random.Random(seed)
    for _ in range(len(data) // 200):
        data[rng.randrange(12, len(data))] = rng.randrange(256)
    with suppress(InvalidPicture):
        found = loaded(bytes(data))
        assert found.steps


def test_without_pyav_the_way_to_it_is_told(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "av.py").write_text("raise ImportError('no av here')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'none'}:{Path(video.__file__).parents[2]}")
    error = refusal(film)
    assert "not installed" in error.what
    assert '-m pip install "av' in error.fix


def test_a_reader_that_hangs_is_ended(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "TIMEOUT_S", 0.01)
    assert "takes longer" in refusal(film).what


def test_a_reader_ends_with_who_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow.py").write_text("import time; time.sleep(600)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def readers() -> list[psutil.Process]:
        return [each for each in psutil.Process().children() if "slow" in each.cmdline()]

    async def give_up() -> None:
        waiting = asyncio.create_task(in_thread(in_child, "slow", None, b"", "video", "a.mp4"))
        while not readers():
            await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(give_up())  # and until its thread has ended
    assert readers() == []


def test_the_reader_stays_out_of_this_process(film: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from gguf_vl.media.video import load_clip;"
        "from gguf_vl.types import PictureLimits;"
        f"load_clip(Path({str(film)!r}), PictureLimits(1, 64), 1000);"
        "sys.exit('av' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0
