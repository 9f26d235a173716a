"""Any model of open_clip: images and texts in one space, and a gate by their cosine."""

from typing import Any

import open_clip
from open_clip.transform import PreprocessCfg
from torch import Tensor, nn

from mothlight.engine.errors import UserError
from mothlight.engine.models.bundle import Resize, TokenizerSpec, ZeroShot
from mothlight.exporters.images import LoadedEmbedder
from mothlight.exporters.libraries import reason
from mothlight.exporters.preprocess import Preprocess
from mothlight.exporters.source import Located
from mothlight.exporters.tokenizers import TextInput


class EmbedImage(nn.Module):
    """pixels → (B, D) float32 of norm 1."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        """The library's `encode_image(normalize=True)`."""
        return self.model.encode_image(pixels, normalize=True)


class EmbedText(nn.Module):
    """ids (B, T) int64 → (B, D) float32 of norm 1."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        """The library's `encode_text(normalize=True)`."""
        return self.model.encode_text(ids, normalize=True)


def load_embedder(found: Located) -> LoadedEmbedder:
    """A folder that open_clip saved, its tokenizer beside it.

    Raises:
        UserError: the folder lacks a file, or the preprocessing is not supported.
    """
    for name in ("open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json"):
        if not (found.folder / name).is_file():
            raise UserError(f"{found.given} has no {name}; it is not a folder that open_clip saved.")
    try:
        model, transform = open_clip.create_model_from_pretrained(f"local-dir:{found.folder}")
        tokenize: Any = open_clip.get_tokenizer(f"local-dir:{found.folder}")
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise UserError(f"{found.given} can't be loaded by open_clip: {reason(error)}") from error
    config = PreprocessCfg(**open_clip.get_model_preprocess_cfg(model))
    scale = float(model.logit_scale.detach().exp())
    bias = getattr(model, "logit_bias", None)
    return LoadedEmbedder(
        image=EmbedImage(model),
        text=EmbedText(model),
        text_input=_text_input(found, tokenize, int(model.context_length)),
        preprocess=Preprocess(_resize(found.origin, model, config), config.mean, config.std),
        transform=transform,
        zero_shot=ZeroShot(
            scale=scale,
            bias=0.0 if bias is None else float(bias.detach()),
            activation="softmax" if bias is None else "sigmoid",
        ),
        library="open_clip",
        version=open_clip.__version__,
        architecture=type(model).__name__,
    )


def _text_input(found: Located, tokenize: Any, length: int) -> TextInput:
    """The tokenizer of transformers that open_clip uses, or the same words as its own, which pads with zeros."""

    def ids_of(texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = tokenize(texts).tolist()
        return ids

    if hasattr(tokenize, "tokenizer"):
        return TextInput(TokenizerSpec(), tokenize.tokenizer, length, ids_of, tidies_spaces=True)
    from transformers import PreTrainedTokenizerFast

    file = str(found.folder / "tokenizer.json")
    words = PreTrainedTokenizerFast(tokenizer_file=file)
    words.pad_token = words.convert_ids_to_tokens(0)
    return TextInput(TokenizerSpec(), words, length, ids_of)


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
