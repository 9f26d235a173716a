"""Says in words what images show."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mothlight.engine.errors import BundleError
from mothlight.engine.models.bundle import Bundle
from mothlight.engine.models.runner import LoadBackend, OrtRunner, Runner, no_backend
from mothlight.engine.models.tokenizer import BundleTokenizer

GROWN = "_grown"
"""How the names end of what `next_token` gives to be taken by its next call."""


@dataclass(frozen=True, slots=True)
class Caption:
    """What was said of an image, or why nothing was."""

    text: str
    refused: str = ""
    """The reason of a captioner that would not answer; empty where it did."""


class Captioner(Protocol):
    """Anything that describes images; the same images give the same words."""

    def caption(self, images: NDArray[np.uint8]) -> list[Caption]:
        """One answer per image (B, H, W, 3)."""
        ...


def build_captioner(bundle: Bundle, load_backend: LoadBackend = no_backend) -> Captioner:
    """A captioner's bundle, whichever kind it is.

    Raises:
        BundleError: the manifest does not say how a caption starts and ends, or the library can't load its part.
    """
    if bundle.manifest.backend is not None:
        return LibraryCaptioner(load_backend(bundle))
    return GraphCaptioner(bundle)


class LibraryCaptioner:
    """A captioner that a model library runs."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner

    def caption(self, images: NDArray[np.uint8]) -> list[Caption]:
        """See `Captioner`."""
        return [Caption(str(text)) for text in self.runner.infer(images=images)["texts"]]


class GraphCaptioner:
    """A captioner's graphs, decoded greedily."""

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        """Load the graphs.

        Raises:
            BundleError: the manifest does not say how a caption starts and ends.
        """
        manifest = bundle.manifest
        if not manifest.start_ids or manifest.end_id is None or manifest.max_tokens is None:
            raise BundleError(f"The captioner {bundle.folder} doesn't say how a caption starts and ends.")
        self.start, self.end, self.limit = manifest.start_ids, manifest.end_id, manifest.max_tokens
        self.resize = manifest.resize
        self.tokenizer = BundleTokenizer(bundle)
        self.encode_image = OrtRunner(bundle.graph_path("encode_image"), threads=threads)
        self.first_token = OrtRunner(bundle.graph_path("first_token"), threads=threads)
        self.next_token = OrtRunner(bundle.graph_path("next_token"), threads=threads)
        self.takes = tuple(spec.name for spec in manifest.graphs["next_token"].inputs)

    def tokens(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        """The ids of captions of images (B, H, W, 3), the start aside, (B, T); behind the end the end again."""
        matrices = self.resize.matrices(*images.shape[1:3]) if self.resize is not None else {}
        memory = self.encode_image.infer(images=images, **matrices)["memory"]
        state = self.first_token.infer(memory=memory)
        said: list[NDArray[np.int64]] = []
        ended = np.zeros(len(images), dtype=bool)
        while True:
            token = state["logits"].argmax(axis=1)
            token[ended] = self.end
            said.append(token)
            ended |= token == self.end
            if len(self.start) + len(said) >= self.limit or ended.all():
                return np.stack(said, axis=1)
            state["ids"] = token[:, None]
            grown = self.next_token.infer(**{name: state[name] for name in self.takes})
            state |= {name.removesuffix(GROWN): value for name, value in grown.items()}

    def caption(self, images: NDArray[np.uint8]) -> list[Caption]:
        """See `Captioner`."""
        return [Caption(self.tokenizer.decode(until(row.tolist(), self.end))) for row in self.tokens(images)]


def until(ids: list[int], end: int) -> list[int]:
    """What stands before the end."""
    return ids[: ids.index(end)] if end in ids else ids
