"""One door for all roles: export a model, say what that would take, compare a bundle with its source again."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

from mothlight.engine.errors import BundleError, UserError
from mothlight.engine.models.bundle import Bundle, Check, load_bundle
from mothlight.exporters.families import Family, family_of, kind_of
from mothlight.exporters.libraries import library_errors, quiet
from mothlight.exporters.options import INSTEAD, Options, options_of, thresholds_of
from mothlight.exporters.publish import Prepared, export_bundle, raise_exists, readable, verify_bundle
from mothlight.exporters.source import Located, hub_name, locate, safetensors_header

MEMORY = 11
"""Bytes of memory per parameter while a model is exported: torch and ONNX Runtime hold it in float32, the file in
float16 (bench/LOG.md has it measured)."""


def is_onnx(source: str) -> bool:
    """Whether a source is an ONNX file or its description: torch has no part in it then."""
    return Path(source).suffix in (".onnx", ".toml")


def prepare(role: str, source: str, name: str, options: Options) -> Prepared:
    """Load a model for a role; a gate is a classifier, or an embedder that reads text.

    Raises:
        UserError, BundleError: see the role's own function.
    """
    if role == "gate":
        options = replace(options, gate=True)
    if is_onnx(source):
        return _prepare_onnx(role, source, name, options)
    if not Path(source).exists():  # what is nowhere is said before the libraries are imported, which takes seconds
        locate(hub_name(source), revision=options.revision, fetch="configuration", warn=False)
    kind = role if role != "gate" else _judge(source, options)
    quiet()
    load = getattr(import_module(f"mothlight.exporters.{kind}"), f"prepare_{kind}")
    with library_errors(f"{source} can't be exported as a {role}"):
        made: Prepared = load(source, name, options)
    return replace(made, manifest=made.manifest.model_copy(update={"precision": options.precision}))


def _prepare_onnx(role: str, source: str, name: str, options: Options) -> Prepared:
    from mothlight.exporters.classifiers.onnx_file import prepare_onnx_file

    if role not in ("classifier", "gate"):
        raise UserError(f"{source}: an ONNX file is exported as a classifier or a gate, not as a {role}.")
    if Path(source).suffix == ".onnx":
        raise UserError(
            f"{source} does not say what its input looks like: describe it in a TOML, which `mothlight export {role} "
            f"{source} --write` drafts, and export that."
        )
    if options.precision != "fp32":
        raise UserError(f"{source}: an ONNX file keeps its own precision; leave --precision out.")
    with library_errors(f"{source} can't be exported as a {role}"):
        return prepare_onnx_file(Path(source), name, thresholds_of(options, 0.1, 0.4))


def _judge(source: str, options: Options) -> str:
    """Which kind of model a gate's source is."""
    if options.architecture is not None:
        return "classifier"
    return _judge_of(locate(hub_name(source), revision=options.revision), options)


def export(role: str, source: str, out: Path, options: Options, *, overwrite: bool = False) -> Bundle:
    """Make a bundle of a model.

    Raises:
        UserError: the model can't be loaded, or `out` exists.
        BundleError: an output differs from the library, or is not finite.
    """
    if out.exists() and not overwrite:
        raise_exists(out)
    try:
        return export_bundle(out, prepare(role, source, out.name, options), replace=overwrite)
    except BundleError as error:
        raise BundleError(f"{source} as a {role}: {error} Nothing was written.") from error


def options_from(told: Mapping[str, Any], where: str) -> Options:
    """The options that settings hold by name.

    Raises:
        UserError: there is none of that name, or the value is of another kind.
    """
    known = {field.name: field for field in fields(Options)}
    for name, value in told.items():
        if name not in known:
            raise UserError(f"{where} has no option `{name}`; there are {', '.join(known)}.")
        kinds = {"steps": list, "order": int, "size": int, "gate": bool}
        numbers = ("guidance", "lora_scale", "lower", "upper")
        kind: Any = (int, float) if name in numbers else kinds.get(name, str)
        if not isinstance(value, kind):
            raise UserError(f"{where}: `{name}` can't be {value!r}.")
    if (precision := told.get("precision", "fp32")) not in INSTEAD:
        raise UserError(f"{where}: `precision` is {', '.join(INSTEAD)}, not {precision!r}.")
    return Options(**{**told, **({"steps": tuple(told["steps"])} if "steps" in told else {})})


def verify(folder: Path, source: str | None) -> tuple[Bundle, list[Check]]:
    """Load a bundle, and compare it with its library again.

    `source` is where the model lies, if it is not where the manifest says.

    Raises:
        UserError: the manifest's source can't be found.
        BundleError: a file was changed, or an output differs.
    """
    bundle = load_bundle(folder)
    manifest = bundle.manifest
    given = source or manifest.source.origin
    options = options_of(manifest.source.options)
    if source is None and manifest.source.revision:
        options = replace(options, revision=manifest.source.revision)
    elif source is not None:
        options = replace(options, revision=None)
    if source is None and not manifest.source.revision and (not given or not Path(given).exists()):
        raise UserError(f"{folder} was made from the local {given or 'model'}; say where it lies with --source.")
    return bundle, verify_bundle(bundle, prepare(manifest.role, given, manifest.name, options))


def plan(role: str, source: str, out: Path, options: Options) -> Iterator[str]:
    """What an export would fetch, read and write, line by line; nothing but small JSON files is fetched.

    Raises:
        UserError: there is no such model, or no family covers it.
    """
    if is_onnx(source):
        from mothlight.exporters.onnx_files.draft import plan_onnx

        yield from plan_onnx(Path(source))
        yield f"graphs: preprocess, model, postprocess → {out}" + (" (exists; --replace)" if out.exists() else "")
        return
    found = locate(hub_name(source), revision=options.revision, fetch="configuration")
    where = f"hub, at {found.revision[:12]}" if found.revision else "this disk"
    fetch = f"{readable(found.missing)} to fetch"
    yield f"{found.origin} ({where}): {len(found.files)} files, {readable(found.bytes)}; {fetch}"
    kind = role if role != "gate" else _judge_of(found, options)
    family = _family(kind, found, options)
    yield f"family: {family.name} ({family.library})"
    for extra in (options.decoder, options.lora):
        if extra is not None:
            more = locate(extra, fetch="configuration")
            yield f"with {more.origin}: {readable(more.bytes)}; {readable(more.missing)} to fetch"
    count = parameters(found)
    graphs = [name for name in family.graphs if not (name == "encode_text" and options.text_encoder == "library")]
    parts = f"graphs: {', '.join(graphs)}" if graphs else f"no graphs: {family.library} runs it"
    yield f"{parts} → {out}" + (" (exists; --replace)" if out.exists() else "")
    if count:
        yield (
            f"{count / 1e6:,.0f} million parameters: a bundle of about {readable(2 * count)}, "
            f"and about {readable(MEMORY * count)} of memory while it is made"
        )


def _judge_of(found: Located, options: Options) -> str:
    if options.architecture is not None:
        return "classifier"
    library, kind = kind_of(found)
    try:
        family_of("classifier", library, kind, found.given)
    except UserError:
        return "embedder"
    return "classifier"


def _family(role: str, found: Located, options: Options) -> Family:
    if options.architecture is not None:
        library, _, kind = options.architecture.partition("/")
        return family_of(role, library, kind, found.given)
    return family_of(role, *kind_of(found), found.given)


def parameters(found: Located) -> int:
    """How many numbers the safetensors files hold: by their headers on this disk, else by their sizes in float16."""
    total = 0
    for name, size in found.files:
        if name.endswith(".safetensors"):
            path = None if found.path is None else found.path / name if found.path.is_dir() else found.path
            total += _count(path) if path is not None and path.is_file() else size // 2
    return total


def _count(path: Path) -> int:
    header = safetensors_header(path)
    return sum(prod(one["shape"]) for name, one in header.items() if name != "__metadata__")
