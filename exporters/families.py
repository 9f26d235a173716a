"""The table of model families. Adding one is a file and a row here.

A row says which classes of a library a family covers, and which of our classes knows how to take them apart.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import import_module
from typing import Any

from mothlight.engine.errors import UserError
from mothlight.exporters.source import Located

GRAPHS: dict[str, tuple[str, ...]] = {
    "generator": ("encode_text", "denoise", "decode"),
    "classifier": ("classify",),
    "embedder": ("embed_image", "embed_text"),
    "captioner": ("encode_image", "first_token", "next_token"),
}


@dataclass(frozen=True, slots=True)
class Family:
    """One row."""

    role: str
    """generator, classifier, embedder or captioner; a gate is a classifier or an embedder."""
    name: str
    """As people call it."""
    library: str
    kinds: tuple[str, ...]
    """Classes of the library, as its configuration files name them; `*` stands for anything."""
    loader: str
    """`module:name` under `mothlight.exporters`."""
    backend: str = ""
    """The part that the library itself runs when an audit runs; empty where all are graphs."""

    @property
    def graphs(self) -> tuple[str, ...]:
        """The graphs of its bundles; none where the library itself runs the model."""
        if self.backend:
            return ()
        if self.library == "onnx":
            return ("preprocess", "model", "postprocess")
        if self.role == "embedder" and "DINO" in self.name:
            return ("embed_image",)
        return GRAPHS[self.role]

    def load(self) -> Any:
        """The class or function that knows the family."""
        module, _, name = self.loader.partition(":")
        return getattr(import_module(f"mothlight.exporters.{module}"), name)


FAMILIES: tuple[Family, ...] = (
    Family(
        "generator",
        "Stable Diffusion 1.x, 2.x, SD-Turbo; LCM",
        "diffusers",
        ("StableDiffusionPipeline", "LatentConsistencyModelPipeline"),
        "generators.stable_diffusion:StableDiffusion",
    ),
    Family(
        "generator",
        "SDXL, SDXL-Turbo",
        "diffusers",
        ("StableDiffusionXLPipeline",),
        "generators.stable_diffusion_xl:StableDiffusionXL",
    ),
    Family(
        "generator",
        "Stable Diffusion 3, 3.5",
        "diffusers",
        ("StableDiffusion3Pipeline",),
        "generators.stable_diffusion_3:StableDiffusion3",
    ),
    Family(
        "generator",
        "FLUX.1",
        "diffusers",
        ("FluxPipeline",),
        "generators.flux:Flux",
    ),
    Family(
        "generator",
        "SANA-Sprint",
        "diffusers",
        ("SanaSprintPipeline",),
        "generators.sana_sprint:SanaSprint",
    ),
    Family(
        "generator",
        "FLUX.2 [klein]",
        "diffusers",
        ("Flux2KleinPipeline",),
        "generators.flux_2_klein:Flux2Klein",
    ),
    Family(
        "classifier",
        "any classifier of timm",
        "timm",
        ("*",),
        "classifiers.timm_model:load_classifier",
    ),
    Family(
        "classifier",
        "any classifier of torchvision",
        "torchvision",
        ("*",),
        "classifiers.torchvision_model:load_classifier",
    ),
    Family(
        "classifier",
        "any image classifier of transformers",
        "transformers",
        ("*ForImageClassification", "*ForImageClassificationWithTeacher"),
        "classifiers.transformers_model:load_classifier",
    ),
    Family(
        "classifier",
        "any ONNX file",
        "onnx",
        ("*",),
        "classifiers.onnx_file:prepare_onnx_file",
    ),
    Family(
        "embedder",
        "any model of open_clip",
        "open_clip",
        ("*",),
        "embedders.open_clip_model:load_embedder",
    ),
    Family(
        "embedder",
        "SigLIP, CLIP",
        "transformers",
        ("SiglipModel", "CLIPModel"),
        "embedders.transformers_model:load_joint",
    ),
    Family(
        "embedder",
        "DINOv2, DINOv3",
        "transformers",
        ("Dinov2Model", "Dinov2WithRegistersModel", "DINOv3ViTModel"),
        "embedders.transformers_model:load_images_only",
    ),
    Family(
        "embedder",
        "any model of timm, DINO among them",
        "timm",
        ("*",),
        "embedders.timm_model:load_embedder",
    ),
    Family(
        "captioner",
        "BLIP",
        "transformers",
        ("BlipForConditionalGeneration",),
        "captioners.blip:load_captioner",
    ),
    Family(
        "captioner",
        "GIT",
        "transformers",
        ("GitForCausalLM",),
        "captioners.git:load_captioner",
    ),
    Family(
        "captioner",
        "Florence-2",
        "transformers",
        ("Florence2ForConditionalGeneration",),
        "captioners.florence_2:load_captioner",
    ),
    Family(
        "captioner",
        "vision encoder-decoders (ViT and GPT-2)",
        "transformers",
        ("VisionEncoderDecoderModel",),
        "captioners.vision_encoder_decoder:load_captioner",
    ),
    Family(
        "captioner",
        "vision-language models (Qwen-VL class)",
        "transformers",
        ("Qwen*VL*ForConditionalGeneration",),
        "captioners.vision_language:prepare_vision_language",
        backend="caption",
    ),
)


def kind_of(found: Located) -> tuple[str, str]:
    """The library that saved a model, and the class that its configuration names.

    Raises:
        UserError: the files say neither.
    """
    if found.path is not None and found.path.suffix in (".onnx", ".toml"):
        return "onnx", "onnx"
    if name := found.json("model_index.json").get("_class_name"):
        return "diffusers", str(name)
    if found.json("open_clip_config.json"):
        return "open_clip", "open_clip"
    config = found.json("config.json")
    if architectures := config.get("architectures"):
        return "transformers", str(architectures[0])
    if architecture := config.get("architecture"):
        return "timm", str(architecture)
    raise UserError(
        f"{found.given} has no model_index.json, open_clip_config.json, or config.json with an architecture: "
        f"no library that mothlight knows saved it."
    )


def family_of(role: str, library: str, kind: str, given: str) -> Family:
    """The row for a class of a library in a role.

    Raises:
        UserError: there is none; the message says what there is.
    """
    rows = [family for family in FAMILIES if family.role == role]
    for family in rows:
        if family.library == library and any(fnmatchcase(kind, pattern) for pattern in family.kinds):
            return family
    known = "; ".join(f"{family.name} ({family.library} {', '.join(family.kinds)})" for family in rows)
    raise UserError(f"{given} is a {kind} of {library}, which mothlight can't export as a {role}; it knows: {known}.")
