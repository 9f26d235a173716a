"""What a person may choose when a model is exported; what differs from the defaults is kept in the manifest."""

import json
from dataclasses import dataclass, fields
from typing import Literal

from mothlight.engine.errors import UserError
from mothlight.engine.models.bundle import Precision, Thresholds

INSTEAD: dict[Precision, tuple[Precision, ...]] = {
    "fp32": ("fp32",),
    "fp16": ("fp16", "bf16", "fp32"),
    "bf16": ("bf16", "fp32"),
}
"""What is tried, one after the other, where a graph does not hold what its precision promises."""
TextEncoder = Literal["auto", "graph", "library"]


@dataclass(frozen=True)
class Options:
    """All choices of all roles; a role looks at its own."""

    revision: str | None = None
    """The commit, tag or branch of a hub id."""
    precision: Precision = "fp32"
    """Of the arithmetic inside the graphs; see `precision`."""
    # generators
    steps: tuple[int, ...] = ()
    """A sampler for each; the first is the default. Empty: the family's own number."""
    sampler: str | None = None
    """One of `SAMPLERS`; None keeps the pipeline's own scheduler."""
    order: int | None = None
    """The solver's order, if not the scheduler's own."""
    guidance: float | None = None
    negative_prompt: str = ""
    decoder: str | None = None
    """A tiny autoencoder in place of the pipeline's own."""
    lora: str | None = None
    """A safetensors file, or a folder or hub id with one, to be fused into the model."""
    lora_scale: float = 1.0
    size: int | None = None
    """The side of an image in pixels."""
    text_encoder: TextEncoder = "auto"
    """A graph, or loaded by the library for each audit's new prompts; `auto`: a graph unless it is large."""
    # classifiers
    architecture: str | None = None
    """`timm/NAME` or `torchvision/NAME`, for a single safetensors file."""
    labels: str | None = None
    """A file with one label per line, in the place of the model's own."""
    # gates
    gate: bool = False
    """Whether a gate is wanted; its bounds, where not chosen, are the family's."""
    lower: float | None = None
    """Below this score the generator missed."""
    upper: float | None = None
    """From this score on an image passes."""
    # captioners
    question: str | None = None
    """What a vision-language model is asked."""

    def changed(self) -> dict[str, str]:
        """What differs from the defaults, as JSON by name."""
        return {
            field.name: json.dumps(getattr(self, field.name))
            for field in fields(self)
            if getattr(self, field.name) != field.default
        }


def options_of(changed: dict[str, str]) -> Options:
    """The options that `Options.changed` wrote down."""
    values = {name: json.loads(value) for name, value in changed.items()}
    if "steps" in values:
        values["steps"] = tuple(values["steps"])
    return Options(**values)


def thresholds_of(options: Options, lower: float, upper: float) -> Thresholds | None:
    """A gate's bounds, or these where they were not chosen; None where no gate is wanted.

    Raises:
        UserError: the lower is above the upper.
    """
    if not options.gate:
        return None
    low = lower if options.lower is None else options.lower
    high = upper if options.upper is None else options.upper
    if low > high:
        raise UserError(f"The gate's lower bound {low} is above its upper bound {high}.")
    return Thresholds(lower=low, upper=high)
