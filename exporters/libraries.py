"""Makes the model libraries say only what a person needs to hear."""

import os
import sys


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


def reason(error: BaseException) -> str:
    """What an exception of a library says, in one line."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
