"""`mothlight audit`: settings → session → result, with the exit code."""

import errno
import json
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import Any

from rich.console import Console

from mothlight.engine.ask import Asked, answer, show_queries, show_views
from mothlight.engine.audit.board import read_board
from mothlight.engine.audit.books import DEADLINE, SPENT
from mothlight.engine.audit.clock import Clock, seconds_until
from mothlight.engine.audit.rounds import own_ideas
from mothlight.engine.config import AuditConfig, OwnHypothesis, built_in_config, load_config, stored_config
from mothlight.engine.console import print_result, printable, shown_progress
from mothlight.engine.dataset import export
from mothlight.engine.disk import FLOOR, in_words
from mothlight.engine.errors import DeviceLostError, DiskFullError, UserError
from mothlight.engine.explain import story
from mothlight.engine.gate.answers import TABLE, read_answers, sample, write_sample
from mothlight.engine.gate.known import in_folder, rendered
from mothlight.engine.gate.run import by_answers, by_pictures, gate_of, of_audit, save, told
from mothlight.engine.models.bundle import load_bundle
from mothlight.engine.models.engines import OpenInductor
from mothlight.engine.models.runner import LoadBackend, no_backend
from mothlight.engine.opening import Models, load_models, open_database
from mothlight.engine.pace import pace
from mothlight.engine.pace import show as show_pace
from mothlight.engine.pictures import chosen_images, write_finding, write_where
from mothlight.engine.records import identify
from mothlight.engine.score import load_truth, score
from mothlight.engine.session import Progress, Session, other_conditions
from mothlight.engine.stopping import check, stoppable
from mothlight.engine.streams import discard, tolerant
from mothlight.engine.suite.ask import STATUSES, run
from mothlight.engine.suite.freeze import freeze
from mothlight.engine.suite.pages import as_json, as_markdown, broken_gates
from mothlight.engine.supervising import Flights, leave
from mothlight.engine.trace import Trace
from mothlight.engine.watching import watch
from mothlight.reports.answers import write_answers_page
from mothlight.reports.build import build_report
from mothlight.sql import Store, open_audit
from mothlight.sql.beside import DIFFERENCES, side_by_side
from mothlight.sql.named import given_parameters, query_text, sql_text
from mothlight.sql.serve import serving
from mothlight.sql.store import ASKING_MEMORY, DATABASE

GATE_BROKEN = 3
FAILED_ITEMS = 4
PIPE_CLOSED = 141
NO_TERMINAL = 110
"""Columns of the findings' table where there is no terminal to ask."""
MEMORY_SIZE = re.compile(r"\d+(\.\d+)? ?([KMGT]i?B)", re.IGNORECASE)
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
            _line(console, "Stopped; what was committed is kept. The same command goes on from there.")
            raise
        except MemoryError as error:
            raise UserError(
                f"There is not enough memory ({error}); what was committed is kept. Free some and run the same command "
                f"again; or lower `batch` in the settings, which makes another audit, with an --out of its own."
            ) from error

    return stoppable(work, lambda: _line(console, "Stopping; the work in hand ends first."))


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
    classifiers, out = choices.classifiers, choices.out
    folder = out or AUDITS / _name(config, classifiers)
    models = load_models(config, path.parent, load_backend, open_inductor)
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
                _run(working, config, models, store, clock, trace, as_json=choices.json_progress)
        check(working.stop)
        page = build_report(store, folder / "report")  # before anything is printed, which may fail
        out_console = Console(file=tolerant(sys.stdout), width=None if sys.stdout.isatty() else NO_TERMINAL)
        print_result(out_console, store)
        _line(out_console, f"Report: {page}")
        _line(out_console, f"Ask it: mothlight sql {folder}. {_what_next(store, config)}")
        ((failed,),) = store.rows("select count(*) from failed_item")
        unjudged = any(row["passed"] == 0 for row in store.records(query_text("few_judged")))
    return FAILED_ITEMS if failed or unjudged else 0


def _line(console: Console, text: str) -> None:
    """A line that is folded only where a person's terminal ends."""
    console.print(text, highlight=False, soft_wrap=not console.is_terminal)


def _what_next(store: Store, config: AuditConfig) -> str:
    """Whether a larger budget would go on, or everything was decided."""
    ((why,),) = store.rows("select ended from audit")
    if why == SPENT:
        return f"Go on: the same command with --max-images {2 * config.max_images}."
    if why == DEADLINE:
        return "The deadline came first: the same command goes on, with another deadline or none."
    return "The budget was no limit: nothing is left to ask of these images; another --seed makes others."


def _opened(audit: Path, *, locked_down: bool = False, memory: str = ASKING_MEMORY) -> Store:
    """An audit to read; says so if it is still being written.

    Raises:
        StoreError, LockedError, CorruptError: see `open_audit`.
    """
    if not MEMORY_SIZE.fullmatch(memory):
        raise UserError(f"--memory is {memory!r}: give a size, as 500MB or 4GB.")
    store = open_audit(audit, locked_down=locked_down, memory=memory)
    if store.is_running:
        _line(Console(file=tolerant(sys.stderr)), "The audit is running: this is what it has committed so far.")
    return store


def database_of(audit: Path) -> Path:
    """The database of an audit that is named by its folder or by the file itself."""
    return audit / DATABASE if audit.is_dir() else audit


def score_command(audit: Path, truth: Path | None, pairs: int, load_backend: LoadBackend = no_backend) -> str:
    """An audit's score as JSON; measured once, then remembered beside the database."""
    known = load_truth(truth)
    database = database_of(audit)
    with _opened(database) as store:
        ((text, folder, audit_id, budget),) = store.rows(
            "select settings, folder, audit_id, finished_budget from audit"
        )
        key = identify("score", audit_id, budget, store.query("findings"), known.key, pairs)
        remembered = database.parent / f"score-{key}.json"
        if remembered.is_file():
            return remembered.read_text(encoding="utf-8")
        config = stored_config(text, budget)
        models = load_models(config, Path(folder), load_backend)
        scored = _laid_out(score(store, config, models, known, pairs))
    with suppress(OSError):  # a folder that can't be written only costs the time of measuring again
        remembered.write_text(scored, encoding="utf-8")
    return scored


def _laid_out(result: dict[str, Any]) -> str:
    """JSON with one line per key, classifier and finding: short enough to leave the findings' table in sight."""
    lines = []
    for key, value in result.items():
        if isinstance(value, list) and value:
            inner = ",\n".join(f"    {json.dumps(one)}" for one in value)
            lines.append(f"  {json.dumps(key)}: [\n{inner}\n  ]")
        elif isinstance(value, dict):
            inner = ",\n".join(f"    {json.dumps(name)}: {json.dumps(one)}" for name, one in value.items())
            lines.append(f"  {json.dumps(key)}: {{\n{inner}\n  }}")
        else:
            lines.append(f"  {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}"


def report_command(audit: Path, out: Path | None) -> Path:
    """Write an audit's report; the page's path."""
    database = database_of(audit)
    with _opened(database) as store:
        return build_report(store, out or database.parent / "report")


def watch_command(audit: Path, every: float) -> None:
    """Print a line for each look at an audit, until it ends; over the last one at a terminal."""
    terminal = sys.stdout.isatty()
    with _answering():
        for line in watch(lambda: open_audit(audit), every):
            sys.stdout.write(f"\r\033[2K{line}" if terminal else f"{line}\n")
            sys.stdout.flush()
        if terminal:
            sys.stdout.write("\n")


def stats_command(audit: Path, *, as_json: bool) -> None:
    """Print what sets the pace of an audit.

    Raises:
        UserError: nothing was made yet.
    """
    with _opened(audit) as store, _answering():
        if as_json:
            stages, sentence = pace(store)
            json.dump({"stages": stages, "pace": sentence}, sys.stdout, indent=1)
            sys.stdout.write("\n")
        else:
            show_pace(store, Console(file=tolerant(sys.stdout), width=None if sys.stdout.isatty() else NO_TERMINAL))
        sys.stdout.flush()


def sql_command(audit: Path, statement: str | None, asked: Asked, memory: str) -> None:
    """Print what a statement gives, of several one after the other; without one a shell, or what there is to ask.

    Raises:
        UserError: there is no statement, DuckDB refuses it, its time is over, or several should become one document.
        DiskFullError, UserError: the answer can't be written.
    """
    with _opened(audit, locked_down=True, memory=memory) as store, _answering():
        if statement is None and sys.stdin.isatty() and sys.stdout.isatty():
            from mothlight.engine.shell import interactive  # readline is the terminal's alone

            interactive(store, asked)
        elif statement is None:
            show_views(store)
        else:
            answer(store, sys.stdin.read() if statement == "-" else _typed(statement), asked)


def _typed(statement: str) -> str:
    """A statement, or the one that a file holds whose name was given."""
    path = Path(statement)
    if not statement.endswith(".sql") or len(statement.split()) > 1:
        return statement
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"Can't read the statements in {path}: {error}.") from error


@contextmanager
def _answering() -> Iterator[None]:
    """What is written inside goes to standard output, and is the point of the command.

    Raises:
        DiskFullError, UserError: it can't be written.
    """
    try:
        yield
    except BrokenPipeError:
        # the reader has seen enough, as in `| head`; what Python would still flush goes nowhere
        discard(sys.stdout)
        sys.exit(PIPE_CLOSED)
    except OSError as error:
        discard(sys.stdout)
        if error.errno == errno.ENOSPC:
            raise DiskFullError("The answer can't be written: the disk is full.") from error
        raise UserError(f"The answer can't be written: {error.strerror}.") from error


def query_command(
    audit: Path, name: str | None, given: Sequence[str], asked: Asked, memory: str, against: Path | None
) -> None:
    """Print what a named query gives, or which there are; `differences` of this audit and another one.

    Raises:
        UserError: there is none of that name, it takes other parameters, or the other audit is missing or too many.
    """
    if name is None:
        _opened(audit).close()
        with _answering():
            show_queries()
        return
    text = sql_text(f"{DIFFERENCES}.sql") if name == DIFFERENCES else query_text(name)
    parameters = {} if name == DIFFERENCES else given_parameters(name, given)
    if words := sorted(set(re.findall(r"\$(\w+)", text)) - parameters.keys()):
        raise UserError(f"The query `{name}` needs {', '.join(words)}: it serves the report; ask with `mothlight sql`.")
    if (name == DIFFERENCES) != (against is not None):
        raise UserError(f"The query `{DIFFERENCES}`, and no other, takes --against with another audit.")
    with ExitStack() as stack:
        store = stack.enter_context(_opened(audit, locked_down=True, memory=memory))
        if against is not None:
            same = against.exists() and database_of(against).samefile(store.path)
            other = store if same else stack.enter_context(_opened(against, locked_down=True, memory=memory))
            store = stack.enter_context(side_by_side(store, other))
        stack.enter_context(_answering())
        answer(store, text, asked, parameters)


def image_command(audit: Path, image_id: str, out: Path) -> Path:
    """Write an image to a file; the file.

    Raises:
        UserError: no image, or more than one, has that id; or the file can't be written.
    """
    with _opened(audit) as store:
        picture = store.picture(image_id)
    try:
        out.write_bytes(picture)
    except OSError as error:
        raise UserError(f"Can't write {out}: {error.strerror}.") from error
    return out


def remake_command(audit: Path, finding: int | None, where: str | None, load_backend: LoadBackend = no_backend) -> str:
    """Make pictures again that were not kept, and keep them; what was done, in a line.

    Raises:
        UserError: neither or both of finding and condition are given, or nothing is found.
    """
    if (finding is None) == (where is None):
        raise UserError("Say which pictures: --finding with its number, or --where with a condition.")
    with _opened(audit, locked_down=True) as store:
        ((text, folder, budget),) = store.rows("select settings, folder, finished_budget from audit")
        images = chosen_images(store, finding, where)
    config = stored_config(text, budget)
    models = load_models(config, Path(folder), load_backend)
    with open_audit(audit, read_only=False) as store, Session(config, models, store, Progress()) as session:
        made = session.remake(images)
    return f"{made:,} of {len(images):,} pictures were made again; the others were kept."


def images_command(audit: Path, finding: int | None, where: str | None, out: Path, limit: int) -> str:
    """Write images into folders by label and prediction; what was done, in a line.

    Raises:
        UserError: neither or both of finding and condition are given, or nothing is found.
    """
    if (finding is None) == (where is None):
        raise UserError("Say which images: --finding N (see `mothlight query AUDIT findings`), or --where CONDITION.")
    with _opened(audit, locked_down=True) as store:
        if where is not None:
            written, found = write_where(store, where, out, limit)
        else:
            written, found = write_finding(store, finding or 0, out, limit)
    more = f" of {found:,}; --limit {found} writes all" if written < found else ""
    return f"{written:,} images in {out}{more}"


def explain_command(audit: Path, finding: int) -> None:
    """Print a finding's story.

    Raises:
        UserError: there is no such finding.
    """
    with _opened(audit) as store:
        lines = list(story(store, finding))
    with _answering():
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()


def export_images_command(audit: Path, where: str, layout: str, out: Path) -> str:
    """Write pictures as a data set; what was done, in a line.

    Raises:
        UserError, DiskFullError: see `dataset.export`.
    """
    with _opened(audit, locked_down=True) as store:
        count = export(store, where, layout, out)
    return f"{count:,} pictures in {out}"


def suite_freeze_command(audit: Path, out: Path, classifier: str | None, pairs: int) -> str:
    """Freeze an audit's confirmed findings; what was done, in a line.

    Raises:
        UserError, DiskFullError: see `suite.freeze`.
    """
    with _opened(audit) as store:
        suite = freeze(store, out, classifier, pairs)
    count = len(suite.findings)
    return f"{count} finding{'s' if count > 1 else ''}, {len(suite.images):,} pictures in {out}"


def suite_run_command(
    folder: Path, paths: Sequence[Path], fail_on: Sequence[str], max_rate: float | None, files: Sequence[Path | None]
) -> int:
    """Ask a suite of classifiers, print and write what came of it; the exit code.

    Raises:
        UserError, CorruptError: the suite, a bundle or an argument can't be used.
    """
    for status in fail_on:
        if status not in STATUSES:
            raise UserError(f"--fail-on knows {', '.join(STATUSES)}, not `{status}`.")
    suite, lines = run(folder, paths)
    page = as_markdown(suite, lines)
    for path, text in zip(files, (as_json(suite, lines), page), strict=True):
        if path is not None:
            try:
                beside = path.with_name(f".{path.name}.new")
                beside.write_text(text, encoding="utf-8")
                beside.replace(path)
            except OSError as error:
                raise UserError(f"Can't write {path}: {error.strerror}.") from error
    with _answering():
        sys.stdout.write(printable(page, keep="\n"))
        sys.stdout.flush()
    broken = broken_gates(lines, fail_on, max_rate)
    for sentence in broken:
        _line(Console(file=tolerant(sys.stderr)), f"mothlight: {sentence}.")
    return GATE_BROKEN if broken else 0


@dataclass(frozen=True, slots=True)
class Truths:
    """Where the truth about a gate comes from; of an audit, by default from answers on its own images."""

    answers: Path | None = None
    pictures: Path | None = None
    gate: Path | None = None
    rendered: bool = False


def gate_calibrate_command(path: Path, truths: Truths, images: int, most: float) -> None:
    """Calibrate a gate and print what came of it; or write what a person must answer first.

    Raises:
        UserError: an argument does not fit, or there is no such audit, folder or bundle.
    """
    if sum([truths.answers is not None, truths.pictures is not None, truths.rendered]) > 1:
        raise UserError("Give one of --answers, --pictures and --rendered.")
    if path.is_dir() and not (path / DATABASE).exists():
        lines = _folder_calibrated(path, truths, most)
    elif truths.gate is not None:
        raise UserError(f"{path} is an audit, which has a gate: --gate is for a folder of pictures.")
    else:
        lines = _audit_calibrated(path, truths, images, most)
    with _answering():
        sys.stdout.write("\n".join(printable(line) for line in lines) + "\n")
        sys.stdout.flush()


def _folder_calibrated(folder: Path, truths: Truths, most: float) -> list[str]:
    if truths.gate is None or truths.answers is not None or truths.pictures is not None or truths.rendered:
        raise UserError(f"{folder} holds no audit. Of a folder of pictures say which gate to ask: --gate BUNDLE.")
    known = in_folder(folder)
    labels = sorted({one.label for one in known})
    return list(told(None, by_pictures(load_bundle(truths.gate), known, labels, most)))


def _audit_calibrated(audit: Path, truths: Truths, images: int, most: float) -> list[str]:
    database = database_of(audit)
    folder = database.parent / "gate"
    if not database.is_file():
        raise UserError(f"There is no audit at {audit}.")
    with open_audit(database, read_only=False) as store:
        if truths.rendered or truths.pictures is not None:
            gate, labels = gate_of(store)
            known = rendered(labels, images) if truths.pictures is None else in_folder(truths.pictures)
            calibration = of_audit(store, by_pictures(gate, known, labels, most))
        else:
            table = truths.answers or folder / TABLE
            answers = read_answers(table, store) if truths.answers or table.is_file() else {}
            if not answers and truths.answers is None:
                return _to_answer(store, folder, images)
            calibration = by_answers(store, answers, most)
        save(store, calibration)
        return list(told(store, calibration))


def _to_answer(store: Store, folder: Path, images: int) -> list[str]:
    """Write the images to look at; what to do with them."""
    sampled = sample(store, images)
    if not sampled:
        raise UserError("The gate has judged no image of this audit yet.")
    write_sample(store, sampled, folder)
    page = write_answers_page([{"image_id": one.image_id, "label": one.label} for one in sampled], folder)
    where = f"open {page}, save its answers.csv as {folder / TABLE} (or fill in the column `shows` there by hand)"
    return [f"{len(sampled)} images wait for an answer: {where}, and run the same command again."]


def _run(
    working: Working,
    config: AuditConfig,
    models: Models,
    store: Store,
    clock: Clock,
    trace: Trace | None,
    *,
    as_json: bool,
) -> None:
    console = working.console
    report = Path(store.path).parent / "report"
    with (
        shown_progress(console, as_json=as_json) as progress,
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
        ) as session,
    ):
        ((made,),) = store.rows("select coalesce(sum(images), 0) from chunk")
        minutes = session.seconds_left(max(config.max_images - made, 0)) / 60
        if not made:
            _check_deadline(config, session, clock)
        _line(
            console,
            f"{config.name}: at most {config.max_images:,} images"
            + (f", {made:,} of them made before" if made else "")
            + f"; about {max(minutes, 0.1):.1f} minutes on {session.threads} threads"
            + (f", but no longer than {clock.seconds_left / 60:.1f}" if clock.end is not None else "")
            + ". Ctrl-C is safe: the same command goes on from there.",
        )
        _line(console, f"Runs {session.runs_on}.")
        if changed := other_conditions(store, session.threads):
            _line(console, changed)
        _line(console, _room(session.bytes_left(max(config.max_images - made, 0)), report.parent))
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
