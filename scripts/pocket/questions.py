"""Questions about drawn scenes and their only right answers, in English and Chinese.

Every wording that the project promises is here, among others. What lies outside pocket's world is in `elsewhere`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass

from draw import COLOURS, KINDS, Box, Scene, Shape
from elsewhere import honest_sentence, something_else

CHINESE_KINDS = dict(zip(KINDS, ("圆形", "正方形", "三角形", "五角星"), strict=True))
CHINESE_COLOURS = dict(
    zip(COLOURS, ("红色", "橙色", "黄色", "绿色", "蓝色", "紫色", "粉色", "棕色", "黑色"), strict=True)
)
PLACES = (
    "top left", "top center", "top right",
    "middle left", "center", "middle right",
    "bottom left", "bottom center", "bottom right",
)  # fmt: skip
CHINESE_PLACES = dict(
    zip(PLACES, ("左上", "上方", "右上", "左侧", "中间", "右侧", "左下", "下方", "右下"), strict=True)
)

BOX_STEP = 10
"""Boxes are answered in hundredths: pocket sees no finer, and a last digit that is chance would drown the others."""

WORDINGS: dict[str, dict[str, tuple[str, ...]]] = {
    "colour": {
        "en": (
            "What colour is the {kind}?", "What color is the {kind}?", "Which colour is the {kind}?",
            "What is the colour of the {kind}?", "What is the color of the {kind}?", "Name the colour of the {kind}.",
            "Tell me the color of the {kind}.", "The {kind} is what colour?", "What colour does the {kind} have?",
            "What's the color of the {kind}?", "Colour of the {kind}?", "In what color is the {kind} drawn?",
        ),
        "zh": (
            "{kind}是什么颜色？", "{kind}是什么颜色的？", "{kind}的颜色是什么？", "图中的{kind}是什么颜色？", "请问{kind}是什么颜色？",
            "{kind}是哪种颜色？", "说出{kind}的颜色。", "这个{kind}是什么颜色？",
        ),
    },
    "shape": {
        "en": (
            "What shape is {colour}?", "Which shape is {colour}?", "What is the {colour} shape?", "What shape is the {colour} one?",
            "What kind of shape is {colour}?", "The {colour} shape is a what?", "Name the {colour} shape.",
            "What is {colour}?", "What {colour} shape is there?", "Tell me which shape is {colour}.", "What shape is the {colour} object?",
        ),
        "zh": (
            "{colour}的是什么形状？", "{colour}的是什么？", "哪个形状是{colour}的？", "{colour}的图形是什么形状？", "{colour}图形是什么？",
            "什么形状是{colour}的？", "请问{colour}的是什么形状？", "图中{colour}的是什么形状？",
        ),
    },
    "count": {
        "en": (
            "How many shapes are there?", "How many shapes are in the picture?", "How many shapes do you see?",
            "Count the shapes.", "What is the number of shapes?", "How many shapes can you see?", "Number of shapes?",
            "How many shapes?", "How many figures are there?", "How many objects are there?", "How many shapes are drawn?",
            "How many shapes does the picture have?", "Tell me how many shapes there are.",
        ),
        "zh": (
            "有几个图形？", "图中有几个图形？", "有多少个图形？", "一共有几个图形？", "图形有几个？", "数一数有几个图形。", "图片里有几个图形？",
            "图中有多少个图形？", "请问有几个图形？", "有几个形状？",
        ),
    },
    "count kind": {
        "en": (
            "How many {kind}s are there?", "How many {kind}s are in the picture?", "How many {kind}s do you see?",
            "Count the {kind}s.", "What is the number of {kind}s?", "How many {kind}s?", "How many {kind}s can you see?",
        ),
        "zh": ("有几个{kind}？", "图中有几个{kind}？", "有多少个{kind}？", "{kind}有几个？", "数一数{kind}。", "一共有几个{kind}？"),
    },
    "count colour": {
        "en": (
            "How many {colour} shapes are there?", "How many shapes are {colour}?", "Count the {colour} shapes.",
            "How many {colour} shapes do you see?", "How many {colour} objects are there?",
        ),
        "zh": ("有几个{colour}图形？", "有几个{colour}的图形？", "{colour}的图形有几个？", "图中有几个{colour}的图形？"),
    },
    "place": {
        "en": (
            "Where is the {thing}?", "Where is the {thing} in the picture?", "In which part of the picture is the {thing}?",
            "Where do you see the {thing}?", "What is the place of the {thing}?", "Where's the {thing}?",
            "In what place is the {thing}?", "Tell me where the {thing} is.", "What is the position of the {thing}?",
        ),
        "zh": (
            "{thing}在哪里？", "{thing}在图中的哪里？", "{thing}在什么位置？", "{thing}在哪儿？", "{thing}的位置在哪里？",
            "请问{thing}在哪里？", "{thing}位于哪里？",
        ),
    },
    "describe": {
        "en": (
            "Describe the picture.", "Describe this picture.", "Describe the image.", "Describe this image.", "What is in the picture?",
            "What do you see?", "What is in this image?", "What does the picture show?", "What can you see in the picture?",
            "Tell me what is in the picture.", "What's in this picture?", "Describe the picture in one sentence.", "What is this?",
        ),
        "zh": (
            "描述这张图片。", "描述图片。", "描述一下这张图片。", "图中有什么？", "这张图片里有什么？", "你看到了什么？", "请描述这张图片。",
            "图片里有什么？", "描述这张图。", "请描述图中的内容。",
        ),
    },
    "list": {
        "en": (
            "List the shapes as JSON.", "List all shapes as JSON.", "Give me the shapes as JSON.", "Return the shapes as JSON.",
            "List the shapes in JSON.", "Shapes as JSON, please.", "Output the shapes as a JSON list.",
        ),
        "zh": ("用JSON列出图形。", "用 JSON 列出图形。", "以JSON格式列出所有图形。", "请用JSON列出图中的图形。", "把图形列成JSON。"),
    },
    "text": {
        "en": (
            "Read the text.", "What does the text say?", "What text is in the picture?", "Read the word.", "What is written?",
            "What is written in the picture?", "Extract the text.", "Transcribe the text.", "What word is in the picture?",
            "What does it say?", "Which word is printed?", "What is the text?", "Read the text in the picture.",
        ),
        "zh": (
            "提取图中文字。", "提取图中的文字。", "读出文字。", "图中写了什么？", "图中的文字是什么？", "文字是什么？", "请读出图中的文字。",
            "识别图中文字。", "上面写着什么？",
        ),
    },
    "box": {
        "en": (
            "Locate the {thing}.", "Locate the {thing} in the picture.", "Give the bounding box of the {thing}.", "Find the {thing}.",
            "Where is the {thing}? Answer with a box.", "Detect the {thing}.", "Output the bounding box of the {thing} as JSON.",
            "Locate the {thing} and output its box in JSON.",
        ),
        "zh": (
            "定位{thing}。", "定位图中的{thing}。", "找出{thing}的位置框。", "给出{thing}的边界框。", "框出{thing}。", "检测{thing}。",
            "请定位{thing}。",
        ),
    },
    "present": {
        "en": (
            "Is there a {thing}?", "Is there a {thing} in the picture?", "Do you see a {thing}?", "Can you see a {thing}?",
            "Does the picture have a {thing}?",
        ),
        "zh": ("有{thing}吗？", "图中有{thing}吗？", "图里有没有{thing}？", "有没有{thing}？"),
    },
    "which": {
        "en": (
            "Which picture has the {thing}?", "Which picture has a {thing}?", "Which image has the {thing}?",
            "In which picture is the {thing}?", "Which picture shows the {thing}?", "Which of the two pictures has the {thing}?",
            "Where is the {thing}, in the first or the second picture?", "Which picture contains the {thing}?",
        ),
        "zh": (
            "哪张图片有{thing}？", "哪张图有{thing}？", "{thing}在哪张图片里？", "{thing}在哪一张图中？", "哪一张图片里有{thing}？",
            "第一张还是第二张图有{thing}？",
        ),
    },
    "and": {
        "en": ("And the {kind}?", "And what about the {kind}?", "What about the {kind}?", "And the {kind}, what colour is it?", "The {kind}?"),
        "zh": ("{kind}呢？", "那{kind}呢？", "那么{kind}呢？", "还有{kind}呢？"),
    },
}  # fmt: skip

_OF_ONE_OF_TWO = {
    "en": (("In the first picture: ", "In the second picture: "), ("First picture: ", "Second picture: "),
           ("Look at the first picture. ", "Look at the second picture. ")),
    "zh": (("第一张图：", "第二张图："), ("看第一张图片。", "看第二张图片。"), ("在第一张图中，", "在第二张图中，")),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and its answer."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Exchange:
    """One or more turns that belong together, about the pictures before them."""

    kind: str
    language: str
    turns: tuple[Turn, ...]


def place_of(box: Box, size: tuple[int, int]) -> str:
    """The place of a box by thirds of the picture, by the middle of the box."""
    column = min(2, int((box[0] + box[2]) / 2 / size[0] * 3))
    row = min(2, int((box[1] + box[3]) / 2 / size[1] * 3))
    return PLACES[3 * row + column]


def thousandths(box: Box, size: tuple[int, int], step: int = 1) -> list[int]:
    """A pixel box on Qwen3-VL's scale of 0 to 1000 per axis, in multiples of `step`."""
    return [step * round(1000 / step * edge / size[i % 2]) for i, edge in enumerate(box)]


def name_thing(kind: str | None, colour: str | None, language: str) -> str:
    """`red circle`, `circle` or `red shape`, in the language."""
    if language == "zh":
        return (CHINESE_COLOURS[colour] if colour else "") + (CHINESE_KINDS[kind] if kind else "图形")
    return f"{colour} {kind or 'shape'}" if colour else str(kind or "shape")


def nothing_there(thing: str, language: str) -> str:
    """The answer about something that is not in the picture."""
    return f"图中没有{thing}。" if language == "zh" else f"There is no {thing}."


def wording(kind: str, language: str, rng: random.Random, /, **names: str) -> str:
    """One of the wordings, the promised first one somewhat more often, sometimes written carelessly."""
    choices = WORDINGS[kind][language]
    text = (choices[0] if rng.random() < 0.2 else rng.choice(choices)).format(**names)
    return careless(text, language, rng)


def careless(text: str, language: str, rng: random.Random) -> str:
    """The text as people also type it: polite, in lower case, without its full stop."""
    if language == "zh":
        if rng.random() < 0.06:
            text = rng.choice(("请问，", "请回答：", "你好，", "请告诉我，")) + text
        if rng.random() < 0.15:
            text = text.rstrip("。？") if rng.random() < 0.5 else text.replace("？", "?").replace("。", ".")
        return text
    chance = rng.random()
    if chance < 0.05:
        text = rng.choice(("Please tell me: ", "Look at the picture. ", "Please: ", "Quick question: ", "Hi! ")) + text
    elif chance < 0.09:
        text += rng.choice((" Answer briefly.", " Please.", " Thanks.", " Answer in one word."))
    if rng.random() < 0.12:
        text = text[:1].lower() + text[1:]
    if rng.random() < 0.10:
        text = text.rstrip("?.")
    return text


def _split(scene: Scene, key: Callable[[Shape], str]) -> dict[str, list[Shape]]:
    groups: dict[str, list[Shape]] = {}
    for shape in scene.shapes:
        groups.setdefault(key(shape), []).append(shape)
    return groups


def _single(rng: random.Random, groups: dict[str, list[Shape]]) -> Shape | None:
    found = [shapes[0] for shapes in groups.values() if len(shapes) == 1]
    return rng.choice(found) if found else None


def _missing(rng: random.Random, names: tuple[str, ...], groups: dict[str, list[Shape]]) -> str | None:
    absent = [name for name in names if name not in groups]
    return rng.choice(absent) if absent else None


def _name(shape: Shape, language: str) -> tuple[str, str]:
    if language == "zh":
        return CHINESE_KINDS[shape.kind], CHINESE_COLOURS[shape.colour]
    return shape.kind, shape.colour


def _pick_thing(scene: Scene, language: str, rng: random.Random) -> tuple[Shape, str] | None:
    """A shape that the returned name means alone."""
    both = _single(rng, _split(scene, lambda s: s.kind + s.colour))
    by_kind = _single(rng, _split(scene, lambda s: s.kind))
    if by_kind and rng.random() < 0.2:
        return by_kind, name_thing(by_kind.kind, None, language)
    return (both, name_thing(both.kind, both.colour, language)) if both else None


def _absent_thing(scenes: list[Scene], language: str, rng: random.Random) -> str:
    """The name of something in none of the scenes, often by one word only."""
    shapes = [shape for scene in scenes for shape in scene.shapes]
    there = {(s.kind, s.colour) for s in shapes}
    while True:
        kind, colour = rng.choice(KINDS), rng.choice(COLOURS)
        if shapes and rng.random() < 0.6:
            near = rng.choice(shapes)
            kind, colour = (near.kind, colour) if rng.random() < 0.5 else (kind, near.colour)
        if (kind, colour) not in there:
            return name_thing(kind, colour, language)


def ask(kind: str, scene: Scene, language: str, rng: random.Random) -> Exchange | None:
    """A question of a kind about one scene; None where the scene has no unambiguous one."""
    turns = _ASKERS[kind](scene, language, rng)
    return Exchange(kind, language, turns) if turns else None


def _one(question: str, answer: str) -> tuple[Turn, ...]:
    return (Turn(question, answer),)


def _ask_colour(scene: Scene, language: str, rng: random.Random) -> tuple[Turn, ...] | None:
    shape = _single(rng, _split(scene, lambda s: s.kind))
    if shape is None:
        return None
    kind, colour = _name(shape, language)
    return _one(wording("colour", language, rng, kind=kind), colour)


def _ask_shape(scene: Scene, language: str, rng: random.Random) -> tuple[Turn, ...] | None:
    shape = _single(rng, _split(scene, lambda s: s.colour))
    if shape is None:
        return None
    kind, colour = _name(shape, language)
    return _one(wording("shape", language, rng, colour=colour), kind)


def _ask_count(scene: Scene, language: str, rng: random.Random) -> tuple[Turn, ...]:
    return _one(wording("count", language, rng), str(len(scene.shapes)))


def _ask_count_kind(scene: Scene, language: str, rng: random.Random) -> tuple[Turn, ...]:
    if rng.random() < 0.75:
        kind = rng.choice(scene.shapes).kind if scene.shapes and rng.random() < 0.7 else rng.choice(KINDS)
        number = sum(shape.kind == kind for shape in scene.shapes)
        name = CHINESE_KINDS[kind] if language == "zh" else kind
        return _one(wording("count kind", language, rng, kind=name), str(number))
    colour = rng.choice(scene.shapes).colour if scene.shapes and rng.random() < 0.7 else rng.choice(COLOURS)
    number = sum(shape.colour == colour for shape in scene.shapes)
    name = CHINESE_COLOURS[colour] if language == "zh" else colour
    return _one(wording("count colour", language, rng, colour=name), str(number))


def _ask_place(scene: Scene, language: str, rng: random.Random) -> tuple[Turn, ...] | None:
    found = _pick_thing(scene, language, rng)
    if found is None:
        return None
    place = place_of(found[0].box, scene.picture.size)
    answer = CHINESE_PLACES[place] if language == "zh" else place
    return _one(wording("place", language, rng, thing=found[1]), answer)


def reading_order(scene: Scene) -> list[Shape]:
    """The shapes by rows of thirds from the top, in a row by columns of thirds, then from the left."""
    size = scene.picture.size
    return sorted(scene.shapes, key=lambda s: (PLACES.index(place_of(s.box, size)), s.centre))


def describe(scene: Scene, language: str) -> str:
    """One sentence naming every shape with its place, and the word if there is one."""
    size = scene.picture.size
    if language == "zh":
        parts = [
            f"{CHINESE_PLACES[place_of(s.box, size)]}有一个{name_thing(s.kind, s.colour, 'zh')}"
            for s in reading_order(scene)
        ]
        if scene.word:
            parts.append(f"文字是{scene.word}")
        return ("，".join(parts) or "图中什么也没有") + "。"
    parts = []
    for shape in reading_order(scene):
        article = "an" if shape.colour == "orange" else "a"
        place = place_of(shape.box, size)
        parts.append(f"{article} {shape.colour} {shape.kind} in the {place}")
    if scene.word:
        parts.append(f"the text {scene.word}")
    if not parts:
        return "The picture is empty."
    text = ", ".join(parts)
    return text[0].upper() + text[1:] + "."


def _ask_describe(scene: Scene, language: str, rng: random.Random) -> tuple[Turn, ...]:
    return _one(wording("describe", language, rng), describe(scene, language))


def _ask_list(scene: Scene, language: str, rng: random.Random) -> tuple[Turn, ...]:
    size = scene.picture.size
    shapes = [{"shape": s.kind, "color": s.colour, "place": place_of(s.box, size)} for s in reading_order(scene)]
    return _one(wording("list", language, rng), json.dumps(shapes))


def _ask_text(scene: Scene, language: str, rng: random.Random) -> tuple[Turn, ...] | None:
    if scene.word is None:
        if rng.random() < 0.75:
            return None
        return _one(wording("text", language, rng), nothing_there("文字" if language == "zh" else "text", language))
    return _one(wording("text", language, rng), scene.word)


def _ask_box(scene: Scene, language: str, rng: random.Random) -> tuple[Turn, ...] | None:
    found = _pick_thing(scene, language, rng)
    if found is None:
        return None
    answer = json.dumps(
        [{"bbox_2d": thousandths(found[0].box, scene.picture.size, BOX_STEP), "label": found[1]}], ensure_ascii=False
    )
    return _one(wording("box", language, rng, thing=found[1]), answer)


def _ask_absent(scene: Scene, language: str, rng: random.Random) -> tuple[Turn, ...] | None:
    chance = rng.random()
    if chance < 0.25 and (kind := _missing(rng, KINDS, _split(scene, lambda s: s.kind))):
        name = name_thing(kind, None, language)
        return _one(wording("colour", language, rng, kind=name), nothing_there(name, language))
    if chance < 0.45 and (colour := _missing(rng, COLOURS, _split(scene, lambda s: s.colour))):
        name = name_thing(None, colour, language)
        question = wording("shape", language, rng, colour=CHINESE_COLOURS[colour] if language == "zh" else colour)
        return _one(question, nothing_there(name, language))
    if chance < 0.55 and (found := _pick_thing(scene, language, rng)):
        return _one(wording("present", language, rng, thing=found[1]), "有" if language == "zh" else "yes")
    thing = _absent_thing([scene], language, rng)
    asker = rng.choice(("place", "place", "box", "present"))
    return _one(wording(asker, language, rng, thing=thing), nothing_there(thing, language))


def _ask_follow_up(scene: Scene, language: str, rng: random.Random) -> tuple[Turn, ...] | None:
    singles = [shapes[0] for shapes in _split(scene, lambda s: s.kind).values() if len(shapes) == 1]
    if len(singles) < 2:
        return None
    rng.shuffle(singles)
    (first, colour), second = _name(singles[0], language), _name(singles[1], language)
    turns = [Turn(wording("colour", language, rng, kind=first), colour)]
    turns.append(Turn(wording("and", language, rng, kind=second[0]), second[1]))
    if len(singles) > 2 and rng.random() < 0.4:
        third = _name(singles[2], language)
        turns.append(Turn(wording("and", language, rng, kind=third[0]), third[1]))
    return tuple(turns)


def _ask_else(scene: Scene | None, language: str, rng: random.Random) -> tuple[Turn, ...]:
    return _one(careless(something_else(language, rng), language, rng), honest_sentence(language))


_ASKERS: dict[str, Callable[[Scene, str, random.Random], tuple[Turn, ...] | None]] = {
    "colour": _ask_colour,
    "shape": _ask_shape,
    "count": _ask_count,
    "count kind": _ask_count_kind,
    "place": _ask_place,
    "describe": _ask_describe,
    "list": _ask_list,
    "text": _ask_text,
    "box": _ask_box,
    "absent": _ask_absent,
    "follow-up": _ask_follow_up,
    "else": _ask_else,
}
KINDS_OF_QUESTION = (*_ASKERS, "which")


def ask_which(scenes: tuple[Scene, Scene], language: str, rng: random.Random) -> Exchange | None:
    """Which of two pictures has something that only one of them has (now and then: none)."""
    if rng.random() < 0.1:
        thing = _absent_thing(list(scenes), language, rng)
        turns = _one(wording("which", language, rng, thing=thing), nothing_there(thing, language))
        return Exchange("which", language, turns)
    first, second = ({(s.kind, s.colour) for s in scene.shapes} for scene in scenes)
    only = [(pair, 0) for pair in sorted(first - second)] + [(pair, 1) for pair in sorted(second - first)]
    if not only:
        return None
    (kind, colour), index = rng.choice(only)
    answer = (("第一张", "第二张") if language == "zh" else ("first", "second"))[index]
    thing = name_thing(kind, colour, language)
    return Exchange("which", language, _one(wording("which", language, rng, thing=thing), answer))


def ask_of_one(kind: str, scenes: tuple[Scene, Scene], language: str, rng: random.Random) -> Exchange | None:
    """A question of a kind about the first or the second of two pictures."""
    index = rng.randrange(2)
    exchange = ask(kind, scenes[index], language, rng)
    if exchange is None:
        return None
    opening = rng.choice(_OF_ONE_OF_TWO[language])[index]
    turns = tuple(Turn(opening + turn.question, turn.answer) for turn in exchange.turns)
    return Exchange(kind, language, turns)
