"""`list`, `doctor` and `config`, as a person or a script runs them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gguf_vl import paths
from tests.cli.command import gguf_vl


def test_list_shows_pocket_and_marks_it_as_the_one_that_is_used() -> None:
    shown = gguf_vl("list").stdout.decode()
    assert "pocket *" in shown
    [pocket] = json.loads(gguf_vl("list", "--json").stdout)
    assert (pocket["name"], pocket["quantisation"], pocket["projector"], pocket["default"]) == (
        "pocket",
        "F16",
        "F16",
        True,
    )


def test_a_broken_model_is_listed_with_its_trouble_and_told_by_doctor(home: Path) -> None:
    folder = home / "models" / "torn"
    folder.mkdir(parents=True)
    shutil.copy(paths.pocket_dir() / "mmproj-pocket-F16.gguf", folder)
    (folder / "torn.gguf").write_bytes((paths.pocket_dir() / "pocket-F16.gguf").read_bytes()[:100_000])
    done = gguf_vl("list")
    assert done.returncode == 0
    assert "torn" in done.stdout.decode()
    rows = {row["name"]: row for row in json.loads(gguf_vl("list", "--json").stdout)}
    assert rows["pocket"]["default"]
    assert "missing" in rows["torn"]["trouble"]
    checked = gguf_vl("doctor")
    assert checked.returncode == 1
    assert b"torn" in checked.stdout


def test_doctor_proves_the_whole_path_by_asking_about_a_circle() -> None:
    done = gguf_vl("doctor", "--json")
    findings = {finding["subject"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 0
    assert {
        "system",
        "processor",
        "memory",
        "llama.cpp",
        "GPU",
        "settings",
        "storage",
        "models",
        "answer",
    } <= findings.keys()
    assert "red circle" in findings["answer"]["what"]
    assert {finding["state"] for finding in findings.values()} <= {"ok", "warning"}


def test_doctor_tells_of_a_gpu_that_llama_cpp_was_built_without_and_the_command_that_mends_it(tmp_path: Path) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 00000000:01:00.0, NVIDIA A10G, 550.90.07, 23028, 1, 22502, Disabled, [N/A]\n")
    smi.chmod(0o755)
    done = gguf_vl("doctor", "--json", environment={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert done.returncode == 0
    [gpu] = [finding for finding in json.loads(done.stdout) if finding["subject"] == "GPU"]
    if "built without it" not in gpu["what"]:
        pytest.skip("llama-cpp-python is built for a GPU here")
    assert gpu["what"].startswith("NVIDIA A10G")
    assert gpu["state"] == "warning"
    assert gpu["fix"].startswith("scripts/setup --")


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA binds on Linux alone")
def test_doctor_names_the_limit_that_leaves_little_memory() -> None:
    command = [sys.executable, "-P", "-m", "gguf_vl", "doctor", "--json"]
    limited = ["sh", "-c", 'ulimit -d 1572864 && exec "$@"', "sh", *command]
    findings = json.loads(subprocess.run(limited, stdout=subprocess.PIPE, timeout=60).stdout)
    [memory] = [finding for finding in findings if finding["subject"] == "memory"]
    assert memory["state"] == "warning"
    assert "by RLIMIT_DATA of 1.5 GiB" in memory["what"]
    assert memory["fix"].startswith("Raise RLIMIT_DATA")


def test_doctor_tells_of_broken_settings_and_how_to_mend_them(home: Path) -> None:
    (home / "config.toml").write_text("ctx = 'large'\n")
    done = gguf_vl("doctor")
    assert done.returncode == 1
    assert b"ctx" in done.stdout


def test_settings_are_set_shown_with_their_origin_and_used(home: Path) -> None:
    assert gguf_vl("config", "path").stdout.decode().strip() == str(home / "config.toml")
    assert gguf_vl("config", "set", "max_tokens", "1").returncode == 0
    assert gguf_vl("config", "get", "max_tokens").stdout == b"1\n"
    line = next(line for line in gguf_vl("config", "get").stdout.decode().splitlines() if line.startswith("max_tokens"))
    assert str(home / "config.toml") in line
    assert b"cut off" in gguf_vl("ask", "Hello!").stderr
    assert gguf_vl("config", "set", "max_tokens", "").returncode == 0
    assert gguf_vl("config", "get", "max_tokens").stdout == b"\n"


def test_a_setting_that_does_not_exist_is_refused_with_the_nearest_name() -> None:
    for words in (["get", "detial"], ["set", "detial", "low"]):
        done = gguf_vl("config", *words)
        assert done.returncode == 2
        assert b"detail" in done.stderr
