"""What an audit comes to, in one sentence, and what must be read with it."""

from collections.abc import Sequence

from mothlight.reports import document as doc
from mothlight.reports.words import level, listed, percent, points, quoted

FAILED = {
    "image": "Images that could not be made, and stand in no rate",
    "caption": "Images without a caption, which count in every rate and could lead to no description",
    "embedder": "Images that could not be embedded, which count in every rate and are in no group",
    "classifier": "Images on which a classifier failed to say anything, and which count for the others",
}
"""What became of items that failed, by their kind."""
HIGH_OVERALL, HIGH_ON_LABEL = 0.2, 0.5
"""Lower ends of plain failure rates from which they are a finding in themselves: of a classifier, and on a label."""


def verdict_of(
    audit: doc.Audit,
    coverage: doc.Coverage,
    bugs: Sequence[doc.Bug],
    classifiers: Sequence[doc.Classifier],
    labels: Sequence[doc.Label],
    cells: Sequence[doc.Cell],
) -> doc.Verdict:
    """The state, its headline, and the sentences beneath."""
    high = _high_rates(classifiers, cells)
    few = [label for label in labels if label.few and label.gate.count]
    none = [label for label in labels if label.few and not label.gate.count]
    state, headline, said = _state(audit, coverage, bugs, classifiers)
    said += [f"{FAILED[one.kind]}: {one.count:,}." for one in audit.failed]
    if none and coverage.judged.count:
        names = listed([quoted(label.label) for label in none], 6)
        said.append(f"Nothing is known of {names}: none of its images passes the gate.")
    if few:
        names = listed([f"{quoted(one.label)} ({one.gate.count} of {one.gate.n})" for one in few], 6)
        said.append(f"Few images pass the gate, so little is known of {names}.")
    return doc.Verdict(state=state, headline=headline, sentences=said, high_rates=high)


def _high_rates(classifiers: Sequence[doc.Classifier], cells: Sequence[doc.Cell]) -> list[doc.Cell]:
    overall = [
        doc.Cell(label="", classifier=one.classifier, plain=one.plain, bugs=one.bugs)
        for one in classifiers
        if (one.plain.low or 0) >= HIGH_OVERALL
    ]
    on_label = [cell for cell in cells if (cell.plain.low or 0) >= HIGH_ON_LABEL]
    return [*overall, *sorted(on_label, key=lambda cell: (-(cell.plain.low or 0), cell.label, cell.classifier))]


def _state(
    audit: doc.Audit, coverage: doc.Coverage, bugs: Sequence[doc.Bug], classifiers: Sequence[doc.Classifier]
) -> tuple[doc.State, str, list[str]]:
    if bugs:
        return doc.State.BUGS, headline_of(bugs[0]), [_how_many(audit, bugs), _asked(coverage)]
    if why := _untestable(audit, coverage, classifiers):
        return (
            doc.State.NOT_TESTABLE,
            f"This audit says nothing of bugs: {why}",
            [_high(classifiers)] * bool(classifiers),
        )
    if why := _untested(audit, coverage, classifiers):
        return (
            doc.State.NOT_TESTED,
            f"No bug was confirmed, and too little was tested to expect one: {why}",
            ([_asked(coverage), _high(classifiers)] if coverage.tested else [_high(classifiers)]),
        )
    seen = (
        f"With the {coverage.typical_pairs} pairs that a description typically had, an effect of "
        f"{points(coverage.visible)} points or more could have been seen."
    )
    return (
        doc.State.NONE_FOUND,
        "No bug was found by the descriptions that were tested.",
        [
            _asked(coverage),
            seen,
            _high(classifiers),
        ],
    )


def headline_of(bug: doc.Bug) -> str:
    """A bug as a sentence."""
    test = bug.strongest
    what = listed([quoted(label) for label in test.labels], 3, "or")
    said = f"takes {what} for {quoted(test.predicted)}" if test.predicted != "any error" else f"gets {what} wrong"
    rates = f"{percent(test.described.value)}, against {percent(test.plain.value)} without these words"
    return f"{test.classifier} {said} where {quoted(test.description)}: {rates}."


def _how_many(audit: doc.Audit, bugs: Sequence[doc.Bug]) -> str:
    findings = sum(test.status == "confirmed" for bug in bugs for test in (*bug.classifiers, *bug.variants))
    count = "1 bug is" if len(bugs) == 1 else f"{len(bugs):,} bugs are"
    inside = "" if findings == len(bugs) else f" ({findings:,} findings: wordings and classifiers of these)"
    kinds = {test.tested_on for bug in bugs for test in (*bug.classifiers, *bug.variants)}
    apart = " That holds for photographs and for generated images, each by itself." if len(kinds) > 1 else ""
    return (
        f"{count} confirmed{inside}; at most {level(audit.fdr)} of what is confirmed is false on average, "
        f"of findings and of bugs, however long the audit ran.{apart}"
    )


def _asked(coverage: doc.Coverage) -> str:
    waiting = f"; {coverage.waiting:,} still wait" if coverage.waiting else ""
    return (
        f"{coverage.tested:,} of {coverage.known:,} descriptions were tested{waiting}; "
        f"{percent(coverage.judged.value)} of the images pass the gate."
    )


def _high(classifiers: Sequence[doc.Classifier]) -> str:
    rates = [
        f"{one.classifier} {percent(one.plain.value)} "
        f"({percent(one.plain.low)} to {percent(one.plain.high)}, n = {one.plain.n:,})"
        for one in classifiers
        if one.plain.value is not None
    ]
    return f"On plain images that pass the gate, wrong are: {listed(rates, 5)}." if rates else "Nothing was judged."


def _untestable(audit: doc.Audit, coverage: doc.Coverage, classifiers: Sequence[doc.Classifier]) -> str | None:
    """Why no description could be put to a test, whatever the budget; None: one could."""
    failed = {one.kind: one.count for one in audit.failed}
    if not audit.images:
        return f"none of {failed['image']:,} images could be made." if failed.get("image") else None
    if not coverage.judged.count:
        return f"none of its {audit.images:,} images passes the gate. Look at images and gate before anything else."
    judged = [one for one in classifiers if one.plain.n]
    if not judged:
        return "no classifier could judge an image." if audit.finished else None
    if all((one.plain.value or 0) >= 1 - audit.min_effect for one in judged):
        rates = listed([f"{one.classifier} on {percent(one.plain.value)}" for one in judged], 5)
        return (
            f"the classifiers are wrong on nearly every plain image ({rates}), so no description can make them "
            "fail more often. That is a finding in itself: look at labels and preprocessing first."
        )
    if not coverage.known and failed.get("caption") and any(one.plain.count for one in judged) and audit.finished:
        return f"there are failures, and none could be described: {failed['caption']:,} without a caption."
    return None


def _untested(audit: doc.Audit, coverage: doc.Coverage, classifiers: Sequence[doc.Classifier]) -> str | None:
    """Why that nothing was confirmed says little; None: enough was tested."""
    if not audit.images:
        return "nothing was made yet."
    if not coverage.known:
        return _undescribed(classifiers)
    if not coverage.tested:
        when = "the budget ended before the first test" if audit.finished else "none is tested yet"
        return f"{coverage.known:,} descriptions were found, and {when}."
    if 2 * coverage.tested < coverage.known:
        return f"{coverage.tested:,} of {coverage.known:,} descriptions had a test."
    if coverage.visible is None:
        pairs = coverage.typical_pairs or 0
        return f"with {pairs} pairs, as a description typically had, not even the largest effect could be confirmed."
    return None


def _undescribed(classifiers: Sequence[doc.Classifier]) -> str:
    if any(one.plain.count for one in classifiers):
        return "no description was found that sets failures apart."
    most = max((one.plain.high or 0 for one in classifiers), default=0)
    return f"no plain image failed (the rate is at most {percent(most)}), so there was nothing to describe."
