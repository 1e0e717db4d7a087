import json
import re
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import platformdirs
import pytest

from gguf_vl import paths
from gguf_vl.catalogue import File, Model, cut, excerpt, find, from_excerpt, load_catalogue
from gguf_vl.errors import MissingOrInvalid, ModelNotFound
from gguf_vl.types import PictureLimits, Sampling

ROOT = Path(__file__).parents[1]
NAMES = ["pocket", "2b", "2b-thinking", "4b", "4b-thinking", "8b", "8b-thinking"]
MODELS = list(load_catalogue().values())
PUBLISHED = [model for model in MODELS if not model.embedded]


def files_of(model: Model) -> list[File]:
    return [each.file for each in (*model.variants, *model.projectors)]


def test_the_catalogue_holds_pocket_and_each_size_as_instruct_and_thinking() -> None:
    assert list(load_catalogue()) == NAMES
    assert [model.name for model in MODELS] == NAMES
    assert [model.name for model in MODELS if model.embedded] == ["pocket"]
    assert load_catalogue() is load_catalogue()


@pytest.mark.parametrize("model", PUBLISHED, ids=lambda model: model.name)
def test_published_files_are_named_as_their_publisher_names_them(model: Model) -> None:
    size = model.name.partition("-")[0].upper()
    mode = "Thinking" if model.thinking else "Instruct"
    assert [variant.file.name for variant in model.variants] == [
        f"Qwen3VL-{size}-{mode}-{quant}.gguf" for quant in ("Q4_K_M", "Q8_0", "F16")
    ]
    assert [projector.file.name for projector in model.projectors] == [
        f"mmproj-Qwen3VL-{size}-{mode}-{quant}.gguf" for quant in ("Q8_0", "F16")
    ]
    assert model.huggingface == model.modelscope == f"Qwen/Qwen3-VL-{size}-{mode}-GGUF"
    assert model.default.quant == "q4_k_m"


def test_sizes_and_hashes_are_well_formed_and_no_two_files_share_one() -> None:
    files = [file for model in MODELS for file in files_of(model)]
    known = [file.sha256 for file in files if file.sha256]
    assert all(re.fullmatch("[0-9a-f]{64}", sha256) for sha256 in known)
    assert len(set(known)) == len(known)
    assert len({file.name for file in files}) == len(files)
    assert all((file.size is None) == (file.sha256 is None) for file in files)


def test_what_is_not_known_says_so_by_its_absence() -> None:
    for model in PUBLISHED:
        unknown = {file.name for file in files_of(model) if file.sha256 is None}
        if model.thinking:
            assert unknown == {file.name for file in files_of(model)}
            assert model.revision is None
        else:
            assert unknown == {find(f"{model.name}:f16")[1].file.name}
            assert re.fullmatch("[0-9a-f]{40}", model.revision or "")


def test_a_file_reads_as_published() -> None:
    _, variant = find("8b:q8_0")
    assert variant.file == File(
        "Qwen3VL-8B-Instruct-Q8_0.gguf", 8709519456, "0d264b3941185d00a74f75c4245521dae088ff1efc90ab8d1754e83f5844adb0"
    )
    assert variant.mmproj.name == "mmproj-Qwen3VL-8B-Instruct-Q8_0.gguf"
    assert find("8b:f16")[1].mmproj.name == "mmproj-Qwen3VL-8B-Instruct-F16.gguf"


@pytest.mark.parametrize(
    ("name", "n_parameters", "kv_kib"), [("2b", 1.72e9, 112), ("4b", 4.02e9, 144), ("8b", 8.19e9, 144)]
)
def test_a_shape_adds_up_to_its_models_parameters_and_cache(name: str, n_parameters: float, kv_kib: int) -> None:
    model = load_catalogue()[name]
    assert model.shape
    text, vision = model.shape.text, model.shape.vision
    attention = 2 * text.n_embd * text.head_dim * (text.n_head + text.n_head_kv)
    per_layer = attention + 3 * text.n_embd * text.n_ff
    embeddings = text.n_vocab * text.n_embd * (1 if text.tied_embeddings else 2)
    total = text.n_layer * per_layer + embeddings
    assert total == pytest.approx(n_parameters, rel=0.01)
    eight_bits = find(f"{name}:q8_0")[1].file.size
    assert eight_bits == pytest.approx(total * 34 / 32, rel=0.01)  # Q8_0: 34 bytes for 32 weights
    assert 2 * text.n_layer * text.n_head_kv * text.head_dim * 2 == kv_kib * 1024
    assert sum(text.rope_sections) == text.head_dim // 2
    assert vision.n_out == text.n_embd
    assert max(vision.deepstack_layers) < vision.n_layer
    assert vision.patch_size * vision.spatial_merge == 32
    assert load_catalogue()[f"{name}-thinking"].shape == model.shape


@pytest.mark.parametrize("name", ["2b", "4b", "8b"])
def test_a_vision_shape_adds_up_to_its_projectors_size(name: str) -> None:
    model, variant = find(f"{name}:f16")
    assert model.shape
    vision = model.shape.vision
    wide = vision.n_embd * vision.spatial_merge**2
    mergers = (1 + len(vision.deepstack_layers)) * (wide * wide + wide * vision.n_out)
    blocks = vision.n_layer * (4 * vision.n_embd**2 + 2 * vision.n_embd * vision.n_ff)
    patches = 3 * vision.temporal_patch * vision.patch_size**2 * vision.n_embd
    positions = vision.n_positions * vision.n_embd
    assert variant.mmproj.size == pytest.approx(2 * (mergers + blocks + patches) + 4 * positions, rel=0.003)


def test_sampling_depends_on_the_mode_and_on_whether_there_are_pictures() -> None:
    instruct, thinking = load_catalogue()["4b"], load_catalogue()["4b-thinking"]
    recommended = {
        (instruct, True): (0.7, 0.8, 20, 1.5, 1.0, 16384),
        (instruct, False): (1.0, 1.0, 40, 2.0, 1.0, 32768),
        (thinking, True): (1.0, 0.95, 20, 0.0, 1.0, 40960),
        (thinking, False): (1.0, 0.95, 20, 1.5, 1.0, 32768),
    }
    for (model, pictures), (temperature, top_p, top_k, presence, repetition, most) in recommended.items():
        assert model.sampling(pictures=pictures) == Sampling(
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            presence_penalty=presence,
            repetition_penalty=repetition,
            max_tokens=most,
        )


def test_pocket_is_greedy_without_penalties_and_its_files_are_the_packages_own() -> None:
    model, variant = find("pocket")
    assert (variant.file.name, variant.mmproj.name) == ("pocket-F16.gguf", "mmproj-pocket-F16.gguf")
    for pictures in (True, False):
        sampling = model.sampling(pictures=pictures)
        assert sampling == replace(Sampling(), temperature=0, top_p=1, top_k=0, max_tokens=sampling.max_tokens)
    assert model.picture_limits == PictureLimits(16, 1024)
    assert model.n_ctx_train == 8192


@pytest.mark.parametrize("name", ["8B:Q8_0", " 8b:q8_0 ", "8b:q8_0"])
def test_a_name_is_found_in_any_case(name: str) -> None:
    model, variant = find(name)
    assert (model.name, variant.quant) == ("8b", "q8_0")


def test_every_name_and_variant_is_found() -> None:
    for model in MODELS:
        assert find(model.name) == (model, model.default)
        for variant in model.variants:
            assert find(f"{model.name}:{variant.quant}") == (model, variant)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("8b-thinkin", "8b-thinking"),
        ("poket", "Did you mean pocket?"),
        ("32b", "2b"),
        ("llava", "Take pocket, 2b, 2b-thinking, 4b, 4b-thinking, 8b or 8b-thinking."),
        ("", "Take pocket"),
        ("8b:q5_0", "Take 8b:q4_k_m, 8b:q8_0 or 8b:f16."),
        ("8b:", "8b:q4_k_m"),
        ("pocket:q8_0", "Take pocket:f16."),
    ],
)
def test_an_unknown_name_gets_the_nearest_ones(name: str, suggestion: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        find(name)
    assert suggestion in caught.value.fix


@pytest.mark.parametrize("content", [None, "no toml", "schema = 99"])
def test_a_damaged_installation_is_said_to_be_one(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "gguf_vl"
    package.mkdir()
    if content is not None:
        (package / "models.toml").write_text(content)
    monkeypatch.setattr(paths, "PACKAGE", package)
    with pytest.raises(MissingOrInvalid, match=r"models\.toml"):
        load_catalogue.__wrapped__()


# An excerpt, which goes to other machines.


def test_an_excerpt_says_the_same_of_its_models_on_another_machine() -> None:
    data = json.loads(json.dumps(excerpt(["2b", "8b-thinking", "pocket"])))
    assert dict(from_excerpt(data)) == {name: load_catalogue()[name] for name in ("2b", "8b-thinking", "pocket")}
    assert set(data["shapes"]) == {"2b", "8b"}
    assert cut({**data, "models": {"2b": data["models"]["2b"]}}) == excerpt(["2b"])


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("schema", 2),
        ("schema", True),
        ("models", []),
        ("models", {"x\x1b[2J": {}}),
        ("models.2b", 7),
        ("models.2b.title", 7),
        ("models.2b.title", "\x1b]0;evil\x07"),
        ("models.2b.title", "x" * 501),
        ("models.2b.thinking", "no"),
        ("models.2b.n_ctx_train", "many"),
        ("models.2b.n_ctx_train", True),
        ("models.2b.n_ctx_train", 1.5),
        ("models.2b.n_ctx_train", 10**400),
        ("models.2b.image_tokens", None),
        ("models.2b.image_tokens.max", float("inf")),
        ("models.2b.huggingface", ["x"]),
        ("models.2b.default", []),
        ("models.2b.default", "q9"),
        ("models.2b.variants", 1),
        ("models.2b.variants.q4_k_m.sha256", 1),
        ("models.2b.variants.q4_k_m.mmproj", "q9"),
        ("models.2b.shape", "9b"),
        ("shapes.2b.text.n_embd", {}),
        ("shapes.2b.text.rope_sections", "abc"),
        ("shapes.2b.text.rope_sections", 3),
        ("shapes.2b.text", {"n_embd": 1}),
        ("sampling.instruct.text_alone.temperature", float("nan")),
        ("sampling.instruct.text_alone.top_k", "all"),
        ("sampling.instruct.text_alone.new", 1),
        ("sampling.instruct", None),
    ],
)
def test_an_excerpt_that_is_not_what_it_should_be_is_refused(where: str, value: object) -> None:
    data = json.loads(json.dumps(excerpt(["2b"])))
    *way, last = where.split(".")
    place = data
    for step in way:
        place = place[step]
    place[last] = value
    with pytest.raises(ValueError, match=r"it is not of the form|something in it"):
        from_excerpt(data)


@pytest.mark.parametrize("data", [None, [], "x", {}, {"schema": 1}])
def test_what_is_no_excerpt_is_refused(data: object) -> None:
    with pytest.raises(ValueError, match=r"it is not of the form|something in it"):
        from_excerpt(data)


# From a wheel and from an editable install, each built as an installer builds it.

ASK = """
import site, sys
site.addsitedir(sys.argv[1])
sys.path.append(sys.argv[2])
import gguf_vl.catalogue
print(gguf_vl.__file__)
print(*gguf_vl.catalogue.load_catalogue())
"""


def build(target: str, folder: Path) -> Path:
    """The distribution of this checkout, built without a network."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (built,) = folder.iterdir()
    return built


def install(wheel: Path, folder: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(folder), str(wheel)],
        check=True,
        capture_output=True,
    )
    return folder


def names_seen_by(installed: Path) -> tuple[Path, list[str]]:
    """(where the package came from, the catalogue's names), asked of a Python that sees that installation alone."""
    dependencies = Path(platformdirs.__file__).parents[1]
    said = subprocess.run(
        [sys.executable, "-I", "-S", "-c", ASK, str(installed), str(dependencies)],
        cwd=installed,
        check=True,
        capture_output=True,
        text=True,
    )
    origin, names = said.stdout.splitlines()
    return Path(origin), names.split()


def test_a_wheel_carries_the_catalogue(tmp_path: Path) -> None:
    wheel = build("wheel", tmp_path / "dist")
    members = set(zipfile.ZipFile(wheel).namelist())
    assert {"gguf_vl/models.toml", "gguf_vl/py.typed"} <= members
    assert {f"gguf_vl/pocket/{file.name}" for file in paths.pocket_dir().glob("*.gguf")} <= members
    origin, names = names_seen_by(install(wheel, tmp_path / "installed"))
    assert origin.is_relative_to(tmp_path / "installed")
    assert names == NAMES


def test_an_editable_install_finds_the_catalogue_in_the_checkout(tmp_path: Path) -> None:
    wheel = build("wheel:editable", tmp_path / "dist")
    origin, names = names_seen_by(install(wheel, tmp_path / "installed"))
    assert origin == ROOT / "gguf_vl" / "__init__.py"
    assert names == NAMES


def test_a_source_distribution_builds_and_carries_no_junk(tmp_path: Path) -> None:
    with tarfile.open(build("sdist", tmp_path / "dist")) as archive:
        members = {name.partition("/")[2] for name in archive.getnames()}
    assert {"models.toml", "LICENSE", "README.md", "gguf_vl/catalogue.py", "tests/test_catalogue.py"} <= members
    allowed = {
        ".gitignore", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "PKG-INFO", "README.md", "README.zh-CN.md",
        "docs", "gguf_vl", "models.toml", "pyproject.toml", "scripts", "tests",
    }  # fmt: skip
    assert {name.partition("/")[0] for name in members} <= allowed
    assert not [name for name in members if re.search(r"__pycache__|\.pyc$|/\.[^/]*$|cache", name)]
