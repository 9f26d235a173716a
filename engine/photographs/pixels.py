"""A photograph's bytes as pixels, whatever somebody's camera, scanner or editor made of them."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
"""Those that Pillow decodes itself: no format that starts another program or another file."""
ORIENTATION = 0x0112
"""The EXIF tag that says how the camera was held."""
SIDEWAYS = range(5, 9)
"""Those of its values at which height and width change places."""
END_OF_IMAGE = b"\xff\xd9"
PIXELS = 1 << 26
"""Of a picture, at most: a larger one is no picture for a classifier."""


class UnreadableError(Exception):
    """These bytes are no picture that can be judged; the words say why."""


def to_pixels(content: bytes) -> NDArray[np.uint8]:
    """The picture as a person sees it, (height, width, 3) uint8 in RGB.

    Turned as its EXIF says; of an animation the first frame; what is transparent lies on white; 16 bits a channel are
    scaled to 8, and CMYK is converted without a colour profile.

    Raises:
        UnreadableError: it is damaged, of an unknown format, too large, or holds no pixel.
    """
    with _readable(content) as image:
        if (plain := _plain_jpeg(image, content)) is not None:
            return plain
        image.seek(0)
        return _eight_bit(ImageOps.exif_transpose(image))


def size_of(content: bytes) -> tuple[int, int]:
    """Height and width of the picture as `to_pixels` gives it, from its first bytes alone.

    Raises:
        UnreadableError: these are no picture's.
    """
    with _readable(content) as image:
        turned = image.getexif().get(ORIENTATION, 1) in SIDEWAYS
        return (image.width, image.height) if turned else (image.height, image.width)


def squared(pixels: NDArray[np.uint8], side: int, *, crop: bool) -> NDArray[np.uint8]:
    """The middle square of a picture (H, W, 3), or all of it where `crop` is not wanted, as (side, side, 3)."""
    height, width = pixels.shape[:2]
    shorter = min(height, width)
    left, top = ((width - shorter) / 2, (height - shorter) / 2) if crop else (0.0, 0.0)
    box = (left, top, width - left, height - top)
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC, box))


@contextmanager
def _readable(content: bytes) -> Iterator[Image.Image]:
    """An image that is opened; whatever is wrong with it is an UnreadableError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tags that don't matter, and sizes that are checked here
            with Image.open(BytesIO(content), formats=FORMATS) as image:
                if not 0 < image.width * image.height <= PIXELS:
                    size = f"{image.width} × {image.height}"
                    raise UnreadableError(f"it has {size} pixels; a picture may have {PIXELS:,} at most")
                yield image
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        ArithmeticError,
        MemoryError,
        Image.DecompressionBombError,
    ) as error:
        if not content:
            raise UnreadableError("it is empty") from error
        raise UnreadableError(f"it is damaged or no picture ({_first_words(error)})") from error


def _plain_jpeg(image: Image.Image, content: bytes) -> NDArray[np.uint8] | None:
    """The pixels of an ordinary JPEG, those that Pillow makes of it in two thirds of the time; None: it is none.

    imagecodecs fills up in grey what a file that was cut off lacks, so the end must be there.
    """
    ordinary = image.format == "JPEG" and image.mode in ("RGB", "L") and content.endswith(END_OF_IMAGE)
    if not ordinary or image.getexif().get(ORIENTATION, 1) != 1:
        return None
    try:
        pixels: NDArray[np.uint8] = imagecodecs.jpeg8_decode(content)
    except imagecodecs.Jpeg8Error:
        return None
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)


def _eight_bit(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith(("I", "F")):
        return _scaled(
            np.asarray(image).astype(np.float64), tops=(1.0, 255.0, 65535.0) if image.mode == "F" else (65535.0,)
        )
    if image.has_transparency_data:
        over = image.convert("RGBA")
        white = Image.new("RGBA", over.size, "white")
        return np.asarray(Image.alpha_composite(white, over).convert("RGB"))
    return np.asarray(image.convert("RGB"))


def _scaled(grey: NDArray[np.float64], tops: tuple[float, ...]) -> NDArray[np.uint8]:
    """More than 8 bits, by the first of the usual ranges that holds them; a measurement takes its own scale."""
    if not np.isfinite(grey).all():
        raise UnreadableError("it holds values that are no numbers")
    low, high = float(grey.min()), float(grey.max())
    top = next((top for top in tops if low >= 0 and high <= top), None)
    if top is not None:
        low, high = 0.0, top
    scaled = (grey - low) * (255 / max(high - low, 1e-12))
    return np.repeat(np.round(scaled).astype(np.uint8)[..., None], 3, axis=2)


def _first_words(error: BaseException) -> str:
    words = " ".join(str(error).split()).split(" <")[0]
    return words[:80] or type(error).__name__
