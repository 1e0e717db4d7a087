"""Where models are published: what a repository holds, each file's size and hash, and the address of its bytes.

Hugging Face through `huggingface_hub`, so that its tokens, proxies and `HF_ENDPOINT` behave as its users know;
ModelScope through its own listing. Fetches no weight.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from gguf_vl.errors import GgufVlError, ModelNotFound

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # read when huggingface_hub is imported, which is never before this

MODELSCOPE = "https://www.modelscope.cn"
TIMEOUT_S = 15.0

SourceName = Literal["huggingface", "modelscope"]


class Unreachable(GgufVlError):
    """A source did not answer, or answered that it cannot at present; another one may."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One published file. `path` is its place in the repository, `size` bytes; None is what the hub does not say."""

    path: str
    url: str
    size: int | None
    sha256: str | None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Repository:
    """What a source publishes under one name at one revision."""

    id: str
    source: str
    revision: str
    files: tuple[RemoteFile, ...]

    def __str__(self) -> str:
        return f"{self.id} on {self.source} (revision {self.revision[:12]})"


class Source(Protocol):
    """A place that publishes models."""

    title: str

    def repository(self, id: str, revision: str | None) -> Repository:
        """The files of `owner/name`; without a revision the newest.

        Raises `Unreachable`, `ModelNotFound` when there is no such repository or revision, `GgufVlError` when a licence
        or a token stands before it.
        """


class HuggingFace:
    """Hugging Face, or the mirror that `HF_ENDPOINT` names."""

    title = "Hugging Face"

    def __init__(self, endpoint: str | None = None) -> None:
        self._endpoint = endpoint

    def repository(self, id: str, revision: str | None) -> Repository:
        """As `Source` says."""
        from huggingface_hub import HfApi, hf_hub_url
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            HFValidationError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # documented, exported lazily

        api = HfApi(endpoint=self._endpoint, library_name="gguf-vl")
        page = f"{api.endpoint}/{id}"
        log_in = "log in with `hf auth login`, or set HF_TOKEN"
        try:
            info = api.model_info(id, revision=revision, files_metadata=True, timeout=TIMEOUT_S)
        except GatedRepoError as error:
            raise GgufVlError(
                f"{id} stands behind a licence on Hugging Face.", f"Accept it on {page}, then {log_in}."
            ) from error
        except RevisionNotFoundError as error:
            raise ModelNotFound(f"{id} has no revision {revision}.", f"See {page}.") from error
        except (RepositoryNotFoundError, HFValidationError) as error:
            raise ModelNotFound(
                f"Hugging Face shows no repository {id}.", f"Check the name; if it is private, {log_in}."
            ) from error
        except HfHubHTTPError as error:
            raise _refusal(self.title, error.response.status_code) from error
        except (OSError, _network_error()) as error:
            raise _no_answer(self.title, api.endpoint, error) from error
        headers = build_hf_headers(library_name="gguf-vl")
        revision = info.sha or revision or "main"
        files = []
        for sibling in info.siblings or ():
            url = hf_hub_url(id, sibling.rfilename, revision=revision, endpoint=api.endpoint)
            sha256 = sibling.lfs.sha256 if sibling.lfs else None
            files.append(RemoteFile(sibling.rfilename, url, sibling.size, sha256, headers))
        return Repository(id, self.title, revision, tuple(files))


class ModelScope:
    """ModelScope, or the address that `MODELSCOPE_DOMAIN` names."""

    title = "ModelScope"

    def __init__(self, address: str | None = None) -> None:
        address = address or os.environ.get("MODELSCOPE_DOMAIN") or MODELSCOPE
        self._address = (address if "://" in address else f"https://{address}").rstrip("/")

    def repository(self, id: str, revision: str | None) -> Repository:
        """As `Source` says."""
        revision = revision or "master"
        token = os.environ.get("MODELSCOPE_API_TOKEN")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        listing = self._get(f"{self._address}/api/v1/models/{id}/repo/files", revision, headers)
        files = []
        try:
            for entry in listing["Data"]["Files"]:
                if entry["Type"] != "tree":
                    url = f"{self._address}/models/{id}/resolve/{revision}/{entry['Path']}"
                    files.append(RemoteFile(entry["Path"], url, entry["Size"], entry.get("Sha256") or None, headers))
        except (KeyError, TypeError) as error:
            raise Unreachable("ModelScope's answer makes no sense.", "Try --source huggingface.") from error
        return Repository(id, self.title, revision, tuple(files))

    def _get(self, url: str, revision: str, headers: Mapping[str, str]) -> Any:
        from huggingface_hub import get_session

        try:
            response = get_session().get(
                url,
                params={"Revision": revision, "Recursive": "true"},
                headers=dict(headers),
                timeout=TIMEOUT_S,
            )
            if response.status_code == 404:
                raise ModelNotFound(f"ModelScope shows no repository at {url}.", "Check the name.")
            if response.status_code != 200:
                raise _refusal(self.title, response.status_code)
            return response.json()
        except (OSError, ValueError, _network_error()) as error:
            raise _no_answer(self.title, self._address, error) from error


def _network_error() -> type[Exception]:
    import httpx2

    return httpx2.TransportError


def _refusal(title: str, status: int) -> GgufVlError:
    if status == 429 or status >= 500:
        return Unreachable(f"{title} answers {status}: it is busy or broken.", "Try again later, or another --source.")
    fix = "Check the name; if it is private, log in with `hf auth login`, or set HF_TOKEN."
    if title == ModelScope.title:
        fix = "Check the name; if it is private, set MODELSCOPE_API_TOKEN."
    return GgufVlError(f"{title} refuses with status {status}.", fix)


def _no_answer(title: str, address: str, error: Exception) -> Unreachable:
    return Unreachable(
        f"{title} cannot be reached at {address}: {error}.",
        "Check the connection; a mirror can be named in HF_ENDPOINT; or carry the model here: `gguf-vl bundle --help`.",
    )
