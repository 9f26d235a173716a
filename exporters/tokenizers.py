"""A library's tokenizer → the tokenizer file of a bundle, which pads and truncates by itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Regex, Tokenizer, normalizers

from mothlight.engine.errors import BundleError
from mothlight.engine.models.bundle import TokenizerSpec

SENTENCES = (
    "a realistic photograph of a ladybird (insect). it is on a leaf.",
    "  Two CARS,   by night",
    "",
    "it is raining. " * 60,
)
"""What the two are compared on: plain text, odd spaces and capitals, nothing, and more than fits."""


@dataclass(frozen=True)
class TextInput:
    """A library's tokenizer, and how the model uses it."""

    spec: TokenizerSpec
    tokenizer: Any
    length: int
    """Tokens to which every text is padded and cut."""
    ids_of: Callable[[list[str]], list[list[int]]] | None = None
    """How the library makes ids, if not by calling the tokenizer."""
    tidies_spaces: bool = False
    """Whether the library makes each run of spaces one before the tokenizer sees a text."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The library's own ids of texts."""
        given = [self.spec.text_of(text) for text in texts]
        if self.ids_of is not None:
            return self.ids_of(given)
        ids: list[list[int]] = self.tokenizer(
            given, padding="max_length", max_length=self.length, truncation=True
        ).input_ids
        return ids


def bundle_tokenizer(given: TextInput) -> bytes:
    """The tokenizer file for a text input; each of `SENTENCES` must give the library's ids.

    Raises:
        BundleError: one does not.
    """
    library = given.tokenizer
    tokenizer = Tokenizer.from_str(library.backend_tokenizer.to_str())
    if given.tidies_spaces:
        steps = [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
        own = tokenizer.normalizer
        tokenizer.normalizer = normalizers.Sequence(steps if own is None else [*steps, own])
    tokenizer.enable_truncation(given.length)
    tokenizer.enable_padding(length=given.length, pad_id=library.pad_token_id, pad_token=library.pad_token)
    texts = [given.spec.text_of(sentence) for sentence in SENTENCES]
    for sentence, text, wanted in zip(SENTENCES, texts, given.encode(SENTENCES), strict=True):
        if tokenizer.encode(text).ids != wanted:
            raise BundleError(f"The exported tokenizer reads {sentence[:40]!r} otherwise than the library.")
    return tokenizer.to_str().encode()


def decoder_tokenizer(library: Any) -> bytes:
    """The file for a tokenizer that only turns ids into text."""
    text: str = library.backend_tokenizer.to_str()
    return text.encode()
