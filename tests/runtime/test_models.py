"""A name becomes files, limits and sampling."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gguf_vl import paths
from gguf_vl.config import load_settings
from gguf_vl.errors import ModelNotFound
from gguf_vl.hardware.machine import probe
from gguf_vl.runtime.models import Installed, named
from gguf_vl.runtime.planning import plan_chosen
from gguf_vl.types import PictureLimits, Sampling

TEXT = paths.pocket_dir() / "pocket-F16.gguf"
PROJECTOR = paths.pocket_dir() / "mmproj-pocket-F16.gguf"


def choose(**flags: object) -> Installed:
    return plan_chosen(load_settings(flags), probe())[0]


def test_pocket_is_used_when_nothing_else_is_here() -> None:
    chosen = choose()
    assert (chosen.name, chosen.limits) == ("pocket", PictureLimits(16, 1024))
    assert "drawn shapes" in chosen.why


def test_the_largest_installed_model_that_sees_is_used_before_pocket() -> None:
    larger = paths.models_dir() / "mine"
    larger.mkdir(parents=True)
    for file in (TEXT, PROJECTOR):
        shutil.copy(file, larger)
    with (larger / TEXT.name).open("ab") as grown:
        grown.write(b"\0" * 4096)
    assert choose().name == "mine"
    assert choose(model="pocket").name == "pocket"


def test_a_quantisation_may_be_named_too() -> None:
    assert named("POCKET:F16").name == "pocket"


def test_pocket_is_greedy_and_unpunished_unless_asked_otherwise() -> None:
    pocket = named("pocket")
    plain = pocket.sampling(load_settings({}), pictures=True)
    assert (plain.temperature, plain.presence_penalty, plain.repetition_penalty) == (0.0, 0.0, 1.0)
    warm = pocket.sampling(load_settings({"temperature": 0.5, "top_k": 3, "seed": 1}), pictures=True)
    assert (warm.temperature, warm.top_k, warm.seed) == (0.5, 3, 1)


def test_published_files_get_their_publishers_sampling_by_name(tmp_path: Path) -> None:
    published = tmp_path / "Qwen3VL-2B-Instruct-Q4_K_M.gguf"
    shutil.copy(TEXT, published)
    model = named(str(published))
    seeing, reading = (model.sampling(load_settings({}), pictures=pictures) for pictures in (True, False))
    assert (seeing.temperature, seeing.top_p, seeing.top_k, seeing.presence_penalty) == (0.7, 0.8, 20, 1.5)
    assert (reading.temperature, reading.top_k, reading.presence_penalty) == (1.0, 40, 2.0)
    greedy = model.sampling(load_settings({"temperature": 0.0}), pictures=True)
    assert greedy.presence_penalty == 0.0


def test_an_unknown_model_gets_plain_defaults(tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.gguf"
    shutil.copy(TEXT, stranger)
    assert named(str(stranger)).sampling(load_settings({}), pictures=True) == Sampling()


@pytest.mark.parametrize(
    ("name", "says"), [("2b", "not on this machine"), ("2c", "no model '2c'"), ("x.gguf", "x.gguf")]
)
def test_a_model_that_is_not_here_is_said_to_be_so(name: str, says: str) -> None:
    with pytest.raises(ModelNotFound, match=says):
        named(name)
