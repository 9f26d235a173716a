"""Stable Diffusion 1.x, 2.x, SD-Turbo and latent consistency models: a UNet under one CLIP."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mothlight.engine.models.bundle import TokenizerSpec
from mothlight.exporters.diffusion import Diffusion, Guidance, length_of
from mothlight.exporters.tokenizers import TextInput


class EncodeText(nn.Module):
    """ids (B, T) int64 → embedding (B, T, D) float32."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: Tensor) -> Tensor:
        """The last hidden state, as the pipeline's `encode_prompt` takes it."""
        hidden: Tensor = self.encoder(ids)[0]
        return hidden


class Predict(nn.Module):
    """The UNet; a guidance scale becomes an embedding where the UNet was distilled to take one."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet
        self.width = unet.config.time_cond_proj_dim

    def forward(self, x: Tensor, timestep: Tensor, conditions: Sequence[Tensor], guidance: Tensor | None) -> Tensor:
        """See `Diffusion.predict_module`."""
        embedded = None if guidance is None else sinusoid((guidance - 1) * 1000.0, self.width).expand(x.shape[0], -1)
        m: Tensor = self.unet(
            x, timestep, encoder_hidden_states=conditions[0], timestep_cond=embedded, return_dict=False
        )[0]
        return m


def sinusoid(values: Tensor, width: int) -> Tensor:
    """Values (N,) → (N, width): the pipeline's `get_guidance_scale_embedding`."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * -(torch.log(torch.tensor(10000.0)) / (half - 1)))
    angles = values[:, None] * frequencies[None, :]
    embedded = torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)
    return torch.nn.functional.pad(embedded, (0, width % 2))


class StableDiffusion(Diffusion):
    """`StableDiffusionPipeline` and `LatentConsistencyModelPipeline`."""

    backbone: ClassVar = "unet"

    def _distilled(self) -> bool:
        return self.model.config.time_cond_proj_dim is not None

    def guidance_kind(self, guidance: float | None) -> Guidance:
        """A UNet that was distilled for it takes the scale as an input."""
        return "embedded" if self._distilled() else super().guidance_kind(guidance)

    def default_guidance(self) -> float | None:
        """The latent consistency pipeline's own."""
        return 8.5 if self._distilled() else None

    def size_step(self) -> int:
        """The pipeline itself wants multiples of 8."""
        return math.lcm(8, self.scale)

    def text_inputs(self) -> list[TextInput]:
        """One CLIP tokenizer."""
        tokenizer = self.pipeline.tokenizer
        return [TextInput(TokenizerSpec(), tokenizer, length_of(tokenizer))]

    def text_module(self) -> nn.Module:
        """See `EncodeText`."""
        return EncodeText(self.pipeline.text_encoder)

    def predict_module(self) -> nn.Module:
        """See `Predict`."""
        return Predict(self.model)
