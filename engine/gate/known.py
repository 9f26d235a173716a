"""Asks a gate of pictures whose label is known: of each once for its own label, and once for another."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mothlight.engine.batch import Batch, batches
from mothlight.engine.errors import UserError
from mothlight.engine.executor.pipeline import Pipeline
from mothlight.engine.gate.calibrate import Truth
from mothlight.engine.models.bundle import Bundle
from mothlight.engine.models.engines import Engines
from mothlight.engine.photographs.pixels import UnreadableError, to_pixels
from mothlight.engine.photographs.sources import Photograph, Refused, photographs, without_twins
from mothlight.engine.records import Chunk, Prompt
from mothlight.engine.stages.classify import gate_stage
from mothlight.engine.stages.generate import DrawStage, Pictures

BATCH = 12


@dataclass(frozen=True, slots=True)
class Known:
    """A picture whose label is known: its height and width, and how its pixels, (H, W, 3) uint8, are had."""

    label: str
    size: tuple[int, int]
    pixels: Callable[[], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class _Ask:
    picture: Known
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
        Known(label, picture.shape[:2], partial(np.asarray, picture))
        for label in labels
        for picture in renderer.images(Prompt(label, f"a picture of a {label}."), range(images))
    ]


def taken(source: Path, knows: Collection[str] | None) -> tuple[list[Known], list[Refused]]:
    """The photographs of a source, and those that can't be used; `knows` holds the labels that can be asked for.

    Raises:
        UserError: there are fewer than two labels with pictures, or the source can't be read.
    """
    found: list[Known] = []
    refused: list[Refused] = []
    for one in without_twins(photographs(source)):
        if isinstance(one, Refused):
            refused.append(one)
            continue
        photograph, content = one
        if knows is not None and photograph.label not in knows:
            refused.append(Refused(photograph.label, photograph.name, f"the gate has no label `{photograph.label}`"))
            continue
        try:
            height, width = to_pixels(content).shape[:2]
        except UnreadableError as error:
            refused.append(Refused(photograph.label, photograph.name, str(error)))
            continue
        found.append(Known(photograph.label, (height, width), partial(_again, photograph)))
    if len({one.label for one in found}) < 2:
        why = f"; {as_words(refused)}" if refused else ""
        raise UserError(
            f"{source} must hold photographs of two labels at least, as a folder for each label or a table{why}."
        )
    return found, refused


def _again(photograph: Photograph) -> NDArray[np.uint8]:
    return to_pixels(photograph.read())


def as_words(refused: Sequence[Refused]) -> str:
    """What was set aside, in a line."""
    shown = "; ".join(f"{one.name}: {one.reason}" for one in refused[:3])
    more = f"; and {len(refused) - 3:,} more" if len(refused) > 3 else ""
    return f"{len(refused):,} set aside: {shown}{more}"


def ask(gate: Bundle, pictures: Sequence[Known], labels: Sequence[str], engines: Engines) -> Truth:
    """Each picture's score for its own label, and for another in turn: 2 N answers.

    Raises:
        UserError: the gate does not know a picture's label.
    """
    for label in sorted({one.label for one in pictures}):
        if label not in (labels if gate.manifest.zero_shot is not None else gate.manifest.labels):
            raise UserError(f"The gate {gate.manifest.name} has no label `{label}`.")
    found: list[tuple[int, float, bool]] = []
    stage = gate_stage(gate, labels, engines)
    by_size: dict[tuple[int, int], list[tuple[int, _Ask]]] = {}
    for place, one in enumerate(_asks(pictures, labels)):
        by_size.setdefault(one.picture.size, []).append((place, one))
    for size, numbered in by_size.items():
        numbered.sort(key=lambda pair: pair[1].label)
        places, asks = [place for place, _ in numbered], [one for _, one in numbered]

        def read(at: int, asks: Sequence[_Ask] = asks) -> NDArray[np.uint8]:
            return asks[at].picture.pixels()

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
        yield _Ask(one, one.label, shows=True)
        yield _Ask(one, others[place % len(others)], shows=False)


def _chunks(asks: Sequence[_Ask]) -> Iterator[Chunk]:
    at = 0
    for label, group in groupby(asks, key=lambda one: one.label):
        count = sum(1 for _ in group)
        yield Chunk(Prompt(label, ""), at, count, 0)
        at += count
