"""FLUX.2 [klein]: a few-step transformer under a Qwen3, on latents that the autoencoder normalises."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu
from torch import Tensor, nn

from mothlight.engine.models.bundle import TokenizerSpec
from mothlight.exporters.diffusion import Diffusion, Guidance, to_images
from mothlight.exporters.tokenizers import TextInput

TOKENS = 512
LAYERS = (9, 18, 27)
"""Of the text encoder, whose hidden states are taken; the pipeline's own."""


class EncodeText(nn.Module):
    """(ids, mask) (B, T) int64 → embedding (B, T, 3·D)."""

    def __init__(self, encoder: Any, layers: Sequence[int]) -> None:
        super().__init__()
        self.encoder = encoder
        self.layers = tuple(layers)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Three hidden states side by side."""
        out = self.encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False)
        return torch.cat([out.hidden_states[layer] for layer in self.layers], dim=-1)


class Predict(nn.Module):
    """The transformer on latents (B, C, h, w), one token each."""

    image_ids: Tensor
    text_ids: Tensor

    def __init__(self, transformer: Any, side: int, tokens: int) -> None:
        super().__init__()
        self.transformer = transformer
        self.side = side
        one = torch.arange(1)
        self.register_buffer("image_ids", torch.cartesian_prod(one, torch.arange(side), torch.arange(side), one))
        self.register_buffer("text_ids", torch.cartesian_prod(one, one, one, torch.arange(tokens)))

    def forward(self, x: Tensor, timestep: Tensor, conditions: Sequence[Tensor], guidance: Tensor | None) -> Tensor:
        """See `Diffusion.predict_module`."""
        del guidance
        (embedding,) = conditions
        m = self.transformer(
            hidden_states=x.flatten(2).transpose(1, 2),
            timestep=timestep.expand(x.shape[0]) / 1000,
            guidance=None,
            encoder_hidden_states=embedding,
            txt_ids=self.text_ids[None].expand(x.shape[0], -1, -1),
            img_ids=self.image_ids[None].expand(x.shape[0], -1, -1),
            return_dict=False,
        )[0]
        return m.transpose(1, 2).reshape(x.shape)


class Decode(nn.Module):
    """latent (B, 4C, h, w) → images: batch statistics taken back, two by two unfolded, decoded."""

    mean: Tensor
    std: Tensor

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae
        self.register_buffer("mean", vae.bn.running_mean.reshape(1, -1, 1, 1).clone())
        self.register_buffer("std", torch.sqrt(vae.bn.running_var + vae.config.batch_norm_eps).reshape(1, -1, 1, 1))

    def forward(self, latent: Tensor) -> Tensor:
        """See the class."""
        x = latent * self.std + self.mean
        batch, channels, height, width = x.shape
        parts = x.reshape(batch, channels // 4, 2, 2, height, width).permute(0, 1, 4, 2, 5, 3)
        unfolded = parts.reshape(batch, channels // 4, height * 2, width * 2)
        return to_images(self.vae.decode(unfolded, return_dict=False)[0], latent)


class Flux2Klein(Diffusion):
    """`Flux2KleinPipeline`."""

    def pixels_per_latent(self) -> int:
        """The autoencoder's, two by two."""
        return 2 * int(self.pipeline.vae_scale_factor)

    def default_size(self) -> int:
        """The pipeline's own."""
        return int(self.pipeline.default_sample_size) * int(self.pipeline.vae_scale_factor)

    def start(self, scheduler: Any, steps: int) -> Tensor:
        """Evenly spaced noise levels, shifted for this resolution and number of steps."""
        tokens = (self.size // self.scale) ** 2
        sigmas = None if scheduler.config.get("use_flow_sigmas") else np.linspace(1.0, 1 / steps, steps)
        mu = compute_empirical_mu(image_seq_len=tokens, num_steps=steps)
        scheduler.set_timesteps(None if sigmas is not None else steps, sigmas=sigmas, mu=mu)
        timesteps: Tensor = scheduler.timesteps
        return timesteps

    def noise_scale(self, scheduler: Any) -> float:
        """Flow matching starts from plain noise."""
        del scheduler
        return 1.0

    def _layers(self) -> tuple[int, ...]:
        count = int(self.pipeline.text_encoder.config.num_hidden_layers)
        return LAYERS if count >= max(LAYERS) else tuple(round(count * layer / 36) for layer in LAYERS)

    def guidance_kind(self, guidance: float | None) -> Guidance:
        """A distilled one is not steered."""
        return "none" if self.ignores_guidance() else super().guidance_kind(guidance)

    def ignores_guidance(self) -> bool:
        """As the pipeline says of distilled models."""
        return bool(self.pipeline.config.get("is_distilled"))

    def text_inputs(self) -> list[TextInput]:
        """One tokenizer, with the chat around the text that the pipeline puts there."""
        tokenizer = self.pipeline.tokenizer
        template = tokenizer.apply_chat_template(
            [{"role": "user", "content": "{text}"}], tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        return [TextInput(TokenizerSpec(mask="mask", template=template), tokenizer, TOKENS)]

    def text_module(self) -> nn.Module:
        """See `EncodeText`."""
        return EncodeText(self.pipeline.text_encoder, self._layers())

    def predict_module(self) -> nn.Module:
        """See `Predict`."""
        return Predict(self.model, self.size // self.scale, TOKENS)

    def decode_module(self) -> nn.Module:
        """See `Decode`."""
        return Decode(self.pipeline.vae)

    def call_options(self, steps: int, guidance: float | None, negative: Sequence[str] | None) -> dict[str, Any]:
        """See `Diffusion.call_options`."""
        options = super().call_options(steps, guidance, negative)
        options.pop("negative_prompt", None)
        return {**options, "text_encoder_out_layers": self._layers()}
