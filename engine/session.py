"""Opens what an audit needs: bundles, checked against the labels, the database, the stages; and does its work."""

import json
import os
import platform
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from time import perf_counter

import numpy as np

from mothlight.engine.audit.loop import run_audit
from mothlight.engine.batch import Batch, Stage, batches
from mothlight.engine.config import RENDERER, AuditConfig, bundle_path
from mothlight.engine.device import available_threads
from mothlight.engine.errors import CorruptError, UserError
from mothlight.engine.executor.pipeline import StageStats, run_pipelined
from mothlight.engine.executor.source import all_batches, missing_chunks
from mothlight.engine.executor.writer import Writer
from mothlight.engine.models.bundle import Bundle, Role, load_bundle
from mothlight.engine.records import Chunk, Plan, identify
from mothlight.engine.stages.caption import Captioner
from mothlight.engine.stages.classify import Classifier, ClassifyStage, GateStage
from mothlight.engine.stages.embed import EmbedStage
from mothlight.engine.stages.encode import EncodeStage, from_jpeg
from mothlight.engine.stages.generate import DiffusionGenerator, GenerateStage, Generator
from mothlight.sql import Store, open_audit

DATABASE = "audit.duckdb"
TO_CAPTION = """
    select image.chunk_id, image.image_id, image.jpeg
    from image
    join chunk using (chunk_id)
    join gate_score using (image_id)
    cross join audit
    where chunk.wave = 0 and gate_score.score >= audit.gate_upper
        and image.chunk_id not in (select chunk_id from image join caption using (image_id))
    order by chunk.prompt_id, chunk.first_index, image.index
"""


@dataclass(frozen=True, slots=True)
class Models:
    """The verified bundles of an audit; the generator is None where the renderer draws."""

    generator: Bundle | None
    classifiers: tuple[Bundle, ...]
    gate: Bundle
    embedder: Bundle
    captioner: Bundle

    @property
    def all(self) -> tuple[Bundle, ...]:
        """Every bundle."""
        first = () if self.generator is None else (self.generator,)
        return (*first, *self.classifiers, self.gate, self.embedder, self.captioner)


class Progress:
    """What an audit tells of itself; this one keeps silent."""

    def phase(self, title: str, images: int, found: int) -> None:
        """A phase begins that makes so many images."""

    def advance(self, images: int) -> None:
        """So many more images are committed, or captioned."""


def load_models(config: AuditConfig, folder: Path) -> Models:
    """Load and verify every bundle; paths are relative to `folder`.

    Raises:
        UserError: a bundle is missing, or lacks a label that is under audit.
        BundleError: a bundle is damaged or of the wrong role.
    """

    def load(setting: str, name: str, role: Role) -> Bundle:
        path = bundle_path(name, folder)
        if not path.is_dir():
            raise UserError(f"There is no bundle at {path} (`{setting}`); make it with `mothlight export {role}`.")
        return load_bundle(path, role)

    models = Models(
        None if config.generator == RENDERER else load("generator", config.generator, "generator"),
        tuple(load("classifiers", name, "classifier") for name in config.classifiers),
        load("gate", config.gate, "gate"),
        load("embedder", config.embedder, "embedder"),
        load("captioner", config.captioner, "captioner"),
    )
    for bundle in (*models.classifiers, models.gate):
        for label in config.labels:
            if label.name not in bundle.manifest.labels:
                some = ", ".join(bundle.manifest.labels[:12]) + (", …" if len(bundle.manifest.labels) > 12 else "")
                raise UserError(
                    f"The {bundle.manifest.role} {bundle.manifest.name} has no label `{label.name}`, but {some}."
                )
    if models.gate.manifest.thresholds is None:
        raise UserError(f"The gate {models.gate.folder} has no thresholds; export it again as a gate.")
    names = [bundle.manifest.name for bundle in models.classifiers]
    if len(set(names)) < len(names):
        raise UserError(f"Two classifiers have the same name: {', '.join(sorted(names))}; export one under another.")
    return models


def audit_id(config: AuditConfig, models: Models) -> str:
    """Hash of the settings, budget and threads aside, and of every model's content."""
    return identify("audit", config.canonical(), *(bundle.manifest.content_key for bundle in models.all))


class Session:
    """One run of an audit: its database, open for writing, and the stages."""

    def __init__(self, config: AuditConfig, models: Models, store: Store, progress: Progress) -> None:
        self.config = config
        self.models = models
        self.store = store
        self.progress = progress
        self.threads = config.threads or available_threads()
        self.stages = build_stages(config, models, self.threads)
        self.captioner = Captioner(models.captioner)
        self.names = [(bundle.manifest.name, bundle.manifest.labels) for bundle in models.classifiers]
        self.run_id = 0

    def run(self) -> None:
        """Run the audit to its end.

        Raises:
            KeyboardInterrupt: it was told to stop; what is committed stands.
        """
        self.run_id = _begin_run(self.store, self.config, self.threads)
        run_audit(self.store, self.config, [name for name, _ in self.names], self)
        self.store.rows("update run set ended_at = $now where run_id = $run", now=_now(), run=self.run_id)

    def seconds_per_image(self) -> float:
        """Measured on one batch, the second of two; with its workers side by side."""
        chunk = Chunk(self.config.plain_prompt(self.config.labels[0]), 0, self.config.batch, 0)
        (batch,) = batches(chunk, self.config.batch)
        run_once(self.stages, batch)
        start = perf_counter()
        run_once(self.stages, batch)
        return (perf_counter() - start) / self.config.batch / self.threads

    def make(self, plans: Sequence[Plan]) -> None:
        """See `audit.loop.Mechanism`."""
        chunks = missing_chunks(self.store, plans, self.config.chunk_images)
        self.progress.phase(self._title, sum(chunk.images for chunk in chunks), self._found)
        if not chunks:
            return
        writer = Writer(self.store, self.run_id, self.names, self.progress.advance)
        start = perf_counter()
        stats: Sequence[StageStats] = ()
        try:
            stats = run_pipelined(all_batches(chunks, self.config.batch), self.stages, writer)
        finally:
            writer.flush()
        self._note(plans[0].wave, stats, perf_counter() - start)

    def caption(self) -> None:
        """See `audit.loop.Mechanism`; a chunk's captions are committed together."""
        rows = self.store.rows(TO_CAPTION)
        self.progress.phase(self._title, len(rows), self._found)
        start = perf_counter()
        stat = StageStats("caption")
        chunks = [list(group) for _, group in groupby(rows, key=lambda row: row[0])]
        with ThreadPoolExecutor(self.threads) as pool:
            # captions come back in the chunks' order, and each chunk's are committed together
            for images, texts in zip(chunks, pool.map(self._captions, chunks), strict=True):
                captions = [{"image_id": row[1], "text": text} for row, text in zip(images, texts, strict=True)]
                with self.store.transaction():
                    self.store.append("caption", captions)
                stat.batches += 1
                stat.images += len(images)
                self.progress.advance(len(images))
        if rows:
            stat.busy = perf_counter() - start
            self._note(0, [stat], stat.busy)

    def _captions(self, images: Sequence[tuple[str, str, bytes]]) -> list[str]:
        pixels = np.stack([from_jpeg(jpeg) for _, _, jpeg in images])
        texts = [text for part in _padded(pixels, self.config.batch) for text in self.captioner.caption(part)]
        return texts[: len(images)]

    def say(self, phase: str, found: int) -> None:
        """See `audit.loop.Mechanism`."""
        self._title, self._found = phase, found

    _title = ""
    _found = 0

    def _note(self, wave: int, stats: Sequence[StageStats], wall: float) -> None:
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
                    "wall_seconds": wall,
                }
                for stat in stats
            ],
        )


def build_generator(config: AuditConfig, models: Models, seed: int) -> Generator:
    """The generator of an audit, under a seed of choice."""
    if models.generator is None:
        from mothlight.engine.world.render import Renderer  # the audit of a neural generator never loads the world

        return Renderer(seed)
    return DiffusionGenerator(models.generator, seed=seed, steps=config.steps)


def build_stages(config: AuditConfig, models: Models, threads: int) -> list[Stage]:
    """From nothing to everything that is known of an image."""
    return [
        GenerateStage(build_generator(config, models, config.seed), threads),
        ClassifyStage([Classifier(bundle) for bundle in models.classifiers]),
        GateStage(Classifier(models.gate)),
        EmbedStage(models.embedder),
        EncodeStage(),
    ]


def run_once(stages: Sequence[Stage], batch: Batch) -> Batch:
    """One batch through all stages."""
    for stage in stages:
        batch = stage(batch)
    return batch


def open_session_store(path: Path, config: AuditConfig, models: Models, folder: Path) -> Store:
    """Open or make the audit's database, and check that it belongs to these settings and models.

    Raises:
        UserError: it holds another audit.
        LockedError: another process is writing it.
        CorruptError: it is damaged.
    """
    store = open_audit(path)
    try:
        known = store.rows("select audit_id, settings from audit")
        if known:
            _check_same(path, known[0], config, models)
        else:
            _introduce(store, config, models, folder)
    except BaseException:
        store.close()
        raise
    return store


def _check_same(path: Path, known: Sequence[str], config: AuditConfig, models: Models) -> None:
    if known[0] == audit_id(config, models):
        return
    before, now = (json.loads(settings) for settings in (known[1], config.canonical()))
    changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    what = f"other settings ({', '.join(changed)})" if changed else "other weights in its bundles"
    raise UserError(f"{path} was begun with {what}: name another --out, or go back to the old ones.")


def _introduce(store: Store, config: AuditConfig, models: Models, folder: Path) -> None:
    """Write what the audit is about, before the first image."""
    thresholds = models.gate.manifest.thresholds
    if thresholds is None:
        raise CorruptError(f"The gate {models.gate.folder} has no thresholds.")
    generator = RENDERER if models.generator is None else models.generator.manifest.name
    with store.transaction():
        store.append(
            "audit",
            [
                {
                    "audit_id": audit_id(config, models),
                    "name": config.name,
                    "seed": config.seed,
                    "generator": generator,
                    "settings": config.canonical(),
                    "folder": str(folder.resolve()),
                    "tests": config.tests,
                    "gate_lower": thresholds.lower,
                    "gate_upper": thresholds.upper,
                }
            ],
        )
        store.append("model", list(_model_rows(models)))
        store.append(
            "label",
            [
                {"label": label.name, "place": place, "plain_prompt_id": config.plain_prompt(label).prompt_id}
                for place, label in enumerate(config.labels)
            ],
        )
        accepted = [(label.name, name) for label in config.labels for name in {label.name, *label.accepted}]
        store.append("accepted_label", [{"label": label, "accepted": name} for label, name in sorted(accepted)])


def _model_rows(models: Models) -> Iterator[dict[str, object]]:
    if models.generator is None:
        yield {"content_key": RENDERER, "role": "generator", "name": RENDERER, "source": "mothlight"}
    for bundle in models.all:
        manifest = bundle.manifest
        relative = [check for check in manifest.checks if check.unit == "relative"]
        yield {
            "content_key": manifest.content_key,
            "role": manifest.role,
            "name": manifest.name,
            "source": f"{manifest.source.library} {manifest.source.version}, {manifest.source.model}",
            "worst_difference": max((check.difference for check in relative), default=None),
            "tolerance": max((check.tolerance for check in relative), default=None),
        }


def _begin_run(store: Store, config: AuditConfig, threads: int) -> int:
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
                "machine": f"{platform.machine()}, {os.cpu_count()} cores, CPUExecutionProvider, {libraries}",
            }
        ],
    )
    return int(last) + 1


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def _padded(pixels: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]", size: int) -> Iterator[np.ndarray]:
    """Batches of always the same size, the last filled up with its last image."""
    for start in range(0, len(pixels), size):
        part = pixels[start : start + size]
        yield np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])


@contextmanager
def stopped_by_signals() -> Iterator[Callable[[], int]]:
    """Inside, SIGTERM stops like Ctrl-C; gives a function that says which exit code is due."""
    received: list[int] = []

    def stop(number: int, _frame: object) -> None:
        received.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield lambda: 128 + (received[0] if received else signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, before)
