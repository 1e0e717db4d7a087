"""Where models are published: what a repository holds, each file's size and hash, and the address of its bytes.

Hugging Face through `huggingface_hub`, so that its tokens, proxies and `HF_ENDPOINT` behave as its users know;
ModelScope through its own listing. Fetches no weight. What a hub says is checked before it is believed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import Literal, Protocol
from urllib.parse import quote

from gguf_vl.catalogue import File
from gguf_vl.errors import GgufVlError, ModelNotFound, OfflineError, Unreachable
from gguf_vl.gguf.wire import shown

MODELSCOPE = "https://www.modelscope.cn"
TIMEOUT_S = 15.0

SourceName = Literal["huggingface", "modelscope"]
Refusal = Callable[[int, str | None], GgufVlError]
"""From a refused request's status and the hub's own error code to what a person is told."""


def _refused(status: int, _code: str | None) -> GgufVlError:
    return GgufVlError(f"The server refuses with status {status}.", "Try another --source.")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One published file. `path` is its place in the repository, `size` bytes; None is what the hub does not say."""

    path: str
    url: str
    size: int | None
    sha256: str | None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    refusal: Refusal = field(default=_refused, repr=False)

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.path.rpartition("/")[2]

    @property
    def promised(self) -> File:
        """The file as the hub describes it."""
        return File(self.name, self.size, self.sha256)


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

    def repository(self, id: str, revision: str | None) -> Repository:
        """The files of `owner/name`; without a revision the newest.

        Raises `Unreachable`, `ModelNotFound` when there is no such repository or revision, `OfflineError` when the
        hub's own library is told to stay offline, `GgufVlError` when a licence or a token stands before it.
        """


class HuggingFace:
    """Hugging Face, or the mirror that `HF_ENDPOINT` names."""

    def __init__(self, endpoint: str | None = None) -> None:
        self._endpoint = endpoint

    def repository(self, id: str, revision: str | None) -> Repository:
        """As `Source` says."""
        import httpx2
        from huggingface_hub import HfApi, constants
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # documented, exported lazily

        api = HfApi(endpoint=self._endpoint, library_name="gguf-vl")
        title = "Hugging Face" if api.endpoint == constants._HF_DEFAULT_ENDPOINT else f"{api.endpoint} (HF_ENDPOINT)"
        refusal = partial(_hugging_face_refuses, title, f"{api.endpoint}/{id}", id)
        try:
            info = api.model_info(id, revision=revision, files_metadata=True, timeout=TIMEOUT_S)
            siblings = info.siblings or ()
            listed = [(each.rfilename, each.size, each.lfs.sha256 if each.lfs else None) for each in siblings]
        except OfflineModeIsEnabled as error:
            raise OfflineError("HF_HUB_OFFLINE is set, and pull needs the network.", "Unset it to pull.") from error
        except HFValidationError as error:
            raise ModelNotFound(f"{id!r} is no repository's name.", "Give it as owner/name.") from error
        except HfHubHTTPError as error:
            raise refusal(error.response.status_code, error.response.headers.get("X-Error-Code")) from error
        except (OSError, httpx2.HTTPError) as error:
            raise _no_answer(title, error) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _nonsense(title) from error
        if info.sha is not None and not re.fullmatch(r"[\w.-]+", info.sha, re.ASCII):
            raise _nonsense(title)
        revision, headers = info.sha or revision or "main", build_hf_headers(library_name="gguf-vl")
        address = f"{api.endpoint}/{id}/resolve/{quote(revision, safe='')}"
        files = [_remote_file(title, address, *each, headers, refusal) for each in listed]
        return Repository(id, title, revision, tuple(files))


class ModelScope:
    """ModelScope, or the address that `MODELSCOPE_DOMAIN` names."""

    def __init__(self, address: str | None = None) -> None:
        address = address or os.environ.get("MODELSCOPE_DOMAIN") or MODELSCOPE
        self._address = (address if "://" in address else f"https://{address}").rstrip("/")

    def repository(self, id: str, revision: str | None) -> Repository:
        """As `Source` says."""
        import httpx2
        from huggingface_hub import get_session

        title, revision = "ModelScope", revision or "master"
        token = os.environ.get("MODELSCOPE_API_TOKEN")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        refusal = partial(_modelscope_refuses, id)
        try:
            response = get_session().get(
                f"{self._address}/api/v1/models/{id}/repo/files",
                params={"Revision": revision, "Recursive": "true"},
                headers=headers,
                timeout=TIMEOUT_S,
            )
            if response.status_code != 200:
                raise refusal(response.status_code, None)
            entries = response.json()["Data"]["Files"]
            listed = [(each["Path"], each["Size"], each.get("Sha256")) for each in entries if each["Type"] != "tree"]
        except (OSError, httpx2.HTTPError) as error:
            raise _no_answer(title, error) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _nonsense(title) from error
        address = f"{self._address}/models/{id}/resolve/{quote(revision, safe='')}"
        files = [_remote_file(title, address, *each, headers, refusal) for each in listed]
        return Repository(id, title, revision, tuple(files))


def _remote_file(
    title: str, address: str, path: object, size: object, sha256: object, headers: Mapping[str, str], refusal: Refusal
) -> RemoteFile:
    """A file as the hub describes it. `Unreachable` when the description cannot be true."""
    if not isinstance(path, str) or not isinstance(size, int | None) or isinstance(size, bool) or (size or 0) < 0:
        raise _nonsense(title)
    if PurePosixPath(path).is_absolute() or {"..", ""} & set(path.split("/")):
        raise _nonsense(title)
    known = sha256.lower() if isinstance(sha256, str) and re.fullmatch(r"[0-9a-fA-F]{64}", sha256) else None
    return RemoteFile(path, f"{address}/{quote(path)}", size, known, headers, refusal)


def _hugging_face_refuses(title: str, page: str, id: str, status: int, code: str | None) -> GgufVlError:
    log_in = "log in with `hf auth login`, or set HF_TOKEN"
    if code == "GatedRepo":
        return GgufVlError(f"{id} stands behind a licence on {title}.", f"Accept it on {page}, then {log_in}.")
    if code == "RevisionNotFound":
        return ModelNotFound(f"{id} has no such revision on {title}.", f"See {page}.")
    if code == "EntryNotFound":
        return ModelNotFound(f"{id} no longer has the file on {title}.", f"See {page}, or try another --source.")
    if status == 403:
        why = "A proxy may stand in the way, or the token lacks the right to read it"
        return Unreachable(f"{title} refuses {id} with status 403.", f"{why}: {log_in}; or try another --source.")
    if status in (401, 404):
        return ModelNotFound(f"{title} shows no repository {id}.", f"Check the name; if it is private, {log_in}.")
    return _answers(title, status)


def _modelscope_refuses(id: str, status: int, _code: str | None) -> GgufVlError:
    if status in (401, 403, 404):
        fix = "Check the name; if it is private, set MODELSCOPE_API_TOKEN."
        return ModelNotFound(f"ModelScope shows no repository {id}.", fix)
    return _answers("ModelScope", status)


def _answers(title: str, status: int) -> GgufVlError:
    if status == 429 or status >= 500:
        return Unreachable(f"{title} answers {status}: it is busy or broken.", "Try again later, or another --source.")
    return GgufVlError(f"{title} refuses with status {status}.", "Try another --source.")


def _nonsense(title: str) -> Unreachable:
    return Unreachable(
        f"{title} answers something that is no list of files.",
        "Is a login page in the way? Open a web page, then try again; or try another --source.",
    )


def _no_answer(title: str, error: Exception) -> Unreachable:
    return Unreachable(
        f"{title} cannot be reached: {shown(error).rstrip('.') or type(error).__name__}.",
        "Check the connection; a mirror can be named in HF_ENDPOINT; or carry the model here: `gguf-vl bundle --help`.",
    )
