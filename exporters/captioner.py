"""A BLIP captioner of transformers → a captioner's bundle."""

from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image
from torch import Tensor, nn
from transformers import BlipForConditionalGeneration, BlipProcessor

from mothlight.engine.errors import UserError
from mothlight.engine.models.bundle import Bundle, Manifest, Resize, Source, TokenizerSpec
from mothlight.engine.models.resize import Filter
from mothlight.exporters.graphs import Graph, round_to_half
from mothlight.exporters.preprocess import DYNAMIC, SHARED, Preprocess
from mothlight.exporters.publish import export_bundle, raise_exists
from mothlight.exporters.tokenizers import decoder_tokenizer

TOLERANCE = 1e-3
MAX_TOKENS = 56
FILTERS: dict[int, Filter] = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers, which transformers uses."""


class EncodeImage(nn.Module):
    """(images, rows, columns) → memory (B, N, D) float32."""

    def __init__(self, model: Any, preprocess: Preprocess) -> None:
        super().__init__()
        self.vision = model.vision_model
        self.preprocess = preprocess

    def forward(self, images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """The vision model's last hidden state."""
        memory: Tensor = self.vision(pixel_values=self.preprocess(images, rows, columns)).last_hidden_state
        return memory


class NextToken(nn.Module):
    """(ids (B, T) int64, memory (B, N, D)) → logits (B, V) of the token after the last."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.decoder = model.text_decoder

    def forward(self, ids: Tensor, memory: Tensor) -> Tensor:
        """Causal decoding over all ids so far, without a cache."""
        logits: Tensor = self.decoder(input_ids=ids, encoder_hidden_states=memory, use_cache=False).logits
        return logits[:, -1]


def export_captioner(source: str, out: Path, *, replace: bool = False) -> Bundle:
    """Export a folder that transformers saved a `BlipForConditionalGeneration` and its processor to.

    Raises:
        UserError: the folder lacks the model, or the preprocessing is not supported.
        BundleError: an output differs from the library.
    """
    if out.exists() and not replace:
        raise_exists(out)
    folder = Path(source)
    model, processor = load(folder)
    images = processor.image_processor
    preprocess = Preprocess(_resize(folder.name, images), images.image_mean, images.image_std)

    def transform(image: Image.Image) -> Tensor:
        pixels: Tensor = images(image, return_tensors="pt").pixel_values[0]
        return pixels

    text = model.config.text_config
    manifest = Manifest(
        role="captioner",
        name=out.name,
        image_size=preprocess.resize.size,
        resize=preprocess.resize,
        tokenizers=(TokenizerSpec(),),
        start_ids=(int(text.bos_token_id),),
        end_id=int(text.sep_token_id),
        max_tokens=min(MAX_TOKENS, int(text.max_position_embeddings)),
        checks=(preprocess.check(transform),),
        source=Source(library="transformers", version=transformers.__version__, model=type(model).__name__),
    )
    files = {"tokenizer.json": decoder_tokenizer(processor.tokenizer)}
    return export_bundle(out, manifest, captioner_graphs(model, preprocess), files, replace=replace)


def load(folder: Path) -> tuple[Any, Any]:
    """A BLIP and its processor.

    Raises:
        UserError: the folder lacks a file.
    """
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise UserError(f"{folder} has no {name}; it is not a folder that transformers saved.")
    processor = BlipProcessor.from_pretrained(folder, local_files_only=True)
    model = BlipForConditionalGeneration.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, attn_implementation="eager"
    )
    return model, processor


def captioner_graphs(model: Any, preprocess: Preprocess) -> list[Graph]:
    """The graphs `encode_image` and `next_token` of a BLIP."""
    round_to_half(model)
    width, vocabulary = int(model.config.vision_config.hidden_size), int(model.config.text_config.vocab_size)
    patches = (int(model.config.vision_config.image_size) // int(model.config.vision_config.patch_size)) ** 2

    def make_ids(batch: int, generator: torch.Generator) -> dict[str, Tensor]:
        length = 3 + batch
        ids = torch.randint(0, vocabulary, (batch, length), generator=generator)
        return {"ids": ids, "memory": torch.randn(batch, patches + 1, width, generator=generator)}

    image = EncodeImage(model, preprocess)
    return [
        Graph("encode_image", image, preprocess.random_inputs, ("memory",), TOLERANCE, shared=SHARED, dynamic=DYNAMIC),
        Graph("next_token", NextToken(model), make_ids, ("logits",), TOLERANCE, dynamic={"ids": {1: "length"}}),
    ]


def _resize(name: str, images: Any) -> Resize:
    height, width = int(images.size["height"]), int(images.size["width"])
    if height != width or int(images.resample) not in FILTERS:
        raise UserError(f"{name}: only square images with bilinear or bicubic resizing are supported.")
    kind = FILTERS[int(images.resample)]
    return Resize(size=height, edge=height, mode="squash", filter=kind, rounding=True)
