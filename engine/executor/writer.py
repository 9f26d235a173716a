"""Finished batches → rows, whole chunks at a time, several chunks in one transaction."""

from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Protocol

from mothlight.engine.batch import Batch
from mothlight.engine.executor.failures import Failures
from mothlight.engine.executor.rows import Rows, Table, chunk_table, failures_of, together
from mothlight.engine.records import Chunk
from mothlight.engine.stages.caption import Caption
from mothlight.sql import Store

FLUSH_CHUNKS = 4
FLUSH_SECONDS = 2.0
FLUSH_BYTES = 32 << 20
"""Of pictures: while they are written, no more than a few batches may pile up behind them."""


def rows_of(store: Store, classifiers: Sequence[tuple[str, Sequence[str]]]) -> Rows:
    """What makes rows for a database."""
    accepted = frozenset(store.rows("select label, accepted from accepted_label"))
    bounds = store.rows("select passes_from from gate_bound order by passes_from")
    return Rows(classifiers, accepted, [bound for (bound,) in bounds])


class Written(Protocol):
    """Some whole chunks that another process made into rows."""

    @property
    def chunks(self) -> Sequence[Chunk]:
        """Which they are."""
        ...

    @property
    def tables(self) -> Sequence[Table]:
        """Their rows."""
        ...

    @property
    def failures(self) -> Sequence[str]:
        """Of each image that could not be made: which, and why."""
        ...

    @property
    def worker(self) -> str:
        """Who made them."""
        ...


class Writer:
    """The sink of the executor; to be used in the thread that owns the database."""

    def __init__(
        self,
        store: Store,
        run_id: int,
        classifiers: Sequence[tuple[str, Sequence[str]]],
        committed: Callable[[int], None] = lambda _: None,
        failures: Failures | None = None,
    ) -> None:
        """`classifiers` are names and labels in the order of the stage; `committed` hears of each flush."""
        self.store = store
        self.failures = failures or Failures(1.0)
        self.run_id = run_id
        self.rows = rows_of(store, classifiers)
        self.committed = committed
        self.open: list[Batch] = []
        self.whole: list[list[Batch]] = []
        self.elsewhere: list[Written] = []
        self.flushed = monotonic()
        self.busy = 0.0
        """Seconds spent in `flush`."""
        self.flushes, self.written = 0, 0
        """How often, and how many images."""

    def __call__(self, batch: Batch) -> None:
        """Take the next batch, in order."""
        self.open.append(batch)
        if batch.indices[-1] == batch.chunk.indices[-1]:
            self.whole.append(self.open)
            self.open = []
        if self._is_due():
            self.flush()

    def take(self, made: Written) -> None:
        """Take chunks that another process made."""
        self.elsewhere.append(made)
        if self._is_due():
            self.flush()

    def _is_due(self) -> bool:
        if not self.whole and not self.elsewhere:
            return False
        if sum(len(made.chunks) for made in self.elsewhere) >= FLUSH_CHUNKS:
            return True
        pictures = (jpeg for chunk in self.whole for batch in chunk for jpeg in batch.arrays.get("jpeg", ()))
        return (
            len(self.whole) >= FLUSH_CHUNKS
            or monotonic() - self.flushed > FLUSH_SECONDS
            or sum(len(jpeg) for jpeg in pictures if jpeg is not None) >= FLUSH_BYTES
        )

    def flush(self) -> None:
        """Commit the chunks that are whole."""
        start = monotonic()
        # taken first: if a signal strikes right after the commit, they must not be written twice
        chunks, self.whole = self.whole, []
        elsewhere, self.elsewhere = self.elsewhere, []
        own = [batches[0].chunk for batches in chunks]
        others = [chunk for made in elsewhere for chunk in made.chunks]
        rows = [*(self.rows.of(chunks) if chunks else ()), *(table for made in elsewhere for table in made.tables)]
        tables = together(rows)
        workers = [{"chunk_id": c.chunk_id, "worker": made.worker} for made in elsewhere for c in made.chunks]
        self.store.append_all([chunk_table([*own, *others], self.run_id), *tables.items(), ("chunk_worker", workers)])
        images = sum(chunk.images for chunk in (*own, *others))
        self.flushed = monotonic()
        self.busy += self.flushed - start
        self.flushes += 1
        self.written += images
        self.committed(images)
        failed = [said for chunk in chunks for batch in chunk for said in failures_of(batch)]
        failed += [one for made in elsewhere for one in made.failures]
        by_model = tables["model_failure"].to_pylist() if "model_failure" in tables else []
        self._count_failures(failed, by_model, images)

    def _count_failures(self, failed: Sequence[str], by_model: Sequence[Mapping[str, str]], images: int) -> None:
        """What failed is committed by now, as rows; whether it is too much is asked afterwards."""
        self.failures.count("generate", images, len(failed), "".join(failed[-1:]))
        for name in (*(name for name, _ in self.rows.classifiers), "embedder"):
            own = [row for row in by_model if row["model"] == name]
            last = "".join(f"image {row['image_id']}: {row['reason']}" for row in own[-1:])
            self.failures.count(name, images - len(failed), len(own), last)


class CaptionWriter:
    """The sink for captions; a chunk's are committed together."""

    def __init__(
        self, store: Store, committed: Callable[[int], None] = lambda _: None, failures: Failures | None = None
    ) -> None:
        """`committed` hears of each chunk."""
        self.store = store
        self.failures = failures or Failures(1.0)
        self.committed = committed
        self.open: list[tuple[str, Caption]] = []

    def __call__(self, batch: Batch) -> None:
        """Take the next batch, in order."""
        own = range(len(batch.indices))
        self.open += [(batch.arrays["image_id"][row], batch.arrays["caption"][row]) for row in own]
        if batch.indices[-1] == batch.chunk.indices[-1]:
            made, self.open = self.open, []
            self.commit(made)

    def commit(self, made: Sequence[tuple[str, Caption]]) -> None:
        """Write captions by image."""
        said = [{"image_id": key, "text": one.text} for key, one in made if not one.refused]
        refused = [{"image_id": key, "reason": one.refused} for key, one in made if one.refused]
        self.store.append_all([("caption", said), ("caption_failure", refused)])
        self.committed(len(made))
        last = "".join(f"image {row['image_id']}: {row['reason']}" for row in refused[-1:])
        self.failures.count("caption", len(made), len(refused), last)


class SecondWriter:
    """The sink for images that failed and are tried a second time: what comes of it takes the failure's place."""

    def __init__(self, store: Store, classifiers: Sequence[tuple[str, Sequence[str]]]) -> None:
        self.store = store
        self.rows = rows_of(store, classifiers)

    def __call__(self, batch: Batch) -> None:
        """Take the next batch."""
        tables = self.rows.of([[batch]])
        failed = [{**row, "asked_again": True} for row in dict(tables)["item_failure"].to_pylist()]
        made = [("item_failure", failed), *(one for one in tables if one[0] != "item_failure")]
        forget = "delete from item_failure where prompt_id = $prompt and list_contains($indices, index)"
        with self.store.transaction():
            self.store.rows(forget, prompt=batch.chunk.prompt.prompt_id, indices=list(batch.indices))
            for name, rows in made:
                self.store.append(name, rows)
