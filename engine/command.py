"""What the commands do that read an audit, or keep something of it."""

import errno
import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from mothlight.engine.ask import Asked, answer, show_queries, show_views
from mothlight.engine.config import stored_config
from mothlight.engine.console import NO_TERMINAL, print_line
from mothlight.engine.dataset import export
from mothlight.engine.errors import DiskFullError, UserError
from mothlight.engine.explain import story
from mothlight.engine.gate.answers import TABLE, read_answers, sample, write_sample
from mothlight.engine.gate.known import as_words, rendered, taken
from mothlight.engine.gate.run import by_answers, by_pictures, gate_of, of_audit, save, told
from mothlight.engine.models.bundle import load_bundle
from mothlight.engine.models.runner import LoadBackend, no_backend
from mothlight.engine.opening import load_models
from mothlight.engine.pace import pace
from mothlight.engine.pace import show as show_pace
from mothlight.engine.photographs.sources import Refused
from mothlight.engine.pictures import chosen_images, write_finding, write_where
from mothlight.engine.records import identify
from mothlight.engine.score import load_truth, score
from mothlight.engine.session import Progress, Session
from mothlight.engine.streams import discard, printable, tolerant
from mothlight.engine.suite.ask import STATUSES, Line, run
from mothlight.engine.suite.freeze import freeze
from mothlight.engine.suite.kept import Suite
from mothlight.engine.suite.pages import as_json, as_markdown, broken_gates
from mothlight.engine.watching import watch
from mothlight.reports.answers import write_answers_page
from mothlight.reports.build import write_changes
from mothlight.reports.document import Change, Changes, Estimate
from mothlight.sql import Store, open_audit
from mothlight.sql.beside import DIFFERENCES, side_by_side
from mothlight.sql.named import given_parameters, query_text, sql_text
from mothlight.sql.store import ASKING_MEMORY, DATABASE

GATE_BROKEN = 3
PIPE_CLOSED = 141
PHOTOGRAPHS = (".csv", ".parquet", ".tar")
"""Files that hold photographs, or name them."""
MEMORY_SIZE = re.compile(r"\d+(\.\d+)? ?([KMGT]i?B)", re.IGNORECASE)


def opened(audit: Path, *, locked_down: bool = False, memory: str = ASKING_MEMORY) -> Store:
    """An audit to read; says so if it is still being written.

    Raises:
        StoreError, LockedError, CorruptError: see `open_audit`.
    """
    if not MEMORY_SIZE.fullmatch(memory):
        raise UserError(f"--memory is {memory!r}: give a size, as 500MB or 4GB.")
    store = open_audit(audit, locked_down=locked_down, memory=memory)
    if store.is_running:
        print_line(Console(file=tolerant(sys.stderr)), "The audit is running: this is what it has committed so far.")
    return store


def database_of(audit: Path) -> Path:
    """The database of an audit that is named by its folder or by the file itself."""
    return audit / DATABASE if audit.is_dir() else audit


def score_command(audit: Path, truth: Path | None, pairs: int, load_backend: LoadBackend = no_backend) -> str:
    """An audit's score as JSON; measured once, then remembered beside the database."""
    known = load_truth(truth)
    database = database_of(audit)
    with opened(database) as store:
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


def watch_command(audit: Path, every: float) -> None:
    """Print a line for each look at an audit, until it ends; over the last one at a terminal."""
    terminal = sys.stdout.isatty()
    with answering():
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
    with opened(audit) as store, answering():
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
    with opened(audit, locked_down=True, memory=memory) as store, answering():
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
def answering() -> Iterator[None]:
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
        opened(audit).close()
        with answering():
            show_queries()
        return
    text = sql_text(f"{DIFFERENCES}.sql") if name == DIFFERENCES else query_text(name)
    parameters = {} if name == DIFFERENCES else given_parameters(name, given)
    if (name == DIFFERENCES) != (against is not None):
        raise UserError(f"The query `{DIFFERENCES}`, and no other, takes --against with another audit.")
    with ExitStack() as stack:
        store = stack.enter_context(opened(audit, locked_down=True, memory=memory))
        if against is not None:
            same = against.exists() and database_of(against).samefile(store.path)
            other = store if same else stack.enter_context(opened(against, locked_down=True, memory=memory))
            store = stack.enter_context(side_by_side(store, other))
        stack.enter_context(answering())
        answer(store, text, asked, parameters)


def image_command(audit: Path, image_id: str, out: Path) -> Path:
    """Write an image to a file; the file.

    Raises:
        UserError: no image, or more than one, has that id; or the file can't be written.
    """
    with opened(audit) as store:
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
    with opened(audit, locked_down=True) as store:
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
    with opened(audit, locked_down=True) as store:
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
    with opened(audit) as store:
        lines = list(story(store, finding))
    with answering():
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()


def export_images_command(audit: Path, where: str, layout: str, out: Path) -> str:
    """Write pictures as a data set; what was done, in a line.

    Raises:
        UserError, DiskFullError: see `dataset.export`.
    """
    with opened(audit, locked_down=True) as store:
        count = export(store, where, layout, out)
    return f"{count:,} pictures in {out}"


def suite_freeze_command(audit: Path, out: Path, classifier: str | None, pairs: int) -> str:
    """Freeze an audit's confirmed findings; what was done, in a line.

    Raises:
        UserError, DiskFullError: see `suite.freeze`.
    """
    with opened(audit) as store:
        suite = freeze(store, out, classifier, pairs)
    count = len(suite.findings)
    return f"{count} finding{'s' if count > 1 else ''}, {len(suite.images):,} pictures in {out}"


def _changes_of(suite: Suite, lines: Sequence[Line]) -> Changes:
    """The result as a report's page has it."""
    return Changes(
        of=", ".join(dict.fromkeys(line.classifier for line in lines)),
        against=f"{suite.name}, seed {suite.seed}",
        rows=[
            Change(
                kind=line.status,
                what="rate",
                label=line.label,
                description=line.description,
                predicted=line.predicted,
                classifier=line.classifier,
                now=Estimate(value=line.rate, low=line.rate_low, high=line.rate_high, n=line.pairs),
                before=Estimate(value=line.before_rate, low=None, high=None, n=line.pairs),
                difference=Estimate(value=line.change, low=line.change_low, high=line.change_high, n=line.pairs),
            )
            for line in lines
        ],
    )


@dataclass(frozen=True, slots=True)
class SuiteFiles:
    """Where a suite's result is written, beside standard output."""

    json: Path | None = None
    markdown: Path | None = None
    html: Path | None = None


def suite_run_command(
    folder: Path, paths: Sequence[Path], fail_on: Sequence[str], max_rate: float | None, files: SuiteFiles
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
    for path, text in ((files.json, as_json(suite, lines)), (files.markdown, page)):
        if path is not None:
            try:
                beside = path.with_name(f".{path.name}.new")
                beside.write_text(text, encoding="utf-8")
                beside.replace(path)
            except OSError as error:
                raise UserError(f"Can't write {path}: {error.strerror}.") from error
    if files.html is not None:
        write_changes(_changes_of(suite, lines), files.html)
    with answering():
        sys.stdout.write(printable(page, keep="\n"))
        sys.stdout.flush()
    broken = broken_gates(lines, fail_on, max_rate)
    for sentence in broken:
        print_line(Console(file=tolerant(sys.stderr)), f"mothlight: {sentence}.")
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
    if (path.is_dir() and not (path / DATABASE).exists()) or path.suffix in PHOTOGRAPHS:
        lines = _photographs_calibrated(path, truths, most)
    elif truths.gate is not None:
        raise UserError(f"{path} is an audit, which has a gate: --gate is for a folder of pictures.")
    else:
        lines = _audit_calibrated(path, truths, images, most)
    with answering():
        sys.stdout.write("\n".join(printable(line) for line in lines) + "\n")
        sys.stdout.flush()


def _photographs_calibrated(source: Path, truths: Truths, most: float) -> list[str]:
    if truths.gate is None or truths.answers is not None or truths.pictures is not None or truths.rendered:
        raise UserError(f"{source} holds no audit. Of photographs say which gate to ask: --gate BUNDLE.")
    gate = load_bundle(truths.gate)
    known, refused = taken(source, None if gate.manifest.zero_shot is not None else gate.manifest.labels)
    labels = sorted({one.label for one in known})
    lines = list(told(None, by_pictures(gate, known, labels, most)))
    return [*lines, as_words(refused)] if refused else lines


def _audit_calibrated(audit: Path, truths: Truths, images: int, most: float) -> list[str]:
    database = database_of(audit)
    folder = database.parent / "gate"
    if not database.is_file():
        raise UserError(f"There is no audit at {audit}.")
    refused: list[Refused] = []
    with open_audit(database, read_only=False) as store:
        if truths.rendered or truths.pictures is not None:
            gate, labels = gate_of(store)
            if truths.pictures is None:
                known = rendered(labels, images)
            else:
                known, refused = taken(truths.pictures, labels)
            calibration = of_audit(store, by_pictures(gate, known, labels, most))
        else:
            table = truths.answers or folder / TABLE
            answers = read_answers(table, store) if truths.answers or table.is_file() else {}
            if not answers and truths.answers is None:
                return _to_answer(store, folder, images)
            calibration = by_answers(store, answers, most)
        save(store, calibration)
        return [*told(store, calibration), *([as_words(refused)] if refused else [])]


def _to_answer(store: Store, folder: Path, images: int) -> list[str]:
    """Write the images to look at; what to do with them."""
    sampled = sample(store, images)
    if not sampled:
        raise UserError("The gate has judged no image of this audit yet.")
    write_sample(store, sampled, folder)
    page = write_answers_page([{"image_id": one.image_id, "label": one.label} for one in sampled], folder)
    where = f"open {page}, save its answers.csv as {folder / TABLE} (or fill in the column `shows` there by hand)"
    return [f"{len(sampled)} images wait for an answer: {where}, and run the same command again."]
