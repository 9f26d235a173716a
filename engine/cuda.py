"""A GPU as a `Device`, by NVIDIA's `cuda-core`: non-blocking streams, events, pinned memory, kernels. No torch.

Importing this needs neither a GPU nor the driver; `Cuda()` does.
"""

import ctypes
import logging
import math
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from importlib import import_module
from threading import local
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from mothlight.engine.device import Buffer, Event, Kernel, Spec, Stream, Work, raise_if_lost
from mothlight.engine.errors import UserError
from mothlight.engine.host import HostStream, close_all
from mothlight.engine.install import how_to_install

log = logging.getLogger("mothlight.engine")
THREADS = 256
"""Of a block."""
MOST_BLOCKS = 65_535
OUT_OF_MEMORY = "OUT_OF_MEMORY"
REFUSED = object()
"""In the place of a graph that can't be captured."""
NO_DRIVER = "DynamicLibNotFoundError"


def missing(core: Any = None) -> str | None:
    """Why there is no GPU for us, in one sentence; None where there is one."""
    try:
        device = (core or import_module("cuda.core")).Device()
        device.set_current()
    except ImportError:
        return f"cuda-core is not installed: {how_to_install('gpu')}"
    except Exception as error:  # noqa: BLE001  # cuda-core raises what the driver gives, or DynamicLibNotFoundError
        if type(error).__name__ == NO_DRIVER:
            return "there is no NVIDIA driver: install it, and see that nvidia-smi lists a GPU"
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return f"the NVIDIA driver gives no GPU ({reason}): see what nvidia-smi says"
    return None


class CudaEvent:
    """An event of the device."""

    def __init__(self, stream: "CudaStream", native: Any) -> None:
        self.stream: Stream = stream
        self.native = native
        self.device = stream.device
        self.doing = stream.doing

    def synchronize(self) -> None:
        """See `Event`."""
        self.device.enter()
        try:
            self.native.sync()
        except Exception as error:  # noqa: BLE001  # cuda-core's errors share no public base
            raise_as_ours(error, f"until the end of {self.doing or self.stream.name}")

    def seconds_since(self, start: Event) -> float:
        """See `Event`."""
        assert isinstance(start, CudaEvent)  # noqa: S101  # events of one stream
        return float(self.native - start.native) / 1000


class CudaStream:
    """A non-blocking stream of the device."""

    def __init__(self, device: "Cuda", name: str, native: Any) -> None:
        self.device, self.name, self.native = device, name, native
        self.doing = ""
        self.handle = int(native.handle)

    def record(self) -> Event:
        """See `Stream`; a thread that waits for the event sleeps."""
        options = self.device.core.EventOptions(timing_enabled=True, blocking_sync=True)
        return CudaEvent(self, self.native.record(options=options))

    def wait(self, event: Event) -> None:
        """See `Stream`; for a thread of the host it is the caller that waits, since a device can't."""
        if isinstance(event, CudaEvent):
            self.native.wait(event.native)
        else:
            event.synchronize()

    def run(self, work: Work, reads: Sequence[Buffer] = (), writes: Sequence[Buffer] = ()) -> None:
        """See `Stream`.

        Raises:
            TypeError: always.
        """
        del work, reads, writes
        msg = f"{self.name} is a stream of the device; Python runs in a worker"
        raise TypeError(msg)


class Cuda:
    """The first GPU that CUDA shows, or the one that `CUDA_VISIBLE_DEVICES` leaves."""

    unified = False

    def __init__(self, core: Any = None, *, graphs: bool = False) -> None:
        """Take the device; `core` is the module `cuda.core`, or what stands for it in a test.

        With `graphs`, what `repeat` is told for the second time is captured as a CUDA graph.

        Raises:
            UserError: there is no GPU for us.
        """
        if (reason := missing(core)) is not None:
            raise UserError(f"There is no GPU to run on: {reason}.")
        self.core = core or import_module("cuda.core")
        self.native = self.core.Device()
        self._entered = local()
        self.enter()
        self.name = f"cuda:{self.native.device_id}"
        self.model = str(self.native.name)
        self.capability: tuple[int, int] = tuple(self.native.compute_capability)
        self._memory = self.native.memory_resource
        pooled = getattr(self.native.properties, "host_memory_pools_supported", False)
        self._pinned = self.core.PinnedMemoryResource() if pooled else self.core.LegacyPinnedMemoryResource()
        self._streams: list[CudaStream] = []
        self._workers: list[HostStream] = []
        self._owned: list[Any] = []
        self._kernels: dict[str, Any] = {}
        self.graphs = graphs
        self._captured: dict[Hashable, Any] = {}
        self._loader = self.stream("loading")

    def target(self) -> dict[str, str]:
        """What a compiled engine is bound to, as text: the device, its compute capability, the driver."""
        driver = ".".join(str(part) for part in self.core.system.get_user_mode_driver_version())
        return {"device": self.model, "capability": "{}.{}".format(*self.capability), "driver": driver}

    def enter(self) -> None:
        """Make this the device of the calling thread, once for each thread."""
        if not getattr(self._entered, "done", False):
            self.native.set_current()
            self._entered.done = True

    def stream(self, name: str) -> Stream:
        """See `Device`."""
        self.enter()
        native = self.native.create_stream(options=self.core.StreamOptions(nonblocking=True))
        self._streams.append(CudaStream(self, name, native))
        return self._streams[-1]

    def worker(self, name: str) -> Stream:
        """See `Device`."""
        self._workers.append(HostStream(name))
        return self._workers[-1]

    def buffer(self, name: str, spec: Spec) -> Buffer:
        """See `Device`."""
        native = self._allocated(name, spec, self._memory.allocate)
        return Buffer(name, spec, int(native.handle), native, None)

    def pinned(self, name: str, spec: Spec) -> Buffer:
        """See `Device`."""
        native = self._allocated(name, spec, self._pinned.allocate)
        raw = (ctypes.c_uint8 * max(spec.nbytes, 1)).from_address(int(native.handle))
        array = np.ctypeslib.as_array(raw)[: spec.nbytes].view(spec.dtype).reshape(spec.shape)
        return Buffer(name, spec, int(native.handle), native, array)

    def _allocated(self, name: str, spec: Spec, allocate: Callable[..., Any]) -> Any:
        self.enter()
        stream = self._streams[0].native
        try:
            native = allocate(max(spec.nbytes, 1), stream=stream)
            stream.sync()  # so that every stream may use it from now on
        except Exception as error:  # noqa: BLE001  # as above
            raise_as_ours(error, f"allocating {spec.nbytes:,} bytes for {name}")
        self._owned.append(native)
        return native

    def free(self, buffer: Buffer) -> None:
        """See `Device`."""
        self._owned.remove(buffer.memory)
        buffer.memory.close()

    def write(self, array: NDArray[Any], target: Buffer) -> None:
        """See `Device`."""
        np.copyto(target.array, array)

    def copy(self, source: Buffer, target: Buffer, stream: Stream) -> None:
        """See `Device`."""
        assert isinstance(stream, CudaStream)  # noqa: S101  # only a stream of the device copies
        given, taken = (
            self.core.Buffer.from_handle(one.address, one.spec.nbytes, owner=one.memory) for one in (source, target)
        )
        taken.copy_from(given, stream=stream.native)

    def launch(
        self,
        kernel: Kernel,
        reads: Sequence[Buffer],
        writes: Sequence[Buffer],
        scalars: Sequence[np.generic],
        count: int,
        stream: Stream,
    ) -> None:
        """See `Device`."""
        assert isinstance(stream, CudaStream)  # noqa: S101  # only a stream of the device launches
        if kernel.name not in self._kernels:
            code = compiled(self.core, kernel, self.capability)
            self._kernels[kernel.name] = code.get_kernel(kernel.name)
        config = self.core.LaunchConfig(grid=min(math.ceil(count / THREADS), MOST_BLOCKS), block=THREADS)
        pointers = [buffer.address for buffer in (*reads, *writes)]
        self.core.launch(stream.native, config, self._kernels[kernel.name], *pointers, *scalars)

    def repeat(self, key: Hashable, work: Work, stream: Stream) -> None:
        """Tell a stream of the device what it is told again and again, on the same buffers; `key` says what.

        With `graphs` the first time warms it up, the second captures it, all later ones launch the graph. What can't be
        captured is told as ever, and that is said.
        """
        if not self.graphs or key not in self._captured:
            if self.graphs:
                self._captured[key] = None
            work()
            return
        assert isinstance(stream, CudaStream)  # noqa: S101  # only a stream of the device captures
        if self._captured[key] is None:
            self._captured[key] = self._capture(work, stream)
        graph = self._captured[key]
        if graph is REFUSED:
            work()
        else:
            graph.launch(stream.native)

    def _capture(self, work: Work, stream: CudaStream) -> Any:
        """What a stream is told as a CUDA graph; `REFUSED` where it can't be one, the stream as it was."""
        builder = stream.native.create_graph_builder()
        builder.begin_building(mode="thread_local")
        try:
            work()
            return builder.end_building().complete()
        except Exception as error:  # noqa: BLE001  # whatever it is, it runs without a graph
            log.warning("%s can't be captured as a CUDA graph: %s", stream.doing or stream.name, error)
            with suppress(Exception):  # an invalid capture complains once more when it is ended
                if builder.is_building:
                    builder.end_building()
            builder.close()
            return REFUSED

    def close(self) -> None:
        """See `Device`."""
        close_all(self._workers)
        for stream in self._streams:
            stream.native.sync()
        for native in self._owned:
            native.close()
        self._owned.clear()


def compiled(core: Any, kernel: Kernel, capability: tuple[int, int]) -> Any:
    """A kernel compiled by NVRTC for GPUs of a compute capability; needs no GPU."""
    options = core.ProgramOptions(arch="sm_{}{}".format(*capability))
    return core.Program(kernel.cuda, "c++", options).compile("cubin")


def raise_as_ours(error: Exception, doing: str) -> NoReturn:
    """Raise an error of CUDA again, as MemoryError where that is what it is, with a note.

    Raises:
        MemoryError: the device has no memory left.
        DeviceLostError: its context is broken for good.
        Exception: anything else.
    """
    raise_if_lost(error, doing)
    if OUT_OF_MEMORY in str(error):
        raise MemoryError(f"the GPU has no memory left, {doing}: {error}") from error
    error.add_note(doing)
    raise error
