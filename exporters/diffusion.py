"""What all families of generators share: a pipeline of diffusers as the graphs encode_text, denoise, decode."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from mothlight.engine.errors import UserError
from mothlight.exporters.sampler import Convention
from mothlight.exporters.tokenizers import TextInput

Guidance = Literal["none", "embedded", "classifier-free"]
"""How a guidance scale acts: not at all, as an input of the model, or between two predictions."""

LONGEST = 100_000
"""Tokens; transformers puts a number beyond all bounds where a tokenizer names no length."""


class Diffusion(Convention, ABC):
    """A pipeline of one family; a family overrides what it does otherwise than Stable Diffusion."""

    backbone: ClassVar[str] = "transformer"
    """Which component predicts: `unet` or `transformer`."""
    text_parts: ClassVar[tuple[str, ...]] = ("text_encoder",)
    conditions: ClassVar[tuple[str, ...]] = ("embedding",)
    """What the text encoder tells the denoiser, by name."""
    optional_parts: ClassVar[tuple[str, ...]] = ()
    """Those of `text_parts` that a pipeline may lack."""
    default_steps: ClassVar[int] = 4
    optimize: ClassVar[bool] = True
    """See `Graph.optimize`."""

    def __init__(self, pipeline: Any, size: int | None = None) -> None:
        """`size` is the side of an image in pixels; without it, what the model was trained for.

        Raises:
            UserError: the size does not fit the model.
        """
        self.pipeline = pipeline
        self.scale = int(self.pixels_per_latent())
        self.size = size or self.default_size()
        for step in (self.scale, self.size_step()):
            if self.size < step or self.size % step:
                name = type(pipeline).__name__
                raise UserError(f"{name}: an image's side must be a multiple of {step}, not {self.size}.")

    @classmethod
    def for_text(cls, parts: Any) -> Self:
        """One that has text encoders and nothing else, for `text_module`."""
        made = cls.__new__(cls)
        made.pipeline = parts
        return made

    @property
    def model(self) -> Any:
        """The component that predicts."""
        return getattr(self.pipeline, self.backbone)

    def pixels_per_latent(self) -> int:
        """Pixels of an image to one of the latent that the sampler works on."""
        return int(self.pipeline.vae_scale_factor)

    def size_step(self) -> int:
        """Of how many pixels an image's side must be a multiple."""
        return self.scale

    def default_size(self) -> int:
        """The side of an image that the model was trained for."""
        return int(self.model.config.sample_size) * int(self.pipeline.vae_scale_factor)

    def latent_shape(self) -> tuple[int, int, int]:
        """Of the latent that the sampler works on, without the batch."""
        return (int(self.model.config.in_channels), self.size // self.scale, self.size // self.scale)

    def guidance_kind(self, guidance: float | None) -> Guidance:
        """How a guidance scale acts in this pipeline; None is none, and as diffusers has it, so is all up to 1."""
        return "none" if guidance is None or guidance <= 1 else "classifier-free"

    def ignores_guidance(self) -> bool:
        """Whether the library itself says that it leaves a guidance scale unused."""
        return False

    def default_guidance(self) -> float | None:
        """The scale for a model that can't do without one."""
        return None

    def zeros_when_negative_is_empty(self) -> bool:
        """Whether an empty negative prompt stands for an embedding of zeros."""
        return False

    @abstractmethod
    def text_inputs(self) -> list[TextInput]:
        """The tokenizers, in the order in which `text_module` takes their ids and masks."""

    @abstractmethod
    def text_module(self) -> nn.Module:
        """Ids and masks (B, T) int64 → a tensor for each of `conditions`."""

    @abstractmethod
    def predict_module(self) -> nn.Module:
        """(s·x, timestep (1,), one tensor per condition, guidance (1,) or None) → the model's output."""

    def decode_module(self) -> nn.Module:
        """Latent → images (B, H, W, 3) uint8."""
        return Decode(self.pipeline.vae)

    def call_latents(self, latents: Tensor) -> Tensor:
        """Latents in the layout that the pipeline's own call takes."""
        return latents

    def call_options(self, steps: int, guidance: float | None, negative: Sequence[str] | None) -> dict[str, Any]:
        """What the pipeline's own call must be told to do the same; without negative prompts it takes zeros."""
        del steps
        options: dict[str, Any] = {"guidance_scale": 0.0 if guidance is None else guidance}
        if self.guidance_kind(guidance) == "classifier-free" and negative is not None:
            options["negative_prompt"] = list(negative)
        return {**options, "height": self.size, "width": self.size}


class Denoise(nn.Module):
    """One sampler row: (x, x0_prev, noise, timestep (1,), coefficients (7,), conditions…) → (x, x0).

    The conditions are those of the text, then, with classifier-free guidance, the same of the negative prompt, then
    the guidance scale (1,) where there is one.
    """

    def __init__(self, predict: nn.Module, guidance: Guidance) -> None:
        super().__init__()
        self.predict = predict
        self.guidance = guidance

    def forward(
        self, x: Tensor, x0_prev: Tensor, noise: Tensor, timestep: Tensor, coefficients: Tensor, *conditions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """x0 = p·x + q·m(s·x) and x' = a·x + b·x0 + c·x0_prev + d·noise."""
        for one in conditions if self.guidance == "none" else conditions[:-1]:
            # torch would give each input a batch symbol of its own and then fail to see that they are one
            torch._check(one.shape[0] == x.shape[0])  # torch documents it for exporting
        s, p, q, a, b, c, d = coefficients.unbind()
        m = self._predict(s * x, timestep, conditions)
        x0 = p * x + q * m
        return a * x + b * x0 + c * x0_prev + d * noise, x0

    def _predict(self, x: Tensor, timestep: Tensor, conditions: Sequence[Tensor]) -> Tensor:
        if self.guidance == "none":
            return self.predict(x, timestep, conditions, None)
        *conditions, scale = conditions
        if self.guidance == "embedded":
            return self.predict(x, timestep, conditions, scale)
        half = len(conditions) // 2
        both = [
            torch.cat([negative, positive])
            for positive, negative in zip(conditions[:half], conditions[half:], strict=True)
        ]
        predicted = self.predict(torch.cat([x, x]), timestep, both, None)
        # not `chunk`, for which torch fixes the batch size
        away, towards = predicted[: x.shape[0]], predicted[x.shape[0] :]
        return away + scale * (towards - away)


class Decode(nn.Module):
    """latent (B, C, h, w) → images (B, H, W, 3) uint8, rounded as the library does."""

    spread: Tensor
    shift: Tensor

    def __init__(
        self, vae: Any, unpack: Callable[[Tensor], Tensor] | None = None, *, per_channel: bool = False
    ) -> None:
        """`per_channel`: where the autoencoder knows them, each channel's own mean and spread take part (SDXL)."""
        super().__init__()
        self.vae = vae
        self.unpack = unpack
        spread, shift = 1.0 / float(vae.config.scaling_factor), float(vae.config.get("shift_factor") or 0.0)
        means, stds = vae.config.get("latents_mean"), vae.config.get("latents_std")
        known = per_channel and means is not None and stds is not None
        self.register_buffer("spread", torch.tensor(stds if known else [1.0]).reshape(1, -1, 1, 1) * spread)
        self.register_buffer("shift", torch.tensor(means if known else [shift]).reshape(1, -1, 1, 1))

    def forward(self, latent: Tensor) -> Tensor:
        """The decoder, [-1, 1] → [0, 1], clamp, times 255, round half to even."""
        if self.unpack is not None:
            latent = self.unpack(latent)
        return to_images(self.vae.decode(latent * self.spread + self.shift, return_dict=False)[0], latent)


def to_images(pixels: Tensor, latent: Tensor) -> Tensor:
    """(B, 3, H, W) in [-1, 1] → (B, H, W, 3) uint8; black where the latent or a pixel is not finite.

    An image of one colour is what the runtime notes as a failed item. What a cast makes of NaN depends on the engine.
    """
    sound = _finite(pixels).flatten(1).amin(dim=1) * _finite(latent).flatten(1).amin(dim=1)
    pixels = torch.where(_finite(pixels) > 0, pixels, torch.zeros_like(pixels))
    levels = torch.round((pixels * 0.5 + 0.5).clamp(0, 1) * 255) * sound.reshape(-1, 1, 1, 1)
    return levels.permute(0, 2, 3, 1).to(torch.uint8)


def _finite(x: Tensor) -> Tensor:
    """1 where a number is finite, else 0; by a comparison that NaN fails, since not every engine has IsNaN."""
    return (x.abs() <= torch.finfo(x.dtype).max).to(x.dtype)


def resolution_shift(config: Any, tokens: int, highest: float) -> float:
    """How far flow-matching timesteps are shifted for so many image tokens: linear between two known lengths.

    The pipelines' `calculate_shift` (Esser et al., arXiv 2403.03206, section 5.3.2).
    """
    low, high = int(config.get("base_image_seq_len", 256)), int(config.get("max_image_seq_len", 4096))
    base, top = float(config.get("base_shift", 0.5)), float(config.get("max_shift", highest))
    return base + (tokens - low) * (top - base) / (high - low)


def patches(size: int, per_latent: int) -> int:
    """How many image tokens there are where two by two latents make one."""
    return math.ceil(size / per_latent / 2) ** 2


def length_of(tokenizer: Any) -> int:
    """The tokens to which a pipeline pads and cuts.

    Raises:
        UserError: its tokenizer names no length.
    """
    length = int(tokenizer.model_max_length)
    if length > LONGEST:
        raise UserError(
            f"The {type(tokenizer).__name__} of the pipeline names no length, and its texts could not be padded: set "
            f"`model_max_length` in its tokenizer_config.json (77 for a CLIP)."
        )
    return length
