"""Stable Diffusion 3 and 3.5: a transformer under two CLIPs and a T5, by flow matching."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mothlight.engine.models.bundle import TokenizerSpec
from mothlight.exporters.diffusion import Diffusion, patches, resolution_shift
from mothlight.exporters.tokenizers import TextInput

T5_TOKENS = 256


class EncodeText(nn.Module):
    """(ids, ids_2[, ids_3]) → (embedding (B, T + T5, D), pooled (B, D1 + D2)); without a T5 its part is zeros."""

    def __init__(self, clips: Sequence[Any], t5: Any, width: int) -> None:
        super().__init__()
        self.clips = nn.ModuleList(clips)
        self.t5 = t5
        self.width = width

    def forward(self, *ids: Tensor) -> tuple[Tensor, Tensor]:
        """The CLIPs' last hidden states but one side by side, padded to the T5's width, and the T5's after them."""
        outs = [clip(one, output_hidden_states=True) for clip, one in zip(self.clips, ids, strict=False)]
        clip = torch.cat([out.hidden_states[-2] for out in outs], dim=-1)
        long = clip.new_zeros(clip.shape[0], T5_TOKENS, self.width) if self.t5 is None else self.t5(ids[-1])[0]
        clip = torch.nn.functional.pad(clip, (0, self.width - clip.shape[-1]))
        return torch.cat([clip, long], dim=-2), torch.cat([out[0] for out in outs], dim=-1)


class Predict(nn.Module):
    """The transformer."""

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, x: Tensor, timestep: Tensor, conditions: Sequence[Tensor], guidance: Tensor | None) -> Tensor:
        """See `Diffusion.predict_module`."""
        del guidance
        embedding, pooled = conditions
        m: Tensor = self.transformer(
            hidden_states=x,
            timestep=timestep.expand(x.shape[0]),
            encoder_hidden_states=embedding,
            pooled_projections=pooled,
            return_dict=False,
        )[0]
        return m


class StableDiffusion3(Diffusion):
    """`StableDiffusion3Pipeline`."""

    text_parts: ClassVar = ("text_encoder", "text_encoder_2", "text_encoder_3")
    optional_parts: ClassVar = ("text_encoder_3",)
    conditions: ClassVar = ("embedding", "pooled")

    def start(self, scheduler: Any, steps: int) -> Tensor:
        """With the shift of this resolution where the scheduler asks for one."""
        more = {}
        if scheduler.config.get("use_dynamic_shifting"):
            more["mu"] = resolution_shift(scheduler.config, patches(self.size, self.scale), 1.16)
        scheduler.set_timesteps(steps, **more)
        timesteps: Tensor = scheduler.timesteps
        return timesteps

    def noise_scale(self, scheduler: Any) -> float:
        """Flow matching starts from plain noise."""
        del scheduler
        return 1.0

    def size_step(self) -> int:
        """The transformer's patches."""
        return self.scale * int(self.model.config.patch_size)

    def text_inputs(self) -> list[TextInput]:
        """Two CLIP tokenizers, and a T5's where there is one."""
        pipeline = self.pipeline
        length = int(pipeline.tokenizer_max_length)
        inputs = [
            TextInput(TokenizerSpec(), pipeline.tokenizer, length),
            TextInput(TokenizerSpec(file="tokenizer_2.json", ids="ids_2"), pipeline.tokenizer_2, length),
        ]
        if pipeline.text_encoder_3 is not None:
            spec = TokenizerSpec(file="tokenizer_3.json", ids="ids_3")
            inputs.append(TextInput(spec, pipeline.tokenizer_3, T5_TOKENS))
        return inputs

    def text_module(self) -> nn.Module:
        """See `EncodeText`."""
        pipeline = self.pipeline
        if pipeline.text_encoder_3 is None:
            width = int(self.model.config.joint_attention_dim)
        else:
            width = int(pipeline.text_encoder_3.config.d_model)
        return EncodeText([pipeline.text_encoder, pipeline.text_encoder_2], pipeline.text_encoder_3, width)

    def predict_module(self) -> nn.Module:
        """See `Predict`."""
        return Predict(self.model)
