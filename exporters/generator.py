"""A diffusers `StableDiffusionPipeline` → a generator's bundle; the scheduler becomes rows."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from torch import Tensor, nn

from mothlight.engine.errors import UserError
from mothlight.engine.models.bundle import Bundle, Check, Manifest, Source, TokenizerSpec
from mothlight.engine.models.noise import noise
from mothlight.engine.models.sampler import SamplerTable
from mothlight.engine.records import Prompt
from mothlight.engine.stages.generate import DiffusionGenerator
from mothlight.exporters.graphs import Graph, round_to_half
from mothlight.exporters.publish import add_checks, export_bundle, raise_exists
from mothlight.exporters.sampler import sampler_table
from mothlight.exporters.tokenizers import SENTENCES, bundle_tokenizer
from mothlight.exporters.verify import require

TOLERANCE = 1e-3
PSNR = 40.0
"""dB between the library's image and the bundle's, at least."""
SEED = 20_260_101
GREY_LEVELS = 1.0
"""How far a decoded pixel may be from the library's: one rounding."""


class EncodeText(nn.Module):
    """ids (B, T) int64 → embedding (B, T, D) float32."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: Tensor) -> Tensor:
        """The last hidden state, as the pipeline's `encode_prompt` takes it."""
        hidden: Tensor = self.encoder(ids)[0]
        return hidden


class Denoise(nn.Module):
    """One sampler row: (x, x0_prev, noise, timestep (1,), coefficients (7,), embedding) → (x, x0)."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self, x: Tensor, x0_prev: Tensor, noise: Tensor, timestep: Tensor, coefficients: Tensor, embedding: Tensor
    ) -> tuple[Tensor, Tensor]:
        """x0 = p·x + q·m(s·x) and x' = a·x + b·x0 + c·x0_prev + d·noise."""
        s, p, q, a, b, c, d = coefficients.unbind()
        m = self.unet(s * x, timestep, encoder_hidden_states=embedding, return_dict=False)[0]
        x0 = p * x + q * m
        return a * x + b * x0 + c * x0_prev + d * noise, x0


class Decode(nn.Module):
    """latent (B, C, h, w) → images (B, H, W, 3) uint8, rounded as the library does."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latent: Tensor) -> Tensor:
        """The decoder, [-1, 1] → [0, 1], clamp, times 255, round half to even."""
        image = self.vae.decode(latent / self.vae.config.scaling_factor, return_dict=False)[0]
        return torch.round((image * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1) * 255).to(torch.uint8)


def load_pipeline(source: str) -> Any:
    """A `StableDiffusionPipeline` in float32 from a folder that diffusers saved.

    Raises:
        UserError: there is none.
    """
    index = Path(source) / "model_index.json"
    if not index.is_file():
        raise UserError(f"{source} has no model_index.json; it is not a folder that diffusers saved.")
    kind = json.loads(index.read_text(encoding="utf-8")).get("_class_name")
    if kind != "StableDiffusionPipeline":
        raise UserError(f"{source} is a {kind}; this version exports a StableDiffusionPipeline.")
    pipeline: Any = StableDiffusionPipeline.from_pretrained(  # type: ignore[no-untyped-call]  # diffusers
        source, local_files_only=True, dtype=torch.float32, use_safetensors=True
    )
    return pipeline


def export_generator(
    source: str, out: Path, *, steps: Sequence[int] = (6,), order: int | None = None, replace: bool = False
) -> Bundle:
    """Export a pipeline that runs without guidance, with one sampler table per number of steps.

    `order` overrides the scheduler's `solver_order`.

    Raises:
        UserError: the pipeline can't be loaded, or its scheduler is not linear.
        BundleError: an output differs from the library.
    """
    if out.exists() and not replace:
        raise_exists(out)
    pipeline = load_pipeline(source)
    for module in (pipeline.text_encoder, pipeline.unet, pipeline.vae):
        round_to_half(module)
    scheduler = pipeline.scheduler
    if order is not None:
        scheduler = type(scheduler).from_config(scheduler.config, solver_order=order)
    tables: tuple[SamplerTable, ...] = tuple(sampler_table(scheduler, count) for count in steps)
    size, tokens = int(pipeline.unet.config.sample_size), int(pipeline.text_encoder.config.max_position_embeddings)
    manifest = Manifest(
        role="generator",
        name=out.name,
        samplers=tables,
        latent=(int(pipeline.unet.config.in_channels), size, size),
        image_size=size * int(pipeline.vae_scale_factor),
        tokenizers=(TokenizerSpec(),),
        max_tokens=tokens,
        embedding_dim=int(pipeline.unet.config.cross_attention_dim),
        source=Source(library="diffusers", version=diffusers.__version__, model=type(pipeline).__name__),
    )

    def encode(texts: Sequence[str]) -> list[list[int]]:
        ids: list[list[int]] = pipeline.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=tokens
        ).input_ids
        return ids

    files = {"tokenizer.json": bundle_tokenizer(pipeline.tokenizer, tokens, encode)}
    bundle = export_bundle(out, manifest, generator_graphs(pipeline, tables[0]), files, replace=replace)
    return add_checks(bundle, [verify_pipeline(pipeline, scheduler, bundle, table) for table in tables])


def verify_pipeline(pipeline: Any, scheduler: Any, bundle: Bundle, table: SamplerTable) -> Check:
    """Image by image: the same prompt and noise through diffusers and through the bundle, as the worst PSNR.

    Raises:
        BundleError: an image is further off than `PSNR`.
    """
    steps = len(table.rows)
    ours = DiffusionGenerator(bundle, seed=SEED, steps=steps)
    pipeline.scheduler = scheduler
    pipeline.set_progress_bar_config(disable=True)
    worst = float("inf")
    for text in SENTENCES[:2]:
        prompt, indices = Prompt("label", text), (0, 7, 3)
        latents = noise(SEED, prompt.label, indices, 0, "latent", bundle.manifest.latent)
        wanted = pipeline(
            [text] * len(indices),
            latents=torch.from_numpy(latents),
            num_inference_steps=steps,
            guidance_scale=1.0,
            output_type="np",
        ).images
        error = (np.round(wanted * 255) - ours.images(prompt, indices)).reshape(len(indices), -1)
        worst = min(worst, float((10 * np.log10(255**2 / np.maximum((error**2).mean(axis=1), 1e-3))).min()))
    return require(Check(graph=table.name, output="images", batch=3, difference=worst, tolerance=PSNR, unit="PSNR dB"))


def generator_graphs(pipeline: DiffusionPipeline, table: SamplerTable) -> list[Graph]:
    """The graphs `encode_text`, `denoise` and `decode` of a pipeline."""
    parts: Any = pipeline
    unet, text, vae = parts.unet, parts.text_encoder, parts.vae
    size, channels = int(unet.config.sample_size), int(unet.config.in_channels)
    tokens, width = int(text.config.max_position_embeddings), int(unet.config.cross_attention_dim)

    def make_ids(batch: int, generator: torch.Generator) -> dict[str, Tensor]:
        return {"ids": torch.randint(0, int(text.config.vocab_size), (batch, tokens), generator=generator)}

    def make_step(batch: int, generator: torch.Generator) -> dict[str, Tensor]:
        x, x0, noise = (torch.randn(batch, channels, size, size, generator=generator) for _ in range(3))
        row = table.rows[batch % len(table.rows)]
        return {
            "x": x,
            "x0_prev": x0,
            "noise": noise,
            "timestep": torch.tensor([row.timestep]),
            "coefficients": torch.tensor(row.coefficients()),
            "embedding": torch.randn(batch, tokens, width, generator=generator),
        }

    def make_latent(batch: int, generator: torch.Generator) -> dict[str, Tensor]:
        scale = float(vae.config.scaling_factor)
        return {"latent": torch.randn(batch, channels, size, size, generator=generator) * scale}

    shared = frozenset({"timestep", "coefficients"})
    return [
        Graph("encode_text", EncodeText(text), make_ids, ("embedding",), TOLERANCE),
        Graph("denoise", Denoise(unet), make_step, ("x_next", "x0"), TOLERANCE, shared=shared),
        Graph("decode", Decode(vae), make_latent, ("images",), GREY_LEVELS),
    ]
