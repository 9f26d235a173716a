"""Failures of the discovery → groups by prediction → parts by embedding."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from mothlight.engine.config import AuditConfig
from mothlight.engine.records import GENERATED, Cluster
from mothlight.sql import Store

MOST_PARTS = 4
ITERATIONS = 25
MANY = 10_000
"""Vectors from which a GPU is faster than a core; below, the copies cost more."""


def discover(store: Store, config: AuditConfig, number: int, phases: Sequence[str] = GENERATED) -> list[Cluster]:
    """Group all failures on plain prompts in some phases, for the round of that number; every failure is in a group.

    Per classifier and label: all of them, those with the same prediction, and the parts into which k-means splits
    either, one part for each `split_group` of them, `MOST_PARTS` at most.
    """
    clusters: list[Cluster] = []
    for (classifier, label), rows in groupby(store.step("failures", phases=list(phases)), key=lambda row: row[:2]):
        failures = [_Failure(*row[2:]) for row in rows]
        clusters += _parts(number, classifier, label, "", failures, config)
        for predicted, own in groupby(failures, key=lambda failure: failure.predicted):
            group = list(own)
            if config.min_group <= len(group) < len(failures):
                clusters += _parts(number, classifier, label, predicted, group, config)
    return clusters


@dataclass(frozen=True, slots=True)
class _Failure:
    predicted: str
    image_id: str
    vector: list[float]


def _parts(
    number: int, classifier: str, label: str, predicted: str, failures: Sequence[_Failure], config: AuditConfig
) -> Iterator[Cluster]:
    yield Cluster(number, classifier, label, predicted, 0, tuple(one.image_id for one in failures))
    if len(failures) < config.split_group:
        return
    vectors = np.array([one.vector for one in failures], np.float32)
    parts = split(vectors, len(failures) // config.split_group + 1).tolist()
    for place, part in enumerate(sorted(set(parts)), start=1):
        members = tuple(one.image_id for one, own in zip(failures, parts, strict=True) if own == part)
        if len(members) >= config.min_group:
            yield Cluster(number, classifier, label, predicted, place, members)


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
