"""Frozen suites: what an audit confirmed, kept as images, and asked again of other classifiers without generating.

A suite is a folder: `suite.json` and the pictures. It stands alone: prompts, seeds, models' keys, and what the audited
classifier said of each picture are in it.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from mothlight.engine.batch import Batch, batches
from mothlight.engine.errors import CorruptError, DiskFullError, UserError
from mothlight.engine.executor.pipeline import Pipeline
from mothlight.engine.models.bundle import Bundle, load_bundle
from mothlight.engine.models.engines import choose
from mothlight.engine.pictures import folder_name
from mothlight.engine.records import Chunk, Prompt
from mothlight.engine.stages.classify import Classifier, ClassifyStage
from mothlight.engine.stages.generate import DrawStage
from mothlight.engine.stats import Pairs, mcnemar_exact
from mothlight.sql import Store, open_audit

FORMAT = 1
LISTING = "suite.json"
BATCH = 16
SURE = 0.05
"""Two classifiers differ if McNemar's exact test says so at this level."""
Status = Literal["fixed", "remaining", "worse", "new", "unclear"]
STATUSES: tuple[Status, ...] = ("fixed", "remaining", "worse", "new", "unclear")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SuitePair(_Strict):
    """Two pictures of the same noise, and what the audited classifier said of each."""

    index: int
    described: str
    """Its id."""
    plain: str
    said: str
    plain_said: str


class SuiteFinding(_Strict):
    """A confirmed finding and its pairs."""

    finding: int
    bug: int
    main: bool
    classifier: str
    label: str
    event: str
    """The prediction that counts; empty: any error."""
    description: str
    prompt: str
    plain_prompt: str
    rate: float | None
    baseline_rate: float | None
    effect: float | None
    effect_low: float | None
    effect_high: float | None
    provenance: str
    pairs: tuple[SuitePair, ...]


class SuiteImage(_Strict):
    """A picture of a suite."""

    file: str
    label: str
    sha256: str


class Suite(_Strict):
    """What `suite.json` holds."""

    format: int
    mothlight: str
    name: str
    audit_id: str
    seed: int
    generator: str
    min_effect: float
    gate_lower: float
    gate_upper: float
    models: dict[str, str]
    """Content key → role and name."""
    labels: dict[str, tuple[str, ...]]
    """Label → predictions that are right for it."""
    findings: tuple[SuiteFinding, ...]
    images: dict[str, SuiteImage]


def freeze(store: Store, out: Path, classifier: str | None, pairs: int) -> Suite:
    """Write the confirmed findings of an audit, or of one of its classifiers, as a suite; all of it or nothing.

    Raises:
        UserError: nothing is confirmed, there is no such classifier, or the folder exists or can't be written.
        DiskFullError: there is no room.
    """
    if out.exists():
        raise UserError(f"{out} exists; name another --out.")
    (audit,) = store.records("select * from audit")
    names = sorted({name for (name,) in store.rows("select name from model where role = 'classifier'")})
    if classifier is not None and classifier not in names:
        raise UserError(f"The audit has no classifier `{classifier}`; there are {', '.join(names)}.")
    rows = [row for row in store.step_records("suite_findings") if classifier in (None, row["classifier"])]
    if not rows:
        raise UserError("Nothing is confirmed" + (f" for {classifier}" if classifier else "") + ": nothing to freeze.")
    beside = out.with_name(f".{out.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        images: dict[str, SuiteImage] = {}
        findings = [_frozen(store, row, pairs, beside, images) for row in rows]
        suite = Suite(
            format=FORMAT,
            mothlight=version("mothlight"),
            name=audit["name"],
            audit_id=audit["audit_id"],
            seed=audit["seed"],
            generator=audit["generator"],
            min_effect=json.loads(audit["settings"])["min_effect"],
            gate_lower=audit["gate_lower"],
            gate_upper=audit["gate_upper"],
            models={
                key: f"{role} {name}" for key, role, name in store.rows("select content_key, role, name from model")
            },
            labels={
                label: tuple(sorted(accepted))
                for label, accepted in store.rows("select label, list(accepted) from accepted_label group by label")
            },
            findings=tuple(findings),
            images=images,
        )
        (beside / LISTING).write_text(json.dumps(suite.model_dump(), indent=1, ensure_ascii=False), encoding="utf-8")
        beside.rename(out)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        if error.errno == 28:
            raise DiskFullError(f"The disk is full: the suite does not fit into {out}.") from error
        raise UserError(f"Can't write the suite to {out}: {error.strerror}; name another --out.") from error
    return suite


def _frozen(
    store: Store, row: Mapping[str, Any], most: int, folder: Path, images: dict[str, SuiteImage]
) -> SuiteFinding:
    """A finding with its pairs; pictures that are new are written."""
    own = []
    for pair in store.step_records(
        "suite_pairs",
        hypothesis=row["hypothesis_id"],
        classifier=row["classifier"],
        reserve=row["provenance"] == "reserve",
        pairs=most,
    ):
        for key, jpeg in ((pair["image_id"], pair["jpeg"]), (pair["plain_image_id"], pair["plain_jpeg"])):
            if key not in images:
                file = Path("images", folder_name(row["label"]), f"{key}.jpg")
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / file).write_bytes(jpeg)
                digest = hashlib.sha256(jpeg).hexdigest()
                images[key] = SuiteImage(file=file.as_posix(), label=row["label"], sha256=digest)
        own.append(
            SuitePair(
                index=pair["index"],
                described=pair["image_id"],
                plain=pair["plain_image_id"],
                said=pair["predicted"],
                plain_said=pair["plain_predicted"],
            )
        )
    kept = {key: row[key] for key in SuiteFinding.model_fields if key != "pairs"}
    return SuiteFinding(**kept, pairs=tuple(own))


def load_suite(folder: Path) -> Suite:
    """Read a suite and check every picture.

    Raises:
        UserError: there is none, or a newer mothlight made it.
        CorruptError: it is damaged, or names files outside of it.
    """
    try:
        data = json.loads((folder / LISTING).read_text(encoding="utf-8"))
        suite = Suite.model_validate(data)
    except OSError as error:
        raise UserError(f"There is no suite at {folder}: {error.strerror} ({LISTING}).") from error
    except (ValueError, ValidationError) as error:
        raise CorruptError(f"{folder / LISTING} is no suite: {str(error).splitlines()[0]}") from error
    if suite.format > FORMAT:
        raise UserError(f"A newer mothlight made {folder} (format {suite.format}): upgrade mothlight.")
    whole = folder.resolve()
    for key, image in suite.images.items():
        path = (folder / image.file).resolve()
        if not path.is_relative_to(whole):
            raise CorruptError(f"{folder / LISTING} names a file outside of it: {image.file}")
        try:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise CorruptError(f"The suite's picture {path} can't be read: {error.strerror}.") from error
        if found != image.sha256:
            raise CorruptError(f"The suite's picture {path} was changed (image {key}).")
    for finding in suite.findings:
        lost = {key for pair in finding.pairs for key in (pair.described, pair.plain)} - suite.images.keys()
        if lost or finding.label not in suite.labels:
            raise CorruptError(f"{folder / LISTING}: finding {finding.finding} needs what the suite does not hold.")
    return suite


class _Pictures:
    """Pictures of a suite of one size, by their place, as a generator."""

    def __init__(self, paths: Sequence[Path], size: tuple[int, int]) -> None:
        self.paths = paths
        self.size = size

    def prepare(self, prompts: Sequence[Prompt]) -> None:
        """Nothing to do."""

    def images(self, prompt: Prompt, indices: Sequence[int]) -> NDArray[np.uint8]:
        """(len(indices), H, W, 3) uint8."""
        del prompt
        return np.stack([_pixels(self.paths[index]) for index in indices])


def _pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(BytesIO(path.read_bytes()), formats=["JPEG"]) as image:
        return np.asarray(image.convert("RGB"))


def classify(folder: Path, suite: Suite, bundles: Sequence[Bundle]) -> dict[str, list[str]]:
    """What each classifier says of each picture: image id → predictions, in the order of the bundles.

    Raises:
        UserError: a classifier does not know a label of the suite.
    """
    for bundle in bundles:
        unknown = sorted({finding.label for finding in suite.findings} - set(bundle.manifest.labels))
        if unknown:
            raise UserError(
                f"The classifier {bundle.manifest.name} has no label `{unknown[0]}`, which the suite asks for."
            )
    by_size: dict[tuple[int, int], list[str]] = {}
    for key, image in sorted(suite.images.items()):
        with Image.open(folder / image.file, formats=["JPEG"]) as picture:
            by_size.setdefault((picture.height, picture.width), []).append(key)
    said: dict[str, list[str]] = {}
    known = Prompt(suite.findings[0].label, "")  # whose score is not asked for
    engines = choose("auto", ["classifier"])
    try:
        stages = [ClassifyStage(Classifier(bundle, engines), place) for place, bundle in enumerate(bundles)]
        for size, keys in by_size.items():
            source = DrawStage(_Pictures([folder / suite.images[key].file for key in keys], size), 1)
            with Pipeline(engines.device, [source, *stages], BATCH, without=["images"]) as pipeline:

                def sink(batch: Batch, keys: Sequence[str] = keys) -> None:
                    for row, index in enumerate(batch.indices):
                        said[keys[index]] = [
                            bundle.manifest.labels[batch.arrays[f"indices_{place}"][row][0]]
                            for place, bundle in enumerate(bundles)
                        ]

                pipeline.run(batches(Chunk(known, 0, len(keys), 0), BATCH), sink)
    finally:
        engines.close()
    return said


@dataclass(frozen=True, slots=True)
class Line:
    """A finding, asked of a classifier; for a label's plain pictures the description is empty."""

    finding: int | None
    found_on: str
    classifier: str
    label: str
    description: str
    predicted: str
    pairs: int
    before_rate: float
    """Of the classifier that it was found on, on these pictures."""
    rate: float
    rate_low: float
    rate_high: float
    plain_rate: float
    effect: float | None
    effect_low: float | None
    effect_high: float | None
    mended: int
    """Pictures with the event before, and without it now."""
    broken: int
    """Pictures without the event before, and with it now."""
    p_value: float
    """McNemar's exact test of these two."""
    status: Status


def run(folder: Path, paths: Sequence[Path]) -> tuple[Suite, list[Line]]:
    """Ask a suite of classifiers' bundles; a line for each finding and classifier, and for what is new.

    Raises:
        UserError, CorruptError: the suite or a bundle can't be used.
    """
    suite = load_suite(folder)
    bundles = [_classifier(path) for path in paths]
    names = [bundle.manifest.name for bundle in bundles]
    if len(set(names)) < len(names):
        raise UserError(f"Two classifiers have the same name: {', '.join(sorted(names))}.")
    said = classify(folder, suite, bundles)
    lines = []
    with open_audit() as store:  # for its intervals
        for place, name in enumerate(names):
            now = {key: answers[place] for key, answers in said.items()}
            lines += [_line(store, suite, finding, name, now) for finding in suite.findings if finding.pairs]
            lines += list(_new(store, suite, name, now))
    return suite, lines


def _classifier(path: Path) -> Bundle:
    bundle = load_bundle(path)
    if bundle.manifest.role != "classifier":
        raise UserError(f"The bundle {path} is a {bundle.manifest.role}; a suite is asked of classifiers.")
    return bundle


@dataclass(frozen=True, slots=True)
class _Asked:
    """The event on the same pictures: for the audited classifier before, and for another one now."""

    before: Sequence[bool]
    after: Sequence[bool]
    plain: Sequence[bool]
    """On the plain twins, now."""

    @property
    def change(self) -> Pairs:
        return _paired(self.after, self.before)

    @property
    def effect(self) -> Pairs:
        return _paired(self.after, self.plain)


def _line(store: Store, suite: Suite, finding: SuiteFinding, name: str, now: Mapping[str, str]) -> Line:
    right = suite.labels[finding.label]

    def event(answer: str) -> bool:
        return answer not in right and finding.event in ("", answer)

    asked = _Asked(
        before=[event(pair.said) for pair in finding.pairs],
        after=[event(now[pair.described]) for pair in finding.pairs],
        plain=[event(now[pair.plain]) for pair in finding.pairs],
    )
    low, high = _bounds(store, asked.effect)
    if high <= suite.min_effect:
        status: Status = "fixed"
    elif mcnemar_exact(asked.change) < SURE and asked.change.more > asked.change.less:
        status = "worse"
    else:
        status = "remaining" if low > 0 else "unclear"
    return _measured(store, finding, name, asked, status)


def _new(store: Store, suite: Suite, name: str, now: Mapping[str, str]) -> Iterator[Line]:
    """Labels whose plain pictures the classifier gets wrong more often than the audited one did."""
    by_label: dict[tuple[str, str], list[SuiteFinding]] = {}
    for finding in suite.findings:
        by_label.setdefault((finding.classifier, finding.label), []).append(finding)
    for (_, label), findings in by_label.items():
        said = {pair.plain: pair.plain_said for finding in findings for pair in finding.pairs}
        right = suite.labels[label]
        after = [now[key] not in right for key in said]
        asked = _Asked([answer not in right for answer in said.values()], after, after)
        if asked.change.more > asked.change.less and mcnemar_exact(asked.change) < SURE:
            yield _measured(store, findings[0], name, asked, "new")


def _paired(one: Sequence[bool], other: Sequence[bool]) -> Pairs:
    return Pairs(
        len(one),
        sum(a and not b for a, b in zip(one, other, strict=True)),
        sum(b and not a for a, b in zip(one, other, strict=True)),
    )


def _bounds(store: Store, counts: Pairs) -> tuple[float, float]:
    ((low, high),) = store.rows(
        "select bonett_price_low($more, $less, $n), bonett_price_high($more, $less, $n)",
        more=counts.more, less=counts.less, n=counts.pairs,
    )  # fmt: skip
    return low, high


def _measured(store: Store, finding: SuiteFinding, name: str, asked: _Asked, status: Status) -> Line:
    n, hits = len(asked.after), sum(asked.after)
    ((low, high),) = store.rows("select wilson_low($k, $n), wilson_high($k, $n)", k=hits, n=n)
    effect_low, effect_high = _bounds(store, asked.effect)
    plain = status == "new"
    return Line(
        finding=None if plain else finding.finding,
        found_on=finding.classifier,
        classifier=name,
        label=finding.label,
        description="" if plain else finding.description,
        predicted="any error" if plain else finding.event or "any error",
        pairs=n,
        before_rate=sum(asked.before) / n,
        rate=hits / n,
        rate_low=low,
        rate_high=high,
        plain_rate=sum(asked.plain) / n,
        effect=None if plain else asked.effect.effect,
        effect_low=None if plain else effect_low,
        effect_high=None if plain else effect_high,
        mended=asked.change.less,
        broken=asked.change.more,
        p_value=mcnemar_exact(asked.change),
        status=status,
    )


def as_json(suite: Suite, lines: Sequence[Line]) -> str:
    """The whole result for a machine."""
    counts = {status: sum(line.status == status for line in lines) for status in STATUSES}
    head = {"suite": suite.name, "audit_id": suite.audit_id, "seed": suite.seed, "counts": counts}
    return json.dumps({**head, "lines": [asdict(line) for line in lines]}, indent=1, ensure_ascii=False)


def as_markdown(suite: Suite, lines: Sequence[Line]) -> str:
    """The whole result as a page for people: what became of each finding, then who shares it."""
    rows = [
        f"# Suite {_plain(suite.name)}, seed {suite.seed}",
        "",
        "| status | classifier | finding | before | now | plain | effect, 95 % interval | pairs | McNemar p |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for line in lines:
        what = f"{line.label} → {line.predicted}: {line.description or 'plain pictures'} ({line.found_on})"
        effect = (
            "" if line.effect is None or line.effect_low is None or line.effect_high is None
            else f"{100 * line.effect:+.0f} ({100 * line.effect_low:+.0f} to {100 * line.effect_high:+.0f})"
        )  # fmt: skip
        cells = (
            line.status, line.classifier, what, _share(line.before_rate), _share(line.rate), _share(line.plain_rate),
            effect, str(line.pairs), f"{line.p_value:.2g}",
        )  # fmt: skip
        rows.append(f"| {' | '.join(map(_plain, cells))} |")
    names = list(dict.fromkeys(line.classifier for line in lines))
    rows += ["", "Rates of each finding, found on one classifier and asked of others:", ""]
    rows += [f"| found on | finding | {' | '.join(map(_plain, names))} |", f"| --- | --- |{' --- |' * len(names)}"]
    for finding in suite.findings:
        own = {line.classifier: line.rate for line in lines if line.finding == finding.finding}
        what = f"{finding.label} → {finding.event or 'any error'}: {finding.description}"
        shares = (finding.classifier, what, *(_share(own.get(name)) for name in names))
        rows.append(f"| {' | '.join(map(_plain, shares))} |")
    return "\n".join(rows) + "\n"


def _plain(cell: str) -> str:
    """A cell that can't end its table, nor begin HTML."""
    return " ".join(cell.split()).replace("|", "\\|").replace("<", "&lt;")


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"


def broken_gates(lines: Sequence[Line], fail_on: Sequence[str], max_rate: float | None) -> list[str]:
    """Which of the bounds that the command gave are broken, a sentence each."""
    said = []
    for status in dict.fromkeys(fail_on):
        count = sum(line.status == status for line in lines)
        if count:
            said.append(f"{count} {'is' if count == 1 else 'are'} {status}")
    if max_rate is not None:
        over = [line for line in lines if line.rate > max_rate]
        if over:
            worst = max(over, key=lambda line: line.rate)
            said.append(
                f"{len(over)} of the rates are over {100 * max_rate:g} %, the largest {100 * worst.rate:.0f} % "
                f"({worst.classifier}, {worst.label}: {worst.description})"
            )
    return said
