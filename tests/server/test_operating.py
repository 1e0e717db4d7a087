"""The files for who runs a server are what they should be, and the pages about it tell what is so."""

from __future__ import annotations

import json
import plistlib
import re
from configparser import ConfigParser
from pathlib import Path

import pytest
import typer

from gguf_vl.cli.app import app
from gguf_vl.hardware.nvidia import Load
from gguf_vl.server.metrics import Metrics, Seen
from gguf_vl.types import Allocation, EngineStats, Used

DOCS = Path(__file__).parents[2] / "docs"
SERVE = DOCS / "serve"
DOCKERFILES = sorted(SERVE.glob("Dockerfile.*"))


def names() -> set[str]:
    """Every metric there is."""
    seen = Seen(
        "8b",
        1,
        EngineStats(0, 0, 0, 0, 0, 0),
        [Allocation("CPU", "weights", 1, "")],
        Used((Allocation("CPU", "weights", 1, ""),), {"CUDA0": 1}, None, 1),
        [Load("0000:01:00.0", "NVIDIA L4", 0.5, 1, 2)],
    )
    page = Metrics().page(seen).decode()
    histograms = re.findall(r"^# TYPE (\w+) histogram$", page, re.MULTILINE)
    made = {f"{name}{ending}" for name in histograms for ending in ("_bucket", "_sum", "_count")}
    typed = re.findall(r"^# TYPE (gguf_vl_\w+|process_resident_memory_bytes) ", page, re.MULTILINE)
    return {name for name in typed if not name.endswith("_created")} | made


def flags() -> set[str]:
    """Every flag of `gguf-vl serve`."""
    command = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    return {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}


def test_the_dashboard_asks_for_metrics_that_there_are_and_for_most_of_them() -> None:
    board = json.loads((SERVE / "grafana.json").read_text(encoding="utf-8"))
    asked = " ".join(target["expr"] for panel in board["panels"] for target in panel["targets"])
    found = set(re.findall(r"\b(?:gguf_vl|process)_\w+", asked))
    assert found <= names()
    assert len(found) > 15


def test_every_metric_is_explained_and_none_that_is_not() -> None:
    page = (DOCS / "server.md").read_text(encoding="utf-8")
    told = set(re.findall(r"gguf_vl_\w+", page))
    there = {name for name in names() if not name.endswith(("_bucket", "_sum", "_count")) and name.startswith("gguf")}
    assert told == there


def named_in(text: str) -> set[str]:
    """Every flag that a text names."""
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))


def flags_of_scripts(text: str) -> set[str]:
    """Every flag of the scripts that a text names."""
    sources = [(DOCS.parent / name).read_text(encoding="utf-8") for name in set(re.findall(r"scripts/\w+\.py", text))]
    return set(re.findall(r'add_argument\("(--[a-z-]+)"', "\n".join(sources)))


def test_every_flag_that_a_page_or_file_names_is_one() -> None:
    page = (DOCS / "server.md").read_text(encoding="utf-8")
    assert named_in(page) <= flags() | flags_of_scripts(page)
    for file in (SERVE / "gguf-vl.service", *DOCKERFILES):
        line = next(line for line in file.read_text(encoding="utf-8").splitlines() if "serve" in line and "--" in line)
        assert named_in(line) <= flags()


def test_the_systemd_unit_gives_requests_the_time_they_have() -> None:
    unit = ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(SERVE / "gguf-vl.service", encoding="utf-8")
    assert int(unit["Service"]["TimeoutStopSec"]) > 35
    assert "--api-key-file" in unit["Service"]["ExecStart"]


def test_the_launchd_job_runs_serve() -> None:
    job = plistlib.loads((SERVE / "io.github.gguf-vl.serve.plist").read_bytes())
    assert job["ProgramArguments"][1] == "serve"
    assert set(job["ProgramArguments"][2::2]) <= flags()
    assert job["ExitTimeOut"] > 35


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_an_image_is_built_from_files_that_are_here_and_runs_as_nobody_special(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    copied = [
        word for line in lines if line.startswith("COPY ") and "--from" not in line for word in line.split()[1:-1]
    ]
    assert all((DOCS.parent / name).exists() for name in copied)
    assert {"pyproject.toml", "README.md", "models.toml", "gguf_vl"} <= set(copied)
    assert "USER gguf-vl" in lines
    assert json.loads(lines[-1].removeprefix("CMD "))[:3] == ["serve", "--host", "0.0.0.0"]
