"""Opens what an audit stands on: bundles, checked against the labels; the database, against the settings."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from pydantic import ValidationError

from mothlight.engine.config import RENDERER, AuditConfig, ServedModel, bundle_path, stored_config
from mothlight.engine.errors import UserError
from mothlight.engine.models.bundle import Bundle, Role, Source, Thresholds, load_bundle
from mothlight.engine.models.engines import OpenInductor
from mothlight.engine.models.runner import LoadBackend, no_backend
from mothlight.engine.photographs.taking import own_labels
from mothlight.engine.records import article, identify
from mothlight.sql import Store, open_audit

RULES = 1
"""Which rules decide what is asked and what is confirmed; goes up when they would decide stored images otherwise."""


@dataclass(frozen=True, slots=True)
class Models:
    """The verified bundles of an audit; None where the renderer draws, or where a model is served."""

    generator: Bundle | None
    classifiers: tuple[Bundle, ...]
    gate: Bundle
    embedder: Bundle
    captioner: Bundle | None
    load_backend: LoadBackend = no_backend
    """For the parts of bundles that a model library runs."""
    open_inductor: OpenInductor | None = None
    """For graphs that torch compiles; None where the model libraries are not installed."""

    @property
    def all(self) -> tuple[Bundle, ...]:
        """Every bundle."""
        bundles = (self.generator, *self.classifiers, self.gate, self.embedder, self.captioner)
        return tuple(bundle for bundle in bundles if bundle is not None)


def load_models(
    config: AuditConfig,
    folder: Path,
    load_backend: LoadBackend = no_backend,
    open_inductor: OpenInductor | None = None,
) -> Models:
    """Load and verify every bundle; paths are relative to `folder`.

    Raises:
        UserError: a bundle is missing, or lacks a label that is under audit.
        BundleError: a bundle is damaged or of the wrong role.
    """

    def load_own(setting: str, name: str | ServedModel | None, role: Role) -> Bundle | None:
        return load(setting, name, role) if isinstance(name, str) and name != RENDERER else None

    def load(setting: str, name: str, role: Role) -> Bundle:
        path = bundle_path(name, folder)
        if not path.is_dir():
            known = name in {bundle.path for bundle in config.bundle}
            how = "mothlight export all` on these settings" if known else f"mothlight export {role}`"
            raise UserError(f"There is no bundle at {path} (`{setting}`); make it with `{how}.")
        bundle = load_bundle(path)
        if bundle.manifest.role != role:
            own = bundle.manifest.role
            raise UserError(f"The bundle {path} is {article(own)} {own}, and `{setting}` wants {article(role)} {role}.")
        return bundle

    models = Models(
        load_own("generator", config.generator, "generator"),
        tuple(load("classifiers", name, "classifier") for name in config.classifiers),
        load("gate", config.gate, "gate"),
        load("embedder", config.embedder, "embedder"),
        load_own("captioner", config.captioner, "captioner"),
        load_backend,
        open_inductor,
    )
    check_labels(config, models)
    gate_bounds(config, models.gate)
    names = [bundle.manifest.name for bundle in models.classifiers]
    if len(set(names)) < len(names):
        raise UserError(f"Two classifiers have the same name: {', '.join(sorted(names))}; export one under another.")
    return models


def with_own_labels(config: AuditConfig, models: Models, folder: Path) -> AuditConfig:
    """The settings with the photographs' labels, where they name none; paths are relative to `folder`.

    Raises:
        UserError: no label is one that the models know.
    """
    if config.images is None or config.labels:
        return config
    known = [bundle.manifest.labels for bundle in models.classifiers]
    if models.gate.manifest.zero_shot is None:
        known.append(models.gate.manifest.labels)
    labels = own_labels(config, folder / config.images.folder, known)
    return config.model_copy(update={"labels": labels})


def check_labels(config: AuditConfig, models: Models) -> None:
    """Every label must be known to all who judge, and to the renderer if it draws; every accepted one to a classifier.

    Raises:
        UserError: one is not; the message says what may have been meant.
    """
    for bundle in (*models.classifiers, *(() if models.gate.manifest.zero_shot is not None else (models.gate,))):
        for label in config.labels:
            if label.name not in bundle.manifest.labels:
                raise UserError(
                    f"The {bundle.manifest.role} {bundle.manifest.name} has no label `{label.name}`: "
                    f"{_near(label.name, bundle.manifest.labels)}"
                )
    if config.generator == RENDERER:
        from mothlight.engine.world.scene import LABELS  # only who asks for the renderer loads the world

        for label in config.labels:
            if label.name not in LABELS:
                raise UserError(f"The renderer can't draw `{label.name}`: {_near(label.name, sorted(LABELS))}")
    known = sorted({label for bundle in models.classifiers for label in bundle.manifest.labels})
    for label in config.labels:
        for name in label.accepted:
            if name not in known:
                said = f"`accepted` of the label {label.name} names `{name}`, which no classifier has"
                raise UserError(f"{said}: {_near(name, known)}")


def _near(name: str, known: Sequence[str]) -> str:
    """The label that was meant, or some of those there are, as the end of a sentence."""
    simple = {one.strip().casefold(): one for one in known}
    nearest = get_close_matches(name.strip().casefold(), simple, n=1, cutoff=0.6)
    if nearest:
        return f"did you mean `{simple[nearest[0]]}`?"
    return f"there are {', '.join(known[:12])}{', …' if len(known) > 12 else ''}."


def gate_bounds(config: AuditConfig, gate: Bundle) -> Thresholds:
    """Those of the settings, or else of the gate's bundle.

    Raises:
        UserError: neither has any.
    """
    if config.gate_bounds is not None:
        return Thresholds(lower=config.gate_bounds.lower, upper=config.gate_bounds.upper)
    if gate.manifest.thresholds is None:
        raise UserError(f"The gate {gate.folder} has no thresholds; export it again as a gate.")
    return gate.manifest.thresholds


def audit_id(config: AuditConfig, models: Models) -> str:
    """Hash of the settings, budget and threads aside, and of every model's content."""
    return identify("audit", config.canonical(), *(bundle.manifest.content_key for bundle in models.all))


def open_database(path: Path, config: AuditConfig, models: Models, folder: Path) -> Store:
    """Open or make the audit's database, and check that it belongs to these settings and models.

    Raises:
        UserError: it holds another audit.
        LockedError: another process is writing it.
        CorruptError: it is damaged.
    """
    store = open_audit(path, read_only=False)
    try:
        known = store.rows("select settings, rules from audit")
        if known:
            _check_same(store, path, known[0], config, models)
        else:
            check_batch(config)
            _introduce(store, config, models, folder)
    except BaseException:
        store.close()
        raise
    return store


def check_batch(config: AuditConfig) -> None:
    """A batch holds images of one prompt and chunk; what it lacks would be made and thrown away.

    Raises:
        UserError: chunks or waves are no whole batches.
    """
    for name, images in (("chunk_images", config.chunk_images), ("wave_images", config.wave_images)):
        if images % config.batch:
            whole = -(-images // config.batch) * config.batch
            raise UserError(
                f"`{name}` is {images}, which is no multiple of `batch` ({config.batch}): it would pay for images that "
                f"nobody keeps; set `{name} = {whole}`, or a batch that divides it."
            )


def _check_same(store: Store, path: Path, known: tuple[str, int], config: AuditConfig, models: Models) -> None:
    """Settings are compared as this version reads them: one that came later is at its default on both sides."""
    text, rules = known
    if rules != RULES:
        raise UserError(
            f"{path} was begun by a version of mothlight that decides by other rules ({rules}, this one {RULES}): "
            f"go on with that version ({_version_of(store)}), or name another --out."
        )
    before, now = (json.loads(settings) for settings in (_as_read_now(text, path), config.canonical()))
    changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    keys = {key for (key,) in store.rows("select content_key from model")}
    if not changed and keys == {row["content_key"] for row in _model_rows(config, models)}:
        return
    values = [f"{key} = {_short(before.get(key))}, now {_short(now.get(key))}" for key in changed]
    what = f"other settings ({'; '.join(values)})" if changed else "other weights in its bundles"
    raise UserError(f"{path} was begun with {what}: name another --out, or go back to the old ones.")


def _as_read_now(settings: str, path: Path) -> str:
    try:
        return stored_config(settings).canonical()
    except ValidationError as error:
        raise UserError(
            f"{path} was begun with settings that this version of mothlight does not know "
            f"({error.errors()[0]['msg']}): go on with the version that began it, or name another --out."
        ) from error


def _version_of(store: Store) -> str:
    versions = store.rows("select mothlight_version from run order by run_id desc limit 1")
    return versions[0][0] if versions else "the one that made it"


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _introduce(store: Store, config: AuditConfig, models: Models, folder: Path) -> None:
    """Write what the audit is about, before the first image."""
    thresholds = gate_bounds(config, models.gate)
    generator = "photographs alone" if config.generator is None else RENDERER
    if isinstance(config.generator, ServedModel):
        generator = config.generator.model
    elif models.generator is not None:
        generator = models.generator.manifest.name
    with store.transaction():
        store.append(
            "audit",
            [
                {
                    "audit_id": audit_id(config, models),
                    "rules": RULES,
                    "name": config.name,
                    "seed": config.seed,
                    "generator": generator,
                    "settings": config.canonical(),
                    "folder": str(folder.resolve()),
                    "gate_lower": thresholds.lower,
                    "gate_upper": thresholds.upper,
                }
            ],
        )
        store.append("model", list(_model_rows(config, models)))
        checks = [
            {"content_key": bundle.manifest.content_key, "place": place, **check.model_dump()}
            for bundle in {bundle.manifest.content_key: bundle for bundle in models.all}.values()
            for place, check in enumerate(bundle.manifest.checks)
        ]
        store.append("model_check", checks)
        store.append(
            "label",
            [
                {"label": label.name, "place": place, "plain_prompt_id": config.baseline_prompt(label).prompt_id}
                for place, label in enumerate(config.labels)
            ],
        )
        accepted = [(label.name, name) for label in config.labels for name in {label.name, *label.accepted}]
        store.append("accepted_label", [{"label": label, "accepted": name} for label, name in sorted(accepted)])


def _source(source: Source) -> str:
    """Library, its version, the model's name there, and where it came from."""
    commit = f" at {source.revision[:12]}" if source.revision else ""
    return f"{source.library} {source.version}, {source.model}" + (f", from {source.origin}{commit}" if commit else "")


def _model_rows(config: AuditConfig, models: Models) -> Iterator[dict[str, object]]:
    for role, served in (("generator", config.generator), ("captioner", config.captioner)):
        if isinstance(served, ServedModel):
            source = f"served at {served.url}"
            yield {"content_key": served.content_key, "role": role, "name": served.model, "source": source}
    if config.generator == RENDERER:
        yield {"content_key": RENDERER, "role": "generator", "name": RENDERER, "source": "mothlight"}
    for bundle in models.all:
        manifest = bundle.manifest
        relative = [check for check in manifest.checks if check.unit == "relative"]
        yield {
            "content_key": manifest.content_key,
            "role": manifest.role,
            "name": manifest.name,
            "source": _source(manifest.source),
            "worst_difference": max((check.difference for check in relative), default=None),
            "tolerance": max((check.tolerance for check in relative), default=None),
        }
