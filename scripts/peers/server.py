"""HTTP servers with OpenAI's chat completions, the peers' and our own, started and ended here."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from gguf_vl.types import EngineSettings

from .loop import KV_TYPES
from .talk import Answer, Talk, Turn, Unanswered

HOST = "127.0.0.1"
STARTING_S = 600.0
"""Seconds a server has to load its model, and to go on with an answer."""
ENDING_S = 10.0


class Server:
    """A server's process, and a client of it that sends some `fields` with each request. Its log is a file in `folder`.
    It ends by its id when this is left.
    """

    prepares = False

    def __init__(self, name: str, words: Sequence[str], ready: str, fields: Mapping[str, Any], folder: Path) -> None:
        self.name = name
        self._ready = ready
        self._fields = fields
        with socket.socket() as free:
            free.bind((HOST, 0))
            self._port = free.getsockname()[1]
        self._words = [*words, "--host", HOST, "--port", str(self._port)]
        self.log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._file: IO[bytes] | None = None

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._process
        return self._process.pid

    def __enter__(self) -> Self:
        self._file = self.log.open("ab")
        # A session of its own: Ctrl+C comes to us alone, and we end it.
        self._process = subprocess.Popen(
            self._words, stdin=subprocess.DEVNULL, stdout=self._file, stderr=self._file, start_new_session=True
        )
        try:
            self._wait_until_ready()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(ENDING_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._file:
            self._file.close()

    def _wait_until_ready(self) -> None:
        assert self._process
        until = time.monotonic() + STARTING_S
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise SystemExit(f"{self.name} ended with {self._process.returncode}: see {self.log}")
            with suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection(HOST, self._port, timeout=5)
                connection.request("GET", self._ready)
                if connection.getresponse().status == 200:
                    return
            time.sleep(0.1)
        raise SystemExit(f"{self.name} was not ready after {STARTING_S:g} s: see {self.log}")

    def prepare(self, talk: Talk) -> None:
        """It has no such thing."""
        raise NotImplementedError

    def ask(self, talk: Talk, n_tokens: int) -> Answer:
        """Answer greedily with exactly so many tokens. Raises `Unanswered`."""
        began = time.perf_counter()
        body = {
            "messages": [_message(turn) for turn in talk],
            "max_tokens": n_tokens,
            "temperature": 0.0,
            "top_k": 1,
            "repeat_penalty": 1.0,
            "stream": True,
            **self._fields,
        }
        id = uuid.uuid4().hex
        connection = http.client.HTTPConnection(HOST, self._port, timeout=STARTING_S)
        text, stamps, reason = "", [], None
        try:
            headers = {"Content-Type": "application/json", "X-Request-Id": id}
            connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
            for chunk in _chunks(connection.getresponse()):
                if "error" in chunk:
                    raise Unanswered(f"{self.name}: {chunk['error']}")
                for choice in chunk.get("choices", []):
                    delta = choice.get("delta") or {}
                    if piece := delta.get("content") or delta.get("reasoning_content"):
                        text += piece
                        stamps.append(time.perf_counter())
                    reason = choice.get("finish_reason") or reason
        except (OSError, http.client.HTTPException) as error:
            raise Unanswered(f"{self.name}: {type(error).__name__}: {error}") from error
        finally:
            connection.close()
        ended = time.perf_counter()
        if reason != "length" or not stamps:
            raise Unanswered(f"{self.name} ended an answer of {n_tokens} tokens with {reason!r} after {text!r}")
        return Answer(text, n_tokens, began, tuple(stamps), ended, id=id)


def _message(turn: Turn) -> dict[str, Any]:
    """A turn as OpenAI writes it. Text alone is a string: not every server takes a list from the assistant."""
    if all(isinstance(part, str) for part in turn.content):
        return {"role": turn.role, "content": "".join(map(str, turn.content))}
    return {"role": turn.role, "content": [_part(part) for part in turn.content]}


def _part(part: str | bytes) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    url = "data:image/png;base64," + base64.b64encode(part).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def _chunks(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """The events of a stream, as they come. Raises `Unanswered` for a refusal."""
    if response.status != 200:
        raise Unanswered(f"HTTP {response.status}: {response.read(2000).decode(errors='replace')}")
    while line := response.readline():
        data = line.decode().strip().removeprefix("data:").strip()
        if data.startswith("{"):
            yield json.loads(data)


def llama_server(binary: Path, settings: EngineSettings, banned: Sequence[int], folder: Path) -> Server:
    """llama.cpp's own server. Its slots share the context, as our sequences do."""
    words = [
        *(str(binary), "-m", str(settings.model), "--mmproj", str(settings.mmproj), "--no-webui", "--fit", "off"),
        *("-c", str(settings.n_ctx), "-np", str(settings.n_seq_max), "--kv-unified"),
        *("-t", str(settings.n_threads), "-tb", str(settings.n_threads)),
        *("--cache-type-k", settings.kv_type, "--cache-type-v", settings.kv_type),
        *("--image-min-tokens", str(settings.limits.min_tokens)),
        *("--image-max-tokens", str(settings.limits.max_tokens)),
        *("-ngl", str(settings.n_gpu_layers if settings.n_gpu_layers >= 0 else 999)),
        *(() if settings.mmproj_offload else ("--no-mmproj-offload",)),
    ]
    fields = {"logit_bias": [[token, False] for token in banned], "ignore_eos": True}
    return Server("llama-server", words, "/health", fields, folder)


def llama_cpp_python(python: Path, settings: EngineSettings, banned: Sequence[int], folder: Path) -> Server:
    """llama-cpp-python's own server.

    `chat_format` "mtmd" takes any model that llama.cpp's multimodal library knows, by the model's own template. The
    defaults would keep the logits of every token in memory, end an answer when the next request comes, and leave out
    flash attention: none of that is held against it.
    """
    words = [
        *(str(python), "-m", "llama_cpp.server", "--model", str(settings.model)),
        *("--chat_format", "mtmd", "--clip_model_path", str(settings.mmproj), "--n_ctx", str(settings.n_ctx)),
        *("--n_threads", str(settings.n_threads), "--n_threads_batch", str(settings.n_threads)),
        *("--n_batch", str(settings.n_batch), "--n_ubatch", str(settings.n_batch)),
        *("--n_gpu_layers", str(settings.n_gpu_layers), "--flash_attn", "true", "--logits_all", "false"),
        *("--type_k", str(KV_TYPES[settings.kv_type]), "--type_v", str(KV_TYPES[settings.kv_type])),
        *("--use_mlock", "false", "--interrupt_requests", "false", "--verbose", "false"),
    ]
    return Server("llama_cpp.server", words, "/v1/models", _forbidding(banned), folder)


def ours(settings: EngineSettings, banned: Sequence[int], folder: Path) -> Server:
    """`gguf-vl serve`, as it is installed for who runs this. Its log has a line of JSON for each request."""
    words = [
        *(sys.executable, "-P", "-m", "gguf_vl", "serve", "--model", str(settings.model)),
        *(("--mmproj", str(settings.mmproj)) if settings.mmproj else ()),
        *("--ctx", str(settings.n_ctx), "--parallel", str(settings.n_seq_max), "--threads", str(settings.n_threads)),
        *("--kv-type", settings.kv_type, "--image-max-tokens", str(settings.limits.max_tokens)),
    ]
    return Server("gguf-vl serve", words, "/ready", _forbidding(banned) | {"loop_guard": False}, folder)


def _forbidding(banned: Sequence[int]) -> dict[str, Any]:
    """What OpenAI's interface has for tokens that must not come."""
    return {"logit_bias": {str(token): -1e9 for token in banned}}
