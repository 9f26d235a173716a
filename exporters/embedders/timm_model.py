"""Any model of timm as an embedder, DINO among them: its pooled features."""

import timm
from torch import Tensor, nn

from mothlight.exporters.classifiers.timm_model import load_timm, timm_preprocess
from mothlight.exporters.images import LoadedEmbedder
from mothlight.exporters.source import Located


class EmbedImage(nn.Module):
    """pixels → (B, D) float32 of norm 1."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        """The features before the classifier, normalised."""
        return nn.functional.normalize(self.model(pixels), dim=-1)


def load_embedder(found: Located) -> LoadedEmbedder:
    """A folder that timm saved.

    Raises:
        UserError: timm can't load it.
    """
    model = load_timm(found)
    model.reset_classifier(0)
    preprocess, transform = timm_preprocess(found.origin, model)
    return LoadedEmbedder(
        image=EmbedImage(model),
        text=None,
        text_input=None,
        preprocess=preprocess,
        transform=transform,
        zero_shot=None,
        library="timm",
        version=timm.__version__,
        architecture=str(model.pretrained_cfg["architecture"]),
    )
