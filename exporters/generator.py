"""A pipeline of diffusers → a generator's bundle; what is special to a family stands in `generators`."""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor

from mothlight.engine.errors import BundleError, UserError
from mothlight.engine.executor.pipeline import images_of
from mothlight.engine.models.bundle import Backend, Bundle, Check, Manifest, Precision
from mothlight.engine.models.engines import Engines
from mothlight.engine.models.noise import noise
from mothlight.engine.models.sampler import SamplerTable
from mothlight.engine.records import Prompt
from mothlight.engine.stages.generate import DiffusionStage
from mothlight.exporters.backends import load_backend
from mothlight.exporters.diffusion import Denoise, Diffusion
from mothlight.exporters.families import family_of, kind_of
from mothlight.exporters.graphs import Graph, round_to_half
from mothlight.exporters.libraries import library_errors
from mothlight.exporters.options import Options
from mothlight.exporters.precision import CheckingEngines
from mothlight.exporters.publish import Prepared, log
from mothlight.exporters.sampler import sampler_class, sampler_table, with_order
from mothlight.exporters.source import Located, locate, require_whole, safetensors_header, stated, variant_of
from mothlight.exporters.tokenizers import SENTENCES, TextInput, bundle_tokenizer
from mothlight.exporters.verify import require, require_sound
from mothlight.exporters.weights import loaded_whole

TOLERANCE = 1e-3
PSNR = 40.0
PIPELINE: dict[Precision, float] = {"fp32": PSNR, "fp16": 20.0, "bf16": 15.0}
"""How near the whole pipeline's images must be, in dB: steps add up what each of them is off."""
"""dB between the library's image and the bundle's, at least."""
SEED = 20_260_101
GREY_LEVELS = 1.0
"""How far a decoded pixel may be from the library's: one rounding."""
LARGE_ENCODER = 1_000_000_000
"""Parameters of text encoders from which they stay with the library, unless told otherwise."""
SEEN = 0.75
"""Grey levels, root mean square, by which images must differ before it is no rounding."""
STEERING = 5.0
"""A guidance scale that steers, where a model is steered at all."""
LORA_ENDS = ("lora_A.weight", "lora_down.weight", "lora.down.weight")
"""How the first half of a LoRA's layer is called, by who saved it."""
UNUSED_PARTS = ("safety_checker", "image_encoder")
"""Parts of pipelines that take no part in making an image of a text."""
ENCODERS = "library"
"""The folder of a bundle in which they lie then."""


def prepare_generator(source: str, name: str, options: Options) -> Prepared:
    """A pipeline, with one sampler table per number of steps.

    Raises:
        UserError: the pipeline can't be loaded, its scheduler is not linear, or an option does not fit it.
    """
    found = locate(source, revision=options.revision)
    if found.path is not None and found.path.is_file():
        raise UserError(
            f"{source} is a single file, and a generator is a folder of parts: let diffusers make one "
            f"(from_single_file, then save_pretrained) and name that."
        )
    library, kind = kind_of(found)
    family = family_of("generator", library, kind, source)
    of: type[Diffusion] = family.load()
    named = found.json("model_index.json")
    for part in of.text_parts:
        if part not in of.optional_parts and named.get(part, [None])[0] is None:
            raise UserError(f"{source} has no {part}: its model_index.json names none, and without it no text is read.")
    pipeline = load_pipeline(found, options)
    diffusion = of(pipeline, options.size)
    guidance = _guidance(source, diffusion, options)
    encoders = [getattr(pipeline, part) for part in diffusion.text_parts if getattr(pipeline, part) is not None]
    for module in (*encoders, diffusion.model, pipeline.vae):
        round_to_half(module)
    scheduler = with_order(pipeline.scheduler, options.order)
    steps = options.steps or (diffusion.default_steps,)
    tables = tuple(_table(scheduler, count, diffusion, options) for count in steps)
    inputs = [_expanded(one) for one in diffusion.text_inputs()]
    with_library = _stays_with_library(encoders, options)
    zeros = diffusion.zeros_when_negative_is_empty() and not options.negative_prompt
    manifest = Manifest(
        role="generator",
        name=name,
        samplers=tables,
        latent=diffusion.latent_shape(),
        image_size=diffusion.size,
        guidance=guidance,
        negative_prompt=None if zeros or guidance is None else options.negative_prompt,
        tokenizers=tuple(one.spec for one in inputs),
        max_tokens=max(one.length for one in inputs),
        backend=Backend(library="transformers", part="encode_text", folder=ENCODERS) if with_library else None,
        source=stated(found, "diffusers", diffusers.__version__, type(pipeline).__name__, options),
    )
    graphs = generator_graphs(diffusion, tables[0], guidance)

    def fill(work: Path) -> None:
        if with_library:
            save_text_encoders(diffusion, work / ENCODERS)

    def check(bundle: Bundle) -> list[Check]:
        engines = CheckingEngines(graphs)
        return [verify_pipeline(diffusion, scheduler, bundle, table, engines) for table in tables]

    return Prepared(
        manifest,
        graphs[1:] if with_library else graphs,
        files={one.spec.file: bundle_tokenizer(one) for one in inputs},
        fill=fill,
        check=check,
    )


def _guidance(source: str, diffusion: Diffusion, options: Options) -> float | None:
    """The guidance scale: what was asked for, or the family's own.

    Raises:
        UserError: the pipeline takes none, or no negative prompt.
    """
    guidance = options.guidance if options.guidance is not None else diffusion.default_guidance()
    kind = diffusion.guidance_kind(guidance)
    if options.guidance is not None and options.guidance > 1 and kind == "none":
        if not diffusion.ignores_guidance():
            raise UserError(f"{source}: {type(diffusion.pipeline).__name__} takes no guidance; leave --guidance out.")
        log.warning("%s is distilled and not steered by a guidance scale; --guidance is left unused", source)
    if kind == "none":
        guidance = None
    if options.negative_prompt and kind != "classifier-free":
        steered = kind == "none" and diffusion.guidance_kind(STEERING) == "classifier-free"
        how = "add --guidance" if steered else "leave --negative-prompt out"
        raise UserError(f"{source} is not steered away from a negative prompt without classifier-free guidance; {how}.")
    return guidance


def _table(scheduler: Any, steps: int, diffusion: Diffusion, options: Options) -> SamplerTable:
    """A sampler's table; where the pipeline's own can't become one, the message names one that can.

    Raises:
        UserError: the scheduler's step is not linear, or hides its estimate.
    """
    try:
        return sampler_table(scheduler, steps, diffusion)
    except UserError as error:
        if options.sampler is not None:
            raise
        raise UserError(f"{str(error).rstrip('.')}; {_instead_of(type(scheduler).__name__)}.") from error


def _instead_of(scheduler: str) -> str:
    """What to do where a scheduler's class can't be used."""
    return f"use --sampler {'flow-euler' if 'Flow' in scheduler else 'dpm++2m'}"


def _expanded(given: TextInput) -> TextInput:
    """A text input that knows the words of its tokenizer that stand for several tokens, as diffusers knows them."""
    added = getattr(given.tokenizer, "added_tokens_encoder", {})
    several = []
    for word in added:
        count = 1
        while f"{word}_{count}" in added:
            count += 1
        if count > 1:
            several.append((word, " ".join([word, *(f"{word}_{one}" for one in range(1, count))])))
    return replace(given, spec=given.spec.model_copy(update={"expansions": tuple(several)}))


def _stays_with_library(encoders: Sequence[Any], options: Options) -> bool:
    """Whether the text encoders are no graphs."""
    if options.text_encoder != "auto":
        return options.text_encoder == "library"
    return sum(parameter.numel() for encoder in encoders for parameter in encoder.parameters()) > LARGE_ENCODER


def load_pipeline(found: Located, options: Options) -> Any:
    """A pipeline in float32, with the decoder and the fused LoRA that were asked for.

    Raises:
        UserError: a part of it is missing or is not what it should be.
    """
    kind = getattr(diffusers, kind_of(found)[1], None)
    if kind is None:
        raise UserError(f"{found.given} is a {kind_of(found)[1]}, which diffusers {diffusers.__version__} has not.")
    require_whole(found)
    log.info("reading %s", found.given)
    parts: dict[str, Any] = {"vae": load_decoder(options.decoder)} if options.decoder is not None else {}
    for name, named in found.json("model_index.json").items():
        if name in parts or not isinstance(named, list) or len(named) != 2:
            continue
        library, of = named
        if name in UNUSED_PARTS or of is None:
            parts[name] = None
        elif name == "scheduler":
            parts[name] = load_scheduler(found, of, options.sampler)
        elif library in ("diffusers", "transformers"):
            parts |= load_part(found, name, library, of)
    with library_errors(f"{found.given} can't be loaded"), with_scheduler(found, parts["scheduler"]) as folder:
        pipeline: Any = kind.from_pretrained(folder, local_files_only=True, dtype=torch.float32, **parts)
    if options.lora is not None:
        fuse_lora(pipeline, options.lora, options.lora_scale)
    return pipeline


@contextmanager
def with_scheduler(found: Located, scheduler: Any) -> Iterator[Path]:
    """The pipeline's folder, or one of links to it whose index names the scheduler that is used.

    diffusers looks at the class that the index names even where another scheduler is handed to it, and fails if that
    class needs a library that is not there.
    """
    index = found.json("model_index.json")
    if index["scheduler"][1] == type(scheduler).__name__:
        yield found.folder
        return
    with tempfile.TemporaryDirectory(prefix="mothlight-pipeline-") as name:
        folder = Path(name)
        for entry in found.folder.resolve().iterdir():
            if entry.name != "model_index.json":
                (folder / entry.name).symlink_to(entry)
        told = {**index, "scheduler": ["diffusers", type(scheduler).__name__]}
        (folder / "model_index.json").write_text(json.dumps(told), encoding="utf-8")
        yield folder


def load_scheduler(found: Located, kind: str, sampler: str | None) -> Any:
    """The pipeline's own scheduler, or the one that was asked for, from the same configuration.

    Raises:
        UserError: it can't be loaded, or there is no sampler of that name.
    """
    changes: dict[str, Any] = {}
    hint = f"; {_instead_of(kind)}" if sampler is None else ""
    if sampler is not None:
        kind, changes = sampler_class(sampler)
    with library_errors(f"{found.given}: its scheduler can't be loaded as a {kind}{hint}"):
        return getattr(diffusers, kind).from_pretrained(found.folder / "scheduler", local_files_only=True, **changes)


def load_part(found: Located, name: str, library: str, kind: str) -> dict[str, Any]:
    """A model of a pipeline in float32, each of whose weights came from its files, by name; empty for what is none.

    Raises:
        UserError: it is missing, or its weights are not its own.
    """
    made: Any = getattr(diffusers if library == "diffusers" else transformers, kind, None)
    if made is None:
        version = diffusers.__version__ if library == "diffusers" else transformers.__version__
        raise UserError(f"{found.given}: {name} is a {kind}, which {library} {version} has not.")
    if not hasattr(made, "state_dict"):  # tokenizers, schedulers and processors
        return {}
    if not (found.folder / name).is_dir():
        raise UserError(f"{found.given} has no folder {name}, which its model_index.json names.")

    how = {"dtype" if library == "transformers" else "torch_dtype": torch.float32, **variant_of(found.files, name)}
    where, renames = f"{found.given}: {name}", library == "transformers"
    with library_errors(f"{where} can't be loaded by {library}"):
        return {name: loaded_whole(where, made, found.folder / name, renames=renames, **how).eval()}


def load_decoder(source: str) -> Any:
    """A tiny autoencoder.

    Raises:
        UserError: there is none.
    """
    found = locate(source)
    kind = found.json("config.json").get("_class_name")
    if kind != "AutoencoderTiny":
        raise UserError(f"The decoder {source} is a {kind or 'folder without config.json'}, not an AutoencoderTiny.")
    where, how = f"The decoder {source}", variant_of(found.files)
    with library_errors(f"{where} can't be loaded"):
        return loaded_whole(where, diffusers.AutoencoderTiny, found.folder, renames=False, **how)


def fuse_lora(pipeline: Any, source: str, scale: float) -> None:
    """Add a LoRA to the weights, so that it costs nothing at run time.

    Raises:
        UserError: it can't be read, or fits no layer.
    """
    found = locate(source)
    names = [name for name, _ in found.files if name.endswith(".safetensors")]
    if found.path is None or len(names) != 1:
        raise UserError(f"The LoRA {source} has {len(names)} safetensors files; name one file.")
    require_whole(found)
    folder = found.path if found.path.is_dir() else found.path.parent
    with library_errors(f"The LoRA {source} does not fit {type(pipeline).__name__}"):
        pipeline.load_lora_weights(str(folder), weight_name=names[0], local_files_only=True)
        found_places = lora_places(pipeline)
        pipeline.fuse_lora(lora_scale=scale)
    file = found.path / names[0] if found.path.is_dir() else found.path
    layers = sum(name.endswith(LORA_ENDS) for name in safetensors_header(file))
    if not pipeline.get_list_adapters() or found_places < layers:
        raise UserError(
            f"The LoRA {source} does not fit {type(pipeline).__name__}: of its {layers} layers {found_places} have a "
            f"place there, and the rest would be left out."
        )
    pipeline.unload_lora_weights()


def lora_places(pipeline: Any) -> int:
    """How many layers of a pipeline's models have LoRA weights."""
    parts = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    return sum(len(getattr(module, "lora_A", ())) for part in parts for module in part.modules())


def save_text_encoders(diffusion: Diffusion, folder: Path) -> None:
    """The text encoders as their library saves them, in float16, for the backend to load."""
    for part in diffusion.text_parts:
        encoder = getattr(diffusion.pipeline, part)
        if encoder is not None:
            # lossless: `round_to_half` was here before
            half = {
                name: tensor.half() if _fits_half(tensor) else tensor for name, tensor in encoder.state_dict().items()
            }
            encoder.save_pretrained(folder / part, state_dict=half)


def _fits_half(tensor: Tensor) -> bool:
    return tensor.dtype == torch.float32 and torch.equal(tensor.half().float(), tensor)


def generator_graphs(diffusion: Diffusion, table: SamplerTable, guidance: float | None) -> list[Graph]:
    """The graphs `encode_text`, `denoise` and `decode` of a pipeline."""
    inputs, latent = diffusion.text_inputs(), diffusion.latent_shape()
    how = diffusion.guidance_kind(guidance)
    text = diffusion.text_module().eval()

    def make_ids(batch: int, generator: torch.Generator) -> dict[str, Tensor]:
        made = {}
        for one in inputs:
            ids = torch.randint(0, len(one.tokenizer), (batch, one.length), generator=generator)
            made[one.spec.ids] = ids
            if one.spec.mask is not None:
                lengths = torch.randint(2, one.length + 1, (batch, 1), generator=generator)
                made[one.spec.mask] = (torch.arange(one.length)[None] < lengths).long()
        return made

    with torch.no_grad():
        known = text(*make_ids(1, torch.Generator().manual_seed(0)).values())
    shapes = [tuple(one.shape[1:]) for one in (known if isinstance(known, tuple) else (known,))]
    names = list(zip(diffusion.conditions, shapes, strict=True))
    if how == "classifier-free":
        names += [(f"negative_{name}", shape) for name, shape in names]

    def make_step(batch: int, generator: torch.Generator) -> dict[str, Tensor]:
        x, x0, fresh = (torch.randn(batch, *latent, generator=generator) for _ in range(3))
        row = table.rows[batch % len(table.rows)]
        made = {
            "x": x,
            "x0_prev": x0,
            "noise": fresh,
            "timestep": torch.tensor([row.timestep]),
            "coefficients": torch.tensor(row.coefficients()),
        }
        for name, shape in names:
            made[name] = torch.randn(batch, *shape, generator=generator)
            if name.endswith("attention"):
                lengths = torch.randint(2, shape[0] + 1, (batch, 1), generator=generator)
                made[name] = (torch.arange(shape[0])[None] < lengths).float()
        if how != "none":
            made["guidance"] = torch.tensor([guidance])
        return made

    def make_latent(batch: int, generator: torch.Generator) -> dict[str, Tensor]:
        scale = float(diffusion.pipeline.vae.config.get("scaling_factor") or 1.0)
        return {"latent": torch.randn(batch, *latent, generator=generator) * scale}

    shared = frozenset({"timestep", "coefficients", "guidance"})
    denoise, decode = Denoise(diffusion.predict_module(), how), diffusion.decode_module()
    optimize = diffusion.optimize
    return [
        Graph("encode_text", text, make_ids, diffusion.conditions, TOLERANCE),
        Graph("denoise", denoise, make_step, ("x_next", "x0"), TOLERANCE, shared, core="predict", optimize=optimize),
        Graph("decode", decode, make_latent, ("images",), GREY_LEVELS, core="vae", optimize=optimize),
    ]


def verify_pipeline(
    diffusion: Diffusion, scheduler: Any, bundle: Bundle, table: SamplerTable, engines: Engines
) -> Check:
    """Image by image: the same prompt and noise through diffusers and through the bundle, as the worst PSNR.

    Raises:
        BundleError: an image is further off than `PIPELINE`, or is of one single colour.
    """
    steps, pipeline, manifest = len(table.rows), diffusion.pipeline, bundle.manifest
    ours = DiffusionStage(bundle, seed=SEED, steps=steps, engines=engines, load_backend=load_backend)
    pipeline.scheduler = type(scheduler).from_config(scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    indices = (0, 7, 3)
    negative = None if manifest.negative_prompt is None else [manifest.negative_prompt] * len(indices)
    worst = float("inf")
    texts = [*SENTENCES[:2], *(f"a photo of {word} on grass" for word, _ in manifest.tokenizers[0].expansions[:1])]
    library, bundled = [], []
    for text in texts:
        prompt = Prompt("label", text)

        def fresh(step: int, label: str = prompt.label) -> Tensor:
            return torch.from_numpy(noise(SEED, label, indices, step, "latent", manifest.latent))

        with (
            drawn_from(pipeline.scheduler, lambda step: diffusion.call_latents(fresh(step))),
            library_errors(f"{manifest.name}: diffusers itself can't make an image of {diffusion.size} pixels so"),
        ):
            wanted = pipeline(
                prompt=[text] * len(indices),
                latents=diffusion.call_latents(fresh(0)),
                num_inference_steps=steps,
                output_type="np",
                **diffusion.call_options(steps, manifest.guidance, negative),
            ).images
        library.append(np.round(wanted * 255))
        require_sound(f"{manifest.name}: the library's image", library[-1].astype(np.uint8))
        bundled.append(images_of(ours, prompt, indices).astype(np.float64))
        error = (library[-1] - bundled[-1]).reshape(len(indices), -1)
        worst = min(worst, float((10 * np.log10(255**2 / np.maximum((error**2).mean(axis=1), 1e-3))).min()))
    bound = PIPELINE[manifest.precision]
    check = Check(graph=table.name, output="images", batch=3, difference=worst, tolerance=bound, unit="PSNR dB")
    require(check)
    require_prompts(manifest.name, library[0] - library[1], bundled[0] - bundled[1])
    return check


def require_prompts(name: str, library: NDArray[np.float64], bundled: NDArray[np.float64]) -> None:
    """That another prompt changes a bundle's images as it changes the library's, both in grey levels.

    Raises:
        BundleError: it does not; all images could still be near the library's.
    """
    change = float(np.sqrt((library**2).mean()))
    if change < SEEN:
        log.warning("%s: in the library, too, another prompt hardly changes an image (%.2f grey levels)", name, change)
        return
    apart = float(np.sqrt(((library - bundled) ** 2).mean()))
    if apart > max(change / 2, SEEN):
        raise BundleError(
            f"{name}: another prompt changes the library's images by {change:.1f} grey levels, and the bundle's not so "
            f"({apart:.1f} apart): the prompt, or the guidance scale, does not act as in the library."
        )


@contextmanager
def drawn_from(scheduler: Any, fresh: Callable[[int], Tensor]) -> Iterator[None]:
    """Inside, the k-th noise that a scheduler draws is `fresh(k)`, counted from 1: its own draws can't be keyed."""
    module = sys.modules[type(scheduler).__module__]
    before = getattr(module, "randn_tensor", None)
    if before is None:
        yield
        return
    count = 0

    def draw(*_: object, **__: object) -> Tensor:
        nonlocal count
        count += 1
        return fresh(count)

    module.randn_tensor = draw  # type: ignore[attr-defined]  # diffusers imported it there
    try:
        yield
    finally:
        module.randn_tensor = before  # type: ignore[attr-defined]  # as above
