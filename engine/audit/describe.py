"""Captions → sentences that set failures apart from passes → hypotheses."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log, sqrt

from mothlight.engine.config import AuditConfig, LabelConfig
from mothlight.engine.records import Cluster, Hypothesis
from mothlight.sql import Store

WORTH_TESTING = 1.0
"""Smallest z of a sentence."""
WORTH_A_PAIR = 1.8
"""Smallest z of a second sentence among the images of the first: the largest of some twenty by chance is near 2."""
PER_CLUSTER = 2
"""Single sentences taken from a cluster."""
EXPLAINED = 0.5
"""A sentence whose images fail at least so often needs no second one beside it."""
TOGETHER = 2
"""Captions of the cluster in which a pair of sentences must both stand."""

PASSES = """
    select classifier, label, text
    from outcome join caption using (image_id)
    where wave = 0 and verdict = 'pass'
    order by classifier, label, index
"""
Said = frozenset[str]
"""The sentences of one caption."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Sentences to add to a label's prompt, the event to watch, and how well they set the failures apart."""

    score: float
    description: str
    event: str
    cluster_id: str


def sentences(caption: str, labels: Iterable[str]) -> Said:
    """The sentences of a caption that name none of the labels: those describe, the others only name."""
    names = re.compile(rf"\b({'|'.join(re.escape(label) for label in labels)})(s|es)?\b", re.IGNORECASE)
    parts = (part.strip() for part in re.split(r"(?<=[.!?])\s+", re.sub(r"\s+([.,!?])", r"\1", caption)))
    return frozenset(part if part[-1] in ".!?" else f"{part}." for part in parts if part and not names.search(part))


def contrast(in_group: int, group: int, in_passes: int, passes: int) -> float:
    """z-scored log odds of a sentence among a group against the passes, smoothed by ½."""
    a, b = in_group + 0.5, in_passes + 0.5
    c, d = group - in_group + 0.5, passes - in_passes + 0.5
    return log(a * d / (b * c)) / sqrt(1 / a + 1 / b + 1 / c + 1 / d)


def candidates(cluster: Cluster, group: Sequence[Said], passes: Sequence[Said]) -> Iterator[Candidate]:
    """The best single sentences of a cluster, and the best two together where one alone leaves much unexplained."""
    ranked = sorted(
        ((_contrast(sentence, group, passes), sentence) for sentence in frozenset().union(*group)),
        key=lambda scored: (-scored[0], scored[1]),
    )
    for score, sentence in ranked[:PER_CLUSTER]:
        if score > WORTH_TESTING:
            yield Candidate(score, sentence, cluster.predicted, cluster.cluster_id)
    if ranked and ranked[0][0] > WORTH_TESTING:
        yield from _pair(cluster, ranked[0], group, passes)


def _pair(
    cluster: Cluster, best: tuple[float, str], group: Sequence[Said], passes: Sequence[Said]
) -> Iterator[Candidate]:
    score, first = best
    failing, passing = ([said for said in side if first in said] for side in (group, passes))
    if len(failing) >= EXPLAINED * (len(failing) + len(passing)):
        return
    others = sorted(
        (-_contrast(sentence, failing, passing), sentence) for sentence in frozenset().union(*failing) - {first}
    )
    for negative, second in others[:1]:
        if -negative > WORTH_A_PAIR and sum(second in said for said in failing) >= TOGETHER:
            both = " ".join(sorted((first, second)))
            yield Candidate(score - negative / 2, both, cluster.predicted, cluster.cluster_id)


def _contrast(sentence: str, group: Sequence[Said], passes: Sequence[Said]) -> float:
    return contrast(
        sum(sentence in said for said in group), len(group), sum(sentence in said for said in passes), len(passes)
    )


def describe(store: Store, config: AuditConfig, clusters: Iterable[Cluster]) -> list[Hypothesis]:
    """The best descriptions of each label's clusters, at most `max_hypotheses_per_label`, ranked."""
    names = [label.name for label in config.labels]
    captions = {image_id: sentences(text, names) for image_id, text in store.rows("select image_id, text from caption")}
    passes: dict[tuple[str, str], list[Said]] = {}
    for classifier, label, text in store.rows(PASSES):
        passes.setdefault((classifier, label), []).append(sentences(text, names))
    best: dict[str, dict[tuple[str, str], Candidate]] = {name: {} for name in names}
    for cluster in clusters:
        group = [captions[image_id] for image_id in cluster.members if image_id in captions]
        for candidate in candidates(cluster, group, passes.get((cluster.classifier, cluster.label), [])):
            known = best[cluster.label]
            key = (candidate.description, candidate.event)
            if key not in known or candidate.score > known[key].score:
                known[key] = candidate
    return [hypothesis for label in config.labels for hypothesis in _ranked(config, label, best[label.name])]


def _ranked(
    config: AuditConfig, label: LabelConfig, found: Mapping[tuple[str, str], Candidate]
) -> Iterator[Hypothesis]:
    ranked = sorted(found.values(), key=lambda c: (-c.score, c.description, c.event))
    for place, candidate in enumerate(ranked[: config.max_hypotheses_per_label]):
        prompt = config.plain_prompt(label, candidate.description)
        yield Hypothesis(prompt, candidate.event, place, candidate.score, candidate.cluster_id)
