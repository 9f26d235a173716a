"""Where the memory is too small for a batch, the graphs get smaller pieces, and the audit goes on."""

from pathlib import Path

import pytest

from mothlight.engine.batch import Batch
from mothlight.engine.device import Stream
from mothlight.engine.making import image_ids
from mothlight.engine.models.runner import Buffers, OrtRunner
from mothlight.engine.opening import Models, open_database
from mothlight.engine.records import Chunk
from mothlight.engine.session import Progress, Session
from mothlight.engine.stages.encode import EncodeStage
from mothlight.sql import open_audit
from mothlight.sql.store import DATABASE
from tests.engine.conftest import run_audit_in, small_config


def let_fit(monkeypatch: pytest.MonkeyPatch, images: int, from_run: int = 0) -> None:
    """Let no graph run with more images than so many, after it ran so often."""
    whole = OrtRunner.enqueue
    runs = [0]

    def enqueue(self: OrtRunner, given: Buffers, made: Buffers, stream: Stream) -> None:
        runs[0] += 1
        rows = next(iter(made.values())).spec.shape[0]
        if rows > images and runs[0] > from_run:
            raise MemoryError(f"{self.path.name}: Failed to allocate memory")
        whole(self, given, made, stream)

    monkeypatch.setattr(OrtRunner, "enqueue", enqueue)


@pytest.mark.parametrize(("fits", "from_run", "pieces"), [(3, 0, [3]), (2, 40, [3, 1]), (1, 0, [3, 1])])
def test_pieces_get_smaller_and_the_audit_goes_on(
    tmp_path: Path, models: Models, monkeypatch: pytest.MonkeyPatch, fits: int, from_run: int, pieces: list[int]
) -> None:
    config = small_config(max_images=150)
    with monkeypatch.context() as patch:
        let_fit(patch, fits, from_run)
        run_audit_in(tmp_path / "short", models, config)
    run_audit_in(tmp_path / "whole", models, config)
    with open_audit(tmp_path / "short") as short, open_audit(tmp_path / "whole") as whole:
        asked = "select image_id, classifier, predicted, verdict from outcome order by all"
        assert short.rows(asked) == whole.rows(asked)
        assert short.rows("select pieces from shortage order by place") == [(size,) for size in pieces]
        assert "Failed to allocate" in short.rows("select reason from shortage")[0][0]
        assert whole.rows("select * from shortage") == []


def test_an_image_that_has_no_room_alone_is_a_failed_item(
    tmp_path: Path, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where pieces can't get smaller, what was in flight is made image by image, and one is set aside."""
    config = small_config(max_images=150)
    wanted = Chunk(config.plain_prompt(config.labels[0]), 0, config.chunk_images, 0).image_id(4)
    whole = EncodeStage.__call__

    def encode(self: EncodeStage, batch: Batch) -> Batch:
        if wanted in image_ids(batch):
            raise MemoryError("a picture has no room")
        return whole(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(EncodeStage, "__call__", encode)
        run_audit_in(tmp_path / "short", models, config)
    run_audit_in(tmp_path / "whole", models, config)
    with open_audit(tmp_path / "short") as short, open_audit(tmp_path / "whole") as whole_audit:
        asked = "select image_id, classifier, predicted, verdict from outcome where wave = 0 order by all"
        assert short.rows(asked) == [row for row in whole_audit.rows(asked) if row[0] != wanted]
        ((index, reason, again),) = short.rows("select index, reason, asked_again from item_failure")
        assert (index, again) == (4, True)
        assert reason == "there was no memory for it: a picture has no room"


def test_where_not_even_one_fits_it_ends(tmp_path: Path, models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config(max_images=150)
    path = tmp_path / DATABASE
    with open_database(path, config, models, Path()) as store, Session(config, models, store, Progress()) as session:
        let_fit(monkeypatch, 0)
        with pytest.raises(MemoryError, match="Failed to allocate"):
            session.run()
        assert store.rows("select count(*) from image") == [(0,)]
