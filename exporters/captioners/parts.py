"""What several families of captioners share."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

MAX_TOKENS = 56


class CrossAttendingNextToken(nn.Module):
    """(ids (B, T) int64, memory (B, N, D)) → logits (B, V) of the token after the last, by a decoder with a head."""

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, ids: Tensor, memory: Tensor) -> Tensor:
        """Causal decoding over all ids so far, without a cache."""
        return self.decoder(input_ids=ids, encoder_hidden_states=memory, use_cache=False).logits[:, -1]


def greedy(model: Any) -> Callable[[Tensor, int], Tensor]:
    """The library's own greedy decoding of a model whose captions start with one token."""

    def generate(pixels: Tensor, count: int) -> Tensor:
        ids = model.generate(pixel_values=pixels, max_new_tokens=count, do_sample=False, num_beams=1)
        return ids[:, 1:]

    return generate
