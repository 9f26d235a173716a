"""The pictures of a report: as files beside its pages, or inside of its one page."""

import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path

from markupsafe import Markup
from PIL import Image

SHOWN = 256
"""Pixels of the longer side in the page."""
TINY = 128
"""Up to that, a picture is enlarged with its pixels seen; a larger one is a photograph, and drawn smoothly."""
FOLDER = "images"
ROOM = 2_000_000
"""Bytes of pictures that one page holds inside."""
Read = Callable[[Sequence[str]], Iterable[tuple[str, bytes]]]
"""The ids of images with their JPEGs, in any order; one that was not kept is missing."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as a page shows it."""

    source: str
    """Where it lies: an address relative to the page, or its data."""
    kept: str
    """The address of the same in the size that was kept; empty: it has none."""
    width: int
    height: int
    tiny: bool


class PictureFiles:
    """Pictures as files beside the pages; one that lies there is not read again."""

    def __init__(self, folder: Path, read: Read, *, trusted: bool) -> None:
        self.folder = folder
        self.read = read
        self.trusted = trusted
        """Whether what lies there is of this audit."""
        self.names: set[str] = set()
        """The files that the pages show."""
        self.damaged: set[str] = set()
        self.known: dict[str, Picture] = {}

    def prepare(self, images: Mapping[str, bool]) -> None:
        """Lay pictures down in the size of the page and, where so asked, in the size that was kept.

        Raises:
            OSError: a file can't be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        missing = [
            image for image, as_kept in images.items() if not (self.trusted and self._find(image, as_kept=as_kept))
        ]
        for image, jpeg in self.read(missing) if missing else ():
            self._write(image, jpeg, as_kept=images[image])

    def of(self, image: str) -> Picture | None:
        """A picture that was laid down; None where it was not kept, or is damaged."""
        return self.known.get(image)

    def _find(self, image: str, *, as_kept: bool) -> bool:
        name = safe_name(image)
        small, kept = self.folder / f"{name}.jpg", self.folder / f"{name}.kept.jpg"
        size = _size(small)
        if size is None:
            return False
        if as_kept and max(size) == SHOWN and not kept.is_file():
            return False  # whether it was larger is not known
        self._know(image, size, kept.is_file())
        return True

    def _write(self, image: str, jpeg: bytes, *, as_kept: bool) -> None:
        shown = scaled(jpeg)
        if shown is None:
            self.damaged.add(image)
            return
        small, size = shown
        name = safe_name(image)
        write_whole(self.folder / f"{name}.jpg", small)
        larger = as_kept and small is not jpeg
        if larger:
            write_whole(self.folder / f"{name}.kept.jpg", jpeg)
        self._know(image, size, larger)

    def _know(self, image: str, size: tuple[int, int], larger: bool) -> None:  # noqa: FBT001  # private, one fact
        name = safe_name(image)
        source = f"{FOLDER}/{name}.jpg"
        kept = f"{FOLDER}/{name}.kept.jpg" if larger else source
        self.names |= {source, kept}
        self.known[image] = Picture(source, kept, *size, tiny=max(size) <= TINY)


class PicturesInside:
    """Pictures inside of one page, until they have taken their room."""

    def __init__(self, read: Read) -> None:
        self.read = read
        self.left = ROOM
        self.damaged: set[str] = set()
        self.known: dict[str, Picture] = {}

    def prepare(self, images: Mapping[str, bool]) -> None:
        """Read pictures; those that come first in the mapping find room."""
        found = {image: scaled(jpeg) for image, jpeg in self.read(list(images))} if images else {}
        for image in images:
            match found.get(image, ()):
                case None:
                    self.damaged.add(image)
                case (small, size):
                    self._take(image, small, size)

    def _take(self, image: str, small: bytes, size: tuple[int, int]) -> None:
        data = f"data:image/jpeg;base64,{b64encode(small).decode()}"
        if len(data) <= self.left:
            self.left -= len(data)
            # our own characters; as text it would be cut where other texts are
            self.known[image] = Picture(Markup(data), "", *size, tiny=max(size) <= TINY)  # noqa: S704

    def of(self, image: str) -> Picture | None:
        """A picture; None where it was not kept, is damaged, or found no room."""
        return self.known.get(image)


def scaled(jpeg: bytes) -> tuple[bytes, tuple[int, int]] | None:
    """A picture as large as a page shows it, and its size; the very bytes if it is not larger; None: damaged."""
    try:
        with Image.open(BytesIO(jpeg), formats=["JPEG"]) as image:
            if max(image.size) <= SHOWN:
                image.load()
                return jpeg, image.size
            image.draft("RGB", (SHOWN, SHOWN))
            small = image.convert("RGB")
            small.thumbnail((SHOWN, SHOWN))
            out = BytesIO()
            small.save(out, "JPEG", quality=82)
            return out.getvalue(), small.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None


def safe_name(image: str) -> str:
    """An id as the name of a file: ids are hashes in hex, whatever else stands there is hashed."""
    return image if re.fullmatch(r"[0-9a-f]{8,64}", image) else sha256(image.encode()).hexdigest()[:32]


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is whole or not there.

    Raises:
        OSError: it can't be written.
    """
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(content)
    beside.replace(path)


def _size(path: Path) -> tuple[int, int] | None:
    try:
        with Image.open(path, formats=["JPEG"]) as image:
            return image.size
    except (OSError, SyntaxError):
        return None
