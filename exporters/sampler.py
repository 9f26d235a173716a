"""A diffusers scheduler → the rows of a sampler table, recovered by probing its own `step`.

Every supported sampler is linear in the latent x, the model's output m, the denoised estimate before, and fresh noise.
So the coefficients are solved for on random vectors and checked on others of another size; a scheduler whose step is
not linear (clipping, thresholding) is refused.
"""

from typing import Any

import torch
from torch import Tensor

from mothlight.engine.errors import UserError
from mothlight.engine.models.sampler import SamplerRow, SamplerTable

PROBE = 4096
FIT = 1e-4
"""Largest residual, relative to the largest term, at which a step still counts as linear (schedulers use float32)."""


def sampler_table(scheduler: Any, steps: int) -> SamplerTable:
    """The rows of `scheduler` for a number of steps.

    Raises:
        UserError: its step is not linear in what it mixes, or it does not show its denoised estimate.
    """
    library = type(scheduler).__name__
    for option in ("clip_sample", "thresholding"):
        if scheduler.config.get(option):
            raise UserError(f"{library} with `{option}` is not linear and can't become a sampler table.")
    small, large = (_fit(scheduler, steps, amplitude, seed) for seed, amplitude in ((1, 1.0), (2, 30.0)))
    for step, (one, other) in enumerate(zip(small, large, strict=True), start=1):
        a, b = one.coefficients(), other.coefficients()
        if abs(a - b).max() > FIT * max(abs(a).max(), 1.0):
            raise UserError(f"{library} is not linear: its step {step} depends on how large the latent is.")
    probe = type(scheduler).from_config(scheduler.config)
    probe.set_timesteps(steps)
    order = scheduler.config.get("solver_order", 1)
    return SamplerTable(
        name=f"{library.removesuffix('Scheduler')} order {order}, {steps} steps",
        rows=tuple(small),
        init_noise_sigma=float(probe.init_noise_sigma),
    )


def _fit(original: Any, steps: int, amplitude: float, seed: int) -> list[SamplerRow]:
    scheduler = type(original).from_config(original.config)
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(seed)
    before: Tensor | None = None
    rows = []
    for timestep in scheduler.timesteps:
        x, m = (torch.randn(1, 1, PROBE, generator=generator) * amplitude for _ in range(2))
        scaled = scheduler.scale_model_input(x.clone(), timestep)
        result = scheduler.step(m.clone(), timestep, x.clone(), return_dict=True)
        x0 = _denoised(scheduler, result)
        (s,) = _solve(scaled, [x])
        p, q = _solve(x0, [x, m])
        a, b, *rest = _solve(result.prev_sample, [x, x0] if before is None else [x, x0, before])
        c = rest[0] if rest else 0.0
        rows.append(SamplerRow(timestep=float(timestep), s=s, p=p, q=q, a=a, b=b, c=c, d=0.0))
        before = x0
    return rows


def _denoised(scheduler: Any, result: Any) -> Tensor:
    """The library's own denoised estimate of the step just made."""
    estimate = getattr(result, "pred_original_sample", None)
    if estimate is None and scheduler.config.get("algorithm_type") == "dpmsolver++":
        estimate = scheduler.model_outputs[-1]
    if not isinstance(estimate, Tensor):
        raise UserError(f"{type(scheduler).__name__} does not show its denoised estimate, so it can't become a table.")
    return estimate


def _solve(target: Tensor, basis: list[Tensor]) -> list[float]:
    """Coefficients of `target` in `basis`."""
    columns = torch.stack([vector.double().flatten() for vector in basis], dim=1)
    wanted = target.double().flatten()
    solution = torch.linalg.lstsq(columns, wanted[:, None]).solution[:, 0]
    residual = float((columns @ solution - wanted).abs().max())
    terms = columns.abs().amax(dim=0) * solution.abs()
    largest = float(terms.max())
    if not residual <= FIT * max(largest, 1e-6):
        raise UserError(f"The scheduler's step is not linear: a residual of {residual:.3g} beside {largest:.3g}.")
    return [float(value) if float(term) > 1e-6 * largest else 0.0 for value, term in zip(solution, terms, strict=True)]
