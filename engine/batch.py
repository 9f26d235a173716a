"""What flows: a batch of images of one chunk, and the protocols of what adds to it.

The law of the executor: a pipelined run gives what running each stage in order gives. It holds because a batch keeps
all of its rows: an item that fails is noted and its rows stay in place, so that its neighbours are computed as ever,
and a short batch is padded, so that every graph always runs at the same size.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mothlight.engine.device import Buffer, Device, Spec, Stream
from mothlight.engine.records import Chunk

Arrays = Mapping[str, NDArray[Any]]
Failures = Mapping[int, str]
"""Index → why there is no such image."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Some images of one chunk that move together, and the arrays made for them so far."""

    chunk: Chunk
    indices: tuple[int, ...]
    """Of the real images; the padding behind them repeats the last."""
    size: int
    """Rows of every array, padding included."""
    arrays: Arrays = field(default_factory=lambda: MappingProxyType({}))
    failures: Failures = field(default_factory=lambda: MappingProxyType({}))
    """The first reason is kept."""

    @property
    def padded(self) -> tuple[int, ...]:
        """The indices, the last repeated up to `size`."""
        return self.indices + (self.indices[-1],) * (self.size - len(self.indices))

    def with_arrays(self, **arrays: NDArray[Any]) -> "Batch":
        """This batch with arrays added.

        Raises:
            ValueError: an array has not one row per image, or its name is taken.
        """
        for name, array in arrays.items():
            if array.shape[:1] != (self.size,) or name in self.arrays:
                raise ValueError(
                    f"{name} {array.shape} doesn't fit a batch of {self.size} with {', '.join(self.arrays)}"
                )
        return replace(self, arrays=MappingProxyType({**self.arrays, **arrays}))

    def with_failures(self, failures: Failures) -> "Batch":
        """This batch with items marked as failed."""
        return replace(self, failures=MappingProxyType({**failures, **self.failures}))


@dataclass(slots=True, eq=False)
class Flight:
    """A batch under way."""

    batch: Batch
    slot: int
    """Which of the buffers it has."""
    noted: dict[str, Failures] = field(default_factory=dict)
    """By stage, what it saw to be wrong while it worked."""


class Work(Protocol):
    """A stage made ready for one pipeline: its buffers are allocated."""

    @property
    def makes(self) -> Mapping[str, Spec]:
        """The arrays that it makes of a batch."""
        ...

    def enqueue(self, flight: Flight, arrays: Mapping[str, Buffer], stream: Stream) -> None:
        """Tell a stream what to do for a batch; `arrays` are those that the stage reads and those that it makes."""
        ...


class Stage(Protocol):
    """Makes arrays of arrays, in a stream."""

    @property
    def name(self) -> str:
        """What statistics call it; unique in a pipeline."""
        ...

    @property
    def reads(self) -> Sequence[str]:
        """The arrays that it is given."""
        ...

    @property
    def lanes(self) -> int:
        """How many streams may run it side by side."""
        ...

    @property
    def on_host(self) -> bool:
        """Whether it is Python that runs in a thread, whatever the device."""
        ...

    def build(self, device: Device, size: int, slots: int, given: Mapping[str, Spec]) -> Work:
        """Make it ready for batches of `size` rows, so many in flight, and arrays of these shapes."""
        ...

    def finish(self, batch: Batch) -> Batch:
        """What the host makes of the arrays when they have come: failures noted, or arrays of its own added."""
        ...


class Keep(Protocol):
    """Adds arrays to a finished batch, in a thread of the host."""

    @property
    def name(self) -> str:
        """As a stage's."""
        ...

    def __call__(self, batch: Batch) -> Batch:
        """The same images, with more arrays that are its own."""
        ...


def batches(chunk: Chunk, size: int) -> Iterator[Batch]:
    """A chunk as the same batches every time."""
    indices = tuple(chunk.indices)
    for start in range(0, len(indices), size):
        yield Batch(chunk, indices[start : start + size], size)


def not_finite(batch: Batch, name: str, reason: str) -> Failures:
    """The images whose rows of an array are not all finite."""
    array = batch.arrays[name]
    return {index: reason for index, row in zip(batch.indices, array, strict=False) if not np.isfinite(row).all()}
