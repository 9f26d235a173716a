"""Asks what a report shows: the queries in `sql/report`, those of pictures in little memory."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from mothlight.sql import Store
from mothlight.sql.named import sql_text

ROWS = 2048
"""DuckDB reads so many rows at once, their pictures with them, however few are asked for: at 100 kB each 200 MB."""


Row = dict[str, Any]


def asked(store: Store, name: str, **parameters: object) -> list[Row]:
    """What `sql/report/<name>.sql` gives; one dictionary per row."""
    return store.records(sql_text("report", f"{name}.sql"), **parameters)


def in_blocks(store: Store, name: str, images: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """What `sql/report/<name>.sql` says of images, in the order of their rows; it takes a range of these."""
    places = store.rows(sql_text("report", "places.sql"), images=list(images))
    for block, own in groupby(places, lambda row: row[1] // ROWS):
        yield from store.rows(
            sql_text("report", f"{name}.sql"),
            first=block * ROWS,
            last=block * ROWS + ROWS - 1,
            images=[image for image, _ in own],
        )
