"""Turns pixels into the bytes that the database keeps, and back."""

from collections.abc import Callable, Sequence
from io import BytesIO

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from mothlight.engine.batch import Batch

QUALITY = 96
"""At which the quick transform of libjpeg-turbo is nearer to the pixels than Pillow's careful one is at 95."""


def to_jpeg(image: NDArray[np.uint8]) -> bytes:
    """One image (H, W, 3) as JPEG, colours at full resolution.

    By libjpeg-turbo through simplejpeg, since Pillow's encoder keeps Python's lock: two threads are no faster than one.
    """
    pixels = np.ascontiguousarray(image)
    return bytes(simplejpeg.encode_jpeg(pixels, QUALITY, "RGB", "444", fastdct=False))


def from_jpeg(data: bytes) -> NDArray[np.uint8]:
    """The pixels (H, W, 3) of a stored image."""
    with Image.open(BytesIO(data), formats=["JPEG"]) as image:
        return np.asarray(image.convert("RGB"))


class EncodeStage:
    """Adds `jpeg` (B,) of bytes objects; None for an image that is not kept."""

    name = "encode"

    def __init__(self, kept: Callable[[Batch], Sequence[bool]] | None = None) -> None:
        """`kept` says which images of a finished batch are; without it, all."""
        self.kept = kept

    def __call__(self, batch: Batch) -> Batch:
        """See `Keep`."""
        jpeg = np.empty(batch.size, dtype=object)
        kept = self.kept(batch) if self.kept is not None else [True] * len(batch.indices)
        for row in range(len(batch.indices)):
            if kept[row]:
                jpeg[row] = to_jpeg(batch.arrays["images"][row])
        return batch.with_arrays(jpeg=jpeg)
