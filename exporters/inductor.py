"""Graphs compiled by torch itself (AOTInductor), for GPU machines that have torch and nothing else.

A package is compiled on the machine that runs it, from the library's own model, which has to be where the bundle's
manifest says; it is kept in the same cache as other engines. This is the only engine that imports torch.
"""

import logging
import tempfile
from collections.abc import Hashable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mothlight.engine.cuda import Cuda
from mothlight.engine.device import Buffer, Device, Spec, Stream
from mothlight.engine.errors import BundleError, UserError
from mothlight.engine.models.bundle import Bundle, load_bundle
from mothlight.engine.models.cache import EngineCache, key_of
from mothlight.engine.models.tensorrt import GROWING
from mothlight.exporters.export import prepare
from mothlight.exporters.graphs import Graph, dynamic_shapes
from mothlight.exporters.options import options_of
from mothlight.exporters.precision import typed

log = logging.getLogger("mothlight.engine")


def open_inductor(bundle: Bundle, graph: str, device: Device) -> "InductorEngine":
    """See `engines.OpenInductor`."""
    return InductorEngine(bundle, graph, device, EngineCache())


@lru_cache(maxsize=8)
def prepared_graphs(folder: Path) -> Mapping[str, Graph]:
    """The graphs of a bundle as the library's own modules; loaded again from the bundle's source.

    Raises:
        UserError: the source is not there any more.
    """
    manifest = load_bundle(folder).manifest
    options = options_of(manifest.source.options)
    source = manifest.source.origin
    if manifest.source.revision:
        options = replace(options, revision=manifest.source.revision)
    elif (beside := folder.parent / source).exists():
        source = str(beside)
    elif not Path(source).exists():
        raise UserError(
            f"torch compiles {folder.name} from the model that it was exported from, and there is no {beside}: put the "
            f"model, or a link to it, there; or choose another `engine`."
        )
    made = prepare(manifest.role, source, manifest.name, options)
    return {graph.name: graph for graph in made.graphs}


class InductorEngine:
    """A graph as an AOTInductor package: one for each set of shapes, but for what grows token by token."""

    def __init__(self, bundle: Bundle, graph: str, device: Device, cache: EngineCache) -> None:
        self.bundle, self.graph, self.device, self.cache = bundle, graph, device, cache
        spec = bundle.manifest.graphs[graph]
        self.inputs = [tensor.name for tensor in spec.inputs]
        self.names = [tensor.name for tensor in spec.outputs]
        self.growing = {(one.name, axis) for one in spec.inputs for axis, dim in enumerate(one.shape) if dim == GROWING}
        self.where = "cuda" if isinstance(device, Cuda) else "cpu"
        self._packages: dict[Hashable, Any] = {}

    def outputs(self, given: Mapping[str, Spec]) -> Mapping[str, Spec]:
        """See `Engine`; compiles the graph for these shapes, unless the cache has it, and runs it once."""
        zeros = {name: torch.zeros(one.shape, dtype=_torch(one), device=self.where) for name, one in given.items()}
        made = self._run(self._package(given), zeros)
        if self.where == "cuda":
            torch.cuda.synchronize()
        return {
            name: Spec(tuple(one.shape), np.dtype(str(one.dtype).removeprefix("torch."))) for name, one in made.items()
        }

    def enqueue(self, given: Mapping[str, Buffer], made: Mapping[str, Buffer], stream: Stream) -> None:
        """See `Engine`."""
        package = self._package({name: buffer.spec for name, buffer in given.items()})
        if self.where == "cpu":
            stream.run(lambda: self._into(package, given, made), [*given.values()], [*made.values()])
            return
        with torch.cuda.stream(torch.cuda.ExternalStream(stream.handle)):
            self._into(package, given, made)

    def _into(self, package: Any, given: Mapping[str, Buffer], made: Mapping[str, Buffer]) -> None:
        out = self._run(package, {name: tensor_of(buffer) for name, buffer in given.items()})
        for name, buffer in made.items():
            tensor_of(buffer).copy_(out[name], non_blocking=True)

    def _run(self, package: Any, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        with torch.inference_mode():
            values = package(*(inputs[name] for name in self.inputs))
        return dict(zip(self.names, values if isinstance(values, list | tuple) else [values], strict=True))

    def _package(self, given: Mapping[str, Spec]) -> Any:
        key = tuple((name, *self._fixed(name, given[name]), str(given[name].dtype)) for name in self.inputs)
        if key not in self._packages:
            self._packages[key] = self._load(given)
        return self._packages[key]

    def _fixed(self, name: str, spec: Spec) -> list[int]:
        """A shape, with 0 for what grows."""
        return [0 if (name, axis) in self.growing else size for axis, size in enumerate(spec.shape)]

    def _load(self, given: Mapping[str, Spec]) -> Any:
        manifest = self.bundle.manifest
        target = (
            self.device.target() if isinstance(self.device, Cuda) else {"device": "cpu", "capability": "", "driver": ""}
        )
        shapes = {name: self._fixed(name, one) for name, one in given.items()}
        builder = f"inductor {torch.__version__}"
        about = {"bundle": manifest.name, "graph": self.graph, "builder": builder, "device": target["device"]}
        key = key_of({**target, **about, "content": manifest.content_key, "shapes": shapes})
        data, _ = self.cache.engine(key, lambda: (self._compile(given), about))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{self.graph}.pt2"
            path.write_bytes(data)
            return torch._inductor.aoti_load_package(str(path))

    def _compile(self, given: Mapping[str, Spec]) -> bytes:
        name = f"{self.bundle.manifest.name}/{self.graph}"
        graph = prepared_graphs(self.bundle.folder)[self.graph]
        precision = self.bundle.manifest.graphs[self.graph].precision
        start = perf_counter()
        log.info("compiling %s with torch", name)
        module = typed(graph, precision).module.to(self.where).eval()
        rows = next(one.shape[0] for tensor, one in given.items() if tensor not in graph.shared)
        made = graph.make_inputs(rows, torch.Generator().manual_seed(0))
        example = []
        for tensor in self.inputs:
            one = made[tensor]
            if tuple(one.shape) != given[tensor].shape:  # images of another size than the exporter's own
                one = torch.zeros(given[tensor].shape, dtype=one.dtype)
            example.append(one.to(self.where))
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
            try:
                shapes = dynamic_shapes(graph, self.inputs, {GROWING}) if self.growing else None
                program = torch.export.export(module, tuple(example), dynamic_shapes=shapes, strict=False)
                path = torch._inductor.aoti_compile_and_package(program, package_path=str(Path(folder) / "graph.pt2"))
            except Exception as error:  # torch wraps what went wrong in many types
                reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
                raise BundleError(f"torch can't compile {name}: {reason}") from error
            finally:
                module.to("cpu")  # in float32 it is the library's own, which is kept for the other graphs
            log.info("compiled %s with torch in %.1f s", name, perf_counter() - start)
            return Path(path).read_bytes()


def tensor_of(buffer: Buffer) -> Tensor:
    """A buffer as a tensor, on its own memory."""
    if buffer.host is not None:
        return torch.from_numpy(buffer.host)
    return torch.as_tensor(_OnDevice(buffer), device="cuda")


class _OnDevice:
    """What the CUDA array interface says of a buffer."""

    def __init__(self, buffer: Buffer) -> None:
        self.buffer = buffer
        self.__cuda_array_interface__ = {
            "shape": buffer.spec.shape,
            "typestr": buffer.spec.dtype.str,
            "data": (buffer.address, False),
            "strides": None,
            "version": 3,
        }


def _torch(spec: Spec) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, str(spec.dtype))
    return dtype
