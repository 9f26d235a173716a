"""What a suite's run says: for a machine, for people, and against the bounds of a command."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from mothlight.engine.suite.ask import STATUSES, Line
from mothlight.engine.suite.kept import Suite


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
