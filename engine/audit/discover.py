"""Failures of the discovery → groups by prediction → parts by embedding."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mothlight.engine.config import AuditConfig
from mothlight.engine.records import Cluster
from mothlight.sql import Store

MOST_PARTS = 4
ITERATIONS = 25
MANY = 10_000
"""Vectors from which a GPU is faster than a core; below, the copies cost more."""
FAILURES = """
    select classifier, label, predicted, image_id, vector
    from outcome join embedding using (image_id)
    where wave = 0 and verdict = 'failure'
    order by classifier, label, predicted, index
"""


@dataclass(frozen=True, slots=True)
class Discovery:
    """The clusters, and how many failures stood in groups too small to be one."""

    clusters: tuple[Cluster, ...]
    dropped: int


def discover(store: Store, config: AuditConfig) -> Discovery:
    """Group the failures on plain prompts; a group under `min_group` is dropped and counted."""
    clusters, dropped = [], 0
    for key, rows in groupby(store.rows(FAILURES), key=lambda row: row[:3]):
        failures = list(rows)
        if len(failures) < config.min_group:
            dropped += len(failures)
            continue
        clusters += list(_clusters(key, failures, config))
    return Discovery(tuple(clusters), dropped)


def _clusters(key: Sequence[str], failures: Sequence[Any], config: AuditConfig) -> Iterator[Cluster]:
    classifier, label, predicted = key
    ids = [row[3] for row in failures]
    yield Cluster(classifier, label, predicted, 0, tuple(ids))
    if len(ids) < config.split_group:
        return
    parts = split(np.array([row[4] for row in failures], np.float32), len(ids) // config.split_group + 1)
    for place, part in enumerate(sorted(set(parts.tolist())), start=1):
        members = tuple(image_id for image_id, own in zip(ids, parts.tolist(), strict=True) if own == part)
        if len(members) >= config.min_group:
            yield Cluster(classifier, label, predicted, place, members)


def worth_a_gpu(vectors: int, gpus: int) -> bool:
    """Whether so many vectors are clustered on a GPU, where FAISS sees one (`faiss-gpu-cuvs`)."""
    return gpus > 0 and vectors >= MANY


def split(vectors: NDArray[np.float32], parts: int) -> NDArray[np.int64]:
    """The part of each vector (n, D) by k-means; the same every time."""
    import faiss

    faiss.omp_set_num_threads(1)
    kmeans = faiss.Kmeans(
        vectors.shape[1],
        min(parts, MOST_PARTS),
        niter=ITERATIONS,
        seed=1,
        min_points_per_centroid=1,
        max_points_per_centroid=len(vectors),  # by default it would train on a sample
        gpu=worth_a_gpu(len(vectors), faiss.get_num_gpus()),
    )
    kmeans.train(vectors)
    _, nearest = kmeans.index.search(vectors, 1)
    assigned: NDArray[np.int64] = nearest[:, 0]
    return assigned
