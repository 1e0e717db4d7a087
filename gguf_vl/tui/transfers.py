"""What the threads behind `downloads` do: a pull, a verification, a look at what earlier pulls have left.

They know no loop: they tell how far they are, and end when they are told to.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal

from gguf_vl.errors import GgufVlError, MissingOrInvalid, ModelNotFound, UsageError, VerificationFailed

State = Literal["waiting", "planning", "fetching", "verifying", "paused", "done", "failed"]


class Stopped(GgufVlError):
    """It was paused, or is not wanted any more."""


@dataclass(eq=False, slots=True)
class Run:
    """One thread's work on a job. `stopped` tells it to end; `is_over` says that it has, `is_due` that it will be
    heard of in a moment.
    """

    stopped: threading.Event = field(default_factory=threading.Event)
    is_over: bool = False
    is_due: bool = False


@dataclass(frozen=True, slots=True)
class News:
    """How far a run is; `done` and `total` are bytes."""

    state: State
    done: int = 0
    total: int = 0
    note: str = ""


class Teller:
    """A `Progress` of the store. It adds the files up, and ends the work once that is not wanted any more.

    `tell` is called with what is new, `tell_soon` when `news` has changed in a way that can wait.
    """

    def __init__(self, run: Run, state: State, tell: Callable[[News], None], tell_soon: Callable[[], None]) -> None:
        self._run = run
        self._state = state
        self._tell = tell
        self._tell_soon = tell_soon
        self._sizes: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self.news = News(state)

    def expect(self, state: State, sizes: Mapping[str, int], done: Mapping[str, int]) -> None:
        """What work on a file without a verb of its own is from now on, and the files to come, in bytes."""
        self._state, self._sizes, self._done = state, dict(sizes), dict(done)
        self._sum_up()
        self._tell(self.news)

    def turn(self, state: State) -> None:
        """The same bytes are in another state now."""
        self._state = state
        self._sum_up()
        self._tell(self.news)

    def check(self) -> None:
        """Raise where it was stopped."""
        if self._run.stopped.is_set():
            raise Stopped("It was stopped.", "Resume it.")

    def start(self, label: str, total: int, done: int = 0) -> None:
        """A file begins, or begins again."""
        self._sizes[label] = max(total, self._sizes.get(label, 0))
        self._at(label, done)
        self._tell(self.news)

    def at(self, label: str, done: int) -> None:
        """A file goes on."""
        self._at(label, done)
        self._tell_soon()

    def end(self, label: str) -> None:
        """Work on a file is over; one that was verified on the way is here whole."""
        if file := self._verified(label):
            del self._sizes[label], self._done[label]
            self._done[file] = self._sizes.get(file, 0)

    def note(self, line: str) -> None:
        """A line."""
        self.check()
        self.news = replace(self.news, note=line)
        self._tell(self.news)

    def _at(self, label: str, done: int) -> None:
        self.check()
        self._done[label] = done
        if self._verified(label):
            self.news = replace(self.news, state="verifying", done=done, total=self._sizes[label])
        else:
            self._sum_up()

    def _verified(self, label: str) -> str:
        """In the middle of a pull, `FILE: verifying` is FILE; else empty."""
        file, _, work = label.partition(": ")
        return file if work and self._state == "fetching" else ""

    def _sum_up(self) -> None:
        files = [label for label in self._sizes if not self._verified(label)]
        done, total = (sum(by_file.get(label, 0) for label in files) for by_file in (self._done, self._sizes))
        self.news = replace(self.news, state=self._state, done=done, total=total)


Work = Callable[[str, Teller], str]
"""Does the work on a model of that name, and returns the last note."""


def pull(name: str, tell: Teller) -> str:
    """Fetch and install a model. Raises what planning and fetching raise, and `Stopped`."""
    from gguf_vl.store import pull as store
    from gguf_vl.store.download import remaining
    from gguf_vl.store.wishes import plan

    planned = plan(_wish(name), choose=_refuse)
    tell.check()
    sizes = {each.remote.name: each.remote.size or 0 for each in planned.files}
    done = dict(sizes)
    for each in planned.files:
        if not planned.kept(each):
            done[each.remote.name] -= remaining(each.remote, planned.staging / each.remote.name)
    tell.expect("fetching", sizes, done)
    if planned.is_installed:
        return f"{planned.name} was here already"
    if planned.note:
        tell.note(planned.note)
    store.pull(planned, tell)
    tell.turn("verifying")
    return f"{planned.name} is installed and verified"


def _wish(name: str) -> str:
    """The name, unless only another program run knew what it stands for."""
    from gguf_vl import catalogue
    from gguf_vl.store.place import unfinished

    if "/" not in name:
        try:
            catalogue.find(name)
        except ModelNotFound:
            if any(each.name == name for each in unfinished()):
                what = f"What {name} was begun from is not known here any more."
                fix = f"The same `gguf-vl pull hf:…` goes on with it; `gguf-vl rm {name}` removes it."
                raise UsageError(what, fix) from None
            raise
    return name


def verify(name: str, tell: Teller) -> str:
    """Hash a model's files. Raises `VerificationFailed` for a wrong one, and `Stopped`."""
    from gguf_vl.runtime.models import of_name
    from gguf_vl.store import verify as store
    from gguf_vl.store.library import folder_meant

    folder = folder_meant(name)
    if folder is None:
        raise ModelNotFound(f"There is no model {name} here.", "Fetch it first.")
    with suppress(MissingOrInvalid):  # of a broken one the files are hashed all the same
        local = of_name(name).local
        files = [path for path in (local.model, local.mmproj) if path]
        tell.expect("verifying", {f"{each.parent.name}/{each.name}": each.stat().st_size for each in files}, {})
    checked = store.verify(folder, tell)
    for each in checked:
        if each.trouble:
            raise VerificationFailed(f"{each.path.name} of {name} is damaged: {each.trouble}.", each.fix)
    unknown = sum(each.promised_by == "none" for each in checked)
    return f"{name} is as promised" if not unknown else f"{name} was hashed; nobody says what it should be"


def _refuse(question: str, choices: Sequence[str]) -> str:
    raise UsageError(f"{question}: {', '.join(choices)}.", "Say which, with a colon behind the name.")


@dataclass(frozen=True, slots=True)
class Left:
    """What an interrupted pull has left, in bytes; `total` 0 where nobody knows."""

    name: str
    done: int
    total: int


def left_behind() -> list[Left]:
    """What interrupted pulls have left, and those of other processes that are at work."""
    from gguf_vl import catalogue
    from gguf_vl.store.place import unfinished

    found = []
    with suppress(GgufVlError):  # whoever lists the models is told
        for each in unfinished():
            total = 0
            with suppress(ModelNotFound):
                _, variant = catalogue.find(each.name)
                total = (variant.file.size or 0) + (variant.mmproj.size or 0)
            found.append(Left(each.name, each.n_bytes, total))
    return found
