"""Suites: frozen from a small audit, asked of other classifiers, and refused when they are damaged."""

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import pytest

from mothlight.engine.config import bundle_path
from mothlight.engine.errors import CorruptError, UserError
from mothlight.engine.opening import Models
from mothlight.engine.suite.ask import run
from mothlight.engine.suite.freeze import freeze
from mothlight.engine.suite.kept import LISTING, load_suite
from mothlight.engine.suite.pages import as_markdown, broken_gates
from mothlight.sql import open_audit
from tests.engine.conftest import run_audit_in, small_config

MOTHLIGHT = str(Path(sys.executable).with_name("mothlight"))
PLANTED, CLEAN = (bundle_path(f"tinyworld:{name}", Path()) for name in ("planted-resnet", "clean-resnet"))


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory, models: Models) -> Path:
    folder = tmp_path_factory.mktemp("audited")
    run_audit_in(folder, models, small_config(max_images=900))
    return folder


@pytest.fixture(scope="module")
def suite(audited: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suites") / "suite"
    with open_audit(audited) as store:
        freeze(store, folder, None, 100)
    return folder


@pytest.fixture
def own(suite: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(suite, tmp_path / "own"))


def test_it_holds_every_confirmed_finding_and_its_pairs(audited: Path, suite: Path) -> None:
    whole = load_suite(suite)
    with open_audit(audited) as store:
        findings = store.rows("select finding, classifier, pairs from findings where status = 'confirmed' order by 1")
    assert [(one.finding, one.classifier, len(one.pairs)) for one in whole.findings] == findings
    assert findings
    files = {path.relative_to(suite).as_posix() for path in suite.rglob("*.jpg")}
    assert files == {image.file for image in whole.images.values()}


def test_the_same_classifier_says_what_it_said_and_a_clean_one_is_fixed(suite: Path) -> None:
    _, lines = run(suite, [PLANTED, CLEAN])
    same = [line for line in lines if line.found_on == line.classifier == "planted-resnet" and line.finding]
    assert same
    for line in same:  # a JPEG is not the picture that was judged
        assert abs(line.rate - line.before_rate) < 0.15
        assert line.status in ("remaining", "unclear")
    assert {line.status for line in lines if line.classifier == "clean-resnet"} <= {"fixed", "unclear"}
    assert not broken_gates(lines, ["worse"], 1.0)
    assert broken_gates(lines, ["remaining"], None)


def test_killed_while_it_freezes_nothing_half_done_stays(audited: Path, tmp_path: Path) -> None:
    freezing = [MOTHLIGHT, "suite", "freeze", str(audited)]
    start = perf_counter()
    subprocess.run([*freezing, "--out", str(tmp_path / "whole")], check=True, capture_output=True)
    whole, seconds = files_of(tmp_path / "whole"), perf_counter() - start
    chance = random.Random(3)
    out = tmp_path / "killed"
    killed = 0
    for _ in range(2):
        process = subprocess.Popen([*freezing, "--out", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(chance.uniform(0.5, 0.9) * seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
        if out.exists():  # it was whole before the kill
            assert files_of(out) == whole
            shutil.rmtree(out)
    assert killed
    subprocess.run([*freezing, "--out", str(out)], check=True, capture_output=True)
    assert files_of(out) == whole
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_one_classifier_s_findings_alone(audited: Path, tmp_path: Path) -> None:
    with open_audit(audited) as store:
        part = freeze(store, tmp_path / "part", "planted-resnet", 5)
        assert {one.classifier for one in part.findings} == {"planted-resnet"}
        assert all(len(one.pairs) <= 5 for one in part.findings)
        with pytest.raises(UserError, match="exists; name another --out"):
            freeze(store, tmp_path / "part", None, 5)
        with pytest.raises(UserError, match="no classifier `clean-resnet`"):
            freeze(store, tmp_path / "x", "clean-resnet", 5)
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match="name another --out"):
            freeze(store, tmp_path / "file" / "x", None, 5)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_what_is_wrong_more_often_on_plain_pictures_is_new(own: Path) -> None:
    data = json.loads((own / LISTING).read_text())
    bundle = "planted-mobilenet"
    for finding in data["findings"]:
        for pair in finding["pairs"]:
            pair["plain_said"] = finding["label"]
    (own / LISTING).write_text(json.dumps(data))
    _, lines = run(own, [bundle_path(f"tinyworld:{bundle}", Path())])
    new = [line for line in lines if line.status == "new"]
    for line in new:
        assert (line.mended, line.finding, line.description) == (0, None, "")
        assert line.broken >= 6  # of a fair coin six in a row is under 5 %


def test_a_page_s_cells_cannot_end_its_table(own: Path) -> None:
    data = json.loads((own / LISTING).read_text())
    data["findings"][0]["description"] = "a | b\n<script>"
    (own / LISTING).write_text(json.dumps(data))
    whole, lines = run(own, [CLEAN])
    page = as_markdown(whole, lines)
    assert "a \\| b &lt;script>" in page
    assert "<script>" not in page


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ("picture", CorruptError, "was changed"),
        ("missing", CorruptError, "can't be read"),
        ("outside", CorruptError, "outside of it"),
        ("lost", CorruptError, "does not hold"),
        ("text", CorruptError, "is no suite"),
        ("newer", UserError, "upgrade mothlight"),
        ("nothing", UserError, "There is no suite"),
    ],
)
def test_a_damaged_suite_is_one_sentence(own: Path, change: str, kind: type[Exception], said: str) -> None:
    listing, picture = own / LISTING, next(own.rglob("*.jpg"))
    data = json.loads(listing.read_text())
    key = next(iter(data["images"]))
    if change == "picture":
        picture.write_bytes(picture.read_bytes()[:-9])
    elif change == "missing":
        picture.unlink()
    elif change == "outside":
        data["images"][key]["file"] = "../../etc/passwd"
    elif change == "lost":
        data["findings"][0]["pairs"][0]["plain"] = "0" * 32
    elif change == "newer":
        data["format"] = 99
    if change == "text":
        listing.write_text("{")
    elif change == "nothing":
        listing.unlink()
    else:
        listing.write_text(json.dumps(data))
    with pytest.raises(kind, match=said):
        load_suite(own)


def test_the_commands(audited: Path, tmp_path: Path) -> None:
    def call(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([MOTHLIGHT, "suite", *map(str, words)], capture_output=True, text=True, check=False)

    done = call("freeze", audited, "--out", tmp_path / "s")
    assert done.returncode == 0, done.stderr
    page, result, html = tmp_path / "r.md", tmp_path / "r.json", tmp_path / "r.html"
    words = ("run", tmp_path / "s", "--classifier", PLANTED, "--markdown", page, "--json", result, "--html", html)
    assert call(*words).returncode == 0
    broken = call(*words, "--max-rate", 0.01)
    assert broken.returncode == 3
    assert "of the rates are over 1 %" in broken.stderr
    assert page.read_text() == broken.stdout
    lines = json.loads(result.read_text())["lines"]
    assert {line["classifier"] for line in lines} == {"planted-resnet"}
    shown = html.read_text(encoding="utf-8")
    assert shown.count("<strong>remaining</strong>") == sum(line["status"] == "remaining" for line in lines) > 0
    assert all(line["change"] == (line["broken"] - line["mended"]) / line["pairs"] for line in lines)
    assert call(*words, "--fail-on", "bad").returncode == 2
    assert call("run", tmp_path / "s", "--classifier", bundle_path("tinyworld:gate", Path())).returncode == 2
    assert call("run", tmp_path / "s", "--classifier", PLANTED, "--classifier", PLANTED).returncode == 2


def test_a_finding_s_story_is_told_and_a_number_that_is_none_is_one_sentence(audited: Path) -> None:
    def call(number: int) -> subprocess.CompletedProcess[str]:
        words = [MOTHLIGHT, "explain", str(audited), str(number)]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    done = call(1)
    assert done.returncode == 0, done.stderr
    with open_audit(audited) as store:
        (finding,) = store.records("select * from findings where finding = 1")
        waves = store.rows(
            "select distinct wave from evidence where hypothesis_id = $key", key=finding["hypothesis_id"]
        )
        (control,) = store.records("select * from control where finding = 1")
    assert done.stdout.startswith(f"Finding 1: {finding['label']} → {finding['predicted']}: {finding['description']}\n")
    for part in ("Where it came from", "The same bug", "Control", "Pictures", "Cost", control["control"]):
        assert part in done.stdout
    assert all(f"wave {wave}: " in done.stdout for (wave,) in waves)
    assert call(999).returncode == 2
    assert "There is no finding 999; they go to" in call(999).stderr
