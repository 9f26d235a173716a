"""Turns pixels into the bytes that the database keeps, and back."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mothlight.engine.batch import Batch

QUALITY = 95


def to_jpeg(image: NDArray[np.uint8]) -> bytes:
    """One image (H, W, 3) as JPEG, colours at full resolution."""
    file = BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=QUALITY, subsampling=0)
    return file.getvalue()


def from_jpeg(data: bytes) -> NDArray[np.uint8]:
    """The pixels (H, W, 3) of a stored image."""
    with Image.open(BytesIO(data), formats=["JPEG"]) as image:
        return np.asarray(image.convert("RGB"))


class EncodeStage:
    """Adds `jpeg` (B,) of bytes objects."""

    name = "encode"

    def __call__(self, batch: Batch) -> Batch:
        """See `Keep`."""
        jpeg = np.empty(batch.size, dtype=object)
        for row in range(len(batch.indices)):
            jpeg[row] = to_jpeg(batch.arrays["images"][row])
        return batch.with_arrays(jpeg=jpeg)
