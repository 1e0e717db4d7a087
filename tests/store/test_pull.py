"""From a name to a verified model in `models/`, from local hubs that misbehave."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from gguf_vl import catalogue, paths
from gguf_vl.errors import GgufVlError, InvalidModelFile, ModelNotFound, Unreachable, UsageError, VerificationFailed
from gguf_vl.store import library
from gguf_vl.store.library import LocalModel
from gguf_vl.store.progress import Silent
from gguf_vl.store.pull import pull, to_fetch
from gguf_vl.store.sources import HuggingFace, RemoteFile
from gguf_vl.store.wishes import Wanted, plan
from tests.hub.content import Repo
from tests.hub.faults import Answer, Cut, Flip, HangUp
from tests.hub.modelscope import ModelScope
from tests.hub.server import Hub

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from make_synthetic import write_projector

POCKET = paths.pocket_dir()
TEXT, PROJECTOR = "tiny-text-F16.gguf", "mmproj-tiny-F16.gguf"
OF_POCKET = {TEXT: POCKET / "pocket-F16.gguf", PROJECTOR: POCKET / "mmproj-pocket-F16.gguf"}
SIZE = {name: path.stat().st_size for name, path in OF_POCKET.items()}
REPO = "someone/tiny-GGUF"


def never(question: str, choices: Sequence[str]) -> str:
    raise AssertionError(f"nobody should be asked: {question} {choices}")


def files() -> dict[str, bytes | Path]:
    return {**OF_POCKET, "README.md": b"# tiny"}


def at(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Let Hugging Face be at this address, as HF_ENDPOINT does for a process that starts."""
    monkeypatch.setattr("gguf_vl.store.wishes.HuggingFace", lambda: HuggingFace(url))


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub({REPO: Repo({**files()})}) as hub:
        at(monkeypatch, hub.url)
        yield hub


@pytest.fixture
def modelscope(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelScope]:
    with ModelScope({REPO: Repo({**files()})}) as server:
        monkeypatch.setenv("MODELSCOPE_DOMAIN", server.url)
        yield server


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalogue in which `tiny` is published in REPO, with pocket's files, sizes and hashes."""
    models = dict(catalogue.load_catalogue())
    commit = Repo({}).commit
    pocket = models["pocket"]
    [projector] = pocket.projectors
    mmproj = replace(projector.file, name=PROJECTOR)
    variant = replace(pocket.default, file=replace(pocket.default.file, name=TEXT), mmproj=mmproj)
    models["tiny"] = replace(
        pocket,
        name="tiny",
        huggingface=REPO,
        modelscope=REPO,
        revision=commit,
        variants=(variant,),
        projectors=(replace(projector, file=mmproj),),
        default=variant,
    )
    monkeypatch.setattr(catalogue, "load_catalogue", lambda: models)


def pulled(wish: str = "tiny") -> LocalModel:
    return pull(plan(wish, choose=never), Silent())


def installed() -> list[str]:
    return [entry.name for entry in library.scan() if entry.name != "pocket"]


@pytest.mark.usefixtures("published")
def test_a_catalogue_model_is_fetched_verified_and_listed(hub: Hub) -> None:
    local = pulled()
    assert local.model == paths.models_dir() / "tiny" / TEXT
    assert local.mmproj == paths.models_dir() / "tiny" / PROJECTOR
    assert local.receipt is not None
    assert [record.promised_by for record in local.receipt.files] == ["catalogue", "catalogue"]
    assert REPO in local.receipt.source
    assert installed() == ["tiny"]
    assert sorted(path.name for path in paths.models_dir().iterdir()) == [".tiny.lock", "tiny"]
    assert hub.bytes_sent(TEXT) == SIZE[TEXT]


@pytest.mark.usefixtures("published")
def test_what_is_here_is_not_fetched_again(hub: Hub) -> None:
    pulled()
    sent = hub.bytes_sent("gguf")
    again = plan("tiny", choose=never)
    assert again.is_installed
    assert to_fetch(again) == 0
    pull(again, Silent())
    assert hub.bytes_sent("gguf") == sent


@pytest.mark.usefixtures("published", "hub")
def test_a_model_that_an_interrupted_swap_put_aside_is_counted_as_here_and_its_remains_go() -> None:
    folder = pulled().model.parent
    folder.rename(folder.with_name(".replaced-01234567-tiny"))
    what = plan("tiny", choose=never)
    assert (what.is_installed, to_fetch(what)) == (True, 0)
    shutil.copytree(folder, folder.with_name(".replaced-01234567-tiny"))
    assert plan("tiny", choose=never).is_installed
    assert sorted(path.name for path in paths.models_dir().iterdir()) == [".tiny.lock", "tiny"]


@pytest.mark.usefixtures("published")
def test_only_what_is_missing_of_a_model_is_fetched(hub: Hub) -> None:
    local = pulled()
    local.model.unlink()
    sent = hub.bytes_sent(PROJECTOR)
    assert pulled().model.exists()
    assert hub.bytes_sent(PROJECTOR) == sent


@pytest.mark.usefixtures("published")
def test_a_pull_that_fails_leaves_the_installed_model_as_it_was_also_without_links(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(1, "no links here")

    local = pulled()
    assert local.mmproj
    os.truncate(local.mmproj, 1000)
    monkeypatch.setattr(os, "link", refused)
    monkeypatch.setenv("MODELSCOPE_DOMAIN", "http://127.0.0.1:9")
    hub.inject(PROJECTOR, *[HangUp(on="body")] * 20)
    with pytest.raises(Unreachable):
        pulled()
    assert local.model.stat().st_size == SIZE[TEXT]
    with Hub({REPO: Repo({**files()})}) as healthy:
        at(monkeypatch, healthy.url)
        again = pulled()
        assert healthy.bytes_sent(TEXT) == 0
    assert again.model.stat().st_size == SIZE[TEXT]
    assert again.mmproj
    assert again.mmproj.stat().st_size == SIZE[PROJECTOR]


def test_a_file_without_a_hash_is_the_installed_one_only_in_its_size(hub: Hub) -> None:
    what = plan(f"hf:{REPO}", choose=never)
    pull(what, Silent())
    for n_bytes, same in ((SIZE[TEXT], True), (None, True), (SIZE[TEXT] + 1, False)):
        unhashed = replace(what.model.remote, sha256=None, size=n_bytes)
        assert replace(what, model=Wanted(unhashed, "none")).is_installed is same
    assert hub.requests


@pytest.mark.usefixtures("published")
def test_the_plan_says_how_much_from_where_to_where(hub: Hub) -> None:
    what = plan("tiny", choose=never)
    assert to_fetch(what) == sum(SIZE.values())
    assert str(what.repository) == f"{REPO} on {hub.url} (HF_ENDPOINT) (revision {Repo({}).commit[:12]})"
    assert what.folder == paths.models_dir() / "tiny"


@pytest.mark.usefixtures("published")
def test_an_interrupted_pull_shows_no_model_and_goes_on(hub: Hub) -> None:
    class Interrupted(Silent):
        def at(self, label: str, done: int) -> None:
            if label == PROJECTOR and done > 3_000_000:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(plan("tiny", choose=never), Interrupted())
    assert installed() == []
    what = plan("tiny", choose=never)
    left = to_fetch(what)
    assert left < SIZE[PROJECTOR] - 3_000_000
    pull(what, Silent())
    assert installed() == ["tiny"]
    assert hub.asked(TEXT) == [(0, 8 * 1024 * 1024 - 1)]
    assert hub.asked(PROJECTOR)[1:] == [(SIZE[PROJECTOR] - left, 8 * 1024 * 1024 - 1)]


@pytest.mark.usefixtures("published")
def test_a_file_that_was_whole_before_the_interruption_is_not_fetched_again(hub: Hub) -> None:
    class Interrupted(Silent):
        def at(self, label: str, done: int) -> None:
            if label == PROJECTOR and done == SIZE[PROJECTOR]:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(plan("tiny", choose=never), Interrupted())
    sent = hub.bytes_sent("gguf")
    assert pulled().mmproj
    assert hub.bytes_sent("gguf") == sent


@pytest.mark.usefixtures("published", "hub")
def test_a_file_that_comes_with_its_header_is_begun_and_ended_once_for_who_watches() -> None:
    heard = list[tuple[str, str]]()

    class Hearing(Silent):
        def start(self, label: str, total: int, done: int = 0) -> None:
            heard.append((label, "start"))

        def end(self, label: str) -> None:
            heard.append((label, "end"))

    pull(plan("tiny", choose=never), Hearing())
    assert heard == [(name, when) for name in (TEXT, PROJECTOR) for when in ("start", "end")]


@pytest.mark.usefixtures("published")
def test_wrong_bytes_install_nothing(hub: Hub) -> None:
    hub.inject(TEXT, Flip(2_000_000), Flip(2_000_000))
    with pytest.raises(VerificationFailed, match=TEXT):
        pulled()
    assert installed() == []


@pytest.mark.usefixtures("published")
def test_a_hub_that_declares_another_file_than_the_catalogue_is_not_fetched_from(hub: Hub) -> None:
    hub.replace(REPO, TEXT, OF_POCKET[TEXT].read_bytes()[::-1])
    with pytest.raises(VerificationFailed, match="in the catalogue") as caught:
        plan("tiny", choose=never)
    assert "hf:" in caught.value.fix
    assert hub.bytes_sent(TEXT) == 0


@pytest.mark.usefixtures("published")
def test_modelscope_takes_over_where_hugging_face_cannot_be_reached(
    modelscope: ModelScope, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(monkeypatch, "http://127.0.0.1:9")
    local = pulled()
    assert local.receipt
    assert "ModelScope" in local.receipt.source
    assert modelscope.bytes_sent(TEXT) == SIZE[TEXT]


@pytest.mark.usefixtures("published")
def test_a_busy_hub_is_left_for_the_other_and_a_wished_source_is_kept_to(hub: Hub, modelscope: ModelScope) -> None:
    hub.inject(None, Answer(503, on="api"), times=30)
    assert "ModelScope" in plan("tiny", choose=never).repository.source
    with pytest.raises(GgufVlError, match="answers 503"):
        plan("tiny", source="huggingface", choose=never)
    assert "ModelScope" in plan("tiny", source="modelscope", choose=never).repository.source


def test_a_repository_is_searched_for_its_pair(hub: Hub) -> None:
    local = pulled(f"hf:{REPO}")
    assert local.name == "tiny-text-f16"
    assert local.mmproj
    assert local.receipt
    assert {record.promised_by for record in local.receipt.files} == {"hub"}
    assert hub.requests


def test_a_namesake_on_the_other_hub_is_not_taken_unasked(
    modelscope: ModelScope, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(GgufVlError, match="cannot be reached"):
        plan(f"hf:{REPO}", choose=never)
    assert modelscope.requests == []


def test_several_quantisations_are_asked_about_unless_one_is_named_or_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    text, projector = OF_POCKET[TEXT], OF_POCKET[PROJECTOR]
    several: dict[str, bytes | Path] = {**files(), "tiny-text-Q8_0.gguf": text, "mmproj-tiny-Q8_0.gguf": projector}
    several |= {"imatrix.gguf": text, "tiny-text-BF16-00001-of-00002.gguf": text}
    asked: list[Sequence[str]] = []

    def choose(question: str, choices: Sequence[str]) -> str:
        asked.append(choices)
        return choices[-1]

    def names(wish: str, mmproj: str | None = None) -> list[str]:
        return [wanted.remote.name for wanted in plan(wish, mmproj=mmproj, choose=choose).files]

    with Hub({REPO: Repo(several)}) as hub:
        at(monkeypatch, hub.url)
        assert names(f"hf:{REPO}:q8_0") == ["tiny-text-Q8_0.gguf", "mmproj-tiny-Q8_0.gguf"]
        assert names(f"https://huggingface.co/{REPO}:F16", "f16") == [TEXT, PROJECTOR]
        assert names(f"hf:{REPO}@{Repo({}).commit}:f16") == [TEXT, "mmproj-tiny-Q8_0.gguf"]
        assert asked == []
        assert names(f"hf:{REPO}")[0] == "tiny-text-Q8_0.gguf"
        assert asked == [[TEXT, "tiny-text-Q8_0.gguf"]]
        with pytest.raises(ModelNotFound, match="no text models in q2_k"):
            names(f"hf:{REPO}:q2_k")
        hub.replace(REPO, "tiny-text-Q4_K_M.gguf", text)
        assert names(f"hf:{REPO}")[0] == "tiny-text-Q4_K_M.gguf"


@pytest.mark.parametrize(
    ("wished", "taken"),
    [
        ("F16", None),
        ("Q4_XS", None),
        ("Q2_K", None),
        ("bf16", "tiny-BF16.gguf"),
        ("iq4_xs", "tiny-IQ4_XS.gguf"),
        ("q2_k_l", "tiny-Q2_K_L.gguf"),
        ("Q5_0", "tiny.Q5_0-imat.gguf"),
        ("tiny.gguf", "tiny.gguf"),
        ("Not-Tiny.gguf", "not-tiny.gguf"),
    ],
)
def test_a_wish_means_the_file_of_that_name_or_that_quantisation_and_no_other(
    monkeypatch: pytest.MonkeyPatch, wished: str, taken: str | None
) -> None:
    texts = [f"tiny{more}.gguf" for more in ("", "-BF16", "-IQ4_XS", "-Q2_K_L", ".Q5_0-imat")] + ["not-tiny.gguf"]
    projectors = [f"mmproj-tiny-{quant}.gguf" for quant in ("BF16", "F32")]
    with Hub({REPO: Repo(dict.fromkeys(texts + projectors, b""))}) as hub:
        at(monkeypatch, hub.url)
        if taken:
            found = plan(f"hf:{REPO}:{wished}", choose=never)
            assert [wanted.remote.name for wanted in found.files] == [taken, "mmproj-tiny-BF16.gguf"]
        else:
            with pytest.raises(ModelNotFound, match=f"no text models in {wished}") as caught:
                plan(f"hf:{REPO}:{wished}", choose=never)
            assert "tiny-IQ4_XS.gguf" in caught.value.fix
        with pytest.raises(ModelNotFound, match="no projectors in F16"):
            plan(f"hf:{REPO}:tiny.gguf", mmproj="F16", choose=never)


def test_a_repository_without_a_projector_is_said_to_see_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with Hub({REPO: Repo({TEXT: OF_POCKET[TEXT]})}) as hub:
        at(monkeypatch, hub.url)
        note = plan(f"hf:{REPO}", choose=never).note
        assert note
        assert "will not see pictures" in note
        with pytest.raises(ModelNotFound, match="no projector"):
            plan(f"hf:{REPO}", mmproj="f16", choose=never)


@pytest.mark.parametrize("file", ["...gguf", "2b.gguf", "con.gguf", "\x1b[31mred.gguf", "..\\up.gguf", "pocket.gguf"])
def test_whatever_a_hub_calls_its_file_the_model_gets_a_harmless_name(
    monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    with Hub({REPO: Repo({file: OF_POCKET[TEXT]})}) as hub:
        at(monkeypatch, hub.url)
        try:
            local = pulled(f"hf:{REPO}")
        except GgufVlError:
            assert installed() == []
            return
    assert local.name not in ("2b", "pocket", "con", ".", "..")
    assert local.model.parent.parent == paths.models_dir()
    assert local.model.name.isprintable()


def test_another_repository_with_the_same_file_names_replaces_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with Hub({REPO: Repo({**files()}), "other/tiny": Repo({**files(), TEXT: b"GGUF" + bytes(100)})}) as hub:
        at(monkeypatch, hub.url)
        mine = pulled(f"hf:{REPO}")
        with pytest.raises(UsageError, match="is here already, from someone/tiny-GGUF"):
            pulled("hf:other/tiny")
    assert mine.model.read_bytes() == OF_POCKET[TEXT].read_bytes()


def test_what_is_on_this_disk_already_is_linked_and_needs_no_room(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, sent = pulled(f"hf:{REPO}"), hub.bytes_sent("gguf")
    again = plan(f"hf:{REPO}", name="mine:too", choose=never)
    assert to_fetch(again) == 0
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    named = pull(again, Silent())
    assert named.name == "mine:too"
    assert os.path.samefile(named.model, mine.model)
    assert hub.bytes_sent("gguf") == sent


def test_a_copy_on_this_disk_that_proves_wrong_is_fetched_instead(hub: Hub) -> None:
    mine = pulled(f"hf:{REPO}")
    mine.model.write_bytes(OF_POCKET[TEXT].read_bytes()[::-1])
    named = pull(plan(f"hf:{REPO}", name="mine:too", choose=never), Silent())
    assert named.model.read_bytes() == OF_POCKET[TEXT].read_bytes()


@pytest.mark.parametrize("left", ["a link to a damaged copy", "half of it", "another projector's"])
def test_a_wrong_file_that_a_killed_pull_left_under_its_final_name_is_fetched_again(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, left: str
) -> None:
    what = plan(f"hf:{REPO}", choose=never)
    if left == "a link to a damaged copy":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        copy = tmp_path / "models--someone--tiny-GGUF" / "blobs" / str(what.model.remote.sha256)
        copy.parent.mkdir(parents=True)
        copy.write_bytes(b"GGUX" + OF_POCKET[TEXT].read_bytes()[4:])
        link = os.link

        def killed(*paths: Path) -> None:
            link(*paths)
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(os, "link", killed)
            with pytest.raises(KeyboardInterrupt):
                pull(what, Silent())
        assert (what.staging / TEXT).exists()
    else:
        what.staging.mkdir(parents=True)
        content = bytearray(OF_POCKET[PROJECTOR].read_bytes())
        content[WIDTH] ^= 0xFF
        (what.staging / PROJECTOR).write_bytes(content[:1000] if left == "half of it" else content)
    local = pull(what, Silent())
    assert local.mmproj
    assert local.model.read_bytes() == OF_POCKET[TEXT].read_bytes()
    assert local.mmproj.read_bytes() == OF_POCKET[PROJECTOR].read_bytes()
    assert hub.bytes_sent("gguf")


def test_no_name_in_whatever_letters_lets_one_repository_replace_anothers_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = OF_POCKET[TEXT].read_bytes() + b"\0"
    with Hub({REPO: Repo({**files()}), "other/tiny": Repo({**files(), TEXT: other})}) as hub:
        at(monkeypatch, hub.url)
        mine = pull(plan(f"hf:{REPO}", name="Holiday", choose=never), Silent())
        for name in ("Holiday", "holiday", "HOLIDAY", "2b", "8B-q8_0", "pocket", "Pocket"):
            with pytest.raises(UsageError):
                plan("hf:other/tiny", name=name, choose=never)
        assert plan(f"hf:{REPO}", name="holiday", choose=never).is_installed
        assert hub.bytes_sent(TEXT) == SIZE[TEXT]
    assert installed() == ["Holiday"]
    assert mine.model.read_bytes() == OF_POCKET[TEXT].read_bytes()


@pytest.mark.usefixtures("published")
def test_what_another_pull_left_never_gets_into_a_model(hub: Hub) -> None:
    pulled()
    changed = OF_POCKET[TEXT].read_bytes()[:-4] + b"\1\2\3\4"
    with Hub({"other/tiny": Repo({**files(), TEXT: changed})}) as other:
        foreign = plan("tiny", choose=never)
        foreign = replace(foreign, model=Wanted(plan_file(other, TEXT), "hub"))
        assert foreign.staging != plan("tiny", choose=never).staging
        foreign.staging.mkdir()
        (foreign.staging / TEXT).write_bytes(changed)
    os.truncate(paths.models_dir() / "tiny" / TEXT, 1000)
    again = plan("tiny", choose=never)
    assert not again.is_installed
    assert pull(again, Silent()).model.read_bytes() == OF_POCKET[TEXT].read_bytes()


def plan_file(hub: Hub, name: str) -> RemoteFile:
    files = HuggingFace(hub.url).repository("other/tiny", None).files
    return next(file for file in files if file.name == name)


@pytest.mark.usefixtures("published")
def test_a_persons_own_folder_of_that_name_is_left_alone(hub: Hub) -> None:
    own = paths.models_dir() / "tiny"
    own.mkdir(parents=True)
    (own / "mine.gguf").write_bytes(b"mine")
    with pytest.raises(GgufVlError, match="gguf-vl has not made it") as caught:
        pulled()
    assert f"gguf-vl import {own}" in caught.value.fix
    assert (own / "mine.gguf").read_bytes() == b"mine"
    assert hub.bytes_sent("gguf") == 0


@pytest.mark.usefixtures("published")
def test_a_model_that_is_linked_from_elsewhere_and_whole_is_here_already(hub: Hub, tmp_path: Path) -> None:
    folder = pulled().model.parent
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    sent = hub.bytes_sent("gguf")
    assert plan("tiny", choose=never).is_installed
    assert pulled().model.parent == folder
    os.truncate(folder / TEXT, 1000)
    with pytest.raises(GgufVlError, match="is a link"):
        plan("tiny", choose=never)
    assert hub.bytes_sent("gguf") == sent


@pytest.mark.usefixtures("published")
def test_where_the_first_source_falls_silent_the_second_goes_on(hub: Hub, modelscope: ModelScope) -> None:
    hub.inject(TEXT, Cut(1_000_000), *[HangUp(on="body")] * 20)
    local = pulled()
    assert local.receipt
    assert "ModelScope" in local.receipt.source
    asked = modelscope.asked(TEXT)[0]
    assert asked
    assert asked[0] > 0


@pytest.mark.usefixtures("published")
def test_when_the_whole_network_goes_the_first_source_is_named_and_how_to_go_on(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSCOPE_DOMAIN", "http://127.0.0.1:9")
    hub.inject(TEXT, Cut(1_000_000), *[HangUp(on="body")] * 20)
    with pytest.raises(Unreachable, match=f"{TEXT} did not come through") as caught:
        pulled()
    assert "goes on where it stopped" in caught.value.fix
    assert to_fetch(plan("tiny", choose=never)) < sum(SIZE.values())


@pytest.mark.usefixtures("published")
def test_a_bare_403_is_no_licence_and_sends_to_the_other_source(hub: Hub, modelscope: ModelScope) -> None:
    hub.inject(TEXT, Answer(403, on="body"))
    local = pulled()
    assert local.receipt
    assert "ModelScope" in local.receipt.source
    hub.inject(None, Answer(403, on="api"))
    with pytest.raises(Unreachable, match="403") as caught:
        plan("tiny", source="huggingface", choose=never)
    assert "proxy" in caught.value.fix
    assert "licence" not in caught.value.what + caught.value.fix


@pytest.mark.usefixtures("published")
def test_where_there_is_no_second_source_the_first_ones_trouble_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    models = dict(catalogue.load_catalogue())
    models["tiny"] = replace(models["tiny"], modelscope=None)
    monkeypatch.setattr(catalogue, "load_catalogue", lambda: models)
    at(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(Unreachable, match="HF_ENDPOINT"):
        plan("tiny", choose=never)


ESCAPED = b'{"id": "someone/tiny-GGUF", "sha": "\\u001b[31mred", "siblings": []}'


@pytest.mark.parametrize(
    "body",
    [
        b"<html>log in</html>",
        b"{}",
        b"[]",
        b"null",
        b'{"siblings": [{"rfilename": 7}]}',
        b'{"siblings": 5}',
        b"",
        ESCAPED,
    ],
)
@pytest.mark.usefixtures("published")
def test_a_hub_that_answers_nonsense_is_left_for_the_other(hub: Hub, modelscope: ModelScope, body: bytes) -> None:
    hub.inject(None, Answer(200, {"Content-Type": "application/json"}, body, on="api"))
    found = plan("tiny", choose=never)
    assert found.repository.source == "ModelScope"
    assert found.note
    modelscope.inject(None, Answer(200, {}, body, on="api"))
    with pytest.raises(Unreachable, match="no list of files"):
        plan("tiny", source="modelscope", choose=never)


def test_two_real_pulls_at_once_both_end_well(monkeypatch: pytest.MonkeyPatch) -> None:
    with Hub({REPO: Repo(files())}) as hub:
        at(monkeypatch, hub.url)
        plans = [plan(f"hf:{REPO}", choose=never) for _ in range(2)]
        threads = [threading.Thread(target=pull, args=(each, Silent())) for each in plans]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert hub.bytes_sent(TEXT) == SIZE[TEXT]
    assert installed() == ["tiny-text-f16"]


def test_a_pair_that_does_not_belong_together_is_refused_before_it_is_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shape = catalogue.find("2b")[0].shape
    assert shape is not None
    wide = replace(shape.vision, n_embd=768, n_layer=3, n_ff=3072, deepstack_layers=(0, 1), n_out=256)
    write_projector(wide, "F16", tmp_path / "mmproj-wide-F16.gguf")
    with Hub({REPO: Repo({TEXT: OF_POCKET[TEXT], "mmproj-wide-F16.gguf": tmp_path / "mmproj-wide-F16.gguf"})}) as hub:
        at(monkeypatch, hub.url)
        with pytest.raises(InvalidModelFile, match="does not belong"):
            pulled(f"hf:{REPO}")
        assert hub.bytes_sent("mmproj-wide-F16.gguf") < (tmp_path / "mmproj-wide-F16.gguf").stat().st_size / 2
    assert installed() == []


WIDTH = OF_POCKET[PROJECTOR].read_bytes().index(b"clip.vision.projection_dim") + len("clip.vision.projection_dim") + 4


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("offset", [4, WIDTH])
@pytest.mark.parametrize("beginnings", [(1 << 20, 2 << 20), (32 << 20,)], ids=["a part", "the whole"])
def test_a_wrong_beginning_is_fetched_again_before_it_is_believed(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, offset: int, beginnings: tuple[int, ...]
) -> None:
    monkeypatch.setattr("gguf_vl.store.pull.BEGINNINGS", beginnings)
    hub.inject(PROJECTOR, Flip(offset))
    assert pulled().mmproj
    assert hub.bytes_sent(TEXT) <= 2 * SIZE[TEXT]


@pytest.mark.usefixtures("published")
def test_a_wrong_beginning_that_comes_twice_is_told_by_the_files_name_and_not_kept_for_ever(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gguf_vl.store.pull.BEGINNINGS", (1 << 20, 2 << 20))
    hub.inject(PROJECTOR, Flip(WIDTH), Flip(WIDTH))
    with pytest.raises(InvalidModelFile, match=f"^{PROJECTOR} ") as caught:
        pulled()
    assert ".part" not in caught.value.what
    assert installed() == []
    assert pulled().mmproj


def test_a_header_that_is_longer_than_usual_is_compared_early_too(monkeypatch: pytest.MonkeyPatch, hub: Hub) -> None:
    monkeypatch.setattr("gguf_vl.store.pull.BEGINNINGS", (1000, 1 << 20))
    hub.inject(PROJECTOR, Flip(WIDTH), Flip(WIDTH), Flip(WIDTH), Flip(WIDTH))
    with pytest.raises(InvalidModelFile, match=PROJECTOR):
        pulled(f"hf:{REPO}")
    assert hub.bytes_sent(TEXT) < SIZE[TEXT]


@pytest.mark.parametrize(
    ("wish", "error", "words"),
    [
        ("pocket", UsageError, "inside the package"),
        ("9b", ModelNotFound, "9b"),
        ("hf:nonsense", UsageError, "owner/repo"),
        ("hf:no/where", ModelNotFound, "no repository"),
    ],
)
@pytest.mark.usefixtures("hub")
def test_a_wish_that_cannot_be_met_says_why(wish: str, error: type[GgufVlError], words: str) -> None:
    with pytest.raises(error) as caught:
        plan(wish, choose=never)
    assert words in caught.value.what + caught.value.fix


@pytest.mark.parametrize("anonymous_401", [False, True])
def test_a_licence_and_a_token_are_named(monkeypatch: pytest.MonkeyPatch, anonymous_401: bool) -> None:
    repos = {REPO: Repo(files(), gated=True), "x/private": Repo(files(), token="secret")}
    with Hub(repos, anonymous_401=anonymous_401) as hub:
        at(monkeypatch, hub.url)
        with pytest.raises(GgufVlError, match="licence") as caught:
            pulled(f"hf:{REPO}")
        assert f"{hub.url}/{REPO}" in caught.value.fix
        with pytest.raises(GgufVlError) as caught:
            pulled("hf:x/private")
        assert "HF_TOKEN" in caught.value.fix
        monkeypatch.setenv("HF_TOKEN", "secret")
        assert pulled("hf:x/private").mmproj
        assert {request.token for request in hub.requests if request.stage == "body"} == {""}


@pytest.mark.usefixtures("published", "hub")
def test_a_full_disk_is_said_before_anything_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    with pytest.raises(GgufVlError, match=r"has 1\.0 MB free"):
        pulled()


@pytest.mark.usefixtures("published")
def test_a_second_pull_waits_for_the_first_and_fetches_nothing(hub: Hub) -> None:
    what = plan("tiny", choose=never)
    waiting = threading.Event()

    class Waiter(Silent):
        def note(self, line: str) -> None:
            assert "waiting" in line
            waiting.set()

    first = FileLock(paths.models_dir() / ".tiny.lock")
    paths.models_dir().mkdir(parents=True)
    with first:
        second = threading.Thread(target=pull, args=(what, Waiter()))
        second.start()
        assert waiting.wait(30)
        assert hub.bytes_sent("gguf") == 0
    second.join(30)
    assert installed() == ["tiny"]


@pytest.mark.usefixtures("published")
def test_a_connection_that_is_cut_all_the_time_still_ends_well(hub: Hub) -> None:
    hub.inject(TEXT, *[Cut(700_000), HangUp(on="body")] * 3)
    assert pulled().model.stat().st_size == SIZE[TEXT]


@pytest.mark.usefixtures("published", "hub")
def test_other_files_in_the_hub_are_left_there() -> None:
    assert sorted(os.listdir(pulled().model.parent)) == [PROJECTOR, "receipt.json", TEXT]
