"""`mothlight audit`: settings → session → result, with the exit code."""

import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Event

from rich.console import Console

from mothlight.engine.audit.board import read_board
from mothlight.engine.audit.books import DEADLINE, SPENT
from mothlight.engine.audit.clock import Clock, seconds_until
from mothlight.engine.audit.rounds import own_ideas
from mothlight.engine.config import AuditConfig, OwnHypothesis, built_in_config, load_config
from mothlight.engine.console import NO_TERMINAL, print_line, print_result, shown_progress
from mothlight.engine.disk import FLOOR, in_words
from mothlight.engine.errors import DeviceLostError, UserError
from mothlight.engine.models.engines import OpenInductor
from mothlight.engine.models.runner import LoadBackend, no_backend
from mothlight.engine.opening import Models, load_models, open_database, with_own_labels
from mothlight.engine.session import Session, open_pool, other_conditions
from mothlight.engine.stopping import check, stoppable
from mothlight.engine.streams import tolerant
from mothlight.engine.supervising import Flights, leave
from mothlight.engine.trace import Trace
from mothlight.reports.build import build_report, reader, write_report
from mothlight.reports.reading import read_report
from mothlight.sql import Store
from mothlight.sql.named import query_text
from mothlight.sql.serve import serving
from mothlight.sql.store import DATABASE

FAILED_ITEMS = 4
AUDITS = Path("audits")


@dataclass(frozen=True, slots=True)
class Choices:
    """What the command line says over the settings; None or empty leaves them as they are."""

    max_images: int | None = None
    deadline: str | None = None
    seed: int | None = None
    classifiers: tuple[str, ...] = ()
    out: Path | None = None
    trace: Path | None = None
    json_progress: bool = False
    ray: str | None = None
    """Where Ray is, whose workers make the images: `local`, `auto` or an address; None: this process makes them."""
    hypotheses: tuple[tuple[str, str], ...] = ()
    """(label, description) of one's own ideas, beside those in the settings."""


@dataclass(frozen=True, slots=True)
class Working:
    """The process that does an audit's work."""

    console: Console
    began: datetime
    """When the command was given; its process may have been replaced since."""
    flights: Flights
    stop: Event

    @property
    def seconds(self) -> float:
        """Since the command was given."""
        return (datetime.now() - self.began).total_seconds()  # noqa: DTZ005  # an hour is local


def audit_command(
    settings: Path | None,
    choices: Choices,
    load_backend: LoadBackend = no_backend,
    open_inductor: OpenInductor | None = None,
    *,
    began: datetime | None = None,
    flights: Flights | None = None,
) -> int:
    """Run or go on with an audit, and print its result; the exit code.

    `began` is when the command was given, and `flights` what processes before this one died of.
    """
    console = Console(file=tolerant(sys.stderr))
    began = began or datetime.now()  # noqa: DTZ005  # an hour is local

    def work(stop: Event) -> int:
        working = Working(console, began, flights or Flights(), stop)
        try:
            return _audit(working, settings, choices, load_backend, open_inductor)
        except DeviceLostError as error:
            leave(error)
        except KeyboardInterrupt:
            print_line(console, "Stopped; what was committed is kept. The same command goes on from there.")
            raise
        except MemoryError as error:
            raise UserError(
                f"There is not enough memory ({error}); what was committed is kept. Free some and run the same command "
                f"again; or lower `batch` in the settings, which makes another audit, with an --out of its own."
            ) from error

    return stoppable(work, lambda: print_line(console, "Stopping; the work in hand ends first."))


def own_hypotheses(descriptions: Sequence[str], labels: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """(label, description) of each.

    Raises:
        UserError: there are neither as many labels as descriptions, nor one.
    """
    if len(labels) == 1:
        labels = [*labels] * len(descriptions)
    if len(labels) != len(descriptions) or (labels and not descriptions):
        raise UserError(
            f"{len(descriptions)} --hypothesis and {len(labels)} --label: give each hypothesis a label, or one for all."
        )
    return tuple(zip(labels, descriptions, strict=True))


def _audit(
    working: Working,
    settings: Path | None,
    choices: Choices,
    load_backend: LoadBackend,
    open_inductor: OpenInductor | None,
) -> int:
    path = settings or built_in_config()
    changes: dict[str, object] = {
        "max_images": choices.max_images,
        "deadline": choices.deadline,
        "seed": choices.seed,
    }
    config = load_config(path, **changes)
    clock = Clock(config.max_images)
    if config.deadline is not None:
        clock.end = clock.now() + seconds_until(config.deadline, working.began) - working.seconds
    if choices.classifiers:
        chosen = [_chosen(name, config) for name in choices.classifiers]
        config = load_config(path, **changes, classifiers=chosen)
    if choices.hypotheses:
        more = [OwnHypothesis(label=label, description=words) for label, words in choices.hypotheses]
        config = load_config(path, **changes, classifiers=config.classifiers, hypotheses=[*config.hypotheses, *more])
    if choices.ray is not None and choices.trace is not None:
        raise UserError("--trace shows what one machine does: leave it out with --ray.")
    classifiers, out = choices.classifiers, choices.out
    folder = out or AUDITS / _name(config, classifiers)
    models = load_models(config, path.parent, load_backend, open_inductor)
    config = with_own_labels(config, models, path.parent)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"Can't make the folder {folder}: {error.strerror}; name another --out.") from error
    names = [bundle.manifest.name for bundle in models.classifiers]
    with open_database(folder / DATABASE, config, models, path.parent) as store, serving(store):
        ((budget, why),) = store.rows("select finished_budget, ended from audit")
        cut = budget is None or budget < config.max_images or why == DEADLINE
        if cut or own_ideas(config, read_board(store, names)):
            with ExitStack() as stack:
                trace = stack.enter_context(Trace(choices.trace)) if choices.trace is not None else None
                _run(working, config, models, store, clock, trace, choices)
        check(working.stop)
        report = read_report(store)
        page = write_report(report, reader(store), folder / "report")  # before anything is printed, which may fail
        out_console = Console(file=tolerant(sys.stdout), width=None if sys.stdout.isatty() else NO_TERMINAL)
        print_result(out_console, store, " ".join((report.verdict.headline, *report.verdict.sentences[:1])))
        print_line(out_console, f"Report: {page}")
        print_line(out_console, f"Ask it: mothlight sql {folder}. {_what_next(store, config)}")
        ((failed,),) = store.rows("select count(*) from failed_item")
        unjudged = any(row["passed"] == 0 for row in store.records(query_text("few_judged")))
    return FAILED_ITEMS if failed or unjudged else 0


def _what_next(store: Store, config: AuditConfig) -> str:
    """Whether a larger budget would go on, or everything was decided."""
    ((why,),) = store.rows("select ended from audit")
    if why == SPENT:
        return f"Go on: the same command with --max-images {2 * config.max_images}."
    if why == DEADLINE:
        return "The deadline came first: the same command goes on, with another deadline or none."
    if config.generator is None:
        return "All photographs were asked: more of them, or a generator beside them, find more."
    return "The budget was no limit: nothing is left to ask of these images; another --seed makes others."


def _run(
    working: Working,
    config: AuditConfig,
    models: Models,
    store: Store,
    clock: Clock,
    trace: Trace | None,
    choices: Choices,
) -> None:
    console = working.console
    report = Path(store.path).parent / "report"
    with ExitStack() as stack:
        progress = stack.enter_context(shown_progress(console, as_json=choices.json_progress))
        pool = None
        if choices.ray is not None:
            pool = open_pool(choices.ray, config, models, store, progress, working.stop)
            stack.callback(pool.close)
            pool.say = lambda line: print_line(console, line)
            pool.wait()
        session = stack.enter_context(
            Session(
                config,
                models,
                store,
                progress,
                clock=clock,
                write_report=lambda: build_report(store, report),
                stop=working.stop,
                trace=trace,
                flights=working.flights,
                pool=pool,
            )
        )
        ((made,),) = store.rows("select coalesce(sum(images), 0) from chunk")
        minutes = session.seconds_left(max(config.max_images - made, 0)) / 60
        if not made:
            _check_deadline(config, session, clock)
        print_line(
            console,
            f"{config.name}: at most {config.max_images:,} images"
            + (f", {made:,} of them made before" if made else "")
            + f"; about {max(minutes, 0.1):.1f} minutes on {session.threads} threads"
            + (f", but no longer than {clock.seconds_left / 60:.1f}" if clock.end is not None else "")
            + ". Ctrl-C is safe: the same command goes on from there.",
        )
        print_line(console, f"Runs {session.runs_on}.")
        if changed := other_conditions(store, session.threads):
            print_line(console, changed)
        print_line(console, _room(session.bytes_left(max(config.max_images - made, 0)), report.parent))
        session.run()


def _room(needed: int, folder: Path) -> str:
    """What the audit will take of the disk, and whether it has that."""
    free = shutil.disk_usage(folder).free
    said = f"Needs at most about {in_words(needed)} of the disk; {in_words(free)} are free."
    return said if free - needed > FLOOR else f"{said} It will stop before the disk is full."


def _check_deadline(config: AuditConfig, session: Session, clock: Clock) -> None:
    """Whether there is time for the first look at least.

    Raises:
        UserError: there is not.
    """
    first = len(config.labels) * config.discovery_images
    needed = session.seconds_left(first)
    if needed > clock.seconds_left:
        raise UserError(
            f"The deadline leaves {max(clock.seconds_left, 0):.0f} seconds for images, and the first look alone "
            f"({first:,} images) takes about {needed:.0f}: give it more time, or lower `discovery_images`."
        )


def _chosen(name: str, config: AuditConfig) -> str:
    """A classifier of the settings by its last name, or else a bundle's path as it was typed."""
    for known in config.classifiers:
        if name in (known, Path(known.rpartition(":")[2]).name):
            return known
    return name if ":" in name else str(Path(name).resolve())


def _name(config: AuditConfig, classifiers: Sequence[str]) -> str:
    chosen = "".join(f"-{Path(name.rpartition(':')[2]).name}" for name in classifiers)
    return f"{config.name}-{config.seed}{chosen}"
