"""Any classifier of timm, with the preprocessing of its own configuration."""

from typing import Any

import timm
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform

from mothlight.engine.errors import UserError
from mothlight.engine.models.bundle import Resize
from mothlight.exporters.images import LoadedClassifier
from mothlight.exporters.libraries import reason
from mothlight.exporters.preprocess import Preprocess
from mothlight.exporters.source import Located


def load_classifier(found: Located, architecture: str | None = None) -> LoadedClassifier:
    """A folder that timm saved, or a safetensors file and the name of its architecture.

    Raises:
        UserError: timm can't load it, or its labels are unknown.
    """
    model = load_timm(found, architecture)
    config = model.pretrained_cfg
    preprocess, transform = timm_preprocess(found.origin, model)
    return LoadedClassifier(
        model=model,
        preprocess=preprocess,
        transform=transform,
        names=config.get("label_names"),
        outputs=int(model.num_classes),
        library="timm",
        version=timm.__version__,
        architecture=str(config["architecture"]),
    )


def load_timm(found: Located, architecture: str | None = None, **more: Any) -> Any:
    """A timm model with its own weights.

    Raises:
        UserError: there is none.
    """
    if found.path is not None and found.path.is_file():
        if architecture is None or not timm.is_model(architecture):
            raise UserError(f"{found.given}: timm knows no architecture `{architecture}`; see timm.list_models().")
        if found.path.suffix != ".safetensors":
            raise UserError(f"{found.given} is no safetensors file.")
        try:
            return timm.create_model(architecture, pretrained=False, checkpoint_path=str(found.path), **more)
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{found.given} does not fit timm's {architecture}: {reason(error)}") from error
    if not (found.folder / "model.safetensors").is_file():
        raise UserError(f"{found.given} has no model.safetensors; mothlight loads no pickled weights.")
    try:
        return timm.create_model(f"local-dir:{found.folder}", pretrained=True, **more)
    except (RuntimeError, ValueError, KeyError) as error:
        raise UserError(f"{found.given} can't be loaded by timm: {reason(error)}") from error


def timm_preprocess(name: str, model: Any) -> tuple[Preprocess, Any]:
    """What timm does to an image before this model, as ours and as its own.

    Raises:
        UserError: it is not a kind that mothlight can do.
    """
    config: dict[str, Any] = resolve_data_config(model=model)
    return Preprocess(_resize(name, config), config["mean"], config["std"]), create_transform(
        **config, is_training=False
    )


def _resize(name: str, config: dict[str, Any]) -> Resize:
    size = int(config["input_size"][1])
    if tuple(config["input_size"]) != (3, size, size):
        raise UserError(f"{name}: the input size {config['input_size']} is not square RGB.")
    mode = config.get("crop_mode", "center")
    if config["interpolation"] not in ("bilinear", "bicubic") or mode not in ("center", "squash"):
        raise UserError(f"{name}: only bilinear or bicubic resizing with crop_mode center or squash is supported.")
    edge = int(size / float(config["crop_pct"]))
    return Resize(
        size=size,
        edge=edge,
        mode="squash" if mode == "squash" else "shortest",
        filter=config["interpolation"],
        rounding=True,
    )
