"""FLUX.1: a transformer on packed latents under a CLIP and a T5, by flow matching; guidance is an input."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from mothlight.engine.models.bundle import TokenizerSpec
from mothlight.exporters.diffusion import Diffusion, Guidance, patches, resolution_shift
from mothlight.exporters.tokenizers import TextInput

T5_TOKENS = {True: 512, False: 256}
"""By whether the model takes a guidance scale: FLUX.1-dev and FLUX.1-schnell."""


class EncodeText(nn.Module):
    """(ids, ids_2) → (embedding (B, T5, D), pooled (B, D1))."""

    def __init__(self, clip: Any, t5: Any) -> None:
        super().__init__()
        self.clip = clip
        self.t5 = t5

    def forward(self, ids: Tensor, ids_2: Tensor) -> tuple[Tensor, Tensor]:
        """The T5's last hidden state and the CLIP's pooled one."""
        return self.t5(ids_2)[0], self.clip(ids).pooler_output


class Predict(nn.Module):
    """The transformer on latents (B, C, h, w), packed two by two on the way in and unpacked on the way out."""

    image_ids: Tensor
    text_ids: Tensor

    def __init__(self, transformer: Any, side: int, tokens: int) -> None:
        super().__init__()
        self.transformer = transformer
        self.packed_side = side // 2
        places = torch.zeros(self.packed_side, self.packed_side, 3)
        places[..., 1] += torch.arange(self.packed_side)[:, None]
        places[..., 2] += torch.arange(self.packed_side)[None, :]
        self.register_buffer("image_ids", places.reshape(-1, 3))
        self.register_buffer("text_ids", torch.zeros(tokens, 3))

    def forward(self, x: Tensor, timestep: Tensor, conditions: Sequence[Tensor], guidance: Tensor | None) -> Tensor:
        """See `Diffusion.predict_module`."""
        embedding, pooled = conditions
        m = self.transformer(
            hidden_states=pack(x, self.packed_side),
            timestep=timestep.expand(x.shape[0]) / 1000,
            guidance=None if guidance is None else guidance.expand(x.shape[0]),
            pooled_projections=pooled,
            encoder_hidden_states=embedding,
            txt_ids=self.text_ids,
            img_ids=self.image_ids,
            return_dict=False,
        )[0]
        return unpack(m, self.packed_side)


def pack(x: Tensor, half: int) -> Tensor:
    """(B, C, 2h, 2h) → (B, h·h, 4C)."""
    batch, channels = x.shape[:2]
    parts = x.reshape(batch, channels, half, 2, half, 2).permute(0, 2, 4, 1, 3, 5)
    return parts.reshape(batch, half * half, channels * 4)


def unpack(x: Tensor, half: int) -> Tensor:
    """(B, h·h, 4C) → (B, C, 2h, 2h)."""
    batch, _, width = x.shape
    parts = x.reshape(batch, half, half, width // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return parts.reshape(batch, width // 4, half * 2, half * 2)


class Flux(Diffusion):
    """`FluxPipeline`."""

    text_parts: ClassVar = ("text_encoder", "text_encoder_2")
    conditions: ClassVar = ("embedding", "pooled")

    def pixels_per_latent(self) -> int:
        """Latents are packed two by two, so their side is even; the latent itself is one per `vae_scale_factor`."""
        return int(self.pipeline.vae_scale_factor)

    def default_size(self) -> int:
        """The pipeline's own."""
        return int(self.pipeline.default_sample_size) * int(self.pipeline.vae_scale_factor)

    def latent_shape(self) -> tuple[int, int, int]:
        """Unpacked."""
        side = 2 * (self.size // (self.scale * 2))
        return (int(self.model.config.in_channels) // 4, side, side)

    def _takes_guidance(self) -> bool:
        return bool(self.model.config.guidance_embeds)

    def guidance_kind(self, guidance: float | None) -> Guidance:
        """FLUX.1-dev was distilled to take it as an input; FLUX.1-schnell takes none."""
        del guidance
        return "embedded" if self._takes_guidance() else "none"

    def default_guidance(self) -> float | None:
        """The pipeline's own."""
        return 3.5 if self._takes_guidance() else None

    def start(self, scheduler: Any, steps: int) -> Tensor:
        """Evenly spaced noise levels, shifted for this resolution."""
        mu = resolution_shift(scheduler.config, patches(self.size, self.scale), 1.15)
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
        timesteps: Tensor = scheduler.timesteps
        return timesteps

    def noise_scale(self, scheduler: Any) -> float:
        """Flow matching starts from plain noise."""
        del scheduler
        return 1.0

    def size_step(self) -> int:
        """Two by two latents make a token."""
        return 2 * self.scale

    def text_inputs(self) -> list[TextInput]:
        """A CLIP tokenizer and a T5's."""
        pipeline = self.pipeline
        return [
            TextInput(TokenizerSpec(), pipeline.tokenizer, int(pipeline.tokenizer_max_length)),
            TextInput(TokenizerSpec(file="tokenizer_2.json", ids="ids_2"), pipeline.tokenizer_2, self._t5_tokens()),
        ]

    def _t5_tokens(self) -> int:
        return T5_TOKENS[self._takes_guidance()]

    def text_module(self) -> nn.Module:
        """See `EncodeText`."""
        return EncodeText(self.pipeline.text_encoder, self.pipeline.text_encoder_2)

    def predict_module(self) -> nn.Module:
        """See `Predict`."""
        return Predict(self.model, self.latent_shape()[1], self._t5_tokens())

    def call_latents(self, latents: Tensor) -> Tensor:
        """Packed."""
        return pack(latents, latents.shape[-1] // 2)

    def call_options(self, steps: int, guidance: float | None, negative: Sequence[str] | None) -> dict[str, Any]:
        """See `Diffusion.call_options`."""
        return {**super().call_options(steps, guidance, negative), "max_sequence_length": self._t5_tokens()}
