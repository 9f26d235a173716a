"""An audit held against known truth: what was planted and found, and what was confirmed and is false.

The audit itself never reads the truth. Each confirmed finding's effect is measured again on fresh pairs under another
seed, with the same generator, both images through the gate. A finding is *false* if that effect is at most δ; else
*planted* if it is a planted bug's, and else *natural*, or *generator-specific* if the renderer does not show it.
"""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from mothlight.engine.batch import Batch, Stage, batches
from mothlight.engine.config import RENDERER, AuditConfig
from mothlight.engine.errors import ConfigError
from mothlight.engine.executor.pipeline import Pipeline
from mothlight.engine.host import available_threads
from mothlight.engine.making import engines_for, generate_stage
from mothlight.engine.models.engines import Engines
from mothlight.engine.opening import Models, gate_bounds
from mothlight.engine.records import Chunk, Prompt
from mothlight.engine.stages.classify import Classifier, ClassifyStage, gate_stage
from mothlight.engine.stages.generate import DrawStage
from mothlight.engine.stats import Pairs
from mothlight.sql import Store

SEED_SHIFT = 1_000_003
"""Added to the audit's seed: none of its images is looked at again."""


@dataclass(frozen=True, slots=True)
class Bug:
    """A planted bug."""

    classifier: str
    label: str
    sentences: frozenset[str]
    predicted: str
    """Empty: any error."""


@dataclass(frozen=True, slots=True)
class Truth:
    """The planted bugs and the effect up to which a finding is false."""

    bugs: tuple[Bug, ...]
    min_effect: float

    @property
    def key(self) -> str:
        """Tells truths apart, the same in every process."""
        return repr(
            ([(one.classifier, one.label, sorted(one.sentences), one.predicted) for one in self.bugs], self.min_effect)
        )


@dataclass(frozen=True, slots=True)
class Scored:
    """A confirmed finding, measured again."""

    finding: Mapping[str, Any]
    bug: Bug | None
    pairs: Pairs
    kind: str


def load_truth(path: Path | None = None) -> Truth:
    """Read a truth file; without one, tinyworld's.

    Raises:
        ConfigError: it can't be read, or lacks what a bug must have.
    """
    source = path or files("mothlight.engine").joinpath("world", "truth.toml")
    try:
        data = tomllib.loads(source.read_text(encoding="utf-8"))
        bugs = tuple(
            Bug(bug["classifier"], bug["label"], frozenset(bug["sentences"]), bug["predicted"]) for bug in data["bug"]
        )
        return Truth(bugs, float(data["min_effect"]))
    except OSError as error:
        raise ConfigError(f"Can't read the truth {source}: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{source} is no truth file: {type(error).__name__} {error}.") from error


def score(store: Store, config: AuditConfig, models: Models, truth: Truth, pairs: int) -> dict[str, Any]:
    """The scores of an audit, as one JSON-ready object."""
    findings = store.step_records("scored")
    classifiers = [bundle.manifest.name for bundle in models.classifiers]
    seed = config.seed + SEED_SHIFT
    threads = config.threads or available_threads()
    engines = engines_for(config, models)
    fresh = _Measurer(config, models, generate_stage(config, models, seed, threads, engines), pairs, engines)
    drawn = None
    if config.generator != RENDERER:
        from mothlight.engine.world.render import Renderer  # the audit imports this module, but never the world

        drawn = _Measurer(config, models, DrawStage(Renderer(seed), threads), pairs, engines)
    with ExitStack() as stack:
        for measurer in (fresh, drawn):
            if measurer is not None:
                stack.enter_context(measurer.pipeline)
        scored = [
            _scored(config, finding, truth, classifiers.index(finding["classifier"]), fresh, drawn)
            for finding in findings
        ]
    ((images,),) = store.rows("select coalesce(sum(images), 0) from chunk")
    ((seconds,),) = store.step("seconds")
    planted = [bug for bug in truth.bugs if bug.classifier in classifiers]
    return {
        **summary(planted, scored),
        "images": int(images),
        "seconds": round(float(seconds), 1),
        "pairs": pairs,
        "classifiers": {
            name: summary(
                [bug for bug in planted if bug.classifier == name],
                [one for one in scored if one.finding["classifier"] == name],
            )
            for name in classifiers
        },
        "findings": [
            {
                **{
                    key: one.finding[key]
                    for key in ("classifier", "label", "labels", "predicted", "description", "selected")
                },
                "kind": one.kind,
                **{key: round(one.finding[key], 3) for key in ("effect", "effect_low", "effect_high")},
                "true_effect": round(one.pairs.effect, 3),
                "true_error": round(one.pairs.error, 4),
                "true_pairs": one.pairs.pairs,
            }
            for one in scored
        ],
    }


def summary(planted: Sequence[Bug], scored: Sequence[Scored]) -> dict[str, Any]:
    """Counts over some of the bugs and findings; the findings are in the order of their strength."""
    hits = {bug: [one for one in scored if one.bug == bug and one.kind != "false"] for bug in planted}
    found = [bug for bug in planted if hits[bug]]
    false = sum(one.kind == "false" for one in scored)
    return {
        "planted": len(planted),
        "found": len(found),
        "recall": round(len(found) / len(planted), 3) if planted else None,
        "confirmed": len(scored),
        "false": false,
        "fdp": round(false / len(scored), 3) if scored else 0.0,
        "natural": sum(one.kind == "natural" for one in scored),
        "generator_specific": sum(one.kind == "generator-specific" for one in scored),
        "hit1": sum(names(bug, hits[bug][:1]) for bug in found),
        "hit3": sum(names(bug, hits[bug][:3]) for bug in found),
    }


def names(bug: Bug, findings: Iterable[Scored]) -> bool:
    """Whether one of the findings says a sentence of the bug."""
    return any(says(one.finding["description"], sentence) for one in findings for sentence in bug.sentences)


def says(description: str, sentence: str) -> bool:
    """Whether a description says a sentence, or the same of tinyworld's scenes in other words."""
    from mothlight.engine.world.scene import SENTENCES, mentioned  # the audit imports this module, but never the world

    return sentence in description or (sentence in SENTENCES and SENTENCES[sentence] in mentioned(description).items())


def _scored(
    config: AuditConfig,
    finding: Mapping[str, Any],
    truth: Truth,
    position: int,
    fresh: "_Measurer",
    drawn: "_Measurer | None",
) -> Scored:
    """`position` is the classifier's; `drawn` measures with the renderer, where that is not the audit's generator."""
    labels = [label for label in config.labels if label.name in finding["labels"]]

    def measured(measurer: "_Measurer") -> Pairs:
        counts = Pairs()
        for label in labels:
            plain, described = config.plain_prompt(label), config.plain_prompt(label, finding["description"])
            right = frozenset({label.name, *label.accepted})
            counts += measurer(described).against(measurer(plain), position, finding["event"], right)
        return counts

    bug = next(
        (
            bug
            for bug in truth.bugs
            if bug.classifier == finding["classifier"]
            and bug.label in ("", *finding["labels"])
            and (not bug.predicted or finding["event"] in ("", bug.predicted))
        ),
        None,
    )
    counts = measured(fresh)
    if counts.effect <= truth.min_effect:
        kind = "false"
    elif bug is not None and any(says(finding["description"], sentence) for sentence in bug.sentences):
        kind = "planted"
    elif drawn is None or measured(drawn).effect > truth.min_effect:
        kind = "natural"
    else:
        kind = "generator-specific"
    return Scored(finding, bug, counts, kind)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What came of a prompt's indices: did the image pass the gate, and what does each classifier see."""

    gated: tuple[bool, ...]
    predicted: tuple[tuple[str, ...], ...]
    """Per index, per classifier."""

    def against(self, plain: "Outcomes", position: int, event: str, right: frozenset[str]) -> Pairs:
        """Count the pairs in which both pass the gate."""
        more = less = both = 0
        for own, other, mine, theirs in zip(self.gated, plain.gated, self.predicted, plain.predicted, strict=True):
            if own and other:
                both += 1
                happened, before = (p[position] == event if event else p[position] not in right for p in (mine, theirs))
                more += happened and not before
                less += before and not happened
        return Pairs(both, more, less)


class _Measurer:
    """Fresh images of prompts through one generator; each prompt is measured once."""

    def __init__(self, config: AuditConfig, models: Models, generate: Stage, pairs: int, engines: Engines) -> None:
        self.upper = gate_bounds(config, models.gate).upper
        self.pairs = pairs
        self.batch = config.batch
        self.classifiers = [Classifier(bundle, engines) for bundle in models.classifiers]
        stages = [
            generate,
            *(ClassifyStage(classifier, position) for position, classifier in enumerate(self.classifiers)),
            gate_stage(models.gate, [label.name for label in config.labels], engines),
        ]
        self.pipeline = Pipeline(engines.device, stages, self.batch, without=["images"])
        self.outcomes: dict[Prompt, Outcomes] = {}

    def __call__(self, prompt: Prompt) -> Outcomes:
        if prompt not in self.outcomes:
            self.outcomes[prompt] = self._measure(prompt)
        return self.outcomes[prompt]

    def _measure(self, prompt: Prompt) -> Outcomes:
        gated: list[bool] = []
        predicted: list[tuple[str, ...]] = []

        def sink(batch: Batch) -> None:
            for row, index in enumerate(batch.indices):
                gated.append(index not in batch.failures and bool(batch.arrays["gate"][row] >= self.upper))
                predicted.append(
                    tuple(
                        classifier.labels[batch.arrays[f"indices_{k}"][row][0]]
                        for k, classifier in enumerate(self.classifiers)
                    )
                )

        self.pipeline.run(batches(Chunk(prompt, 0, self.pairs, 0), self.batch), sink)
        return Outcomes(tuple(gated), tuple(predicted))
