"""Stored pictures through a captioner and back into the database, by the executor."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mothlight.engine.executor.pipeline import Pipeline
from mothlight.engine.executor.source import kept_pictures
from mothlight.engine.executor.writer import CaptionWriter
from mothlight.engine.host import Host
from mothlight.engine.stages.caption import Caption, CaptionStep
from mothlight.engine.stages.encode import to_jpeg
from mothlight.sql import Store, open_audit

CHUNKS = [[f"a{k}" for k in range(7)], ["b0"], [f"c{k}" for k in range(5)]]
ALL = [key for chunk in CHUNKS for key in chunk]
SIZE = 3


OF = {"chunk_id": "c", "prompt_id": "p", "wave": 0, "gate_score": 0.9, "answers": 1, "errors": 0}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_audit(tmp_path / "audit.duckdb", read_only=False) as made:
        for grey, key in enumerate(ALL):
            picture = to_jpeg(np.full((8, 8, 3), 10 + grey * 10, np.uint8))
            made.append("image", [{**OF, "image_id": key, "index": grey, "jpeg": picture}])
        yield made


class Greys:
    """Says how grey an image is; refuses the brightest, and breaks where it is told to."""

    def __init__(self, broken: float = np.inf, *, fixed_size: bool = True) -> None:
        self.broken = broken
        self.fixed_size = fixed_size
        self.batches: list[int] = []

    def caption(self, images: NDArray[np.uint8]) -> list[Caption]:
        self.batches.append(len(images))
        greys = [round(float(image.mean())) for image in images]
        if max(greys) >= self.broken:
            raise ValueError("broken")
        return [Caption("", "too bright") if grey > 125 else Caption(f"grey {grey}") for grey in greys]


def run(store: Store, captioner: Greys, chunks: Sequence[Sequence[str]], threads: int) -> list[int]:
    told: list[int] = []
    with (
        store.beside() as pictures,
        Pipeline(Host(), [], SIZE, keep=[CaptionStep(captioner)], keepers=threads) as pipeline,
    ):
        (stats,) = pipeline.run(kept_pictures(pictures, chunks, SIZE), CaptionWriter(store, told.append))
    assert (stats.stage, stats.images) == ("caption", sum(len(chunk) for chunk in chunks))
    return told


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_each_picture_gets_its_own_caption(store: Store, threads: int) -> None:
    captioner = Greys()
    assert run(store, captioner, CHUNKS, threads) == [7, 1, 5]
    assert set(captioner.batches) == {SIZE}  # a graph runs at one size
    said = dict(store.rows("select image_id, text from caption"))
    refused = dict(store.rows("select image_id, reason from caption_failure"))
    assert said == {key: f"grey {10 + grey * 10}" for grey, key in enumerate(ALL) if grey < 12}
    assert refused == {ALL[12]: "too bright"}


def test_a_server_is_asked_of_no_picture_twice(store: Store) -> None:
    captioner = Greys(fixed_size=False)
    run(store, captioner, CHUNKS, 2)
    assert sorted(captioner.batches) == [1, 1, 2, 3, 3, 3]
    assert store.rows("select count(*) from caption") == [(12,)]


def test_chunks_before_the_one_that_breaks_are_kept(store: Store) -> None:
    with pytest.raises(ValueError, match="broken"):
        run(store, Greys(broken=88), CHUNKS, 2)
    kept = {key for (key,) in store.rows("select image_id from caption")}
    assert kept in (set(), set(CHUNKS[0]), {*CHUNKS[0], *CHUNKS[1]})
    assert run(store, Greys(), [chunk for chunk in CHUNKS if not kept & set(chunk)], 2)[-1] == 5
    assert store.rows("select count(*) from caption") == [(12,)]
