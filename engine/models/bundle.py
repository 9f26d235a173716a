"""A bundle: a folder of ONNX graphs, a tokenizer and `manifest.json`, verified when it is loaded.

Nothing is unpickled and nothing outside the folder is read. Every file is regular, has one link, and has the size and
SHA-256 that the manifest states; the content key covers the manifest itself. Exporters write through this module too.
"""

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mothlight.engine.errors import BundleError
from mothlight.engine.models.external_data import external_locations
from mothlight.engine.models.resize import Resize, Side
from mothlight.engine.models.sampler import SamplerTable

MANIFEST = "manifest.json"
MANIFEST_LIMIT = 16 << 20
"""Bytes; a larger manifest is not read."""

Role = Literal["generator", "classifier", "embedder", "captioner", "gate"]
Dtype = Literal["uint8", "int8", "uint16", "int16", "int32", "int64", "float16", "float32", "float64", "bool"]
Precision = Literal["fp32", "fp16", "bf16"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class FileEntry(_Frozen):
    """What a file must be."""

    sha256: Sha256
    size: int = Field(ge=0)


class TensorSpec(_Frozen):
    """One input or output; a string in `shape` is a symbolic dimension such as `batch`."""

    name: str
    dtype: Dtype
    shape: tuple[int | str, ...]


class GraphSpec(_Frozen):
    """One ONNX graph and the tensors that it takes and gives, in order."""

    file: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    precision: Precision = "fp32"
    """Of its arithmetic: the bundle's, or a higher one where that would not do."""


class Thresholds(_Frozen):
    """A gate's two bounds on the score of the label that was asked for."""

    lower: float
    """Below it the image does not show the label: a miss of the generator."""
    upper: float
    """From it on the image passes; between the two it is ambiguous."""


class ZeroShot(_Frozen):
    """An embedder as a gate: the score of a label comes from the cosine between an image and sentences on labels."""

    prompt: str = "a photo of {a} {label}."
    """The sentence on a label."""
    scale: float
    """What the cosine is multiplied by."""
    bias: float = 0.0
    activation: Literal["sigmoid", "softmax"]
    """`sigmoid` judges each label by itself, `softmax` against the audit's other labels."""


class Check(_Frozen):
    """One comparison of the library and the graph, made when the bundle was exported."""

    graph: str
    output: str
    batch: int
    difference: float
    tolerance: float
    unit: Literal["absolute", "relative", "grey levels", "PSNR dB"]


class Source(_Frozen):
    """Where the model came from: library, its version, and the model's own name there."""

    library: str
    version: str
    model: str
    origin: str = ""
    """The hub id, or the name of the folder or file."""
    revision: str = ""
    """The commit of a hub id."""
    options: dict[str, str] = Field(default_factory=dict)
    """What the exporter was told, as JSON by name, where it was told anything."""


class TokenizerSpec(_Frozen):
    """A tokenizer file, and which inputs of the text graph it feeds; the file itself says how it pads and truncates."""

    file: str = "tokenizer.json"
    ids: str = "ids"
    """The input that takes the token ids."""
    mask: str | None = None
    """The input that takes 1 for a token and 0 for padding, where there is one."""
    template: str = "{text}"
    """What stands around a text before it is split into tokens."""
    lowercase: bool = False
    """Whether the text is stripped and put in lower case first."""
    expansions: tuple[tuple[str, str], ...] = ()
    """Words that stand for several tokens, as a textual inversion of several vectors does, and those tokens."""

    def text_of(self, text: str) -> str:
        """What is split into tokens for a text."""
        for word, tokens in self.expansions:
            text = text.replace(word, tokens)
        return self.template.replace("{text}", text.strip().lower() if self.lowercase else text)


class Backend(_Frozen):
    """A part that is no graph: a model library runs it, from files inside the bundle, and needs no network."""

    library: str
    part: Literal["encode_text", "caption"]
    folder: str
    """Where in the bundle the library's own files lie."""
    options: dict[str, str] = Field(default_factory=dict)
    """What the library is told, such as a captioner's question."""


class Manifest(_Frozen):
    """Everything that the runtime knows about a model; `content_key` covers all other fields."""

    format: Literal[1] = 1
    role: Role
    name: str = Field(min_length=1)
    files: dict[str, FileEntry] = Field(default_factory=dict)
    graphs: dict[str, GraphSpec] = Field(default_factory=dict)
    source: Source
    opset: int = 0
    labels: tuple[str, ...] = ()
    samplers: tuple[SamplerTable, ...] = ()
    """A generator's, one per number of steps; the first is the default."""
    latent: tuple[int, ...] = ()
    """Shape of a generator's latent, without the batch."""
    guidance: float | None = None
    """A generator's guidance scale; None where its graph takes none."""
    negative_prompt: str | None = None
    """What a guided generator is steered away from; None stands for an embedding of zeros."""
    image_size: Side | None = None
    resize: Resize | None = None
    tokenizers: tuple[TokenizerSpec, ...] = ()
    backend: Backend | None = None
    start_ids: tuple[int, ...] = ()
    end_id: int | None = None
    max_tokens: int | None = None
    embedding_dim: int | None = None
    thresholds: Thresholds | None = None
    chain: tuple[str, ...] = ()
    """Graphs that run one after the other in the place of one; empty where there is one for each purpose."""
    precision: Precision = "fp32"
    """That of the arithmetic inside the graphs; what they take and give, and what would suffer, is float32."""
    alone: bool = False
    """Whether each image goes through a chain's `model` by itself, since what it gives depends on its batch."""
    zero_shot: ZeroShot | None = None
    """How an embedder serves as a gate."""
    checks: tuple[Check, ...] = ()
    content_key: str = ""

    def key(self) -> str:
        """The SHA-256 of this manifest's canonical JSON without the key itself, and without what is at its default.

        So a field that a later version adds leaves the keys of existing bundles as they are.
        """
        return hashlib.sha256(_canonical(self.model_dump(exclude={"content_key"}, exclude_defaults=True))).hexdigest()

    def sealed(self) -> "Manifest":
        """This manifest with its content key filled in."""
        return self.model_copy(update={"content_key": self.key()})

    def to_json(self) -> bytes:
        """The canonical bytes that stand in `manifest.json`."""
        return _canonical({"format": self.format, **self.model_dump(exclude_defaults=True)}) + b"\n"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A folder whose every byte matched its manifest when it was loaded."""

    folder: Path
    manifest: Manifest

    def graph_path(self, graph: str) -> Path:
        """The ONNX file of a graph.

        Raises:
            BundleError: the bundle has no such graph.
        """
        if graph not in self.manifest.graphs:
            known = ", ".join(sorted(self.manifest.graphs))
            raise BundleError(f"The bundle {self.folder} has no graph `{graph}`, only {known}.")
        return self.folder / self.manifest.graphs[graph].file

    @property
    def size(self) -> int:
        """Bytes of all its files, the manifest aside."""
        return sum(entry.size for entry in self.manifest.files.values())


def load_bundle(path: str | os.PathLike[str], role: Role | None = None) -> Bundle:
    """Verify a bundle folder and return it.

    Raises:
        BundleError: a file, hash, link, graph or role is not what the manifest says; one sentence.
    """
    folder = Path(path)
    if folder.is_symlink() or not folder.is_dir():
        raise BundleError(f"The bundle {folder} is not a folder.")
    manifest = _read_manifest(folder)
    for name, entry in manifest.files.items():
        _verify_file(folder, name, entry)
    for graph, spec in manifest.graphs.items():
        if spec.file not in manifest.files:
            raise BundleError(
                f"The bundle {folder}: graph {graph} names {spec.file}, which the manifest does not list."
            )
        _verify_external_data(folder, spec.file, manifest)
    for tokenizer in manifest.tokenizers:
        if tokenizer.file not in manifest.files:
            raise BundleError(f"The bundle {folder}: the manifest does not list its tokenizer {tokenizer.file}.")
    if role is not None and manifest.role != role:
        raise BundleError(f"The bundle {folder} is a {manifest.role}, but a {role} is wanted.")
    return Bundle(folder, manifest)


def _canonical(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def _read_manifest(folder: Path) -> Manifest:
    where = folder / MANIFEST
    size = _regular(folder, MANIFEST).st_size
    if size > MANIFEST_LIMIT:
        raise BundleError(f"{where} has {size} bytes; a manifest has at most {MANIFEST_LIMIT}.")
    try:
        manifest = Manifest.model_validate_json(where.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BundleError(f"{where} is no manifest: {place}: {first['msg']}.") from None
    if manifest.key() != manifest.content_key:
        raise BundleError(f"{where} was changed: its content key is {manifest.key()[:16]}…, not what it says.")
    return manifest


def _regular(folder: Path, name: str) -> os.stat_result:
    """The status of a file inside the bundle; refuses everything that could lead outside."""
    pure = PurePosixPath(name)
    if (
        not pure.parts
        or pure.is_absolute()
        or str(pure) != name
        or {"..", "."} & set(pure.parts)
        or set(name) & {"\\", "\0"}
    ):
        raise BundleError(f"The bundle {folder} names a file outside itself: {name!r}.")
    try:
        for depth in range(1, len(pure.parts)):
            if (folder / Path(*pure.parts[:depth])).is_symlink():
                raise BundleError(f"The bundle {folder}: {name} lies behind a symbolic link.")
        status = os.lstat(folder / name)
    except OSError as error:
        raise BundleError(f"The bundle {folder}: {name} can't be read ({error.strerror}).") from None
    if not stat.S_ISREG(status.st_mode):
        raise BundleError(f"The bundle {folder}: {name} is not a regular file.")
    if status.st_nlink != 1:
        raise BundleError(f"The bundle {folder}: {name} has {status.st_nlink} hard links; a bundle's file has one.")
    return status


def _verify_file(folder: Path, name: str, entry: FileEntry) -> None:
    size = _regular(folder, name).st_size
    with (folder / name).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if size != entry.size or digest != entry.sha256:
        raise BundleError(
            f"The bundle {folder}: {name} was changed: its SHA-256 is {digest[:16]}… over {size} bytes, "
            f"the manifest says {entry.sha256[:16]}… over {entry.size}; export or install it again."
        )


def _verify_external_data(folder: Path, name: str, manifest: Manifest) -> None:
    """Refuse a graph whose weights lie in a file that the manifest does not list."""
    parent = PurePosixPath(name).parent
    try:
        locations = set(external_locations(memoryview((folder / name).read_bytes())))
    except (ValueError, IndexError, RecursionError):
        raise BundleError(f"The bundle {folder}: {name} is no ONNX graph.") from None
    for location in sorted(locations):
        if location.startswith("/") or str(parent / location) not in manifest.files:
            raise BundleError(
                f"The bundle {folder}: {name} reads external data from {location!r}, which the manifest does not list."
            )
