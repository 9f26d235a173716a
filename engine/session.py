"""One run of an audit: the stages built from its bundles, and the work that the audit asks for."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from threading import Event
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mothlight.engine.audit.clock import Clock, OutOfTimeError
from mothlight.engine.audit.loop import run_audit
from mothlight.engine.batch import Batch, batches
from mothlight.engine.cluster.pool import Pool
from mothlight.engine.cluster.worker import About, Brief, added_up
from mothlight.engine.config import RENDERER, AuditConfig, ServedDescriber, ServedModel, bundle_path
from mothlight.engine.disk import check_room, image_bytes
from mothlight.engine.executor.failures import Failures
from mothlight.engine.executor.pipeline import Pipeline, Sink, StageStats
from mothlight.engine.executor.source import all_batches, by_prompts, failed_batches, kept_pictures, missing_chunks
from mothlight.engine.executor.writer import CaptionWriter, SecondWriter, Writer
from mothlight.engine.host import Host
from mothlight.engine.making import ELSEWHERE, Maker, captioner_of, image_ids, kept_by, this_machine
from mothlight.engine.opening import Models
from mothlight.engine.photographs.taking import Photographs, take
from mothlight.engine.records import PHOTOGRAPHS, PROOF, Chunk, Plan
from mothlight.engine.remake import not_kept, remake
from mothlight.engine.stages.caption import Caption, Captioner, CaptionStep
from mothlight.engine.stages.embed import embed_texts
from mothlight.engine.stopping import check
from mothlight.engine.supervising import Flights
from mothlight.engine.trace import Trace
from mothlight.sql import Store
from mothlight.sql.store import MEMORY

if TYPE_CHECKING:
    from mothlight.engine.stages.served import ServedProposer

log = logging.getLogger("mothlight.engine")
COMMITTED = 4
"""Batches of captions that are committed together."""
PREPARED_BYTES = 1 << 30
"""What a generator may keep of the prompts that come next, their embeddings."""
CAPTIONED = 4
"""Of so many images about one gets a caption: what fails, and as many that pass."""


LARGEST_DIFFERENCE = 1e9
"""Stands for an infinite one."""
CAPTION_OF = "caption of "
Items = Callable[[Batch], Sequence[str]]
"""What a batch is called while it is in flight."""


def caption_ids(batch: Batch) -> list[str]:
    """Of pictures that are captioned."""
    return [CAPTION_OF + image_id for image_id in batch.arrays["image_id"][: len(batch.indices)]]


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

    def __init__(  # noqa: PLR0913  # by name, each with a default
        self,
        config: AuditConfig,
        models: Models,
        store: Store,
        progress: Progress,
        *,
        clock: Clock | None = None,
        write_report: Callable[[], object] = lambda: None,
        stop: Event | None = None,
        trace: Trace | None = None,
        flights: Flights | None = None,
        pool: Pool | None = None,
    ) -> None:
        """With a `pool` its workers make the images and captions; else this process does.

        `write_report` is tried once where there is a deadline: its time must be kept for the end.

        When `stop` is set, the work in hand ends with a KeyboardInterrupt.
        """
        self.stop = stop or Event()
        self.trace = trace
        self.flights = flights or Flights()
        self.config = config
        self.clock = clock or Clock(config.max_images)
        self.write_report = write_report
        self.models = models
        self.store = store
        self.progress = progress
        self.names = [(bundle.manifest.name, bundle.manifest.labels) for bundle in models.classifiers]
        self.pool = pool
        self.phase = ""
        """What images are made for."""
        self._maker: Maker | None = None
        if pool is None:
            self._maker = self._opened_maker()
        self.run_id = 0
        self._measured: tuple[float, Batch] | None = None
        self._title, self._found = "", 0
        self._too_late = False
        self.failures = Failures(config.max_failures)
        self._ready_captioner: Captioner | None = None
        self._proposer: ServedProposer | None = None

    def __enter__(self) -> Self:
        return self

    @property
    def maker(self) -> Maker:
        """The models in this process, opened when they are needed."""
        self._maker = self._maker or self._opened_maker()
        return self._maker

    def _opened_maker(self) -> Maker:
        return Maker(
            self.config,
            self.models,
            kept_by(self.config, self.models),
            photographs=self._photographs(),
            tell=self.progress.compiling,
            stop=self.stop,
        )

    def _photographs(self) -> Photographs | None:
        """Those under audit; looked through first, where that is not done yet."""
        if self.config.images is None:
            return None
        source, rows = photographs_of_audit(self.store, self.config, self.progress, self.stop)
        return Photographs(self.config.images, source, rows)

    def _begin_with(self, *, photographs: bool) -> None:
        """Have the first stage read photographs, or make images."""
        if self.pool is None and self.maker.begin_with(photographs=photographs):
            self._ready_captioner = None
            # the ones take another time than the others
            self.clock.began, self.clock.made, self._measured = None, 0, None

    def _reopen(self, error: MemoryError) -> None:
        why = f"there was no memory for it: {' '.join(str(error).split())}"
        self.maker.open_again(error, smaller=self.maker.pieces > 1 or not self.flights.blame(why))
        self._note_shortages()

    def _note_shortages(self) -> None:
        if not self.run_id or self._maker is None:
            return  # noted when it begins
        known = len(self.store.rows("select 1 from shortage where run_id = $run", run=self.run_id))
        new = list(enumerate(self._maker.shortages))[known:]
        self.store.append(
            "shortage",
            [
                {"run_id": self.run_id, "place": place, "pieces": pieces, "reason": reason}
                for place, (pieces, reason) in new
            ],
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._maker is not None:
            self._maker.close()

    @property
    def threads(self) -> int:
        """Batches that are made side by side."""
        return self.maker.threads if self.pool is None else self.pool.threads

    @property
    def runs_on(self) -> str:
        """What runs which model, in which precision, at which batch."""
        return self.maker.runs_on if self.pool is None else self.pool.runs_on

    def run(self) -> None:
        """Run the audit to its end.

        Raises:
            KeyboardInterrupt: `stop` was set; what is committed stands.
        """
        self.run_id = _begin_run(self.store, self.config, self.threads, self.runs_on)
        self._note_shortages()
        if self.pool is not None:
            self.pool.hear_of_workers(self._note_worker)
        run_audit(self.store, self.config, dict(self.names), self)
        # the clock may have been set back meanwhile
        end = "update run set ended_at = greatest($now, started_at) where run_id = $run"
        self.store.rows(end, now=_now(), run=self.run_id)

    def seconds_per_image(self) -> float:
        """Measured on one batch, the second of two; with its workers side by side."""
        return self._timed()[0]

    def seconds_left(self, images: int) -> float:
        """How long so many images will take, and the captions of some of them."""
        each, batch = self._timed()
        to_caption = images // CAPTIONED
        if not to_caption or isinstance(self.config.captioner, ServedModel):
            return images * each  # a server is not asked for an estimate
        if self.pool is not None:
            jpegs = [jpeg for jpeg in batch.arrays["jpeg"] if jpeg is not None]
            return images * each + to_caption * self.pool.seconds_per_caption(jpegs)
        captioner = self._captioner()
        start = perf_counter()
        captioner.caption(batch.arrays["images"])
        side_by_side = self.threads if self.maker.engines.device.unified else 1
        return images * each + to_caption * (perf_counter() - start) / self.config.batch / side_by_side

    def _timed(self) -> tuple[float, Batch]:
        """Seconds per image, and the batch that they were measured on; once in a session."""
        if self._measured is not None:
            return self._measured
        try:
            self._measured = self._time_a_batch()
        except MemoryError as error:
            self._reopen(error)
            return self._timed()
        return self._measured

    def _time_a_batch(self) -> tuple[float, Batch]:
        size = self.config.batch
        chunk = Chunk(self.config.baseline_prompt(self.config.labels[0]), ELSEWHERE, size, 0)
        (batch,) = batches(chunk, size)
        if self.pool is not None:
            (made,) = self.pool.finish([batch], "")
            return self.pool.seconds_per_image(), made
        self.maker.pipeline.once(batch)
        start = perf_counter()
        made = self.maker.pipeline.once(batch)
        return (perf_counter() - start) / size / self.maker.generate.lanes, made

    def budget(self, images: int, begun_under: int | None) -> int:
        """See `audit.mechanism.Mechanism`."""
        if self.clock.end is not None and not self.clock.report_seconds:
            start = perf_counter()
            self.write_report()
            self.clock.report_seconds = perf_counter() - start
        return self.clock.budget(images, begun_under)

    def remake(self, images: Sequence[str]) -> int:
        """Make those pictures of some images again that were not kept, and keep them; how many."""
        again = not_kept(self.store, images, self.config.batch)
        read = [batch for batch in again if batch.chunk.prompt.text == PHOTOGRAPHS]
        made = [batch for batch in again if batch.chunk.prompt.text != PHOTOGRAPHS]

        if self._maker is not None:
            self._maker.kept.all = True
        try:
            count = 0
            for batches, photographs in ((made, False), (read, True)):
                if batches:
                    self._begin_with(photographs=photographs)
                    count += remake(self.store, batches, self._remake)
            return count
        finally:
            if self._maker is not None:
                self._maker.kept.all = False

    def _remake(self, batches: Sequence[Batch], take: Sink) -> None:
        of: dict[Chunk, list[Batch]] = {}
        for batch in batches:
            of.setdefault(batch.chunk, []).append(batch)
        if self.pool is not None:
            for batch in batches:
                check(self.stop)
                phase = PHOTOGRAPHS if batch.chunk.prompt.text == PHOTOGRAPHS else "discovery"
                for made in self.pool.finish([batch], phase, keep_all=True):
                    take(made)
            return
        for part in by_prompts(list(of), self._prepared):
            self.maker.generate.prepare([chunk.prompt for chunk in part])
            self._run([batch for chunk in part for batch in of[chunk]], take)
        self._check_time()

    def _forget(self, images: Sequence[str]) -> None:
        """Let go of pictures that were needed for a while, where none is kept."""
        if self.config.keep_images == "none" and images:
            none = pa.nulls(len(images), pa.binary())
            self.store.set_pictures(pa.table({"image_id": pa.array(images, pa.string()), "jpeg": none}))

    def _noted(self, sink: Sink, items: Items) -> Sink:
        """The sink, after which a batch is in flight no longer."""

        def ending(batch: Batch) -> None:
            sink(batch)
            self.flights.end(items(batch))

        return ending

    def _in_time(self, batches: Iterable[Batch], items: Items) -> Iterator[Batch]:
        """The batches that may still be begun, which are in flight from then on."""
        for batch in batches:
            check(self.stop)
            if self.clock.is_over:
                self._too_late = True
                return
            self.flights.begin(items(batch))
            yield batch

    def _check_time(self) -> None:
        if self._too_late:
            raise OutOfTimeError

    def bytes_left(self, images: int) -> int:
        """How much of the disk so many more images will take, about."""
        _, batch = self._timed()
        pictures = [len(jpeg) for jpeg in batch.arrays["jpeg"] if jpeg is not None]
        mean = sum(pictures) / max(len(pictures), 1) if self.config.keep_images != "none" else 0.0
        return images * image_bytes(mean, batch.arrays["embedding"].shape[1], len(self.names))

    def _advance(self, images: int) -> None:
        if self.store.path != MEMORY:
            check_room(Path(self.store.path).parent)
        self.clock.advance(images)
        self.progress.advance(images)

    def make(self, plans: Sequence[Plan]) -> None:
        """See `audit.mechanism.Mechanism`."""
        self.phase = plans[0].phase
        on_photographs = self.phase in (PHOTOGRAPHS, PROOF)
        if self.pool is None:
            self.maker.kept.phase = self.phase
            self._begin_with(photographs=on_photographs)
        self.failures.spared = frozenset({"generate"} if on_photographs else ())
        first = True
        while True:
            chunks = missing_chunks(self.store, plans, self.config.chunk_images)
            if first:
                self.progress.phase(self._title, sum(chunk.images for chunk in chunks), self._found)
            try:
                self._make(plans, chunks)
            except MemoryError as error:
                self._reopen(error)
                first = False
            else:
                return

    def _make(self, plans: Sequence[Plan], chunks: Sequence[Chunk]) -> None:
        if chunks and self.clock.began is None:
            self.clock.start()
        writer = Writer(self.store, self.run_id, self.names, self._advance, self.failures)
        start = perf_counter()
        if self.pool is not None:
            self._make_elsewhere(self.pool, chunks, writer)
            chunks_here: Sequence[Chunk] = ()
        else:
            chunks_here = chunks
        for part in by_prompts(chunks_here, self._prepared if chunks_here else 1):
            self.maker.generate.prepare([chunk.prompt for chunk in part])
            stats: Sequence[StageStats] = ()
            try:
                stats = self._run(all_batches(part, self.config.batch), writer)
            finally:
                writer.flush()
            self._note_stages(plans[0].wave, stats)
        if writer.busy:
            self._note_stages(plans[0].wave, [StageStats("write", writer.flushes, writer.written, writer.busy)])
        self._check_time()
        self._try_again(plans)
        if chunks:
            self._note_time(plans[0].wave, "images", perf_counter() - start)

    def _make_elsewhere(self, pool: Pool, chunks: Sequence[Chunk], writer: Writer) -> None:
        """Have the workers of a pool make chunks, and write what they give."""
        stats: list[StageStats] = []
        try:
            for made in pool.make(chunks, self.phase, self._may_begin):
                if isinstance(made, list):  # workers died of it
                    for batch in made:
                        writer(batch)
                else:
                    stats += made.stats
                    writer.take(made)
        finally:
            writer.flush()
        if chunks:
            self._note_stages(chunks[0].wave, added_up(stats))

    def _may_begin(self) -> bool:
        check(self.stop)
        self._too_late = self._too_late or self.clock.is_over
        return not self._too_late

    def _note_worker(self, name: str, about: About, difference: float, refused: str | None) -> None:
        """Write down who works along, and how it was judged."""
        self.store.append(
            "worker",
            [
                {
                    "run_id": self.run_id,
                    "worker": name,
                    **asdict(about),
                    "difference": min(difference, LARGEST_DIFFERENCE),
                    "refused": refused,
                }
            ],
        )

    @property
    def _prepared(self) -> int:
        """How many prompts are prepared at once."""
        return max(PREPARED_BYTES // max(self.maker.generate.prompt_bytes, 1), 1)

    def _run(self, batches: Iterable[Batch], sink: Sink) -> Sequence[StageStats]:
        """All of them together, but those by themselves, image by image, that were in flight when a process died."""
        alone: list[Batch] = []
        if self.flights.deaths:
            batches = list(batches)
            of = {batch.chunk for batch in batches if any(map(self.flights.is_suspect, image_ids(batch)))}
            alone = [
                Batch(batch.chunk, (index,), batch.size)
                for batch in batches
                if batch.chunk in of
                for index in batch.indices
            ]
            batches = [batch for batch in batches if batch.chunk not in of]
        stats = self._run_together(batches, sink)
        for batch in alone:
            if self._too_late:
                break  # else what is set aside could end a chunk that lacks images
            (image_id,) = image_ids(batch)
            if self.flights.is_set_aside(image_id):
                sink(batch.with_failures({batch.indices[0]: self.flights.reasons[image_id]}))
            else:
                self._run_together([batch], sink)
        return stats

    def _run_together(self, batches: Iterable[Batch], sink: Sink) -> Sequence[StageStats]:
        try:
            if self.trace is not None:
                self.trace.begin()
            return self.maker.pipeline.run(self._in_time(batches, image_ids), self._noted(sink, image_ids), self.trace)
        except BaseException:
            self.maker.pipeline.close()  # what it has in hand ends, before the last rows are written from here
            raise

    def _try_again(self, plans: Sequence[Plan]) -> None:
        """What failed once of a wave, before anything is counted: a server may have been busy."""
        again = failed_batches(self.store, plans, self.config.batch)
        if again and self.pool is not None:
            write = SecondWriter(self.store, self.names)
            for batch in again:
                check(self.stop)
                for made in self.pool.finish([batch], self.phase):
                    write(made)
        elif again:
            self.maker.generate.prepare(list(dict.fromkeys(batch.chunk.prompt for batch in again)))
            self._run(again, SecondWriter(self.store, self.names))
            self._check_time()

    def caption(self) -> None:
        """See `audit.mechanism.Mechanism`."""
        count = len(self.store.step("to_caption"))
        self.progress.phase(self._title, count, self._found)
        while count:
            try:
                self._caption()
            except MemoryError as error:
                self._reopen(error)
            else:
                return

    def _caption(self) -> None:
        ids = [image_id for (image_id,) in self.store.step("to_caption")]
        aside = [one for one in ids if self.flights.is_set_aside(CAPTION_OF + one)]
        reasons = [{"image_id": one, "reason": self.flights.reasons[CAPTION_OF + one]} for one in aside]
        self.store.append("caption_failure", reasons)
        alone = [one for one in ids if self.flights.is_suspect(CAPTION_OF + one) and one not in aside]
        ids = [one for one in ids if not self.flights.is_suspect(CAPTION_OF + one)]
        self.remake([*ids, *alone])
        at_once = COMMITTED * self.config.batch
        chunks = [ids[at : at + at_once] for at in range(0, len(ids), at_once)]
        ((wave,),) = self.store.rows("select max(wave) from wave")
        if self.pool is not None:
            start = perf_counter()
            self._caption_elsewhere(self.pool, chunks)
            self._forget(ids)
            self._note_time(wave, "captions", perf_counter() - start)
            self._check_time()
            return
        captioner, self._ready_captioner = self._captioner(), None  # freed when all is said
        # on a GPU one thread is enough to keep it busy, and its engines are one thread's
        threads = self.threads if self.maker.engines.device.unified else 1
        start = perf_counter()
        with (
            self.store.beside() as pictures,
            Pipeline(Host(), [], self.maker.pieces, keep=[CaptionStep(captioner)], keepers=threads) as pipeline,
        ):
            writer = CaptionWriter(self.store, self.progress.advance, self.failures)
            sink = self._noted(writer, caption_ids)
            stats = pipeline.run(self._in_time(kept_pictures(pictures, chunks, self.maker.pieces), caption_ids), sink)
            for one in alone:
                pipeline.run(self._in_time(kept_pictures(pictures, [[one]], self.maker.pieces), caption_ids), sink)
        self._forget([*ids, *alone])
        self._note_stages(wave, stats)
        self._note_time(wave, "captions", perf_counter() - start)
        self._check_time()

    def _caption_elsewhere(self, pool: Pool, chunks: Sequence[Sequence[str]]) -> None:
        """Have the workers of a pool say what pictures show."""
        writer = CaptionWriter(self.store, self.progress.advance, self.failures)

        def pictures() -> Iterator[tuple[list[str], list[bytes]]]:
            for ids in chunks:
                found = dict(self.store.step("pictures", images=list(ids)))
                yield list(ids), [found[one] for one in ids]

        for ids, said in pool.caption(pictures(), len(chunks), self._may_begin):
            lost = Caption("", "the workers that captioned it died, one after the other")
            writer.commit(list(zip(ids, said or [lost] * len(ids), strict=True)))

    def _captioner(self) -> Captioner:
        """The one that was loaded for the estimate, or a new one."""
        self._ready_captioner = self._ready_captioner or captioner_of(
            self.config, self.models, self.maker.engines, self.stop
        )
        return self._ready_captioner

    def propose(self, failing: Sequence[str], passing: Sequence[str], showing: int) -> str:
        """See `audit.mechanism.Helpers`."""
        if not isinstance(self.config.describer, ServedDescriber):
            return ""
        from mothlight.engine.stages.served import ServedProposer  # only who is served loads an HTTP client

        self._proposer = self._proposer or ServedProposer(self.config.describer, self.stop)
        return self._proposer.propose(failing, passing, showing)

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float64] | None:
        """See `audit.mechanism.Helpers`."""
        bundle = self.models.embedder
        if "embed_text" not in bundle.manifest.graphs:
            return None
        vectors = embed_texts(bundle, texts, self.maker.engines)
        return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), np.float64)

    def say(self, phase: str, found: int) -> None:
        """See `audit.mechanism.Mechanism`."""
        check(self.stop)
        self._title, self._found = phase, found

    def _note_time(self, wave: int, work: str, seconds: float) -> None:
        self.store.append("timing", [{"run_id": self.run_id, "wave": wave, "work": work, "seconds": seconds}])

    def _note_stages(self, wave: int, stats: Sequence[StageStats]) -> None:
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
                    "lanes": stat.lanes,
                    "input_seconds": stat.for_input,
                    "room_seconds": stat.for_room,
                    "queued_seconds": stat.queued,
                }
                for stat in stats
            ],
        )


def open_pool(address: str, config: AuditConfig, models: Models, store: Store, progress: Progress, stop: Event) -> Pool:
    """The workers that Ray has for an audit; to be closed after use.

    Raises:
        UserError: Ray is not installed, or can't be reached.
    """
    ((folder,),) = store.rows("select folder from audit")
    _, photographs = photographs_of_audit(store, config, progress, stop)
    bounds = store.rows("select passes_from from gate_bound order by passes_from")
    names = [config.generator, *config.classifiers, config.gate, config.embedder, config.captioner]
    paths = {name: bundle_path(name, Path(folder)) for name in names if isinstance(name, str) and name != RENDERER}
    keys = {bundle.folder.resolve(): bundle.manifest.content_key for bundle in models.all}
    brief = Brief(
        settings=config.model_dump_json(),
        folder=folder,
        bundles={name: keys[path.resolve()] for name, path in paths.items()},
        accepted=frozenset(store.rows("select label, accepted from accepted_label")),
        bounds=tuple(bound for (bound,) in bounds),
        photographs=tuple(photographs),
        load_backend=models.load_backend,
        open_inductor=models.open_inductor,
    )
    return Pool(address, brief, paths, stop=stop)


def photographs_of_audit(
    store: Store, config: AuditConfig, progress: Progress, stop: Event
) -> tuple[Path, list[dict[str, Any]]]:
    """Where an audit's photographs lie, and those that are used; looked through first, where that is not done yet.

    Raises:
        UserError: none can be used, or the source can't be read.
    """
    if config.images is None:
        return Path(), []
    ((folder,),) = store.rows("select folder from audit")
    source = Path(folder) / config.images.folder
    if not store.rows("select 1 from photograph limit 1"):
        progress.phase("looking through the photographs", 0, 0)
        store.append("photograph", take(config, source, lambda _: check(stop)))
    return source, store.records("from photograph where half is not null")


def _begin_run(store: Store, config: AuditConfig, threads: int, engines: str) -> int:
    ((last,),) = store.rows("select coalesce(max(run_id), 0) from run")
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
                "machine": this_machine(),
                "engines": engines,
            }
        ],
    )
    return int(last) + 1


def other_conditions(store: Store, threads: int) -> str:
    """How the last run was another one than this will be, in a sentence; empty if it was alike, or there was none."""
    runs = store.rows("select mothlight_version, machine, threads from run order by run_id desc limit 1")
    now = (version("mothlight"), this_machine(), threads)
    if not runs or tuple(runs[0]) == now:
        return ""
    before, after = (f"mothlight {own}, {machine}, {count} threads" for own, machine, count in (runs[0], now))
    return f"The images so far were made with {before}; those to come with {after}: they may differ in the last bit."


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
