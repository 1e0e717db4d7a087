"""From messages to what the model reads: tokens and pictures, by the model file's own chat template."""

from __future__ import annotations

import json
import re
import secrets
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gguf_vl.errors import EngineError, InvalidModelFile, UsageError
from gguf_vl.types import Message, Picture

if TYPE_CHECKING:
    from gguf_vl.native.model import Model

IMAGE_PAD = "<|image_pad|>"
"""Where Qwen's templates put a picture's embeddings."""
_RENDERING_S = 5.0
"""Seconds a chat template may take: it comes from the model file, and its loops may have no end."""
_THINK = "<think>"


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model reads, in order. `thinking` says that the template has already opened the model's reasoning."""

    parts: tuple[tuple[int, ...] | Picture, ...]
    thinking: bool

    @property
    def n_tokens(self) -> int:
        """Cells of the KV cache: text tokens and image tokens."""
        return sum(part.tokens if isinstance(part, Picture) else len(part) for part in self.parts)

    @property
    def image_tokens(self) -> int:
        """The part of `n_tokens` that pictures take."""
        return sum(part.tokens for part in self.parts if isinstance(part, Picture))


class PromptBuilder:
    """Renders one model's chat template and tokenises what comes out.

    What people wrote never reaches the template: it renders stand-ins, and the texts are put in afterwards. So a
    control token spelled out in a message stays text, and only the template's own count.
    """

    def __init__(self, model: Model) -> None:
        if model.chat_template is None:
            raise InvalidModelFile(
                "The model file has no chat template, so it cannot hold a conversation.",
                "Use an Instruct or Thinking model.",
            )
        self._model = model
        self._template = _compile(model.chat_template)
        special = sorted(model.special_tokens, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, special)) or r"(?!)")

    def build(self, messages: Sequence[Message]) -> Prompt:
        """The prompt that ends where the model's answer begins.

        Raises `UsageError` when the template refuses the messages, `EngineError` when it has no place for pictures.
        """
        texts = _StandIns()
        rendered = self._render([texts.replace(message) for message in messages])
        opening = rendered.rstrip().rpartition(_THINK)
        thinking = bool(opening[1]) and not opening[2]
        pictures = [part for message in messages for part in message.content if isinstance(part, Picture)]
        parts = self._parts(texts.split(rendered), pictures)
        if not parts or isinstance(parts[-1], Picture):  # no token whose logits could begin an answer
            raise InvalidModelFile(
                "The model's chat template leaves no room for an answer after the messages.",
                "Fetch the model from its publisher.",
            )
        return Prompt(tuple(parts), thinking)

    def _render(self, messages: list[dict[str, Any]]) -> str:
        try:
            with _deadline(_RENDERING_S):
                return self._template.render(
                    messages=messages,
                    add_generation_prompt=True,
                    bos_token=self._model.bos_text,
                    eos_token=self._model.eos_text,
                )
        except _Refused as refusal:
            raise UsageError(
                f"The model's chat template refuses this conversation: {refusal}",
                "Change the order or the roles of the messages.",
            ) from None
        except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, TimeoutError) as error:
            raise InvalidModelFile(
                f"The model's chat template fails: {error}", "Fetch the model from its publisher."
            ) from error

    def _parts(self, pieces: list[tuple[str, bool]], pictures: list[Picture]) -> list[tuple[int, ...] | Picture]:
        """`pieces` are (text, whether a person wrote it). Text between two control tokens is tokenised as one."""
        parts: list[tuple[int, ...] | Picture] = []
        tokens: list[int] = []
        waiting = list(pictures)
        plain = ""

        def flush() -> None:
            nonlocal plain
            tokens.extend(self._model.tokenize(plain))
            plain = ""

        for text, written in pieces:
            end = 0
            for found in () if written else self._special.finditer(text):
                plain += text[end : found.start()]
                end = found.end()
                flush()
                if found[0] == IMAGE_PAD and waiting:
                    parts += [tuple(tokens), waiting.pop(0)]
                    tokens = []
                else:
                    tokens.append(self._model.special_tokens[found[0]])
            plain += text[end:]
        flush()
        if waiting:
            raise EngineError(
                "This model's chat template has no place for pictures.", "Choose a Qwen3-VL model: `gguf-vl list`."
            )
        parts = [part for part in (*parts, tuple(tokens)) if part]
        begins = parts[0][0] if parts and not isinstance(parts[0], Picture) else None
        return parts if self._model.bos in (None, begins) else [(self._model.bos,), *parts]


class _StandIns:
    """Takes people's texts out of messages, and puts them back into what the template made of the stand-ins."""

    def __init__(self) -> None:
        self._nonce = secrets.token_hex(8)
        self._texts: list[str] = []

    def replace(self, message: Message) -> dict[str, Any]:
        """The message as a chat template expects it: a string, or a list of items where there are pictures."""
        items = [
            {"type": "image"} if isinstance(part, Picture) else {"type": "text", "text": self._stand_in(part)}
            for part in message.content
        ]
        has_picture = any(isinstance(part, Picture) for part in message.content)
        content = items if has_picture else "".join(item["text"] for item in items)
        return {"role": message.role, "content": content}

    def _stand_in(self, text: str) -> str:
        self._texts.append(text)
        return f"[{self._nonce}:{len(self._texts) - 1}]"

    def split(self, rendered: str) -> list[tuple[str, bool]]:
        """(text, whether a person wrote it) in order."""
        pieces = re.split(rf"\[{self._nonce}:(\d+)\]", rendered)
        return [(self._texts[int(piece)], True) if i % 2 else (piece, False) for i, piece in enumerate(pieces)]


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Raise `TimeoutError` inside when it takes longer. Only where the system has timers, and on the main thread."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def ring(_signal: int, _frame: object) -> NoReturn:
        raise TimeoutError(f"it takes more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class _Refused(Exception):
    """A template called `raise_exception`."""


def _compile(source: str) -> jinja2.Template:
    """The template in a sandbox, with the helpers that transformers gives to chat templates."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])

    def tojson(value: Any, indent: int | None = None, ensure_ascii: bool = False) -> str:
        return json.dumps(value, indent=indent, ensure_ascii=ensure_ascii)

    def raise_exception(message: str) -> NoReturn:
        raise _Refused(message)

    def strftime_now(form: str) -> str:
        return datetime.now().strftime(form)

    helpers: dict[str, Callable[..., Any]] = {"raise_exception": raise_exception, "strftime_now": strftime_now}
    environment.filters["tojson"] = tojson
    environment.globals.update(helpers)
    try:
        return environment.from_string(source)
    except jinja2.TemplateError as error:
        raise InvalidModelFile(
            f"The model's chat template is broken: {error}", "Fetch the model from its publisher."
        ) from error
