"""`import`, as a person or a script runs it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from gguf_vl import paths
from tests.cli.command import SHAPES, gguf_vl
from tests.store.other_programs import (
    LAYOUTS,
    POCKET,
    POCKET_MMPROJ,
    hash_of,
    lm_studio,
    ollama,
    relabelled,
    state_of,
)

Files = tuple[Path, Path]


def scanned(person: Path, *flags: str) -> list[dict[str, Any]]:
    """What a scan says of that home; this machine's own Ollama may have more."""
    done = gguf_vl("import", "--scan", "--json", *flags)
    assert done.returncode == 0
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return [row for row in rows if row["model"].startswith(str(person))]


def answer(model: str) -> str:
    done = gguf_vl("ask", "-m", model, SHAPES, "What colour is the circle?")
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


@pytest.mark.parametrize("program", LAYOUTS)
def test_a_model_of_another_program_is_found_and_answers(person: Path, pair: Files, program: str) -> None:
    below, lay = LAYOUTS[program]
    lay(person / below, *pair)
    before = state_of(person)
    [row] = scanned(person)
    assert (row["outcome"], row["name"], row["linked"], row["error"]) == ("imported", "pebble-f16", True, None)
    assert answer("pebble-f16") == "red"
    assert state_of(person) == before
    assert [row["outcome"] for row in scanned(person)] == ["already here"]


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no second file system here")
def test_a_model_that_is_used_where_it_is_answers_too(
    person: Path, pair: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        monkeypatch.setenv("OLLAMA_MODELS", folder)
        ollama(Path(folder), *pair)
        done = gguf_vl("import", "--scan")
        assert done.returncode == 0
        assert b"imported as pebble-f16" in done.stdout
        if Path(folder).stat().st_dev != paths.data_dir().stat().st_dev:
            assert b"used where it is" in done.stdout
        assert answer("pebble-f16") == "red"


def test_a_pair_is_imported_by_path_under_a_name_of_choice(pair: Files) -> None:
    done = gguf_vl("import", *map(str, pair), "--name", "mine:f16")
    assert done.returncode == 0
    assert done.stdout.decode().startswith("imported as mine:f16: ")
    assert answer("MINE:F16") == "red"
    rows = {row["name"]: row for row in json.loads(gguf_vl("list", "--json").stdout)}
    assert rows["mine:f16"]["projector"] == "F16"


def test_a_text_model_alone_is_imported_and_said_to_chat_without_pictures(tmp_path: Path, pair: Files) -> None:
    shutil.copy(pair[0], tmp_path)
    done = gguf_vl("import", str(tmp_path))
    assert done.returncode == 0
    assert b"chats without pictures" in done.stdout
    assert gguf_vl("ask", "-m", "pebble-f16", "Hello!").returncode == 0


def test_a_scan_lists_everything_it_found_with_what_became_of_it(person: Path, pair: Files) -> None:
    folder = person / ".lmstudio/models"
    lm_studio(folder, *pair)
    truncated = folder / "owner/pebble-GGUF/truncated.gguf"
    truncated.write_bytes(pair[0].read_bytes()[:50_000])
    foreign = folder / "owner/pebble-GGUF/foreign.gguf"
    foreign.write_bytes(pair[0].read_bytes().replace(b"qwen3vl", b"qwen9vl"))
    assert [row["outcome"] for row in scanned(person, "--dry-run")].count("would import") == 1
    assert not paths.models_dir().exists()
    done = gguf_vl("import", "--scan")
    assert done.returncode == 0
    shown = done.stdout.decode()
    assert f"imported as pebble-f16: {folder / 'owner/pebble-GGUF/pebble-F16.gguf'}" in shown
    assert f"broken: {truncated}" in shown
    assert f"not taken: {foreign} is a model of architecture qwen9vl, not a Qwen3-VL." in shown
    assert {row["name"] or row["outcome"] for row in scanned(person)} == {"pebble-f16", "broken", "not taken"}


def test_a_scan_that_finds_nothing_says_so(person: Path) -> None:
    done = gguf_vl("import", "--scan")
    assert done.returncode == 0
    if not done.stdout:  # this machine has an Ollama of its own
        assert b"no GGUF file here" in done.stderr
    assert scanned(person) == []


@pytest.mark.parametrize(
    "words",
    [[], ["--scan", "x.gguf"], ["--scan", "--name", "x"], ["--name", "../x", str(POCKET)]],
    ids=["nothing", "both", "a name for many", "no name"],
)
def test_wrong_usage_ends_with_2(person: Path, words: list[str]) -> None:
    done = gguf_vl("import", *words)
    assert (done.returncode, done.stdout) == (2, b"")
    assert len(done.stderr.decode().splitlines()) == 2


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_each_failure_has_its_exit_code_and_leaves_standard_output_empty(
    tmp_path: Path, pair: Files, flags: list[str]
) -> None:
    instruct = relabelled(POCKET, tmp_path / "pebble.gguf", {"general.finetune": "Instruct"})
    thinking = relabelled(POCKET_MMPROJ, tmp_path / "mmproj.gguf", {"general.finetune": "Thinking"})
    truncated = tmp_path / "truncated.gguf"
    truncated.write_bytes(pair[0].read_bytes()[:50_000])
    damaged = tmp_path / POCKET.name
    damaged.write_bytes(POCKET.read_bytes()[:-1] + b"\x55")
    assert hash_of(damaged) != hash_of(POCKET)
    for code, given in (
        (3, [tmp_path / "missing.gguf"]),
        (3, [truncated]),
        (3, [instruct, thinking]),
        (3, [pair[1]]),
        (5, [damaged, POCKET_MMPROJ]),
    ):
        done = gguf_vl("import", *map(str, given), *flags)
        assert (done.returncode, done.stdout) == (code, b""), given
        *_, what, fix = done.stderr.decode().splitlines()
        assert what.startswith("gguf-vl: ")
        assert fix.startswith("  ")
    assert not paths.models_dir().exists()


def test_what_is_good_among_given_paths_is_taken_and_the_rest_still_fails(tmp_path: Path, pair: Files) -> None:
    (tmp_path / "empty.gguf").touch()
    done = gguf_vl("import", *map(str, pair), str(tmp_path / "empty.gguf"), str(tmp_path / "missing.gguf"))
    assert done.returncode == 3
    assert b"imported as pebble-f16" in done.stdout
    assert b"empty.gguf" in done.stderr
    assert b"missing.gguf" in done.stderr


def test_an_interrupted_import_ends_with_130_and_leaves_nothing(tmp_path: Path, home: Path) -> None:
    large = tmp_path / "large.gguf"
    shutil.copy(POCKET, large)
    with large.open("r+b") as stream:
        stream.truncate(20 << 30)  # a hole: it takes no space, and long to hash
    before = {path for path in home.rglob("*") if path.is_file()}
    words = [sys.executable, "-P", "-m", "gguf_vl", "import", str(large)]
    with subprocess.Popen(words, stderr=subprocess.PIPE) as command:
        assert command.stderr
        assert b"Hashing large.gguf" in command.stderr.readline()
        command.send_signal(signal.SIGINT)
        command.stderr.read()
    assert command.returncode == 130
    assert {path for path in home.rglob("*") if path.is_file()} == before
