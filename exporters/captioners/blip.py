"""BLIP of transformers: a vision transformer, and a decoder that looks at what it saw."""

from typing import Any

import transformers
from torch import Tensor, nn

from mothlight.exporters.captioners.parts import MAX_TOKENS, CrossAttending, greedy
from mothlight.exporters.classifiers.transformers_model import load_transformers
from mothlight.exporters.images import LoadedCaptioner
from mothlight.exporters.preprocess import of_processor
from mothlight.exporters.source import Located


class EncodeImage(nn.Module):
    """pixels → memory (B, N, D) float32."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.vision = model.vision_model

    def forward(self, pixels: Tensor) -> Tensor:
        """The vision model's last hidden state."""
        return self.vision(pixel_values=pixels).last_hidden_state


def load_captioner(found: Located) -> LoadedCaptioner:
    """A folder that transformers saved a `BlipForConditionalGeneration` and its processor to.

    Raises:
        UserError: transformers can't load it.
    """
    model, processor = load_transformers(found, "BlipForConditionalGeneration", "BlipProcessor")
    preprocess, transform = of_processor(found.origin, processor.image_processor)
    text = model.config.text_config

    return LoadedCaptioner(
        encode_image=EncodeImage(model),
        decoder=CrossAttending(model.text_decoder),
        preprocess=preprocess,
        transform=transform,
        tokenizer=processor.tokenizer,
        start_ids=(int(text.bos_token_id),),
        end_id=int(text.sep_token_id),
        max_tokens=min(MAX_TOKENS, int(text.max_position_embeddings)),
        generate=greedy(model),
        library="transformers",
        version=transformers.__version__,
        architecture=type(model).__name__,
    )
