"""Compiles ONNX graphs with TensorRT and runs them: one code for `tensorrt` (11 or newer) and TensorRT for RTX.

The first serves every GPU that NVIDIA sells for servers; the second installs from the package index, builds without a
GPU, and serves GeForce and RTX cards (compute capability 7.5, 8.6, 8.9, 12.0 and 12.1). Both are strongly typed: the
precision stands in the graph.
"""

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from mothlight.engine.cuda import Cuda
from mothlight.engine.device import Buffer, Device, Spec, Stream, spec
from mothlight.engine.errors import BundleError
from mothlight.engine.models.bundle import Bundle
from mothlight.engine.models.cache import EngineCache, key_of
from mothlight.engine.models.runner import Buffers, Specs

log = logging.getLogger("mothlight.engine")
MODULES = ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings")
RTX_CAPABILITIES = ((7, 5), (8, 6), (8, 9), (12, 0), (12, 1))
"""The GPUs that TensorRT for RTX 1.7 is made for."""
OLDEST = 11
"""The first release of `tensorrt` whose networks are strongly typed without being told."""
Tell = Callable[[str, float], None]
"""Hears of a phase of a build, and how much of it is done, from 0 to 1."""
GROWING = "length"
"""The symbolic dimension that grows by one with each token."""


@dataclass(frozen=True)
class TensorRt:
    """The library: which of the two it is, and its module."""

    trt: Any
    rtx: bool

    @property
    def name(self) -> str:
        """As the package is called."""
        return "tensorrt_rtx" if self.rtx else "tensorrt"

    @property
    def version(self) -> str:
        """Of the library."""
        return str(self.trt.__version__)

    def serves(self, capability: tuple[int, int]) -> bool:
        """Whether it has kernels for a GPU of this compute capability."""
        return not self.rtx or capability in RTX_CAPABILITIES

    def build(self, path: Path, shapes: Mapping[str, Specs], timing: bytes = b"", tell: Tell | None = None) -> "Built":
        """Compile a graph; `shapes` are the least, the usual and the largest of its inputs ("min", "opt", "max").

        Raises:
            BundleError: the library refuses the graph; with its own words.
        """
        trt = self.trt
        logger = logger_of(trt)
        builder = trt.Builder(logger)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, logger)
        if not parser.parse_from_file(str(path)):
            said = "; ".join(str(parser.get_error(k).desc()) for k in range(parser.num_errors))
            raise BundleError(f"{self.name} {self.version} can't read {path}: {said or logger.said}")
        config = builder.create_builder_config()
        profile = builder.create_optimization_profile()
        for k in range(network.num_inputs):
            name = network.get_input(k).name
            profile.set_shape(name, *(shapes[which][name].shape for which in ("min", "opt", "max")))
        config.add_optimization_profile(profile)
        cache = config.create_timing_cache(timing)
        config.set_timing_cache(cache, ignore_mismatch=False)
        if tell is not None:
            config.progress_monitor = monitor_of(trt, tell)
        made = builder.build_serialized_network(network, config)
        if made is None:
            raise BundleError(f"{self.name} {self.version} can't compile {path}: {logger.said}")
        with contextlib.suppress(Exception):  # a cache that can't be kept only costs time
            timing = bytes(config.get_timing_cache().serialize())
        return Built(bytes(made), timing)


@dataclass(frozen=True, slots=True)
class Built:
    """A serialised engine, and what the builder learnt about kernels on the way."""

    engine: bytes
    timing: bytes


def find(modules: Sequence[str] = MODULES) -> TensorRt | None:
    """The library that is installed; the one for servers first. None where there is neither."""
    for name in modules:
        try:
            trt = import_module(name)
        except (ImportError, OSError):  # OSError: its own libraries are missing
            continue
        rtx = "rtx" in name
        if rtx or int(str(trt.__version__).split(".")[0]) >= OLDEST:
            return TensorRt(trt, rtx)
    return None


def logger_of(trt: Any) -> Any:
    """A logger that keeps the last error instead of printing it."""

    class Logger(trt.ILogger):  # type: ignore[misc]  # the base is the library's, whichever it is
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.said = "it gave no reason"

        def log(self, severity: Any, text: str) -> None:
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                self.said = text.strip()
            log.debug("%s", text)

    return Logger()


def monitor_of(trt: Any, tell: Tell) -> Any:
    """A progress monitor that tells of the outermost phase."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # as above
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            del parent
            self.steps[phase] = max(steps, 1)
            tell(phase, 0.0)

        def step_complete(self, phase: str, step: int) -> bool:
            tell(phase, (step + 1) / self.steps.get(phase, 1))
            return True

        def phase_finish(self, phase: str) -> None:
            tell(phase, 1.0)

    return Monitor()


class TensorRtEngine:
    """A graph that is compiled when its shapes are known, and run in execution contexts of its own for each stream.

    Contexts of one stream never overlap, so they share the memory of their activations.
    """

    def __init__(self, compiler: "Compiler", bundle: Bundle, graph: str) -> None:
        self.compiler, self.bundle, self.graph = compiler, bundle, graph
        spec = bundle.manifest.graphs[graph]
        self.inputs = [tensor.name for tensor in spec.inputs]
        self.growing = {
            tensor.name: [axis for axis, dim in enumerate(tensor.shape) if dim == GROWING] for tensor in spec.inputs
        }
        self._engines: dict[str, Any] = {}
        self._contexts: dict[tuple[str, int], Any] = {}
        self._opened: dict[tuple[tuple[str, Spec], ...], str] = {}

    def outputs(self, given: Specs) -> Specs:
        """See `Engine`; compiles the graph for these shapes, unless the cache has it."""
        key, engine = self._open(given)
        context = self._context(key, 0)
        self._shape(context, given)
        if missing := context.infer_shapes():
            msg = f"{self.bundle.folder.name}/{self.graph}: TensorRT misses {', '.join(missing)}"
            raise ValueError(msg)
        trt = self.compiler.library.trt
        names = [engine.get_tensor_name(k) for k in range(engine.num_io_tensors)]
        return {
            name: Spec(tuple(context.get_tensor_shape(name)), np.dtype(trt.nptype(engine.get_tensor_dtype(name))))
            for name in names
            if engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT
        }

    def enqueue(self, given: Buffers, made: Buffers, stream: Stream) -> None:
        """See `Engine`.

        Raises:
            RuntimeError: TensorRT would not launch it.
        """
        key, _ = self._open({name: buffer.spec for name, buffer in given.items()})
        context = self._context(key, stream.handle)
        self._shape(context, {name: buffer.spec for name, buffer in given.items()})
        for name, buffer in (*given.items(), *made.items()):
            context.set_tensor_address(name, buffer.address)

        def launch() -> None:
            if not context.execute_async_v3(stream.handle):
                msg = f"{self.bundle.folder.name}/{self.graph}: TensorRT can't launch it: {self.compiler.logger.said}"
                raise RuntimeError(msg)

        device = self.compiler.device
        if isinstance(device, Cuda):
            where = tuple((name, buffer.address, buffer.spec) for name, buffer in (*given.items(), *made.items()))
            device.repeat((key, stream.handle, where), launch, stream)
        else:
            launch()

    def _open(self, given: Specs) -> tuple[str, Any]:
        at_hand = tuple(sorted(given.items(), key=lambda item: item[0]))
        key = self._opened.get(at_hand)
        if key is None:
            key, engine = self.compiler.engine(self.bundle, self.graph, self._ranges(given))
            self._opened[at_hand] = key
            self._engines.setdefault(key, engine)
        return key, self._engines[key]

    def _ranges(self, given: Specs) -> Mapping[str, Specs]:
        """Every shape is what it is, but for what grows token by token."""
        manifest = self.bundle.manifest
        first = self.compiler.first_length(self.bundle)
        longest = max(first - len(manifest.start_ids) + (manifest.max_tokens or 1) - 1, first)
        ranges: dict[str, dict[str, Spec]] = {"min": {}, "opt": {}, "max": {}}
        for name, one in given.items():
            for which, length in (("min", first), ("opt", (first + longest) // 2), ("max", longest)):
                shape = list(one.shape)
                for axis in self.growing[name]:
                    shape[axis] = length
                ranges[which][name] = Spec(tuple(shape), one.dtype)
        return ranges

    def _shape(self, context: Any, given: Specs) -> None:
        for name, one in given.items():
            if not context.set_input_shape(name, one.shape):
                msg = f"{self.bundle.folder.name}/{self.graph} was not compiled for {name} {one.shape}"
                raise ValueError(msg)

    def _context(self, key: str, handle: int) -> Any:
        if (key, handle) not in self._contexts:
            self._contexts[key, handle] = self.compiler.context(self._engines[key], key, handle)
        return self._contexts[key, handle]


class Compiler:
    """Compiles graphs for one device, through the cache, and makes execution contexts."""

    def __init__(
        self, library: TensorRt, device: Device, target: Mapping[str, str], cache: EngineCache, tell: Tell | None = None
    ) -> None:
        """`target` is what an engine is bound to: the device's name, its compute capability, the driver."""
        self.library, self.device, self.target, self.cache = library, device, target, cache
        self.tell = tell
        self.logger = logger_of(library.trt)
        self.runtime = library.trt.Runtime(self.logger)
        self._scratch: dict[int, Buffer] = {}
        self._jit: dict[str, Any] = {}

    def first_length(self, bundle: Bundle) -> int:
        """The tokens that a captioner's state has at first: those that start a caption, and an image's own."""
        outputs = bundle.manifest.graphs["first_token"].outputs if "first_token" in bundle.manifest.graphs else ()
        lengths = [tensor.shape[2] for tensor in outputs if tensor.name == "key_0"]
        return lengths[0] if lengths and isinstance(lengths[0], int) else 1

    def engine(self, bundle: Bundle, graph: str, ranges: Mapping[str, Specs]) -> tuple[str, Any]:
        """A deserialised engine and its key; built where the cache has none that the library takes.

        Raises:
            BundleError: the library refuses the graph.
        """
        shapes = {which: {name: list(spec.shape) for name, spec in some.items()} for which, some in ranges.items()}
        builder = f"{self.library.name} {self.library.version}"
        about = {"bundle": bundle.manifest.name, "graph": graph, "builder": builder, "device": self.target["device"]}
        key = key_of({**self.target, **about, "content": bundle.manifest.content_key, "shapes": shapes})
        for attempt in range(2):
            data, built = self.cache.engine(key, lambda: (self._build(bundle, graph, ranges), about))
            engine = self.runtime.deserialize_cuda_engine(data)
            if engine is not None:
                return key, engine
            if built or attempt:
                break
            log.warning("%s refuses the compiled %s of %s, so it is built again", builder, graph, about["bundle"])
            self.cache.forget(key)
        raise BundleError(f"{builder} does not load what it built of {bundle.folder}/{graph}: {self.logger.said}")

    def _build(self, bundle: Bundle, graph: str, ranges: Mapping[str, Specs]) -> bytes:
        name = f"{bundle.manifest.name}/{graph}"
        timing = f"{self.library.name}-{self.library.version}-{self.target['capability']}.timing"
        start = perf_counter()

        def tell(phase: str, share: float) -> None:
            if self.tell is not None:
                self.tell(f"compiling {name} with {self.library.name}: {phase}", share)

        built = self.library.build(bundle.graph_path(graph), ranges, self.cache.side(timing), tell)
        self.cache.keep_side(timing, built.timing)
        log.info("compiled %s with %s in %.1f s", name, self.library.name, perf_counter() - start)
        return built.engine

    def context(self, engine: Any, key: str, handle: int) -> Any:
        """An execution context whose activations lie in the memory of its stream."""
        trt = self.library.trt
        managed = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if self.library.rtx:
            config = engine.create_runtime_config()
            config.set_execution_context_allocation_strategy(managed)
            jit = self._jit.get(key)
            if jit is None:
                jit = self._jit[key] = config.create_runtime_cache()
                if kept := self.cache.side(f"{key}.jit"):
                    jit.deserialize(kept)
            config.set_runtime_cache(jit)
            context = engine.create_execution_context(config)
        else:
            context = engine.create_execution_context(managed)
        size = int(engine.device_memory_size_v2)
        if size and handle:  # without a stream it is only asked for shapes
            memory = self._memory(handle, size)
            context.set_device_memory(memory.address, memory.spec.nbytes)
        return context

    def _memory(self, handle: int, size: int) -> Buffer:
        known = self._scratch.get(handle)
        if known is None or known.spec.nbytes < size:
            known = self._scratch[handle] = self.device.buffer(f"activations of {handle}", spec([size], np.uint8))
        return known

    def close(self) -> None:
        """Keep what TensorRT for RTX compiled while it ran."""
        for key, jit in self._jit.items():
            with contextlib.suppress(Exception):  # it only costs time
                self.cache.keep_side(f"{key}.jit", bytes(jit.serialize()))
