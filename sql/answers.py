"""An audit in Python and in notebooks: what SQL gives, as Arrow, pandas or polars, and shown with its pictures."""

import base64
import html
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

SHOWN = 40
"""Rows that a notebook shows."""
PICTURE = "image_id"
"""The column whose pictures are shown beside its rows."""


class Table:
    """The rows of an answer; `arrow` holds them all."""

    def __init__(self, arrow: pa.Table, pictures: "dict[str, bytes] | None" = None) -> None:
        """`pictures` are JPEGs by image id, of the rows that are shown."""
        self.arrow = arrow
        self.pictures = pictures or {}

    def __len__(self) -> int:
        return int(self.arrow.num_rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.arrow.to_batches():
            yield from batch.to_pylist()

    @property
    def columns(self) -> list[str]:
        """Their names."""
        return list(self.arrow.column_names)

    def pandas(self) -> Any:
        """As a DataFrame of pandas.

        Raises:
            ImportError: pandas is not installed.
        """
        return self.arrow.to_pandas()

    def polars(self) -> Any:
        """As a DataFrame of polars.

        Raises:
            ImportError: polars is not installed.
        """
        import polars as pl  # as pandas: not among what mothlight needs

        return pl.from_arrow(self.arrow)

    def __repr__(self) -> str:
        return f"<Table of {len(self):,} rows: {', '.join(self.columns)}>"

    def _repr_html_(self) -> str:
        """The first rows as a table, with the pictures of those that have an image id."""
        head = ("", *self.columns) if self.pictures else self.columns
        lines = ["<table><thead><tr>", *(f"<th>{html.escape(name)}</th>" for name in head), "</tr></thead><tbody>"]
        for row in self.arrow.slice(0, SHOWN).to_pylist():
            cells = [f"<td>{html.escape(_text(row[name]))}</td>" for name in self.columns]
            if self.pictures:
                cells.insert(0, f"<td>{_picture(self.pictures.get(str(row.get(PICTURE))))}</td>")
            lines.append(f"<tr>{''.join(cells)}</tr>")
        more = len(self) - SHOWN
        lines.append(f"</tbody></table>{f'<p>… and {more:,} more rows</p>' if more > 0 else ''}")
        return "".join(lines)


class Picture(bytes):
    """A JPEG that a notebook shows."""

    __slots__ = ()

    def _repr_jpeg_(self) -> bytes:
        return bytes(self)


def _picture(jpeg: bytes | None) -> str:
    if jpeg is None:
        return ""
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode("ascii")}">'


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return f"<{len(value):,} bytes>"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
