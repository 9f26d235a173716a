"""Which engine runs a graph, and on which device: what is there, what is asked for, what is chosen."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, Literal, Protocol

from mothlight.engine import cuda
from mothlight.engine.config import EngineName, EngineTable
from mothlight.engine.device import Device
from mothlight.engine.errors import UserError
from mothlight.engine.host import Host
from mothlight.engine.install import how_to_install
from mothlight.engine.models import tensorrt
from mothlight.engine.models.bundle import Bundle
from mothlight.engine.models.cache import EngineCache
from mothlight.engine.models.onnxruntime_cuda import PROVIDER, OrtCudaEngine
from mothlight.engine.models.pieces import Calibrated, InPieces, shared_inputs
from mothlight.engine.models.runner import Engine, HostedEngine, OrtRunner, Runner
from mothlight.engine.models.tensorrt import Compiler, Tell, TensorRtEngine

log = logging.getLogger("mothlight.engine")
HEAVY = ("denoise", "decode")
"""Graphs whose best batch is worth finding."""
FASTEST: tuple[EngineName, ...] = ("tensorrt", "inductor", "onnxruntime")
"""The engines of a GPU, the fastest first."""


class OpenInductor(Protocol):
    """Compiles graphs with torch and runs them; comes from `exporters`, since it needs the model libraries."""

    def __call__(self, bundle: Bundle, graph: str, device: Device) -> Engine:
        """An engine for a graph of a bundle."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """Whether an engine can run here."""

    engine: EngineName
    what: str
    """Library and version, or empty."""
    missing: str
    """Why not, and what to do about it; empty where it can."""


def survey(gpu: "cuda.Cuda | None", gpu_missing: str | None, *, inductor: bool) -> list[Found]:
    """Every engine, whether it can run on the GPU here, and if not what is missing."""
    capability = gpu.capability if gpu is not None else None
    return [_tensorrt(capability, gpu_missing), _inductor(gpu_missing, inductor=inductor), _onnxruntime(gpu_missing)]


def _tensorrt(capability: tuple[int, int] | None, gpu_missing: str | None) -> Found:
    library = tensorrt.find()
    if library is None:
        return Found("tensorrt", "", f"TensorRT is not installed: {how_to_install('tensorrt')}")
    what = f"{library.name} {library.version}"
    if capability is None:
        return Found("tensorrt", what, gpu_missing or "there is no GPU")
    if not library.serves(capability):
        name = "{}.{}".format(*capability)
        how = how_to_install("tensorrt")
        return Found("tensorrt", what, f"TensorRT for RTX has no kernels for compute capability {name}: {how}")
    return Found("tensorrt", what, "")


def _inductor(gpu_missing: str | None, *, inductor: bool) -> Found:
    try:
        what = f"torch {version('torch')}"
    except PackageNotFoundError:
        return Found("inductor", "", f"torch is not installed: {how_to_install('models')}")
    if gpu_missing is not None:
        return Found("inductor", what, gpu_missing)
    return Found("inductor", what, "" if inductor else "the model libraries can't be loaded")


def _onnxruntime(gpu_missing: str | None) -> Found:
    if find_spec("onnxruntime") is None:
        return Found("onnxruntime", "", f"ONNX Runtime is not installed: {how_to_install('gpu')}")
    import onnxruntime  # not part of the light set

    what = f"onnxruntime {onnxruntime.__version__}"
    if PROVIDER not in onnxruntime.get_available_providers():
        return Found("onnxruntime", what, f"it is the build for CPUs: {how_to_install('gpu')}")
    return Found("onnxruntime", what, gpu_missing or "")


class Engines:
    """Opens graphs as chosen; without a choice, in ONNX Runtime on the CPU, one thread each."""

    def __init__(
        self,
        device: Device | None = None,
        chosen: Mapping[str, EngineName] | None = None,
        compiler: Compiler | None = None,
        open_inductor: OpenInductor | None = None,
        onnxruntime: Any = None,
        pieces: Mapping[str, int] | None = None,
        cache: EngineCache | None = None,
    ) -> None:
        """`chosen` says which engine runs each role on a GPU; `onnxruntime` as for `OrtCudaEngine`.

        `pieces` are the batches of graphs that have one of their own, by the graph's name; on a GPU those of the others
        are found by calibration, where there is a cache to remember them.
        """
        self.device: Device = device or Host()
        self.chosen = dict(chosen or {})
        self.compiler = compiler
        self.open_inductor = open_inductor
        self.onnxruntime = onnxruntime
        self.pieces = dict(pieces or {})
        self.cache = cache

    def open(self, bundle: Bundle, graph: str, outputs: Sequence[str] | None = None) -> Engine:
        """A graph of a bundle, compiled; `outputs` are those that are wanted, None for all.

        Raises:
            BundleError: the bundle has no such graph, or the engine refuses it.
        """
        open_engine = partial(self._open, bundle, graph, outputs)
        if graph in self.pieces:
            return InPieces(open_engine(), shared_inputs(bundle, graph), self.pieces[graph])
        if graph in HEAVY and self.cache is not None and isinstance(self.device, cuda.Cuda):
            target = {**self.device.target(), "engine": self.name_of(bundle)}
            return Calibrated(open_engine, bundle, graph, self.device, target, self.cache)
        return open_engine()

    def _open(self, bundle: Bundle, graph: str, outputs: Sequence[str] | None) -> Engine:
        path = bundle.graph_path(graph)
        if self.device.unified:
            return OrtRunner(path, outputs=outputs)
        match self.name_of(bundle):
            case "tensorrt" if self.compiler is not None:
                return TensorRtEngine(self.compiler, bundle, graph)
            case "inductor" if self.open_inductor is not None:
                return self.open_inductor(bundle, graph, self.device)
            case _:
                ordinal = int(self.device.name.rpartition(":")[2])
                return OrtCudaEngine(bundle, graph, outputs, ordinal, self.onnxruntime)

    def runner(self, bundle: Bundle, graph: str) -> Runner:
        """A graph for arrays of the host, here and now."""
        engine = self._open(bundle, graph, None)
        return engine if isinstance(engine, OrtRunner) else HostedEngine(engine, self.device)

    @property
    def where(self) -> str:
        """The device, as a person calls it."""
        return self.device.model if isinstance(self.device, cuda.Cuda) else self.device.name

    def name_of(self, bundle: Bundle) -> EngineName:
        """The engine that runs a bundle."""
        return "onnxruntime" if self.device.unified else self.chosen[bundle.manifest.role]

    def require_precision(self, bundles: Iterable[Bundle]) -> None:
        """Refuse what this device can't run.

        Raises:
            UserError: a bundle is not in float32, and there is no GPU.
        """
        for bundle in bundles:
            if self.device.unified and bundle.manifest.precision != "fp32":
                raise UserError(
                    f"The {bundle.manifest.role} {bundle.folder} is {bundle.manifest.precision}, and a CPU runs fp32: "
                    f"export it again with --precision fp32, or run on a GPU (mothlight doctor says what is missing)."
                )

    def close(self) -> None:
        """Keep what engines learnt while they ran."""
        if self.compiler is not None:
            self.compiler.close()


def choose(
    setting: Literal["auto"] | EngineName | EngineTable,
    roles: Sequence[str],
    *,
    tell: Tell | None = None,
    open_inductor: OpenInductor | None = None,
    pieces: Mapping[str, int] | None = None,
    graphs: bool = False,
    core: Any = None,
) -> Engines:
    """The engines for these roles; `graphs` and `core` as for `Cuda`.

    Raises:
        UserError: an engine is asked for by name that can't run here.
    """
    gpu_missing = cuda.missing(core)
    asked: dict[str, EngineName | None] = dict.fromkeys(roles)
    for role in roles:
        asked[role] = setting.of(role) if isinstance(setting, EngineTable) else None if setting == "auto" else setting
    if gpu_missing is not None:
        for role, name in asked.items():
            if name not in (None, "onnxruntime"):
                raise UserError(f"The engine {name} of the {role} needs a GPU: {gpu_missing}.")
        return Engines(pieces=pieces)
    gpu = cuda.Cuda(core, graphs=graphs)
    found = {one.engine: one for one in survey(gpu, None, inductor=open_inductor is not None)}
    usable = [name for name in FASTEST if not found[name].missing]
    for role, name in asked.items():
        if name is not None and name not in usable:
            raise UserError(f"The engine {name} of the {role} can't run here: {found[name].missing}.")
    if not usable:
        reasons = "; ".join(one.missing for one in found.values())
        log.warning("%s is here, but no engine for it, so everything runs on the CPU: %s", gpu.model, reasons)
        gpu.close()
        return Engines(pieces=pieces)
    chosen = {role: name or usable[0] for role, name in asked.items()}
    compiler, cache = None, EngineCache()
    library = tensorrt.find()
    if library is not None and "tensorrt" in chosen.values():
        compiler = Compiler(library, gpu, gpu.target(), cache, tell)
    return Engines(gpu, chosen, compiler, open_inductor, pieces=pieces, cache=cache)
