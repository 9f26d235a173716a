"""The gate's error: its arithmetic, a person's answers, pictures of known truth, and the command."""

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mothlight.engine.command import Truths, gate_calibrate_command
from mothlight.engine.errors import UserError
from mothlight.engine.gate.answers import TABLE, read_answers, sample, write_sample
from mothlight.engine.gate.calibrate import (
    Truth,
    answered_error,
    bounds_by_answers,
    bounds_by_pictures,
    deceived,
    known_error,
)
from mothlight.engine.gate.known import Known, ask, rendered, taken
from mothlight.engine.gate.run import by_answers, save, told
from mothlight.engine.models.engines import Engines
from mothlight.engine.opening import Models
from mothlight.engine.stats import exact_bounds
from mothlight.reports.answers import write_answers_page
from mothlight.reports.build import render
from mothlight.sql import Store, open_audit
from tests.engine.conftest import run_audit_in, small_config


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, models: Models) -> Path:
    folder = tmp_path_factory.mktemp("gated")
    run_audit_in(folder, models, small_config(max_images=600))
    return folder


@pytest.fixture
def own(finished: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "audit.duckdb").write_bytes((finished / "audit.duckdb").read_bytes())
    return folder


def truth(scores: "np.ndarray[tuple[int], np.dtype[np.float64]]", shows: object) -> Truth:
    return Truth(scores, np.asarray(shows, bool), np.arange(len(scores)) % 2 == 1)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [(0, 10, 0.0, 0.3085), (10, 10, 0.6915, 1.0), (1, 10, 0.0025, 0.4450), (30, 400, 0.0512, 0.1053), (0, 0, 0.0, 1.0)],
)
def test_exact_bounds_are_clopper_s_and_pearson_s(k: int, n: int, low: float, high: float) -> None:
    assert exact_bounds(k, n) == pytest.approx((low, high), abs=1e-4)


def test_answers_give_the_share_of_what_passes() -> None:
    scores = np.array([0.1, 0.5, 0.6, 0.7, 0.8])
    error = answered_error(truth(scores, [False, False, True, True, True]), 0.4)
    assert (error.wrong, error.n, error.rate) == (1, 4, 0.25)
    nothing = answered_error(truth(scores, [True] * 5), 0.9)
    assert (nothing.n, nothing.low, nothing.high) == (0, 0.0, 1.0)


def test_known_pictures_and_a_pass_rate_give_the_misses() -> None:
    """A gate that passes 9 of 10 of the label's pictures and 2 of 10 others, and an audit half of misses."""
    known = truth(np.array([0.9] * 900 + [0.1] * 100 + [0.9] * 200 + [0.1] * 800), [True] * 1000 + [False] * 1000)
    error = known_error(known, 0.5, 5500, 10_000)
    assert error.rate == pytest.approx(0.5 * 0.2 / 0.55)
    assert error.low < error.rate < error.high < 0.23
    assert known_error(known, 0.5, 0, 0).high == 1.0
    assert known_error(known, 0.95, 50, 100).high == 1.0  # it passes neither: nothing is known


def test_the_error_s_interval_holds() -> None:
    """Whole calibrations by chance, of a gate whose error is known: the interval leaves it out rarely."""
    chance = np.random.default_rng(5)
    misses, true_pass, false_pass = 0.3, 0.9, 0.15
    error = misses * false_pass / (misses * false_pass + (1 - misses) * true_pass)
    missed = 0
    for _ in range(150):
        known = truth(
            np.concatenate([chance.random(200) < true_pass, chance.random(200) < false_pass]).astype(float),
            np.arange(400) < 200,
        )
        passed = chance.binomial(2000, (1 - misses) * true_pass + misses * false_pass)
        found = known_error(known, 0.5, int(passed), 2000)
        missed += not found.low <= error <= found.high
    assert missed <= 8


def test_bounds_hold_what_they_promise() -> None:
    chance = np.random.default_rng(1)
    shows = np.arange(1200) % 2 == 0
    scores = np.clip(np.where(shows, chance.normal(0.7, 0.1, 1200), chance.normal(0.3, 0.1, 1200)), 0, 1)
    for bounds in (bounds_by_pictures, bounds_by_answers):
        found = bounds(truth(scores, shows), 0.05)
        assert found is not None
        assert found.lower <= found.upper < 0.6
        fresh = np.clip(chance.normal(0.3, 0.1, 1200), 0, 1)
        assert deceived(truth(fresh, np.zeros(1200)), found.upper).rate < 0.1
    blind = truth(chance.random(1200), shows)
    assert bounds_by_pictures(blind, 0.05) is None or bounds_by_pictures(blind, 0.05).upper > 0.9  # type: ignore[union-attr]
    assert bounds_by_answers(blind, 0.05) is None


def test_a_sample_goes_out_and_comes_back(own: Path, tmp_path: Path) -> None:
    out = tmp_path / "gate"
    with open_audit(own) as store:
        sampled = sample(store, 40)
        assert len(sampled) == 40
        assert {kind: sum(one.kind == kind for one in sampled) for kind in ("plain", "described")} == {
            "plain": 20,
            "described": 20,
        }
        write_sample(store, sampled, out)
        answers = {one.image_id: at % 4 != 0 for at, one in enumerate(sampled)}
        fill(out / TABLE, answers)
        assert read_answers(out / TABLE, store) == answers
        write_sample(store, sample(store, 60), out)  # more to look at: the answers stay
        assert read_answers(out / TABLE, store) == answers
        write_sample(store, sample(store, 10), out)
        assert read_answers(out / TABLE, store) == answers
        assert {file.stem for file in (out / "images").iterdir()} >= set(answers)
        with pytest.raises(UserError, match="Can't write"):
            write_sample(store, sampled, out / TABLE)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("id,shows\n", "no column image_id"),
        ("image_id,shows\nx,yes\n", "line 2: this audit has no image x"),
        ("image_id,shows\nx,perhaps\n", "line 2: `shows` is 'perhaps'"),
        ("", "no column image_id, shows"),
        ("image_id,shows\nx,\n", "No image has an answer yet"),
    ],
)
def test_a_wrong_table_is_one_sentence(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, sentence: str
) -> None:
    table = tmp_path / "answers.csv"
    table.write_text(text)
    with pytest.raises(UserError, match=re.escape(sentence)):
        calibrated(own, capsys, answers=table)


def test_answers_widen_every_interval_and_name_what_they_could_explain(own: Path) -> None:
    with open_audit(own, read_only=False) as store:
        rows = sample(store)
        before = effects(store)
        plain = store.rows("select rate_low, rate_high from failure_rate order by prompt_id, classifier, phase")
        save(store, by_answers(store, {one.image_id: True for one in rows}, 0.05))
        sure = effects(store)
        # every third image that passes shows something else
        save(store, by_answers(store, {one.image_id: at % 3 > 0 for at, one in enumerate(rows)}, 0.05))
        unsure = effects(store)
        assert before
        for (_, low, high, doubt), (_, low_sure, high_sure, _), (_, lowest, highest, doubted) in zip(
            before, sure, unsure, strict=True
        ):
            assert lowest < low_sure < low
            assert high <= high_sure <= highest
            assert not doubt
            assert doubted == (low > 0.05)
        wider = store.rows("select rate_low, rate_high from failure_rate order by prompt_id, classifier, phase")
        assert all(high is None or high <= most for (_, high), (_, most) in zip(plain, wider, strict=True))
        lines = "\n".join(told(store, by_answers(store, {one.image_id: True for one in rows}, 0.05)))
        assert "gate_bounds = { lower = " in lines
        page = render(store)
    assert "could be the gate" in page
    assert "of the described images that pass it" in page


def test_the_renderer_s_pictures_and_those_of_a_folder_say_the_same(models: Models, tmp_path: Path) -> None:
    labels = ["fly", "bee", "car"]
    known = rendered(labels, 8)
    for at, one in enumerate(known):
        file = tmp_path / "photos" / one.label / f"{at:03}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(one.pixels()).save(file)
    (tmp_path / "photos" / "fly" / "notes.txt").write_text("no picture")
    engines = Engines()
    drawn = ask(models.gate, known, labels, engines)
    (tmp_path / "photos" / "fly" / "broken.jpg").write_bytes(b"\xff\xd8 no more")
    (tmp_path / "photos" / "unicorn").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "photos" / "unicorn" / "one.png")
    photographs, refused = taken(tmp_path / "photos", labels)
    assert [(one.name, one.reason.partition(" (")[0]) for one in refused] == [
        ("fly/broken.jpg", "it is damaged or no picture"), ("unicorn/one.png", "the gate has no label `unicorn`"),
    ]  # fmt: skip
    filed = ask(models.gate, photographs, labels, engines)
    assert sorted(drawn.scores.tolist()) == pytest.approx(sorted(filed.scores.tolist()), abs=1e-5)
    assert drawn.shows.sum() == len(known)
    assert drawn.scores[drawn.shows].mean() > 0.8
    assert drawn.scores[~drawn.shows].mean() < 0.2
    assert drawn.second.sum() == len(known)
    assert (drawn.second & drawn.shows).sum() == len(known) / 2
    one = Known("unicorn", known[0].size, known[0].pixels)
    with pytest.raises(UserError, match="has no label `unicorn`"):
        ask(models.gate, [*known[:1], one], [*labels, "unicorn"], engines)
    with pytest.raises(UserError, match="can't draw `unicorn`"):
        rendered(["unicorn"], 1)
    only = tmp_path / "only" / "fly"
    only.mkdir(parents=True)
    (only / "broken.jpg").write_bytes(b"\xff\xd8 no more")
    with pytest.raises(UserError, match=r"two labels at least.*1 set aside: fly/broken\.jpg: it is damaged"):
        taken(only.parent, labels)


def test_the_command(own: Path, tmp_path: Path, models: Models, capsys: pytest.CaptureFixture[str]) -> None:
    assert "30 images wait for an answer" in calibrated(own, capsys, 30)
    page = (own / "gate" / "index.html").read_text(encoding="utf-8")
    assert page.count("<fieldset") == 30
    with open_audit(own) as store:
        fill(own / "gate" / TABLE, {one.image_id: True for one in sample(store, 30)})
    assert "do not show their label: 0.0 %" in calibrated(own, capsys)
    assert "pictures of another label" in calibrated(own, capsys, 6, rendered=True)
    empty = tmp_path / "empty"
    empty.mkdir()
    for path, truths, sentence in (
        (empty, {}, "holds no audit"),
        (empty, {"gate": models.gate.folder}, "photographs of two labels at least"),
        (tmp_path / "nowhere", {}, "There is no audit"),
        (own, {"rendered": True, "pictures": empty}, "Give one of"),
        (own, {"gate": empty}, "which has a gate"),
    ):
        with pytest.raises(UserError, match=sentence):
            calibrated(path, capsys, **truths)


def test_photographs_of_every_kind_are_asked_of(
    own: Path, tmp_path: Path, models: Models, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["file_name,label"]
    with open_audit(own) as store:
        first, second = (label for (label,) in store.rows("select label from label order by place"))
    for at, one in enumerate(rendered([first, second], 6)):
        Image.fromarray(one.pixels()).save(tmp_path / f"{at}.png")
        lines.append(f"{at}.png,{one.label}")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    table = tmp_path / "metadata.csv"
    table.write_text("\n".join([*lines, f"broken.png,{first}", f"gone.png,{first}", f"0.png,{second}", ""]))
    gate = models.gate.folder
    said = calibrated(table, capsys, gate=gate)
    assert "3 set aside: broken.png: it is damaged or no picture" in said
    assert "gone.png: there is no such file" in said
    assert said == calibrated(tmp_path, capsys, gate=gate)
    of_the_audit = calibrated(own, capsys, pictures=table)
    assert "3 set aside" in of_the_audit
    assert "pictures of another label" in of_the_audit


def test_the_page_lets_nothing_run(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>\"'"
    page = write_answers_page([{"image_id": "a" * 32, "label": hostile}], tmp_path).read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;" in page


def fill(table: Path, answers: dict[str, bool]) -> None:
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with table.open("w", encoding="utf-8", newline="") as file:
        lines = csv.DictWriter(file, list(rows[0]))
        lines.writeheader()
        for row in rows:
            lines.writerow({**row, "shows": {True: "yes", False: "no", None: ""}[answers.get(row["image_id"])]})


def effects(store: Store) -> list[tuple[str, float, float, bool]]:
    return [
        tuple(row)
        for row in store.rows(
            "select hypothesis_id || classifier, effect_low, effect_high, gate_could_explain from findings "
            "where status = 'confirmed' order by 1"
        )
    ]


def calibrated(path: Path, capsys: pytest.CaptureFixture[str], images: int = 400, **truths: Any) -> str:
    """What the command prints."""
    gate_calibrate_command(path, Truths(**truths), images, 0.05)
    return capsys.readouterr().out
