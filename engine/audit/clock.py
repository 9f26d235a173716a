"""The hour at which an audit must be done, turned into images: what it can still afford is its budget.

Every decision is a function of what is committed and of the budget, and each wave and round is stored with the budget
it was decided under. So a deadline needs no rules of its own, and what the clock decided is replayed with the rest.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic

from mothlight.engine.errors import ConfigError

AT = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
IN = re.compile(r"(?=\d)(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
LEAST = 2.0
"""Seconds between the last image and the hour, besides those of the report."""
MARGIN = 0.03
"""Of the time that is left, what is kept back: no machine is as fast in the next hour as in the last."""


class OutOfTimeError(Exception):
    """The deadline came before all was made that was planned."""


def seconds_until(deadline: str, now: datetime) -> float:
    """How long until `06:00` (the next one, in local time) or for `8h30m`.

    Raises:
        ConfigError: it is neither.
    """
    if at := AT.fullmatch(deadline):
        end = now.replace(hour=int(at[1]), minute=int(at[2]), second=0, microsecond=0)
        return ((end if end > now else end + timedelta(days=1)) - now).total_seconds()
    if length := IN.fullmatch(deadline):
        hours, minutes, seconds = (int(part or 0) for part in length.groups())
        if total := 3600 * hours + 60 * minutes + seconds:
            return float(total)
    raise ConfigError(f"`deadline` is {deadline!r}: give an hour, as 06:00, or a time from now, as 8h30m.")


@dataclass(slots=True)
class Clock:
    """How much of the budget fits before the hour; without one, all of it."""

    max_images: int
    """The budget of the settings."""
    end: float | None = None
    """On the clock of `now`, which is never set back."""
    now: Callable[[], float] = monotonic
    report_seconds: float = 0.0
    """How long the report took, when it was last written."""
    began: float | None = None
    made: int = 0
    """Images since then."""

    def advance(self, images: int) -> None:
        """So many more images are there, with all that was done meanwhile: captions, grouping, deciding."""
        self.made += images

    def start(self) -> None:
        """The first image begins."""
        self.began = self.now()

    @property
    def seconds_left(self) -> float:
        """For images and all between them; infinite without a deadline."""
        if self.end is None:
            return float("inf")
        left = self.end - self.now()
        return left - MARGIN * max(left, 0.0) - LEAST - 2 * self.report_seconds

    @property
    def is_over(self) -> bool:
        """Whether nothing more may be begun."""
        return self.seconds_left <= 0

    def budget(self, images: int, begun_under: int | None = None) -> int:
        """See `mechanism.Mechanism`: what is there, and what the time that is left allows."""
        if self.end is not None and begun_under is not None:
            return min(self.max_images, begun_under)
        if self.end is None or self.began is None or not self.made:
            return self.max_images
        per_image = (self.now() - self.began) / self.made
        return min(self.max_images, images + max(int(self.seconds_left / per_image), 0))
