"""A library's preprocessing as a module: uint8 images of any size → normalised pixels, resized by matrix products."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from mothlight.engine.errors import UserError
from mothlight.engine.models.bundle import Check
from mothlight.engine.models.resize import PILLOW, Filter, Resize
from mothlight.exporters.verify import require

SHARED = frozenset({"rows_first", "rows", "columns"})
DYNAMIC = {
    "images": {1: "height", 2: "width"},
    "rows": {1: "height"},
    "columns": {1: "width"},
}
DYNAMIC_PILLOW = {**DYNAMIC, "rows_first": {0: "between", 1: "height"}, "rows": {1: "between"}}
ODD_SIZE = (11, 5)
"""How much larger than the model's own the images are on which the graphs are compared: an odd size."""
GREY_LEVELS = 2.0
"""How far a resized pixel may be from the library's."""
LINEAR = 1e-4
"""How far a pixel's value may be from a straight line over its grey level."""

FILTERS: dict[int, Filter] = {number: name for name, number in PILLOW.items()}
"""Pillow's numbers, which transformers uses."""
WHOLE = 384
"""Pixels from which ConvNeXt's processor does not crop."""
Transform = Callable[[Image.Image], Tensor]


class Preprocess(nn.Module):
    """images (B, H, W, 3) uint8 and the matrices of `Resize` → (B, 3, H', W') float32."""

    mean: Tensor
    std: Tensor
    fill: Tensor

    def __init__(
        self, resize: Resize, mean: Sequence[float], std: Sequence[float], channels: Sequence[int] = (0, 1, 2)
    ) -> None:
        """`channels` says which of red, green, blue each channel is."""
        super().__init__()
        self.resize = resize
        self.channels = list(channels)
        colours = [resize.fill] * 3 if isinstance(resize.fill, int) else resize.fill
        self.register_buffer("fill", torch.tensor([float(colours[one]) for one in channels]).reshape(1, 3, 1, 1))
        self.register_buffer("mean", torch.tensor(list(mean)).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(list(std)).reshape(1, 3, 1, 1))

    @property
    def dynamic(self) -> dict[str, dict[int, str]]:
        """The inputs' symbolic dimensions beside the batch."""
        return DYNAMIC if self.resize.order == "horizontal" else DYNAMIC_PILLOW

    def forward(self, images: Tensor, *matrices: Tensor) -> Tensor:
        """The passes one after the other, each rounded and clipped where the library has whole pixels between them."""
        x = images.float().permute(0, 3, 1, 2)  # TensorRT takes uint8 where a Cast follows at once and nowhere else
        if self.channels != [0, 1, 2]:
            x = x[:, self.channels]
        *first, rows, columns = matrices
        covered = [rows, columns]
        if first:
            x = self._whole(torch.matmul(first[0], x))
            covered = [torch.matmul(rows, first[0]), columns]
        x = torch.matmul(x, columns.t())
        if self.resize.antialias:
            x = self._whole(x)
        x = self._whole(torch.matmul(rows, x))
        if self.resize.fill:
            inside = torch.outer(*(one.sum(dim=1).round() for one in covered))
            x = x + self.fill * (1 - inside)
        return (x / 255 - self.mean) / self.std

    def _whole(self, x: Tensor) -> Tensor:
        """Half up, as Pillow and torch round where they resize whole pixels."""
        return (x + 0.5).floor().clamp(0, 255) if self.resize.rounding else x

    def random_inputs(self, batch: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Images of an odd size that need resizing, and the matrices for it."""
        height, width = self.resize.height + ODD_SIZE[0], self.resize.width + ODD_SIZE[1]
        return self._inputs(batch, height, width, generator)

    def _inputs(self, batch: int, height: int, width: int, generator: torch.Generator) -> dict[str, Tensor]:
        images = torch.randint(0, 256, (batch, height, width, 3), dtype=torch.uint8, generator=generator)
        matrices = self.resize.matrices(height, width)
        return {"images": images, **{name: torch.tensor(value) for name, value in matrices.items()}}

    def check(self, transform: Transform) -> Check:
        """This module against the library's own transform of pictures of several shapes.

        Raises:
            BundleError: a pixel is more than two grey levels off.
        """
        return require(self.compare(transform))

    def compare(self, transform: Transform) -> Check:
        """The same, without a judgement."""
        worst = 0.0
        generator = torch.Generator().manual_seed(1)
        for height, width in self._shapes():
            inputs = self._inputs(1, height, width, generator)
            picture = Image.fromarray(inputs["images"][0].numpy())
            wanted = transform(picture)
            with torch.no_grad():
                got = self(*inputs.values())[0]
            if got.shape != wanted.shape:
                worst = float("inf")
                break
            worst = max(worst, float(((got - wanted).abs() * self.std[0].abs() * 255).max()))
        return Check(
            graph="preprocess",
            output="pixels",
            batch=1,
            difference=float(np.round(min(worst, 255.0), 3)),
            tolerance=GREY_LEVELS,
            unit="grey levels",
        )

    def _shapes(self) -> list[tuple[int, int]]:
        """Larger and smaller, upright and lying, odd and even margins."""
        height, width = self.resize.height, self.resize.width
        return [
            (height + ODD_SIZE[0], width + ODD_SIZE[1]),
            (height + 2, width + 9),
            (height, width),
            (2 * height, 2 * width),
            (2 * height + 1, width + 30),
            (height // 2 + 3, width // 2 + 8),
        ]


def fitting(name: str, choices: Iterable[Preprocess], transform: Transform) -> Preprocess:
    """The first of several ways that does what the library does: its releases differ in half a pixel.

    Raises:
        UserError: none does.
    """
    best = 255.0
    for choice in choices:
        difference = choice.compare(transform).difference
        if difference <= GREY_LEVELS:
            return choice
        best = min(best, difference)
    raise UserError(
        f"{name}: its preprocessing does something to images that mothlight does not: the nearest way that it knows is "
        f"{best:g} grey levels away."
    )


def of_processor(name: str, processor: Any) -> tuple[Preprocess, Transform]:
    """The preprocessing of an image processor of transformers, as ours and as its own.

    Raises:
        UserError: it is not a kind that mothlight can do.
    """

    def transform(image: Image.Image) -> Tensor:
        return processor(image, return_tensors="pt").pixel_values[0]

    resize = _resize_of(name, processor)
    mean, std, channels = _values_of(name, transform, resize)
    choices = (
        Preprocess(resize.model_copy(update={**order, **middle, **taps}), mean, std, channels)
        for taps in ({}, *([{"antialias": False}] if resize.filter == "nearest" else []))
        for order in ({}, {"order": "pillow"})
        for middle in ({"middle": "down"}, {"middle": "even"})
    )
    return fitting(name, choices, transform), transform


def _values_of(
    name: str, transform: Transform, resize: Resize
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[int, ...]]:
    """Mean, standard deviation and order of the channels, by what becomes of plain pictures.

    Factors, offsets and orders have as many names as there are processors; what they do to a grey level is a line.

    Raises:
        UserError: it is none.
    """

    def value(red: int, green: int, blue: int) -> NDArray[np.float64]:
        plain = np.full((resize.height, resize.width, 3), (red, green, blue), dtype=np.uint8)
        out = transform(Image.fromarray(plain))
        if out.ndim != 3 or out.shape[0] != 3:
            raise UserError(f"{name}: its processor gives pixels of the shape {tuple(out.shape)}, not (3, H, W).")
        return out[:, out.shape[1] // 2, out.shape[2] // 2].double().numpy()

    black, white = value(0, 0, 0), value(255, 255, 255)
    step = white - black
    channels = []
    for channel in range(3):
        moved = [
            abs(value(*(255 if one == colour else 0 for one in range(3)))[channel] - black[channel])
            for colour in range(3)
        ]
        channels.append(int(np.argmax(moved)))
    middle = black + step * 51 / 255
    if (step == 0).any() or (abs(value(51, 51, 51) - middle) > LINEAR * abs(step)).any():
        raise UserError(f"{name}: what its processor makes of a grey level is no straight line; it is not supported.")
    std = 1 / step
    return tuple(float(one) for one in -black * std), tuple(float(one) for one in std), tuple(channels)


def _resize_of(name: str, processor: Any) -> Resize:
    size, crop = _sides(processor.size), {}
    if getattr(processor, "do_center_crop", False):
        crop = _sides(processor.crop_size)
    cropped = (crop["height"], crop["width"]) if crop else None
    if getattr(processor, "do_pad", False):
        raise UserError(f"{name}: `do_pad` of its processor is not supported.")
    if not processor.do_resize:
        if cropped is None:
            raise UserError(
                f"{name}: `do_resize` is false and nothing is cropped, so it takes images of one size only; that is "
                f"not supported: set do_resize in its preprocessor_config.json."
            )
        return Resize(size=side(cropped), edge=side(cropped), mode="none", filter="bilinear", rounding=True)
    kind = FILTERS.get(int(processor.resample))
    if kind is None:
        raise UserError(f"{name}: `resample` {processor.resample} of its processor is not supported.")
    if "height" in size and "width" in size:
        edges = (size["height"], size["width"])
        return Resize(size=side(cropped or edges), edge=side(edges), mode="squash", filter=kind, rounding=True)
    share = 224 / 256 if type(processor).__name__.startswith("Levit") else getattr(processor, "crop_pct", None)
    if "shortest_edge" not in size or "longest_edge" in size or not (cropped or share):
        raise UserError(f"{name}: the processor's `size` {size} does not make images of one size.")
    edge = size["shortest_edge"]
    if cropped is None and edge >= WHOLE:  # ConvNeXt's
        return Resize(size=edge, edge=edge, mode="squash", filter=kind, rounding=True)
    wide = int(edge / share) if share else edge
    return Resize(size=side(cropped or (edge, edge)), edge=wide, mode="shortest", filter=kind, rounding=True)


def _sides(given: Any) -> dict[str, int]:
    return {key: int(value) for key, value in dict(given or {}).items() if value is not None}


def side(pair: tuple[int, int]) -> int | tuple[int, int]:
    """One number where height and width are the same."""
    return pair[0] if pair[0] == pair[1] else pair
