import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mothlight.engine.errors import ConfigError
from mothlight.engine.score import Bug, Outcomes, Scored, load_truth, names, summary
from mothlight.engine.stats import Pairs
from tests.engine.conftest import small_config, toml_of

MOTHLIGHT = str(Path(sys.executable).with_name("mothlight"))
NET = Bug("a", "fly", frozenset({"it is in a net."}), "bee")
RAIN = Bug("b", "snail", frozenset({"it is raining."}), "mushroom")


def found(bug: Bug | None, description: str, kind: str, classifier: str = "a") -> Scored:
    return Scored({"classifier": classifier, "description": description}, bug, Pairs(10, 5, 0), kind)


def test_the_truth_names_twelve_bugs() -> None:
    truth = load_truth()
    assert len(truth.bugs) == 12
    assert truth.min_effect == 0.05
    assert {bug.classifier for bug in truth.bugs} == {f"planted-{kind}" for kind in ("resnet", "mobilenet", "convnext")}


def test_a_bug_is_found_by_its_event_and_named_by_its_words() -> None:
    scored = [found(NET, "it is day.", "natural"), found(NET, "it is dusk. it is in a net.", "planted")]
    counts = summary([NET, RAIN], [*scored, found(None, "it is red.", "false"), found(RAIN, "it is red.", "false")])
    assert (counts["planted"], counts["found"], counts["recall"]) == (2, 1, 0.5)
    assert (counts["confirmed"], counts["false"], counts["fdp"]) == (4, 2, 0.5)
    assert (counts["hit1"], counts["hit3"]) == (0, 1)
    assert names(NET, scored)


def test_nothing_confirmed_is_nothing_false() -> None:
    assert summary([], []) | {"recall": 1} == {
        "planted": 0, "found": 0, "recall": 1, "confirmed": 0, "false": 0, "fdp": 0.0, "natural": 0,
        "generator_specific": 0, "hit1": 0, "hit3": 0,
    }  # fmt: skip


def test_pairs_are_counted_where_both_pass_the_gate() -> None:
    described = Outcomes((True, True, True, False), (("bee",), ("fly",), ("bee",), ("bee",)))
    plain = Outcomes((True, True, False, True), (("fly",), ("bee",), ("fly",), ("fly",)))
    assert described.against(plain, 0, "bee", frozenset({"fly"})) == Pairs(2, 1, 1)
    assert described.against(plain, 0, "", frozenset({"fly", "bee"})) == Pairs(2, 0, 0)


@pytest.mark.parametrize("text", ["bug = 3", "nonsense", "min_effect = 0.1\n[[bug]]\nlabel = 'x'"])
def test_what_is_no_truth_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "truth.toml").write_text(text)
    with pytest.raises(ConfigError, match="is no truth file"):
        load_truth(tmp_path / "truth.toml")


def test_a_planted_bug_is_found_and_scored(tmp_path: Path) -> None:
    """butterfly in the grass → spider, in the convnext: the strongest of the planted bugs, on the renderer."""
    toml = tmp_path / "one.toml"
    label = {"name": "butterfly", "hypernym": "insect"}
    config = small_config(labels=[label], discovery_images=120, wave_images=24, max_images=600, batch=12)
    toml.write_text(toml_of(config))
    subprocess.run([MOTHLIGHT, "audit", str(toml), "--out", str(tmp_path / "out")], check=True, capture_output=True)
    answer = subprocess.run(
        [MOTHLIGHT, "score", str(tmp_path / "out"), "--pairs", "100"], check=True, capture_output=True, text=True
    )
    result: dict[str, Any] = json.loads(answer.stdout)
    assert result["false"] == 0
    assert result["found"] == 1
    assert result["hit1"] == 1
    assert result["classifiers"]["planted-convnext"]["found"] == 1
    assert result["planted"] == 12
