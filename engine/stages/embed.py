"""Places images in a space in which like lies near like."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mothlight.engine.batch import Batch, Flight, Work
from mothlight.engine.device import Buffer, Device, Spec, Stream
from mothlight.engine.models.bundle import Bundle
from mothlight.engine.models.engines import Engines
from mothlight.engine.models.resize import matrices_on
from mothlight.engine.models.runner import Bound, Single
from mothlight.engine.models.tokenizer import BundleTokenizer

TEXTS = 64
"""Embedded at once."""


class ImageEmbedder:
    """The image half of an embedder's bundle."""

    def __init__(self, bundle: Bundle, engines: Engines) -> None:
        self.resize = bundle.manifest.resize
        self.program = Single(engines.open(bundle, "embed_image"))

    def bind(self, device: Device, slots: int, images: Spec, called: str) -> Work:
        """Make it ready for batches of images; its vectors are called so."""
        constants = matrices_on(device, self.resize, images, called)
        given = {"images": images} | {name: buffer.spec for name, buffer in constants.items()}
        return _Embed(self.program.bind(device, slots, given), constants, called)


class _Embed:
    def __init__(self, bound: Bound, constants: Mapping[str, Buffer], called: str) -> None:
        self.bound, self.constants, self.called = bound, constants, called
        self.makes = {called: bound.makes["vector"]}

    def enqueue(self, flight: Flight, arrays: Mapping[str, Buffer], stream: Stream) -> None:
        buffers = {**self.constants, "images": arrays["images"], "vector": arrays[self.called]}
        self.bound.enqueue(flight.slot, buffers, stream)


class EmbedStage:
    """Adds `embedding` (B, D) float32 of norm 1; what is not finite is not kept, but its image is."""

    name = "embed"
    reads = ("images",)
    lanes = 1
    on_host = False

    def __init__(self, bundle: Bundle, engines: Engines | None = None) -> None:
        self.embedder = ImageEmbedder(bundle, engines or Engines())

    def build(self, device: Device, size: int, slots: int, given: Mapping[str, Spec]) -> Work:
        """See `Stage`."""
        del size
        return self.embedder.bind(device, slots, given["images"], "embedding")

    def finish(self, batch: Batch) -> Batch:
        """See `Stage`."""
        return batch


def embed_texts(bundle: Bundle, texts: Sequence[str], engines: Engines) -> NDArray[np.float32]:
    """Where texts lie among the images (T, D); the bundle has the graph `embed_text`."""
    runner, tokenizer = engines.runner(bundle, "embed_text"), BundleTokenizer(bundle)
    parts = [
        runner.infer(**tokenizer.encode(list(texts[at : at + TEXTS])))["vector"] for at in range(0, len(texts), TEXTS)
    ]
    return np.concatenate(parts)
