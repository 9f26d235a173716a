"""`mothlight watch`: how far an audit is, asked from another shell."""

import time
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

from mothlight.engine.errors import LockedError
from mothlight.engine.streams import printable
from mothlight.sql import Store
from mothlight.sql.named import query_text

PATIENCE = 30
"""Seconds in which an audit that is being written need not answer."""
DOING = {
    "discovery": "looking for failures",
    "test": "testing",
    "reserve": "measuring",
    "photographs": "looking at photographs",
    "proof": "judging photographs",
}
"""What each phase is about."""
LOOKED_BACK = 6
"""So many looks make the rate."""


def watch(
    open_store: Callable[[], Store],
    every: float,
    now: Callable[[], float] = monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[str]:
    """A line for each look, until nobody writes the audit any more.

    Raises:
        LockedError: somebody writes it and does not answer.
    """
    seen: list[tuple[float, int]] = []
    patience = PATIENCE
    while True:
        try:
            store = open_store()
        except LockedError:  # it begins, or ends, and does not answer just then
            patience -= 1
            if not patience:
                raise
            sleep(1.0)
            continue
        patience = PATIENCE
        with store:
            running = store.is_running
            (row,) = store.records(query_text("progress")) or [{}]
        if row:
            seen = [*seen, (now(), int(row["images"]))][-LOOKED_BACK:]
            yield _line(row, _rate(seen), running=running)
        else:
            yield "It has not begun yet."
        if not running:
            return
        sleep(every)


def _rate(seen: list[tuple[float, int]]) -> float:
    """Images per second over the last looks."""
    (first, before), (last, after) = seen[0], seen[-1]
    return (after - before) / (last - first) if last > first else 0.0


def _line(row: dict[str, Any], rate: float, *, running: bool) -> str:
    where = f"{printable(row['name'])}: "
    if row["wave"] is None:
        where += "no wave yet"
    else:
        doing = DOING[row["phase"]]
        where += f"{doing}, wave {row['wave']}, {row['made']:,} of {row['planned']:,}"
    parts = [where, f"{row['images']:,} of at most {row['max_images'] or 0:,} images"]
    if running and rate > 0:
        left = max((row["max_images"] or 0) - row["images"], 0) / rate
        parts.append(f"{rate:.1f} a second, at most {_duration(left)} left")
    bugs, tests = row["bugs"], row["confirmed"]
    parts.append(f"{bugs} bug{'' if bugs == 1 else 's'} in {tests} confirmed finding{'' if tests == 1 else 's'}")
    if row["failed"]:
        parts.append(f"{row['failed']:,} failed")
    if not running:
        parts.append(f"ended: {row['ended']}" if row["ended"] else "not running, and not at its end")
    return "; ".join(parts)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
