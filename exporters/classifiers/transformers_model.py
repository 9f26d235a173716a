"""Any image classifier of transformers, with the preprocessing that was saved beside it."""

from typing import Any

import torch
import transformers
from torch import Tensor, nn

from mothlight.engine.errors import UserError
from mothlight.exporters.images import LoadedClassifier
from mothlight.exporters.libraries import library_errors
from mothlight.exporters.preprocess import of_processor
from mothlight.exporters.source import Located, variant_of
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
    preprocess, transform = of_processor(found.origin, processor)
    names = tuple(model.config.id2label[place] for place in range(model.config.num_labels))
    own = None if all(name == f"LABEL_{place}" for place, name in enumerate(names)) else names
    return LoadedClassifier(
        model=Logits(model),
        preprocess=preprocess,
        transform=transform,
        names=own,
        outputs=int(model.config.num_labels),
        library="transformers",
        version=transformers.__version__,
        architecture=type(model).__name__,
    )


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
    safe: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}

    def load(**more: Any) -> Any:
        return getattr(transformers, kind).from_pretrained(
            found.folder,
            use_safetensors=True,
            dtype=torch.float32,
            attn_implementation="eager",
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **variant_of(found.files),
            **safe,
            **more,
        )

    with library_errors(f"{found.given} can't be loaded by transformers"):
        model = loaded_whole(found.given, load)
        return model, getattr(transformers, processor).from_pretrained(found.folder, **safe)
