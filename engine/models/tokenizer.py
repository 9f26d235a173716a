"""Text to token ids and back, from the tokenizer files of a bundle."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mothlight.engine.errors import BundleError
from mothlight.engine.models.bundle import Bundle


class BundleTokenizer:
    """A bundle's tokenizers; the files themselves say how they pad and truncate."""

    def __init__(self, bundle: Bundle) -> None:
        """Load them.

        Raises:
            BundleError: the bundle has none, or a file is broken.
        """
        from tokenizers import Tokenizer

        self.specs = bundle.manifest.tokenizers
        if not self.specs:
            raise BundleError(f"The bundle {bundle.folder} has no tokenizer.")
        try:
            self._tokenizers = [Tokenizer.from_file(str(bundle.folder / spec.file)) for spec in self.specs]
        except Exception as error:  # tokenizers raises plain Exception
            raise BundleError(f"The tokenizer of the bundle {bundle.folder} can't be read: {error}") from error

    def encode(self, texts: Sequence[str]) -> dict[str, NDArray[np.int64]]:
        """The inputs of the text graph by name: ids and masks, each (len(texts), tokens) int64."""
        inputs = {}
        for spec, tokenizer in zip(self.specs, self._tokenizers, strict=True):
            encodings = tokenizer.encode_batch([spec.text_of(text) for text in texts])
            inputs[spec.ids] = np.array([encoding.ids for encoding in encodings], dtype=np.int64)
            if spec.mask is not None:
                inputs[spec.mask] = np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64)
        return inputs

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids of the first tokenizer, without special tokens."""
        text: str = self._tokenizers[0].decode(list(ids), skip_special_tokens=True)
        return text
