"""Room on the disk: what an audit will need, and the floor at which it stops before there is none."""

import shutil
from pathlib import Path

from mothlight.engine.errors import DiskFullError

FLOOR = 512 << 20
"""Bytes that stay free, for the journal that is written into the file at the end, and for the report."""
ROWS = 3000
"""Bytes of an image's rows and indices beside its picture, its embedding and what the classifiers say."""
CLASSIFIER = 400
"""Bytes of what a classifier says of an image."""
SLACK = 1.3
"""A file has room between its rows."""


def image_bytes(picture: float, embedding: int, classifiers: int) -> int:
    """What an image takes in the database, about: its JPEG in bytes, an embedding of so many numbers, predictions.

    Measured on the built-in audit: 10 kB an image of 64 × 64 whose JPEG has 3.5 kB, with three classifiers.
    """
    return round(ROWS + SLACK * (picture + 4 * embedding + CLASSIFIER * classifiers))


def check_room(folder: Path) -> None:
    """Whether there is room above the floor.

    Raises:
        DiskFullError: there is not.
    """
    free = shutil.disk_usage(folder).free
    if free < FLOOR:
        raise DiskFullError(
            f"The disk is nearly full: {in_words(free)} are left at {folder}, and {in_words(FLOOR)} must stay free. "
            f"What was committed is kept; free some space and start the same command again."
        )


def in_words(size: float) -> str:
    """Bytes with a unit."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"
