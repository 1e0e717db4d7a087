from pathlib import Path

import pytest

from gguf_vl import config


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing a test does reads or writes the person's own models and settings; every test starts without any."""
    for name in config.NAMES:
        monkeypatch.delenv(f"GGUF_VL_{name.upper()}", raising=False)
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("GGUF_VL_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
