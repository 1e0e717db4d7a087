"""Models that other programs or a person keep elsewhere, taken in where they are: hard-linked or referenced.

    found_in(paths)              GGUF files and folders of them, as given
    found_elsewhere(places())    in the folders of Hugging Face, LM Studio, Ollama and llama.cpp
    bring_in(found)              each paired, checked and taken in; an `Outcome` for every one
    adopt(pair)                  one text model with its projector → a `LocalModel`

Nothing is copied, and nothing in those folders is changed, moved or removed.
"""

from __future__ import annotations

from .candidates import Candidate, Group, Refused, found_in
from .linking import Adopted, adopt
from .outcomes import Outcome, bring_in
from .pairing import Mmproj, Pair, Text, pairs_in
from .programs import Place, found_elsewhere, places

__all__ = [
    "Adopted",
    "Candidate",
    "Group",
    "Mmproj",
    "Outcome",
    "Pair",
    "Place",
    "Refused",
    "Text",
    "adopt",
    "bring_in",
    "found_elsewhere",
    "found_in",
    "pairs_in",
    "places",
]
