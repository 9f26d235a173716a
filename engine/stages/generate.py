"""Makes images of a prompt: the neural generator, and the stage that runs any generator."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mothlight.engine.batch import Batch
from mothlight.engine.errors import UserError
from mothlight.engine.models.bundle import Bundle
from mothlight.engine.models.noise import noise
from mothlight.engine.models.runner import OrtRunner
from mothlight.engine.models.sampler import Float32, sample, table_of
from mothlight.engine.models.tokenizer import BundleTokenizer
from mothlight.engine.records import Prompt


class Generator(Protocol):
    """Anything that makes images; the same prompt and index always give the same image, in whatever batch."""

    def images(self, prompt: Prompt, indices: Sequence[int]) -> NDArray[np.uint8]:
        """(len(indices), H, W, 3) uint8. An index keeps its noise under every prompt of the label: pairs."""
        ...


class DiffusionGenerator:
    """A generator's bundle: text encoder, the sampler's loop over the denoiser, decoder."""

    def __init__(self, bundle: Bundle, *, seed: int, steps: int | None = None, threads: int = 1) -> None:
        """Load the graphs.

        Raises:
            UserError: the bundle has no sampler with that many steps.
        """
        table = table_of(bundle.manifest.samplers, steps)
        if table is None:
            known = ", ".join(str(len(table.rows)) for table in bundle.manifest.samplers)
            raise UserError(f"The generator {bundle.manifest.name} has no sampler of {steps} steps, but of {known}.")
        self.table = table
        self.seed = seed
        self.latent = bundle.manifest.latent
        self.tokenizer = BundleTokenizer(bundle)
        self.encode_text, self.denoise, self.decode = (
            OrtRunner(bundle.graph_path(graph), threads=threads) for graph in ("encode_text", "denoise", "decode")
        )
        self.embedding = lru_cache(maxsize=256)(self._embedding)

    def _embedding(self, text: str) -> Float32:
        embedding: Float32 = self.encode_text.infer(**self.tokenizer.encode([text]))["embedding"]
        return embedding

    def images(self, prompt: Prompt, indices: Sequence[int]) -> NDArray[np.uint8]:
        """See `Generator`."""
        embedding = np.repeat(self.embedding(prompt.text), len(indices), axis=0)

        def denoise(
            x: Float32, x0: Float32, z: Float32, timestep: Float32, coefficients: Float32
        ) -> tuple[Float32, Float32]:
            out = self.denoise.infer(
                x=x, x0_prev=x0, noise=z, timestep=timestep, coefficients=coefficients, embedding=embedding
            )
            return out["x_next"], out["x0"]

        def noise_of_step(step: int) -> Float32:
            return noise(self.seed, prompt.label, indices, step, "latent", self.latent)

        latent = sample(denoise, self.table, noise_of_step)
        images: NDArray[np.uint8] = self.decode.infer(latent=latent)["images"]
        images[~np.isfinite(latent).all(axis=(1, 2, 3))] = 0
        return images


class GenerateStage:
    """Adds `images` (B, H, W, 3) uint8; an image of one single colour is a failure."""

    name = "generate"

    def __init__(self, generator: Generator, workers: int) -> None:
        self.generator = generator
        self.workers = workers

    def __call__(self, batch: Batch) -> Batch:
        """See `Stage`."""
        images = self.generator.images(batch.chunk.prompt, batch.padded)
        flat = images.reshape(len(images), -1)
        blank = (flat == flat[:, :1]).all(axis=1)
        failures = {
            index: "the generator made an image of one single colour"
            for index, empty in zip(batch.indices, blank[: len(batch.indices)], strict=True)
            if empty
        }
        return batch.with_arrays(images=images).with_failures(failures)
