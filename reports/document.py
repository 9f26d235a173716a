"""What a report says, as data: the page is a rendering of it, and `mothlight report --json` prints it.

Rates, effects and interval ends are proportions from 0 to 1 (an effect from -1 to 1); intervals are at 95 %. Pictures
are named by the id of their image. `Report.model_json_schema()` is the schema, in `reports/report.schema.json`.
"""

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict

SCHEMA = 1
"""Counts up when a field of the document changes its meaning or goes."""


class Part(BaseModel):
    """A part of the document."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Share(Part):
    """A share of images, with its interval; without images there is none."""

    n: int
    count: int
    value: float | None
    low: float | None
    high: float | None


class Effect(Part):
    """By how much a rate is higher with a description than without it, over pairs of the same noise."""

    pairs: int
    value: float | None
    low: float | None
    high: float | None


class Twin(Part):
    """The same description and event on the same classifier, tested on the other kind of image."""

    status: str
    described: Share
    plain: Share
    effect: Effect


class Test(Part):
    """A description, tested on a classifier."""

    finding: int | None
    """Its number, if it is confirmed: `mothlight explain AUDIT NUMBER`."""
    classifier: str
    labels: list[str]
    predicted: str
    """The prediction that counts, or `any error`."""
    description: str
    prompt: str
    status: str
    reason: str
    described: Share
    """Images of the prompt with the description."""
    plain: Share
    """Images of the prompt without it, on the same noise."""
    effect: Effect
    more: int
    """Pairs with the event under the description only."""
    less: int
    """Pairs with the event under the plain prompt only."""
    mcnemar_p: float
    e_value: float
    q_value: float
    provenance: Literal["reserve", "test waves", "photographs"]
    """Which pairs the numbers come from: the reserve had no part in the confirmation."""
    tested_on: Literal["generated", "photographs"]
    twin: Twin | None
    pair_pass_rate: float | None
    """Share of the pairs whose images both pass the gate."""
    gate_pass_rate: float | None
    rate_without_gate: float | None
    plain_rate_without_gate: float | None
    wrong_rate: float | None
    """Of the described images that pass the gate, those outside of the label's accepted set, whatever is seen."""
    plain_wrong_rate: float | None
    strict_rate: float | None
    """The same, where every prediction but the label itself counts."""
    plain_strict_rate: float | None
    gate_limited: bool
    gate_could_explain: bool
    origin: str
    round: int
    hypothesis_id: str


class Wave(Part):
    """Evidence after a wave of tests, over all its waves so far."""

    wave: int
    pairs: int
    e_value: float
    low: float | None
    high: float | None


class Example(Part):
    """Two images of the same noise."""

    index: int
    image_id: str
    predicted: str
    plain_image_id: str
    plain_predicted: str
    flips: bool
    """Whether the event happens under the description and not without it."""


class Control(Part):
    """An unrelated description that was tested on the same classifier."""

    description: str
    effect: Effect


class Bug(Part):
    """Confirmed findings that are wordings, additions or classifiers of one."""

    number: int
    """Its place, the surest effect first; `#b1` on the page."""
    strongest: Test
    """The broadest strong description stands for the bug, on the classifier where it does most."""
    classifiers: list[Test]
    """What the same description does on each classifier, confirmed or not."""
    variants: list[Test]
    """Other confirmed findings of the bug."""
    waves: list[Wave]
    examples: list[Example]
    control: Control | None
    not_drawn: bool
    """By the embedder its images do not show the description."""
    images: int
    """What it cost: images of its prompts, the plain ones that they were paired with included."""
    cluster: int | None
    """The number of the group of failures that it came from."""
    captions: list[str]
    """What the captioner says of some of these."""


class Classifier(Part):
    """How a classifier does on plain prompts (discovery), and whose error each of its images was."""

    classifier: str
    plain: Share
    strict_rate: float | None
    findings: int
    bugs: list[int]
    images: int
    passes: int
    failures: int
    generator_misses: int
    ambiguous: int
    label_or_gate: int
    """Photographs that the gate doubts: their label is wrong, or the gate is."""


class Cell(Part):
    """A classifier on a label's plain prompt (discovery)."""

    label: str
    classifier: str
    plain: Share
    bugs: list[int]


class Label(Part):
    """A label under audit."""

    label: str
    prompt: str
    accepted: list[str]
    gate: Share
    """Of the images of its plain prompt, those that pass the gate."""
    few: bool
    """Whether so few pass that little is known of it."""
    bugs: list[int]
    pictures: list[str]
    """Some plain images that a classifier fails on."""


class Confusion(Part):
    """What a classifier says instead of a label, on plain prompts."""

    classifier: str
    label: str
    predicted: str
    rate: Share


class Question(Part):
    """A description that is not confirmed, with the classifier on which it does most."""

    label: str
    description: str
    predicted: str
    classifier: str | None
    effect: Effect | None
    e_value: float | None
    origin: str
    round: int
    reason: str
    not_drawn: bool
    hypothesis_id: str


class Untested(Part):
    """Failures on plain prompts of which no description was put to the test."""

    classifier: str
    label: str
    predicted: str
    failures: int
    reason: str


class Cluster(Part):
    """A group of failures on plain prompts."""

    number: int
    cluster_id: str
    round: int
    classifier: str
    label: str
    predicted: str
    """What the classifier says, or `any error`."""
    part: int
    """0: all of these failures; from 1 on: a part by embedding."""
    failures: int
    descriptions: list[str]
    captions: list[str]
    pictures: list[str]
    bugs: list[int]


class Point(Part):
    """A failure on the map: the two directions in which the mean embeddings of labels' failures differ most."""

    image_id: str
    label: str
    classifier: str
    predicted: str
    cluster: int | None
    x: float
    y: float


class FailedItems(Part):
    """How many images one kind of model could say nothing of."""

    kind: str
    count: int


class Model(Part):
    """A bundle that took part."""

    role: str
    name: str
    source: str
    worst_difference: float | None
    tolerance: float | None
    content_key: str


class Run(Part):
    """One time that the audit ran."""

    run: int
    version: str
    started_at: datetime
    seconds: float | None
    """None: it was cut off, or goes on."""
    max_images: int
    batch: int
    threads: int
    machine: str


class Phase(Part):
    """How many images a phase made."""

    phase: str
    images: int


class GateError(Part):
    """Of the images that pass the gate, the share that does not show its label."""

    kind: str
    rate: float
    low: float
    high: float
    source: str


class Photographs(Part):
    """Pictures that people took, and whether they are used."""

    discovery: int
    """In the half that is looked at for descriptions."""
    proof: int
    """In the half that tests them."""
    set_aside: int
    doubted: int
    """By the gate; in no rate."""


class Audit(Part):
    """What was audited, how, and when."""

    name: str
    audit_id: str
    seed: int
    generator: str
    steps: int | None
    finished: bool
    ended: str | None
    images: int
    phases: list[Phase]
    failed: list[FailedItems]
    discovery_images: int
    min_group: int
    min_effect: float
    fdr: float
    photographs: Photographs | None
    tests: list[int]
    """How many each round put to the test."""
    gate_errors: list[GateError]
    models: list[Model]
    runs: list[Run]


class State(StrEnum):
    """What an audit comes to."""

    BUGS = "bugs confirmed"
    NONE_FOUND = "none found, tested enough"
    NOT_TESTED = "not tested"
    NOT_TESTABLE = "not testable"


class Visible(Part):
    """The smallest effect that a number of pairs could confirm as the first finding; None: not even the largest."""

    pairs: int
    effect: float | None


class Coverage(Part):
    """How much of what could be asked was asked."""

    known: int
    """Descriptions."""
    tested: int
    waiting: int
    judged: Share
    """Of all images, those that pass the gate."""
    typical_pairs: int | None
    """Of the descriptions that were tested and not confirmed, the median one's."""
    visible: float | None
    """The smallest effect that this many pairs could confirm; None: none."""


class Verdict(Part):
    """The report in one sentence, and those that must be read with it."""

    state: State
    headline: str
    sentences: list[str]
    high_rates: list[Cell]
    """Plain failure rates that are a finding in themselves; label empty: over all labels."""


class Table(Part):
    """Rows to ask SQL of, in the page."""

    name: str
    columns: list[str]
    rows: list[list[str | int | float | bool | None]]
    total: int
    """How many there are in the database, of which these are the first."""


class Estimate(Part):
    """A rate or an effect, with its interval, over n images or pairs."""

    value: float
    low: float | None
    high: float | None
    n: int


class Change(Part):
    """What became of a finding, or of a label's plain rate."""

    kind: str
    """new, worse, unchanged, fixed, unclear, not asked before, not asked again, better; of a suite's run its status."""
    what: Literal["effect", "plain rate", "rate"]
    label: str
    description: str
    predicted: str
    classifier: str
    now: Estimate | None
    before: Estimate | None
    difference: Estimate | None
    """Now less before; n is that of now."""


class Changes(Part):
    """This audit, or a suite's run, held against an earlier one."""

    of: str
    against: str
    rows: list[Change]


class Report(Part):
    """The whole document."""

    schema_version: int
    audit: Audit
    verdict: Verdict
    coverage: Coverage
    bugs: list[Bug]
    classifiers: list[Classifier]
    labels: list[Label]
    cells: list[Cell]
    confusions: list[Confusion]
    """The most frequent."""
    confusions_in_all: int
    not_confirmed: list[Question]
    """Tested, and not confirmed."""
    waiting: list[Question]
    """Not tested yet."""
    untested: list[Untested]
    clusters: list[Cluster]
    clusters_in_all: int
    points: list[Point]
    failures_in_all: int
    """Failures on plain prompts that lie in a group, of which the map has some."""
    visible: list[Visible]
    tables: list[Table]
    changes: Changes | None = None
    """Against another audit, if one was named."""
