"""Tokenizers that only SentencePiece runs, and those that pad on the left, as files that need no library."""

import string
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from mothlight.engine.models.bundle import TokenizerSpec
from mothlight.engine.vocabulary import imagenet
from mothlight.exporters.libraries import quiet
from mothlight.exporters.tokenizers import SENTENCES, TextInput, bundle_tokenizer, of_sentencepiece
from tests.exporters import tiny

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries warn of their own deprecations
quiet()
ODD = (
    "It's a tench_fish--x",
    string.punctuation,
    "ünïcode Ärger 日本",
    " lead and trail ",
    "a\tb\nc",
    "♥ love ﬁne ①",
    "A PHOTO OF A T-SHIRT, 50% OFF!",
)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_siglip_tokenizer_is_converted_string_by_string(kind: str, tmp_path: Path) -> None:
    library: Any = tiny.transformers.SiglipTokenizer(
        str(tiny.sentence_pieces(tmp_path / "spiece.model", kind)), model_max_length=64
    )
    made = of_sentencepiece(library)
    texts = [*SENTENCES, *ODD, *(f"a photo of {word.name}." for word in imagenet())]
    assert [made.encode(text).ids for text in texts] == [library(text).input_ids for text in texts]


def test_the_file_pads_and_cuts_as_the_library_does(tmp_path: Path) -> None:
    library = tiny.siglip_tokenizer(tmp_path)
    made = Tokenizer.from_str(bundle_tokenizer(TextInput(TokenizerSpec(), library, 16)).decode())
    for text in SENTENCES:
        wanted = library(text, padding="max_length", max_length=16, truncation=True).input_ids
        assert made.encode(text).ids == wanted
        assert len(wanted) == 16


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_and_cutting_may_be_on_the_left(side: str) -> None:
    library = tiny.clip_tokenizer()
    library.padding_side = library.truncation_side = side
    made = Tokenizer.from_str(bundle_tokenizer(TextInput(TokenizerSpec(), library, 16)).decode())
    ids = made.encode("a dog").ids
    assert (ids[0] == library.pad_token_id) == (side == "left")
