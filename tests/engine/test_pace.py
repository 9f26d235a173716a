"""What set the pace of an audit is measured, named, and traced."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console

from mothlight.engine.errors import UserError
from mothlight.engine.opening import Models, open_database
from mothlight.engine.pace import ADVICE, pace, show
from mothlight.engine.session import Progress, Session
from mothlight.engine.trace import Trace
from mothlight.sql import open_audit
from mothlight.sql.store import DATABASE
from tests.engine.conftest import small_config


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, models: Models) -> Path:
    """A small audit with its trace."""
    folder = tmp_path_factory.mktemp("traced")
    config = small_config(max_images=200)
    with (
        Trace(folder / "trace.json") as trace,
        open_database(folder / DATABASE, config, models, Path()) as store,
        Session(config, models, store, Progress(), trace=trace) as session,
    ):
        session.run()
    return folder


def test_every_stage_s_time_adds_up(traced: Path) -> None:
    with open_audit(traced) as store:
        rows, sentence = pace(store)
        ((images, seconds),) = store.rows(
            "select (select count(*) from image), (select sum(seconds) from timing where work = 'images')"
        )
    by_stage = {row["stage"]: row for row in rows}
    assert {"generate", "gate", "embed", "encode", "write", "classify planted-resnet"} <= set(by_stage)
    for stage in ("generate", "gate", "embed", "encode", "write"):
        row = by_stage[stage]
        assert row["images"] == images
        waited = row["busy"] + row["waiting_for_input"] + row["waiting_for_room"]
        assert 0 < row["busy"] <= waited <= 1.02 * seconds * row["workers"]
    assert by_stage["generate"]["waiting_for_input"] == by_stage["generate"]["queue"] == 0
    assert 0 < by_stage["gate"]["queue"] < 20  # batches: no more can be under way
    assert by_stage["gate"]["waiting_for_input"] > 0
    assert any(words in sentence for words in (*ADVICE.values(), "No stage sets the pace"))


def test_it_is_shown(traced: Path) -> None:
    console = Console(record=True, width=120)
    with open_audit(traced) as store:
        show(store, console)
    text = console.export_text()
    assert "images/s" in text
    assert "a second." in text


def test_an_audit_without_a_wave_says_so(tmp_path: Path) -> None:
    open_audit(tmp_path / DATABASE, read_only=False).close()
    with open_audit(tmp_path) as store, pytest.raises(UserError, match="has no whole wave"):
        pace(store)


def test_a_trace_has_every_batch_once_and_no_two_at_once_in_a_row(traced: Path) -> None:
    events = [event for event in json.loads((traced / "trace.json").read_text()) if event.get("ph") == "X"]
    with open_audit(traced) as store:
        batches = dict(store.rows("select stage, sum(batches) from stage_stat group by stage"))
    for stage in ("generate", "gate", "embed"):
        assert sum(event["name"] == stage for event in events) == batches[stage]
    for row in {event["tid"] for event in events}:
        own = sorted(
            (event["ts"], event["ts"] + event["dur"], event["name"]) for event in events if event["tid"] == row
        )
        assert len({name for _, _, name in own}) == 1
        assert all(one[1] <= other[0] + 2 for one, other in pairwise(own))


def test_a_trace_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Can't write the trace"):
        Trace(tmp_path / "nowhere" / "trace.json")
