"""Resizing as matrix products, so that a graph can do it on any device: the weights that Pillow uses, or OpenCV."""

from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from mothlight.engine.device import Buffer, Device, Spec, constant

Filter = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
FIXED_POINT = 1 << 22
"""Parts of one in which Pillow counts its weights of 8-bit pixels; it decides how a half is rounded."""
Level = Annotated[int, Field(ge=0, le=255)]
Side = int | tuple[int, int]
"""Pixels: of both sides, or height and width."""
SUPPORT: dict[Filter, float] = {"box": 0.5, "bilinear": 1.0, "hamming": 1.0, "bicubic": 2.0, "lanczos": 3.0}
"""How far each filter of Pillow reaches, in pixels."""
PILLOW: dict[Filter, int] = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}
"""Pillow's numbers of the filters."""


class Resize(BaseModel):
    """How an image of any size becomes `size`: the library's own preprocessing, as data."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    size: Side
    """What comes out."""
    edge: Side
    """What the image is resized to before the middle is cut out, or padded to `size`: see `mode`."""
    mode: Literal["shortest", "squash", "letterbox", "none"]
    """`shortest`: the image just covers `edge`; `squash`: it becomes `edge`, whatever its shape; `letterbox`: it just
    fits into `edge`; `none`: it keeps its size."""
    filter: Filter
    rounding: bool
    """Whether the graph rounds to whole pixel values, as libraries do that resize whole pixels."""
    antialias: bool = True
    """Whether the filter grows when an image shrinks, as Pillow's does; without, OpenCV's and torch's taps."""
    order: Literal["horizontal", "pillow"] = "horizontal"
    """Which pass comes first: always the horizontal one, or whichever the installed Pillow makes first."""
    middle: Literal["even", "down"] = "even"
    """Where a crop begins if the margin is odd: rounded half to even (timm, torchvision), or down (transformers)."""
    fill: Level | tuple[Level, Level, Level] = 0
    """What is put around an image that is too small: a grey level, or red, green and blue."""

    @property
    def height(self) -> int:
        """Of what comes out."""
        return pair(self.size)[0]

    @property
    def width(self) -> int:
        """Of what comes out."""
        return pair(self.size)[1]

    def sides(self, height: int, width: int) -> tuple[int, int]:
        """What an image of one size is resized to, before it is cut or padded."""
        edges = pair(self.edge)
        if self.mode == "none":
            return height, width
        if self.mode == "squash":
            return edges
        shares = (edges[0] / height, edges[1] / width)
        if self.mode == "letterbox":
            share = min(shares)
            return max(round(height * share), 1), max(round(width * share), 1)
        if isinstance(self.edge, int):
            short = min(height, width)
            return (
                edges[0] if height == short else int(edges[0] * height / short),
                edges[1] if width == short else int(edges[1] * width / short),
            )
        share = max(shares)
        return round(height * share), round(width * share)

    def matrices(self, height: int, width: int) -> dict[str, NDArray[np.float32]]:
        """The graph inputs `rows` (H', ·) and `columns` (W', width) for images of one size.

        Where the order is Pillow's there is `rows_first` (·, height) too: the vertical pass if it comes first, else
        nothing but the image; `rows` is the other of the two.
        """
        sides = self.sides(height, width)
        rows, columns = (self._resample(source, target) for source, target in zip((height, width), sides, strict=True))
        columns = self._fit(columns, self.width)
        if self.order == "horizontal":
            return {"rows": self._fit(rows, self.height), "columns": columns}
        if vertical_first((height, width), sides, self.filter):
            whole = np.eye(sides[0], dtype=np.float32)
            return {"rows_first": rows, "rows": self._fit(whole, self.height), "columns": columns}
        whole = np.eye(height, dtype=np.float32)
        return {"rows_first": whole, "rows": self._fit(rows, self.height), "columns": columns}

    def _resample(self, source: int, target: int) -> NDArray[np.float32]:
        if self.antialias:
            return resample_matrix(source, target, self.filter)
        return interpolation_matrix(source, target, self.filter)

    def _fit(self, matrix: NDArray[np.float32], size: int) -> NDArray[np.float32]:
        return middle_of(matrix, size, down=self.middle == "down")


def pair(side: Side) -> tuple[int, int]:
    """Height and width."""
    return (side, side) if isinstance(side, int) else side


@lru_cache(maxsize=64)
def resample_matrix(source: int, target: int, kind: Filter) -> NDArray[np.float32]:
    """Pillow's antialiased weights (Resample.c, precompute_coeffs) as (target, source) float32, read-only."""
    matrix = np.zeros((target, source))
    scale = source / target
    stretch = max(scale, 1.0)
    if kind == "nearest":  # summed up as Pillow does it: the rounding decides where a pixel falls on an edge
        places = np.cumsum(np.concatenate([[0.5 * scale], np.full(target - 1, scale)]))
        matrix[np.arange(target), np.minimum(places.astype(int), source - 1)] = 1.0
        return _frozen(matrix)
    for row in range(target):
        support = SUPPORT[kind] * stretch
        centre = (row + 0.5) * scale
        low = max(int(centre - support + 0.5), 0)
        high = min(int(centre + support + 0.5), source)
        weights = _weights((np.arange(low, high, dtype=np.float64) - centre + 0.5) / stretch, kind)
        matrix[row, low:high] = np.rint(weights / weights.sum() * FIXED_POINT) / FIXED_POINT
    return _frozen(matrix)


def matrices_on(device: Device, resize: Resize | None, images: Spec, owner: str) -> dict[str, Buffer]:
    """The matrices for images (B, H, W, 3) as constants of a device; none where nothing is resized."""
    matrices = resize.matrices(*images.shape[1:3]) if resize is not None else {}
    return {name: constant(device, f"{name} of {owner}", array) for name, array in matrices.items()}


@lru_cache(maxsize=64)
def interpolation_matrix(source: int, target: int, kind: Filter) -> NDArray[np.float32]:
    """Weights without antialiasing, as OpenCV and torch interpolate (pixel centres at halves, edges repeated).

    Raises:
        ValueError: neither knows the filter without antialiasing.
    """
    matrix = np.zeros((target, source))
    scale = source / target
    for row in range(target):
        if kind == "nearest":
            matrix[row, min(int(row * scale), source - 1)] = 1.0
            continue
        place = (row + 0.5) * scale - 0.5
        start = int(np.floor(place))
        if kind == "bilinear":
            taps = {start: 1 - (place - start), start + 1: place - start}
        elif kind == "bicubic":
            taps = {start + k: float(_cubic(np.array([abs(place - start - k)]), -0.75)[0]) for k in (-1, 0, 1, 2)}
        else:
            msg = f"{kind} needs antialiasing"
            raise ValueError(msg)
        for tap, weight in taps.items():
            matrix[row, min(max(tap, 0), source - 1)] += weight
    return _frozen(matrix)


def _frozen(matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    result = matrix.astype(np.float32)
    result.flags.writeable = False
    return result


def _weights(x: NDArray[np.float64], kind: Filter) -> NDArray[np.float64]:
    """A filter of Pillow at distances x."""
    if kind == "box":
        return np.where((x > -0.5) & (x <= 0.5), 1.0, 0.0)
    x = np.abs(x)
    if kind == "bilinear":
        return np.maximum(1.0 - x, 0.0)
    if kind == "hamming":
        return np.where(x < 1.0, np.sinc(x) * (0.54 + 0.46 * np.cos(np.pi * x)), 0.0)
    if kind == "lanczos":
        return np.where(x < 3.0, np.sinc(x) * np.sinc(x / 3), 0.0)
    return _cubic(x, -0.5)


def _cubic(x: NDArray[np.float64], a: float) -> NDArray[np.float64]:
    """Keys' cubic for x >= 0; Pillow has a = -1/2, OpenCV and torch -3/4."""
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def middle_of(matrix: NDArray[np.float32], size: int, *, down: bool) -> NDArray[np.float32]:
    """The middle `size` rows of a resampling matrix, which crops what it makes; rows of zeros around too few."""
    short = size - matrix.shape[0]
    if short > 0:
        return np.pad(matrix, ((short // 2, short - short // 2), (0, 0)))
    start = -short // 2 if down else round(-short / 2)
    return np.ascontiguousarray(matrix[start : start + size])


@lru_cache(maxsize=64)
def vertical_first(source: tuple[int, int], target: tuple[int, int], kind: Filter) -> bool:
    """Whether the installed Pillow makes the vertical pass first for these heights and widths: found by trying.

    Pillow 13 does where that is cheaper, those before never did; the pixels between the passes are rounded and
    clipped, so a steep filter on a steep picture shows the order.
    """
    if kind == "nearest" or source[0] == target[0] or source[1] == target[1]:
        return False
    from PIL import Image

    filter_ = Image.Resampling(PILLOW[kind])
    noise = np.random.default_rng(0).integers(0, 2, (*source, 3), dtype=np.uint8) * 255
    picture = Image.fromarray(noise.astype(np.uint8))
    height, (high, wide) = source[0], target
    whole = picture.resize((wide, high), filter_)
    horizontal = picture.resize((wide, height), filter_).resize((wide, high), filter_)
    return whole.tobytes() != horizontal.tobytes()
