"""What simpler ways find of the bugs of a planted set, with the budget of an audit that has run on it.

They start from the audit's own first look (its captions, predictions and embeddings of wave 0) and ask the renderer and
the classifiers themselves. There is no gate: the renderer always shows its label. All but the unconfirmed ones test
with the audit's own waves, e-values and weighted e-BH, but in one round.

- *confusion*: failures of a label with the same prediction, and the sentence that is said of them oftener than of all.
- *clusters, unconfirmed*: k-means on the failures' embeddings, the same sentence, and no test at all.
- *random*: six sentences of each label by chance. *enumeration*: each sentence of the grammar.
- *fixed size*: the descriptions of the audit's own first round, each with the same number of pairs, a one-sided z-test
  against the smallest effect, and Benjamini and Hochberg's procedure.
"""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import erfc, sqrt
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from mothlight.engine.audit.board import Board
from mothlight.engine.audit.describe import parted
from mothlight.engine.audit.discover import split
from mothlight.engine.audit.proof import judge
from mothlight.engine.audit.waves import another_round, first_look, next_test, planned_images
from mothlight.engine.config import AuditConfig, stored_config
from mothlight.engine.records import Hypothesis, Plan, Prompt
from mothlight.engine.stats import round_share
from mothlight.engine.world.render import Renderer
from mothlight.engine.world.scene import LABELS, SENTENCES
from mothlight.sql import Store, open_audit

NAMES = list(LABELS)
TRUE_SEED, TRUE_PAIRS = 90_001, 400
ROUNDS = 6
"""Doublings of the patience: there are no new descriptions, and hope for the old ones ends."""
SMALLEST = 3
"""Failures of a group."""
Events = NDArray[np.bool_]


@dataclass(frozen=True)
class Found:
    """What a way reports as a bug: a classifier's, a label's, under a description, an event."""

    classifier: str
    label: str
    description: str
    event: str


class World:
    """The renderer and some classifiers; every image is made once."""

    def __init__(self, models: Mapping[str, Path], seed: int) -> None:
        self.renderer = Renderer(seed)
        self.sessions = {name: onnxruntime.InferenceSession(str(path)) for name, path in models.items()}
        self.made: dict[tuple[str, str], dict[int, NDArray[np.int64]]] = {}
        """(label, text) → index → (C) predictions."""

    def said(self, prompt: Prompt, indices: range) -> NDArray[np.int64]:
        """(len(indices), C): what each classifier says, as a place among the labels."""
        own = self.made.setdefault((prompt.label, prompt.text), {})
        missing = [index for index in indices if index not in own]
        for start in range(0, len(missing), 100):
            part = missing[start : start + 100]
            own |= dict(zip(part, self._ask(prompt, part), strict=True))
        return np.stack([own[index] for index in indices])

    def _ask(self, prompt: Prompt, indices: Sequence[int]) -> NDArray[np.int64]:
        pixels = (self.renderer.images(prompt, indices).transpose(0, 3, 1, 2) / np.float32(255)).astype(np.float32)
        answers = [session.run(None, {session.get_inputs()[0].name: pixels})[0] for session in self.sessions.values()]
        return np.stack([answer.argmax(axis=1) for answer in answers], axis=1)

    def event(self, prompt: Prompt, event: str, indices: range) -> Events:
        """(len(indices), C): the classifier says the event, or anything but the label."""
        said = self.said(prompt, indices)
        return np.asarray(said == NAMES.index(event) if event else said != NAMES.index(prompt.label))

    def effect(self, config: AuditConfig, found: Found) -> float:
        """The paired difference on indices from 0 on."""
        plain, described = _prompts(config, found.label, found.description)
        column = list(self.sessions).index(found.classifier)
        own, other = (self.event(one, found.event, range(TRUE_PAIRS))[:, column] for one in (described, plain))
        return float(own.mean() - other.mean())


def _prompts(config: AuditConfig, label: str, description: str) -> tuple[Prompt, Prompt]:
    own = next(one for one in config.labels if one.name == label)
    return config.plain_prompt(own), config.plain_prompt(own, description)


def run(audit: Path, models: Mapping[str, Path], images: int) -> dict[str, tuple[list[Found], int]]:
    """What each way finds, with how many images."""
    with open_audit(audit) as store:
        ((text,),) = store.rows("select settings from audit")
        config = stored_config(text, images)
        looked = _first_look(store)
        own = [
            (label, description, event)
            for label, description, event in store.rows(
                "select label, description, event from hypothesis where round = 1 and origin <> 'pooled' order by all"
            )
        ]
    chance = random.Random(config.seed)  # noqa: S311  # nothing secret
    sentences = sorted(SENTENCES)
    drawn = [(name, text, "") for name in NAMES for text in chance.sample(sentences, 6)]
    everything = [(name, text, "") for name in NAMES for text in sentences]
    confusion = [(one.label, one.description, one.event) for one in _confusions(looked)]
    first = planned_images(first_look(config))
    world = World(models, config.seed + 1)
    return {
        "confusion": confirmed(config, world, confusion),
        "clusters, unconfirmed": (list(dict.fromkeys(_clusters(looked))), first),
        "random": confirmed(config, world, drawn),
        "enumeration": confirmed(config, world, everything),
        "fixed size": fixed_size(config, world, own),
    }


@dataclass(frozen=True)
class _Looked:
    """A failure of the first look; of the captions of its label, how often each sentence is said."""

    classifier: str
    label: str
    predicted: str
    said: frozenset[str]
    vector: Sequence[float]
    usual: Mapping[str, float]


def _first_look(store: Store) -> list[_Looked]:
    captions: dict[str, list[frozenset[str]]] = {}
    rows = store.rows(
        "select distinct image_id, label, caption.text from outcome join caption using (image_id) "
        "where wave = 0 and passed order by all"
    )
    for _, label, text in rows:
        captions.setdefault(label, []).append(parted(text))
    usual = {
        label: {one: n / len(own) for one, n in Counter(text for said in own for text in said).items()}
        for label, own in captions.items()
    }
    failures = store.rows(
        "select classifier, label, predicted, caption.text, embedding.vector from outcome "
        "join caption using (image_id) join embedding using (image_id) "
        "where wave = 0 and verdict = 'failure' order by classifier, label, predicted, image_id"
    )
    return [
        _Looked(classifier, label, predicted, parted(text) & set(SENTENCES), vector, usual[label])
        for classifier, label, predicted, text, vector in failures
    ]


def _groups(looked: Sequence[_Looked], *, by_prediction: bool) -> Iterator[list[_Looked]]:
    groups: dict[tuple[str, ...], list[_Looked]] = {}
    for one in looked:
        key = (one.classifier, one.label, *([one.predicted] if by_prediction else []))
        groups.setdefault(key, []).append(one)
    yield from (group for group in groups.values() if len(group) >= SMALLEST)


def _described(group: Sequence[_Looked], event: str) -> Iterator[Found]:
    """The group's sentence that is said of it oftener than of the label, by the largest difference."""
    often = Counter(text for one in group for text in one.said)
    if often:
        best = max(sorted(often), key=lambda text: often[text] / len(group) - group[0].usual.get(text, 0))
        yield Found(group[0].classifier, group[0].label, best, event)


def _confusions(looked: Sequence[_Looked]) -> Iterator[Found]:
    for group in _groups(looked, by_prediction=True):
        yield from _described(group, group[0].predicted)


def _clusters(looked: Sequence[_Looked]) -> Iterator[Found]:
    for group in _groups(looked, by_prediction=False):
        parts = split(np.array([one.vector for one in group], np.float32), len(group) // 12 + 1)
        for part in sorted(set(parts.tolist())):
            own = [one for one, place in zip(group, parts, strict=True) if place == part]
            (event, most), *_ = Counter(one.predicted for one in own).most_common(1)
            if len(own) >= SMALLEST:
                yield from _described(own, event if most > len(own) / 2 else "")


Asked = Sequence[tuple[str, str, str]]
"""(label, description, event)."""


def confirmed(config: AuditConfig, world: World, asked: Asked) -> tuple[list[Found], int]:
    """What the audit's own tests confirm of some descriptions, all of one round, and with how many images."""
    asked = list(dict.fromkeys(asked))
    names = list(world.sessions)
    weight = round_share(1) / max(len(asked) * len(names), 1)
    hypotheses = [
        Hypothesis(_prompts(config, label, text)[1], event, place, 1.0, "control", 1, weight, 0)
        for place, (label, text, event) in enumerate(asked)
    ]
    none = np.zeros((len(hypotheses), len(names)), np.int64)
    board = Board(hypotheses, names, none, none, none, plans=first_look(config), round=1, mined_upto=0)
    while True:
        verdicts = judge(board, config.min_effect, config.fdr)
        if plans := next_test(config, board, verdicts):
            board = _tested(config, board, plans, world)
        elif board.round < ROUNDS and another_round(config, board, verdicts):
            board = replace(board, round=board.round + 1, empty_rounds=board.empty_rounds + 1)
        else:
            break
    found = [
        Found(names[column], hypotheses[row].prompt.label, hypotheses[row].prompt.description, hypotheses[row].event)
        for row, column in np.argwhere(verdicts.confirmed).tolist()
    ]
    return found, board.images


def _tested(config: AuditConfig, board: Board, plans: Sequence[Plan], world: World) -> Board:
    ranges = {plan.prompt: range(plan.first_index, plan.first_index + plan.images) for plan in plans}
    pairs, more, less = board.pairs.copy(), board.more.copy(), board.less.copy()
    for row, one in enumerate(board.hypotheses):
        if one.prompt in ranges:
            plain, _ = _prompts(config, one.prompt.label, "")
            own, other = (world.event(prompt, one.event, ranges[one.prompt]) for prompt in (one.prompt, plain))
            pairs[row] += len(own)
            more[row] += (own & ~other).sum(axis=0)
            less[row] += (other & ~own).sum(axis=0)
    return replace(board, plans=[*board.plans, *plans], pairs=pairs, more=more, less=less)


def fixed_size(config: AuditConfig, world: World, asked: Asked) -> tuple[list[Found], int]:
    """One look at as many pairs for each as the budget gives, and Benjamini and Hochberg's procedure."""
    looked = planned_images(first_look(config))
    prompts = len({(label, text) for label, text, _ in asked}) + len({label for label, _, _ in asked})
    pairs = (config.max_images - looked) // max(prompts, 1)
    tests: list[tuple[float, Found]] = []
    for label, text, event in asked:
        plain, described = _prompts(config, label, text)
        own, other = (world.event(prompt, event, range(pairs)) for prompt in (described, plain))
        difference = own.astype(float) - other
        mean, error = difference.mean(axis=0), difference.std(axis=0, ddof=1) / sqrt(pairs)
        for name, at, by in zip(world.sessions, mean.tolist(), error.tolist(), strict=True):
            z = (at - config.min_effect) / by if by > 0 else 0.0
            tests.append((erfc(z / sqrt(2)) / 2, Found(name, label, text, event)))
    tests.sort(key=lambda test: test[0])
    passing = [k for k, (p, _) in enumerate(tests, start=1) if p <= config.fdr * k / len(tests)]
    return [found for _, found in tests[: max(passing, default=0)]], looked + prompts * pairs
