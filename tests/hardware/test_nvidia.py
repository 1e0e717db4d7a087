"""What nvidia-smi says, from recorded answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from gguf_vl.hardware import nvidia
from tests.hardware.recordings import Programs, recording

MIB = 1024**2


@pytest.mark.parametrize(
    ("name", "card", "total", "bandwidth"),
    [
        ("rtx-3060-12gb", "NVIDIA GeForce RTX 3060", 12288, 360e9),
        ("rtx-4090-24gb", "NVIDIA GeForce RTX 4090", 24564, 1008e9),
        ("a10g-24gb", "NVIDIA A10G", 23028, 600e9),
        ("wsl2-rtx-4060-laptop-8gb", "NVIDIA GeForce RTX 4060 Laptop GPU", 8188, 256e9),
    ],
)
def test_a_recorded_card_is_read(programs: Programs, name: str, card: str, total: int, bandwidth: float) -> None:
    programs.put("nvidia-smi", recording(name, "nvidia-smi"))
    [found] = nvidia.look() or ()
    assert (found.name, found.total) == (card, total * MIB)
    assert nvidia.bandwidth(found.name) == bandwidth


def test_its_address_is_written_as_llama_cpp_writes_it(programs: Programs) -> None:
    programs.put("nvidia-smi", recording("a10g-24gb", "nvidia-smi"))
    [card] = nvidia.look() or ()
    assert card.id == "0000:00:1e.0"
    assert (card.used, card.display, card.mig) == (MIB, False, False)


def test_several_cards_and_slices_are_told_apart_and_what_is_not_told_is_none(programs: Programs) -> None:
    programs.put(
        "nvidia-smi",
        "00000000:07:00.0, NVIDIA A100-SXM4-40GB, 535.183.01, 40960, 0, 40326, Disabled, Enabled\n"
        "00000000:0F:00.0, NVIDIA A100-SXM4-40GB, 535.183.01, [N/A], [N/A], [N/A], [N/A], Disabled\n",
    )
    first, second = nvidia.look() or ()
    assert first.mig
    assert not second.mig
    assert (second.total, second.free, second.display) == (None, None, None)


@pytest.mark.parametrize(
    "said",
    [
        "No devices were found",
        'Field "mig.mode.current" is not a valid field to query.',
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest "
        "NVIDIA driver is installed and running.",
    ],
)
def test_a_driver_that_does_not_answer_is_told_in_its_own_words(programs: Programs, said: str) -> None:
    programs.put("nvidia-smi", f"{said}\n", exits=9)
    with pytest.raises(ValueError, match="nvidia-smi says"):
        nvidia.look()


def test_on_wsl_it_is_found_where_windows_puts_it(
    programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi = programs.put("elsewhere", recording("wsl2-rtx-4060-laptop-8gb", "nvidia-smi"))
    place = tmp_path / "usr/lib/wsl/lib/nvidia-smi"
    place.parent.mkdir(parents=True)
    place.symlink_to(smi)
    monkeypatch.setattr("shutil.which", lambda name: None)
    [card] = nvidia.look(tmp_path) or ()
    assert card.driver == "566.36"


def test_without_a_driver_there_are_no_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert nvidia.look(tmp_path) is None


def test_how_busy_each_card_is_is_told_where_the_driver_tells(programs: Programs) -> None:
    programs.put(
        "nvidia-smi",
        "00000000:01:00.0, NVIDIA GeForce RTX 4090, 97, 20480, 24564\n"
        "00000000:0F:00.0, NVIDIA A100-SXM4-40GB, [N/A], [N/A], 40960\n",
    )
    first, second = nvidia.loads()
    assert first == nvidia.Load("0000:01:00.0", "NVIDIA GeForce RTX 4090", 0.97, 20480 * MIB, 24564 * MIB)
    assert (second.busy, second.used, second.total) == (None, None, 40960 * MIB)


def test_without_a_driver_nothing_is_busy_and_one_that_fails_says_so(programs: Programs, tmp_path: Path) -> None:
    assert nvidia.loads(tmp_path) == ()
    programs.put("nvidia-smi", "No devices were found\n", exits=6)
    with pytest.raises(ValueError, match="No devices"):
        nvidia.loads(tmp_path)
