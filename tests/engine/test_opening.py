"""Which audits go on with which settings, and which batches fit."""

import json
import subprocess
import sys
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import pytest

from mothlight.engine import session
from mothlight.engine.errors import UserError
from mothlight.engine.executor.source import by_prompts
from mothlight.engine.making import this_machine
from mothlight.engine.opening import check_batch, load_models, open_database
from mothlight.engine.records import Chunk, Prompt
from mothlight.engine.score import load_truth
from mothlight.sql import open_audit
from tests.engine.conftest import small_config


def begun(folder: Path) -> Path:
    """The database of an audit that has made no image yet."""
    config = small_config()
    path = folder / "audit.duckdb"
    open_database(path, config, load_models(config, Path()), Path()).close()
    return path


def change(path: Path, **settings: object) -> None:
    """Settings as another version would have stored them; None takes a key away."""
    with open_audit(path, read_only=False) as store:
        ((text,),) = store.rows("select settings from audit")
        merged = {**json.loads(text), **settings}
        kept = {key: value for key, value in merged.items() if value is not None}
        store.rows("update audit set settings = $text", text=json.dumps(kept))


def go_on(path: Path, **changes: object) -> None:
    config = small_config(**changes)
    open_database(path, config, load_models(config, Path()), Path()).close()


def test_a_setting_that_came_later_is_at_its_default(tmp_path: Path) -> None:
    path = begun(tmp_path)
    change(path, min_group=None, phrase_template=None)
    go_on(path)
    with pytest.raises(UserError, match=r"min_group = 1, now 2"):
        go_on(path, min_group=2)


def test_a_setting_that_is_unknown_here_is_named(tmp_path: Path) -> None:
    path = begun(tmp_path)
    change(path, of_tomorrow=3)
    with pytest.raises(UserError, match="that this version of mothlight does not know"):
        go_on(path)


def test_other_rules_do_not_go_on(tmp_path: Path) -> None:
    path = begun(tmp_path)
    with open_audit(path, read_only=False) as store:
        store.rows("update audit set rules = 99")
    with pytest.raises(UserError, match="decides by other rules"):
        go_on(path)


def test_other_weights_do_not_go_on(tmp_path: Path) -> None:
    path = begun(tmp_path)
    with open_audit(path, read_only=False) as store:
        store.rows("update model set content_key = 'other' where role = 'gate'")
    with pytest.raises(UserError, match="other weights"):
        go_on(path)


@pytest.mark.parametrize("settings", [{"chunk_images": 20}, {"wave_images": 4}, {"batch": 64}])
def test_a_batch_that_would_be_padded_is_refused(settings: dict[str, int]) -> None:
    with pytest.raises(UserError, match=r"no multiple of `batch`.*set `\w+ = \d+`"):
        check_batch(small_config(**settings))


def test_a_clock_that_is_set_back_ends_no_audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config(max_images=100)
    models = load_models(config, Path())
    times = iter([session._now().replace(year=2031), session._now()])
    monkeypatch.setattr(session, "_now", lambda: next(times))
    with open_database(tmp_path / "audit.duckdb", config, models, Path()) as store:
        with session.Session(config, models, store, session.Progress()) as one:
            one.run()
        assert store.rows("select ended_at = started_at from run") == [(True,)]


def test_other_libraries_and_threads_are_said_when_an_audit_goes_on() -> None:
    with open_audit() as store:
        assert session.other_conditions(store, 2) == ""
        run = {"run_id": 1, "mothlight_version": version("mothlight"), "machine": this_machine(), "threads": 2}
        store.append("run", [run | {"started_at": datetime(2026, 1, 1), "max_images": 9, "batch": 3}])  # noqa: DTZ001  # UTC
        assert session.other_conditions(store, 2) == ""
        assert "2 threads; those to come with" in session.other_conditions(store, 4)
        store.rows("update run set machine = 'x86_64, 64 cores, onnxruntime 1.0'")
        assert "onnxruntime 1.0, 2 threads; those to come" in session.other_conditions(store, 2)


@pytest.mark.parametrize("most", [1, 2, 100])
def test_parts_hold_so_many_prompts(most: int) -> None:
    chunks = [Chunk(Prompt("fly", f"prompt {place // 3}"), place, 12, 0) for place in range(20)]
    parts = list(by_prompts(chunks, most))
    assert [chunk for part in parts for chunk in part] == chunks
    assert max(len({chunk.prompt for chunk in part}) for part in parts) == min(most, 7)
    assert list(by_prompts([], most)) == []


def test_a_truth_has_one_key_in_every_process() -> None:
    code = "from mothlight.engine.score import load_truth; print(load_truth().key)"
    said = {
        subprocess.run(
            [sys.executable, "-P", "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert said == {load_truth().key}
