"""How fast photographs are read from a folder: by us, by Pillow alone, and by decoders made for it.

    python bench/folder.py --images 400 --rounds 5

JPEGs of 500 × 375 pixels and quality 90, as in ImageNet, are read in turns, one thread and two. `ours` is what
`mothlight` does with a file (any format, EXIF, modes); `Pillow` decodes JPEGs only; `imagecodecs` and `simplejpeg` are
libjpeg-turbo without what we check. The limit that nothing can beat is reading the bytes.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from mothlight.engine.photographs.pixels import to_pixels
from mothlight.engine.photographs.sources import Photograph, photographs, without_twins


def write(folder: Path, images: int) -> None:
    """A folder for each of ten labels."""
    chance = np.random.default_rng(0)
    for at in range(images):
        coarse = chance.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC))
        grain = chance.normal(0, 6, (375, 500, 1))
        own = folder / f"label {at % 10}"
        own.mkdir(exist_ok=True)
        picture = Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8))
        picture.save(own / f"{at:06}.jpg", quality=90)


def _pillow(content: bytes) -> Any:
    with Image.open(BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def readers() -> dict[str, Callable[[bytes], Any]]:
    """What is compared; a decoder that is not installed is left out."""
    import imagecodecs

    found: dict[str, Callable[[bytes], Any]] = {
        "bytes": len,
        "ours": to_pixels,
        "Pillow": _pillow,
        "imagecodecs": imagecodecs.jpeg8_decode,
    }
    if find_spec("simplejpeg"):
        found["simplejpeg"] = import_module("simplejpeg").decode_jpeg
    return found


def speed(found: list[Photograph], read: Callable[[bytes], Any], threads: int) -> float:
    """Images a second."""
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda one: read(one.read()), found):
            pass
    return len(found) / (time.perf_counter() - start)


def main() -> None:
    """Print medians and ranges."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with TemporaryDirectory() as made:
        folder = Path(made)
        write(folder, asked.images)
        start = time.perf_counter()
        found = [one for one in photographs(folder) if isinstance(one, Photograph)]
        listed = time.perf_counter() - start
        start = time.perf_counter()
        list(without_twins(iter(found)))
        hashed = time.perf_counter() - start
        print(f"{len(found)} files listed in {listed:.3f} s, told apart in {hashed:.3f} s")
        for threads in (1, 2):
            speeds: dict[str, list[float]] = {name: [] for name in readers()}
            for _ in range(asked.rounds):
                for name, read in readers().items():
                    speeds[name].append(speed(found, read, threads))
            for name, own in speeds.items():
                ratio = statistics.median(own) / statistics.median(speeds["Pillow"])
                print(
                    f"{threads} {'thread' if threads == 1 else 'threads'}, {name}: {statistics.median(own):,.0f} "
                    f"images/s ({min(own):,.0f} to {max(own):,.0f}), {ratio:.2f} of Pillow"
                )


if __name__ == "__main__":
    main()
