"""The real client is content with the hub that the tests of downloading stand on."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import HfApi, constants, file_download, get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub import errors as hf_errors
from huggingface_hub.hf_api import RepoFile

from tests.hub.client import CONFIG, FILE, FILES, REPO, SHA256, WEIGHTS, get
from tests.hub.faults import Answer, Cut, Fault
from tests.hub.server import Hub, Repo

COMMIT = Repo(FILES).commit


def api(hub: Hub) -> HfApi:
    return HfApi(endpoint=hub.url, token=False)


def address(hub: Hub, name: str = REPO, path: str = FILE, revision: str = "main") -> str:
    return hf_hub_url(name, path, revision=revision, endpoint=hub.url)


def download(hub: Hub, folder: Path, name: str = REPO, path: str = FILE, token: str | bool = False) -> bytes:
    return Path(hf_hub_download(name, path, endpoint=hub.url, token=token, cache_dir=folder)).read_bytes()


def test_the_client_reads_what_a_repository_has(hub: Hub) -> None:
    info = api(hub).model_info(REPO, files_metadata=True)
    assert info.sha == COMMIT
    [config, projector, weights] = info.siblings or []
    assert (config.rfilename, config.size, config.lfs) == ("config.json", len(CONFIG), None)
    assert projector.rfilename == "mmproj/model.gguf"
    assert weights.lfs
    assert (weights.size, weights.lfs.size, weights.lfs.sha256) == (len(WEIGHTS), len(WEIGHTS), SHA256)


def test_the_client_reads_the_names_alone_unless_it_asks_for_more(hub: Hub) -> None:
    siblings = api(hub).model_info(REPO, revision="main").siblings or []
    assert [(file.rfilename, file.size) for file in siblings] == [(path, None) for path in sorted(FILES)]


def test_the_client_reads_the_tree(hub: Hub) -> None:
    top = list(api(hub).list_repo_tree(REPO))
    assert [entry.path for entry in top] == ["config.json", "mmproj", "model.gguf"]
    assert isinstance(top[2], RepoFile)
    assert top[2].lfs
    assert (top[2].size, top[2].lfs.sha256) == (len(WEIGHTS), SHA256)
    everything = api(hub).list_repo_tree(REPO, recursive=True, revision=COMMIT)
    assert [entry.path for entry in everything if isinstance(entry, RepoFile)] == sorted(FILES)


def test_the_client_reads_the_commit_size_and_hash_of_a_file_from_the_redirect(hub: Hub) -> None:
    found = get_hf_file_metadata(address(hub), token=False)
    assert (found.commit_hash, found.etag, found.size) == (COMMIT, SHA256, len(WEIGHTS))
    assert found.location == f"{hub.cdn_url}/lfs/{SHA256}"
    assert [(request.method, request.status, request.bytes_sent) for request in hub.requests] == [("HEAD", 302, 0)]
    plain = get_hf_file_metadata(address(hub, path="config.json"), token=False)
    blob_id = hashlib.sha1(b"blob %d\0" % len(CONFIG) + CONFIG).hexdigest()
    assert (plain.etag, plain.size) == (blob_id, len(CONFIG))


@pytest.mark.parametrize("path", FILES)
def test_the_client_downloads(hub: Hub, path: str, tmp_path: Path) -> None:
    assert download(hub, tmp_path, path=path) == FILES[path]
    assert hub.asked(path) == [None]
    assert hub.bytes_sent(path) == len(FILES[path])


def test_the_client_downloads_from_disk(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / FILE).write_bytes(WEIGHTS)
    with Hub({REPO: Repo.of_folder(tmp_path)}) as hub:
        assert download(hub, tmp_path / "cache", path=f"sub/{FILE}") == WEIGHTS


def test_the_client_shows_its_token_to_the_hub_and_not_to_the_cdn(hub: Hub, tmp_path: Path) -> None:
    download(hub, tmp_path, "qwen/mine", token="hf_mine")
    assert [(request.stage, request.token) for request in hub.requests] == [("head", "hf_mine"), ("body", "")]


def test_the_client_resumes_with_exactly_the_missing_bytes(hub: Hub) -> None:
    file = io.BytesIO(WEIGHTS[:1000])
    file.seek(1000)
    file_download.http_get(address(hub), file, resume_size=1000)
    assert file.getvalue() == WEIGHTS
    assert hub.asked(FILE) == [(1000, None)]
    assert hub.bytes_sent(FILE) == len(WEIGHTS) - 1000


@pytest.mark.parametrize(
    ("chunk", "second"), [(1000, (5000, None)), (10 * 1024 * 1024, None)], ids=["small", "as shipped"]
)
def test_the_client_resumes_by_itself_from_its_last_whole_chunk(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, naps: list[float], chunk: int, second: tuple[int, None] | None
) -> None:
    """Which means not at all within the first 10 MiB, or the next."""
    assert constants.DOWNLOAD_CHUNK_SIZE == 10 * 1024 * 1024
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", chunk)
    hub.inject(FILE, Cut(5500))
    file_download.http_get(address(hub), file := io.BytesIO())
    assert file.getvalue() == WEIGHTS
    assert hub.asked(FILE) == [None, second]
    assert naps == [1]


@pytest.mark.parametrize(
    ("name", "path", "revision", "status", "error"),
    [
        ("qwen/none", FILE, "main", 404, hf_errors.RepositoryNotFoundError),
        (REPO, FILE, "v9", 404, hf_errors.RevisionNotFoundError),
        (REPO, "none.gguf", "main", 404, hf_errors.RemoteEntryNotFoundError),
        ("qwen/gated", FILE, "main", 403, hf_errors.GatedRepoError),
        ("qwen/mine", FILE, "main", 401, hf_errors.HfHubHTTPError),
    ],
)
def test_each_refusal_has_its_own_error(
    hub: Hub, name: str, path: str, revision: str, status: int, error: type[Exception]
) -> None:
    with pytest.raises(error):
        get_hf_file_metadata(address(hub, name, path, revision), token=False)
    assert [request.status for request in hub.requests] == [status]


def test_without_a_token_a_hub_like_the_real_one_says_401_for_what_it_does_not_have() -> None:
    with Hub({"qwen/gated": Repo(FILES, gated=True)}, anonymous_401=True) as hub:
        with pytest.raises(hf_errors.HfHubHTTPError, match="Invalid username or password"):
            api(hub).model_info("qwen/none")
        with pytest.raises(hf_errors.GatedRepoError):
            get_hf_file_metadata(address(hub, "qwen/gated"), token=False)
        with pytest.raises(hf_errors.RepositoryNotFoundError):
            get_hf_file_metadata(address(hub, "qwen/none"), token="hf_mine")
        assert [request.status for request in hub.requests] == [401, 401, 404]


def test_a_wrong_token_is_refused_and_the_right_one_is_not(hub: Hub) -> None:
    with pytest.raises(hf_errors.HfHubHTTPError, match="Invalid credentials"):
        get_hf_file_metadata(address(hub, "qwen/mine"), token="hf_yours")
    assert get_hf_file_metadata(address(hub, "qwen/mine"), token="hf_mine").etag == SHA256


def test_a_gated_repository_still_tells_what_it_has(hub: Hub) -> None:
    info = api(hub).model_info("qwen/gated")
    assert (info.gated, len(info.siblings or [])) == ("manual", len(FILES))


def test_a_connection_that_is_reset_is_not_tried_again(hub: Hub, tmp_path: Path, naps: list[float]) -> None:
    hub.inject(FILE, Cut(1000, reset=True))
    with pytest.raises(httpx2.ReadError):
        download(hub, tmp_path)
    assert naps == []


@pytest.mark.parametrize(
    ("answer", "slept"),
    [(Answer(503), [1, 2, 4, 8, 8]), (Answer(429, {"Retry-After": "0"}), [1] * 5), (Answer(404), [])],
)
def test_the_client_tries_six_times_and_backs_off_for_23_seconds(
    hub: Hub, naps: list[float], answer: Fault, slept: list[float]
) -> None:
    hub.inject(FILE, answer, times=9)
    with pytest.raises(hf_errors.HfHubHTTPError):
        get_hf_file_metadata(address(hub), token=False, retry_on_errors=True)
    assert naps == slept


@pytest.mark.parametrize("words", [[], ["--modelscope"]])
def test_the_command_prints_its_address_and_then_every_request(words: list[str], tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(WEIGHTS)
    command = [sys.executable, "-m", "tests.hub.server", "--repo", f"{REPO}={tmp_path}", "--cut", f"{FILE}=1000"]
    with subprocess.Popen([*command, "--rate", "9000000", *words], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        url = server.stdout.readline().strip()
        path = f"/models/{REPO}/resolve/master/{FILE}" if words else f"/{REPO}/resolve/main/{FILE}"
        bodies = [get(url + path).body, get(url + path).body]
        lines = [json.loads(server.stdout.readline()) for _ in range(2 if words else 4)]
        server.terminate()
    assert bodies == [WEIGHTS[:1000], WEIGHTS]
    assert [line["bytes_sent"] for line in lines if line["stage"] == "body"] == [1000, len(WEIGHTS)]
