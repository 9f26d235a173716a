"""The pages of a report: which there are, where each is, and what of the document each takes."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from mothlight.reports import charts
from mothlight.reports import document as doc
from mothlight.reports.choosing import FULL
from mothlight.reports.pages import (
    AboutPage,
    AskPage,
    BugRow,
    BugsPage,
    Card,
    ChangesPage,
    ClassifierPage,
    ClusterPage,
    HeatRow,
    IndexPage,
    LabelPage,
    LedgerRow,
    MapPage,
    Page,
    Pair,
    Shown,
    TestsPage,
)
from mothlight.reports.pictures import PictureFiles, PicturesInside
from mothlight.reports.reading import confirmed_on, labels_of
from mothlight.reports.verdict import headline_of

ROWS = 200
"""Of a table."""
FEW_ROWS = 20
"""Of a table on the first page."""
HEAT_LABELS = 60
"""Rows of the heat table on the first page: labels with bugs first, then those with the highest rates."""
DETAILS = 200
"""Labels and groups of failures that a single file has sections of."""
Shelf = PictureFiles | PicturesInside
OfLabel = TypeVar("OfLabel", doc.Cell, doc.Confusion, doc.Cluster)
COMMANDS = [
    ("bugs and their findings", "mothlight query AUDIT findings"),
    ("one finding's story", "mothlight explain AUDIT NUMBER"),
    ("how a finding's evidence grew", "mothlight query AUDIT evidence_over_time finding=NUMBER"),
    ("what each finding cost", "mothlight query AUDIT costs"),
    ("which classifiers share a bug", "mothlight query AUDIT shared_bugs"),
    ("classifiers on plain prompts", "mothlight query AUDIT classifier_summary"),
    ("classifier × label", "mothlight query AUDIT rates"),
    ("confusions", "mothlight query AUDIT confusion"),
    ("whose error it was", "mothlight query AUDIT ledger"),
    ("rates with the gate at other bounds", "mothlight query AUDIT gate_sensitivity"),
    ("descriptions that are not confirmed, or wait", "mothlight query AUDIT not_confirmed"),
    ("failures that led to no test", "mothlight query AUDIT not_tested"),
    ("groups of failures", "mothlight query AUDIT worst_clusters"),
    ("labels of which little is known", "mothlight query AUDIT few_judged"),
    ("images by phase", "mothlight query AUDIT budget"),
    ("all of the report as data", "mothlight report AUDIT --json"),
]
"""How each number on the pages can be had again."""


class Site:
    """A report's pages, out of its document and its pictures.

    In a folder each page is a file; in a single file each is a section, and those without room are left out.
    """

    def __init__(self, report: doc.Report, shelf: Shelf, *, single: bool) -> None:
        self.report = report
        self.shelf = shelf
        self.single = single
        self.label_numbers = {label.label: number for number, label in enumerate(report.labels, 1)}
        self.classifier_numbers = {one.classifier: number for number, one in enumerate(report.classifiers, 1)}
        self.cells_of = _by_label(report.cells)
        self.confusions_of = _by_label(report.confusions)
        self.clusters_of = _by_label(report.clusters)
        self.questions_of: dict[str, list[doc.Question]] = {}
        for question in (*report.not_confirmed, *report.waiting):
            for label in question.label.split(", ") if question.origin == "pooled" else [question.label]:
                self.questions_of.setdefault(label, []).append(question)

    @property
    def details(self) -> bool:
        """Whether labels and groups have pages of their own."""
        return not self.single or len(self.report.labels) + len(self.report.clusters) <= DETAILS

    def address(self, kind: str, number: int | None = None) -> str | None:
        """Where a page or a bug is; None: it has no page."""
        if kind == "bug":
            return self._bug_address(number or 0)
        if kind in ("label", "cluster") and not self.details:
            return None
        name = kind if number is None else f"{kind}-{number}"
        return f"#{name}" if self.single else f"{name}.html"

    def label_address(self, label: str) -> str | None:
        """A label's page."""
        return self.address("label", self.label_numbers[label]) if label in self.label_numbers else None

    def classifier_address(self, classifier: str) -> str | None:
        """A classifier's page."""
        number = self.classifier_numbers.get(classifier)
        return None if number is None else self.address("classifier", number)

    def _bug_address(self, number: int) -> str | None:
        if self.single:
            return f"#b{number}" if number <= FULL else None
        page = (number - 1) // FULL + 1
        return f"index.html#b{number}" if page == 1 else f"bugs-{page}.html#b{number}"

    def prepare_pictures(self) -> None:
        """Lay down all pictures; those of the first screen find room first.

        Raises:
            OSError: a file can't be written.
        """
        report = self.report
        first = dict.fromkeys(_pictures_of(report.bugs[:FULL]), True)
        others = [] if self.single else list(_pictures_of(report.bugs[FULL:]))
        others += [point.image_id for point in report.points]
        if self.details:
            others += [image for label in report.labels for image in label.pictures]
            others += [image for cluster in report.clusters for image in cluster.pictures]
        self.shelf.prepare({**first, **dict.fromkeys(others, False), **first})

    def pages(self) -> list[tuple[str, Page]]:
        """Each page with its name."""
        report = self.report
        bugs_pages = range(2, (len(report.bugs) - 1) // FULL + 2) if not self.single else range(0)
        found: list[tuple[str, Page]] = [("index", self._index(bugs_pages))]
        for number in bugs_pages:
            cards = [self._card(bug) for bug in report.bugs[FULL * (number - 1) : FULL * number]]
            found.append((f"bugs-{number}", BugsPage(number, cards)))
        found.append(("tests", self._tests()))
        found += [(f"classifier-{n}", self._classifier(n, one)) for n, one in enumerate(report.classifiers, 1)]
        found.append(("map", self._map()))
        if self.details:
            found += [(f"label-{n}", self._label(n, label)) for n, label in enumerate(report.labels, 1)]
            found += [(f"cluster-{c.number}", ClusterPage(c, self._shown(c.pictures))) for c in report.clusters]
        if report.changes is not None:
            found.append(("changes", ChangesPage()))
        found.append(("ask", AskPage([findings_table(report.bugs), *report.tables])))
        found.append(("about", AboutPage(COMMANDS)))
        return found

    def _index(self, further: Sequence[int]) -> IndexPage:
        report = self.report
        cards = [self._card(bug, hero=bug.number == 1) for bug in report.bugs[:FULL]]
        hero = None
        if report.bugs and (examples := report.bugs[0].examples):
            hero = self._pair(examples[0])
        by_label = {label: {cell.classifier: cell for cell in own} for label, own in self.cells_of.items()}
        worst = sorted(
            by_label,
            key=lambda label: (
                not any(cell.bugs for cell in by_label[label].values()),
                -max(cell.plain.value or 0 for cell in by_label[label].values()),
                self.label_numbers.get(label, 0),
            ),
        )
        names = list(self.classifier_numbers)
        return IndexPage(
            hero=hero,
            rows=[self._row(bug) for bug in report.bugs[:ROWS]],
            cards=cards,
            heat=[
                HeatRow(label, [_heat_cell(by_label[label].get(name)) for name in names])
                for label in worst[:HEAT_LABELS]
            ],
            heat_in_all=len(by_label),
            shared=[bug.number for bug in report.bugs if len(confirmed_on(bug)) > 1],
            ledger=[LedgerRow(one, _ledger_bar(one)) for one in report.classifiers],
            confusions=report.confusions[:FEW_ROWS],
            further=list(further),
        )

    def _row(self, bug: doc.Bug) -> BugRow:
        return BugRow(bug, self._bug_address(bug.number) or "", charts.marks(bug.strongest), confirmed_on(bug))

    def _card(self, bug: doc.Bug, *, hero: bool = False) -> Card:
        return Card(
            bug=bug,
            headline=headline_of(bug),
            # the first screen has the first pair of the first bug
            pairs=[self._pair(example) for example in bug.examples[hero:]],
            marks=[charts.marks(test) for test in bug.classifiers],
            spark=charts.spark(bug.waves),
            labels=labels_of(bug),
        )

    def _pair(self, example: doc.Example) -> Pair:
        return Pair(example, self.shelf.of(example.image_id), self.shelf.of(example.plain_image_id))

    def _shown(self, images: Sequence[str]) -> list[Shown]:
        return [Shown(image, self.shelf.of(image)) for image in images]

    def _label(self, number: int, label: doc.Label) -> LabelPage:
        questions = self.questions_of.get(label.label, [])
        return LabelPage(
            number=number,
            label=label,
            cells=[(cell, charts.share_marks([("plain", cell.plain)])) for cell in self.cells_of.get(label.label, ())],
            confusions=self.confusions_of.get(label.label, [])[:FEW_ROWS],
            bugs=[self._row(self.report.bugs[bug - 1]) for bug in label.bugs],
            questions=questions[:ROWS],
            questions_in_all=len(questions),
            clusters=self.clusters_of.get(label.label, []),
            pictures=self._shown(label.pictures),
        )

    def _classifier(self, number: int, classifier: doc.Classifier) -> ClassifierPage:
        report = self.report
        own = [cell for cell in report.cells if cell.classifier == classifier.classifier]
        worst = sorted(own, key=lambda cell: (-(cell.plain.value or 0), self.label_numbers.get(cell.label, 0)))
        return ClassifierPage(
            number=number,
            classifier=classifier,
            bar=_ledger_bar(classifier),
            cells=worst[:ROWS],
            cells_in_all=len(own),
            confusions=[one for one in report.confusions if one.classifier == classifier.classifier][:FEW_ROWS],
            bugs=[self._row(report.bugs[bug - 1]) for bug in classifier.bugs[:FULL]],
        )

    def _tests(self) -> TestsPage:
        report = self.report
        with_bugs = {label for bug in report.bugs for label in labels_of(bug)}
        tested = {question.label for question in report.not_confirmed if question.origin != "pooled"}
        return TestsPage(
            not_confirmed=report.not_confirmed[:ROWS],
            waiting=report.waiting[:ROWS],
            untested=report.untested[:ROWS],
            sound=[label.label for label in report.labels if label.label in tested - with_bugs],
        )

    def _map(self) -> MapPage:
        points = self.report.points
        return MapPage(
            dots=[
                (dot, point, self.shelf.of(point.image_id))
                for dot, point in zip(charts.dots(points), points, strict=True)
            ],
            tones=charts.tones(points),
            clusters=self.report.clusters,
        )


def _by_label(rows: Sequence[OfLabel]) -> dict[str, list[OfLabel]]:
    own: dict[str, list[OfLabel]] = {}
    for row in rows:
        own.setdefault(row.label, []).append(row)
    return own


def _pictures_of(bugs: Sequence[doc.Bug]) -> Iterator[str]:
    for bug in bugs:
        for pair in bug.examples:
            yield pair.image_id
            yield pair.plain_image_id


def findings_table(bugs: Sequence[doc.Bug]) -> doc.Table:
    """Every test of a bug's descriptions as a row."""
    columns = [
        "bug", "finding", "classifier", "label", "predicted", "description", "status", "rate", "rate_low", "rate_high",
        "n", "plain_rate", "plain_low", "plain_high", "plain_n", "effect", "effect_low", "effect_high", "pairs",
        "e_value", "q_value", "provenance",
    ]  # fmt: skip
    rows: list[list[str | int | float | bool | None]] = [
        [
            bug.number, test.finding, test.classifier, ", ".join(test.labels), test.predicted, test.description,
            test.status, test.described.value, test.described.low, test.described.high, test.described.n,
            test.plain.value, test.plain.low, test.plain.high, test.plain.n, test.effect.value, test.effect.low,
            test.effect.high, test.effect.pairs, test.e_value, test.q_value, test.provenance,
        ]
        for bug in bugs
        for test in (*bug.classifiers, *bug.variants)
    ]  # fmt: skip
    return doc.Table(name="findings", columns=columns, rows=rows, total=len(rows))


def _heat_cell(cell: doc.Cell | None) -> tuple[doc.Cell | None, int]:
    return cell, charts.heat(cell.plain.value if cell else None)


def _ledger_bar(one: doc.Classifier) -> list[charts.Segment]:
    return charts.bar(
        [
            ("pass", one.passes),
            ("failure", one.failures),
            ("miss", one.generator_misses),
            ("ambiguous", one.ambiguous),
            ("doubted", one.label_or_gate),
        ]
    )
