from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from huggingface_hub import close_session, constants, file_download
from huggingface_hub.utils import _http

from tests.hub.client import FILES, REPO
from tests.hub.server import Hub, Repo


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub with a repository for everybody, a gated one, and one that wants the token `hf_mine`."""
    repos = {REPO: Repo(FILES), "qwen/gated": Repo(FILES, gated=True), "qwen/mine": Repo(FILES, token="hf_mine")}
    with Hub(repos) as hub:
        yield hub


@pytest.fixture(autouse=True)
def naps(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The real client over plain HTTP, with no proxy, and the seconds that it would have slept, unslept."""
    naps: list[float] = []
    monkeypatch.setattr(file_download, "time", SimpleNamespace(sleep=naps.append))
    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=naps.append))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield naps
    close_session()
