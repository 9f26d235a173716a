import math

import numpy as np
import pytest

from mothlight.engine.audit.describe import Said, candidates, contrast, sentences
from mothlight.engine.audit.discover import split
from mothlight.engine.records import Cluster

CLUSTER = Cluster("c", "fly", "bee", 0, ())
LABELS = ["fly", "bee", "goldfish"]


def test_sentences_that_name_a_label_only_name() -> None:
    caption = "a photograph of a bee ( insect ). it is on a flower . it is day! two flies"
    assert sentences(caption, LABELS) == {"it is on a flower.", "it is day!", "two flies."}
    assert sentences("Two Bees on wood. fine", LABELS) == {"fine."}
    assert sentences("", LABELS) == frozenset()


def test_a_label_with_odd_characters_is_no_pattern() -> None:
    assert sentences("it is (a. it is day.", ["(a"]) == {"it is (a.", "it is day."}


def test_contrast_is_the_smoothed_log_odds_over_its_error() -> None:
    a, b, c, d = 6.5, 10.5, 2.5, 80.5
    assert contrast(6, 8, 10, 90) == pytest.approx(math.log(a * d / (b * c)) / math.sqrt(1 / a + 1 / b + 1 / c + 1 / d))
    assert contrast(0, 5, 50, 100) < 0
    assert contrast(0, 0, 0, 0) == 0


def said(*words: str) -> Said:
    return frozenset(words)


def test_the_sentence_of_the_failures_is_found() -> None:
    group = [said("it is in a net.", "it is day.")] * 5 + [said("it is day.")]
    passes = [said("it is day.")] * 40 + [said("it is in a net.")] * 3
    best = [candidate.description for candidate in candidates(CLUSTER, group, passes)]
    assert best == ["it is in a net."]


def test_two_together_where_one_alone_leaves_much_unexplained() -> None:
    group = [said("it is red.", "it is night.")] * 6
    passes = [said("it is red.")] * 30 + [said("it is night.")] * 30 + [said()] * 60
    best = {candidate.description for candidate in candidates(CLUSTER, group, passes)}
    assert "it is night. it is red." in best


def test_no_second_sentence_where_one_explains() -> None:
    group = [said("it is in a net.", "it is day.")] * 9
    passes = [said("it is in a net.")] * 2 + [said("it is day.")] * 20 + [said()] * 20
    assert all(candidate.description.count(".") == 1 for candidate in candidates(CLUSTER, group, passes))


def test_no_captions_no_candidates() -> None:
    assert list(candidates(CLUSTER, [], [])) == []
    assert list(candidates(CLUSTER, [said()], [said("it is day.")])) == []


def test_kmeans_parts_what_lies_apart_and_always_alike() -> None:
    rng = np.random.default_rng(0)
    vectors = np.concatenate([rng.normal(0, 0.1, (8, 16)), rng.normal(3, 0.1, (8, 16))]).astype(np.float32)
    parts = split(vectors, 2)
    assert len(set(parts[:8])) == len(set(parts[8:])) == 1
    assert parts[0] != parts[8]
    np.testing.assert_array_equal(parts, split(vectors, 2))
