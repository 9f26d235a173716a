"""Reads a report's document out of an audit's database."""

import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from mothlight.engine.stats import Pairs, e_value, mcnemar_exact
from mothlight.reports import document as doc
from mothlight.reports.asking import Row, asked
from mothlight.reports.choosing import Choice
from mothlight.reports.verdict import verdict_of
from mothlight.sql import Store
from mothlight.sql.beside import side_by_side
from mothlight.sql.named import query_text

CLUSTERS, POINTS = 200, 400
"""At most that many groups of failures and points of the map."""
CONFUSIONS = 2000
COUNT_ROWS, FAILURE_ROWS = 20_000, 10_000
"""Rows to ask SQL of."""


def read_report(store: Store) -> doc.Report:
    """Read an audit, finished or not."""
    (head,) = store.records("select * from audit")
    settings = json.loads(head["settings"])
    questions = asked(store, "questions")
    coverage, visible = _coverage(store, settings, questions)
    tests, clusters_in_all = asked(store, "tests"), asked(store, "clusters")
    strongest, groups = _strongest(tests), _largest(clusters_in_all, tests)
    choice = Choice(store, strongest, [row["cluster_id"] for row in groups])
    bugs = _bugs(store, tests, strongest, groups, choice)
    clusters = _clusters(groups, bugs, choice)
    labels, cells = _labels(store, bugs, choice), _cells(store, bugs)
    audit = _audit(store, head, settings)
    classifiers = _classifiers(store, bugs)
    points, failures_in_all = _points(store, clusters)
    confusions = store.records(query_text("confusion"))
    return doc.Report(
        schema_version=doc.SCHEMA,
        audit=audit,
        verdict=verdict_of(audit, coverage, bugs, classifiers, labels, cells),
        coverage=coverage,
        bugs=bugs,
        classifiers=classifiers,
        labels=labels,
        cells=cells,
        confusions=[
            doc.Confusion(
                classifier=row["classifier"],
                label=row["label"],
                predicted=row["predicted"],
                rate=_share_of(row, "failures", "n", "rate"),
            )
            for row in confusions[:CONFUSIONS]
        ],
        confusions_in_all=len(confusions),
        not_confirmed=[_question(row) for row in questions if row["waves"] and row["status"] != "confirmed"],
        waiting=[_question(row) for row in questions if not row["waves"]],
        untested=[doc.Untested(**row) for row in store.records(query_text("not_tested"))],
        clusters=clusters,
        clusters_in_all=len(clusters_in_all),
        points=points,
        failures_in_all=failures_in_all,
        visible=visible,
        tables=_tables(store),
    )


def read_changes(one: Store, other: Store) -> doc.Changes:
    """What two audits differ in."""
    named = []
    for store in (one, other):
        ((name, seed),) = store.rows("select name, seed from audit")
        named.append(f"{name}, seed {seed}")
    with side_by_side(one, other) as both:
        rows = asked(both, "changes")
    return doc.Changes(of=named[0], against=named[1], rows=[_change(row) for row in rows])


def _change(row: Row) -> doc.Change:
    def estimate(name: str, n: str) -> doc.Estimate | None:
        if row[name] is None:
            return None
        return doc.Estimate(value=row[name], low=row[f"{name}_low"], high=row[f"{name}_high"], n=row[n])

    return doc.Change(
        now=estimate("now", "now_n"),
        before=estimate("before", "before_n"),
        difference=estimate("difference", "now_n"),
        **{key: row[key] for key in ("kind", "what", "label", "description", "predicted", "classifier")},
    )


def smallest_visible(pairs: int, settings: Mapping[str, Any], weight: float | None) -> float | None:
    """The smallest effect that so many pairs could confirm as the first finding, if the plain prompt never fails."""
    if weight is None:
        return None
    for more in range(pairs + 1):
        if e_value(Pairs(pairs, more, 0), settings["min_effect"]) * weight * settings["fdr"] >= 1:
            return more / pairs
    return None


def _audit(store: Store, head: Row, settings: Mapping[str, Any]) -> doc.Audit:
    models = store.records(
        "select role, name, source, worst_difference, tolerance, content_key from model order by role, name"
    )
    return doc.Audit(
        name=head["name"],
        audit_id=head["audit_id"],
        seed=head["seed"],
        generator=head["generator"],
        steps=settings["steps"],
        finished=head["finished_budget"] is not None,
        ended=head["ended"],
        images=store.rows("select count(*) from image")[0][0],
        phases=[doc.Phase(phase=row["phase"], images=row["made"]) for row in store.records(query_text("budget"))],
        failed=[doc.FailedItems(**row) for row in asked(store, "failed")],
        discovery_images=settings["discovery_images"],
        min_group=settings["min_group"],
        min_effect=settings["min_effect"],
        fdr=settings["fdr"],
        photographs=_photographs(store) if settings.get("images") else None,
        tests=[tests for (tests,) in store.rows("select tests from round order by round")],
        gate_errors=[
            doc.GateError(**{key: row[key] for key in ("kind", "rate", "low", "high", "source")})
            for row in store.records("select * from gate_error order by kind desc")
        ],
        models=[doc.Model(**row) for row in models],
        runs=[
            doc.Run(
                run=row["run_id"],
                version=row["mothlight_version"],
                seconds=_seconds(row["started_at"], row["ended_at"]),
                **{key: row[key] for key in ("started_at", "max_images", "batch", "threads", "machine")},
            )
            for row in store.records("select * from run order by run_id")
        ],
    )


def _photographs(store: Store) -> doc.Photographs:
    counted = dict(store.rows("select coalesce(half, 'set aside'), count(*) from photograph group by all"))
    ((doubted,),) = store.rows("select count(*) from label_or_gate")
    kinds = {name: counted.get(name, 0) for name in ("discovery", "proof")}
    return doc.Photographs(**kinds, set_aside=counted.get("set aside", 0), doubted=doubted)


def _coverage(
    store: Store, settings: Mapping[str, Any], questions: Sequence[Row]
) -> tuple[doc.Coverage, list[doc.Visible]]:
    (row,) = asked(store, "coverage")
    images, passed, weight = row["images"], row["passed"], row["weight"]
    tested = sum(question["waves"] > 0 for question in questions)
    pairs = sorted(one["pairs"] for one in questions if one["status"] != "confirmed" and one["pairs"] is not None)
    typical = pairs[(len(pairs) - 1) // 2] if pairs else None
    coverage = doc.Coverage(
        known=len(questions),
        tested=tested,
        waiting=len(questions) - tested,
        judged=doc.Share(
            n=images, count=passed, value=passed / images if images else None, low=row["low"], high=row["high"]
        ),
        typical_pairs=typical,
        visible=smallest_visible(typical, settings, weight) if typical else None,
    )
    numbers = sorted({24, 48, 96, *pairs[-1:], typical or 0} - {0})
    return coverage, [doc.Visible(pairs=n, effect=smallest_visible(n, settings, weight)) for n in numbers]


def _strongest(tests: Sequence[Row]) -> list[Row]:
    """What stands for each bug, the surest effect first."""

    def weakness(row: Row) -> tuple[float, float, int]:
        # of a reserve that the gate lets nothing of pass, no effect is known
        low, effect = (-1.0 if row[key] is None else row[key] for key in ("effect_low", "effect"))
        return -low, -effect, row["finding"]

    return sorted((row for row in tests if row["main"]), key=weakness)


def _largest(clusters: Sequence[Row], tests: Sequence[Row]) -> list[Row]:
    """The largest groups of failures, and those that a confirmed finding came from."""
    from_bugs = {row["cluster_id"] for row in tests if row["status"] == "confirmed"}
    return [row for place, row in enumerate(clusters) if place < CLUSTERS or row["cluster_id"] in from_bugs]


def _bugs(
    store: Store, tests: Sequence[Row], strongest: Sequence[Row], clusters: Sequence[Row], choice: Choice
) -> list[doc.Bug]:
    by_bug: dict[int, list[Row]] = defaultdict(list)
    by_hypothesis: dict[str, list[Row]] = defaultdict(list)
    for row in tests:
        by_hypothesis[row["hypothesis_id"]].append(row)
        if row["bug"] is not None:
            by_bug[row["bug"]].append(row)
    examples = choice.examples()
    waves: dict[int, list[doc.Wave]] = defaultdict(list)
    for row in asked(store, "waves"):
        waves[row.pop("finding")].append(doc.Wave(**{**row, "e_value": _finite(row["e_value"])}))
    controls = {row["finding"]: row for row in store.records("select * from control")}
    not_drawn = {prompt_id for (prompt_id,) in store.rows("select prompt_id from drawn where not_drawn")}
    costs = {row["finding"]: row["with_their_plain_ones"] for row in store.records(query_text("costs"))}
    groups = {cluster["cluster_id"]: (number, cluster["captions"]) for number, cluster in enumerate(clusters, 1)}
    bugs = []
    for number, row in enumerate(strongest, 1):
        group, captions = groups.get(row["cluster_id"], (None, []))
        control = controls.get(row["finding"])
        variants = [one for one in by_bug[row["bug"]] if one["hypothesis_id"] != row["hypothesis_id"]]
        bugs.append(
            doc.Bug(
                number=number,
                strongest=_test(row),
                classifiers=[_test(one) for one in sorted(by_hypothesis[row["hypothesis_id"]], key=_weakness)],
                variants=[_test(one) for one in sorted(variants, key=lambda one: int(one["finding"]))],
                waves=waves[row["finding"]],
                examples=examples[row["finding"]],
                control=None
                if control is None
                else doc.Control(description=control["control"], effect=_effect_of(control)),
                not_drawn=row["prompt_id"] in not_drawn,
                images=costs.get(row["finding"], 0),
                cluster=group,
                captions=captions,
            )
        )
    return bugs


def _weakness(row: Row) -> tuple[bool, float, str]:
    """Sorts the strongest first."""
    return row["status"] != "confirmed", -(row["effect"] or 0), row["classifier"]


def _test(row: Row) -> doc.Test:
    return doc.Test(
        described=_share_of(row, "failures", "n", "rate"),
        plain=doc.Share(
            n=row["baseline_n"],
            count=row["baseline_failures"],
            value=row["baseline_rate"],
            low=row["baseline_low"],
            high=row["baseline_high"],
        ),
        effect=_effect_of(row),
        mcnemar_p=mcnemar_exact(Pairs(row["pairs"], row["more"], row["less"])),
        plain_rate_without_gate=row["baseline_rate_without_gate"],
        twin=_twin(row) if row["twin_status"] is not None else None,
        e_value=_finite(row["e_value"]),
        gate_could_explain=bool(row["gate_could_explain"]),
        **{
            key: row[key]
            for key in (
                "finding", "classifier", "labels", "predicted", "description", "prompt", "status", "reason", "more",
                "less", "q_value", "provenance", "pair_pass_rate", "gate_pass_rate", "rate_without_gate",
                "wrong_rate", "plain_wrong_rate", "strict_rate", "plain_strict_rate", "gate_limited", "origin",
                "round", "hypothesis_id", "tested_on",
            )
        },
    )  # fmt: skip


def _twin(row: Row) -> doc.Twin:
    own = {key.removeprefix("twin_"): value for key, value in row.items() if key.startswith("twin_")}
    return doc.Twin(
        status=own["status"],
        described=_share_of(own, "failures", "n", "rate"),
        plain=doc.Share(
            n=own["baseline_n"],
            count=own["baseline_failures"],
            value=own["baseline_rate"],
            low=own["baseline_low"],
            high=own["baseline_high"],
        ),
        effect=_effect_of(own),
    )


def _classifiers(store: Store, bugs: Sequence[doc.Bug]) -> list[doc.Classifier]:
    ledger = {row["classifier"]: row for row in store.records(query_text("ledger"))}
    nothing = dict.fromkeys(("images", "passes", "failures", "generator_misses", "ambiguous", "label_or_gate"), 0)
    return [
        doc.Classifier(
            classifier=row["classifier"],
            plain=_share_of(row, "failures", "n", "rate"),
            strict_rate=row["strict_rate"],
            findings=row["confirmed"],
            bugs=[bug.number for bug in bugs if row["classifier"] in confirmed_on(bug)],
            **{key: ledger.get(row["classifier"], nothing)[key] for key in nothing},
        )
        for row in store.records(query_text("classifier_summary"))
    ]


def confirmed_on(bug: doc.Bug) -> list[str]:
    """The classifiers that have a bug, in the order of their names."""
    return sorted({test.classifier for test in (*bug.classifiers, *bug.variants) if test.status == "confirmed"})


def labels_of(bug: doc.Bug) -> list[str]:
    """The labels that have a bug."""
    return list(dict.fromkeys(label for test in (bug.strongest, *bug.variants) for label in test.labels))


def _labels(store: Store, bugs: Sequence[doc.Bug], choice: Choice) -> list[doc.Label]:
    own = defaultdict(list)
    for bug in bugs:
        for label in labels_of(bug):
            own[label].append(bug.number)
    return [
        doc.Label(
            label=row["label"],
            prompt=row["prompt"],
            accepted=[one for one in row["accepted"] or [] if one != row["label"]],
            gate=doc.Share(
                n=row["images"],
                count=row["passed"],
                value=row["rate"],
                low=row["rate_low"],
                high=row["rate_high"],
            ),
            few=row["few"],
            bugs=own[row["label"]],
            pictures=choice.of_label(row["label"]),
        )
        for row in asked(store, "labels")
    ]


def _cells(store: Store, bugs: Sequence[doc.Bug]) -> list[doc.Cell]:
    own: dict[tuple[str, str], set[int]] = defaultdict(set)
    for bug in bugs:
        for test in (*bug.classifiers, *bug.variants):
            if test.status == "confirmed":
                for label in test.labels:
                    own[label, test.classifier].add(bug.number)
    return [
        doc.Cell(
            label=row["label"],
            classifier=row["classifier"],
            plain=doc.Share(**{key: row[key] for key in ("n", "count", "value", "low", "high")}),
            bugs=sorted(own[row["label"], row["classifier"]]),
        )
        for row in asked(store, "cells")
    ]


def _question(row: Row) -> doc.Question:
    return doc.Question(
        effect=None if row["pairs"] is None else _effect_of(row),
        e_value=None if row["e_value"] is None else _finite(row["e_value"]),
        reason=row["reason"] or ("still testing" if row["waves"] else "waits for a test"),
        **{
            key: row[key]
            for key in (
                "label", "description", "predicted", "classifier", "origin", "round", "not_drawn",
                "hypothesis_id",
            )
        },
    )  # fmt: skip


def _clusters(rows: Sequence[Row], bugs: Sequence[doc.Bug], choice: Choice) -> list[doc.Cluster]:
    own = defaultdict(list)
    for bug in bugs:
        own[bug.cluster].append(bug.number)
    return [
        doc.Cluster(
            number=number,
            part=row["place"],
            pictures=choice.of_cluster(row["cluster_id"]),
            bugs=own[number],
            **{
                key: row[key]
                for key in (
                    "cluster_id", "round", "classifier", "label", "predicted", "failures", "descriptions", "captions",
                )
            },
        )
        for number, row in enumerate(rows, 1)
    ]  # fmt: skip


def _points(store: Store, clusters: Sequence[doc.Cluster]) -> tuple[list[doc.Point], int]:
    """Some failures by the two directions in which labels' embeddings differ most, 0 to 1; and how many there are."""
    numbers = {cluster.cluster_id: cluster.number for cluster in clusters}
    rows = asked(store, "points", clusters=list(numbers), count=POINTS)
    if len(rows) < 3:
        return [], rows[0]["total"] if rows else 0
    vectors = np.asarray([row["vector"] for row in rows], np.float64)
    centred = vectors - vectors.mean(axis=0)
    labels = np.asarray([row["label"] for row in rows])
    means = np.stack([centred[labels == label].mean(axis=0) for label in sorted(set(labels))])
    _, _, directions = np.linalg.svd(means if len(means) > 2 else centred, full_matrices=False)
    # a direction may come out mirrored: its largest weight is made positive
    signs = np.sign(directions[np.arange(2), np.abs(directions[:2]).argmax(axis=1)])
    places = centred @ directions[:2].T * signs
    low, high = places.min(axis=0), places.max(axis=0)
    places = (places - low) / np.where(high > low, high - low, 1)
    points = [
        doc.Point(
            x=round(float(x), 3),
            y=round(float(y), 3),
            cluster=numbers.get(row["cluster_id"]),
            **{key: row[key] for key in ("image_id", "label", "classifier", "predicted")},
        )
        for row, (x, y) in zip(rows, places, strict=True)
    ]
    return points, rows[0]["total"]


def _tables(store: Store) -> list[doc.Table]:
    counts = asked(store, "counts")
    failures = asked(store, "failures", count=FAILURE_ROWS)
    ((known,),) = store.rows("select coalesce(sum(images), 0)::bigint from counted where verdict = 'failure'")
    return [
        _table("counts", counts[:COUNT_ROWS], len(counts)),
        _table("failures", failures, known),
    ]


def _table(name: str, rows: Sequence[Row], total: int) -> doc.Table:
    return doc.Table(
        name=name, columns=list(rows[0]) if rows else [], rows=[list(row.values()) for row in rows], total=total
    )


def _finite(value: float) -> float:
    """The largest number in place of more than that, which JSON can't say."""
    return min(value, sys.float_info.max)


def _share_of(row: Row, count: str, n: str, rate: str) -> doc.Share:
    return doc.Share(n=row[n], count=row[count], value=row[rate], low=row[f"{rate}_low"], high=row[f"{rate}_high"])


def _effect_of(row: Row) -> doc.Effect:
    return doc.Effect(pairs=row["pairs"], value=row["effect"], low=row["effect_low"], high=row["effect_high"])


def _seconds(start: datetime, end: datetime | None) -> float | None:
    return None if end is None else (end - start).total_seconds()
