"""Makes the model libraries say only what a person needs to hear."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from mothlight.engine.errors import MothlightError, UserError


def quiet() -> None:
    """No advice, and no progress bars but a download's at a terminal; to be called before the libraries are imported.

    Who sets `HF_HUB_DISABLE_PROGRESS_BARS` decides for himself.
    """
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    from diffusers.utils import logging as diffusers_logging
    from huggingface_hub.utils.tqdm import enable_progress_bars
    from transformers.utils import logging

    logging.disable_progress_bar()
    diffusers_logging.disable_progress_bar()
    if os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS", "0").upper() not in ("1", "TRUE", "YES", "ON"):
        enable_progress_bars()  # the two above switch a download's off as well


MOST = 400
"""Characters of a library's message that are worth showing."""


def reason(error: BaseException) -> str:
    """What an exception of a library says, in one line: its lines joined, without what wraps them."""
    words = " ".join(str(error).split())
    said = words if len(words) <= MOST else f"{words[:MOST]}…"
    return said or type(error).__name__


@contextmanager
def library_errors(sentence: str) -> Iterator[None]:
    """Whatever a library raises inside, on files that are not what it expects, as one sentence.

    The libraries raise anything from KeyError to TypeError where a file contradicts itself, so nothing less than
    `Exception` will do; ours pass through, and memory that is not there is no fault of the files.

    Raises:
        UserError: the library raised something.
    """
    try:
        yield
    except (MothlightError, MemoryError):
        raise
    except Exception as error:
        kind = "" if isinstance(error, OSError | ValueError | RuntimeError) else f"{type(error).__name__}: "
        raise UserError(f"{sentence}: {kind}{reason(error)}") from error
