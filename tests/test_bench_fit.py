"""The table of planned and real bytes: what it reads off llama.cpp's log, and how it compares."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gguf_vl.fit import memory
from gguf_vl.gguf import projector_shape, read_header, text_shape
from gguf_vl.types import Load

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from bench_fit import row
from bench_fit_loading import MIB, Failure, Loader, buffers, kv_size, on_device
from bench_fit_tables import markdown, off, worst

POCKET = Path(__file__).parents[1] / "gguf_vl" / "pocket"
TEXT, MMPROJ = POCKET / "pocket-F16.gguf", POCKET / "mmproj-pocket-F16.gguf"
LOG = """
load_tensors:       Vulkan0 model buffer size =   376.49 MiB
load_tensors:   Vulkan_Host model buffer size =   430.51 MiB
load_tensors:   CPU_Mapped model buffer size =   100.00 MiB
load_tensors:   CPU_Mapped model buffer size =    50.00 MiB
llama_context: Vulkan_Host  output buffer size =     0.58 MiB
llama_kv_cache:        CPU KV buffer size =     0.00 MiB
llama_kv_cache: size =  448.00 MiB (  4096 cells,  28 layers,  1/1 seqs), K (f16):  224.00 MiB, V (f16):  224.00 MiB
sched_reserve:    Vulkan0 compute buffer size =    73.01 MiB
""".splitlines()


def test_buffers_of_one_name_are_added_up() -> None:
    assert buffers("model", LOG) == {
        "Vulkan0": round(376.49 * MIB),
        "Vulkan_Host": round(430.51 * MIB),
        "CPU_Mapped": 150 * MIB,
    }
    assert buffers("output", LOG) == {"Vulkan_Host": round(0.58 * MIB)}


def test_a_cache_that_was_not_allocated_has_its_size_all_the_same() -> None:
    assert buffers("kv", LOG) == {"CPU": 0}
    assert kv_size(LOG) == 448 * MIB


def test_pinned_memory_of_a_device_is_main_memory() -> None:
    assert on_device(buffers("model", LOG)) == round(376.49 * MIB)
    assert on_device({"CPU": 1, "CPU_REPACK": 2, "CUDA_Host": 3}) == 0
    assert on_device({"MTL0": 1, "CUDA1": 2, "CPU": 4}) == 3


def test_off_is_positive_where_too_much_was_planned() -> None:
    assert off(101, 100) == 0.01
    assert off(99, 100) == -0.01
    assert off(5, 0) is None


@pytest.fixture
def ask() -> Iterator[Loader]:
    loader = Loader()
    yield loader
    loader.end()


def test_what_llama_cpp_says_of_pocket_is_read_and_compared(ask: Loader) -> None:
    shape = text_shape(read_header(TEXT))
    load = Load(n_ctx=1000, n_batch=256, n_seq_max=2, kv_type="q8_0", n_gpu_layers=0)
    context = {"n_ctx": 1000, "n_batch": 256, "n_seq_max": 2, "kv_type": "q8_0"}
    real = ask.ask("load", path=str(TEXT), n_gpu_layers=0, mapped=False) | ask.ask("context", **context)
    assert real["kv_size"] == sum(real["kv"].values()) == pytest.approx(memory.kv(shape, 1000, "q8_0"), rel=0.01)
    assert sum(real["model"].values()) == pytest.approx(shape.n_bytes, rel=0.01)
    ask.ask("load", path=str(TEXT), n_gpu_layers=0, mapped=None)
    hollow = ask.ask("context", **context)
    assert sum(hollow["kv"].values()) == 0
    assert (hollow["kv_size"], hollow["compute"]) == (real["kv_size"], real["compute"])

    sums = {part: sum(real[part].values()) for part in ("model", "kv", "compute", "output")}
    compared = {"model": "pocket", "quant": "F16", "simulated": None} | row(shape, load, sums | {"kv": 0}, sums)
    assert worst([compared])["kv"] == {"off": -1.0, "row": "pocket F16, 1000 × q8_0, 2 sequences"}
    assert worst([compared])["model"]["off"] == 0.0
    assert "| pocket F16 | 1,000 | q8_0 | 2 |" in markdown({"rows": [compared], "worst": worst([compared])})


def test_what_a_picture_takes_is_known_without_encoding_it(ask: Loader) -> None:
    ask.ask("load", path=str(TEXT), n_gpu_layers=0, mapped=True)
    found = ask.ask("encode", path=str(MMPROJ), use_gpu=False, columns=8, rows=8)
    projector = projector_shape(read_header(MMPROJ))
    assert found["projector"]["model"] == pytest.approx(projector.n_bytes, rel=0.01)
    assert sum(found["encode"].values()) > 0


def test_a_loader_that_cannot_load_says_why_and_goes_on(ask: Loader, tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"nothing\.gguf"):
        ask.ask("load", path=str(tmp_path / "nothing.gguf"), n_gpu_layers=0, mapped=True)
    assert ask.ask("load", path=str(TEXT), n_gpu_layers=0, mapped=True)["model"]
