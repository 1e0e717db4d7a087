"""What macOS's sysctl says, from recorded answers."""

from __future__ import annotations

import pytest

from gguf_vl.hardware import apple
from tests.hardware.recordings import Programs, recording


@pytest.mark.parametrize(
    ("name", "chip", "fast", "bandwidth"),
    [("macbook-air-m2-8gb", "Apple M2", 4, 100e9), ("macbook-pro-m3-max-36gb", "Apple M3 Max", 10, 300e9)],
)
def test_a_mac_tells_its_chip_whose_bandwidth_apple_publishes(
    programs: Programs, name: str, chip: str, fast: int, bandwidth: float
) -> None:
    programs.put("sysctl", recording(name, "sysctl"))
    found = apple.look()
    assert (found.chip, found.performance_cores, found.bandwidth) == (chip, fast, bandwidth)
    assert found.pressure == "normal"
    assert found.wired_limit is None
    assert found.unknown == {}


def test_a_limit_that_the_person_set_and_short_memory_are_told(programs: Programs) -> None:
    said = (
        recording("macbook-air-m2-8gb", "sysctl")
        .replace("limit_mb: 0", "limit_mb: 6800")
        .replace("level: 1", "level: 4")
    )
    programs.put("sysctl", said)
    found = apple.look()
    assert found.wired_limit == 6800 * 1024**2
    assert found.pressure == "critical"


def test_an_older_macos_lacks_names_and_the_rest_is_told(programs: Programs) -> None:
    programs.put(
        "sysctl",
        "machdep.cpu.brand_string: Apple M1\nhw.perflevel0.physicalcpu: 4\n",
        complains="sysctl: unknown oid 'iogpu.wired_limit_mb'",
        exits=1,
    )
    found = apple.look()
    assert found.bandwidth == 68.25e9
    assert found.unknown.keys() == {"memory_pressure", "gpu_wired_limit"}


def test_a_sysctl_that_fails_is_a_reason_and_no_error(programs: Programs) -> None:
    programs.put("sysctl", "", complains="sysctl: not permitted", exits=1)
    assert apple.look().unknown["chip"] == "sysctl says: sysctl: not permitted"


def test_a_chip_that_is_not_in_the_table_has_no_bandwidth(programs: Programs) -> None:
    programs.put("sysctl", "machdep.cpu.brand_string: Apple M9 Max\n")
    assert apple.look().bandwidth is None
