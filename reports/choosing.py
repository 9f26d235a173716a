"""Which pictures a report shows, of those that were kept."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from mothlight.reports import document as doc
from mothlight.reports.asking import Row, asked, in_blocks
from mothlight.sql import Store

FULL = 50
"""Bugs of a page, and those of the first page show several pairs, the others one."""
FLIPPING, PASSING = 3, 1
"""Pairs of a bug: in which the description does it, and in which nothing happens."""
PICTURES = 6
"""Of a label or a group of failures."""
CANDIDATES = 12
"""Images or pairs to choose these from: some were not kept, some are shown elsewhere."""


class Choice:
    """The pictures of bugs, labels and groups of failures."""

    def __init__(self, store: Store, strongest: Sequence[Row], clusters: Sequence[str]) -> None:
        self._strongest = strongest
        self._pairs: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for row in asked(
            store,
            "examples",
            hypotheses=[row["hypothesis_id"] for row in strongest],
            classifiers=[row["classifier"] for row in strongest],
            failing=CANDIDATES,
            passing=CANDIDATES,
        ):
            self._pairs[row.pop("hypothesis_id"), row.pop("classifier")].append(row)
        self._by_label = _grouped(asked(store, "failing", count=CANDIDATES), "label")
        self._by_cluster = _grouped(asked(store, "members", clusters=list(clusters), count=CANDIDATES), "cluster_id")
        wanted = {
            *(row[key] for own in self._pairs.values() for row in own for key in ("image_id", "plain_image_id")),
            *(image for own in (*self._by_label.values(), *self._by_cluster.values()) for image in own),
        }
        # where all are kept, which DuckDB knows without reading them, nobody need look
        some_missing = store.rows("select 1 from image where jpeg is null limit 1")
        self._kept = {image for (image,) in in_blocks(store, "kept", sorted(wanted))} if some_missing else wanted

    def of_label(self, label: str) -> list[str]:
        """Some plain images that a classifier fails on."""
        return self._some(self._by_label.get(label, ()))

    def of_cluster(self, cluster_id: str) -> list[str]:
        """Some images of a group."""
        return self._some(self._by_cluster.get(cluster_id, ()))

    def _some(self, images: Sequence[str]) -> list[str]:
        return [image for image in images if image in self._kept][:PICTURES]

    def examples(self) -> Mapping[int, list[doc.Example]]:
        """Pairs of each finding, the strongest bug first; pictures that no bug before it shows come first."""
        used: set[str] = set()
        chosen = {}
        for place, row in enumerate(self._strongest):
            some: list[Row] = []
            # the first screen takes one of the first bug's
            flipping = FLIPPING + (place == 0)
            for flips, count in ((True, flipping), (False, PASSING)) if place < FULL else ((True, 1),):
                own = [
                    one
                    for one in self._pairs[row["hypothesis_id"], row["classifier"]]
                    if one["flips"] == flips and self._kept.issuperset((one["image_id"], one["plain_image_id"]))
                ]
                # a label's bugs share their plain images, which come to an end
                some += sorted(own, key=lambda one: one["image_id"] in used or one["plain_image_id"] in used)[:count]
            used |= {one[key] for one in some for key in ("image_id", "plain_image_id")}
            chosen[row["finding"]] = [doc.Example(**one) for one in some]
        return chosen


def _grouped(rows: Iterable[Row], key: str) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        grouped[row[key]].append(row["image_id"])
    return grouped
