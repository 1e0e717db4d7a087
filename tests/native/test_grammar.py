"""An answer is held to its grammar, token by token, and nothing a grammar says ends the process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_cpp import llama_cpp as llama

from gguf_vl import paths
from gguf_vl.errors import EngineError, UsageError
from gguf_vl.native import grammar as grammars
from gguf_vl.native.grammar import Grammar
from gguf_vl.native.model import Model


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    with Model(paths.pocket_dir() / "pocket-F16.gguf", n_gpu_layers=0, on_progress=lambda _: None) as model:
        yield model


@pytest.fixture
def greedy() -> Iterator[object]:
    chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
    llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_greedy())
    yield chain
    llama.llama_sampler_free(chain)


def end(model: Model) -> int:
    return model.special_tokens["<|im_end|>"]


def reads(model: Model, text: str, answer: str) -> bool:
    """Whether the grammar takes the whole answer and lets it end there."""
    with Grammar(model, text) as grammar:
        for token in model.tokenize(answer):
            if not grammar.allows(token):
                return False
            grammar.accept(token)
        return grammar.allows(end(model))


def wishes(model: Model, *tokens: int) -> np.ndarray:
    """Logits that want these tokens, the first most."""
    logits = np.zeros(model.n_vocab, np.float32)
    for place, token in enumerate(tokens):
        logits[token] = 100 - place
    return logits


@pytest.mark.parametrize("answer", ["red", "blue", "red, blue, red"])
def test_an_answer_of_the_grammar_is_taken(model: Model, answer: str) -> None:
    assert reads(model, 'root ::= c (", " c)*\nc ::= "red" | "blue"', answer)


@pytest.mark.parametrize("answer", ["", "re", "red,", "green", "red  blue", "redd"])
def test_any_other_is_refused_or_may_not_end(model: Model, answer: str) -> None:
    assert not reads(model, 'root ::= c (", " c)*\nc ::= "red" | "blue"', answer)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_characters_split_over_tokens_are_taken(model: Model, answer: str) -> None:
    assert reads(model, 'root ::= [^"]* ["]?', answer) == ('"' not in answer[:-1])


def test_a_token_that_is_refused_is_an_error_to_accept(model: Model) -> None:
    with Grammar(model, 'root ::= "red"') as grammar:
        for token in (*model.tokenize("blue"), end(model), -1, model.n_vocab):
            with pytest.raises(EngineError):
                grammar.accept(token)


def test_control_tokens_are_not_the_text_they_are_spelled_with(model: Model) -> None:
    with Grammar(model, "root ::= .+") as grammar:
        assert not grammar.allows(model.special_tokens["<|im_start|>"])
        assert grammar.allows(model.special_tokens["<tool_call>"])


def test_bytes_that_are_no_character_are_refused_and_so_is_an_end_within_one(model: Model) -> None:
    tokens = {model.piece(token): token for token in range(model.n_vocab)}
    with Grammar(model, "root ::= .*") as grammar:
        for byte in (b"\xc0", b"\xf5", b"\xff", b"\x80"):
            assert not grammar.allows(tokens[byte])
        assert grammar.allows(end(model))
        grammar.accept(tokens[b"\xed"])
        assert not grammar.allows(end(model))
        assert not grammar.allows(tokens[b"\xa0"])  # it would be half a surrogate pair
        assert not grammar.allows(tokens[b"\xff"])
        assert grammar.allows(tokens[b"\x9f"])


def test_such_bytes_are_not_chosen_either(model: Model, greedy: object) -> None:
    tokens = {model.piece(token): token for token in range(model.n_vocab)}
    with Grammar(model, "root ::= .*") as grammar:
        bad = [tokens[byte] for byte in (b"\xff", b"\xf5", b"\xc0")]
        assert grammar.sample(greedy, wishes(model, *bad, tokens[b"a"])) == tokens[b"a"]


def test_open_reasoning_is_free_until_it_ends(model: Model, greedy: object) -> None:
    close = model.special_tokens["</think>"]
    with Grammar(model, 'root ::= "red"', thinking=True) as grammar:
        for token in model.tokenize("Hm 🦄"):
            assert (
                grammar.sample(greedy, wishes(model, end(model), model.special_tokens["<|im_start|>"], token)) == token
            )
        grammar.accept(model.tokenize("🦄")[0])
        assert not grammar.allows(close)
        for token in model.tokenize("🦄")[1:]:
            grammar.accept(token)
        assert grammar.sample(greedy, wishes(model, close)) == close
        assert not grammar.allows(close)
        for token in model.tokenize("\n\nred"):
            grammar.accept(token)
        assert grammar.allows(end(model))


def test_reasoning_cannot_end_without_a_token_for_that(model: Model) -> None:
    without = SimpleNamespace(special_tokens={}, n_vocab=9)
    with pytest.raises(UsageError, match="</think>"):
        Grammar(without, 'root ::= "red"', thinking=True)  # type: ignore[arg-type]


def test_a_token_can_be_named_and_be_left_out(model: Model) -> None:
    call = model.special_tokens["<tool_call>"]
    with Grammar(model, 'root ::= !<tool_call>* <tool_call> "red"') as grammar:
        for token in (*model.tokenize("anything at all"), call):
            grammar.accept(token)
        assert not grammar.allows(call)
        assert grammar.allows(model.tokenize("red")[0])


@pytest.mark.parametrize("text", ["root ::= <nonsense>", "root ::= <[99999999]>", "root ::= <|im_start|", "root ::= x"])
def test_a_grammar_that_this_model_cannot_have_is_wrong_usage(model: Model, text: str) -> None:
    with pytest.raises(UsageError):
        Grammar(model, text)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look of a grammar at tokens takes half a second."""
    seconds = count(step=0.5)
    monkeypatch.setattr("time.thread_time", lambda: next(seconds))


@pytest.mark.usefixtures("slow")
def test_a_grammar_that_takes_too_long_for_the_tokens_of_its_answer_ends_in_an_error(model: Model) -> None:
    with Grammar(model, 'root ::= "a"*') as grammar:
        a = model.tokenize("a")[0]
        grammar.accept(a)
        grammar.accept(a)
        with pytest.raises(UsageError, match="too many ways"):
            grammar.accept(a)


@pytest.mark.usefixtures("slow")
def test_what_is_only_looked_at_and_what_is_chosen_count_too(model: Model, greedy: object) -> None:
    with Grammar(model, 'root ::= "a"*') as grammar:
        looks = [grammar.allows(model.tokenize("a")[0]) for _ in range(4)]
        with pytest.raises(UsageError, match="too many ways"):
            grammar.allows(model.tokenize("a")[0])
    assert looks == [True] * 4
    with Grammar(model, 'root ::= "a"*') as grammar:
        grammar.sample(greedy, wishes(model, model.tokenize("b")[0]))  # looks four times
        with pytest.raises(UsageError, match="too many ways"):
            grammar.sample(greedy, wishes(model, model.tokenize("b")[0]))


@pytest.mark.usefixtures("slow")
def test_an_answer_however_long_may_go_on_while_each_of_its_tokens_is_quick(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grammars, "_TOKEN_S", 1.0)
    with Grammar(model, 'root ::= "a"*') as grammar:
        for _ in range(50):
            grammar.accept(model.tokenize("a")[0])


@pytest.mark.usefixtures("slow")
def test_a_look_at_all_tokens_is_divided_so_that_its_time_is_seen(
    model: Model, greedy: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grammars, "_AT_ONCE", 100)
    with (
        Grammar(model, 'root ::= "red"') as grammar,
        pytest.raises(UsageError, match="too many ways"),
    ):
        grammar.sample(greedy, wishes(model, model.tokenize("b")[0]))


def test_what_the_chain_chooses_is_kept_where_the_grammar_allows_it(model: Model, greedy: object) -> None:
    red, blue = (model.tokenize(word)[0] for word in ("red", "blue"))
    with Grammar(model, 'root ::= "red" | "blue"') as grammar:
        assert grammar.sample(greedy, wishes(model, blue, red)) == blue


def test_where_it_does_not_the_likeliest_allowed_token_is_chosen(model: Model, greedy: object) -> None:
    red, blue, green = (model.tokenize(word)[0] for word in ("red", "blue", "green"))
    with Grammar(model, 'root ::= "red" | "blue"') as grammar:
        assert grammar.sample(greedy, wishes(model, green, red, blue)) == red


def test_it_is_found_beyond_the_likeliest_too(model: Model, greedy: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammars, "_LIKELIEST", 4)
    red, others = model.tokenize("red")[0], model.tokenize("blue green yellow white black")
    with Grammar(model, 'root ::= "red"') as grammar:
        assert grammar.sample(greedy, wishes(model, *others)) in (red, *model.tokenize("r"))


@pytest.mark.parametrize("seed", range(20))
def test_chance_stays_in_the_grammar_and_a_seed_gives_one_answer(model: Model, seed: int) -> None:
    def answer() -> str:
        chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_top_k(20))
        llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_dist(seed))
        noise = np.random.default_rng(seed)
        said = b""
        with Grammar(model, 'root ::= "[" [0-9]{1,3} (", " [0-9]{1,3}){3} "]"') as grammar:
            while not model.ends_answer(token := grammar.sample(chain, noise.normal(size=model.n_vocab).astype("f4"))):
                said += model.piece(token)
        llama.llama_sampler_free(chain)
        return said.decode()

    numbers = answer()
    assert numbers == answer()
    assert numbers[0] + numbers[-1] == "[]"
    assert [0 <= int(number) <= 999 for number in numbers[1:-1].split(", ")] == [True] * 4


def test_a_real_models_answer_is_held_to_a_grammar(model: Model, greedy: object) -> None:
    params = llama.llama_context_default_params()
    params.n_ctx = params.n_batch = 512
    context = llama.llama_init_from_model(model.pointer, params)
    tokens = model.tokenize("user\nWhat colour is the circle? Answer as JSON.\nassistant\n")
    said = b""
    with Grammar(
        model, r'root ::= "{\"colour\": \"" ("red" | "dark blue") "\", \"sure\": " ("true" | "false") "}"'
    ) as grammar:
        while not model.ends_answer(tokens[-1]):
            array = (llama.llama_token * len(tokens))(*tokens)
            assert llama.llama_decode(context, llama.llama_batch_get_one(array, len(tokens))) == 0
            logits = np.ctypeslib.as_array(llama.llama_get_logits_ith(context, -1), (model.n_vocab,))
            tokens = [grammar.sample(greedy, logits)]
            said += model.piece(tokens[0])
    llama.llama_free(context)
    answer = json.loads(said)
    assert answer["colour"] in ("red", "dark blue")
    assert answer["sure"] in (True, False)


def test_a_grammar_is_closed_twice_without_harm(model: Model) -> None:
    grammar = Grammar(model, 'root ::= "a"')
    grammar.close()
    grammar.close()
