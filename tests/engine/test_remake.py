"""What is kept of an audit's pictures, and that a picture that was not is made again, equal."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from mothlight.engine.command import remake_command
from mothlight.engine.config import ServedGenerator
from mothlight.engine.errors import UserError
from mothlight.engine.opening import Models
from mothlight.engine.remake import is_sampled
from mothlight.reports.build import build_report
from mothlight.sql import open_audit
from tests.engine.conftest import run_audit_in, small_config


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, models: Models) -> Path:
    out = tmp_path_factory.mktemp("whole")
    run_audit_in(out, models, small_config())
    return out


def said(folder: Path) -> list[tuple[str, ...]]:
    """All that an audit found, the pictures aside."""
    with open_audit(folder) as store:
        return [row for row in store.query("canonical") if row[0] != "image"]


def pictures(folder: Path) -> dict[str, bytes]:
    with open_audit(folder) as store:
        return dict(store.rows("select image_id, jpeg from image where jpeg is not null"))


@pytest.mark.parametrize("keep", ["failures", "none"])
def test_an_audit_finds_the_same_whatever_it_keeps(whole: Path, tmp_path: Path, models: Models, keep: str) -> None:
    run_audit_in(tmp_path, models, small_config(keep_images=keep))
    assert said(tmp_path) == said(whole)
    kept, everything = pictures(tmp_path), pictures(whole)
    assert kept.items() <= everything.items()
    with open_audit(whole) as store:
        reserve = {
            one for (one,) in store.rows("select image_id from image join phase using (wave) where phase = 'reserve'")
        }
        failures = {one for (one,) in store.rows("select image_id from outcome where verdict = 'failure'")}
        captioned = {one for (one,) in store.rows("select image_id from caption")}
    assert reserve
    assert failures
    sampled = {one for one in everything if is_sampled(one)}
    assert set(kept) == (reserve | failures | captioned | sampled if keep == "failures" else set())
    lost = sorted(everything.keys() - kept.keys())
    assert lost
    with open_audit(tmp_path) as store, pytest.raises(UserError, match=r"was not kept .*mothlight remake"):
        store.picture(lost[0])
    many = ", ".join(f"'{one}'" for one in lost[:30])
    assert remake_command(tmp_path, None, f"image_id in ({many})").startswith("30 of 30 pictures were made again")
    again = pictures(tmp_path)
    assert {one: again[one] for one in lost[:30]} == {one: everything[one] for one in lost[:30]}
    assert again.keys() == kept.keys() | set(lost[:30])


def test_a_finding_s_pairs_are_made_again(whole: Path, tmp_path: Path, models: Models) -> None:
    run_audit_in(tmp_path, models, small_config(keep_images="none"))
    again = "mothlight remake AUDIT --finding 1<"
    with open_audit(tmp_path) as store:
        assert again in build_report(store, tmp_path / "report").read_text()
    remake_command(tmp_path, 1, None)
    with open_audit(tmp_path) as store:
        assert again not in build_report(store, tmp_path / "report").read_text()
        ((key, classifier),) = store.rows("select hypothesis_id, classifier from findings where finding = 1")
        rows = store.rows(
            "select pair.image_id, pair.plain_image_id, described.jpeg, plain.jpeg from pair"
            " join image as described on described.image_id = pair.image_id"
            " join image as plain on plain.image_id = pair.plain_image_id"
            " where hypothesis_id = $key and classifier = $classifier and both_passed"
            " and described.jpeg is not null and plain.jpeg is not null",
            key=key, classifier=classifier,
        )  # fmt: skip
        ((pairs,),) = store.rows(
            "select count(*) from pair where hypothesis_id = $key and classifier = $classifier and both_passed",
            key=key, classifier=classifier,
        )  # fmt: skip
    assert len(rows) == pairs > 0
    everything = pictures(whole)
    assert all(row[2:] == (everything[row[0]], everything[row[1]]) for row in rows)


@pytest.mark.parametrize(("finding", "where"), [(None, None), (1, "wrong"), (None, "label = 'nothing'"), (99, None)])
def test_what_can_t_be_meant_is_said(whole: Path, finding: int | None, where: str | None) -> None:
    with pytest.raises(UserError, match=r"Say which pictures|No image is so"):
        remake_command(whole, finding, where)


def test_what_a_server_made_is_kept() -> None:
    served = ServedGenerator(url="http://127.0.0.1:1", model="m")
    with pytest.raises(ValidationError, match="can't be made again"):
        small_config(generator=served.model_dump(), keep_images="failures")
