"""Stages side by side: bounded queues between them, threads that work them, batches handed on in their order.

`run_in_order` is the reference: the same batches, one stage after the other. Both give the sink the same batches in the
same order; a test holds them to it.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from queue import Empty, Full, Queue
from time import perf_counter

from mothlight.engine.batch import Batch, Stage

DEPTH = 2
"""Batches that may wait before a stage, for each of its workers: more would only cost memory."""
POLL = 0.1
"""Seconds after which a waiting thread looks whether it should stop."""
Numbered = tuple[int, Batch]
Sink = Callable[[Batch], None]


@dataclass(slots=True)
class StageStats:
    """What one stage did; `busy` is the time in which its workers worked, summed over them."""

    stage: str
    batches: int = 0
    images: int = 0
    busy: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, batch: Batch, seconds: float) -> None:
        """Count a batch."""
        with self._lock:
            self.batches += 1
            self.images += len(batch.indices)
            self.busy += seconds


def run_in_order(items: Iterable[Batch], stages: Sequence[Stage], sink: Sink) -> list[StageStats]:
    """Each batch through all stages, then the next."""
    stats = [StageStats(stage.name) for stage in stages]
    for item in items:
        batch = item
        for stage, stat in zip(stages, stats, strict=True):
            batch = _apply(stage, batch, stat)
        sink(batch)
    return stats


def run_pipelined(items: Iterable[Batch], stages: Sequence[Stage], sink: Sink) -> list[StageStats]:
    """All stages at once; the sink is called in this thread, in the order of `items`.

    An exception in a stage or in the sink, a KeyboardInterrupt included, stops the threads after the batch that each
    has in hand and is raised here; what the sink was given stays given.
    """
    return _Pipeline(stages).run(items, sink)


def _apply(stage: Stage, batch: Batch, stat: StageStats) -> Batch:
    start = perf_counter()
    try:
        made = stage(batch)
    except Exception as error:
        chunk = batch.chunk
        error.add_note(f"in stage {stage.name}, prompt {chunk.prompt.text!r}, indices {batch.indices}")
        raise
    stat.add(batch, perf_counter() - start)
    return made


class _Pipeline:
    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = stages
        self.stats = [StageStats(stage.name) for stage in stages]
        self.queues: list[Queue[Numbered | None]] = [Queue(DEPTH * stage.workers) for stage in stages]
        self.queues.append(Queue(DEPTH * 2))
        self.stop = threading.Event()
        self.faults: list[BaseException] = []
        self.running = [stage.workers for stage in stages]
        self.lock = threading.Lock()

    def run(self, items: Iterable[Batch], sink: Sink) -> list[StageStats]:
        threads = [threading.Thread(target=self._feed, args=(items,), name="source")]
        for position, stage in enumerate(self.stages):
            for worker in range(stage.workers):
                name = f"{stage.name}-{worker}"
                threads.append(threading.Thread(target=self._work, args=(position,), name=name))
        try:
            for thread in threads:
                thread.start()
            self._collect(sink)
        finally:
            self.stop.set()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
        if self.faults:
            raise self.faults[0]
        return self.stats

    def _collect(self, sink: Sink) -> None:
        waiting: dict[int, Batch] = {}
        due = 0
        while (item := self._get(self.queues[-1])) is not None:
            number, batch = item
            waiting[number] = batch
            while due in waiting:
                sink(waiting.pop(due))
                due += 1

    def _feed(self, items: Iterable[Batch]) -> None:
        try:
            for number, batch in enumerate(items):
                if not self._put(self.queues[0], (number, batch)):
                    return
            self._put(self.queues[0], None)
        except BaseException as error:  # noqa: BLE001  # handed to the thread that called run
            self._fail(error)

    def _work(self, position: int) -> None:
        source, target = self.queues[position], self.queues[position + 1]
        try:
            while (item := self._get(source)) is not None:
                number, batch = item
                if not self._put(target, (number, _apply(self.stages[position], batch, self.stats[position]))):
                    return
            with self.lock:
                self.running[position] -= 1
                last = self.running[position] == 0
            # the end is handed round among the workers of a stage; the last of them hands it on
            self._put(target if last else source, None)
        except BaseException as error:  # noqa: BLE001  # handed to the thread that called run
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self.faults.append(error)
        self.stop.set()

    def _put(self, queue: "Queue[Numbered | None]", item: Numbered | None) -> bool:
        while not self.stop.is_set():
            try:
                queue.put(item, timeout=POLL)
            except Full:
                continue
            return True
        return False

    def _get(self, queue: "Queue[Numbered | None]") -> Numbered | None:
        while not self.stop.is_set():
            try:
                return queue.get(timeout=POLL)
            except Empty:
                continue
        return None
