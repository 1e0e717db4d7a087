"""No room knows what stands to its right: DESIGN's picture as data, and every import of the package held against it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "gguf_vl"
SOURCE = Path(__file__).parents[1] / PACKAGE

# errors · types · paths · config: every room may import these; among themselves, each those before it.
FOUNDATIONS = ("errors", "types", "paths", "config")

# catalogue ─┬────────────► store ──┐
# gguf ──────┴─► fit ───────────────┤
# native ─┬────► hardware ──────────┼─► runtime ──► tasks ─┬──────────┬─► server | tui | cli | api.py
# media ──┴────► engine ────────────┘                      └─► chat ──┘
#
# A room and the arrows that arrive at it. What is left of those is allowed too.
ARROWS: dict[str, tuple[str, ...]] = {
    "catalogue": (),
    "gguf": (),
    "native": (),
    "media": (),
    "store": ("catalogue", "gguf"),
    "fit": ("catalogue", "gguf"),
    "hardware": ("native", "media"),
    "engine": ("native", "media"),
    "runtime": ("store", "fit", "hardware", "engine"),
    "tasks": ("runtime",),
    "chat": ("tasks",),
    "server": ("tasks", "chat"),
    "tui": ("tasks", "chat"),
    "cli": ("tasks", "chat", "server", "tui"),  # beside the picture: `gguf-vl serve` and `gguf-vl chat` start those
    "api": ("tasks", "chat"),
    # The package's own face and its `python -m` door.
    "__init__": ("api",),
    "__main__": ("cli",),
}

# Libraries that one room alone may import.
OWNED = {"llama_cpp": "native"}


def left_of(room: str) -> set[str]:
    """Every room of the package that `room` may import, besides itself."""
    if room in FOUNDATIONS:
        return set(FOUNDATIONS[: FOUNDATIONS.index(room)])
    found = set(FOUNDATIONS)
    for neighbour in ARROWS[room]:
        found |= {neighbour} | left_of(neighbour)
    return found


def forbidden_imports(source: Path) -> list[str]:
    """One line for every import under `source`, a package named gguf_vl, that the picture does not allow."""
    return [
        f"{path.relative_to(source)}:{line}: {complaint}"
        for path in sorted(source.rglob("*.py"))
        for line, name in _imports(path, source)
        if (complaint := _complaint(_room(path.relative_to(source).parts), name, source))
    ]


def _room(parts: tuple[str, ...]) -> str:
    return parts[0].removesuffix(".py")


def _complaint(room: str, name: str, source: Path) -> str | None:
    if room not in ARROWS and room not in FOUNDATIONS:
        return f"the room {room} is not in DESIGN's picture"
    top, _, rest = name.partition(".")
    if top != PACKAGE:
        owner = OWNED.get(top)
        return f"{room} imports {top}, which only {owner} may" if owner and owner != room else None
    target = rest.partition(".")[0]
    if not (source / target).is_dir() and not (source / f"{target}.py").is_file():
        return None  # a name of the package itself, such as __version__
    if not target or target == room or target in left_of(room):
        return None
    return f"{room} imports {target}, which is not left of it"


def _imports(path: Path, source: Path) -> Iterator[tuple[int, str]]:
    """(line, full dotted name) of every import in the file, those in functions, for types only and by name too."""
    package = (PACKAGE, *path.relative_to(source).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        match node:
            case ast.Import():
                yield from ((node.lineno, alias.name) for alias in node.names)
            case ast.ImportFrom():
                base = package[: len(package) - node.level + 1] if node.level else ()
                whence = ".".join([*base, *([node.module] if node.module else [])])
                yield from ((node.lineno, f"{whence}.{alias.name}") for alias in node.names)
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield node.lineno, name


def test_no_module_imports_what_design_does_not_allow() -> None:
    assert forbidden_imports(SOURCE) == []


def test_every_module_is_read() -> None:
    read = {_room(path.relative_to(SOURCE).parts) for path in SOURCE.rglob("*.py")}
    assert {*FOUNDATIONS, "catalogue", "native", "engine", "runtime", "cli"} <= read


def test_the_picture_has_no_way_back() -> None:
    for room in ARROWS:
        assert room not in left_of(room)


def test_what_is_left_of_a_room_is_what_the_picture_shows() -> None:
    assert left_of("errors") == set()
    assert left_of("config") == {"errors", "types", "paths"}
    assert left_of("native") == set(FOUNDATIONS)
    assert left_of("engine") == {*FOUNDATIONS, "native", "media"}
    assert left_of("store") == {*FOUNDATIONS, "catalogue", "gguf"}
    assert left_of("server") == left_of("tui") == left_of("cli") - {"server", "tui"}
    assert left_of("cli") == set(ARROWS) - {"cli", "api", "__init__", "__main__"} | set(FOUNDATIONS)


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("native/model.py", "from gguf_vl.engine import client"),
        ("native/model.py", "from gguf_vl import engine"),
        ("native/model.py", "import gguf_vl.engine.client as client"),
        ("native/model.py", "from ..engine import client"),
        ("native/model.py", "from .. import engine"),
        ("native/deep/down.py", "from ...engine import client"),
        ("native/__init__.py", "from ..engine import client"),
        ("native/model.py", "def f():\n    from gguf_vl.engine import client"),
        ("native/model.py", "if TYPE_CHECKING:\n    from gguf_vl.engine import client"),
        ("native/model.py", "importlib.import_module('gguf_vl.engine.client')"),
        ("native/model.py", "__import__('gguf_vl.engine')"),
        ("native/model.py", "from gguf_vl.engine import *"),
        ("native/model.py", "import os, gguf_vl.engine"),
        ("native/model.py", "from gguf_vl import catalogue"),
        ("catalogue.py", "from .gguf import header"),
        ("engine/fake.py", "from gguf_vl.hardware import machine"),
        ("engine/fake.py", "from gguf_vl.catalogue import find"),
        ("store/library.py", "from gguf_vl.media import pictures"),
        ("errors.py", "from gguf_vl import types"),
        ("types.py", "from . import paths"),
        ("config.py", "from gguf_vl.catalogue import find"),
        ("runtime/engines.py", "from gguf_vl.cli import app"),
        ("cli/ask.py", "from gguf_vl.api import load"),
        ("server/app.py", "from gguf_vl.tui import app"),
        ("__init__.py", "from gguf_vl.cli import main"),
        ("engine/worker.py", "import llama_cpp"),
        ("cli/doctor.py", "def f():\n    from llama_cpp.llama_cpp import llama_decode"),
        ("elsewhere.py", "import os"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path: Path, module: str, line: str) -> None:
    assert len(forbidden_imports(a_package_with(tmp_path, module, line))) == 1


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("native/model.py", "import llama_cpp"),
        ("native/model.py", "from llama_cpp import mtmd_cpp"),
        ("native/model.py", "from . import log"),
        ("native/model.py", "from .log import hush"),
        ("native/model.py", "from gguf_vl.errors import EngineError"),
        ("engine/worker.py", "from gguf_vl.native import model"),
        ("engine/worker.py", "from ..media import pictures"),
        ("runtime/engines.py", "from gguf_vl.native import devices"),
        ("cli/ask.py", "from gguf_vl import __version__, catalogue, media"),
        ("cli/ask.py", "import gguf_vl"),
        ("config.py", "from gguf_vl import paths"),
        ("errors.py", "import gguf"),
        ("errors.py", "text = 'from gguf_vl.engine import client'  # import gguf_vl.engine"),
        ("__main__.py", "from gguf_vl.cli import main"),
        ("__init__.py", "def load(): from gguf_vl.api import load"),
    ],
)
def test_an_allowed_import_is_let_through(tmp_path: Path, module: str, line: str) -> None:
    assert forbidden_imports(a_package_with(tmp_path, module, line)) == []


def a_package_with(folder: Path, module: str, line: str) -> Path:
    """A gguf_vl with every room empty, but for one line in one module."""
    source = folder / PACKAGE
    for room in (*ARROWS, *FOUNDATIONS):
        alone = (source / room).with_suffix(".py")
        file = alone if (SOURCE / f"{room}.py").is_file() or room in ("__init__", "__main__", "api") else None
        file = file or source / room / "__init__.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    path = source / module
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{line}\n")
    return source
