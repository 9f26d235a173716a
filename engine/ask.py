"""Ad-hoc SQL: a statement's rows as a table, Markdown, JSON, CSV or Parquet, and their pictures."""

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TextIO, get_args

from rich.console import Console
from rich.table import Table

from mothlight.engine.errors import UserError
from mothlight.engine.streams import printable
from mothlight.sql import Store
from mothlight.sql.beside import DIFFERENCES
from mothlight.sql.named import query_names, query_parameters, query_purpose, sql_text
from mothlight.sql.store import Answer

Format = Literal["table", "markdown", "csv", "json"]
FORMATS: tuple[Format, ...] = get_args(Format)
MAX_ROWS = 40
MOST_ROWS = 10_000_000
IMAGE_COLUMNS = ("image_id", "plain_image_id")
MOST_PICTURES = 10_000
WIDE = 400
"""Columns to lay a table out in where there is no terminal: lines are not folded then."""
NARROWEST = 12
"""Columns that a long value needs at least to be read; a table whose columns get less is turned on its side."""
MAGIC = {b"\xff\xd8\xff": "JPEG", b"\x89PN": "PNG", b"RIF": "WebP"}
QUOTED = frozenset(',"\r\n')


@dataclass(slots=True)
class Asked:
    """How an answer is wanted."""

    form: Format = "table"
    limit: int | None = None
    """Rows of an answer; None: few of a table, which is for people, and no more than a disk can take of others."""
    seconds: float = 120.0
    """That a statement may take."""
    parquet: Path | None = None
    """A file in place of what is printed."""
    images: Path | None = None
    """A folder for the pictures of its rows."""


def answer(
    store: Store, text: str, asked: Asked, parameters: Mapping[str, object] | None = None, out: TextIO = sys.stdout
) -> None:
    """Run statements and show what they give, as it comes.

    Raises:
        UserError: DuckDB refuses a statement, its time is over, several should become one document, or no row has an
            image whose picture is wanted; or a file can't be written.
    """
    given = dict(parameters or {})
    if asked.parquet is not None:
        rows = store.write_parquet(text, asked.parquet, given, seconds=asked.seconds, limit=asked.limit or MOST_ROWS)
        out.write(f"{rows:,} rows in {asked.parquet}\n")
        out.flush()
    if asked.images is not None:
        pictures, rows = _write_pictures(store, text, asked.images, asked.seconds, given)
        out.write(f"{pictures:,} pictures of {rows:,} rows in {asked.images}\n")
        out.flush()
    if asked.parquet is not None or asked.images is not None:
        return
    shown = 0

    def show_one(one: Answer) -> None:
        nonlocal shown
        if not one.columns:
            return
        shown += 1
        if shown > 1 and asked.form != "table":
            raise UserError(f"Several statements give answers, and one {asked.form.upper()} holds one: ask singly.")
        show(one, asked.form, asked.limit, out)

    store.each(text, show_one, given, seconds=asked.seconds)


def _write_pictures(
    store: Store, text: str, folder: Path, seconds: float, parameters: Mapping[str, object]
) -> tuple[int, int]:
    """The pictures of the rows of an answer, as files named by their ids; how many, of how many rows."""
    found: dict[str, None] = {}
    rows = 0
    for one in store.ask(text, parameters, seconds=seconds):
        places = [place for place, name in enumerate(one.columns) if name in IMAGE_COLUMNS]
        for row in one.rows:
            rows += 1
            found |= dict.fromkeys(str(row[place]) for place in places if row[place] is not None)
    if not found:
        raise UserError(f"No row has a picture: select the column {' or '.join(IMAGE_COLUMNS)}.")
    if len(found) > MOST_PICTURES:
        raise UserError(f"{len(found):,} pictures are more than {MOST_PICTURES:,}: add a limit to the statement.")
    ids = list(found)
    written = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for start in range(0, len(ids), 100):
            for image_id, jpeg in store.step("pictures", images=ids[start : start + 100]):
                (folder / f"{image_id}.jpg").write_bytes(jpeg)
                written += 1
    except OSError as error:
        raise UserError(f"Can't write to {folder}: {error.strerror}.") from error
    return written, rows


def show(answer: Answer, form: Format, limit: int | None, out: TextIO = sys.stdout) -> None:
    """Print an answer, as it comes: at most `limit` rows; without one, few of a table and nearly all otherwise.

    Raises:
        UserError: no limit was given, and there are more rows than anyone means.
    """
    names = distinct(answer.columns)
    rows = islice(answer.rows, limit) if limit else _bounded(answer.rows)
    if form == "json":
        out.write("[")
        for place, row in enumerate(rows):
            text = json.dumps(dict(zip(names, map(_plain, row), strict=True)), indent=1, allow_nan=False)
            out.write((",\n " if place else "\n ") + text.replace("\n", "\n "))
        out.write("\n]\n")
    elif form == "csv":
        out.write(",".join(map(_quoted, names)) + "\n")
        out.writelines(",".join(_quoted(_cell(value)) for value in row) + "\n" for row in rows)
    elif form == "markdown":
        out.write(f"| {' | '.join(map(_in_markdown, names))} |\n|{' --- |' * len(names)}\n")
        out.writelines(f"| {' | '.join(_in_markdown(_text(value)) for value in row)} |\n" for row in rows)
    else:
        _show_table(answer, limit or MAX_ROWS, out)
        return
    out.flush()


def _bounded(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    for place, row in enumerate(rows):
        if place == MOST_ROWS:
            raise UserError(f"There are more than {MOST_ROWS:,} rows: ask for fewer, or say --limit.")
        yield row


def _in_markdown(text: str) -> str:
    """A cell: what would end it or be read as HTML stands for itself."""
    escaped = printable(" ".join(text.split())).replace("\\", "\\\\").replace("|", "\\|")
    return escaped.replace("&", "&amp;").replace("<", "&lt;")


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
    """The named queries with what each is for and takes."""
    grid = Table(box=None, pad_edge=False, show_header=False)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name in query_names():
        grid.add_row(name, query_purpose(name))
        for one in query_parameters(name):
            how = f"{one.kind}, {one.default} unless given" if one.default is not None else one.kind
            grid.add_row("", f"  {one.name}={one.kind.upper()}  {one.help} ({how})")
    head, _, _ = sql_text(f"{DIFFERENCES}.sql").partition("\n")
    grid.add_row(DIFFERENCES, head.removeprefix("-- "))
    grid.add_row("", "  --against AUDIT  The other audit.")
    _print(out, grid)


def _show_table(answer: Answer, limit: int, out: TextIO) -> None:
    some = list(islice(answer.rows, limit + 1))
    rows = [[printable(_text(value)) for value in row] for row in some[:limit]]
    more = [f"… and more; --limit {10 * limit} shows more, --csv all"] if len(some) > limit else []
    width = Console().width if out.isatty() else WIDE
    if _too_wide(answer.columns, rows, width):
        if not rows:
            _print(out, f"No rows; the columns are {', '.join(answer.columns)}.")
            return
        _print(out, *(part for place, row in enumerate(rows, 1) for part in _on_its_side(answer, place, row)), *more)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, numeric in zip(answer.columns, _numeric(answer, some), strict=True):
        table.add_column(printable(name), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    _print(out, table, *more)


def _too_wide(names: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> bool:
    """Whether a table would fold its columns to less than can be read."""
    wanted = [
        min(max([len(name), *(len(row[column]) for row in rows)]), max(len(name), NARROWEST))
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


def _numeric(answer: Answer, rows: Sequence[Sequence[Any]]) -> list[bool]:
    first: Sequence[Any] = rows[0] if rows else [None] * len(answer.columns)
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
