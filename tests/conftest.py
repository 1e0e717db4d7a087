import shutil
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

from gguf_vl import config
from gguf_vl.hardware.machine import probe
from gguf_vl.runtime.candidates import here
from gguf_vl.runtime.models import named
from gguf_vl.runtime.planning import plan_here
from gguf_vl.store.adopt import programs
from gguf_vl.types import Wishes
from tests.store.other_programs import pebble

hypothesis.settings.register_profile("no clock", deadline=None)
hypothesis.settings.load_profile("no clock")


@pytest.fixture(scope="session")
def new_home(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Makes homes in which this machine and `pocket` are known already, which takes two processes to learn."""
    first = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GGUF_VL_HOME", str(first))
        plan_here(here(named("pocket")), probe(), Wishes())

    def make() -> Path:
        folder = tmp_path_factory.mktemp("home")
        shutil.copytree(first / "cache", folder / "cache")
        return folder

    return make


@pytest.fixture(autouse=True)
def home(new_home: Callable[[], Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing a test does reads or writes the person's own models and settings; every test starts without any."""
    for name in config.NAMES:
        monkeypatch.delenv(f"GGUF_VL_{name.upper()}", raising=False)
    folder = new_home()
    monkeypatch.setenv("GGUF_VL_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A text model and its projector, of no name that is known here."""
    return pebble(tmp_path_factory.mktemp("pebble"))


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in which no other program has put anything yet."""
    folder = tmp_path / "person"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    for name in ("HF_HOME", "HF_HUB_CACHE", "OLLAMA_MODELS", "LLAMA_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(programs, "OLLAMA_OF_THE_SYSTEM", folder / "no-such-folder")
    return folder
