"""The page: complete, self-contained, and safe with whatever stands in the database."""

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterator
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mothlight.engine.errors import UserError
from mothlight.reports.build import build_report, render
from mothlight.reports.pages import smallest_visible
from mothlight.sql import Store, open_audit

HOSTILE = "<script>alert(1)</script>\"'><img src=http://example.org/x onerror=alert(2)>"
SETTINGS = '{"discovery_images": 120, "min_group": 3, "min_effect": 0.05, "fdr": 0.05, "steps": 6}'


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def jpeg(size: int = 64) -> bytes:
    file = BytesIO()
    Image.fromarray(np.full((size, size, 3), 90, np.uint8)).save(file, "JPEG")
    return file.getvalue()


def fill(store: Store, word: str, *, finished: bool = True, confirmed: bool = True) -> None:
    """One label, one description, eight pairs."""
    run = store.rows
    run(
        "insert into audit values ('a', $word, 7, $word, $settings, '', null, 0.1, 0.4, $budget, null, 1)",
        word=word, settings=SETTINGS, budget=100 if finished else None,
    )  # fmt: skip
    run("insert into model values ('key', 'classifier', $word, $word, 1e-7, 1e-4)", word=word)
    run("insert into run values (1, '0', '2026-01-01', '2026-01-01 00:01:00', 100, 12, 2, $word, null)", word=word)
    run("insert into label values ($word, 0, 'plain')", word=word)
    run("insert into accepted_label values ($word, $word)", word=word)
    run("insert into prompt values ('plain', $word, $word, ''), ('net', $word, $word, $word)", word=word)
    for wave, phase in ((0, "discovery"), (1, "test"), (2, "reserve")):
        for place, prompt in enumerate(("plain", "net")[: 1 if wave == 0 else 2]):
            key = f"{prompt}{wave}"
            run(
                "insert into wave values ($wave, $phase, $place, $prompt, $first, 8, 100)",
                wave=wave, phase=phase, place=place, prompt=prompt, first=8 * wave,
            )  # fmt: skip
            run("insert into chunk values ($key, $prompt, $wave, $first, 8, 1)", key=key, prompt=prompt, wave=wave,
                first=8 * wave)  # fmt: skip
            for index in range(8 * wave, 8 * wave + 8):
                image = f"{prompt}-{index}"
                run("insert into image values ($image, $key, $prompt, $wave, $index, 0.9, 1, 0, $jpeg)",
                    image=image, key=key, prompt=prompt, wave=wave, index=index, jpeg=jpeg(200))  # fmt: skip
                seen = "bee" if prompt == "net" or index == 3 else word
                run(
                    "insert into prediction values ("
                    "$image, $word, $prompt, $wave, $index, 0.9, $seen, $seen <> $word, 0.9, 0.1, 0.8, [$seen], [0.9])",
                    image=image, word=word, prompt=prompt, wave=wave, index=index, seen=seen,
                )  # fmt: skip
    run("insert into outcome_count select prompt_id, wave, classifier, predicted, wrong, 0.9, count(*)"
        " from prediction group by all")  # fmt: skip
    run("insert into pair_count values ('h', $word, 1, 8, 8, 8, 8, 0, 8, 8, 0, 8, 0)", word=word)
    run("insert into pair_count values ('h', $word, 2, 8, 8, 8, 8, 0, 8, 8, 0, 8, 0)", word=word)
    run("insert into round values (1, 'mined', 0, 216, 0.6 / 216, 100)")
    run(
        "insert into hypothesis values"
        " ('h', $word, 'net', 'bee', $word, 0, 2.0, 'failures', 1, 0.6 / 216, 0, 'k', null)",
        word=word,
    )
    run("insert into evidence values ('h', $word, 1, 8, 8, 0, 50.0, 0.3, 1.0)", word=word)
    status = "confirmed" if confirmed else "not confirmed"
    run("insert into decision values ('h', $word, $status, 50.0, 0.01)", word=word, status=status)
    run("insert into standing values ('h', 'h', false, 'settled')")


@pytest.fixture
def store() -> Iterator[Store]:
    with open_audit() as opened:
        yield opened


def test_the_verdict_comes_first(store: Store) -> None:
    fill(store, "fly")
    html = render(store)
    assert html.index("1 confirmed bug, 1 finding in all") < html.index('id="findings"')
    assert "100.0 %" in html
    assert "n = 8" in html
    assert "not finished" not in html
    assert "2 %" not in html[: html.index("verdict")]


def test_an_unfinished_audit_says_so(store: Store) -> None:
    fill(store, "fly", finished=False)
    assert "This audit is not finished." in render(store)


def test_no_bug_is_said_plainly(store: Store) -> None:
    fill(store, "fly", confirmed=False)
    html = render(store)
    assert "No bug was confirmed." in html
    assert "Not confirmed" in html
    assert "points with 24 pairs" in html or "none with 24 pairs" in html


def test_an_empty_audit_has_a_page(store: Store) -> None:
    store.rows(
        "insert into audit values ('a', 'x', 7, 'g', $settings, '', null, 0.1, 0.4, null, null, 1)", settings=SETTINGS
    )
    assert "No bug was confirmed." in render(store)


def test_hostile_words_stay_words(store: Store) -> None:
    fill(store, HOSTILE)
    page = Tags()
    html = render(store)
    page.feed(html)
    assert "script" not in {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    for tag, attributes in page.tags:
        for name in ("src", "href"):
            if (target := attributes.get(name)) is not None:
                assert target.startswith("data:image/jpeg;base64," if tag == "img" else "#")
    assert "&lt;script&gt;" in html


def test_the_page_allows_itself_nothing_from_outside(store: Store) -> None:
    fill(store, "fly")
    html = render(store)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    (style,) = re.findall(r"<style>(.*?)</style>", html, flags=re.DOTALL)
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'"
    assert not re.search(r"https?://", html)
    assert " style=" not in html


def test_images_are_thumbnails(store: Store) -> None:
    fill(store, "fly")
    assert len(render(store)) < 200_000


def test_it_is_written_and_rewritten(store: Store, tmp_path: Path) -> None:
    fill(store, "fly")
    page = build_report(store, tmp_path / "report")
    first = page.read_text()
    assert build_report(store, tmp_path / "report").read_text() == first
    assert [file.name for file in (tmp_path / "report").iterdir()] == ["index.html"]


def test_a_folder_that_cannot_be_written_is_one_sentence(store: Store, tmp_path: Path) -> None:
    fill(store, "fly")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="name another --out"):
        build_report(store, tmp_path / "file" / "report")


def test_the_smallest_visible_effect_falls_with_the_pairs() -> None:
    settings = {"min_effect": 0.05, "fdr": 0.05}
    effects = [smallest_visible(n, settings, 1 / 216) for n in (8, 24, 48, 96, 400)]
    assert effects[0] is None
    found = [effect for effect in effects if effect is not None]
    assert found == sorted(found, reverse=True)
    assert 0.3 < found[1] < 0.45
