"""Whatever is added, chosen, deleted and restored, the path is a path: a history held against a few dictionaries."""

from __future__ import annotations

import tempfile
from itertools import count
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gguf_vl.chat.history import History


class Branches(RuleBasedStateMachine):
    """`parents` and `chosen` (a stamp) of every turn, and with which deletion each is away."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.history = History(Path(self.folder.name))
        self.chat = self.history.new_chat().id
        self.parents: dict[int, int | None] = {}
        self.chosen: dict[int, int] = {}
        self.away: dict[int, int] = {}
        self.stamps = count(1)

    def teardown(self) -> None:
        self.history.close()
        self.folder.cleanup()

    def living(self) -> list[int]:
        return [turn for turn in self.parents if turn not in self.away]

    def beside(self, parent: int | None) -> list[int]:
        return [turn for turn in self.living() if self.parents[turn] == parent]

    def path(self) -> list[int]:
        found: list[int] = []
        while beside := self.beside(found[-1] if found else None):
            found.append(max(beside, key=self.chosen.__getitem__))
        return found

    def put_on_path(self, turn: int | None) -> None:
        while turn is not None:
            if max(self.beside(self.parents[turn]), key=self.chosen.__getitem__) != turn:
                self.chosen[turn] = next(self.stamps)
            turn = self.parents[turn]

    def added(self, turn: int, parent: int | None) -> None:
        self.parents[turn], self.chosen[turn] = parent, next(self.stamps)

    @rule(data=st.data())
    def ask(self, data: st.DataObject) -> None:
        parent = data.draw(st.sampled_from([None, *self.living()]))
        self.added(self.history.question(self.chat, parent, "turn").id, parent)

    @precondition(lambda self: self.living())
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        parent = data.draw(st.sampled_from(self.living()))
        answer = self.history.begin_answer(parent, "pocket").id
        self.history.append(answer, "tu")
        self.history.append(answer, "rn")
        self.history.finish(answer, "done")
        self.added(answer, parent)

    @precondition(lambda self: self.living())
    @rule(data=st.data())
    def edit(self, data: st.DataObject) -> None:
        old = data.draw(st.sampled_from(self.living()))
        self.added(self.history.edit(old, "turn").id, self.parents[old])

    @precondition(lambda self: self.living())
    @rule(data=st.data())
    def choose(self, data: st.DataObject) -> None:
        turn = data.draw(st.sampled_from(self.living()))
        self.history.choose(turn)
        self.put_on_path(turn)
        assert turn in self.path()

    @precondition(lambda self: self.living())
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        top = data.draw(st.sampled_from(self.living()))
        self.history.delete_turn(top)
        below = {top}
        for turn in sorted(self.parents):  # parents have lower ids
            if self.parents[turn] in below:
                below.add(turn)
        self.away |= dict.fromkeys(below - self.away.keys(), top)

    @precondition(lambda self: self.away)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        top = data.draw(st.sampled_from(sorted(set(self.away.values()))))
        self.history.restore_turn(top)
        parent = self.parents[top]
        above = self.away.get(parent) if parent is not None else None
        for turn in [turn for turn, deletion in self.away.items() if deletion == top]:
            if above is None:
                del self.away[turn]
            else:
                self.away[turn] = above
        if above is None:
            self.put_on_path(top)

    @rule()
    def open_again(self) -> None:
        self.history.close()
        self.history = History(Path(self.folder.name))

    @invariant()
    def the_path_is_what_was_chosen_last(self) -> None:
        assert [turn.id for turn in self.history.turns(self.chat)] == self.path()

    @invariant()
    def every_living_turn_is_there_with_its_place(self) -> None:
        tree = self.history.tree(self.chat)
        assert [turn.id for turn in tree] == self.living()
        for turn in tree:
            beside = self.beside(turn.parent_id)
            assert (turn.place, turn.of) == (beside.index(turn.id) + 1, len(beside))
            assert turn == self.history.turn(turn.id)
            assert self.history.siblings(turn.id) == beside
        assert self.history.chat(self.chat).n_turns == len(tree)

    @invariant()
    def what_is_living_is_found(self) -> None:
        assert sorted(hit.turn_id or 0 for hit in self.history.search("turn", limit=1000)) == self.living()


TestBranches = Branches.TestCase
TestBranches.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
