"""One loaded `pocket` for a file of tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gguf_vl import Model, load


@pytest.fixture(scope="module")
def module_home(new_home: Callable[[], Path]) -> Iterator[Path]:
    folder = new_home()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GGUF_VL_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def model(module_home: Path) -> Iterator[Model]:
    with load("pocket") as model:
        yield model


@pytest.fixture
def home(module_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is learnt of the machine once is known to every test here."""
    monkeypatch.setenv("GGUF_VL_HOME", str(module_home))
    return module_home
