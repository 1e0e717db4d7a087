"""`gguf-vl ask`, as a person or a script runs it."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.cli.command import SHAPES, TWO, gguf_vl

CIRCLE = "What colour is the circle?"


def test_the_answer_goes_to_stdout_and_everything_else_to_stderr() -> None:
    done = gguf_vl("ask", SHAPES, CIRCLE)
    assert (done.returncode, done.stdout) == (0, b"red\n")
    assert b"pocket" in done.stderr


def test_naming_the_model_leaves_nothing_to_say() -> None:
    done = gguf_vl("ask", "-m", "pocket", SHAPES, CIRCLE)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"red\n", b"")


def test_json_gives_the_fields_of_the_contract() -> None:
    done = gguf_vl("ask", "--json", SHAPES, "What shape is blue?")
    report = json.loads(done.stdout)
    assert (report["model"], report["answer"], report["finish_reason"]) == ("pocket", "square", "stop")
    assert set(report["usage"]) == {"prompt_tokens", "image_tokens", "completion_tokens"}
    assert report["usage"]["image_tokens"] == (384 // 32) * (288 // 32)
    times = {"load_s", "encode_s", "prefill_s", "ttft_s", "decode_tps"}
    assert set(report["timings"]) == times | {"queue_s", "tokens_reused"}
    assert all(value is None or value > 0 for name, value in report["timings"].items() if name in times)


def test_a_picture_comes_from_standard_input() -> None:
    done = gguf_vl("ask", "-", CIRCLE, stdin=Path(SHAPES).read_bytes())
    assert (done.returncode, done.stdout) == (0, b"red\n")


def test_a_question_comes_from_standard_input() -> None:
    done = gguf_vl("ask", SHAPES, "-", stdin=b"What colour is the square?\n")
    assert (done.returncode, done.stdout) == (0, b"blue\n")


def test_a_picture_comes_from_a_data_uri_and_by_option() -> None:
    uri = "data:image/png;base64," + base64.b64encode(Path(TWO).read_bytes()).decode()
    assert gguf_vl("ask", uri, "What colour is the triangle?").stdout == b"green\n"
    assert gguf_vl("ask", "-i", TWO, "What colour is the triangle?").stdout == b"green\n"


def test_two_pictures_are_both_read() -> None:
    done = gguf_vl("ask", "--json", SHAPES, TWO, "What colour is the triangle?")
    report = json.loads(done.stdout)
    assert report["usage"]["image_tokens"] == 12 * 9 + 10 * 10
    assert report["answer"] == "green"


def test_no_picture_is_fine() -> None:
    done = gguf_vl("ask", "Hello!")
    assert done.returncode == 0
    assert b"pocket" in done.stdout


def test_a_long_question_is_no_file_name_and_bytes_that_are_no_text_do_no_harm() -> None:
    long = gguf_vl("ask", "Hello! " + "How are you today, my friend? " * 20)
    assert long.returncode == 0
    strange = gguf_vl("ask", os.fsdecode(b"caf\xe9 hello"))
    assert strange.returncode == 0
    assert strange.stdout


def test_stats_say_where_the_time_went() -> None:
    done = gguf_vl("ask", "--stats", SHAPES, CIRCLE)
    assert done.stdout == b"red\n"
    assert b"108 of pictures" in done.stderr
    assert b"encode" in done.stderr


def test_a_token_limit_cuts_the_answer_and_says_so() -> None:
    done = gguf_vl("ask", "--max-tokens", "1", "Hello!")
    assert done.returncode == 0
    assert b"--max-tokens" in done.stderr


@pytest.mark.parametrize(
    ("words", "stdin", "code", "says"),
    [
        ([SHAPES], b"", 2, "What do you want to know about"),
        (["-", "-"], b"", 2, "Standard input"),
        ([], b"", 2, "Missing argument"),
        (["--no-such-flag", "x"], b"", 2, "No such option"),
        (["nothing-here.png", "What?"], b"", 3, "nothing-here.png"),
        ([__file__, "What?"], b"", 3, "not a picture"),
        (["-", "What?"], b"", 3, "Standard input is empty"),
        (["-", "What?"], b"\x89PNG\r\n\x1a\n broken", 3, "Standard input"),
        (["-m", "9b", "Hello"], b"", 3, "catalogue"),
        (["-m", "2b", "Hello"], b"", 3, "not on this machine"),
        (["--mmproj", "x.gguf", "Hello"], b"", 2, "no model"),
        (["-m", os.fsdecode(b"/tmp/caf\xe9.gguf"), "Hello"], b"", 3, "no file"),
        (["-m", "nothing.gguf", "Hello"], b"", 3, "nothing.gguf"),
        (["-m", SHAPES, "Hello"], b"", 3, "is a PNG picture"),
        (["-c", "256", SHAPES, "word " * 300], b"", 4, "tokens"),
        (["--detail", "enormous", "Hello"], b"", 2, "detail"),
        (["--temperature", "-1", "Hello"], b"", 2, "temperature"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_failures_are_two_lines_an_exit_code_and_no_output(
    words: list[str], stdin: bytes, code: int, says: str, as_json: bool
) -> None:
    done = gguf_vl("ask", *(["--json"] if as_json else []), *words, stdin=stdin)
    lines = [line for line in done.stderr.decode().splitlines() if not line.startswith("Using ")]
    assert (done.returncode, done.stdout) == (code, b"")
    assert len(lines) == 2
    assert says in lines[0]
    assert lines[0].startswith("gguf-vl: ")
    assert lines[1].startswith("  ")


def test_a_traceback_comes_only_with_debug() -> None:
    words = ["ask", "nothing-here.png", "What?"]
    assert b"Traceback" not in gguf_vl(*words).stderr
    assert b"Traceback" in gguf_vl(*words, "--debug").stderr


def test_debug_shows_llama_cpps_log_on_stderr() -> None:
    done = gguf_vl("ask", "--debug", SHAPES, CIRCLE)
    assert done.stdout == b"red\n"
    assert b"llama_context" in done.stderr


def test_a_reader_that_goes_away_is_no_failure() -> None:
    shell = f"{sys.executable} -P -m gguf_vl ask Hello 2>err | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, cwd=os.environ["GGUF_VL_HOME"])
    assert done.stdout == "0\n"


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_an_interrupted_question_ends_with_its_code_and_leaves_no_worker(sent: signal.Signals, code: int) -> None:
    asking = psutil.Popen(
        [sys.executable, "-P", "-m", "gguf_vl", "ask", SHAPES, CIRCLE],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    while not (workers := asking.children()):
        assert asking.poll() is None
    asking.send_signal(sent)
    _, stderr = asking.communicate(timeout=20)
    assert asking.returncode == code
    assert b"Traceback" not in stderr
    gone, _ = psutil.wait_procs(workers, timeout=10)
    assert gone == workers
