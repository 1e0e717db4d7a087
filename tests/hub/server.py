"""Plays the Hugging Face hub to `huggingface_hub`, from files in memory or on disk.

    with Hub({"owner/repo": Repo({"model.gguf": path})}) as hub:
        hub.inject("model.gguf", Cut(1000))
        ...  # something that downloads from hub.url
        assert hub.asked("model.gguf") == [None, (1000, None)]

`python -m tests.hub.server --repo owner/repo=FOLDER` is the same for a person, or for another process: its address
is the first line that it prints, and each request is a line of JSON after that.

What it answers was taken from the client's own code and from what others recorded of the real one: LFS files are
redirected to another origin (here another port), because the client follows a redirect to the same origin and would
miss the headers of the first answer; without a token an unknown repository is 401 with no error code.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from threading import Event
from typing import Any
from urllib.parse import unquote

from tests.hub.content import Repo, Stored, is_lfs
from tests.hub.exchange import Reply, Request
from tests.hub.faults import Cut, Stage
from tests.hub.listener import Listener
from tests.hub.modelscope import ModelScope
from tests.hub.serving import Call, Server

__all__ = ["Hub", "ModelScope", "Repo", "Request", "main"]

API = re.compile(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+)(?:/(.+))?)?")
RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
LFS = re.compile(r"/lfs/([0-9a-f]{64})")


class Hub(Server):
    """A Hugging Face hub with these repositories, by `owner/name`."""

    def __init__(
        self,
        repos: Mapping[str, Repo],
        *,
        anonymous_401: bool = False,
        rate: int = 0,
        done: Callable[[Request], None] | None = None,
    ) -> None:
        """With `anonymous_401`, who shows no token gets 401 for an unknown or gated repository, as from the real hub.

        Without it, or with a token, an unknown one is 404 and a gated one 403.
        """
        super().__init__(repos, rate=rate, done=done)
        self._anonymous_401 = anonymous_401
        self._lfs: dict[str, tuple[str, str]] = {}
        self._cdn = Listener(self._answer)

    @property
    def cdn_url(self) -> str:
        """The origin from which LFS files come."""
        return self._cdn.url

    def close(self) -> None:
        """Stop listening, let go what is held and close every connection."""
        super().close()
        self._cdn.close()

    def route(self, call: Call) -> Reply:
        """The description or tree of a repository, a file, or what LFS keeps of it."""
        if match := API.fullmatch(call.path):
            return self._describe(call, *match.groups())
        if match := LFS.fullmatch(call.path):
            return self._lfs_object(call, match[1])
        if match := RESOLVE.fullmatch(call.path):
            return self._resolve(call, match[1], *map(unquote, match.group(2, 3)))
        return _refused("api", 404, "Sorry, we can't find the page you are looking for.")

    def _describe(self, call: Call, name: str, what: str | None, revision: str | None, under: str | None) -> Reply:
        if barred := self._barred(call, name, "api"):
            return barred
        repo = self._repos[name]
        if revision and unquote(revision) not in ("main", repo.commit):
            return _refused("api", 404, f"Invalid rev id: {revision}", "RevisionNotFound", name)
        if what == "tree":
            return _json(_tree(repo.stored, unquote(under or ""), call.query.get("recursive", "").lower() == "true"))
        return _json(_info(name, repo, with_blobs=call.query.get("blobs", "").lower() == "true"))

    def _resolve(self, call: Call, name: str, revision: str, path: str) -> Reply:
        stage: Stage = "head" if call.method == "HEAD" else "resolve"
        if barred := self._barred(call, name, stage, path):
            return barred
        repo = self._repos[name]
        if revision not in ("main", repo.commit):
            return _refused(stage, 404, f"Invalid rev id: {revision}", "RevisionNotFound", name, path)
        commit = {"X-Repo-Commit": repo.commit}
        if path not in repo.stored:
            return _refused(stage, 404, "Entry not found", "EntryNotFound", name, path, commit)
        content = repo.stored[path]
        if not is_lfs(path):
            headers = {**commit, "ETag": f'"{content.blob_id}"'}
            return Reply("head" if stage == "head" else "body", headers=headers, body=content, repo=name, file=path)
        self._lfs[content.sha256] = name, path
        location = f"{self.cdn_url}/lfs/{content.sha256}"
        linked = {"X-Linked-Etag": f'"{content.sha256}"', "X-Linked-Size": str(content.size)}
        text = f"Found. Redirecting to {location}".encode()
        return Reply(stage, 302, {**commit, **linked, "Location": location}, text, name, path)

    def _lfs_object(self, call: Call, sha256: str) -> Reply:
        stage: Stage = "head" if call.method == "HEAD" else "body"
        name, path = self._lfs.get(sha256) or self._search(sha256)
        if not path:
            return _refused(stage, 404, "NoSuchKey")
        content = self._repos[name].stored[path]
        headers = {
            "ETag": f'"{content.sha256}"',
            "Content-Disposition": f'inline; filename="{PurePosixPath(path).name}";',
        }
        return Reply(stage, headers=headers, body=content, repo=name, file=path)

    def _search(self, sha256: str) -> tuple[str, str]:
        for name, repo in self._repos.items():
            for path, content in repo.stored.items():
                if is_lfs(path) and content.sha256 == sha256:
                    return name, path
        return "", ""

    def _barred(self, call: Call, name: str, stage: Stage, path: str = "") -> Reply | None:
        unnamed = self._anonymous_401 and not call.token
        repo = self._repos.get(name)
        if repo is None and not unnamed:
            return _refused(stage, 404, "Repository not found", "RepoNotFound", name, path)
        if repo is None or (repo.token and not call.token):
            return _refused(stage, 401, "Invalid username or password.", "", name, path)
        if repo.token and call.token != repo.token:
            return _refused(stage, 401, "Invalid credentials in Authorization header", "", name, path)
        if repo.gated and stage != "api":
            message = f"Access to model {name} is restricted. You must have access to it and be authenticated."
            return _refused(stage, 401 if unnamed else 403, message, "GatedRepo", name, path)
        return None


def _json(value: Any) -> Reply:
    return Reply("api", headers={"Content-Type": "application/json; charset=utf-8"}, body=json.dumps(value).encode())


def _refused(
    stage: Stage,
    status: int,
    message: str,
    code: str = "",
    repo: str = "",
    file: str = "",
    headers: Mapping[str, str] | None = None,
) -> Reply:
    coded = {"X-Error-Code": code} if code else {}
    return Reply(
        stage,
        status,
        {**(headers or {}), **coded, "X-Error-Message": message, "Content-Type": "application/json; charset=utf-8"},
        json.dumps({"error": message}).encode(),
        repo,
        file,
    )


def _info(name: str, repo: Repo, *, with_blobs: bool) -> dict[str, Any]:
    return {
        "id": name,
        "modelId": name,
        "author": name.partition("/")[0],
        "sha": repo.commit,
        "private": bool(repo.token),
        "gated": "manual" if repo.gated else False,
        "disabled": False,
        "tags": ["gguf"],
        "siblings": [_sibling(path, content if with_blobs else None) for path, content in sorted(repo.stored.items())],
    }


def _sibling(path: str, content: Stored | None) -> dict[str, Any]:
    if content is None:
        return {"rfilename": path}
    if not is_lfs(path):
        return {"rfilename": path, "size": content.size, "blobId": content.blob_id}
    lfs = {"sha256": content.sha256, "size": content.size, "pointerSize": content.pointer.size}
    return {"rfilename": path, "size": content.size, "blobId": content.pointer.blob_id, "lfs": lfs}


def _tree(stored: Mapping[str, Stored], under: str, recursive: bool) -> list[dict[str, Any]]:
    root = PurePosixPath(under)
    files = [PurePosixPath(path) for path in stored if root in PurePosixPath(path).parents]
    folders = {folder for path in files for folder in path.parents if root in folder.parents}
    shown = [path for path in sorted([*folders, *files]) if recursive or path.parent == root]
    return [_entry(str(path), stored.get(str(path))) for path in shown]


def _entry(path: str, content: Stored | None) -> dict[str, Any]:
    if content is None:
        return {"type": "directory", "oid": "0" * 40, "size": 0, "path": path}
    if not is_lfs(path):
        return {"type": "file", "oid": content.blob_id, "size": content.size, "path": path}
    lfs = {"oid": content.sha256, "size": content.size, "pointerSize": content.pointer.size}
    return {"type": "file", "oid": content.pointer.blob_id, "size": content.size, "lfs": lfs, "path": path}


def _pairs(words: Iterable[str]) -> list[tuple[str, str]]:
    return [(left, right) for left, _, right in (word.partition("=") for word in words)]


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(words: Sequence[str] | None = None) -> None:
    """Serve folders until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tests.hub.server", description=main.__doc__)
    parser.add_argument("--repo", action="append", required=True, metavar="OWNER/REPO=FOLDER")
    parser.add_argument("--modelscope", action="store_true", help="play ModelScope, not Hugging Face")
    parser.add_argument("--cut", action="append", default=[], metavar="FILE=N", help="end FILE once, after N bytes")
    parser.add_argument("--rate", type=int, default=0, metavar="BYTES_PER_SECOND", help="of each connection")
    given = parser.parse_args(words)
    repos = {name: Repo.of_folder(Path(folder)) for name, folder in _pairs(given.repo)}
    kind = ModelScope if given.modelscope else Hub
    with kind(repos, rate=given.rate, done=lambda request: _print(json.dumps(asdict(request)))) as server:
        for file, n_bytes in _pairs(given.cut):
            server.inject(file, Cut(int(n_bytes)))
        _print(server.url)
        with suppress(KeyboardInterrupt):
            Event().wait()


if __name__ == "__main__":
    main()
