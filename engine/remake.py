"""Pictures that were not kept, made again from their rows: on the same machine they are equal."""

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path

import pyarrow as pa

from mothlight.engine.batch import Batch
from mothlight.engine.errors import UserError
from mothlight.engine.records import Chunk, Prompt
from mothlight.sql import Store

AT_ONCE = 1000
"""Pictures that are written together."""
SAMPLED = 16
"""Of the images that nothing else keeps, one of so many is kept."""
Remake = Callable[[Sequence[Batch], Callable[[Batch], None]], object]
"""Makes batches, and hands each of them on with its pictures."""


def is_sampled(image_id: str) -> bool:
    """Whether an image is kept by chance; its id is a hash, so it is the same one every time."""
    return int(image_id[:8], 16) % SAMPLED == 0


def not_kept(store: Store, images: Iterable[str], size: int) -> list[Batch]:
    """Of some images those that have no picture, as batches of `size`."""
    found = store.step("not_kept", images=list(images))
    batches = []
    for (label, text, description, wave), rows in groupby(found, key=lambda row: row[1:5]):
        indices = [index for *_, index in rows]
        chunk = Chunk(Prompt(label, text, description), indices[0], len(indices), wave)
        batches += [Batch(chunk, tuple(indices[at : at + size]), size) for at in range(0, len(indices), size)]
    return batches


def remake(store: Store, batches: Sequence[Batch], make: Remake) -> int:
    """Make the pictures of batches and write them into the database; how many could be made."""
    made: dict[str, bytes] = {}
    written = 0

    def write() -> None:
        nonlocal written
        pictures = pa.table({"image_id": pa.array(made, pa.string()), "jpeg": pa.array(made.values(), pa.binary())})
        store.set_pictures(pictures)
        written += len(made)
        made.clear()

    def take(batch: Batch) -> None:
        for row, index in enumerate(batch.indices):
            if index not in batch.failures:
                made[batch.chunk.image_id(index)] = batch.arrays["jpeg"][row]
        if len(made) >= AT_ONCE:
            write()

    make(batches, take)
    if made:
        write()
    return written


def require_pictures(store: Store, images: Sequence[str]) -> None:
    """See that every one of some images has its picture.

    Raises:
        UserError: one has none; how to make it again.
    """
    if lost := store.step("not_kept", images=list(images)):
        raise UserError(
            f"{len(lost):,} of these {len(images):,} pictures were not kept (`keep_images`): `mothlight remake "
            f"{Path(store.path).parent}`, with --where or --finding, makes them again."
        )
