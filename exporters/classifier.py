"""A classifier of a library → a classifier's or a gate's bundle; what is special to a family is in `classifiers`."""

from pathlib import Path

import torch
from torch import Tensor, nn

from mothlight.engine.errors import UserError
from mothlight.engine.models.bundle import Manifest
from mothlight.exporters.families import family_of, kind_of
from mothlight.exporters.graphs import Graph, round_to_half
from mothlight.exporters.images import Activation, LoadedClassifier
from mothlight.exporters.labels import labels_of, read_label_file
from mothlight.exporters.options import Options, thresholds_of
from mothlight.exporters.preprocess import SHARED, Preprocess
from mothlight.exporters.publish import Prepared
from mothlight.exporters.source import Located, hub_name, locate, stated

TOP_K = 5
TOLERANCE = 1e-4


class Classify(nn.Module):
    """(images, index (B,) int64, matrices of `Resize`) → (scores (B, k), indices (B, k), score (B,))."""

    def __init__(self, model: nn.Module, preprocess: Preprocess, k: int, activation: Activation = "softmax") -> None:
        super().__init__()
        self.model = model
        self.preprocess = preprocess
        self.k = k
        self.activation = activation

    def forward(self, images: Tensor, index: Tensor, *matrices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores of the best k classes, and of the class at `index`; one number makes two classes, not and is."""
        logits = self.model(self.preprocess(images, *matrices))
        if self.activation == "softmax":
            scores = torch.softmax(logits, dim=-1)
        else:
            scores = torch.sigmoid(logits)
            if logits.shape[-1] == 1:
                scores = torch.cat([1 - scores, scores], dim=-1)
        best, indices = torch.topk(scores, self.k, dim=-1)
        return best, indices, scores.gather(1, index[:, None])[:, 0]


def prepare_classifier(source: str, name: str, options: Options) -> Prepared:
    """A classifier of timm, torchvision or transformers; or a gate of one.

    Raises:
        UserError: the model can't be loaded, its labels are unknown, or its preprocessing is not supported.
        BundleError: its preprocessing differs from the library's.
    """
    thresholds = thresholds_of(options, 0.1, 0.4)
    found = locate(hub_name(source), revision=options.revision)
    loaded = load(found, options)
    if options.labels is not None:
        labels = read_labels(Path(options.labels), loaded.labels)
    elif loaded.outputs == 1:
        labels = _two(source, loaded)
    else:
        labels = labels_of(source, loaded.names, loaded.outputs)
    manifest = Manifest(
        role="classifier" if thresholds is None else "gate",
        name=name,
        labels=labels,
        image_size=loaded.preprocess.resize.size,
        resize=loaded.preprocess.resize,
        thresholds=thresholds,
        checks=(loaded.preprocess.check(loaded.transform),),
        source=stated(found, loaded.library, loaded.version, loaded.architecture, options),
    )
    return Prepared(manifest, [classify_graph(loaded)])


def _two(source: str, loaded: LoadedClassifier) -> tuple[str, str]:
    """The labels of a model of one number.

    Raises:
        UserError: it does not name its one.
    """
    if loaded.names is None or len(loaded.names) != 1:
        raise UserError(f"{source} gives one number, and names no label: give --labels FILE with two, that of 0 first.")
    return f"not {loaded.names[0]}", loaded.names[0]


def load(found: Located, options: Options) -> LoadedClassifier:
    """The model of a source, taken apart.

    Raises:
        UserError: no family covers it, or its library can't load it.
    """
    if options.architecture is None:
        if found.path is not None and found.path.suffix == ".safetensors":
            raise UserError(f"{found.given} does not say what it is: add --architecture timm/NAME or torchvision/NAME.")
        library, kind = kind_of(found)
        return family_of("classifier", library, kind, found.given).load()(found)
    library, _, kind = options.architecture.partition("/")
    return family_of("classifier", library, kind, found.given).load()(found, kind)


def read_labels(path: Path, count: int) -> tuple[str, ...]:
    """The labels of a file, ImageNet's under our names.

    Raises:
        UserError: the file can't be read, or has another number of labels.
    """
    labels = read_label_file(path)
    if len(labels) != count:
        raise UserError(f"{path} has {len(labels)} labels; the model has {count} outputs.")
    return labels_of(str(path), labels, count)


def classify_graph(loaded: LoadedClassifier) -> Graph:
    """The graph `classify`."""
    preprocess, count = loaded.preprocess, loaded.labels

    def make_inputs(batch: int, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(0, count, (batch,), generator=generator)
        made = preprocess.random_inputs(batch, generator)
        return {"images": made.pop("images"), "index": index, **made}

    module = Classify(round_to_half(loaded.model), preprocess, min(TOP_K, count), loaded.activation)
    outputs = ("scores", "indices", "score")
    return Graph(
        "classify", module, make_inputs, outputs, TOLERANCE, shared=SHARED, dynamic=preprocess.dynamic, core="model"
    )
