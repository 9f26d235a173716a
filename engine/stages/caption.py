"""Says in words what images show."""

import numpy as np
from numpy.typing import NDArray

from mothlight.engine.errors import BundleError
from mothlight.engine.models.bundle import Bundle
from mothlight.engine.models.runner import OrtRunner
from mothlight.engine.models.tokenizer import BundleTokenizer


class Captioner:
    """A captioner's bundle, decoded greedily: the same images give the same words."""

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        """Load the graphs.

        Raises:
            BundleError: the manifest does not say how a caption starts and ends.
        """
        manifest = bundle.manifest
        if not manifest.start_ids or manifest.end_id is None or manifest.max_tokens is None:
            raise BundleError(f"The captioner {bundle.folder} doesn't say how a caption starts and ends.")
        self.start, self.end, self.limit = manifest.start_ids, manifest.end_id, manifest.max_tokens
        self.resize = manifest.resize
        self.tokenizer = BundleTokenizer(bundle)
        self.encode_image = OrtRunner(bundle.graph_path("encode_image"), threads=threads)
        self.next_token = OrtRunner(bundle.graph_path("next_token"), threads=threads)

    def caption(self, images: NDArray[np.uint8]) -> list[str]:
        """One caption per image (B, H, W, 3)."""
        matrices = self.resize.matrices(*images.shape[1:3]) if self.resize is not None else {}
        memory = self.encode_image.infer(images=images, **matrices)["memory"]
        ids = np.tile(np.array(self.start, dtype=np.int64), (len(images), 1))
        ended = np.zeros(len(images), dtype=bool)
        while ids.shape[1] < self.limit and not ended.all():
            token = self.next_token.infer(ids=ids, memory=memory)["logits"].argmax(axis=1)
            token[ended] = self.end
            ended |= token == self.end
            ids = np.concatenate([ids, token[:, None].astype(np.int64)], axis=1)
        return [self.tokenizer.decode(_until(row.tolist(), self.end, len(self.start))) for row in ids]


def _until(ids: list[int], end: int, start: int) -> list[int]:
    words = ids[start:]
    return words[: words.index(end)] if end in words else words
