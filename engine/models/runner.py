"""Compiled graphs: over buffers in a stream of a device, or over arrays at once; silent about models and roles."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mothlight.engine.device import Buffer, Device, Spec, Staged, Stream, of_array, raise_if_lost, spec_of
from mothlight.engine.errors import BundleError, UserError
from mothlight.engine.host import Host, HostNow
from mothlight.engine.install import how_to_install
from mothlight.engine.models.bundle import Bundle, GraphSpec

Tensors = Mapping[str, NDArray[Any]]
Buffers = Mapping[str, Buffer]
Specs = Mapping[str, Spec]
CPU = ("CPUExecutionProvider",)
OURS = "mothlight_"
"""How the names begin of the tensors of our own graphs around somebody else's."""
NO_MEMORY = ("Failed to allocate memory", "out of memory", "bad_alloc", "BFCArena")
BINDINGS = 512
"""Sets of buffers that a session remembers: slots, times steps of a sampler, times two buffers in turn."""


class Runner(Protocol):
    """Tensors in, tensors out."""

    def infer(self, /, **inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Outputs by name."""
        ...


class Engine(Protocol):
    """One compiled graph; several streams may use it at once."""

    @property
    def inputs(self) -> Sequence[str]:
        """What it takes."""
        ...

    def outputs(self, given: Specs) -> Specs:
        """What it makes of inputs of these shapes; may run once, which warms it up."""
        ...

    def enqueue(self, given: Buffers, made: Buffers, stream: Stream) -> None:
        """Tell a stream to run it from buffers to buffers, which stay where they are until it has."""
        ...


class Bound(Protocol):
    """A model made ready for batches of one size."""

    @property
    def makes(self) -> Specs:
        """Its outputs."""
        ...

    def enqueue(self, slot: int, buffers: Buffers, stream: Stream) -> None:
        """Tell a stream to run it on the buffers of its inputs and outputs, with the scratch memory of a slot."""
        ...


class Program(Protocol):
    """One engine, or several one after the other."""

    def bind(self, device: Device, slots: int, given: Specs) -> Bound:
        """Make it ready for inputs of these shapes."""
        ...


@dataclass(frozen=True)
class Single:
    """A program of one engine."""

    engine: Engine

    def bind(self, device: Device, slots: int, given: Specs) -> Bound:
        """See `Program`."""
        del device, slots
        return _BoundEngine(self.engine, self.engine.outputs(given))


@dataclass(frozen=True)
class _BoundEngine:
    engine: Engine
    makes: Specs

    def enqueue(self, slot: int, buffers: Buffers, stream: Stream) -> None:
        del slot
        given = {name: buffers[name] for name in self.engine.inputs}
        self.engine.enqueue(given, {name: buffers[name] for name in self.makes}, stream)


def infer_once(program: Program, inputs: Tensors) -> dict[str, NDArray[Any]]:
    """Run a program on arrays, here and now."""
    host, given = Host(), {name: of_array(name, array) for name, array in inputs.items()}
    bound = program.bind(host, 1, {name: buffer.spec for name, buffer in given.items()})
    made = {name: host.buffer(name, spec) for name, spec in bound.makes.items()}
    bound.enqueue(0, given | made, HostNow())
    return {name: buffer.array for name, buffer in made.items()}


LoadBackend = Callable[[Bundle], Runner]
"""Loads the part of a bundle that a model library runs."""


def no_backend(bundle: Bundle) -> Runner:
    """The backend of a process that has no model libraries.

    Raises:
        UserError: always.
    """
    library = bundle.manifest.backend.library if bundle.manifest.backend else "a model library"
    raise UserError(f"The bundle {bundle.folder} needs {library} to run a part of it: {how_to_install('models')}.")


class OrtRunner:
    """An ONNX graph in an ONNX Runtime session on the CPU; `infer` may be called from several threads at once."""

    def __init__(
        self, path: Path, *, threads: int = 1, providers: Sequence[str] = CPU, outputs: Sequence[str] | None = None
    ) -> None:
        """Load the graph; `threads` is explicit, since results may depend on it in the last bit.

        `outputs` are those that are asked for; without it, all.

        Raises:
            UserError: a provider is not there (ONNX Runtime itself would fall back to the CPU with a log line).
            BundleError: ONNX Runtime refuses the graph.
        """
        import onnxruntime

        self.path = path
        _require(path, providers, onnxruntime.get_available_providers())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.use_deterministic_compute = True
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=list(providers))
        except Exception as error:  # onnxruntime's own exceptions share no public base
            raise BundleError(f"ONNX Runtime refuses {path}: {' '.join(str(error).split())}") from error
        session.disable_fallback()
        _require(path, providers, session.get_providers())
        self._session = session
        self.inputs = [value.name for value in session.get_inputs()]
        self._outputs = list(outputs or (value.name for value in session.get_outputs()))
        self._made: dict[tuple[tuple[str, Spec], ...], dict[str, Spec]] = {}
        self._bindings: OrderedDict[tuple[tuple[str, int, Spec], ...], Any] = OrderedDict()

    def infer(self, /, **inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Outputs by name.

        Raises:
            ValueError: an input is missing, or unknown.
            MemoryError: the batch does not fit.
        """
        self._require_inputs(inputs)
        values = self._guarded(lambda: self._session.run(self._outputs, inputs))
        return dict(zip(self._outputs, values, strict=True))

    def outputs(self, given: Specs) -> Specs:
        """See `Engine`; found by running it on zeros, once for each set of shapes."""
        self._require_inputs(given)
        key = tuple(sorted(given.items()))
        if key not in self._made:
            zeros = {name: np.zeros(spec.shape, spec.dtype) for name, spec in given.items()}
            self._made[key] = {name: spec_of(array) for name, array in self.infer(**zeros).items()}
        return self._made[key]

    def enqueue(self, given: Buffers, made: Buffers, stream: Stream) -> None:
        """See `Engine`."""
        self._require_inputs(given)
        key = tuple((name, buffer.address, buffer.spec) for name, buffer in (*given.items(), *made.items()))
        binding = self._bindings.get(key)
        if binding is None:
            binding = self._bindings[key] = self._bind(given, made)
            if len(self._bindings) > BINDINGS:
                self._bindings.popitem(last=False)
        run = partial(self._session.run_with_iobinding, binding)
        stream.run(lambda: self._guarded(run), [*given.values()], [*made.values()])

    def _bind(self, given: Buffers, made: Buffers) -> Any:
        binding = self._session.io_binding()
        for name, buffer in given.items():
            spec = buffer.spec
            binding.bind_input(name, "cpu", 0, spec.dtype, spec.shape, buffer.address)
        for name, buffer in made.items():
            spec = buffer.spec
            binding.bind_output(name, "cpu", 0, spec.dtype, spec.shape, buffer.address)
        return binding

    def _require_inputs(self, given: Mapping[str, object]) -> None:
        if given.keys() != set(self.inputs):
            wanted, names = (", ".join(sorted(some)) for some in (self.inputs, given))
            raise ValueError(f"{self.path.name} takes {wanted}; it was given {names}")

    def _guarded(self, run: Callable[[], Any]) -> Any:
        try:
            return run()
        except Exception as error:
            if any(sign in str(error) for sign in NO_MEMORY):
                raise MemoryError(f"{self.path.name}: {error}") from error
            raise_if_lost(error, self.path.name)
            raise


class HostedEngine:
    """An engine of a device, for arrays of the host: here and now, one call at a time."""

    def __init__(self, engine: Engine, device: Device) -> None:
        self.engine, self.device = engine, device
        self.stream = device.stream("here and now")
        self._ready: dict[Hashable, _Hosted] = {}

    def infer(self, /, **inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """See `Runner`."""
        given = {name: spec_of(array) for name, array in inputs.items()}
        key = tuple(sorted(given.items(), key=lambda item: item[0]))
        ready = self._ready.get(key)
        if ready is None:
            ready = self._ready[key] = _Hosted(self.device, given, self.engine.outputs(given))
        for name, array in inputs.items():
            ready.given[name].put(0, array, self.stream)
        device_side = {name: staged.targets[0] for name, staged in ready.given.items()}
        self.engine.enqueue(device_side, {name: there for name, (there, _) in ready.made.items()}, self.stream)
        for there, here in ready.made.values():
            self.device.copy(there, here, self.stream)
        self.stream.record().synchronize()
        return {name: here.array.copy() for name, (_, here) in ready.made.items()}


class _Hosted:
    """Buffers of both sides for inputs of some shapes."""

    def __init__(self, device: Device, given: Specs, made: Specs) -> None:
        self.given = {name: Staged(device, name, spec, 1) for name, spec in given.items()}
        self.made = {name: (device.buffer(name, spec), device.pinned(name, spec)) for name, spec in made.items()}


class Chain:
    """Somebody's graph between two of ours: images → its input, its output → what a classifier gives.

    Our own tensors have names that begin with `OURS`, so that its names may be anything. A graph that was exported for
    one batch size alone is run in parts of that size, the last one padded; one whose answers depend on the other
    images of a batch is run image by image.
    """

    def __init__(self, bundle: Bundle, open_engine: Callable[[str, Sequence[str] | None], Engine]) -> None:
        """`open_engine` takes a graph's name and the outputs that are wanted, None for all."""
        names = bundle.manifest.chain
        self.specs = [bundle.manifest.graphs[graph] for graph in names]
        wanted = {tensor.name for spec in self.specs for tensor in spec.inputs}
        self.engines = [
            open_engine(graph, [tensor.name for tensor in spec.outputs if tensor.name in wanted] or None)
            for graph, spec in zip(names, self.specs, strict=True)
        ]
        self.alone = bundle.manifest.alone

    def bind(self, device: Device, slots: int, given: Specs) -> Bound:
        """See `Program`."""
        known = {f"{OURS}{name}": spec for name, spec in given.items()} | dict(given)
        links: list[Bound] = []
        scratch: list[dict[str, Buffer]] = [{} for _ in range(slots)]
        for engine, spec in zip(self.engines, self.specs, strict=True):
            link = self._link(device, slots, engine, spec, {name: known[name] for name in engine.inputs})
            links.append(link)
            known |= link.makes
        for link in links[:-1]:
            for slot in range(slots):
                scratch[slot] |= {name: device.buffer(f"{name}[{slot}]", spec) for name, spec in link.makes.items()}
        return _BoundChain(links, scratch)

    def _link(self, device: Device, slots: int, engine: Engine, spec: GraphSpec, given: Specs) -> Bound:
        first = spec.inputs[0].shape[0] if spec.inputs[0].shape else None
        size = first if isinstance(first, int) else None
        if len(given) > 1 or (size is None and not self.alone):
            return _BoundEngine(engine, engine.outputs(given))
        return Parts(engine, size or 1, alone=self.alone).bind(device, slots, given)


@dataclass(frozen=True)
class _BoundChain:
    links: Sequence[Bound]
    scratch: Sequence[Buffers]

    @property
    def makes(self) -> Specs:
        return {name.removeprefix(OURS): spec for name, spec in self.links[-1].makes.items()}

    def enqueue(self, slot: int, buffers: Buffers, stream: Stream) -> None:
        known = {f"{OURS}{name}": buffer for name, buffer in buffers.items()} | dict(buffers) | dict(self.scratch[slot])
        for link in self.links:
            link.enqueue(slot, known, stream)


@dataclass(frozen=True)
class Parts:
    """A program of an engine of one input that takes a batch only in parts of one size, the last one padded."""

    engine: Engine
    part: int
    alone: bool = False
    """Whether each part is one image, repeated."""

    def bind(self, device: Device, slots: int, given: Specs) -> Bound:
        """See `Program`."""
        return _BoundParts(device, slots, self.engine, given, part=self.part, alone=self.alone)


class _BoundParts:
    def __init__(self, device: Device, slots: int, engine: Engine, given: Specs, *, part: int, alone: bool) -> None:
        ((self.name, whole),) = given.items()
        self.device, self.engine, self.count = device, engine, whole.shape[0]
        self.step, self.part = 1 if alone else part, part
        made = engine.outputs({self.name: whole.of(part)})
        self.makes = {name: spec.of(self.count) for name, spec in made.items()}
        self.padded = [device.buffer(f"{self.name} padded[{slot}]", whole.of(part)) for slot in range(slots)]
        self.parts = [
            {name: device.buffer(f"{name} of a part[{slot}]", spec) for name, spec in made.items()}
            for slot in range(slots)
        ]

    def enqueue(self, slot: int, buffers: Buffers, stream: Stream) -> None:
        whole, padded, part = buffers[self.name], self.padded[slot], self.parts[slot]
        for start in range(0, self.count, self.step):
            stop = min(start + self.step, self.count)
            if stop - start == self.part:
                made = {name: buffers[name].rows(start, stop) for name in self.makes}
                self.engine.enqueue({self.name: whole.rows(start, stop)}, made, stream)
                continue
            for row in range(self.part):
                source = min(start + row, stop - 1)
                self.device.copy(whole.rows(source, source + 1), padded.rows(row, row + 1), stream)
            self.engine.enqueue({self.name: padded}, part, stream)
            for name, buffer in part.items():
                self.device.copy(buffer.rows(0, stop - start), buffers[name].rows(start, stop), stream)


def _require(path: Path, wanted: Sequence[str], present: Sequence[str]) -> None:
    if missing := [name for name in wanted if name not in present]:
        raise UserError(
            f"The execution provider {', '.join(missing)} is not available for {path.name}; there is "
            f"{', '.join(present)}: choose one of these or install the onnxruntime build that has it."
        )
