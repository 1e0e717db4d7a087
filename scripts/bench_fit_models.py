"""The models that `bench_fit.py` loads: with random weights, or with none to speak of."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from gguf_vl import catalogue
from gguf_vl.gguf import ProjectorShape, TextShape, projector_shape, read_header, text_shape
from gguf_vl.store import blueprint


@dataclass(frozen=True)
class Files:
    """A pair with random weights."""

    name: str
    quant: str
    text: Path
    mmproj: Path

    @property
    def shape(self) -> TextShape:
        """The text tower, as its header has it."""
        return text_shape(read_header(self.text))

    @property
    def projector(self) -> ProjectorShape:
        """The vision tower."""
        return projector_shape(read_header(self.mmproj))


@contextmanager
def pair(name: str, quant: str, mmproj: str, folder: Path, *, keep: bool) -> Iterator[Files]:
    """The files of a model; what has to be made for it is removed again."""
    model, variant = catalogue.find(f"{name}:{quant.lower()}")
    projector = next(each for each in model.projectors if each.quant == mmproj.lower())
    places = [folder / f"synthetic-{file.name}" for file in (variant.file, projector.file)]
    made = [place for place in places if not place.exists()]
    if made:
        print(f"Making {name} {quant} …", file=sys.stderr)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            maker = Path(__file__).parent / "make_synthetic.py"
            words = (name, scratch, "--quant", quant, "--mmproj", mmproj)
            subprocess.run([sys.executable, maker, *words], check=True, stdout=subprocess.DEVNULL)
            for place in made:
                (Path(scratch) / place.name).rename(place)
    try:
        yield Files(name, quant, *places)
    finally:
        if not keep:
            for place in made:
                place.unlink()


@contextmanager
def hollow(name: str, quant: str, mmproj: str, n_vocab: int | None) -> Iterator[Files]:
    """A pair whose weights are all zero, sparse on the disk, with another number of tokens in its vocabulary."""
    model, variant = catalogue.find(f"{name}:{quant.lower()}")
    assert model.shape
    text = replace(model.shape.text, n_vocab=n_vocab or model.shape.text.n_vocab)
    model = replace(model, shape=replace(model.shape, text=text))
    projector = next(each for each in model.projectors if each.quant == mmproj.lower())
    with home():
        yield Files(
            name, quant, blueprint.text_skeleton(model, variant), blueprint.projector_skeleton(model, projector)
        )


def write_one_layer(name: str, path: Path) -> None:
    """A text model with a vocabulary, which a projector is not loaded without, as wide as the projector wants it."""
    from make_synthetic import write_text

    shape = catalogue.find(name)[0].shape
    assert shape
    write_text(replace(shape, text=replace(shape.text, n_layer=1, n_ff=256)), "Q4_K_M", 4096, path)


@contextmanager
def home() -> Iterator[None]:
    """A GGUF_VL_HOME of its own: nothing that was remembered stands for what is asked now."""
    before = os.environ.get("GGUF_VL_HOME")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GGUF_VL_HOME"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["GGUF_VL_HOME"]
            else:
                os.environ["GGUF_VL_HOME"] = before
