"""`mothlight export` and `mothlight models`: a library's model → a verified bundle."""

import dataclasses
import logging
from datetime import UTC, datetime
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mothlight.engine.errors import UserError
from mothlight.engine.install import how_to_install

if TYPE_CHECKING:  # the command line must answer before torch is loaded
    from mothlight.engine.device import Device
    from mothlight.engine.models.bundle import Bundle, Check
    from mothlight.engine.models.engines import OpenInductor
    from mothlight.engine.models.runner import Engine, Runner
    from mothlight.exporters.options import Options, TextEncoder


class PrecisionName(StrEnum):
    """What typer offers as a choice."""

    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"


export_app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Turn a library's model into a verified bundle."
)
models_app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Look after bundles.")

Source = Annotated[str, typer.Argument(help="A hub id, a folder that the library saved, or a file.")]
Out = Annotated[Path, typer.Option(help="The bundle's folder.")]
OutOrDraft = Annotated[Path | None, typer.Option(help="The bundle's folder; an ONNX file without it is described.")]
WriteDraft = Annotated[
    bool, typer.Option("--write", help="Write the drafted description of an ONNX file beside it, as NAME.toml.")
]
Revision = Annotated[str | None, typer.Option(help="The commit of a hub id.")]
Replace = Annotated[bool, typer.Option("--replace", help="Take the place of a bundle that stands there.")]
PrecisionOf = Annotated[
    PrecisionName, typer.Option("--precision", help="Of the arithmetic inside; a CPU runs fp32, a GPU all three.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be fetched and made, and how large.")]
Architecture = Annotated[str | None, typer.Option(help="timm/NAME or torchvision/NAME, for a single safetensors file.")]
Labels = Annotated[
    Path | None, typer.Option(help="A file of labels (lines, JSON or CSV) in the place of the model's own.")
]


@export_app.command("generator")
def export_generator(  # noqa: PLR0913  # typer's shape: an option is an argument
    source: Source,
    out: Out,
    *,
    steps: Annotated[
        list[int] | None, typer.Option(min=1, help="A sampler of so many steps; the first is the default.")
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(help="euler, euler-ancestral, ddim, dpm++2m, lcm, scm or flow-euler, if not the model's own."),
    ] = None,
    order: Annotated[
        int | None, typer.Option(min=1, max=2, help="Order of the solver, if not the scheduler's own.")
    ] = None,
    guidance: Annotated[float | None, typer.Option(min=0, help="Guidance scale; without it, none.")] = None,
    negative_prompt: Annotated[str, typer.Option(help="What guidance steers away from.")] = "",
    decoder: Annotated[str | None, typer.Option(help="A tiny autoencoder in place of the model's own.")] = None,
    lora: Annotated[str | None, typer.Option(help="LoRA weights to fuse into the model.")] = None,
    lora_scale: Annotated[float, typer.Option(help="How strongly.")] = 1.0,
    size: Annotated[int | None, typer.Option(min=8, help="Side of an image in pixels, if not the model's own.")] = None,
    text_encoder: Annotated[str, typer.Option(help="graph, library, or auto: a graph unless it is large.")] = "auto",
    precision: PrecisionOf = PrecisionName.fp32,
    revision: Revision = None,
    dry_run: DryRun = False,
    replace: Replace = False,
) -> None:
    """A text-to-image pipeline of diffusers."""
    _need_libraries()
    from mothlight.exporters.options import Options

    if text_encoder not in ("auto", "graph", "library"):
        raise UserError(f"--text-encoder is graph, library or auto, not {text_encoder}.")
    where: TextEncoder = text_encoder  # type: ignore[assignment]  # checked on the lines above
    options = Options(
        precision=precision.value,
        revision=revision,
        steps=tuple(steps or ()),
        sampler=sampler,
        order=order,
        guidance=guidance,
        negative_prompt=negative_prompt,
        decoder=decoder,
        lora=lora,
        lora_scale=lora_scale,
        size=size,
        text_encoder=where,
    )
    _export("generator", source, out, options, dry_run=dry_run, replace=replace)


@export_app.command("classifier")
def export_classifier(  # noqa: PLR0913  # as above
    source: Source,
    out: OutOrDraft = None,
    *,
    architecture: Architecture = None,
    labels: Labels = None,
    precision: PrecisionOf = PrecisionName.fp32,
    revision: Revision = None,
    write: WriteDraft = False,
    dry_run: DryRun = False,
    replace: Replace = False,
) -> None:
    """A classifier of timm, torchvision or transformers, or a TOML that describes an ONNX file."""
    if _drafted(source, out, write=write, dry_run=dry_run):
        return
    _need_for(source)
    from mothlight.exporters.options import Options

    options = Options(
        precision=precision.value,
        revision=revision,
        architecture=architecture,
        labels=None if labels is None else str(labels),
    )
    _export("classifier", source, _required(out), options, dry_run=dry_run, replace=replace)


@export_app.command("gate")
def export_gate(  # noqa: PLR0913  # as above
    source: Source,
    out: OutOrDraft = None,
    *,
    lower: Annotated[float | None, typer.Option(min=0, max=1, help="Below this score the generator missed.")] = None,
    upper: Annotated[float | None, typer.Option(min=0, max=1, help="From this score on the image passes.")] = None,
    architecture: Architecture = None,
    labels: Labels = None,
    precision: PrecisionOf = PrecisionName.fp32,
    revision: Revision = None,
    write: WriteDraft = False,
    dry_run: DryRun = False,
    replace: Replace = False,
) -> None:
    """What says whether an image shows its label: a classifier, or a model that reads text (SigLIP, open_clip)."""
    if _drafted(source, out, write=write, dry_run=dry_run):
        return
    _need_for(source)
    from mothlight.exporters.options import Options

    options = Options(
        precision=precision.value,
        revision=revision,
        architecture=architecture,
        labels=None if labels is None else str(labels),
        gate=True,
        lower=lower,
        upper=upper,
    )
    _export("gate", source, _required(out), options, dry_run=dry_run, replace=replace)


@export_app.command("embedder")
def export_embedder(
    source: Source,
    out: Out,
    *,
    precision: PrecisionOf = PrecisionName.fp32,
    revision: Revision = None,
    dry_run: DryRun = False,
    replace: Replace = False,
) -> None:
    """What places images in a space: a model of open_clip, SigLIP, CLIP or DINO of transformers, any of timm."""
    _need_libraries()
    from mothlight.exporters.options import Options

    _export(
        "embedder", source, out, Options(precision=precision.value, revision=revision), dry_run=dry_run, replace=replace
    )


@export_app.command("captioner")
def export_captioner(
    source: Source,
    out: Out,
    *,
    question: Annotated[str | None, typer.Option(help="What a vision-language model is asked.")] = None,
    precision: PrecisionOf = PrecisionName.fp32,
    revision: Revision = None,
    dry_run: DryRun = False,
    replace: Replace = False,
) -> None:
    """BLIP, GIT or Florence-2 as graphs, or a vision-language model that transformers itself runs."""
    _need_libraries()
    from mothlight.exporters.options import Options

    options = Options(precision=precision.value, revision=revision, question=question)
    _export("captioner", source, out, options, dry_run=dry_run, replace=replace)


@export_app.command("all")
def export_all(
    settings: Annotated[Path, typer.Argument(help="An audit's settings, with a [[bundle]] table for each bundle.")],
    *,
    precision: Annotated[
        PrecisionName | None, typer.Option(help="For all bundles but those of ONNX files, over what their tables say.")
    ] = None,
    dry_run: DryRun = False,
    replace: Replace = False,
) -> None:
    """Make every bundle that an audit's settings describe and that is not there yet."""
    from mothlight.engine.config import load_config

    config = load_config(settings)
    if not config.bundle:
        raise UserError(f"{settings} has no [[bundle]] table that says how a bundle is made.")
    _need_libraries(onnx_alone=all(_is_onnx(one.source) for one in config.bundle))
    from mothlight.exporters.export import options_from

    todo = [(one, options_from(one.options, f"{settings}: the bundle {one.path}")) for one in config.bundle]
    if precision is not None:
        todo = [
            (one, options if _is_onnx(one.source) else dataclasses.replace(options, precision=precision.value))
            for one, options in todo
        ]
    for one, options in todo:
        out = settings.parent / one.path
        if out.exists() and not (replace or dry_run):
            typer.echo(f"{out}: is there already", err=True)
            continue
        beside = settings.parent / one.source
        source = str(beside) if beside.exists() else one.source
        _export(one.role, source, out, options, dry_run=dry_run, replace=replace)


@models_app.command("verify")
def verify(
    bundle: Annotated[Path, typer.Argument(help="The bundle's folder.")],
    *,
    source: Annotated[str | None, typer.Option(help="Where the model lies, if not where the manifest says.")] = None,
) -> None:
    """Check a bundle's files, and compare every output with the library again, on fresh random inputs."""
    from mothlight.engine.models.bundle import load_bundle

    _need_libraries(onnx_alone=load_bundle(bundle).manifest.source.library == "onnx")
    from mothlight.exporters.export import verify

    made, checks = verify(bundle, source)
    _say(made, checks)


@models_app.command("cache")
def cache(
    *,
    clear: Annotated[bool, typer.Option("--clear", help="Remove them all; they are built again when needed.")] = False,
) -> None:
    """List the engines that were compiled for this machine's GPU, or remove them."""
    from mothlight.engine.models.cache import EngineCache

    kept = EngineCache()
    if clear:
        count, size = kept.clear()
        typer.echo(f"{count} compiled engines removed from {kept.folder} ({size / 1e6:.1f} MB)")
        return
    entries = kept.entries()
    for entry in entries:
        made = datetime.fromtimestamp(entry.made, UTC).strftime("%Y-%m-%d %H:%M")
        typer.echo(
            f"{entry.key[:12]}  {made}  {entry.size / 1e6:8.1f} MB  {entry.seconds:6.1f} s  "
            f"{entry.bundle}/{entry.graph}  {entry.builder}  {entry.device}"
        )
    total = sum(entry.size for entry in entries)
    typer.echo(f"{len(entries)} compiled engines in {kept.folder} ({total / 1e6:.1f} MB)")


def load_backend(bundle: "Bundle") -> "Runner":
    """The part of a bundle that a model library runs, where the libraries are installed."""
    from mothlight.engine.models.runner import no_backend

    if find_spec("torch") is None:
        return no_backend(bundle)
    from mothlight.exporters.libraries import quiet

    quiet()
    from mothlight.exporters import backends

    return backends.load_backend(bundle)


def inductor() -> "OpenInductor | None":
    """What compiles graphs with torch, where that is installed; torch is imported when a graph is opened."""
    if find_spec("torch") is None:
        return None

    def open_inductor(bundle: "Bundle", graph: str, device: "Device") -> "Engine":
        from mothlight.exporters.libraries import quiet

        quiet()
        from mothlight.exporters import inductor as with_torch

        return with_torch.open_inductor(bundle, graph, device)

    return open_inductor


def _drafted(source: str, out: Path | None, *, write: bool, dry_run: bool) -> bool:
    """Whether the source was an ONNX file without a description, of which one is now printed or written."""
    path = Path(source)
    if path.suffix != ".onnx":
        if write:
            raise UserError("--write drafts the description of an ONNX file; name a file that ends in .onnx.")
        return False
    _need_for(source)
    from mothlight.exporters.onnx_files.draft import draft

    text = draft(path)
    beside = path.with_suffix(".toml")
    if write and not dry_run:
        try:
            with beside.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            raise UserError(f"{beside} exists already, and a draft does not take its place: remove it first.") from None
        except OSError as error:
            raise UserError(f"{beside} can't be written: {error.strerror}.") from error
        typer.echo(f"{beside} written: look at the lines marked `# ?`, then export {beside} --out FOLDER", err=True)
        return True
    typer.echo(text, nl=False)
    if out is not None:
        raise UserError(
            f"{source} does not say what its input looks like: above stands what it suggests. --write puts that into "
            f"{beside}; look at the lines marked `# ?` and export {beside}."
        )
    return True


def _is_onnx(source: str) -> bool:
    """Whether torch has no part in it; `export.is_onnx`, which can't be asked before onnx is there."""
    return Path(source).suffix in (".onnx", ".toml")


def _required(out: Path | None) -> Path:
    if out is None:
        raise UserError("Missing option --out: the folder that the bundle is written to.")
    return out


def _need_for(source: str) -> None:
    """What the export of a source needs.

    Raises:
        UserError: a library is missing; or the source is an ONNX file, or its description, that is not there.
    """
    if _is_onnx(source) and not Path(source).is_file():
        raise UserError(f"There is no file {source}.")
    _need_libraries(onnx_alone=_is_onnx(source))


def _need_libraries(*, onnx_alone: bool = False) -> None:
    """The model libraries, or onnx alone; and progress is told from here on.

    Raises:
        UserError: one is missing.
    """
    if find_spec("onnx") is None and onnx_alone:
        raise UserError(f"Exporting an ONNX file needs onnx: {how_to_install('onnx')}.")
    if find_spec("torch") is None and not onnx_alone:
        raise UserError(f"Exporting needs the model libraries: {how_to_install('models')}.")
    console = logging.StreamHandler()
    console.setFormatter(_Elapsed())
    log = logging.getLogger("mothlight.export")
    log.setLevel(logging.INFO)
    log.handlers, log.propagate = [console], False


class _Elapsed(logging.Formatter):
    """A line of progress, with the seconds since the command began."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        return f"{record.relativeCreated / 1000:7.1f} s  {record.getMessage()}"


def _export(role: str, source: str, out: Path, options: "Options", *, dry_run: bool, replace: bool) -> None:
    from mothlight.exporters.export import export, plan

    if dry_run:
        for line in plan(role, source, out, options):
            typer.echo(line)
        return
    made = export(role, source, out, options, overwrite=replace)
    _say(made, made.manifest.checks)


def _say(bundle: "Bundle", checks: "tuple[Check, ...] | list[Check]") -> None:
    """What there is, how large it is, and how far the worst output is from the library's."""
    manifest = bundle.manifest
    typer.echo(f"{bundle.folder}: {manifest.role}, {bundle.size / 1e6:.1f} MB, key {manifest.content_key[:16]}")
    if manifest.source.revision:
        typer.echo(f"  from {manifest.source.origin} at {manifest.source.revision}")
    if manifest.backend is not None:
        typer.echo(f"  {manifest.backend.part}: stays with {manifest.backend.library}, from the bundle's own files")
    for unit in dict.fromkeys(check.unit for check in checks):
        same = [check for check in checks if check.unit == unit]
        pick = min if unit == "PSNR dB" else max
        worst = pick(same, key=lambda check: check.difference)
        typer.echo(
            f"  {len(same)} comparisons in {unit}: the worst is {worst.difference:.3g} "
            f"({worst.graph}, {worst.output}, batch {worst.batch}; bound {worst.tolerance:g})"
        )
