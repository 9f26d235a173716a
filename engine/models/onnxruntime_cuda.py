"""An ONNX graph in ONNX Runtime's CUDA provider, on buffers of the device and in the caller's streams.

What it takes to be right: the session computes in our stream (`user_compute_stream`, so one session for each stream),
the run does not wait for the device (`disable_synchronize_execution_providers`), and nothing that it reads is still
being written, since ONNX Runtime checks nothing (microsoft/onnxruntime #32673, #26609): the executor's events see to
that. CUDA graphs are off: shape operators on the CPU keep most graphs from being captured (#17930).
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from mothlight.engine.device import Spec, Stream
from mothlight.engine.errors import BundleError
from mothlight.engine.models.bundle import Bundle
from mothlight.engine.models.runner import Buffers, Specs

PROVIDER = "CUDAExecutionProvider"


class OrtCudaEngine:
    """See the module."""

    def __init__(
        self, bundle: Bundle, graph: str, outputs: Sequence[str] | None, ordinal: int, library: Any = None
    ) -> None:
        """`library` is the module onnxruntime, or what stands for it in a test."""
        self.library = library or import_module("onnxruntime")
        self.path = bundle.graph_path(graph)
        self.ordinal = ordinal
        spec = bundle.manifest.graphs[graph]
        self.inputs = [tensor.name for tensor in spec.inputs]
        self.declared = {tensor.name: tensor.shape for tensor in spec.inputs}
        self.made = {tensor.name: tensor for tensor in spec.outputs if outputs is None or tensor.name in outputs}
        self._sessions: dict[int, Any] = {}
        self._bindings: dict[tuple[object, ...], Any] = {}
        self._options = self.library.RunOptions()
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def outputs(self, given: Specs) -> Specs:
        """See `Engine`; symbolic dimensions are those of the inputs, and what is left is found by running it once."""
        dims = {
            dim: size
            for name, spec in given.items()
            for dim, size in zip(self.declared[name], spec.shape, strict=True)
            if isinstance(dim, str)
        }
        if all(isinstance(dim, int) or dim in dims for tensor in self.made.values() for dim in tensor.shape):
            return {
                name: Spec(
                    tuple(dim if isinstance(dim, int) else dims[dim] for dim in tensor.shape), np.dtype(tensor.dtype)
                )
                for name, tensor in self.made.items()
            }
        zeros = {name: np.zeros(spec.shape, spec.dtype) for name, spec in given.items()}
        values = self._session(0).run(list(self.made), zeros)
        return {name: Spec(value.shape, value.dtype) for name, value in zip(self.made, values, strict=True)}

    def enqueue(self, given: Buffers, made: Buffers, stream: Stream) -> None:
        """See `Engine`."""
        session = self._session(stream.handle)
        named = (*given.items(), *made.items())
        key = (stream.handle, *((name, buffer.address, buffer.spec) for name, buffer in named))
        binding = self._bindings.get(key)
        if binding is None:
            binding = self._bindings[key] = session.io_binding()
            for bind, buffers in ((binding.bind_input, given), (binding.bind_output, made)):
                for name, buffer in buffers.items():
                    bind(name, "cuda", self.ordinal, buffer.spec.dtype, buffer.spec.shape, buffer.address)
        session.run_with_iobinding(binding, self._options)

    def _session(self, handle: int) -> Any:
        """The session that computes in a stream; 0: in one of its own."""
        if handle not in self._sessions:
            options = self.library.SessionOptions()
            options.log_severity_level = 3
            provider: Mapping[str, str] = {"device_id": str(self.ordinal), "cudnn_conv_algo_search": "HEURISTIC"}
            if handle:
                provider = {**provider, "user_compute_stream": str(handle), "do_copy_in_default_stream": "0"}
            try:
                session = self.library.InferenceSession(str(self.path), options, providers=[(PROVIDER, provider)])
            except Exception as error:  # onnxruntime's own exceptions share no public base
                raise BundleError(
                    f"ONNX Runtime refuses {self.path} on the GPU: {' '.join(str(error).split())}"
                ) from error
            session.disable_fallback()
            if PROVIDER not in session.get_providers():
                raise BundleError(f"ONNX Runtime would run {self.path} on the CPU: its CUDA provider did not load.")
            self._sessions[handle] = session
        return self._sessions[handle]
