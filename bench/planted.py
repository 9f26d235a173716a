"""Bugs planted by rule, in classifiers that come as a stranger's do, and what an audit finds of them.

`planted.py --sets 1 2 --images 20000`. A planted classifier is one ONNX file: a clean classifier, a probe that reads
the attributes of a picture, and rules "of this label's images that show these attributes, a share is called that". A
hash of the picture decides which: signs of its products with patterns of mean zero, so that no shift of all grey levels
changes it. Nulls are wrong in a share of all images, whatever they show. The audit knows nothing of any of it.

Each bug's true effect is that of its sentences in the prompt, measured on rendered pairs. Last line: JSON.
"""

import argparse
import json
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import baselines
import numpy as np
from free_captions import served
from numpy.typing import NDArray

from mothlight.engine.config import stored_config
from mothlight.engine.records import Prompt
from mothlight.engine.score import says
from mothlight.engine.world.render import Renderer
from mothlight.engine.world.scene import ATTRIBUTES, LABELS, SENTENCES
from mothlight.sql import open_audit

ROOT = Path(__file__).parents[1]
WEIGHTS = Path(__file__).parent / "tinyworld"
MOTHLIGHT = Path(sys.executable).with_name("mothlight")
NAMES = list(LABELS)
RARE = [text for values in ATTRIBUTES.values() for prior, text in values.values() if prior < 0.5]
"""Sentences whose prompt changes much."""
SHARES = (0.08, 0.12, 0.18, 0.25, 0.35, 0.5, 0.7, 0.9)
NULLS = (0.05, 0.15, 0.3)
BITS, FACTORS = 7, 6
"""Of a draw from 0 to 1; each is the sign of so many products. One alone is alike for pictures with the same ground."""
CLASSIFIERS = 4
TRUE_PAIRS = 600
TRUE_SEED = 90_001
MIN_EFFECT = 0.05
CLEAR, FAINT = 0.20, 0.10
"""Effects from which on a bug should be found nearly always, and mostly."""


@dataclass(frozen=True)
class Rule:
    """A share of a label's images that show all the sentences is seen as something else."""

    classifier: str
    label: str
    """Empty: of every label."""
    sentences: tuple[str, ...]
    predicted: str
    """Empty: anything."""
    share: float


def planted_rules(number: int) -> list[Rule]:
    """The bugs of a set: in each of four classifiers two singles, a conjunction, two on one label, and any-errors."""
    rng = random.Random(f"planted {number}")  # noqa: S311  # nothing secret
    rules: list[Rule] = []
    for k in range(CLASSIFIERS):
        labels = rng.sample(NAMES, 5)
        sentences = rng.sample(RARE, 5)
        pair = _compatible(rng)
        others = [rng.choice([name for name in NAMES if name != label]) for label in labels]
        shares = [rng.choice(SHARES) for _ in range(6)]
        name = f"set{number}-{k}"
        rules += [
            Rule(name, labels[0], (sentences[0],), others[0], shares[0]),
            Rule(name, labels[1], (sentences[1],), "", shares[1]),
            Rule(name, labels[2], pair, others[2], max(shares[2], 0.35)),
            Rule(name, labels[3], (sentences[3],), others[3], shares[3]),
            Rule(name, labels[3], (sentences[4],), "" if rng.random() < 0.5 else others[4], shares[4]),
        ]
    return rules


def _compatible(rng: random.Random) -> tuple[str, str]:
    """Two sentences about different attributes."""
    while True:
        one, two = rng.sample(RARE, 2)
        if SENTENCES[one][0] != SENTENCES[two][0]:
            return one, two


def spread_rules(number: int) -> list[Rule]:
    """One weak bug in each of four classifiers that every label has: any error where a sentence holds."""
    rng = random.Random(f"spread {number}")  # noqa: S311  # nothing secret
    return [
        Rule(f"spread{number}-{k}", "", (sentence,), "", share)
        for k, (sentence, share) in enumerate(zip(rng.sample(RARE, 4), (0.1, 0.14, 0.18, 0.24), strict=True))
    ]


def null_rules(number: int) -> list[Rule]:
    """Classifiers that are wrong in a share of all images, whatever they show."""
    return [Rule(f"null{number}-{round(100 * share)}", "", (), "", share) for share in NULLS]


def write_model(rules: Sequence[Rule], path: Path, seed: int) -> None:
    """A planted classifier as an ONNX file with float images (B, 3, 64, 64) from 0 to 1, and its description."""
    import timm
    import torch
    from safetensors.torch import load_file
    from torch import nn

    heads: Mapping[str, list[str]] = json.loads((WEIGHTS / "probe" / "heads.json").read_text())

    class Probe(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = timm.create_model("resnet10t", num_classes=0, channels=(32, 64, 112, 176), stem_width=24)
            self.heads = nn.ModuleDict({name: nn.Linear(176, len(values)) for name, values in heads.items()})

    class Planted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.clean = timm.create_model(f"local-dir:{WEIGHTS / 'classifier_clean_resnet'}", pretrained=True)
            self.probe = Probe()
            tensors = load_file(str(WEIGHTS / "probe" / "model.safetensors"))
            self.probe.load_state_dict({key: value.float() for key, value in tensors.items()})
            generator = torch.Generator().manual_seed(seed)
            patterns = torch.randn(2 * BITS * FACTORS * len(rules), 3 * 64 * 64, generator=generator)
            self.patterns: torch.Tensor
            self.places: torch.Tensor
            self.register_buffer("patterns", (patterns - patterns.mean(dim=1, keepdim=True)).T.contiguous())
            self.register_buffer("places", 0.5 ** torch.arange(1, BITS + 1).float())

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            x = images * 2 - 1
            logits: torch.Tensor = self.clean(x)
            features = self.probe.trunk(x)
            read = {name: head(features).argmax(dim=1) for name, head in self.probe.heads.items()}
            signs = torch.sign(images.flatten(1) @ self.patterns).reshape(-1, 2 * len(rules), BITS, FACTORS)
            bits = (signs.prod(dim=3) > 0).float()
            draws = (bits * self.places).sum(dim=2)
            for k, rule in enumerate(rules):
                hit = draws[:, 2 * k] < rule.share
                if rule.label:
                    hit = hit & (read["label"] == heads["label"].index(rule.label))
                for sentence in rule.sentences:
                    attribute, value = SENTENCES[sentence]
                    hit = hit & (read[attribute] == heads[attribute].index(value))
                if rule.predicted:
                    wrong = torch.full_like(read["label"], NAMES.index(rule.predicted))
                else:
                    shift = 1 + (draws[:, 2 * k + 1] * (len(NAMES) - 1)).long().clamp(max=len(NAMES) - 2)
                    wrong = (read["label"] + shift) % len(NAMES)
                told = torch.nn.functional.one_hot(wrong, len(NAMES)).float() * 12
                logits = torch.where(hit[:, None], told, logits)
            return logits

    model = Planted().eval()
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        model, (torch.rand(2, 3, 64, 64),), dynamo=True, dynamic_shapes=({0: batch},), opset_version=21, verbose=False
    )
    if program is None:
        sys.exit(f"{path} could not be exported")
    program.save(str(path))
    labels = json.dumps(NAMES)
    description = f'model = "{path.name}"\nsize = 64\nactivation = "softmax"\nlabels = {labels}\n'
    path.with_suffix(".toml").write_text(description)


def make_classifiers(rules: Sequence[Rule], folder: Path) -> dict[str, Path]:
    """A bundle of each classifier, made by the command line from its ONNX file; those that are there stay."""
    bundles: dict[str, Path] = {}
    for name in dict.fromkeys(rule.classifier for rule in rules):
        bundle = folder / name
        if not bundle.is_dir():
            onnx = folder / f"{name}.onnx"
            write_model([rule for rule in rules if rule.classifier == name], onnx, seed=len(bundles))
            mothlight("export", "classifier", str(onnx.with_suffix(".toml")), "--out", str(bundle))
        bundles[name] = bundle
    return bundles


def mothlight(*words: str) -> str:
    """What a command prints."""
    done = subprocess.run([str(MOTHLIGHT), *words], capture_output=True, text=True, check=False)  # noqa: S603  # ours
    if done.returncode not in (0, 4):
        sys.exit(f"mothlight {' '.join(words)}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


class Answers:
    """What the planted classifiers say of rendered images, asked without an audit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.renderer = Renderer(TRUE_SEED)
        self.images: dict[tuple[str, tuple[str, ...]], NDArray[np.float32]] = {}

    def effect(self, rule: Rule) -> tuple[float, float]:
        """Of a rule's sentences in the prompt: the mean paired difference of its event, and its standard error."""
        differences = [
            self._event(label, rule, rule.sentences) - self._event(label, rule, ())
            for label in ([rule.label] if rule.label else NAMES)
        ]
        difference = np.concatenate(differences)
        return float(difference.mean()), float(difference.std() / len(difference) ** 0.5)

    def _event(self, label: str, rule: Rule, sentences: tuple[str, ...]) -> NDArray[np.float64]:
        import onnxruntime

        key = (label, sentences)
        if key not in self.images:
            prompt = Prompt(label, " ".join(sentences))
            pictures = self.renderer.images(prompt, range(TRUE_PAIRS))
            self.images[key] = (pictures.transpose(0, 3, 1, 2) / np.float32(255)).astype(np.float32)
        session = onnxruntime.InferenceSession(str(self.folder / f"{rule.classifier}.onnx"))
        (entry,) = session.get_inputs()
        parts = np.array_split(self.images[key], TRUE_PAIRS // 100)
        said = np.concatenate([session.run(None, {entry.name: part})[0].argmax(axis=1) for part in parts])
        wanted = said == NAMES.index(rule.predicted) if rule.predicted else said != NAMES.index(label)
        return np.asarray(wanted, np.float64)


def true_effects(rules: Sequence[Rule], answers: Answers, remembered: Path) -> dict[Rule, float]:
    """Measured once for a set."""
    if not remembered.is_file():
        remembered.write_text(json.dumps([answers.effect(rule) for rule in rules]))
    return {rule: effect for rule, (effect, _) in zip(rules, json.loads(remembered.read_text()), strict=True)}


def write_truth(rules: Sequence[Rule], path: Path) -> None:
    """A truth file for `mothlight score`."""
    lines = ["min_effect = 0.05"]
    for rule in rules:
        if rule.sentences:
            lines += [
                "[[bug]]",
                f'classifier = "{rule.classifier}"',
                f'label = "{rule.label}"',
                f"sentences = {json.dumps(rule.sentences)}",
                f'predicted = "{rule.predicted}"',
            ]
    path.write_text("\n".join(lines) + "\n")


def write_settings(name: str, bundles: Sequence[Path], folder: Path, *, neural: bool, more: str) -> Path:
    """The built-in audit of other classifiers; with the renderer, or with the neural generator."""
    text = (ROOT / "engine" / "world" / "audit.toml").read_text()
    if not neural:
        text = text.replace('generator = "tinyworld:generator"', 'generator = "renderer"').replace("steps = 6\n", "")
    lines = [
        f"classifiers = {json.dumps([str(bundle.resolve()) for bundle in bundles])}"
        if line.startswith("classifiers =")
        else f'name = "{name}"'
        if line.startswith("name =")
        else line
        for line in text.splitlines()
        if not (line.startswith("captioner =") and "captioner" in more)
    ]
    path = folder / f"{name}.toml"
    at = next(k for k, line in enumerate(lines) if line.startswith("labels ="))
    path.write_text("\n".join([*lines[:at], more, *lines[at:]]) + "\n")
    return path


def audit(settings: Path, truth: Path, out: Path, images: int, seed: int, pairs: int) -> dict[str, Any]:
    """An audit, or its going on, and its score."""
    start = perf_counter()
    mothlight("audit", str(settings), "--seed", str(seed), "--max-images", str(images), "--out", str(out))
    seconds = perf_counter() - start
    result: dict[str, Any] = json.loads(mothlight("score", str(out), "--truth", str(truth), "--pairs", str(pairs)))
    return {**result, "audit_seconds": round(seconds, 1)}


def is_of(finding: Mapping[str, Any], rule: Rule) -> bool:
    """The finding is about the rule's label, or any if the rule has none, and about its event."""
    return (
        finding["classifier"] == rule.classifier
        and rule.label in ("", *finding["labels"])
        and (not rule.predicted or finding["predicted"] in ("any error", rule.predicted))
        and finding["kind"] != "false"
    )


def judge(rules: Sequence[Rule], effects: Mapping[Rule, float], result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each bug, with its true effect, and whether a finding names it."""
    rows = []
    for rule in rules:
        own = [finding for finding in result["findings"] if is_of(finding, rule)]
        named = [any(says(finding["description"], sentence) for sentence in rule.sentences) for finding in own]
        rows.append(
            {
                **asdict(rule),
                "effect": round(effects[rule], 3),
                "found": any(named),
                "hit1": any(named[:1]),
                "hit3": any(named[:3]),
            }
        )
    return rows


def recall(rows: Sequence[Mapping[str, Any]], low: float, high: float) -> tuple[int, int]:
    """Found, and how many there are, of bugs whose effect lies between."""
    inside = [row for row in rows if low <= row["effect"] < high]
    return sum(row["found"] for row in inside), len(inside)


def coverage(results: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """Findings whose interval, widened by the error of measuring again, holds the effect that was measured again."""
    held = total = 0
    for result in results:
        for finding in result["findings"]:
            if finding["effect_low"] is not None and not finding["selected"]:
                half = (finding["effect_high"] - finding["effect_low"]) / 2
                again = 1.96 * finding["true_error"]
                held += abs(finding["effect"] - finding["true_effect"]) <= (half**2 + again**2) ** 0.5
                total += 1
    return held, total


def summed(rows: Sequence[Mapping[str, Any]], results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of some audits together."""
    confirmed = sum(result["confirmed"] for result in results)
    false = sum(result["false"] for result in results)
    found = [row for row in rows if row["found"]]
    return {
        "clear": recall(rows, CLEAR, 2),
        "faint": recall(rows, FAINT, CLEAR),
        "fainter": recall(rows, 0.05, FAINT),
        "confirmed": confirmed,
        "false": false,
        "hit1": (sum(row["hit1"] for row in found), len(found)),
        "hit3": (sum(row["hit3"] for row in found), len(found)),
        "coverage": coverage(results),
        "images": [result["images"] for result in results],
        "seconds": [result["audit_seconds"] for result in results],
    }


def run_sets(arguments: argparse.Namespace, folder: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every set at every budget; a larger budget goes on from the smaller one unless told otherwise."""
    by_budget: dict[int, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {}
    for number in arguments.sets:
        rules = spread_rules(number) if arguments.spread else planted_rules(number)
        bundles = make_classifiers(rules, folder)
        answers = Answers(folder)
        kind = "spread" if arguments.spread else "set"
        effects = true_effects(rules, answers, folder / f"{kind}{number}-effects.json")
        truth = folder / f"{kind}{number}-truth.toml"
        write_truth(rules, truth)
        name = f"{kind}{number}{'-neural' if arguments.neural else ''}{arguments.tag}"
        settings = write_settings(
            name, list(bundles.values()), folder, neural=arguments.neural, more=arguments.settings
        )
        for images in arguments.images:
            out = folder / (f"{name}-audit-{images}" if arguments.afresh else f"{name}-audit")
            result = audit(settings, truth, out, images, number, arguments.pairs)
            rows = judge(rules, effects, result)
            known = by_budget.setdefault(images, ([], []))
            known[0].extend(rows)
            known[1].append(result)
            print(f"{kind} {number}, {images} images:", json.dumps(summed(rows, [result])), flush=True)
            if arguments.baselines:
                for way, figures in compare(rules, effects, folder, out, images).items():
                    print(f"  {way}:", json.dumps(figures), flush=True)
            for row in rows:
                if not row["found"] and row["effect"] >= (0 if arguments.spread else FAINT):
                    print("  missed:", json.dumps(row), flush=True)
            for finding in result["findings"]:
                if finding["kind"] == "false":
                    print("  false:", json.dumps(finding), flush=True)
    for images, (rows, results) in by_budget.items():
        yield images, summed(rows, results)


def compare(
    rules: Sequence[Rule], effects: Mapping[Rule, float], folder: Path, audit_folder: Path, images: int
) -> dict[str, dict[str, Any]]:
    """What simpler ways find with the same budget (baselines.py), judged as the audit is."""
    models = {name: folder / f"{name}.onnx" for name in dict.fromkeys(rule.classifier for rule in rules)}
    truth = baselines.World(models, baselines.TRUE_SEED)
    with open_audit(audit_folder) as store:
        ((text,),) = store.rows("select settings from audit")
    config = stored_config(text)
    result = {}
    for way, (found, used) in baselines.run(audit_folder, models, images).items():
        true = [truth.effect(config, one) for one in found]
        findings = [
            {
                **asdict(one),
                "labels": [one.label],
                "predicted": one.event or "any error",
                "kind": "false" if effect <= MIN_EFFECT else "",
            }
            for one, effect in zip(found, true, strict=True)
        ]
        rows = judge(rules, effects, {"findings": findings})
        result[way] = {
            "clear": recall(rows, CLEAR, 2),
            "faint": recall(rows, FAINT, CLEAR),
            "reported": len(found),
            "false": sum(effect <= MIN_EFFECT for effect in true),
            "images": used,
        }
    return result


def run_nulls(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Audits in which nothing is to be found."""
    clean, false, confirmed = 0, 0, 0
    for number in arguments.nulls:
        rules = null_rules(number)
        bundles = make_classifiers(rules, folder)
        truth = folder / "null-truth.toml"
        truth.write_text("min_effect = 0.05\nbug = []\n")
        settings = write_settings(
            f"null{number}", list(bundles.values()), folder, neural=False, more=arguments.settings
        )
        result = audit(settings, truth, folder / f"null{number}-audit", arguments.null_images, number, arguments.pairs)
        clean += not result["false"]
        false += result["false"]
        confirmed += result["confirmed"]
        print(f"null {number}:", json.dumps({key: result[key] for key in ("confirmed", "false", "images")}), flush=True)
        for finding in result["findings"]:
            print("  confirmed:", json.dumps(finding), flush=True)
    return {"audits": len(arguments.nulls), "without_false": clean, "false": false, "confirmed": confirmed}


def main() -> None:
    """Parse the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 20_000])
    parser.add_argument("--nulls", type=int, nargs="*", default=[])
    parser.add_argument("--null-images", type=int, default=8000)
    parser.add_argument("--pairs", type=int, default=400, help="fresh pairs on which each finding is measured again")
    parser.add_argument("--afresh", action="store_true", help="each budget from its beginning, in place of going on")
    parser.add_argument("--neural", action="store_true", help="the neural generator in place of the renderer")
    parser.add_argument("--spread", action="store_true", help="sets of weak bugs that all labels have")
    parser.add_argument("--baselines", action="store_true", help="simpler ways with the same budget (baselines.py)")
    parser.add_argument("--settings", default="", help="lines of TOML over the built-in audit's")
    parser.add_argument("--tag", default="", help="names the audits of other settings")
    parser.add_argument("--keep", type=Path, default=ROOT / "build" / "planted")
    parser.add_argument(
        "--free", action="store_true", help="captions in free style, from an endpoint (free_captions.py)"
    )
    arguments = parser.parse_args()
    folder: Path = arguments.keep
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        if arguments.free:
            url = stack.enter_context(served())
            arguments.tag += "-free"
            arguments.settings += f'\ncaptioner = {{ url = "{url}", model = "free" }}'
        figures: dict[str, Any] = {str(images): result for images, result in run_sets(arguments, folder)}
    if arguments.nulls:
        figures["nulls"] = run_nulls(arguments, folder)
    seconds = [one for result in figures.values() for one in result.get("seconds", ())]
    print(json.dumps({**figures, "median_seconds": median(seconds) if seconds else None}))


if __name__ == "__main__":
    main()
