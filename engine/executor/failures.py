"""How much may fail: a share of what a stage was asked, from a number on that says something."""

from collections import Counter
from dataclasses import dataclass, field

from mothlight.engine.errors import TooManyFailuresError

LEAST = 50
"""Items that a stage must have been asked before its share counts."""


@dataclass(slots=True)
class Failures:
    """What each stage was asked in this run, and what of it failed."""

    share: float
    """Of its items that a stage may fail."""
    asked: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    spared: frozenset[str] = frozenset()
    """Stages that may fail as often as they like: broken photographs are no reason to end."""

    def count(self, stage: str, asked: int, failed: int, last: str = "") -> None:
        """A stage was asked for so many items and so many failed; `last` says which, and why.

        Raises:
            TooManyFailuresError: with them it has failed more than its share.
        """
        self.asked[stage] += asked
        self.failed[stage] += failed
        if not failed or self.asked[stage] < LEAST or stage in self.spared:
            return
        share = self.failed[stage] / self.asked[stage]
        if share > self.share:
            raise TooManyFailuresError(
                f"Too much fails in `{stage}`: {self.failed[stage]:,} of {self.asked[stage]:,} ({share:.0%}; the "
                f"settings allow {self.share:.0%} as `max_failures`), the last {last}. What was committed is kept: "
                f"mend what fails, or allow more, and start the same command again."
            )
