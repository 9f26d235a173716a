"""What libraries do to an image before a model sees it, at sizes that show half a pixel, and what is refused."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.transforms_factory import create_transform
from torch import Tensor

from mothlight.engine.errors import UserError
from mothlight.engine.models.resize import PILLOW, Filter, Resize, interpolation_matrix
from mothlight.exporters.classifiers.timm_model import of_timm
from mothlight.exporters.libraries import quiet
from mothlight.exporters.preprocess import Preprocess, of_processor
from tests.exporters.tiny import transformers

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries warn of their own deprecations
quiet()
SHAPES = [(75, 69), (69, 75), (64, 64), (128, 97), (41, 53), (200, 61)]
SQUARE = {"height": 32, "width": 32}
PROCESSORS: dict[str, Any] = {
    "plain": lambda: transformers.ViTImageProcessor(size=SQUARE),
    "bicubic": lambda: transformers.ViTImageProcessor(size=SQUARE, resample=3),
    "lanczos": lambda: transformers.ViTImageProcessor(size=SQUARE, resample=1),
    "not square": lambda: transformers.ViTImageProcessor(size={"height": 24, "width": 40}),
    "rescale factor": lambda: transformers.ViTImageProcessor(size=SQUARE, rescale_factor=1 / 127.5),
    "no rescaling": lambda: transformers.ViTImageProcessor(size=SQUARE, do_rescale=False, do_normalize=False),
    "no normalising": lambda: transformers.ViTImageProcessor(size=SQUARE, do_normalize=False),
    "crop of an odd margin": lambda: transformers.CLIPImageProcessor(
        size={"shortest_edge": 37}, crop_size={"height": 32, "width": 32}
    ),
    "crop larger than the image": lambda: transformers.CLIPImageProcessor(
        size={"shortest_edge": 24}, crop_size={"height": 33, "width": 32}
    ),
    "no resizing": lambda: transformers.CLIPImageProcessor(do_resize=False, crop_size={"height": 33, "width": 32}),
    "MobileViT, blue first": lambda: transformers.MobileViTImageProcessor(
        size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}
    ),
    "LeViT": lambda: transformers.LevitImageProcessor(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}
    ),
    "EfficientNet, nearest": lambda: transformers.EfficientNetImageProcessor(size={"height": 37, "width": 37}),
    "EfficientNet, offset": lambda: transformers.EfficientNetImageProcessor(
        size=SQUARE, rescale_offset=True, rescale_factor=1 / 127.5, do_center_crop=True, crop_size=SQUARE, resample=2
    ),
    "ConvNeXt": lambda: transformers.ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=0.875),
    "PoolFormer": lambda: transformers.PoolFormerImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ),
}


def grey_levels_off(ours: Preprocess, wanted: Tensor, picture: Image.Image) -> float:
    image = torch.from_numpy(np.asarray(picture).copy())[None]
    matrices = ours.resize.matrices(picture.height, picture.width)
    with torch.no_grad():
        got = ours(image, *(torch.tensor(one) for one in matrices.values()))[0]
    assert got.shape == wanted.shape
    return float(((got - wanted).abs() * ours.std[0] * 255).max())


def noise(height: int, width: int) -> Image.Image:
    pixels = np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("name", PROCESSORS)
def test_a_processor_of_transformers_is_followed_at_every_shape(name: str) -> None:
    ours, transform = of_processor(name, PROCESSORS[name]())
    assert max(grey_levels_off(ours, transform(noise(*shape)), noise(*shape)) for shape in SHAPES) <= 2.0


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("kind", ["bilinear", "bicubic", "nearest", "lanczos"])
@pytest.mark.parametrize("size", [(3, 32, 32), (3, 33, 48)])
def test_timm_is_followed_at_every_shape_whichever_pass_pillow_makes_first(
    mode: str, kind: str, size: tuple[int, int, int]
) -> None:
    config: dict[str, Any] = {
        "input_size": size,
        "interpolation": kind,
        "mean": (0.5, 0.4, 0.3),
        "std": (0.2, 0.3, 0.4),
        "crop_pct": 0.9,
        "crop_mode": mode,
    }
    ours, transform = of_timm("mine", config), create_transform(**config, is_training=False)
    assert max(grey_levels_off(ours, transform(noise(*shape)), noise(*shape)) for shape in SHAPES) <= 1.01


@pytest.mark.parametrize("kind", PILLOW)
@pytest.mark.parametrize("shape", SHAPES)
def test_each_filter_is_pillows(kind: Filter, shape: tuple[int, int]) -> None:
    resize = Resize(size=(30, 45), edge=(30, 45), mode="squash", filter=kind, rounding=True, order="pillow")
    ours = Preprocess(resize, (0.0,) * 3, (1 / 255,) * 3)
    theirs = noise(*shape).resize((45, 30), Image.Resampling(PILLOW[kind]))
    wanted = torch.from_numpy(np.asarray(theirs).copy()).permute(2, 0, 1).float()
    assert grey_levels_off(ours, wanted, noise(*shape)) <= 1.01


@pytest.mark.parametrize(("kind", "mode"), [("bilinear", "bilinear"), ("bicubic", "bicubic"), ("nearest", "nearest")])
@pytest.mark.parametrize("target", [17, 64, 90])
def test_without_antialiasing_it_is_torchs_interpolation(kind: Filter, mode: str, target: int) -> None:
    line = torch.randn(1, 1, 1, 50)
    options = {} if mode == "nearest" else {"align_corners": False}
    wanted = torch.nn.functional.interpolate(line, size=(1, target), mode=mode, **options)
    got = torch.tensor(interpolation_matrix(50, target, kind)) @ line[0, 0, 0]
    torch.testing.assert_close(got, wanted[0, 0, 0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("processor", "said"),
    [
        (lambda: transformers.ViTImageProcessor(size=SQUARE, do_resize=False), "`do_resize` is false"),
        (lambda: transformers.ViTImageProcessor(size={"shortest_edge": 32}), "`size`"),
        (transformers.DetrImageProcessor, "`do_pad`|`size`"),
    ],
)
def test_what_is_not_supported_is_named(processor: Any, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        of_processor("mine", processor())
    assert "\n" not in str(caught.value)
