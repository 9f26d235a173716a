"""A device that is no device: what streams are told is done in any order that streams and events allow, by a seed.

Nothing happens when it is told. Whenever the host says something more, or waits, a scheduler lets some of the streams
do some of what they have to do. So a wait that is missing shows: a buffer is read before it was written, or written
before it was read, and the simulation says which stage did that to which buffer. The same seed does the same again.

Memory is limited and poisoned, and any operation may be told to fail.
"""

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mothlight.engine.device import Buffer, Event, Kernel, Spec, Stream
from mothlight.engine.models.bundle import Bundle
from mothlight.engine.models.engines import Engines
from mothlight.engine.models.runner import Engine, OrtRunner

POISON = 0xFD
DEVICE = range(1 << 44, 1 << 45)
"""Where the device's addresses lie: no host could read there."""


class RaceError(AssertionError):
    """Something was read or written out of order."""


class StuckError(AssertionError):
    """Streams wait for what never comes."""


@dataclass(eq=False)
class Operation:
    """Something that a stream was told to do."""

    stream: "SimulatedStream"
    doing: str
    work: Callable[[], None] | None = None
    reads: dict[int, tuple[str, int]] = field(default_factory=dict)
    """Memory → its name, and how often it was to be written before this."""
    writes: dict[int, tuple[str, int]] = field(default_factory=dict)
    awaits: "SimulatedEvent | None" = None
    reaches: "SimulatedEvent | None" = None


class SimulatedEvent:
    def __init__(self, stream: "SimulatedStream") -> None:
        self.stream: Stream = stream
        self.device = stream.device
        self.reached = False
        self.fault: BaseException | None = None
        self.time = 0

    def synchronize(self) -> None:
        self.device.run_until(lambda: self.reached)
        if self.fault is not None:
            raise self.fault

    def seconds_since(self, start: Event) -> float:
        assert isinstance(start, SimulatedEvent)
        assert self.reached
        assert start.reached
        return float(self.time - start.time)


class SimulatedStream:
    def __init__(self, device: "Simulated", name: str, *, on_host: bool) -> None:
        self.device, self.name, self.on_host = device, name, on_host
        self.doing = ""
        self.handle = len(device.streams) + 1
        self.queue: deque[Operation] = deque()
        self.capturing: list[tuple[Callable[[], None], Sequence[Buffer], Sequence[Buffer]]] | None = None
        """What is told while a graph is captured, which does nothing yet."""
        self.fault: BaseException | None = None
        self.priority = device.rng.random()

    def record(self) -> Event:
        event = SimulatedEvent(self)
        self._tell(Operation(self, self.doing, reaches=event))
        return event

    def wait(self, event: Event) -> None:
        assert isinstance(event, SimulatedEvent)
        self._tell(Operation(self, self.doing, awaits=event))

    def run(self, work: Callable[[], None], reads: Sequence[Buffer] = (), writes: Sequence[Buffer] = ()) -> None:
        for buffer in (*reads, *writes):
            assert not self.on_host or buffer.host is not None, f"{self.name}: {buffer.name} lies on the device"
        if self.capturing is not None:
            self.capturing.append((work, reads, writes))
        else:
            self._tell(self.device.operation(self, work, reads, writes))

    def _tell(self, operation: Operation) -> None:
        self.queue.append(operation)
        self.device.time_passes()

    @property
    def blocked(self) -> bool:
        return not self.queue or (self.queue[0].awaits is not None and not self.queue[0].awaits.reached)


class Simulated:
    """The device."""

    name = "simulated"
    unified = False

    def __init__(self, seed: int, *, memory: int = 1 << 34, failing: Mapping[int, BaseException] | None = None) -> None:
        """`failing`: of the work that is done for a batch, the number of a piece → what it raises."""
        self.seed = seed
        self.rng = random.Random(seed)
        self.strict = self.rng.random() < 0.5
        """Whether streams have priorities: then the last one starves as long as it can."""
        self.laziness = self.rng.choice((0.05, 0.3, 0.7, 1.0))
        """How likely nothing happens when the host says something more."""
        self.streams: list[SimulatedStream] = []
        self.memory_left = memory
        self.failing = dict(failing or {})
        self.done = self.worked = 0
        self.history: list[int] = []
        """The streams that did something, in order."""
        self.bytes: dict[int, NDArray[np.uint8]] = {}
        """What is at an address, of the device or of its pinned memory."""
        self.next_address = DEVICE.start
        self.told: dict[int, int] = {}
        self.written: dict[int, int] = {}
        self.unread: dict[int, list[Operation]] = {}

    def stream(self, name: str) -> Stream:
        self.streams.append(SimulatedStream(self, name, on_host=False))
        return self.streams[-1]

    def worker(self, name: str) -> Stream:
        self.streams.append(SimulatedStream(self, name, on_host=True))
        return self.streams[-1]

    def buffer(self, name: str, spec: Spec) -> Buffer:
        if spec.nbytes > self.memory_left:
            msg = f"the simulated device has no {spec.nbytes} bytes left for {name}"
            raise MemoryError(msg)
        self.memory_left -= spec.nbytes
        array = np.full(spec.nbytes, POISON, np.uint8)
        address, self.next_address = self.next_address, self.next_address + (spec.nbytes + 255) // 256 * 256
        self.bytes[address] = array
        return Buffer(name, spec, address, array, None)

    def pinned(self, name: str, spec: Spec) -> Buffer:
        array = np.full(max(spec.nbytes, 1), POISON, np.uint8)
        self.bytes[array.ctypes.data] = array
        host = array[: spec.nbytes].view(spec.dtype).reshape(spec.shape)
        return Buffer(name, spec, array.ctypes.data, array, host)

    def array(self, buffer: Buffer) -> NDArray[Any]:
        """What is in a buffer, wherever it lies: for what the device does."""
        if buffer.host is not None:
            return buffer.host
        start, memory = self.at(buffer.address)
        raw: NDArray[np.uint8] = memory[buffer.address - start :][: buffer.spec.nbytes]
        return raw.view(buffer.spec.dtype).reshape(buffer.spec.shape)

    def at(self, address: int) -> tuple[int, NDArray[np.uint8]]:
        """The allocation that an address lies in, and where that starts."""
        for start, memory in self.bytes.items():
            if start <= address < start + len(memory):
                return start, memory
        msg = f"seed {self.seed}: nothing is allocated at {address:#x}"
        raise RaceError(msg)

    def view(self, name: str, address: int, spec: Spec) -> Buffer:
        """What a native library sees at an address of the device or of pinned memory."""
        start, memory = self.at(address)
        assert address + spec.nbytes <= start + len(memory), f"{name} reaches beyond its memory"
        return Buffer(name, spec, address, memory, None)

    def free(self, buffer: Buffer) -> None:
        """Poison it; whoever comes back to its address finds nothing there."""
        memory = id(buffer.memory)
        waiting = self.unread.get(memory, [])
        assert not waiting, f"{buffer.name} is freed before {waiting[0].doing or waiting[0].stream.name} has read it"
        assert self.told.get(memory, 0) == self.written.get(memory, 0), f"{buffer.name} is freed before it is written"
        self.bytes.pop(buffer.address)[...] = POISON
        if buffer.host is None:
            self.memory_left += buffer.spec.nbytes

    def write(self, array: NDArray[Any], target: Buffer) -> None:
        memory = id(target.memory)
        if self.unread.get(memory) or self.told.get(memory, 0) != self.written.get(memory, 0):
            late = ", ".join(one.doing or one.stream.name for one in self.unread.get(memory, []))
            msg = f"seed {self.seed}: the host writes {target.name} before {late or 'somebody else'} is done with it"
            raise RaceError(msg)
        self.told[memory] = self.written[memory] = self.told.get(memory, 0) + 1
        np.copyto(target.array, array)

    def copy(self, source: Buffer, target: Buffer, stream: Stream) -> None:
        assert source.spec.nbytes == target.spec.nbytes
        stream.run(lambda: np.copyto(self.array(target), self.array(source)), [source], [target])

    def launch(
        self,
        kernel: Kernel,
        reads: Sequence[Buffer],
        writes: Sequence[Buffer],
        scalars: Sequence[np.generic],
        count: int,
        stream: Stream,
    ) -> None:
        assert count > 0
        stream.run(lambda: kernel.host(*(self.array(buffer) for buffer in (*reads, *writes)), *scalars), reads, writes)

    def close(self) -> None:
        for array in self.bytes.values():
            array[...] = POISON

    def operation(
        self, stream: SimulatedStream, work: Callable[[], None], reads: Sequence[Buffer], writes: Sequence[Buffer]
    ) -> Operation:
        """Note what is told, and how often each memory will have been written before."""
        made = Operation(stream, stream.doing, work)
        for buffer in reads:
            memory = id(buffer.memory)
            made.reads[memory] = (buffer.name, self.told.get(memory, 0))
            self.unread.setdefault(memory, []).append(made)
        for buffer in writes:
            memory = id(buffer.memory)
            made.writes[memory] = (buffer.name, self.told.get(memory, 0))
            self.told[memory] = self.told.get(memory, 0) + 1
        return made

    def time_passes(self) -> None:
        """Some streams do some of their work, or none does."""
        while self.rng.random() > self.laziness and self._step():
            pass

    def run_until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            if not self._step():
                waiting = ", ".join(stream.name for stream in self.streams if stream.queue)
                msg = f"seed {self.seed}: nothing can go on; {waiting} wait"
                raise StuckError(msg)

    def _step(self) -> bool:
        able = [stream for stream in self.streams if not stream.blocked]
        if not able:
            return False
        if self.rng.random() < 0.02:
            self.rng.choice(able).priority = self.rng.random()
        chosen = max(able, key=lambda stream: stream.priority) if self.strict else self.rng.choice(able)
        self._do(chosen.queue.popleft())
        return True

    def _do(self, operation: Operation) -> None:
        stream = operation.stream
        self.done += 1
        self.history.append(stream.handle)
        if operation.awaits is not None and operation.awaits.fault is not None:
            stream.fault = stream.fault or operation.awaits.fault
        for memory in operation.reads:
            self.unread[memory].remove(operation)
        if operation.reaches is not None:
            operation.reaches.time, operation.reaches.fault = self.done, stream.fault
            operation.reaches.reached = True
        if operation.work is None or stream.fault is not None:
            return
        self._check(operation)
        try:
            self._fail_as_planned(operation)
            operation.work()
        except RaceError:
            raise
        except BaseException as error:  # noqa: BLE001  # raised again wherever this stream is waited for
            error.add_note(f"in {operation.doing}")
            stream.fault = error

    def _fail_as_planned(self, operation: Operation) -> None:
        self.worked += bool(operation.doing)
        if (fault := self.failing.pop(self.worked, None)) is not None:
            raise fault

    def _check(self, operation: Operation) -> None:
        who = f"seed {self.seed}: {operation.doing or operation.stream.name}"
        for memory, (name, wanted) in operation.reads.items():
            if self.written.get(memory, 0) != wanted:
                when = "before it is written" if self.written.get(memory, 0) < wanted else "after it is written again"
                msg = f"{who} reads {name} {when}"
                raise RaceError(msg)
        for memory, (name, before) in operation.writes.items():
            if self.written.get(memory, 0) != before:
                msg = f"{who} writes {name} before what was to be written there first"
                raise RaceError(msg)
            self.written[memory] = before + 1
            early = [other for other in self.unread.get(memory, []) if other.reads[memory][1] <= before]
            if early:
                msg = f"{who} writes {name} before {early[0].doing or early[0].stream.name} has read it"
                raise RaceError(msg)


class SimulatedEngine:
    """A graph that runs on the host when its turn comes, from and to the memory of the device."""

    known: ClassVar[dict[tuple[str, ...], dict[str, NDArray[Any]]]] = {}
    """What graphs gave for the same inputs before: hundreds of seeds do the same arithmetic."""

    def __init__(self, device: Simulated, runner: OrtRunner) -> None:
        self.device, self.runner, self.inputs = device, runner, runner.inputs

    def outputs(self, given: Mapping[str, Spec]) -> Mapping[str, Spec]:
        return self.runner.outputs(given)

    def enqueue(self, given: Mapping[str, Buffer], made: Mapping[str, Buffer], stream: Stream) -> None:
        def infer() -> None:
            inputs = {name: self.device.array(buffer) for name, buffer in given.items()}
            digests = (sha256(array.tobytes()).hexdigest() for _, array in sorted(inputs.items()))
            key = (str(self.runner.path), *made, *digests)
            if key not in self.known:
                self.known[key] = self.runner.infer(**inputs)
            for name, buffer in made.items():
                np.copyto(self.device.array(buffer), self.known[key][name])

        stream.run(infer, [*given.values()], [*made.values()])


class SimulatedEngines(Engines):
    """Every graph on the simulated device."""

    opened: ClassVar[dict[tuple[Any, ...], OrtRunner]] = {}

    def _open(self, bundle: Bundle, graph: str, outputs: Sequence[str] | None) -> Engine:
        key = (bundle.graph_path(graph), tuple(outputs or ()))
        if key not in self.opened:
            self.opened[key] = OrtRunner(bundle.graph_path(graph), outputs=outputs)
        assert isinstance(self.device, Simulated)
        return SimulatedEngine(self.device, self.opened[key])
