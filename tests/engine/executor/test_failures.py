"""What fails costs no more than itself, is tried again once, and ends the run when it is too much."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mothlight.engine.batch import Batch
from mothlight.engine.errors import TooManyFailuresError
from mothlight.engine.executor.failures import LEAST, Failures
from mothlight.engine.executor.writer import rows_of
from mothlight.engine.opening import Models
from mothlight.engine.records import Chunk, Prompt
from mothlight.engine.world.render import Renderer
from mothlight.sql import open_audit
from tests.engine.conftest import run_audit_in, small_config

LABELS = ["fly", "bee", "snail"]


def judged(size: int, broken: dict[str, int]) -> Batch:
    """A batch as it comes to the writer; in some arrays one row is not finite."""
    arrays: dict[str, NDArray[np.generic]] = {
        "gate": np.ones(size, np.float32),
        "embedding": np.ones((size, 4), np.float32),
        "jpeg": np.array([b"picture"] * size, dtype=object),
    }
    for position in range(2):
        arrays |= {
            f"scores_{position}": np.full((size, 2), 0.5, np.float32),
            f"indices_{position}": np.zeros((size, 2), np.int64),
            f"score_{position}": np.full(size, 0.5, np.float32),
        }
    for name, row in broken.items():
        arrays[name][row] = np.nan
    return Batch(Chunk(Prompt("fly", "a fly"), 0, size, 0), tuple(range(size)), size).with_arrays(**arrays)


@pytest.mark.parametrize(
    ("broken", "counts"),
    [
        ({}, {"one": 4, "other": 4, "embedding": 4, "failed": 0}),
        ({"scores_0": 2}, {"one": 3, "other": 4, "embedding": 4, "failed": 1}),
        ({"score_1": 0}, {"one": 4, "other": 3, "embedding": 4, "failed": 1}),
        ({"embedding": 3}, {"one": 4, "other": 4, "embedding": 3, "failed": 1}),
        ({"scores_0": 1, "scores_1": 1, "embedding": 1}, {"one": 3, "other": 3, "embedding": 3, "failed": 3}),
    ],
)
def test_a_model_that_fails_costs_itself_alone(broken: dict[str, int], counts: dict[str, int]) -> None:
    with open_audit() as store:
        tables = rows_of(store, [("one", LABELS), ("other", LABELS)]).of([[judged(4, broken)]])
    predictions = Counter(
        name for table, rows in tables if table == "prediction" for name in rows.column("classifier").to_pylist()
    )
    by_name = {name: rows for name, rows in tables if name != "prediction"}
    assert predictions == {"one": counts["one"], "other": counts["other"]}
    assert by_name["image"].num_rows == 4
    assert by_name["embedding"].num_rows == counts["embedding"]
    assert by_name["model_failure"].num_rows == counts["failed"]
    assert by_name["item_failure"].num_rows == 0


def test_a_few_failures_say_nothing() -> None:
    Failures(0.1).count("generate", LEAST - 1, LEAST - 1, "x")


def test_a_share_over_the_bound_ends_the_run() -> None:
    failures = Failures(0.1)
    failures.count("generate", 500, 10, "index 1")
    failures.count("one", 500, 50, "index 2")
    with pytest.raises(TooManyFailuresError, match=r"in `generate`: 70 of 600 \(12 %|in `generate`: 70 of 600 \(12%"):
        failures.count("generate", 100, 60, "index 3")
    with pytest.raises(TooManyFailuresError, match=r"in `one`: 51 of 500 .*the last index 4\."):
        failures.count("one", 0, 1, "index 4")


class _Blank:
    """Makes the images of some indices black, the first time or always."""

    def __init__(self, once: set[int], always: set[int]) -> None:
        self.once, self.always = once, always
        self.seen: set[tuple[str, int]] = set()
        self.draw = Renderer.images

    def __call__(self, renderer: Renderer, prompt: Prompt, indices: list[int]) -> NDArray[np.uint8]:
        images = np.array(self.draw(renderer, prompt, indices))
        for row, index in enumerate(indices):
            first = (prompt.text, index) not in self.seen
            if index in self.always or (index in self.once and first):
                images[row] = 0
        self.seen |= {(prompt.text, index) for index in indices}
        return images


def test_what_failed_is_tried_once_more(tmp_path: Path, models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    blank = _Blank(once={3, 20, 21}, always={7})
    monkeypatch.setattr(Renderer, "images", lambda *given: blank(*given))  # noqa: PLW0108  # a function is bound, it is not
    run_audit_in(tmp_path, models, small_config(max_images=150))
    with open_audit(tmp_path) as store:
        assert store.rows("select distinct index, asked_again from item_failure") == [(7, True)]
        ((images, predictions, planned),) = store.rows(
            "select (select count(*) from image), (select count(*) from prediction), (select sum(images) from chunk)"
        )
        ((failed,),) = store.rows("select count(*) from item_failure")
        assert images + failed == planned
        assert predictions == 3 * images


def test_a_generator_that_fails_ends_the_run_and_says_so(
    tmp_path: Path, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    blank = _Blank(once=set(), always=set(range(0, 1000, 3)))
    monkeypatch.setattr(Renderer, "images", lambda *given: blank(*given))  # noqa: PLW0108  # a function is bound, it is not
    with pytest.raises(TooManyFailuresError, match="single colour"):
        run_audit_in(tmp_path, models, small_config(max_images=150))
    with open_audit(tmp_path) as store:
        assert store.rows("select count(*) > 0 from item_failure") == [(True,)]
    run_audit_in(tmp_path, models, small_config(max_images=150, max_failures=0.5))
