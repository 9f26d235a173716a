"""Vision encoder-decoders of transformers (ViT and GPT-2, for one): an encoder, and a decoder that looks at it."""

from typing import Any

import transformers
from torch import Tensor, nn

from mothlight.engine.errors import UserError
from mothlight.exporters.captioners.parts import MAX_TOKENS, CrossAttending, greedy
from mothlight.exporters.classifiers.transformers_model import load_transformers
from mothlight.exporters.images import LoadedCaptioner
from mothlight.exporters.libraries import reason
from mothlight.exporters.preprocess import of_processor
from mothlight.exporters.source import Located


class EncodeImage(nn.Module):
    """pixels → memory (B, N, D) float32, as wide as the decoder wants it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder = model.encoder
        self.projection = getattr(model, "enc_to_dec_proj", nn.Identity())

    def forward(self, pixels: Tensor) -> Tensor:
        """The encoder's last hidden state."""
        return self.projection(self.encoder(pixel_values=pixels).last_hidden_state)


def load_captioner(found: Located) -> LoadedCaptioner:
    """A folder that transformers saved a `VisionEncoderDecoderModel`, its image processor and its tokenizer to.

    Raises:
        UserError: transformers can't load it, or it does not say how a caption starts and ends.
    """
    model, processor = load_transformers(found, "VisionEncoderDecoderModel")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            found.folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise UserError(f"{found.given} has no tokenizer that transformers can load: {reason(error)}") from error
    start, end = model.config.decoder_start_token_id, model.config.eos_token_id
    if start is None or end is None:
        raise UserError(f"{found.given}: its config.json lacks decoder_start_token_id or eos_token_id.")
    preprocess, transform = of_processor(found.origin, processor)

    return LoadedCaptioner(
        encode_image=EncodeImage(model),
        decoder=CrossAttending(model.decoder),
        preprocess=preprocess,
        transform=transform,
        tokenizer=tokenizer,
        start_ids=(int(start),),
        end_id=int(end),
        max_tokens=min(MAX_TOKENS, int(model.config.decoder.max_position_embeddings)),
        generate=greedy(model),
        library="transformers",
        version=transformers.__version__,
        architecture=type(model).__name__,
    )
