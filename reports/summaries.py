"""A report for other readers than a browser: JSON, Markdown for a pull request, a model card's section, JUnit's XML."""

import json
import re
from functools import cache

from jinja2 import Environment

from mothlight.engine.errors import UserError
from mothlight.reports import document as doc
from mothlight.reports.reading import confirmed_on
from mothlight.reports.rendering import environment_of
from mothlight.reports.verdict import headline_of
from mothlight.reports.words import visible

SHOWN = 20
"""Bugs in a summary."""
NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_json(report: doc.Report) -> str:
    """The whole document; `report.schema.json` describes it."""
    return report.model_dump_json(indent=1)


def schema() -> str:
    """The JSON Schema of the document."""
    return json.dumps(doc.Report.model_json_schema(mode="serialization"), indent=1, ensure_ascii=False) + "\n"


def as_markdown(report: doc.Report) -> str:
    """The verdict and the bugs, to paste into a pull request."""
    return _markdown().get_template("summary.md").render(report=report, bugs=report.bugs[:SHOWN])


def as_model_card(report: doc.Report, classifier: str) -> str:
    """The section of a model card on what makes one classifier fail, with its figures as the card's metadata has them.

    Raises:
        UserError: the audit has no classifier of that name.
    """
    found = [one for one in report.classifiers if one.classifier == classifier]
    if not found:
        known = ", ".join(one.classifier for one in report.classifiers) or "none that judged an image"
        raise UserError(f"The audit has no classifier `{classifier}`; it has {known}.")
    own = [
        test
        for bug in report.bugs
        if classifier in confirmed_on(bug)
        for test in [
            min(
                (one for one in (*bug.classifiers, *bug.variants) if one.classifier == classifier and one.finding),
                key=lambda one: (one.hypothesis_id != bug.strongest.hypothesis_id, one.finding or 0),
            )
        ]
    ]
    return _markdown().get_template("model_card.md").render(report=report, one=found[0], tests=own)


def as_junit(report: doc.Report) -> str:
    """A test case for each description, on the classifier where it does most; a bug fails, what waits is skipped."""
    environment = environment_of(lambda text: NOT_XML.sub("�", text))
    return environment.get_template("junit.xml").render(report=report, headline=headline_of)


@cache
def _markdown() -> Environment:
    environment = environment_of(str, escaped=False)
    environment.filters |= {"plain": plain, "headline": headline_of, "on": confirmed_on}
    return environment


def plain(text: object) -> str:
    """What somebody else wrote, as Markdown that shows it letter by letter, on one line."""
    line = " ".join(visible(text).split())
    return re.sub(r"([\\`*_{}\[\]#!|~$@])", r"\\\1", line.replace("&", "&amp;").replace("<", "&lt;"))
