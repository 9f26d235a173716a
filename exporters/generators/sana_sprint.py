"""SANA-Sprint: a linear transformer under a Gemma, in one or two steps, decoded by a deep-compression autoencoder."""

from collections.abc import Sequence
from inspect import signature
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mothlight.engine.models.bundle import TokenizerSpec
from mothlight.exporters.diffusion import Decode, Diffusion, Guidance
from mothlight.exporters.tokenizers import TextInput

TOKENS = 300


class EncodeText(nn.Module):
    """(ids, mask) (B, T) int64 → (embedding (B, 300, D), attention (B, 300)): the first token and the last 299."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The last hidden state where the prompt stands, behind the instruction."""
        hidden = self.encoder(ids, attention_mask=mask)[0]
        embedding = torch.cat([hidden[:, :1], hidden[:, -(TOKENS - 1) :]], dim=1)
        return embedding, torch.cat([mask[:, :1], mask[:, -(TOKENS - 1) :]], dim=1).float()


class Predict(nn.Module):
    """The transformer, which takes a guidance scale as an input."""

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer
        self.scale = float(transformer.config.guidance_embeds_scale)

    def forward(self, x: Tensor, timestep: Tensor, conditions: Sequence[Tensor], guidance: Tensor | None) -> Tensor:
        """See `Diffusion.predict_module`."""
        embedding, attention = conditions
        m: Tensor = self.transformer(
            x,
            encoder_hidden_states=embedding,
            encoder_attention_mask=attention,
            guidance=None if guidance is None else guidance.expand(x.shape[0]) * self.scale,
            timestep=timestep.expand(x.shape[0]),
            return_dict=False,
        )[0]
        return m


class SanaSprint(Diffusion):
    """`SanaSprintPipeline`."""

    conditions: ClassVar = ("embedding", "attention")
    default_steps: ClassVar = 2
    optimize: ClassVar = False  # its linear attention divides by a sum plus 1e-15

    def start(self, scheduler: Any, steps: int) -> Tensor:
        """The pipeline's own timesteps; the last one is where it ends, not a step."""
        scheduler.set_timesteps(steps, **({} if steps == 2 else {"intermediate_timesteps": None}))
        scheduler.set_begin_index(0)
        timesteps: Tensor = scheduler.timesteps[:-1]
        return timesteps

    def noise_scale(self, scheduler: Any) -> float:
        """Noise as large as the data."""
        return float(scheduler.config.sigma_data)

    def _sigma_data(self) -> float:
        return float(self.pipeline.scheduler.config.sigma_data)

    def model_timestep(self, timestep: Tensor) -> float:
        """From the angle of TrigFlow to the time of flow matching."""
        return float(torch.sin(timestep) / (torch.cos(timestep) + torch.sin(timestep)))

    def model_input(self, scheduler: Any, x: Tensor, timestep: Tensor) -> Tensor:
        """Scaled from TrigFlow's sphere to flow matching's line (arXiv 2503.09641, section 3)."""
        del scheduler
        t = self.model_timestep(timestep)
        return x / self._sigma_data() * (t**2 + (1 - t) ** 2) ** 0.5

    def model_output(self, m: Tensor, model_input: Tensor, timestep: Tensor) -> Tensor:
        """From a flow's velocity to TrigFlow's."""
        t = self.model_timestep(timestep)
        velocity = (1 - 2 * t) * model_input + (1 - 2 * t + 2 * t**2) * m
        return velocity / (t**2 + (1 - t) ** 2) ** 0.5 * self._sigma_data()

    def guidance_kind(self, guidance: float | None) -> Guidance:
        """The transformer was distilled to take it as an input."""
        del guidance
        return "embedded"

    def default_guidance(self) -> float | None:
        """The pipeline's own."""
        return 4.5

    def _instruction(self) -> list[str]:
        """What the pipeline puts before every prompt, unless told otherwise."""
        lines: list[str] = signature(type(self.pipeline).__call__).parameters["complex_human_instruction"].default
        return lines

    def text_inputs(self) -> list[TextInput]:
        """One tokenizer; the instruction stands before the prompt."""
        tokenizer = self.pipeline.tokenizer
        tokenizer.padding_side = "right"
        instruction = "\n".join(self._instruction())
        length = len(tokenizer.encode(instruction)) + TOKENS - 2
        spec = TokenizerSpec(mask="mask", template=f"{instruction}{{text}}", lowercase=True)
        return [TextInput(spec, tokenizer, length)]

    def text_module(self) -> nn.Module:
        """See `EncodeText`."""
        return EncodeText(self.pipeline.text_encoder)

    def predict_module(self) -> nn.Module:
        """See `Predict`."""
        return Predict(self.model)

    def decode_module(self) -> nn.Module:
        """The sampler's latents are as large as the data; the autoencoder's of unit size."""
        sigma = self._sigma_data()
        return Decode(self.pipeline.vae, lambda latent: latent / sigma)

    def call_options(self, steps: int, guidance: float | None, negative: Sequence[str] | None) -> dict[str, Any]:
        """See `Diffusion.call_options`."""
        options = {
            **super().call_options(steps, guidance, negative),
            "use_resolution_binning": False,
            "clean_caption": False,
        }
        return options if steps == 2 else {**options, "intermediate_timesteps": None}
