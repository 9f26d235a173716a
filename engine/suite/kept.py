"""Frozen suites: what an audit confirmed, kept as images, and asked again of other classifiers without generating.

A suite is a folder: `suite.json` and the pictures. It stands alone: prompts, seeds, models' keys, and what the audited
classifier said of each picture are in it.
"""

import hashlib
import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from mothlight.engine.errors import CorruptError, UserError

FORMAT = 1
LISTING = "suite.json"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SuitePair(_Strict):
    """Two pictures of the same noise, and what the audited classifier said of each."""

    index: int
    described: str
    """Its id."""
    plain: str
    said: str
    plain_said: str


class SuiteFinding(_Strict):
    """A confirmed finding and its pairs."""

    finding: int
    bug: int
    main: bool
    classifier: str
    label: str
    """Of a finding on several labels together, all of them, as `a, b, c`."""
    event: str
    """The prediction that counts; empty: any error."""
    description: str
    prompt: str
    plain_prompt: str
    rate: float | None
    baseline_rate: float | None
    effect: float | None
    effect_low: float | None
    effect_high: float | None
    provenance: str
    pairs: tuple[SuitePair, ...]


class SuiteImage(_Strict):
    """A picture of a suite."""

    file: str
    label: str
    sha256: str


class Suite(_Strict):
    """What `suite.json` holds."""

    format: int
    mothlight: str
    name: str
    audit_id: str
    seed: int
    generator: str
    min_effect: float
    gate_lower: float
    gate_upper: float
    models: dict[str, str]
    """Content key → role and name."""
    labels: dict[str, tuple[str, ...]]
    """Label → predictions that are right for it."""
    findings: tuple[SuiteFinding, ...]
    images: dict[str, SuiteImage]


def load_suite(folder: Path) -> Suite:
    """Read a suite and check every picture.

    Raises:
        UserError: there is none, or a newer mothlight made it.
        CorruptError: it is damaged, or names files outside of it.
    """
    try:
        data = json.loads((folder / LISTING).read_text(encoding="utf-8"))
        suite = Suite.model_validate(data)
    except OSError as error:
        raise UserError(f"There is no suite at {folder}: {error.strerror} ({LISTING}).") from error
    except (ValueError, ValidationError) as error:
        raise CorruptError(f"{folder / LISTING} is no suite: {str(error).splitlines()[0]}") from error
    if suite.format > FORMAT:
        raise UserError(f"A newer mothlight made {folder} (format {suite.format}): upgrade mothlight.")
    whole = folder.resolve()
    for key, image in suite.images.items():
        path = (folder / image.file).resolve()
        if not path.is_relative_to(whole):
            raise CorruptError(f"{folder / LISTING} names a file outside of it: {image.file}")
        try:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise CorruptError(f"The suite's picture {path} can't be read: {error.strerror}.") from error
        if found != image.sha256:
            raise CorruptError(f"The suite's picture {path} was changed (image {key}).")
    for finding in suite.findings:
        lost = {key for pair in finding.pairs for key in (pair.described, pair.plain)} - suite.images.keys()
        if lost or any(suite.images[pair.plain].label not in suite.labels for pair in finding.pairs):
            raise CorruptError(f"{folder / LISTING}: finding {finding.finding} needs what the suite does not hold.")
    return suite
