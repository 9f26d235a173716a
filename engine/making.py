"""What makes and judges images in one process: the models, opened, and their pipeline."""

import logging
import os
import platform
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from importlib.metadata import version
from threading import Event

import numpy as np

from mothlight.engine.batch import Batch, Stage
from mothlight.engine.config import BATCHED, AuditConfig, ServedModel
from mothlight.engine.errors import BundleError
from mothlight.engine.executor.pipeline import Pipeline
from mothlight.engine.host import available_threads
from mothlight.engine.models.engines import Engines, choose
from mothlight.engine.models.tensorrt import Tell
from mothlight.engine.opening import Models, gate_bounds
from mothlight.engine.photographs.taking import Photographs
from mothlight.engine.remake import is_sampled
from mothlight.engine.stages.caption import Captioner, build_captioner
from mothlight.engine.stages.classify import Classifier, ClassifyStage, gate_stage
from mothlight.engine.stages.embed import EmbedStage
from mothlight.engine.stages.encode import EncodeStage
from mothlight.engine.stages.generate import DiffusionStage, DrawStage, GenerateStage
from mothlight.engine.stages.read import ReadStage

log = logging.getLogger("mothlight.engine")
ELSEWHERE = 10**9
"""The index of images that time is measured on: of none that an audit has, should one of those break its process."""


def image_ids(batch: Batch) -> list[str]:
    """Of images that are made."""
    return [batch.chunk.image_id(index) for index in batch.indices]


@dataclass(slots=True)
class Kept:
    """Which pictures of a finished batch stay in the database."""

    keep_images: str
    gate_upper: float
    accepted: Mapping[str, AbstractSet[str]]
    """Label → predictions that are right."""
    known: Sequence[Sequence[str]]
    """The labels of each classifier."""
    phase: str = field(default="", init=False)
    """What the images are made for."""
    all: bool = field(default=False, init=False)
    """Whether every one is, whatever the settings say."""

    def __call__(self, batch: Batch) -> list[bool]:
        """One answer for each image."""
        whole = self.keep_images == "all" or (self.keep_images == "failures" and self.phase == "reserve")
        if whole or self.all or batch.chunk.first_index >= ELSEWHERE:
            return [True] * len(batch.indices)
        if self.keep_images == "none":
            return [False] * len(batch.indices)
        passed = batch.arrays["gate"].astype(np.float64) >= self.gate_upper
        accepted = self.accepted[batch.chunk.prompt.label]
        wrong = [
            any(
                labels[batch.arrays[f"indices_{place}"][row, 0]] not in accepted
                for place, labels in enumerate(self.known)
            )
            for row in range(len(batch.indices))
        ]
        sampled = [is_sampled(image_id) for image_id in image_ids(batch)]
        return [bool(passed[row] and wrong[row]) or sampled[row] for row in range(len(batch.indices))]


def kept_by(config: AuditConfig, models: Models) -> Kept:
    """As an audit's settings say."""
    return Kept(
        config.keep_images,
        gate_bounds(config, models.gate).upper,
        {label.name: {label.name, *label.accepted} for label in config.labels},
        [bundle.manifest.labels for bundle in models.classifiers],
    )


class Maker:
    """The stages of an audit on this machine's device; to be closed after use."""

    def __init__(
        self,
        config: AuditConfig,
        models: Models,
        kept: Kept,
        *,
        photographs: Photographs | None = None,
        tell: Tell | None = None,
        stop: Event | None = None,
    ) -> None:
        """Load the models and allocate the buffers; in smaller pieces, where the memory is too small for a batch.

        Raises:
            MemoryError: not even one image has room.
        """
        self.config = config
        self.models = models
        self.kept = kept
        self.photographs = photographs
        self.tell = tell
        self.stop = stop or Event()
        self.threads = config.threads or available_threads()
        self.on_photographs = config.generator is None
        """Whether the first stage reads photographs; else it makes images."""
        self.pieces = config.batch
        """Images that go through a graph at once, at most."""
        self.shortages: list[tuple[int, str]] = []
        self._open()

    def _open(self) -> None:
        while True:
            try:
                self._open_in_pieces()
            except MemoryError as error:
                self._take_smaller_pieces(error)
            else:
                return

    def _open_in_pieces(self) -> None:
        self.engines = engines_for(self.config, self.models, self.tell, self.pieces)
        self.generate = self._first_stage()
        self.pipeline = Pipeline(
            self.engines.device,
            [self.generate, *judging_stages(self.config, self.models, self.engines)],
            self.config.batch,
            keep=[EncodeStage(self.kept)],
            keepers=1 if self.engines.device.unified else self.threads,
            without=["images"],
        )

    def _first_stage(self) -> GenerateStage:
        if self.on_photographs and self.photographs is not None:
            return ReadStage(self.photographs, self.threads)
        return generate_stage(self.config, self.models, self.config.seed, self.threads, self.engines, self.stop)

    def _take_smaller_pieces(self, error: MemoryError) -> None:
        """Halve the pieces, or as near as divides the batch.

        Raises:
            MemoryError: not even one image has room.
        """
        if self.pieces == 1:
            raise error
        half = self.pieces // 2
        self.pieces = next(size for size in range(half, 0, -1) if self.config.batch % size == 0)
        self.shortages.append((self.pieces, " ".join(str(error).split())))
        log.warning("The memory is too small (%s); going on in pieces of %d images.", error, self.pieces)

    def begin_with(self, *, photographs: bool) -> bool:
        """Have the first stage read photographs, or make images; whether that is new."""
        if photographs == self.on_photographs:
            return False
        self.on_photographs = photographs
        self.close()
        self._open()
        return True

    def open_again(self, error: MemoryError, *, smaller: bool = True) -> None:
        """After there was no memory: as before, or in smaller pieces.

        Raises:
            MemoryError: not even one image has room.
        """
        if smaller:
            self._take_smaller_pieces(error)
        self.close()
        self._open()

    def close(self) -> None:
        """Let go of the models."""
        self.pipeline.close()
        self.engines.close()

    @property
    def runs_on(self) -> str:
        """What runs which model, in which precision, at which batch."""
        by_engine: dict[str, list[str]] = {}
        for bundle in self.models.all:
            by_engine.setdefault(self.engines.name_of(bundle), []).append(
                f"{bundle.manifest.name} ({bundle.manifest.precision})"
            )
        parts = [f"{', '.join(names)} on {engine}" for engine, names in by_engine.items()]
        return f"{'; '.join(parts)}; batch {self.config.batch}; {self.engines.where}"


def engines_for(config: AuditConfig, models: Models, tell: Tell | None = None, largest: int | None = None) -> Engines:
    """What runs an audit's models here; `tell` hears of what is compiled, `largest` bounds what a graph gets at once.

    Raises:
        UserError: an engine that the settings name can't run here, or a bundle is of a precision that it can't.
    """
    pieces = dict(config.batches)
    if largest is not None and largest < config.batch:
        pieces = {graph: min(pieces.get(graph, largest), largest) for graph in BATCHED}
    engines = choose(
        config.engine,
        [bundle.manifest.role for bundle in models.all],
        tell=tell,
        open_inductor=models.open_inductor,
        pieces=pieces,
        graphs=config.cuda_graphs,
    )
    engines.require_precision(models.all)
    return engines


def generate_stage(
    config: AuditConfig, models: Models, seed: int, threads: int, engines: Engines, stop: Event | None = None
) -> GenerateStage:
    """What makes an audit's images, under a seed of choice; a server is no longer waited for when `stop` is set."""
    if isinstance(config.generator, ServedModel):
        from mothlight.engine.stages.served import ServedGenerateStage  # only who is served loads an HTTP client

        return ServedGenerateStage(config.generator, seed, stop)
    if models.generator is None:
        from mothlight.engine.world.render import Renderer  # the audit of a neural generator never loads the world

        return DrawStage(Renderer(seed), threads)
    return DiffusionStage(
        models.generator,
        seed=seed,
        steps=config.steps,
        lanes=threads if engines.device.unified else 1,
        engines=engines,
        load_backend=models.load_backend,
    )


def judging_stages(config: AuditConfig, models: Models, engines: Engines) -> list[Stage]:
    """From images to everything that is known of them."""
    return [
        *(ClassifyStage(Classifier(bundle, engines), position) for position, bundle in enumerate(models.classifiers)),
        gate_stage(models.gate, [label.name for label in config.labels], engines),
        EmbedStage(models.embedder, engines),
    ]


def captioner_of(config: AuditConfig, models: Models, engines: Engines, stop: Event) -> Captioner:
    """What describes an audit's images; a server is no longer waited for when `stop` is set."""
    if models.captioner is not None:
        return build_captioner(models.captioner, models.load_backend, engines)
    if isinstance(config.captioner, ServedModel):
        from mothlight.engine.stages.served import ServedCaptioner  # as above

        return ServedCaptioner(config.captioner, stop)
    raise BundleError(f"There is no captioner {config.captioner}.")


def this_machine() -> str:
    """What an image's last bits may hang on: processor, cores, libraries."""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("onnxruntime", "duckdb", "numpy"))
    return f"{platform.machine()}, {os.cpu_count()} cores, {libraries}"
