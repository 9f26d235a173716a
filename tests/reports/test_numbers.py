"""Every number on the pages of a real audit, held against what its base tables say."""

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mothlight.engine.opening import load_models
from mothlight.engine.stats import Pairs, mcnemar_exact
from mothlight.reports.build import build_report
from mothlight.reports.words import digits, percent, signed
from mothlight.sql import Store, open_audit
from tests.engine.conftest import run_audit_in, small_config

Tables = dict[str, list[list[str]]]


class _Tables(HTMLParser):
    """Each table by its caption: rows of the texts of their cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: Tables = {}
        self.rows: list[list[str]] = []
        self.texts: list[str] = []
        self.caption = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        if tag == "table":
            self.rows, self.caption = [], ""
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th", "caption"):
            self.texts = []

    def handle_endtag(self, tag: str) -> None:
        said = " ".join("".join(self.texts).split())
        if tag in ("td", "th"):
            self.rows[-1].append(said)
        if tag == "caption":
            self.caption = said
        if tag == "table":
            while self.caption in self.tables:
                self.caption += "'"
            self.tables[self.caption] = self.rows[1:]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def tables(page: Path) -> Tables:
    return _Tables(page.read_text(encoding="utf-8")).tables


def one(found: Tables, start: str) -> list[list[str]]:
    (rows,) = [rows for caption, rows in found.items() if caption.startswith(start)]
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("numbers")
    config = small_config(max_images=900)
    run_audit_in(folder, load_models(config, Path()), config)
    with open_audit(folder) as store:
        build_report(store, folder / "report")
    return folder


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    with open_audit(folder) as opened:
        yield opened


JUDGED = (
    " from prediction join image using (image_id) join prompt on prompt.prompt_id = image.prompt_id, audit"
    " where image.gate_score >= audit.gate_upper"
)


def rate(store: Store, count: int, n: int) -> str:
    """A rate as the pages write it, its interval by SQL from the two counts alone."""
    if not n:
        return "– n = 0"
    ((low, high),) = store.rows("select wilson_low($k, $n), wilson_high($k, $n)", k=count, n=n)
    return f"{percent(count / n)} {percent(low).removesuffix(' %')} to {percent(high)}, n = {n:,}"


def effect(value: float, low: float, high: float) -> str:
    return f"{signed(value)} {signed(low)} to {signed(high)}"


def test_the_heat_table(folder: Path, store: Store) -> None:
    found = {
        (label, name): (k, n)
        for label, name, k, n in store.rows(
            "select label, classifier, sum(wrong::int), count(*)"
            f"{JUDGED} and image.wave = 0 and prompt.description = '' group by all"
        )
    }
    names = [name for (name,) in store.rows("select distinct classifier from prediction order by 1")]
    rows = one(tables(folder / "report" / "index.html"), "Failure rates on plain prompts")
    assert len(rows) == len({label for label, _ in found}) + 1
    for row in rows[:-1]:
        for name, cell in zip(names, row[1:], strict=True):
            assert cell.partition("bug")[0].strip() == rate(store, *found[row[0], name])
    for name, cell in zip(names, rows[-1][1:], strict=True):
        own = [value for (_, other), value in found.items() if other == name]
        assert cell.startswith(rate(store, sum(k for k, _ in own), sum(n for _, n in own)))


def test_the_ledger(folder: Path, store: Store) -> None:
    rows = one(tables(folder / "report" / "index.html"), "Images by whose error")
    asked = store.rows(
        "select classifier, count(*) filter (gate >= upper and not wrong), count(*) filter (gate >= upper and wrong),"
        " count(*) filter (gate < lower), count(*) filter (gate >= lower and gate < upper) from ("
        "select classifier, wrong, image.gate_score as gate, gate_lower as lower, gate_upper as upper"
        " from prediction join image using (image_id), audit) group by all order by classifier"
    )
    assert [[row[0], *row[2:]] for row in rows] == [[name, *(f"{n:,}" for n in counts)] for name, *counts in asked]


def test_the_confusions(folder: Path, store: Store) -> None:
    rows = one(tables(folder / "report" / "index.html"), "The most frequent")
    plain = (
        f"{JUDGED} and prompt.description = ''"  # noqa: S608  # our own
        " and image.wave not in (select wave from wave where phase = 'reserve')"
    )
    counted = {
        tuple(key): k
        for *key, k in store.rows(f"select classifier, label, predicted, count(*){plain} and wrong group by all")
    }
    n = {tuple(key): k for *key, k in store.rows(f"select classifier, label, count(*){plain} group by all")}
    assert 0 < len(rows) <= 20
    for name, label, predicted, failures, share in rows:
        k = counted[name, label, predicted]
        assert (failures, share) == (str(k), rate(store, k, n[name, label]))


def _pairs(store: Store, hypothesis: str, classifier: str, *, reserve: bool) -> dict[str, Any]:
    (row,) = store.records(
        "select count(*) filter (passed) as n, count(*) filter (passed and event) as k,"
        " count(*) filter (plain_passed) as plain_n, count(*) filter (plain_passed and plain_event) as plain_k,"
        " count(*) filter (both_passed) as pairs, count(*) filter (both_passed and event and not plain_event) as more,"
        " count(*) filter (both_passed and plain_event and not event) as less"
        " from pair where hypothesis_id = $h and classifier = $c and (phase = 'reserve') = $r",
        h=hypothesis, c=classifier, r=reserve,
    )  # fmt: skip
    return row


def test_the_cards_and_the_plot(folder: Path, store: Store) -> None:
    found = tables(folder / "report" / "index.html")
    plot = one(found, "All bugs")
    cards = [rows for caption, rows in found.items() if caption.startswith("How often it is ")]
    bugs = store.records("select * from findings where main order by effect_low desc, effect desc, finding")
    assert len(plot) == len(cards) == len(bugs) > 0
    for bug, line, card in zip(bugs, plot, cards, strict=True):
        asked = _pairs(store, bug["hypothesis_id"], bug["classifier"], reserve=not bug["selected"])
        said = f"{percent(asked['k'] / asked['n'])} against {percent(asked['plain_k'] / asked['plain_n'])}"
        assert line[2] == said
        tests = {
            row["classifier"]: row
            for row in store.records("select * from findings where hypothesis_id = $h", h=bug["hypothesis_id"])
        }
        assert (
            card[0][0]
            == max(tests.values(), key=lambda row: (row["status"] == "confirmed", row["effect"]))["classifier"]
        )
        for name, status, described, plain, _, moved, pairs, _, _ in card:
            row = tests.pop(name)
            own = _pairs(store, bug["hypothesis_id"], name, reserve=not row["selected"])
            assert status.startswith(row["status"])
            assert described == rate(store, own["k"], own["n"])
            assert plain == rate(store, own["plain_k"], own["plain_n"])
            assert pairs == str(own["pairs"])
            difference = (own["more"] - own["less"]) / own["pairs"]
            assert moved == effect(difference, row["effect_low"], row["effect_high"])
        assert tests == {}


def bug_pairs(store: Store, bug: dict[str, Any]) -> int:
    """Indices with an image under the description and a plain one, of the pairs that a card's numbers come from."""
    ((count,),) = store.rows(
        "select count(*) from pair where hypothesis_id = $h and classifier = $c and (phase = 'reserve') = $r",
        h=bug["hypothesis_id"], c=bug["classifier"], r=not bug["selected"],
    )  # fmt: skip
    return int(count)


def test_the_facts_of_a_card(folder: Path, store: Store) -> None:
    page = " ".join((folder / "report" / "index.html").read_text(encoding="utf-8").split())
    for bug in store.records("select * from findings where main"):
        own = _pairs(store, bug["hypothesis_id"], bug["classifier"], reserve=not bug["selected"])
        assert f"{own['more']} of {own['pairs']} pairs flip" in page
        chance = digits(mcnemar_exact(Pairs(own["pairs"], own["more"], own["less"])))
        assert f"<dd>{own['more']} against {own['less']}, exact McNemar p = {chance}</dd>" in page
        ((wrong, strict, n),) = store.rows(
            "select count(*) filter (wrong), count(*) filter (predicted <> label), count(*)"  # noqa: S608  # our own
            f"{JUDGED} and image.prompt_id = $p"
            " and prediction.classifier = $c and (image.wave in"
            " (select wave from wave where phase = 'reserve')) = $r"
            " and image.wave > (select born_wave from hypothesis where hypothesis_id = $h)",
            p=bug["prompt_id"], c=bug["classifier"], r=not bug["selected"], h=bug["hypothesis_id"],
        )  # fmt: skip
        ((made,),) = store.rows("select count(*) from image where prompt_id = $p", p=bug["prompt_id"])
        assert f"<dd>{2 * made:,} images, the plain ones included" in page
        tested = _pairs(store, bug["hypothesis_id"], bug["classifier"], reserve=False)["pairs"]
        ((waves,),) = store.rows(
            "select count(distinct wave) from pair where hypothesis_id = $h and phase = 'test'", h=bug["hypothesis_id"]
        )
        said = f"e = {digits(bug['e_value'])} over {tested} pairs of {waves} {'wave' if waves == 1 else 'waves'}"
        assert said in page
        assert f"of the pairs {percent(own['pairs'] / bug_pairs(store, bug))} pass it" in page
        ((plain_wrong, plain_n),) = store.rows(
            "select count(*) filter (wrong), count(*)"  # noqa: S608  # our own
            f"{JUDGED} and prompt.description = '' and label = $l and prediction.classifier = $c and image.wave in"
            " (select wave from wave where prompt_id = $p and (phase = 'reserve') = $r and wave > $born)",
            l=bug["label"], c=bug["classifier"], p=bug["prompt_id"], r=not bug["selected"],
            born=store.rows("select born_wave from hypothesis where hypothesis_id = $h", h=bug["hypothesis_id"])[0][0],
        )  # fmt: skip
        assert f"<dd>{percent(wrong / n)} against {percent(plain_wrong / plain_n)} outside" in page
        assert f"strictly, by top-1: {percent(strict / n)} against " in page


def test_the_first_lines(folder: Path, store: Store) -> None:
    page = " ".join((folder / "report" / "index.html").read_text(encoding="utf-8").split())
    ((images, passed),) = store.rows("select count(*), count(*) filter (gate_score >= gate_upper) from image, audit")
    ((bugs, findings),) = store.rows(
        "select count(distinct standing.bug), count(*) from decision join standing using (hypothesis_id)"
        " where status = 'confirmed'"
    )
    ((tested, known),) = store.rows(
        "select (select count(distinct hypothesis_id) from evidence), (select count(*) from hypothesis)"
    )
    assert f"{images:,} images" in page
    assert f"{bugs} bug{'s are' if bugs > 1 else ' is'} confirmed" in page
    assert findings == bugs or f"({findings} findings" in page
    assert f"{tested} of {known} descriptions were tested" in page
    assert f"{percent(passed / images)} of the images pass the gate" in page


def test_what_was_not_confirmed(folder: Path, store: Store) -> None:
    found = tables(folder / "report" / "tests.html")
    asked = store.rows(
        "select label || ' → ' || if(event = '', 'any error', event) || description from hypothesis"
        " where hypothesis_id in (select hypothesis_id from evidence) and hypothesis_id not in"
        " (select hypothesis_id from decision where status = 'confirmed')"
    )
    rows = one(found, "The classifier with the strongest") if asked else []
    assert sorted(row[0].replace(" ", "") for row in rows) == sorted(text.replace(" ", "") for (text,) in asked)
    for row in rows:
        (known,) = store.records(
            "select * from findings where replace(label || ' → ' || predicted || description, ' ', '') = $text"
            " and status <> 'confirmed' and classifier = $c order by e_value desc limit 1",
            text=row[0].replace(" ", ""), c=row[1],
        )  # fmt: skip
        own = _pairs(store, known["hypothesis_id"], row[1], reserve=False)
        assert row[3] == str(own["pairs"])
    waiting = [rows for caption, rows in found.items() if caption.startswith("Descriptions that no image")]
    ((untested,),) = store.rows(
        "select count(*) from hypothesis where hypothesis_id not in (select hypothesis_id from evidence)"
    )
    assert sum(map(len, waiting)) == untested


def test_a_label_and_a_classifier(folder: Path, store: Store) -> None:
    for number, (label,) in enumerate(store.rows("select label from label order by place"), 1):
        rows = one(tables(folder / "report" / f"label-{number}.html"), "Failure rates on its plain prompt")
        for name, k, n in store.rows(
            f"select classifier, sum(wrong::int), count(*){JUDGED} and image.wave = 0 and label = $label group by all",
            label=label,
        ):
            assert [row[1] for row in rows if row[0] == name] == [rate(store, k, n)]
    names = [name for (name,) in store.rows("select distinct classifier from prediction order by 1")]
    for number, name in enumerate(names, 1):
        rows = one(tables(folder / "report" / f"classifier-{number}.html"), "Failure rates on plain prompts")
        asked = store.rows(
            f"select label, sum(wrong::int), count(*){JUDGED} and image.wave = 0 and classifier = $name group by all",
            name=name,
        )
        assert {row[0]: row[1] for row in rows} == {label: rate(store, k, n) for label, k, n in asked}


def test_the_groups_of_failures(folder: Path, store: Store) -> None:
    rows = one(tables(folder / "report" / "map.html"), "The largest")
    sizes = store.rows(
        "select count(*) from cluster_member join cluster using (cluster_id) group by cluster_id order by 1 desc"
    )
    assert max(int(row[4]) for row in rows) == sizes[0][0]
    for row in rows:
        ((n,),) = store.rows(
            "select coalesce(max(n), 0) from (select count(*) as n from cluster_member join cluster using (cluster_id)"
            " where classifier = $c and label = $l group by cluster_id having count(*) = $n)",
            c=row[1], l=row[2], n=int(row[4]),
        )  # fmt: skip
        assert n == int(row[4])
