"""The page on which a person says whether images show their label."""

import errno
import hashlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from mothlight.engine.errors import DiskFullError, UserError


def write_answers_page(images: Sequence[Mapping[str, str]], folder: Path) -> Path:
    """Write `index.html` beside the pictures in `folder`; each image has an `image_id` and a `label`.

    Raises:
        UserError, DiskFullError: it can't be written.
    """
    templates = files("mothlight.reports").joinpath("templates")
    style, script = (templates.joinpath(f"answers.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    environment = Environment(
        loader=PackageLoader("mothlight.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template("answers.html").render(
        images=images, style=style, script=script, style_hash=_hash(style), script_hash=_hash(script)
    )
    page = folder / "index.html"
    try:
        page.write_text(html, encoding="utf-8")
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFullError(f"The disk is full: {page} can't be written.") from error
        raise UserError(f"Can't write {page}: {error.strerror}.") from error
    return page


def _hash(text: str) -> str:
    return b64encode(hashlib.sha256(text.encode()).digest()).decode()
