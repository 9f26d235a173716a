"""A library's preprocessing as a module: uint8 images of any size → normalised pixels, resized by matrix products."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mothlight.engine.errors import UserError
from mothlight.engine.models.bundle import Check, Resize
from mothlight.engine.models.resize import Filter
from mothlight.exporters.verify import require

SHARED = frozenset({"rows", "columns"})
DYNAMIC = {
    "images": {1: "height", 2: "width"},
    "rows": {1: "height"},
    "columns": {1: "width"},
}
ODD_SIZE = (11, 5)
"""How much larger than the model's own the images are on which the resize is compared: an odd size."""
GREY_LEVELS = 2.0
"""How far a resized pixel may be from the library's."""

FILTERS: dict[int, Filter] = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers, which transformers uses."""
WHOLE = 384
"""Pixels from which ConvNeXt's processor does not crop."""


class Preprocess(nn.Module):
    """images (B, H, W, 3) uint8, rows (S, H), columns (S, W) → (B, 3, S, S) float32."""

    mean: Tensor
    std: Tensor

    def __init__(self, resize: Resize, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.resize = resize
        self.register_buffer("mean", torch.tensor(list(mean)).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(list(std)).reshape(1, 3, 1, 1))

    def forward(self, images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Columns, then rows, each rounded and clipped as Pillow does where the library uses Pillow."""
        x = images.permute(0, 3, 1, 2).float()
        x = torch.matmul(x, columns.t())
        if self.resize.rounding:
            x = x.round().clamp(0, 255)
        x = torch.matmul(rows, x)
        if self.resize.rounding:
            x = x.round().clamp(0, 255)
        return (x / 255 - self.mean) / self.std

    def random_inputs(self, batch: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Images of an odd size that need resizing, and the matrices for it."""
        height, width = (self.resize.edge + more for more in ODD_SIZE)
        images = torch.randint(0, 256, (batch, height, width, 3), dtype=torch.uint8, generator=generator)
        matrices = self.resize.matrices(height, width)
        return {"images": images, **{name: torch.tensor(value) for name, value in matrices.items()}}

    def check(self, transform: Callable[[Image.Image], Tensor]) -> Check:
        """This module against the library's own transform of a smooth picture.

        Raises:
            BundleError: a pixel is more than two grey levels off.
        """
        inputs = self.random_inputs(1, torch.Generator().manual_seed(1))
        picture = Image.fromarray(inputs["images"][0].numpy())
        with torch.no_grad():
            off = (self(*inputs.values())[0] - transform(picture)).abs() * self.std[0] * 255
        return require(
            Check(
                graph="preprocess",
                output="pixels",
                batch=1,
                difference=float(np.round(off.max().item(), 3)),
                tolerance=GREY_LEVELS,
                unit="grey levels",
            )
        )


def of_processor(name: str, processor: Any) -> tuple[Preprocess, Callable[[Image.Image], Tensor]]:
    """The preprocessing of an image processor of transformers, as ours and as its own.

    Raises:
        UserError: it is not a kind that mothlight can do.
    """

    def transform(image: Image.Image) -> Tensor:
        return processor(image, return_tensors="pt").pixel_values[0]

    mean = processor.image_mean if processor.do_normalize else (0.0,) * 3
    std = processor.image_std if processor.do_normalize else (1.0,) * 3
    return Preprocess(_resize_of(name, processor), mean, std), transform


def _resize_of(name: str, processor: Any) -> Resize:
    size: dict[str, int] = {key: int(value) for key, value in dict(processor.size).items() if value is not None}
    kind = FILTERS.get(int(processor.resample)) if processor.do_resize else None
    if kind is None:
        raise UserError(f"{name}: only bilinear or bicubic resizing is supported.")
    crop = dict(processor.crop_size) if getattr(processor, "do_center_crop", False) else {}
    cropped = int(crop.get("height", 0))
    if "shortest_edge" in size:
        edge = size["shortest_edge"]
        share = getattr(processor, "crop_pct", None)
        if share and edge < WHOLE:  # ConvNeXt's processor: below this size resize to more and crop
            return Resize(size=edge, edge=int(edge / share), mode="shortest", filter=kind, rounding=True)
        if share:
            return Resize(size=edge, edge=edge, mode="squash", filter=kind, rounding=True)
        if cropped:
            return Resize(size=cropped, edge=edge, mode="shortest", filter=kind, rounding=True)
    elif size.get("height") == size.get("width") and "height" in size:
        edge = size["height"]
        return Resize(size=cropped or edge, edge=edge, mode="squash", filter=kind, rounding=True)
    raise UserError(f"{name}: the processor's size {size} does not make square images.")
