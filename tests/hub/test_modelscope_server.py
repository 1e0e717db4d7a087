"""ModelScope's addresses lead to the same files, with the same ranges and faults."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import file_download

from tests.hub.client import FILE, FILES, REPO, WEIGHTS, get
from tests.hub.content import Repo
from tests.hub.faults import Cut
from tests.hub.modelscope import ModelScope


@pytest.fixture(params=["/models/{0}/resolve/{1}/{2}", "/api/v1/models/{0}/repo?Revision={1}&FilePath={2}"])
def way(request: pytest.FixtureRequest) -> str:
    """To a file: repository, revision, path."""
    return str(request.param)


def test_it_lists_sizes_and_hashes() -> None:
    with ModelScope({REPO: Repo(FILES)}) as hub:
        got = get(f"{hub.url}/api/v1/models/{REPO}/repo/files?Revision=master&Recursive=true")
    answer: dict[str, Any] = json.loads(got.body)
    assert (answer["Code"], answer["Success"]) == (200, True)
    listed = {file["Path"]: (file["Name"], file["Size"], file["Sha256"]) for file in answer["Data"]["Files"]}
    assert listed == {
        path: (Path(path).name, len(content), hashlib.sha256(content).hexdigest()) for path, content in FILES.items()
    }


@pytest.mark.parametrize("partial_status", [200, 206])
def test_it_serves_ranges_by_both_ways(way: str, partial_status: int) -> None:
    with ModelScope({REPO: Repo(FILES)}, partial_status=partial_status) as hub:
        url = hub.url + way.format(REPO, "master", "mmproj/model.gguf")
        whole, part = get(url), get(url, "5-8")
        assert (whole.status, whole.body) == (200, b"GGUF projector")
        assert (part.status, part.body, part.headers["Content-Range"]) == (partial_status, b"proj", "bytes 5-8/14")
        assert hub.asked("mmproj/model.gguf") == [None, (5, 8)]
        assert hub.bytes_sent("mmproj/model.gguf") == 18


def test_a_range_under_200_is_taken_for_the_whole_by_the_client_of_the_other_hub(way: str) -> None:
    with ModelScope({REPO: Repo(FILES)}, partial_status=200) as hub:
        file = io.BytesIO(WEIGHTS[:1000])
        file.seek(1000)
        with pytest.raises(OSError, match="Consistency check failed"):
            file_download.http_get(hub.url + way.format(REPO, "master", FILE), file, resume_size=1000)
        assert file.getvalue() == WEIGHTS[1000:]


def test_it_has_the_same_faults(way: str) -> None:
    with ModelScope({REPO: Repo(FILES)}) as hub:
        hub.inject(FILE, Cut(1000))
        assert get(hub.url + way.format(REPO, "master", FILE)).error == "RemoteProtocolError"
        assert hub.bytes_sent(FILE) == 1000


@pytest.mark.parametrize("where", [("qwen/none", "master", FILE), (REPO, "v9", FILE), (REPO, "master", "none")])
def test_it_says_404_for_what_it_does_not_have(way: str, where: tuple[str, str, str]) -> None:
    with ModelScope({REPO: Repo(FILES)}) as hub:
        got = get(hub.url + way.format(*where))
    assert (got.status, json.loads(got.body)["Success"]) == (404, False)
