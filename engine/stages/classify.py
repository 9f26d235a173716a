"""Names images: the classifiers under audit, and the gate that says whether an image shows what was asked."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mothlight.engine.batch import Batch
from mothlight.engine.models.bundle import Bundle
from mothlight.engine.models.runner import OrtRunner


class Classifier:
    """A classifier's or a gate's bundle."""

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        self.name = bundle.manifest.name
        self.labels = bundle.manifest.labels
        self.resize = bundle.manifest.resize
        self.runner = OrtRunner(bundle.graph_path("classify"), threads=threads)

    def classify(self, images: NDArray[np.uint8], label: str) -> dict[str, NDArray[Any]]:
        """`scores` and `indices` (B, k) of the best labels, and `score` (B,) of the one asked for."""
        index = np.full(len(images), self.labels.index(label), dtype=np.int64)
        matrices = self.resize.matrices(*images.shape[1:3]) if self.resize is not None else {}
        return self.runner.infer(images=images, index=index, **matrices)


class ClassifyStage:
    """Adds `scores_k`, `indices_k` and `score_k` for the k-th classifier under audit; not finite is a failure."""

    name = "classify"

    def __init__(self, classifiers: Sequence[Classifier], workers: int = 1) -> None:
        self.classifiers = classifiers
        self.workers = workers

    def __call__(self, batch: Batch) -> Batch:
        """See `Stage`."""
        images = batch.arrays["images"]
        arrays: dict[str, NDArray[Any]] = {}
        failures: dict[int, str] = {}
        for position, classifier in enumerate(self.classifiers):
            out = classifier.classify(images, batch.chunk.prompt.label)
            arrays |= {f"{name}_{position}": array for name, array in out.items()}
            for index, scores in zip(batch.indices, out["scores"], strict=False):
                if not np.isfinite(scores).all():
                    failures.setdefault(index, f"{classifier.name} gave a score that is not finite")
        return batch.with_arrays(**arrays).with_failures(failures)


class GateStage:
    """Adds `gate` (B,) float32: how surely the image shows its label, by a model apart from those under audit."""

    name = "gate"
    workers = 1

    def __init__(self, gate: Classifier) -> None:
        self.gate = gate

    def __call__(self, batch: Batch) -> Batch:
        """See `Stage`."""
        return batch.with_arrays(gate=self.gate.classify(batch.arrays["images"], batch.chunk.prompt.label)["score"])
