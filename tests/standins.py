"""What stands for CUDA, TensorRT and ONNX Runtime's CUDA provider on the simulated device.

Each has the part of the real interface that mothlight uses, is as strict as the real one, and computes with ONNX
Runtime on the host when its stream's turn comes.
"""

import json
from collections.abc import Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from mothlight.engine.cuda import Cuda, CudaEvent
from mothlight.engine.device import Buffer, Event, Spec, Stream, spec
from mothlight.engine.models.noise import NORMAL
from mothlight.engine.models.runner import OrtRunner
from mothlight.engine.models.tensorrt import TensorRt
from tests.simulated import Simulated, SimulatedStream

RUNNERS: dict[tuple[str, tuple[str, ...]], OrtRunner] = {}
KNOWN: dict[tuple[Any, ...], dict[str, Any]] = {}


def infer(path: str, names: Sequence[str], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """A graph on the host; the same inputs are computed once for all seeds."""
    key = (path, *names, *((name, array.tobytes()) for name, array in sorted(inputs.items())))
    if key not in KNOWN:
        KNOWN[key] = runner_of(path, names).infer(**inputs)
    return KNOWN[key]


def runner_of(path: str, names: Sequence[str]) -> OrtRunner:
    """A graph's session for some of its outputs, none for all; opened once."""
    key = (path, tuple(names))
    if key not in RUNNERS:
        RUNNERS[key] = OrtRunner(Path(path), outputs=names or None)
    return RUNNERS[key]


class Core:
    """The module cuda.core."""

    EventOptions = SimpleNamespace
    StreamOptions = SimpleNamespace
    ProgramOptions = SimpleNamespace
    LaunchConfig = SimpleNamespace

    def __init__(self, simulated: Simulated, capability: tuple[int, int] = (9, 0)) -> None:
        self.simulated = simulated
        self.system = SimpleNamespace(get_user_mode_driver_version=lambda: (13, 0))
        pool = SimpleNamespace(allocate=lambda size, stream: self._allocated(simulated.buffer, size, stream))
        self.device = SimpleNamespace(
            device_id=0,
            name="Simulated GPU",
            compute_capability=capability,
            properties=SimpleNamespace(host_memory_pools_supported=False),
            memory_resource=pool,
            set_current=lambda: None,
            create_stream=self._stream,
        )
        self.Buffer = SimpleNamespace(from_handle=self._from_handle)

    def Device(self) -> Any:  # noqa: N802  # as cuda.core calls it
        return self.device

    def LegacyPinnedMemoryResource(self) -> Any:  # noqa: N802  # as above
        return SimpleNamespace(allocate=lambda size, stream: self._allocated(self.simulated.pinned, size, stream))

    def Program(self, source: str, language: str, options: Any) -> Any:  # noqa: N802  # as above
        assert (language, options.arch) == ("c++", "sm_90")
        assert "__global__" in source
        return SimpleNamespace(compile=lambda target: SimpleNamespace(get_kernel=lambda name: (target, name)))

    def launch(self, stream: "NativeStream", config: Any, kernel: tuple[str, str], *arguments: Any) -> None:
        assert kernel == ("cubin", NORMAL.name)
        assert config.grid >= 1
        indices, target, *scalars = arguments
        images, size = int(scalars[-2]), int(scalars[-1])
        given = self.simulated.view("indices", indices, spec([images], np.uint64))
        made = self.simulated.view("noise", target, spec([images, size], np.float32))
        self.simulated.launch(NORMAL, [given], [made], scalars, images * size, stream.simulated)

    def _stream(self, options: Any) -> "NativeStream":
        assert options.nonblocking
        made = self.simulated.stream("")
        assert isinstance(made, SimulatedStream)
        return NativeStream(made)

    def _allocated(self, allocate: Any, size: int, stream: "NativeStream") -> Any:
        assert isinstance(stream, NativeStream)
        try:
            made = allocate("memory", spec([size], np.uint8))
        except MemoryError as error:
            msg = "CUDA_ERROR_OUT_OF_MEMORY: The API call failed because it was unable to allocate enough memory"
            raise RuntimeError(msg) from error
        return SimpleNamespace(handle=made.address, close=lambda: None)

    def _from_handle(self, address: int, size: int, owner: Any) -> Any:
        assert owner is not None
        own = self.simulated.view("memory", address, spec([size], np.uint8))

        def copy_from(other: Any, stream: NativeStream) -> None:
            self.simulated.copy(other.own, own, stream.simulated)

        return SimpleNamespace(own=own, copy_from=copy_from)


class NativeStream:
    def __init__(self, simulated: SimulatedStream) -> None:
        self.simulated = simulated
        self.handle = simulated.handle

    def record(self, options: Any) -> "NativeEvent":
        assert options.timing_enabled
        return NativeEvent(self.simulated.record())

    def wait(self, event: "NativeEvent") -> None:
        self.simulated.wait(event.simulated)

    def sync(self) -> None:
        self.simulated.record().synchronize()

    def create_graph_builder(self) -> "GraphBuilder":
        return GraphBuilder(self.simulated)


class GraphBuilder:
    """Captures what a stream is told, to be told again."""

    def __init__(self, simulated: SimulatedStream) -> None:
        self.simulated = simulated
        self.captured: list[Any] = []

    @property
    def is_building(self) -> bool:
        return self.simulated.capturing is not None

    def close(self) -> None:
        assert not self.is_building

    def begin_building(self, mode: str) -> None:
        assert mode == "thread_local"
        assert self.simulated.capturing is None
        self.simulated.capturing = self.captured

    def end_building(self) -> "GraphBuilder":
        self.simulated.capturing = None
        return self

    def complete(self) -> Any:
        assert self.captured

        def launch(stream: NativeStream) -> None:
            assert stream.simulated is self.simulated
            for work, reads, writes in self.captured:
                self.simulated.run(work, reads, writes)

        return SimpleNamespace(launch=launch)


class NativeEvent:
    def __init__(self, simulated: Event) -> None:
        self.simulated = simulated

    def sync(self) -> None:
        self.simulated.synchronize()

    def __sub__(self, other: "NativeEvent") -> float:
        return self.simulated.seconds_since(other.simulated) * 1000


class SimulatedCuda(Cuda):
    """The real `Cuda` on the stand-in for cuda.core; its workers are simulated too, so that a seed replays."""

    def __init__(self, simulated: Simulated, capability: tuple[int, int] = (9, 0), *, graphs: bool = False) -> None:
        self.simulated = simulated
        super().__init__(Core(simulated, capability), graphs=graphs)

    def stream(self, name: str) -> Stream:
        made = super().stream(name)
        self.simulated.streams[-1].name = name
        return made

    def worker(self, name: str) -> Stream:
        return Worker(self.simulated, name)


class Worker(SimulatedStream):
    """A simulated thread that may wait for what `Cuda` calls an event."""

    def __init__(self, device: Simulated, name: str) -> None:
        super().__init__(device, name, on_host=True)
        device.streams.append(self)

    def wait(self, event: Event) -> None:
        super().wait(event.native.simulated if isinstance(event, CudaEvent) else event)


class OnnxRuntime:
    """The module onnxruntime, with the CUDA provider."""

    def __init__(self, simulated: Simulated) -> None:
        self.simulated = simulated

    def SessionOptions(self) -> Any:  # noqa: N802  # as onnxruntime calls it
        return SimpleNamespace()

    def RunOptions(self) -> Any:  # noqa: N802  # as above
        entries: dict[str, str] = {}
        return SimpleNamespace(entries=entries, add_run_config_entry=entries.__setitem__)

    def InferenceSession(self, path: str, options: Any, providers: Sequence[Any]) -> "Session":  # noqa: N802  # as above
        assert options.log_severity_level == 3
        ((name, provider),) = providers
        assert name == "CUDAExecutionProvider"
        return Session(self.simulated, path, provider)


class Session:
    def __init__(self, simulated: Simulated, path: str, provider: Mapping[str, str]) -> None:
        self.simulated, self.path = simulated, path
        self.handle = int(provider.get("user_compute_stream", "0"))

    def disable_fallback(self) -> None:
        pass

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def run(self, names: Sequence[str], inputs: Mapping[str, Any]) -> list[Any]:
        made = infer(self.path, names, inputs)
        return [made[name] for name in names]

    def io_binding(self) -> "Binding":
        return Binding(self.simulated)

    def run_with_iobinding(self, binding: "Binding", options: Any) -> None:
        stream = self.simulated.streams[self.handle - 1]
        launch(self.simulated, self.path, binding.given, binding.made, stream)
        if options.entries.get("disable_synchronize_execution_providers") != "1":
            stream.record().synchronize()


class Binding:
    def __init__(self, simulated: Simulated) -> None:
        self.simulated = simulated
        self.given: dict[str, Buffer] = {}
        self.made: dict[str, Buffer] = {}

    def bind_input(self, name: str, kind: str, ordinal: int, dtype: Any, shape: Any, address: int) -> None:
        assert (kind, ordinal) == ("cuda", 0)
        self.given[name] = self.simulated.view(name, address, spec(shape, dtype))

    def bind_output(self, name: str, kind: str, ordinal: int, dtype: Any, shape: Any, address: int) -> None:
        assert (kind, ordinal) == ("cuda", 0)
        self.made[name] = self.simulated.view(name, address, spec(shape, dtype))


def launch(
    simulated: Simulated, path: str, given: Mapping[str, Buffer], made: Mapping[str, Buffer], stream: Stream
) -> None:
    """Run a graph in a stream, from memory to memory of the device."""

    def run() -> None:
        out = infer(path, list(made), {name: simulated.array(buffer) for name, buffer in given.items()})
        for name, buffer in made.items():
            np.copyto(simulated.array(buffer), out[name])

    stream.run(run, [*given.values()], [*made.values()])


class Mode(IntEnum):
    INPUT = 1
    OUTPUT = 2


class Trt:
    """The module tensorrt. An engine is the path of its graph and the profile that it was built for."""

    __version__ = "11.3.0"
    TensorIOMode = Mode
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED=2)
    current: ClassVar[Simulated | None] = None
    """The device whose streams have the handles."""
    builds: ClassVar[list[str]] = []

    class ILogger:
        Severity = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2)

    class IProgressMonitor:
        pass

    class Builder:
        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def create_network(self, flags: int) -> Any:
            assert flags == 2
            return SimpleNamespace(path="", num_inputs=0)

        def create_builder_config(self) -> Any:
            return BuilderConfig()

        def create_optimization_profile(self) -> Any:
            shapes: dict[str, list[list[int]]] = {}

            def set_shape(name: str, *three: Sequence[int]) -> None:
                assert all(low <= usual <= high for low, usual, high in zip(*three, strict=True)), name
                shapes[name] = [list(one) for one in three]

            return SimpleNamespace(shapes=shapes, set_shape=set_shape)

        def build_serialized_network(self, network: Any, config: "BuilderConfig") -> bytes | None:
            if config.progress_monitor is not None:
                config.progress_monitor.phase_start("Building", None, 2)
                assert config.progress_monitor.step_complete("Building", 0)
                config.progress_monitor.phase_finish("Building")
            (profile,) = config.profiles
            Trt.builds.append(network.path)
            return json.dumps({"path": network.path, "shapes": profile.shapes, "outputs": network.outputs}).encode()

    class OnnxParser:
        num_errors = 0

        def __init__(self, network: Any, logger: Any) -> None:
            self.network, self.logger = network, logger

        def parse_from_file(self, path: str) -> bool:
            try:
                runner = runner_of(path, ())
            except Exception as error:  # noqa: BLE001  # whatever it is, it is no graph
                self.logger.log(Trt.ILogger.Severity.ERROR, str(error))
                return False
            self.network.path, self.network.num_inputs = path, len(runner.inputs)
            self.network.outputs = runner._outputs
            self.network.get_input = lambda k: SimpleNamespace(name=runner.inputs[k])
            return True

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def deserialize_cuda_engine(self, data: bytes) -> "TrtEngine | None":
            try:
                return TrtEngine(json.loads(data))
            except ValueError:
                self.logger.log(Trt.ILogger.Severity.ERROR, "the engine plan is of another version")
                return None

    @staticmethod
    def nptype(dtype: Any) -> Any:
        return dtype


class BuilderConfig:
    def __init__(self) -> None:
        self.profiles: list[Any] = []
        self.progress_monitor: Any = None
        self.cache: Any = None

    def add_optimization_profile(self, profile: Any) -> None:
        self.profiles.append(profile)

    def create_timing_cache(self, data: bytes) -> Any:
        return SimpleNamespace(serialize=lambda: data + b"t")

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> None:  # noqa: FBT001  # as TensorRT has it
        assert not ignore_mismatch
        self.cache = cache

    def get_timing_cache(self) -> Any:
        return self.cache


class TrtEngine:
    def __init__(self, plan: dict[str, Any]) -> None:
        self.path, self.shapes, self.outputs = plan["path"], plan["shapes"], plan["outputs"]
        self.names: list[str] = [*self.shapes, *self.outputs]
        self.num_io_tensors = len(self.names)
        self.device_memory_size_v2 = 4096
        self.made: dict[str, Spec] = {}

    def get_tensor_name(self, number: int) -> str:
        return self.names[number]

    def get_tensor_mode(self, name: str) -> Mode:
        return Mode.INPUT if name in self.shapes else Mode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return self.made[name].dtype

    def create_execution_context(self, strategy: int) -> "Context":
        assert strategy == Trt.ExecutionContextAllocationStrategy.USER_MANAGED
        return Context(self)


class Context:
    def __init__(self, engine: TrtEngine) -> None:
        self.engine = engine
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.scratch: tuple[int, int] | None = None
        self.stream = 0

    def set_device_memory(self, address: int, size: int) -> None:
        assert size >= self.engine.device_memory_size_v2
        self.scratch = (address, size)

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        low, _, high = self.engine.shapes[name]
        self.shapes[name] = tuple(shape)
        return len(low) == len(shape) and all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))

    def infer_shapes(self) -> list[str]:
        if missing := [name for name in self.engine.shapes if name not in self.shapes]:
            return missing
        runner = runner_of(self.engine.path, ())
        types = {one.name: TYPES[one.type] for one in runner._session.get_inputs()}
        given = {name: spec(shape, types[name]) for name, shape in self.shapes.items()}
        self.engine.made = dict(runner.outputs(given)) | given
        return []

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.engine.made[name].shape

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, handle: int) -> bool:
        """An execution context belongs to one stream, has its memory, and an address for every tensor."""
        assert self.scratch is not None
        assert self.stream in (0, handle)
        self.stream = handle
        simulated = Trt.current
        assert simulated is not None
        assert set(self.addresses) == set(self.engine.names)
        self.infer_shapes()
        views = {name: simulated.view(name, self.addresses[name], self.engine.made[name]) for name in self.engine.names}
        given = {name: views[name] for name in self.engine.shapes}
        made = {name: views[name] for name in self.engine.outputs}
        launch(simulated, self.engine.path, given, made, simulated.streams[handle - 1])
        return True


TYPES = {
    "tensor(uint8)": np.uint8,
    "tensor(int64)": np.int64,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
}


def tensorrt(simulated: Simulated) -> TensorRt:
    """The library on a simulated device."""
    Trt.current = simulated
    return TensorRt(Trt, rtx=False)
