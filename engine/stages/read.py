"""The first stage of an audit of photographs: reads them where another makes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mothlight.engine.batch import Batch, Flight, Work
from mothlight.engine.device import Buffer, Device, Spec, Stream, spec
from mothlight.engine.photographs.pixels import UnreadableError
from mothlight.engine.photographs.taking import Photographs
from mothlight.engine.records import Prompt


class ReadStage:
    """Adds `images` (B, H, W, 3) uint8; one that can't be read is a failed item, and black."""

    name = "read"
    reads: Sequence[str] = ()
    on_host = True
    prompt_bytes = 0

    def __init__(self, photographs: Photographs, lanes: int) -> None:
        self.photographs = photographs
        self.lanes = lanes

    def prepare(self, prompts: Sequence[Prompt]) -> None:
        """Nothing to do."""

    def build(self, device: Device, size: int, slots: int, given: Mapping[str, Spec]) -> Work:
        """See `Stage`."""
        del device, slots, given
        return _Reading(self, {"images": spec((size, *self.photographs.size, 3), np.uint8)})

    def finish(self, batch: Batch) -> Batch:
        """See `Stage`: all was noted when it was read."""
        return batch


@dataclass(frozen=True)
class _Reading:
    stage: ReadStage
    makes: Mapping[str, Spec]

    def enqueue(self, flight: Flight, arrays: Mapping[str, Buffer], stream: Stream) -> None:
        batch, images = flight.batch, arrays["images"]

        def read() -> None:
            failures: dict[int, str] = {}
            images.array[len(batch.indices) :] = 0
            for row, index in enumerate(batch.indices):
                try:
                    images.array[row] = self.stage.photographs.pixels(batch.chunk.prompt.label, index)
                except UnreadableError as error:
                    images.array[row] = 0
                    failures[index] = str(error)
            flight.noted[self.stage.name] = failures

        stream.run(read, writes=[images])
