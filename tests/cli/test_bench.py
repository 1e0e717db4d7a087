"""`bench`, as a person or a script runs it."""

from __future__ import annotations

import json

from tests.cli.command import gguf_vl


def test_bench_measures_what_a_person_waits_for() -> None:
    done = gguf_vl("bench", "pocket", "--json", "--repeats", "2", "--image-tokens", "64")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    rows = {row["name"].strip(): row for row in report["rows"]}
    assert report["model"] == "pocket"
    assert {"load", "first token, text", "first token, a new picture", "of which encoding"} <= rows.keys()
    for row in rows.values():
        assert 0 < row["least"] <= row["middle"] <= row["most"]
    assert rows["first token, a picture asked about again"]["middle"] < rows["first token, a new picture"]["middle"]
    assert rows["memory of the worker at its peak"]["unit"] == "MiB"


def test_bench_prints_a_table_and_says_which_model_it_took() -> None:
    done = gguf_vl("bench", "--repeats", "1", "--image-tokens", "64")
    assert b"Using pocket" in done.stderr
    lines = done.stdout.decode().splitlines()
    assert lines[0].startswith("pocket, 8,192 tokens of context")
    assert any(line.startswith("writing, text") and line.endswith("tokens/s") for line in lines)


def test_bench_refuses_what_the_model_cannot_take() -> None:
    done = gguf_vl("bench", "pocket", "--image-tokens", "4096")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"16 to 1024" in done.stderr
    assert b"`--image-tokens`" in done.stderr
