"""Makes images of a prompt: the neural generator, and the stage of anything that draws on the host."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mothlight.engine.batch import Batch, Failures, Flight, Stage, Work
from mothlight.engine.device import Buffer, Device, Spec, Staged, Stream, constant, spec
from mothlight.engine.errors import UserError
from mothlight.engine.models.bundle import Bundle
from mothlight.engine.models.engines import Engines
from mothlight.engine.models.noise import NORMAL, noise_key, noise_scalars
from mothlight.engine.models.runner import LoadBackend, Runner, no_backend
from mothlight.engine.models.sampler import sample, table_of
from mothlight.engine.models.tokenizer import BundleTokenizer
from mothlight.engine.records import Prompt

Conditions = Mapping[str, NDArray[Any]]
"""What the denoiser is told of a text, by input name, each (1, ...)."""

OWN_INPUTS = frozenset({"x", "x0_prev", "noise", "timestep", "coefficients", "guidance"})
"""Of the denoiser: those that no text tells it."""


class GenerateStage(Stage, Protocol):
    """The first stage: adds `images` (B, H, W, 3) uint8, and hears which prompts come next.

    The same prompt and index always give the same image, in whatever batch. An index keeps its noise under every prompt
    of the label: pairs.
    """

    def prepare(self, prompts: Sequence[Prompt]) -> None:
        """Hear which prompts come next: what runs once per prompt is best done for all of them together."""
        ...

    @property
    def prompt_bytes(self) -> int:
        """What is kept of each of those, in bytes."""
        ...


class Generator(Protocol):
    """Anything that draws images on the host."""

    size: tuple[int, int]
    """Height and width of its images."""

    def prepare(self, prompts: Sequence[Prompt]) -> None:
        """See `GenerateStage`."""
        ...

    def images(self, prompt: Prompt, indices: Sequence[int]) -> NDArray[np.uint8]:
        """(len(indices), H, W, 3) uint8."""
        ...


def blank(batch: Batch) -> Failures:
    """The images of one single colour."""
    failures = {}
    for index, image in zip(batch.indices, batch.arrays["images"], strict=False):
        flat = image.reshape(-1)
        # nearly every image differs in its first few thousand numbers; only one that does not is looked at whole
        if (flat[:4096] == flat[0]).all() and (flat == flat[0]).all():
            failures[index] = "the generator made an image of one single colour"
    return failures


class Pictures:
    """Pictures that exist already, all of one size (H, W), as a generator: an index is a picture's place."""

    def __init__(self, read: Callable[[int], NDArray[np.uint8]], size: tuple[int, int]) -> None:
        """`read` gives the (H, W, 3) picture of a place."""
        self.read = read
        self.size = size

    def prepare(self, prompts: Sequence[Prompt]) -> None:
        """Nothing to do."""

    def images(self, prompt: Prompt, indices: Sequence[int]) -> NDArray[np.uint8]:
        """(len(indices), H, W, 3) uint8, whatever the prompt."""
        del prompt
        return np.stack([self.read(index) for index in indices])


class DrawStage:
    """Images that are drawn on the host."""

    name = "generate"
    reads: Sequence[str] = ()
    on_host = True
    prompt_bytes = 0

    def __init__(self, generator: Generator, lanes: int) -> None:
        self.generator = generator
        self.lanes = lanes

    def prepare(self, prompts: Sequence[Prompt]) -> None:
        """See `GenerateStage`."""
        self.generator.prepare(prompts)

    def build(self, device: Device, size: int, slots: int, given: Mapping[str, Spec]) -> Work:
        """See `Stage`."""
        del device, slots, given
        return _Draw(self.generator, {"images": spec((size, *self.generator.size, 3), np.uint8)})

    def finish(self, batch: Batch) -> Batch:
        """See `Stage`; an image of one single colour is a failure."""
        return batch.with_failures(blank(batch))


@dataclass(frozen=True)
class _Draw:
    generator: Generator
    makes: Mapping[str, Spec]

    def enqueue(self, flight: Flight, arrays: Mapping[str, Buffer], stream: Stream) -> None:
        batch, images = flight.batch, arrays["images"]

        def draw() -> None:
            images.array[...] = self.generator.images(batch.chunk.prompt, batch.padded)

        stream.run(draw, writes=[images])


class DiffusionStage:
    """A generator's bundle: text encoder, the sampler's loop over the denoiser, decoder."""

    name = "generate"
    reads: Sequence[str] = ()
    on_host = False

    def __init__(
        self,
        bundle: Bundle,
        *,
        seed: int,
        steps: int | None = None,
        lanes: int = 1,
        engines: Engines | None = None,
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
        engines = engines or Engines()
        self.table = table
        self.seed = seed
        self.lanes = lanes
        self.latent = manifest.latent
        self.manifest = manifest
        self.tokenizer = BundleTokenizer(bundle)
        self.encode_text: Runner | None = None
        if manifest.backend is None:
            self.encode_text = engines.runner(bundle, "encode_text")
        self.load_encoder = partial(load_backend, bundle)
        self.denoise, self.decode = (engines.open(bundle, graph) for graph in ("denoise", "decode"))
        self.takes = {spec.name for spec in manifest.graphs["denoise"].inputs}
        self.known: dict[str, Conditions] = {}
        self.lock = Lock()

    def prepare(self, prompts: Sequence[Prompt]) -> None:
        """See `GenerateStage`; forgets all other prompts."""
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

    def conditions(self, text: str) -> dict[str, NDArray[Any]]:
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

    def condition_specs(self) -> dict[str, Spec]:
        """All that the denoiser takes of a text, each with a batch of 1."""
        inputs = self.manifest.graphs["denoise"].inputs
        return {
            one.name: spec([dim if isinstance(dim, int) else 1 for dim in one.shape], one.dtype)
            for one in inputs
            if one.name not in OWN_INPUTS
        }

    @property
    def prompt_bytes(self) -> int:
        """See `GenerateStage`."""
        return sum(one.nbytes for one in self.condition_specs().values())

    def build(self, device: Device, size: int, slots: int, given: Mapping[str, Spec]) -> Work:
        """See `Stage`."""
        del given
        return _Diffusion(self, device, size, slots)

    def finish(self, batch: Batch) -> Batch:
        """See `Stage`; an image of one single colour is a failure, which one of a broken latent is too."""
        return batch.with_failures(blank(batch))


@dataclass(frozen=True)
class _Scratch:
    """The latents of a batch under way; two of each, since a step reads the ones and writes the others."""

    x: tuple[Buffer, Buffer]
    x0: tuple[Buffer, Buffer]
    noise: Buffer


class _Diffusion:
    """The sampler is data: x0 = p·x + q·m and x' = a·x + b·x0 + c·x0_prev + d·z, with m the model's output on s·x.

    The products are inside the `denoise` graph; here it is only told one row after the other.
    """

    def __init__(self, stage: DiffusionStage, device: Device, size: int, slots: int) -> None:
        self.stage, self.device = stage, device
        latent = spec((size, *stage.latent), np.float32)
        self.zeros = constant(device, "zeros", np.zeros(latent.shape, np.float32))
        self.rows = [
            {
                "timestep": constant(device, f"timestep {step}", np.array((row.timestep,), dtype=np.float32)),
                "coefficients": constant(device, f"coefficients {step}", row.coefficients()),
            }
            for step, row in enumerate(stage.table.rows, start=1)
        ]
        self.constants: dict[str, Buffer] = {}
        if "guidance" in stage.takes:
            guidance = np.array([stage.manifest.guidance], dtype=np.float32)
            self.constants["guidance"] = constant(device, "guidance", guidance)
        self.indices = Staged(device, "indices", spec((size,), np.uint64), slots)

        def scratch(slot: int, name: str) -> tuple[Buffer, Buffer]:
            one, two = (device.buffer(f"{name}{turn}[{slot}]", latent) for turn in ("", "'"))
            return one, two

        self.scratch = [
            _Scratch(scratch(slot, "x"), scratch(slot, "x0"), device.buffer(f"noise[{slot}]", latent))
            for slot in range(slots)
        ]
        self.conditions = {
            name: Staged(device, name, Spec((size, *one.shape[1:]), one.dtype), slots)
            for name, one in stage.condition_specs().items()
        }
        self.told: list[str | None] = [None] * slots
        self.makes = self._warm_up(latent)

    def _warm_up(self, latent: Spec) -> Mapping[str, Spec]:
        """Run both graphs once, which tells what an image is like."""
        conditions = {name: staged.targets[0].spec for name, staged in self.conditions.items()}
        constants = {name: buffer.spec for name, buffer in (*self.constants.items(), *self.rows[0].items())}
        latents = dict.fromkeys(("x", "x0_prev", "noise"), latent)
        self.stage.denoise.outputs({**latents, **constants, **conditions})
        return self.stage.decode.outputs({"latent": latent})

    def enqueue(self, flight: Flight, arrays: Mapping[str, Buffer], stream: Stream) -> None:
        prompt, scratch, slot = flight.batch.chunk.prompt, self.scratch[flight.slot], flight.slot
        given = {name: staged.targets[slot] for name, staged in self.conditions.items()} | self.constants
        if self.told[slot] != prompt.text:
            for name, one in self.stage.conditions(prompt.text).items():
                self.conditions[name].put(slot, one, stream)
            self.told[slot] = prompt.text
        indices = self.indices.put(slot, np.array(flight.batch.padded, dtype=np.uint64), stream)
        key = noise_key(self.stage.seed, prompt.label, "latent")

        def draw(step: int, scale: float) -> Buffer:
            target = scratch.noise if step else scratch.x[0]
            scalars = noise_scalars(key, step, target.spec.shape, scale)
            self.device.launch(NORMAL, [indices], [target], scalars, target.spec.size, stream)
            return target

        def denoise(x: Buffer, x0: Buffer, noise: Buffer, step: int) -> tuple[Buffer, Buffer]:
            made = {"x_next": scratch.x[step % 2], "x0": scratch.x0[step % 2]}
            latents = {"x": x, "x0_prev": x0, "noise": noise}
            self.stage.denoise.enqueue({**latents, **self.rows[step - 1], **given}, made, stream)
            return made["x_next"], made["x0"]

        latent = sample(denoise, self.stage.table, draw, self.zeros)
        self.stage.decode.enqueue({"latent": latent}, {"images": arrays["images"]}, stream)
