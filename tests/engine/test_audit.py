"""A whole audit, small: resumed, killed, repeated, extended, and never fed the truth."""

import ast
import json
import math
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mothlight.engine.config import bundle_path
from mothlight.engine.executor.pipeline import Pipeline
from mothlight.engine.opening import Models
from mothlight.engine.session import Progress
from mothlight.engine.world.scene import LABELS, SENTENCES
from mothlight.sql import open_audit
from mothlight.sql.store import DATABASE
from tests.engine.conftest import run_audit_in, small_config, toml_of

Rows = list[tuple[Any, ...]]
MOTHLIGHT = str(Path(sys.executable).with_name("mothlight"))


class StopAfter(Progress):
    """Stops the audit, as Ctrl-C does, once so many images are committed."""

    def __init__(self, images: int) -> None:
        self.left = images

    def advance(self, images: int) -> None:
        self.left -= images
        if self.left <= 0:
            raise KeyboardInterrupt


def canonical(folder: Path) -> Rows:
    with open_audit(folder / DATABASE) as store:
        return store.query("canonical")


def ask(folder: Path, statement: str) -> Rows:
    with open_audit(folder / DATABASE) as store:
        return store.rows(statement)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, models: Models) -> Path:
    """The uninterrupted audit that others are held against."""
    folder = tmp_path_factory.mktemp("whole")
    run_audit_in(folder, models, small_config())
    return folder


def test_it_goes_through_every_phase(whole: Path) -> None:
    phases: dict[str, int] = dict(ask(whole, "select phase, sum(made) from budget group by phase"))
    assert phases["discovery"] == 96
    assert phases["test"] > 0
    ((made, planned),) = ask(whole, "select sum(made), sum(planned) from budget")
    assert made == planned <= 460
    assert ask(whole, "select finished_budget from audit") == [(460,)]
    ((tested,),) = ask(whole, "select count(distinct hypothesis_id) from evidence")
    assert tested > 0


def test_every_image_has_all_its_rows(whole: Path) -> None:
    ((images,),) = ask(whole, "select count(*) from image")
    for table, factor in (("embedding", 1), ("prediction", 3), ("outcome", 3)):
        assert ask(whole, f"select count(*) from {table}") == [(factor * images,)]  # noqa: S608  # our own names


def test_what_is_counted_is_what_the_rows_say(whole: Path) -> None:
    of = "label, description, phase, wave, classifier, predicted, verdict, passed, wrong, strictly_wrong"
    counted = f"select {of}, sum(images)::bigint from counted group by all"  # noqa: S608  # our own names
    recounted = f"select {of}, count(*) from outcome group by all"  # noqa: S608  # our own names
    assert ask(whole, f"{counted} except {recounted}") == ask(whole, f"{recounted} except {counted}") == []
    ((count, images),) = ask(whole, "select count(*), sum(images) from counted")
    assert 0 < count < images
    bounds = "select sum(images)::bigint from outcome_count where gate_from >= 0.5"
    assert ask(whole, bounds) == ask(whole, "select count(*) from prediction where gate_score >= 0.5")


def test_an_image_knows_how_its_classifiers_agree(whole: Path) -> None:
    said = "select image_id, count(distinct predicted), count(*) filter (wrong) from prediction group by all"
    assert ask(whole, f"{said} except select image_id, answers, errors from image") == []  # noqa: S608  # our own words
    assert ask(whole, "select max(answers) > 1 and max(errors) > 0 from image") == [(True,)]


def test_counted_pairs_are_what_the_view_of_pairs_says(whole: Path) -> None:
    recounted = """
        select hypothesis_id, classifier, wave, count(*) as images,
            count(*) filter (passed) as n, count(*) filter (passed and event) as failures,
            count(*) filter (plain_passed) as baseline_n,
            count(*) filter (plain_passed and plain_event) as baseline_failures,
            count(*) filter (both_passed) as pairs,
            count(*) filter (both_passed and event and not plain_event) as more,
            count(*) filter (both_passed and plain_event and not event) as less,
            count(*) filter (event) as failures_without_gate,
            count(*) filter (plain_event) as baseline_failures_without_gate
        from pair left join evidence using (hypothesis_id, classifier, wave)
        where phase = 'reserve' or evidence.pairs is not null
        group by all
    """
    assert ask(whole, f"{recounted} except from pair_count") == ask(whole, f"from pair_count except {recounted}") == []
    assert ask(whole, "select pairs, more, less from evidence except select pairs, more, less from pair_count") == []


def test_discovery_is_never_proof_and_no_index_is_used_twice(whole: Path) -> None:
    assert ask(whole, "select count(*) from evidence where wave = 0") == [(0,)]
    overlapping = """
        select count(*) from wave a join prompt p using (prompt_id) join wave b on b.wave > a.wave
        join prompt q on q.prompt_id = b.prompt_id and q.label = p.label
        where b.first_index < a.first_index + a.images
    """
    assert ask(whole, overlapping) == [(0,)]


def test_evidence_is_what_the_pairs_say(whole: Path) -> None:
    recounted = """
        select hypothesis_id, classifier, wave,
            count(*) filter (both_passed), count(*) filter (both_passed and event and not plain_event),
            count(*) filter (both_passed and plain_event and not event)
        from pair where phase = 'test' group by all
    """
    stored = "select hypothesis_id, classifier, wave, pairs, more, less from evidence"
    assert set(ask(whole, stored)) == set(ask(whole, recounted))


@pytest.mark.parametrize("images", [1, 60, 150, 300])
def test_stopped_and_started_again_it_is_the_same(whole: Path, tmp_path: Path, models: Models, images: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_audit_in(tmp_path, models, small_config(), StopAfter(images))
    before = ask(tmp_path, "select chunk_id from chunk")
    run_audit_in(tmp_path, models, small_config())
    assert canonical(tmp_path) == canonical(whole)
    first_run = ask(tmp_path, "select chunk_id from chunk where run_id = 1")
    assert sorted(first_run) == sorted(before)


def test_one_stage_after_the_other_gives_the_same_rows(
    whole: Path, tmp_path: Path, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pipeline, "run", Pipeline.run_in_order)
    run_audit_in(tmp_path, models, small_config())
    assert canonical(tmp_path) == canonical(whole)


def test_other_thread_counts_give_the_same_rows(whole: Path, tmp_path: Path, models: Models) -> None:
    run_audit_in(tmp_path, models, small_config(threads=3))
    assert canonical(tmp_path) == canonical(whole)


def test_a_larger_budget_goes_on(tmp_path: Path, models: Models) -> None:
    made, waves = set[tuple[Any, ...]](), 0
    for budget in (150, 460):
        run_audit_in(tmp_path, models, small_config(max_images=budget))
        before, made = made, set(ask(tmp_path, "select image_id from image"))
        earlier, ((waves,),) = waves, ask(tmp_path, "select count(distinct wave) from evidence")
        assert before < made
        assert len(made) <= budget
        assert earlier < waves
        assert ask(tmp_path, "select finished_budget from audit") == [(budget,)]


def test_a_little_more_budget_takes_no_reserve_away(whole: Path, tmp_path: Path, models: Models) -> None:
    shutil.copytree(whole, tmp_path / "little")
    run_audit_in(tmp_path / "little", models, small_config(max_images=462))
    measured = (
        "select hypothesis_id, classifier, provenance, pairs from findings where status = 'confirmed' order by all"
    )
    assert ask(whole, measured)
    assert {row[2] for row in ask(whole, measured)} == {"reserve"}
    assert ask(tmp_path / "little", measured) == ask(whole, measured)


def command(toml: Path, out: Path, *more: str) -> list[str]:
    return [MOTHLIGHT, "audit", str(toml), "--out", str(out), *more]


def kill_and_resume(toml: Path, out: Path, seed: int, number: int) -> None:
    """Kill the audit's whole process group at a random moment, twice, then let it end."""
    rng = random.Random(seed)
    for _ in range(2):
        process = subprocess.Popen(
            command(toml, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(rng.uniform(1.0, 5.0))
        if process.poll() is None:
            os.killpg(process.pid, number)
        process.wait(timeout=60)
    subprocess.run(command(toml, out), check=True, capture_output=True)


def test_killed_it_goes_on_to_the_same_end(whole: Path, small_toml: Path, tmp_path: Path) -> None:
    kill_and_resume(small_toml, tmp_path / "killed", 1, signal.SIGKILL)
    assert canonical(tmp_path / "killed") == canonical(whole)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 7))
def test_killed_at_other_moments(whole: Path, small_toml: Path, tmp_path: Path, seed: int) -> None:
    kill_and_resume(small_toml, tmp_path / "killed", seed, signal.SIGKILL)
    assert canonical(tmp_path / "killed") == canonical(whole)


HEARING = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
"""A shell lets what it starts in the background ignore Ctrl-C, and so may be these tests."""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_it_politely(small_toml: Path, tmp_path: Path, number: int, code: int) -> None:
    words = [sys.executable, "-c", HEARING, *command(small_toml, tmp_path / "out")]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    with process:
        for line in process.stderr:
            if "looking for failures" in line:
                break
        process.send_signal(number)
        _, rest = process.communicate(timeout=20)
    assert process.returncode == code
    assert "The same command goes on from there." in rest
    assert "Traceback" not in rest


def test_a_finished_audit_prints_its_result_at_once(whole: Path, small_toml: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "done")
    answer = subprocess.run(command(small_toml, tmp_path / "done"), check=True, capture_output=True, text=True)
    assert "images/s" not in answer.stderr
    assert "Images: 96 discovery" in answer.stdout
    assert (tmp_path / "done" / "report" / "index.html").is_file()
    assert ask(tmp_path / "done", "select count(*) from run") == [(1,)]


def output(*arguments: str) -> str:
    return subprocess.run([MOTHLIGHT, *arguments], check=True, capture_output=True, text=True).stdout


def test_the_database_is_asked_from_the_command_line(whole: Path, tmp_path: Path) -> None:
    audit = str(whole)
    assert "Whose error it was" in output("sql", audit) or "whose error it was" in output("sql", audit)
    assert "<JPEG " in output("sql", str(whole / DATABASE), "select jpeg from image limit 1")
    table = output("sql", audit, "select image_id from image", "--limit", "3")
    ((images,),) = ask(whole, "select count(*) from image")
    assert images > 3
    assert table.splitlines()[-1] == "… and more; --limit 30 shows more, --csv all"
    assert json.loads(output("sql", audit, "select 1 as a, null as b", "--json")) == [{"a": 1, "b": None}]
    assert output("sql", audit, "select 1 as a, 'x,y' as b", "--csv") == 'a,b\n1,"x,y"\n'
    assert "generator_misses" in output("query", audit, "ledger")
    assert output("query", audit, "differences", "--against", audit).startswith("what  classifier  label")
    image_id = ask(whole, "select image_id from image limit 1")[0][0]
    output("image", audit, image_id, "--out", str(tmp_path / "x.jpg"))
    assert (tmp_path / "x.jpg").read_bytes()[:3] == b"\xff\xd8\xff"
    assert Path(output("report", audit, "--out", str(tmp_path / "r")).strip()).is_file()


def readme_commands(root: Path) -> list[list[str]]:
    blocks = re.findall(r"^```sh\n(.*?)^```", (root / "README.md").read_text(), flags=re.DOTALL | re.MULTILINE)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [words[1:] for words in lines if words[:1] == ["mothlight"]]


SHOWN_ONLY = ("audit", "export", "models")


def test_the_commands_of_the_readme_run(whole: Path, tmp_path: Path, root: Path) -> None:
    """On the small audit instead of the large one; what makes an audit or a bundle is shown its options only."""
    for name in ("tinyworld", "photographs-0"):
        shutil.copytree(whole, tmp_path / "audits" / name)
    shutil.copytree(bundle_path("tinyworld:clean-resnet", Path()), tmp_path / "bundles" / "mine")
    image_id = ask(whole, "select image_id from image limit 1")[0][0]
    commands = readme_commands(root)
    assert len(commands) >= 10
    for words in commands:
        real = [image_id if re.fullmatch("[0-9a-f]{4}", word) else word for word in words]
        real += ["--pairs", "5"] if words[0] == "score" else ["--help"] if words[0] in SHOWN_ONLY else []
        subprocess.run([MOTHLIGHT, *real], cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["sql", "AUDIT", "selec 1"], "SQL: Parser Error: syntax error"),
        (["sql", "AUDIT", "select nothing from outcome"], 'Referenced column "nothing" not found'),
        (["sql", "AUDIT", "delete from image"], "read-only"),
        (["sql", "AUDIT", "select * from read_text('/etc/passwd')"], "SQL: "),
        (["sql", "nowhere"], "There is no audit at nowhere."),
        (["query", "AUDIT", "nonsense"], "There is no query `nonsense`; there are budget"),
        (["query", "AUDIT", "differences"], "`differences`, and no other, takes --against"),
        (["query", "AUDIT", "ledger", "--against", "AUDIT"], "and no other, takes --against"),
        (["image", "AUDIT", "zzz", "--out", "x.jpg"], "No image in "),
        (["report", "nowhere"], "There is no audit at nowhere."),
        (["score", "AUDIT", "--truth", "nowhere.toml"], "Can't read the truth nowhere.toml"),
    ],
)
def test_a_wrong_question_is_one_sentence(whole: Path, arguments: list[str], sentence: str) -> None:
    code, words = refused([MOTHLIGHT, *(str(whole) if word == "AUDIT" else word for word in arguments)])
    assert code == 2
    assert sentence in words


def test_a_reader_that_has_seen_enough_is_no_error(whole: Path) -> None:
    ask_all = f"{MOTHLIGHT} sql {whole} 'from outcome' --csv"
    answer = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {ask_all} | head -n 1"], check=False, capture_output=True, text=True
    )
    assert answer.stdout.startswith("image_id,classifier")
    assert answer.stderr == ""
    assert answer.returncode in (0, 141)


def refused(arguments: Sequence[str]) -> tuple[int, str]:
    answer = subprocess.run(arguments, check=False, capture_output=True, text=True)
    assert answer.stderr.count("\n") == 1, answer.stderr
    return answer.returncode, answer.stderr


@pytest.mark.parametrize(
    ("old", "new", "code", "sentence"),
    [
        ("tinyworld:gate", "tinyworld:gatte", 2, "There is no bundle at"),
        ("seed = ", "sead = ", 2, "there is no setting `sead`; did you mean `seed`?"),
        ('name = "fly"', 'name = "gnat"', 2, "has no label `gnat`"),
        ("max_images = 460", "max_images = 50", 2, "the discovery alone takes 96 images"),
        ("tinyworld:clip", "tinyworld:gate", 2, "is a gate, and `embedder` wants an embedder"),
    ],
)
def test_bad_settings_are_one_sentence(
    small_toml: Path, tmp_path: Path, old: str, new: str, code: int, sentence: str
) -> None:
    text = small_toml.read_text()
    assert old in text
    small_toml.write_text(text.replace(old, new))
    given, words = refused(command(small_toml, tmp_path / "out"))
    assert given == code
    assert sentence in words


def test_a_changed_byte_in_a_bundle_is_found(small_toml: Path, tmp_path: Path, root: Path) -> None:
    shutil.copytree(root / "engine" / "world" / "bundles" / "gate", tmp_path / "gate")
    graph = tmp_path / "gate" / "classify.onnx"
    raw = bytearray(graph.read_bytes())
    raw[len(raw) // 2] ^= 1
    graph.write_bytes(raw)
    small_toml.write_text(small_toml.read_text().replace("tinyworld:gate", "gate"))
    code, words = refused(command(small_toml, tmp_path / "out"))
    assert code == 6
    assert "classify.onnx was changed" in words


def test_a_damaged_database_is_found(whole: Path, small_toml: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "bad")
    database = tmp_path / "bad" / DATABASE
    raw = bytearray(database.read_bytes())
    raw[:8192] = bytes(8192)
    database.write_bytes(raw)
    code, words = refused(command(small_toml, tmp_path / "bad"))
    assert code == 6
    assert "damaged" in words


def test_a_second_writer_is_told_of_the_first(whole: Path, small_toml: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "busy")
    with open_audit(tmp_path / "busy" / DATABASE, read_only=False):
        code, words = refused(command(small_toml, tmp_path / "busy"))
    assert code == 5
    assert f"PID {os.getpid()}" in words


def test_another_seed_in_the_same_folder_is_refused(whole: Path, small_toml: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "same")
    code, words = refused(command(small_toml, tmp_path / "same", "--seed", "77"))
    assert code == 2
    assert "other settings (seed = 1, now 77)" in words


def test_the_audit_knows_no_word_of_the_world(root: Path) -> None:
    """No label and no sentence of tinyworld stands as a string under engine/audit, nor is its grammar imported."""
    for file in (root / "engine" / "audit").glob("*.py"):
        tree = ast.parse(file.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in SENTENCES
                assert node.value not in LABELS
        assert not re.search(r"engine\.world|truth", file.read_text())


OUT_OF_REACH = """
import pathlib, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("mothlight.engine.world."):
            raise ImportError(f"{name} is out of reach")

opened = pathlib.Path.read_text

def guarded(self, *arguments, **options):
    if self.name == "truth.toml":
        raise PermissionError(self)
    return opened(self, *arguments, **options)

sys.meta_path.insert(0, Refuse())
pathlib.Path.read_text = guarded
from mothlight.engine.audit_command import Choices, audit_command
toml, out = map(pathlib.Path, sys.argv[1:])
sys.exit(audit_command(toml, Choices(out=out)))
"""


def test_truth_and_grammar_out_of_reach_change_nothing(tmp_path: Path) -> None:
    """The neural generator's audit, with all of engine/world but the bundles out of reach."""
    toml = tmp_path / "small.toml"
    label = {"name": "butterfly", "hypernym": "insect"}
    config = small_config(generator="tinyworld:generator", steps=4, labels=[label], max_images=90)
    toml.write_text(toml_of(config))
    subprocess.run(command(toml, tmp_path / "with"), check=True, capture_output=True)
    blind = [sys.executable, "-P", "-c", OUT_OF_REACH, str(toml), str(tmp_path / "without")]
    subprocess.run(blind, check=True, capture_output=True)
    assert canonical(tmp_path / "without") == canonical(tmp_path / "with")


def test_ideas_of_one_s_own_are_tested_first_and_with_a_share_of_their_own(tmp_path: Path, models: Models) -> None:
    idea = {"label": "fly", "description": "It is on a flower"}
    run_audit_in(tmp_path, models, small_config(hypotheses=[idea], max_images=300))
    rounds = ask(tmp_path, "select round, kind, tests from round order by round")
    assert (2, "own", 3) in rounds
    ((origin, weight, waves),) = ask(
        tmp_path,
        "select origin, weight, waves from hypothesis join question using (hypothesis_id, origin) where origin = 'own'",
    )
    assert weight == pytest.approx(6 / (math.pi * 2) ** 2 / 3)
    assert (origin, waves > 0) == ("own", True)
    another = {"label": "butterfly", "description": "it is red."}
    same = {"label": "fly", "description": "ON THE FLOWERS!"}
    run_audit_in(tmp_path, models, small_config(hypotheses=[idea, another, same], max_images=420))
    asked = "select label, description, waves > 0 from question where origin = 'own' order by all"
    assert ask(tmp_path, asked) == [("butterfly", "it is red.", True), ("fly", "it is on a flower.", True)]


def test_an_idea_about_another_label_is_one_sentence(small_toml: Path, tmp_path: Path) -> None:
    for words, said in (
        (["--hypothesis", "it is red.", "--label", "flyy"], "a hypothesis is about `flyy`; under audit are fly"),
        (["--hypothesis", "...", "--label", "fly"], "says nothing"),
        (["--hypothesis", "it is red."], "1 --hypothesis and 0 --label"),
    ):
        done = subprocess.run(command(small_toml, tmp_path / "x", *words), capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stderr
        assert said in done.stderr
