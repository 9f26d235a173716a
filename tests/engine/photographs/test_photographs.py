"""Audits of photographs: scikit-learn's digits, for a classifier that never saw wide ones; pictures of tinyworld."""

import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mothlight.engine.cli import app
from mothlight.engine.errors import MothlightError
from mothlight.engine.photographs.taking import take
from mothlight.engine.records import Prompt
from mothlight.engine.world.render import Renderer
from mothlight.reports.reading import read_changes
from mothlight.sql import open_audit
from tests.engine.photographs import digits
from tests.engine.test_served import Server, pixels_of, running

TINYWORLD = """
gate = "tinyworld:gate"
embedder = "tinyworld:clip"
captioner = "tinyworld:captioner"
"""


def mothlight(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    if isinstance(result.exception, MothlightError):
        return result.exception.exit_code, f"{result.exception}\n"
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def rows(folder: Path, statement: str) -> list[tuple[Any, ...]]:
    with open_audit(folder / "audit.duckdb") as store:
        return store.rows(statement)


def as_written(body: dict[str, Any]) -> str:
    """How a digit is written, and nothing of which it is."""
    picture = pixels_of(body)[..., 0].astype(np.float64)[None]
    wide = digits.spread(picture)[0] > digits.WIDE
    heavy = picture.mean() > 80
    return f"it is {'wide' if wide else 'narrow'}. the pen is {'heavy' if heavy else 'light'}."


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as one:
        one.describe = as_written
        yield one


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Path:
    """A folder with the digits, the classifiers' bundles, and settings for each."""
    folder = tmp_path_factory.mktemp("digits")
    digits.save(folder / "photos")
    digits.classifier(folder / "gate", sees_all=True, role="gate", kept=20)
    digits.classifier(folder / "before", sees_all=False)
    digits.classifier(folder / "after", sees_all=True)
    (folder / "photos" / "one" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    shutil.copy(min((folder / "photos" / "two").iterdir()), folder / "photos" / "three" / "again.png")
    (folder / "photos" / "ten").mkdir()
    shutil.copy(min((folder / "photos" / "four").iterdir()), folder / "photos" / "ten" / "new.png")
    for name in ("before", "after"):
        (folder / f"{name}.toml").write_text(
            f'name = "{name}"\nimages = {{ folder = "photos" }}\nclassifiers = ["{name}/bundle"]\n'
            f'gate = "gate/bundle"\nembedder = "tinyworld:clip"\n'
            f'captioner = {{ url = "{server.url}", model = "qwen-vl" }}\n'
        )
    return folder


@pytest.fixture(scope="module")
def before(photos: Path) -> Path:
    code, words = mothlight("audit", photos / "before.toml", "--out", photos / "audit-before")
    assert code == 0, words
    return photos / "audit-before"


def test_the_style_that_was_left_out_is_found_and_proved_on_the_other_half(before: Path) -> None:
    found = rows(
        before, "select label, description, tested_on, proved_on, rate, baseline_rate, pairs from findings where main"
    )
    assert found
    assert {(label, tested, proved) for label, _, tested, proved, *_ in found} == {
        ("one", "photographs", "photographs")
    }
    ((_, description, _, _, rate, baseline, pairs),) = found
    assert "it is wide." in description
    assert rate > baseline + 0.3
    assert pairs >= 10


def test_each_photograph_is_a_row_in_one_half_or_has_a_reason(before: Path, photos: Path) -> None:
    files = sum(1 for file in (photos / "photos").rglob("*.png"))
    assert rows(before, "select count(*) from photograph") == [(files,)]
    reasons = dict(rows(before, "select name, reason from photograph where reason is not null"))
    twice = min((photos / "photos" / "two").iterdir()).name
    elsewhere = min((photos / "photos" / "four").iterdir()).name
    assert sorted(reasons) == [
        f"four/{elsewhere}", "one/torn.png", "ten/new.png", "three/again.png", f"two/{twice}"
    ]  # fmt: skip
    assert "damaged" in reasons["one/torn.png"]
    assert reasons["ten/new.png"].startswith("it is the same file as four/")
    assert reasons["three/again.png"] == f"the same file is there as two/{twice}, labelled two"
    assert reasons[f"two/{twice}"] == "it is the same file as three/again.png, which is labelled three"
    halves = rows(before, "select half, count(*) from photograph where half is not null group by half order by half")
    assert {half for half, _ in halves} == {"discovery", "proof"}
    assert min(count for _, count in halves) > 0.45 * files
    # what was looked at for descriptions proves nothing: each pair is of the proof
    phases = rows(
        before,
        """
        select distinct phase from photograph_pair
        join outcome on outcome.image_id in (photograph_pair.image_id, plain_image_id)
        """,
    )
    assert phases == [("proof",)]
    clustered = rows(before, "select distinct phase from cluster_member join outcome using (image_id)")
    assert clustered == [("photographs",)]


def test_the_counts_are_those_of_the_rows(before: Path) -> None:
    counted = rows(
        before,
        "select hypothesis_id, classifier, pairs, more, less from pair_count order by all",
    )
    again = rows(
        before,
        """
        select hypothesis_id, classifier, count(*), count(*) filter (event and not plain_event),
            count(*) filter (plain_event and not event)
        from pair where both_passed group by all order by all
        """,
    )
    assert counted == again
    assert again


def test_what_the_gate_doubts_is_listed_and_in_no_rate(before: Path) -> None:
    doubted = rows(before, "select name, label from label_or_gate")
    used, judged = rows(
        before, "select (select count(*) from photograph where half is not null), sum(n) from plain_rate"
    )[0]
    assert judged == used - len(doubted)
    assert rows(before, "select sum(label_or_gate), sum(generator_misses), sum(ambiguous) from ledger") == [
        (len(doubted), 0, 0)
    ]
    with open_audit(before / "audit.duckdb") as store:
        assert len(store.named("label_or_gate")) == len(doubted)
        assert "one/torn.png" in [name for name, *_ in store.query("set_aside")]


def test_the_report_says_what_was_proved_on_what(before: Path) -> None:
    page = (before / "report" / "index.html").read_text(encoding="utf-8")
    assert "<dt>Proved on</dt><dd>photographs; on generated images it was not tested" in page
    assert "kept for proof; 5 more were set aside" in page
    assert "<dt>Any error</dt>" not in page  # that is of generated pairs
    code, words = mothlight("explain", before, "1")
    assert code == 0
    assert "pairs of the photographs" in words


def test_it_goes_on_from_anywhere_and_ends_the_same(before: Path, photos: Path) -> None:
    """Stopped after the half for discovery, as a deadline would."""
    wanted = rows(before, (Path(__file__).parents[3] / "sql" / "queries" / "canonical.sql").read_text())
    out = photos / "audit-again"
    code, _ = mothlight("audit", photos / "before.toml", "--out", out)
    assert code == 0
    statements = """
        delete from chunk where wave = 1; delete from image where wave = 1; delete from prediction where wave = 1;
        delete from embedding where wave = 1; delete from outcome_count where wave = 1;
        delete from caption where image_id not in (select image_id from image);
        delete from evidence; delete from pair_count; delete from photograph_pair; delete from decision;
        delete from standing; update audit set finished_budget = null, ended = null;
    """
    with open_audit(out / "audit.duckdb", read_only=False) as store:
        store.ask(statements)
    code, _ = mothlight("audit", photos / "before.toml", "--out", out)
    assert code == 0
    assert rows(out, (Path(__file__).parents[3] / "sql" / "queries" / "canonical.sql").read_text()) == wanted


def test_the_next_version_is_held_against_this_one(before: Path, photos: Path) -> None:
    out = photos / "audit-after"
    code, words = mothlight("audit", photos / "after.toml", "--out", out)
    assert code == 0, words
    assert rows(out, "select count(*) from findings where status = 'confirmed' and label = 'one'") == [(0,)]
    with open_audit(out / "audit.duckdb") as one, open_audit(before / "audit.duckdb") as other:
        changes = read_changes(one, other)
    better = [row for row in changes.rows if row.what == "plain rate" and row.label == "one"]
    assert [row.kind for row in better] == ["better"]


def drawn(folder: Path, **images: int) -> Path:
    """Pictures of tinyworld, as if somebody had taken them."""
    for label, count in images.items():
        (folder / label).mkdir(parents=True)
        for place, picture in enumerate(Renderer(77).images(Prompt(label, f"a picture of a {label}."), range(count))):
            Image.fromarray(picture).save(folder / label / f"{place:04}.png")
    return folder


def test_photographs_and_generator_confirm_each_other(tmp_path: Path) -> None:
    drawn(tmp_path / "photos", fly=800, crayfish=200)
    (tmp_path / "mixed.toml").write_text(
        'name = "mixed"\nseed = 3\ngenerator = "renderer"\nimages = { folder = "photos" }\nmax_images = 2000\n'
        'classifiers = ["tinyworld:planted-resnet"]\ndiscovery_images = 60\nreserve_pairs = 48\n' + TINYWORLD
    )
    code, words = mothlight("audit", tmp_path / "mixed.toml", "--out", tmp_path / "audit")
    assert code == 0, words
    found = rows(
        tmp_path / "audit",
        """
        select tested_on, twin_status, rate, twin_rate, baseline_rate, twin_baseline_rate
        from findings
        where proved_on = 'both' and description = 'it is on a flower.' and label = 'fly'
        order by tested_on
        """,
    )
    assert [(on, status) for on, status, *_ in found] == [("generated", "confirmed"), ("photographs", "confirmed")]
    assert found[0][2] == found[1][3]
    assert found[0][4] == found[1][5]
    # what only generated images brought up was tested on photographs too, and none of that twice
    back = rows(
        tmp_path / "audit",
        """
        select count(*), count(distinct (prompt_id, event))
        from hypothesis join round using (round) where kind = 'photographs'
        """,
    )
    assert back[0][0] == back[0][1]
    confirmed = rows(
        tmp_path / "audit",
        """
        select count(*) from findings
        where status = 'confirmed' and tested_on = 'generated' and twin_status is null
            and len(labels) = 1 and parent_id is null
        """,
    )
    assert confirmed == [(0,)]
    # the proof half is never mined
    assert rows(
        tmp_path / "audit", "select distinct phase from cluster_member join outcome using (image_id) order by 1"
    ) == [
        ("discovery",),
        ("photographs",),
        ("test",),
    ]
    page = (tmp_path / "audit" / "report" / "index.html").read_text(encoding="utf-8")
    assert "<dt>Proved on</dt><dd>photographs and generated images: there" in page
    assert "for photographs and for generated images, each by itself" in page


def test_pictures_of_many_sizes_become_one_square(tmp_path: Path) -> None:
    folder = drawn(tmp_path / "photos", fly=20, bee=20)
    for place, file in enumerate(sorted(folder.rglob("*.png"))):
        with Image.open(file) as image:
            image.resize((90 + place, 64)).save(file)
    settings = 'images = { folder = "photos", size = 64%s }\nclassifiers = ["tinyworld:planted-resnet"]\n' + TINYWORLD
    stored = {}
    for fit in ("crop", "squash"):
        (tmp_path / f"{fit}.toml").write_text(settings % f', fit = "{fit}"')
        code, words = mothlight("audit", tmp_path / f"{fit}.toml", "--out", tmp_path / fit)
        assert code == 0, words
        assert rows(tmp_path / fit, "select count(*) from image") == [(40,)]
        with open_audit(tmp_path / fit / "audit.duckdb") as store:
            ((image_id,),) = store.rows("select min(image_id) from image")
            stored[fit] = store.picture(image_id)
    sizes = {Image.open(BytesIO(picture)).size for picture in stored.values()}
    assert sizes == {(64, 64)}
    assert stored["crop"] != stored["squash"]


def test_a_photograph_that_changed_or_is_gone_is_a_failed_item(tmp_path: Path) -> None:
    folder = drawn(tmp_path / "photos", fly=60, bee=60)
    (tmp_path / "a.toml").write_text(
        'images = { folder = "photos" }\nclassifiers = ["tinyworld:planted-resnet"]\n' + TINYWORLD
    )

    def taken(*arguments: Any) -> Any:
        made = take(*arguments)
        files = sorted(folder.rglob("*.png"))
        files[0].unlink()
        files[1].write_bytes(files[2].read_bytes())
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mothlight.engine.session.take", taken)
        code, words = mothlight("audit", tmp_path / "a.toml", "--out", tmp_path / "audit")
    assert code == 4, words
    reasons = sorted(reason for (reason,) in rows(tmp_path / "audit", "select reason from item_failure"))
    assert reasons == ["it is another file than when the audit began", "it is gone"]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('images = { folder = "nowhere" }', "nowhere"),
        ('images = { folder = "empty" }', "has no label that the classifiers and the gate know"),
        ('images = { folder = "photos", sise = 64 }', "did you mean `size`?"),
        ("", "there is nothing to look at"),
    ],
)
def test_what_is_wrong_with_the_settings_is_one_sentence(tmp_path: Path, line: str, sentence: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.toml").write_text(f'{line}\nclassifiers = ["tinyworld:planted-resnet"]\n' + TINYWORLD)
    code, words = mothlight("audit", tmp_path / "a.toml", "--out", tmp_path / "audit")
    assert code == 2
    assert sentence in words
    assert words.count("\n") == 1
