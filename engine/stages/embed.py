"""Places images in a space in which like lies near like."""

import numpy as np
from numpy.typing import NDArray

from mothlight.engine.batch import Batch
from mothlight.engine.models.bundle import Bundle
from mothlight.engine.models.runner import OrtRunner


class EmbedStage:
    """Adds `embedding` (B, D) float32 of norm 1; not finite is a failure."""

    name = "embed"
    workers = 1

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        self.resize = bundle.manifest.resize
        self.runner = OrtRunner(bundle.graph_path("embed_image"), threads=threads)

    def __call__(self, batch: Batch) -> Batch:
        """See `Stage`."""
        images = batch.arrays["images"]
        matrices = self.resize.matrices(*images.shape[1:3]) if self.resize is not None else {}
        vectors: NDArray[np.float32] = self.runner.infer(images=images, **matrices)["vector"]
        failures = {
            index: "the embedding is not finite"
            for index, vector in zip(batch.indices, vectors, strict=False)
            if not np.isfinite(vector).all()
        }
        return batch.with_arrays(embedding=vectors).with_failures(failures)
