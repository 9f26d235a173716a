"""Any model of open_clip: images and texts in one space, and a gate by their cosine."""

from typing import Any

import open_clip
from open_clip.transform import PreprocessCfg
from tokenizers import normalizers
from torch import Tensor, nn

from mothlight.engine.errors import UserError
from mothlight.engine.models.bundle import TokenizerSpec, ZeroShot
from mothlight.engine.models.resize import Resize
from mothlight.exporters.images import LoadedEmbedder
from mothlight.exporters.libraries import library_errors
from mothlight.exporters.preprocess import Preprocess, side
from mothlight.exporters.source import Located, require_whole
from mothlight.exporters.tokenizers import TextInput, canonical, tidy

MODES = {"shortest": "shortest", "squash": "squash", "longest": "letterbox"}
"""open_clip's resize_mode, as ours."""
CLEAN: dict[str, list[Any]] = {
    "whitespace": tidy(),
    "lower": [*tidy(), normalizers.Lowercase()],
    "canonicalize": canonical(underscores=True),
}
"""What open_clip does to a text before its tokenizer sees it."""


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
    names = ["open_clip_config.json", "open_clip_model.safetensors"]
    told = found.json("open_clip_config.json").get("model_cfg", {}).get("text_cfg", {})
    if not told.get("hf_tokenizer_name"):
        names.append("tokenizer.json")  # open_clip's own tokenizer lies in no other file
    for name in names:
        if not (found.folder / name).is_file():
            raise UserError(f"{found.given} has no {name}; it is not a folder that open_clip saved.")
    require_whole(found)
    with library_errors(f"{found.given} can't be loaded by open_clip"):
        model, transform = open_clip.create_model_from_pretrained(f"local-dir:{found.folder}")
        tokenize: Any = open_clip.get_tokenizer(f"local-dir:{found.folder}")
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
        if tokenize.tokenizer_mode or tokenize.strip_sep_token:
            raise UserError(f"{found.given}: the tokenizer_mode or strip_sep_token of its text_cfg is not supported.")
        how = tokenize.clean_fn.__name__.removeprefix("_clean_")
        if how not in CLEAN:
            raise UserError(f"{found.given}: `clean` = {how} of its tokenizer is not supported.")
        return TextInput(TokenizerSpec(), tokenize.tokenizer, length, ids_of, clean=CLEAN[how])
    from transformers import PreTrainedTokenizerFast

    file = str(found.folder / "tokenizer.json")
    words = PreTrainedTokenizerFast(tokenizer_file=file)
    words.pad_token = words.convert_ids_to_tokens(0)
    return TextInput(TokenizerSpec(), words, length, ids_of)


def _resize(name: str, model: Any, config: PreprocessCfg) -> Resize:
    size = pair_of(model.visual.image_size)
    if config.resize_mode not in MODES:
        raise UserError(f"{name}: resize_mode {config.resize_mode} is not supported, but {', '.join(MODES)}.")
    if config.interpolation not in ("bilinear", "bicubic"):
        raise UserError(f"{name}: interpolation {config.interpolation} is not supported.")
    if config.resize_mode == "shortest" and size[0] != size[1]:
        raise UserError(f"{name}: resize_mode shortest makes square images, and the model takes {size}.")
    return Resize.model_validate(
        {
            "size": side(size),
            "edge": side(size),
            "mode": MODES[config.resize_mode],
            "filter": config.interpolation,
            "rounding": True,
            "order": "pillow",
            "fill": config.fill_color if config.resize_mode == "longest" else 0,
        }
    )


def pair_of(size: Any) -> tuple[int, int]:
    """Height and width of what open_clip calls a size."""
    height, width = size if isinstance(size, tuple | list) else (size, size)
    return int(height), int(width)
