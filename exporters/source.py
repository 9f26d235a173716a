"""Where a model comes from: a hub id, a folder or a single safetensors file → files on this disk.

A hub id is pinned to a commit. Nothing is fetched or opened that could run code: no pickled weights, no remote code.
`HF_HOME`, `HF_HUB_OFFLINE`, `HF_TOKEN` and `HF_HUB_DISABLE_PROGRESS_BARS` are huggingface_hub's own and are obeyed.
"""

import json
import logging
import re
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from mothlight.engine.errors import UserError
from mothlight.engine.models.bundle import Source
from mothlight.exporters.options import Options

log = logging.getLogger("mothlight.export")
COMMIT = re.compile(r"[0-9a-f]{40}")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".msgpack", ".h5")
WANTED = ("*.json", "*.txt", "*.model", "*.safetensors", "*.jinja")
"""What is fetched from a hub: configurations, tokenizers, weights without code in them."""
VARIANTS = ("*.fp16.safetensors", "*.bf16.safetensors", "*.non_ema.safetensors", "openvino/*", "onnx/*", "flax/*")
"""Second copies of the same weights."""


@dataclass(frozen=True, slots=True)
class Located:
    """A model on this disk, or what would be fetched to have it here."""

    given: str
    """What the person wrote."""
    path: Path | None
    """The folder, or a single file; None where nothing was fetched."""
    origin: str
    """The hub id, or the name of the folder or file: what a manifest says."""
    revision: str = ""
    """The commit of a hub id."""
    files: tuple[tuple[str, int], ...] = ()
    """Names and bytes of what it consists of."""
    missing: int = 0
    """Bytes of them that are not on this disk yet."""
    warning: str = ""

    @property
    def bytes(self) -> int:
        """Of all its files."""
        return sum(size for _, size in self.files)

    @property
    def folder(self) -> Path:
        """The folder on this disk.

        Raises:
            UserError: it is a single file, or was not fetched.
        """
        if self.path is None or not self.path.is_dir():
            raise UserError(f"{self.given} is no folder.")
        return self.path

    def json(self, name: str) -> dict[str, Any]:
        """A JSON file of the folder, or nothing where there is none.

        Raises:
            UserError: it is no JSON object.
        """
        if self.path is None or not (self.path / name).is_file():
            return {}
        try:
            value = json.loads((self.path / name).read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{self.given}: {name} is no JSON: {error}.") from error
        if not isinstance(value, dict):
            raise UserError(f"{self.given}: {name} is no JSON object.")
        return value


Fetch = Literal["all", "configuration"]


def locate(given: str, *, revision: str | None = None, fetch: Fetch = "all") -> Located:
    """Find a model, and fetch it from the hub where it is not on this disk, or its small JSON files alone.

    Raises:
        UserError: there is no such model, or it comes as a pickle or with code of its own.
    """
    path = Path(given)
    if path.exists():
        if revision is not None:
            raise UserError(f"{given} is on this disk and has no revisions; leave --revision out.")
        found = _on_disk(given, path)
    elif HUB_ID.fullmatch(given):
        found = _on_hub(given, revision, fetch)
    else:
        raise UserError(f"There is no file or folder {given}, and it is no hub id of the form OWNER/NAME.")
    if found.path is not None:
        _refuse_code(found)
    if found.warning:
        log.warning(found.warning)
    return found


def _on_disk(given: str, path: Path) -> Located:
    if path.is_dir():
        files = tuple(
            (one.relative_to(path).as_posix(), one.stat().st_size) for one in sorted(path.rglob("*")) if one.is_file()
        )
        return Located(given, path, path.resolve().name, files=files)
    if path.suffix in PICKLED:
        raise UserError(
            f"{given} holds pickled weights, which can run code when they are opened: convert it to safetensors "
            f"(safetensors.torch.save_file) and name that file."
        )
    if path.suffix not in (".safetensors", ".onnx", ".toml"):
        raise UserError(f"{given} is none of .safetensors, .onnx, .toml or a folder.")
    return Located(given, path, path.name, files=((path.name, path.stat().st_size),))


def _on_hub(given: str, revision: str | None, fetch: Fetch) -> Located:
    """The hub's answer, or the cache's where the hub can't be asked."""
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    asked = revision or "main"
    files: tuple[tuple[str, int], ...] = ()
    commit = asked
    if not constants.HF_HUB_OFFLINE:
        try:
            info = HfApi().model_info(given, revision=asked, files_metadata=True)
        except HfHubHTTPError as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"The hub does not give {given} at {asked}: {reason}") from error
        except (OSError, OfflineModeIsEnabled):
            info = None  # no way to the hub: what was fetched before will do
        if info is not None:
            commit = str(info.sha)
            files = _wanted([(one.rfilename, one.size or 0) for one in info.siblings or []])
            _refuse_pickles(given, [one.rfilename for one in info.siblings or []], [name for name, _ in files])
    if fetch == "all" and files:
        size = sum(size for _, size in files)
        log.info("fetching %s at %s: %.2f GB, where not here yet", given, commit[:12], size / 1e9)
    wanted = [name for name, _ in files] or list(WANTED) if fetch == "all" else ["*.json"]
    try:
        folder = Path(snapshot_download(given, revision=commit, allow_patterns=wanted, ignore_patterns=list(VARIANTS)))
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise UserError(
            f"{given} at {asked} is not in the cache ({constants.HF_HUB_CACHE}) and the hub can't be reached: "
            f"fetch it on a machine with a network, or name a folder."
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise UserError(f"Fetching {given} failed: {str(error).strip().splitlines()[0]}") from error
    here = _on_disk(given, folder)
    if not files or fetch == "all":
        files = here.files
    present = {name for name, _ in here.files}
    missing = sum(size for name, size in files if name not in present)
    located = Located(given, folder, given, folder.resolve().name, files, missing)
    if COMMIT.fullmatch(asked) is None and COMMIT.fullmatch(located.revision):
        warning = f"{given}: `{asked}` can move; pinned to --revision {located.revision}."
        located = replace(located, warning=warning)
    return located


def _wanted(files: list[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    """What is fetched; a pipeline's weights lie in folders, and a file beside its index is all of them again."""
    pipeline = any(name == "model_index.json" for name, _ in files)
    return tuple(
        (name, size)
        for name, size in sorted(files)
        if any(fnmatch(name, pattern) for pattern in WANTED)
        and not any(fnmatch(name, pattern) for pattern in VARIANTS)
        and not (pipeline and "/" not in name and name.endswith(".safetensors"))
    )


def _refuse_pickles(given: str, present: list[str], wanted: list[str]) -> None:
    pickled = [name for name in present if name.endswith(PICKLED)]
    if pickled and not any(name.endswith(".safetensors") for name in wanted):
        raise UserError(
            f"{given} has its weights only as a pickle ({pickled[0]}), which can run code when it is opened: "
            f"choose a model with safetensors, or convert it."
        )


def _refuse_code(found: Located) -> None:
    """Refuse a model whose own Python files would have to be run, or that has no weights but pickles.

    Raises:
        UserError: it is one.
    """
    if found.path is None or not found.path.is_dir():
        return
    names = [name for name, _ in found.files]
    _refuse_pickles(found.given, names, names)
    for name in ("config.json", "model_index.json", "preprocessor_config.json", "tokenizer_config.json"):
        config = found.json(name)
        kinds = config.get("_class_name")
        if "auto_map" in config or isinstance(kinds, list) or "custom_pipeline" in config:
            raise UserError(
                f"{found.given} brings code of its own ({name}), and mothlight runs no remote code: choose a model "
                f"that the library itself implements."
            )


def stated(found: Located, library: str, version: str, model: str, options: Options) -> Source:
    """What a manifest says of where a model came from and how it was exported."""
    return Source(
        library=library,
        version=version,
        model=model,
        origin=found.origin,
        revision=found.revision,
        options=options.changed(),
    )
