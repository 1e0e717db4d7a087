"""`plan`, as a person or a script runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import gguf_vl
from tests.hardware.recordings import MACHINES, NAMES

LAPTOP = str(MACHINES / "laptop-iris-xe-16gb.json")


@pytest.mark.parametrize("name", NAMES)
def test_every_recorded_machine_gets_a_plan_that_a_person_can_read(name: str) -> None:
    done = gguf_vl("plan", "2b", "--machine", str(MACHINES / f"{name}.json"), environment={"COLUMNS": "100"})
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    assert all(len(line) <= 100 for line in lines)
    bars = [line for line in lines if len(line) == 100 and "█" in line and "·" in line]
    assert 1 <= len(bars) <= 2
    for word in ("weights", "KV", "compute", "projector", "encode", "margin", "free", "tokens a second", "Instead"):
        assert any(word in line for line in lines), word


def test_names_of_a_machine_are_shown_as_they_are(tmp_path: Path) -> None:
    there = json.loads(Path(LAPTOP).read_text()) | {"gpu_seen": "Radeon [AMD/ATI] [/b] :red_circle:", "devices": []}
    recorded = tmp_path / "machine.json"
    recorded.write_text(json.dumps(there | {"gpu_offload": False}))
    done = gguf_vl("plan", "2b", "--machine", str(recorded), environment={"COLUMNS": "120"})
    assert done.returncode == 0, done.stderr
    assert "Radeon [AMD/ATI] [/b] :red_circle: is here" in " ".join(done.stdout.decode().split())


def test_what_does_not_fit_is_said_in_two_lines_with_the_nearest_that_does() -> None:
    done = gguf_vl("plan", "8b", "--machine", LAPTOP, "--ctx", "262144")
    assert (done.returncode, done.stdout) == (4, b"")
    what, fix = done.stderr.decode().splitlines()
    assert "--ctx 262144" in what
    nearest = fix.partition("`--ctx ")[2].partition("`")[0]
    assert gguf_vl("plan", "8b", "--machine", LAPTOP, "--ctx", nearest).returncode == 0


def test_the_json_accounts_for_every_byte_and_reads_back_as_a_machine(tmp_path: Path) -> None:
    done = gguf_vl("plan", "8b:q8_0", "--json", "--machine", str(MACHINES / "rtx-4090-24gb.json"), "--reserve", "4G")
    report = json.loads(done.stdout)
    assert report["model"] == "8b:q8_0"
    assert not report["is_here"]
    taken = dict.fromkeys(report["devices"], 0)
    for each in report["plan"]["allocations"]:
        taken[each["device"]] += each["n_bytes"]
        assert each["why"]
    assert taken == {name: device["taken"] for name, device in report["devices"].items()}
    assert report["devices"]["CUDA0"]["free"] - taken["CUDA0"] >= 4 << 30
    there = tmp_path / "machine.json"
    there.write_text(json.dumps(report["machine"]))
    again = gguf_vl("plan", "8b:q8_0", "--json", "--machine", str(there), "--reserve", "4G")
    assert json.loads(again.stdout) == report


def test_without_a_model_it_plans_what_suits_the_machine() -> None:
    done = gguf_vl("plan", "--json", "--machine", str(MACHINES / "macbook-pro-m3-max-36gb.json"))
    assert json.loads(done.stdout)["model"] == "8b:q8_0"
    assert b"8b:q8_0 suits that machine: it runs on the GPU" in done.stderr


def test_measured_shows_what_was_planned_beside_what_is_used() -> None:
    done = gguf_vl("plan", "pocket", "--measured", environment={"COLUMNS": "100"})
    assert done.returncode == 0, done.stderr
    shown = done.stdout.decode()
    assert "Planned and used" in shown
    rows = [line.split() for line in shown.splitlines() if line.startswith("RAM ")]
    assert {"weights", "KV", "compute", "projector", "encode"} <= {row[1] for row in rows}
    used = json.loads(gguf_vl("plan", "pocket", "--json").stdout)["used"]
    assert used["resident"] > 0
    assert {each["purpose"] for each in used["buffers"]} == {"weights", "KV", "compute", "projector"}


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("8b", "--measured"), 3, "gguf-vl pull 8b"),
        (("pocket", "--measured", "--machine", LAPTOP), 2, "Another machine"),
        (("2b", "--machine", "nowhere.json"), 3, "nowhere.json cannot be read"),
        (("2b", "--machine", str(Path(__file__))), 3, "not JSON"),
        (("9b",), 3, "no model '9b'"),
        (("2b", "--reserve", "much"), 2, "a size in bytes"),
    ],
)
def test_bad_input_gets_a_clear_line(words: tuple[str, ...], code: int, says: str) -> None:
    done = gguf_vl("plan", *words)
    assert (done.returncode, done.stdout) == (code, b"")
    assert says in done.stderr.decode()


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts on Linux")
def test_ask_under_a_limit_just_below_its_plan_ends_with_4_before_anything_loads() -> None:
    taken = json.loads(gguf_vl("plan", "pocket", "--json").stdout)["devices"]["RAM"]["taken"]
    code = (
        f"import resource, runpy; resource.setrlimit(resource.RLIMIT_DATA, ({taken // 2}, {taken // 2}));"
        "runpy.run_module('gguf_vl', run_name='__main__')"
    )
    words = [sys.executable, "-P", "-c", code, "ask", "-m", "pocket", "What is this?"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 4, done.stderr
    assert done.stderr.count("\n") == 2
    assert "RLIMIT_DATA" in done.stderr
