"""Streams, events and buffers: the only seam between a CPU, a GPU and the simulated device of the tests.

A stream does what it is told in the order in which it is told, some time later; an event marks a place in it. Nothing
else is ordered: whoever reads what another stream writes waits for that stream's event first. `mothlight.engine.host`
and `mothlight.engine.cuda` are the two devices that there are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mothlight.engine.errors import DeviceLostError

Work = Callable[[], None]
LOST = (
    "ILLEGAL_ADDRESS", "ILLEGAL_INSTRUCTION", "MISALIGNED_ADDRESS", "INVALID_PC", "HARDWARE_STACK_ERROR",
    "LAUNCH_FAILED", "LAUNCH_TIMEOUT", "CUDA_ERROR_ASSERT", "ECC_UNCORRECTABLE", "CONTEXT_IS_DESTROYED",
    "DEVICE_UNAVAILABLE", "an illegal memory access was encountered", "unspecified launch failure",
    "device-side assert triggered", "uncorrectable ECC error", "misaligned address",
    "an illegal instruction was encountered", "launch timed out",
)  # fmt: skip
"""What CUDA's driver, its runtime and who quotes them say once a context is broken: every later call fails as well."""


def raise_if_lost(error: Exception, doing: str) -> None:
    """Raise a device's error again as ours, where it says that the device answers no more in this process.

    Raises:
        DeviceLostError: it does.
    """
    if any(sign in str(error) for sign in LOST):
        raise DeviceLostError(f"the device is lost, {doing}: {' '.join(str(error).split())}") from error


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

    def free(self, buffer: Buffer) -> None:
        """Give memory back that nothing touches any more."""
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
