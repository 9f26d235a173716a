"""Ray, connected as it should be: with a token, without a dashboard, and one of our own on this machine's loopback."""

import os
import secrets
from pathlib import Path
from typing import Any

from mothlight.engine.errors import UserError

OLDEST = (2, 52)
"""The first version with tokens."""
NO_AUTH = "disabled"
"""`RAY_AUTH_MODE` of whoever wants no token."""


def connect(address: str) -> Any:
    """The module `ray`, initialized: `local` begins one on this machine, `auto` finds the one that runs here.

    Any other address is `host:port`. Whoever reaches a Ray cluster can have it run anything, so a token is asked for.

    Raises:
        UserError: it is not installed, too old, can't be reached, or there is no token.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if address == "local":
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # what has it listen to 127.0.0.1 alone
    elif os.environ["RAY_AUTH_MODE"] != NO_AUTH and not _has_token():
        raise UserError(
            "There is no token for Ray: begin its nodes with RAY_AUTH_MODE=token, and put the same RAY_AUTH_TOKEN (or "
            "the file ~/.ray/auth_token) here; a cluster without one runs whatever anybody sends to it."
        )
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError as error:
        raise UserError("Ray is not installed: `pip install 'mothlight[cpu,ray]'` (or `[gpu,ray]`).") from error
    version = tuple(int(part) for part in ray.__version__.split(".")[:2])
    if version < OLDEST:
        raise UserError(f"Ray {ray.__version__} is too old: 2.52 is the first with tokens.")
    try:
        ray.init(address=address, include_dashboard=False if address == "local" else None, **QUIET)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise UserError(f"Ray can't be reached at {address}: {' '.join(str(error).split())[:300]}") from error
    return ray


QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}


def _has_token() -> bool:
    given = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    return bool(given) or (Path.home() / ".ray" / "auth_token").is_file()
