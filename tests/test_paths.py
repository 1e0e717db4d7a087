from pathlib import Path

import pytest

from gguf_vl import paths


def test_gguf_vl_home_holds_everything_this_program_writes(home: Path) -> None:
    assert paths.data_dir() == home
    assert paths.models_dir() == home / "models"
    assert paths.config_file() == home / "config.toml"


def test_gguf_vl_home_may_begin_with_a_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("GGUF_VL_HOME", "~/vision")
    assert paths.config_file() == tmp_path / "vision" / "config.toml"


def test_a_relative_gguf_vl_home_is_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GGUF_VL_HOME", "here")
    assert paths.data_dir() == tmp_path / "here"


@pytest.mark.parametrize("empty", [None, ""])
def test_without_it_the_platforms_own_folders_are_used(monkeypatch: pytest.MonkeyPatch, empty: str | None) -> None:
    monkeypatch.delenv("GGUF_VL_HOME") if empty is None else monkeypatch.setenv("GGUF_VL_HOME", empty)
    assert paths.data_dir().name == "gguf_vl"
    assert paths.config_file().name == "config.toml"
    assert paths.config_file().parent.name == "gguf_vl"


def test_pocket_lies_inside_the_package() -> None:
    assert paths.pocket_dir().parent == Path(paths.__file__).parent
