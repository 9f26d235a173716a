"""What several families of captioners share: greedy decoding with a key-value cache, as two graphs.

`first_token` reads what the image left in memory and gives the logits of the first word, and the state: each layer's
keys and values over the tokens so far (`key_0`, `value_0`, …) and, where the decoder looks at the image by itself, over
the image (`seen_key_0`, …). `next_token` takes one token and the state, and gives the logits of the one after it and
the keys and values that have grown by one; those over the image stay.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache, DynamicLayer, EncoderDecoderCache

from mothlight.engine.stages.caption import SEEN

MAX_TOKENS = 56
Decode = Callable[[Tensor, Tensor | None, Any], Tensor]
"""(ids (B, T) int64, memory (B, N, D) or None behind the first token, cache) → logits (B, V) of the token after."""


class CrossAttending(nn.Module):
    """A decoder with a head that looks at the memory in layers of its own; see `Decode`."""

    crosses = True

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, ids: Tensor, memory: Tensor | None, cache: Any) -> Tensor:
        """Causal decoding of these ids behind those in the cache."""
        seen = cache.cross_attention_cache.layers[0].keys if memory is None else None
        # behind the first token the memory is in the cache; that there is one is all that is asked of this
        given = memory if seen is None else seen.new_zeros(ids.shape[0], seen.shape[2], 1)
        out = self.decoder(input_ids=ids, encoder_hidden_states=given, cache=cache, use_cache=True)
        return out.logits[:, -1]


class FirstToken(nn.Module):
    """memory (B, N, D) → logits (B, V), then the state."""

    start: Tensor

    def __init__(self, decoder: nn.Module, start_ids: Sequence[int]) -> None:
        super().__init__()
        self.decoder = decoder
        self.register_buffer("start", torch.tensor([list(start_ids)]))

    def forward(self, memory: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        words, seen = DynamicCache(), DynamicCache()
        cache = EncoderDecoderCache(words, seen) if self.decoder.crosses else words
        logits = self.decoder(self.start.expand(memory.shape[0], -1), memory, cache)
        return (logits, *_tensors(words), *_tensors(seen))


class NextToken(nn.Module):
    """(ids (B, 1) int64, the state) → logits (B, V), then the part of the state that has grown."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, ids: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        if not self.decoder.crosses:
            cache: Any = _cache(state)
            return (self.decoder(ids, None, cache), *_tensors(cache))
        half = len(state) // 2
        words = _cache(state[:half])
        both = EncoderDecoderCache(words, _cache(state[half:]))
        return (self.decoder(ids, None, both), *_tensors(words))


def state_names(layers: int, *, crosses: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the tensors of the state are called: those that grow, and those over the image."""
    names = [f"{kind}_{layer}" for layer in range(layers) for kind in ("key", "value")]
    return tuple(names), tuple(f"{SEEN}{name}" for name in names) if crosses else ()


def _tensors(cache: Any) -> list[Tensor]:
    return [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]


def _cache(state: Sequence[Tensor]) -> DynamicCache:
    cache = DynamicCache()
    for keys, values in zip(state[0::2], state[1::2], strict=True):
        layer = DynamicLayer()
        layer.keys, layer.values, layer.device, layer.is_initialized = keys, values, keys.device, True
        cache.layers.append(layer)
    return cache


def greedy(model: Any) -> Callable[[Tensor, int], Tensor]:
    """The library's own greedy decoding of a model whose captions start with one token."""

    def generate(pixels: Tensor, count: int) -> Tensor:
        ids = model.generate(pixel_values=pixels, max_new_tokens=count, do_sample=False, num_beams=1)
        return ids[:, 1:]

    return generate
