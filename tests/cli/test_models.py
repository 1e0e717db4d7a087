"""`list`, `show`, `verify` and `rm`, as a person or a script runs them."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gguf_vl import paths
from tests.cli.command import gguf_vl
from tests.store.bundles import PROJECTOR, TEXT, install_model
from tests.store.other_programs import relabelled


def rows(*words: str, code: int = 0) -> list[dict[str, Any]]:
    done = gguf_vl(*words, "--json")
    assert done.returncode == code, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.fixture
def models(home: Path) -> Path:
    """One good model, one whose receipt makes no sense, an empty folder, and an interrupted pull."""
    install_model("good:f16", TEXT, PROJECTOR)
    (install_model("torn") / "receipt.json").write_text("{")
    (home / "models" / "empty").mkdir()
    begun = home / "models" / ".pull-8b-q8_0-0123abcd"
    begun.mkdir()
    (begun / "weights.part").write_bytes(bytes(1_500_000))
    return home / "models"


def test_every_row_of_a_list_has_the_same_keys(models: Path) -> None:
    found = {row["name"]: row for row in rows("list")}
    assert list(found) == ["pocket", "empty", "good:f16", "torn", "8b:q8_0"]
    assert len({tuple(row) for row in found.values()}) == 1
    assert {name: row["trouble"] is None for name, row in found.items() if row["bytes"]} == {
        "pocket": True,
        "good:f16": True,
        "8b:q8_0": False,
    }
    assert (found["8b:q8_0"]["bytes"], found["good:f16"]["where"]) == (1_500_000, str(models / "good-f16"))


@pytest.mark.skipif(sys.platform != "linux", reason="this system takes no such name")
def test_a_folder_whose_name_is_no_text_hides_no_model(models: Path) -> None:
    os.mkdir(os.fsencode(models) + b"/b\xffd")
    strict = {"PYTHONIOENCODING": "utf-8:strict"}
    done = gguf_vl("list", environment=strict)
    assert done.returncode == 0, done.stderr
    assert b"good:f16" in done.stdout
    names = [row["name"] for row in json.loads(gguf_vl("list", "--json", environment=strict).stdout)]
    assert os.fsdecode(b"b\xffd") in names


@pytest.mark.usefixtures("models")
def test_an_interrupted_pull_is_said_with_what_can_be_done() -> None:
    done = gguf_vl("list")
    assert b"8b:q8_0" not in done.stdout
    assert b"A pull of 8b:q8_0 is not finished, with 1.5 MB here." in done.stderr
    removed = gguf_vl("rm", "8b:q8_0", "--yes")
    assert (removed.returncode, b"frees 1.5 MB" in removed.stdout) == (0, True)
    assert gguf_vl("list").stderr == b""


def test_one_model_that_makes_no_sense_hides_no_other_from_verify(models: Path) -> None:
    found = {(row["model"], Path(row["file"]).name): row["trouble"] for row in rows("verify", code=3)}
    assert [key for key, trouble in found.items() if trouble] == [("empty", "empty"), ("torn", "torn")]
    assert found["good:f16", TEXT.name] is None
    said = gguf_vl("verify").stderr.decode()
    assert "holds no GGUF file" in said
    assert "cannot be understood" in said
    with (models / "good-f16" / TEXT.name).open("ab") as stream:
        stream.write(b"more")
    done = gguf_vl("verify")
    assert done.returncode == 5
    assert b"good:f16 is damaged" in done.stderr
    assert b"gguf-vl pull hf:" not in done.stderr  # it did not come from there


def test_verify_takes_a_catalogue_name_as_ask_does() -> None:
    [text, _] = rows("verify", "pocket:f16")
    assert Path(text["file"]).parent == paths.pocket_dir()


def test_a_folder_without_a_model_has_nothing_to_verify(models: Path) -> None:
    done = gguf_vl("verify", "empty")
    assert (done.returncode, done.stdout) == (3, b"")
    assert str(models / "empty") in done.stderr.decode()


@pytest.mark.parametrize("words", [("show", "good:f16"), ("ask", "-m", "good:f16", "Hello!")], ids=" ".join)
def test_a_model_whose_file_is_gone_is_not_called_unknown(models: Path, words: tuple[str, ...]) -> None:
    (models / "good-f16" / TEXT.name).unlink()
    done = gguf_vl(*words)
    assert (done.returncode, done.stdout) == (3, b"")
    assert f"There is no file {models / 'good-f16' / TEXT.name}" in done.stderr.decode()
    assert b"gguf-vl verify good-f16" in done.stderr


def test_a_catalogue_model_whose_file_is_gone_is_not_called_uninstalled(home: Path) -> None:
    file = install_model("2b") / TEXT.name
    file.rename(file.with_name("elsewhere"))
    done = gguf_vl("show", "2b")
    assert (done.returncode, done.stdout) == (3, b"")
    assert str(file) in done.stderr.decode()


@pytest.mark.usefixtures("models")
def test_a_model_named_twice_is_removed_once() -> None:
    assert gguf_vl("rm", "good:f16", "good:f16", "torn", "--yes").returncode == 0
    assert [row["name"] for row in rows("list")] == ["pocket", "empty", "8b:q8_0"]


def test_a_link_is_removed_and_what_it_leads_to_is_said_to_stay(models: Path, tmp_path: Path) -> None:
    shutil.move(models / "torn", tmp_path / "elsewhere")
    (models / "torn").symlink_to(tmp_path / "elsewhere")
    done = gguf_vl("rm", "torn", "--yes")
    assert done.returncode == 0
    assert f"a link to {tmp_path / 'elsewhere'}, which stays" in done.stdout.decode()
    assert len(list((tmp_path / "elsewhere").iterdir())) == 2


LINKS = {"loop": "loop", "nowhere": "/no/such/disk", "far": "x" * 300}
"""What each leads to: itself, an unmounted disk, a name that the system refuses to look up."""


def test_a_link_that_leads_nowhere_is_listed_hides_nothing_and_can_be_removed(models: Path) -> None:
    for name, target in LINKS.items():
        (models / name).symlink_to(target)
    found = {row["name"]: row["trouble"] for row in rows("list")}
    assert found["good:f16"] is None
    assert all(" is a link to " in found[name] for name in LINKS)
    assert b"is a link to /no/such/disk" in gguf_vl("show", "nowhere").stderr
    assert {gguf_vl("verify", *names).returncode for names in ([], *([name] for name in LINKS))} == {3}
    done = gguf_vl("rm", *LINKS, "--yes")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"It is a link to ") == 3
    assert not {row["name"] for row in rows("list")} & set(LINKS)


@pytest.mark.parametrize(
    "words", [["list"], ["verify"], ["show", "x"], ["ask", "Hello!"], ["rm", "x", "--yes"]], ids=" ".join
)
def test_a_models_folder_that_cannot_be_read_is_said_in_two_lines(home: Path, words: list[str]) -> None:
    (home / "models").symlink_to(LINKS["far"])
    done = gguf_vl(*words)
    assert (done.returncode, done.stdout) == (1, b"")
    said, fix = done.stderr.decode().splitlines()
    assert said == f"gguf-vl: {home / 'models'} cannot be read: File name too long."
    assert "GGUF_VL_HOME" in fix


def test_a_models_folder_that_cannot_be_read_is_a_finding_of_doctor_and_pocket_still_answers(home: Path) -> None:
    (home / "models").symlink_to(LINKS["far"])
    found = {finding["subject"]: finding for finding in json.loads(gguf_vl("doctor", "--json").stdout)}
    assert (found["models"]["state"], found["answer"]["state"]) == ("wrong", "ok")
    assert "cannot be read" in found["models"]["what"]
    assert gguf_vl("ask", "-m", "pocket", "Hello!").returncode == 0


@pytest.mark.parametrize(("answer", "said"), [(b"n\n", b"Nothing was removed."), (b"y\n", b"")])
def test_who_says_no_keeps_the_model(models: Path, answer: bytes, said: bytes) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-P", "-m", "gguf_vl", "rm", "good:f16"]
    with subprocess.Popen(command, stdin=theirs, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as running:
        os.write(ours, answer)
        _, stderr = running.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert running.returncode == 0
    assert said in stderr
    assert b"Interrupted" not in stderr
    assert (models / "good-f16").exists() == (answer == b"n\n")


def test_a_licence_outside_the_catalogue_is_shown(tmp_path: Path) -> None:
    text = relabelled(TEXT, tmp_path / "pebble.gguf", {"general.name": "pebble", "general.license": "mit\x1b[31m"})
    assert gguf_vl("import", str(text)).returncode == 0
    facts = json.loads(gguf_vl("show", "pebble", "--json").stdout)
    assert facts["licence"] == "mit?[31m"
    assert json.loads(gguf_vl("show", "pocket", "--json").stdout)["licence"] == "Apache-2.0"


@pytest.mark.parametrize(
    "words", [["list"], ["show", "odd"], ["verify", "odd"], ["verify"], ["rm", "odd", "--yes"]], ids=" ".join
)
def test_nothing_of_a_receipt_or_a_folder_reaches_the_terminal_raw(models: Path, words: list[str]) -> None:
    file = install_model("odd") / "receipt.json"
    file.write_text(file.read_text().replace('"hf:somebody', '"\\u001b[31m').replace('"odd"', '"odd\\u001b[32m"'))
    (models / "torn").rename(models / "torn\x1b[33m")
    os.link(models / "odd" / TEXT.name, models / "odd" / "a\x1b[34m")
    done = gguf_vl(*words)
    assert b"odd" in done.stdout
    assert b"\x1b" not in done.stdout + done.stderr


def test_telemetry_is_off_before_any_library_is_imported() -> None:
    code = "import gguf_vl, huggingface_hub.constants as c; print(c.HF_HUB_DISABLE_TELEMETRY)"
    environment = {name: value for name, value in os.environ.items() if name not in ("HF_HUB_DISABLE_TELEMETRY",)}
    environment |= {"PYTHONPATH": str(paths.PACKAGE.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert done.stdout == b"True\n", done.stderr
