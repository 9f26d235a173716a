import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from mothlight.engine.batch import Batch, Stage, batches
from mothlight.engine.executor.pipeline import DEPTH, StageStats, run_in_order, run_pipelined
from mothlight.engine.records import Chunk, Prompt

Run = Callable[..., list[StageStats]]


class Add:
    """Adds what was there, plus one, after a while that differs from batch to batch."""

    def __init__(self, name: str, source: str | None, workers: int = 1) -> None:
        self.name, self.source, self.workers = name, source, workers
        self.inside = self.most = 0
        self.lock = threading.Lock()

    def __call__(self, batch: Batch) -> Batch:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        time.sleep(random.Random(f"{self.name}{batch.indices}").uniform(0, 0.004))
        before = batch.arrays[self.source] if self.source else np.array(batch.padded)
        with self.lock:
            self.inside -= 1
        return batch.with_arrays(**{self.name: before + 1})


class Break(Add):
    def __call__(self, batch: Batch) -> Batch:
        if 40 in batch.indices:
            raise ZeroDivisionError
        return super().__call__(batch)


def chunks(count: int) -> Iterator[Batch]:
    for k in range(count):
        yield from batches(Chunk(Prompt("fly", "a fly."), 10 * k, 10, 0), 4)


def stages() -> list[Stage]:
    return [Add("a", None, workers=3), Add("b", "a"), Add("c", "b", workers=2)]


def outcome(run: Run, items: Iterator[Batch], through: list[Stage]) -> list[tuple[Any, ...]]:
    seen: list[tuple[Any, ...]] = []
    run(items, through, lambda batch: seen.append((batch.indices, batch.arrays["c"].tolist())))
    return seen


def test_side_by_side_gives_what_one_after_the_other_gives() -> None:
    expected = outcome(run_in_order, chunks(20), stages())
    assert len(expected) == 60
    assert expected[2] == ((8, 9), [11, 12, 12, 12])  # padded with its last row
    for _ in range(3):
        assert outcome(run_pipelined, chunks(20), stages()) == expected


def test_workers_really_work_side_by_side() -> None:
    wide = Add("a", None, workers=3)
    run_pipelined(chunks(20), [wide], lambda _: None)
    assert wide.most > 1


def test_nothing_to_do_is_done() -> None:
    assert outcome(run_pipelined, chunks(0), stages()) == []


def test_every_batch_is_counted() -> None:
    stats = run_pipelined(chunks(5), stages(), lambda _: None)
    assert [(stat.stage, stat.batches, stat.images) for stat in stats] == [(name, 15, 50) for name in "abc"]


@pytest.mark.parametrize("run", [run_in_order, run_pipelined])
def test_a_broken_stage_says_where(run: Run) -> None:
    given: list[tuple[int, ...]] = []
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError) as fault:
        run(chunks(20), [Add("a", None, workers=2), Break("b", "a")], lambda batch: given.append(batch.indices))
    assert "in stage b, prompt 'a fly.', indices (40, 41, 42, 43)" in fault.value.__notes__[0]
    assert given == [batch.indices for batch in chunks(4)][: len(given)]
    assert threading.active_count() == before


def test_a_broken_sink_stops_everything() -> None:
    def sink(_: Batch) -> None:
        raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        run_pipelined(chunks(1000), stages(), sink)
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

    with pytest.raises(StopAsyncIteration):
        run_pipelined(counted(), stages(), slow)
    room = DEPTH * (3 + 1 + 2 + 2) + 3 + 1 + 2 + 2  # queues, hands, the one being fed and the one in the sink
    assert fed <= 31 + room + 3


def test_a_batch_refuses_what_does_not_fit() -> None:
    (batch, *_) = chunks(1)
    with pytest.raises(ValueError, match="doesn't fit"):
        batch.with_arrays(images=np.zeros((3, 2)))
    assert batch.with_failures({1: "first"}).with_failures({1: "second"}).failures == {1: "first"}
