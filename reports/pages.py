"""What the report's page shows, read from named queries."""

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import Any

from PIL import Image

from mothlight.engine.stats import Pairs, e_value, mcnemar_exact
from mothlight.sql import Store
from mothlight.sql.named import query_text

EXAMPLES = 6
"""Pairs of images shown for a finding."""
LARGEST_THUMBNAIL = 128
"""Pixels; larger images are scaled down, so that the page stays small enough to mail."""
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Example:
    """A failing image beside the plain one of the same index, as data URIs."""

    index: int
    image_id: str
    image: str
    predicted: str
    plain_image: str
    plain_predicted: str
    event: bool


@dataclass(frozen=True, slots=True)
class Card:
    """One confirmed bug: the description that stands for it, every classifier's numbers on it, and examples."""

    label: str
    description: str
    predicted: str
    prompt: str
    strongest: Row
    classifiers: Sequence[Row]
    examples: Sequence[Example]
    wordings: Sequence[Row]
    """Other descriptions of the bug, confirmed too."""
    not_drawn: bool
    """Its images do not show it, by the embedder."""
    control: Row | None
    """An unrelated description that was tested on the same classifier."""


@dataclass(frozen=True, slots=True)
class ReportPage:
    """Everything on the page."""

    name: str
    seed: int
    generator: str
    finished: bool
    images: int
    failed: int
    cards: Sequence[Card]
    confirmed: int
    classifiers: Sequence[Row]
    confusion: Sequence[Row]
    ledger: Sequence[Row]
    not_confirmed: Sequence[Row]
    not_tested: Sequence[Row]
    shared: Sequence[Row]
    budget: Sequence[Row]
    few_judged: Sequence[Row]
    """Labels of whose images few or none pass the gate."""
    unjudged: int
    """Labels of whose images none does."""
    labels: int
    smallest: Sequence[tuple[int, float | None]]
    models: Sequence[Row]
    runs: Sequence[Row]
    settings: dict[str, Any]
    rounds: Sequence[Row]
    """Batches of tests, with the share of the level that each test has."""
    gate_errors: Sequence[Row]
    """The gate's error by kind of prompt, where it was measured."""
    ended: str | None
    """Why the audit came to its end."""


def read_page(store: Store) -> ReportPage:
    """Read an audit, finished or not."""
    (audit,) = store.records("select * from audit")
    settings = json.loads(audit["settings"])
    rows = _named(store, "finding_cards")
    ((images,),) = store.rows("select count(*) from image")
    ((failed,),) = store.rows("select count(*) from failed_item")
    ((labels,),) = store.rows("select count(*) from label")
    few = _named(store, "few_judged")
    ((weight,),) = store.rows("select max(weight) from round")
    ((pairs,),) = store.rows("select coalesce(max(pairs), 0) from findings where provenance = 'test waves'")
    return ReportPage(
        name=audit["name"],
        seed=audit["seed"],
        generator=audit["generator"],
        finished=audit["finished_budget"] is not None,
        images=images,
        failed=failed,
        cards=_cards(store, rows),
        confirmed=sum(row["status"] == "confirmed" for row in rows),
        classifiers=_named(store, "classifier_summary"),
        confusion=_named(store, "confusion")[:20],
        ledger=_named(store, "ledger"),
        not_confirmed=_named(store, "not_confirmed"),
        not_tested=_named(store, "not_tested"),
        shared=[row for row in _named(store, "shared_bugs") if row["classifiers"] > 1],
        budget=_named(store, "budget"),
        few_judged=few,
        unjudged=sum(not row["passed"] for row in few),
        labels=labels,
        smallest=[(n, smallest_visible(n, settings, weight)) for n in sorted({24, 48, 96, int(pairs)} - {0})],
        models=store.records("select * from model order by role, name"),
        runs=[
            {**row, "seconds": _seconds(row["started_at"], row["ended_at"])}
            for row in store.records("select * from run order by run_id")
        ],
        settings=settings,
        rounds=store.records("select * from round order by round"),
        gate_errors=store.records("select * from gate_error order by kind desc"),
        ended=audit["ended"],
    )


def smallest_visible(pairs: int, settings: dict[str, Any], weight: float | None) -> float | None:
    """The smallest effect that so many pairs could confirm as the first finding, if the plain prompt never fails."""
    if weight is None:
        return None
    for more in range(pairs + 1):
        if e_value(Pairs(pairs, more, 0), settings["min_effect"]) * weight * settings["fdr"] >= 1:
            return more / pairs
    return None


def _named(store: Store, query: str) -> list[Row]:
    return store.records(query_text(query))


def _cards(store: Store, rows: Sequence[Row]) -> list[Card]:
    by_hypothesis: dict[str, list[Row]] = {}
    not_drawn = {prompt_id for (prompt_id,) in store.rows("select prompt_id from drawn where not_drawn")}
    controls = {row["finding"]: row for row in store.records("select * from control")}
    for row in rows:
        row["mcnemar"] = mcnemar_exact(Pairs(row["pairs"], row["more"], row["less"]))
        by_hypothesis.setdefault(row["hypothesis_id"], []).append(row)
    cards = []
    for own in by_hypothesis.values():
        if not any(row["main"] for row in own):
            continue
        strongest = min((row for row in own if row["status"] == "confirmed"), key=lambda row: row["finding"])
        others = [
            row for row in rows if row["bug"] == strongest["bug"] and row["hypothesis_id"] != strongest["hypothesis_id"]
        ]
        cards.append(
            Card(
                label=strongest["label"],
                description=strongest["description"],
                predicted=strongest["predicted"],
                prompt=strongest["prompt"],
                strongest=strongest,
                classifiers=own,
                examples=_examples(store, strongest),
                wordings=sorted(others, key=lambda row: row["finding"]),
                not_drawn=strongest["prompt_id"] in not_drawn,
                control=controls.get(strongest["finding"]),
            )
        )
    return sorted(cards, key=lambda card: card.strongest["finding"])


def _examples(store: Store, row: Row) -> list[Example]:
    found = store.records(
        query_text("example_pairs"), hypothesis=row["hypothesis_id"], classifier=row["classifier"], limit=EXAMPLES
    )
    return [
        Example(
            index=pair["index"],
            image_id=pair["image_id"],
            image=_data_uri(pair["jpeg"]),
            predicted=pair["predicted"],
            plain_image=_data_uri(pair["plain_jpeg"]),
            plain_predicted=pair["plain_predicted"],
            event=pair["event"],
        )
        for pair in found
    ]


def _data_uri(jpeg: bytes) -> str:
    with Image.open(BytesIO(jpeg), formats=["JPEG"]) as image:
        if max(image.size) > LARGEST_THUMBNAIL:
            small = BytesIO()
            image.thumbnail((LARGEST_THUMBNAIL, LARGEST_THUMBNAIL))
            image.save(small, "JPEG", quality=85)
            jpeg = small.getvalue()
    return f"data:image/jpeg;base64,{b64encode(jpeg).decode()}"


def _seconds(start: datetime, end: datetime | None) -> float | None:
    return None if end is None else (end - start).total_seconds()
