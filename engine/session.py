"""One run of an audit: the stages built from its bundles, and the work that the audit asks for."""

import os
import platform
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from mothlight.engine.audit.loop import run_audit
from mothlight.engine.batch import Batch, Stage, batches
from mothlight.engine.config import AuditConfig, ServedDescriber, ServedModel
from mothlight.engine.errors import BundleError
from mothlight.engine.executor.pipeline import Pipeline, StageStats
from mothlight.engine.executor.source import all_batches, kept_pictures, missing_chunks
from mothlight.engine.executor.writer import CaptionWriter, Writer
from mothlight.engine.host import Host, available_threads
from mothlight.engine.models.engines import Engines, choose
from mothlight.engine.models.tensorrt import Tell
from mothlight.engine.opening import Models
from mothlight.engine.records import Chunk, Plan
from mothlight.engine.stages.caption import Captioner, CaptionStep, build_captioner
from mothlight.engine.stages.classify import Classifier, ClassifyStage, gate_stage
from mothlight.engine.stages.embed import EmbedStage, embed_texts
from mothlight.engine.stages.encode import EncodeStage
from mothlight.engine.stages.generate import DiffusionStage, DrawStage, GenerateStage
from mothlight.sql import Store

if TYPE_CHECKING:
    from mothlight.engine.stages.served import ServedProposer

COMMITTED = 4
"""Batches of captions that are committed together."""
CAPTIONED = 4
"""Of so many images about one gets a caption: what fails, and as many that pass."""


class Progress:
    """What an audit tells of itself; this one keeps silent."""

    def phase(self, title: str, images: int, found: int) -> None:
        """A phase begins that makes so many images."""

    def advance(self, images: int) -> None:
        """So many more images are committed, or captioned."""

    def compiling(self, what: str, share: float) -> None:
        """A model is being compiled; so much of it is done, from 0 to 1."""


class Session:
    """One run of an audit: its database, open for writing, and the stages; to be closed after use."""

    def __init__(self, config: AuditConfig, models: Models, store: Store, progress: Progress) -> None:
        self.config = config
        self.models = models
        self.store = store
        self.progress = progress
        self.threads = config.threads or available_threads()
        self.engines = engines_for(config, models, progress.compiling)
        self.generate = generate_stage(config, models, config.seed, self.threads, self.engines)
        self.pipeline = Pipeline(
            self.engines.device,
            [self.generate, *judging_stages(config, models, self.engines)],
            config.batch,
            keep=[EncodeStage()],
            keepers=1 if self.engines.device.unified else self.threads,
            without=["images"],
        )
        self.names = [(bundle.manifest.name, bundle.manifest.labels) for bundle in models.classifiers]
        self.run_id = 0
        self._title, self._found = "", 0
        self._ready_captioner: Captioner | None = None
        self._proposer: ServedProposer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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

    def run(self) -> None:
        """Run the audit to its end.

        Raises:
            KeyboardInterrupt: it was told to stop; what is committed stands.
        """
        self.run_id = _begin_run(self.store, self.config, self.threads, self.runs_on)
        run_audit(self.store, self.config, dict(self.names), self)
        self.store.rows("update run set ended_at = $now where run_id = $run", now=_now(), run=self.run_id)

    def seconds_per_image(self) -> float:
        """Measured on one batch, the second of two; with its workers side by side."""
        return self._timed()[0]

    def seconds_left(self, images: int) -> float:
        """How long so many images will take, and the captions of some of them."""
        each, batch = self._timed()
        to_caption = images // CAPTIONED
        if not to_caption or isinstance(self.config.captioner, ServedModel):
            return images * each  # a server is not asked for an estimate
        captioner = self._captioner()
        start = perf_counter()
        captioner.caption(batch.arrays["images"])
        side_by_side = self.threads if self.engines.device.unified else 1
        return images * each + to_caption * (perf_counter() - start) / self.config.batch / side_by_side

    def _timed(self) -> tuple[float, Batch]:
        """Seconds per image, and the batch that they were measured on."""
        size = self.config.batch
        chunk = Chunk(self.config.plain_prompt(self.config.labels[0]), 0, size, 0)
        (batch,) = batches(chunk, size)
        self.pipeline.once(batch)
        start = perf_counter()
        made = self.pipeline.once(batch)
        return (perf_counter() - start) / size / self.generate.lanes, made

    def make(self, plans: Sequence[Plan]) -> None:
        """See `audit.loop.Mechanism`."""
        chunks = missing_chunks(self.store, plans, self.config.chunk_images)
        self.progress.phase(self._title, sum(chunk.images for chunk in chunks), self._found)
        if not chunks:
            return
        self.generate.prepare([plan.prompt for plan in plans])
        writer = Writer(self.store, self.run_id, self.names, self.progress.advance)
        start = perf_counter()
        stats: Sequence[StageStats] = ()
        try:
            stats = self.pipeline.run(all_batches(chunks, self.config.batch), writer)
        except BaseException:
            self.pipeline.close()  # what it has in hand ends, before the last rows are written from here
            raise
        finally:
            writer.flush()
        self._note(plans[0].wave, "images", stats, perf_counter() - start)

    def caption(self) -> None:
        """See `audit.loop.Mechanism`."""
        ids = [image_id for (image_id,) in self.store.step("to_caption")]
        at_once = COMMITTED * self.config.batch
        chunks = [ids[at : at + at_once] for at in range(0, len(ids), at_once)]
        ((wave,),) = self.store.rows("select max(wave) from wave")
        self.progress.phase(self._title, len(ids), self._found)
        if not chunks:
            return
        captioner, self._ready_captioner = self._captioner(), None  # freed when all is said
        # on a GPU one thread is enough to keep it busy, and its engines are one thread's
        threads = self.threads if self.engines.device.unified else 1
        start = perf_counter()
        with (
            self.store.beside() as pictures,
            Pipeline(Host(), [], self.config.batch, keep=[CaptionStep(captioner)], keepers=threads) as pipeline,
        ):
            writer = CaptionWriter(self.store, self.progress.advance)
            stats = pipeline.run(kept_pictures(pictures, chunks, self.config.batch), writer)
        self._note(wave, "captions", stats, perf_counter() - start)

    def _captioner(self) -> Captioner:
        """The one that was loaded for the estimate, or a new one."""
        self._ready_captioner = self._ready_captioner or _captioner(self.config, self.models, self.engines)
        return self._ready_captioner

    def propose(self, failing: Sequence[str], passing: Sequence[str], showing: int) -> str:
        """See `audit.rounds.Helpers`."""
        if not isinstance(self.config.describer, ServedDescriber):
            return ""
        from mothlight.engine.stages.served import ServedProposer  # only who is served loads an HTTP client

        self._proposer = self._proposer or ServedProposer(self.config.describer)
        return self._proposer.propose(failing, passing, showing)

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float64] | None:
        """See `audit.rounds.Helpers`."""
        bundle = self.models.embedder
        if "embed_text" not in bundle.manifest.graphs:
            return None
        vectors = embed_texts(bundle, texts, self.engines)
        return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), np.float64)

    def say(self, phase: str, found: int) -> None:
        """See `audit.loop.Mechanism`."""
        self._title, self._found = phase, found

    def _note(self, wave: int, work: str, stats: Sequence[StageStats], seconds: float) -> None:
        self.store.append("timing", [{"run_id": self.run_id, "wave": wave, "work": work, "seconds": seconds}])
        self.store.append(
            "stage_stat",
            [
                {
                    "run_id": self.run_id,
                    "wave": wave,
                    "stage": stat.stage,
                    "batches": stat.batches,
                    "images": stat.images,
                    "busy_seconds": stat.busy,
                }
                for stat in stats
            ],
        )


def engines_for(config: AuditConfig, models: Models, tell: Tell | None = None) -> Engines:
    """What runs an audit's models here; `tell` hears of what is compiled.

    Raises:
        UserError: an engine that the settings name can't run here, or a bundle is of a precision that it can't.
    """
    engines = choose(
        config.engine,
        [bundle.manifest.role for bundle in models.all],
        tell=tell,
        open_inductor=models.open_inductor,
        pieces=config.batches,
        graphs=config.cuda_graphs,
    )
    engines.require_precision(models.all)
    return engines


def generate_stage(config: AuditConfig, models: Models, seed: int, threads: int, engines: Engines) -> GenerateStage:
    """What makes an audit's images, under a seed of choice."""
    if isinstance(config.generator, ServedModel):
        from mothlight.engine.stages.served import ServedGenerateStage  # only who is served loads an HTTP client

        return ServedGenerateStage(config.generator, seed)
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


def _captioner(config: AuditConfig, models: Models, engines: Engines) -> Captioner:
    if models.captioner is not None:
        return build_captioner(models.captioner, models.load_backend, engines)
    if isinstance(config.captioner, ServedModel):
        from mothlight.engine.stages.served import ServedCaptioner  # as above

        return ServedCaptioner(config.captioner)
    raise BundleError(f"There is no captioner {config.captioner}.")


def judging_stages(config: AuditConfig, models: Models, engines: Engines) -> list[Stage]:
    """From images to everything that is known of them."""
    return [
        *(ClassifyStage(Classifier(bundle, engines), position) for position, bundle in enumerate(models.classifiers)),
        gate_stage(models.gate, [label.name for label in config.labels], engines),
        EmbedStage(models.embedder, engines),
    ]


def _begin_run(store: Store, config: AuditConfig, threads: int, engines: str) -> int:
    ((last,),) = store.rows("select coalesce(max(run_id), 0) from run")
    libraries = ", ".join(f"{name} {version(name)}" for name in ("onnxruntime", "duckdb", "numpy"))
    store.append(
        "run",
        [
            {
                "run_id": last + 1,
                "mothlight_version": version("mothlight"),
                "started_at": _now(),
                "max_images": config.max_images,
                "batch": config.batch,
                "threads": threads,
                "machine": f"{platform.machine()}, {os.cpu_count()} cores, {libraries}",
                "engines": engines,
            }
        ],
    )
    return int(last) + 1


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


@contextmanager
def stopped_by_signals(say: Callable[[], None] = lambda: None) -> Iterator[Callable[[], int]]:
    """Inside, SIGINT and SIGTERM stop the work in hand, and say so at once; a second one ends the process.

    Gives a function that says which exit code is due; 0 if none came. Ending at once does no harm: what is committed
    stands, as after `kill -9`.
    """
    received: list[int] = []

    def stop(number: int, _frame: object) -> None:
        received.append(number)
        if len(received) > 1:
            os._exit(128 + number)
        say()
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: 128 + received[0] if received else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
