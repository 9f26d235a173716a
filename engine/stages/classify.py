"""Names images: the classifiers under audit, and the gate that says whether an image shows what was asked."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mothlight.engine.batch import Batch
from mothlight.engine.errors import BundleError, UserError
from mothlight.engine.models.bundle import Bundle
from mothlight.engine.models.runner import Chain, OrtRunner, Runner
from mothlight.engine.models.tokenizer import BundleTokenizer
from mothlight.engine.records import article


class Classifier:
    """A classifier's or a gate's bundle."""

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        self.name = bundle.manifest.name
        self.labels = bundle.manifest.labels
        self.resize = bundle.manifest.resize
        self.runner: Runner
        if bundle.manifest.chain:
            self.runner = Chain(bundle, threads=threads)
        else:
            self.runner = OrtRunner(bundle.graph_path("classify"), threads=threads)

    def score(self, images: NDArray[np.uint8], label: str) -> NDArray[np.float32]:
        """See `Gate`."""
        score: NDArray[np.float32] = self.classify(images, label)["score"]
        return score

    def classify(self, images: NDArray[np.uint8], label: str) -> dict[str, NDArray[Any]]:
        """`scores` and `indices` (B, k) of the best labels, and `score` (B,) of the one asked for."""
        index = np.full(len(images), self.labels.index(label), dtype=np.int64)
        matrices = self.resize.matrices(*images.shape[1:3]) if self.resize is not None else {}
        return self.runner.infer(images=images, index=index, **matrices)


class Gate(Protocol):
    """Whether an image shows what was asked for."""

    def score(self, images: NDArray[np.uint8], label: str) -> NDArray[np.float32]:
        """How surely each image shows the label, (B,)."""
        ...


class ZeroShotGate:
    """An embedder's bundle as the gate: images against a sentence on each label of the audit."""

    def __init__(self, bundle: Bundle, labels: Sequence[str], *, threads: int = 1) -> None:
        """Load the graphs and embed the sentences.

        Raises:
            BundleError: the manifest does not say how cosines become scores.
            UserError: labels are judged against each other, and there is one only.
        """
        how = bundle.manifest.zero_shot
        if how is None:
            raise BundleError(f"The gate {bundle.folder} has neither labels nor a way to judge them by text.")
        if how.activation == "softmax" and len(labels) < 2:
            raise UserError(
                f"The gate {bundle.manifest.name} judges labels against each other and needs two at least; choose a "
                f"SigLIP, which judges each by itself."
            )
        self.how = how
        self.labels = tuple(labels)
        self.resize = bundle.manifest.resize
        self.image = OrtRunner(bundle.graph_path("embed_image"), threads=threads)
        text = OrtRunner(bundle.graph_path("embed_text"), threads=threads)
        sentences = [how.prompt.format(a=article(label), label=label) for label in labels]
        self.sentences: NDArray[np.float32] = text.infer(**BundleTokenizer(bundle).encode(sentences))["vector"]

    def score(self, images: NDArray[np.uint8], label: str) -> NDArray[np.float32]:
        """See `Gate`."""
        matrices = self.resize.matrices(*images.shape[1:3]) if self.resize is not None else {}
        vectors = self.image.infer(images=images, **matrices)["vector"]
        logits = vectors @ self.sentences.T * np.float32(self.how.scale) + np.float32(self.how.bias)
        if self.how.activation == "sigmoid":
            scores = 1 / (1 + np.exp(-logits))
        else:
            grown = np.exp(logits - logits.max(axis=1, keepdims=True))
            scores = grown / grown.sum(axis=1, keepdims=True)
        return np.asarray(scores[:, self.labels.index(label)], dtype=np.float32)


def build_gate(bundle: Bundle, labels: Sequence[str]) -> Gate:
    """A gate's bundle, whichever kind it is, for an audit's labels."""
    return ZeroShotGate(bundle, labels) if bundle.manifest.zero_shot is not None else Classifier(bundle)


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

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def __call__(self, batch: Batch) -> Batch:
        """See `Stage`."""
        scores = self.gate.score(batch.arrays["images"], batch.chunk.prompt.label)
        failures = {
            index: "the gate gave a score that is not finite"
            for index, score in zip(batch.indices, scores, strict=False)
            if not np.isfinite(score)
        }
        return batch.with_arrays(gate=scores).with_failures(failures)
