"""Names images: the classifiers under audit, and the gate that says whether an image shows what was asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mothlight.engine.batch import Batch, Flight, Stage, Work, not_finite
from mothlight.engine.device import Buffer, Device, Spec, Staged, Stream, spec
from mothlight.engine.errors import BundleError, UserError
from mothlight.engine.models.bundle import Bundle
from mothlight.engine.models.engines import Engines
from mothlight.engine.models.resize import matrices_on
from mothlight.engine.models.runner import Bound, Chain, Program, Single, infer_once
from mothlight.engine.models.tokenizer import BundleTokenizer
from mothlight.engine.records import article
from mothlight.engine.stages.embed import ImageEmbedder

OUTPUTS = ("scores", "indices", "score")
NOT_FINITE = "the gate gave a score that is not finite"


class Classifier:
    """A classifier's or a gate's bundle."""

    def __init__(self, bundle: Bundle, engines: Engines | None = None) -> None:
        engines = engines or Engines()
        self.name = bundle.manifest.name
        self.labels = bundle.manifest.labels
        self.resize = bundle.manifest.resize
        self.program: Program
        if bundle.manifest.chain:
            self.program = Chain(bundle, lambda graph, outputs: engines.open(bundle, graph, outputs))
        else:
            self.program = Single(engines.open(bundle, "classify"))

    def classify(self, images: NDArray[np.uint8], label: str) -> dict[str, NDArray[Any]]:
        """`scores` and `indices` (B, k) of the best labels, and `score` (B,) of the one asked for; here and now."""
        index = np.full(len(images), self.labels.index(label), dtype=np.int64)
        matrices = self.resize.matrices(*images.shape[1:3]) if self.resize is not None else {}
        return infer_once(self.program, {"images": images, "index": index, **matrices})

    def bind(self, device: Device, slots: int, images: Spec) -> "BoundClassifier":
        """Make it ready for batches of images."""
        constants = matrices_on(device, self.resize, images, self.name)
        index = spec(images.shape[:1], np.int64)
        given = {"images": images, "index": index} | {name: buffer.spec for name, buffer in constants.items()}
        staged = Staged(device, f"the index for {self.name}", index, slots)
        return BoundClassifier(self.labels, self.program.bind(device, slots, given), constants, staged)


@dataclass(frozen=True)
class BoundClassifier:
    """A classifier that is ready for batches of one size."""

    labels: Sequence[str]
    bound: Bound
    constants: Mapping[str, Buffer]
    index: Staged

    def enqueue(self, flight: Flight, images: Buffer, made: Mapping[str, Buffer], stream: Stream) -> None:
        """`made` are buffers for all of `OUTPUTS`."""
        asked = np.int64(self.labels.index(flight.batch.chunk.prompt.label))
        index = self.index.put(flight.slot, np.asarray(asked), stream)
        self.bound.enqueue(flight.slot, {**self.constants, "images": images, "index": index, **made}, stream)


class ClassifyStage:
    """Adds `scores_k`, `indices_k` and `score_k` for the k-th classifier under audit.

    What is not finite is a failure of this classifier alone, which the writer sees; for the others the image counts.
    """

    reads = ("images",)
    lanes = 1
    on_host = False

    def __init__(self, classifier: Classifier, position: int) -> None:
        self.classifier = classifier
        self.name = f"classify {classifier.name}"
        self.names = {name: f"{name}_{position}" for name in OUTPUTS}

    def build(self, device: Device, size: int, slots: int, given: Mapping[str, Spec]) -> Work:
        """See `Stage`."""
        del size
        return _Classify(self.classifier.bind(device, slots, given["images"]), self.names)

    def finish(self, batch: Batch) -> Batch:
        """See `Stage`."""
        return batch


class _Classify:
    def __init__(self, classifier: BoundClassifier, names: Mapping[str, str]) -> None:
        self.classifier = classifier
        self.names = names
        self.makes = {names[name]: spec for name, spec in classifier.bound.makes.items()}

    def enqueue(self, flight: Flight, arrays: Mapping[str, Buffer], stream: Stream) -> None:
        made = {name: arrays[called] for name, called in self.names.items()}
        self.classifier.enqueue(flight, arrays["images"], made, stream)


class GateStage:
    """Adds `gate` (B,) float32: how surely the image shows its label, by a model apart from those under audit."""

    name = "gate"
    reads = ("images",)
    lanes = 1
    on_host = False

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier

    def build(self, device: Device, size: int, slots: int, given: Mapping[str, Spec]) -> Work:
        """See `Stage`."""
        del size
        return _Gate(self.classifier.bind(device, slots, given["images"]), device, slots)

    def finish(self, batch: Batch) -> Batch:
        """See `Stage`."""
        return batch.with_failures(not_finite(batch, "gate", NOT_FINITE))


class _Gate:
    def __init__(self, classifier: BoundClassifier, device: Device, slots: int) -> None:
        self.classifier = classifier
        made = dict(classifier.bound.makes)
        self.makes = {"gate": made.pop("score")}
        self.scratch = [
            {name: device.buffer(f"{name} of the gate[{slot}]", spec) for name, spec in made.items()}
            for slot in range(slots)
        ]

    def enqueue(self, flight: Flight, arrays: Mapping[str, Buffer], stream: Stream) -> None:
        made = {**self.scratch[flight.slot], "score": arrays["gate"]}
        self.classifier.enqueue(flight, arrays["images"], made, stream)


class ZeroShotGateStage:
    """An embedder's bundle as the gate: images against a sentence on each label of the audit.

    The stage adds `gate_vector` (B, D); the score of the label, `gate` (B,), is made of it on the host.
    """

    name = "gate"
    reads = ("images",)
    lanes = 1
    on_host = False

    def __init__(self, bundle: Bundle, labels: Sequence[str], engines: Engines | None = None) -> None:
        """Load the graphs and embed the sentences.

        Raises:
            BundleError: the manifest does not say how cosines become scores.
            UserError: labels are judged against each other, and there is one only.
        """
        engines = engines or Engines()
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
        self.embedder = ImageEmbedder(bundle, engines)
        sentences = [how.prompt.format(a=article(label), label=label) for label in labels]
        text = engines.runner(bundle, "embed_text")
        self.sentences: NDArray[np.float32] = text.infer(**BundleTokenizer(bundle).encode(sentences))["vector"]

    def build(self, device: Device, size: int, slots: int, given: Mapping[str, Spec]) -> Work:
        """See `Stage`."""
        del size
        return self.embedder.bind(device, slots, given["images"], "gate_vector")

    def finish(self, batch: Batch) -> Batch:
        """See `Stage`."""
        logits = batch.arrays["gate_vector"] @ self.sentences.T * np.float32(self.how.scale) + np.float32(self.how.bias)
        if self.how.activation == "sigmoid":
            scores = 1 / (1 + np.exp(-logits))
        else:
            grown = np.exp(logits - logits.max(axis=1, keepdims=True))
            scores = grown / grown.sum(axis=1, keepdims=True)
        asked = scores[:, self.labels.index(batch.chunk.prompt.label)]
        batch = batch.with_arrays(gate=np.asarray(asked, dtype=np.float32))
        return batch.with_failures(not_finite(batch, "gate", NOT_FINITE))


def gate_stage(bundle: Bundle, labels: Sequence[str], engines: Engines | None = None) -> Stage:
    """A gate's bundle, whichever kind it is, for an audit's labels."""
    if bundle.manifest.zero_shot is not None:
        return ZeroShotGateStage(bundle, labels, engines)
    return GateStage(Classifier(bundle, engines))
