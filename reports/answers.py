"""The page on which a person says whether images show their label."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mothlight.reports.build import told
from mothlight.reports.rendering import environment, source_hash, static


def write_answers_page(images: Sequence[Mapping[str, str]], folder: Path) -> Path:
    """Write `index.html` beside the pictures in `folder`; each image has an `image_id` and a `label`.

    Raises:
        UserError, DiskFullError: it can't be written.
    """
    style, script = static("answers.css"), static("answers.js")
    html = (
        environment()
        .get_template("answers.html")
        .render(
            images=images, style=style, script=script, style_hash=source_hash(style), script_hash=source_hash(script)
        )
    )
    page = folder / "index.html"
    with told(page):
        page.write_text(html, encoding="utf-8")
    return page
