"""Plans → batches, leaving out the chunks that the database already holds: this is the whole of resuming."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from mothlight.engine.batch import Batch, batches
from mothlight.engine.records import Chunk, Plan, Prompt
from mothlight.sql import Store


def missing_chunks(store: Store, plans: Iterable[Plan], size: int) -> list[Chunk]:
    """The chunks of `plans` that are not whole in the database, in their fixed order."""
    done = {chunk_id for (chunk_id,) in store.rows("select chunk_id from chunk")}
    return [chunk for plan in plans for chunk in plan.chunks(size) if chunk.chunk_id not in done]


def by_prompts(chunks: Sequence[Chunk], most: int) -> Iterator[list[Chunk]]:
    """The chunks in order, in parts of at most so many prompts each."""
    part: list[Chunk] = []
    prompts: set[Prompt] = set()
    for chunk in chunks:
        if len(prompts | {chunk.prompt}) > most:
            yield part
            part, prompts = [], set()
        part.append(chunk)
        prompts.add(chunk.prompt)
    if part:
        yield part


def all_batches(chunks: Iterable[Chunk], size: int) -> Iterator[Batch]:
    """The batches of each chunk, the same every time."""
    for chunk in chunks:
        yield from batches(chunk, size)


def failed_batches(store: Store, plans: Iterable[Plan], size: int) -> list[Batch]:
    """The images of a wave that failed and were tried once, in batches of their own chunks."""
    prompts = {plan.prompt.prompt_id: plan for plan in plans}
    failed: dict[Chunk, list[int]] = {}
    for prompt_id, first, images, index in store.step("failed_once", wave=next(iter(prompts.values())).wave):
        plan = prompts[prompt_id]
        failed.setdefault(Chunk(plan.prompt, first, images, plan.wave), []).append(index)
    return [
        Batch(chunk, tuple(indices[at : at + size]), size)
        for chunk, indices in failed.items()
        for at in range(0, len(indices), size)
    ]


def kept_pictures(store: Store, chunks: Iterable[Sequence[str]], size: int) -> Iterator[Batch]:
    """Batches of stored pictures, with `image_id` and `jpeg` (B,); each chunk is the ids of images of one size.

    Read as they are asked for, in whichever thread asks: `store` must be that thread's own.
    """
    for ids in chunks:
        found = dict(store.step("pictures", images=list(ids)))
        for batch in batches(Chunk(Prompt("", "pictures kept"), 0, len(ids), 0), size):
            own = [ids[index] for index in batch.padded]
            image_id, jpeg = np.empty(size, dtype=object), np.empty(size, dtype=object)
            image_id[:], jpeg[:] = own, [found[key] for key in own]
            yield batch.with_arrays(image_id=image_id, jpeg=jpeg)
