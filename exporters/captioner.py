"""A captioner of a library → a captioner's bundle; what is special to a family is in `captioners`."""

import torch
from torch import Tensor

from mothlight.engine.errors import UserError
from mothlight.engine.models.bundle import Bundle, Check, Manifest, TokenizerSpec
from mothlight.engine.models.engines import Engines
from mothlight.engine.stages.caption import GROWN, GraphCaptioner, until
from mothlight.exporters.captioners.parts import FirstToken, NextToken, state_names
from mothlight.exporters.embedder import Preprocessed
from mothlight.exporters.families import family_of, kind_of
from mothlight.exporters.graphs import Graph, round_to_half
from mothlight.exporters.images import LoadedCaptioner
from mothlight.exporters.options import Options
from mothlight.exporters.precision import CheckingEngines
from mothlight.exporters.preprocess import SHARED
from mothlight.exporters.publish import Prepared
from mothlight.exporters.source import Located, locate, stated
from mothlight.exporters.tokenizers import decoder_tokenizer
from mothlight.exporters.verify import require

TOLERANCE = 1e-3
BATCH = 3
"""Images that are captioned by both."""


def prepare_captioner(source: str, name: str, options: Options) -> Prepared:
    """A captioner of transformers.

    Raises:
        UserError: the model can't be loaded, or its preprocessing is not supported.
        BundleError: its preprocessing differs from the library's.
    """
    found = locate(source, revision=options.revision)
    library, kind = kind_of(found)
    family = family_of("captioner", library, kind, source)
    if family.backend:
        if options.precision != "fp32":
            raise UserError(f"{source} is a {kind}, which its library runs; leave --precision out.")
        return family.load()(found, name, options)
    if options.question is not None:
        raise UserError(f"{source} is a {kind}, which is not asked anything; leave --question out.")
    loaded = load(found)
    manifest = Manifest(
        role="captioner",
        name=name,
        image_size=loaded.preprocess.resize.size,
        resize=loaded.preprocess.resize,
        tokenizers=(TokenizerSpec(),),
        start_ids=loaded.start_ids,
        end_id=loaded.end_id,
        max_tokens=loaded.max_tokens,
        checks=(loaded.preprocess.check(loaded.transform),),
        source=stated(found, loaded.library, loaded.version, loaded.architecture, options),
    )
    files = {"tokenizer.json": decoder_tokenizer(loaded.tokenizer)}

    graphs = captioner_graphs(loaded)

    def check(bundle: Bundle) -> list[Check]:
        return [verify_captions(loaded, bundle, CheckingEngines(graphs))]

    return Prepared(manifest, graphs, files=files, check=check)


def verify_captions(loaded: LoadedCaptioner, bundle: Bundle, engines: Engines) -> Check:
    """The library's own greedy captions of random images against the bundle's: the share that differs in a token.

    In half precision every one may: at a tie between two words a caption goes another way.

    Raises:
        BundleError: one does in float32.
    """
    captioner = GraphCaptioner(bundle, engines)
    inputs = loaded.preprocess.random_inputs(BATCH, torch.Generator().manual_seed(2))
    with torch.no_grad():
        wanted = loaded.generate(loaded.preprocess(*inputs.values()), captioner.limit - len(captioner.start)).numpy()
    got = captioner.tokens(inputs["images"].numpy())
    differ = [
        until(ours.tolist(), loaded.end_id) != until(theirs.tolist(), loaded.end_id)
        for ours, theirs in zip(got, wanted, strict=True)
    ]
    return require(
        Check(
            graph="caption",
            output="tokens",
            batch=BATCH,
            difference=sum(differ) / BATCH,
            tolerance=0.0 if bundle.manifest.precision == "fp32" else 1.0,
            unit="absolute",
        )
    )


def load(found: Located) -> LoadedCaptioner:
    """The model of a source, taken apart.

    Raises:
        UserError: no family covers it, or its library can't load it.
    """
    library, kind = kind_of(found)
    return family_of("captioner", library, kind, found.given).load()(found)


def captioner_graphs(loaded: LoadedCaptioner) -> list[Graph]:
    """The graphs `encode_image`, `first_token` and `next_token`; see `captioners.parts`."""
    preprocess = loaded.preprocess
    image = Preprocessed(preprocess, round_to_half(loaded.encode_image))
    decoder = round_to_half(loaded.decoder)
    first, following = FirstToken(decoder, loaded.start_ids), NextToken(decoder)
    with torch.no_grad():
        memory = image(*preprocess.random_inputs(1, torch.Generator().manual_seed(0)).values())
        state = first(memory)[1:]
    layers = len(state) // (4 if decoder.crosses else 2)
    growing, seen = state_names(layers, crosses=decoder.crosses)

    def make_memory(batch: int, generator: torch.Generator) -> dict[str, Tensor]:
        return {"memory": torch.randn(batch, *memory.shape[1:], generator=generator)}

    def make_state(batch: int, generator: torch.Generator) -> dict[str, Tensor]:
        ids = torch.randint(0, len(loaded.tokenizer), (batch, 1), generator=generator)
        made = {"ids": ids}
        for name, one in zip((*growing, *seen), state, strict=True):
            heads, length, width = one.shape[1:]
            longer = length if name in seen else length + 1 + batch
            made[name] = torch.randn(batch, heads, longer, width, generator=generator)
        return made

    made = preprocess.random_inputs
    grown = tuple(f"{name}{GROWN}" for name in growing)
    lengths = {name: {2: "length"} for name in growing}
    return [
        Graph("encode_image", image, made, ("memory",), TOLERANCE, SHARED, preprocess.dynamic, core="module"),
        Graph("first_token", first, make_memory, ("logits", *growing, *seen), TOLERANCE),
        Graph("next_token", following, make_state, ("logits", *grown), TOLERANCE, dynamic=lengths),
    ]
