import re

import pytest

from gguf_vl import errors
from gguf_vl.errors import EngineError, GgufVlError, UsageError, VerificationFailed, from_plain, to_plain

CLASSES = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, GgufVlError)]


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_says_what_happened_and_what_to_do_and_crosses_a_process_border(cls: type[GgufVlError]) -> None:
    error = cls("The file is gone.", "Fetch it again.")
    assert str(error) == "The file is gone."
    again = from_plain(to_plain(error))
    assert (type(again), again.what, again.fix) == (cls, "The file is gone.", "Fetch it again.")


def test_an_error_of_a_class_unknown_here_arrives_as_an_engine_error() -> None:
    again = from_plain({"error": "FromTheFuture", "what": "x", "fix": "y"})
    assert type(again) is EngineError


def test_the_tree_drawn_in_the_docstring_is_the_tree() -> None:
    drawn = re.findall(r"^[ │]*[├└]?[─ ]*([A-Z]\w+) {2,}", errors.__doc__ or "", re.MULTILINE)
    assert sorted(drawn) == sorted(cls.__name__ for cls in CLASSES)


def test_the_exit_codes_drawn_in_the_docstring_are_the_exit_codes() -> None:
    drawn = dict(re.findall(r"([A-Z]\w+) +exit (\d)", errors.__doc__ or ""))
    assert {name: int(code) for name, code in drawn.items()} == {
        cls.__name__: cls.exit_code for cls in CLASSES if GgufVlError in (cls, cls.__base__)
    }
    assert (UsageError.exit_code, VerificationFailed.exit_code) == (2, 5)
