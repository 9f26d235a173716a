"""Finished batches → the rows of their images."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mothlight.engine.batch import Batch
from mothlight.engine.records import Chunk, image_id_of

Table = tuple[str, pa.Table]
OF_PREDICTION = ("image_id", "prompt_id", "wave", "index", "gate_score", "label")
"""What a prediction is told of its image."""


def chunk_table(made: Sequence[Chunk], run_id: int) -> Table:
    """One row for each whole chunk."""
    columns = {
        "chunk_id": pa.array([chunk.chunk_id for chunk in made], pa.string()),
        "prompt_id": pa.array([chunk.prompt.prompt_id for chunk in made], pa.string()),
        "wave": pa.array([chunk.wave for chunk in made], pa.int32()),
        "first_index": pa.array([chunk.first_index for chunk in made], pa.int64()),
        "images": pa.array([chunk.images for chunk in made], pa.int32()),
        "run_id": pa.array([run_id] * len(made), pa.int32()),
    }
    return "chunk", pa.table(columns)


def together(tables: Sequence[Table]) -> dict[str, pa.Table]:
    """Tables of the same name as one, in the order in which the names come first; without those that are empty."""
    of: dict[str, list[pa.Table]] = {}
    for name, table in tables:
        if table.num_rows:
            of.setdefault(name, []).append(table)
    return {name: pa.concat_tables(own) for name, own in of.items()}


def failures_of(batch: Batch) -> list[str]:
    """Of each image that could not be made: which, and why."""
    text = batch.chunk.prompt.text
    return [f"index {index} of the prompt {text!r}: {reason}" for index, reason in batch.failures.items()]


class Rows:
    """Batches → the rows of their images, by table."""

    def __init__(
        self,
        classifiers: Sequence[tuple[str, Sequence[str]]],
        accepted: AbstractSet[tuple[str, str]],
        bounds: Sequence[float],
    ) -> None:
        """`classifiers` are names and labels in the order of the stage, `accepted` labels and what is right for them.

        `bounds` are those of the view `gate_bound`, in order.
        """
        self.classifiers = classifiers
        self.accepted = accepted
        self.bounds = np.array(bounds, np.float64)

    def of(self, chunks: Sequence[Sequence[Batch]]) -> list[Table]:
        """The rows of all images, column by column; one that failed is a row in `item_failure` and no other."""
        batches = [batch for chunk in chunks for batch in chunk]
        sound = [[row for row, index in enumerate(batch.indices) if index not in batch.failures] for batch in batches]

        def rows(name: str) -> NDArray[Any]:
            """An array of every image that is sound, one after the other."""
            parts = [batch.arrays[name][some] for batch, some in zip(batches, sound, strict=True) if some]
            return np.concatenate(parts) if parts else np.empty(0)

        if not any(sound):
            return [("item_failure", _failures(batches)), ("model_failure", pa.table({}))]
        made = _image_columns(batches, sound)
        made["gate_score"] = pa.array(rows("gate").astype(np.float32))
        ids = made["image_id"]
        labels = [batch.chunk.prompt.label for batch, some in zip(batches, sound, strict=True) for _ in some]
        failures: list[dict[str, str]] = []
        predictions = []
        for position, (name, known) in enumerate(self.classifiers):
            indices, scores, score = (rows(f"{one}_{position}") for one in ("indices", "scores", "score"))
            good = np.asarray(np.isfinite(scores).all(axis=1) & np.isfinite(score), np.bool_)
            failures += _model_failures(ids, good, "classifier", name, "gave a score that is not finite")
            columns = {**made, "label": pa.array(labels, pa.string())}
            of = {key: column.filter(pa.array(good)) for key, column in columns.items() if key in OF_PREDICTION}
            predictions.append(self._predictions(of, name, known, indices[good], scores[good], score[good]))
        predicted = pa.concat_tables(predictions)
        tables = [("item_failure", _failures(batches)), ("image", pa.table({**made, **_agreement(ids, predicted)}))]
        tables += [("prediction", predicted.drop_columns(["label"])), ("outcome_count", self._counted(predicted))]
        vectors = rows("embedding").astype(np.float32)
        good = np.asarray(np.isfinite(vectors).all(axis=1), np.bool_)
        failures += _model_failures(ids, good, "embedder", "embedder", "gave an embedding that is not finite")
        of = {key: made[key].filter(pa.array(good)) for key in ("image_id", "wave")}
        vector = _lists(pa.array(vectors[good].ravel()), vectors.shape[1])
        tables.append(("embedding", pa.table({**of, "vector": vector})))
        tables.append(("model_failure", pa.Table.from_pylist(failures)))
        return tables

    def _predictions(
        self,
        of: dict[str, pa.Array],
        name: str,
        known: Sequence[str],
        indices: NDArray[Any],
        scores: NDArray[Any],
        score: NDArray[Any],
    ) -> pa.Table:
        """What a classifier says of images: of its `known` labels the first (B, K), and their scores (B, K)."""
        scores = scores.astype(np.float32)
        words = pa.array(known, pa.string())
        predicted = words.take(pa.array(np.ascontiguousarray(indices[:, 0])))
        said = zip(of["label"].to_pylist(), predicted.to_pylist(), strict=True)
        margin = scores[:, 0] - scores[:, 1] if scores.shape[1] > 1 else [None] * len(scores)
        return pa.table(
            {
                **of,
                "classifier": pa.array([name] * len(predicted), pa.string()),
                "predicted": predicted,
                "wrong": pa.array([one not in self.accepted for one in said], pa.bool_()),
                "score": pa.array(np.ascontiguousarray(scores[:, 0])),
                "label_score": pa.array(score.astype(np.float32)),
                "margin": pa.array(margin, pa.float32()),
                "top_labels": _lists(words.take(pa.array(indices.ravel())), indices.shape[1]),
                "top_scores": _lists(pa.array(scores.ravel()), scores.shape[1]),
            }
        )

    def _counted(self, predictions: pa.Table) -> pa.Table:
        """How many of the predictions are the same but for their image, by the bound that the gate's score reaches."""
        scores = predictions["gate_score"].to_numpy().astype(np.float64)
        reached = self.bounds[np.maximum(np.searchsorted(self.bounds, scores, side="right") - 1, 0)]
        keys = ["prompt_id", "wave", "classifier", "predicted", "wrong"]
        of = predictions.select(keys).append_column("gate_from", pa.array(reached))
        counted = of.group_by([*keys, "gate_from"], use_threads=False).aggregate([([], "count_all")])
        return counted.rename_columns({"count_all": "images"})


def _agreement(ids: pa.Array, predictions: pa.Table) -> dict[str, pa.Array]:
    """How many different first choices each image has, and how many wrong ones."""
    of = predictions.group_by("image_id", use_threads=False)
    said = of.aggregate([("predicted", "count_distinct"), ("wrong", "sum")]).to_pylist()
    known = {row["image_id"]: (row["predicted_count_distinct"], row["wrong_sum"]) for row in said}
    numbers = [known.get(one, (0, 0)) for one in ids.to_pylist()]
    return {
        "answers": pa.array([answers for answers, _ in numbers], pa.int32()),
        "errors": pa.array([errors for _, errors in numbers], pa.int32()),
    }


def _model_failures(ids: pa.Array, good: NDArray[np.bool_], role: str, model: str, what: str) -> list[dict[str, str]]:
    reason = f"{model} {what}" if role == "classifier" else f"it {what}"
    return [
        {"image_id": ids[row].as_py(), "role": role, "model": model, "reason": reason}
        for row in np.flatnonzero(~good).tolist()
    ]


def _image_columns(batches: Sequence[Batch], sound: Sequence[Sequence[int]]) -> dict[str, pa.Array]:
    ids, chunk_ids, prompt_ids, waves, indices, jpegs = [], [], [], [], [], []
    for batch, some in zip(batches, sound, strict=True):
        chunk_id, prompt_id = batch.chunk.chunk_id, batch.chunk.prompt.prompt_id
        for row in some:
            ids.append(image_id_of(prompt_id, batch.indices[row]))
            indices.append(batch.indices[row])
            jpegs.append(batch.arrays["jpeg"][row])
        chunk_ids += [chunk_id] * len(some)
        prompt_ids += [prompt_id] * len(some)
        waves += [batch.chunk.wave] * len(some)
    return {
        "image_id": pa.array(ids, pa.string()),
        "chunk_id": pa.array(chunk_ids, pa.string()),
        "prompt_id": pa.array(prompt_ids, pa.string()),
        "wave": pa.array(waves, pa.int32()),
        "index": pa.array(indices, pa.int64()),
        "jpeg": pa.array(jpegs, pa.binary()),
    }


def _failures(batches: Sequence[Batch]) -> pa.Table:
    failed = [(batch.chunk, index) for batch in batches for index in batch.indices if index in batch.failures]
    reasons = [batch.failures[index] for batch in batches for index in batch.indices if index in batch.failures]
    return pa.table(
        {
            "chunk_id": pa.array([chunk.chunk_id for chunk, _ in failed], pa.string()),
            "prompt_id": pa.array([chunk.prompt.prompt_id for chunk, _ in failed], pa.string()),
            "index": pa.array([index for _, index in failed], pa.int64()),
            "reason": pa.array(reasons, pa.string()),
        }
    )


def _lists(values: pa.Array, width: int) -> pa.Array:
    """Values as lists of so many each."""
    offsets = pa.array(np.arange(0, len(values) + 1, width, dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, values)
