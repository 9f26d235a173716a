"""Resizing as two matrix products: the weights that Pillow uses, so that a graph can do it on any device."""

from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Filter = Literal["bilinear", "bicubic"]


@lru_cache(maxsize=64)
def resample_matrix(source: int, target: int, kind: Filter) -> NDArray[np.float32]:
    """Pillow's antialiased weights (Resample.c, precompute_coeffs) as (target, source) float32, read-only."""
    matrix = np.zeros((target, source))
    scale = source / target
    stretch = max(scale, 1.0)
    support = (2.0 if kind == "bicubic" else 1.0) * stretch
    for row in range(target):
        centre = (row + 0.5) * scale
        low = max(int(centre - support + 0.5), 0)
        high = min(int(centre + support + 0.5), source)
        offsets = np.abs((np.arange(low, high) - centre + 0.5) / stretch)
        weights = _bicubic(offsets) if kind == "bicubic" else np.maximum(1.0 - offsets, 0.0)
        matrix[row, low:high] = weights / weights.sum()
    result = matrix.astype(np.float32)
    result.flags.writeable = False
    return result


def _bicubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic with a = -1/2, for x >= 0."""
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def centre_crop(matrix: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """The middle `size` rows of a resampling matrix, which crops what it makes.

    Raises:
        ValueError: it makes fewer than `size`.
    """
    if matrix.shape[0] < size:
        msg = f"can't crop {size} out of {matrix.shape[0]}"
        raise ValueError(msg)
    start = round((matrix.shape[0] - size) / 2.0)
    return np.ascontiguousarray(matrix[start : start + size])
