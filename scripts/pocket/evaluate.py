"""Measures pocket on held-out drawings and prints the table, one JSON object per row.

    python evaluate.py FOLDER [--questions 200] [--transformers] [--compare]

Per kind of question: the share answered right, in English and Chinese, with the question after and before the
picture, on pictures of 16 to 1024 image tokens, a third of which gguf_vl must resize; for boxes the mean IoU with what
was drawn, for text also the share of words of 1 to 4 characters. Asked greedily, one question per chat,
through gguf_vl and llama.cpp; with `--transformers` the same weights in transformers instead. Needs gguf_vl installed
beside the requirements.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from draw import HELD_OUT_SEEDS, Scene, draw_scene, random_size
from questions import KINDS_OF_QUESTION, Exchange, Turn, ask, ask_which, name_thing

Chat = list[tuple[str, str]]
"""Turns before the last question: (question, answer)."""
Asker = Callable[[Sequence[Image.Image], str, Chat, bool], str]
"""Answers a question about pictures, after earlier turns; the flag puts the first question before the pictures."""

SIZES = ((16, 48), (49, 110), (111, 300), (301, 1024))


@contextmanager
def gguf_vl_asker(folder: Path) -> Iterator[Asker]:
    """Asks the exported pair as a person does: pictures as PNG files, through `gguf_vl` and llama.cpp."""
    from gguf_vl.config import Settings
    from gguf_vl.engine.blocking import BlockingEngine
    from gguf_vl.hardware.machine import probe
    from gguf_vl.media.pictures import load_picture
    from gguf_vl.runtime.candidates import here
    from gguf_vl.runtime.engines import PlannedEngine
    from gguf_vl.runtime.models import named
    from gguf_vl.runtime.planning import plan_here, wishes_of
    from gguf_vl.types import Message, Request, Text

    settings = Settings(threads=1)
    pocket = named(str(folder / "pocket-F16.gguf"))
    with BlockingEngine(PlannedEngine(pocket, plan_here(here(pocket), probe(), wishes_of(settings)))) as engine:

        def answer(pictures: Sequence[Image.Image], question: str, chat: Chat, question_first: bool) -> str:
            seen = [load_picture(_png(picture), pocket.limits) for picture in pictures]
            messages = []
            for number, (asked, answered) in enumerate([*chat, (question, "")]):
                shown = seen if number == 0 else []
                content = (asked, *shown) if question_first else (*shown, asked)
                messages += [Message("user", content), Message("assistant", (answered,))]
            request = Request(tuple(messages[:-1]), pocket.sampling(settings, pictures=True))
            return "".join(event.text for event in engine.generate(request) if isinstance(event, Text))

        yield answer


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


@contextmanager
def transformers_asker(folder: Path) -> Iterator[Asker]:
    """Asks the exported pair in transformers, float32, greedily."""
    import torch

    from export import load_pair
    from model import MERGE, PATCH, normalise, patches
    from vocabulary import encode, token_id, tokenizer

    model = load_pair(folder).eval()
    vision = "<|vision_start|><|image_pad|><|vision_end|>"

    def answer(pictures: Sequence[Image.Image], question: str, chat: Chat, question_first: bool) -> str:
        pictures = [as_seen(picture) for picture in pictures]
        turns = [*chat, (question, "")]
        text = ""
        for number, (asked, answered) in enumerate(turns):
            seen = vision * len(pictures) if number == 0 else ""
            content = asked + seen if question_first else seen + asked
            text += f"<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n"
            text += f"{answered}<|im_end|>\n" if number + 1 < len(turns) else ""
        image = token_id("<|image_pad|>")
        cut = [normalise(torch.from_numpy(patches(picture))) for picture in pictures]
        grids = torch.tensor([[1, p.height // PATCH, p.width // PATCH] for p in pictures])
        sizes = iter([len(part) // MERGE**2 for part in cut])
        ids = torch.tensor([[i for t in encode(text) for i in ([t] * next(sizes) if t == image else [t])]])
        pixels = torch.cat([c.view(-1, 3, 1, PATCH, PATCH).expand(-1, -1, 2, -1, -1).reshape(len(c), -1) for c in cut])
        model.model.rope_deltas = None
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values=pixels,
            image_grid_thw=grids,
            mm_token_type_ids=(ids == image).int(),
            max_new_tokens=512,
            do_sample=False,
            eos_token_id=token_id("<|im_end|>"),
            pad_token_id=token_id("<|endoftext|>"),
        )
        return tokenizer().decode(out[0, ids.shape[1] :].tolist())

    yield answer


def iou(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes."""
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    both = width * height
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return both / (sum(areas) - both) if both else 0.0


def box_of(answer: str) -> list[float] | None:
    """The first `bbox_2d` of an answer."""
    found = re.search(r'"bbox_2d": \[(\d+), (\d+), (\d+), (\d+)\]', answer)
    return [float(edge) for edge in found.groups()] if found else None


def as_seen(picture: Image.Image) -> Image.Image:
    """The picture as gguf_vl hands it to the model: sides that are multiples of 32."""
    from gguf_vl import catalogue
    from gguf_vl.media.pictures import load_picture

    seen = load_picture(_png(picture), catalogue.find("pocket")[0].picture_limits)
    return Image.frombytes("RGB", (seen.width, seen.height), seen.rgb)


def _scene(number: int, n_shapes: tuple[int, int] | None) -> Scene:
    """A held-out scene; every third has sides that gguf_vl must resize."""
    rng = random.Random(number)
    size = random_size(rng, *SIZES[number % len(SIZES)])
    if number % 3 == 0:
        size = size[0] + rng.randint(-15, 15), size[1] + rng.randint(-15, 15)
    return draw_scene(HELD_OUT_SEEDS[number], size=size, n_shapes=rng.randint(*n_shapes) if n_shapes else None)


def examples(
    kind: str, language: str, count: int, n_shapes: tuple[int, int] | None
) -> list[tuple[list[Scene], Exchange]]:
    """Held-out scenes with one exchange each, the same for everyone who asks for the same."""
    found: list[tuple[list[Scene], Exchange]] = []
    number = 10_000 * (1 + KINDS_OF_QUESTION.index(kind)) + (500_000 if language == "zh" else 0)
    rng = random.Random(number)
    while len(found) < count:
        number += 1
        scene = _scene(number, n_shapes)
        if kind == "which":
            other = draw_scene(HELD_OUT_SEEDS[number + 5_000_000], size=scene.picture.size)
            exchange = ask_which((scene, other), language, rng)
            scenes = [scene, other]
        else:
            exchange, scenes = ask(kind, scene, language, rng), [scene]
        if exchange and not _is_of_another_kind(kind, scene, exchange):
            found.append((scenes, exchange))
    return found


def _is_of_another_kind(kind: str, scene: Scene, exchange: Exchange) -> bool:
    """Text where there is none, and "yes, it is there", are neither about text nor about what is absent."""
    return (kind == "text" and scene.word is None) or exchange.turns[-1].answer in ("yes", "有")


def drawn_box(scene: Scene, label: str) -> list[float]:
    """The box of the shape that a label names, 0 to 1000 per axis, unrounded."""
    names = {
        name_thing(s.kind, c, language): s for s in scene.shapes for c in (s.colour, None) for language in ("en", "zh")
    }
    return [1000 * edge / scene.picture.size[i % 2] for i, edge in enumerate(names[label].box)]


def measure(asker: Asker, kinds: Sequence[str], count: int, n_shapes: tuple[int, int] | None, failures: bool) -> None:
    """Prints one row per kind, language and order."""
    for kind in kinds:
        for language in ("en", "zh"):
            for question_first in (False, True):
                row = _row(asker, kind, language, question_first, count, n_shapes, failures)
                print(json.dumps(row, ensure_ascii=False), flush=True)


def _row(
    asker: Asker,
    kind: str,
    language: str,
    question_first: bool,
    count: int,
    n_shapes: tuple[int, int] | None,
    failures: bool,
) -> dict[str, Any]:
    right, overlaps, short, wrong = 0, [], [], []
    by_size: dict[str, list[bool]] = defaultdict(list)
    for scenes, exchange in examples(kind, language, count, n_shapes):
        pictures = [scene.picture for scene in scenes]
        chat: Chat = [(turn.question, turn.answer) for turn in exchange.turns[:-1]]
        last: Turn = exchange.turns[-1]
        answer = asker(pictures, last.question, chat, question_first)
        right += answer == last.answer
        seen = as_seen(pictures[0])
        tokens = seen.width * seen.height // 1024
        size = next(f"{least}-{most}" for least, most in SIZES if least <= tokens <= most)
        by_size[size].append(answer == last.answer)
        if kind == "box":
            label = json.loads(last.answer)[0]["label"]
            overlaps.append(iou(box_of(answer) or [0, 0, 0, 0], drawn_box(scenes[0], label)))
        if kind == "text" and len(last.answer) <= 4:
            short.append(answer == last.answer)
        if answer != last.answer and failures:
            wrong.append([last.question, last.answer, answer])
    row: dict[str, Any] = {
        "kind": kind,
        "language": language,
        "question": "first" if question_first else "last",
        "asked": count,
        "right": round(right / count, 4),
        "by_image_tokens": {size: round(sum(v) / len(v), 3) for size, v in sorted(by_size.items())},
    }
    if overlaps:
        row["mean_iou"] = round(sum(overlaps) / len(overlaps), 4)
    if short:
        row["right_up_to_4_characters"] = round(sum(short) / len(short), 4)
    if failures:
        row["wrong"] = wrong
    return row


def agreement(folder: Path, kinds: Sequence[str], count: int) -> dict[str, Any]:
    """How many answers through gguf_vl and llama.cpp are those of the same weights in transformers, to the letter."""
    asked, differing = 0, []
    with gguf_vl_asker(folder) as ours, transformers_asker(folder) as theirs:
        for kind in kinds:
            for language in ("en", "zh"):
                for number, (scenes, exchange) in enumerate(examples(kind, language, count, None)):
                    pictures = [scene.picture for scene in scenes]
                    chat: Chat = [(turn.question, turn.answer) for turn in exchange.turns[:-1]]
                    question, first = exchange.turns[-1].question, number % 2 == 1
                    answers = [asker(pictures, question, chat, first) for asker in (ours, theirs)]
                    asked += 1
                    if answers[0] != answers[1]:
                        differing.append([question, *answers])
    return {"asked": asked, "identical": round(1 - len(differing) / asked, 4), "differing": differing}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures pocket on held-out drawings.")
    parser.add_argument("folder", type=Path, help="folder of the exported pair")
    parser.add_argument("--questions", type=int, default=200, help="per kind, language and order")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS_OF_QUESTION))
    parser.add_argument("--shapes", type=int, nargs=2, metavar=("LEAST", "MOST"), help="shapes per scene")
    parser.add_argument("--failures", action="store_true", help="list every wrong answer")
    parser.add_argument("--transformers", action="store_true", help="ask in transformers instead of llama.cpp")
    parser.add_argument(
        "--compare", action="store_true", help="hold llama.cpp's embeddings and answers against transformers instead"
    )
    args = parser.parse_args()
    n_shapes = tuple(args.shapes) if args.shapes else None
    if args.compare:
        from compare import compare

        print(json.dumps({"llama_cpp_against_transformers": compare(args.folder)}))
        print(json.dumps({"answers": agreement(args.folder, args.kinds, args.questions)}, ensure_ascii=False))
        return
    with (transformers_asker if args.transformers else gguf_vl_asker)(args.folder) as asker:
        measure(asker, args.kinds, args.questions, n_shapes, args.failures)


if __name__ == "__main__":
    main()
