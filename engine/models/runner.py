"""One compiled graph behind `infer`: ONNX Runtime, silent about models and roles; or a library's part in its place."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mothlight.engine.errors import BundleError, UserError
from mothlight.engine.install import how_to_install
from mothlight.engine.models.bundle import Bundle

Tensors = Mapping[str, NDArray[Any]]
CPU = ("CPUExecutionProvider",)
OURS = "mothlight_"
"""How the names begin of the tensors of our own graphs around somebody else's."""
NO_MEMORY = ("Failed to allocate memory", "out of memory", "bad_alloc", "BFCArena")


class Runner(Protocol):
    """Tensors in, tensors out."""

    def infer(self, /, **inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Outputs by name."""
        ...


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
    """An ONNX graph in an ONNX Runtime session; `infer` may be called from several threads at once."""

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
        self._inputs = {value.name for value in session.get_inputs()}
        self._outputs = list(outputs or (value.name for value in session.get_outputs()))

    def infer(self, /, **inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Outputs by name.

        Raises:
            ValueError: an input is missing, or unknown.
            MemoryError: the batch does not fit.
        """
        if inputs.keys() != self._inputs:
            wanted, given = (", ".join(sorted(names)) for names in (self._inputs, inputs))
            raise ValueError(f"{self.path.name} takes {wanted}; it was given {given}")
        try:
            values = self._session.run(self._outputs, inputs)
        except Exception as error:
            if any(sign in str(error) for sign in NO_MEMORY):
                raise MemoryError(f"{self.path.name}: {error}") from error
            raise
        return dict(zip(self._outputs, values, strict=True))


class Chain:
    """Somebody's graph between two of ours: images → its input, its output → what a classifier gives.

    Our own tensors have names that begin with `OURS`, so that its names may be anything. A graph that was exported for
    one batch size alone is run in parts of that size, the last one padded; one whose answers depend on the other
    images of a batch is run image by image.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        names = bundle.manifest.chain
        self.specs = [bundle.manifest.graphs[graph] for graph in names]
        wanted = {tensor.name for spec in self.specs for tensor in spec.inputs}
        self.runners = [
            OrtRunner(
                bundle.graph_path(graph),
                threads=threads,
                outputs=[tensor.name for tensor in spec.outputs if tensor.name in wanted] or None,
            )
            for graph, spec in zip(names, self.specs, strict=True)
        ]
        self.alone = bundle.manifest.alone

    def infer(self, /, **inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Outputs of the last graph by name."""
        known, out = {f"{OURS}{name}": value for name, value in inputs.items()} | inputs, {}
        for runner, spec in zip(self.runners, self.specs, strict=True):
            given = {tensor.name: known[tensor.name] for tensor in spec.inputs}
            first = spec.inputs[0].shape[0] if spec.inputs[0].shape else None
            size = first if isinstance(first, int) else None
            if len(given) > 1 or (size is None and not self.alone):
                out = runner.infer(**given)
            else:
                out = in_parts(runner, given, size or 1, alone=self.alone)
            known |= out
        return {name.removeprefix(OURS): value for name, value in out.items()}


def in_parts(
    runner: Runner, given: Mapping[str, NDArray[Any]], size: int, *, alone: bool = False
) -> dict[str, NDArray[Any]]:
    """What a graph of one input gives for a batch that it takes only in parts of one size; `alone`: of one image."""
    ((name, whole),) = given.items()
    parts = []
    step = 1 if alone else size
    for start in range(0, len(whole), step):
        part = whole[start : start + step]
        padded = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
        parts.append({key: value[: len(part)] for key, value in runner.infer(**{name: padded}).items()})
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _require(path: Path, wanted: Sequence[str], present: Sequence[str]) -> None:
    if missing := [name for name in wanted if name not in present]:
        raise UserError(
            f"The execution provider {', '.join(missing)} is not available for {path.name}; there is "
            f"{', '.join(present)}: choose one of these or install the onnxruntime build that has it."
        )
