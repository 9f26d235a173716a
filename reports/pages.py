"""What each page of a report shows, ready to be printed by the template of its name."""

from collections.abc import Sequence
from dataclasses import dataclass

from mothlight.reports import charts
from mothlight.reports import document as doc
from mothlight.reports.pictures import Picture


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
    questions_in_all: int
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
