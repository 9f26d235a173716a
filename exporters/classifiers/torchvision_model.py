"""Any classifier of torchvision, from a safetensors file, with the preprocessing of torchvision's own weights."""

from typing import Any

import torchvision
from torchvision.models import get_model, get_model_weights, list_models

from mothlight.engine.errors import UserError
from mothlight.engine.models.resize import Resize
from mothlight.exporters.images import LoadedClassifier
from mothlight.exporters.libraries import library_errors
from mothlight.exporters.preprocess import Preprocess
from mothlight.exporters.source import Located, require_whole
from mothlight.exporters.weights import WRAPPERS, fitted, read_tensors


def load_classifier(found: Located, architecture: str | None = None) -> LoadedClassifier:
    """A safetensors file and the name of its architecture, as `resnet50` or `resnet50.IMAGENET1K_V1`.

    Without the name of weights, preprocessing and labels are those of the architecture's default weights.

    Raises:
        UserError: torchvision does not know the name, or the weights do not fit it.
    """
    name, _, weights = (architecture or "").partition(".")
    if name not in list_models(module=torchvision.models):
        raise UserError(f"torchvision knows no classifier `{name}`; see torchvision.models.list_models().")
    choices: Any = get_model_weights(name)
    if weights and weights not in choices.__members__:
        raise UserError(f"torchvision's {name} has no weights `{weights}`, but {', '.join(choices.__members__)}.")
    chosen = choices[weights] if weights else choices.DEFAULT
    if found.path is None or found.path.suffix != ".safetensors":
        raise UserError(f"{found.given} is no safetensors file; torchvision's own downloads are pickles: convert them.")
    require_whole(found)
    tensors = read_tensors(found.given, found.path)
    with library_errors(f"{found.given} does not fit torchvision's {name}"):
        model = get_model(name, weights=None, num_classes=_outputs(name, tensors), **_plain(name))
        fitted(
            f"{found.given} does not fit torchvision's {name}",
            model,
            {key: tensor for key, tensor in tensors.items() if "aux" not in key.lower()},
        )
    transform = chosen.transforms()
    preprocess = Preprocess(_resize(name, transform), transform.mean, transform.std)
    count = _count(model)
    own = tuple(chosen.meta["categories"]) if count == len(chosen.meta["categories"]) else None
    return LoadedClassifier(
        model=model,
        preprocess=preprocess,
        transform=transform,
        names=own,
        outputs=count,
        library="torchvision",
        version=torchvision.__version__,
        architecture=f"{name}.{chosen.name}",
        activation="sigmoid" if count == 1 else "softmax",
    )


def _plain(name: str) -> dict[str, Any]:
    """What keeps a model to one output and silences its advice."""
    return {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}


def _outputs(name: str, tensors: dict[str, Any]) -> int:
    """How many classes the weights have: the length of the last parameter, a bias or a convolution's."""
    last = next(reversed([key for key, _ in get_model(name, weights=None, **_plain(name)).named_parameters()]))
    bare = {WRAPPERS.sub("", key): tensor for key, tensor in tensors.items()}
    return int(bare[last].shape[0]) if last in bare else 1000


def _count(model: Any) -> int:
    return int(next(reversed(list(model.parameters()))).shape[0])


def _resize(name: str, transform: Any) -> Resize:
    (size,), (edge,) = transform.crop_size, transform.resize_size
    kind = transform.interpolation.value
    if kind not in ("bilinear", "bicubic"):
        raise UserError(f"torchvision's {name}: interpolation {kind} is not supported.")
    return Resize(size=size, edge=edge, mode="shortest", filter=kind, rounding=True, order="pillow")
