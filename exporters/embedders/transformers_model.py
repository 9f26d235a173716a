"""SigLIP and CLIP of transformers: images and texts in one space; DINO: images alone."""

from typing import Any

import transformers
from torch import Tensor, nn

from mothlight.engine.errors import UserError
from mothlight.engine.models.bundle import TokenizerSpec, ZeroShot
from mothlight.exporters.classifiers.transformers_model import architecture_of, load_transformers
from mothlight.exporters.images import LoadedEmbedder
from mothlight.exporters.libraries import reason
from mothlight.exporters.preprocess import of_processor
from mothlight.exporters.source import Located
from mothlight.exporters.tokenizers import TextInput


class EmbedImage(nn.Module):
    """pixels → (B, D) float32 of norm 1."""

    def __init__(self, model: Any, *, joint: bool) -> None:
        super().__init__()
        self.model = model
        self.joint = joint

    def forward(self, pixels: Tensor) -> Tensor:
        """The image's features in the joint space, or a DINO's pooled output; normalised."""
        out = self.model.get_image_features(pixel_values=pixels) if self.joint else self.model(pixel_values=pixels)
        return nn.functional.normalize(features(out), dim=-1)


class EmbedText(nn.Module):
    """ids (B, T) int64 → (B, D) float32 of norm 1."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        """The text's features in the joint space, normalised."""
        return nn.functional.normalize(features(self.model.get_text_features(input_ids=ids)), dim=-1)


def features(output: Any) -> Tensor:
    """The tensor of an output, which is one in some versions of the library and holds one in others."""
    return output if isinstance(output, Tensor) else output.pooler_output


def load_joint(found: Located) -> LoadedEmbedder:
    """A SigLIP or a CLIP.

    Raises:
        UserError: transformers can't load it.
    """
    model, processor = load_transformers(found, architecture_of(found))
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            found.folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise UserError(f"{found.given} has no tokenizer that transformers can load: {reason(error)}") from error
    preprocess, transform = of_processor(found.origin, processor)
    length = int(model.config.text_config.max_position_embeddings)
    bias = getattr(model, "logit_bias", None)
    zero_shot = ZeroShot(
        scale=float(model.logit_scale.detach().exp()),
        bias=0.0 if bias is None else float(bias.detach()),
        activation="softmax" if bias is None else "sigmoid",
    )
    return LoadedEmbedder(
        image=EmbedImage(model, joint=True),
        text=EmbedText(model),
        text_input=TextInput(TokenizerSpec(), tokenizer, length),
        preprocess=preprocess,
        transform=transform,
        zero_shot=zero_shot,
        library="transformers",
        version=transformers.__version__,
        architecture=type(model).__name__,
    )


def load_images_only(found: Located) -> LoadedEmbedder:
    """A DINO.

    Raises:
        UserError: transformers can't load it.
    """
    model, processor = load_transformers(found, architecture_of(found))
    preprocess, transform = of_processor(found.origin, processor)
    return LoadedEmbedder(
        image=EmbedImage(model, joint=False),
        text=None,
        text_input=None,
        preprocess=preprocess,
        transform=transform,
        zero_shot=None,
        library="transformers",
        version=transformers.__version__,
        architecture=type(model).__name__,
    )
