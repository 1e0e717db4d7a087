"""What cgroups and resource limits leave a process, from made-up /proc and /sys trees."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from gguf_vl.hardware.limits import cpu_quota, memory_limit
from tests.hardware.recordings import lay_out, recording

GIB = 1024**3

V2 = """\
proc/self/cgroup: 0::/user.slice/app.scope
proc/self/mountinfo: 35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate
sys/fs/cgroup/user.slice/app.scope/memory.max: max
sys/fs/cgroup/user.slice/app.scope/memory.current: 1000000
sys/fs/cgroup/user.slice/memory.max: 3221225472
sys/fs/cgroup/user.slice/memory.current: 1610612736
sys/fs/cgroup/user.slice/memory.stat: anon 1000000000
sys/fs/cgroup/user.slice/memory.stat: inactive_file 536870912
sys/fs/cgroup/user.slice/cpu.max: 150000 100000
"""

V1 = """\
proc/self/cgroup: 9:name=systemd:/docker/abc
proc/self/cgroup: 5:cpu,cpuacct:/docker/abc
proc/self/cgroup: 4:memory:/docker/abc
proc/self/mountinfo: 60 50 0:33 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory
proc/self/mountinfo: 61 50 0:34 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct
sys/fs/cgroup/memory/memory.limit_in_bytes: 2147483648
sys/fs/cgroup/memory/memory.usage_in_bytes: 1073741824
sys/fs/cgroup/memory/memory.stat: inactive_file 7
sys/fs/cgroup/memory/memory.stat: total_inactive_file 268435456
sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us: 300000
sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us: 100000
"""

UNLIMITED_V1 = V1.replace("2147483648", "9223372036854771712").replace("300000", "-1")

RLIMITS = """\
proc/self/limits: Limit                     Soft Limit           Hard Limit           Units
proc/self/limits: Max data size             {data}           unlimited            bytes
proc/self/limits: Max address space         {space}           unlimited            bytes
proc/self/status: VmSize:	  524288 kB
proc/self/status: VmData:	  262144 kB
"""


def test_an_ancestor_s_limit_binds_and_cached_pages_of_files_count_as_free(tmp_path: Path) -> None:
    limit = memory_limit(lay_out(V2, tmp_path))
    assert limit is not None
    assert limit.available == 2 * GIB
    assert "memory.max of 3.0 GiB" in limit.name


def test_a_container_without_a_namespace_of_its_own_finds_its_first_version_limits(tmp_path: Path) -> None:
    limit = memory_limit(lay_out(V1, tmp_path))
    assert limit is not None
    assert limit.available == GIB + GIB // 4
    assert "memory.limit_in_bytes of 2.0 GiB" in limit.name


def test_a_high_mark_binds_like_a_limit(tmp_path: Path) -> None:
    high = V2 + "sys/fs/cgroup/user.slice/app.scope/memory.high: 1001048576\n"
    limit = memory_limit(lay_out(high, tmp_path))
    assert limit is not None
    assert limit.available == 1001048576 - 1000000


def test_what_is_over_its_limit_has_nothing_left(tmp_path: Path) -> None:
    limit = memory_limit(lay_out(V1.replace("1073741824", "4294967296"), tmp_path))
    assert limit is not None
    assert limit.available == 0


@pytest.mark.parametrize("tree", ["", UNLIMITED_V1, RLIMITS.format(data="unlimited", space="unlimited")])
def test_where_nothing_limits_there_is_no_limit(tmp_path: Path, tree: str) -> None:
    root = lay_out(tree, tmp_path)
    assert memory_limit(root) is None
    assert cpu_quota(root) is None


@pytest.mark.parametrize(
    ("data", "space", "name", "available"),
    [
        (GIB, "unlimited", "RLIMIT_DATA of 1.0 GiB", GIB - 262144 * 1024),
        ("unlimited", 2 * GIB, "RLIMIT_AS of 2.0 GiB", 2 * GIB - 524288 * 1024),
        (3 * GIB, 2 * GIB, "RLIMIT_AS of 2.0 GiB", 2 * GIB - 524288 * 1024),
    ],
)
def test_a_limit_of_the_process_leaves_what_it_has_not_taken(
    tmp_path: Path, data: int | str, space: int | str, name: str, available: int
) -> None:
    limit = memory_limit(lay_out(RLIMITS.format(data=data, space=space), tmp_path))
    assert limit is not None
    assert (limit.name, limit.available) == (name, available)


def test_the_smallest_of_several_limits_is_told(tmp_path: Path) -> None:
    limit = memory_limit(lay_out(V2 + RLIMITS.format(data=GIB, space="unlimited"), tmp_path))
    assert limit is not None
    assert limit.name == "RLIMIT_DATA of 1.0 GiB"


@pytest.mark.parametrize(("tree", "quota"), [(V2, 1.5), (V1, 3.0)])
def test_the_share_of_processor_time_is_read_from_both_versions(tmp_path: Path, tree: str, quota: float) -> None:
    assert cpu_quota(lay_out(tree, tmp_path)) == quota


def test_the_recorded_container_is_limited_to_four_gibibytes_and_two_processors(tmp_path: Path) -> None:
    root = lay_out(recording("container-4gb", "tree"), tmp_path)
    limit = memory_limit(root)
    assert limit is not None
    assert limit.available == 4 * GIB - (220 - 60) * 1024**2
    assert cpu_quota(root) == 2.0


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA binds on Linux alone")
def test_a_real_limit_of_a_real_process_is_seen() -> None:
    look = "from gguf_vl.hardware.machine import probe; here = probe(); print(here.memory_available, here.memory_limit)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", look],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (GIB, GIB)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    available, _, name = done.stdout.strip().partition(" ")
    assert name == "RLIMIT_DATA of 1.0 GiB", done.stderr
    assert GIB // 2 < int(available) < GIB
