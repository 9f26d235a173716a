import numpy as np
import pytest
from numpy.typing import NDArray

from mothlight.engine.models.noise import noise
from mothlight.engine.models.sampler import SamplerRow, SamplerTable, sample, table_of

Float32 = NDArray[np.float32]


def row(timestep: float, **coefficients: float) -> SamplerRow:
    return SamplerRow(timestep=timestep, **{**dict.fromkeys("spqabcd", 0.0), **coefficients})


TABLE = SamplerTable(
    name="three steps",
    rows=(
        row(999.0, s=1.0, p=0.1, q=-0.9, a=0.4, b=0.6),
        row(500.0, s=0.8, p=0.5, q=-0.7, a=0.3, b=0.9, c=-0.2, d=0.25),
        row(10.0, s=0.7, p=0.9, q=-0.1, b=1.0),
    ),
    init_noise_sigma=2.0,
)


def model(x: Float32, timestep: Float32) -> Float32:
    result: Float32 = np.tanh(x) + timestep[0] / np.float32(1000)
    return result


def denoise(x: Float32, x0_prev: Float32, z: Float32, step: int) -> tuple[Float32, Float32]:
    row = TABLE.rows[step - 1]
    s, p, q, a, b, c, d = row.coefficients()
    x0 = p * x + q * model(s * x, np.array([row.timestep], np.float32))
    return a * x + b * x0 + c * x0_prev + d * z, x0


ZEROS = np.zeros((2, 5), np.float32)


def draw(step: int, scale: float = 1.0) -> Float32:
    return noise(0, "fly", (0, 1), step, "latent", (5,)) * np.float32(scale)


def test_it_is_the_formula_written_out() -> None:
    x, previous = draw(0, 2.0), ZEROS
    for step, r in enumerate(TABLE.rows, start=1):
        x0 = r.p * x + r.q * model(np.float32(r.s) * x, np.array([r.timestep], np.float32))
        x = r.a * x + r.b * x0 + r.c * previous + r.d * draw(step)
        previous = x0
    np.testing.assert_allclose(sample(denoise, TABLE, draw, ZEROS), x, rtol=1e-5, atol=1e-6)


def test_noise_is_drawn_only_where_a_row_uses_it() -> None:
    steps: list[int] = []

    def noted(step: int, scale: float) -> Float32:
        steps.append(step)
        return draw(step, scale)

    sample(denoise, TABLE, noted, ZEROS)
    assert steps == [0, 2]


def test_a_first_row_that_looks_back_is_refused() -> None:
    with pytest.raises(ValueError, match="there is none"):
        sample(denoise, TABLE.model_copy(update={"rows": TABLE.rows[1:]}), draw, ZEROS)


def test_tables_are_found_by_their_steps() -> None:
    two = TABLE.model_copy(update={"rows": TABLE.rows[:2]})
    assert table_of([TABLE, two], None) is TABLE
    assert table_of([TABLE, two], 2) is two
    assert table_of([TABLE, two], 9) is None
