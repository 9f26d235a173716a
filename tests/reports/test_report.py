"""What a report says: its verdict, its numbers, and its pages in a folder or in one file."""

import errno
import hashlib
import json
import math
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mothlight.engine.errors import DiskFullError, UserError
from mothlight.reports import build, reading, site
from mothlight.reports.build import build_report, render
from mothlight.reports.document import Report, State
from mothlight.reports.reading import read_report, smallest_visible
from mothlight.reports.verdict import headline_of
from mothlight.reports.words import digits, level, listed, percent, signed, visible
from mothlight.sql import Store, open_audit
from tests.reports.filling import SETTINGS, Tags, count, empty, fill, many, texts

HOSTILE = "<script>alert(1)</script>\"'><img src=http://example.org/x onerror=alert(2)>"


@pytest.fixture
def store() -> Iterator[Store]:
    with open_audit() as opened:
        yield opened


def words(page: str) -> str:
    return " ".join(" ".join(texts(page)).split())


def test_the_bug_comes_first(store: Store) -> None:
    fill(store, "fly")
    report = read_report(store)
    (bug,) = report.bugs
    assert report.verdict.state == State.BUGS
    assert report.verdict.headline == headline_of(bug)
    assert report.verdict.headline == "fly takes “fly” for “bee” where “fly”: 100 %, against 0 % without these words."
    assert (bug.number, bug.strongest.finding, bug.strongest.provenance) == (1, 1, "reserve")
    assert (bug.strongest.more, bug.strongest.effect.pairs, bug.cluster) == (8, 8, 1)
    assert bug.images == 32
    page = render(store)
    said = words(page)
    assert said.index(report.verdict.headline) < said.index("Each bug")
    assert "8 of 8 pairs flip" in said
    assert "not finished" not in said
    assert 'id="b1"' in page


def test_an_unfinished_audit_says_so(store: Store) -> None:
    fill(store, "fly", finished=False)
    assert "This audit is not finished." in render(store)


def test_the_version_is_the_run_s(store: Store) -> None:
    fill(store, "fly")
    assert "mothlight 0.0.9" in words(render(store))


def test_a_level_is_said_as_it_was_set(store: Store) -> None:
    fill(store, "fly", settings={"fdr": 0.001})
    assert "at most 0.1 % of what is confirmed is false" in words(render(store))


def _everything_fails(store: Store) -> None:
    store.rows("update prediction set predicted = 'bee', wrong = true")
    store.rows("update decision set status = 'not confirmed'")


def _nothing_passes(store: Store) -> None:
    store.rows("update image set gate_score = 0.0")
    store.rows("update prediction set gate_score = 0.0")
    store.rows("delete from decision")
    store.rows("delete from evidence")


def _budget_ended(store: Store) -> None:
    store.rows("delete from decision")
    store.rows("delete from evidence")
    store.rows("update standing set reason = 'waits for more images'")


def _nothing_failed(store: Store) -> None:
    empty(store, "decision", "evidence", "hypothesis", "standing", "cluster", "cluster_member", "pair_count")
    store.rows("update prediction set predicted = 'fly', wrong = false")


def _never_captioned(store: Store) -> None:
    empty(store, "decision", "evidence", "hypothesis", "standing", "caption")
    store.rows("insert into caption_failure values ('plain-3', 'refused')")


def _tested_enough(store: Store) -> None:
    store.rows("update decision set status = 'not confirmed'")
    store.rows("update pair_count set pairs = 200, images = 200 where wave = 1")


@pytest.mark.parametrize(
    ("change", "state", "said"),
    [
        (_everything_fails, State.NOT_TESTABLE, "wrong on nearly every plain image (fly on 100 %)"),
        (_nothing_passes, State.NOT_TESTABLE, "none of its 40 images passes the gate"),
        (_never_captioned, State.NOT_TESTABLE, "none could be described: 1 without a caption"),
        (_budget_ended, State.NOT_TESTED, "the budget ended before the first test"),
        (_nothing_failed, State.NOT_TESTED, "no plain image failed"),
        (_tested_enough, State.NONE_FOUND, "1 of 1 descriptions were tested"),
        (lambda store: store.rows("update decision set status = 'not confirmed'"), State.NOT_TESTED, "with 8 pairs"),
    ],
)
def test_that_nothing_is_confirmed_can_mean_several_things(
    store: Store, change: Callable[[Store], object], state: State, said: str
) -> None:
    fill(store, "fly")
    change(store)
    count(store)
    report = read_report(store)
    assert report.verdict.state == state
    assert said in " ".join((report.verdict.headline, *report.verdict.sentences))
    assert words(render(store)).index(report.verdict.headline) < 400


def test_a_high_plain_rate_is_a_finding_of_the_first_screen(store: Store) -> None:
    fill(store, "fly")
    store.rows("update prediction set predicted = 'bee', wrong = true where index % 8 <> 1")
    count(store)
    report = read_report(store)
    assert [cell.label for cell in report.verdict.high_rates] == ["", "fly"]
    said = words(render(store))
    assert said.index("Plain failure rates are high") < said.index("Each bug")


def test_what_waits_is_in_a_table_and_its_failures_say_why(store: Store) -> None:
    fill(store, "fly")
    _budget_ended(store)
    report = read_report(store)
    assert [question.description for question in report.waiting] == ["fly"]
    assert [(row.predicted, row.failures, row.reason) for row in report.untested] == [
        ("bee", 1, "its description waits for a test")
    ]
    assert report.not_confirmed == []


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("select 1", "too few to group"),
        ("update audit set settings = json_merge_patch(settings, {'min_group': 1})", "no sentence of its captions"),
        (
            "update audit set settings = json_merge_patch(settings, {'min_group': 1}); delete from caption",
            "none of them has a caption",
        ),
    ],
)
def test_failures_without_a_description_say_why(store: Store, statement: str, reason: str) -> None:
    fill(store, "fly")
    empty(store, "decision", "evidence", "hypothesis", "standing")
    store.rows(statement)
    (row,) = read_report(store).untested
    assert row.reason.startswith(reason)


def test_each_kind_of_failed_item_is_said_rightly(store: Store) -> None:
    fill(store, "fly")
    store.rows("insert into caption_failure values ('plain-1', 'refused')")
    store.rows("insert into model_failure values ('plain-2', 'embedder', 'clip', 'not finite')")
    store.rows("insert into model_failure values ('plain-2', 'classifier', 'other', 'not finite')")
    store.rows("insert into item_failure values ('plain0', 'plain', 90, 'black', true)")
    said = words(render(store))
    assert "Images that could not be made, and stand in no rate: 1." in said
    assert "Images without a caption, which count in every rate and could lead to no description: 1." in said
    assert "Images that could not be embedded, which count in every rate and are in no group: 1." in said
    assert "Images on which a classifier failed to say anything, and which count for the others: 1." in said


def test_a_damaged_picture_is_said_and_nothing_more(store: Store, tmp_path: Path) -> None:
    fill(store, "fly")
    store.rows("update image set jpeg = 'no picture'::blob where image_id = 'net-16'")
    store.rows("update image set jpeg = jpeg[:200] where image_id = 'net-17'")
    page = build_report(store, tmp_path / "report")
    assert page.read_text(encoding="utf-8").count("no picture<") == 2
    assert "2 pictures are damaged" in words((tmp_path / "report" / "about.html").read_text(encoding="utf-8"))


def test_an_empty_audit_has_a_page(store: Store) -> None:
    store.rows(
        "insert into audit values ('a', 'x', 7, 'g', $settings, '', null, 0.1, 0.4, null, null, 1)", settings=SETTINGS
    )
    assert read_report(store).verdict.state == State.NOT_TESTED
    assert "nothing was made yet" in words(render(store))


def test_a_reserve_of_which_nothing_passes_the_gate_is_shown(store: Store) -> None:
    fill(store, "fly")
    store.rows("update pair_count set n = 0, failures = 0, baseline_n = 0, pairs = 0, more = 0 where wave = 2")
    (bug,) = read_report(store).bugs
    assert (bug.strongest.effect.value, bug.strongest.described.value) == (None, None)
    assert "–, against – without these words" in words(render(store))


def test_evidence_beyond_all_numbers_is_a_number(store: Store) -> None:
    fill(store, "fly")
    store.rows("update evidence set e_value = 'inf'")
    store.rows("update decision set e_value = 'inf'")
    report = read_report(store)
    assert Report.model_validate_json(report.model_dump_json()) == report
    page = render(store)
    assert "1.8·10³⁰⁸" in words(page)
    assert "nan" not in "".join(re.findall(r'points="[^"]*"', page))


def test_an_audit_that_lacks_any_of_its_parts_has_a_report(store: Store) -> None:
    """As one that was cut off anywhere, or whose rows somebody took away."""
    fill(store, "fly")
    tables = store.rows("select table_name from duckdb_tables() where table_name not in ('audit', 'schema_migration')")
    assert len(tables) > 25
    for (table,) in tables:
        store.rows("begin")
        empty(store, table)
        assert render(store)
        store.rows("rollback")


def test_hostile_words_stay_words(store: Store, tmp_path: Path) -> None:
    fill(store, HOSTILE)
    build_report(store, tmp_path / "report")
    pages = [render(store), *(file.read_text(encoding="utf-8") for file in (tmp_path / "report").glob("*.html"))]
    assert len(pages) == 9
    for page in pages:
        found = Tags(page).tags
        assert not [name for _, attributes in found for name in attributes if name.startswith("on")]
        scripts = [attributes for tag, attributes in found if tag == "script"]
        assert all(one in ({}, {"type": "application/json", "id": one.get("id")}) for one in scripts)
        assert sum(one == {} for one in scripts) == 1
        for tag, attributes in found:
            for name in ("src", "href"):
                if (target := attributes.get(name)) is not None:
                    inside = r"#[\w-]+|data:image/jpeg;base64,[\w+/=]*|images/[\w.]+\.jpg|[\w-]+\.(html|css)(#[\w-]+)?"
                    assert re.fullmatch(inside, target), (tag, target)
    assert "&lt;script&gt;" in pages[0]


def test_pages_allow_themselves_nothing_from_outside(store: Store, tmp_path: Path) -> None:
    fill(store, "fly")
    build_report(store, tmp_path / "report")
    single = render(store)
    for page in [single, *(file.read_text(encoding="utf-8") for file in (tmp_path / "report").glob("*.html"))]:
        (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
        (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
        assert policy.startswith("default-src &#39;none&#39;; img-src ")
        assert f"sha256-{b64encode(hashlib.sha256(script.encode()).digest()).decode()}" in policy
        assert "unsafe-inline" not in policy
        assert " style=" not in page
        without_scripts = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
        assert not re.search(r"https?://", without_scripts)
    (style,) = re.findall(r"<style>(.*?)</style>", single, flags=re.DOTALL)
    assert f"sha256-{b64encode(hashlib.sha256(style.encode()).digest()).decode()}" in single


def test_a_folder_is_rewritten_only_where_it_changed(store: Store, tmp_path: Path) -> None:
    fill(store, "fly")
    folder = tmp_path / "report"
    build_report(store, folder)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    first = {file: (file.read_bytes(), file.stat().st_ino) for file in files}
    build_report(store, folder)
    assert {file: (file.read_bytes(), file.stat().st_ino) for file in files} == first
    (folder / "mine.html").write_text("mine")
    store.rows("update image set jpeg = null where image_id = 'net-16'")
    store.rows("delete from cluster")
    store.rows("delete from cluster_member")
    build_report(store, folder)
    assert not (folder / "cluster-1.html").exists()
    assert (folder / "mine.html").read_text() == "mine"
    kept = {file for file in files if file.exists() and file.stat().st_ino == first[file][1]}
    assert {"report.css", "ask.html"} & {file.name for file in kept} == {"report.css", "ask.html"}


def test_pictures_of_another_audit_are_not_taken_for_this_one_s(store: Store, tmp_path: Path) -> None:
    fill(store, "fly")
    folder = tmp_path / "report"
    build_report(store, folder)
    before = {file.name: file.read_bytes() for file in (folder / "images").iterdir()}
    store.rows("update audit set audit_id = 'another'")
    store.rows("update image set jpeg = (select jpeg from image where image_id = 'plain-1')")
    build_report(store, folder)
    after = {file.name: file.read_bytes() for file in (folder / "images").iterdir()}
    assert after.keys() == before.keys()
    assert len(set(after.values())) == 2 < len(set(before.values()))  # the picture, and as it was kept


def test_a_build_that_was_cut_off_is_no_audit_s(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store, "fly")
    folder = tmp_path / "report"
    build_report(store, folder)
    store.rows("update audit set audit_id = 'another'")
    monkeypatch.setattr(build, "render_pages", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build_report(store, folder)
    monkeypatch.undo()
    assert json.loads((folder / ".report.json").read_text())["audit"] == ""
    store.rows("update audit set audit_id = 'a'")
    store.rows("update image set jpeg = (select jpeg from image where image_id = 'plain-1')")
    build_report(store, folder)
    assert len({file.read_bytes() for file in (folder / "images").iterdir()}) == 2  # none of the other's


def test_a_list_of_files_that_was_forged_takes_nothing_away(store: Store, tmp_path: Path) -> None:
    fill(store, "fly")
    folder = tmp_path / "report"
    build_report(store, folder)
    (tmp_path / "precious").write_text("")
    forged = {"audit": "a", "files": ["../precious", "images/../../precious", "images/..", "/etc/passwd", ""]}
    (folder / ".report.json").write_text(json.dumps(forged))
    build_report(store, folder)
    assert (tmp_path / "precious").is_file()


def test_a_folder_that_cannot_be_written_is_one_sentence(store: Store, tmp_path: Path) -> None:
    fill(store, "fly")
    (tmp_path / "file").write_text("")
    for single in (False, True):
        with pytest.raises(UserError, match="name another --out"):
            build_report(store, tmp_path / "file" / "report", single=single)


def test_a_full_disk_is_one_sentence(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store, "fly")

    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, f"no room for {len(content)} bytes of {path}")

    monkeypatch.setattr(build, "write_whole", full)
    for single in (False, True):
        with pytest.raises(DiskFullError, match="the report can't be written"):
            build_report(store, tmp_path / "report", single=single)


def test_pictures_stay_within_their_room(store: Store, tmp_path: Path) -> None:
    fill(store, "fly")
    page = build_report(store, tmp_path / "one" / "report.html", single=True)
    assert page == tmp_path / "one" / "report.html"
    assert [file.name for file in page.parent.iterdir()] == ["report.html"]
    assert page.stat().st_size < 1_000_000


def test_the_first_page_ends_somewhere_and_says_where_the_rest_is(store: Store, tmp_path: Path) -> None:
    fill(store, "fly")
    many(store, 250)
    build_report(store, tmp_path / "report")
    first = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert first.count('class="card"') == 50
    assert first.count('<td data-l="bug"') == 200
    assert "51 more, on the pages below" in words(first)
    numbers = re.findall(r'class="card" id="b(\d+)"', first)
    for page in range(2, 7):
        assert f'href="bugs-{page}.html"' in first
        numbers += re.findall(
            r'class="card" id="b(\d+)"', (tmp_path / "report" / f"bugs-{page}.html").read_text(encoding="utf-8")
        )
    assert numbers == [str(number) for number in range(1, 252)]
    assert not (tmp_path / "report" / "bugs-7.html").exists()
    single = words(render(store))
    assert "201 more are in the table above or in the database" in single


def test_no_picture_is_shown_twice(store: Store) -> None:
    fill(store, "fly")
    report = read_report(store)
    shown = [key for bug in report.bugs for pair in bug.examples for key in (pair.image_id, pair.plain_image_id)]
    assert len(shown) == len(set(shown)) == 8


def test_where_fresh_pictures_come_to_an_end_a_bug_shows_some_again(store: Store) -> None:
    fill(store, "fly")
    for table, own in (
        ("hypothesis", "'z' as hypothesis_id, 'it is late.' as description"),
        ("pair_count", "'z' as hypothesis_id"),
        ("evidence", "'z' as hypothesis_id"),
        ("decision", "'z' as hypothesis_id"),
        ("standing", "'z' as hypothesis_id, 'z' as bug"),
    ):
        for name in ("z", "y", "x", "w"):
            renamed = own.replace("'z'", f"'{name}'")
            store.rows(
                f"insert into {table} by name select * replace ({renamed})"  # noqa: S608  # our own
                f" from {table} where hypothesis_id = 'h'"
            )
    report = read_report(store)
    assert [len(bug.examples) for bug in report.bugs] == [4, 3, 3, 3, 3]
    first, second, *_ = ({pair.image_id for pair in bug.examples} for bug in report.bugs)
    assert first.isdisjoint(second)
    assert "was kept" not in render(store)


def test_a_table_that_is_cut_says_how_many_more(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store, "fly")
    _budget_ended(store)
    store.rows("update prediction set predicted = 'thing ' || index, wrong = true where wave = 0")
    count(store)
    monkeypatch.setattr(reading, "CONFUSIONS", 3)
    monkeypatch.setattr(site, "FEW_ROWS", 2)
    report = read_report(store)
    assert (len(report.confusions), report.confusions_in_all) == (3, 8)
    said = words(render(store))
    assert "6 more: mothlight query AUDIT confusion" in said
    assert said.count("All confusions: mothlight query AUDIT confusion") == 2


def test_the_smallest_visible_effect_falls_with_the_pairs() -> None:
    settings = {"min_effect": 0.05, "fdr": 0.05}
    effects = [smallest_visible(n, settings, 1 / 216) for n in (8, 24, 48, 96, 400)]
    assert effects[0] is None
    found = [effect for effect in effects if effect is not None]
    assert found == sorted(found, reverse=True)
    assert 0.3 < found[1] < 0.45


def test_numbers_are_words_that_say_no_more_than_they_are() -> None:
    assert [percent(value) for value in (None, 0, 1, 0.0004, 0.038, 0.91, 0.996, 0.9999)] == [
        "–", "0 %", "100 %", "0.04 %", "3.8 %", "91 %", "99.6 %", "99.9 %",
    ]  # fmt: skip
    assert [level(value) for value in (0.05, 0.001, 0.125)] == ["5 %", "0.1 %", "12.5 %"]
    assert [digits(value) for value in (None, math.nan, 0, 1, 0.0523, 85.4, 2345, 13057667, 9.8e-6)] == [
        "–", "–", "0", "1", "0.052", "85", "2,345", "1.3·10⁷", "9.8·10⁻⁶",
    ]  # fmt: skip
    assert [signed(value) for value in (None, 0.871, -0.06, 0.004, -0.004)] == ["–", "+87", "−6", "0", "0"]
    assert listed(["a"], 3) == "a"
    assert listed(["a", "b", "c"], 3) == "a, b and c"
    assert listed(["a", "b", "c", "d"], 2) == "a, b and 2 more"
    assert visible("a\x00\x1b[31m\u202eb") == "a��[31m�b"
    assert visible("\u0628\u200c\u0628") == "\u0628\u200c\u0628"
    assert len(visible("x" * 10_000)) < 2100
