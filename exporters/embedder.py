"""An open_clip model → an embedder's bundle: images and texts as unit-norm float32 vectors."""

from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.transform import PreprocessCfg
from torch import Tensor, nn

from mothlight.engine.errors import UserError
from mothlight.engine.models.bundle import Bundle, Manifest, Resize, Source, TokenizerSpec
from mothlight.exporters.graphs import Graph, round_to_half
from mothlight.exporters.preprocess import DYNAMIC, SHARED, Preprocess
from mothlight.exporters.publish import export_bundle, raise_exists
from mothlight.exporters.tokenizers import TextInput, bundle_tokenizer

TOLERANCE = 1e-4


class EmbedImage(nn.Module):
    """(images, rows, columns) → (B, D) float32 of norm 1."""

    def __init__(self, model: Any, preprocess: Preprocess) -> None:
        super().__init__()
        self.model = model
        self.preprocess = preprocess

    def forward(self, images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """The library's `encode_image(normalize=True)` of preprocessed pixels."""
        vector: Tensor = self.model.encode_image(self.preprocess(images, rows, columns), normalize=True)
        return vector


class EmbedText(nn.Module):
    """ids (B, T) int64 → (B, D) float32 of norm 1."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        """The library's `encode_text(normalize=True)`."""
        vector: Tensor = self.model.encode_text(ids, normalize=True)
        return vector


def export_embedder(source: str, out: Path, *, replace: bool = False) -> Bundle:
    """Export a folder that open_clip saved, its tokenizer beside it.

    Raises:
        UserError: the folder lacks a file, or the preprocessing is not supported.
        BundleError: an output differs from the library.
    """
    if out.exists() and not replace:
        raise_exists(out)
    folder = Path(source)
    model, transform = load(folder)
    config = PreprocessCfg(**open_clip.get_model_preprocess_cfg(model))
    preprocess = Preprocess(_resize(folder.name, model, config), config.mean, config.std)
    context = int(model.context_length)
    manifest = Manifest(
        role="embedder",
        name=out.name,
        image_size=preprocess.resize.size,
        resize=preprocess.resize,
        tokenizers=(TokenizerSpec(),),
        max_tokens=context,
        embedding_dim=int(model.text_projection.shape[-1]),
        checks=(preprocess.check(transform),),
        source=Source(library="open_clip", version=open_clip.__version__, model=type(model).__name__),
    )
    tokenize: Any = open_clip.get_tokenizer(f"local-dir:{folder}")
    text = TextInput(TokenizerSpec(), tokenize.tokenizer, context, lambda texts: tokenize(texts).tolist())
    files = {"tokenizer.json": bundle_tokenizer(text)}
    return export_bundle(out, manifest, embedder_graphs(model, preprocess, context), files, replace=replace)


def load(folder: Path) -> tuple[Any, Any]:
    """An open_clip model and its transform.

    Raises:
        UserError: the folder lacks a file.
    """
    for name in ("open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise UserError(f"{folder} has no {name}; it is not a folder that open_clip saved.")
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    return model, transform


def embedder_graphs(model: Any, preprocess: Preprocess, context: int) -> list[Graph]:
    """The graphs `embed_image` and `embed_text` of an open_clip model."""

    def make_ids(batch: int, generator: torch.Generator) -> dict[str, Tensor]:
        return {"ids": torch.randint(0, int(model.vocab_size), (batch, context), generator=generator)}

    round_to_half(model)
    image = EmbedImage(model, preprocess)
    return [
        Graph("embed_image", image, preprocess.random_inputs, ("vector",), TOLERANCE, shared=SHARED, dynamic=DYNAMIC),
        Graph("embed_text", EmbedText(model), make_ids, ("vector",), TOLERANCE),
    ]


def _resize(name: str, model: Any, config: PreprocessCfg) -> Resize:
    size = model.visual.image_size
    sides = set(size) if isinstance(size, tuple | list) else {size}
    if len(sides) != 1 or config.resize_mode not in ("shortest", "squash"):
        raise UserError(f"{name}: only square images with resize_mode shortest or squash are supported.")
    side = int(sides.pop())
    if config.interpolation not in ("bilinear", "bicubic"):
        raise UserError(f"{name}: interpolation {config.interpolation} is not supported.")
    return Resize.model_validate(
        {"size": side, "edge": side, "mode": config.resize_mode, "filter": config.interpolation, "rounding": True}
    )
