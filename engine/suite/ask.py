"""A suite, asked of classifiers: what they say of its pictures, and what became of each finding."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mothlight.engine.batch import Batch, batches
from mothlight.engine.errors import UserError
from mothlight.engine.executor.pipeline import Pipeline
from mothlight.engine.models.bundle import Bundle, load_bundle
from mothlight.engine.models.engines import choose
from mothlight.engine.records import Chunk, Prompt
from mothlight.engine.stages.classify import Classifier, ClassifyStage
from mothlight.engine.stages.encode import from_jpeg
from mothlight.engine.stages.generate import DrawStage, Pictures
from mothlight.engine.stats import Pairs, mcnemar_exact
from mothlight.engine.suite.kept import Suite, SuiteFinding, SuitePair, load_suite
from mothlight.sql import Store, open_audit

BATCH = 16
SURE = 0.05
"""Two classifiers differ if McNemar's exact test says so at this level."""
Status = Literal["fixed", "remaining", "worse", "new", "unclear"]
STATUSES: tuple[Status, ...] = get_args(Status)


def classify(folder: Path, suite: Suite, bundles: Sequence[Bundle]) -> dict[str, list[str]]:
    """What each classifier says of each picture: image id → predictions, in the order of the bundles.

    Raises:
        UserError: a classifier does not know a label of the suite.
    """
    for bundle in bundles:
        unknown = sorted({image.label for image in suite.images.values()} - set(bundle.manifest.labels))
        if unknown:
            raise UserError(
                f"The classifier {bundle.manifest.name} has no label `{unknown[0]}`, which the suite asks for."
            )
    by_size: dict[tuple[int, int], list[str]] = {}
    for key, image in sorted(suite.images.items()):
        with Image.open(folder / image.file, formats=["JPEG"]) as picture:
            by_size.setdefault((picture.height, picture.width), []).append(key)
    said: dict[str, list[str]] = {}
    known = Prompt(next(iter(suite.images.values())).label, "")  # whose score is not asked for
    engines = choose("auto", ["classifier"])
    try:
        stages = [ClassifyStage(Classifier(bundle, engines), place) for place, bundle in enumerate(bundles)]
        for size, keys in by_size.items():
            files = [folder / suite.images[key].file for key in keys]

            def read(place: int, files: Sequence[Path] = files) -> NDArray[np.uint8]:
                return from_jpeg(files[place].read_bytes())

            source = DrawStage(Pictures(read, size), 1)
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
    change: float
    """By how much its rate is above that of the classifier that it was found on, on the same pictures."""
    change_low: float
    change_high: float
    p_value: float
    """McNemar's exact test of mended and broken."""
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

    def event(pair: SuitePair, answer: str) -> bool:
        return answer not in suite.labels[suite.images[pair.plain].label] and finding.event in ("", answer)

    asked = _Asked(
        before=[event(pair, pair.said) for pair in finding.pairs],
        after=[event(pair, now[pair.described]) for pair in finding.pairs],
        plain=[event(pair, now[pair.plain]) for pair in finding.pairs],
    )
    low, high = _bounds(store, asked.effect)
    if high <= suite.min_effect:
        status: Status = "fixed"
    elif mcnemar_exact(asked.change) < SURE and asked.change.more > asked.change.less:
        status = "worse"
    else:
        status = "remaining" if low > 0 else "unclear"
    return _measured(store, finding, finding.label, name, asked, status)


def _new(store: Store, suite: Suite, name: str, now: Mapping[str, str]) -> Iterator[Line]:
    """Labels whose plain pictures the classifier gets wrong more often than the audited one did."""
    by_label: dict[tuple[str, str], list[tuple[SuiteFinding, SuitePair]]] = {}
    for finding in suite.findings:
        for pair in finding.pairs:
            by_label.setdefault((finding.classifier, suite.images[pair.plain].label), []).append((finding, pair))
    for (_, label), own in by_label.items():
        said = {pair.plain: pair.plain_said for _, pair in own}
        right = suite.labels[label]
        after = [now[key] not in right for key in said]
        asked = _Asked([answer not in right for answer in said.values()], after, after)
        if asked.change.more > asked.change.less and mcnemar_exact(asked.change) < SURE:
            yield _measured(store, own[0][0], label, name, asked, "new")


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


def _measured(store: Store, finding: SuiteFinding, label: str, name: str, asked: _Asked, status: Status) -> Line:
    n, hits = len(asked.after), sum(asked.after)
    ((low, high),) = store.rows("select wilson_low($k, $n), wilson_high($k, $n)", k=hits, n=n)
    effect_low, effect_high = _bounds(store, asked.effect)
    change_low, change_high = _bounds(store, asked.change)
    plain = status == "new"
    return Line(
        finding=None if plain else finding.finding,
        found_on=finding.classifier,
        classifier=name,
        label=label,
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
        change=asked.change.effect,
        change_low=change_low,
        change_high=change_high,
        p_value=mcnemar_exact(asked.change),
        status=status,
    )
