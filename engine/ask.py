"""Ad-hoc SQL: a statement's rows as a table, JSON or CSV."""

import csv
import json
import sys
from collections.abc import Sequence
from datetime import datetime
from io import StringIO
from typing import Any, Literal, TextIO

from rich.console import Console
from rich.table import Table

from mothlight.engine.console import printable
from mothlight.sql import Store
from mothlight.sql.store import Answer

Format = Literal["table", "json", "csv"]
MAX_ROWS = 40
WIDE = 400
"""Columns to lay a table out in where there is no terminal: lines are not folded then."""
MAGIC = {b"\xff\xd8\xff": "JPEG", b"\x89PN": "PNG", b"RIF": "WebP"}


def show(answer: Answer, form: Format, limit: int, out: TextIO = sys.stdout) -> None:
    """Print an answer: at most `limit` rows as a table, all of them as JSON or CSV."""
    if form == "json":
        json.dump([dict(zip(answer.columns, map(_plain, row), strict=True)) for row in answer.rows], out, indent=1)
        out.write("\n")
    elif form == "csv":
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(answer.columns)
        writer.writerows([_text(value) for value in row] for row in answer.rows)
    else:
        _show_table(answer, limit, out)
        return
    out.flush()


def show_views(store: Store, out: TextIO = sys.stdout) -> None:
    """The views with what each is for, then the tables' names."""
    views = store.rows("select view_name, comment from duckdb_views() where not internal order by view_name")
    tables = store.rows("select table_name from duckdb_tables() where not internal order by table_name")
    grid = Table(box=None, pad_edge=False, show_header=False)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, comment in views:
        grid.add_row(name, comment)
    _print(out, grid, f"Tables: {', '.join(name for (name,) in tables)}")


def _show_table(answer: Answer, limit: int, out: TextIO) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, numeric in zip(answer.columns, _numeric(answer), strict=True):
        table.add_column(printable(name), justify="right" if numeric else "left", overflow="fold")
    for row in answer.rows[:limit]:
        table.add_row(*(printable(_text(value)) for value in row))
    _print(out, table, *([f"… {len(answer.rows) - limit:,} more"] if len(answer.rows) > limit else []))


def _print(out: TextIO, *parts: Table | str) -> None:
    """Lay out first, then write: rich itself turns a closed pipe into exit code 1."""
    terminal = out.isatty()
    text = StringIO()
    console = Console(
        file=text, width=Console().width if terminal else WIDE, force_terminal=terminal, markup=False, highlight=False
    )
    console.print(*parts, sep="\n")
    out.write("".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines()))
    out.flush()


def _numeric(answer: Answer) -> list[bool]:
    first: Sequence[Any] = answer.rows[0] if answer.rows else [None] * len(answer.columns)
    return [isinstance(value, int | float) and not isinstance(value, bool) for value in first]


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return _blob(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return _blob(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return value if isinstance(value, str | int | float | bool | list | dict | None) else str(value)


def _blob(value: bytes) -> str:
    return f"<{MAGIC.get(value[:3], 'blob')} {max(1, round(len(value) / 1000))} kB>"
