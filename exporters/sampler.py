"""A diffusers scheduler → the rows of a sampler table, recovered by probing its own `step`.

Every supported sampler is linear in the latent x, the model's output m, the denoised estimate before, and fresh noise.
So the coefficients are solved for on random vectors and checked on others of another size; a scheduler whose step is
not linear (clipping, thresholding) is refused. What a pipeline does around its scheduler is a `Convention`.
"""

import inspect
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from mothlight.engine.errors import UserError
from mothlight.engine.models.sampler import SamplerRow, SamplerTable
from mothlight.exporters.libraries import reason

PROBE = 4096
FIT = 1e-4
"""Largest residual, relative to the largest term, at which a step still counts as linear (schedulers use float32)."""
SAMPLERS: dict[str, tuple[str, dict[str, object]]] = {
    "euler": ("EulerDiscreteScheduler", {}),
    "euler-ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "dpm++2m": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "lcm": ("LCMScheduler", {"clip_sample": False}),
    "scm": ("SCMScheduler", {}),
    "flow-euler": ("FlowMatchEulerDiscreteScheduler", {}),
}
"""Samplers by name: the scheduler's class and what it must be told."""


class Convention:
    """How a pipeline uses its scheduler; this is Stable Diffusion's way, families with another override a method."""

    def start(self, scheduler: Any, steps: int) -> Tensor:
        """Set the scheduler up and return the timesteps that it is stepped through."""
        scheduler.set_timesteps(steps)
        timesteps: Tensor = scheduler.timesteps
        return timesteps

    def noise_scale(self, scheduler: Any) -> float:
        """What the initial normal noise is multiplied by; asked after `start`."""
        return float(scheduler.init_noise_sigma)

    def model_input(self, scheduler: Any, x: Tensor, timestep: Tensor) -> Tensor:
        """What the model is given of a latent."""
        if not hasattr(scheduler, "scale_model_input"):
            return x
        scaled: Tensor = scheduler.scale_model_input(x, timestep)
        return scaled

    def model_timestep(self, timestep: Tensor) -> float:
        """What the model is given of a timestep."""
        return float(timestep)

    def model_output(self, m: Tensor, model_input: Tensor, timestep: Tensor) -> Tensor:
        """What the scheduler is given of a model's output on `model_input`; linear in both."""
        del model_input, timestep
        return m


def sampler_class(sampler: str) -> tuple[str, dict[str, object]]:
    """The class of diffusers that a sampler's name stands for, and what it must be told.

    Raises:
        UserError: there is no sampler of that name.
    """
    if sampler not in SAMPLERS:
        raise UserError(f"There is no sampler `{sampler}`; choose one of {', '.join(SAMPLERS)}.")
    return SAMPLERS[sampler]


def with_order(scheduler: Any, order: int | None) -> Any:
    """A scheduler of another solver order; None keeps its own."""
    return scheduler if order is None else type(scheduler).from_config(scheduler.config, solver_order=order)


def sampler_table(scheduler: Any, steps: int, convention: Convention | None = None) -> SamplerTable:
    """The rows of `scheduler` for a number of steps.

    Raises:
        UserError: its step is not linear in what it mixes, or it does not show its denoised estimate.
    """
    how = convention or Convention()
    library = type(scheduler).__name__
    for option in ("clip_sample", "thresholding"):
        if scheduler.config.get(option):
            raise UserError(f"{library} with `{option}` is not linear and can't become a sampler table.")
    if not 1 <= steps <= int(scheduler.config.get("num_train_timesteps", 1000)):
        raise UserError(f"{library} can't take {steps} steps.")
    try:
        how.start(type(scheduler).from_config(scheduler.config), steps)
    except (ValueError, IndexError, AttributeError) as error:
        raise UserError(f"{library} can't take {steps} steps in this pipeline: {reason(error)}") from error
    small, large = (_fit(scheduler, steps, how, amplitude, seed) for seed, amplitude in ((1, 1.0), (2, 30.0)))
    for step, (one, other) in enumerate(zip(small, large, strict=True), start=1):
        a, b = one.coefficients(), other.coefficients()
        if abs(a - b).max() > FIT * max(abs(a).max(), 1.0):
            raise UserError(f"{library} is not linear: its step {step} depends on how large the latent is.")
    probe = type(scheduler).from_config(scheduler.config)
    how.start(probe, steps)
    order = f" order {scheduler.config['solver_order']}" if "solver_order" in scheduler.config else ""
    name = library.removesuffix("Scheduler")
    return SamplerTable(
        name=f"{name}{order}, {steps} step{'s' if steps > 1 else ''}",
        rows=tuple(small),
        init_noise_sigma=how.noise_scale(probe),
    )


def _fit(original: Any, steps: int, how: Convention, amplitude: float, seed: int) -> list[SamplerRow]:
    scheduler = type(original).from_config(original.config)
    noisy = "generator" in inspect.signature(scheduler.step).parameters
    generator = torch.Generator().manual_seed(seed)
    before: Tensor | None = None
    rows = []
    for number, timestep in enumerate(how.start(scheduler, steps)):
        x, m = (torch.randn(1, 1, PROBE, generator=generator) * amplitude for _ in range(2))
        (s,) = _solve(how.model_input(scheduler, x.clone(), timestep), [x])
        x = x / s  # as large as the latents there really are, so that no coefficient drowns in rounding
        given = how.model_input(scheduler, x.clone(), timestep)
        output = how.model_output(m.clone(), given, timestep)
        more: dict[str, Any] = {"generator": torch.Generator().manual_seed(number)} if noisy else {}
        sigma = _sigma(scheduler, timestep)
        result = scheduler.step(output, timestep, x.clone(), return_dict=True, **more)
        # what the scheduler draws, if it draws: the same again from a generator of the same seed
        drawn = randn_tensor(x.shape, generator=torch.Generator().manual_seed(number))
        x0 = _denoised(scheduler, result, x, output, sigma)
        p, q = _solve(x0, [x, m])
        basis = [x, x0, *([] if before is None else [before]), *([drawn] if noisy else [])]
        a, b, *rest = _solve(result.prev_sample, basis)
        d = rest.pop() if noisy else 0.0
        c = rest.pop() if rest else 0.0
        rows.append(SamplerRow(timestep=how.model_timestep(timestep), s=s, p=p, q=q, a=a, b=b, c=c, d=d))
        before = x0
    return rows


def _sigma(scheduler: Any, timestep: Tensor) -> float | None:
    """The noise level of the step that comes, where the scheduler is one of flow matching."""
    if type(scheduler).__name__ != "FlowMatchEulerDiscreteScheduler":
        return None
    index = scheduler.step_index
    if index is None:
        index = scheduler.index_for_timestep(timestep) if scheduler.begin_index is None else scheduler.begin_index
    return float(scheduler.sigmas[index])


def _denoised(scheduler: Any, result: Any, x: Tensor, output: Tensor, sigma: float | None) -> Tensor:
    """The library's own denoised estimate of the step just made."""
    if sigma is not None:
        return x - sigma * output
    estimate = getattr(result, "pred_original_sample", None)
    if estimate is None:
        estimate = getattr(result, "denoised", None)
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
