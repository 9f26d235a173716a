"""Any image classifier of transformers, with the preprocessing that was saved beside it."""

from collections.abc import Mapping
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from mothlight.engine.errors import UserError
from mothlight.exporters.classifiers.timm_model import of_timm
from mothlight.exporters.images import LoadedClassifier
from mothlight.exporters.libraries import library_errors
from mothlight.exporters.preprocess import of_processor
from mothlight.exporters.source import Located, require_whole, variant_of
from mothlight.exporters.weights import loaded_whole


class Logits(nn.Module):
    """pixels → logits."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        """The model's logits alone."""
        return self.model(pixel_values=pixels).logits


def load_classifier(found: Located, architecture: str | None = None) -> LoadedClassifier:
    """A folder that transformers saved.

    Raises:
        UserError: transformers can't load it, or its labels are unknown.
    """
    if architecture is not None:
        raise UserError(f"{found.given} says itself what it is; leave --architecture out.")
    model, processor = load_transformers(found, architecture_of(found))
    config = model.config
    outputs = int(config.num_labels)
    if config.problem_type == "regression":
        raise UserError(f"{found.given} was trained for regression (problem_type in its config.json): no classifier.")
    several = config.problem_type == "multi_label_classification" or outputs == 1
    if hasattr(model, "timm_model"):
        preprocess, transform = of_timm(found.origin, processor.data_config), processor.val_transforms
    else:
        preprocess, transform = of_processor(found.origin, processor)
    return LoadedClassifier(
        model=Logits(model),
        preprocess=preprocess,
        transform=transform,
        names=_names(found, config.id2label, outputs),
        outputs=outputs,
        library="transformers",
        version=transformers.__version__,
        architecture=type(model).__name__,
        activation="sigmoid" if several else "softmax",
    )


def _names(found: Located, named: Mapping[Any, Any], outputs: int) -> tuple[str, ...] | None:
    """The labels' names in the order of the outputs; None where they are numbers only.

    Raises:
        UserError: an output has none.
    """
    by_number = {int(place): str(name) for place, name in named.items()}
    first = min(by_number, default=0)
    if set(by_number) != set(range(first, first + outputs)) or first > 1:
        raise UserError(
            f"{found.given}: the id2label of its config.json has {len(by_number)} entries from {first} on, and there "
            f"are {outputs} outputs: mend it, or give --labels FILE with one label per line."
        )
    names = tuple(by_number[first + place] for place in range(outputs))
    return None if all(name == f"LABEL_{place}" for place, name in enumerate(names)) else names


def architecture_of(found: Located) -> str:
    """The class that a folder of transformers names, of which this release must have one.

    Raises:
        UserError: it has none.
    """
    kind = str(found.json("config.json").get("architectures", ["nothing"])[0])
    if not hasattr(transformers, kind):
        raise UserError(f"{found.given} is a {kind}, which transformers {transformers.__version__} has not.")
    return kind


def load_transformers(found: Located, kind: str, processor: str = "AutoImageProcessor") -> tuple[Any, Any]:
    """A model in float32, through a class of transformers, and its processor.

    Raises:
        UserError: a file is missing, or the library can't read one, or the weights are not this model's.
    """
    weights = [name for name, _ in found.files if name.endswith(".safetensors")]
    if not weights:
        raise UserError(f"{found.given} has no safetensors file; mothlight loads no pickled weights.")
    require_whole(found)
    safe: dict[str, Any] = {"trust_remote_code": False}
    how = {"dtype": torch.float32, "attn_implementation": "eager", **variant_of(found.files), **safe}
    with library_errors(f"{found.given} can't be loaded by transformers"):
        model = loaded_whole(found.given, getattr(transformers, kind), found.folder, **how)
        return model, getattr(transformers, processor).from_pretrained(found.folder, local_files_only=True, **safe)
