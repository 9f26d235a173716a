"""The parts of bundles that stay with their library: loaded from the bundle's own files, run, and freed.

A large text encoder runs once per prompt and is worth no graph; a vision-language model is more than one.
"""

from types import SimpleNamespace
from typing import Any

import torch
import transformers
from numpy.typing import NDArray
from torch import nn

from mothlight.engine.errors import BundleError
from mothlight.engine.models.bundle import Bundle
from mothlight.engine.models.runner import Runner
from mothlight.exporters.captioners.vision_language import VisionLanguage
from mothlight.exporters.families import family_of


class TorchRunner:
    """A torch module behind `infer`."""

    def __init__(self, module: nn.Module, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.module = module.eval().to(self.device)
        self.inputs = inputs
        self.outputs = outputs

    def infer(self, /, **inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Outputs by name."""
        with torch.inference_mode():
            given = self.module(*(torch.from_numpy(inputs[name]).to(self.device) for name in self.inputs))
        values = given if isinstance(given, tuple) else (given,)
        return {name: value.float().cpu().numpy() for name, value in zip(self.outputs, values, strict=True)}


def load_backend(bundle: Bundle) -> Runner:
    """The part of a bundle that a library runs.

    Raises:
        BundleError: the bundle has none, or its files are not what the library saved.
    """
    backend = bundle.manifest.backend
    if backend is None:
        raise BundleError(f"The bundle {bundle.folder} has no part for a library.")
    if backend.part == "caption":
        return VisionLanguage(bundle)
    return _text_encoder(bundle)


def _text_encoder(bundle: Bundle) -> Runner:
    source = bundle.manifest.source
    family = family_of("generator", source.library, source.model, str(bundle.folder)).load()
    parts: dict[str, Any] = {}
    for name in family.text_parts:
        parts[name] = _load(bundle, name)
    diffusion = family.for_text(SimpleNamespace(**parts))
    specs = bundle.manifest.tokenizers
    inputs = tuple(name for spec in specs for name in (spec.ids, spec.mask) if name is not None)
    return TorchRunner(diffusion.text_module(), inputs, family.conditions)


def _load(bundle: Bundle, part: str) -> Any:
    """A text encoder, as the class that its own configuration names; None where the pipeline has none."""
    backend = bundle.manifest.backend
    folder = bundle.folder / (backend.folder if backend else "") / part
    if not folder.is_dir():
        return None
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    kind = getattr(transformers, (config.architectures or [""])[0], None)
    if kind is None:
        raise BundleError(f"The bundle {bundle.folder}: {part} names no class of transformers.")
    return kind.from_pretrained(folder, local_files_only=True, use_safetensors=True, dtype=torch.float32).eval()
