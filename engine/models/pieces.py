"""A graph at a batch of its own: a batch of the pipeline goes through it in pieces of the size that suits it best.

A denoiser likes 64 images at once where its decoder likes 8. The size is given in the settings, or found by a short
calibration that is remembered beside the engines.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from statistics import median

from mothlight.engine.device import Buffer, Device, Stream
from mothlight.engine.models.bundle import Bundle
from mothlight.engine.models.cache import EngineCache, key_of
from mothlight.engine.models.runner import Buffers, Engine, Specs

log = logging.getLogger("mothlight.engine")
SMALLEST = 4
"""Images; smaller pieces are not tried."""
ROUNDS = 5
MARGIN = 1.03
"""How much faster smaller pieces must be, since they also cost launches."""


def shared_inputs(bundle: Bundle, graph: str) -> list[str]:
    """The inputs of a graph that have no batch."""
    inputs = bundle.manifest.graphs[graph].inputs
    return [one.name for one in inputs if not one.shape or one.shape[0] != "batch"]


class InPieces:
    """An engine whose inputs and outputs with a batch are cut into pieces."""

    def __init__(self, engine: Engine, shared: Sequence[str], piece: int) -> None:
        """`shared` are the inputs that have no batch."""
        self.engine, self.shared, self.piece = engine, frozenset(shared), piece

    @property
    def inputs(self) -> Sequence[str]:
        """See `Engine`."""
        return self.engine.inputs

    def outputs(self, given: Specs) -> Specs:
        """See `Engine`.

        Raises:
            ValueError: the batch is no multiple of a piece.
        """
        rows = next(one.shape[0] for name, one in given.items() if name not in self.shared)
        if rows % self.piece:
            msg = f"a batch of {rows} can't be cut into pieces of {self.piece}"
            raise ValueError(msg)
        part = {name: one if name in self.shared else one.of(self.piece) for name, one in given.items()}
        return {name: one.of(rows) for name, one in self.engine.outputs(part).items()}

    def enqueue(self, given: Buffers, made: Buffers, stream: Stream) -> None:
        """See `Engine`."""
        rows = next(iter(made.values())).spec.shape[0]
        for start in range(0, rows, self.piece):
            stop = start + self.piece
            part = {name: one if name in self.shared else one.rows(start, stop) for name, one in given.items()}
            self.engine.enqueue(part, {name: one.rows(start, stop) for name, one in made.items()}, stream)


class Calibrated:
    """An engine that finds out, when its batch is known, in which pieces it is fastest."""

    def __init__(
        self,
        open_engine: Callable[[], Engine],
        bundle: Bundle,
        graph: str,
        device: Device,
        target: Mapping[str, str],
        cache: EngineCache,
    ) -> None:
        """`target` says what the answer depends on besides the graph: device, driver, engine.

        Each size that is tried is an engine opened for itself, so that only the best one's stays in memory.
        """
        self.open_engine, self.device, self.cache = open_engine, device, cache
        self.engine = open_engine()
        self.name = f"{bundle.manifest.name}/{graph}"
        self.about = {**target, "content": bundle.manifest.content_key, "graph": graph}
        self.shared = shared_inputs(bundle, graph)

    @property
    def inputs(self) -> Sequence[str]:
        """See `Engine`."""
        return self.engine.inputs

    def outputs(self, given: Specs) -> Specs:
        """See `Engine`; calibrates, unless that was done before."""
        rows = next(one.shape[0] for name, one in given.items() if name not in self.shared)
        piece = self._remembered(rows) or self._calibrate(given, rows)
        if piece != rows:
            self.engine = InPieces(self.open_engine(), self.shared, piece)
        return self.engine.outputs(given)

    def enqueue(self, given: Buffers, made: Buffers, stream: Stream) -> None:
        """See `Engine`."""
        self.engine.enqueue(given, made, stream)

    def _note(self, rows: int) -> str:
        return f"{key_of({**self.about, 'rows': rows})}.batch"

    def _remembered(self, rows: int) -> int | None:
        try:
            piece = json.loads(self.cache.side(self._note(rows)))
        except ValueError:
            return None
        return piece if isinstance(piece, int) and 0 < piece <= rows and rows % piece == 0 else None

    def _calibrate(self, given: Specs, rows: int) -> int:
        pieces = [rows // count for count in (1, 2, 4, 8, 16) if rows % count == 0 and rows // count >= SMALLEST]
        pieces = pieces or [rows]
        if len(pieces) == 1:
            return pieces[0]
        stream = self.device.stream(f"calibrating {self.name}")
        buffers: dict[str, Buffer] = {}
        made: dict[str, Buffer] = {}
        best, least = rows, float("inf")
        for piece in pieces:
            engine = InPieces(self.open_engine(), self.shared, piece)
            makes = engine.outputs(given)
            if not made:  # the same for all sizes
                buffers, made = (
                    {name: self.device.buffer(f"calibrating {name}", one) for name, one in some.items()}
                    for some in (given, makes)
                )
            seconds = self._timed(engine, buffers, made, stream)
            if seconds * MARGIN < least or piece == rows:
                best, least = piece, seconds
            log.info("%s: %d images in pieces of %d take %.1f ms", self.name, rows, piece, 1000 * seconds)
        for buffer in (*buffers.values(), *made.values()):
            self.device.free(buffer)
        self.cache.keep_side(self._note(rows), json.dumps(best).encode())
        return best

    def _timed(self, engine: Engine, given: Buffers, made: Buffers, stream: Stream) -> float:
        """Seconds for a batch, the median of several; the first is not counted."""
        engine.enqueue(given, made, stream)
        times = []
        for _ in range(ROUNDS):
            start = stream.record()
            engine.enqueue(given, made, stream)
            end = stream.record()
            end.synchronize()
            times.append(end.seconds_since(start))
        return median(times)
