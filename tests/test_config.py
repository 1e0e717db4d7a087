import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_vl import paths
from gguf_vl.config import NAMES, Settings, check_key, load_settings, set_setting, with_origins
from gguf_vl.errors import UsageError


@pytest.fixture
def config_file(home: Path) -> Path:
    return home / "config.toml"


def test_with_nothing_set_the_defaults_hold() -> None:
    assert load_settings({}) == Settings()
    assert set(NAMES) == set(Settings.__slots__)
    assert {each.origin for each in with_origins({}).values()} == {"default"}


def test_where_no_folder_can_hold_a_settings_file_the_defaults_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GGUF_VL_HOME", str(tmp_path / "file"))
    assert load_settings({}) == Settings()
    with pytest.raises(UsageError, match="cannot be written") as caught:
        set_setting("ctx", "1000")
    assert "GGUF_VL_HOME" in caught.value.fix


def test_flags_win_over_environment_over_file_over_defaults(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config_file.write_text("ctx = 1000\nseed = 1\ntop_k = 10\n")
    monkeypatch.setenv("GGUF_VL_CTX", "2000")
    monkeypatch.setenv("GGUF_VL_SEED", "2")
    flags = {"ctx": 3000, "temperature": None}
    settings = load_settings(flags)
    assert (settings.ctx, settings.seed, settings.top_k, settings.temperature) == (3000, 2, 10, None)
    origins = {name: each.origin for name, each in with_origins(flags).items()}
    assert origins["ctx"] == "--ctx"
    assert origins["seed"] == "GGUF_VL_SEED"
    assert origins["top_k"] == str(config_file)
    assert origins["temperature"] == "default"


def test_every_setting_is_read_from_file_and_environment_alike(config_file: Path) -> None:
    written = {
        "model": "8b:q8_0",
        "mmproj": "/models/mmproj.gguf",
        "ctx": 4096,
        "gpu_layers": -1,
        "kv_type": "q8_0",
        "parallel": 4,
        "image_max_tokens": 1024,
        "mmproj_offload": False,
        "reserve": "1.5G",
        "disk_cache": "2G",
        "proof": False,
        "idle_unload": 300,
        "threads": 4,
        "detail": "high",
        "max_tokens": 100,
        "temperature": 0,
        "top_p": 0.5,
        "top_k": 0,
        "seed": 7,
        "system": "Be brief.",
        "offline": True,
        "theme": "nord",
        "pictures": "sixel",
    }
    assert {*written, "keys"} == set(NAMES)
    config_file.write_text("\n".join(f"{name} = {json.dumps(value)}" for name, value in written.items()))
    from_file = load_settings({}, environment={})
    variables = {f"GGUF_VL_{name.upper()}": str(value) for name, value in written.items()}
    assert load_settings({}, environment=variables, file=None) == from_file
    assert from_file.mmproj == Path("/models/mmproj.gguf")
    assert from_file.reserve == 3 << 29
    assert from_file.temperature == 0.0
    assert isinstance(from_file.temperature, float)


def test_a_table_is_read_from_file_and_environment_alike(config_file: Path) -> None:
    config_file.write_text('[keys]\nstop = "f8"\nnew_chat = "ctrl+n,f9"\n')
    from_file = load_settings({}, environment={})
    assert from_file.keys == {"stop": "f8", "new_chat": "ctrl+n,f9"}
    assert load_settings({}, environment={"GGUF_VL_KEYS": "stop=f8"}, file=None).keys == {"stop": "f8"}
    with pytest.raises(UsageError, match="a table"):
        load_settings({}, environment={"GGUF_VL_KEYS": "f8"}, file=None)
    config_file.write_text("[keys]\nstop = 8\n")
    with pytest.raises(UsageError, match="a table"):
        load_settings({}, environment={})


def test_an_empty_variable_is_not_set() -> None:
    assert load_settings({}, environment={"GGUF_VL_MODEL": "", "GGUF_VL_CTX": ""}).model is None


def test_the_callers_can_leave_out_file_and_environment(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config_file.write_text("this is not TOML")
    monkeypatch.setenv("GGUF_VL_CTX", "what")
    assert load_settings({}, environment={}, file=None) == Settings()


def test_a_tilde_in_a_path_is_the_home_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    settings = load_settings({"model": "~/a.gguf", "mmproj": "~/b.gguf", "system": "~ means about"})
    assert (settings.model, settings.mmproj) == (str(tmp_path / "a.gguf"), tmp_path / "b.gguf")
    assert settings.system == "~ means about"


def test_an_empty_system_prompt_can_take_the_configured_one_away(config_file: Path) -> None:
    config_file.write_text("system = 'Be brief.'")
    assert load_settings({"system": ""}).system == ""


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("4G", 4 << 30), ("4 GiB", 4 << 30), ("512M", 512 << 20), ("1.5gb", 3 << 29), ("2048", 2048), ("0", 0)],
)
def test_a_size_is_written_as_people_write_it(text: str, n_bytes: int) -> None:
    assert load_settings({"reserve": text}, environment={}, file=None).reserve == n_bytes


@pytest.mark.parametrize(
    ("line", "found", "expected"),
    [
        ("ctx = '4096'", "'4096'", "a whole number from 256 to 1048576"),
        ("ctx = 4096.0", "4096.0", "a whole number"),
        ("ctx = true", "True", "a whole number"),
        ("ctx = 16", "16", "from 256"),
        ("[ctx]", "{}", "a whole number"),
        ("gpu_layers = -2", "-2", "from -1"),
        ("temperature = 2.5", "2.5", "a number from 0 to 2"),
        ("temperature = nan", "nan", "a number from 0 to 2"),
        ("top_p = inf", "inf", "a number from 0 to 1"),
        ("kv_type = 'q5_0'", "'q5_0'", "f16, q8_0 or q4_0"),
        ("reserve = '4 apples'", "'4 apples'", "a size in bytes"),
        ("reserve = -1", "-1", "a size in bytes"),
        ("detail = ['low']", "['low']", "low, auto or high"),
        ("model = 8", "8", "text"),
        ("mmproj = ''", "''", "the path of a file"),
        ("seed = 4294967295", "4294967295", "to 4294967294"),
    ],
)
def test_a_value_that_cannot_be_names_file_key_found_and_expected(
    config_file: Path, line: str, found: str, expected: str
) -> None:
    config_file.write_text(line)
    with pytest.raises(UsageError) as caught:
        load_settings({})
    key = line.strip("[]").split()[0]
    for part in (str(config_file), key, found, expected):
        assert part in caught.value.what
    assert expected in caught.value.fix


def test_a_bad_variable_and_a_bad_flag_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="--gpu-layers is -5"):
        load_settings({"gpu_layers": -5})
    monkeypatch.setenv("GGUF_VL_CTX", "lots")
    with pytest.raises(UsageError, match="GGUF_VL_CTX is 'lots'"):
        load_settings({})


def test_an_unknown_key_gets_the_nearest_one_suggested(config_file: Path) -> None:
    config_file.write_text("tempratur = 1")
    with pytest.raises(UsageError) as caught:
        load_settings({})
    assert "tempratur" in caught.value.what
    assert str(config_file) in caught.value.what
    assert caught.value.fix == "Did you mean temperature?"
    with pytest.raises(UsageError) as caught:
        check_key("zzz")
    assert all(name in caught.value.fix for name in NAMES)


@pytest.mark.parametrize("content", [b"model = ", b"\xff\xfe", b"a = 1\na = 2"])
def test_a_file_that_is_not_toml_is_named_with_what_is_wrong(config_file: Path, content: bytes) -> None:
    config_file.write_bytes(content)
    with pytest.raises(UsageError, match=r"config\.toml are not (TOML|UTF-8)"):
        load_settings({})
    with pytest.raises(UsageError):
        set_setting("ctx", "4096")
    assert config_file.read_bytes() == content


def test_a_file_that_cannot_be_read_is_named(config_file: Path) -> None:
    config_file.mkdir()
    with pytest.raises(UsageError, match="cannot be read"):
        load_settings({})


def test_set_makes_the_file_and_its_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GGUF_VL_HOME", str(home / "not" / "yet"))
    file = set_setting("ctx", "4096")
    assert file == home / "not" / "yet" / "config.toml"
    set_setting("temperature", "0.5")
    set_setting("model", "8b")
    assert tomllib.loads(file.read_text()) == {"ctx": 4096, "temperature": 0.5, "model": "8b"}
    assert os.listdir(file.parent) == ["config.toml"]


def test_set_keeps_comments_order_and_layout(config_file: Path) -> None:
    config_file.write_text("# mine\nctx = 1000  # small\n\n\nmodel = '8b'\n")
    set_setting("ctx", "2000")
    set_setting("seed", "3")
    assert config_file.read_text() == "# mine\nctx = 2000  # small\n\n\nmodel = '8b'\nseed = 3\n"


def test_setting_the_empty_text_goes_back_to_the_default(config_file: Path) -> None:
    config_file.write_text("# mine\nctx = 1000\n")
    set_setting("ctx", "")
    set_setting("seed", "")
    assert config_file.read_text() == "# mine\n"


def test_set_mends_a_bad_value_and_refuses_to_write_one(config_file: Path) -> None:
    config_file.write_text("ctx = 'lots'\n")
    with pytest.raises(UsageError, match="ctx is 1, which is not"):
        set_setting("ctx", "1")
    with pytest.raises(UsageError, match="no setting 'ctxx'"):
        set_setting("ctxx", "4096")
    set_setting("ctx", "4096")
    assert load_settings({}).ctx == 4096


def test_set_writes_through_a_link_and_keeps_the_files_mode(config_file: Path, tmp_path: Path) -> None:
    kept = tmp_path / "dotfiles.toml"
    kept.write_text("seed = 1\n")
    kept.chmod(0o600)
    config_file.symlink_to(kept)
    set_setting("seed", "2")
    assert config_file.is_symlink()
    assert kept.read_text() == "seed = 2\n"
    assert kept.stat().st_mode & 0o777 == 0o600


def test_a_failed_write_leaves_the_old_file_whole(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config_file.write_text("seed = 1\n")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="No space left"):
        set_setting("seed", "2")
    assert config_file.read_text() == "seed = 1\n"
    assert set(os.listdir(config_file.parent)) == {"cache", "config.toml"}


@given(text=st.text(st.characters(codec="utf-8"), min_size=1))
def test_any_text_comes_back_from_the_file_as_it_was_set(text: str) -> None:
    file = set_setting("system", text)
    assert load_settings({}, environment={}, file=file).system == text


LINES = st.sampled_from(
    ["", "# mine", "a = 1  # one", "b.c = 'x'", "[t]", "[t.u]", "[[v]]", "ctx = 512", "'d' = \"\"", "e = {f = 1}"]
)


@given(lines=st.lists(LINES), newline=st.sampled_from(["\n", "\r\n"]), end=st.booleans(), bom=st.booleans())
def test_set_changes_one_key_of_any_toml_there_is(lines: list[str], newline: str, end: bool, bom: bool) -> None:
    before = newline.join(lines) + newline * end
    try:
        old = tomllib.loads(before)
    except tomllib.TOMLDecodeError:
        return
    file = paths.config_file()
    file.write_bytes(before.encode("utf-8-sig" if bom else "utf-8"))
    set_setting("ctx", "4096")
    after = file.read_bytes().decode()
    assert tomllib.loads(after) == old | {"ctx": 4096}
    assert after.count("# mine") == before.count("# mine")


def test_reading_the_settings_imports_nothing_heavy() -> None:
    code = "import sys, gguf_vl.config as c; c.load_settings({}); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"tomlkit", "numpy", "llama_cpp", "PIL", "typer", "asyncio"} & set(loaded)
