"""Text to token ids and back, from the tokenizer file of a bundle."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mothlight.engine.errors import BundleError
from mothlight.engine.models.bundle import Bundle


class BundleTokenizer:
    """A bundle's tokenizer; the file itself says how it pads and truncates."""

    def __init__(self, bundle: Bundle) -> None:
        """Load it.

        Raises:
            BundleError: the bundle has none, or its file is broken.
        """
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_file(str(bundle.tokenizer_path))
        except Exception as error:  # tokenizers raises plain Exception
            raise BundleError(f"The tokenizer of the bundle {bundle.folder} can't be read: {error}") from error

    def encode(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Token ids, (len(texts), max_tokens) int64."""
        return np.array([encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))], dtype=np.int64)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, without special tokens."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text
