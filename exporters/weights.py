"""Whether a library gave a model all of its weights: what does not fit, the libraries replace by random numbers."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mothlight.engine.errors import UserError
from mothlight.exporters.publish import log

WRAPPERS = re.compile(r"^(?:(?:_orig_mod|module|model)\.)+")
"""What torch.compile, DistributedDataParallel and training loops put before the names of weights."""
COMPUTED = re.compile(
    r"(?:position_ids|num_batches_tracked|relative_position_index|relative_coords_table|inv_freq|attn_mask"
    r"|h\.\d+\.(?:attn|crossattention)\.(?:masked_)?bias)$"
)
"""Buffers that old releases saved, and that the libraries compute."""
UNUSED = re.compile(r"(?:^|\.)pooler\.")
"""Weights that many checkpoints lack because only a training task used them."""


def loaded_whole(given: str, kind: Any, folder: Path, *, renames: bool = True, **options: Any) -> Any:
    """A model of a class of transformers or diffusers, all of whose weights came from the files of a folder.

    Where the files' names only have a training wrapper's prefix, it is taken off, and said; `renames` is whether the
    library knows how.

    Raises:
        UserError: a weight is missing, left over, or of another shape.
    """
    options |= {"local_files_only": True, "use_safetensors": True}
    options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
    model, info = kind.from_pretrained(folder, **options)
    fault = _misfit_of(info)
    left_over = sorted(info["unexpected_keys"])
    if fault and renames and left_over and all(WRAPPERS.match(name) for name in left_over):
        again, second = kind.from_pretrained(folder, key_mapping={WRAPPERS.pattern: ""}, **options)
        if not _misfit_of(second):
            log.info("%s: the prefix %s was taken off the weights' names", given, _prefix(left_over[0]))
            model, info, fault = again, second, ""
    if fault:
        raise UserError(f"{given}: {fault}")
    poison(model, info["missing_keys"])
    return model


def _misfit_of(info: Mapping[str, Any]) -> str:
    """What a library tells of the keys that it loaded."""
    return misfit(info["missing_keys"], info["unexpected_keys"], info["mismatched_keys"])


def misfit(missing: Iterable[str], unexpected: Iterable[str], shapes: Iterable[Any]) -> str:
    """One sentence on what does not fit between a model and its weights; empty where all is well."""
    lacking = sorted(name for name in missing if not (COMPUTED.search(name) or UNUSED.search(name)))
    left = sorted(name for name in unexpected if not (COMPUTED.search(name) or UNUSED.search(name)))
    wrong = sorted(_shape(one) for one in shapes)
    faults = [
        f"{len(names)} {'is' if len(names) == 1 else 'are'} {what} ({names[0]}{', …' if len(names) > 1 else ''})"
        for names, what in ((lacking, "missing"), (left, "left over"), (wrong, "of another shape"))
        if names
    ]
    if not faults:
        return ""
    return (
        f"the weights do not fit the configuration: of the tensors {', '.join(faults)}; the library would go on with "
        f"random numbers: get the weights that belong to this configuration."
    )


def _shape(mismatch: Any) -> str:
    """A mismatch as transformers tells it: a name, or a name and two shapes."""
    if isinstance(mismatch, tuple | list) and len(mismatch) == 3:
        name, saved, wanted = mismatch
        return f"{name}: {tuple(saved)} in the file, {tuple(wanted)} in the model"
    return str(mismatch)


def _prefix(name: str) -> str:
    found = WRAPPERS.match(name)
    return found.group() if found else ""


def poison(model: nn.Module, missing: Iterable[str]) -> None:
    """NaN in place of weights that are missing because nothing uses them: if something does, a check will see it."""
    names = {name for name in missing if UNUSED.search(name) and not COMPUTED.search(name)}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in names:
                parameter.fill_(float("nan"))


def fitted(given: str, model: nn.Module, tensors: Mapping[str, Any]) -> nn.Module:
    """A model with the weights of a file, each of which must fit; a training wrapper's prefix is taken off.

    Raises:
        UserError: a weight is missing, left over, or of another shape.
    """
    wanted = model.state_dict()
    if tensors.keys() != wanted.keys() and all(WRAPPERS.match(name) for name in tensors):
        bare = {WRAPPERS.sub("", name): tensor for name, tensor in tensors.items()}
        if bare.keys() & wanted.keys():
            log.info("%s: the prefix %s was taken off the weights' names", given, _prefix(next(iter(tensors))))
            tensors = bare
    shapes = [
        (name, tensor.shape, wanted[name].shape)
        for name, tensor in tensors.items()
        if name in wanted and tensor.shape != wanted[name].shape
    ]
    missing = wanted.keys() - tensors.keys()
    if fault := misfit(missing, tensors.keys() - wanted.keys(), shapes):
        raise UserError(f"{given}: {fault}")
    model.load_state_dict(dict(tensors), strict=False)
    poison(model, missing)
    return model


def read_tensors(given: str, path: Path) -> dict[str, Any]:
    """The tensors of a safetensors file.

    Raises:
        UserError: it is none, or half of one.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{given}: {path.name} is no safetensors file in order: {error}.") from error
