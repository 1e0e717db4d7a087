"""A catalogue with `tiny`, which is `pocket` under another name, a hub that publishes it, and waiting for things."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest

from gguf_vl import catalogue, paths
from gguf_vl.store.sources import HuggingFace
from tests.hub.content import Repo
from tests.hub.server import Hub

TEXT, PROJECTOR = "tiny-text-F16.gguf", "mmproj-tiny-F16.gguf"
FILES = {
    TEXT: paths.pocket_dir() / "pocket-F16.gguf",
    PROJECTOR: paths.pocket_dir() / "mmproj-pocket-F16.gguf",
}
SIZE = {name: path.stat().st_size for name, path in FILES.items()}
REPO = "someone/tiny-GGUF"


def publish_tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put `tiny` into the catalogue, with pocket's files, sizes and hashes."""
    models = dict(catalogue.load_catalogue())
    pocket = models["pocket"]
    [projector] = pocket.projectors
    mmproj = replace(projector.file, name=PROJECTOR)
    variant = replace(pocket.default, file=replace(pocket.default.file, name=TEXT), mmproj=mmproj)
    models["tiny"] = replace(
        pocket,
        name="tiny",
        title="Tiny",
        huggingface=REPO,
        revision=Repo({}).commit,
        variants=(variant,),
        projectors=(replace(projector, file=mmproj),),
        default=variant,
    )
    monkeypatch.setattr(catalogue, "load_catalogue", lambda: models)


@contextmanager
def tiny_hub(monkeypatch: pytest.MonkeyPatch, rate: int = 0) -> Iterator[Hub]:
    """The hub that has `tiny`, at `rate` bytes per second, 0 for no limit; whatever it does wrong is not slept over."""
    publish_tiny(monkeypatch)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=lambda _: None))
    with Hub({REPO: Repo(FILES)}, rate=rate) as hub:
        monkeypatch.setattr("gguf_vl.store.wishes.HuggingFace", lambda: HuggingFace(hub.url))
        yield hub


async def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Return as soon as it holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def pulling() -> list[str]:
    """The threads at work."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("pull ")]
