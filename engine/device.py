"""Streams, events and buffers: the only seam between a CPU, a GPU and the simulated device of the tests.

A stream does what it is told in the order in which it is told, some time later; an event marks a place in it. Nothing
else is ordered: whoever reads what another stream writes waits for that stream's event first. On the host a stream is
a thread, its memory NumPy arrays. `mothlight.engine.cuda` is the same on a GPU.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

Work = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Spec:
    """Shape and dtype of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that they take."""
        return self.size * self.dtype.itemsize

    def of(self, rows: int) -> "Spec":
        """The same for another batch."""
        return replace(self, shape=(rows, *self.shape[1:]))


def spec_of(array: NDArray[Any]) -> Spec:
    """What an array is."""
    return Spec(array.shape, array.dtype)


@dataclass(frozen=True, slots=True, eq=False)
class Buffer:
    """Memory at a fixed address, seen as an array of C order."""

    name: str
    spec: Spec
    address: int
    memory: Any
    """What keeps it allocated."""
    host: NDArray[Any] | None
    """The array itself, where the host may touch it: when is the events' business."""

    @property
    def array(self) -> NDArray[Any]:
        """The host's view.

        Raises:
            ValueError: it lies on a device.
        """
        if self.host is None:
            msg = f"{self.name} lies on the device"
            raise ValueError(msg)
        return self.host

    def rows(self, start: int, stop: int) -> "Buffer":
        """Some of its rows."""
        row = self.spec.of(1).nbytes
        host = None if self.host is None else self.host[start:stop]
        return replace(self, spec=self.spec.of(stop - start), address=self.address + start * row, host=host)

    def shaped(self, shape: tuple[int, ...]) -> "Buffer":
        """Its first bytes as an array of another shape.

        Raises:
            ValueError: there are not so many.
        """
        spec = replace(self.spec, shape=shape)
        if spec.nbytes > self.spec.nbytes:
            msg = f"{self.name} {self.spec.shape} has no room for {shape}"
            raise ValueError(msg)
        host = None if self.host is None else self.host.reshape(-1)[: prod(shape)].reshape(shape)
        return replace(self, spec=spec, host=host)


class Event(Protocol):
    """A place in a stream."""

    @property
    def stream(self) -> "Stream":
        """Whose place it is."""
        ...

    def synchronize(self) -> None:
        """Wait, in this thread, until the stream got there.

        Raises:
            Exception: whatever broke the stream before it got there.
        """
        ...

    def seconds_since(self, start: "Event") -> float:
        """Between two events that are reached."""
        ...


class Stream(Protocol):
    """Does one thing after the other."""

    name: str
    doing: str
    """What is told to it now, for the note on an exception."""
    handle: int
    """What native libraries call it; 0 on the host."""

    def record(self) -> Event:
        """An event behind all that it was told so far."""
        ...

    def wait(self, event: Event) -> None:
        """Go on only when another stream has got to this event."""
        ...

    def run(self, work: Work, reads: Sequence[Buffer] = (), writes: Sequence[Buffer] = ()) -> None:
        """Call Python there; only streams of the host can. What it touches is said for whoever checks the order."""
        ...


@dataclass(frozen=True, slots=True)
class Kernel:
    """A small function over buffers, written twice: for the host, and in CUDA C++ for one thread per `count`."""

    name: str
    host: Callable[..., None]
    """Takes the buffers' arrays, those read before those written, then the scalars."""
    cuda: str


class Device(Protocol):
    """Where models run."""

    name: str
    unified: bool
    """Whether the host reads and writes its buffers as they are."""

    def stream(self, name: str) -> Stream:
        """A new stream of the device."""
        ...

    def worker(self, name: str) -> Stream:
        """A new stream of the host, whatever the device: a thread."""
        ...

    def buffer(self, name: str, spec: Spec) -> Buffer:
        """Memory of the device.

        Raises:
            MemoryError: there is none left.
        """
        ...

    def pinned(self, name: str, spec: Spec) -> Buffer:
        """Memory of the host that the device copies from and to by itself."""
        ...

    def write(self, array: NDArray[Any], target: Buffer) -> None:
        """Put an array, spread over the rows, into a buffer of the host: at once, in this thread."""
        ...

    def copy(self, source: Buffer, target: Buffer, stream: Stream) -> None:
        """Bytes from one buffer to another of the same size."""
        ...

    def launch(
        self,
        kernel: Kernel,
        reads: Sequence[Buffer],
        writes: Sequence[Buffer],
        scalars: Sequence[np.generic],
        count: int,
        stream: Stream,
    ) -> None:
        """Run a kernel."""
        ...

    def close(self) -> None:
        """Stop all streams after what each has in hand, and free the memory."""
        ...


class HostEvent:
    """Reached, or never to be reached since something broke before it."""

    def __init__(self, stream: "HostStream") -> None:
        self.stream: Stream = stream
        self.reached = threading.Event()
        self.fault: BaseException | None = None
        self.time = 0.0

    def synchronize(self) -> None:
        """See `Event`."""
        self.reached.wait()
        if self.fault is not None:
            raise self.fault

    def seconds_since(self, start: Event) -> float:
        """See `Event`."""
        assert isinstance(start, HostEvent)  # noqa: S101  # events of one stream
        return self.time - start.time


class HostStream:
    """A thread with a queue. What breaks in it breaks all that comes after, there and wherever that is waited for."""

    handle = 0

    def __init__(self, name: str) -> None:
        self.name = name
        self.doing = ""
        self.fault: BaseException | None = None
        self._queue: deque[Work] = deque()
        self._more = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def record(self) -> Event:
        """See `Stream`."""
        event = HostEvent(self)

        def reach() -> None:
            event.time, event.fault = perf_counter(), self.fault
            event.reached.set()

        self._put(reach)
        return event

    def wait(self, event: Event) -> None:
        """See `Stream`."""
        self._put(self._unless_broken(event.synchronize))

    def run(self, work: Work, reads: Sequence[Buffer] = (), writes: Sequence[Buffer] = ()) -> None:
        """See `Stream`."""
        del reads, writes
        doing = self.doing

        def noted() -> None:
            try:
                work()
            except BaseException as error:
                if doing:
                    error.add_note(f"in {doing}")
                raise

        self._put(self._unless_broken(noted))

    def stop(self) -> None:
        """Do nothing more after what is in hand; whoever waits for what was told is let go."""
        with self._more:
            self._closed = True
            self._more.notify()

    def join(self) -> None:
        """Until the thread has ended."""
        if self._thread is not None:
            self._thread.join()

    def _unless_broken(self, work: Work) -> Work:
        def guarded() -> None:
            if self.fault is None and not self._closed:
                try:
                    work()
                except BaseException as error:  # noqa: BLE001  # raised again wherever this stream is waited for
                    self.fault = error

        return guarded

    def _put(self, work: Work) -> None:
        with self._more:
            self._queue.append(work)
            self._more.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name=self.name, daemon=True)
                self._thread.start()

    def _loop(self) -> None:
        while True:
            with self._more:
                while not self._queue and not self._closed:
                    self._more.wait()
                if not self._queue:
                    return
                work = self._queue.popleft()
            work()


class HostNow:
    """A stream of the host that does at once, in this thread, whatever it is told."""

    name = "now"
    doing = ""
    handle = 0

    def record(self) -> Event:
        """See `Stream`."""
        return _Reached(self, perf_counter())

    def wait(self, event: Event) -> None:
        """See `Stream`."""
        event.synchronize()

    def run(self, work: Work, reads: Sequence[Buffer] = (), writes: Sequence[Buffer] = ()) -> None:
        """See `Stream`."""
        del reads, writes
        work()


@dataclass(frozen=True, slots=True, eq=False)
class _Reached:
    stream: Stream
    time: float

    def synchronize(self) -> None:
        pass

    def seconds_since(self, start: Event) -> float:
        assert isinstance(start, _Reached)  # noqa: S101  # events of one stream
        return self.time - start.time


class Host:
    """The CPU: a stream is a thread, a buffer an array, and nothing need be copied."""

    name = "cpu"
    unified = True

    def __init__(self) -> None:
        self.streams: list[HostStream] = []

    def stream(self, name: str) -> Stream:
        """See `Device`."""
        made = HostStream(name)
        self.streams.append(made)
        return made

    worker = stream

    def buffer(self, name: str, spec: Spec) -> Buffer:
        """See `Device`."""
        return of_array(name, np.zeros(spec.shape, spec.dtype))

    pinned = buffer

    def write(self, array: NDArray[Any], target: Buffer) -> None:
        """See `Device`."""
        np.copyto(target.array, array)

    def copy(self, source: Buffer, target: Buffer, stream: Stream) -> None:
        """See `Device`."""
        stream.run(lambda: np.copyto(target.array, source.array), [source], [target])

    def launch(
        self,
        kernel: Kernel,
        reads: Sequence[Buffer],
        writes: Sequence[Buffer],
        scalars: Sequence[np.generic],
        count: int,
        stream: Stream,
    ) -> None:
        """See `Device`."""
        del count
        stream.run(lambda: kernel.host(*(buffer.array for buffer in (*reads, *writes)), *scalars), reads, writes)

    def close(self) -> None:
        """See `Device`."""
        close_all(self.streams)


def close_all(streams: Iterable[HostStream]) -> None:
    """Close host streams: all are told first, so that none waits for another that is closed later."""
    streams = list(streams)
    for stream in streams:
        stream.stop()
    for stream in streams:
        stream.join()


def constant(device: Device, name: str, array: NDArray[Any]) -> Buffer:
    """An array that stays on a device."""
    array = np.ascontiguousarray(array)
    source = device.pinned(name, spec_of(array))
    device.write(array, source)
    if device.unified:
        return source
    target = device.buffer(name, source.spec)
    stream = device.stream(f"loading {name}")
    device.copy(source, target, stream)
    stream.record().synchronize()
    return target


class Staged:
    """What the host tells the device anew for each batch: an array per slot."""

    def __init__(self, device: Device, name: str, spec: Spec, slots: int) -> None:
        self.device = device
        self.sources = [device.pinned(f"{name}[{slot}]", spec) for slot in range(slots)]
        self.targets = self.sources
        if not device.unified:
            self.targets = [device.buffer(f"{name}[{slot}] staged", spec) for slot in range(slots)]

    def put(self, slot: int, array: NDArray[Any], stream: Stream) -> Buffer:
        """Write it now, as the batch that had the slot is gone, and have it copied in the stream."""
        source, target = self.sources[slot], self.targets[slot]
        self.device.write(array, source)
        if target is not source:
            self.device.copy(source, target, stream)
        return target


def of_array(name: str, array: NDArray[Any]) -> Buffer:
    """An array of the host as a buffer."""
    array = np.ascontiguousarray(array)
    return Buffer(name, spec_of(array), array.ctypes.data, array, array)


def spec(shape: Sequence[int], dtype: DTypeLike) -> Spec:
    """A shape and a dtype."""
    return Spec(tuple(shape), np.dtype(dtype))


def available_threads(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """CPUs that this process may use: its affinity, cut to the cgroup's quota, at least 1."""
    cpus = len(os.sched_getaffinity(0))
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        limit = cpus if quota == "max" else int(int(quota) / int(period))
    except (OSError, ValueError):
        limit = cpus
    return max(1, min(cpus, limit))
