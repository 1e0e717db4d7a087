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
from gguf_vl.media.pictures import load_picture
from gguf_vl.runtime.engines import PlannedEngine
from gguf_vl.runtime.planning import plan_chosen
from gguf_vl.tasks import asking, results
from gguf_vl.tasks.samples import Sample, sample_of
from gguf_vl.tasks.task import Task, shipped
from gguf_vl.types import Finished, Picture, Text

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
                if "pocket" in task.by_frame:
                    parts.append(f"Gives {gives}. pocket does it frame by frame: see [video.md](video.md#a-timeline).")
                    continue
                parts.append(f"Gives {gives}. pocket has never learnt this: it takes a model from `gguf-vl pull`.")
                continue
            pictures = [
                load_picture(part, asking.limits(task, settings, engine.settings.limits))
                for part in sample.pictures
                if isinstance(part, bytes)
            ]
            result = _answer(task, sample, pictures, engine, installed, settings)
            parts.append(f"pocket answers:\n\n```\n{results.as_text(task, result)}\n```")
            if result.boxes and isinstance(sample.pictures[-1], bytes):
                image = Image.open(io.BytesIO(sample.pictures[-1]))
                draw_boxes(image, result.boxes, result.points).save(PICTURES / f"{task.name}-boxes.png")
                parts.append(f"![what `--boxes` draws](pictures/tasks/{task.name}-boxes.png)")
    (DOCS / "tasks.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _draw(task: Task, sample: Sample) -> list[str]:
    """The sample's pictures as files, by their names."""
    drawn = [part for part in sample.pictures if isinstance(part, bytes)]
    names = [f"{task.name}{f'-{at + 1}' if len(drawn) > 1 else ''}.png" for at in range(len(drawn))]
    for name, data in zip(names, drawn, strict=True):
        (PICTURES / name).write_bytes(data)
    return names


def _command(task: Task, sample: Sample, files: list[str]) -> str:
    if task.name == "timeline":
        return "gguf-vl ask --task timeline clip.mp4"
    given = "".join(f" -p {name}='{value}'" for name, value in sample.given.items())
    return f"gguf-vl ask --task {task.name} {' '.join(files)}{given}"


def _answer(
    task: Task, sample: Sample, pictures: list[Picture], engine: BlockingEngine, installed: object, settings: object
) -> results.Result:
    request = asking.request(task, pictures, sample.given, installed, settings)  # type: ignore[arg-type]
    answer = ""
    for event in engine.generate(request):
        if isinstance(event, Text):
            answer += event.text
        elif isinstance(event, Finished):
            end = event
    return results.read(task, answer, end, pictures)


if __name__ == "__main__":
    main()
