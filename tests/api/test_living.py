"""Where a model works and how long it lives; it leaves nothing behind."""

from __future__ import annotations

import gc
import os
import signal
import threading
from pathlib import Path

import pytest

from gguf_vl import Model, Stream, load
from gguf_vl.errors import EngineError, WorkerDied
from tests.api.given import COLOUR, SHAPES, TWO, has_ended, run, workers


def test_many_threads_may_ask_one_model(model: Model) -> None:
    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(str(model.ask(SHAPES, COLOUR)))) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert answers == ["red"] * 8


@pytest.mark.anyio
async def test_it_works_where_a_loop_is_running_as_in_a_notebook(model: Model) -> None:
    assert str(model.ask(SHAPES, COLOUR)) == "red"


def test_several_models_live_side_by_side_and_a_closed_one_says_so(home: Path, model: Model) -> None:
    before = workers()
    other = load("pocket")
    assert len(workers() - before) == 1
    assert str(other.ask(TWO, COLOUR)) == "purple"
    other.close()
    other.close()
    assert workers() == before
    assert repr(other) == "<Model pocket, closed>"
    with pytest.raises(EngineError, match="The model is closed"):
        other.ask(TWO, COLOUR)
    assert str(model.ask(SHAPES, COLOUR)) == "red"


def test_a_forgotten_model_ends_with_a_warning_and_a_forgotten_stream_without(home: Path) -> None:
    before, threads = workers(), threading.active_count()
    forgotten = load("pocket")
    stream = forgotten.stream(SHAPES, "Describe the picture.")
    next(stream)
    del stream
    with pytest.warns(ResourceWarning, match="unclosed <Model pocket>"):
        del forgotten
    assert (workers(), threading.active_count()) == (before, threads)


def test_a_stream_keeps_its_model(home: Path) -> None:
    def begun() -> Stream:
        return load("pocket").stream(SHAPES, "Describe the picture.")

    stream = begun()
    gc.collect()
    assert stream.read().finish_reason == "stop"
    stream._model.close()


def test_a_model_whose_process_died_starts_a_new_one(home: Path) -> None:
    before = workers()
    with load("pocket") as model:
        (pid,) = workers() - before
        os.kill(pid, signal.SIGKILL)
        try:
            answer = model.ask(SHAPES, COLOUR)
        except WorkerDied:  # it was faster than the news
            answer = model.ask(SHAPES, COLOUR)
        assert str(answer) == "red"


def test_a_model_says_no_in_a_forked_process(home: Path) -> None:
    done = run(
        """
        import os
        from gguf_vl import load
        from gguf_vl.errors import EngineError
        with load("pocket") as model:
            if os.fork() == 0:
                try:
                    model.ask("Hello")
                except EngineError as error:
                    print(error, flush=True)
                os._exit(0)
            os.wait()
        """,
        home=home,
    )
    assert (done.stdout, done.stderr) == (
        "The model was loaded by the process that this one was forked from.\n",
        "",
    )


THE_WORKER = (
    "print(*(p.pid for p in psutil.Process().children() if 'gguf_vl.engine.worker' in p.cmdline()), flush=True)"
)


@pytest.mark.parametrize("end", ["", "sys.exit(3)", "raise SystemError('!')", "os.kill(os.getpid(), 9)"])
def test_a_program_that_ends_without_closing_leaves_nothing(home: Path, end: str) -> None:
    done = run(
        f"""
        import os, psutil, sys
        from gguf_vl import load
        model = load("pocket")
        next(model.stream("docs/pictures/shapes.png", "Describe the picture."))
        {THE_WORKER}
        {end}
        """,
        home=home,
    )
    assert has_ended(int(done.stdout))
    assert "ResourceWarning" not in done.stderr
    assert bool(done.stderr) == ("raise" in end)


def test_ctrl_c_in_the_middle_of_a_load_leaves_nothing(home: Path) -> None:
    done = run(
        """
        import os, psutil, signal, threading
        from gguf_vl import load
        interrupt = lambda done: os.kill(os.getpid(), signal.SIGINT)
        try:
            load("pocket", on_progress=interrupt)
        except KeyboardInterrupt:
            left = [p.pid for p in psutil.Process().children() if "gguf_vl.engine.worker" in p.cmdline()]
            print(left, threading.active_count())
        """,
        home=home,
    )
    assert (done.stdout, done.stderr) == ("[] 1\n", "")


def test_ctrl_c_in_the_middle_of_a_question_leaves_the_model_as_it_was(home: Path) -> None:
    done = run(
        f"""
        import io, os, psutil, signal
        from pathlib import Path
        from gguf_vl import load

        class Interrupting(io.BytesIO):
            def read(self, n=-1):
                if not self.tell():
                    os.kill(os.getpid(), signal.SIGINT)
                return super().read(n)

        picture = Path("docs/pictures/shapes.png").read_bytes()
        with load("pocket") as model:
            chat = model.chat()
            stream = model.stream(Interrupting(picture), "{COLOUR}")
            for interrupted in (
                lambda: model.ask(Interrupting(picture), "{COLOUR}"),
                lambda: chat.say("{COLOUR}", Interrupting(picture)),
                lambda: next(stream),
                lambda: list(model.batch([picture, Interrupting(picture)] * 20, "{COLOUR}")),
            ):
                try:
                    interrupted()
                    print("not interrupted")
                except KeyboardInterrupt:
                    pass
            print(len(chat.messages), model.ask(picture, "{COLOUR}"))
            {THE_WORKER}
        """,
        home=home,
    )
    answered, worker = done.stdout.splitlines()
    assert (answered, done.stderr) == ("0 red", "")
    assert has_ended(int(worker))
