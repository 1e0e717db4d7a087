"""Cores that a process may use, and the fast ones, from made-up /proc and /sys trees."""

from __future__ import annotations

from pathlib import Path

import pytest

from gguf_vl.hardware.cores import performance_cores, physical_cores
from tests.hardware.recordings import lay_out


def tree(allowed: str, cores: list[list[int]], **speeds: list[int]) -> str:
    lines = [f"proc/self/status: Cpus_allowed_list:\t{allowed}"]
    for core in cores:
        siblings = ",".join(map(str, core))
        lines += [f"sys/devices/system/cpu/cpu{cpu}/topology/core_cpus_list: {siblings}" for cpu in core]
    for file, values in speeds.items():
        path = {"capacity": "cpu_capacity", "clock": "cpufreq/cpuinfo_max_freq"}[file]
        lines += [f"sys/devices/system/cpu/cpu{cpu}/{path}: {value}" for cpu, value in enumerate(values)]
    return "\n".join(lines)


FOUR_WITH_THREADS = [[0, 4], [1, 5], [2, 6], [3, 7]]


@pytest.mark.parametrize(("allowed", "cores"), [("0-7", 4), ("0-3", 4), ("0,4", 1), ("4-5", 2), ("3", 1)])
def test_threads_of_one_core_and_cores_outside_the_affinity_do_not_count(
    tmp_path: Path, allowed: str, cores: int
) -> None:
    assert physical_cores(lay_out(tree(allowed, FOUR_WITH_THREADS), tmp_path)) == cores


@pytest.mark.parametrize(("quota", "cores"), [("250000 100000", 2), ("50000 100000", 1), ("max 100000", 4)])
def test_a_container_s_share_of_processor_time_bounds_the_cores(tmp_path: Path, quota: str, cores: int) -> None:
    limited = f"""
proc/self/cgroup: 0::/
proc/self/mountinfo: 35 24 0:30 / /sys/fs/cgroup ro - cgroup2 cgroup rw
sys/fs/cgroup/cpu.max: {quota}"""
    root = lay_out(tree("0-7", FOUR_WITH_THREADS, clock=[4000000] * 8) + limited, tmp_path)
    assert physical_cores(root) == cores
    assert performance_cores(root) == cores


@pytest.mark.parametrize(
    ("speeds", "fast"),
    [
        ({"capacity": [1024, 1024, 446, 446]}, 2),  # RK3588: Cortex-A76 and A55
        ({"capacity": [1024, 871, 871, 325]}, 3),  # a prime core, two large, one small
        ({"clock": [5100000, 5100000, 3300000, 3300000]}, 2),  # Zen 5 and 5c
        ({"clock": [5800000, 5700000, 5500000, 5500000]}, 4),  # favoured cores of one kind
        ({}, None),
    ],
)
def test_fast_cores_are_told_by_capacity_or_clock(
    tmp_path: Path, speeds: dict[str, list[int]], fast: int | None
) -> None:
    assert performance_cores(lay_out(tree("0-3", [[0], [1], [2], [3]], **speeds), tmp_path)) == fast


def test_intel_s_hybrids_name_their_fast_cores(tmp_path: Path) -> None:
    hybrid = tree("0-7", [[0, 1], [2, 3], [4], [5], [6], [7]]) + "\nsys/devices/cpu_core/cpus: 0-3"
    root = lay_out(hybrid, tmp_path)
    assert (physical_cores(root), performance_cores(root)) == (6, 2)


def test_where_linux_shows_no_topology_the_system_s_count_is_taken(tmp_path: Path) -> None:
    assert physical_cores(tmp_path) >= 1
    assert performance_cores(tmp_path) is None
