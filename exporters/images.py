"""What the families of image models hand over: classifiers, embedders, captioners, taken apart."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image
from torch import Tensor, nn

from mothlight.engine.errors import UserError
from mothlight.engine.models.bundle import ZeroShot
from mothlight.engine.vocabulary import imagenet
from mothlight.exporters.preprocess import Preprocess
from mothlight.exporters.tokenizers import TextInput

IMAGENET_SHARE = 0.9
"""Share of a model's own names that must be ImageNet's before they give way to ours."""


@dataclass(frozen=True)
class LoadedClassifier:
    """A classifier of a library."""

    model: nn.Module
    """pixels (B, 3, S, S) float32 → logits (B, labels)."""
    preprocess: Preprocess
    transform: Callable[[Image.Image], Tensor]
    """The library's own preprocessing of one image."""
    names: tuple[str, ...] | None
    """What the model itself calls its labels."""
    outputs: int
    library: str
    version: str
    architecture: str


@dataclass(frozen=True)
class LoadedEmbedder:
    """An embedder of a library."""

    image: nn.Module
    """pixels → (B, D) float32 of norm 1."""
    text: nn.Module | None
    """ids (B, T) int64 → (B, D) float32 of norm 1; None where the model reads no text."""
    text_input: TextInput | None
    preprocess: Preprocess
    transform: Callable[[Image.Image], Tensor]
    zero_shot: ZeroShot | None
    """How it serves as a gate; None where it can't."""
    library: str
    version: str
    architecture: str


@dataclass(frozen=True)
class LoadedCaptioner:
    """A captioner of a library."""

    encode_image: nn.Module
    """pixels → memory (B, N, D) float32."""
    next_token: nn.Module
    """(ids (B, T) int64, memory) → logits (B, V) of the token after the last."""
    preprocess: Preprocess
    transform: Callable[[Image.Image], Tensor]
    tokenizer: Any
    start_ids: tuple[int, ...]
    end_id: int
    max_tokens: int
    generate: Callable[[Tensor, int], Tensor]
    """The library's own greedy decoding: (pixels, so many tokens at most) → ids (B, T) behind the start."""
    library: str
    version: str
    architecture: str


def labels_of(given: str, names: Sequence[str] | None, outputs: int) -> tuple[str, ...]:
    """The labels of a classifier: its own, or ImageNet's where they are the same classes or it says none of 1,000.

    Libraries spell ImageNet's classes in several ways; under one spelling several classifiers can be audited together.

    Raises:
        UserError: it names none, or another number than it has outputs.
    """
    own = tuple(names or ())
    words = imagenet()
    if outputs == len(words):
        spelled = [name.split(",")[0].strip().lower() for name in own]
        same = sum(
            name in (word.name.split(" (")[0].lower(), word.wordnet_id)
            for name, word in zip(spelled, words, strict=False)
        )
        if not own or same >= IMAGENET_SHARE * outputs:
            return tuple(word.name for word in words)
    if len(own) != outputs:
        raise UserError(
            f"{given} names {len(own)} labels for {outputs} outputs: its config.json needs `label_names` (timm) or "
            f"`id2label` (transformers), or give --labels FILE with one label per line."
        )
    if len(set(own)) != len(own):
        twice = next(name for name in own if own.count(name) > 1)
        raise UserError(f"{given} has the label `{twice}` twice; give --labels FILE with one label per line.")
    return own
