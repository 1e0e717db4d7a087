"""Plays ModelScope, as far as listing and fetching a model's files needs it.

What others recorded of the real one: it answers a range with 200 and a correct Content-Range unless the file comes
from its CDN, which says 206; every refusal is 404 with a `Code` in the body (modelscope/modelscope_hub issue 50,
dragonflyoss/client issue 1904).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

from tests.hub.content import Repo, Stored, is_lfs
from tests.hub.exchange import Reply, Request
from tests.hub.faults import Stage
from tests.hub.serving import Call, Server

FILES = re.compile(r"/api/v1/models/([^/]+/[^/]+)/repo/files")
FETCH = re.compile(r"/api/v1/models/([^/]+/[^/]+)/repo")
RESOLVE = re.compile(r"/models/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
NOT_FOUND = 10010205001
NO_ACCESS = 10010200001
NO_REVISION = 10990101004


class ModelScope(Server):
    """A ModelScope with these repositories, by `owner/name`."""

    def __init__(
        self,
        repos: Mapping[str, Repo],
        *,
        partial_status: int = 206,
        rate: int = 0,
        done: Callable[[Request], None] | None = None,
    ) -> None:
        """`partial_status` answers a range: 206 as the real CDN, or 200 as the real gateway."""
        self._partial_status = partial_status
        super().__init__(repos, rate=rate, done=done)

    def route(self, call: Call) -> Reply:
        """The list of a repository's files, or one of them."""
        if match := FILES.fullmatch(call.path):
            return self._list(call, match[1])
        if match := FETCH.fullmatch(call.path):
            return self._fetch(call, match[1], call.query.get("Revision", "master"), call.query.get("FilePath", ""))
        if match := RESOLVE.fullmatch(call.path):
            return self._fetch(call, match[1], *map(unquote, match.group(2, 3)))
        return _refused("api", NOT_FOUND, "page not found")

    def _list(self, call: Call, name: str) -> Reply:
        revision = call.query.get("Revision", "master")
        if barred := self._barred(call, "api", name, revision):
            return barred
        repo = self._repos[name]
        recursive = call.query.get("Recursive", "").lower() == "true"
        files = [
            _file(path, content, repo.commit)
            for path, content in sorted(repo.stored.items())
            if recursive or "/" not in path
        ]
        return _json("api", 200, {"Code": 200, "Success": True, "Message": "success", "Data": {"Files": files}})

    def _fetch(self, call: Call, name: str, revision: str, path: str) -> Reply:
        stage: Stage = "head" if call.method == "HEAD" else "resolve"
        if barred := self._barred(call, stage, name, revision, path):
            return barred
        content = self._repos[name].stored.get(path)
        if content is None:
            return _refused(stage, NOT_FOUND, f"no such file: {path}", name, path)
        return Reply(
            "head" if stage == "head" else "body",
            headers={"ETag": f'"{content.sha256}"'},
            body=content,
            repo=name,
            file=path,
            partial_status=self._partial_status,
        )

    def _barred(self, call: Call, stage: Stage, name: str, revision: str, path: str = "") -> Reply | None:
        repo = self._repos.get(name)
        if repo is None:
            return _refused(stage, NOT_FOUND, "record not found", name, path)
        if (repo.token and call.token != repo.token) or (repo.gated and stage != "api"):
            return _refused(stage, NO_ACCESS, "no access", name, path)
        if revision not in ("master", repo.commit):
            return _refused(stage, NO_REVISION, f"no such revision: {revision}", name, path)
        return None


def _file(path: str, content: Stored, commit: str) -> dict[str, Any]:
    return {
        "Path": path,
        "Name": PurePosixPath(path).name,
        "Type": "blob",
        "Size": content.size,
        "Sha256": content.sha256,
        "IsLFS": is_lfs(path),
        "Revision": commit,
    }


def _json(stage: Stage, status: int, value: Any, repo: str = "", file: str = "") -> Reply:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    return Reply(stage, status, headers, json.dumps(value).encode(), repo, file)


def _refused(stage: Stage, code: int, message: str, repo: str = "", file: str = "") -> Reply:
    return _json(stage, 404, {"Code": code, "Success": False, "Message": message, "RequestId": ""}, repo, file)
