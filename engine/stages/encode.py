"""Turns pixels into the bytes that the database keeps, and back."""

from collections.abc import Callable, Sequence
from io import BytesIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mothlight.engine.batch import Batch

QUALITY = 95


def to_jpeg(image: NDArray[np.uint8]) -> bytes:
    """One image (H, W, 3) as JPEG, colours at full resolution.

    By imagecodecs, which makes the pixels that Pillow makes; but Pillow's encoder keeps Python's lock, so that two
    threads are no faster than one.
    """
    return bytes(
        imagecodecs.jpeg8_encode(image, level=QUALITY, subsampling="444", colorspace="RGB", outcolorspace="YCBCR")
    )


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
