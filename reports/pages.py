"""The pages of a report: which there are, and what each shows, ready to be printed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mothlight.reports import charts
from mothlight.reports import document as doc
from mothlight.reports.choosing import FULL
from mothlight.reports.pictures import Picture, PictureFiles, PicturesInside
from mothlight.reports.reading import confirmed_on, labels_of
from mothlight.reports.verdict import headline_of

CARDS = FULL
"""Bugs that a page shows in full."""
ROWS = 200
"""Of a table."""
FEW_ROWS = 20
"""Of a table on the first page."""
HEAT_LABELS = 60
"""Rows of the heat table on the first page: labels with bugs first, then those with the highest rates."""
Shelf = PictureFiles | PicturesInside


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pictures of the same noise."""

    example: doc.Example
    described: Picture | None
    plain: Picture | None


@dataclass(frozen=True, slots=True)
class BugRow:
    """A bug as a row of the plot of all."""

    bug: doc.Bug
    address: str
    marks: Sequence[charts.Mark]
    classifiers: Sequence[str]


@dataclass(frozen=True, slots=True)
class Card:
    """A bug in full."""

    bug: doc.Bug
    headline: str
    pairs: Sequence[Pair]
    marks: Sequence[Sequence[charts.Mark]]
    """Of each classifier."""
    spark: charts.Spark | None
    labels: Sequence[str]


@dataclass(frozen=True, slots=True)
class HeatRow:
    """A label and each classifier's plain rate on it."""

    label: str
    cells: Sequence[tuple[doc.Cell | None, int]]


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """Whose error each image of a classifier was."""

    classifier: doc.Classifier
    bar: Sequence[charts.Segment]


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture and the image it is of."""

    image_id: str
    picture: Picture | None


@dataclass(frozen=True, slots=True)
class IndexPage:
    """The first page."""

    hero: Pair | None
    rows: Sequence[BugRow]
    cards: Sequence[Card]
    heat: Sequence[HeatRow]
    heat_in_all: int
    shared: Sequence[int]
    """Bugs of several classifiers."""
    ledger: Sequence[LedgerRow]
    confusions: Sequence[doc.Confusion]
    further: Sequence[int]
    """Numbers of the pages with the other bugs."""


@dataclass(frozen=True, slots=True)
class BugsPage:
    """Bugs that the first page has no room for."""

    number: int
    cards: Sequence[Card]


@dataclass(frozen=True, slots=True)
class LabelPage:
    """All of a label."""

    number: int
    label: doc.Label
    cells: Sequence[tuple[doc.Cell, Sequence[charts.Mark]]]
    confusions: Sequence[doc.Confusion]
    bugs: Sequence[BugRow]
    questions: Sequence[doc.Question]
    clusters: Sequence[doc.Cluster]
    pictures: Sequence[Shown]


@dataclass(frozen=True, slots=True)
class ClassifierPage:
    """All of a classifier."""

    number: int
    classifier: doc.Classifier
    bar: Sequence[charts.Segment]
    cells: Sequence[doc.Cell]
    cells_in_all: int
    confusions: Sequence[doc.Confusion]
    bugs: Sequence[BugRow]


@dataclass(frozen=True, slots=True)
class ClusterPage:
    """A group of failures."""

    cluster: doc.Cluster
    pictures: Sequence[Shown]


@dataclass(frozen=True, slots=True)
class TestsPage:
    """What was tested and not confirmed, what waits, and what led to no test."""

    not_confirmed: Sequence[doc.Question]
    waiting: Sequence[doc.Question]
    untested: Sequence[doc.Untested]
    sound: Sequence[str]
    """Labels of which descriptions were tested and none confirmed."""


@dataclass(frozen=True, slots=True)
class MapPage:
    """Failures by their embeddings, and the groups that they fall into."""

    dots: Sequence[tuple[charts.Dot, doc.Point, Picture | None]]
    tones: Sequence[str]
    """The labels with a colour of their own."""
    clusters: Sequence[doc.Cluster]


@dataclass(frozen=True, slots=True)
class ChangesPage:
    """This audit held against another."""


@dataclass(frozen=True, slots=True)
class AskPage:
    """SQL over findings, counts and failures."""

    tables: Sequence[doc.Table]


@dataclass(frozen=True, slots=True)
class AboutPage:
    """Method, settings, models, runs, and how to get each number again."""

    names: Sequence[tuple[str, str]]
    """What stands on a page, and the command that prints it."""


Page = (
    IndexPage
    | BugsPage
    | LabelPage
    | ClassifierPage
    | ClusterPage
    | TestsPage
    | ChangesPage
    | MapPage
    | AskPage
    | AboutPage
)


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
        self.questions_of: dict[str, list[doc.Question]] = {}
        for question in (*report.not_confirmed, *report.waiting):
            for label in question.label.split(", ") if question.origin == "pooled" else [question.label]:
                self.questions_of.setdefault(label, []).append(question)

    @property
    def details(self) -> bool:
        """Whether labels and groups have pages of their own."""
        return not self.single or len(self.report.labels) + len(self.report.clusters) <= ROWS

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
            return f"#b{number}" if number <= CARDS else None
        page = (number - 1) // CARDS + 1
        return f"index.html#b{number}" if page == 1 else f"bugs-{page}.html#b{number}"

    def prepare_pictures(self) -> None:
        """Lay down all pictures; those of the first screen find room first.

        Raises:
            OSError: a file can't be written.
        """
        report = self.report
        first = dict.fromkeys(_pictures_of(report.bugs[:CARDS]), True)
        others = [] if self.single else list(_pictures_of(report.bugs[CARDS:]))
        others += [point.image_id for point in report.points]
        if self.details:
            others += [image for label in report.labels for image in label.pictures]
            others += [image for cluster in report.clusters for image in cluster.pictures]
        self.shelf.prepare({**first, **dict.fromkeys(others, False), **first})

    def pages(self) -> list[tuple[str, Page]]:
        """Each page with its name."""
        report = self.report
        bugs_pages = range(2, (len(report.bugs) - 1) // CARDS + 2) if not self.single else range(0)
        found: list[tuple[str, Page]] = [("index", self._index(bugs_pages))]
        for number in bugs_pages:
            cards = [self._card(bug) for bug in report.bugs[CARDS * (number - 1) : CARDS * number]]
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
        cards = [self._card(bug, hero=bug.number == 1) for bug in report.bugs[:CARDS]]
        hero = None
        if report.bugs and (examples := report.bugs[0].examples):
            hero = self._pair(examples[0])
        by_label: dict[str, dict[str, doc.Cell]] = {}
        for cell in report.cells:
            by_label.setdefault(cell.label, {})[cell.classifier] = cell
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
        report = self.report
        own = [cell for cell in report.cells if cell.label == label.label]
        return LabelPage(
            number=number,
            label=label,
            cells=[(cell, charts.share_marks([("plain", cell.plain)])) for cell in own],
            confusions=[one for one in report.confusions if one.label == label.label][:FEW_ROWS],
            bugs=[self._row(report.bugs[bug - 1]) for bug in label.bugs],
            questions=self.questions_of.get(label.label, [])[:ROWS],
            clusters=[one for one in report.clusters if one.label == label.label],
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
            bugs=[self._row(report.bugs[bug - 1]) for bug in classifier.bugs[:ROWS]],
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
        ]
    )


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
