"""Stages side by side on the streams of a device: batches in flight, each in a slot of buffers of its own.

One thread tells every stream what to do, batch by batch in order, and waits for nothing but a free slot. A batch may
begin when the one that had its slot before has left it; what a stage reads, its stream waits for by an event; nothing
else is ordered, so stages overlap as far as the device lets them. What comes out is judged, encoded and copied by
threads of the host (`keep`), then handed to the sink in the batches' order by one more.

`run_in_order` is the reference: the same, each stage waited for before the next. Both give the sink the same batches;
tests hold them to it, on the host and on a simulated device that does things as late and as mixed up as it may.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from time import perf_counter
from types import MappingProxyType, TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mothlight.engine.batch import Batch, Flight, Keep, Stage, Work
from mothlight.engine.device import Buffer, Device, Event, Spec, Stream
from mothlight.engine.host import Host
from mothlight.engine.records import Chunk, Prompt

SPARE = 1
"""Slots beside those of the batches being made and being kept: for the one between them."""
BACKLOG = 8
"""Batches that may wait for the sink: a flush takes longer than a batch."""
Sink = Callable[[Batch], None]
Watch = Callable[[str, Batch, float, float], None]
"""Hears of a stage, a batch, and when it began and ended, in seconds since the first of them began."""


@dataclass(slots=True)
class StageStats:
    """What one stage did; `busy` is the time in which its streams worked, summed over them."""

    stage: str
    batches: int = 0
    images: int = 0
    busy: float = 0.0
    lanes: int = 1
    for_input: float = 0.0
    """Seconds in which its streams waited for what another stage makes, summed over them."""
    for_room: float = 0.0
    """Seconds in which they waited for a slot, summed over them."""
    queued: float = 0.0
    """Seconds for which batches lay ready for it, summed over them; by the time that the run took, its mean queue."""


class Pipeline:
    """Stages with their streams and buffers, for batches of one size; to be closed after use."""

    def __init__(
        self,
        device: Device,
        stages: Sequence[Stage],
        size: int,
        *,
        keep: Sequence[Keep] = (),
        keepers: int = 1,
        without: Iterable[str] = (),
    ) -> None:
        """Allocate everything; `without` are arrays that nobody needs once the batch was kept.

        Raises:
            MemoryError: the device has not enough.
        """
        self.device = device
        self.stages = stages
        self.keep = keep
        self.without = frozenset(without)
        self.slots = max((stage.lanes for stage in stages), default=1) + keepers + SPARE
        self.sources = [] if device.unified else [stage for stage in stages if stage.on_host and not stage.reads]
        """Stages of the host that begin a batch. A device can't wait for a thread, so whoever tells it does."""
        self.ahead = max((stage.lanes for stage in self.sources), default=0)
        """Batches by which the sources are ahead, so that all of their threads have something to do meanwhile."""
        self.owners: dict[str, Stage] = {}
        self.works: dict[str, Work] = {}
        self.buffers: list[dict[str, Buffer]] = [{} for _ in range(self.slots)]
        self.mirrors: list[dict[str, Buffer]] = [{} for _ in range(self.slots)]
        """The same arrays on the other side: for the host what the device made, for the device what the host made."""
        specs: dict[str, Spec] = {}
        for stage in stages:
            work = stage.build(device, size, self.slots, {name: specs[name] for name in stage.reads})
            self.works[stage.name] = work
            self._allocate(stage, work.makes)
            specs |= work.makes
        self.lanes = {stage.name: self._lanes(stage) for stage in stages}
        send, fetch = device.stream("send"), device.stream("fetch")
        self.copies = {stage.name: send if stage.on_host else fetch for stage in stages if self._mirrored(stage)}
        self.keepers = [device.worker(f"keep {lane}") for lane in range(keepers)]
        self.writer = device.worker("write")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop all streams after what each has in hand."""
        self.device.close()

    def run(self, batches: Iterable[Batch], sink: Sink, watch: Watch | None = None) -> list[StageStats]:
        """All stages at once; `watch` hears of the stages of the device.

        An exception in a stage or in the sink, or here a KeyboardInterrupt, is raised; what the sink was given stays
        given. After it the pipeline can only be closed.
        """
        return _Run(self, sink, watch=watch).all(batches)

    def run_in_order(self, batches: Iterable[Batch], sink: Sink, watch: Watch | None = None) -> list[StageStats]:
        """Each batch through all stages, one after the other, then the next."""
        return _Run(self, sink, in_order=True, watch=watch).all(batches)

    def once(self, batch: Batch) -> Batch:
        """One batch through all stages, with all of its arrays."""
        made: list[Batch] = []
        run = _Run(self, made.append, in_order=True)
        run.without = frozenset()
        run.all([batch])
        return made[0]

    def _allocate(self, stage: Stage, made: Mapping[str, Spec]) -> None:
        device, host = self.device.buffer, self.device.pinned
        for name, spec in made.items():
            if name in self.owners:
                msg = f"both {self.owners[name].name} and {stage.name} make {name}"
                raise ValueError(msg)
            self.owners[name] = stage
            for slot in range(self.slots):
                label = f"{name}[{slot}]"
                self.buffers[slot][name] = (host if stage.on_host else device)(label, spec)
                if self._mirrored(stage):
                    self.mirrors[slot][name] = (device if stage.on_host else host)(f"mirrored {label}", spec)

    def _mirrored(self, stage: Stage) -> bool:
        """Whether what a stage makes is copied to the other side: the host wants all, a device what it reads."""
        if self.device.unified:
            return False
        made = set(self.works[stage.name].makes)
        return not stage.on_host or any(made & {*other.reads} for other in self.stages if not other.on_host)

    @property
    def in_flight(self) -> int:
        """Batches that may be under way."""
        return self.slots

    def _lanes(self, stage: Stage) -> list[Stream]:
        make = self.device.worker if stage.on_host else self.device.stream
        return [make(f"{stage.name} {lane}") for lane in range(stage.lanes)]


def images_of(stage: Stage, prompt: Prompt, indices: Sequence[int]) -> NDArray[np.uint8]:
    """The images (len(indices), H, W, 3) uint8 that a generating stage makes on the host, as one batch."""
    size = len(indices)
    with Pipeline(Host(), [stage], size) as pipeline:
        return pipeline.once(Batch(Chunk(prompt, 0, size, 0), tuple(indices), size)).arrays["images"]


Clock = dict[int, int]
"""Stream → the number of its latest event that surely happened."""


@dataclass(frozen=True, slots=True)
class Mark:
    """An event, and what is known to have happened when it has."""

    event: Event
    clock: Clock


class Order:
    """What is known to come before what: so that a stream waits where it must, and nowhere else.

    A clock for each stream and for this thread (the vector clocks of Fidge and of Mattern, 1988): a mark carries the
    clock of its stream, and whoever waits for it knows from then on all that its stream knew.
    """

    def __init__(self) -> None:
        self.clocks: dict[int, Clock] = {}
        self.here: Clock = {}

    def record(self, stream: Stream) -> Mark:
        """A mark behind all that a stream was told so far."""
        clock = self.clocks.setdefault(id(stream), {})
        _merge(clock, self.here)
        clock[id(stream)] = clock.get(id(stream), 0) + 1
        return Mark(stream.record(), dict(clock))

    def wait(self, stream: Stream, mark: Mark) -> None:
        """What a stream is told next comes after a mark."""
        if not self.known(stream, mark):
            stream.wait(mark.event)
            _merge(self.clocks.setdefault(id(stream), {}), mark.clock)

    def known(self, stream: Stream, mark: Mark) -> bool:
        """Whether what a stream is told next comes after a mark anyway."""
        own = id(mark.event.stream)
        surely = max(self.clocks.get(id(stream), {}).get(own, 0), self.here.get(own, 0))
        return own == id(stream) or surely >= mark.clock[own]

    def wait_here(self, mark: Mark) -> None:
        """Wait in this thread: whatever it tells anyone from now on comes after the mark."""
        mark.event.synchronize()
        _merge(self.here, mark.clock)


def _merge(clock: Clock, other: Clock) -> None:
    for stream, number in other.items():
        clock[stream] = max(clock.get(stream, 0), number)


@dataclass(slots=True)
class _Issued:
    """A batch that every stream was told of."""

    flight: Flight
    number: int
    spans: dict[str, tuple[Mark, Mark]] = field(default_factory=dict)
    """Stage → the events around its work."""
    ready: dict[str, Mark] = field(default_factory=dict)
    """Array → the mark behind which it is made."""
    mirrored: dict[str, Mark] = field(default_factory=dict)
    """Array → the mark behind which it is on the other side too."""
    result: Batch | None = None
    kept: Mark | None = None
    written: Mark | None = None


class _Run:
    def __init__(self, pipeline: Pipeline, sink: Sink, *, in_order: bool = False, watch: Watch | None = None) -> None:
        self.pipeline = pipeline
        self.sink = sink
        self.in_order = in_order
        self.watch = watch
        self.first: Event | None = None
        self.without = pipeline.without
        self.order = Order()
        self.lock = Lock()
        names = [*(stage.name for stage in pipeline.stages), *(step.name for step in pipeline.keep)]
        self.stats = {name: StageStats(name) for name in names}
        for stage in pipeline.stages:
            self.stats[stage.name].lanes = stage.lanes
        for step in pipeline.keep:
            self.stats[step.name].lanes = len(pipeline.keepers)
        self.ends: dict[tuple[str, int], float] = {}
        """(stage, lane) → when it was done with its last batch."""

    def all(self, batches: Iterable[Batch]) -> list[StageStats]:
        slots = self.pipeline.slots
        begun: deque[_Issued] = deque()
        unkept: deque[_Issued] = deque()
        unwritten: deque[_Issued] = deque()
        for number, batch in enumerate(batches):
            if len(unkept) == self.pipeline.in_flight:
                self._until(unkept.popleft().kept)
            if len(unwritten) == BACKLOG + slots:
                self._count(unwritten.popleft())
            issued = _Issued(Flight(batch, number % slots), number)
            for queue in (begun, unkept, unwritten):
                queue.append(issued)
            for stage in self.pipeline.sources:
                self._tell(stage, issued)
            if len(begun) > self.pipeline.ahead:
                self._go_on(begun.popleft())
        for issued in begun:
            self._go_on(issued)
        for issued in unwritten:
            self._count(issued)
        return list(self.stats.values())

    def _go_on(self, issued: _Issued) -> None:
        """Tell every stream what to do for a batch that the sources were told of."""
        for stage in self.pipeline.stages:
            if stage not in self.pipeline.sources:
                self._tell(stage, issued)
            self._mirror(stage, issued)
        self._keep(issued)

    def _tell(self, stage: Stage, issued: _Issued) -> None:
        """Tell a stage's stream what to do for a batch."""
        pipeline, flight, slot = self.pipeline, issued.flight, issued.flight.slot
        here, there = pipeline.buffers[slot], pipeline.mirrors[slot]
        lanes = pipeline.lanes[stage.name]
        stream = lanes[issued.number % len(lanes)]
        self._say(stream, stage.name, flight)
        arrays = {}
        for name in stage.reads:
            same_side = self._maker(name).on_host == stage.on_host or name not in there
            arrays[name] = (here if same_side else there)[name]
            self.order.wait(stream, (issued.ready if same_side else issued.mirrored)[name])
        work = pipeline.works[stage.name]
        start = self.order.record(stream)
        work.enqueue(flight, arrays | {name: here[name] for name in work.makes}, stream)
        end = self.order.record(stream)
        issued.spans[stage.name] = (start, end)
        issued.ready |= dict.fromkeys(work.makes, end)
        if self.in_order:
            self._until(end)

    def _mirror(self, stage: Stage, issued: _Issued) -> None:
        """Copy what a stage made to the other side, where somebody there reads it."""
        pipeline, slot = self.pipeline, issued.flight.slot
        made, (_, done) = pipeline.works[stage.name].makes, issued.spans[stage.name]
        if (stream := pipeline.copies.get(stage.name)) is not None:
            self._say(stream, f"the copies of {stage.name}", issued.flight)
            self.order.wait(stream, done)
            for name in made:
                pipeline.device.copy(pipeline.buffers[slot][name], pipeline.mirrors[slot][name], stream)
            done = self.order.record(stream)
        issued.mirrored |= dict.fromkeys(made, done)

    def _keep(self, issued: _Issued) -> None:
        """Judge, encode and copy the batch, which frees its slot; then hand it to the sink."""
        pipeline, flight, slot = self.pipeline, issued.flight, issued.flight.slot
        ready = {
            name: mark if self._maker(name).on_host else issued.mirrored[name] for name, mark in issued.ready.items()
        }
        keeper = pipeline.keepers[issued.number % len(pipeline.keepers)]
        self._say(keeper, "keeping", flight)
        for mark in ready.values():
            self.order.wait(keeper, mark)
        buffers = {name: self._on_host(slot, name) for name in ready}
        arrays = {name: buffer.array for name, buffer in buffers.items()}
        keeper.run(lambda: self._make_result(issued, arrays), reads=list(buffers.values()))
        issued.kept = self.order.record(keeper)
        self._say(pipeline.writer, "the sink", flight)
        self.order.wait(pipeline.writer, issued.kept)
        pipeline.writer.run(lambda: self._hand_over(issued))
        issued.written = self.order.record(pipeline.writer)

    def _make_result(self, issued: _Issued, arrays: Mapping[str, NDArray[Any]]) -> None:
        flight = issued.flight
        batch = flight.batch.with_arrays(**arrays)
        for stage in self.pipeline.stages:
            batch = stage.finish(batch.with_failures(flight.noted.get(stage.name, {})))
        for step in self.pipeline.keep:
            start = perf_counter()
            batch = step(batch)
            self._add(step.name, batch, perf_counter() - start)
        kept = {
            name: array.copy() if name in arrays else array
            for name, array in batch.arrays.items()
            if name not in self.without
        }
        issued.result = replace(batch, arrays=MappingProxyType(kept))

    def _hand_over(self, issued: _Issued) -> None:
        assert issued.result is not None  # noqa: S101  # the stream waited for it
        result, issued.result = issued.result, None
        self.sink(result)

    def _on_host(self, slot: int, name: str) -> Buffer:
        pipeline = self.pipeline
        mirror = pipeline.mirrors[slot].get(name)
        return pipeline.buffers[slot][name] if mirror is None or self._maker(name).on_host else mirror

    def _maker(self, name: str) -> Stage:
        return self.pipeline.owners[name]

    def _say(self, stream: Stream, what: str, flight: Flight) -> None:
        batch = flight.batch
        stream.doing = f"{what}, prompt {batch.chunk.prompt.text!r}, indices {batch.indices}"

    def _until(self, mark: Mark | None) -> None:
        if mark is not None:
            self.order.wait_here(mark)

    def _count(self, issued: _Issued) -> None:
        """Wait until the sink had a batch, and count it."""
        self._until(issued.written)
        for stage in self.pipeline.stages:
            start, end = (mark.event for mark in issued.spans[stage.name])
            self._add(stage.name, issued.flight.batch, end.seconds_since(start))
            if stage.on_host and not self.pipeline.device.unified:
                continue  # its clock is another than the device's
            self.first = self.first or start
            times = [one.seconds_since(self.first) for one in (start, end)]
            self._count_waiting(stage, issued, *times)
            if self.watch is not None:
                self.watch(stage.name, issued.flight.batch, *times)

    def _count_waiting(self, stage: Stage, issued: _Issued, start: float, end: float) -> None:
        """Between two batches a stage waits first for its input, then for room."""
        lane = (stage.name, issued.number % stage.lanes)
        free = self.ends.get(lane, 0.0)
        self.ends[lane] = end
        made = 0.0
        for name in stage.reads:
            maker = self._maker(name)
            if self.first is not None and not (maker.on_host and not self.pipeline.device.unified):
                made = max(made, issued.spans[maker.name][1].event.seconds_since(self.first))
        ready = max(free, made)
        stat = self.stats[stage.name]
        if made:
            stat.queued += max(start - made, 0.0)
        stat.for_input += max(min(start, ready) - free, 0.0)
        stat.for_room += max(start - ready, 0.0)

    def _add(self, name: str, batch: Batch, seconds: float) -> None:
        with self.lock:
            stat = self.stats[name]
            stat.batches += 1
            stat.images += len(batch.indices)
            stat.busy += seconds
