"""Writes docs/tasks.md: every task with its picture, its command and, where pocket can do it, what pocket answers.

.venv/bin/python scripts/make_task_pages.py
"""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from gguf_vl.config import load_settings
from gguf_vl.engine.blocking import BlockingEngine
from gguf_vl.hardware.machine import probe
from gguf_vl.media.drawing import draw_boxes
from gguf_vl.runtime.engines import PlannedEngine
from gguf_vl.runtime.planning import plan_chosen
from gguf_vl.tasks import asking, results
from gguf_vl.tasks.by_frame import answer_blocking
from gguf_vl.tasks.question import Question
from gguf_vl.tasks.samples import Sample, sample_of
from gguf_vl.tasks.task import Task, shipped
from gguf_vl.types import Finished, Text

DOCS = Path(__file__).parents[1] / "docs"
PICTURES = DOCS / "pictures" / "tasks"
HEAD = (DOCS / "tasks_head.md").read_text(encoding="utf-8")


def main() -> None:
    """Draw the pictures, ask pocket, write the page."""
    settings = load_settings({"model": "pocket"}, file=None)
    installed, planned = plan_chosen(settings, probe())
    PICTURES.mkdir(parents=True, exist_ok=True)
    parts = [HEAD.rstrip()]
    with BlockingEngine(PlannedEngine(installed, planned)) as engine:
        for task in shipped().values():
            sample = sample_of(task)
            files = _draw(task, sample)
            shown = " ".join(f"![{task.name}](pictures/tasks/{file})" for file in files)
            parts += [f"### `{task.name}`: {task.purpose}", task.purpose_zh, shown]
            parts.append(f"```sh\n{_command(task, sample, files)}\n```")
            if asking.beyond(task, "pocket"):
                gives = "JSON held to a schema" if task.schema is not None else "text"
                parts.append(f"Gives {gives}. pocket has never learnt this: it takes a model from `gguf-vl pull`.")
                continue
            result = _answer(Question(task, installed, settings, sample.given), sample, engine)
            alone = ", frame by frame ([video.md](video.md#a-timeline))" if sample.times else ""
            parts.append(f"pocket answers{alone}:\n\n```\n{results.as_text(task, result)}\n```")
            if result.boxes:
                image = Image.open(io.BytesIO(sample.pictures[-1]))
                draw_boxes(image, result.boxes, result.points).save(PICTURES / f"{task.name}-boxes.png")
                parts.append(f"![what `--boxes` draws](pictures/tasks/{task.name}-boxes.png)")
    (DOCS / "tasks.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _draw(task: Task, sample: Sample) -> list[str]:
    """The sample's pictures as files, by their names."""
    n = len(sample.pictures)
    names = [f"{task.name}{f'-{at + 1}' if n > 1 else ''}.png" for at in range(n)]
    for name, data in zip(names, sample.pictures, strict=True):
        (PICTURES / name).write_bytes(data)
    return names


def _command(task: Task, sample: Sample, files: list[str]) -> str:
    if sample.times:
        return f"gguf-vl ask --task {task.name} clip.mp4"
    given = "".join(f" -p {name}='{value}'" for name, value in sample.given.items())
    return f"gguf-vl ask --task {task.name} {' '.join(files)}{given}"


def _answer(question: Question, sample: Sample, engine: BlockingEngine) -> results.Result:
    shown = sample.show(question.limits(engine.settings.limits))
    answer = ""
    for event in answer_blocking(engine, question.asked(shown)):
        if isinstance(event, Text):
            answer += event.text
        elif isinstance(event, Finished):
            end = event
    return results.read(question.task, answer, end, shown.pictures)


if __name__ == "__main__":
    main()
