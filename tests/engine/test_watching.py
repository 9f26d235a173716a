"""How far an audit is, seen from another shell, or read by machine."""

import json
from io import StringIO
from pathlib import Path

import pytest

from mothlight.engine import console
from mothlight.engine.console import JsonProgress
from mothlight.engine.errors import LockedError
from mothlight.engine.opening import Models
from mothlight.engine.watching import watch
from mothlight.sql import Store, open_audit
from mothlight.sql.store import DATABASE
from tests.engine.conftest import run_audit_in, small_config


def test_an_audit_that_has_ended_is_one_line(tmp_path: Path, models: Models) -> None:
    run_audit_in(tmp_path, models, small_config(max_images=150))
    (line,) = watch(lambda: open_audit(tmp_path), 0.1)
    assert line.startswith("tinyworld: ")
    assert "of at most 150 images" in line
    assert "ended: the budget is spent" in line


def test_one_that_runs_has_a_line_for_each_look(tmp_path: Path) -> None:
    time = 0.0
    images = 0
    path = tmp_path / DATABASE

    def opened() -> Store:
        store = open_audit(path, read_only=False)
        if not images:
            store.rows("insert into audit values ('a', 'night', 0, 'g', '{}', '', null, 0.1, 0.4, null, null, 1)")
            store.rows("insert into wave values (0, 'discovery', 0, 'p', 0, 1000, 1000)")
        elif images <= 300:
            store.rows("insert into chunk values ($id, 'p', 0, 0, 100, 1)", id=str(images))
        store.is_running = images < 300
        return store

    def sleep(seconds: float) -> None:
        nonlocal time, images
        time += seconds
        images += 100

    lines = list(watch(opened, 5.0, lambda: time, sleep))
    assert (
        lines[0]
        == "night: looking for failures, wave 0, 0 of 1,000; 0 of at most 1,000 images; 0 bugs in 0 confirmed findings"
    )
    assert "200 of at most 1,000 images; 20.0 a second, at most 40 s left" in lines[2]
    assert lines[-1].endswith("not running, and not at its end")
    assert len(lines) == 4


def test_one_that_never_answers_is_not_waited_for_for_ever() -> None:
    waited: list[float] = []

    def closed() -> Store:
        raise LockedError("another process")

    with pytest.raises(LockedError):
        list(watch(closed, 5.0, sleep=waited.append))
    assert 10 < sum(waited) < 60


def test_json_progress_is_a_line_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    time = 100.0
    monkeypatch.setattr(console, "monotonic", lambda: time)
    out = StringIO()
    progress = JsonProgress(out)
    progress.phase("testing", 480, 3)
    for _ in range(24):
        time += 1.0
        progress.advance(20)
    progress.compiling("resnet: 1 of 2", 0.5)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line.get("done") for line in lines] == [0, 200, 400, 480]
    assert lines[1]["images_per_second"] == 20.0
    assert lines[2] | {"time": ""} == {
        "time": "", "phase": "testing", "confirmed": 3, "done": 400, "of": 480, "images_per_second": 20.0,
    }  # fmt: skip
    assert lines[3]["phase"] == "compiling resnet: 1 of 2"
