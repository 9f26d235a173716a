"""What flows: a batch of images of one chunk, and the protocol of a stage that adds to it.

The law of the executor: a pipelined run gives what calling each stage in order gives. It holds because a batch is
immutable and keeps all of its rows: an item that fails is noted and its rows stay in place, so that its neighbours are
computed as ever, and a short batch is padded, so that every graph always runs at the same size.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Protocol

from numpy.typing import NDArray

from mothlight.engine.records import Chunk

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Some images of one chunk that move together, and the arrays made for them so far."""

    chunk: Chunk
    indices: tuple[int, ...]
    """Of the real images; the padding behind them repeats the last."""
    size: int
    """Rows of every array, padding included."""
    arrays: Arrays = field(default_factory=lambda: MappingProxyType({}))
    failures: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))
    """Index → why there is no such image; the first reason is kept."""

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

    def with_failures(self, failures: Mapping[int, str]) -> "Batch":
        """This batch with items marked as failed."""
        return replace(self, failures=MappingProxyType({**failures, **self.failures}))


class Stage(Protocol):
    """Adds arrays or failures to a batch; called from several threads at once where it has several workers."""

    @property
    def name(self) -> str:
        """What statistics call it; unique in a pipeline."""
        ...

    @property
    def workers(self) -> int:
        """How many threads may run it side by side."""
        ...

    def __call__(self, batch: Batch) -> Batch:
        """The same images, with more arrays."""
        ...


def batches(chunk: Chunk, size: int) -> Iterator[Batch]:
    """A chunk as the same batches every time."""
    indices = tuple(chunk.indices)
    for start in range(0, len(indices), size):
        yield Batch(chunk, indices[start : start + size], size)
