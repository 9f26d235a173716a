"""The page on which a person says whether images show their label."""

import errno
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from mothlight.engine.errors import DiskFullError, UserError
from mothlight.reports.build import new_environment, source_hash


def write_answers_page(images: Sequence[Mapping[str, str]], folder: Path) -> Path:
    """Write `index.html` beside the pictures in `folder`; each image has an `image_id` and a `label`.

    Raises:
        UserError, DiskFullError: it can't be written.
    """
    templates = files("mothlight.reports").joinpath("templates")
    style, script = (templates.joinpath(f"answers.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    html = (
        new_environment()
        .get_template("answers.html")
        .render(
            images=images, style=style, script=script, style_hash=source_hash(style), script_hash=source_hash(script)
        )
    )
    page = folder / "index.html"
    try:
        page.write_text(html, encoding="utf-8")
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFullError(f"The disk is full: {page} can't be written.") from error
        raise UserError(f"Can't write {page}: {error.strerror}.") from error
    return page
