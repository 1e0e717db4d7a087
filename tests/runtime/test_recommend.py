"""Which model a machine is advised to fetch."""

from __future__ import annotations

import pytest

from gguf_vl.runtime.recommend import recommend
from gguf_vl.types import Device, Machine

GB = 10**9


def machine(memory: int, *gpus: int) -> Machine:
    devices = [Device("CPU", "processor", "CPU", "cpu", None, None)]
    devices += [
        Device(f"CUDA{number}", f"card {number}", "CUDA", "gpu", free, free) for number, free in enumerate(gpus)
    ]
    return Machine(
        system="Linux",
        chip=None,
        cores=8,
        performance_cores=None,
        memory_total=memory,
        memory_available=memory,
        memory_limit=None,
        swap_free=None,
        bandwidth=None,
        devices=tuple(devices),
        gpu_seen=None,
        gpu_offload=bool(gpus),
        llama_cpp_python="0.3.36",
        trouble=None,
    )


@pytest.mark.parametrize(
    ("memory", "gpus", "name"),
    [
        (4 * GB, (), "2b"),
        (6 * GB, (), "2b"),
        (8 * GB, (), "4b"),
        (12 * GB, (), "8b"),
        (32 * GB, (), "8b:q8_0"),
        (64 * GB, (6 * GB,), "2b"),
        (8 * GB, (24 * GB,), "8b:q8_0"),
        (8 * GB, (4 * GB, 12 * GB), "8b"),
    ],
)
def test_the_best_model_that_leaves_a_quarter_free(memory: int, gpus: tuple[int, ...], name: str) -> None:
    assert recommend(machine(memory, *gpus))[0] == name


def test_the_reason_names_the_memory_that_decides() -> None:
    assert "card 0 has 24 GB free" in recommend(machine(64 * GB, 24 * GB))[1]
    assert "main memory has only 2.0 GB free" in recommend(machine(2 * GB))[1]
