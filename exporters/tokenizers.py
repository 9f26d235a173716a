"""A library's tokenizer → the tokenizer file of a bundle, which pads and truncates by itself."""

from collections.abc import Callable, Sequence
from typing import Any

from tokenizers import Tokenizer

from mothlight.engine.errors import BundleError

SENTENCES = (
    "a realistic photograph of a ladybird (insect). it is on a leaf.",
    "  Two CARS,   by night",
    "",
    "it is raining. " * 60,
)
"""What the two are compared on: plain text, odd spaces and capitals, nothing, and more than fits."""


def bundle_tokenizer(library: Any, length: int, encode: Callable[[Sequence[str]], list[list[int]]]) -> bytes:
    """The file for a `transformers` tokenizer, padded and cut to `length` tokens.

    `encode` is how the library itself makes ids; each of `SENTENCES` must give the same.

    Raises:
        BundleError: one does not.
    """
    tokenizer = Tokenizer.from_str(library.backend_tokenizer.to_str())
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length, pad_id=library.pad_token_id, pad_token=library.pad_token)
    for sentence, wanted in zip(SENTENCES, encode(SENTENCES), strict=True):
        if tokenizer.encode(sentence).ids != wanted:
            raise BundleError(f"The exported tokenizer reads {sentence[:40]!r} otherwise than the library.")
    return tokenizer.to_str().encode()


def decoder_tokenizer(library: Any) -> bytes:
    """The file for a tokenizer that only turns ids into text."""
    text: str = library.backend_tokenizer.to_str()
    return text.encode()
