"""Workers on the GPUs that Ray has, and their work: chunks out, rows back, a few at a time.

Ray carries; what is decided is decided here. Work may be lost with its worker, or come twice: it is taken once.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any, Literal

import numpy as np

from mothlight.engine.batch import Batch
from mothlight.engine.cluster.ray import connect
from mothlight.engine.cluster.spread import PATIENCE, TWICE, Hand, Spread, Work, own
from mothlight.engine.cluster.worker import About, Brief, Made, Probe, Worker, loosened
from mothlight.engine.config import AuditConfig
from mothlight.engine.errors import UserError
from mothlight.engine.records import Chunk
from mothlight.engine.stages.caption import Caption
from mothlight.engine.stopping import check

LOOK_EVERY = 2.0
"""Seconds between two looks at who came and who went."""
CLOSE, CLOSE_GREY = 0.01, 4.0
"""How far scores and embeddings, and the means of a picture's parts in grey levels, may be from what most workers make
of the same batch: other hardware rounds otherwise, another version computes otherwise."""
Step = Literal["lacks", "open", "probe"]


class Pool:
    """The workers of a run; to be closed after use."""

    def __init__(
        self,
        address: str,
        brief: Brief,
        paths: Mapping[str, Path],
        *,
        say: Callable[[str], object] = lambda _: None,
        stop: Event | None = None,
    ) -> None:
        """`paths` are the folders of the brief's bundles on this machine; `say` hears of who comes and goes.

        Raises:
            UserError: as `connect`.
        """
        self.ray = connect(address)
        self.brief = brief
        self.config = AuditConfig.model_validate_json(brief.settings)
        self.paths = paths
        self.say = say
        self.stop = stop or Event()
        self.came: Callable[[str, About, float, str | None], object] = lambda *_: None
        self.judged: list[tuple[str, About, float, str | None]] = []
        self.hands: dict[str, Hand] = {}
        self.refused: dict[str, str] = {}
        """Nodes that were sent away → why."""
        self.coming: dict[Any, tuple[Hand, Step]] = {}
        self.reference: Probe | None = None
        self.looked = -LOOK_EVERY
        self.numbers: Counter[str] = Counter()
        self.files: dict[str, dict[str, Any]] = {}

    def close(self) -> None:
        """Let go of the workers, and of Ray."""
        for hand in self.hands.values():
            with suppress(Exception):  # whatever became of it
                self.ray.kill(hand.actor)
        self.ray.shutdown()

    @property
    def ready(self) -> list[Hand]:
        """The workers that may be given something."""
        return [hand for hand in self.hands.values() if hand.is_ready]

    def wait(self) -> None:
        """Wait for the workers that there are at first: each has made the batch that all make.

        Raises:
            UserError: none came, or could work.
        """
        end = monotonic() + PATIENCE
        while not self.ready or self.coming:
            check(self.stop)
            self.look()
            if monotonic() > end or (self.refused and not self.hands):
                break
        if not self.ready:
            why = f": {next(iter(self.refused.values()))}" if self.refused else f" in {PATIENCE:.0f} seconds."
            raise UserError(f"No worker came{why}")

    def make(
        self, chunks: Sequence[Chunk], phase: str, go_on: Callable[[], bool] = lambda: True
    ) -> Iterator[Made | list[Batch]]:
        """Chunks as rows, each once, in whatever order; one that workers die of as batches, image by image."""
        work = Work(
            iter(chunks), len(chunks), lambda one: one.images, lambda to, some: to.actor.make.remote(some, phase), go_on
        )
        for group, made in Spread(self, work).results():
            if made is None:
                for chunk in group.items:
                    yield self._one_by_one(chunk, phase)
            else:
                yield made

    def caption(
        self, pictures: Iterator[tuple[list[str], list[bytes]]], count: int, go_on: Callable[[], bool]
    ) -> Iterator[tuple[list[str], list[Caption] | None]]:
        """What pictures show, by their ids; None for those that workers die of."""

        def call(to: Hand, some: Sequence[tuple[list[str], list[bytes]]]) -> Any:
            return to.actor.captions.remote([jpegs for _, jpegs in some])

        for group, said in Spread(self, Work(pictures, count, lambda one: len(one[0]), call, go_on)).results():
            for place, (ids, _) in enumerate(group.items):
                yield ids, None if said is None else said[place]
        for hand in self.ready:
            hand.actor.done_captioning.remote()

    def finish(self, batches: Sequence[Batch], phase: str, *, keep_all: bool = False) -> list[Batch]:
        """Single batches, in their order.

        Raises:
            UserError: every worker is gone.
        """
        made: list[Batch] = []
        for batch in batches:
            made += self._once(batch, phase, keep_all=keep_all) or [_set_aside(batch)]
        return made

    def seconds_per_image(self) -> float:
        """Of all workers together, as measured on one batch by each."""
        times = self.ray.get([hand.actor.seconds_per_image.remote() for hand in self.ready])
        return float(1 / sum(1 / max(time, 1e-9) for time in times))

    def seconds_per_caption(self, jpegs: Sequence[bytes]) -> float:
        """The same of captions, measured by one of them."""
        start = monotonic()
        self.ray.get(self.ready[0].actor.captions.remote([list(jpegs)]))
        return (monotonic() - start) / len(jpegs) / len(self.ready)

    @property
    def threads(self) -> int:
        """Batches that all workers together make side by side."""
        return sum(hand.about.threads for hand in self.ready if hand.about is not None)

    def hear_of_workers(self, came: Callable[[str, About, float, str | None], object]) -> None:
        """Tell of each worker, also of those that came before: name, place, difference, and why it was sent away."""
        self.came = came
        for judged in self.judged:
            came(*judged)

    @property
    def runs_on(self) -> str:
        """What runs which model, on how many workers."""
        counted = Counter(hand.about.runs_on for hand in self.ready if hand.about is not None)
        return " | ".join(f"{count} × {what}" if count > 1 else what for what, count in counted.most_common())

    # work

    def _one_by_one(self, chunk: Chunk, phase: str) -> list[Batch]:
        """A chunk's images, each by itself; one that workers die of is a failed item."""
        singles = [Batch(chunk, (index,), self.config.batch) for index in chunk.indices]
        return self.finish(singles, phase)

    def _once(self, batch: Batch, phase: str, *, keep_all: bool) -> list[Batch]:
        """A batch by itself; empty if workers die of it."""
        for _ in range(TWICE):
            self.wait()
            hand = self.ready[0]
            asked = hand.actor.finish.remote([(batch.chunk, batch.indices)], phase, keep_all=keep_all)
            try:
                return [loosened(loose) for loose in self.ray.get(asked)]
            except self.ray.exceptions.RayTaskError as error:
                raise own(error) from error
            except self.ray.exceptions.RayError:
                self.forget(hand, "it died, or its machine did")
        return []

    # who is there

    def look(self) -> None:
        """See who came and who went, and go on with those that are coming."""
        if monotonic() - self.looked >= LOOK_EVERY:
            self.looked = monotonic()
            self._count_nodes()
        if not self.coming:
            return
        ready, _ = self.ray.wait(list(self.coming), num_returns=len(self.coming), timeout=0.05)
        for ref in ready:
            hand, step = self.coming.pop(ref)
            try:
                answer = self.ray.get(ref)
            except self.ray.exceptions.RayTaskError as error:
                self._send_away(hand, str(own(error)))
            except self.ray.exceptions.RayError:
                self.forget(hand, "it died before it was ready")
            else:
                self._go_on(hand, step, answer)
        if not self.coming:
            self._judge()

    def _count_nodes(self) -> None:
        nodes = {node["NodeID"]: node for node in self.ray.nodes() if node["Alive"]}
        for hand in list(self.hands.values()):
            if hand.node not in nodes:
                self.forget(hand, "its machine is gone")
        on_gpus = any(node["Resources"].get("GPU", 0) >= 1 for node in nodes.values())
        there = Counter(hand.node for hand in self.hands.values())
        for node_id, node in sorted(nodes.items()):
            if node_id not in self.refused:
                for _ in range(self._room(node["Resources"], on_gpus=on_gpus) - there[node_id]):
                    self._hire(node_id, node, on_gpus=on_gpus)

    def _room(self, resources: Mapping[str, float], *, on_gpus: bool) -> int:
        """How many workers a machine has room for: one for each GPU, or for each share of its cores."""
        if on_gpus:
            return int(resources.get("GPU", 0))
        return int(resources.get("CPU", 0)) // self._share(resources)

    def _share(self, resources: Mapping[str, float]) -> int:
        cores = max(int(resources.get("CPU", 0)), 1)
        return min(self.config.threads or cores, cores)

    def _hire(self, node_id: str, node: Mapping[str, Any], *, on_gpus: bool) -> None:
        where = str(node.get("NodeManagerHostname") or node["NodeManagerAddress"])
        self.numbers[where] += 1
        name = f"{where}/{self.numbers[where]}"
        here = self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node_id, soft=False)
        threads = None if on_gpus else self._share(node["Resources"])
        wants = {"num_gpus": 1, "num_cpus": 0} if on_gpus else {"num_gpus": 0, "num_cpus": threads}
        actor = self.ray.remote(Worker).options(scheduling_strategy=here, max_restarts=0, **wants)
        hand = Hand(name, node_id, actor.remote(name, self.brief, threads))
        self.hands[name] = hand
        self.coming[hand.actor.lacks.remote()] = (hand, "lacks")

    def _go_on(self, hand: Hand, step: Step, answer: Any) -> None:
        """The next question to a worker that is coming."""
        if step == "lacks":
            for bundle in answer:
                for name, content in self._files(bundle).items():
                    hand.actor.receive.remote(bundle, name, content)
            self.coming[hand.actor.open.remote()] = (hand, "open")
        elif step == "open":
            hand.about = answer
            self.coming[hand.actor.probe.remote()] = (hand, "probe")
        else:
            hand.probe = answer

    def _files(self, bundle: str) -> dict[str, Any]:
        """A bundle's files in the object store, put there once."""
        if bundle not in self.files:
            folder = self.paths[bundle]
            files = sorted(file for file in folder.rglob("*") if file.is_file())
            self.files[bundle] = {str(file.relative_to(folder)): self.ray.put(file.read_bytes()) for file in files}
        return self.files[bundle]

    def _judge(self) -> None:
        """Let those work that make of the batch that all make what the others make."""
        probed = [hand for hand in self.hands.values() if hand.probe is not None and not hand.is_ready]
        if not probed:
            return
        if self.reference is None:
            self.reference = _most_agree([hand.probe for hand in probed if hand.probe is not None])
        for hand in probed:
            if hand.probe is None or hand.about is None:
                continue
            far, grey = difference(hand.probe, self.reference)
            why = None
            if far > CLOSE or grey > CLOSE_GREY:
                why = (
                    f"{hand.name} makes something else of the same batch than the others: scores or embeddings differ "
                    f"by {far:.3g}, pictures by {grey:.3g} grey levels. Install the same versions there; it has "
                    f"{hand.about.machine}."
                )
            self.judged.append((hand.name, hand.about, far, why))
            self.came(*self.judged[-1])
            if why is not None:
                self._send_away(hand, why)
                continue
            hand.is_ready = True
            self.say(f"{hand.name} works along: {hand.about.device}, {hand.about.machine}.")

    def _send_away(self, hand: Hand, why: str) -> None:
        self.refused[hand.node] = why
        self.say(f"{hand.name} is sent away: {why}")
        for other in [one for one in self.hands.values() if one.node == hand.node]:
            with suppress(Exception):  # it may be gone already
                self.ray.kill(other.actor)
            del self.hands[other.name]
        self.coming = {ref: pair for ref, pair in self.coming.items() if pair[0].name in self.hands}

    def forget(self, hand: Hand, why: str) -> None:
        """A worker is no more."""
        if self.hands.pop(hand.name, None) is None:
            return
        if hand.is_ready:
            self.say(f"{hand.name} is gone ({why}); what it had is made elsewhere.")
        hand.is_ready = False
        self.coming = {ref: pair for ref, pair in self.coming.items() if pair[0] is not hand}
        with suppress(Exception):  # it is gone already, or should be
            self.ray.kill(hand.actor)


def difference(one: Probe, other: Probe) -> tuple[float, float]:
    """The largest difference of scores and embeddings, and of pictures in grey levels; infinite if a number is none."""
    far = {"pictures": 0.0, "": 0.0}
    for name in one.keys() | other.keys():
        kind = name if name == "pictures" else ""
        if name not in one or name not in other or one[name].shape != other[name].shape:
            return float("inf"), float("inf")
        gap = float(np.abs(one[name] - other[name]).max(initial=0.0))
        far[kind] = max(far[kind], gap if np.isfinite(gap) else float("inf"))
    return far[""], far["pictures"]


def _most_agree(probes: Sequence[Probe]) -> Probe:
    """What most others are close to; the first of several such."""

    def agreeing(one: Probe) -> int:
        gaps = [difference(one, other) for other in probes]
        return sum(far <= CLOSE and grey <= CLOSE_GREY for far, grey in gaps)

    return max(probes, key=agreeing)


def _set_aside(batch: Batch) -> Batch:
    return batch.with_failures(dict.fromkeys(batch.indices, "the workers that made it died, one after the other"))
