"""Schedulers as pipelines configure them: a table equals the library's own loop, or the scheduler is refused.

None may become a table that is wrong.
"""

import inspect
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from mothlight.engine.errors import UserError
from mothlight.exporters.libraries import quiet
from mothlight.exporters.sampler import Convention, sampler_table
from tests.exporters import tiny
from tests.exporters.tiny import diffusers

pytestmark = pytest.mark.filterwarnings("ignore")  # the library warns of its own deprecations
quiet()
STABLE: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SPACINGS: tuple[dict[str, Any], ...] = (
    {"timestep_spacing": "leading", "steps_offset": 1},
    {"timestep_spacing": "trailing"},
)
PREDICTIONS: tuple[dict[str, Any], ...] = ({"prediction_type": "epsilon"}, {"prediction_type": "v_prediction"})
PLAIN = [{**STABLE, **spacing, **prediction} for spacing, prediction in product(SPACINGS, PREDICTIONS)]
FIRST_ORDER = {"algorithm_type": "dpmsolver++", "solver_order": 1}
CONFIGURATIONS: list[tuple[str, dict[str, Any]]] = [
    *(("EulerDiscreteScheduler", config) for config in PLAIN),
    ("EulerDiscreteScheduler", {**PLAIN[0], "use_karras_sigmas": True}),
    ("EulerDiscreteScheduler", {**PLAIN[2], "rescale_betas_zero_snr": True}),
    *(("EulerAncestralDiscreteScheduler", config) for config in PLAIN),
    *(("DDIMScheduler", {**config, "clip_sample": False, "set_alpha_to_one": False}) for config in PLAIN),
    *(("DPMSolverMultistepScheduler", config) for config in PLAIN),
    ("DPMSolverMultistepScheduler", {**PLAIN[0], **FIRST_ORDER}),
    ("DPMSolverMultistepScheduler", {**PLAIN[0], "use_karras_sigmas": True}),
    ("DPMSolverMultistepScheduler", {**PLAIN[0], "algorithm_type": "sde-dpmsolver++"}),
    ("DPMSolverMultistepScheduler", {**PLAIN[0], "solver_order": 3}),
    ("DPMSolverMultistepScheduler", {**PLAIN[0], "final_sigmas_type": "zero"}),
    ("DPMSolverSinglestepScheduler", STABLE),
    ("LCMScheduler", {**STABLE, "clip_sample": False}),
    ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
    ("FlowMatchEulerDiscreteScheduler", {"shift": 1.0}),
    ("DDPMScheduler", {**PLAIN[0], "clip_sample": False}),
    ("PNDMScheduler", {**PLAIN[0], "skip_prk_steps": True}),
    ("UniPCMultistepScheduler", PLAIN[0]),
    ("DEISMultistepScheduler", PLAIN[0]),
    ("HeunDiscreteScheduler", PLAIN[0]),
    ("KDPM2DiscreteScheduler", PLAIN[0]),
    ("LMSDiscreteScheduler", PLAIN[0]),
    ("TCDScheduler", STABLE),
    ("FlowMatchHeunDiscreteScheduler", {"shift": 3.0}),
]
NAMES = [f"{place}-{kind.removesuffix('Scheduler')}" for place, (kind, _) in enumerate(CONFIGURATIONS)]
CLOSE = 2e-4
"""Relative to the largest latent."""


def made(kind: str, config: dict[str, Any]) -> Any:
    return getattr(diffusers, kind)(**config)


class Flow(Convention):
    """Flow matching starts from plain noise."""

    def noise_scale(self, scheduler: Any) -> float:
        del scheduler
        return 1.0


def how(kind: str) -> Convention:
    return Flow() if kind.startswith("FlowMatch") else Convention()


def looped(kind: str, config: dict[str, Any], steps: int, start: torch.Tensor, seed: int) -> torch.Tensor:
    """The library's own loop on a stand-in model; fresh noise from generators of known seeds."""
    scheduler = made(kind, config)
    scheduler.set_timesteps(steps)
    x = start * float(getattr(scheduler, "init_noise_sigma", 1.0))
    noisy = "generator" in inspect.signature(scheduler.step).parameters
    for number, t in enumerate(scheduler.timesteps, start=1):
        given = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        more = {"generator": torch.Generator().manual_seed(seed + number)} if noisy else {}
        x = scheduler.step(torch.tanh(given + t / 500), t, x, **more).prev_sample
    return x


@pytest.mark.parametrize(("kind", "config"), CONFIGURATIONS, ids=NAMES)
@pytest.mark.parametrize("steps", [1, 7])
def test_a_table_is_the_librarys_loop_or_there_is_none(kind: str, config: dict[str, Any], steps: int) -> None:
    try:
        table = sampler_table(made(kind, config), steps, how(kind))
    except UserError:
        return

    start = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))

    def noise(step: int) -> Any:
        if step == 0:
            return start.numpy()
        return torch.randn(start.shape, generator=torch.Generator().manual_seed(40 + step)).numpy()

    wanted = looped(kind, config, steps, start, 40).numpy()
    got = tiny.sampled(table, noise)
    assert np.abs(got - wanted).max() <= CLOSE * max(np.abs(wanted).max(), 1.0)


def test_most_of_what_pipelines_use_becomes_a_table() -> None:
    tables = 0
    for kind, config in CONFIGURATIONS:
        try:
            tables += bool(sampler_table(made(kind, config), 7, how(kind)))
        except UserError:
            continue
    assert tables >= 20
