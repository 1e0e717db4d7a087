"""A machine in a file: the recorded ones are read, and a file that is wrong is told by its field."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gguf_vl.errors import MissingOrInvalid
from gguf_vl.hardware.recorded import machine_from_json, machine_to_json
from tests.hardware.recordings import NAMES, recording


def test_the_machines_that_the_issue_names_are_here() -> None:
    assert NAMES == [
        "a10g-24gb",
        "container-4gb",
        "laptop-iris-xe-16gb",
        "macbook-air-m2-8gb",
        "macbook-pro-m3-max-36gb",
        "rtx-3060-12gb",
        "rtx-4090-24gb",
        "wsl2-rtx-4060-laptop-8gb",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_machine_is_read_and_makes_sense(name: str) -> None:
    machine = machine_from_json(recording(name, "json"))
    assert machine.memory_available < machine.memory_total
    assert machine.cores >= (machine.performance_cores or 1)
    assert machine.devices[-1].kind == "cpu"
    assert all((device.free or 0) <= (device.total or 0) for device in machine.devices)
    assert all(machine.unknown.get(what) for what in ("performance_cores", "disk") if getattr(machine, what) is None)
    assert "Assumed: " in json.loads(recording(name, "json"))["source"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_what_is_read(name: str) -> None:
    text = recording(name, "json")
    assert machine_to_json(machine_from_json(text), json.loads(text)["source"]) == text


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("memory_total", "8 GB", "memory_total"),
        ("memory_total", -1, "memory_total"),
        ("cores", True, "cores"),
        ("bandwidth", "fast", "bandwidth"),
        ("gpu_offload", 1, "gpu_offload"),
        ("system", None, "system"),
        ("unknown", {"disk": None}, "unknown"),
        ("disk", "tape", "one of nvme, ssd, hdd"),
        ("devices", {}, "devices"),
        ("devices.0", 7, r"devices\[0\]"),
        ("devices.0.kind", "tpu", r"devices\[0\]\.kind"),
        ("devices.0.free", 1.5, r"devices\[0\]\.free"),
        ("source", 7, "source"),
    ],
)
def test_a_wrong_field_is_named(path: str, value: object, told: str) -> None:
    recorded: Any = json.loads(recording("rtx-3060-12gb", "json"))
    *before, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place = recorded
    for part in before:
        place = place[part]
    place[last] = value
    with pytest.raises(MissingOrInvalid, match=told):
        machine_from_json(json.dumps(recorded))


def test_a_missing_and_an_unheard_of_field_are_named() -> None:
    recorded = json.loads(recording("rtx-3060-12gb", "json"))
    with pytest.raises(MissingOrInvalid, match=r"knows: colour"):
        machine_from_json(json.dumps(recorded | {"colour": "red"}))
    del recorded["devices"][0]["unified"]
    with pytest.raises(MissingOrInvalid, match=r"lacks the field devices\[0\]\.unified"):
        machine_from_json(json.dumps(recorded))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"laptop"'])
def test_what_is_no_machine_at_all_is_refused(text: str) -> None:
    with pytest.raises(MissingOrInvalid, match="recorded machine"):
        machine_from_json(text)
