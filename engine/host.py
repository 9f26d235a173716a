"""The CPU as a `Device`: a stream is a thread with a queue, a buffer an array, and nothing need be copied."""

import os
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mothlight.engine.device import Buffer, Event, Kernel, Spec, Stream, Work, of_array


class HostEvent:
    """Reached, or never to be reached since something broke before it."""

    def __init__(self, stream: "HostStream") -> None:
        self.stream: Stream = stream
        self.reached = threading.Event()
        self.fault: BaseException | None = None
        self.time = 0.0

    def synchronize(self) -> None:
        """See `Event`."""
        self.reached.wait()
        if self.fault is not None:
            raise self.fault

    def seconds_since(self, start: Event) -> float:
        """See `Event`."""
        assert isinstance(start, HostEvent)  # noqa: S101  # events of one stream
        return self.time - start.time


class HostStream:
    """A thread with a queue. What breaks in it breaks all that comes after, there and wherever that is waited for."""

    handle = 0

    def __init__(self, name: str) -> None:
        self.name = name
        self.doing = ""
        self.fault: BaseException | None = None
        self._queue: deque[Work] = deque()
        self._more = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def record(self) -> Event:
        """See `Stream`."""
        event = HostEvent(self)

        def reach() -> None:
            event.time, event.fault = perf_counter(), self.fault
            event.reached.set()

        self._put(reach)
        return event

    def wait(self, event: Event) -> None:
        """See `Stream`."""
        self._put(self._unless_broken(event.synchronize))

    def run(self, work: Work, reads: Sequence[Buffer] = (), writes: Sequence[Buffer] = ()) -> None:
        """See `Stream`."""
        del reads, writes
        doing = self.doing

        def noted() -> None:
            try:
                work()
            except BaseException as error:
                if doing:
                    error.add_note(f"in {doing}")
                raise

        self._put(self._unless_broken(noted))

    def stop(self) -> None:
        """Do nothing more after what is in hand; whoever waits for what was told is let go."""
        with self._more:
            self._closed = True
            self._more.notify()

    def join(self) -> None:
        """Until the thread has ended."""
        if self._thread is not None:
            self._thread.join()

    def _unless_broken(self, work: Work) -> Work:
        def guarded() -> None:
            if self.fault is None and not self._closed:
                try:
                    work()
                except BaseException as error:  # noqa: BLE001  # raised again wherever this stream is waited for
                    self.fault = error

        return guarded

    def _put(self, work: Work) -> None:
        with self._more:
            self._queue.append(work)
            self._more.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name=self.name, daemon=True)
                self._thread.start()

    def _loop(self) -> None:
        while True:
            with self._more:
                while not self._queue and not self._closed:
                    self._more.wait()
                if not self._queue:
                    return
                work = self._queue.popleft()
            work()


class HostNow:
    """A stream of the host that does at once, in this thread, whatever it is told."""

    name = "now"
    doing = ""
    handle = 0

    def record(self) -> Event:
        """See `Stream`."""
        return _Reached(self, perf_counter())

    def wait(self, event: Event) -> None:
        """See `Stream`."""
        event.synchronize()

    def run(self, work: Work, reads: Sequence[Buffer] = (), writes: Sequence[Buffer] = ()) -> None:
        """See `Stream`."""
        del reads, writes
        work()


@dataclass(frozen=True, slots=True, eq=False)
class _Reached:
    stream: Stream
    time: float

    def synchronize(self) -> None:
        pass

    def seconds_since(self, start: Event) -> float:
        assert isinstance(start, _Reached)  # noqa: S101  # events of one stream
        return self.time - start.time


class Host:
    """The CPU: a stream is a thread, a buffer an array, and nothing need be copied."""

    name = "cpu"
    unified = True

    def __init__(self) -> None:
        self.streams: list[HostStream] = []

    def stream(self, name: str) -> Stream:
        """See `Device`."""
        made = HostStream(name)
        self.streams.append(made)
        return made

    worker = stream

    def buffer(self, name: str, spec: Spec) -> Buffer:
        """See `Device`."""
        return of_array(name, np.zeros(spec.shape, spec.dtype))

    pinned = buffer

    def free(self, buffer: Buffer) -> None:
        """See `Device`; Python does it."""

    def write(self, array: NDArray[Any], target: Buffer) -> None:
        """See `Device`."""
        np.copyto(target.array, array)

    def copy(self, source: Buffer, target: Buffer, stream: Stream) -> None:
        """See `Device`."""
        stream.run(lambda: np.copyto(target.array, source.array), [source], [target])

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
        del count
        stream.run(lambda: kernel.host(*(buffer.array for buffer in (*reads, *writes)), *scalars), reads, writes)

    def close(self) -> None:
        """See `Device`."""
        close_all(self.streams)


def close_all(streams: Iterable[HostStream]) -> None:
    """Close host streams: all are told first, so that none waits for another that is closed later."""
    streams = list(streams)
    for stream in streams:
        stream.stop()
    for stream in streams:
        stream.join()


def available_threads(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """CPUs that this process may use: its affinity, cut to the cgroup's quota, at least 1."""
    cpus = len(os.sched_getaffinity(0))
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        limit = cpus if quota == "max" else int(int(quota) / int(period))
    except (OSError, ValueError):
        limit = cpus
    return max(1, min(cpus, limit))
