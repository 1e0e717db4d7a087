"""`pull`, `show`, `verify` and `rm` as real commands, against a hub on this machine."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from gguf_vl import paths
from tests.cli.command import SHAPES, gguf_vl
from tests.hub.content import Repo
from tests.hub.faults import Answer, Cut, Flip, Hold
from tests.hub.modelscope import ModelScope
from tests.hub.server import Hub

TEXT, PROJECTOR = "tiny-text-F16.gguf", "mmproj-tiny-F16.gguf"
FILES = {
    TEXT: paths.pocket_dir() / "pocket-F16.gguf",
    PROJECTOR: paths.pocket_dir() / "mmproj-pocket-F16.gguf",
}
REPO = "someone/tiny-GGUF"
WISH = f"hf:{REPO}"
NAME = "tiny-text-f16"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub({REPO: Repo(FILES)}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield hub


@pytest.mark.usefixtures("hub")
def test_from_nothing_to_an_answer() -> None:
    done = gguf_vl("pull", WISH)
    assert done.returncode == 0, done.stderr
    said = done.stderr.decode()
    assert f"{TEXT}, 3.3 MB" in said
    assert f"from {REPO} on http://127.0.0.1" in said
    assert f"Fetching {TEXT}: 100 %" in said
    assert "the catalogue has no hash of it; recorded what the hub declares" in said
    assert gguf_vl("ask", "-m", NAME, SHAPES, "What colour is the circle?").stdout == b"red\n"
    rows = {row["name"]: row for row in json.loads(gguf_vl("list", "--json").stdout)}
    assert REPO in rows[NAME]["source"]
    assert rows[NAME]["verified"]
    again = gguf_vl("pull", WISH)
    assert (again.returncode, b"already here" in again.stdout) == (0, True)


def test_killed_in_the_middle_it_goes_on_with_the_missing_bytes_only(hub: Hub) -> None:
    hold = Hold(after=2_000_000)
    hub.inject(PROJECTOR, hold)
    command = [sys.executable, "-P", "-m", "gguf_vl", "pull", WISH]
    running = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=dict(os.environ))
    assert hold.reached.wait(60)
    part = next(iter(paths.models_dir().glob(f".pull-{NAME}-*/{PROJECTOR}.*.part")))
    while part.stat().st_size == 0:  # the server is ahead of the client's disk
        assert running.poll() is None
    running.send_signal(signal.SIGKILL)
    running.wait()
    hold.release.set()
    assert "tiny" not in gguf_vl("list").stdout.decode()
    sent = hub.bytes_sent(TEXT)
    done = gguf_vl("pull", WISH)
    assert done.returncode == 0, done.stderr
    assert hub.bytes_sent(TEXT) == sent
    asked = hub.asked(PROJECTOR)[-1]
    assert asked
    assert 0 < asked[0] <= 2_000_000
    assert gguf_vl("verify", NAME).returncode == 0


def test_of_two_processes_that_pull_the_same_one_waits_and_nothing_is_fetched_twice(hub: Hub) -> None:
    hold = Hold(after=2_000_000)
    hub.inject(PROJECTOR, hold)
    command = [sys.executable, "-P", "-m", "gguf_vl", "pull", WISH]
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=dict(os.environ))
    assert hold.reached.wait(60)
    second = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ))
    assert second.stderr
    waiting = any(b"waiting for it" in line for line in second.stderr)
    hold.release.set()
    second.communicate(timeout=60)
    assert (first.wait(60), waiting, second.returncode) == (0, True, 0)
    assert (hub.bytes_sent(TEXT), hub.bytes_sent(PROJECTOR)) == tuple(path.stat().st_size for path in FILES.values())


def test_interrupted_it_says_so_and_keeps_what_it_has(hub: Hub) -> None:
    hold = Hold(after=2_000_000)
    hub.inject(TEXT, hold)
    command = [sys.executable, "-P", "-m", "gguf_vl", "pull", WISH]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, env=dict(os.environ))
    assert hold.reached.wait(60)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert b"Traceback" not in said
    *_, kept, last = said.decode().splitlines()
    assert re.fullmatch(rf"\d\.\d MB of {NAME} are here: the same command goes on with them\.", kept)
    assert last == "Interrupted."
    assert list(paths.models_dir().glob(f".pull-{NAME}-*/*.part"))


def test_wrong_bytes_end_with_exit_code_5_and_no_model(hub: Hub) -> None:
    hub.inject(TEXT, Flip(3_000_000), Flip(3_000_000))
    done = gguf_vl("pull", WISH)
    assert done.returncode == 5
    assert b"not what was promised" in done.stderr
    listed = gguf_vl("list")
    assert b"tiny" not in listed.stdout
    assert b"not finished, with 0.0 MB here" in listed.stderr  # no pull goes on with what is wrong


def test_of_several_models_each_is_tried_and_the_first_failure_is_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    last = {name.replace("tiny", "last"): path for name, path in FILES.items()}
    licensed = {name.replace("tiny", "licensed"): path for name, path in FILES.items()}
    with Hub({REPO: Repo(FILES), "a/licensed": Repo(licensed, gated=True), "b/last": Repo(last)}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.inject(TEXT, Flip(3_000_000), Flip(3_000_000))
        done = gguf_vl("pull", WISH, "hf:a/licensed", "hf:b/last")
    assert done.returncode == 5
    assert b"last-text-f16 is installed" in done.stdout
    assert b"behind a licence" in done.stderr
    assert done.stderr.splitlines()[-2].startswith(f"gguf-vl: {TEXT} is not what was promised".encode())


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("pull", "9b"), 3, "no model '9b'"),
        (("pull", "hf:nowhere"), 2, "owner/repo"),
        (("pull", "hf:no/where"), 3, "no repository"),
        (("pull", "--source", "elsewhere", "2b"), 2, "elsewhere"),
        (("pull", "--mmproj", "q2", "2b"), 2, "q8_0"),
        (("pull", "pocket"), 2, "inside the package"),
        (("pull", "--offline", "2b"), 6, "bundle create"),
        (("show", "9b"), 3, "no model '9b'"),
        (("verify", "9b"), 3, "no model 9b"),
        (("rm", "9b"), 3, "no model 9b"),
        (("rm", "pocket", "--yes"), 2, "stays"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("hub")
def test_what_cannot_be_is_said_in_two_lines(words: tuple[str, ...], code: int, said: str) -> None:
    done = gguf_vl(*words)
    assert done.returncode == code
    assert said in done.stderr.decode()
    assert len(done.stderr.splitlines()) <= 3


def test_offline_by_the_environment_too() -> None:
    assert gguf_vl("pull", "2b", environment={"GGUF_VL_OFFLINE": "1"}).returncode == 6


def test_several_choices_and_nobody_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    several = {**FILES, "tiny-text-Q8_0.gguf": FILES[TEXT]}
    with Hub({REPO: Repo(several)}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        done = gguf_vl("pull", WISH)
    assert done.returncode == 2
    assert b"tiny-text-Q8_0.gguf" in done.stderr


def test_modelscope_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with ModelScope({REPO: Repo(FILES)}, partial_status=200) as server:
        monkeypatch.setenv("MODELSCOPE_DOMAIN", server.url)
        server.inject(TEXT, Cut(1_500_000))
        done = gguf_vl("pull", "--source", "modelscope", WISH)
    assert done.returncode == 0, done.stderr
    assert "ModelScope" in done.stderr.decode()


def test_a_busy_server_is_waited_for(hub: Hub) -> None:
    hub.inject(TEXT, Answer(429, {"Retry-After": "0"}, on="body"))
    done = gguf_vl("pull", WISH)
    assert done.returncode == 0
    assert b"answers 429; trying again in 0 s" in done.stderr


@pytest.mark.usefixtures("hub")
def test_verify_names_the_file_that_differs_and_rm_removes_it() -> None:
    gguf_vl("pull", WISH)
    file = paths.models_dir() / NAME / PROJECTOR
    content = bytearray(file.read_bytes())
    content[2_000_000] ^= 1
    file.write_bytes(content)
    done = gguf_vl("verify")
    assert done.returncode == 5
    assert str(file) in done.stderr.decode()
    assert "pocket: pocket-F16.gguf is as promised" in done.stdout.decode()
    rows = json.loads(gguf_vl("verify", NAME, "--json").stdout)
    assert [row["trouble"] is None for row in rows] == [True, False]
    [listed] = [row for row in json.loads(gguf_vl("list", "--json").stdout) if row["name"] == NAME]
    assert (listed["verified"], listed["damaged"]) == (None, True)
    assert [NAME, "*", "F16", "7.8", "MB", "F16", "damaged"] in [
        line.split()[:7] for line in gguf_vl("list").stdout.decode().splitlines()
    ]
    assert f"{NAME} was found damaged: gguf-vl verify {NAME}" in gguf_vl("ask", "-m", NAME, "Hello!").stderr.decode()
    assert gguf_vl("rm", NAME).returncode == 2
    removed = gguf_vl("rm", NAME, "--yes")
    assert (removed.returncode, b"frees 7.8 MB" in removed.stdout) == (0, True)
    assert "tiny" not in gguf_vl("list").stdout.decode()


def test_the_mend_that_verify_names_fetches_the_damaged_file_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    several = {**FILES, "tiny-text-Q8_0.gguf": FILES[TEXT]}
    with Hub({REPO: Repo(several)}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        assert gguf_vl("pull", f"{WISH}:F16", "--name", "two").returncode == 0
        file = paths.models_dir() / "two" / PROJECTOR
        os.truncate(file, 1000)
        sent = hub.bytes_sent(TEXT)
        said = gguf_vl("verify", "two").stderr.decode()
        assert gguf_vl(*shlex.split(said.partition("again: gguf-vl ")[2])).returncode == 0
        assert hub.bytes_sent(TEXT) == sent
    assert gguf_vl("verify", "two").returncode == 0


def test_the_mend_of_a_broken_receipt_needs_no_byte_of_the_network(hub: Hub) -> None:
    gguf_vl("pull", WISH)
    sent = hub.bytes_sent("gguf")
    file = paths.models_dir() / NAME / "receipt.json"
    file.write_text("{")
    said = gguf_vl("pull", WISH).stderr.decode()
    assert "cannot be understood" in said
    file.unlink()
    assert gguf_vl(*shlex.split(said.partition(": gguf-vl ")[2])).returncode == 0
    assert b"already here" in gguf_vl("pull", WISH).stdout
    [listed] = [row for row in json.loads(gguf_vl("list", "--json").stdout) if row["name"] == NAME]
    assert listed["verified"]
    assert hub.bytes_sent("gguf") == sent


def test_show_knows_installed_and_published_models() -> None:
    pocket = json.loads(gguf_vl("show", "pocket", "--json").stdout)
    assert (pocket["name"], pocket["licence"], pocket["text"]["layers"]) == ("pocket", "Apache-2.0", 6)
    published = gguf_vl("show", "8b:q8_0").stdout.decode()
    assert "Qwen3VL-8B-Instruct-Q8_0.gguf (8.71 GB)" in published
    assert "installed" in published


def test_without_a_name_the_machine_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("MODELSCOPE_DOMAIN", "http://127.0.0.1:9")
    done = gguf_vl("pull")
    assert done.returncode == 1
    assert b"suits this machine" in done.stderr
    assert b"cannot be reached" in done.stderr
