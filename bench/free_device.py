"""A device that costs nothing: what is left is the host's part. Its buffers hold what a device might have made."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from time import perf_counter, sleep

import numpy as np
from numpy.typing import NDArray

from mothlight.engine.device import Buffer, Kernel, Spec, Stream, of_array, spec
from mothlight.engine.host import HostNow, HostStream, close_all
from mothlight.engine.models.bundle import Bundle, TensorSpec, load_bundle
from mothlight.engine.models.engines import Engines
from mothlight.engine.models.runner import Engine, Runner

BUNDLES = Path(__file__).parent.parent / "engine" / "world" / "bundles"
Fill = Callable[[str, Spec], NDArray[np.generic]]
"""What a pinned buffer of some name holds from the start."""


class FreeDevice:
    """Device work takes no time; only threads of the host do anything."""

    name = "free"
    unified = False

    def __init__(self, fill: Fill) -> None:
        self.fill = fill
        self.workers: list[HostStream] = []

    def stream(self, name: str) -> Stream:
        """See `Device`."""
        made = HostNow()
        made.name = name
        return made

    def worker(self, name: str) -> Stream:
        """See `Device`."""
        self.workers.append(HostStream(name))
        return self.workers[-1]

    def buffer(self, name: str, spec: Spec) -> Buffer:
        """Memory that nobody touches."""
        return Buffer(name, spec, 0, None, None)

    def pinned(self, name: str, spec: Spec) -> Buffer:
        """Memory of the host, filled."""
        return of_array(name, np.ascontiguousarray(self.fill(name, spec)))

    def free(self, buffer: Buffer) -> None:
        """See `Device`; Python does it."""

    def write(self, array: NDArray[np.generic], target: Buffer) -> None:
        """What the host tells the device costs the host something, so it is done."""
        np.copyto(target.array, array)

    def copy(self, source: Buffer, target: Buffer, stream: Stream) -> None:
        """A device copies by itself."""

    def launch(
        self,
        kernel: Kernel,
        reads: Sequence[Buffer],
        writes: Sequence[Buffer],
        scalars: Sequence[np.generic],
        count: int,
        stream: Stream,
    ) -> None:
        """A device computes by itself."""

    def close(self) -> None:
        """See `Device`."""
        close_all(self.workers)


class FreeEngine:
    """A graph that takes no time; its outputs have the shapes of the manifest."""

    def __init__(self, bundle: Bundle, graph: str, side: int) -> None:
        self.graph, self.side = bundle.manifest.graphs[graph], side
        self.inputs = [tensor.name for tensor in self.graph.inputs]

    def outputs(self, given: Mapping[str, Spec]) -> Mapping[str, Spec]:
        """See `Engine`."""
        rows = next(iter(given.values())).shape[0]
        return {tensor.name: self._spec(tensor, rows) for tensor in self.graph.outputs}

    def _spec(self, tensor: TensorSpec, rows: int) -> Spec:
        if tensor.name == "images":
            return spec([rows, self.side, self.side, 3], np.uint8)
        return spec([dim if isinstance(dim, int) else rows for dim in tensor.shape], tensor.dtype)

    def enqueue(self, given: Mapping[str, Buffer], made: Mapping[str, Buffer], stream: Stream) -> None:
        """Nothing to do."""


class TimedDevice(FreeDevice):
    """A device that takes its time and does nothing else: one processor that all streams share, one copy engine."""

    def __init__(self, fill: Fill, bytes_per_s: float) -> None:
        super().__init__(fill)
        self.bytes_per_s = bytes_per_s
        self.processor, self.copier = Lock(), Lock()
        self.busy = 0.0
        """Seconds in which the processor worked."""

    def stream(self, name: str) -> Stream:
        """See `Device`."""
        return self.worker(name)

    def work(self, seconds: float) -> None:
        """Hold the processor for so long."""
        with self.processor:
            start = perf_counter()
            sleep(seconds)
            self.busy += perf_counter() - start

    def copy(self, source: Buffer, target: Buffer, stream: Stream) -> None:
        """See `Device`."""
        del target

        def move() -> None:
            with self.copier:
                sleep(source.spec.nbytes / self.bytes_per_s)

        stream.run(move)


class TimedEngine(FreeEngine):
    """A graph that takes so long for each image."""

    def __init__(self, bundle: Bundle, graph: str, side: int, device: TimedDevice, seconds: float) -> None:
        super().__init__(bundle, graph, side)
        self.device, self.seconds = device, seconds

    def enqueue(self, given: Mapping[str, Buffer], made: Mapping[str, Buffer], stream: Stream) -> None:
        """See `Engine`."""
        del given
        rows = next(iter(made.values())).spec.shape[0]
        stream.run(lambda: self.device.work(rows * self.seconds))


class FreeEngines(Engines):
    """All graphs free, or of the seconds for an image that a profile gives, by bundle or graph; images of one side."""

    def __init__(self, device: FreeDevice, side: int, profile: Mapping[str, float] | None = None) -> None:
        super().__init__(device)
        self.side, self.profile = side, profile or {}

    def open(self, bundle: Bundle, graph: str, outputs: Sequence[str] | None = None) -> Engine:
        """See `Engines`."""
        del outputs
        if isinstance(self.device, TimedDevice):
            seconds = self.profile.get(bundle.manifest.name, self.profile.get(graph, 0.0))
            return TimedEngine(bundle, graph, self.side, self.device, seconds)
        return FreeEngine(bundle, graph, self.side)

    def runner(self, bundle: Bundle, graph: str) -> Runner:
        """What runs once per prompt runs on the CPU as ever."""
        return Engines().runner(bundle, graph)


def bundle(name: str) -> Bundle:
    """One of tinyworld's."""
    return load_bundle(BUNDLES / name)
