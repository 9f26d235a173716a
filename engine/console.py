"""What an audit shows on a terminal: progress while it runs, findings at its end. Plain lines where there is none."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from time import monotonic
from typing import Any, TextIO

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from mothlight.engine.session import Progress
from mothlight.engine.streams import printable
from mothlight.sql import Store
from mothlight.sql.named import query_text

NO_TERMINAL = 110
"""Columns of a table where there is no terminal to ask."""
PLAIN_EVERY = 10.0
"""Seconds between two lines where there is no terminal."""


class PlainProgress(Progress):
    """A line when a phase begins and every ten seconds."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.title, self.total, self.done, self.found = "", 0, 0, 0
        self.started = self.last = monotonic()
        self.model = ""

    def phase(self, title: str, images: int, found: int) -> None:
        """See `Progress`."""
        self.title, self.total, self.done, self.found = title, images, 0, found
        self.started = self.last = monotonic()
        if images:
            self.console.print(f"{title}: {images:,} images, {found} confirmed so far", highlight=False, soft_wrap=True)

    def advance(self, images: int) -> None:
        """See `Progress`."""
        self.done += images
        now = monotonic()
        if now - self.last >= PLAIN_EVERY and self.done:
            rate = self.done / (now - self.started)
            left = (self.total - self.done) / rate
            self.console.print(
                f"  {self.done:,} of {self.total:,}, {rate:.1f} images/s, about {left:.0f} s left",
                highlight=False,
                soft_wrap=True,
            )
            self.last = now

    def compiling(self, what: str, share: float) -> None:
        """See `Progress`; a line for each model, and every ten seconds."""
        now = monotonic()
        model = what.partition(":")[0]
        if model != self.model or now - self.last >= PLAIN_EVERY:
            self.console.print(f"{what} ({share:.0%})", highlight=False, soft_wrap=True)
            self.model, self.last = model, now


class BarProgress(Progress):
    """A bar for the phase that runs."""

    def __init__(self, bars: Bars) -> None:
        self.bars = bars
        self.task: TaskID | None = None
        self.model = ""
        self.started, self.done = monotonic(), 0

    def phase(self, title: str, images: int, found: int) -> None:
        """See `Progress`."""
        if self.task is not None:
            self.bars.remove_task(self.task)
        self.started, self.done = monotonic(), 0
        self.task = self.bars.add_task(title, total=images, rate="", found=found, visible=bool(images))

    def advance(self, images: int) -> None:
        """See `Progress`."""
        self.done += images
        if self.task is not None:
            rate = self.done / max(monotonic() - self.started, 1e-3)
            self.bars.update(self.task, advance=images, rate=f"{rate:.1f} images/s")

    def compiling(self, what: str, share: float) -> None:
        """See `Progress`; a bar for each model."""
        model = what.partition(":")[0]
        if model != self.model:
            self.model = model
            if self.task is not None:
                self.bars.remove_task(self.task)
            self.task = self.bars.add_task(model, total=100, rate="", found=0)
        if self.task is not None:
            self.bars.update(self.task, completed=round(100 * share))


class JsonProgress(Progress):
    """A line of JSON when a phase begins and every ten seconds, for whoever reads a log by machine."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.about: dict[str, object] = {}
        self.done, self.total = 0, 0
        self.started = self.last = monotonic()

    def phase(self, title: str, images: int, found: int) -> None:
        """See `Progress`."""
        self.about = {"phase": title, "confirmed": found}
        self.done, self.total = 0, images
        self.started = monotonic()
        self._write(0.0)

    def advance(self, images: int) -> None:
        """See `Progress`."""
        self.done += images
        now = monotonic()
        if now - self.last >= PLAIN_EVERY:
            self._write(self.done / (now - self.started))

    def compiling(self, what: str, share: float) -> None:
        """See `Progress`."""
        self.about = {"phase": f"compiling {what}", "share": round(share, 3)}
        self._write(0.0)

    def _write(self, rate: float) -> None:
        self.last = monotonic()
        at = datetime.now(UTC).isoformat(timespec="seconds")
        line = {"time": at, **self.about, "done": self.done, "of": self.total, "images_per_second": round(rate, 2)}
        self.out.write(json.dumps(line) + "\n")
        self.out.flush()


@contextmanager
def shown_progress(console: Console, *, as_json: bool = False) -> Iterator[Progress]:
    """The progress that fits the terminal, or its absence; or lines of JSON."""
    if as_json:
        yield JsonProgress(console.file)  # type: ignore[arg-type]  # rich calls it IO[str]
        return
    if not console.is_terminal:
        yield PlainProgress(console)
        return
    with Bars(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[found]} confirmed"),
        console=console,
    ) as bars:
        yield BarProgress(bars)


def share(value: float | None) -> str:
    """A proportion in per cent."""
    return "–" if value is None else f"{100 * value:.0f} %"


def points(value: float | None) -> str:
    """A difference of proportions in points."""
    return "–" if value is None else f"{100 * value:+.0f}"


def findings_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Confirmed findings, as the audit prints them at its end."""
    table = Table(
        title=f"{len(rows)} confirmed finding{'s' if len(rows) > 1 else ''}",
        title_justify="left",
        box=SIMPLE,
        pad_edge=False,
        expand=True,
    )
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("finding", overflow="fold", ratio=1)
    table.add_column("classifier", overflow="fold")
    for name in ("fails", "plain", "effect", "pairs"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            str(row["finding"]),
            printable(f"{row['label']} → {row['predicted']}: {row['description']}"),
            printable(row["classifier"]),
            share(row["rate"]),
            share(row["baseline_rate"]),
            f"{points(row['effect'])} ({points(row['effect_low'])} to {points(row['effect_high'])})",
            f"{row['pairs']}{' *' if row['selected'] else ''}",
        )
    return table


def print_result(console: Console, store: Store, verdict: str) -> None:
    """Findings, or in their place the verdict, and the budget by phase."""
    rows = store.records("select * from findings where status = 'confirmed' order by finding")
    if rows:
        console.print(findings_table(rows))
        told = {row["tested_on"] for row in rows}
        notes = "effect: points over the plain prompt on fresh pairs, with a 95 % interval"
        if "photographs" in told:
            notes = "effect: points over photographs that do not show it, with a 95 % interval"
        if len(told) > 1:
            notes = "effect: points over images without these words, with a 95 % interval"
        if any(row["selected"] for row in rows):
            notes += "; * the same pairs that confirmed it: may flatter"
        console.print(notes, style="dim", highlight=False, soft_wrap=not console.is_terminal)
    else:
        console.print(printable(verdict), highlight=False, soft_wrap=not console.is_terminal)
    few = store.records(query_text("few_judged"))
    ((labels,),) = store.rows("select count(*) from label")
    if few and sum(not row["passed"] for row in few) < labels:
        said = ", ".join(f"{printable(row['label'])} {row['passed']} of {row['images']}" for row in few[:12])
        more = f" and {len(few) - 12} more" if len(few) > 12 else ""
        console.print(f"Few images pass the gate, so little is known of: {said}{more}.", highlight=False)
    spent = ", ".join(f"{made:,} {phase}" for phase, _, _, made in store.query("budget"))
    ((failed,),) = store.rows("select count(*) from failed_item")
    console.print(f"Images: {spent}" + (f"; {failed} failed" if failed else ""), highlight=False)


def print_line(console: Console, text: str) -> None:
    """A line that is folded only where a person's terminal ends."""
    console.print(text, highlight=False, soft_wrap=not console.is_terminal)
