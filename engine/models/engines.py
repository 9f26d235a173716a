"""Which engine runs a graph, and on which device."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from mothlight.engine.device import Device, Host
from mothlight.engine.models.bundle import Bundle
from mothlight.engine.models.runner import Engine, OrtRunner, Runner


@dataclass(frozen=True)
class Engines:
    """Opens graphs as the settings say; without any, in ONNX Runtime on the CPU, one thread each."""

    device: Device = field(default_factory=Host)

    def open(self, bundle: Bundle, graph: str, outputs: Sequence[str] | None = None) -> Engine:
        """A graph of a bundle, compiled; `outputs` are those that are wanted, None for all.

        Raises:
            BundleError: the bundle has no such graph, or the engine refuses it.
        """
        return OrtRunner(bundle.graph_path(graph), outputs=outputs)

    def runner(self, bundle: Bundle, graph: str) -> Runner:
        """A graph for arrays of the host, here and now."""
        return OrtRunner(bundle.graph_path(graph))
