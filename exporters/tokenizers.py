"""A library's tokenizer → the tokenizer file of a bundle, which pads and truncates by itself."""

import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Regex, Tokenizer, normalizers, processors

from mothlight.engine.errors import BundleError, UserError
from mothlight.engine.models.bundle import TokenizerSpec
from mothlight.engine.vocabulary import imagenet

BYTE_PAIRS = 2
"""SentencePiece's number for its byte pair models; 1 is unigram."""

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
    clean: Sequence[Any] = ()
    """Normalizers for what the library does to a text before the tokenizer sees it."""

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
    """The tokenizer file for a text input.

    Each of `SENTENCES`, and one on each of ImageNet's labels, must give the library's ids.

    Raises:
        UserError: the library's tokenizer is of a kind that has no such file.
        BundleError: a text gives other ids.
    """
    library = given.tokenizer
    tokenizer = Tokenizer.from_str(backend_of(library))
    own = tokenizer.normalizer
    if given.clean:
        tokenizer.normalizer = normalizers.Sequence([*given.clean, *([] if own is None else [own])])
    tokenizer.enable_truncation(given.length, direction=getattr(library, "truncation_side", "right"))
    tokenizer.enable_padding(
        length=given.length,
        pad_id=library.pad_token_id,
        pad_token=library.pad_token,
        direction=getattr(library, "padding_side", "right"),
    )
    sentences = (*SENTENCES, *(f"A photo of {word.name} ({word.hypernym}), outdoors." for word in imagenet()))
    for sentence, wanted in zip(sentences, given.encode(sentences), strict=True):
        if tokenizer.encode(given.spec.text_of(sentence)).ids != wanted:
            raise BundleError(f"The exported tokenizer reads {sentence[:40]!r} otherwise than the library.")
    return tokenizer.to_str().encode()


def decoder_tokenizer(library: Any) -> bytes:
    """The file for a tokenizer that only turns ids into text."""
    return backend_of(library).encode()


def backend_of(library: Any) -> str:
    """A tokenizer of transformers as a tokenizer file; one of SentencePiece alone is converted.

    Raises:
        UserError: it is of neither kind.
    """
    if hasattr(library, "backend_tokenizer"):
        text: str = library.backend_tokenizer.to_str()
        return text
    if not hasattr(library, "sp_model"):
        raise UserError(f"A {type(library).__name__} has no fast tokenizer, and is none of SentencePiece either.")
    return of_sentencepiece(library).to_str()


def of_sentencepiece(library: Any) -> Tokenizer:
    """A tokenizer of transformers that SentencePiece runs, as one of tokenizers: its pieces, and what is around."""
    from transformers.convert_slow_tokenizer import SpmConverter, import_protobuf

    proto = import_protobuf().ModelProto.FromString(library.sp_model.serialized_model_proto())
    siglip = hasattr(library, "canonicalize_text")
    if siglip:  # it puts the prefix there itself
        proto.normalizer_spec.add_dummy_prefix = True
    if proto.trainer_spec.model_type == BYTE_PAIRS:
        vocabulary: Any = {piece.piece: place for place, piece in enumerate(proto.pieces)}
    else:
        vocabulary = [(piece.piece, piece.score) for piece in proto.pieces]
    tokenizer: Tokenizer = SpmConverter.build_tokenizer_from_spm_proto(proto, vocabulary)
    if siglip:
        steps = canonical(lowercase=bool(library.do_lower_case))
        tokenizer.normalizer = normalizers.Sequence([*steps, tokenizer.normalizer])
    marker = -1
    around = library.build_inputs_with_special_tokens([marker])
    names = ["$A" if one == marker else library.convert_ids_to_tokens(one) for one in around]
    special = [(name, one) for name, one in zip(names, around, strict=True) if one != marker]
    tokenizer.add_special_tokens([name for name, _ in special])
    if special:
        tokenizer.post_processor = processors.TemplateProcessing(single=" ".join(names), special_tokens=special)
    return tokenizer


def canonical(*, lowercase: bool = True, underscores: bool = False) -> list[Any]:
    """What SigLIP's texts go through (big_vision, prompt_engineering.py): no punctuation, single spaces."""
    marks = Regex("[" + "".join(f"\\{mark}" for mark in string.punctuation) + "]")
    return [
        *([normalizers.Lowercase()] if lowercase else []),
        *([normalizers.Replace("_", " ")] if underscores else []),
        normalizers.Replace(marks, ""),
        *tidy(),
    ]


def tidy() -> list[Any]:
    """Each run of spaces becomes one, and none are left around a text."""
    return [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
