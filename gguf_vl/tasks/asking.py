"""A task and pictures, put to one model."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gguf_vl.errors import UsageError, did_you_mean
from gguf_vl.media.resize import limits_for
from gguf_vl.tasks.task import PLACEHOLDER, Task, takes_empty_list
from gguf_vl.types import Message, Picture, PictureLimits, Request, Sampling

if TYPE_CHECKING:
    from gguf_vl.config import Settings
    from gguf_vl.runtime.models import Installed
    from gguf_vl.types import Detail

_MOST_ENLARGED = 0.75
"""Of the most tokens that are allowed: with no room between least and most, a picture would lose its shape."""
_ARTICLE = re.compile(r"^\s*(the|an?)\s+", re.IGNORECASE)
_BRINGS_ARTICLE = re.compile(r"\b(the|no)\s+$", re.IGNORECASE)
"""Of a wording, what stands before a parameter: "the red circle" is then asked for as "red circle"."""
_NO_PENALTIES = {"presence_penalty": 0.0, "frequency_penalty": 0.0, "repetition_penalty": 1.0}


def check(task: Task, n_pictures: int | None, given: Mapping[str, str]) -> None:
    """Raise `UsageError` for a number of pictures or parameters that the task does not take: before a model loads.

    None pictures are as many as a document or a video turns out to show.
    """
    least, most = task.n_pictures
    if n_pictures is not None and not least <= n_pictures <= most:
        wanted = _pictures(least) if least == most else f"{least} to {_pictures(most)}"
        if n_pictures < least and most > least:
            wanted = f"at least {_pictures(least)}"
        raise UsageError(
            f"{_of(task)} is about {wanted}, and {n_pictures or 'none'} {'is' if n_pictures <= 1 else 'are'} given.",
            "Give so many; a page of a document is one (report.pdf#2), and so are two frames of a video.",
        )
    known = [each.name for each in task.parameters]
    for name in given:
        if name not in known:
            fix = did_you_mean(name, known) or f"It has {', '.join(known) or 'none'}."
            raise UsageError(f"{_of(task)} has no parameter {name!r}.", fix)
    for each in task.parameters:
        if each.choices and given.get(each.name) and given[each.name] not in each.choices:
            raise UsageError(
                f"{_of(task)} takes {each.name}={' or '.join(each.choices)}, and {given[each.name]!r} is given.",
                "Take one of them.",
            )
        if each.default is None and not given.get(each.name, "").strip():
            raise UsageError(
                f"{_of(task)} needs {each.name}: {each.help}.",
                f"Give it as {each.name}=… (on the command line: -p {each.name}=…).",
            )


def parameters(pairs: Sequence[str]) -> dict[str, str]:
    """Parameters from texts of the form `key=value`. Raises `UsageError` for any other."""
    given = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign or not name.strip():
            raise UsageError(f"{pair!r} is no parameter.", "Write it as KEY=VALUE, such as thing='red circle'.")
        given[name.strip()] = value
    return given


def settle(task: Task, given: Mapping[str, str], extra: str) -> tuple[Mapping[str, str], str]:
    """(parameters, words to be added): words are the one parameter that must be given, where it is not given."""
    needed = [each.name for each in task.parameters if each.default is None and each.name not in given]
    if len(needed) == 1 and extra.strip():
        return {**given, needed[0]: extra.strip()}, ""
    return given, extra


def limits(task: Task, settings: Settings, limits: PictureLimits, *, detail: Detail | None = None) -> PictureLimits:
    """The image tokens to load the task's pictures with, within the model's `limits`.

    `detail` is what was asked for with this request: it goes before the task's own, and that before the settings'.
    Small pictures are enlarged to the task's `min_tokens`. Where no more than so many are allowed they stay as they
    are: `pocket`, which takes 1,024 at most, finds the edges of things to 1.2 to 1.6 % of a picture in its own size
    and to 1.8 to 2.1 % in an enlarged one (medians of 36 things each, in four sizes).
    """
    allowed = limits_for(detail or task.detail or settings.detail, limits)
    if task.min_tokens is None or allowed.max_tokens <= task.min_tokens:
        return allowed
    enlarged = min(task.min_tokens, int(_MOST_ENLARGED * allowed.max_tokens))
    return PictureLimits(max(allowed.min_tokens, enlarged), allowed.max_tokens)


def request(
    task: Task,
    pictures: Sequence[Picture | str],
    given: Mapping[str, str],
    installed: Installed,
    settings: Settings,
    *,
    extra: str = "",
    sampling: Mapping[str, Any] | None = None,
    system: str | None = None,
) -> Request:
    """The task as a request to a model, about pictures that were loaded within `limits`.

    Texts among the `pictures` stand between them, such as the time of a video's frame. `given` are parameters, `extra`
    is words that are added to the prompt (see `settle`). `sampling` (fields of `types.Sampling`) and `system` are what
    was asked for with this request: they go before the task's own, which go before the settings'. Raises `UsageError`
    as `check`.
    """
    given, extra = settle(task, given, extra)
    n_pictures = sum(isinstance(each, Picture) for each in pictures)
    check(task, n_pictures, given)
    asked = prompt(task, given, installed.name, extra=extra)
    rules = system_prompt(task, given, settings, system)
    said = (Message("system", (rules,)),) if rules else ()
    chosen = _sampling(task, installed.sampling(settings, pictures=n_pictures > 0), sampling or {})
    return replace(Request((*said, Message("user", (*pictures, asked))), chosen), **held(task, given, installed.name))


def prompt(task: Task, given: Mapping[str, str], model: str, *, extra: str = "") -> str:
    """What the model of that name is asked, in the words that are known to be best for it."""
    given, extra = settle(task, given, extra)
    asked = _filled(task.wordings.get(model, task.prompt), task, given)
    return "\n".join(part for part in (asked, extra.strip()) if part)


def system_prompt(task: Task, given: Mapping[str, str], settings: Settings, system: str | None = None) -> str:
    """The system prompt: that of the request, else the task's, else that of the settings, empty for none."""
    return system or rules_of(task, given) or settings.system or ""


def rules_of(task: Task, given: Mapping[str, str]) -> str:
    """The task's own system prompt with the parameters in it; empty for none."""
    return _filled(task.system, task, given)


def held(task: Task, given: Mapping[str, str], model: str) -> dict[str, Any]:
    """The field of a request that holds an answer to the task's schema, or to the model's own sentence for nothing."""
    nothing = _filled(task.nothing.get(model, ""), task, given)
    schema = _narrowed(task.schema, _chosen(task, given, model).values())
    if not nothing or not takes_empty_list(schema):
        return {"schema": schema}
    from gguf_vl.engine.grammar.schema import grammar_of

    return {"grammar": grammar_of(schema, other=nothing)}


def beyond(task: Task, model: str, given: Mapping[str, str] | None = None) -> str | None:
    """A sentence where a model is known not to do a task, so that its answer means nothing, or not with the choices
    that are `given`, so that it is asked for the usual ones.
    """
    if task.is_beyond(model):
        what = f"{model} has never learnt the task {task.name}, so its answer means nothing"
    else:
        usual = _chosen(task, given or {}, model)
        unknown = [
            f"{name}={value}" for name, value in usual.items() if (given or {}).get(name) not in (None, "", value)
        ]
        if not unknown:
            return None
        what = f"{model} has learnt the task {task.name} with {', '.join(unknown)} alone, and is asked for that"
    return f"{what}: `gguf-vl pull` gets one that knows more."


def _chosen(task: Task, given: Mapping[str, str], model: str) -> dict[str, str]:
    """Of the parameters with choices, what the model is asked for: the usual, where its words speak of no other."""
    words = task.by_frame.get(model, (task.wordings.get(model, task.prompt),))
    spoken_of = {name for text in (task.system, *words) for name in PLACEHOLDER.findall(text)}
    chosen = {}
    for each in task.parameters:
        value = given.get(each.name) if each.name in spoken_of else None
        if each.choices and (value or each.default):
            chosen[each.name] = value or each.default or ""
    return chosen


def _narrowed(schema: Any, chosen: Collection[str]) -> Any:
    """Of a schema that is one of several, the one whose title is a choice; else all of it."""
    ways = schema.get("anyOf") if isinstance(schema, Mapping) else None
    wanted = (way for way in ways or () if isinstance(way, Mapping) and way.get("title") in chosen)
    return next(wanted, schema)


def _filled(text: str, task: Task, given: Mapping[str, str]) -> str:
    """The text with the parameters in it; one pass, so that what is given is never read for braces."""
    values = {each.name: given.get(each.name) or each.default or "" for each in task.parameters}

    def filled(found: re.Match[str]) -> str:
        value = values.get(found[1], found[0])
        return _ARTICLE.sub("", value) if _BRINGS_ARTICLE.search(text[: found.start()]) else value

    return PLACEHOLDER.sub(filled, text)


def _sampling(task: Task, under: Sampling, over: Mapping[str, Any]) -> Sampling:
    """What is asked for over what the task has, over what is set and recommended; greedy without unasked penalties."""
    asked = {**task.sampling, **over}
    chosen = replace(under, **asked)
    if chosen.temperature == 0:
        chosen = replace(chosen, **_NO_PENALTIES | {name: asked[name] for name in _NO_PENALTIES if name in asked})
    return chosen


def _of(task: Task) -> str:
    return f"The task {task.name}" if task.name else "A question"


def _pictures(n: int) -> str:
    return "one picture" if n == 1 else f"{n} pictures"
