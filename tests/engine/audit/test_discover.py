import numpy as np

from mothlight.engine.audit.discover import MANY, split, worth_a_gpu


def test_what_lies_together_is_one_part() -> None:
    rng = np.random.default_rng(0)
    near = rng.normal(0, 0.01, (20, 8)).astype(np.float32)
    far = near + np.float32(3)
    parts = split(np.concatenate([near, far]), 2)
    assert len(set(parts[:20].tolist())) == len(set(parts[20:].tolist())) == 1
    assert parts[0] != parts[-1]


def test_every_vector_counts_and_the_parts_are_the_same_every_time() -> None:
    vectors = np.random.default_rng(1).normal(0, 1, (3000, 4)).astype(np.float32)
    assert (split(vectors, 4) == split(vectors, 4)).all()


def test_a_gpu_is_used_where_there_is_one_and_enough_to_do() -> None:
    assert worth_a_gpu(MANY, 1)
    assert not worth_a_gpu(MANY, 0)
    assert not worth_a_gpu(MANY - 1, 8)
