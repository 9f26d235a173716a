"""Any image classifier of transformers, with the preprocessing that was saved beside it."""

from typing import Any

import torch
import transformers
from torch import Tensor, nn

from mothlight.engine.errors import UserError
from mothlight.exporters.images import LoadedClassifier
from mothlight.exporters.libraries import reason
from mothlight.exporters.preprocess import of_processor
from mothlight.exporters.source import Located


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
    model, processor = load_transformers(found, "AutoModelForImageClassification")
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


def load_transformers(found: Located, auto: str, processor: str = "AutoImageProcessor") -> tuple[Any, Any]:
    """A model in float32 and its processor, through two of transformers' Auto classes.

    Raises:
        UserError: a file is missing, or the library can't read one.
    """
    weights = [name for name, _ in found.files if name.endswith(".safetensors")]
    if not weights:
        raise UserError(f"{found.given} has no safetensors file; mothlight loads no pickled weights.")
    safe: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        model = getattr(transformers, auto).from_pretrained(
            found.folder, use_safetensors=True, dtype=torch.float32, attn_implementation="eager", **safe
        )
        return model, getattr(transformers, processor).from_pretrained(found.folder, **safe)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError) as error:
        raise UserError(f"{found.given} can't be loaded by transformers: {reason(error)}") from error
