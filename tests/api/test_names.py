"""The library's names: listed once, documented, typed, and free until they are used."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import pytest

import gguf_vl
from gguf_vl import AskSettings, LoadSettings, config
from tests.api.given import run


def public_things() -> Iterator[tuple[str, object]]:
    """Every public function, class, method and property, by its full name."""
    for name in gguf_vl.__all__:
        thing = getattr(gguf_vl, name)
        if not inspect.isclass(thing) and not inspect.isfunction(thing):
            continue  # a type alias
        yield name, thing
        for member, value in vars(thing).items() if inspect.isclass(thing) else ():
            value = value.fget if isinstance(value, property) else value
            if inspect.isfunction(value) and not member.startswith("_"):
                yield f"{name}.{member}", value


@pytest.mark.parametrize(("name", "thing"), list(public_things()), ids=[name for name, _ in public_things()])
def test_every_public_name_has_a_docstring_and_full_type_hints(name: str, thing: object) -> None:
    assert (inspect.getdoc(thing) or "").endswith(".")
    hints = get_type_hints(thing)
    if inspect.isfunction(thing):
        assert set(hints) == {*inspect.signature(thing).parameters, "return"} - {"self"}


def test_the_names_are_listed_once_and_are_those_that_the_library_gives() -> None:
    from gguf_vl import api

    own = {name for name, value in vars(api).items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert own == set(gguf_vl.__all__)
    tree = ast.parse(Path(gguf_vl.__file__).read_text(encoding="utf-8"))
    told = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "gguf_vl.api"
        for alias in node.names
    ]
    assert sorted(told) == sorted(gguf_vl.__all__)  # what a type checker sees
    assert set(gguf_vl.__all__) <= set(dir(gguf_vl))
    assert Path(gguf_vl.__file__).with_name("py.typed").exists()


def test_what_may_be_set_is_what_the_settings_and_requests_have() -> None:
    elsewhere = {"model", "offline", "theme", "pictures", "keys"}
    assert set(LoadSettings.__annotations__) == set(config.NAMES) - elsewhere
    assert set(AskSettings.__annotations__) - set(config.NAMES) == {"schema", "stop", "thinking_budget", "frames"}


def test_importing_the_package_imports_nothing_of_it_and_the_library_nothing_heavy(home: Path) -> None:
    done = run(
        """
        import sys
        import gguf_vl
        print([name for name in sys.modules if name.startswith("gguf_vl.")])
        from gguf_vl import load
        heavy = "PIL numpy llama_cpp huggingface_hub textual fastapi typer jinja2 pypdfium2 httpx".split()
        print([name for name in heavy if name in sys.modules])
        """,
        home=home,
    )
    assert (done.stdout, done.stderr) == ("[]\n[]\n", "")


def test_there_is_no_other_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lood'"):
        gguf_vl.lood  # noqa: B018
