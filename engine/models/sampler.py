"""The sampler is data: a loop over rows of coefficients, linear in everything that it mixes.

With m the model's output on s·x: x0 = p·x + q·m and x' = a·x + b·x0 + c·x0_prev + d·z. The products are inside the
`denoise` graph; this loop only hands it one row after the other.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

Float32 = NDArray[np.float32]
Latent = TypeVar("Latent")


class SamplerRow(BaseModel):
    """One step of a sampler; the coefficients are used as float32."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    timestep: float
    s: float
    p: float
    q: float
    a: float
    b: float
    c: float
    d: float

    def coefficients(self) -> Float32:
        """(s, p, q, a, b, c, d), in the order that the `denoise` graph takes."""
        return np.array((self.s, self.p, self.q, self.a, self.b, self.c, self.d), dtype=np.float32)


class SamplerTable(BaseModel):
    """All steps of one sampler and the scale of the noise that it starts from."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    name: str
    rows: tuple[SamplerRow, ...] = Field(min_length=1)
    init_noise_sigma: float


def sample(
    denoise: Callable[[Latent, Latent, Latent, int], tuple[Latent, Latent]],
    table: SamplerTable,
    draw: Callable[[int, float], Latent],
    zeros: Latent,
) -> Latent:
    """Go through all rows and return the last latent, whatever a latent is: an array, or a buffer of a device.

    `denoise` takes (x, x0_prev, noise, step) and gives (x, x0); steps count from 1. `draw(0, scale)` is the initial
    latent, `draw(k, 1)` the fresh noise of the k-th row, asked for only where the row uses it.

    Raises:
        ValueError: the first row needs an earlier x0.
    """
    if table.rows[0].c != 0.0:
        msg = f"the first row of sampler {table.name} uses an x0 before it; there is none"
        raise ValueError(msg)
    x, x0 = draw(0, table.init_noise_sigma), zeros
    for step, row in enumerate(table.rows, start=1):
        x, x0 = denoise(x, x0, draw(step, 1.0) if row.d != 0.0 else zeros, step)
    return x


def table_of(tables: Sequence[SamplerTable], steps: int | None) -> SamplerTable | None:
    """The table with that many steps, the first where `steps` is None, or None where there is no such table."""
    return next((table for table in tables if steps is None or len(table.rows) == steps), None)
