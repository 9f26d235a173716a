"""Where a model comes from: a hub id, a folder or a single safetensors file → files on this disk.

A hub id is pinned to a commit. Nothing is fetched or opened that could run code: no pickled weights, no remote code.
`HF_HOME`, `HF_HUB_OFFLINE`, `HF_TOKEN` and `HF_HUB_DISABLE_PROGRESS_BARS` are huggingface_hub's own and are obeyed.
"""

import json
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from mothlight.engine.errors import UserError
from mothlight.engine.models.bundle import Source
from mothlight.exporters.libraries import reason
from mothlight.exporters.options import Options

log = logging.getLogger("mothlight.export")
HUB_PATIENCE = 10.0
"""Seconds for the hub's first answer."""
HEADER_LIMIT = 100_000_000
"""Bytes of a safetensors header, by its own rules."""
COMMIT = re.compile(r"[0-9a-f]{40}")
BARE = re.compile(r"[a-z]\w*(\.[\w-]+)?")
"""A model of timm, and which of its weights."""
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".msgpack", ".h5")
WANTED = ("*.json", "*.txt", "*.model", "*.safetensors", "*.jinja")
"""What is fetched from a hub: configurations, tokenizers, weights without code in them."""
OTHER_RUNTIMES = ("openvino/*", "onnx/*", "flax/*", "*/openvino/*", "*/onnx/*", "*/flax/*")
"""The same model again, for others."""
WEIGHTS = re.compile(r"(?P<stem>(?:.*/)?[^/.]+?)(?:\.(?P<variant>\w+))?(?P<shard>-\d{5}-of-\d{5})?\.safetensors")
"""A file of weights: `unet/model.fp16-00001-of-00002.safetensors` is a shard of the variant fp16 of unet/model."""
VARIANTS = ("fp16", "bf16", "non_ema")
"""Which copy of the weights is taken where there is none without such a name."""
POINTER = b"version https://git-lfs"
"""How a file begins that Git LFS left in the place of another."""


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


def locate(given: str, *, revision: str | None = None, fetch: Fetch = "all", warn: bool = True) -> Located:
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
    _refuse_code(found)
    if found.warning and warn:
        log.warning(found.warning)
    return found


def _on_disk(given: str, path: Path) -> Located:
    if path.is_dir():
        files = tuple(
            (one.relative_to(path).as_posix(), one.stat().st_size) for one in sorted(path.rglob("*")) if one.is_file()
        )
        _refuse_pickles(given, [name for name, _ in files], [name for name, _ in files])
        return Located(given, path, path.resolve().name, files=one_copy(files))
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
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    asked = revision or "main"
    listed = _listed(given, asked)
    commit, files = listed or (asked, ())
    if fetch == "all" and files:
        size = sum(size for _, size in files)
        log.info("fetching %s at %s: %.2f GB, where not here yet", given, commit[:12], size / 1e9)
    # without the hub's list, what was fetched before is known by its small files
    wanted = [name for name, _ in files] if fetch == "all" and files else ["*.json"]
    absent = (
        f"{given} at {asked} is not in the cache ({constants.HF_HUB_CACHE}) and the hub can't be reached: fetch it on "
        f"a machine with a network, or name a folder."
    )
    try:
        folder = Path(snapshot_download(given, revision=commit, allow_patterns=wanted, local_files_only=listed is None))
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise UserError(absent) from error
    except Exception as error:  # see `_listed`
        raise UserError(f"Fetching {given} failed: {reason(error)}") from error
    here = _on_disk(given, folder)
    if listed is None and fetch == "all" and not any(name.endswith(".safetensors") for name, _ in here.files):
        raise UserError(absent)
    if not files or fetch == "all":
        files = here.files
    present = {name for name, _ in here.files}
    missing = sum(size for name, size in files if name not in present)
    located = Located(given, folder, given, folder.resolve().name, files, missing)
    if COMMIT.fullmatch(asked) is None and COMMIT.fullmatch(located.revision):
        warning = f"{given}: `{asked}` can move; pinned to --revision {located.revision}."
        located = replace(located, warning=warning)
    return located


def _listed(given: str, asked: str) -> tuple[str, tuple[tuple[str, int], ...]] | None:
    """The commit of a revision and the files that are wanted, as the hub says; None where it can't be asked.

    Raises:
        UserError: it does not give them, or gives pickles alone.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    if constants.HF_HUB_OFFLINE:
        return None
    try:
        info = HfApi().model_info(given, revision=asked, files_metadata=True, timeout=HUB_PATIENCE)
    except HfHubHTTPError as error:
        said = reason(error)
        raise UserError(f"The hub does not give {given} at {asked}: {said}") from error
    except Exception:  # noqa: BLE001  # the hub's client changes its HTTP library, and with it what says "no network"
        return None  # no way to the hub: what was fetched before will do
    siblings = info.siblings or []
    files = _wanted([(one.rfilename, one.size or 0) for one in siblings])
    _refuse_pickles(given, [one.rfilename for one in siblings], [name for name, _ in files])
    return str(info.sha), files


def _wanted(files: list[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    """What is fetched."""
    return one_copy(
        tuple(
            (name, size)
            for name, size in sorted(files)
            if any(fnmatch(name, pattern) for pattern in WANTED)
            and not any(fnmatch(name, pattern) for pattern in OTHER_RUNTIMES)
        )
    )


def one_copy(files: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int], ...]:
    """The files without second copies of the same weights: other precisions, whole beside shards.

    A pipeline's weights lie in folders, and a file beside its index is all of them again; so is another library's
    file beside open_clip's.
    """
    names = {name for name, _ in files}
    copies: dict[str, set[tuple[str, bool]]] = {}
    for name in names:
        if found := WEIGHTS.fullmatch(name):
            copies.setdefault(found["stem"], set()).add((found["variant"] or "", found["shard"] is not None))

    def chosen(name: str) -> bool:
        found = WEIGHTS.fullmatch(name)
        if found is None:
            return True
        if "model_index.json" in names and "/" not in name:
            return False
        if "open_clip_model.safetensors" in names and "/" not in name and found["stem"] != "open_clip_model":
            return False
        there = copies[found["stem"]]
        variants = {variant for variant, _ in there}
        best = next((one for one in ("", *VARIANTS) if one in variants), min(variants))
        whole = (best, False) in there
        return (found["variant"] or "", found["shard"] is None) == (best, whole)

    return tuple((name, size) for name, size in files if chosen(name))


def variant_of(files: Iterable[tuple[str, int]], folder: str = "") -> dict[str, str]:
    """What a library must be told to take the weights of a folder, where they have a variant's name only."""
    for name, _ in files:
        found = WEIGHTS.fullmatch(name)
        if found and found["variant"] and name.rpartition("/")[0] == folder:
            return {"variant": found["variant"]}
    return {}


def _refuse_pickles(given: str, present: list[str], wanted: list[str]) -> None:
    pickled = [name for name in present if name.endswith(PICKLED)]
    if pickled and not any(name.endswith(".safetensors") for name in wanted):
        raise UserError(
            f"{given} has its weights only as a pickle ({pickled[0]}), which can run code when it is opened: "
            f"choose a model with safetensors, or convert it."
        )


def _refuse_code(found: Located) -> None:
    """Refuse a model whose own Python files would have to be run.

    Raises:
        UserError: it is one.
    """
    if found.path is None or not found.path.is_dir():
        return
    for name in ("config.json", "model_index.json", "preprocessor_config.json", "tokenizer_config.json"):
        config = found.json(name)
        kinds = config.get("_class_name")
        if "auto_map" in config or isinstance(kinds, list) or "custom_pipeline" in config:
            raise UserError(
                f"{found.given} brings code of its own ({name}), and mothlight runs no remote code: choose a model "
                f"that the library itself implements."
            )


def require_whole(found: Located) -> None:
    """Refuse what a broken download leaves: pointers of Git LFS, and files that end too early.

    To be called before a library reads a model's files.

    Raises:
        UserError: there is one.
    """
    if found.path is None:
        return
    for name, size in found.files:
        path = found.path / name if found.path.is_dir() else found.path
        if not path.is_file():
            continue
        with path.open("rb") as file:
            head = file.read(len(POINTER))
        if head == POINTER:
            raise UserError(
                f"{found.given}: {name} is a pointer of Git LFS, not the file itself: run `git lfs pull` there, or "
                f"fetch it again."
            )
        wanted = safetensors_size(path) if name.endswith(".safetensors") else size
        if wanted != size or not size:
            raise UserError(
                f"{found.given}: {name} has {size} bytes where its own header says {wanted or 'nothing readable'}: the "
                f"download broke off, or it is another kind of file; fetch it again."
            )


def safetensors_header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file: what its tensors are; empty where there is none in order."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > min(HEADER_LIMIT, size - 8):
            return {}
        try:
            header = json.loads(file.read(length))
        except ValueError:
            return {}
    return header if isinstance(header, dict) else {}


def safetensors_size(path: Path) -> int:
    """How many bytes a safetensors file must have; 0 where its header can't be read."""
    header = safetensors_header(path)
    ends = [one["data_offsets"][1] for name, one in header.items() if name != "__metadata__"]
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    return 8 + length + max(ends, default=0) if header else 0


def hub_name(source: str) -> str:
    """A bare name of timm stands for its place on the hub, unless there is a file or folder of that name."""
    if not BARE.fullmatch(source) or Path(source).exists():
        return source
    return f"timm/{source}" if _timm_has(source.split(".", maxsplit=1)[0]) else source


def _timm_has(name: str) -> bool:
    """Whether timm has a model of a name, by its source: to import it takes ten seconds, for a typing error too."""
    spec = find_spec("timm")
    folders = spec.submodule_search_locations if spec is not None else None
    made = f"\ndef {name}("
    files = (file for folder in folders or () for file in Path(folder, "models").glob("*.py"))
    return any(made in file.read_text(encoding="utf-8") for file in files)


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
