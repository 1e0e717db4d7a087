"""What a model is asked for a task, in which words, how it samples, and how large the pictures are."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_vl.config import Settings
from gguf_vl.errors import UsageError
from gguf_vl.media.resize import fit_size
from gguf_vl.runtime.models import Installed, of_name
from gguf_vl.tasks import asking
from gguf_vl.tasks.task import Task, find, free
from gguf_vl.types import PATCH, Picture, PictureLimits, Request

PICTURE = Picture(b"", 64, 64, (64, 64), "0")
LIMITS = PictureLimits(8, 4096)


@pytest.fixture
def pocket() -> Installed:
    return of_name("pocket")


@pytest.fixture
def other(pocket: Installed) -> Installed:
    """A model of another name, of which nothing is known."""
    return Installed(replace(pocket.local, name="other"), None, "as asked")


def words(request: Request) -> str:
    said = request.messages[-1].content[-1]
    assert isinstance(said, str)
    return said


def test_a_model_is_asked_in_the_words_that_are_best_for_it(pocket: Installed, other: Installed) -> None:
    given = {"thing": "cat"}
    assert words(asking.request(find("locate"), [PICTURE], given, pocket, Settings())) == "Locate the cat."
    asked = words(asking.request(find("locate"), [PICTURE], given, other, Settings()))
    assert asked.startswith('Locate every instance that matches the description "cat" in the image.')


def test_an_article_that_the_wording_brings_is_not_said_twice(pocket: Installed, other: Installed) -> None:
    for thing in ("the red circle", "A red circle", " red circle"):
        asked = asking.request(find("locate"), [PICTURE], {"thing": thing}, pocket, Settings())
        assert words(asked).split() == "Locate the red circle.".split()
        assert '"There is no ' in (asked.grammar or "")
    own = replace(find("locate"), schema={"type": "object"})  # as with --schema
    held = asking.request(own, [PICTURE], {"thing": "red circle"}, pocket, Settings())
    assert (held.schema, held.grammar) == ({"type": "object"}, None)
    asked = asking.request(find("locate"), [PICTURE], {"thing": "the cat on the mat"}, other, Settings())
    assert 'the description "the cat on the mat" in' in words(asked)
    assert (asked.schema["title"], asked.grammar) == ("bbox", None)


def test_the_answer_is_held_to_what_was_chosen_as_far_as_the_model_knows_it(
    pocket: Installed, other: Installed
) -> None:
    task, points = find("locate"), {"thing": "cat", "kind": "point"}
    assert asking.request(task, [PICTURE], points, other, Settings()).schema["title"] == "point"
    assert asking.beyond(task, "other", points) is None
    assert "point_2d" not in (asking.request(task, [PICTURE], points, pocket, Settings()).grammar or "point_2d")
    assert "pocket has learnt the task locate with kind=bbox alone" in str(asking.beyond(task, "pocket", points))
    assert asking.beyond(task, "pocket", {"thing": "cat", "kind": "bbox"}) is None
    assert asking.beyond(task, "pocket", {"thing": "cat"}) is None


def test_the_braces_of_json_and_of_what_is_given_stay(other: Installed) -> None:
    asked = words(asking.request(find("locate"), [PICTURE], {"thing": "{kind} {x}"}, other, Settings()))
    assert 'description "{kind} {x}" in' in asked
    assert '{"bbox_2d": [x1, y1, x2, y2], "label": "…"}' in asked


def test_extra_words_are_added_or_are_the_one_thing_that_was_missing(other: Installed) -> None:
    receipt = asking.request(find("receipt"), [PICTURE], {}, other, Settings(), extra=" Amounts in cents. ")
    assert words(receipt).endswith("\nAmounts in cents.")
    assert receipt.schema == find("receipt").schema
    assert 'the description "the dog" in the image' in words(
        asking.request(find("locate"), [PICTURE], {}, other, Settings(), extra="the dog")
    )


def test_texts_stand_between_pictures_and_the_prompt_last(other: Installed) -> None:
    asked = asking.request(
        find("timeline"), ["<0.0 seconds>", PICTURE, "<1.0 seconds>", PICTURE], {}, other, Settings()
    )
    *shown, prompt = asked.messages[-1].content
    assert shown == ["<0.0 seconds>", PICTURE, "<1.0 seconds>", PICTURE]
    assert isinstance(prompt, str)


@pytest.mark.parametrize(
    ("name", "n", "given", "says"),
    [
        ("receipt", 0, {}, "about one picture, and none"),
        ("receipt", 2, {}, "about one picture, and 2 are"),
        ("compare", 1, {}, "about 2 pictures, and 1 is"),
        ("invoice", 0, {}, "at least one picture"),
        ("invoice", 21, {}, "1 to 20 pictures"),
        ("locate", 1, {}, "needs thing: what to find"),
        ("locate", 1, {"thing": " "}, "needs thing"),
        ("locate", 1, {"thing": "x", "think": "y"}, "no parameter 'think'"),
        ("locate", 1, {"thing": "x", "kind": "polygon"}, "takes kind=bbox or point, and 'polygon'"),
        ("receipt", 1, {"a": "b"}, "no parameter 'a'"),
    ],
)
def test_what_a_task_does_not_take_is_refused_before_a_model_loads(
    name: str, n: int, given: dict[str, str], says: str
) -> None:
    with pytest.raises(UsageError, match=says) as error:
        asking.check(find(name), n, given)
    assert error.value.fix


def test_a_request_goes_before_the_task_which_goes_before_the_settings(other: Installed) -> None:
    settings = Settings(temperature=0.9, top_p=0.5, system="Mine.")
    task = find("support")
    default = asking.request(task, [PICTURE], {}, other, settings)
    assert (default.sampling.temperature, default.sampling.top_p) == (0.1, 0.5)
    assert "customers" in str(default.messages[0].content[0])
    asked = asking.request(task, [PICTURE], {}, other, settings, sampling={"temperature": 0.6}, system="Theirs.")
    assert (asked.sampling.temperature, asked.sampling.top_p) == (0.6, 0.5)
    assert asked.messages[0].content == ("Theirs.",)
    assert asking.request(find("html"), [PICTURE], {}, other, settings).messages[0].content == ("Mine.",)


def test_greedy_answers_have_no_penalty_unless_one_is_asked_for(other: Installed) -> None:
    task = Task("x", "", "", "x", sampling={"temperature": 0.0})
    assert asking.request(task, [PICTURE], {}, other, Settings()).sampling.presence_penalty == 0
    asked = asking.request(task, [PICTURE], {}, other, Settings(), sampling={"presence_penalty": 0.5})
    assert asked.sampling.presence_penalty == 0.5
    warm = Task("x", "", "", "x")
    assert asking.request(warm, [PICTURE], {}, other, Settings()).sampling == other.sampling(Settings(), pictures=True)


def test_a_question_of_ones_own_is_a_task_too(other: Installed) -> None:
    asked = asking.request(free(), [], {}, other, Settings(), extra="Hello?")
    assert (words(asked), asked.schema) == ("Hello?", None)
    assert asking.request(free({"type": "integer"}), [], {}, other, Settings(), extra="1+1?").sampling.temperature == 0


def test_detail_of_the_request_goes_before_the_tasks() -> None:
    ocr = find("ocr")
    assert asking.limits(ocr, Settings(detail="low"), LIMITS) == LIMITS
    assert asking.limits(ocr, Settings(), LIMITS, detail="low").max_tokens == 256
    assert asking.limits(find("describe"), Settings(detail="low"), LIMITS).max_tokens == 256


@given(
    st.integers(16, 6000),
    st.integers(16, 6000),
    st.integers(1, 64),
    st.integers(64, 4096),
    st.sampled_from(["low", None]),
)
def test_small_pictures_are_enlarged_as_far_as_the_limits_allow(
    width: int, height: int, least: int, most: int, detail: str | None
) -> None:
    allowed = asking.limits(find("locate"), Settings(), PictureLimits(least, most), detail=detail)  # type: ignore[arg-type]
    assert least <= allowed.min_tokens <= allowed.max_tokens <= most
    seen = fit_size(width, height, allowed)
    n_tokens = seen[0] * seen[1] // PATCH**2
    assert allowed.min_tokens <= n_tokens <= most
    if most >= 1366 and detail is None:
        assert n_tokens >= 1024
    if allowed.max_tokens <= 1024:
        assert allowed.min_tokens == least
    if max(width, height) <= 4 * min(width, height) and allowed.max_tokens >= 256 >= allowed.min_tokens:
        assert 0.6 < (seen[0] / seen[1]) / (width / height) < 1.6  # its shape stays


def test_what_is_beyond_a_model_is_said() -> None:
    assert "never learnt" in str(asking.beyond(find("receipt"), "pocket"))
    assert asking.beyond(find("receipt"), "2b") is None
    assert asking.beyond(find("count"), "pocket") is None
    assert asking.beyond(find("timeline"), "pocket") is None  # frame by frame
    assert asking.beyond(free(), "pocket") is None
