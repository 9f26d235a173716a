"""Any classifier of timm, with the preprocessing of its own configuration."""

import math
from pathlib import Path
from typing import Any, Literal

import timm
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from timm.models import clean_state_dict

from mothlight.engine.errors import UserError
from mothlight.engine.models.resize import PILLOW, Resize
from mothlight.exporters.images import LoadedClassifier
from mothlight.exporters.libraries import library_errors
from mothlight.exporters.preprocess import Preprocess, side
from mothlight.exporters.source import Located, require_whole
from mothlight.exporters.weights import WRAPPERS, fitted, read_tensors

MODES: dict[str, Literal["shortest", "squash", "letterbox"]] = {
    "center": "shortest",
    "squash": "squash",
    "border": "letterbox",
}
"""timm's crop_mode, as ours."""


def load_classifier(found: Located, architecture: str | None = None) -> LoadedClassifier:
    """A folder that timm saved, or a safetensors file and the name of its architecture.

    Raises:
        UserError: timm can't load it, or its labels are unknown.
    """
    model = load_timm(found, architecture)
    config = model.pretrained_cfg
    if model.num_classes < 1:
        raise UserError(f"{found.given} has no classifier (num_classes is {model.num_classes}): export an embedder.")
    preprocess, transform = timm_preprocess(found.origin, model)
    return LoadedClassifier(
        model=model,
        preprocess=preprocess,
        transform=transform,
        names=_names(config.get("label_names")),
        outputs=int(model.num_classes),
        activation="sigmoid" if model.num_classes == 1 else "softmax",
        library="timm",
        version=timm.__version__,
        architecture=str(config["architecture"]),
    )


def _names(given: Any) -> tuple[str, ...] | None:
    """Timm's label names: a list, or a dictionary by number, or of descriptions by name."""
    if isinstance(given, dict):
        if all(str(key).isdigit() for key in given):
            return tuple(str(given[key]) for key in sorted(given, key=int))
        return tuple(str(key) for key in given)
    return None if given is None else tuple(str(name) for name in given)


def load_timm(found: Located, architecture: str | None = None) -> Any:
    """A timm model with its own weights.

    Raises:
        UserError: there is none.
    """
    require_whole(found)
    if found.path is not None and found.path.is_file():
        return _from_file(found, found.path, architecture or "")
    if not (found.folder / "model.safetensors").is_file():
        raise UserError(f"{found.given} has no model.safetensors; mothlight loads no pickled weights.")
    with library_errors(f"{found.given} can't be loaded by timm"):
        model: Any = timm.create_model(f"local-dir:{found.folder}", pretrained=True)
    told = model.pretrained_cfg.get("num_classes")
    if told is not None and told != model.num_classes:
        # timm would leave the head of another size out, and go on with random numbers
        raise UserError(
            f"{found.given}: config.json says {told} classes, and its model_args make {model.num_classes}: the weights "
            f"of the head would not be used; mend config.json."
        )
    return model


def _from_file(found: Located, path: Path, architecture: str) -> Any:
    """A timm model of a single file, with as many classes as its head has."""
    if not timm.is_model(architecture):
        raise UserError(f"{found.given}: timm knows no architecture `{architecture}`; see timm.list_models().")
    if path.suffix != ".safetensors":
        raise UserError(f"{found.given} is no safetensors file.")
    tensors = clean_state_dict(read_tensors(found.given, path))
    with library_errors(f"{found.given} does not fit timm's {architecture}"):
        plain: Any = timm.create_model(architecture, pretrained=False)
        head = plain.pretrained_cfg.get("classifier")
        first = head if isinstance(head, str) else next(iter(head or ()), "")
        bare = {WRAPPERS.sub("", name): tensor for name, tensor in tensors.items()}
        weight = bare.get(f"{first}.weight")
        classes: dict[str, Any] = {} if weight is None else {"num_classes": int(weight.shape[0])}
        return fitted(found.given, timm.create_model(architecture, pretrained=False, **classes), tensors)


def timm_preprocess(name: str, model: Any) -> tuple[Preprocess, Any]:
    """What timm does to an image before this model, as ours and as its own.

    Raises:
        UserError: it is not a kind that mothlight can do.
    """
    config: dict[str, Any] = resolve_data_config(model=model)
    return of_timm(name, config), create_transform(**config, is_training=False)


def of_timm(name: str, config: dict[str, Any]) -> Preprocess:
    """Timm's preprocessing by its data configuration.

    Raises:
        UserError: it is not a kind that mothlight can do.
    """
    channels, height, width = config["input_size"]
    if channels != 3:
        raise UserError(f"{name}: the input size {config['input_size']} is not one of RGB images.")
    mode, kind = config.get("crop_mode") or "center", config["interpolation"]
    if kind not in PILLOW or mode not in MODES:
        raise UserError(
            f"{name}: its interpolation {kind} or crop_mode {mode} is not supported; there are "
            f"{', '.join(PILLOW)} and {', '.join(MODES)}."
        )
    share = float(config["crop_pct"])
    edges = (math.floor(height / share), math.floor(width / share))
    red, green, blue = (round(255 * value) for value in config["mean"])
    resize = Resize(
        size=side((height, width)),
        edge=side(edges),
        mode=MODES[mode],
        filter=kind,
        rounding=True,
        order="pillow",
        fill=(red, green, blue) if mode == "border" else 0,
    )
    return Preprocess(resize, config["mean"], config["std"])
