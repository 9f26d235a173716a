"""What the families of image models hand over: classifiers, embedders, captioners, taken apart."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image
from torch import Tensor, nn

from mothlight.engine.models.bundle import ZeroShot
from mothlight.exporters.preprocess import Preprocess
from mothlight.exporters.tokenizers import TextInput

Activation = Literal["softmax", "sigmoid"]


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
    activation: Activation = "softmax"
    """What makes scores of the logits: `sigmoid` where each label was learnt by itself."""

    @property
    def labels(self) -> int:
        """How many there are: one number stands for two."""
        return 2 if self.outputs == 1 else self.outputs


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
    decoder: nn.Module
    """See `captioners.parts.Decode`; `crosses` says whether it looks at the memory in layers of its own."""
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
