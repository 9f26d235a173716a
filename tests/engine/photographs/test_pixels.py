"""Photographs as cameras, scanners and editors leave them, and files that are none."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mothlight.engine.photographs.pixels import UnreadableError, to_pixels

TOP = [204, 51, 51]
BOTTOM = [51, 51, 204]


def two_halves(mode: str = "RGB") -> Image.Image:
    """Red above blue, twice as wide as high."""
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:20], pixels[20:] = TOP, BOTTOM
    return Image.fromarray(pixels).convert(mode)


def saved(image: Image.Image, kind: str, **how: Any) -> bytes:
    out = BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        saved(two_halves(), "JPEG", quality=95),
        saved(two_halves(), "PNG"),
        saved(two_halves(), "WEBP", lossless=True),
        saved(two_halves(), "BMP"),
        saved(two_halves(), "TIFF"),
        saved(two_halves("P"), "PNG"),
        saved(two_halves("CMYK"), "JPEG", quality=95),
        saved(two_halves("CMYK"), "TIFF"),
        saved(two_halves("P"), "GIF"),
        saved(two_halves("RGBA"), "PNG"),
        saved(two_halves(), "JPEG", quality=95, progressive=True),
    ],
)
def test_every_format_is_the_same_picture(content: bytes) -> None:
    pixels = to_pixels(content)
    assert pixels.shape == (40, 80, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels[5, 40].astype(int) - TOP).max() < 12
    assert np.abs(pixels[35, 40].astype(int) - BOTTOM).max() < 12


@pytest.mark.parametrize(("turn", "shape"), [(1, (40, 80, 3)), (3, (40, 80, 3)), (6, (80, 40, 3)), (8, (80, 40, 3))])
def test_it_is_turned_as_its_camera_was(turn: int, shape: tuple[int, int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    pixels = to_pixels(saved(two_halves(), "JPEG", quality=95, exif=exif))
    assert pixels.shape == shape
    corner = {1: TOP, 3: BOTTOM, 6: BOTTOM, 8: TOP}[turn]
    assert np.abs(pixels[3, 3].astype(int) - corner).max() < 12


def test_sixteen_bits_are_scaled_and_not_cut_off() -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    for kind in ("PNG", "TIFF"):
        pixels = to_pixels(saved(Image.fromarray(ramp), kind))
        assert np.abs(pixels[..., 0].ravel().astype(int) - np.arange(256)).max() <= 1
        assert (pixels[..., 0] == pixels[..., 2]).all()


def test_measurements_take_their_own_scale() -> None:
    heat = np.linspace(-3, 9, 256).astype(np.float32).reshape(16, 16)
    pixels = to_pixels(saved(Image.fromarray(heat), "TIFF"))
    assert (pixels.min(), pixels.max()) == (0, 255)
    flat = to_pixels(saved(Image.fromarray(np.full((4, 4), -1, np.float32)), "TIFF"))
    assert (flat == 0).all()


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0])
def test_numbers_with_a_fraction_keep_their_usual_range(top: float) -> None:
    half = np.full((8, 8), top / 2, np.float32)
    half[0, 0] = top
    pixels = to_pixels(saved(Image.fromarray(half), "TIFF"))
    assert (pixels[0, 0, 0], abs(int(pixels[4, 4, 0]) - 127) <= 1) == (255, True)


def test_values_that_are_no_numbers_are_a_reason() -> None:
    broken = np.full((8, 8), np.nan, np.float32)
    with pytest.raises(UnreadableError, match="no numbers"):
        to_pixels(saved(Image.fromarray(broken), "TIFF"))


def test_what_is_transparent_lies_on_white() -> None:
    glass = np.zeros((8, 8, 4), np.uint8)
    glass[:4] = (255, 0, 0, 255)
    pixels = to_pixels(saved(Image.fromarray(glass), "PNG"))
    assert pixels[0, 0].tolist() == [255, 0, 0]
    assert pixels[7, 7].tolist() == [255, 255, 255]
    grey = Image.new("LA", (4, 4), (0, 128))
    assert abs(int(to_pixels(saved(grey, "PNG"))[0, 0, 0]) - 127) <= 1


def test_of_an_animation_the_first_frame() -> None:
    frames = [two_halves("P"), two_halves("P").rotate(180)]
    for kind in ("GIF", "WEBP", "PNG"):
        content = saved(frames[0].convert("RGB"), kind, save_all=True, append_images=[frames[1].convert("RGB")])
        assert np.abs(to_pixels(content)[3, 40].astype(int) - TOP).max() < 20


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"\xff\xd8 no more", "damaged or no picture"),
        (saved(two_halves(), "JPEG")[:300], "damaged or no picture"),
        (saved(two_halves(), "PNG")[:90], "damaged or no picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "damaged or no picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "damaged or no picture"),
        (saved(Image.new("1", (9000, 9000)), "PNG"), "it has 9000 × 9000 pixels"),
        (saved(Image.new("1", (30000, 30000)), "TIFF", compression="group4"), "pixels|damaged"),
    ],
)
def test_what_is_no_picture_is_one_reason(content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableError, match=reason):
        to_pixels(content)


@pytest.mark.parametrize("how", [{"subsampling": at, "progressive": way} for at in (0, 1, 2) for way in (False, True)])
def test_an_ordinary_jpeg_has_the_pixels_that_pillow_makes(how: dict[str, Any]) -> None:
    chance = np.random.default_rng(0)
    for shape in ((33, 17, 3), (64, 48, 3), (20, 20)):
        content = saved(Image.fromarray(chance.integers(0, 255, shape, dtype=np.uint8)), "JPEG", quality=88, **how)
        with Image.open(BytesIO(content)) as image:
            assert (to_pixels(content) == np.asarray(image.convert("RGB"))).all()


def test_a_jpeg_that_was_cut_off_anywhere_is_damaged() -> None:
    content = saved(two_halves().resize((200, 100)), "JPEG", quality=95)
    for end in range(3, len(content) - 2, 97):
        with pytest.raises(UnreadableError):
            to_pixels(content[:end])
