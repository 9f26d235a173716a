"""`mothlight gate calibrate`: truth in, bounds and error out, and the error into the audit's database."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mothlight.engine.config import bundle_path, stored_config
from mothlight.engine.errors import UserError
from mothlight.engine.gate.answers import Sampled, sample
from mothlight.engine.gate.calibrate import (
    Share,
    Truth,
    answered_error,
    bounds_by_answers,
    bounds_by_pictures,
    deceived,
    kept,
    known_error,
)
from mothlight.engine.gate.known import Known, ask
from mothlight.engine.models.bundle import Bundle, Thresholds, load_bundle
from mothlight.engine.models.engines import choose
from mothlight.sql import Store

KINDS = ("plain", "described")


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is known of a gate."""

    truth: Truth
    answered: bool
    """Whether a person looked at a sample; else the pictures' labels were known."""
    errors: Mapping[str, Share]
    """Of an audit, at its own bounds, by kind of prompt; empty without an audit."""
    bounds: Thresholds | None
    """Chosen on the first half; None if none is good enough."""


def by_answers(store: Store, answers: Mapping[str, bool], most: float) -> Calibration:
    """From a person's answers on an audit's images; those are a chance sample of each kind of prompt.

    Raises:
        UserError: there are none.
    """
    if not answers:
        raise UserError("No image has an answer yet: fill the column `shows` with yes or no.")
    asked = [one for one in sample(store) if one.image_id in answers]
    upper = _audit_bounds(store).upper
    errors = {
        kind: answered_error(_answered([one for one in asked if one.kind == kind], answers), upper) for kind in KINDS
    }
    truth = _answered(asked, answers)
    return Calibration(truth, answered=True, errors=errors, bounds=bounds_by_answers(truth.where(~truth.second), most))


def _answered(asked: Sequence[Sampled], answers: Mapping[str, bool]) -> Truth:
    return Truth(
        np.array([one.score for one in asked], np.float64),
        np.array([answers[one.image_id] for one in asked], np.bool_),
        np.arange(len(asked)) % 2 == 1,
    )


def by_pictures(gate: Bundle, pictures: Sequence[Known], labels: Sequence[str], most: float) -> Calibration:
    """From pictures whose label is known.

    Raises:
        UserError: the gate does not know a label, or a file is no picture.
    """
    engines = choose("auto", ["gate"])
    try:
        truth = ask(gate, pictures, labels, engines)
    finally:
        engines.close()
    return Calibration(truth, answered=False, errors={}, bounds=bounds_by_pictures(truth.where(~truth.second), most))


def of_audit(store: Store, calibration: Calibration) -> Calibration:
    """What known pictures say of an audit: its gate's error, from how many of its images pass."""
    upper = _audit_bounds(store).upper
    judged = sample(store)
    errors = {}
    for kind in KINDS:
        own = [one.passed for one in judged if one.kind == kind]
        errors[kind] = known_error(calibration.truth, upper, sum(own), len(own))
    return Calibration(calibration.truth, calibration.answered, errors, calibration.bounds)


def gate_of(store: Store) -> tuple[Bundle, list[str]]:
    """An audit's gate and labels.

    Raises:
        UserError: the bundle is not there any more, or is another one.
    """
    ((text, folder),) = store.rows("select settings, folder from audit")
    config = stored_config(text)
    bundle = load_bundle(bundle_path(config.gate, Path(folder)))
    ((key,),) = store.rows("select content_key from model where role = 'gate'")
    if bundle.manifest.content_key != key:
        raise UserError(f"The gate {bundle.folder} is another one than the audit's.")
    return bundle, [label.name for label in config.labels]


def save(store: Store, calibration: Calibration) -> None:
    """Write the gate's error into the audit's database; that of an earlier calibration goes."""
    rows = [
        {
            "kind": kind,
            "source": "answers" if calibration.answered else "known pictures",
            "n": error.n,
            "wrong": error.wrong,
            "rate": error.rate,
            "low": error.low,
            "high": error.high,
        }
        for kind, error in calibration.errors.items()
    ]
    with store.transaction():
        store.rows("delete from gate_error")
        store.append("gate_error", rows)


def told(store: Store | None, calibration: Calibration) -> Iterator[str]:
    """What a person is told, line by line."""
    truth = calibration.truth
    if store is not None:
        upper = _audit_bounds(store).upper
        yield f"An image passes this audit's gate from a score of {upper:g} on."
        if not calibration.answered:
            yield from _of_pictures(truth, upper)
            yield "If it judges the generator's images as it judges those pictures, then of the audit's images:"
        for kind, error in calibration.errors.items():
            yield f"{kind}: {_of_passing(error, counted=calibration.answered)}"
        yield "Every interval is widened by the upper ends from now on; `mothlight report` writes the page anew."
        doubted = store.rows("select finding from findings where gate_could_explain and finding is not null order by 1")
        if doubted:
            yield f"Findings that the gate's error alone could make up: {', '.join(str(one) for (one,) in doubted)}."
    bounds, rest = calibration.bounds, truth.where(truth.second)
    if bounds is None:
        yield "No bound is good enough for another audit: more images of known truth, a larger --most, or another gate."
        return
    yield "For another audit with this gate, chosen on one half of the images and measured on the other:"
    yield f"gate_bounds = {{ lower = {bounds.lower:g}, upper = {bounds.upper:g} }}"
    if calibration.answered:
        yield _of_passing(answered_error(rest, bounds.upper), counted=True)
    else:
        yield from _of_pictures(rest, bounds.upper)


def _of_passing(error: Share, *, counted: bool) -> str:
    of = f"of {error.n} images that pass {error.wrong}" if counted else "of the images that pass"
    verb = "does" if counted and error.wrong == 1 else "do"
    shares = f"{_percent(error.rate)} ({_percent(error.low)} to {_percent(error.high)})"
    if counted:
        return f"{of} {verb} not show their label: {shares}."
    return f"{of} {shares} do not show their label."


def _of_pictures(truth: Truth, upper: float) -> Iterator[str]:
    for share, whose in ((deceived(truth, upper), "another label"), (kept(truth, upper), "the label asked for")):
        yield (
            f"of {share.n} pictures of {whose} {share.wrong} pass: "
            f"{_percent(share.rate)} ({_percent(share.low)} to {_percent(share.high)})."
        )


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _audit_bounds(store: Store) -> Thresholds:
    ((lower, upper),) = store.rows("select gate_lower, gate_upper from audit")
    return Thresholds(lower=lower, upper=upper)
