"""Says in words what images show."""

from dataclasses import dataclass, replace
from threading import local
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mothlight.engine.batch import Batch
from mothlight.engine.device import Buffer, Staged, Stream, spec
from mothlight.engine.errors import BundleError
from mothlight.engine.host import HostNow
from mothlight.engine.models.bundle import Bundle
from mothlight.engine.models.engines import Engines
from mothlight.engine.models.resize import matrices_on
from mothlight.engine.models.runner import LoadBackend, Runner, no_backend
from mothlight.engine.models.tokenizer import BundleTokenizer
from mothlight.engine.stages.encode import from_jpeg

SEEN = "seen_"
"""How the names begin of a decoder's keys and values over the image, which stay as they are."""
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

    @property
    def fixed_size(self) -> bool:
        """Whether batches must be filled up: graphs are compiled for one size, and a server is asked image by image."""
        ...

    def caption(self, images: NDArray[np.uint8]) -> list[Caption]:
        """One answer per image (B, H, W, 3)."""
        ...


class CaptionStep:
    """Adds `caption` (B,) of `Caption` to a batch of stored pictures, `jpeg` (B,) of bytes."""

    name = "caption"

    def __init__(self, captioner: Captioner) -> None:
        self.captioner = captioner

    def __call__(self, batch: Batch) -> Batch:
        """See `Keep`."""
        asked = batch.size if self.captioner.fixed_size else len(batch.indices)
        captions = np.empty(batch.size, dtype=object)
        captions[:asked] = self.captioner.caption(np.stack([from_jpeg(jpeg) for jpeg in batch.arrays["jpeg"][:asked]]))
        return batch.with_arrays(caption=captions)


def build_captioner(
    bundle: Bundle, load_backend: LoadBackend = no_backend, engines: Engines | None = None
) -> Captioner:
    """A captioner's bundle, whichever kind it is.

    Raises:
        BundleError: the manifest does not say how a caption starts and ends, or the library can't load its part.
    """
    if bundle.manifest.backend is not None:
        return LibraryCaptioner(load_backend(bundle))
    return GraphCaptioner(bundle, engines)


class LibraryCaptioner:
    """A captioner that a model library runs."""

    fixed_size = True

    def __init__(self, runner: Runner) -> None:
        self.runner = runner

    def caption(self, images: NDArray[np.uint8]) -> list[Caption]:
        """See `Captioner`."""
        return [Caption(str(text)) for text in self.runner.infer(images=images)["texts"]]


class GraphCaptioner:
    """A captioner's graphs, decoded greedily."""

    fixed_size = True

    def __init__(self, bundle: Bundle, engines: Engines | None = None) -> None:
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
        self.engines = engines or Engines()
        self.encode_image, self.first_token, self.next_token = (
            self.engines.open(bundle, graph) for graph in ("encode_image", "first_token", "next_token")
        )
        self._own = local()  # each thread has buffers of its own

    def tokens(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        """The ids of captions of images (B, H, W, 3), the start aside, (B, T); behind the end the end again."""
        decoding: _Decoding | None = getattr(self._own, "decoding", None)
        if decoding is None or decoding.shape != images.shape:
            decoding = self._own.decoding = _Decoding(self, images.shape)
        token = decoding.first(images).argmax(axis=1)
        said: list[NDArray[np.int64]] = []
        ended = np.zeros(len(images), dtype=bool)
        while True:
            token[ended] = self.end
            said.append(token)
            ended |= token == self.end
            if len(self.start) + len(said) >= self.limit or ended.all():
                return np.stack(said, axis=1)
            token = decoding.next(token).argmax(axis=1)

    def caption(self, images: NDArray[np.uint8]) -> list[Caption]:
        """See `Captioner`."""
        return [Caption(self.tokenizer.decode(until(row.tolist(), self.end))) for row in self.tokens(images)]


class _Decoding:
    """Buffers for captions of so many images at once; what grows has room for the longest, twice, to take turns."""

    def __init__(self, captioner: GraphCaptioner, shape: tuple[int, ...]) -> None:
        self.captioner, self.device, self.shape = captioner, captioner.engines.device, shape
        self.stream: Stream = HostNow() if self.device.unified else self.device.stream("captions")
        device = self.device
        self.images = Staged(device, "images to caption", spec(shape, np.uint8), 1)
        self.constants = matrices_on(device, captioner.resize, self.images.targets[0].spec, "captions")
        seen = captioner.encode_image.outputs(
            {"images": self.images.targets[0].spec} | {name: one.spec for name, one in self.constants.items()}
        )
        self.memory = {name: device.buffer(name, one) for name, one in seen.items()}
        state = dict(captioner.first_token.outputs(seen))
        logits = state.pop("logits")
        self.logits, self.read = device.buffer("logits", logits), device.pinned("logits", logits)
        self.ids = Staged(device, "ids", spec((shape[0], 1), np.int64), 1)
        grown = set(captioner.next_token.inputs) & {name for name in state if not name.startswith(SEEN)}
        self.seen = {name: device.buffer(name, one) for name, one in state.items() if name not in grown}
        self.first_shapes = {name: state[name].shape for name in sorted(grown)}
        longest = captioner.limit + 1
        self.growing = [
            {
                name: device.buffer(f"{name} {turn}", replace(state[name], shape=_longer(state[name].shape, longest)))
                for name in self.first_shapes
            }
            for turn in range(2)
        ]
        self.length = 0
        captioner.next_token.outputs({**state, "ids": self.ids.targets[0].spec})

    def first(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The logits (B, V) of the first token."""
        self.length = 0
        given = {"images": self.images.put(0, images, self.stream), **self.constants}
        self.captioner.encode_image.enqueue(given, self.memory, self.stream)
        made = {"logits": self.logits, **self.seen, **self._state()}
        self.captioner.first_token.enqueue(self.memory, made, self.stream)
        return self._logits()

    def next(self, token: NDArray[np.int64]) -> NDArray[np.float32]:
        """The logits (B, V) of the token after this one."""
        given = {"ids": self.ids.put(0, token[:, None], self.stream), **self.seen, **self._state()}
        self.length += 1
        made = {f"{name}{GROWN}": one for name, one in self._state().items()}
        self.captioner.next_token.enqueue(given, {"logits": self.logits, **made}, self.stream)
        return self._logits()

    def _state(self) -> dict[str, Buffer]:
        turn = self.growing[self.length % 2]
        return {name: turn[name].shaped(_longer(shape, self.length)) for name, shape in self.first_shapes.items()}

    def _logits(self) -> NDArray[np.float32]:
        if self.device.unified:
            return self.logits.array
        self.device.copy(self.logits, self.read, self.stream)
        self.stream.record().synchronize()
        return self.read.array


def _longer(shape: tuple[int, ...], more: int) -> tuple[int, ...]:
    """The shape (B, heads, T, D) of a state that is so many tokens longer."""
    batch, heads, length, width = shape
    return (batch, heads, length + more, width)


def until(ids: list[int], end: int) -> list[int]:
    """What stands before the end."""
    return ids[: ids.index(end)] if end in ids else ids
