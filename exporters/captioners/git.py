"""GIT of transformers: one transformer over an image's tokens and the words so far."""

from typing import Any

import torch
import transformers
from torch import Tensor, nn

from mothlight.exporters.captioners.parts import MAX_TOKENS, greedy
from mothlight.exporters.classifiers.transformers_model import load_transformers
from mothlight.exporters.images import LoadedCaptioner
from mothlight.exporters.preprocess import of_processor
from mothlight.exporters.source import Located


class EncodeImage(nn.Module):
    """pixels → memory (B, N, D) float32."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.git = model.git

    def forward(self, pixels: Tensor) -> Tensor:
        """The image's tokens, projected to where the words are."""
        return self.git.visual_projection(self.git.image_encoder(pixels).last_hidden_state)


class Decoder(nn.Module):
    """The transformer and its head; see `parts.Decode`. The image's tokens stand in the cache before the words."""

    crosses = False

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.git = model.git
        self.head = model.output
        self.images = 0

    def forward(self, ids: Tensor, memory: Tensor | None, cache: Any) -> Tensor:
        """The image's tokens see each other, the words see the image and the words before them."""
        if memory is None:
            place = torch.arange(ids.shape[1], device=ids.device) + (cache.get_seq_length() - self.images)
            hidden, mask = self.git.embeddings(input_ids=ids, position_ids=place[None]), None
        else:
            self.images = memory.shape[1]
            hidden = torch.cat([memory, self.git.embeddings(input_ids=ids)], dim=1)
            places = torch.arange(hidden.shape[1], device=ids.device)
            visible = (places[None, :] <= places[:, None]) | (places[None, :] < self.images)
            hidden_from_image = (places[:, None] < self.images) & (places[None, :] >= self.images)
            least = torch.finfo(hidden.dtype).min
            mask = torch.where(visible & ~hidden_from_image, 0.0, least).to(hidden.dtype)[None, None]
        out = self.git.encoder(hidden, attention_mask=mask, cache=cache, use_cache=True)
        return self.head(out.last_hidden_state[:, -1])


def load_captioner(found: Located) -> LoadedCaptioner:
    """A folder that transformers saved a `GitForCausalLM` and its processor to.

    Raises:
        UserError: transformers can't load it.
    """
    model, processor = load_transformers(found, "GitForCausalLM", "AutoProcessor")
    preprocess, transform = of_processor(found.origin, processor.image_processor)

    return LoadedCaptioner(
        encode_image=EncodeImage(model),
        decoder=Decoder(model),
        preprocess=preprocess,
        transform=transform,
        tokenizer=processor.tokenizer,
        start_ids=(int(model.config.bos_token_id),),
        end_id=int(model.config.eos_token_id),
        max_tokens=min(MAX_TOKENS, int(model.config.max_position_embeddings)),
        generate=greedy(model),
        library="transformers",
        version=transformers.__version__,
        architecture=type(model).__name__,
    )
