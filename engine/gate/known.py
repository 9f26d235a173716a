"""Asks a gate of pictures whose label is known: of each once for its own label, and once for another."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mothlight.engine.batch import Batch, batches
from mothlight.engine.errors import UserError
from mothlight.engine.executor.pipeline import Pipeline
from mothlight.engine.gate.calibrate import Truth
from mothlight.engine.models.bundle import Bundle
from mothlight.engine.models.engines import Engines
from mothlight.engine.records import Chunk, Prompt
from mothlight.engine.stages.classify import gate_stage
from mothlight.engine.stages.generate import DrawStage, Pictures

BATCH = 12
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
PIXELS = 1 << 26
"""Of a picture, at most: a larger one is no picture for a classifier."""


@dataclass(frozen=True, slots=True)
class Known:
    """A picture: a file, or its pixels (H, W, 3) uint8."""

    label: str
    picture: "Path | NDArray[np.uint8]"


@dataclass(frozen=True, slots=True)
class _Ask:
    picture: "Path | NDArray[np.uint8]"
    label: str
    shows: bool


def rendered(labels: Sequence[str], images: int) -> list[Known]:
    """So many of the renderer's pictures of each label.

    Raises:
        UserError: it can't draw one of them.
    """
    from mothlight.engine.world.render import Renderer  # only who asks for it loads the world
    from mothlight.engine.world.scene import LABELS

    unknown = [label for label in labels if label not in LABELS]
    if unknown:
        raise UserError(f"The renderer can't draw `{unknown[0]}`: --rendered is for audits of the built-in world.")
    renderer = Renderer(0)
    return [
        Known(label, picture)
        for label in labels
        for picture in renderer.images(Prompt(label, f"a picture of a {label}."), range(images))
    ]


def in_folder(folder: Path) -> list[Known]:
    """The pictures of a folder that has a folder for each label.

    Raises:
        UserError: there are fewer than two labels with pictures.
    """
    try:
        found = [
            Known(own.name, file)
            for own in sorted(folder.iterdir())
            if own.is_dir()
            for file in sorted(own.iterdir())
            if file.suffix.lower() in SUFFIXES
        ]
    except OSError as error:
        raise UserError(f"Can't read {folder}: {error.strerror}.") from error
    if len({one.label for one in found}) < 2:
        raise UserError(f"{folder} must hold a folder of pictures for each label, and two labels at least.")
    return found


def ask(gate: Bundle, pictures: Sequence[Known], labels: Sequence[str], engines: Engines) -> Truth:
    """Each picture's score for its own label, and for another in turn: 2 N answers.

    Raises:
        UserError: the gate does not know a picture's label, or a file is no picture.
    """
    for label in sorted({one.label for one in pictures}):
        if label not in (labels if gate.manifest.zero_shot is not None else gate.manifest.labels):
            raise UserError(f"The gate {gate.manifest.name} has no label `{label}`.")
    found: list[tuple[int, float, bool]] = []
    stage = gate_stage(gate, labels, engines)
    by_size: dict[tuple[int, int], list[tuple[int, _Ask]]] = {}
    for place, one in enumerate(_asks(pictures, labels)):
        by_size.setdefault(_size(one.picture), []).append((place, one))
    for size, numbered in by_size.items():
        numbered.sort(key=lambda pair: pair[1].label)
        places, asks = [place for place, _ in numbered], [one for _, one in numbered]

        def read(at: int, asks: Sequence[_Ask] = asks) -> NDArray[np.uint8]:
            return _pixels(asks[at].picture)

        def sink(batch: Batch, places: Sequence[int] = places, asks: Sequence[_Ask] = asks) -> None:
            for index, score in zip(batch.indices, batch.arrays["gate"], strict=False):
                found.append((places[index], float(score), asks[index].shows))

        with Pipeline(engines.device, [DrawStage(Pictures(read, size), 1), stage], BATCH, without=["images"]) as line:
            line.run((batch for chunk in _chunks(asks) for batch in batches(chunk, BATCH)), sink)
    found.sort()
    return Truth(
        np.array([score for _, score, _ in found]),
        np.array([shows for _, _, shows in found], np.bool_),
        np.array([place // 2 % 2 for place, _, _ in found], np.bool_),
    )


def _asks(pictures: Sequence[Known], labels: Sequence[str]) -> Iterator[_Ask]:
    for place, one in enumerate(pictures):
        others = [label for label in labels if label != one.label]
        yield _Ask(one.picture, one.label, shows=True)
        yield _Ask(one.picture, others[place % len(others)], shows=False)


def _chunks(asks: Sequence[_Ask]) -> Iterator[Chunk]:
    at = 0
    for label, group in groupby(asks, key=lambda one: one.label):
        count = sum(1 for _ in group)
        yield Chunk(Prompt(label, ""), at, count, 0)
        at += count


def _size(picture: "Path | NDArray[np.uint8]") -> tuple[int, int]:
    if not isinstance(picture, Path):
        return picture.shape[0], picture.shape[1]
    with _opened(picture) as image:
        return image.height, image.width


def _pixels(picture: "Path | NDArray[np.uint8]") -> NDArray[np.uint8]:
    if not isinstance(picture, Path):
        return picture
    with _opened(picture) as image:
        try:
            return np.asarray(image.convert("RGB"))
        except OSError as error:
            raise UserError(f"{picture} is damaged: {error}.") from error


def _opened(path: Path) -> Image.Image:
    try:
        image = Image.open(path)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} is no picture that can be read.") from error
    if image.width * image.height > PIXELS:
        raise UserError(f"{path} has {image.width} × {image.height} pixels; a picture may have {PIXELS:,} at most.")
    return image
