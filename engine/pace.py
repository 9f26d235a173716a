"""What set the pace of an audit: the busiest stage, and what to do about it."""

from collections.abc import Iterator
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from mothlight.engine.console import share
from mothlight.engine.errors import UserError
from mothlight.engine.streams import printable
from mothlight.sql import Store
from mothlight.sql.named import query_text

IDLE = 0.5
"""A busiest stage that works less of the time does not set the pace."""
ADVICE = {
    "generate": "fewer `steps`, a smaller or faster generator, or another engine (`mothlight doctor`) make it faster; "
    "all other stages wait for it",
    "classify": "a larger `batch`, bf16 weights or another engine; fewer classifiers at once",
    "gate": "a smaller gate, a larger `batch` or another engine",
    "embed": "a smaller embedder, a larger `batch` or another engine",
    "encode": "more processor cores: pictures are compressed on the host",
    "write": "a faster disk, or more processor cores for the database",
    "caption": "a smaller captioner, a larger `batch`, or a server with more `concurrency`",
}


def pace(store: Store) -> tuple[list[dict[str, Any]], str]:
    """The stages, the busiest first, and a sentence on what sets the pace.

    Raises:
        UserError: nothing was made yet.
    """
    rows = store.records(query_text("stages"))
    if not rows:
        raise UserError(f"Nothing is known of the pace yet: {store.path} has no whole wave.")
    making = [row for row in rows if row["stage"] != "caption"] or rows
    first = max(making, key=lambda row: row["busy_share"] or 0.0)
    busy = float(first["busy_share"] or 0.0)
    kind = str(first["stage"]).partition(" ")[0]
    if busy < IDLE:
        sentence = (
            f"No stage sets the pace: the busiest, `{first['stage']}`, works {share(busy)} of the time. Larger waves "
            f"(`wave_images`) or more cores would keep all of them busier."
        )
    else:
        sentence = (
            f"`{first['stage']}` sets the pace, busy {share(busy)} of the time: {ADVICE.get(kind, 'look there')}."
        )
    return rows, sentence


def lines(store: Store) -> Iterator[Table | str]:
    """Table, efficiency and sentence, for a terminal."""
    rows, sentence = pace(store)
    table = Table(box=SIMPLE, pad_edge=False)
    table.add_column("stage")
    for name in ("images", "batch", "workers", "busy s", "for input s", "for room s", "queue", "images/s", "busy"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            printable(row["stage"]),
            f"{row['images']:,}",
            f"{row['batch']:g}",
            str(row["workers"]),
            *(f"{row[name]:,.1f}" for name in ("busy", "waiting_for_input", "waiting_for_room")),
            f"{row['queue'] or 0:.1f}",
            f"{row['images_per_second'] or 0:,.1f}",
            share(row["busy_share"]),
        )
    yield table
    ((images, seconds),) = store.rows(
        "select (select count(*) from image), (select sum(seconds) from timing where work = 'images')"
    )
    if seconds:
        yield f"{images:,} images in {seconds:,.0f} s: {images / seconds:.1f} a second."
    yield sentence


def show(store: Store, console: Console) -> None:
    """Print it."""
    for part in lines(store):
        console.print(part, highlight=False)
