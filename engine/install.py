"""How a missing extra is installed: from where mothlight itself came, since it is on no package index."""

import json
import sys
from importlib.metadata import PackageNotFoundError, distribution
from urllib.parse import unquote, urlsplit


def how_to_install(extra: str) -> str:
    """What to do for an extra in the environment that runs, as the end of a sentence."""
    source, editable = _source()
    how = f"{sys.executable} -m pip install {'-e ' if editable else ''}'{source}[{extra}]'"
    return f"install mothlight[{extra}] with {how}"


def _source() -> tuple[str, bool]:
    """The folder, file or address that mothlight was installed from (PEP 610), and whether in place."""
    try:
        told = json.loads(distribution("mothlight").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        told = {}
    url = str(told.get("url", ""))
    if not url:
        return "FOLDER-OF-MOTHLIGHT", False
    path = unquote(urlsplit(url).path) if urlsplit(url).scheme == "file" else url
    return path, bool(told.get("dir_info", {}).get("editable"))
