"""A timm model with its own data config → a classifier's or a gate's bundle."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from torch import Tensor, nn

from mothlight.engine.errors import UserError
from mothlight.engine.models.bundle import Bundle, Manifest, Resize, Source, Thresholds
from mothlight.exporters.graphs import Graph, round_to_half
from mothlight.exporters.preprocess import DYNAMIC, SHARED, Preprocess
from mothlight.exporters.publish import export_bundle, raise_exists

TOP_K = 5
TOLERANCE = 1e-4


class Classify(nn.Module):
    """(images, rows, columns, index (B,) int64) → (scores (B, k), indices (B, k), score (B,))."""

    def __init__(self, model: nn.Module, preprocess: Preprocess, k: int) -> None:
        super().__init__()
        self.model = model
        self.preprocess = preprocess
        self.k = k

    def forward(self, images: Tensor, rows: Tensor, columns: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Softmax scores of the best k classes, and of the class at `index`."""
        scores = torch.softmax(self.model(self.preprocess(images, rows, columns)), dim=-1)
        best, indices = torch.topk(scores, self.k, dim=-1)
        return best, indices, scores.gather(1, index[:, None])[:, 0]


def export_classifier(
    source: str,
    out: Path,
    *,
    role: Literal["classifier", "gate"] = "classifier",
    thresholds: Thresholds | None = None,
    replace: bool = False,
) -> Bundle:
    """Export a timm model: a folder that timm saved, or a name that `timm.create_model` knows.

    Raises:
        UserError: the model can't be loaded, has no label names, or preprocesses in a way that is not supported.
        BundleError: an output differs from the library.
    """
    if out.exists() and not replace:
        raise_exists(out)
    model = load(source)
    labels = tuple(model.pretrained_cfg.get("label_names") or ())
    if len(labels) != model.num_classes:
        raise UserError(
            f"{source} names {len(labels)} labels for {model.num_classes} outputs: its config.json needs `label_names`."
        )
    name = out.name
    config: dict[str, Any] = resolve_data_config(model=model)
    preprocess = Preprocess(_resize(name, config), config["mean"], config["std"])
    transform: Callable[[Any], Tensor] = create_transform(**config, is_training=False)
    manifest = Manifest(
        role=role,
        name=name,
        labels=labels,
        image_size=preprocess.resize.size,
        resize=preprocess.resize,
        thresholds=thresholds,
        checks=(preprocess.check(transform),),
        source=Source(library="timm", version=timm.__version__, model=str(model.pretrained_cfg["architecture"])),
    )
    return export_bundle(out, manifest, [classify_graph(model, preprocess)], {}, replace=replace)


def classify_graph(model: Any, preprocess: Preprocess) -> Graph:
    """The graph `classify` of a timm model."""

    def make_inputs(batch: int, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(0, model.num_classes, (batch,), generator=generator)
        return {**preprocess.random_inputs(batch, generator), "index": index}

    module = Classify(round_to_half(model), preprocess, min(TOP_K, model.num_classes))
    outputs = ("scores", "indices", "score")
    return Graph("classify", module, make_inputs, outputs, TOLERANCE, shared=SHARED, dynamic=DYNAMIC)


def load(source: str) -> Any:
    """A timm model with its own weights.

    Raises:
        UserError: there is none.
    """
    folder = Path(source)
    if folder.is_dir():
        weights = folder / "model.safetensors"
        if not weights.is_file():
            raise UserError(f"{folder} has no model.safetensors; mothlight loads no pickled weights.")
        return timm.create_model(f"local-dir:{folder}", pretrained=True)
    if not timm.is_model(source):
        raise UserError(f"{source} is neither a folder that timm saved nor a model that timm knows.")
    return timm.create_model(source, pretrained=True)


def _resize(name: str, config: dict[str, Any]) -> Resize:
    size = int(config["input_size"][1])
    if tuple(config["input_size"]) != (3, size, size):
        raise UserError(f"{name}: the input size {config['input_size']} is not square RGB.")
    if config["interpolation"] not in ("bilinear", "bicubic") or config.get("crop_mode", "center") != "center":
        raise UserError(f"{name}: only bilinear or bicubic resizing with a centre crop is supported.")
    edge = int(size / float(config["crop_pct"]))
    return Resize(size=size, edge=edge, mode="shortest", filter=config["interpolation"], rounding=True)
