"""BLIP of transformers: a vision transformer, and a decoder that looks at what it saw."""

from typing import Any

import transformers
from torch import Tensor, nn

from mothlight.exporters.classifiers.transformers_model import load_transformers
from mothlight.exporters.images import LoadedCaptioner
from mothlight.exporters.preprocess import of_processor
from mothlight.exporters.source import Located

MAX_TOKENS = 56


class EncodeImage(nn.Module):
    """pixels → memory (B, N, D) float32."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.vision = model.vision_model

    def forward(self, pixels: Tensor) -> Tensor:
        """The vision model's last hidden state."""
        return self.vision(pixel_values=pixels).last_hidden_state


class NextToken(nn.Module):
    """(ids (B, T) int64, memory (B, N, D)) → logits (B, V) of the token after the last."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.decoder = model.text_decoder

    def forward(self, ids: Tensor, memory: Tensor) -> Tensor:
        """Causal decoding over all ids so far, without a cache."""
        return self.decoder(input_ids=ids, encoder_hidden_states=memory, use_cache=False).logits[:, -1]


def load_captioner(found: Located) -> LoadedCaptioner:
    """A folder that transformers saved a `BlipForConditionalGeneration` and its processor to.

    Raises:
        UserError: transformers can't load it.
    """
    model, processor = load_transformers(found, "BlipForConditionalGeneration", "BlipProcessor")
    preprocess, transform = of_processor(found.origin, processor.image_processor)
    text = model.config.text_config

    def generate(pixels: Tensor, count: int) -> Tensor:
        ids = model.generate(pixel_values=pixels, max_new_tokens=count, do_sample=False, num_beams=1)
        return ids[:, 1:]

    return LoadedCaptioner(
        encode_image=EncodeImage(model),
        next_token=NextToken(model),
        preprocess=preprocess,
        transform=transform,
        tokenizer=processor.tokenizer,
        start_ids=(int(text.bos_token_id),),
        end_id=int(text.sep_token_id),
        max_tokens=min(MAX_TOKENS, int(text.max_position_embeddings)),
        generate=generate,
        library="transformers",
        version=transformers.__version__,
        architecture=type(model).__name__,
    )
