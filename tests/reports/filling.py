"""Small audits, written into a database by hand."""

import json
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
from PIL import Image

from mothlight.sql import Store

SETTINGS = '{"discovery_images": 120, "min_group": 3, "min_effect": 0.05, "fdr": 0.05, "steps": 6}'


class Tags(HTMLParser):
    """Every tag of a page, with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def jpeg(size: int = 64, grey: int = 90) -> bytes:
    file = BytesIO()
    Image.fromarray(np.full((size, size, 3), grey, np.uint8)).save(file, "JPEG")
    return file.getvalue()


def fill(
    store: Store,
    word: str,
    *,
    finished: bool = True,
    status: str = "confirmed",
    settings: Mapping[str, object] | None = None,
) -> None:
    """One label, one classifier that takes it for a bee under one description, eight pairs in test and reserve."""
    run = store.rows
    run(
        "insert into audit values ('a', $word, 7, $word, $settings, '', null, 0.1, 0.4, $budget, null, 1)",
        word=word, settings=json.dumps({**json.loads(SETTINGS), **(settings or {})}), budget=100 if finished else None,
    )  # fmt: skip
    run("insert into model values ('key', 'classifier', $word, $word, 1e-7, 1e-4)", word=word)
    run("insert into run values (1, '0.0.9', '2026-01-01', '2026-01-01 00:01:00', 100, 12, 2, $word, null)", word=word)
    run("insert into label values ($word, 0, 'plain')", word=word)
    run("insert into accepted_label values ($word, $word)", word=word)
    run("insert into prompt values ('plain', $word, $word, ''), ('net', $word, $word, $word)", word=word)
    for wave, phase in ((0, "discovery"), (1, "test"), (2, "reserve")):
        for place, prompt in enumerate(("plain", "net")[: 1 if wave == 0 else 2]):
            _wave(store, word, wave, phase, place, prompt)
    count(store)
    run("insert into pair_count values ('h', $word, 1, 8, 8, 8, 8, 0, 8, 8, 0, 8, 0)", word=word)
    run("insert into pair_count values ('h', $word, 2, 8, 8, 8, 8, 0, 8, 8, 0, 8, 0)", word=word)
    run("insert into round values (1, 'mined', 0, 216, 0.6 / 216, 100)")
    run(
        "insert into cluster (cluster_id, round, classifier, label, predicted, place)"
        " values ('c', 1, $word, $word, 'bee', 0)",
        word=word,
    )
    run("insert into cluster_member values ('c', 'plain-3')")
    run("insert into embedding select image_id, wave, [index, index % 3, wave] from image")
    run("insert into caption values ('plain-3', $word)", word=word)
    run(
        "insert into hypothesis values"
        " ('h', $word, 'net', 'bee', $word, 0, 2.0, 'failures', 1, 0.6 / 216, 0, 'c', null)",
        word=word,
    )
    run("insert into evidence values ('h', $word, 1, 8, 8, 0, 50.0, 0.3, 1.0)", word=word)
    run("insert into decision values ('h', $word, $status, 50.0, 0.01)", word=word, status=status)
    run("insert into standing values ('h', 'h', false, 'settled')")


def _wave(store: Store, word: str, wave: int, phase: str, place: int, prompt: str) -> None:
    run = store.rows
    key, first = f"{prompt}{wave}", 8 * wave
    run(
        "insert into wave values ($wave, $phase, $place, $prompt, $first, 8, 100)",
        wave=wave, phase=phase, place=place, prompt=prompt, first=first,
    )  # fmt: skip
    run("insert into chunk values ($key, $prompt, $wave, $first, 8, 1)", key=key, prompt=prompt, wave=wave, first=first)
    pictures = [jpeg(300, (60 if prompt == "plain" else 160) + index) for index in range(first, first + 8)]
    run(
        "insert into image select $prompt || '-' || index, $key, $prompt, $wave, index, 0.9, 1,"
        " ($prompt = 'net' or index = 3)::integer, ($jpegs::blob[])[index - $first + 1]"
        " from range($first, $first + 8) as indices(index)",
        prompt=prompt, key=key, wave=wave, first=first, jpegs=pictures,
    )  # fmt: skip
    run(
        "insert into prediction select image_id, $word, prompt_id, wave, index, 0.9, seen, seen <> $word, 0.9, 0.1,"
        " 0.8, [seen], [0.9] from (select *, if(errors > 0, 'bee', $word) as seen from image where chunk_id = $key)",
        word=word, key=key,
    )  # fmt: skip


def count(store: Store) -> None:
    """What is counted when images are written, from the rows as they stand."""
    store.rows("delete from outcome_count")
    store.rows(
        "insert into outcome_count"
        " select prompt_id, wave, classifier, predicted, wrong,"
        " (select max(passes_from) from gate_bound where passes_from <= prediction.gate_score), count(*)"
        " from prediction group by all"
    )


def empty(store: Store, *tables: str) -> None:
    for table in tables:
        store.rows(f"delete from {table}")  # noqa: S608  # our own names


def many(store: Store, count_of_bugs: int) -> None:
    """As many bugs more, each on a prompt of its own."""
    for table, row in (
        ("prompt", "select 'net' || i as prompt_id, label, text || i as text, description || i as description"),
        ("hypothesis", "select * exclude (i) replace ('h' || i as hypothesis_id, 'net' || i as prompt_id)"),
        ("wave", "select * exclude (i) replace ('net' || i as prompt_id, i + 2 as place)"),
        ("pair_count", "select * exclude (i) replace ('h' || i as hypothesis_id)"),
        ("evidence", "select * exclude (i) replace ('h' || i as hypothesis_id)"),
        ("decision", "select * exclude (i) replace ('h' || i as hypothesis_id)"),
        ("standing", "select * exclude (i) replace ('h' || i as hypothesis_id, 'h' || i as bug)"),
    ):
        own = "prompt_id = 'net'" if table in ("prompt", "wave") else "hypothesis_id = 'h'"
        store.rows(
            f"insert into {table} by name {row} from {table}, range($n) as r(i) where {own}",
            n=count_of_bugs,
        )


def texts(page: str) -> Iterator[str]:
    """What a person reads of a page."""
    parser = _Texts()
    parser.feed(page)
    yield from parser.found


class _Texts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.skipped = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self.skipped += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self.skipped -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self.skipped and data.strip():
            self.found.append(data)
