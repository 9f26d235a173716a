"""Makes images of a prompt: the neural generator, and the stage that runs any generator."""

from collections.abc import Mapping, Sequence
from functools import partial
from threading import Lock
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mothlight.engine.batch import Batch
from mothlight.engine.errors import UserError
from mothlight.engine.models.bundle import Bundle
from mothlight.engine.models.noise import noise
from mothlight.engine.models.runner import LoadBackend, OrtRunner, Runner, no_backend
from mothlight.engine.models.sampler import Float32, sample, table_of
from mothlight.engine.models.tokenizer import BundleTokenizer
from mothlight.engine.records import Prompt

Conditions = Mapping[str, NDArray[Any]]
"""What the denoiser is told of a text, by input name, each (1, ...)."""


class Generator(Protocol):
    """Anything that makes images; the same prompt and index always give the same image, in whatever batch."""

    def prepare(self, prompts: Sequence[Prompt]) -> None:
        """Hear which prompts come next: what runs once per prompt is best done for all of them together."""
        ...

    def images(self, prompt: Prompt, indices: Sequence[int]) -> NDArray[np.uint8]:
        """(len(indices), H, W, 3) uint8. An index keeps its noise under every prompt of the label: pairs."""
        ...


class DiffusionGenerator:
    """A generator's bundle: text encoder, the sampler's loop over the denoiser, decoder."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        seed: int,
        steps: int | None = None,
        threads: int = 1,
        load_backend: LoadBackend = no_backend,
    ) -> None:
        """Load the graphs; a text encoder that a library runs is loaded when there are prompts, and freed again.

        Raises:
            UserError: the bundle has no sampler with that many steps.
        """
        manifest = bundle.manifest
        table = table_of(manifest.samplers, steps)
        if table is None:
            known = ", ".join(str(len(table.rows)) for table in manifest.samplers)
            raise UserError(f"The generator {manifest.name} has no sampler of {steps} steps, but of {known}.")
        self.table = table
        self.seed = seed
        self.latent = manifest.latent
        self.manifest = manifest
        self.tokenizer = BundleTokenizer(bundle)
        self.encode_text: Runner | None = None
        if manifest.backend is None:
            self.encode_text = OrtRunner(bundle.graph_path("encode_text"), threads=threads)
        self.load_encoder = partial(load_backend, bundle)
        self.denoise, self.decode = (
            OrtRunner(bundle.graph_path(graph), threads=threads) for graph in ("denoise", "decode")
        )
        self.takes = {spec.name for spec in manifest.graphs["denoise"].inputs}
        self.known: dict[str, Conditions] = {}
        self.lock = Lock()

    def prepare(self, prompts: Sequence[Prompt]) -> None:
        """See `Generator`; forgets all other prompts."""
        with self.lock:
            texts = dict.fromkeys((*(prompt.text for prompt in prompts), *self._steering()))
            self.known = {text: conditions for text, conditions in self.known.items() if text in texts}
            self._encode([text for text in texts if text not in self.known])

    def _steering(self) -> tuple[str, ...]:
        """The negative prompt, where the graph takes one."""
        wanted = any(name.startswith("negative_") for name in self.takes)
        return (self.manifest.negative_prompt,) if wanted and self.manifest.negative_prompt is not None else ()

    def _encode(self, texts: Sequence[str]) -> None:
        if not texts:
            return
        encoder = self.encode_text or self.load_encoder()
        for text in texts:
            self.known[text] = encoder.infer(**self.tokenizer.encode([text]))

    def _conditions(self, text: str) -> dict[str, NDArray[Any]]:
        """All that the denoiser takes besides the latents, each with a batch of 1."""
        with self.lock:
            self._encode([one for one in dict.fromkeys((text, *self._steering())) if one not in self.known])
            positive = self.known[text]
            negative = self.known[self._steering()[0]] if self._steering() else None
        conditions = dict(positive)
        for name, value in positive.items():
            if f"negative_{name}" in self.takes:
                conditions[f"negative_{name}"] = np.zeros_like(value) if negative is None else negative[name]
        return conditions

    def images(self, prompt: Prompt, indices: Sequence[int]) -> NDArray[np.uint8]:
        """See `Generator`."""
        given = {name: np.repeat(one, len(indices), axis=0) for name, one in self._conditions(prompt.text).items()}
        if "guidance" in self.takes:
            given["guidance"] = np.array([self.manifest.guidance], dtype=np.float32)

        def denoise(
            x: Float32, x0: Float32, z: Float32, timestep: Float32, coefficients: Float32
        ) -> tuple[Float32, Float32]:
            out = self.denoise.infer(x=x, x0_prev=x0, noise=z, timestep=timestep, coefficients=coefficients, **given)
            return out["x_next"], out["x0"]

        def noise_of_step(step: int) -> Float32:
            return noise(self.seed, prompt.label, indices, step, "latent", self.latent)

        latent = sample(denoise, self.table, noise_of_step)
        images: NDArray[np.uint8] = self.decode.infer(latent=latent)["images"]
        return images


class GenerateStage:
    """Adds `images` (B, H, W, 3) uint8; an image of one single colour is a failure."""

    name = "generate"

    def __init__(self, generator: Generator, workers: int) -> None:
        self.generator = generator
        self.workers = workers

    def prepare(self, prompts: Sequence[Prompt]) -> None:
        """See `Generator`."""
        self.generator.prepare(prompts)

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
