"""Captioned images → what is said of failures more often than of passes → descriptions worth a test.

All images judged so far are looked at, plain and described, of the discovery and of tests: proof takes indices that
nobody has looked at, so nothing is lost. Images of different prompts are compared within their prompt only.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from mothlight.engine.audit.board import Board
from mothlight.engine.audit.describe import Said, content, joined, parted
from mothlight.engine.audit.proof import Mask, Verdicts
from mothlight.engine.audit.waves import leads
from mothlight.engine.records import GENERATED, Cluster, Origin, identify
from mothlight.engine.stats import Floats
from mothlight.sql import Store

WORTH_TESTING = (1.0, 1.5, 2.0)
"""Smallest z of a sentence in the first round, the second, and those after: chance stays, what is real grows."""
WORTH_A_SECOND = 1.8
"""Smallest z of a second sentence among the images of the first: the largest of some twenty by chance is near 2."""
PER_GROUP = 2
"""Single sentences taken from a group of failures."""
EXPLAINED = 0.5
"""A sentence whose images fail at least so often needs no second one beside it."""
TOGETHER = 2
"""Failures of which both sentences must be said."""
PAIRED = 16
"""Sentences of a group that are tried two by two."""
BETTER = 0.5
"""So much larger than that of either must the z of two together be."""
SEPARATE = 3.0
"""z from which on the embedder is taken to see what a sentence says."""
POOLED = 2
"""Descriptions of several labels that a round puts to the test at most: each takes as many images as its labels."""
FEWEST_POOLED, MOST_POOLED = 3, 6
"""Labels of one."""
WORTH_POOLING = 2.5
"""Smallest z over all labels: the largest of some twenty sentences by chance, for three classifiers, is near 2.4."""
LONGEST = 4
"""Sentences of a description, at most."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A description of a label's images, the event to watch, and how well it sets failures apart."""

    score: float
    said: Said
    """Its sentences."""
    event: str
    origin: Origin
    cluster_id: str | None = None
    parent_id: str | None = None
    labels: tuple[str, ...] = ()
    """Of a pooled one: those that it is to be tested on together."""

    @property
    def description(self) -> str:
        """The sentences in the one order that they always have."""
        return joined(self.said)


@dataclass(frozen=True)
class Material:
    """The captioned images (N) of a label that pass the gate, and what each classifier (C) made of them."""

    label: str
    ids: Sequence[str]
    said: Sequence[Said]
    """Of each image: what its caption says, and its prompt."""
    asked: Sequence[str]
    """The description in its prompt; empty for a plain one."""
    predicted: NDArray[np.object_]
    """(N, C)."""
    failed: Mask
    """(N, C)."""
    weights: Floats
    """(N): how many images that pass everywhere each of those that are captioned stands for; 1 for failures."""
    captions: Sequence[str] = ()
    likeness: Mapping[str, Floats] = field(default_factory=dict)
    """How like each image (N) is to a sentence, by the embedder; empty where it reads no text."""

    def subset(self, kept: Mask) -> "Material":
        """Only some of the images."""
        rows = [int(row) for row in np.flatnonzero(kept)]
        return Material(
            self.label,
            [self.ids[row] for row in rows],
            [self.said[row] for row in rows],
            [self.asked[row] for row in rows],
            self.predicted[rows],
            self.failed[rows],
            self.weights[rows],
            [self.captions[row] for row in rows] if self.captions else (),
            {sentence: own[rows] for sentence, own in self.likeness.items()},
        )

    def saying(self, sentences: Said) -> Mask:
        """(N): all of these are said."""
        return np.array([sentences <= own for own in self.said], bool)


def read_material(store: Store, label: str, classifiers: Sequence[str], phases: Sequence[str] = GENERATED) -> Material:
    """What the database holds of a label in some phases; of what is said, only what its prompts ask for."""
    columns = {name: column for column, name in enumerate(classifiers)}
    rows = store.step("material", label=label, phases=list(phases))
    ids = list(dict.fromkeys(row[0] for row in rows))
    place = {image_id: row for row, image_id in enumerate(ids)}
    captions, asked = [""] * len(ids), [""] * len(ids)
    predicted = np.full((len(ids), len(classifiers)), "", dtype=object)
    failed = np.zeros((len(ids), len(classifiers)), bool)
    weights = np.ones(len(ids))
    for image_id, description, text, classifier, answer, wrong, weight in rows:
        row, column = place[image_id], columns[classifier]
        captions[row], asked[row], weights[row] = text, description, weight
        predicted[row, column], failed[row, column] = answer, wrong
    said = [parted(description) for description in asked]
    return Material(label, ids, said, asked, predicted, failed, weights, captions)


def with_said(material: Material, said: Sequence[Said]) -> Material:
    """With what captions say besides."""
    return replace(material, said=[one | more for one, more in zip(material.said, said, strict=True)])


def with_proposals(material: Material, sentences: Iterable[str]) -> Material:
    """With sentences that hold of an image if all words of theirs that say something stand in its caption."""
    words = {sentence: content(sentence) for sentence in sentences}
    captions = [content(caption) for caption in material.captions]
    return with_said(material, [frozenset(one for one, own in words.items() if own <= caption) for caption in captions])


def as_shown(material: Material) -> Material:
    """What each image shows, by its likeness to a sentence, in place of what its caption happens to say.

    Free captions leave out most of what is to be seen. Where the images of which a sentence is said are more like it
    than the others (Welch's z over `SEPARATE`), those that are nearer to the former's mean show it. What a prompt asks
    for is shown whatever the likeness.
    """
    shown: list[set[str]] = [set(parted(asked)) for asked in material.asked]
    for sentence, like in material.likeness.items():
        said = material.saying(frozenset({sentence}))
        if _welch(like[said, None], like[~said, None])[0] > SEPARATE:
            rows = like >= (like[said].mean() + like[~said].mean()) / 2
        else:
            rows = said
        for row in np.flatnonzero(rows).tolist():
            shown[row].add(sentence)
    return replace(material, said=[frozenset(own) for own in shown])


def _welch(one: Floats, other: Floats) -> Floats:
    """(S): the difference of two means of columns (N, S) and (M, S) over its standard error; 0 for fewer than two."""
    if min(len(one), len(other)) < 2:
        return np.zeros(one.shape[1])
    error = np.sqrt(one.var(axis=0, ddof=1) / len(one) + other.var(axis=0, ddof=1) / len(other))
    return np.asarray(np.where(error > 0, (one.mean(axis=0) - other.mean(axis=0)) / np.maximum(error, 1e-12), 0.0))


def contrast(said: Mask, strata: NDArray[np.int64], group: Mask, weights: Floats) -> Floats:
    """(S): z of each sentence (N, S) in a group (N) against controls of some weights (N), within each stratum (N).

    The test of Mantel and Haenszel (1959) with a continuity correction of ½; controls that stand for many count as
    their effective number, (Σw)² / Σw².
    """
    count = int(strata.max(initial=-1)) + 1
    member = np.zeros((count, len(strata)))
    member[strata, np.arange(len(strata))] = 1
    cases, hits = member @ group, member @ (said * group[:, None])
    mass, square = member @ weights, member @ weights**2
    with np.errstate(divide="ignore", invalid="ignore"):
        controls = np.where(square > 0, mass**2 / square, 0.0)
        others = (
            np.where(mass[:, None] > 0, (member @ (said * weights[:, None])) / mass[:, None], 0) * controls[:, None]
        )
        total = (cases + controls)[:, None]
        both = hits + others
        usable = ((cases > 0) & (controls > 0))[:, None] & (total > 1)
        expected = np.where(usable, cases[:, None] * both / total, hits)
        spread = cases[:, None] * controls[:, None] * both * (total - both) / (total**2 * (total - 1))
    variance = np.where(usable, spread, 0).sum(axis=0)
    surplus = (hits - expected).sum(axis=0)
    z: Floats = np.where(variance > 1e-9, (surplus - 0.5) / np.sqrt(np.maximum(variance, 1e-9)), 0.0)
    return z


def unexplained(material: Material, board: Board, verdicts: Verdicts) -> Mask:
    """(N, C): the image says no confirmed description of that classifier and label."""
    left = np.ones(material.failed.shape, bool)
    for row in np.flatnonzero(verdicts.found).tolist():
        hypothesis = board.hypotheses[row]
        if material.label in hypothesis.labels:
            says = material.saying(parted(hypothesis.prompt.description))
            left[np.ix_(says, verdicts.confirmed[row])] = False
    return left


def mine(
    material: Material, board: Board, verdicts: Verdicts, clusters: Iterable[Cluster], smallest: int
) -> list[Candidate]:
    """Descriptions of a label that are new, the best first; those that differ in plain words only are one."""
    known = {
        (content(one.prompt.description), one.event) for one in board.hypotheses if one.labels == (material.label,)
    }
    found: list[Candidate] = []
    bar = WORTH_TESTING[min(board.round, len(WORTH_TESTING) - 1)]
    left = unexplained(material, board, verdicts)
    by_classifier: dict[str, list[Cluster]] = {}
    for cluster in clusters:
        by_classifier.setdefault(cluster.classifier, []).append(cluster)
    for column, name in enumerate(board.classifiers):
        open_ones = material.subset(left[:, column])
        table = _table(open_ones, column)
        found += _of_failures(open_ones, table, bar, by_classifier.get(name, []), smallest)
        found += _longer(material.label, table, board)
    found += _shorter(material.label, board, verdicts)
    found += _both(material, board, verdicts)
    best: list[Candidate] = []
    for one in sorted(found, key=lambda c: (-c.score, len(c.said), -len(c.event), _shuffled(c), c.event)):
        words = content(one.description)
        now = {other.event for other in best if content(other.description) == words}
        before = {event for said, event in known if said == words}  # any error there holds each single one
        if words and not {one.event, ""} & (now | before) and not (now and not one.event):
            best.append(one)
    return best


def _shuffled(candidate: Candidate) -> str:
    """An order that has nothing to do with the alphabet."""
    return identify("order", candidate.description)


@dataclass(frozen=True)
class _Table:
    """What a classifier's images (N) say (S), sentence by sentence, and which of them it failed on."""

    words: Sequence[str]
    """(S): the sentences."""
    said: Mask
    """(N, S)."""
    strata: NDArray[np.int64]
    """(N): each prompt is one."""
    failed: Mask
    """(N)."""
    predicted: NDArray[np.object_]
    """(N)."""
    weights: Floats
    """(N): of controls; 0 for failures."""

    def contrast(self, said: Mask, group: Mask, rows: Mask | slice = slice(None)) -> Floats:
        """Of some columns (N, X), among some of the images; see `contrast`."""
        return contrast(said[rows], self.strata[rows], group[rows], self.weights[rows])

    def often(self, group: Mask) -> NDArray[np.int64]:
        """(S): how many of the group say each sentence."""
        return np.asarray((self.said & group[:, None]).sum(axis=0))


def _table(material: Material, column: int) -> _Table:
    words = sorted(frozenset().union(*material.said)) if material.said else []
    place = {word: at for at, word in enumerate(words)}
    said = np.zeros((len(material.ids), len(words)), bool)
    for row, own in enumerate(material.said):
        said[row, [place[word] for word in own]] = True
    _, strata = np.unique(np.array(material.asked, np.str_), return_inverse=True)
    failed = material.failed[:, column]
    weights = np.where(failed, 0.0, material.weights)
    return _Table(words, said, strata.astype(np.int64), failed, material.predicted[:, column], weights)


def _of_failures(
    material: Material, table: _Table, bar: float, clusters: Sequence[Cluster], smallest: int
) -> Iterator[Candidate]:
    """The best single sentences of each group of failures, and two together where they say more than one."""
    if not table.words or not table.failed.any():
        return
    for event, group, cluster_id in _groups(material, table, clusters, smallest):
        z = np.where(table.often(group) > 0, table.contrast(table.said, group), 0.0)
        if material.likeness:
            z = (z + _likeness(material, table, group)) / np.sqrt(2)
        order = sorted(range(len(table.words)), key=lambda at: (-z[at], table.words[at]))
        best = frozenset({table.words[order[0]]})
        found = [(float(z[at]), frozenset({table.words[at]})) for at in order[:PER_GROUP] if z[at] > bar]
        found += _pair(table, group, z)
        if z[order[0]] > bar:
            found += [((float(z[order[0]]) + score) / 2, best | {word}) for score, word in _second(table, group, best)]
        yield from (Candidate(score, said, event, "failures", cluster_id) for score, said in found)


def _likeness(material: Material, table: _Table, group: Mask) -> Floats:
    """(S): how much more like its plain images of the group are than those that pass, as Welch's z.

    Bias-to-text (Kim and others, CVPR 2024) ranks keywords by the same difference of means.
    """
    plain = np.array([not asked for asked in material.asked], bool)
    own, others = group & plain, (table.weights > 0) & plain
    like = np.stack([material.likeness[word] for word in table.words], axis=1)
    return _welch(like[own], like[others])


def _groups(
    material: Material, table: _Table, clusters: Sequence[Cluster], smallest: int
) -> Iterator[tuple[str, Mask, str | None]]:
    """All failures, those with the same prediction, and the parts into which the embeddings of either fall."""
    whole = {(cluster.predicted, cluster.place): cluster.cluster_id for cluster in clusters}
    yield "", table.failed, whole.get(("", 0))
    for predicted in sorted(set(table.predicted[table.failed].tolist())):
        group = table.failed & (table.predicted == predicted)
        if group.sum() >= smallest:
            yield predicted, group, whole.get((predicted, 0))
    for cluster in clusters:
        if cluster.place:
            members = set(cluster.members)
            group = table.failed & np.array([key in members for key in material.ids], bool)
            if group.sum() >= smallest:
                yield cluster.predicted, group, cluster.cluster_id


def _pair(table: _Table, group: Mask, single: Floats) -> list[tuple[float, Said]]:
    """The two sentences that set the group apart most if said together, if more than either does alone, and their z.

    A rare conjunction: its sentences alone are said of few of the failures more than of passes.
    """
    often = table.often(group)
    some = [at for at in np.argsort(-single, kind="stable").tolist() if often[at] >= TOGETHER][:PAIRED]
    pairs = [pair for pair in combinations(some, 2) if (table.said[:, pair].all(axis=1) & group).sum() >= TOGETHER]
    if not pairs:
        return []
    z = table.contrast(np.stack([table.said[:, pair].all(axis=1) for pair in pairs], axis=1), group)
    best = int(z.argmax())
    if z[best] <= max(WORTH_A_SECOND, single[list(pairs[best])].max() + BETTER):
        return []
    return [(float(z[best]), frozenset(table.words[at] for at in pairs[best]))]


def _second(table: _Table, group: Mask, first: Said) -> list[tuple[float, str]]:
    """The sentence that sets failures apart among images that say all of `first`, if one does, and its z."""
    known = [at for at, word in enumerate(table.words) if word in first]
    own = np.asarray(table.said[:, known].all(axis=1))
    failing, passing = float((group & own).sum()), float(table.weights[own].sum())
    if failing < TOGETHER or failing >= EXPLAINED * (failing + passing):
        return []
    z = np.where(table.often(group & own) >= TOGETHER, table.contrast(table.said, group, own), 0.0)
    z[known] = 0
    at = min(range(len(z)), key=lambda one: (-z[one], table.words[one]))
    return [(float(z[at]), table.words[at])] if z[at] > WORTH_A_SECOND else []


def _longer(label: str, table: _Table, board: Board) -> Iterator[Candidate]:
    """Descriptions under test with a sentence more, where their failures share one."""
    for one in board.hypotheses:
        first = parted(one.prompt.description)
        if one.labels == (label,) and len(first) < LONGEST and first <= set(table.words):
            group = table.failed & ((table.predicted == one.event) | (one.event == ""))
            for score, second in _second(table, group, first):
                yield Candidate(score, first | {second}, one.event, "longer", parent_id=one.hypothesis_id)


def _shorter(label: str, board: Board, verdicts: Verdicts) -> Iterator[Candidate]:
    """Confirmed descriptions with a sentence less: the bug may need only the others."""
    for row in np.flatnonzero(verdicts.found).tolist():
        one = board.hypotheses[row]
        said = parted(one.prompt.description)
        if one.labels == (label,) and len(said) > 1:
            for dropped in sorted(said):
                yield Candidate(one.score, said - {dropped}, one.event, "shorter", parent_id=one.hypothesis_id)


def _both(material: Material, board: Board, verdicts: Verdicts) -> Iterator[Candidate]:
    """Two confirmed descriptions together, the two strongest that a caption ever said together."""
    rows = [row for row in leads(board, verdicts) if board.hypotheses[row].labels == (material.label,)]
    for first, second in combinations(rows, 2):
        one, two = board.hypotheses[first], board.hypotheses[second]
        said = parted(one.prompt.description) | parted(two.prompt.description)
        shared = (verdicts.confirmed[first] & verdicts.confirmed[second]).any()
        same = one.event == two.event or "" in (one.event, two.event)
        if shared and same and len(said) <= LONGEST and material.saying(said).any():
            event = one.event or two.event
            yield Candidate(min(one.score, two.score), said, event, "joined", parent_id=one.hypothesis_id)
            return


@dataclass(frozen=True, slots=True)
class Lean:
    """How much oftener than of a label's passes a sentence is said of a classifier's failures there."""

    column: int
    label: str
    sentence: str
    z: float


def leaning(material: Material, board: Board, verdicts: Verdicts) -> list[Lean]:
    """Of each classifier's failures that nothing confirmed explains, all together, and each sentence."""
    left = unexplained(material, board, verdicts)
    found: list[Lean] = []
    for column in range(len(board.classifiers)):
        table = _table(material.subset(left[:, column]), column)
        if table.words and table.failed.any() and not table.failed.all():
            z = table.contrast(table.said, table.failed)
            found += [Lean(column, material.label, word, float(own)) for word, own in zip(table.words, z, strict=True)]
    return found


def pooled(leans: Iterable[Lean], board: Board) -> list[Candidate]:
    """Sentences that many labels' failures have in common, though none of them much: to be tested on all together.

    The sum of a sentence's z over the labels of whose images it is said, divided by the root of their number
    (Stouffer), must be large, and larger than any label's alone. Tested on are those where it is largest.
    """
    by_sentence: dict[tuple[int, frozenset[str]], list[Lean]] = {}
    for one in leans:
        by_sentence.setdefault((one.column, content(one.sentence)), []).append(one)
    known = {content(one.prompt.description) for one in board.hypotheses if one.others}
    best: dict[frozenset[str], Candidate] = {}
    for (_, words), own in by_sentence.items():
        own.sort(key=lambda one: (-one.z, one.label))
        labels = tuple(sorted(one.label for one in own[:MOST_POOLED] if one.z > 0))
        z = sum(one.z for one in own) / len(own) ** 0.5
        if not words or words in known or len(labels) < FEWEST_POOLED or z <= max(WORTH_POOLING, own[0].z):
            continue
        if words not in best or z > best[words].score:
            best[words] = Candidate(z, frozenset({own[0].sentence}), "", "pooled", labels=labels)
    return sorted(best.values(), key=lambda one: (-one.score, _shuffled(one)))[:POOLED]


def failures_left(material: Material, board: Board, verdicts: Verdicts) -> int:
    """Plain images of which some classifier's failure is explained by nothing confirmed."""
    plain = np.array([not asked for asked in material.asked], bool)
    return int((material.failed & unexplained(material, board, verdicts))[plain].any(axis=1).sum())
