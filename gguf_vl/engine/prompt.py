"""From messages to what the model reads: tokens and pictures, by the model file's own chat template."""

from __future__ import annotations

import json
import re
import secrets
import signal
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gguf_vl.engine.tools import CLOSE, OPEN
from gguf_vl.engine.trimming import shortest_cut
from gguf_vl.errors import EngineError, InvalidModelFile, UsageError
from gguf_vl.types import Call, Message, Picture, Request, Tool

if TYPE_CHECKING:
    from gguf_vl.native.model import Model

IMAGE_PAD = "<|image_pad|>"
"""Where Qwen's templates put a picture's embeddings."""
_RENDERING_S = 5.0
"""Seconds a chat template may take: it comes from the model file, and its loops may have no end."""
_THINK = "<think>"
_ANSWERS = 1024
"""Answers whose tokens are remembered."""
_LONGEST_CHARACTER = 4
"""Bytes in UTF-8."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model reads, in order. `thinking` says that the template has already opened the model's reasoning.

    `begun` is the text of the answer that goes on, empty for a new one; `begun_tokens` are those that spell it, the
    last of the prompt.
    """

    parts: tuple[tuple[int, ...] | Picture, ...]
    thinking: bool
    begun: str = ""
    begun_tokens: tuple[int, ...] = ()

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
        self._answers: OrderedDict[str, tuple[int, ...]] = OrderedDict()

    def remember(self, text: str, tokens: Sequence[int]) -> None:
        """An answer of this model with its text: where that or a call in it stands in a conversation again, it is these
        very tokens.

        Tokenised anew it may be others, and what was computed for it would be of no use. Only what spells exactly the
        text is known by it: not thoughts, line breaks that were left out, what a stop string cut off. A token that ends
        in the midst of a character, and is the last, gives way to those of what was told of it.
        """
        names = {token: name for name, token in self._model.special_tokens.items()}
        tags = [place for place, token in enumerate(tokens) if token in names]
        if text and not tags:
            whole, spelled = self._whole(tokens)
            if spelled == text:
                self._know(text, whole)
            elif spelled and len(whole) < len(tokens) and text.startswith(spelled):
                self._know(text, (*whole, *self._model.tokenize(text.removeprefix(spelled))))
        for begin, end in pairwise(tags):
            call = tokens[begin + 1 : end]
            if (names[tokens[begin]], names[tokens[end]]) == (OPEN, CLOSE) and (spelled := self._spelled(call)):
                self._know(spelled, call)

    def _whole(self, tokens: Sequence[int]) -> tuple[Sequence[int], str | None]:
        """The tokens without the last few, where with these they end in the midst of a character; and their text."""
        for end in range(len(tokens), max(0, len(tokens) - _LONGEST_CHARACTER), -1):
            if (spelled := self._spelled(tokens[:end])) is not None:
                return tokens[:end], spelled
        return tokens, None

    def _spelled(self, tokens: Sequence[int]) -> str | None:
        """The text of these tokens, None where it does not end with a whole character."""
        try:
            return b"".join(map(self._model.piece, tokens)).decode()
        except UnicodeDecodeError:
            return None

    def _know(self, text: str, tokens: Sequence[int]) -> None:
        self._answers[text] = tuple(tokens)
        self._answers.move_to_end(text)
        if len(self._answers) > _ANSWERS:
            self._answers.popitem(last=False)

    def fitted(self, request: Request, n_ctx: int) -> tuple[Prompt, int]:
        """A request's prompt, and how many of its oldest messages are left out for it to fit `n_ctx` tokens.

        None are, unless it allows that. Then a quarter of the context, or the most it wants, is left for the answer.
        """
        answer = min(request.sampling.max_tokens or n_ctx, n_ctx // 4)

        def build(messages: Sequence[Message]) -> tuple[Prompt, int]:
            return self.build(messages, tools=request.tools), len(request.messages) - len(messages)

        if not request.drop_oldest:
            return build(request.messages)
        return shortest_cut(request.messages, build, lambda made: made[0].n_tokens + answer <= n_ctx)

    def build(self, messages: Sequence[Message], *, tools: Sequence[Tool] = (), is_open: bool = False) -> Prompt:
        """The prompt that ends where the model's answer begins; where the last message ends so far, if that `is_open`.

        A last message that is a text of the assistant's is a begun answer: the prompt ends where that does, behind any
        reasoning. An empty one is nothing. Raises `UsageError` when the template refuses the messages, `EngineError`
        when it has no place for pictures.
        """
        for message in messages:
            if message.calls and message.role != "assistant":
                raise UsageError(f"A message of the role {message.role!r} calls tools.", "Only the assistant's may.")
        messages, begun = (messages, "") if is_open else _begun_answer(messages)
        texts = _StandIns()
        told, offered = [texts.replace(message) for message in messages], [texts.offer(tool) for tool in tools]
        rendered = self._render(told, offered, answer_follows=not (is_open or begun))
        if begun:
            rendered = _before(told[-1]["content"], rendered)
        elif is_open:
            rendered = rendered.rpartition(self._model.eos_text)[0] or rendered
        opening = rendered.rstrip().rpartition(_THINK)
        thinking = bool(opening[1]) and not opening[2] and not begun
        pictures = [part for message in messages for part in message.content if isinstance(part, Picture)]
        parts = self._parts(texts.split(rendered), pictures)
        begun_tokens = self._answers.get(begun) or tuple(self._model.tokenize(begun)) if begun else ()
        if begun_tokens:
            parts.append(begun_tokens)
        if not is_open and (not parts or isinstance(parts[-1], Picture)):  # no token whose logits could begin an answer
            raise InvalidModelFile(
                "The model's chat template leaves no room for an answer after the messages.",
                "Fetch the model from its publisher.",
            )
        return Prompt(tuple(parts), thinking, begun, begun_tokens)

    def _render(self, messages: list[dict[str, Any]], tools: list[_Offered], *, answer_follows: bool) -> str:
        try:
            with _deadline(_RENDERING_S):
                return self._template.render(
                    messages=messages,
                    tools=tools or None,
                    add_generation_prompt=answer_follows,
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

    def _parts(self, pieces: list[tuple[str, _Whose]], pictures: list[Picture]) -> list[tuple[int, ...] | Picture]:
        """`pieces` are texts and whose they are. Text between two control tokens is tokenised as one."""
        parts: list[tuple[int, ...] | Picture] = []
        tokens: list[int] = []
        waiting = list(pictures)
        plain = ""
        call_begins = self._model.special_tokens.get(OPEN)

        def flush() -> None:
            nonlocal plain
            is_call = bool(tokens) and tokens[-1] == call_begins
            tokens.extend((is_call and self._answers.get(plain)) or self._model.tokenize(plain))
            plain = ""

        for text, whose in pieces:
            if whose == "assistant" and (answer := self._answers.get(text)):
                flush()
                tokens.extend(answer)
                continue
            end = 0
            for found in self._special.finditer(text) if whose == "template" else ():
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


def _begun_answer(messages: Sequence[Message]) -> tuple[Sequence[Message], str]:
    """The messages, and the text with which the last begins an answer. One without any text is left out."""
    last = messages[-1] if messages else None
    if last is None or last.role != "assistant" or last.calls:
        return messages, ""
    texts = [part for part in last.content if isinstance(part, str)]
    if len(texts) < len(last.content):
        return messages, ""
    if begun := "".join(texts):
        return (*messages[:-1], Message("assistant", (begun,))), begun
    return messages[:-1] or messages, ""


def _before(stand_in: str, rendered: str) -> str:
    """What a template writes up to the answer that goes on."""
    before, found, _ = rendered.rpartition(stand_in)
    if not found:
        raise UsageError(
            "The model's chat template leaves out the answer that is to go on.", "End with a message of the user's."
        )
    return before


_Whose = Literal["template", "assistant", "other"]


class _Offered(str):
    """A stand-in for JSON: `tojson` leaves it as it is."""


class _StandIns:
    """Takes texts out of messages, and puts them back into what the template made of the stand-ins."""

    def __init__(self) -> None:
        self._nonce = secrets.token_hex(8)
        self._texts: list[tuple[str, _Whose]] = []

    def replace(self, message: Message) -> dict[str, Any]:
        """The message as a chat template expects it: a string, or a list of items where there are pictures."""
        whose: _Whose = "assistant" if message.role == "assistant" else "other"
        items = [
            {"type": "image"} if isinstance(part, Picture) else {"type": "text", "text": self._stand_in(part, whose)}
            for part in message.content
        ]
        has_picture = any(isinstance(part, Picture) for part in message.content)
        content = items if has_picture else "".join(item["text"] for item in items)
        told: dict[str, Any] = {"role": message.role, "content": content}
        if message.calls:
            told["tool_calls"] = [{"type": "function", "function": self._call(call)} for call in message.calls]
        return told

    def _call(self, call: Call) -> dict[str, str]:
        """A call as chat templates expect it: they write the name between quotation marks, the arguments as JSON."""
        name = json.dumps(call.name, ensure_ascii=False)[1:-1]
        return {
            "name": self._stand_in(name, "other"),
            "arguments": _Offered(self._stand_in(call.arguments or "{}", "other")),
        }

    def offer(self, tool: Tool) -> _Offered:
        """A tool as chat templates write it down, in JSON. What it says of itself never passes through the template."""
        function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters or {}}
        written = json.dumps({"type": "function", "function": function}, ensure_ascii=False)
        return _Offered(self._stand_in(written, "other"))

    def _stand_in(self, text: str, whose: _Whose) -> str:
        if not text:
            return ""  # templates ask whether there is any
        self._texts.append((text, whose))
        return f"[{self._nonce}:{len(self._texts) - 1}]"

    def split(self, rendered: str) -> list[tuple[str, _Whose]]:
        """Texts in order, and whose each is."""
        pieces = re.split(rf"\[{self._nonce}:(\d+)\]", rendered)
        return [self._texts[int(piece)] if i % 2 else (piece, "template") for i, piece in enumerate(pieces)]


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
        if isinstance(value, _Offered):
            return str(value)
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
