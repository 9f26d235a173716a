"""Work spread over workers: each piece done once, whoever dies of it, or is slow, or comes twice."""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol

from mothlight.engine.cluster.worker import About, Probe
from mothlight.engine.errors import MothlightError, UserError

AT_ONCE = 2
"""Calls that a worker has: one that it works on, and one that waits."""
CALL_SECONDS = 2.0
"""How long a call should take: long enough that its way there and back costs nothing."""
MOST_IMAGES = 512
"""Of a call: what comes back lies in memory until it is written."""
TWICE = 2
"""Deaths of workers after which the chunk that they worked on is made image by image; so many more, and an image is
set aside."""
LATE = 1.5
"""Work that takes so many times as long as usual is given to another worker as well, if one has nothing to do."""
PATIENCE = 180.0
"""Seconds in which a worker must have come, where there is none."""


@dataclass(slots=True, eq=False)
class Hand:
    """A worker, as the pool sees it."""

    name: str
    node: str
    actor: Any
    about: About | None = None
    probe: Probe | None = None
    is_ready: bool = False
    flying: int = 0
    done_at: float = 0.0
    rate: float = 0.0
    """Images per second of its last call; 0 before."""


@dataclass(slots=True, eq=False)
class Group:
    """Work that goes to a worker in one call."""

    items: Sequence[Any]
    images: int
    is_done: bool = False
    copies: int = 0
    """Calls under way with it."""


@dataclass(slots=True, eq=False)
class Flying:
    """A call under way."""

    hand: Hand
    group: Group
    began: float


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be spread over the workers."""

    items: Iterator[Any]
    count: int
    """How many items there are."""
    images: Callable[[Any], int]
    """How many an item has."""
    call: Callable[[Hand, Sequence[Any]], Any]
    """Gives some of them to a worker."""
    go_on: Callable[[], bool]
    """Whether anything may still be begun."""


class Hands(Protocol):
    """Who there is to work."""

    ray: Any
    """The module `ray`."""

    @property
    def ready(self) -> list[Hand]:
        """The workers that may be given something."""
        ...

    def look(self) -> None:
        """See who came and who went."""
        ...

    def forget(self, hand: Hand, why: str) -> None:
        """A worker is no more."""
        ...


class Spread:
    """Work under way."""

    def __init__(self, hands: Hands, work: Work) -> None:
        self.hands = hands
        self.ray = hands.ray
        self.work = work
        self.cut = _Cut(work)
        self.flying: dict[Any, Flying] = {}
        self.again: deque[Group] = deque()
        self.deaths: Counter[int] = Counter()
        """Of workers, by the item that they worked on."""
        self.suspects: dict[Hand, Group] = {}
        """What a worker that died had worked on; the rest of what it had only waited."""
        self.usual = CALL_SECONDS
        """Seconds that a call took last."""

    def results(self) -> Iterator[tuple[Group, Any]]:
        """Each group of items with its result, once; None for what workers died of too often.

        Raises:
            KeyboardInterrupt, OutOfTimeError: as `Work.go_on` does.
            UserError: every worker is gone, and none comes.
        """
        busy_at = monotonic()
        while True:
            may_begin = self.work.go_on()
            self.hands.look()
            if may_begin:
                self._hand_out()
            if self.flying:
                busy_at = monotonic()
                ready, _ = self.ray.wait(list(self.flying), num_returns=1, timeout=0.2)
                for ref in ready:
                    yield from self._take(self.flying.pop(ref), ref)
            elif not may_begin or (self.cut.is_empty and not self.again):
                return
            elif monotonic() - busy_at > PATIENCE:
                raise UserError(f"Every worker is gone, and none came in {PATIENCE:.0f} seconds.")

    def _hand_out(self) -> None:
        """Give every worker what it has room for: first something to each, then something that waits."""
        for deep in range(AT_ONCE):
            for hand in sorted(self.hands.ready, key=lambda one: -one.rate):
                if hand.flying != deep:
                    continue
                group = self.again.popleft() if self.again else self.cut.next(hand, len(self.hands.ready))
                if group is None and not deep:
                    group = self._late(hand)
                if group is None:
                    continue
                group.copies += 1
                hand.flying += 1
                self.flying[self.work.call(hand, group.items)] = Flying(hand, group, monotonic())

    def _late(self, hand: Hand) -> Group | None:
        """Work to do once more: the oldest, of another worker, that takes longer than usual."""
        others = [one for one in self.flying.values() if one.hand is not hand and one.group.copies == 1]
        oldest = min(others, key=lambda one: one.began, default=None)
        if oldest is None or monotonic() - oldest.began < LATE * self.usual:
            return None
        return oldest.group

    def _take(self, one: Flying, ref: Any) -> Iterator[tuple[Group, Any]]:
        """What a call that ended gave, if nobody else gave it before."""
        one.hand.flying -= 1
        one.group.copies -= 1
        try:
            result = self.ray.get(ref)
        except self.ray.exceptions.RayTaskError as error:
            raise own(error) from error
        except self.ray.exceptions.RayError:
            yield from self._lost(one)
            return
        now = monotonic()
        took = max(now - max(one.began, one.hand.done_at), 1e-6)
        one.hand.done_at, one.hand.rate, self.usual = now, one.group.images / took, took
        if not one.group.is_done:
            one.group.is_done = True
            yield one.group, result

    def _lost(self, one: Flying) -> Iterator[tuple[Group, None]]:
        """A worker died; what it had is done again, but for what it died of once too often."""
        held = [one, *(other for other in self.flying.values() if other.hand is one.hand)]
        self.suspects.setdefault(one.hand, min(held, key=lambda other: other.began).group)
        self.hands.forget(one.hand, "it died, or its machine did")
        if one.group.is_done or one.group.copies:
            return
        if self.suspects[one.hand] is not one.group:
            self.again.append(one.group)
            return
        for item in one.group.items:
            self.deaths[id(item)] += 1
            single = Group([item], self.work.images(item))
            if self.deaths[id(item)] >= TWICE:
                yield single, None
            else:
                self.again.append(single)


class _Cut:
    """Cuts items into groups as they are asked for."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.left = work.count
        self.is_empty = not work.count

    def next(self, hand: Hand, hands: int) -> Group | None:
        """So many items as take a call's time, but near the end only a share of what is left; None: there are none."""
        wanted = min(hand.rate * CALL_SECONDS, MOST_IMAGES)
        share = max(self.left // (2 * AT_ONCE * hands), 1)
        items: list[Any] = []
        images = 0
        while len(items) < share and (not items or images < wanted):
            item = next(self.work.items, None)
            if item is None:
                self.is_empty = True
                break
            items.append(item)
            images += self.work.images(item)
        self.left -= len(items)
        return Group(items, images) if items else None


def own(error: Any) -> BaseException:
    """What a worker raised, as it raised it; what is no exception of ours stays what Ray makes of it."""
    cause = getattr(error, "cause", None)
    found: BaseException = cause if isinstance(cause, MothlightError | KeyboardInterrupt) else error
    return found
