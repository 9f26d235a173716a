"""One worker of a cluster: what a single machine does to make images, on the chunks that it is given.

It knows nothing of the cluster: whoever moves chunks there and rows back is `cluster.pool`.
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mothlight.engine.batch import Batch, batches
from mothlight.engine.config import AuditConfig, bundle_path
from mothlight.engine.errors import BundleError, DeviceLostError, UserError
from mothlight.engine.executor.pipeline import StageStats
from mothlight.engine.executor.rows import Rows, Table, failures_of
from mothlight.engine.executor.source import all_batches
from mothlight.engine.making import ELSEWHERE, Maker, captioner_of, kept_by, this_machine
from mothlight.engine.models.bundle import load_bundle
from mothlight.engine.models.cache import cache_folder
from mothlight.engine.models.engines import OpenInductor
from mothlight.engine.models.runner import LoadBackend
from mothlight.engine.opening import load_models
from mothlight.engine.photographs.taking import Photographs
from mothlight.engine.records import PHOTOGRAPHS, PROOF, Chunk
from mothlight.engine.stages.caption import Caption, Captioner
from mothlight.engine.stages.encode import from_jpeg

Loose = tuple[Chunk, tuple[int, ...], int, dict[str, NDArray[Any]], dict[int, str]]
"""A batch on its way: its chunk, indices and size, arrays and failures."""


Probe = Mapping[str, NDArray[Any]]
"""What a worker makes of the batch that all make, by array."""


@dataclass(frozen=True, slots=True)
class Brief:
    """What a worker must know of an audit."""

    settings: str
    """As JSON, the budget and all."""
    folder: str
    """Where relative paths start, on the machine that decides."""
    bundles: Mapping[str, str]
    """Bundles as the settings name them → the keys of their content."""
    accepted: frozenset[tuple[str, str]]
    bounds: tuple[float, ...]
    photographs: tuple[Mapping[str, Any], ...] = ()
    load_backend: LoadBackend | None = None
    open_inductor: OpenInductor | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """Some whole chunks as rows for the database."""

    chunks: Sequence[Chunk]
    tables: Sequence[Table]
    failures: Sequence[str]
    """Of each image that could not be made: which, and why."""
    stats: Sequence[StageStats]
    seconds: float
    worker: str = ""

    @property
    def images(self) -> int:
        """How many were asked for."""
        return sum(chunk.images for chunk in self.chunks)


@dataclass(frozen=True, slots=True)
class About:
    """Where a worker works, and with what."""

    node: str
    device: str
    machine: str
    runs_on: str
    threads: int


@dataclass(slots=True)
class _Files:
    """A bundle on its way to this machine."""

    folder: Path
    names: list[str] = field(default_factory=list)


class Worker:
    """The executor of an audit on one GPU, or on a share of a machine's cores."""

    def __init__(self, name: str, brief: Brief, threads: int | None = None) -> None:
        """`threads` is its share of the machine, where it has no GPU of its own."""
        self.name = name
        self.brief = brief
        config = AuditConfig.model_validate_json(brief.settings)
        self.config = config if threads is None else config.model_copy(update={"threads": threads})
        self.receiving: dict[str, _Files] = {}
        self.maker: Maker | None = None
        self.captioner: Captioner | None = None

    def lacks(self) -> list[str]:
        """The bundles that this machine has neither where the settings say nor in its cache, as the settings name them.

        What lies there under the right name with another content does not count.
        """
        return [name for name, key in self.brief.bundles.items() if self._found(name, key) is None]

    def _found(self, name: str, key: str) -> Path | None:
        for path in (bundle_path(name, Path(self.brief.folder)), _kept(key)):
            with suppress(BundleError, OSError):
                if path.is_dir() and load_bundle(path).manifest.content_key == key:
                    return path
        return None

    def receive(self, bundle: str, name: str, content: bytes) -> None:
        """Take a file of a bundle that it lacks."""
        key = self.brief.bundles[bundle]
        if bundle not in self.receiving:
            _kept(key).parent.mkdir(parents=True, exist_ok=True)
            self.receiving[bundle] = _Files(Path(tempfile.mkdtemp(dir=_kept(key).parent, prefix=".coming-")))
        target = self.receiving[bundle].folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    def open(self) -> About:
        """Open the models; where it works, and with what.

        Raises:
            UserError: a bundle never came, or the photographs are not to be seen from here.
            BundleError: it came damaged.
        """
        for bundle, files in self.receiving.items():
            with suppress(OSError):  # another worker of this machine was faster
                files.folder.rename(_kept(self.brief.bundles[bundle]))
        self.receiving.clear()
        paths: dict[str, str] = {}
        for name, key in self.brief.bundles.items():
            found = self._found(name, key)
            if found is None:
                raise UserError(f"The bundle {name} is not what the audit began with, on the machine of {self.name}.")
            paths[name] = str(found.absolute())
        config = self.config
        here = config.model_copy(
            update={
                "classifiers": tuple(paths.get(name, name) for name in config.classifiers),
                **{
                    role: paths.get(name, name)
                    for role in ("generator", "gate", "embedder", "captioner")
                    if isinstance(name := getattr(config, role), str)
                },
            }
        )
        backend = {} if self.brief.load_backend is None else {"load_backend": self.brief.load_backend}
        models = load_models(here, Path(self.brief.folder), open_inductor=self.brief.open_inductor, **backend)
        self.maker = Maker(self.config, models, kept_by(self.config, models), photographs=self._photographs())
        names = [(one.manifest.name, one.manifest.labels) for one in models.classifiers]
        self.rows = Rows(names, self.brief.accepted, self.brief.bounds)
        device, runs_on = self.maker.engines.where, self.maker.runs_on
        return About(os.uname().nodename, device, this_machine(), runs_on, self.maker.threads)

    def _photographs(self) -> Photographs | None:
        if self.config.images is None:
            return None
        source = Path(self.brief.folder) / self.config.images.folder
        if not source.exists():
            raise UserError(f"{self.name} can't see the photographs {source}: put them into a folder that all share.")
        return Photographs(self.config.images, source, self.brief.photographs)

    @property
    def _opened(self) -> Maker:
        if self.maker is None:
            raise UserError(f"{self.name} was asked before it was open.")
        return self.maker

    def probe(self) -> Probe:
        """What comes of a batch that every worker makes; a picture is its mean of 8 × 8 parts."""
        (made,) = self._run(_probes(self.config))
        pictures = np.stack([_coarse(from_jpeg(jpeg)) for jpeg in made.arrays["jpeg"]])
        names = [name for name in made.arrays if name != "jpeg" and not name.startswith("indices")]
        return {"pictures": pictures, **{name: np.asarray(made.arrays[name], np.float64) for name in names}}

    def seconds_per_image(self) -> float:
        """Measured on one batch, the second of two."""
        probe = _probes(self.config)
        self._run(probe)
        start = perf_counter()
        self._run(probe)
        return (perf_counter() - start) / len(probe[0].indices) / self._opened.generate.lanes

    def make(self, chunks: Sequence[Chunk], phase: str) -> Made:
        """Chunks as rows; they are the same wherever they are made, and whatever is made beside them."""
        start = perf_counter()
        self._begin(phase)
        stats: list[StageStats] = []
        made = self._run(list(all_batches(chunks, self.config.batch)), stats)
        failures = [said for batch in made for said in failures_of(batch)]
        of: dict[str, list[Batch]] = {}
        for batch in made:
            of.setdefault(batch.chunk.chunk_id, []).append(batch)
        return Made(chunks, self.rows.of(list(of.values())), failures, stats, perf_counter() - start, self.name)

    def finish(
        self, asked: Sequence[tuple[Chunk, tuple[int, ...]]], phase: str, *, keep_all: bool = False
    ) -> list[Loose]:
        """Single batches as they come out of the executor, for what is made a second time."""
        self._begin(phase)
        self._opened.kept.all = keep_all
        try:
            made = self._run([Batch(chunk, indices, self.config.batch) for chunk, indices in asked])
        finally:
            self._opened.kept.all = False
        return [(one.chunk, one.indices, one.size, dict(one.arrays), dict(one.failures)) for one in made]

    def captions(self, chunks: Sequence[Sequence[bytes]]) -> list[list[Caption]]:
        """What pictures show, chunk by chunk; those of one are of one size, each batch filled up as on one machine."""
        maker = self._opened
        self.captioner = self.captioner or captioner_of(self.config, maker.models, maker.engines, maker.stop)
        return [self._captioned(self.captioner, jpegs) for jpegs in chunks]

    def _captioned(self, captioner: Captioner, jpegs: Sequence[bytes]) -> list[Caption]:
        said: list[Caption] = []
        for start in range(0, len(jpegs), self.config.batch):
            own = list(jpegs[start : start + self.config.batch])
            fill = self.config.batch - len(own) if captioner.fixed_size else 0
            said += captioner.caption(np.stack([from_jpeg(jpeg) for jpeg in own + own[-1:] * fill]))[: len(own)]
        return said

    def done_captioning(self) -> None:
        """Let go of the captioner."""
        self.captioner = None

    def _begin(self, phase: str) -> None:
        maker = self._opened
        maker.kept.phase = phase
        maker.begin_with(photographs=phase in (PHOTOGRAPHS, PROOF))

    def _run(self, given: Sequence[Batch], stats: list[StageStats] | None = None) -> list[Batch]:
        """Batches through the executor; in smaller pieces, where there is no memory."""
        maker = self._opened
        while True:
            made: list[Batch] = []
            try:
                maker.generate.prepare(list(dict.fromkeys(batch.chunk.prompt for batch in given)))
                told = maker.pipeline.run(given, made.append)
            except MemoryError as error:
                maker.open_again(error)
            except DeviceLostError:
                os._exit(1)  # this process can't have its device back; another takes its place
            else:
                if stats is not None:
                    stats += told
                return made


def loosened(loose: Loose) -> Batch:
    """A batch that came from a worker."""
    chunk, indices, size, arrays, failures = loose
    batch = Batch(chunk, indices, size)
    return replace(batch, arrays=MappingProxyType(arrays), failures=MappingProxyType(failures))


def added_up(stats: Sequence[StageStats]) -> list[StageStats]:
    """What the stages of several workers did, stage by stage."""
    total: dict[str, StageStats] = {}
    for one in stats:
        own = total.setdefault(one.stage, StageStats(one.stage, lanes=one.lanes))
        for name in ("batches", "images", "busy", "for_input", "for_room", "queued"):
            setattr(own, name, getattr(own, name) + getattr(one, name))
    return list(total.values())


def _kept(key: str) -> Path:
    return cache_folder() / "bundles" / key


def _probes(config: AuditConfig) -> list[Batch]:
    chunk = Chunk(config.baseline_prompt(config.labels[0]), ELSEWHERE, config.batch, 0)
    return list(batches(chunk, config.batch))


def _coarse(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(8, 8, 3): a picture's means, which say whether it is the same one but for its last bits."""
    rows = np.array_split(image.astype(np.float64), 8, axis=0)
    return np.array([[part.mean(axis=(0, 1)) for part in np.array_split(row, 8, axis=1)] for row in rows])
