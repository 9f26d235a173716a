"""SDXL and SDXL-Turbo: a UNet under two CLIPs, a pooled embedding, and the image's size as an input."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mothlight.engine.models.bundle import TokenizerSpec
from mothlight.exporters.diffusion import Decode, Diffusion, length_of
from mothlight.exporters.tokenizers import TextInput


class EncodeText(nn.Module):
    """(ids, ids_2), each (B, T) int64 → (embedding (B, T, D1 + D2), pooled (B, D2))."""

    def __init__(self, first: Any, second: Any) -> None:
        super().__init__()
        self.first = first
        self.second = second

    def forward(self, ids: Tensor, ids_2: Tensor) -> tuple[Tensor, Tensor]:
        """The last hidden states but one, side by side, and the second encoder's projected embedding."""
        one = self.first(ids, output_hidden_states=True)
        two = self.second(ids_2, output_hidden_states=True)
        return torch.cat([one.hidden_states[-2], two.hidden_states[-2]], dim=-1), two[0]


class Predict(nn.Module):
    """The UNet, told that the image is whole and of its own size."""

    sizes: Tensor

    def __init__(self, unet: Any, size: int) -> None:
        super().__init__()
        self.unet = unet
        self.register_buffer("sizes", torch.tensor([[size, size, 0, 0, size, size]], dtype=torch.float32))

    def forward(self, x: Tensor, timestep: Tensor, conditions: Sequence[Tensor], guidance: Tensor | None) -> Tensor:
        """See `Diffusion.predict_module`."""
        del guidance
        embedding, pooled = conditions
        added = {"text_embeds": pooled, "time_ids": self.sizes.expand(pooled.shape[0], -1)}
        m: Tensor = self.unet(x, timestep, encoder_hidden_states=embedding, added_cond_kwargs=added, return_dict=False)[
            0
        ]
        return m


class StableDiffusionXL(Diffusion):
    """`StableDiffusionXLPipeline`."""

    backbone: ClassVar = "unet"
    text_parts: ClassVar = ("text_encoder", "text_encoder_2")
    conditions: ClassVar = ("embedding", "pooled")

    def zeros_when_negative_is_empty(self) -> bool:
        """As the pipeline's configuration says."""
        return bool(self.pipeline.config.force_zeros_for_empty_prompt)

    def size_step(self) -> int:
        """The pipeline itself wants multiples of 8."""
        return math.lcm(8, self.scale)

    def text_inputs(self) -> list[TextInput]:
        """Two CLIP tokenizers, which pad with different tokens."""
        pipeline = self.pipeline
        return [
            TextInput(TokenizerSpec(), pipeline.tokenizer, length_of(pipeline.tokenizer)),
            TextInput(
                TokenizerSpec(file="tokenizer_2.json", ids="ids_2"),
                pipeline.tokenizer_2,
                length_of(pipeline.tokenizer_2),
            ),
        ]

    def text_module(self) -> nn.Module:
        """See `EncodeText`."""
        return EncodeText(self.pipeline.text_encoder, self.pipeline.text_encoder_2)

    def decode_module(self) -> nn.Module:
        """Some of its autoencoders know each channel's mean and spread (Playground)."""
        return Decode(self.pipeline.vae, per_channel=True)

    def predict_module(self) -> nn.Module:
        """See `Predict`."""
        return Predict(self.model, self.size)
