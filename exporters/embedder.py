"""An embedder of a library → an embedder's bundle, or a gate's; what is special to a family is in `embedders`."""

import torch
from torch import Tensor, nn

from mothlight.engine.errors import UserError
from mothlight.engine.models.bundle import Manifest
from mothlight.exporters.families import family_of, kind_of
from mothlight.exporters.graphs import Graph, round_to_half
from mothlight.exporters.images import LoadedEmbedder
from mothlight.exporters.options import Options, thresholds_of
from mothlight.exporters.preprocess import SHARED, Preprocess
from mothlight.exporters.publish import Prepared
from mothlight.exporters.source import Located, hub_name, locate, stated
from mothlight.exporters.tokenizers import bundle_tokenizer

TOLERANCE = 1e-4


class Preprocessed(nn.Module):
    """A module on pixels, behind the preprocessing."""

    def __init__(self, preprocess: Preprocess, module: nn.Module) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.module = module

    def forward(self, images: Tensor, *matrices: Tensor) -> Tensor:
        """(images, matrices of `Resize`) → what the module gives."""
        return self.module(self.preprocess(images, *matrices))


def prepare_embedder(source: str, name: str, options: Options) -> Prepared:
    """An embedder of open_clip, transformers or timm; with thresholds a gate.

    Raises:
        UserError: the model can't be loaded, its preprocessing is not supported, or a gate is wanted of one that
            reads no text.
        BundleError: its preprocessing differs from the library's.
    """
    found = locate(hub_name(source), revision=options.revision)
    loaded = load(found)
    sure = loaded.zero_shot is not None and loaded.zero_shot.activation == "softmax"
    thresholds = thresholds_of(options, *((0.1, 0.4) if sure else (0.001, 0.01)))
    if thresholds is not None and loaded.zero_shot is None:
        raise UserError(f"{source} reads no text, so it can't judge whether an image shows a label: no gate.")
    text, resize = loaded.text_input, loaded.preprocess.resize
    graphs = embedder_graphs(loaded)
    with torch.no_grad():
        example = graphs[0].module(*graphs[0].make_inputs(1, torch.Generator().manual_seed(0)).values())
    manifest = Manifest(
        role="embedder" if thresholds is None else "gate",
        name=name,
        image_size=resize.size,
        resize=resize,
        tokenizers=() if text is None else (text.spec,),
        max_tokens=None if text is None else text.length,
        embedding_dim=int(example.shape[1]),
        thresholds=thresholds,
        zero_shot=loaded.zero_shot,
        checks=(loaded.preprocess.check(loaded.transform),),
        source=stated(found, loaded.library, loaded.version, loaded.architecture, options),
    )
    files = {} if text is None else {text.spec.file: bundle_tokenizer(text)}
    return Prepared(manifest, graphs, files=files)


def load(found: Located) -> LoadedEmbedder:
    """The model of a source, taken apart.

    Raises:
        UserError: no family covers it, or its library can't load it.
    """
    library, kind = kind_of(found)
    return family_of("embedder", library, kind, found.given).load()(found)


def embedder_graphs(loaded: LoadedEmbedder) -> list[Graph]:
    """The graphs `embed_image` and, where the model reads text, `embed_text`."""
    preprocess = loaded.preprocess
    image = Preprocessed(preprocess, round_to_half(loaded.image))
    made, dynamic = preprocess.random_inputs, preprocess.dynamic
    graphs = [Graph("embed_image", image, made, ("vector",), TOLERANCE, SHARED, dynamic, core="module")]
    if loaded.text is not None and loaded.text_input is not None:
        text = loaded.text_input

        def make_ids(batch: int, generator: torch.Generator) -> dict[str, Tensor]:
            return {"ids": torch.randint(0, len(text.tokenizer), (batch, text.length), generator=generator)}

        graphs.append(Graph("embed_text", round_to_half(loaded.text), make_ids, ("vector",), TOLERANCE))
    return graphs
