"""An answer on its way to standard output, as a person or as a script wants it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from gguf_vl.cli.status import Status
    from gguf_vl.engine.blocking import BlockingEngine
    from gguf_vl.tasks.by_frame import FrameByFrame
    from gguf_vl.tasks.results import Result
    from gguf_vl.tasks.task import Task
    from gguf_vl.types import Finished, Picture, Request


_COMMANDS = {code: "?" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


@dataclass(frozen=True, slots=True)
class Answering:
    """One request of a task, or one for each frame of a video, its pictures, and the engine that answers it. `model` is
    what a report calls it.
    """

    engine: BlockingEngine
    task: Task
    request: Request | FrameByFrame
    pictures: tuple[Picture, ...]
    status: Status
    model: str

    def print_text(self, *, stats: bool, as_csv: bool = False) -> Result:
        """Print the answer: as it comes where it is plain words, else when it is whole. Raises as `results.read`."""
        from gguf_vl.tasks import results

        streams = self.task.shown == "text" and self.task.schema is None
        answer, end = self._answer(streams=streams)
        result = results.read(self.task, answer, end, self.pictures)
        if not streams:
            text = results.as_csv(result.rows) if as_csv else results.as_text(self.task, result)
            if text:
                print(_for(sys.stdout, text.rstrip("\n")))
            elif self.task.shown in ("boxes", "points"):
                print("Nothing was found.", file=sys.stderr)
        elif not answer.endswith("\n"):
            print()
        self._tell_end(end, stats)
        return result

    def print_json(self) -> Result:
        """Print one JSON object, and nothing where the answer is not what it must be. Raises as `results.read`."""
        import json
        from dataclasses import asdict

        from gguf_vl.tasks import results

        answer, end = self._answer(streams=False)
        result = results.read(self.task, answer, end, self.pictures)
        report: dict[str, Any] = {
            "model": self.model,
            "answer": result.text,
            "finish_reason": end.finish_reason,
            "usage": asdict(end.usage),
            "timings": {"load_s": self.engine.start().load_s, **asdict(end.timings)},
        }
        if self.task.name:
            report["task"] = self.task.name
        if self.task.schema is not None:
            report["fields"] = result.fields
        for name, places in (("boxes", result.boxes), ("points", result.points)):
            if places or self.task.shown == name:
                report[name] = [asdict(place) for place in places]
        print(json.dumps(report, ensure_ascii=False))
        return result

    def _answer(self, *, streams: bool) -> tuple[str, Finished]:
        """The whole answer and its end; printed as it comes where it `streams`."""
        from gguf_vl.tasks.by_frame import answer_blocking
        from gguf_vl.types import Finished, Text, Thinking

        def at_frame(number: int, of: int) -> None:
            self.status.show(f"looking at frame {number} of {of} …")

        thinking_shown = streams and sys.stderr.isatty()
        answer = ""
        n_pieces = 0
        for event in answer_blocking(self.engine, self.request, at_frame):
            self._show_progress(event)
            if isinstance(event, Thinking) and thinking_shown:
                sys.stderr.write(f"\x1b[2m{_for(sys.stderr, event.text)}\x1b[0m")
                sys.stderr.flush()
            elif isinstance(event, Text):
                answer += event.text
                n_pieces += 1
                if streams:
                    sys.stdout.write(_for(sys.stdout, event.text))
                    sys.stdout.flush()
                else:
                    self.status.show(f"writing … {n_pieces} tokens")
            elif isinstance(event, Finished):
                end = event
        self.status.clear()
        return answer, end

    def _tell_end(self, end: Finished, stats: bool) -> None:
        if end.finish_reason == "length":
            print("The answer was cut off: raise --max-tokens or --ctx for more.", file=sys.stderr)
        if stats:
            usage, times = end.usage, end.timings
            rate = f", {times.decode_tps:.1f} tokens/s" if times.decode_tps else ""
            print(
                f"{usage.prompt_tokens} tokens in ({usage.image_tokens} of pictures), {usage.completion_tokens} out"
                f"{rate}; load {self.engine.start().load_s:.2f} s, encode {times.encode_s:.2f} s, "
                f"prefill {times.prefill_s:.2f} s, first token {times.ttft_s:.2f} s",
                file=sys.stderr,
            )

    def _show_progress(self, event: Any) -> None:
        from gguf_vl.types import Progress, Text

        match event:
            case Progress("encode", done, total):
                looking = f"looking … {done} of {total} image tokens" if done else f"looking at {total} image tokens …"
                self.status.show(looking)
            case Progress("prefill", done, total):
                self.status.show(f"reading … {done}/{total} tokens")
            case Text():
                if self.task.schema is None and self.task.shown == "text":
                    self.status.clear()
            case _:
                self.status.clear()


def _for(stream: TextIO, text: str) -> str:
    """What a model wrote, as it is for a file or a program; a terminal must not take any of it for a command."""
    return text.translate(_COMMANDS) if stream.isatty() else text
