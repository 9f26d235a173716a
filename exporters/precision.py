"""Graphs whose arithmetic is in half precision: the library's own module, cast, and exported as it then is.

What goes in and comes out stays float32, and so does what stands around the model: pre- and post-processing, softmax
over labels, the sampler's arithmetic, timesteps. Inside, layers that normalise (layer, group and RMS norm) compute in
float32; batch norm does not, since it is folded into the convolution before it. Attention's softmax stays in half
precision, where the engines have kernels for the whole of it that add up in float32.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mothlight.engine.device import Buffer, Spec, Stream
from mothlight.engine.models.bundle import Bundle, Precision
from mothlight.engine.models.engines import Engines
from mothlight.engine.models.runner import Engine, OrtRunner, Runner
from mothlight.exporters.graphs import Graph

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
RELATIVE: dict[Precision, float] = {"fp16": 0.03, "bf16": 0.15}
"""How far an output may be from the library's in float32, relative to its largest magnitude."""
PSNR: dict[Precision, float] = {"fp16": 35.0, "bf16": 25.0}
"""How near an image must be, in dB."""


class Typed(nn.Module):
    """A module in half precision between tensors in float32."""

    def __init__(self, core: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.core: Any = core.to(dtype)
        self.dtype = dtype
        for module in core.modules():
            if normalises(module):
                in_float(module, dtype)

    def forward(self, *arguments: Any, **named: Any) -> Any:
        """What the module gives."""
        return self._float(self.core(*self._half(arguments), **self._half(named)))

    def decode(self, latent: Tensor, **named: Any) -> Any:
        """An autoencoder's other half."""
        return self._float(self.core.decode(self._half(latent), **named))

    def _half(self, value: Any) -> Any:
        """Cast what has rows; a timestep or a scale, (1,), stays as exact as it is."""
        return mapped(value, lambda one: one.to(self.dtype) if one.is_floating_point() and one.ndim > 1 else one)

    def _float(self, value: Any) -> Any:
        return mapped(value, lambda one: one.float() if one.is_floating_point() else one)


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Every tensor in tuples, lists and dicts changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple | list):
        return type(value)(mapped(one, change) for one in value)
    if isinstance(value, Mapping):
        return {name: mapped(one, change) for name, one in value.items()}
    return value


def normalises(module: nn.Module) -> bool:
    """Whether a layer divides by a spread that it measures."""
    name = type(module).__name__
    return not list(module.children()) and "Norm" in name and "BatchNorm" not in name


def in_float(module: nn.Module, dtype: torch.dtype) -> None:
    """Have a layer compute in float32 between tensors of another dtype."""
    inner = module.float().forward

    def forward(x: Tensor, *arguments: Any, **named: Any) -> Tensor:
        return inner(x.float(), *arguments, **named).to(dtype)

    module.forward = forward  # the same call, in another dtype


def typed(graph: Graph, precision: Precision) -> Graph:
    """A graph with its core in another precision; the graph itself stays as it is."""
    if precision == "fp32":
        return graph
    module = copy.deepcopy(graph.module)
    if not graph.core:
        return replace(graph, module=Typed(module, DTYPES[precision]).eval())
    holder, _, name = graph.core.rpartition(".")
    owner = module.get_submodule(holder)
    setattr(owner, name, Typed(getattr(owner, name), DTYPES[precision]))
    return replace(graph, module=module.eval())


class ModuleEngine:
    """A torch module in an engine's place, for a graph that ONNX Runtime can't run on a CPU: bfloat16."""

    def __init__(self, graph: Graph, inputs: Sequence[str]) -> None:
        self.graph, self.inputs = graph, inputs

    def infer(self, /, **inputs: Any) -> dict[str, Any]:
        """See `Runner`."""
        with torch.no_grad():
            made = self.graph.module(*(torch.from_numpy(inputs[name]) for name in self.inputs))
        values = made if isinstance(made, tuple) else (made,)
        return {name: value.numpy() for name, value in zip(self.graph.outputs, values, strict=True)}

    def outputs(self, given: Mapping[str, Spec]) -> Mapping[str, Spec]:
        """See `Engine`."""
        zeros = {name: torch.zeros(spec.shape).numpy().astype(spec.dtype) for name, spec in given.items()}
        return {name: Spec(array.shape, array.dtype) for name, array in self.infer(**zeros).items()}

    def enqueue(self, given: Mapping[str, Buffer], made: Mapping[str, Buffer], stream: Stream) -> None:
        """See `Engine`."""

        def run() -> None:
            out = self.infer(**{name: buffer.array for name, buffer in given.items()})
            for name, buffer in made.items():
                buffer.array[...] = out[name]

        stream.run(run, [*given.values()], [*made.values()])


class CheckingEngines(Engines):
    """For comparing a bundle with its library on a CPU: torch where a graph is bfloat16, else ONNX Runtime."""

    def __init__(self, graphs: Sequence[Graph]) -> None:
        super().__init__()
        self.graphs = {graph.name: graph for graph in graphs}

    def open(self, bundle: Bundle, graph: str, outputs: Sequence[str] | None = None) -> Engine:
        """See `Engines`."""
        spec = bundle.manifest.graphs[graph]
        if spec.precision != "bf16":
            return OrtRunner(bundle.graph_path(graph), outputs=outputs)
        return ModuleEngine(typed(self.graphs[graph], "bf16"), [tensor.name for tensor in spec.inputs])

    def runner(self, bundle: Bundle, graph: str) -> Runner:
        """See `Engines`."""
        made = self.open(bundle, graph)
        assert isinstance(made, OrtRunner | ModuleEngine)  # noqa: S101  # what `open` gives
        return made
