"""A report as PDF, printed by a Chromium that is there."""

import os
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from mothlight.engine.errors import UserError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
LONGEST = 300
"""Seconds."""


def find_browser() -> str | None:
    """A Chromium on the path."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def print_pdf(page: Path, out: Path) -> Path:
    """Print a page to a PDF file; the file.

    Raises:
        UserError: there is no Chromium, or it did not print.
    """
    browser = find_browser()
    if browser is None:
        raise UserError("--pdf needs Chromium or Chrome on the path: install one, or print the page from a browser.")
    with TemporaryDirectory() as profile:
        printed = Path(profile) / "printed.pdf"  # what lies at `out` may be of another day
        command = [
            browser, "--headless", "--disable-gpu", "--disable-dev-shm-usage", "--no-pdf-header-footer",
            f"--user-data-dir={profile}", f"--print-to-pdf={printed}", page.absolute().as_uri(),
        ]  # fmt: skip
        if os.geteuid() == 0:
            command.insert(1, "--no-sandbox")  # it refuses to run as root with one; the page is our own
        try:
            done = subprocess.run(command, capture_output=True, timeout=LONGEST, check=False)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UserError(f"{browser} did not print: {error}.") from error
        if done.returncode or not printed.is_file():
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise UserError(f"{browser} did not print{': ' + said[-1] if said else ''}.")
        try:
            shutil.copyfile(printed, out)
        except OSError as error:
            raise UserError(f"Can't write {out}: {error.strerror}.") from error
    return out
