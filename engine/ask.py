"""Ad-hoc SQL: a statement's rows as a table, JSON or CSV."""

import json
import math
import sys
from collections.abc import Sequence
from datetime import date, datetime, time
from decimal import Decimal
from io import StringIO
from typing import Any, Literal, TextIO

from rich.console import Console
from rich.table import Table

from mothlight.engine.console import printable
from mothlight.sql import Store
from mothlight.sql.store import Answer, query_names, query_purpose

Format = Literal["table", "json", "csv"]
MAX_ROWS = 40
WIDE = 400
"""Columns to lay a table out in where there is no terminal: lines are not folded then."""
NARROWEST = 12
"""Columns that a long value needs at least to be read; a table whose columns get less is turned on its side."""
MAGIC = {b"\xff\xd8\xff": "JPEG", b"\x89PN": "PNG", b"RIF": "WebP"}
QUOTED = frozenset(',"\r\n')


def show(answer: Answer, form: Format, limit: int, out: TextIO = sys.stdout) -> None:
    """Print an answer: at most `limit` rows as a table, all of them as JSON or CSV."""
    names = distinct(answer.columns)
    if form == "json":
        rows = [dict(zip(names, map(_plain, row), strict=True)) for row in answer.rows]
        json.dump(rows, out, indent=1, allow_nan=False)
        out.write("\n")
    elif form == "csv":
        out.writelines(
            ",".join(_quoted(cell) for cell in row) + "\n"
            for row in (names, *([_cell(value) for value in row] for row in answer.rows))
        )
    else:
        _show_table(answer, limit, out)
        return
    out.flush()


def distinct(names: Sequence[str]) -> list[str]:
    """The names of columns, those that stood before with a number: `n`, `n_2`."""
    seen: list[str] = []
    for name in names:
        unique, count = name, 1
        while unique in seen:
            count += 1
            unique = f"{name}_{count}"
        seen.append(unique)
    return seen


def show_views(store: Store, out: TextIO = sys.stdout) -> None:
    """The views with what each is for and its columns, then the tables with theirs."""
    columns: dict[str, list[str]] = {}
    for table, column in store.rows("select table_name, column_name from duckdb_columns() where not internal"):
        columns.setdefault(table, []).append(column)
    grid = Table(box=None, pad_edge=False, show_header=False)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    views = "select view_name, comment from duckdb_views() where not internal order by view_name"
    tables = "select table_name, comment from duckdb_tables() where not internal order by table_name"
    for title, statement in (("views", views), ("tables", tables)):
        grid.add_row(f"{title}:", "")
        for name, comment in store.rows(statement):
            grid.add_row(f"  {name}", comment)
            grid.add_row("", f"  {', '.join(columns.get(name, []))}")
    _print(out, grid)


def show_queries(out: TextIO = sys.stdout) -> None:
    """The named queries with what each is for."""
    grid = Table(box=None, pad_edge=False, show_header=False)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name in query_names():
        grid.add_row(name, query_purpose(name))
    _print(out, grid)


def _show_table(answer: Answer, limit: int, out: TextIO) -> None:
    rows = [[printable(_text(value)) for value in row] for row in answer.rows[:limit]]
    more = [f"… {len(answer.rows) - limit:,} more"] if len(answer.rows) > limit else []
    width = Console().width if out.isatty() else WIDE
    if _too_wide(answer.columns, rows, width):
        if not rows:
            _print(out, f"No rows; the columns are {', '.join(answer.columns)}.")
            return
        _print(out, *(part for place, row in enumerate(rows, 1) for part in _on_its_side(answer, place, row)), *more)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, numeric in zip(answer.columns, _numeric(answer), strict=True):
        table.add_column(printable(name), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    _print(out, table, *more)


def _too_wide(names: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> bool:
    """Whether a table would fold its columns to less than can be read."""
    wanted = [
        min(max(len(name), *(len(row[column]) for row in rows)), max(len(name), NARROWEST))
        for column, name in enumerate(names)
    ]
    return sum(wanted) + len(wanted) - 1 > width


def _on_its_side(answer: Answer, place: int, row: Sequence[str]) -> list[Table | str]:
    """A row as one line per column."""
    grid = Table(box=None, pad_edge=False, show_header=False)
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    for name, value in zip(answer.columns, row, strict=True):
        grid.add_row(printable(name), value)
    return [f"row {place}", grid]


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
    return [isinstance(value, int | float | Decimal) and not isinstance(value, bool) for value in first]


def _text(value: object) -> str:
    """A value for a person."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return _cell(value)


def _cell(value: object) -> str:
    """A value in full."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple | dict):
        return json.dumps(_plain(value), ensure_ascii=False)
    return _blob(value) if isinstance(value, bytes) else str(value)


def _quoted(cell: str) -> str:
    """A field of a CSV (RFC 4180); Python's own writer leaves a lone carriage return bare."""
    return '"' + cell.replace('"', '""') + '"' if QUOTED & set(cell) else cell


def _plain(value: object) -> object:  # noqa: PLR0911  # one line per kind of value
    """A value that JSON can hold; what is no number there (NaN, infinity) is null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, bytes):
        return _blob(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, list | tuple | set):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    return value if isinstance(value, str | int | None) else str(value)


def _blob(value: bytes) -> str:
    return f"<{MAGIC.get(value[:3], 'blob')} {max(1, round(len(value) / 1000))} kB>"
