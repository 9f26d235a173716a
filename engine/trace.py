"""A run as Chrome's trace format (chrome://tracing, Perfetto): which stage worked on which batch, and when."""

import json
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Self

from mothlight.engine.batch import Batch
from mothlight.engine.errors import UserError


class Trace:
    """A file of events, written as they come: a JSON array whose end may be missing, as the format allows."""

    def __init__(self, path: Path) -> None:
        """Begin the file.

        Raises:
            UserError: it can't be written.
        """
        try:
            self.file = path.open("w", encoding="utf-8")
        except OSError as error:
            raise UserError(f"Can't write the trace {path}: {error.strerror}.") from error
        self.file.write("[\n")
        self.began = perf_counter()
        self.offset = 0.0
        self.rows: list[tuple[str, float]] = []
        """Stage, and when its last event ended: workers side by side have a row each."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.write("{}]\n")
        self.file.close()

    def begin(self) -> None:
        """What comes next counts its time from now."""
        self.offset = perf_counter() - self.began

    def __call__(self, stage: str, batch: Batch, start: float, end: float) -> None:
        """See `pipeline.Watch`."""
        row = self._row(stage, self.offset + start, self.offset + end)
        event = {
            "name": stage,
            "ph": "X",
            "ts": round(1e6 * (self.offset + start)),
            "dur": round(1e6 * (end - start)),
            "pid": 1,
            "tid": row,
            "args": {
                "label": batch.chunk.prompt.label,
                "prompt": batch.chunk.prompt.text,
                "wave": batch.chunk.wave,
                "indices": f"{batch.indices[0]} to {batch.indices[-1]}",
            },
        }
        self.file.write(json.dumps(event) + ",\n")

    def _row(self, stage: str, start: float, end: float) -> int:
        for row, (name, ended) in enumerate(self.rows):
            if name == stage and ended <= start:
                self.rows[row] = (stage, end)
                return row
        self.rows.append((stage, end))
        row = len(self.rows) - 1
        named = {"name": "thread_name", "ph": "M", "pid": 1, "tid": row, "args": {"name": stage}}
        self.file.write(json.dumps(named) + ",\n")
        return row
