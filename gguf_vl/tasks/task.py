"""A task: what is wanted of pictures, as data. What a file of them may hold is in `reading`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gguf_vl import paths
from gguf_vl.errors import UsageError

if TYPE_CHECKING:
    from gguf_vl.types import Detail

Shown = Literal["text", "markdown", "json", "table", "boxes", "points", "html"]
MANY = 1000
"""Pictures of one request, where a task sets no other limit."""
PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")
"""A parameter in a prompt. The braces of JSON are none: they have quotes, spaces or capitals behind them."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a person gives a task, by name. One whose `default` is None must be given; `choices` are all that it may be,
    where there are any.
    """

    name: str
    help: str
    default: str | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """What is wanted of pictures.

    `prompt` has parameters in braces. With a JSON `schema` the answer is held to it: of an `anyOf` to the part that has
    a parameter's choice as its `title`, where one has. `sampling` has fields of `types.Sampling`. `min_tokens` is the
    image tokens that small pictures are enlarged to, `n_pictures` the least and the most pictures. `shown` says what
    the answer is, `wordings` have another prompt for a model by its name, where one is known to be better. `nothing`
    has the sentence with which a model by its name was taught to say that there is nothing, where the schema is a list:
    it may stand in the place of the empty one. `by_frame` has, for a model that never learnt what happens in time, what
    it is asked about each frame of a video by itself (see `by_frame.FrameByFrame`): the first, or the last where
    parameters are given.
    """

    name: str
    purpose: str
    purpose_zh: str
    prompt: str
    system: str = ""
    parameters: tuple[Parameter, ...] = ()
    schema: Any = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    detail: Detail | None = None
    min_tokens: int | None = None
    n_pictures: tuple[int, int] = (1, 1)
    shown: Shown = "text"
    wordings: Mapping[str, str] = field(default_factory=dict)
    nothing: Mapping[str, str] = field(default_factory=dict)
    by_frame: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def says_nothing(self, answer: str) -> bool:
        """Whether an answer is one of the sentences for nothing, whatever it was asked about, and may be one."""
        if not takes_empty_list(self.schema):
            return False
        said = (PLACEHOLDER.split(each)[::2] for each in self.nothing.values())
        return any(re.fullmatch(".*".join(map(re.escape, parts)), answer.strip(), re.DOTALL) for parts in said)

    def is_beyond(self, model: str) -> bool:
        """Whether the model of that name is known not to do this: pocket does only what it has words for."""
        return model == "pocket" and bool(self.name) and model not in self.wordings and model not in self.by_frame

    def held_to(self, schema: Any) -> Task:
        """The same, with a schema in the place of its own, to which a model then holds one answer about all."""
        return replace(self, schema=schema, shown="json", by_frame={})


def takes_empty_list(schema: Any) -> bool:
    """Whether it is plain that an empty list fulfils a schema."""
    if not isinstance(schema, Mapping):
        return False
    if isinstance(ways := schema.get("anyOf"), list):
        return any(map(takes_empty_list, ways))
    return schema.get("type") == "array" and not schema.get("minItems")


def person_file() -> Path:
    """The person's own tasks, beside their settings."""
    return paths.config_file().with_name("tasks.toml")


def load() -> Mapping[str, Task]:
    """All tasks by name: those shipped, and the person's own over them, whose file is read again when it has changed.

    Raises `UsageError` for a file of the person's that is broken, naming the place and the key.
    """
    own = person_file()
    if not own.exists():
        return shipped()
    now = own.stat()
    return {**shipped(), **_read(own, (now.st_mtime_ns, now.st_size, now.st_ino))}


@cache
def shipped() -> Mapping[str, Task]:
    """The tasks of this package alone."""
    from gguf_vl.tasks.reading import read_file

    return read_file(Path(__file__).with_name("tasks.toml"))


@lru_cache(1)
def _read(path: Path, _version: tuple[int, ...]) -> Mapping[str, Task]:
    """The tasks in one version of a file: reading twenty takes 8 ms, and a server looks at every request."""
    from gguf_vl.tasks.reading import read_file

    return read_file(path)


def find(name: str) -> Task:
    """The task of that name. Raises `UsageError` with the nearest names, and as `load`."""
    tasks = load()
    if name in tasks:
        return tasks[name]
    near = get_close_matches(name.casefold().replace("_", "-"), tasks, n=3, cutoff=0.5)
    raise UsageError(
        f"There is no task {name!r}.",
        f"Did you mean {' or '.join(near)}?" if near else f"The tasks are {', '.join(tasks)}.",
    )


def free(schema: Any = None) -> Task:
    """A question of one's own as a task without a name or a prompt, about any number of pictures.

    An answer that is held to a schema is taken as the likeliest.
    """
    return Task(
        name="",
        purpose="",
        purpose_zh="",
        prompt="",
        schema=schema,
        sampling={} if schema is None else {"temperature": 0.0},
        n_pictures=(0, MANY),
        shown="text" if schema is None else "json",
    )
