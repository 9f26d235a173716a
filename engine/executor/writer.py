"""Finished batches → rows, whole chunks at a time, several chunks in one transaction."""

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

import pyarrow as pa

from mothlight.engine.batch import Batch
from mothlight.engine.records import Chunk
from mothlight.sql import Store

FLUSH_CHUNKS = 4
FLUSH_SECONDS = 2.0
Rows = dict[str, list[dict[str, Any]]]
SCHEMAS = {
    "prediction": pa.schema(
        [
            ("image_id", pa.string()),
            ("classifier", pa.string()),
            ("predicted", pa.string()),
            ("score", pa.float32()),
            ("label_score", pa.float32()),
            ("top_labels", pa.list_(pa.string())),
            ("top_scores", pa.list_(pa.float32())),
        ]
    ),
    "embedding": pa.schema([("image_id", pa.string()), ("vector", pa.list_(pa.float32()))]),
    "gate_score": pa.schema([("image_id", pa.string()), ("score", pa.float32())]),
}
"""Of the tables that hold floats: Arrow would otherwise widen them."""


class Writer:
    """The sink of the executor; to be used in the thread that owns the database."""

    def __init__(
        self,
        store: Store,
        run_id: int,
        classifiers: Sequence[tuple[str, Sequence[str]]],
        committed: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`classifiers` are names and labels in the order of the stage; `committed` hears of each flush."""
        self.store = store
        self.run_id = run_id
        self.classifiers = classifiers
        self.committed = committed
        self.open: list[Batch] = []
        self.whole: list[list[Batch]] = []
        self.flushed = monotonic()
        self.busy = 0.0
        """Seconds spent in `flush`."""

    def __call__(self, batch: Batch) -> None:
        """Take the next batch, in order."""
        self.open.append(batch)
        if batch.indices[-1] == batch.chunk.indices[-1]:
            self.whole.append(self.open)
            self.open = []
        if len(self.whole) >= FLUSH_CHUNKS or (self.whole and monotonic() - self.flushed > FLUSH_SECONDS):
            self.flush()

    def flush(self) -> None:
        """Commit the chunks that are whole."""
        start = monotonic()
        # taken first: if a signal strikes right after the commit, they must not be written twice
        chunks, self.whole = self.whole, []
        rows: Rows = {name: [] for name in ("chunk", "image", "prediction", "embedding", "gate_score", "item_failure")}
        for chunk in chunks:
            for name, more in chunk_rows(chunk, self.run_id, self.classifiers).items():
                rows[name] += more
        with self.store.transaction():
            for name, more in rows.items():
                schema = SCHEMAS.get(name)
                self.store.append(name, pa.Table.from_pylist(more, schema=schema) if schema else more)
        images = sum(len(batch.indices) for chunk in chunks for batch in chunk)
        self.flushed = monotonic()
        self.busy += self.flushed - start
        self.committed(images)


def chunk_rows(chunk: Sequence[Batch], run_id: int, classifiers: Sequence[tuple[str, Sequence[str]]]) -> Rows:
    """The rows of a whole chunk, by table; an item that failed is one row in `item_failure` and no other."""
    made = chunk[0].chunk
    rows: Rows = {
        "chunk": [
            {
                "chunk_id": made.chunk_id,
                "prompt_id": made.prompt.prompt_id,
                "wave": made.wave,
                "first_index": made.first_index,
                "images": made.images,
                "run_id": run_id,
            }
        ],
        "item_failure": [],
        "image": [],
        "prediction": [],
        "embedding": [],
        "gate_score": [],
    }
    for batch in chunk:
        for row, index in enumerate(batch.indices):
            if index in batch.failures:
                place = {"chunk_id": made.chunk_id, "prompt_id": made.prompt.prompt_id, "index": index}
                rows["item_failure"].append({**place, "reason": batch.failures[index]})
                continue
            _add_image(rows, made, batch, row, index)
            image_id = made.image_id(index)
            for position, (name, labels) in enumerate(classifiers):
                rows["prediction"].append(_prediction(batch, row, position, image_id, name, labels))
    return rows


def _add_image(rows: Rows, chunk: Chunk, batch: Batch, row: int, index: int) -> None:
    image_id = chunk.image_id(index)
    rows["image"].append(
        {
            "image_id": image_id,
            "chunk_id": chunk.chunk_id,
            "prompt_id": chunk.prompt.prompt_id,
            "index": index,
            "jpeg": batch.arrays["jpeg"][row],
        }
    )
    rows["embedding"].append({"image_id": image_id, "vector": batch.arrays["embedding"][row]})
    rows["gate_score"].append({"image_id": image_id, "score": batch.arrays["gate"][row]})


def _prediction(
    batch: Batch, row: int, position: int, image_id: str, name: str, labels: Sequence[str]
) -> dict[str, Any]:
    top = [labels[k] for k in batch.arrays[f"indices_{position}"][row]]
    scores = batch.arrays[f"scores_{position}"][row]
    return {
        "image_id": image_id,
        "classifier": name,
        "predicted": top[0],
        "score": scores[0],
        "label_score": batch.arrays[f"score_{position}"][row],
        "top_labels": top,
        "top_scores": scores,
    }
