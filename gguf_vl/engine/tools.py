"""Tool calls in Qwen3-VL's format: read from an answer as it grows, and forced by a grammar.

    <tool_call>
    {"name": "get_weather", "arguments": {"city": "Paris"}}
    </tool_call>

The model writes this because its chat template says so, which is given the tools and renders them; nothing here does.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from typing import Any

from gguf_vl.engine.answer import overlap
from gguf_vl.engine.grammar.json_rules import Rules, literal
from gguf_vl.engine.grammar.schema import add_schema
from gguf_vl.errors import UsageError
from gguf_vl.types import CallArguments, CallEnded, CallEvent, CallStarted, Text, Tool, ToolChoice

OPEN, CLOSE = "<tool_call>", "</tool_call>"
_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*(?=\{)')
"""A call up to its arguments, as templates teach it: from there on they can be streamed."""
_LONGEST_HEAD = 512
_TAIL = re.compile(r"\s*\}?\s*")


class ToolCalls:
    """Finds the calls in one answer's text.

    Arguments are passed on as they come. What is no call in spite of its tags is text; a call that breaks off after its
    arguments have begun ends incomplete. A closing tag ends a call wherever it stands, so that one quotation mark too
    few does not swallow the rest. White space around calls belongs to none.
    """

    def __init__(self) -> None:
        self._held = ""
        self._state = self._text
        self._n_calls = 0
        self._gap = ""  # white space before an opening tag
        self._blank = False  # whether nothing but white space has come since a call
        self._arguments = ""
        self._scan = _Scan()

    def push(self, text: str) -> list[Text | CallEvent]:
        """The events that the next piece of the answer completes."""
        self._held += text
        return self._run(final=False)

    def finish(self) -> list[Text | CallEvent]:
        """What was still held back, when the answer is over."""
        return self._run(final=True)

    def _run(self, *, final: bool) -> list[Text | CallEvent]:
        events: list[Text | CallEvent] = []
        while self._state(events, final):
            pass
        return events

    # Each state takes what it can from the text held, and says whether there is more to take.

    def _text(self, events: list[Text | CallEvent], final: bool) -> bool:
        before, tag, after = self._held.partition(OPEN)
        if not tag:
            before = self._held if final else before[: len(before) - overlap(before, OPEN)].rstrip()
            after = self._held[len(before) :]
        self._held = after
        if tag:
            self._gap = before[len(before.rstrip()) :]
            self._state = self._head
        self._say(before.removesuffix(self._gap) if tag else before, events)
        return bool(tag)

    def _say(self, text: str, events: list[Text | CallEvent]) -> None:
        if self._blank:
            text = text.lstrip()
        if text:
            self._blank = False
            events.append(Text(text))

    def _head(self, events: list[Text | CallEvent], final: bool) -> bool:
        head = _HEAD.match(self._held[:_LONGEST_HEAD])
        name = _loaded(head[1]) if head else None
        if head and isinstance(name, str):
            self._start(name, events)
            self._held = self._held[head.end() :]
            self._state = self._within_arguments
            return True
        body, tag, after = self._held.partition(CLOSE)
        if not tag and not final:
            return False
        self._held, self._state = after, self._text
        call = _loaded(body)
        if isinstance(call, dict) and isinstance(call.get("name"), str) and isinstance(call.get("arguments", {}), dict):
            self._start(call["name"], events)
            self._argue(json.dumps(call.get("arguments", {}), ensure_ascii=False), events)
            self._end(events)
        else:
            self._blank = False
            events.append(Text(self._gap + OPEN + body + tag))
        return bool(after)

    def _within_arguments(self, events: list[Text | CallEvent], final: bool) -> bool:
        arguments, tag, after = self._held.partition(CLOSE)
        if not tag and not final:
            arguments = arguments[: len(arguments) - overlap(arguments, CLOSE)]
        end = self._scan.end_of_object(arguments)
        if end is not None:
            self._argue(arguments[:end], events)
            self._held, self._state = self._held[end:], self._behind_arguments
        else:
            self._argue(arguments, events)
            self._held = after if tag else self._held[len(arguments) :]
            if not tag and not final:
                return False
            self._state = self._text
        self._end(events)
        return True

    def _behind_arguments(self, events: list[Text | CallEvent], final: bool) -> bool:
        tail = _TAIL.match(self._held)
        rest = self._held[tail.end() :] if tail else self._held
        if CLOSE.startswith(rest) and rest != CLOSE and not final:
            return False
        self._held, self._state = rest.removeprefix(CLOSE), self._text
        return True

    def _start(self, name: str, events: list[Text | CallEvent]) -> None:
        self._arguments = ""
        self._scan = _Scan()
        events.append(CallStarted(self._n_calls, f"call_{secrets.token_hex(12)}", name))

    def _argue(self, text: str, events: list[Text | CallEvent]) -> None:
        self._arguments += text
        if text:
            events.append(CallArguments(self._n_calls, text))

    def _end(self, events: list[Text | CallEvent]) -> None:
        events.append(CallEnded(self._n_calls, isinstance(_loaded(self._arguments), dict)))
        self._n_calls += 1
        self._blank = True


class _Scan:
    """Where a JSON object ends, in text that comes in pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def end_of_object(self, text: str) -> int | None:
        """How many characters of the next piece belong to it, where it ends there."""
        for place, character in enumerate(text):
            if self._in_string:
                self._in_string = self._escaped or character != '"'
                self._escaped = character == "\\" and not self._escaped
            elif character == '"':
                self._in_string = True
            elif character in "{}":
                self._depth += 1 if character == "{" else -1
                if self._depth == 0:
                    return place + 1
        return None


def _loaded(text: str) -> Any:
    """The value of a JSON text, None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def grammar_of_tools(
    tools: Sequence[Tool], choice: ToolChoice, *, parallel: bool = True, schema: Any | None = None
) -> str:
    """GBNF, from `root` on, of the calls that a choice of tools leaves, empty for none. It begins with `OPEN`.

    With "auto" any text may stand before it, or alone; with a `schema` what fulfils that, and in its place. The tags
    must be tokens of the model's own, as they are in Qwen's vocabulary. With `parallel` false there is one call at
    most. Raises `UsageError` as schemas do, and where a call is required and there is no tool.
    """
    is_named = choice not in ("none", "auto", "required")
    callable_tools = [tool for tool in tools if not is_named or tool.name == choice]
    if is_named and not callable_tools:
        raise UsageError(f"There is no tool {choice!r} to call.", "Name one of the request's tools.")
    if choice == "none" or (choice == "auto" and not callable_tools):
        return ""
    if not callable_tools:
        raise UsageError("A tool call is required, and there are no tools.", "Give the request its tools.")
    rules = Rules()
    call = rules.add("call", " | ".join(_call(tool, rules) for tool in callable_tools))
    calls = call if is_named or not parallel else f'{call} ("\\n" {call})*'
    held = choice == "auto" and schema is not None
    rules.fill("root", f"{add_schema(rules, schema)} | {calls}" if held else calls)
    return rules.text()


def _call(tool: Tool, rules: Rules) -> str:
    parameters = {"properties": {}} if tool.parameters is None else tool.parameters or {"type": "object"}
    arguments = add_schema(rules, parameters, f"{tool.name}#")
    head = literal(f'\n{{"name": {json.dumps(tool.name, ensure_ascii=False)}, "arguments": ')
    return rules.add("call", f'{OPEN} {head} {arguments} "}}\\n" {CLOSE}')
