import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from mothlight.engine.batch import Batch, Flight, Stage, Work, batches
from mothlight.engine.device import Buffer, Device, Spec, Stream, spec
from mothlight.engine.executor.pipeline import BACKLOG, SPARE, Pipeline, StageStats
from mothlight.engine.host import Host
from mothlight.engine.records import Chunk, Prompt

Run = Callable[[Pipeline, Iterator[Batch], Callable[[Batch], None]], list[StageStats]]
SIZE = 4


class Add:
    """Adds what was there, plus one, after a while that differs from batch to batch."""

    on_host = True

    def __init__(self, name: str, source: str | None, lanes: int = 1) -> None:
        self.name, self.source, self.lanes = name, source, lanes
        self.reads: Sequence[str] = [source] if source else []
        self.inside = self.most = 0
        self.lock = threading.Lock()

    def build(self, device: Device, size: int, slots: int, given: Mapping[str, Spec]) -> Work:
        assert (device.name, slots > 0, set(given)) == ("cpu", True, set(self.reads))
        return AddWork(self, {self.name: spec((size,), np.int64)})

    def add(self, batch: Batch, source: Buffer | None, target: Buffer) -> None:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        time.sleep(random.Random(f"{self.name}{batch.indices}").uniform(0, 0.004))
        target.array[...] = (source.array if source else np.array(batch.padded)) + 1
        with self.lock:
            self.inside -= 1

    def finish(self, batch: Batch) -> Batch:
        return batch


@dataclass
class AddWork:
    stage: Add
    makes: Mapping[str, Spec]

    def enqueue(self, flight: Flight, arrays: Mapping[str, Buffer], stream: Stream) -> None:
        source = arrays[self.stage.source] if self.stage.source else None
        stream.run(lambda: self.stage.add(flight.batch, source, arrays[self.stage.name]))


class Break(Add):
    def add(self, batch: Batch, source: Buffer | None, target: Buffer) -> None:
        if 40 in batch.indices:
            raise ZeroDivisionError
        super().add(batch, source, target)


def chunks(count: int) -> Iterator[Batch]:
    for k in range(count):
        yield from batches(Chunk(Prompt("fly", "a fly."), 10 * k, 10, 0), SIZE)


def stages() -> list[Stage]:
    return [Add("a", None, lanes=3), Add("b", "a"), Add("c", "b", lanes=2)]


def outcome(run: Run, items: Iterator[Batch], through: list[Stage]) -> list[tuple[Any, ...]]:
    seen: list[tuple[Any, ...]] = []
    with Pipeline(Host(), through, SIZE) as pipeline:
        run(pipeline, items, lambda batch: seen.append((batch.indices, batch.arrays["c"].tolist())))
    return seen


def test_side_by_side_gives_what_one_after_the_other_gives() -> None:
    expected = outcome(Pipeline.run_in_order, chunks(20), stages())
    assert len(expected) == 60
    assert expected[2] == ((8, 9), [11, 12, 12, 12])  # padded with its last row
    for _ in range(3):
        assert outcome(Pipeline.run, chunks(20), stages()) == expected


def test_workers_really_work_side_by_side() -> None:
    wide = Add("a", None, lanes=3)
    with Pipeline(Host(), [wide], SIZE) as pipeline:
        pipeline.run(chunks(20), lambda _: None)
    assert wide.most > 1


def test_nothing_to_do_is_done() -> None:
    assert outcome(Pipeline.run, chunks(0), stages()) == []


def test_every_batch_is_counted() -> None:
    with Pipeline(Host(), stages(), SIZE) as pipeline:
        stats = pipeline.run(chunks(5), lambda _: None)
    assert [(stat.stage, stat.batches, stat.images) for stat in stats] == [(name, 15, 50) for name in "abc"]


@pytest.mark.parametrize("run", [Pipeline.run_in_order, Pipeline.run])
def test_a_broken_stage_says_where(run: Run) -> None:
    given: list[tuple[int, ...]] = []
    before = threading.active_count()
    broken: list[Stage] = [Add("a", None, lanes=2), Break("b", "a")]
    with pytest.raises(ZeroDivisionError) as fault, Pipeline(Host(), broken, SIZE) as pipeline:
        run(pipeline, chunks(20), lambda batch: given.append(batch.indices))
    assert "in b, prompt 'a fly.', indices (40, 41, 42, 43)" in fault.value.__notes__[0]
    assert given == [batch.indices for batch in chunks(4)][: len(given)]
    assert threading.active_count() == before


def test_a_broken_sink_stops_everything() -> None:
    def sink(_: Batch) -> None:
        raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), Pipeline(Host(), stages(), SIZE) as pipeline:
        pipeline.run(chunks(1000), sink)
    assert threading.active_count() == before


def test_a_slow_sink_holds_the_stages_back() -> None:
    fed = 0

    def counted() -> Iterator[Batch]:
        nonlocal fed
        for batch in chunks(200):
            fed += 1
            yield batch

    def slow(batch: Batch) -> None:
        time.sleep(0.01)
        if batch.indices[0] == 100:
            raise StopAsyncIteration

    with pytest.raises(StopAsyncIteration), Pipeline(Host(), stages(), SIZE) as pipeline:
        pipeline.run(counted(), slow)
    assert fed <= 31 + BACKLOG + 3 + 2 + SPARE  # the broken one is the 31st


def test_a_batch_refuses_what_does_not_fit() -> None:
    (batch, *_) = chunks(1)
    with pytest.raises(ValueError, match="doesn't fit"):
        batch.with_arrays(images=np.zeros((3, 2)))
    assert batch.with_failures({1: "first"}).with_failures({1: "second"}).failures == {1: "first"}
